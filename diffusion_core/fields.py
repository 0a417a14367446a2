"""Score fields in the plane: learned by score matching, held against the exact one, and followed by particles.

A field is a `Denoiser` under `SCHEDULE`, which only adds noise: x_t = x0 + sigma eps, and its score is
(E[x0 | x_t] - x_t) / sigma^2. So the exact field is a `MixtureDenoiser`, a learned one a `NetDenoiser`, and every
sampler takes either.
"""

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .denoisers import Denoiser, NetDenoiser, to_score
from .losses import denoising_score_matching, explicit_score_matching, sample_times, sliced_score_matching
from .metrics import energy_distance
from .mixtures import MixtureDenoiser
from .networks import MLP, ema_update
from .plane import PlaneData
from .samplers import SAMPLERS, Noise, annealed_langevin, langevin, timesteps
from .schedules import VE

SCHEDULE = VE(sigma_min=0.2, sigma_max=10.0)  # from finer than the data's finest part to wider than its widest
AVERAGE = 16.97  # exponent of the average over training: its width is 5 % of the steps so far
EDGE = 0.05  # share of the noised data that counts as its edge
OBJECTIVES = {
    "explicit": "Exact trace (Hyvärinen)",
    "sliced": "Sliced",
    "sliced_vr": "Sliced, variance reduced",
    "denoising": "Denoising",
}


@lru_cache(maxsize=1000)
def time_of(sigma: float) -> float:
    """The time at which SCHEDULE's noise is sigma. Raises ValueError outside its range."""
    lo, hi = SCHEDULE.sigma_min, SCHEDULE.sigma_max
    if not lo <= sigma <= hi:
        raise ValueError(f"The noise level must lie between {lo:g} and {hi:g}, not {sigma:g}.")
    return math.log(sigma / lo) / math.log(hi / lo)


