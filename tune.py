"""Measure what this machine trains fastest, choose, train for the time there is, and judge:

    python tune.py cifar10 --minutes 20

For a GPU that is lent by the half hour: one command, so that nothing waits for a decision. Each width and batch trains
for a few seconds; the widest network that the page can afford is then trained, with the smallest batch that keeps the
machine busy, and judged by the classifier beside the checkpoint. Writes what train.py writes, and <name>-tune.json.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffusion_core.__main__ import main as diffusion_core
from diffusion_core.data import ImageSet, training_images
from diffusion_core.files import write_atomically
from diffusion_core.memory import keep_freed_memory
from diffusion_core.training import Recipe, Training, device_name
from train import RECIPES, setup, train

MEGABYTES, GFLOPS = 10.0, 1.25  # of a network that 16 images in 20 guided steps of two CPU cores can wait for


@dataclass(frozen=True)
class Trial:
    """A few seconds of training at one width and batch."""

    width: int
    batch: int
    images_per_second: float
    megabytes: float  # of the weights in half precision
    gflops: float  # a network call of one image, 2 a multiply-add
    share: float | None  # of the machine's bfloat16 matrix rate, a step being three calls; None on a CPU

    @property
    def affordable(self) -> bool:
        return self.megabytes <= MEGABYTES and self.gflops <= GFLOPS


def matrix_rate(size: int = 8192, runs: int = 20) -> float:
    """Operations a second, 2 a multiply-add, of a large bfloat16 product on the GPU."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(runs):
        torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return sorted(rates)[runs // 2]


def cost(net: torch.nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
    """Millions of parameters, and GFLOP a call of one image [*shape], 2 a multiply-add."""
    device = next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *shape, device=device), torch.zeros(1, device=device))
    return sum(p.numel() for p in net.parameters()) / 1e6, counter.get_total_flops() / 1e9


def throughput(training: Training, seconds: float) -> float:
    """Images a second, after the first steps, in which kernels are compiled and chosen."""

    def steps(least: int, seconds: float) -> float:
        started, n = time.perf_counter(), 0
        while n < least or time.perf_counter() - started < seconds:
            training.advance(training.batch(training.step), 0.5)[0].item()  # waits for the GPU, as log lines do
            n += 1
        return n / (time.perf_counter() - started)

    steps(3, 0)
    return training.recipe.batch * steps(5, seconds)


def trial(recipe: Recipe, images: ImageSet, device: torch.device, seconds: float, rate: float | None) -> Trial:
    training = Training(recipe, images, device)
    millions, gflops = cost(training.net, training.shape)
    if device.type == "cuda":
        training.D.net = torch.compile(training.D.net)
    speed = throughput(training, seconds)
    share = 3e9 * gflops * speed / rate if rate else None
    return Trial(recipe.width, recipe.batch, speed, 2 * millions, gflops, share)


def trials(recipe: Recipe, widths: list[int], batches: list[int], seconds: float, root: str | None) -> Iterator[Trial]:
    """One after the other, each printed."""
    device = setup()[2]
    rate = matrix_rate() if device.type == "cuda" else None
    images = training_images(asdict(recipe), root, download=True)
    print(f"{device_name(device)}" + (f", {rate / 1e12:.0f} TFLOP/s in bfloat16 matrix products" if rate else ""))
    for width, batch in product(widths, batches):
        torch.compiler.reset()
        found = trial(scaled(recipe, width, batch), images, device, seconds, rate)
        share = "" if found.share is None else f", {100 * found.share:.1f} % of the matrix rate"
        print(
            f"width {width}, batch {batch}: {found.images_per_second:,.0f} images/s{share}; "
            f"{found.gflops:.2f} GFLOP a call, {found.megabytes:.1f} MB" + ("" if found.affordable else ", too much"),
            flush=True,
        )
        yield found


def scaled(recipe: Recipe, width: int, batch: int) -> Recipe:
    """The recipe at another width and batch; Adam's steps may grow as the root of the batch (arXiv 2205.10287)."""
    return replace(recipe, width=width, batch=batch, lr=recipe.lr * math.sqrt(batch / recipe.batch))


def choose(found: list[Trial], keep: float = 0.9) -> Trial:
    """The widest affordable network, with its smallest batch that is at least `keep` times as fast as its fastest.

    Raises ValueError where none is affordable.
    """
    affordable = [t for t in found if t.affordable]
    if not affordable:
        raise ValueError(f"--widths: none of them stays under {MEGABYTES:g} MB and {GFLOPS:g} GFLOP.")
    width = max(t.width for t in affordable)
    rivals = [t for t in affordable if t.width == width]
    fastest = max(t.images_per_second for t in rivals)
    return min((t for t in rivals if t.images_per_second >= keep * fastest), key=lambda t: t.batch)


def run(args: argparse.Namespace) -> int:
    recipe, name = RECIPES[args.recipe], args.name or args.recipe
    if not args.minutes > 0:
        raise ValueError(f"--minutes must be more than 0, not {args.minutes:g}.")
    judge = args.out / f"{recipe.dataset}-classifier.safetensors"
    if not judge.is_file():
        raise FileNotFoundError(f"There is no {judge} to judge by; first: python train.py {recipe.dataset}-classifier")
    found = list(trials(recipe, args.widths or [recipe.width], args.batches, args.seconds, args.data))
    best = choose(found)
    print(f"training for {args.minutes:g} minutes at width {best.width}, batch {best.batch}", flush=True)
    about = {"device": device_name(setup()[2]), "trials": [vars(t) for t in found], "chosen": vars(best)}
    write_atomically(args.out / f"{name}-tune.json", json.dumps(about, indent=1).encode())
    recipe = scaled(recipe, best.width, best.batch)
    path = train(name, recipe, minutes=args.minutes, root=args.data, out=args.out, runs=args.runs)
    judging = ["--standard", "--save", "--count", str(args.count), "--batch", "500", "--precision", "bfloat16"]
    return diffusion_core(["evaluate", str(path), *judging])


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=[name for name, recipe in RECIPES.items() if isinstance(recipe, Recipe)])
    parser.add_argument("--minutes", type=float, required=True, help="of training; measuring and judging come on top")
    parser.add_argument("--widths", type=int, nargs="+", help="default: the recipe's")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each trial, once it is compiled")
    parser.add_argument("--count", type=int, default=10_000, help="samples judged at each setting")
    parser.add_argument("--name", help="of the checkpoint; default: the recipe's")
    parser.add_argument("--data", metavar="ROOT", help="folder of the data sets; default: $DIFFUSION_DATA, else data/")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    try:
        return run(args)
    except (ValueError, OSError) as error:
        print(f"tune.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
