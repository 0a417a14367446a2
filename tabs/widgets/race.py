"""Racing samplers: runs from the same noise that advance by network calls, and how near each comes to the exact ODE."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from diffusion_core.metrics import halving_error, rmse
from diffusion_core.samplers import SAMPLERS

from .controls import gpu
from .runs import Film, Frame, Settings, frames

# Of order 2; a run of half as many steps tells its error (`halving_error`).
REFERENCE = dict(sampler="dpmpp_2m", steps=100, eta=0.0, spacing="lam")
KEPT = 16  # references kept for the next race


class Reference(NamedTuple):
    """Where the ODE leads: x [B, C, H, W], on the CPU; error: how far it is itself from the limit, an rmse."""

    x: Tensor
    error: float


@dataclass
class Lane:
    """One run of a race, as far as it is."""

    settings: Settings
    film: Film = field(default_factory=Film)
    reference: Reference | None = None

    @property
    def deterministic(self) -> bool:
        return SAMPLERS[self.settings.sampler].deterministic(self.settings.eta)

    def at(self, calls: int) -> Frame | None:
        """The lane as it stood after that many network calls; None before the end of its first step."""
        return next((f for f in reversed(self.film.frames) if f.nfe <= calls), None) if self.film.last else None

    def curve(self) -> list[tuple[int, float]]:
        """(network calls, distance of the predicted x0 from the reference), a frame each; the last is the result's."""
        if self.reference is None:
            return []
        return [(f.nfe, rmse(f.x0, self.reference.x).mean().item()) for f in self.film.frames]


@gpu(duration=120)
def advance(settings: dict[str, Settings]) -> Iterator[tuple[str, Frame]]:
    """(lane, frame) of several runs: the lane with the fewest network calls so far goes next.

    Frame.seconds is what the lane itself took, without the time of the others.
    """
    runs = {name: frames(s) for name, s in settings.items()}
    calls, seconds = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0.0)
    while runs:
        name = min(runs, key=calls.get)
        started = time.perf_counter()
        frame = next(runs[name], None)
        seconds[name] += time.perf_counter() - started
        if frame is None:
            del runs[name]
            continue
        calls[name] = frame.nfe
        yield name, frame._replace(seconds=seconds[name])


def run(lanes: dict[str, Lane]) -> Iterator[None]:
    """Races lanes from their start to their end; yields after each step of any of them."""
    for name, frame in advance({name: lane.settings for name, lane in lanes.items()}):
        lanes[name].film.add(frame)
        yield


def calls_of(lanes: dict[str, Lane]) -> list[int]:
    """The numbers of network calls after which some lane has moved."""
    return sorted({f.nfe for lane in lanes.values() for f in lane.film.frames})


class References:
    """Reference runs, the latest `KEPT` of them: one for each model, class, seed, number of images and guidance."""

    def __init__(self):
        self.kept: dict[Settings, Reference] = {}

    def find(self, lanes: dict[str, Lane]) -> Iterator[tuple[int, int]]:
        """Gives each deterministic lane its reference, and yields how many steps of all that takes are made."""
        fine = {name: lane.settings._replace(**REFERENCE) for name, lane in lanes.items() if lane.deterministic}
        missing = [settings for settings in dict.fromkeys(fine.values()) if settings not in self.kept]
        done, total = 0, len(missing) * (REFERENCE["steps"] + REFERENCE["steps"] // 2)
        for settings in missing:
            ends = []
            for level in (settings, settings._replace(steps=settings.steps // 2)):
                for frame in frames(level):
                    x, done = frame.x, done + 1
                    yield done, total
                ends.append(x)
            self.kept[settings] = Reference(ends[0], halving_error(*ends, order=2).mean().item())
        for name, settings in fine.items():
            lanes[name].reference = self.kept[settings]
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]
