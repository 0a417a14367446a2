"""The Score tab's figures on this machine:  OMP_NUM_THREADS=1 python -m tests.benchmarks.score"""

import time

import torch

from diffusion_core import fields
from diffusion_core.checkpoint import load
from diffusion_core.plane import PRESETS, data_of
from tabs import score


def first_picture() -> float:
    """Seconds from pressing Train to what is streamed first, without the way to the browser."""
    began = time.perf_counter()
    next(score.train_score("song_ermon", "[]", "sliced_vr", "all", 1.0, 20, 1e-3, 128, 1, 0))
    return time.perf_counter() - began


def after(seconds: float, sigma: float | None) -> tuple[int, float]:
    """Steps and relative error at noise level 1 after so long, by variance-reduced sliced score matching."""
    data, began = data_of("song_ermon"), time.perf_counter()
    for progress in fields.train(data, "sliced_vr", sigma=sigma):
        if time.perf_counter() - began > seconds:
            return progress.step, fields.errors(progress.field, data, 1.0).relative


def langevin(n: int, steps: int) -> float:
    """Seconds to move n particles by so many Langevin steps of the shipped field."""
    data, D = data_of("song_ermon"), load("checkpoints/fields/song_ermon.safetensors").denoiser
    x, began = fields.start(data, n), time.perf_counter()
    for _ in fields.travel("langevin", D, x, steps, sigma=1.0, step=0.3, share=0.3):
        pass
    return time.perf_counter() - began


def main() -> None:
    print(f"{torch.get_num_threads()} threads")
    score.warm_up()
    print(f"first picture after Train          {min(first_picture() for _ in range(5)):.2f} s (best of 5)")
    print(f"2,000 particles, 200 Langevin steps {min(langevin(2000, 200) for _ in range(3)):.2f} s (best of 3)")
    for sigma in (1.0, None):
        steps, error = after(20, sigma)
        print(f"20 s of training at {score.named(sigma)}: {steps} steps, relative error {100 * error:.1f} % at σ = 1")
    for name in PRESETS:
        levels = fields.errors_by_level(load(f"checkpoints/fields/{name}.safetensors").denoiser, data_of(name), 4000, 5)
        print(name, ", ".join(f"{100 * error:.1f} % at {sigma:.2g}" for sigma, error in levels))


if __name__ == "__main__":
    main()
