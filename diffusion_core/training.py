"""Training a diffusion model: the recipe that decides what is learned, its batches, and one step after the other."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from .checkpoint import Model
from .data import ImageSet
from .denoisers import NetDenoiser, Prediction
from .images import to_tensor
from .losses import LOSSES, Times, denoising_loss, sample_times
from .networks import UNet, ema_update, mixed_precision
from .schedules import SCHEDULES, schedule_from_config


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned. Each field is also a command-line option."""

    dataset: str  # which image set (see diffusion_core.data)
    size: int = 0  # side to resize photographs to; 0: as they are
    per_class: int = 0  # how many training images of each class, drawn by the seed; 0: all
    steps: int = 20_000  # how long, unless --minutes says otherwise; the learning rate falls to 0 over the whole
    batch: int = (
        128  # images a step, over all processes: large enough for a steady gradient, small enough for many steps
    )
    seed: int = 0  # weights, order, noise and times are functions of it

    schedule: str = "vp_linear"  # the field's reference process
    prediction: str = "v"  # well scaled at every noise level, where eps is blind at high noise and x0 at low
    times: str = "lognormal"  # most effort at the middle noise levels, where images take shape
    time_mean: float = -0.6  # of log(sigma / alpha)
    time_std: float = 1.4  # wide enough that both ends of the schedule are still visited
    loss: str = "l2"  # the one whose minimiser is the posterior mean
    weight: str = "none"  # v's own weighting is already balanced
    conditional: bool = True  # told each image's class, so that one can ask for it
    label_dropout: float = 0.1  # share of images shown without their class: guidance needs an unconditional branch
    flip: bool = False  # mirror half of the images; wrong for digits and letters

    width: int = 64  # channels at the finest level
    mults: tuple[int, ...] = (1, 2)  # channels of each level, as multiples of width
    blocks: int = 1  # residual blocks a level
    attention: tuple[int, ...] = ()  # levels with self-attention, besides the middle
    patch: int = 2  # fold 2 x 2 pixels into channels first: a quarter of the cost
    dropout: float = 0.0  # only for sets that are small for their network

    lr: float = 1e-3  # peak learning rate of AdamW
    betas: tuple[float, ...] = (
        0.9,
        0.99,
    )  # shorter memory than the default 0.999: gradients here are noisy, runs short
    weight_decay: float = 0.01  # mild
    warmup: int = 200  # steps until the peak: Adam's first estimates are poor
    clip: float = 1.0  # largest gradient norm: one odd batch must not undo the run
    ema: float = 16.97  # exponent of the averaging profile t^ema: its width is 5 % of the run, however long it is

    log_every: int = 50  # steps between two lines of training loss
    eval_every: int = 500  # steps between two validation losses, each followed by a save

    def __post_init__(self):
        """Raises ValueError, naming the option, for a value that cannot be trained with."""
        choices = {
            "schedule": SCHEDULES,
            "prediction": get_args(Prediction),
            "times": get_args(Times),
            "loss": LOSSES,
            "weight": ("none", "min_snr"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"--{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        for name in ("steps", "batch", "width", "blocks", "patch", "warmup", "log_every", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("size", "per_class"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must be at least 1, or 0 for no limit, not {getattr(self, name)}.")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"--{name} must be a positive number, not {getattr(self, name)}.")
        for name in ("label_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name} must lie in [0, 1), not {getattr(self, name)}.")
        if not self.mults or min(self.mults) < 1:
            raise ValueError(f"--mults must be one or more whole numbers from 1, not {list(self.mults)}.")


class Batch:
    """The training images, on the device. The batch of step k is a function of (seed, k): resuming needs no state."""

    def __init__(self, images: ImageSet, recipe: Recipe, schedule, device: torch.device):
        self.images = torch.from_numpy(images.images).movedim(-1, 1).contiguous().to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.null, self.recipe, self.schedule = len(images.classes), recipe, schedule

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x0 [B, C, H, W], cond [B], t [B], eps like x0: this process's share of the step's batch."""
        r, device = self.recipe, self.images.device
        g = torch.Generator(device).manual_seed(r.seed * 1_000_003 + step)
        index = torch.randint(len(self.images), (r.batch,), generator=g, device=device)
        x0 = self.images[index].float() / 127.5 - 1
        cond = self.labels[index]
        t = sample_times(self.schedule, r.batch, r.times, mean=r.time_mean, std=r.time_std, generator=g, device=device)
        eps = torch.randn(x0.shape, generator=g, device=device)
        dropped = torch.rand(r.batch, generator=g, device=device) < r.label_dropout
        cond = torch.where(dropped, self.null, cond)
        if r.flip:
            mirrored = torch.rand(r.batch, 1, 1, 1, generator=g, device=device) < 0.5
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        return x0[rank::world], cond[rank::world], t[rank::world], eps[rank::world]


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Linear warm-up, then linearly to 0 as progress goes from 0 to 1."""
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup) * max(0.0, 1.0 - progress)


