"""What a trained network is bad at: its loss as a function of time, and whether it has learned its images by heart."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import Model
from .data import TITLES, ImageSet, Split
from .files import write_atomically
from .images import to_tensor
from .losses import denoising_loss, min_snr_weight, time_density

# Loss by time -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def loss_by_time(
    model: Model,
    images: ImageSet,
    split: Split = "test",
    *,
    n: int = 1000,
    bins: int = 20,
    seed: int = 0,
    batch: int = 100,
    progress: Callable[[int], None] = lambda done: None,
) -> dict:
    """The error of what the network predicts, on n images told their classes, in equal bins of time.

    raw       mean squared error of the prediction, a pixel
    weighted  the same times the recipe's weight and the density of its training times: where training looks. Its
              integral over t is, on training images, the loss that is minimised
    Each has a mean and its standard error for every bin; "classes" has the raw ones of each class. "t" holds the
    bins + 1 edges from t_min to t_max. progress(images done) is called after each batch, over bins x n in all.
    """
    D, recipe = model.denoiser, model.config.get("recipe", {})
    device = next(D.parameters()).device
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images.images), generator=g)[:n]
    x0, labels = to_tensor(images.images[order.numpy()]), torch.from_numpy(images.labels)[order]
    edges = torch.linspace(D.schedule.t_min, D.schedule.t_max, bins + 1)
    raw, scale = [], []
    for low, high in pairwise(edges):
        t = low + (high - low) * (torch.arange(len(x0)) + 0.5) / len(x0)
        eps = torch.randn(x0.shape, generator=g)
        found = []
        for part in zip(*(v.to(device).split(batch) for v in (x0, labels, t, eps)), strict=True):
            found.append(denoising_loss(D, part[0], part[1] if model.classes else None, *part[2:]).cpu())
            progress(len(found[-1]))
        raw.append(torch.cat(found))
        scale.append(training_weight(D.schedule, t, D.prediction, recipe))
    raw = torch.stack(raw).double()
    return {
        "n": len(x0),
        "split": f"{TITLES.get(model.config.get('dataset'), model.config.get('dataset'))} {split}",
        "seed": seed,
        "target": D.prediction,
        "weight": recipe.get("weight", "none"),
        "times": recipe.get("times", "uniform"),
        "t": edges.tolist(),
        "raw": mean_and_error(raw),
        "weighted": mean_and_error(raw * torch.stack(scale)),
        "classes": {c: mean_and_error(raw[:, labels == k]) for k, c in enumerate(model.classes)},
    }


def training_weight(schedule, t: Tensor, prediction: str, recipe: dict) -> Tensor:
    """How much the loss at time t [n] counts in training by this recipe: its weight times how often t is drawn."""
    drawn = {k: recipe[f"time_{k}"] for k in ("mean", "std") if f"time_{k}" in recipe}
    weight = time_density(schedule, t.double(), recipe.get("times", "uniform"), **drawn)
    if recipe.get("weight") == "min_snr":
        weight = weight * min_snr_weight((2 * schedule.lam(t.double())).exp(), prediction)
    return weight


def mean_and_error(losses: Tensor) -> dict[str, list[float | None]]:
    """losses [bins, n] -> their means and standard errors; without images no mean, from one alone no error."""
    n = losses.shape[1]
    mean = losses.mean(dim=1).tolist() if n else [None] * len(losses)
    error = (losses.std(dim=1) / math.sqrt(n)).tolist() if n > 1 else [None] * len(losses)
    return {"mean": mean, "se": error}


WHY = {
    "noise": "There the image is all but hidden: many images are possible, the best answer is their mean, and the "
    "error is what they differ by, which no training takes away.",
    "detail": "There the noise is smaller than the image's own detail, and what the network is asked for is mostly "
    "that noise: it cannot be told from texture.",
    "heart": "There an answer of zero would be better, whose error is 1 at most: the network has learned its training "
    "images by heart, and is sure of details that these images do not have.",
    "shape": "There the image takes shape: what is decided between these noise levels are its parts and their places.",
}


def struggles(found: dict, schedule) -> str:
    """Two sentences on a result of `loss_by_time`: where the raw error is largest, and why it is there."""
    worst = int(np.argmax(found["raw"]["mean"]))
    low, high = found["t"][worst], found["t"][worst + 1]
    lam = schedule.lam(torch.tensor((low + high) / 2, dtype=torch.float64)).item()
    size = found["raw"]["mean"][worst]
    why = WHY["heart" if size > 1 else "noise" if lam < -1 else "detail" if lam > 1 else "shape"]
    return f"The error of {found['target']} is largest, {size:.3g}, between t = {low:.2f} and {high:.2f}. {why}"


def loss_path(checkpoint: str | Path) -> Path:
    """Where the loss by time of a checkpoint is kept: beside it."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}-loss.json")


def keep_loss_by_time(checkpoint: str | Path, found: dict) -> None:
    write_atomically(loss_path(checkpoint), (json.dumps(found, indent=1) + "\n").encode())


def read_loss_by_time(checkpoint: str | Path) -> dict | None:
    """What `keep_loss_by_time` kept, or None. Raises ValueError, naming the file, if it is damaged."""
    path = loss_path(checkpoint)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged; `python -m diffusion_core diagnose` makes it anew.") from error


# By heart ---------------------------------------------------------------------------------------------------------


def nearest(x: Tensor, images: np.ndarray, chunk: int = 5000) -> tuple[Tensor, Tensor]:
    """For each image of x [B, C, H, W], in [-1, 1], the nearest of images, uint8 [N, H, W, C].

    Returns its index [B] and how far it is, the root mean square difference a pixel [B].
    """
    flat = x.flatten(1).float()
    best, index = torch.full((len(x),), math.inf), torch.zeros(len(x), dtype=torch.long)
    for start in range(0, len(images), chunk):
        distance = torch.cdist(flat, to_tensor(images[start : start + chunk]).flatten(1))
        closest, at = distance.min(dim=1)
        index = torch.where(closest < best, start + at, index)
        best = torch.minimum(closest, best)
    return index, best / math.sqrt(flat.shape[1])
