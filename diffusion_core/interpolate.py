"""Between two images: encode both to noise by the probability-flow ODE, walk from one latent to the other, decode.

Three ways of decoding the same latents are compared: (a) the reverse SDE without a class, (b) the same with
classifier-free guidance, (c) the ODE, which alone gives back at either end the image that was encoded.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import Clipped, Denoiser, Guided
from .samplers import Step, dpmpp_2m, generate, rk45, timesteps

Solver = Callable[[Denoiser, Tensor, float, float, Tensor | None], Iterator[Step]]  # (D, x, t0, t1, cond), either way
Approach = Literal["a", "b", "c"]

# There and back ---------------------------------------------------------------------------------------------------


def encode(
    D: Denoiser, x: Tensor, cond: Tensor | None = None, solver: Solver = rk45, depth: float | None = None
) -> Tensor:
    """Data x [B, *S] at t_min -> its latent at time `depth`, by default t_max.

    Deterministic and unique (Song et al. 2021, arXiv 2011.13456, sec. 4.3).

    D must not clip or guide: the flow is only invertible along the model's own velocity field. Guidance stretches it:
    at guidance w != 1 the field is no longer that of any one noising process, and the latent not that of the image.
    """
    return _arrive(solver(D, x, D.schedule.t_min, depth or D.schedule.t_max, cond))


def decode(D: Denoiser, z: Tensor, cond: Tensor | None = None, solver: Solver = rk45) -> Tensor:
    """Latent z [B, *S] at t_max -> data at t_min: the inverse of `encode`."""
    return _arrive(solver(D, z, D.schedule.t_max, D.schedule.t_min, cond))


def _arrive(steps: Iterator[Step]) -> Tensor:
    """The state after the last step, keeping no other."""
    for step in steps:
        last = step
    return last.x


def in_steps(n: int) -> Solver:
    """The ODE in n steps of DPM-Solver++(2M), even in log-SNR: one network call each, and as exact on the way back."""

    def solver(D: Denoiser, x: Tensor, t0: float, t1: float, cond: Tensor | None) -> Iterator[Step]:
        return dpmpp_2m(D, x, timesteps(D.schedule, n, start=t0, stop=t1), cond)

    return solver


# Walking ----------------------------------------------------------------------------------------------------------


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
    flat_a, flat_b = (v.flatten(1).cpu().double() for v in (a, b))  # on the CPU: Apple's GPUs have no float64
    norm_a, norm_b = flat_a.norm(dim=1), flat_b.norm(dim=1)
    angle = torch.arccos(((flat_a / norm_a[:, None]) * (flat_b / norm_b[:, None])).sum(dim=1).clamp(-1, 1))
    w = w.cpu().double()[:, None]
    norm = (1 - w) * norm_a + w * norm_b  # [K, B]
    of_a = torch.sin((1 - w) * angle) / torch.sin(angle) * norm / norm_a
    of_b = torch.sin(w * angle) / torch.sin(angle) * norm / norm_b
    arc = torch.sin(angle) > 1e-6
    of_a, of_b = (torch.where(arc, on_arc, straight) for on_arc, straight in ((of_a, 1 - w), (of_b, w)))
    of_a, of_b = (v.to(a).reshape(*v.shape, *[1] * (a.ndim - 1)) for v in (of_a, of_b))
    return of_a * a + of_b * b


class Way(NamedTuple):
    """What moves: the latent, as `latent` says or not at all; and the class, or not."""

    latent: Callable[[Tensor, Tensor, Tensor], Tensor] | None
    classes: bool


WAYS: dict[str, Way] = {
    "slerp": Way(slerp, False),
    "lerp": Way(lerp, False),
    "class": Way(None, True),
    "slerp + class": Way(slerp, True),
    "lerp + class": Way(lerp, True),
}


class Path(NamedTuple):
    """Latents z [K, B, *S] at time t, at K positions between B pairs of ends, and the classes to decode them with.

    cond   [K, B, classes + 1] for the flow, None where the class does not move
    asked  [K, B, classes + 1] for guidance: the moving class, else that of the nearer end; None without classes
    """

    z: Tensor
    t: float
    cond: Tensor | None
    asked: Tensor | None


def walk(
    D: Denoiser, a: Tensor, b: Tensor, t: float, way: Way, w: Tensor, classes: tuple[Tensor, Tensor] | None = None
) -> Path:
    """The path between latents a and b [B, *S] of time t at weights w [K]; `classes`: the labels [B] of either end.

    Where the class moves, the condition is a mixture of both, of whose class embeddings the network takes the mean.
    The latents then have to come from `encode` with the ends' own classes, and else from `encode` without.
    """
    z = way.latent(a, b, w) if way.latent else a.expand(len(w), *a.shape)
    if classes is None or D.null is None:
        if way.classes:
            raise ValueError("This model has no classes to go from one to the other; walk in the latent.")
        return Path(z, t, None, None)
    one_hot = [F.one_hot(labels, D.null + 1).to(a) for labels in classes]
    if way.classes:
        moving = lerp(*one_hot, w)
        return Path(z, t, moving, moving)
    return Path(z, t, None, lerp(*one_hot, w.round()))


def follow(
    approach: Approach, D: Denoiser, path: Path, *, steps: int, guidance: float, seeds: list[int]
) -> Iterator[Step]:
    """Decode all of a path at once: `Step`s of x [K * B, *S], position by position.

    (a) and (b) draw fresh noise in DDPM's ancestral steps, which discretise the reverse SDE (arXiv 2011.13456, app.
    E), from one seed a pair: the same noise all along the path. From pure noise, at t_max, they come to nearly the same
    image everywhere: the fresh noise, not the latent, decides. A latent of an earlier time decides more (Ho et al.
    2020, arXiv 2006.11239, fig. 8 and 9). (c) is deterministic and ends at t_min, where `encode` began.
    """
    K, B = path.z.shape[:2]
    z = path.z.flatten(0, 1)
    cond, asked = (None if v is None else v.flatten(0, 1) for v in (path.cond, path.asked))
    if approach == "c":
        return in_steps(steps)(D, z, path.t, D.schedule.t_min, cond)
    D = Clipped(Guided(D, 0.0 if approach == "a" or asked is None else guidance))
    return generate(D, (K * B, *z.shape[1:]), "ddpm", steps=steps, seeds=seeds * K, cond=asked, start=(z, path.t))
