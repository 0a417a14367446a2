"""Running a model for the page: the settings of a run, its steps, and one line that says what a run was."""

import copy
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import gradio as gr
import torch
from torch import Tensor

from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Judge
from diffusion_core.data import ImageSet, load_images
from diffusion_core.denoisers import Clipped, Denoiser, Guided, passes, to_eps
from diffusion_core.metrics import rmse
from diffusion_core.samplers import SAMPLERS, generate
from diffusion_core.schedules import over_batch

from .controls import gpu

MODELS: dict[str, Model] = {}  # filled once, when the app starts
JUDGES: dict[str, Judge] = {}  # by data set; filled likewise
OWN: dict[str, Model] = {}  # trained in the page, by names that only the visitor who trained them is told
YOURS = "digits, yours"  # what these names begin with
MOST_OWN = 16  # of these are kept, the latest
SPACING_NAMES = {
    "lam": "even in log-SNR",
    "t": "even in t",
    "karras": "Karras (finer near the data)",
    "quad": "even in √t",
    "ddpm": "DDPM's own levels",
}


def model_named(name: str) -> Model:
    """A shipped model, or a visitor's own. Raises ValueError, naming the shipped ones, for a name of neither."""
    model = MODELS.get(name) or OWN.get(name)
    if model is None and str(name).startswith(YOURS):
        raise ValueError(f"The model {name!r} is no longer kept; train it again on the Training tab.")
    if model is None:
        raise ValueError(f"There is no model {name!r}; there is {', '.join(MODELS) or 'none: train.py makes one'}.")
    return model


def adopt(model: Model) -> str:
    """Keep a model that a visitor has trained; returns the name to ask for it by, which nobody guesses."""
    name = f"{YOURS} ({secrets.token_hex(4)})"
    OWN[name] = copy.deepcopy(model)
    while len(OWN) > MOST_OWN:
        forget(next(iter(OWN)))
    return name


def offered(name: str, shipped: Iterable[str]) -> gr.Dropdown:
    """The update of a tab's choice of models for the visitor who has trained `name`, which is chosen."""
    return gr.Dropdown([*shipped, name], value=name, visible=True)


def forget(name: str | None) -> None:
    """Drop a visitor's own model, if there is one of that name."""
    OWN.pop(name, None)


def judge_of(model: Model) -> Judge | None:
    """The classifier of a model's data set."""
    return JUDGES.get(model.config.get("dataset"))


@lru_cache(maxsize=4)
def held_out(dataset: str, side: int) -> ImageSet:
    """The test split of a data set that is on this machine."""
    return load_images(dataset, "test", size=side, download=False)


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
        return self.cls != "none" and passes(self.guidance) == 2


class Frame(NamedTuple):
    """One step of a run, on the CPU: x, x0 and eps [B, C, H, W].

    x is the state that the step arrived at, at time t; x0 and eps are what the network predicted on the way there, from
    the state that it was last shown. lam is half the log-SNR at t; update is how far the step moved x, a pixel.
    """

    i: int
    t: float
    sigma: float
    lam: float
    x: Tensor
    x0: Tensor
    eps: Tensor
    update: float
    nfe: int
    seconds: float


class Witness(Denoiser):
    """The same denoiser, with what it was last shown: a state x [B, C, H, W] and its time [B]."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser, self.schedule, self.null, self.shown = denoiser, denoiser.schedule, denoiser.null, None

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.shown = x, t
        return self.denoiser(x, t, cond)

    def predicted_noise(self, x0: Tensor) -> Tensor:
        """The noise in what it was last shown, if x0 is what it answered."""
        x, t = self.shown
        return to_eps(x0, x, over_batch(self.schedule.alpha(t), x), over_batch(self.schedule.sigma(t), x))


class Film:
    """At most `most` frames of a run, evenly spread over its steps, and always the last: memory that does not grow."""

    def __init__(self, most: int = 64):
        self.most, self.stride, self.kept, self.last = most, 1, [], None

    def add(self, frame: Frame) -> None:
        self.last = frame
        if frame.i % self.stride == 0:
            self.kept.append(frame)
        if len(self.kept) > self.most:
            self.stride *= 2
            self.kept = [f for f in self.kept if f.i % self.stride == 0]

    @property
    def frames(self) -> list[Frame]:
        return self.kept if self.kept and self.kept[-1] is self.last else [*self.kept, self.last]


@gpu(duration=60)
def frames(settings: Settings) -> Iterator[Frame]:
    """The steps of a run. Raises ValueError for settings that make no sense."""
    model = model_named(settings.model)
    cond = model.conditions(settings.cls, settings.count)
    D = Witness(Clipped(Guided(model.denoiser, settings.guidance)))
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
    started, before = time.perf_counter(), None
    for step in run:
        t = torch.tensor(step.t, dtype=torch.float64)
        sigma, lam = D.schedule.sigma(t).item(), D.schedule.lam(t).item()
        shown = (step.x, step.x0, D.predicted_noise(step.x0))
        x, x0, eps = (model.codec.decode(v).to("cpu", torch.float32) for v in shown)
        update = math.nan if before is None else rmse(step.x, before).mean().item()
        before = step.x
        yield Frame(step.i, step.t, sigma, lam, x, x0, eps, update, step.nfe, time.perf_counter() - started)


def filmed(settings: Settings) -> Film:
    """A whole run."""
    film = Film()
    for frame in frames(settings):
        film.add(frame)
    return film


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
