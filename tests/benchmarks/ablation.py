"""What to train with:  python -m tests.benchmarks.ablation --data ROOT

Trains the CIFAR-10 recipe five times for the same number of steps, each time with one thing changed, and compares them
by what does not depend on the change: the error of v on test images at the same times and noise, at three ranges of
noise levels, and the distance and recognisability of samples. About an hour on one CPU thread; what is there already,
in runs/ablation, is not trained again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import to_v
from diffusion_core.evaluate import Plan, draw, measure
from diffusion_core.images import to_tensor
from diffusion_core.losses import sample_times
from diffusion_core.schedules import over_batch
from train import RECIPES, train

VARIANTS = {
    "v-lognormal": {},
    "v-stratified": dict(times="stratified"),
    "v-uniform": dict(times="uniform"),
    "v-lognormal-min_snr": dict(weight="min_snr"),
    "eps-lognormal": dict(prediction="eps"),
}
BANDS = {"log(sigma / alpha) < -1.5": (-9, -1.5), "-1.5 to 0.5": (-1.5, 0.5), "> 0.5": (0.5, 9)}


@torch.no_grad()
def errors(D, images) -> list[float]:
    """Mean squared error of v, over all times and by band of noise levels, on the first 1,000 test images."""
    g = torch.Generator().manual_seed(0)
    x0, cond = to_tensor(images.images[:1000]), torch.from_numpy(images.labels[:1000])
    t = sample_times(D.schedule, len(x0), "stratified", generator=g)
    eps = torch.randn(x0.shape, generator=g)
    alpha, sigma = over_batch(D.schedule.alpha(t), x0), over_batch(D.schedule.sigma(t), x0)
    x = D.schedule.perturb(x0, t, eps)
    denoised = torch.cat([D(*part) for part in zip(x.split(250), t.split(250), cond.split(250), strict=True)])
    error = (to_v(denoised, x, alpha, sigma) - to_v(x0, x, alpha, sigma)).square().flatten(1).mean(dim=1)
    level = -D.schedule.lam(t)
    return [
        error.mean().item(),
        *(error[(low < level) & (level <= high)].mean().item() for low, high in BANDS.values()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    folder, test = Path("runs/ablation"), load_images("cifar10", "test", args.data)
    judge_path = Path("checkpoints/cifar10-classifier.safetensors")
    judge = load_classifier(judge_path) if judge_path.exists() else None
    print(f"| {args.steps} steps | error of v | {' | '.join(BANDS)} | distance | recognised |")
    print("| --- " * 7 + "|")
    for name, changes in VARIANTS.items():
        path = folder / f"{name}.safetensors"
        if not path.exists():
            recipe = replace(
                RECIPES["cifar10"], steps=args.steps, warmup=args.steps // 8, eval_every=args.steps, **changes
            )
            train(name, recipe, root=args.data, out=folder, runs=folder / "state")
        model, found = load(path), ["", ""]
        if judge:
            plan = Plan(n=args.count, precision=args.precision)
            *_, last = draw(model, judge, plan, batch=100)
            result = measure(judge, model, plan, last)
            low, high = result["interval"]
            found = [f"{result['distance']:.2f} [{low:.2f}, {high:.2f}]", f"{100 * result['accuracy']:.1f} %"]
        values = [f"{e:.4f}" for e in errors(model.denoiser, test)]
        print(f"| {name} | {' | '.join([*values, *found])} |", flush=True)


if __name__ == "__main__":
    main()
