"""From noise to data and back: each sampler a short generator of `Step`s.

A sampler is a loop over the times `ts`, which it is given whole: every step knows both of its ends. It sees only a
`Denoiser`, x0 = D(x, t, cond) = E[x0 | x_t = x]. Coefficients are Python floats computed in float64; the state keeps
x's dtype. The caller shows, records, stops or ignores what is yielded.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .denoisers import Denoiser
from .schedules import Coeffs, Discrete, Schedule

Noise = Callable[[Tensor], Tensor]  # x [B, *S] -> standard normal numbers of its shape
Spacing = Literal["lam", "t", "karras", "quad", "ddpm"]
SPACINGS: tuple[Spacing, ...] = ("lam", "t", "karras", "quad", "ddpm")


class Step(NamedTuple):
    """State after step i: at time t, x [B, *S], made with the prediction x0 [B, *S]; nfe: network calls so far."""

    i: int
    t: float
    x: Tensor
    x0: Tensor
    nfe: int


# Time grids -------------------------------------------------------------------------------------------------------


def timesteps(
    schedule: Schedule, n: int, spacing: Spacing = "lam", start: float | None = None, stop: float | None = None
) -> Tensor:
    """n + 1 times from start (default t_max) to stop (default t_min), float64, on the CPU.

    lam     equal steps in log(alpha / sigma) (Lu et al. 2022, arXiv 2206.00927)
    t       equal steps in t
    karras  equal steps in (sigma / alpha)^(1/7): finer towards the data (Karras et al. 2022, arXiv 2206.00364, eq. 5)
    quad    equal steps in sqrt(t) (Song et al. 2020, arXiv 2010.02502, app. D.2)
    ddpm    a subset of a `Discrete` schedule's own levels, as evenly spread as whole numbers allow
    """
    if n < 0:
        raise ValueError(f"The number of steps must not be negative, as {n} is.")
    t0 = schedule.t_max if start is None else start
    t1 = schedule.t_min if stop is None else stop
    if spacing == "t":
        return _linspace(t0, t1, n)
    if spacing == "ddpm":
        return _ddpm_levels(schedule, n, t0, t1)
    ends = torch.tensor([t0, t1], dtype=torch.float64)
    if spacing == "quad":
        ts = _linspace(t0**0.5, t1**0.5, n) ** 2
    elif spacing == "lam":
        ts = schedule.t_from_lam(_linspace(*_finite(schedule.lam(ends)), n))
    elif spacing == "karras":
        rho = 7
        ratio = _linspace(*torch.exp(-schedule.lam(ends) / rho).tolist(), n)
        ts = schedule.t_from_lam(-rho * ratio.log())
    else:
        raise ValueError(f"Unknown spacing {spacing!r}; choose one of {', '.join(SPACINGS)}.")
    ts[-1], ts[0] = ends[1], ends[0]  # exactly, whatever the rounding of the inverse
    return ts


def _finite(lam: Tensor) -> list[float]:
    if not lam.isfinite().all():
        raise ValueError("Even steps in lambda cannot reach sigma = 0, where it is infinite; choose another spacing.")
    return lam.tolist()


def _linspace(a: float, b: float, n: int) -> Tensor:
    return torch.linspace(a, b, n + 1, dtype=torch.float64)


def _ddpm_levels(schedule: Schedule, n: int, t0: float, t1: float) -> Tensor:
    if not isinstance(schedule, Discrete):
        raise ValueError("Spacing 'ddpm' picks levels of a discrete schedule; this one is continuous.")
    levels = len(schedule.alphas_bar)
    if n >= levels:
        raise ValueError(
            f"This schedule has {levels} levels; at most {levels} steps can be taken on them, not {n + 1}."
        )
    return _linspace(t0 * levels, t1 * levels, n).round() / levels


# Deterministic samplers, and DDIM's stochastic cousins ------------------------------------------------------------


@torch.no_grad()
def ddim(
    D: Denoiser, x: Tensor, ts: Tensor, cond: Tensor | None = None, *, eta: float = 0.0, noise: Noise = torch.randn_like
) -> Iterator[Step]:
    """DDIM (Song et al. 2020, arXiv 2010.02502, eq. 12 and 16): eta 0 is deterministic, eta 1 is DDPM.

    x [B, *S] at ts[0]; ts [n + 1]; with eta = 0 they may also rise, from data to noise.
    """
    c = D.schedule.table(ts)
    for i in range(len(ts) - 1):
        a, s, a1, s1 = c.alpha[i], c.sigma[i], c.alpha[i + 1], c.sigma[i + 1]
        x0 = D(x, _full(x, ts[i]), cond)
        eps = (x - a * x0) / s
        std = eta * s1 * math.sqrt(1 - (a * s1 / (a1 * s)) ** 2) if eta else 0.0
        x = a1 * x0 + math.sqrt(s1**2 - std**2) * eps
        if std:
            x = x + std * noise(x)
        yield Step(i + 1, float(ts[i + 1]), x, x0, i + 1)


def ddpm(
    D: Denoiser, x: Tensor, ts: Tensor, cond: Tensor | None = None, *, noise: Noise = torch.randn_like
) -> Iterator[Step]:
    """DDPM's ancestral sampling (Ho et al. 2020, arXiv 2006.11239, alg. 2, posterior variance): `ddim` with eta 1."""
    return ddim(D, x, ts, cond, eta=1.0, noise=noise)


