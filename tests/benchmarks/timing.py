"""Timing side by side: what is compared is run in turns, so that a machine that slows down slows all of them."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch


class Times(NamedTuple):
    """Seconds of each run, in the order in which they were made."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def text(self, unit: float = 1.0, digits: int = 3) -> str:
        """The median with the least and the most, in units of so many seconds."""
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.median / unit:.{digits}g} ({low / unit:.{digits}g} to {high / unit:.{digits}g})"


class Clock:
    """Adds up how long the calls of a module take, and how many there are."""

    def __init__(self, module: torch.nn.Module):
        self.seconds, self.calls, self.started = 0.0, 0, 0.0
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _start(self, *_) -> None:
        self.started = time.perf_counter()

    def _stop(self, *_) -> None:
        self.seconds += time.perf_counter() - self.started
        self.calls += 1


def interleaved(subjects: dict[str, Callable[[], object]], runs: int = 5, warmup: int = 1) -> dict[str, Times]:
    """Each subject `runs` times, in turns: A B C A B C ...; after `warmup` rounds that do not count."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(warmup + runs):
        for name, subject in subjects.items():
            started = time.perf_counter()
            subject()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmup:
                found[name].append(time.perf_counter() - started)
    return {name: Times(seconds) for name, seconds in found.items()}


def ratio(ours: Times, theirs: Times) -> str:
    """How many times as long the other took, run by run: the median with the least and the most."""
    each = sorted(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    return f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))
