"""What a noise schedule changes:  python -m tests.benchmarks.schedules

Trains the digits recipe with linear, cosine and quadratic VP, three seeds each, for the same number of steps, with
training times uniform in t: then the schedule decides how often each noise level is seen. Compares the error of v at
the same noise levels, how unsteady the gradients are, and the samples. A quarter of an hour on one CPU thread; what is
there already, in runs/schedules, is not trained again. Writes checkpoints/schedules.json, which the page shows, and
docs/schedules.png.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import to_v
from diffusion_core.evaluate import Plan, draw, measure
from diffusion_core.files import write_atomically
from diffusion_core.history import read_log, smoothed
from diffusion_core.images import to_tensor
from diffusion_core.schedules import Schedule, VPCosine, VPLinear, VPQuadratic
from train import RECIPES, ClassifierRecipe, train, train_judge

VARIANTS = {c.name: c for c in (VPLinear, VPCosine, VPQuadratic)}
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


def course(lines: list[dict], key: str) -> list[float]:
    """A column of the log as it is drawn: means of 21 neighbours, to four digits."""
    return [float(f"{v:.4g}") for v in smoothed([line[key] for line in lines], 21)]


def looks(schedule: Schedule) -> list[float]:
    """How densely times uniform in t fall on LEVELS: dt / d log(sigma / alpha) = 2 sigma^2 / g2, over t's range."""
    t = schedule.t_from_lam(-LEVELS)
    return (2 * schedule.sigma2(t) / schedule.g2(t) / (schedule.t_max - schedule.t_min)).tolist()


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
        "loss": course(lines, "loss"),
        "grad_norm": course(lines, "grad_norm"),
        "spread": (np.quantile(norms, 0.9) / np.quantile(norms, 0.1)).item(),
        "errors": errors(model.denoiser, load_images("digits", "test")),
        "distance": result["distance"],
        "interval": result["interval"],
        "accuracy": result["accuracy"],
    }


def picture(found: dict[str, list[dict]], path: Path) -> None:
    """Where training looks, what it costs, how steady it is, and what is left: a line a schedule, a seed each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    colours = {"vp_linear": "#0072b2", "vp_cosine": "#d55e00", "vp_quadratic": "#009e73"}
    for name, runs in found.items():
        style = dict(color=colours[name], lw=1.3)
        panels[0, 0].plot(LEVELS, looks(VARIANTS[name]()), label=name.removeprefix("vp_"), **style)
        for r in runs:
            panels[0, 1].loglog(r["steps"], r["loss"], **style)
            panels[1, 0].loglog(r["steps"], r["grad_norm"], **style)
            panels[1, 1].semilogy(LEVELS, r["errors"], **style)
    titles = {
        (0, 0): ("Where training looks", "log(sigma / alpha)", "density of the levels drawn"),
        (0, 1): ("Training loss, mean of 21 values", "step", "squared error of v"),
        (1, 0): ("Gradient norm, mean of 21 values", "step", "norm"),
        (1, 1): ("Error on test images by noise level", "log(sigma / alpha)", "squared error of v"),
    }
    for at, (title, x, y) in titles.items():
        panels[at].set(title=title, xlabel=x, ylabel=y)
        panels[at].grid(alpha=0.3)
    panels[0, 0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    if not (FOLDER / "digits-classifier.safetensors").exists():
        train_judge("digits-classifier", ClassifierRecipe("digits", steps=1500, width=16, shift=1), out=FOLDER)
    judge = load_classifier(FOLDER / "digits-classifier.safetensors")
    found = {s: [one(s, seed, args.steps, judge) for seed in SEEDS] for s in VARIANTS}
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
        "looks": {name: looks(variant()) for name, variant in VARIANTS.items()},
        "runs": found,
    }
    write_atomically("checkpoints/schedules.json", (json.dumps(about) + "\n").encode())
    picture(found, Path("docs/schedules.png"))
    print("| schedule | error of v: low noise | middle | high | gradient norm, 90 % over 10 % | distance | as asked |")
    print("| --- " * 7 + "|")
    for name, runs in found.items():
        cells = [name]
        for low, high in BANDS.values():
            inside = (low <= LEVELS) & (high >= LEVELS)
            cells.append(spread([np.mean(np.array(r["errors"])[inside.numpy()]) for r in runs]))
        cells += [spread([r[key] for r in runs]) for key in ("spread", "distance")]
        print(f"| {' | '.join(cells)} | {spread([100 * r['accuracy'] for r in runs], 1)} % |")
    print("Medians, with the range over the seeds.")


def spread(values: list[float], digits: int = 3) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