@torch.no_grad()
def dpmpp_2m(D: Denoiser, x: Tensor, ts: Tensor, cond: Tensor | None = None) -> Iterator[Step]:
    """DPM-Solver++(2M): second order from one call a step, by remembering the last (arXiv 2211.01095, alg. 2)."""
    c = D.schedule.table(ts)
    previous = None
    for i in range(len(ts) - 1):
        h = c.lam[i + 1] - c.lam[i]
        x0 = D(x, _full(x, ts[i]), cond)
        guess = x0
        if previous is not None and math.isfinite(h):
            r = (c.lam[i] - c.lam[i - 1]) / h
            guess = x0 + (x0 - previous) / (2 * r)  # x0 half a step on, by linear extrapolation in lambda
        x = c.sigma[i + 1] / c.sigma[i] * x - c.alpha[i + 1] * math.expm1(-h) * guess
        previous = x0
        yield Step(i + 1, float(ts[i + 1]), x, x0, i + 1)


# The probability-flow ODE -----------------------------------------------------------------------------------------


def _ode_slope(c: Coeffs, i: int, x: Tensor, x0: Tensor) -> Tensor:
    """dx/dt = f x - g2 score / 2 (Song et al. 2021, arXiv 2011.13456, eq. 13)."""
    return c.f[i] * x - 0.5 * c.g2[i] * (c.alpha[i] * x0 - x) / c.sigma[i] ** 2


@torch.no_grad()
def ode(
    D: Denoiser, x: Tensor, ts: Tensor, cond: Tensor | None = None, *, method: Literal["heun", "euler"] = "heun"
) -> Iterator[Step]:
    """The probability-flow ODE on a fixed grid. ts falls to decode and rises to encode; all t must have sigma > 0."""
    if method not in ("heun", "euler"):
        raise ValueError(f"Unknown method {method!r}; choose heun or euler.")
    c = D.schedule.table(ts)
    for i in range(len(ts) - 1):
        h = float(ts[i + 1] - ts[i])
        x0 = D(x, _full(x, ts[i]), cond)
        slope = _ode_slope(c, i, x, x0)
        if method == "heun":
            trial = x + h * slope
            x0 = D(trial, _full(x, ts[i + 1]), cond)
            slope = 0.5 * (slope + _ode_slope(c, i + 1, trial, x0))
        x = x + h * slope
        yield Step(i + 1, float(ts[i + 1]), x, x0, (i + 1) * (2 if method == "heun" else 1))


# Dormand & Prince 1980: nodes, stages, and the difference between the solutions of order 5 and 4.
_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@torch.no_grad()
def rk45(
    D: Denoiser,
    x: Tensor,
    t0: float,
    t1: float,
    cond: Tensor | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_nfe: int = 2000,
) -> Iterator[Step]:
    """The probability-flow ODE from t0 to t1, either way, with steps as long as the tolerance allows.

    One step length serves the batch, that of its most difficult sample: alone or in company, a sample agrees to
    within the tolerance, not to the bit. Yields accepted steps; raises RuntimeError after max_nfe network calls.
    """
    i, t, h, nfe = 0, t0, 0.01 * (t1 - t0), 0
    first = None  # the slope at (t, x); the last stage of an accepted step is the next one's first
    while t != t1:
        end = t1 if abs(h) >= abs(t1 - t) else t + h
        h = end - t
        c = D.schedule.table(torch.tensor([t + node * h for node in _NODES[:-1]] + [end], dtype=torch.float64))
        slopes = [] if first is None else [first]
        for k in range(len(slopes), 7):
            trial = x + h * sum(b * slope for b, slope in zip(_STAGES[k], slopes, strict=True) if b)
            x0 = D(trial, _full(x, t + _NODES[k] * h if k < 5 else end), cond)
            slopes.append(_ode_slope(c, k, trial, x0))
            nfe += 1
        error = h * sum(e * slope for e, slope in zip(_ERROR, slopes, strict=True) if e)
        scale = atol + rtol * torch.maximum(x.abs(), trial.abs())
        worst = (error / scale).flatten(1).square().mean(dim=1).sqrt().max().item()
        if worst <= 1:
            i, t, x, first = i + 1, end, trial, slopes[-1]  # the last stage is taken at the solution of order 5
            yield Step(i, t, x, x0, nfe)
        else:
            first = slopes[0]
        if nfe > max_nfe and t != t1:
            raise RuntimeError(f"RK45 made {nfe} network calls without arriving; use a larger tolerance than {rtol:g}.")
        h *= min(5.0, max(0.2, 0.9 * max(worst, 1e-10) ** -0.2))


