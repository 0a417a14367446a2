"""How signal and noise mix at time t:  x_t = alpha(t) x0 + sigma(t) eps,  eps ~ N(0, I).

Time runs from 0 (data) to 1 (noise). A schedule writes down two functions, `log_alpha` and `sigma2`; everything
else follows from them once, for all schedules:

    alpha = exp(log_alpha)      sigma = sqrt(sigma2)      lam = log(alpha / sigma), half the log signal-to-noise ratio
    f     = d log_alpha / dt    g2 = d sigma2 / dt - 2 f sigma2,       of  dx = f(t) x dt + sqrt(g2(t)) dw

so that no drift can disagree with its marginal (Song et al. 2021, arXiv 2011.13456, eq. 5; Kingma et al. 2021,
arXiv 2107.00630, for f and g2 from the marginals).
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class Coeffs(NamedTuple):
    """The numbers of a whole time grid, as Python floats: what a sampler's loop reads."""

    alpha: list[float]
    sigma: list[float]
    lam: list[float]
    f: list[float]
    g2: list[float]


class Schedule(ABC):
    """Base class. All methods take t in [0, 1] of any shape and dtype and return that shape and dtype.

    `t_min` and `t_max` are where sampling stops and starts: at t = 0 the score of most schedules is singular.
    """

    name: str
    t_min: float = 1e-3
    t_max: float = 1.0

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the signal's scale."""

    @abstractmethod
    def sigma2(self, t: Tensor) -> Tensor:
        """Variance of the noise. This and not sigma is the primitive: the slope of sqrt at 0 is infinite."""

    @abstractmethod
    def config(self) -> dict:
        """JSON-ready description; `schedule_from_config` turns it back into the schedule."""

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma2(t).sqrt()

    def lam(self, t: Tensor) -> Tensor:
        """lambda(t) = log(alpha / sigma), half the log-SNR; falls as t rises."""
        return self.log_alpha(t) - 0.5 * self.sigma2(t).log()

    def scale(self, t: Tensor) -> Tensor:
        """sqrt(alpha^2 + sigma^2), the size of x_t for data of unit size: 1 for variance-preserving schedules."""
        return (2 * self.log_alpha(t)).exp().add(self.sigma2(t)).sqrt()

    def perturb(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = alpha(t) x0 + sigma(t) eps for images x0, noise eps [B, *S] and times t [B]."""
        return over_batch(self.alpha(t), x0) * x0 + over_batch(self.sigma(t), x0) * eps

    def f(self, t: Tensor) -> Tensor:
        """Drift coefficient of the forward SDE, dx = f(t) x dt + ..."""
        return _derivative(self.log_alpha, t)

    def g2(self, t: Tensor) -> Tensor:
        """Squared diffusion coefficient: d sigma2/dt = 2 f sigma2 + g2, the variance equation of a linear SDE."""
        return _derivative(self.sigma2, t) - 2 * self.f(t) * self.sigma2(t)

    def t_from_lam(self, lam: Tensor) -> Tensor:
        """The time at which lambda(t) = lam, by bisection (lambda falls with t); clamped to [0, 1]."""
        lo, hi = torch.zeros_like(lam), torch.ones_like(lam)
        for _ in range(64):
            mid = 0.5 * (lo + hi)
            noisier = self.lam(mid) < lam
            lo, hi = torch.where(noisier, lo, mid), torch.where(noisier, mid, hi)
        return 0.5 * (lo + hi)

    def table(self, ts: Tensor) -> Coeffs:
        """Coefficients of the grid ts [n], computed in float64 in one go."""
        ts = ts.double().cpu()
        return Coeffs(*(fn(ts).tolist() for fn in (self.alpha, self.sigma, self.lam, self.f, self.g2)))


def over_batch(v: Tensor, x: Tensor) -> Tensor:
    """v [B], reshaped to multiply x [B, *S] and in x's dtype."""
    return v.to(x).reshape(-1, *[1] * (x.ndim - 1))


def _derivative(fn, t: Tensor) -> Tensor:
    """d fn / dt, elementwise. In reverse mode, since forward mode is not safe in threads, and the page has some."""
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        return torch.autograd.grad(fn(t).sum(), t)[0]


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1: unit-variance data keeps unit variance on its way to noise."""

    def sigma2(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self.log_alpha(t))  # 1 - alpha^2 without cancellation near t = 0

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class VPLinear(VariancePreserving):
    """beta(t) linear in t: the continuous limit of DDPM (Song et al. 2021, arXiv 2011.13456, eq. 32-33)."""

    name = "vp_linear"

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def log_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * _linear_beta_integral(t, self.beta_min, self.beta_max)

    def t_from_lam(self, lam: Tensor) -> Tensor:
        """In closed form, since -2 log alpha = log(1 + exp(-2 lam)) is quadratic in t (arXiv 2206.00927, app. D)."""
        integral = torch.logaddexp(-2 * lam, torch.zeros_like(lam))
        slope = self.beta_max - self.beta_min
        t = 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())
        return t.clamp(max=1)

    def config(self) -> dict:
        return {"name": self.name, "beta_min": self.beta_min, "beta_max": self.beta_max}


class VPQuadratic(VariancePreserving):
    """sqrt(beta(t)) linear in t, so that noise comes later than with `VPLinear`: the "quad" betas of DDIM's code."""

    name = "vp_quadratic"

    def __init__(self, beta_min: float = 0.1, beta_max: float = 30.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def log_alpha(self, t: Tensor) -> Tensor:
        a = math.sqrt(self.beta_min)
        b = math.sqrt(self.beta_max) - a
        return -0.5 * t * (a * a + t * (a * b + t * b * b / 3))  # the integral of (a + b t)^2

    def config(self) -> dict:
        return {"name": self.name, "beta_min": self.beta_min, "beta_max": self.beta_max}


class VPCosine(VariancePreserving):
    """alpha falls as a quarter cosine (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17).

    alpha reaches 0 at t = 1, where beta is infinite; sampling starts a little before, as in DPM-Solver (2206.00927).
    """

    name = "vp_cosine"
    t_max = 0.9946

    def __init__(self, s: float = 0.008):
        self.s = s

    def log_alpha(self, t: Tensor) -> Tensor:
        # log of cos((t + s) q) / cos(s q), with the fraction written as 1 - ... so that it is exact near t = 0
        q = 0.5 * math.pi / (1 + self.s)
        minus_one = -2 * torch.sin(0.5 * q * t) ** 2 - math.tan(self.s * q) * torch.sin(q * t)
        return torch.log1p(minus_one.clamp(min=torch.finfo(t.dtype).eps - 1))  # finite at t = 1, where alpha is 0

    def config(self) -> dict:
        return {"name": self.name, "s": self.s}


class SubVP(Schedule):
    """The drift of `VPLinear` with less noise: sigma = 1 - alpha^2 (Song et al. 2021, arXiv 2011.13456, eq. 29)."""

    name = "sub_vp"

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def log_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * _linear_beta_integral(t, self.beta_min, self.beta_max)

    def sigma2(self, t: Tensor) -> Tensor:
        return torch.expm1(2 * self.log_alpha(t)) ** 2

    def config(self) -> dict:
        return {"name": self.name, "beta_min": self.beta_min, "beta_max": self.beta_max}


class VE(Schedule):
    """The signal stays, the noise explodes: sigma geometric in t (Song et al. 2021, arXiv 2011.13456, eq. 30-31)."""

    name = "ve"
    t_min = 1e-5

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def log_alpha(self, t: Tensor) -> Tensor:
        return 0 * t  # and not zeros_like: it has a derivative

    def sigma2(self, t: Tensor) -> Tensor:
        return self.sigma_min**2 * torch.exp(2 * t * math.log(self.sigma_max / self.sigma_min))

    def config(self) -> dict:
        return {"name": self.name, "sigma_min": self.sigma_min, "sigma_max": self.sigma_max}


class Discrete(VariancePreserving):
    """Classical DDPM (Ho et al. 2020, arXiv 2006.11239) as a view of continuous time.

    Level i of N lies at t = (i + 1) / N, with log alpha linear between the levels and 0 at t = 0.
    alphas_bar: N falling values in (0, 1), the products of 1 - beta; default: DDPM's 1000 linear betas.
    """

    name = "discrete"

    def __init__(self, alphas_bar: list[float] | Tensor | None = None):
        if alphas_bar is None:
            alphas_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
        alphas_bar = torch.as_tensor(alphas_bar, dtype=torch.float64)
        bracketed = torch.tensor([1.0, *alphas_bar, 0.0], dtype=torch.float64)
        if len(alphas_bar) == 0 or not (bracketed.diff() < 0).all():
            raise ValueError("alphas_bar must fall strictly within (0, 1), from the least noisy level to the noisiest.")
        self.alphas_bar = alphas_bar
        self.t_min = 1 / len(alphas_bar)
        self._knots = torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * alphas_bar.log()])

    def log_alpha(self, t: Tensor) -> Tensor:
        n = len(self.alphas_bar)
        knots = self._knots.to(t)
        i = (t * n).floor().long().clamp(0, n - 1)
        return knots[i] + (t * n - i) * (knots[i + 1] - knots[i])

    def config(self) -> dict:
        return {"name": self.name, "alphas_bar": self.alphas_bar.tolist()}


def _linear_beta_integral(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """B(t), the integral from 0 to t of beta_min + s (beta_max - beta_min)."""
    return t * (beta_min + 0.5 * t * (beta_max - beta_min))


SCHEDULES: dict[str, type[Schedule]] = {c.name: c for c in (VPLinear, VPCosine, VPQuadratic, SubVP, VE, Discrete)}


def schedule_from_config(config: dict) -> Schedule:
    """The inverse of `Schedule.config`. Raises ValueError for a name that is not in `SCHEDULES`."""
    kwargs = dict(config)
    name = kwargs.pop("name", None)
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}.")
    return SCHEDULES[name](**kwargs)
