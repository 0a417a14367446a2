"""Latent paths in number: where the ends of many pairs come from, and what the images between them are worth."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoint import Model
from .classifier import Judge
from .data import ImageSet
from .denoisers import Clipped, Guided
from .evaluate import distance_interval, features, logits
from .images import to_tensor
from .interpolate import WAYS, Approach, Path, encode, follow, in_steps, walk
from .metrics import FeatureStats, atypicality, frechet_distance
from .samplers import generate, seeded_noise

SOURCES = ("data", "generated", "noise")
APPROACHES: dict[Approach, str] = {
    "a": "reverse SDE, no class",
    "b": "reverse SDE, guided",
    "c": "probability-flow ODE",
}


@dataclass(frozen=True)
class Walk:
    """Everything that a path depends on besides its ends. Raises ValueError, naming the value, for what cannot be.

    way        what moves, a key of WAYS
    depth      the time t at which the latents are taken, at most the schedule's t_max
    positions  how many images, both ends among them
    steps      of each encoding and decoding
    guidance   of approach (b)
    """

    class_a: str
    class_b: str
    way: str = "slerp"
    depth: float = 0.5
    positions: int = 9
    steps: int = 20
    guidance: float = 2.0
    seed: int = 0

    def __post_init__(self):
        if self.class_a == self.class_b:
            raise ValueError(f"Both ends are of class {self.class_a!r}; choose two different classes.")
        if self.way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, not {self.way!r}.")
        limits = (
            ("depth", 0.1, 1),
            ("positions", 3, 15),
            ("steps", 5, 200),
            ("guidance", 0, 100),
            ("seed", 0, 2**31 - 1),
        )
        for name, low, high in limits:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")

    @property
    def weights(self) -> Tensor:
        """How far each position is from a to b: [positions], from 0 to 1."""
        return torch.linspace(0, 1, self.positions, dtype=torch.float64)


def class_pairs(classes: list[str], n: int, seed: int) -> list[tuple[str, str]]:
    """n pairs of two different classes, drawn by the seed, none of them twice before all have come."""
    every = list(combinations(classes, 2))
    random.Random(seed).shuffle(every)
    return [every[k % len(every)] for k in range(n)]


def ends(model: Model, source: str, name: str, seeds: list[int], images: ImageSet | None = None) -> Tensor:
    """One image of class `name` a seed -> [N, C, H, W] in [-1, 1], on the CPU.

    source "data": image number seed of that class in `images`, counted round; "generated": DPM-Solver++(2M) in 20
    steps at guidance 2.
    """
    label = model.label(name)
    if source == "generated":
        cond = model.conditions(name, len(seeds))
        D = Clipped(Guided(model.denoiser, 2.0))
        *_, last = generate(D, (len(seeds), *model.shape), "dpmpp_2m", steps=20, seeds=seeds, cond=cond)
        return model.codec.decode(last.x).cpu()
    if source != "data":
        raise ValueError(f"The ends of a path come from {' or '.join(SOURCES)}, not {source!r}.")
    if images is None:
        raise ValueError("The data set is not on this machine; take generated ends.")
    label = images.classes.index(name)
    members = (images.labels == label).nonzero()[0]
    return to_tensor(images.images[[members[seed % len(members)] for seed in seeds]])


def latents(model: Model, seeds: list[int]) -> Tensor:
    """Pure noise, as sampling starts from it: [N, *S] at t_max."""
    D = model.denoiser
    like = next(D.parameters())
    t_max = torch.tensor(D.schedule.t_max, dtype=torch.float64)
    shape = model.codec.encode(torch.empty(len(seeds), *model.shape, device=like.device)).shape
    return D.schedule.sigma(t_max).item() * seeded_noise(seeds)(torch.empty(shape, device=like.device))


def noise_pair(model: Model, seeds_a: list[int], seeds_b: list[int]) -> tuple[Tensor, Tensor]:
    """The latents of either end, from two streams: the same number at both ends is not the same noise."""
    return latents(model, seeds_a), latents(model, [seed + 2**31 for seed in seeds_b])


def path(model: Model, spec: Walk, a: Tensor, b: Tensor, *, noise: bool = False) -> Path:
    """The path between images a and b [B, C, H, W], or, with `noise`, between latents of t_max, whatever the depth."""
    D = model.denoiser
    device = next(D.parameters()).device
    classes = tuple(torch.full((len(a),), model.label(name), device=device) for name in (spec.class_a, spec.class_b))
    way, t = WAYS[spec.way], D.schedule.t_max if noise else min(spec.depth, D.schedule.t_max)
    if not noise:
        x = model.codec.encode(torch.cat([a, b]).to(device))
        a, b = encode(D, x, torch.cat(classes) if way.classes else None, in_steps(spec.steps), t).chunk(2)
    return walk(D, a, b, t, way, spec.weights, classes)


def decoded(model: Model, spec: Walk, way: Path, approach: Approach) -> Tensor:
    """The images of a path between one pair, [K, C, H, W] on the CPU."""
    run = follow(approach, model.denoiser, way, steps=spec.steps, guidance=spec.guidance, seeds=[spec.seed])
    [last] = deque(run, maxlen=1)
    return model.codec.decode(last.x).cpu()


def lengths(spec: Walk, way: Path) -> dict[str, list[float]]:
    """|z| / sqrt(d) at each position, by slerp and by lerp between the path's ends: the mean over its pairs."""
    first, last = way.z[0], way.z[-1]
    return {
        name: WAYS[name].latent(first, last, spec.weights).flatten(2).square().mean(dim=2).sqrt().mean(dim=1).tolist()
        for name in ("slerp", "lerp")
    }


