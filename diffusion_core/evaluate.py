"""How good a model's samples are, beside what the same numbers are for real images and for noise.

A distance depends on the number of samples, the reference and the features, so a result carries all of them, an
interval, and two anchors taken the same way: real images (the floor) and Gaussian noise (the ceiling).
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import Model
from .classifier import INCEPTION, Judge, packed, unpacked
from .data import TITLES, load_images
from .denoisers import Clipped, Guided, InBfloat16, passes
from .files import read_checked, write_atomically, write_checked
from .images import to_tensor, to_uint8
from .metrics import (
    FeatureStats,
    Reference,
    class_accuracy,
    frechet_distance,
    inception_score,
    kid,
    precision_recall,
)
from .samplers import SAMPLERS, SPACINGS, generate
from .schedules import Discrete

REFERENCES = "diffusion_core.references"

# Features of images -----------------------------------------------------------------------------------------------


@torch.no_grad()
def features(network: nn.Module, x: Tensor, batch: int = 32) -> Tensor:
    """What a judge's network sees in images x [N, C, H, W] in [-1, 1] -> [N, d], on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network.features(part.to(device)).cpu() for part in x.split(batch)])


@torch.no_grad()
def logits(network: nn.Module, feats: Tensor) -> Tensor:
    """A judge's verdicts [N, classes] on features [N, d], on the CPU."""
    return network.head(feats.to(next(network.parameters()).device)).cpu()