def score(D: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """The field's score of the data noised by sigma, at x [B, 2] -> [B, 2]."""
    t = torch.full((len(x),), time_of(sigma), dtype=x.dtype)
    return to_score(D(x, t), x, 1.0, sigma)


def exact_field(data: PlaneData) -> MixtureDenoiser:
    return MixtureDenoiser(data.mixture, SCHEDULE)


def noise_from(generator: torch.Generator) -> Noise:
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


# Learning ---------------------------------------------------------------------------------------------------------


def new_field(seed: int = 0, width: int = 64, depth: int = 3) -> NetDenoiser:
    """An untrained network. The global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NetDenoiser(MLP(2, width, depth), SCHEDULE, "eps")


def loss(D: NetDenoiser, objective: str, x0: Tensor, t: Tensor, noise: Noise, projections: int = 1) -> Tensor:
    """The objective for data x0 [B, 2] noised to times t [B], in units of each point's sigma -> [].

    Measuring lengths in sigma turns the score into sigma score = -eps, and gives every level the weight sigma^2 that
    makes them comparable (Song & Ermon 2019, arXiv 1907.05600, eq. 6), whichever the objective.
    """
    sigma = D.schedule.sigma(t)[:, None]

    def scaled_score(u: Tensor) -> Tensor:
        copies = len(u) // len(t)  # sliced score matching asks at each point once a projection
        return -D.output(sigma.repeat(copies, 1) * u, t.repeat(copies))

    u0 = x0 / sigma
    if objective == "denoising":
        return denoising_score_matching(scaled_score, u0, 1.0, noise=noise)
    u = u0 + noise(u0)
    if objective == "explicit":
        return explicit_score_matching(scaled_score, u)
    if objective not in OBJECTIVES:
        raise ValueError(f"Unknown objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    reduced = objective == "sliced_vr"
    return sliced_score_matching(scaled_score, u, projections=projections, variance_reduced=reduced, noise=noise)


class Progress(NamedTuple):
    """After a step of training: how many, the loss on its batch, and the field as it is now."""

    step: int
    loss: float
    field: NetDenoiser


def train(
    data: PlaneData,
    objective: str,
    *,
    sigma: float | None = None,
    lr: float = 1e-3,
    batch: int = 128,
    projections: int = 1,
    seed: int = 0,
) -> Iterator[Progress]:
    """Train a new field on fresh samples, a step at each yield, for as long as the caller goes on.

    sigma: the one noise level to learn, or None for all of them (a network conditional on noise, its levels drawn
    evenly in log sigma). The field, one object throughout, averages the weights so far, as `ema_update` does.
    """
    net, field = new_field(seed), new_field(seed).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr, fused=True)
    generator = torch.Generator().manual_seed(seed)
    noise = noise_from(generator)
    only = None if sigma is None else torch.full((batch,), time_of(sigma))
    step = 0
    while True:
        x0 = data.mixture.sample(batch, generator)
        t = sample_times(SCHEDULE, batch, "stratified", generator=generator) if only is None else only
        with torch.enable_grad():
            value = loss(net, objective, x0, t, noise, projections)
            optimizer.zero_grad()
            value.backward()
        optimizer.step()
        ema_update(field.net, net.net, step, AVERAGE)
        step += 1
        yield Progress(step, value.item(), field)


def smoothed(losses: list[float], points: int = 100) -> list[tuple[float, float]]:
    """A run's losses as at most `points` pairs of step and mean loss around it: single batches are noisy."""
    parts = torch.tensor(losses).tensor_split(min(points, max(1, len(losses) // 5)))
    ends = torch.tensor([len(p) for p in parts]).cumsum(0)
    return [(end.item() - len(p) / 2, p.mean().item()) for p, end in zip(parts, ends, strict=True)]


# Right or wrong ---------------------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """Of a field's score s against the exact s*, over samples of the noised data and over those at its edge.

    mse, edge_mse            means of |s - s*|^2
    relative, edge_relative  square roots of those over the means of |s*|^2
    """

    mse: float
    relative: float
    edge_mse: float
    edge_relative: float


@torch.no_grad()
def errors(D: Denoiser, data: PlaneData, sigma: float, n: int = 4000, seed: int = 0) -> Errors:
    """Over n samples of the data noised by sigma; its edge is the EDGE of them where the density is lowest."""
    generator = torch.Generator().manual_seed(seed)
    x0 = data.mixture.sample(n, generator)
    x = x0 + sigma * noise_from(generator)(x0)
    exact = data.mixture.score(x, 1.0, sigma)
    error2, size2 = (v.square().sum(dim=1) for v in (score(D, x, sigma) - exact, exact))
    edge = data.mixture.log_prob(x, 1.0, sigma).topk(max(1, round(EDGE * n)), largest=False).indices
    mse, edge_mse = error2.mean().item(), error2[edge].mean().item()
    relative, edge_relative = (e.sum() / s.sum() for e, s in ((error2, size2), (error2[edge], size2[edge])))
    return Errors(mse, relative.sqrt().item(), edge_mse, edge_relative.sqrt().item())


def gradient_variance(
    D: NetDenoiser, data: PlaneData, objective: str, sigma: float, *, projections: int = 1, repeats: int = 40
) -> float:
    """Total variance, over batches of 128, of the gradient that training with `objective` follows at the field D.

    All objectives have the same mean gradient, up to what their expectations leave out: none depends on the weights.
    """
    D = deepcopy(D).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    t = torch.full((128,), time_of(sigma))
    gradients = []
    for _ in range(repeats):
        x0 = data.mixture.sample(128, generator)
        with torch.enable_grad():
            value = loss(D, objective, x0, t, noise_from(generator), projections)
            parts = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in parts if g is not None]))
    return torch.stack(gradients).var(dim=0).sum().item()


class Rival(NamedTuple):
    """What an objective reached in its time: steps, relative error, and the variance of the gradient it followed."""

    objective: str
    steps: int
    relative: float
    variance: float


def compare(data: PlaneData, sigma: float, seconds: float, **options) -> Iterator[Rival | None]:
    """Train with each objective in turn for the same CPU time; yields a Rival after each, None while at it.

    The variance of all gradients is taken at the same place, the first objective's field. options as for `train`.
    """
    place = None
    for objective in OBJECTIVES:
        run, spent = train(data, objective, sigma=sigma, **options), 0.0
        while spent < seconds:
            began = time.thread_time()
            progress = next(run)
            spent += time.thread_time() - began  # step by step: the caller may go on in another thread
            yield None
        place = place or progress.field
        projections = options.get("projections", 1)
        variance = gradient_variance(place, data, objective, sigma, projections=projections)
        yield Rival(objective, progress.step, errors(progress.field, data, sigma).relative, variance)


def errors_by_level(D: Denoiser, data: PlaneData, n: int = 1000, levels: int = 11) -> list[tuple[float, float]]:
    """The relative error at levels from sigma_min to sigma_max, as pairs of sigma and error."""
    lo, hi = SCHEDULE.sigma_min, SCHEDULE.sigma_max
    sigmas = [lo * (hi / lo) ** (k / (levels - 1)) for k in range(levels - 1)] + [hi]
    return [(sigma, errors(D, data, sigma, n).relative) for sigma in sigmas]


# Particles --------------------------------------------------------------------------------------------------------

METHODS = {
    "langevin": "Langevin, one level",
    "annealed": "Annealed Langevin",
    "reverse_sde": "Reverse SDE",
    "ode": "Probability-flow ODE",
    "predictor_corrector": "Predictor-corrector",
}
LEVELS = 20  # of annealed Langevin, evenly spread in log sigma


class Moment(NamedTuple):
    """Particles x [N, 2] on their way, where the noise is sigma, after so many network calls."""

    x: Tensor
    sigma: float
    calls: int


def start(data: PlaneData, n: int, seed: int = 0) -> Tensor:
    """n particles from the Gaussian with the mean and covariance of the data at the highest noise level -> [n, 2]."""
    mean, cov = data.moments()
    root = torch.linalg.cholesky(cov + SCHEDULE.sigma_max**2 * torch.eye(2))
    return mean + torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) @ root.T


def langevin_step(data: PlaneData, sigma: float, share: float) -> float:
    """A step of Langevin dynamics, as a share of the smallest variance there is in the noised data."""
    return share * (data.mixture.variances.min().item() + sigma**2)


def travel(
    method: str, D: Denoiser, x: Tensor, calls: int, *, sigma: float, step: float, share: float, seed: int = 0
) -> Iterator[Moment]:
    """Move particles x [N, 2] with about `calls` network calls by one of METHODS, beginning with where they are.

    Langevin stays at noise level sigma and takes steps of `step`; annealed Langevin's steps are `share` of sigma^2 at
    each of its levels; the other three follow the time of SCHEDULE and heed none of these.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown way to sample {method!r}; choose one of {', '.join(METHODS)}.")
    noise = noise_from(torch.Generator().manual_seed(seed))
    lo, hi = SCHEDULE.sigma_min, SCHEDULE.sigma_max
    if method == "langevin":
        yield Moment(x, sigma, 0)
        for k, moved in enumerate(langevin(lambda x: score(D, x, sigma), x, step, calls, noise)):
            yield Moment(moved, sigma, k + 1)
    elif method == "annealed":
        sigmas, n = (
            torch.logspace(math.log10(hi), math.log10(lo), LEVELS).clamp(lo, hi).tolist(),
            max(1, calls // LEVELS),
        )
        run = annealed_langevin(lambda x, sigma: score(D, x, sigma), x, sigmas, n=n, step=share * lo**2, noise=noise)
        yield Moment(x, hi, 0)
        for k, moved in enumerate(run):
            yield Moment(moved, sigmas[k // n], k + 1)
    else:
        sampler = SAMPLERS["heun" if method == "ode" else method]
        ts = timesteps(SCHEDULE, max(1, calls // sampler.calls))
        yield Moment(x, hi, 0)
        for s in sampler.run(D, x, ts, None, 0.0, noise):
            yield Moment(s.x, SCHEDULE.sigma(torch.tensor(s.t)).item(), s.nfe)


class Outcome(NamedTuple):
    """Where particles are: their share in each mode, how far that is from the truth, and their energy distance.

    weight_error is the total variation distance, the share of the particles that is in the wrong mode.
    """

    weights: list[float]
    weight_error: float
    energy: float


def outcome(data: PlaneData, moment: Moment, n: int = 500) -> Outcome:
    """The distance is between the first n particles and as many samples of the data itself."""
    weights = data.mode_weights(moment.x, moment.sigma)
    reference = data.mixture.sample(n, torch.Generator().manual_seed(1))
    wrong = 0.5 * (weights - data.true_weights()).abs().sum().item()
    return Outcome(weights.tolist(), wrong, energy_distance(moment.x[:n], reference))


def true_outcome(data: PlaneData, n: int) -> Outcome:
    """What `outcome` says of n samples of the data: as good as it gets with so many."""
    return outcome(data, Moment(data.mixture.sample(n, torch.Generator().manual_seed(2)), 0.0, 0))
