"""What a network's output means.

A `Denoiser` maps a noisy x_t and its time t to the posterior mean E[x0 | x_t]. That is the one interface samplers
see; eps, score and v are conversions of it, and guidance, clipping and a change of schedule are denoisers wrapped
around a denoiser.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import mixed_precision
from .schedules import Schedule, over_batch

Prediction = Literal["v", "eps", "x0"]


# Conversions. alpha and sigma are floats, or tensors that broadcast against x; any alpha, sigma > 0 will do.


def to_eps(x0: Tensor, x: Tensor, alpha, sigma) -> Tensor:
    """The noise that explains x, given x0."""
    return (x - alpha * x0) / sigma


def to_score(x0: Tensor, x: Tensor, alpha, sigma) -> Tensor:
    """grad log p_t(x), from the posterior mean (Tweedie's formula)."""
    return (alpha * x0 - x) / sigma**2


def to_v(x0: Tensor, x: Tensor, alpha, sigma) -> Tensor:
    """v = alpha eps - sigma x0, of the process scaled to alpha^2 + sigma^2 = 1 (Salimans & Ho, arXiv 2202.00512)."""
    scale = (alpha**2 + sigma**2) ** 0.5
    return (alpha * to_eps(x0, x, alpha, sigma) - sigma * x0) / scale


def to_x0(output: Tensor, x: Tensor, alpha, sigma, prediction: Prediction) -> Tensor:
    """The posterior mean, from what a network of the given prediction puts out."""
    if prediction == "x0":
        return output
    if prediction == "eps":
        return (x - sigma * output) / alpha
    scale = (alpha**2 + sigma**2) ** 0.5
    return (alpha / scale**2) * x - (sigma / scale) * output


class Denoiser(nn.Module):
    """Interface: `schedule`, and forward(x [B, *S], t [B], cond [B] or None) -> E[x0 | x_t = x] [B, *S].

    cond holds class labels; `null` is the label that means "no class", as does cond None. A network takes mixtures of
    labels too, as weights [B, null + 1].
    """

    schedule: Schedule
    null: int | None = None

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say how to denoise.")


class NetDenoiser(Denoiser):
    """A network as a denoiser: it sees x scaled to unit size, the time in thousandths and the class.

    net(x [B, *S], time [B], cond [B] or None) -> [B, *S]; `prediction` says what that output is.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, prediction: Prediction = "v"):
        super().__init__()
        if prediction not in ("v", "eps", "x0"):
            raise ValueError(f"Unknown prediction {prediction!r}; choose v, eps or x0.")
        self.net, self.schedule, self.prediction = net, schedule, prediction
        self.null = net.num_classes or None

    def output(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The network's own output, the quantity named by `prediction`."""
        return self.net(x / over_batch(self.schedule.scale(t), x), (1000 * t).to(x), cond)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        alpha, sigma = over_batch(self.schedule.alpha(t), x), over_batch(self.schedule.sigma(t), x)
        return to_x0(self.output(x, t, cond), x, alpha, sigma, self.prediction)


class Guided(Denoiser):
    """Classifier-free guidance: x0_u + scale (x0_c - x0_u) (Ho & Salimans 2022, arXiv 2207.12598).

    scale 0 is unconditional and 1 conditional, in one pass; any other scale is one pass over a batch of 2 B.
    Guiding x0, eps or v is the same thing: all three are affine in x0 with the same x.
    """

    def __init__(self, denoiser: Denoiser, scale: float):
        super().__init__()
        self.denoiser, self.scale = denoiser, scale
        self.schedule, self.null = denoiser.schedule, denoiser.null

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None or self.scale == 0:
            return self.denoiser(x, t, None)
        if self.scale == 1:
            return self.denoiser(x, t, cond)
        if self.null is None:
            raise ValueError("Guidance needs a model trained with classes; this one has none.")
        none = torch.full((len(cond),), self.null, device=cond.device)
        if cond.ndim == 2:
            none = F.one_hot(none, self.null + 1).to(cond)
        both = torch.cat([none, cond])
        x0_u, x0_c = self.denoiser(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return x0_u + self.scale * (x0_c - x0_u)


def passes(scale: float) -> int:
    """How many times a call of Guided has the network go over its batch, if there is a class to guide by."""
    return 1 if scale in (0, 1) else 2


class Clipped(Denoiser):
    """x0 clipped to the data's range. Goes outermost, and is left out while encoding, which it would make lossy."""

    def __init__(self, denoiser: Denoiser, lo: float = -1.0, hi: float = 1.0):
        super().__init__()
        self.denoiser, self.lo, self.hi = denoiser, lo, hi
        self.schedule, self.null = denoiser.schedule, denoiser.null

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.denoiser(x, t, cond).clamp(self.lo, self.hi)


class InBfloat16(Denoiser):
    """The same denoiser with its products in bfloat16, where the device has hardware for them; states stay as are."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser, self.schedule, self.null = denoiser, denoiser.schedule, denoiser.null

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        with mixed_precision(x.device):
            return self.denoiser(x, t, cond).to(x.dtype)


class Rescheduled(Denoiser):
    """The same network under another schedule.

    x_t of two schedules with equal signal-to-noise ratio differ by a known factor only, so each t is mapped to the
    time of equal lambda and x rescaled (Karras et al. 2022, arXiv 2206.00364, sec. 3). Levels beyond the trained
    range are taken at its end.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule):
        super().__init__()
        self.denoiser, self.schedule, self.null = denoiser, schedule, denoiser.null

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        inner = self.denoiser.schedule
        s = t.cpu().double()  # Apple's GPUs have no float64
        u = inner.t_from_lam(self.schedule.lam(s)).clamp(max=inner.t_max)
        factor = inner.alpha(u) / self.schedule.alpha(s)
        return self.denoiser(over_batch(factor, x) * x, u.to(t), cond)