class Progress(NamedTuple):
    """How many of the pairs are done, the step of those under way, and features [K, done, d] of each approach."""

    done: int
    step: int
    feats: dict[Approach, Tensor]


def journeys(
    model: Model,
    judge: Judge,
    spec: Walk,
    approaches: list[Approach],
    source: str,
    pairs: int,
    images: ImageSet | None = None,
    batch: int = 8,
) -> Iterator[Progress]:
    """Go the same path between many pairs, of which pair k has seed + k; yields at every step of every batch."""
    if not 2 <= pairs <= 2000:
        raise ValueError(f"pairs must lie between 2 and 2000, not {pairs}.")
    feats = {name: torch.empty(spec.positions, 0, judge.network.num_features) for name in approaches}
    for start in range(0, pairs, batch):
        seeds = list(range(spec.seed + start, spec.seed + min(start + batch, pairs)))
        if source == "noise":
            way = path(model, spec, *noise_pair(model, seeds, seeds), noise=True)
        else:
            way = path(model, spec, *(ends(model, source, c, seeds, images) for c in (spec.class_a, spec.class_b)))
        for name in approaches:
            for step in follow(name, model.denoiser, way, steps=spec.steps, guidance=spec.guidance, seeds=seeds):
                yield Progress(start, step.i, feats)
            found = features(judge.network, model.codec.decode(step.x).clamp(-1, 1).cpu())
            feats[name] = torch.cat([feats[name], found.unflatten(0, (spec.positions, len(seeds)))], dim=1)
        yield Progress(start + len(seeds), 0, feats)


def real_between(judge: Judge, class_a: str, class_b: str, w: float, split: str = "test") -> FeatureStats:
    """Statistics of real images of two classes in the proportion (1 - w) to w.

    They are of those images that a judge has kept and itself takes for one of the classes; raises ValueError where
    there are none. Against a fixed mixture each end would be far off for want of the other class, and the middle near
    for having both.
    """
    kept = judge.references[split].sample
    taken = logits(judge.network, kept).argmax(dim=1)
    both = [kept[taken == judge.classes.index(name)] for name in (class_a, class_b)]
    for name, found in zip((class_a, class_b), both, strict=True):
        if len(found) < 2:
            raise ValueError(f"The {judge.name} has kept only {len(found)} images of class {name!r}; 2 are needed.")
    a, b = (FeatureStats().update(found) for found in both)
    gap = b.mean - a.mean
    cov = (1 - w) * a.cov + w * b.cov + w * (1 - w) * gap.outer(gap)
    return FeatureStats.stored(a.mean + w * gap, cov, a.n + b.n)


def worth(judge: Judge, spec: Walk, feats: Tensor) -> list[dict]:
    """What the images at each position are worth, from features [K, N, d].

    distance    Frechet distance of the N images to `real_between` there, with its 95 % interval (low, high)
    p_a, p_b    mean probability that the judge gives to either class
    atypical    mean over single images of their `atypicality` among real images of all classes
    """
    a, b = (judge.classes.index(name) for name in (spec.class_a, spec.class_b))
    rows = []
    for w, here in zip(spec.weights.tolist(), feats, strict=True):
        p = logits(judge.network, here).softmax(dim=1).mean(dim=0)
        row = {"position": w, "p_a": p[a].item(), "p_b": p[b].item(), "n": len(here)}
        row["atypical"] = atypicality(here, judge.references["test"].stats).mean().item()
        if len(here) > 1:
            real = real_between(judge, spec.class_a, spec.class_b, w)
            row["distance"] = frechet_distance(real, FeatureStats().update(here))
            row["low"], row["high"] = distance_interval(here, real, draws=50)
        rows.append(row)
    return rows
