"""What a noise schedule changes:  python -m tests.benchmarks.schedules

Trains the digits recipe with linear, cosine and quadratic VP, three seeds each, for the same number of steps, with
training times uniform in t: then the schedule decides how often each noise level is seen. Compares the error of v at
the same noise levels, how unsteady the gradients are, and the samples. A quarter of an hour on one CPU thread; what is
there already, in runs/schedules, is not trained again. Writes checkpoints/schedules.json, which the page shows.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch

from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import to_v
from diffusion_core.evaluate import Plan, draw, measure
from diffusion_core.files import write_atomically
from diffusion_core.history import read_log
from diffusion_core.images import to_tensor
from train import RECIPES, ClassifierRecipe, train, train_judge

SCHEDULES = ("vp_linear", "vp_cosine", "vp_quadratic")
SEEDS = (0, 1, 2)
LEVELS = torch.linspace(-4, 4, 17, dtype=torch.float64)  # of log(sigma / alpha)
BANDS = {"low": (-4, -1.5), "middle": (-1.5, 0.5), "high": (0.5, 4)}
FOLDER = Path("runs/schedules")


@torch.no_grad()
def errors(D, images) -> list[float]:
    """Mean squared error of v on all test images, with the same noise, at each of LEVELS."""
    x0, cond = to_tensor(images.images), torch.from_numpy(images.labels)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for t in D.schedule.t_from_lam(-LEVELS):
        t = t.float().repeat(len(x0))
        alpha, sigma = D.schedule.alpha(t[0]), D.schedule.sigma(t[0])
        x = D.schedule.perturb(x0, t, eps)
        error = to_v(D(x, t, cond), x, alpha, sigma) - to_v(x0, x, alpha, sigma)
        found.append(error.square().mean().item())
    return found


def one(schedule: str, seed: int, steps: int, judge) -> dict:
    """Train one of them, if it has not been, and take its numbers."""
    name = f"{schedule}-{seed}"
    if not (FOLDER / f"{name}.safetensors").exists():
        recipe = replace(
            RECIPES["digits"], schedule=schedule, seed=seed, times="uniform", steps=steps, eval_every=steps, log_every=5
        )
        train(name, recipe, out=FOLDER, runs=FOLDER / "state")
    model, log = load(FOLDER / f"{name}.safetensors"), read_log(FOLDER / f"{name}.jsonl")
    lines = [line for line in log if "loss" in line]
    norms = [line["grad_norm"] for line in lines if line["step"] > steps / 2]
    plan = Plan(guidance=1.0, n=1000, split="train")
    *_, last = draw(model, judge, plan, batch=100)
    result = measure(judge, model, plan, last)
    return {
        "steps": [line["step"] for line in lines],
        "loss": [line["loss"] for line in lines],
        "grad_norm": [line["grad_norm"] for line in lines],
        "spread": (np.quantile(norms, 0.9) / np.quantile(norms, 0.1)).item(),
        "errors": errors(model.denoiser, load_images("digits", "test")),
        "distance": result["distance"],
        "interval": result["interval"],
        "floor": result["floor"]["distance"],
        "accuracy": result["accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    if not (FOLDER / "digits-classifier.safetensors").exists():
        train_judge("digits-classifier", ClassifierRecipe("digits", steps=1500, width=16, shift=1), out=FOLDER)
    judge = load_classifier(FOLDER / "digits-classifier.safetensors")
    found = {s: [one(s, seed, args.steps, judge) for seed in SEEDS] for s in SCHEDULES}
    recipe = replace(RECIPES["digits"], times="uniform")
    about = {
        "data": f"digits, {len(load_images('digits').images)} training images",
        "seeds": list(SEEDS),
        "steps": args.steps,
        "batch": recipe.batch,
        "prediction": recipe.prediction,
        "judge": f"{judge.distance}, 1000 samples of DPM-Solver++(2M) in 18 steps against the training images; "
        f"the judge recognises {100 * judge.config['accuracy']:.1f} % of {judge.config['tested_on']} test images",
        "levels": LEVELS.tolist(),
        "runs": found,
    }
    write_atomically("checkpoints/schedules.json", (json.dumps(about) + "\n").encode())
    print("| schedule | error of v: low noise | middle | high | gradient norm, 90 % over 10 % | distance | as asked |")
    print("| --- " * 7 + "|")
    for name, runs in found.items():
        cells = [name]
        for low, high in BANDS.values():
            inside = (low <= LEVELS) & (high >= LEVELS)
            cells.append(spread([np.mean(np.array(r["errors"])[inside.numpy()]) for r in runs]))
        cells += [spread([r[key] for r in runs]) for key in ("spread", "distance")]
        print(f"| {' | '.join(cells)} | {spread([100 * r['accuracy'] for r in runs], 1)} % |")
    print(f"floor {mean(r['floor'] for runs in found.values() for r in runs):.3f}; medians with the range of 3 seeds")


def spread(values: list[float], digits: int = 3) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
