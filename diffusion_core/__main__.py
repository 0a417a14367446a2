"""Command line:  python -m diffusion_core sample checkpoints/mnist.safetensors --class 3 --out three.png"""

import argparse
import math
import sys
import time
import warnings
from collections import deque
from pathlib import Path

import torch
from tqdm import tqdm

from .checkpoint import load
from .denoisers import Clipped, Guided
from .images import grid, save_png
from .samplers import SAMPLERS, SPACINGS, generate


def sample(args: argparse.Namespace) -> None:
    """Generate a grid of images and write it, with its settings inside, as a PNG."""
    if not 1 <= args.count <= 10_000:
        raise ValueError(f"--count must lie between 1 and 10000, not {args.count}.")
    if not 1 <= args.steps <= 1000:
        raise ValueError(f"--steps must lie between 1 and 1000, not {args.steps}.")
    if not math.isfinite(args.guidance):
        raise ValueError(f"--guidance must be a finite number, not {args.guidance}.")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must lie between 0 and {2**32 - 1}, not {args.seed}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load(args.checkpoint, device)
    if len(model.shape) != 3:
        raise ValueError(f"{args.checkpoint} is a model of points; one of images, as train.py makes it, is needed.")
    cond = model.conditions(args.class_name, args.count)
    D = Clipped(Guided(model.denoiser, args.guidance))
    seeds = [args.seed + k for k in range(args.count)]
    started = time.perf_counter()
    run = generate(
        D,
        (args.count, *model.shape),
        args.sampler,
        steps=args.steps,
        seeds=seeds,
        cond=cond,
        spacing=args.spacing,
        eta=args.eta,
    )
    label = SAMPLERS[args.sampler].label
    [last] = deque(tqdm(run, total=args.steps, desc=label, unit="step"), maxlen=1)
    recipe = {
        "checkpoint": Path(args.checkpoint).name,
        "class": args.class_name,
        "sampler": args.sampler,
        "steps": args.steps,
        "spacing": args.spacing,
        "guidance": args.guidance,
        "eta": args.eta,
        "seed": args.seed,
        "count": args.count,
    }
    save_png(args.out, grid(model.codec.decode(last.x), scale=max(1, 112 // model.shape[-1])), recipe)
    print(
        f"{args.out}: {args.count} images, {label}, {args.steps} steps, {last.nfe} network calls, "
        f"guidance {args.guidance:g}, seeds {seeds[0]} to {seeds[-1]}, {time.perf_counter() - started:.1f} s"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m diffusion_core", description="Sample from a trained diffusion model.")
    commands = top.add_subparsers(dest="command", required=True)
    p = commands.add_parser("sample", help="generate images from a checkpoint")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--class", dest="class_name", help='a class name, "all" in turn, or "none" (the default)')
    p.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--spacing", choices=SPACINGS, default="lam", help="how the steps are spread over time")
    p.add_argument(
        "--guidance", type=float, default=2.0, help="0: the class is ignored, 1: as trained, more: more typical"
    )
    p.add_argument("--eta", type=float, default=0.0, help="of DDIM: 0 deterministic, 1 as noisy as DDPM")
    p.add_argument("--seed", type=int, default=0, help="of the first image; image k has seed + k")
    p.add_argument("--count", type=int, default=16)
    p.add_argument("--out", type=Path, default=Path("grid.png"))
    p.set_defaults(run=sample)
    return top


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after one line on what was wrong with the input."""
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print("diffusion_core:", *str(error).split(), file=sys.stderr)  # on one line, whatever the library said
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