# Stochastic samplers ----------------------------------------------------------------------------------------------


@torch.no_grad()
def reverse_sde(
    D: Denoiser, x: Tensor, ts: Tensor, cond: Tensor | None = None, *, noise: Noise = torch.randn_like
) -> Iterator[Step]:
    """Euler-Maruyama on dx = (f x - g2 score) dt + sqrt(g2) dw, backwards (arXiv 2011.13456, eq. 6)."""
    c = D.schedule.table(ts)
    for i in range(len(ts) - 1):
        x0 = D(x, _full(x, ts[i]), cond)
        x = _reverse_sde_step(c, i, float(ts[i + 1] - ts[i]), x, x0, noise)
        yield Step(i + 1, float(ts[i + 1]), x, x0, i + 1)


def _reverse_sde_step(c: Coeffs, i: int, h: float, x: Tensor, x0: Tensor, noise: Noise) -> Tensor:
    score = (c.alpha[i] * x0 - x) / c.sigma[i] ** 2
    return x + h * (c.f[i] * x - c.g2[i] * score) + math.sqrt(c.g2[i] * abs(h)) * noise(x)


@torch.no_grad()
def predictor_corrector(
    D: Denoiser,
    x: Tensor,
    ts: Tensor,
    cond: Tensor | None = None,
    *,
    snr: float = 0.16,
    corrections: int = 1,
    noise: Noise = torch.randn_like,
) -> Iterator[Step]:
    """A step of the reverse SDE, then Langevin steps at the time arrived at (arXiv 2011.13456, alg. 1).

    The Langevin step is 2 alpha (snr sigma)^2, alpha the signal's scale: a function of t alone. The paper's,
    (snr |z| / |score|)^2, depends on the state: in few dimensions that gives the modes wrong weights, and its batch
    mean ties samples to neighbours.
    """
    c = D.schedule.table(ts)
    for i in range(len(ts) - 1):
        x0 = D(x, _full(x, ts[i]), cond)
        x = _reverse_sde_step(c, i, float(ts[i + 1] - ts[i]), x, x0, noise)
        a, s = c.alpha[i + 1], c.sigma[i + 1]
        step = 2 * a * (snr * s) ** 2
        for _ in range(corrections):
            x0 = D(x, _full(x, ts[i + 1]), cond)
            x = _langevin_step(x, (a * x0 - x) / s**2, step, noise)
        yield Step(i + 1, float(ts[i + 1]), x, x0, (i + 1) * (1 + corrections))


def _langevin_step(x: Tensor, score: Tensor, step: float, noise: Noise) -> Tensor:
    return x + step * score + math.sqrt(2 * step) * noise(x)


# Sampling from a score, without a reverse process -----------------------------------------------------------------


@torch.no_grad()
def langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, step: float, n: int, noise: Noise = torch.randn_like
) -> Iterator[Tensor]:
    """n steps x + step score(x) + sqrt(2 step) z of the unadjusted Langevin dynamics; yields x [B, *S] after each."""
    for _ in range(n):
        x = _langevin_step(x, score(x), step, noise)
        yield x


def annealed_langevin(
    score: Callable[[Tensor, float], Tensor],
    x: Tensor,
    sigmas: list[float],
    *,
    n: int = 100,
    step: float = 1e-5,
    noise: Noise = torch.randn_like,
) -> Iterator[Tensor]:
    """n Langevin steps at each noise level, from the largest down (Song & Ermon 2019, arXiv 1907.05600, alg. 1).

    score(x, sigma) is that of the data noised by sigma. The step is `step` at the last level and grows with sigma^2.
    """
    for sigma in sigmas:
        level = partial(score, sigma=sigma)
        for y in langevin(level, x, step * (sigma / sigmas[-1]) ** 2, n, noise):
            yield y
        x = y


# Calling them by name ---------------------------------------------------------------------------------------------


