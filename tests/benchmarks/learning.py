"""What training costs:  python -m tests.benchmarks.learning

Steps of the cifar10 recipe as train.py makes them, beside steps that get the same batch again and again: the difference
is what drawing batches costs. On a GPU also the share of its bfloat16 matrix rate, measured in the same run, that the
network's multiply-adds make up (three times the forward pass a step, as for every model FLOP utilisation).
"""

from functools import partial

import numpy as np
import torch

from diffusion_core.data import ImageSet
from diffusion_core.training import Training, device_name
from train import RECIPES
from tune import cost, matrix_rate

from .timing import Times, interleaved, ratio, table

STEPS = 10


def training(device: torch.device) -> Training:
    """The recipe on random images as many as CIFAR-10's: what is timed does not look at them."""
    g = np.random.default_rng(0)
    images = ImageSet(
        g.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8), g.integers(0, 10, 50_000), list("0123456789")
    )
    run = Training(RECIPES["cifar10"], images, device)
    if device.type == "cuda":
        run.D.net = torch.compile(run.D.net)
    return run


def steps(run: Training, batch: tuple | None) -> None:
    for _ in range(STEPS):
        run.advance(batch or run.batch(run.step), 0.5)


def learning(runs: int = 5) -> str:
    """Images a second with fresh batches and with a constant one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = training(device)
    n, constant = run.recipe.batch, run.batch(0)
    subjects = {"as train.py does": partial(steps, run, None), "a constant batch": partial(steps, run, constant)}
    found = interleaved(subjects, runs)
    rows = [
        [name, f"{STEPS * n / times.median:.0f}", ratio(found["a constant batch"], times)]
        for name, times in found.items()
    ]
    text = table([f"training cifar10, {device_name(device)}", "images/s", "time over that of a constant batch"], rows)
    return text + utilisation(run, found["as train.py does"]) if device.type == "cuda" else text


def utilisation(run: Training, times: Times) -> str:
    """The share of the measured matrix rate that the model's own multiply-adds make up."""
    flops = 3e9 * cost(run.ema.net, run.shape)[1] * run.recipe.batch * STEPS
    rate = matrix_rate()
    return f"\n\n{100 * flops / times.median / rate:.1f} % of the measured bfloat16 rate of {rate / 1e12:.0f} TFLOP/s"


if __name__ == "__main__":
    print(learning())