@torch.no_grad()
def validation_loss(D: NetDenoiser, images: ImageSet, device: torch.device, n: int = 1000) -> float:
    """Mean l2 loss on the first n test images, at fixed times over all noise levels and with fixed noise.

    The times are shuffled: images may come in the order of their classes, each of which is to see all of them.
    """
    g = torch.Generator().manual_seed(0)
    x0 = to_tensor(images.images[:n])
    t = sample_times(D.schedule, len(x0), "stratified", generator=g)[torch.randperm(len(x0), generator=g)]
    eps = torch.randn(x0.shape, generator=g)
    cond = torch.from_numpy(images.labels[:n])
    parts = zip(*(v.to(device).split(250) for v in (x0, cond, t, eps)), strict=True)
    return torch.cat([denoising_loss(D, *part) for part in parts]).mean().item()


def build(recipe: Recipe, images: ImageSet) -> NetDenoiser:
    """The network of a recipe as it starts, a function of its seed, for images of this shape and with these classes."""
    torch.manual_seed(recipe.seed)
    net = UNet(
        images.images.shape[-1],
        recipe.width,
        recipe.mults,
        recipe.blocks,
        recipe.attention,
        recipe.patch,
        len(images.classes) if recipe.conditional else 0,
        recipe.dropout,
    )
    return NetDenoiser(net, schedule_from_config({"name": recipe.schedule}), recipe.prediction)


def train_step(
    D: NetDenoiser, optimizer, batch: tuple[Tensor, ...], recipe: Recipe, device: torch.device
) -> tuple[Tensor, Tensor]:
    """One AdamW step on one batch; returns the mean loss and the gradient's norm before it is clipped."""
    with mixed_precision(device):
        loss = denoising_loss(D, *batch, loss=recipe.loss, weight=recipe.weight).mean()
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(D.net.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), grad_norm


# The run ----------------------------------------------------------------------------------------------------------


class Training:
    """A recipe being trained on `images`: the network, the average of its weights, the optimizer, how far it is."""

    def __init__(self, recipe: Recipe, images: ImageSet, device: torch.device):
        self.recipe, self.data, self.device = recipe, images, device
        self.D = build(recipe, images).to(device)
        if device.type == "cuda":
            self.D.to(memory_format=torch.channels_last)
        self.net, self.ema = self.D.net, build(recipe, images).to(device).requires_grad_(False).eval()
        fused = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), recipe.lr, recipe.betas, weight_decay=recipe.weight_decay, fused=fused
        )
        self.batch = Batch(images, recipe, self.D.schedule, device)
        self.step = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, channels first."""
        _, h, w, c = self.data.images.shape
        return c, h, w

    def advance(self, batch: tuple[Tensor, ...], progress: float) -> tuple[Tensor, Tensor]:
        """One step at the learning rate that belongs to `progress`; returns the loss and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, progress)
        measured = train_step(self.D, self.optimizer, batch, self.recipe, self.device)
        ema_update(self.ema.net, self.net, self.step, self.recipe.ema)
        self.step += 1
        return measured

    def model(self, **about) -> Model:
        """What is learned so far, as it is used: the averages, not a copy of them, with where they come from."""
        config = {
            "dataset": self.recipe.dataset,
            "recipe": asdict(self.recipe),
            "step": self.step,
            "images": self.step * self.recipe.batch,
            "trained_on": len(self.data.images),
        }
        return Model(self.ema, self.shape, self.data.classes if self.recipe.conditional else [], config | about)


class Moment(NamedTuple):
    """Where a run is after a step: seconds since its start, the batch's mean loss, the gradient's norm."""

    step: int
    seconds: float
    loss: float
    grad_norm: float


def train_for(training: Training, seconds: float) -> Iterator[Moment]:
    """Train for so many seconds, over which the learning rate falls to 0; what the caller does in between counts."""
    began, spent = time.monotonic(), 0.0
    while spent < seconds:
        loss, grad_norm = training.advance(training.batch(training.step), spent / seconds)
        spent = time.monotonic() - began
        yield Moment(training.step, spent, loss.item(), grad_norm.item())
        spent = time.monotonic() - began


def device_name(device: torch.device) -> str:
    """What a network on this device runs on: the GPU's name, or how many threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    return f"{n} CPU threads" if (n := torch.get_num_threads()) > 1 else "one CPU thread"
