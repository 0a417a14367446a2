"""What keeping freed memory is worth:  python -m tests.benchmarks.memory

The same work in fresh processes that keep it and that give it back, in turns: 16 guided digits in 20 steps, and steps
of training cifar10 on random images.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial

import torch

from diffusion_core.memory import keep_freed_memory
from diffusion_core.training import Training

from .learning import training
from .page import network_seconds
from .timing import Times, ratio, table

RUNS, CPU = 5, torch.device("cpu")


def train_some(run: Training) -> None:
    for _ in range(5):
        run.advance(run.batch(run.step), 0.5)


def measured() -> dict[str, float]:
    """Seconds of each kind of work, after a first time that does not count; and thousands of page faults in all."""
    found = {}
    for name, work in {"sampling, s": network_seconds, "training, s": partial(train_some, training(CPU))}.items():
        work()
        started = time.perf_counter()
        work()
        found[name] = time.perf_counter() - started
    return found | {"thousand page faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt / 1000}


def compare() -> str:
    found: dict[str, list[dict]] = {"given back": [], "kept": []}
    for _ in range(RUNS):
        for name, each in found.items():
            command = [sys.executable, "-m", "tests.benchmarks.memory", "--child", *["--keep"] * (name == "kept")]
            each.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    times = {(name, what): Times([r[what] for r in each]) for name, each in found.items() for what in each[0]}
    rows = [
        [what, times["given back", what].text(), times["kept", what].text(),
         ratio(times["kept", what], times["given back", what])]
        for what in found["kept"][0]
    ]  # fmt: skip
    return table(["freed memory", "given back", "kept", "given back / kept"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keep:
        keep_freed_memory()
    print(json.dumps(measured()) if args.child else compare())
