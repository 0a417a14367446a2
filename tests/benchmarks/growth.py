"""Where time stops growing in proportion:  python -m tests.benchmarks.growth

Sampling with count, steps, image side and width of the network doubled step by step, the others as they are: 16 images,
10 steps of DPM-Solver++(2M), side 32, width 64, untrained, unconditional. Beside each the time over that of half as
much, and of the work (multiply-adds) over that of half as much.
"""

import torch

from diffusion_core.denoisers import NetDenoiser
from diffusion_core.networks import UNet
from diffusion_core.samplers import generate
from diffusion_core.schedules import VPLinear
from tune import cost

from .timing import interleaved, table

BASE = {"count": 16, "steps": 10, "side": 32, "width": 64}
LADDERS = {
    "count": (1, 2, 4, 8, 16, 32, 64, 128), "steps": (5, 10, 20, 40, 80), "side": (8, 16, 32, 64, 128),
    "width": (16, 32, 64, 128),
}  # fmt: skip


def denoiser(width: int) -> NetDenoiser:
    torch.manual_seed(0)
    return NetDenoiser(UNet(3, width, (1, 2, 2), 1, (2,), 2).eval().requires_grad_(False), VPLinear())


def work(count: int, steps: int, side: int, width: int) -> float:
    """FLOPs of a run: 2 a multiply-add."""
    return 1e9 * cost(denoiser(width).net, (3, side, side))[1] * count * steps


def run(count: int, steps: int, side: int, width: int) -> None:
    for _ in generate(denoiser(width), (count, 3, side, side), "dpmpp_2m", steps=steps, seeds=list(range(count))):
        pass


def growth(runs: int = 5) -> str:
    """A row each, a table for all four."""
    rows = []
    for name, values in LADDERS.items():
        settings = {v: BASE | {name: v} for v in values}
        times = interleaved({str(v): lambda v=v, s=settings: run(**s[v]) for v in values}, runs)
        flops = {v: work(**settings[v]) for v in values}
        for before, v in zip((None, *values), values, strict=False):
            more = ["", ""]
            if before:
                more = [f"{times[str(v)].median / times[str(before)].median:.2f}", f"{flops[v] / flops[before]:.2f}"]
            rate = flops[v] / times[str(v)].median / 1e9
            rows.append([name, str(v), times[str(v)].text(), *more, f"{rate:.0f}"])
    return table(["grows", "to", "s", "time over that of half", "work over that of half", "GFLOP/s"], rows)


if __name__ == "__main__":
    print(growth())
