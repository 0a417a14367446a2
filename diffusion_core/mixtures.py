"""Gaussian mixtures: data whose noised density, score and posterior mean are known exactly.

Noise keeps a mixture a mixture: alpha x + sigma eps has means alpha mu_k and covariances alpha^2 C_k + sigma^2 I.
That makes it the playground of score matching and the oracle that samplers are tested against.
"""

import math

import torch
from torch import Tensor

from .denoisers import Denoiser
from .schedules import Schedule, over_batch


class GaussianMixture:
    """sum_k weights[k] N(means[k], covs[k]).

    means [K, d]; covs [K, d, d], or standard deviations [K] or a float for round components; weights [K], positive,
    normalised here. alpha and sigma below are floats, or one value a point [B].
    """

    def __init__(self, means: Tensor, covs: Tensor | float, weights: Tensor | None = None):
        k, d = means.shape
        covs = torch.as_tensor(covs, dtype=means.dtype)
        if covs.ndim < 2:
            covs = (covs**2).expand(k)[:, None, None] * torch.eye(d, dtype=means.dtype)
        weights = torch.ones(k) if weights is None else weights
        self.means, self.covs = means, covs
        self.weights = (weights / weights.sum()).to(means.dtype)
        self.variances, self.axes = torch.linalg.eigh(covs)  # [K, d], [K, d, d]: noise only shifts the variances

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent points -> [n, d]."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[k] + torch.einsum("ndj,nj->nd", self.axes[k], self.variances[k].sqrt() * z)

    def log_prob(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x [B, d] -> [B]."""
        return torch.logsumexp(self._components(x, alpha, sigma)[0], dim=1)

    def score(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """Gradient of `log_prob` in x -> [B, d]."""
        log_joint, offset, variances = self._components(x, alpha, sigma)
        pull = -torch.einsum("kdj,bkj->bkd", self.axes, offset / variances)
        return torch.einsum("bk,bkd->bd", log_joint.softmax(dim=1), pull)

    def posterior_mean(self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x] -> [B, d].

        Each component's is mu + alpha C (alpha^2 C + sigma^2 I)^-1 (x - alpha mu).
        """
        log_joint, offset, variances = self._components(x, alpha, sigma)
        alpha = _per_point(alpha, x)
        means = self.means + torch.einsum(
            "kdj,bkj->bkd", self.axes, alpha[..., None] * self.variances * offset / variances
        )
        return torch.einsum("bk,bkd->bd", log_joint.softmax(dim=1), means)

    def responsibilities(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """Posterior probability of each component at x [B, d] -> [B, K], rows summing to 1."""
        return self._components(x, alpha, sigma)[0].softmax(dim=1)

    def _components(self, x: Tensor, alpha, sigma) -> tuple[Tensor, Tensor, Tensor]:
        """log(weight x density) [B, K]; x - alpha mu in each component's axes [B, K, d]; the variances along them."""
        alpha, sigma = _per_point(alpha, x), _per_point(sigma, x)
        offset = torch.einsum("kdj,bkd->bkj", self.axes, x[:, None] - alpha[..., None] * self.means)
        variances = alpha[..., None] ** 2 * self.variances + sigma[..., None] ** 2
        log_density = -0.5 * (offset**2 / variances + variances.log() + math.log(2 * math.pi)).sum(dim=2)
        return log_density + self.weights.log(), offset, variances


def _per_point(v: float | Tensor, x: Tensor) -> Tensor:
    """A float or [B] -> [B or 1, 1], to go with [B, K]."""
    return torch.as_tensor(v, dtype=x.dtype, device=x.device).reshape(-1, 1)


class MixtureDenoiser(Denoiser):
    """The exact denoiser of data drawn from a mixture; with one component, of a Gaussian.

    With `classes`, component k is class k: a condition picks its component, the null label all of them.
    """

    def __init__(self, mixture: GaussianMixture, schedule: Schedule, classes: bool = False):
        super().__init__()
        self.mixture, self.schedule = mixture, schedule
        self.null = len(mixture.weights) if classes else None
        self.parts = [
            GaussianMixture(mixture.means[k : k + 1], mixture.covs[k : k + 1]) for k in range(len(mixture.weights))
        ]

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        mean = self.mixture.posterior_mean(x, alpha, sigma)
        if cond is None:
            return mean
        for k, part in enumerate(self.parts):
            mean = torch.where(over_batch(cond == k, x).bool(), part.posterior_mean(x, alpha, sigma), mean)
        return mean
