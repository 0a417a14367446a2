"""Running a model for the page: the settings of a run, its steps, and one line that says what a run was."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Judge
from diffusion_core.denoisers import Clipped, Guided
from diffusion_core.samplers import SAMPLERS, generate

from .controls import gpu

MODELS: dict[str, Model] = {}  # filled once, when the app starts
JUDGES: dict[str, Judge] = {}  # by data set; filled likewise


class Settings(NamedTuple):
    """What a run depends on; image k is a function of these and seed + k, not of count."""

    model: str
    cls: str = "all"
    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: float = 2.0
    seed: int = 7
    count: int = 16
    eta: float = 0.0
    spacing: str = "lam"

    @property
    def guided(self) -> bool:
        """Whether each network call is on twice the batch."""
        return self.cls != "none" and self.guidance not in (0, 1)


class Frame(NamedTuple):
    """One step of a run, on the CPU: x and x0 [B, C, H, W]."""

    i: int
    t: float
    x: Tensor
    x0: Tensor
    nfe: int
    seconds: float


@gpu(duration=60)
def frames(settings: Settings) -> Iterator[Frame]:
    """The steps of a run. Raises ValueError for settings that make no sense."""
    model = MODELS[settings.model]
    cond = model.conditions(settings.cls, settings.count)
    D = Clipped(Guided(model.denoiser, settings.guidance))
    run = generate(
        D,
        (settings.count, *model.shape),
        settings.sampler,
        steps=settings.steps,
        seeds=[settings.seed + k for k in range(settings.count)],
        cond=cond,
        spacing=settings.spacing,
        eta=settings.eta,
    )
    started = time.perf_counter()
    for step in run:
        x, x0 = (model.codec.decode(v).to("cpu", torch.float32) for v in (step.x, step.x0))
        yield Frame(step.i, step.t, x, x0, step.nfe, time.perf_counter() - started)


def describe(settings: Settings, frame: Frame) -> str:
    """Sampler, steps, calls, guidance, seeds, time: what the numbers and pictures beside this line are of."""
    sampler = SAMPLERS[settings.sampler]
    parts = [
        sampler.label,
        f"{frame.i} step{'s' * (frame.i != 1)}",
        f"{frame.nfe} network call{'s' * (frame.nfe != 1)}" + (" × 2 (guided)" if settings.guided else ""),
        f"guidance {settings.guidance:g}" if settings.cls != "none" else "unconditional",
        f"eta {settings.eta:g}" if sampler.uses_eta else "",
        f"seeds {settings.seed} to {settings.seed + settings.count - 1}"
        if settings.count > 1
        else f"seed {settings.seed}",
        f"{frame.seconds:.1f} s",
        f"{1000 * frame.seconds / frame.i:.0f} ms a step",
    ]
    return " · ".join(p for p in parts if p)
