"""Samples beside the training images nearest to them: with few of those, a network learns them by heart."""

from functools import lru_cache

import torch

from diffusion_core.checkpoint import Model
from diffusion_core.data import ImageSet, training_images
from diffusion_core.diagnose import nearest
from diffusion_core.images import to_tensor

from .html import figure, notice, pixels

FEW = 10_000  # training images: of more, a network this size remembers little, and the search would take a second
COPIES = 1000  # of fewer, samples are close to copies
SHOWN, BOX = 16, 1000  # pairs at most, and the page pixels that they share


@lru_cache(maxsize=4)
def _training_images(dataset: str, size: int, per_class: int, seed: int) -> ImageSet | None:
    try:
        return training_images({"dataset": dataset, "size": size, "per_class": per_class, "seed": seed})
    except (OSError, ValueError):
        return None  # not on this machine, or another set of that name


def neighbours_html(model: Model, x: torch.Tensor) -> str:
    """Each of the first images of x [B, C, H, W] with its nearest training image at its right, if the set is small.

    Where the set is not on this machine, one line says how few images there were.
    """
    recipe, n = model.config.get("recipe", {}), model.config.get("trained_on", FEW + 1)
    if n > FEW:
        return ""
    known = _training_images(recipe["dataset"], *(recipe.get(k, 0) for k in ("size", "per_class", "seed")))
    few = f"This model has seen {n:,} images" + (", so few that it knows them by heart. " if n < COPIES else ". ")
    if known is None:
        rest = "What it draws are close to copies. " if n < COPIES else ""
        return notice(f"{few}{rest}Put the data set into data/ to see the nearest of them beside each sample.")
    x = x[:SHOWN]
    index, distance = nearest(x, known.images)
    pairs = torch.cat([x, to_tensor(known.images[index.numpy()])], dim=-1)
    low, high = distance.min().item(), distance.max().item()
    columns = 4 if x.shape[-1] <= 32 else 3
    alt = "Generated images, each with the training image nearest to it"
    picture = pixels(pairs, alt, BOX, columns=columns, gap=3)
    return (
        f'<div class="neighbours">{figure("<b>Generated</b>, and at its right the nearest training image", picture)}'
        f'<p class="note">{few}The nearest of them lies {low:.2f} to {high:.2f} away a pixel (root mean square; 0 is a '
        f"copy, black and white are 2 apart).</p></div>"
    )
