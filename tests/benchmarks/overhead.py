"""What a sampler costs beyond the network calls it makes:  python -m tests.benchmarks.overhead

A clock around the denoiser separates, within one run, the network's time from the sampler's own; the share is the
median over runs. Run it while nothing else runs.
"""

import statistics
import time

import torch

from diffusion_core.checkpoint import load
from diffusion_core.denoisers import Guided
from diffusion_core.memory import keep_freed_memory
from diffusion_core.samplers import SAMPLERS, generate

from .timing import Clock

STEPS, COUNT, RUNS = 20, 16, 5


def main() -> None:
    keep_freed_memory()  # as the app does
    model = load("checkpoints/mnist.safetensors")
    cond, seeds = torch.arange(COUNT) % 10, list(range(COUNT))
    print(f"{COUNT} x {model.shape}, {STEPS} steps, guidance 2, {torch.get_num_threads()} threads, n = {RUNS}")
    for name, sampler in SAMPLERS.items():
        shares, totals = [], []
        for _ in range(RUNS):
            D = Guided(model.denoiser, 2.0)
            clock = Clock(D)
            started = time.perf_counter()
            *_, last = generate(D, (COUNT, *model.shape), name, steps=STEPS, seeds=seeds, cond=cond)
            totals.append(time.perf_counter() - started)
            shares.append(100 * (1 - clock.seconds / totals[-1]))
        print(
            f"{sampler.label:24s} {last.nfe:4d} calls {statistics.median(totals):6.2f} s, "
            f"own share {statistics.median(shares):.2f} % ({min(shares):.2f} to {max(shares):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
