"""Between two images: encode both to noise by the probability-flow ODE, walk from one latent to the other, decode."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .denoisers import Denoiser
from .samplers import Step, rk45

Solver = Callable[[Denoiser, Tensor, float, float, Tensor | None], Iterator[Step]]  # (D, x, t0, t1, cond), either way


def encode(D: Denoiser, x: Tensor, cond: Tensor | None = None, solver: Solver = rk45) -> Tensor:
    """Data x [B, *S] at t_min -> its latent at t_max, deterministic (Song et al. 2021, arXiv 2011.13456, sec. 4.3).

    D must not clip or guide: the flow is only invertible along the model's own velocity field.
    """
    return _arrive(solver(D, x, D.schedule.t_min, D.schedule.t_max, cond))


def decode(D: Denoiser, z: Tensor, cond: Tensor | None = None, solver: Solver = rk45) -> Tensor:
    """Latent z [B, *S] at t_max -> data at t_min: the inverse of `encode`."""
    return _arrive(solver(D, z, D.schedule.t_max, D.schedule.t_min, cond))


def _arrive(steps: Iterator[Step]) -> Tensor:
    """The state after the last step, keeping no other."""
    for step in steps:
        last = step
    return last.x


def lerp(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """(1 - w) a + w b for each weight w [K] -> [K, B, *S].

    Halfway between independent latents its norm is down by sqrt(2).
    """
    w = w.to(a).reshape(-1, *[1] * a.ndim)
    return (1 - w) * a + w * b


def slerp(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """From a to b along the arc between them, sample by sample, for each weight w [K] -> [K, B, *S] (Shoemake 1985).

    The norm goes evenly from |a| to |b|, so every point is as typical of the noise as its ends. Parallel or zero
    vectors have no arc; there it is `lerp`.
    """
    dims = list(range(1, a.ndim))
    norm_a, norm_b = (torch.linalg.vector_norm(v.double(), dim=dims, keepdim=True) for v in (a, b))
    unit_a, unit_b = a / norm_a, b / norm_b
    angle = torch.arccos((unit_a * unit_b).sum(dim=dims, keepdim=True).clamp(-1, 1))
    w = w.to(norm_a).reshape(-1, *[1] * a.ndim)
    arc = (torch.sin((1 - w) * angle) * unit_a + torch.sin(w * angle) * unit_b) / torch.sin(angle)
    on_arc = ((1 - w) * norm_a + w * norm_b) * arc
    straight = lerp(a, b, w.flatten())
    return torch.where(torch.sin(angle) > 1e-6, on_arc.to(a), straight)
