"""Where the time of an evaluation goes:  python -m tests.benchmarks.evaluation checkpoints/cifar10.safetensors

Draws and judges samples as `python -m diffusion_core evaluate` does and says what share of the time the network took,
and how much memory a sample costs. Goal: at least 90 % on a CPU.
"""

import argparse
import time
from pathlib import Path

from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier
from diffusion_core.evaluate import Plan, draw, measure
from diffusion_core.memory import keep_freed_memory

from .timing import Clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=18)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    model = load(args.checkpoint)
    judge = load_classifier(args.checkpoint.with_name(f"{model.config['dataset']}-classifier.safetensors"))
    plan, clock = Plan(n=args.count, steps=args.steps), Clock(model.denoiser.net)
    started = time.perf_counter()
    *_, last = draw(model, judge, plan, batch=100)
    drawn = time.perf_counter() - started
    measure(judge, model, plan, last)
    total = time.perf_counter() - started
    print(
        f"{args.count} samples, {args.steps} steps, guidance {plan.guidance:g}: {total:.1f} s, of which network "
        f"{100 * clock.seconds / total:.1f} %, sampling and features {100 * (drawn - clock.seconds) / total:.1f} %, "
        f"numbers {100 * (total - drawn) / total:.1f} %; {last.feats[0].nbytes} bytes kept a sample"
    )


if __name__ == "__main__":
    main()