def reference(
    network: nn.Module,
    images: np.ndarray,
    *,
    sample: int = 2000,
    seed: int = 0,
    progress: Callable[[int], None] = lambda n: None,
) -> Reference:
    """Statistics of all images [N, H, W, C] uint8, and the features of `sample` of them, drawn at random."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).numpy()
    stats, kept = FeatureStats(), []
    for start in range(0, len(order), 250):
        index = order[start : start + 250]
        found = features(network, to_tensor(images[index]))
        stats.update(found)
        kept.append(found[: max(0, sample - start)])
        progress(len(index))
    return Reference(stats, torch.cat(kept))


def inception_judge(
    dataset: str,
    *,
    weights: str | Path | None = None,
    root: str | Path | None = None,
    kept: Path,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda n: None,
) -> Judge:
    """The network of the FID as a judge of a data set, with references of both splits.

    weights is the file that `inception.find_weights` looks for. The references are read from `kept`, or computed from
    the whole data set (some 100 images a minute and CPU core) and left there.
    """
    from .inception import load_inception  # it costs torchvision

    network, title = load_inception(weights, device), TITLES.get(dataset, dataset)
    if kept.is_file():
        about, tensors = read_checked(kept, REFERENCES, "evaluate --inception")
        references = {split: unpacked(tensors, split, n) for split, n in about["n"].items()}
    else:
        sets = {split: load_images(dataset, split, root).images for split in ("train", "test")}
        references = {split: reference(network, images, progress=progress) for split, images in sets.items()}
        about = {"dataset": dataset, "n": {split: real.stats.n for split, real in references.items()}}
        write_checked(kept, REFERENCES, about, packed(references))
    return Judge(INCEPTION, network, [], {"dataset": dataset, "title": title}, references)


# Samples ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Which samples to judge, and against what. Sample k of n has seed + k, and class k modulo the classes.

    guidance 0 is unconditional. split is the reference, "train" or "test". precision is what the network multiplies
    in, "float32" or "bfloat16"; the latter is twice as fast where the device has it.
    """

    sampler: str = "dpmpp_2m"
    steps: int = 18
    guidance: float = 2.0
    n: int = 1000
    split: str = "test"
    seed: int = 0
    spacing: str = "lam"
    eta: float = 0.0
    precision: str = "float32"

    def __post_init__(self):
        """Raises ValueError, naming the value, for what cannot be evaluated."""
        choices = {"sampler": SAMPLERS, "split": ("train", "test"), "spacing": SPACINGS,
                   "precision": ("float32", "bfloat16")}  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        for name, low, high in (("n", 2, 100_000), ("steps", 1, 1000), ("guidance", 0, 100), ("seed", 0, 2**31 - 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")


class Progress(NamedTuple):
    """Where an evaluation is: `done` of n samples judged, at `step` of the batch under way.

    images [B, C, H, W]  the latest batch, None until there is one
    feats  [done, d]     of all samples so far; `index` [done] says which they are
    """

    done: int
    step: int
    calls: int  # network calls a sample took
    seconds: float
    images: Tensor | None
    feats: Tensor
    index: Tensor


def draw(
    model: Model, judge: Judge, plan: Plan, *, batch: int = 50, rank: int = 0, world: int = 1
) -> Iterator[Progress]:
    """Draw the plan's samples and take their features, as a generator of `Progress`, one a sampler's step.

    With several processes each draws every world-th sample, from its rank on: `gather` brings them together.
    Of a sample only its features stay in memory, which the interval and the curve over n need: 1 kB each for CIFAR-10's
    classifier (256 of them), 8 kB for Inception.
    """
    D = InBfloat16(model.denoiser) if plan.precision == "bfloat16" else model.denoiser
    D = Clipped(Guided(D, plan.guidance if model.classes else 0))
    cond = model.conditions("all" if plan.guidance else None, plan.n)
    seeds = torch.arange(plan.seed, plan.seed + plan.n)
    feats, index, images, calls = torch.empty(0, judge.network.num_features), torch.empty(0, dtype=torch.long), None, 0
    started = time.perf_counter()
    for part in torch.arange(rank, plan.n, world).split(batch):
        run = generate(
            D,
            (len(part), *model.shape),
            plan.sampler,
            steps=plan.steps,
            seeds=seeds[part].tolist(),
            cond=None if cond is None else cond[part],
            spacing=plan.spacing,
            eta=plan.eta,
        )
        for step in run:
            yield Progress(len(index), step.i, calls, time.perf_counter() - started, images, feats, index)
        images = to_tensor(to_uint8(model.codec.decode(step.x)))  # as they would be shown: rounded to 8 bits
        feats, index, calls = torch.cat([feats, features(judge.network, images)]), torch.cat([index, part]), step.nfe
        yield Progress(len(index), 0, calls, time.perf_counter() - started, images, feats, index)


def gather(progress: Progress) -> Progress:
    """The samples of all processes of a group, in the order of one process."""
    world = torch.distributed.get_world_size()
    parts: list = [None] * world
    torch.distributed.all_gather_object(parts, (progress.index, progress.feats))
    index, feats = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    order = index.argsort()
    return progress._replace(done=len(index), index=index[order], feats=feats[order])


# What they are worth ----------------------------------------------------------------------------------------------


def measure(
    judge: Judge, model: Model, plan: Plan, progress: Progress, draws: int | None = None, ceiling: dict | None = None
) -> dict:
    """Every number of a result, ready for JSON, each beside what it is of.

    draws is the bootstrap's; a ceiling that was measured before (see `noise_images`) may be handed in to save time.
    """
    real, n = judge.references[plan.split], progress.done
    conditional = bool(plan.guidance and model.classes) and model.classes == judge.classes
    asked = progress.index % len(model.classes) if conditional else None
    curve = distance_curve(progress.feats, real.stats)
    return {
        "plan": asdict(plan),
        "n": n,
        "measure": judge.distance,
        "reference": f"{judge.config['title']} {plan.split}, {real.stats.n} images",
        "features": judge.network.num_features,
        **numbers(judge, plan.split, progress.feats, asked),
        "interval": distance_interval(progress.feats, real.stats, draws),
        "curve": curve,
        "extrapolated": extrapolate(curve),
        "floor": real_images(judge, plan.split, n),
        "ceiling": ceiling or noise_images(judge, plan.split, min(n, 1000), model.shape),
        "calls": progress.calls,
        "passes": passes(plan.guidance) if model.classes else 1,
        "seconds": round(progress.seconds, 1),
    }


def numbers(judge: Judge, split: str, feats: Tensor, asked: Tensor | None) -> dict:
    """Distance, precision, recall, kernel distance, score and, if classes [N] were asked for, how many were obeyed.

    Precision and recall compare equally many real and generated images, at most as many as the reference has kept.
    """
    real = judge.references[split]
    m = min(len(feats), len(real.sample))
    precision, recall = precision_recall(real.sample[:m], feats[:m]) if m > 3 else (None, None)
    verdicts = logits(judge.network, feats)
    return {
        "distance": frechet_distance(real.stats, FeatureStats().update(feats)),
        "precision": precision,
        "recall": recall,
        "neighbours_n": m,
        "kid": kid(feats, real.sample, subsets=20, subset_size=min(1000, m)),
        "inception_score": inception_score(verdicts, splits=min(10, 1 + len(feats) // 100)),
        "accuracy": None if asked is None else class_accuracy(verdicts, asked),
    }


def distance_interval(
    feats: Tensor, real: FeatureStats, draws: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the Frechet distance of feats [N, d] to `real`, by the bootstrap (Efron 1979).

    A sample drawn with replacement has fewer different images, and so a distance that is too large on average; the
    spread around that average is what is used. Default: 100 draws, 20 of features of more than 512 dimensions.
    """
    draws = draws or (100 if feats.shape[1] <= 512 else 20)
    g = torch.Generator().manual_seed(seed)
    indices = (torch.randint(len(feats), (len(feats),), generator=g) for _ in range(draws))
    drawn = torch.tensor([frechet_distance(real, FeatureStats().update(feats[index])) for index in indices])
    low, high = (drawn - drawn.mean()).quantile(torch.tensor([0.025, 0.975])).tolist()
    distance = frechet_distance(real, FeatureStats().update(feats))
    return max(0.0, distance + low), distance + high


def distance_curve(feats: Tensor, real: FeatureStats) -> list[tuple[int, float]]:
    """(m, mean distance of parts of m samples) for m = N, N / 2, N / 4, N / 8, as far as m exceeds the dimension d.

    Below, the covariance of m samples is singular, and the distance no longer a line in 1 / m.
    """
    n, d = feats.shape
    curve = []
    for pieces in (1, 2, 4, 8):
        m = n // pieces
        if m > d:
            parts = feats[: m * pieces].split(m)
            curve.append((m, sum(frechet_distance(real, FeatureStats().update(part)) for part in parts) / pieces))
    return curve


def extrapolate(curve: list[tuple[int, float]]) -> float | None:
    """The distance at n = infinity, on the line in 1 / n through a curve (Chong & Forsyth 2020, arXiv 1911.07023).

    None if there are not two points to lay it through.
    """
    if len(curve) < 2:
        return None
    x, y = np.array([[1 / n, distance] for n, distance in curve]).T
    return float(np.polyfit(x, y, 1)[1])


def real_images(judge: Judge, split: str, n: int) -> dict:
    """The floor: the numbers of n real images of the other split, to which no sample can be nearer by merit.

    A judge keeps some features of real images: the distance is the mean over as many lots of n as there are among
    them, and if n is more than that, interpolated in 1 / n between them and the whole of the split. Where the split
    has fewer than n, it is of them all: "n" says how many.
    """
    other = judge.references["test" if split == "train" else "train"]
    n = min(n, other.stats.n)
    real, kept = judge.references[split], other.sample[:n]
    lots = [other.sample[k : k + len(kept)] for k in range(0, len(other.sample) - len(kept) + 1, len(kept))]
    distance = sum(frechet_distance(real.stats, FeatureStats().update(lot)) for lot in lots) / len(lots)
    if n > len(kept):
        every = frechet_distance(real.stats, other.stats)
        share = (1 / n - 1 / other.stats.n) / (1 / len(kept) - 1 / other.stats.n)
        distance = every + share * (distance - every)
    found = numbers(judge, split, kept, None)
    return found | {"n": n, "distance": distance, "accuracy": judge.config.get("accuracy")}


def noise_images(judge: Judge, split: str, n: int, shape: tuple[int, ...]) -> dict:
    """The ceiling: the numbers of n images of Gaussian noise, which is what sampling starts from."""
    g = torch.Generator().manual_seed(0)
    parts = (torch.randn(m, *shape, generator=g) for m in [250] * (n // 250) + [n % 250] if m)
    feats = torch.cat([features(judge.network, to_tensor(to_uint8(x))) for x in parts])
    return {"n": n, **numbers(judge, split, feats, None)}


def short(value: float) -> str:
    """A number as it is written beside its interval: three digits, or all before the point, and never 2.9e+03."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


# Results on disk ---------------------------------------------------------------------------------------------------


def results_path(checkpoint: str | Path) -> Path:
    """Where the results of a checkpoint lie: beside it, as <name>-evaluation.json."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}-evaluation.json")


def read_results(checkpoint: str | Path) -> list[dict]:
    """The results kept beside a checkpoint, the oldest first; none if there is no file.

    Raises ValueError, naming the file, if it is not a list of results.
    """
    path = results_path(checkpoint)
    if not path.is_file():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        return [r for r in results if Plan(**r["plan"]) and r["distance"] >= 0]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold results of this program; delete it, or evaluate again.") from error


def keep_result(checkpoint: str | Path, result: dict) -> None:
    """Add a result to those kept beside a checkpoint, in the place of one of the same plan and measure."""

    def what(r: dict) -> tuple:
        return r["plan"], r["measure"]

    others = [r for r in read_results(checkpoint) if what(r) != what(result)]
    lines = ",\n".join(json.dumps(r) for r in [*others, result])
    write_atomically(results_path(checkpoint), f'{{"results": [\n{lines}\n]}}\n'.encode())


# The comparison that the courses ask for --------------------------------------------------------------------------

APPROACHES = {
    "a": Plan("reverse_sde", steps=50, guidance=0.0),
    "b": Plan("reverse_sde", steps=50, guidance=2.0),
    "c": Plan("heun", steps=18, guidance=2.0),
}
"""(a) the score-based SDE without classes, (b) the same with classifier-free guidance, (c) the probability-flow ODE of
(b): from each to the next, one thing changes."""


def standard_plans(n: int, **changes) -> list[Plan]:
    """Of each shipped model: (a), (b) at three guidances, (c); 2M at four guidances; DDIM in few steps and in many."""
    twom = [Plan("dpmpp_2m", 18, guidance) for guidance in (1.0, 1.5, 2.0, 3.0)]
    ddim = [Plan("ddim", steps, 1.0) for steps in (10, 20, 50, 100)]
    sde = [replace(APPROACHES["b"], guidance=guidance) for guidance in (1.5, 3.0)]
    return [replace(plan, n=n, **changes) for plan in (*twom, *ddim, *APPROACHES.values(), *sde)]


LADDER = (10, 20, 50, 100, 250, 1000)  # steps


def ladder(model: Model, n: int, **changes) -> list[Plan]:
    """DDPM and DDIM under the same conditions: in few steps and in many, at the levels of a discrete model's own."""
    spacing = "ddpm" if isinstance(model.denoiser.schedule, Discrete) else "lam"
    plans = [Plan(sampler, steps, 1.0, spacing=spacing) for steps in LADDER for sampler in ("ddim", "ddpm")]
    return [replace(plan, n=n, **changes) for plan in plans]


def steps_needed(results: list[dict], within: float = 0.1) -> tuple[dict, dict[str, int | None]]:
    """The best of the results, and the fewest steps in which each sampler's distance is within 10 % of the best's.

    None for a sampler that never comes so near. The results must be of the same n, reference and features.
    """
    best = min(results, key=lambda r: r["distance"])
    near = [r["plan"] for r in results if r["distance"] <= (1 + within) * best["distance"]]
    samplers = dict.fromkeys(r["plan"]["sampler"] for r in results)
    return best, {s: min((p["steps"] for p in near if p["sampler"] == s), default=None) for s in samplers}


def comparison(model: Model, seed: int = 0, each: int = 2) -> Iterator[tuple[str, Tensor]]:
    """(approach, images [each * classes, C, H, W]) for (a), (b) and (c) from the same noise, `each` of every class."""
    count = each * max(1, len(model.classes))
    for name, plan in APPROACHES.items():
        D = Clipped(Guided(model.denoiser, plan.guidance if model.classes else 0))
        cond = None
        if plan.guidance and model.classes:
            cond = torch.arange(len(model.classes)).repeat_interleave(each).to(next(D.parameters()).device)
        seeds = list(range(seed, seed + count))
        *_, last = generate(D, (count, *model.shape), plan.sampler, steps=plan.steps, seeds=seeds, cond=cond)
        yield name, model.codec.decode(last.x).cpu()
