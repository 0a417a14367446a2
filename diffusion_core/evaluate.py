"""How good a model's samples are, beside what the same numbers are for real images and for noise."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .images import to_tensor
from .metrics import FeatureStats, Reference


@torch.no_grad()
def features(network: nn.Module, x: Tensor, batch: int = 500) -> Tensor:
    """What a judge's network sees in images x [N, C, H, W] in [-1, 1] -> [N, d], on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network.features(part.to(device)).cpu() for part in x.split(batch)])


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
    for start in range(0, len(order), 500):
        index = order[start : start + 500]
        found = features(network, to_tensor(images[index]))
        stats.update(found)
        kept.append(found[: max(0, sample - start)])
        progress(len(index))
    return Reference(stats, torch.cat(kept))
