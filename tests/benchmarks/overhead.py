"""What a sampler costs beyond the network calls it makes:  python -m tests.benchmarks.overhead

For each sampler, a run of `generate` and the same number of bare network calls on the same shapes, in turns; the
share is the median over pairs of (run - calls) / run. Run it while nothing else runs.
"""

import statistics
import time

import torch

from diffusion_core.checkpoint import load
from diffusion_core.denoisers import Guided
from diffusion_core.samplers import SAMPLERS, generate

STEPS, COUNT, PAIRS = 20, 16, 5


def seconds(fn) -> float:
    started = time.perf_counter()
    fn()
    return time.perf_counter() - started


def main() -> None:
    model = load("checkpoints/mnist.safetensors")
    D, cond = Guided(model.denoiser, 2.0), torch.arange(COUNT) % 10
    x, t = torch.randn(COUNT, *model.shape), torch.full((COUNT,), 0.5)

    @torch.no_grad()
    def calls(n: int) -> None:
        for _ in range(n):
            D(x, t, cond)

    calls(3)
    print(f"{COUNT} x {model.shape}, {STEPS} steps, guidance 2, {torch.get_num_threads()} threads")
    for name, sampler in SAMPLERS.items():

        def run(name=name):
            *_, last = generate(D, (COUNT, *model.shape), name, steps=STEPS, seeds=list(range(COUNT)), cond=cond)
            return last.nfe

        nfe = run()
        shares, totals = [], []
        for _ in range(PAIRS):
            total, bare = seconds(run), seconds(lambda n=nfe: calls(n))
            totals.append(total)
            shares.append((total - bare) / total)
        middle, low, high = (100 * f(shares) for f in (statistics.median, min, max))
        print(
            f"{sampler.label:24s} {nfe:4d} calls {statistics.median(totals):6.2f} s, "
            f"own share {middle:4.1f} % ({low:.1f} to {high:.1f})"
        )


if __name__ == "__main__":
    main()
