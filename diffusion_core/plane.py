"""Data in the plane whose score is known exactly at every noise level: what a learned field can be held against.

All of it is a `GaussianMixture`: a few modes; curves, as many narrow ones in a row; or one around each of a viewer's
points. Lengths are in the data's own units; everything of interest lies within EXTENT of the origin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .mixtures import GaussianMixture

EXTENT = 10.0
OWN_STD = 0.5  # of the Gaussian around each of the viewer's points
MAX_POINTS = 100


@dataclass(frozen=True)
class PlaneData:
    """A density in the plane. `mode` [K] says which mode each component belongs to, by number from 0."""

    label: str
    mixture: GaussianMixture
    mode: Tensor

    @property
    def modes(self) -> int:
        return int(self.mode.max()) + 1

    def true_weights(self) -> Tensor:
        """The share of the data in each mode -> [modes]."""
        return torch.zeros(self.modes).index_add(0, self.mode, self.mixture.weights)

    def mode_weights(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """The share of points x [N, 2], noised by sigma, in each mode -> [modes].

        Each point counts towards every mode by its posterior probability. Of samples of the (noised) data the mean is
        exactly `true_weights`, even where modes overlap.
        """
        share = self.mixture.responsibilities(x, 1.0, sigma).mean(dim=0)
        return torch.zeros(self.modes).to(share).index_add(0, self.mode, share)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [2] and covariance [2, 2]."""
        m = self.mixture
        mean = m.weights @ m.means
        spread = m.means - mean
        return mean, torch.einsum("k,kde->de", m.weights, m.covs) + (m.weights * spread.T) @ spread


def modes(label: str, means: list | Tensor, stds: float | list[float], weights: list[float] | None = None) -> PlaneData:
    """Round Gaussians, each a mode of its own."""
    means, stds = torch.as_tensor(means, dtype=torch.float32), torch.as_tensor(stds, dtype=torch.float32)
    weights = None if weights is None else torch.tensor(weights)
    return PlaneData(label, GaussianMixture(means, stds.expand(len(means)), weights), torch.arange(len(means)))


def curve(label: str, points: Tensor, std: float, mode: Tensor) -> PlaneData:
    """A curve of thickness std, as Gaussians around points [K, 2] that lie about as close together."""
    return PlaneData(label, GaussianMixture(points, std), mode)


def song_ermon() -> PlaneData:
    """0.2 N((-5, -5), I) + 0.8 N((5, 5), I), of Song & Ermon 2019 (arXiv 1907.05600), sec. 3.2."""
    return modes("Song & Ermon's two modes", [[-5, -5], [5, 5]], 1.0, [0.2, 0.8])


def two() -> PlaneData:
    return modes("Two modes, unequal in size", [[-4, 2], [4, -2]], [1.2, 0.6], [0.3, 0.7])


def ring() -> PlaneData:
    angles = torch.arange(8) * math.pi / 4
    return modes("Ring of 8", 6 * torch.stack([angles.cos(), angles.sin()], 1), 0.6)


def grid() -> PlaneData:
    axis = torch.arange(-2.0, 3.0) * 3
    return modes("Grid of 25", torch.cartesian_prod(axis, axis), 0.45)


def moons() -> PlaneData:
    """Two interleaving half circles."""
    angle = torch.linspace(0, math.pi, 48)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    points = 4.5 * (torch.cat([upper, lower]) - torch.tensor([0.5, 0.25]))
    return curve("Two moons", points, 0.45, torch.arange(2).repeat_interleave(48))


def spiral() -> PlaneData:
    """Archimedes' spiral, even along its length; its modes are its inner, middle and outer third."""
    length = torch.linspace(0.03, 1, 120)
    angle = 4 * math.pi * length.sqrt()
    points = 7.5 * length.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return curve("Spiral", points, 0.4, torch.arange(3).repeat_interleave(40))


def own(points: list[list[float]] | Tensor) -> PlaneData:
    """A Gaussian of standard deviation OWN_STD around each of the viewer's points [N, 2].

    Raises ValueError unless there are 1 to MAX_POINTS of them, within EXTENT of the origin.
    """
    try:
        points = torch.as_tensor(points, dtype=torch.float32)
    except (ValueError, TypeError) as error:
        raise ValueError("Points must be pairs of numbers, [[x, y], ...].") from error
    if points.ndim == 0:
        raise ValueError("Points must be pairs of numbers, [[x, y], ...].")
    if not 1 <= len(points) <= MAX_POINTS:
        raise ValueError(f"Your own data needs 1 to {MAX_POINTS} points, not {len(points)}; click into the picture.")
    if points.shape[1:] != (2,) or not (points.abs() <= EXTENT).all():
        raise ValueError(f"Points must be pairs of numbers from {-EXTENT:g} to {EXTENT:g}.")
    return modes("Your own points", points, OWN_STD)


def lattice(n: int) -> Tensor:
    """The centres of n x n squares that tile the plane within EXTENT, row by row from the bottom -> [n n, 2]."""
    axis = EXTENT * (2 * (torch.arange(n) + 0.5) / n - 1)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


PRESETS: dict[str, Callable[[], PlaneData]] = {f.__name__: f for f in (song_ermon, two, ring, grid, moons, spiral)}


def data_of(name: str, points: list | None = None) -> PlaneData:
    """A preset by name, or for "own" the viewer's points. Raises ValueError for a name that there is not."""
    if name == "own":
        return own(points or [])
    if name not in PRESETS:
        raise ValueError(f"There is no data {name!r}; choose {', '.join(PRESETS)} or own.")
    return PRESETS[name]()