class Sampler(NamedTuple):
    """How the app, the command line and the benchmarks call a sampler.

    run(D, x, ts, cond, eta, noise) -> Iterator[Step]; `calls` network calls a step (None: as many as it takes).
    `stochastic`: whether fresh noise enters at every step; where a sampler `uses_eta`, it does for eta > 0.
    """

    label: str
    run: Callable[[Denoiser, Tensor, Tensor, Tensor | None, float, Noise], Iterator[Step]]
    stochastic: bool
    calls: int | None = 1
    uses_eta: bool = False

    def deterministic(self, eta: float = 0.0) -> bool:
        """Whether the starting noise alone decides the result, as when an ODE is solved."""
        return not (self.stochastic or (self.uses_eta and eta > 0))


SAMPLERS: dict[str, Sampler] = {
    "dpmpp_2m": Sampler(
        "DPM-Solver++(2M)", lambda D, x, ts, cond, eta, noise: dpmpp_2m(D, x, ts, cond), stochastic=False
    ),
    "ddim": Sampler(
        "DDIM",
        lambda D, x, ts, cond, eta, noise: ddim(D, x, ts, cond, eta=eta, noise=noise),
        stochastic=False,
        uses_eta=True,
    ),
    "ddpm": Sampler("DDPM", lambda D, x, ts, cond, eta, noise: ddpm(D, x, ts, cond, noise=noise), stochastic=True),
    "heun": Sampler("Heun (ODE)", lambda D, x, ts, cond, eta, noise: ode(D, x, ts, cond), stochastic=False, calls=2),
    "euler": Sampler(
        "Euler (ODE)", lambda D, x, ts, cond, eta, noise: ode(D, x, ts, cond, method="euler"), stochastic=False
    ),
    "rk45": Sampler(
        "RK45 (ODE)",
        lambda D, x, ts, cond, eta, noise: rk45(D, x, float(ts[0]), float(ts[-1]), cond),
        stochastic=False,
        calls=None,
    ),
    "reverse_sde": Sampler(
        "Euler-Maruyama (SDE)",
        lambda D, x, ts, cond, eta, noise: reverse_sde(D, x, ts, cond, noise=noise),
        stochastic=True,
    ),
    "predictor_corrector": Sampler(
        "Predictor-corrector",
        lambda D, x, ts, cond, eta, noise: predictor_corrector(D, x, ts, cond, noise=noise),
        stochastic=True,
        calls=2,
    ),
}


def seeded_noise(seeds: list[int]) -> Noise:
    """Noise whose row k comes from a generator seeded seeds[k]: image k does not depend on the batch it is in.

    Drawn on the CPU, so that a seed means the same image on every device. Calling it again goes on where it was.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(x: Tensor) -> Tensor:
        if len(x) != len(generators):
            raise ValueError(f"There are {len(generators)} seeds for a batch of {len(x)}; one a sample is needed.")
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)

    return noise


def generate(
    D: Denoiser,
    shape: tuple[int, ...],
    sampler: str,
    *,
    steps: int,
    seeds: list[int],
    cond: Tensor | None = None,
    spacing: Spacing = "lam",
    eta: float = 0.0,
    start: tuple[Tensor, float] | None = None,
) -> Iterator[Step]:
    """Samples from pure noise: steps - 1 moves from t_max to t_min and one last denoise, whose Step.x is the result.

    shape (B, *S) with one seed a sample; cond [B] or None; start: a state x and its time to begin at, where that shall
    not be noise drawn from the seeds. n steps of a one-call sampler are n network calls, and n steps of Heun's 2 n - 1.
    Raises ValueError for an unknown sampler, fewer than 1 step or seeds that do not match.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}; choose one of {', '.join(SAMPLERS)}.")
    if steps < 1:
        raise ValueError(f"At least 1 step is needed, not {steps}.")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0 (deterministic) and 1 (DDPM), not {eta}.")
    x, t = start or (None, None)
    ts = timesteps(D.schedule, steps - 1, spacing, t)
    noise = seeded_noise(seeds)
    if x is None:
        like = next(D.parameters(), torch.zeros(()))
        x = D.schedule.sigma(ts[0]).item() * noise(torch.empty(shape, device=like.device, dtype=like.dtype))
    return _run_and_denoise(D, x, ts, cond, sampler, eta, noise)


@torch.no_grad()
def _run_and_denoise(D, x, ts, cond, sampler, eta, noise) -> Iterator[Step]:
    last = Step(0, float(ts[0]), x, x, 0)
    if len(ts) > 1:
        for last in SAMPLERS[sampler].run(D, x, ts, cond, eta, noise):
            yield last
    x0 = D(last.x, _full(last.x, ts[-1]), cond)  # what noise is left at t_min would show, and spoil FID
    yield Step(last.i + 1, float(ts[-1]), x0, x0, last.nfe + 1)


def _full(x: Tensor, t: float | Tensor) -> Tensor:
    """The time t, once a sample -> [B], in x's dtype and on its device."""
    return torch.full((len(x),), float(t), device=x.device, dtype=x.dtype)
