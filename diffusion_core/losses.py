"""What is minimised: the denoising loss of diffusion models, and score matching in its three forms."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .denoisers import NetDenoiser, to_eps, to_v
from .schedules import Schedule, over_batch

Times = Literal["lognormal", "stratified", "uniform"]  # how training times are drawn
Score = Callable[[Tensor], Tensor]  # x [B, d] -> grad log p(x) [B, d]


# Denoising --------------------------------------------------------------------------------------------------------


def denoising_loss(
    D: NetDenoiser,
    x0: Tensor,
    cond: Tensor | None,
    t: Tensor,
    eps: Tensor,
    *,
    loss: Literal["l2", "l1", "huber"] = "l2",
    weight: Literal["none", "min_snr"] = "none",
) -> Tensor:
    """How far D's output is from its target at x_t = alpha x0 + sigma eps, a mean over each image -> [B].

    x0, eps [B, *S]; cond [B] or None; t [B]. "min_snr" is the weight of Hang et al. 2023 (arXiv 2303.09556) with
    gamma = 5, which keeps the nearly clean levels from dominating.
    """
    alpha, sigma = over_batch(D.schedule.alpha(t), x0), over_batch(D.schedule.sigma(t), x0)
    x = D.schedule.perturb(x0, t, eps)
    target = {"x0": lambda: x0, "eps": lambda: eps, "v": lambda: to_v(x0, x, alpha, sigma)}[D.prediction]()
    error = (D.output(x, t, cond) - target).float()
    per_image = LOSSES[loss](error).flatten(1).mean(dim=1)
    if weight == "min_snr":
        per_image = per_image * min_snr_weight((alpha / sigma).flatten() ** 2, D.prediction)
    return per_image


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Quadratic near zero, linear beyond delta (Huber 1964), elementwise."""
    size = error.abs()
    return torch.where(size < delta, 0.5 * error**2, delta * (size - 0.5 * delta))


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"l2": torch.square, "l1": torch.abs, "huber": huber}


def min_snr_weight(snr: Tensor, prediction: str, gamma: float = 5.0) -> Tensor:
    """min(snr, gamma) on the error of x0, translated to the error of what is predicted."""
    in_x0 = snr.clamp(max=gamma)
    return {"x0": in_x0, "eps": in_x0 / snr, "v": in_x0 / (snr + 1)}[prediction]


def sample_times(
    schedule: Schedule,
    n: int,
    method: Times,
    *,
    mean: float = -1.2,
    std: float = 1.2,
    generator: torch.Generator | None = None,
    device=None,
) -> Tensor:
    """n training times in [t_min, t_max] -> [n], float32.

    uniform     independent
    stratified  one uniform number, spread evenly over the batch: less variance for free (arXiv 2107.00630)
    lognormal   log(sigma / alpha) ~ N(mean, std^2): most effort where most is learned (arXiv 2206.00364)
    """
    if method == "lognormal":
        z = torch.randn(n, generator=generator, device=device)
        return schedule.t_from_lam(-(mean + std * z)).clamp(schedule.t_min, schedule.t_max)
    if method == "stratified":
        first = torch.rand(1, generator=generator, device=device)
        u = (first + torch.arange(n, device=device) / n) % 1
    elif method == "uniform":
        u = torch.rand(n, generator=generator, device=device)
    else:
        raise ValueError(f"Unknown time sampling {method!r}; choose uniform, stratified or lognormal.")
    return schedule.t_min + u * (schedule.t_max - schedule.t_min)


def time_density(
    schedule: Schedule,
    t: Tensor,
    method: Times,
    mean: float = -1.2,
    std: float = 1.2,
) -> Tensor:
    """How densely `sample_times` draws at t [n] -> [n]; its integral from t_min to t_max is 1.

    With "lognormal", N(log(sigma / alpha); mean, std^2) times d log(sigma / alpha) / dt = g2 / (2 sigma^2); what falls
    outside of [t_min, t_max], and is drawn at its ends, is left out.
    """
    if method != "lognormal":
        return torch.full_like(t, 1 / (schedule.t_max - schedule.t_min))
    z = (-schedule.lam(t) - mean) / std
    return torch.exp(-0.5 * z**2) / (std * math.sqrt(2 * math.pi)) * schedule.g2(t) / (2 * schedule.sigma2(t))


# Score matching ---------------------------------------------------------------------------------------------------


def explicit_score_matching(score: Score, x: Tensor) -> Tensor:
    """tr(grad s) + |s|^2 / 2, a mean over x [B, d] -> [] (Hyvarinen 2005). Exact, at d derivatives a point.

    Explicit in the trace, as courses call it; Vincent (2011) keeps that word for the distance to the true score, from
    which this differs by a constant, and calls this one implicit.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = score(x)
        trace = sum(torch.autograd.grad(s[:, k].sum(), x, create_graph=True)[0][:, k] for k in range(x.shape[1]))
        return (trace + 0.5 * s.square().sum(dim=1)).mean()


def sliced_score_matching(
    score: Score,
    x: Tensor,
    *,
    projections: int = 1,
    variance_reduced: bool = True,
    noise: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    """v' (grad s) v + (v's)^2 / 2 for random directions v, a mean over x [B, d] and v -> [].

    Song et al. 2019 (arXiv 1905.07088), eq. 7; `variance_reduced` replaces the second term by its mean |s|^2 / 2
    over v ~ N(0, I), eq. 8. One derivative a projection, whatever d is.
    """
    with torch.enable_grad():
        x = x.detach().repeat(projections, 1).requires_grad_()
        v = noise(x).detach()
        s = score(x)
        slices = (v * s).sum(dim=1)
        (slope,) = torch.autograd.grad(slices.sum(), x, create_graph=True)  # (grad s)' v, point by point
        size = s.square().sum(dim=1) if variance_reduced else slices.square()
        return ((v * slope).sum(dim=1) + 0.5 * size).mean()


def denoising_score_matching(
    score: Score, x: Tensor, sigma: float, *, noise: Callable[[Tensor], Tensor] = torch.randn_like
) -> Tensor:
    """sigma^2 |s(x + sigma z) + z / sigma|^2 / 2, a mean over x [B, d] -> [] (Vincent 2011).

    Minimised by the score of the noised data. The factor sigma^2 makes levels comparable, as in Song & Ermon 2019
    (arXiv 1907.05600), eq. 5 and 6.
    """
    z = noise(x)
    noisy = x + sigma * z
    target = -to_eps(x, noisy, 1.0, sigma) / sigma
    return 0.5 * sigma**2 * (score(noisy) - target).square().sum(dim=1).mean()
