"""How close generated images are to real ones, judged from features: [N, d] in, plain floats out.

What a feature is, is the caller's choice, and the number means nothing without it: a Frechet distance is an FID only
with the features of the original Inception network; from any other network it is "Frechet distance (features: ...)".
Most of these depend on N as well, so compare equal N only. Everything is computed in float64 on the CPU.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class FeatureStats:
    """Mean and covariance of features that arrive in batches, in memory that does not grow.

    Empty to begin with; `FeatureStats.stored` starts from numbers kept in a file.
    """

    def __init__(self):
        self.n = 0
        self._mean = self._scatter = None  # [d], [d, d]: the sum of (x - mean)(x - mean)'
        self._root = None

    @classmethod
    def stored(cls, mean: Tensor, cov: Tensor, n: int) -> "FeatureStats":
        """From mean [d], covariance [d, d] (divided by n - 1) and number of samples n."""
        if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or n < 2:
            shapes = f"{list(mean.shape)}, {list(cov.shape)}"
            raise ValueError(f"A mean [d], a covariance [d, d] and n of at least 2 are needed, not {shapes} and {n}.")
        stats = cls()
        stats.n, stats._mean, stats._scatter = n, mean.cpu().double(), cov.cpu().double() * (n - 1)
        return stats

    def update(self, feats: Tensor) -> "FeatureStats":
        """Add feats [B, d]; returns itself.

        The merge of Chan et al. 1979 and not plain sums of squares: those lose all digits of a small variance beside
        a large mean.
        """
        feats = _checked(feats)
        if self.n == 0:
            d = feats.shape[1]
            self._mean, self._scatter = feats.new_zeros(d), feats.new_zeros(d, d)
        if feats.shape[1] != len(self._mean):
            raise ValueError(f"These statistics are of {len(self._mean)} features, not of {feats.shape[1]}.")
        total = self.n + len(feats)
        mean = feats.mean(dim=0)
        centred, gap = feats - mean, mean - self._mean
        self._scatter = self._scatter + centred.T @ centred + gap.outer(gap) * (self.n * len(feats) / total)
        self._mean = self._mean + gap * (len(feats) / total)
        self.n, self._root = total, None
        return self

    @property
    def mean(self) -> Tensor:
        """[d]"""
        if self.n < 1:
            raise ValueError("A mean needs at least 1 sample; there is none.")
        return self._mean

    @property
    def cov(self) -> Tensor:
        """[d, d], unbiased: divided by n - 1."""
        if self.n < 2:
            raise ValueError(f"A covariance needs at least 2 samples, not {self.n}.")
        return self._scatter / (self.n - 1)

    @property
    def root(self) -> Tensor:
        """[d, d], the symmetric square root of cov. Kept: one reference is compared with many samples."""
        if self._root is None:
            values, vectors = torch.linalg.eigh(self.cov)
            self._root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return self._root


class Reference(NamedTuple):
    """Real images as features: statistics of all of them, and a random sample [K, d] for what needs single ones."""

    stats: FeatureStats
    sample: Tensor


def frechet_distance(a: FeatureStats, b: FeatureStats) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2), of two Gaussians (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

    A B is not symmetric, but has the eigenvalues of A^1/2 B A^1/2, which is: its spectrum is real, and what rounding
    turns negative is clipped, so that singular covariances (n <= d) need no regularisation.
    """
    A, B = a.cov, b.cov
    if A.shape != B.shape:
        raise ValueError(f"Statistics of {len(A)} and of {len(B)} features cannot be compared.")
    product = a.root @ B @ a.root
    overlap = torch.linalg.eigvalsh(0.5 * (product + product.T)).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + A.trace() + B.trace() - 2 * overlap
    return max(0.0, distance.item())  # 0 may come out as a rounding error below it


def atypicality(feats: Tensor, stats: FeatureStats) -> Tensor:
    """How far each of feats [N, d] is from the mean of `stats`, in units of its own spread -> [N].

    Mahalanobis' distance over the root of the number of directions in which there is any spread: the mean of its
    square over what the statistics are of is 1. It is a number of a single image, which a Frechet distance is not.
    """
    values, vectors = torch.linalg.eigh(stats.cov)
    spread = values > 1e-6 * values.max()
    along = (_checked(feats) - stats.mean) @ vectors[:, spread] / values[spread].sqrt()
    return along.square().mean(dim=1).sqrt()


def kid(x: Tensor, y: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Kernel distance of x [N, d] and y [M, d]: mean and standard deviation over random subsets.

    Unbiased squared MMD with the kernel (x'y / d + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401, sec. 4). Unlike the
    Frechet distance its mean does not depend on the number of samples; it may be below 0.
    """
    x, y = _checked_pair(x, y)
    smaller = min(len(x), len(y))
    if not 2 <= subset_size <= smaller:
        raise ValueError(f"subset_size must be from 2 to the {smaller} samples of the smaller set, not {subset_size}.")
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, not {subsets}.")
    g = torch.Generator().manual_seed(seed)

    def subset(feats: Tensor) -> Tensor:
        return feats[torch.randperm(len(feats), generator=g)[:subset_size]]

    distances = torch.stack([_mmd2(subset(x), subset(y)) for _ in range(subsets)])
    return distances.mean().item(), distances.std(correction=0).item()


def _mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased: a sample is not compared with itself (Gretton et al. 2012, eq. 3). x, y [n, d] -> []"""
    n, d = x.shape
    xx, yy, xy = ((p @ q.T / d + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    return (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1)) - 2 * xy.mean()


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| of x [N, d] and y [M, d]: 0 for equal distributions, else above.

    Szekely & Rizzo 2013, sec. 2. Unbiased, since no sample is compared with itself; so it may come out just below 0.
    """
    x, y = _checked_pair(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"An energy distance needs at least 2 samples of each, not {n} and {m}.")
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return (2 * torch.cdist(x, y).mean() - within).item()


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """exp of the mean KL(p(class | x) || p(class)): mean and standard deviation over splits.

    logits [N, K] -> between 1 (every image says the same) and K (sure, and all classes alike); Salimans et al. 2016,
    arXiv 1606.03498, sec. 4. Samples often come sorted by class, so they are shuffled first.
    """
    logits = _checked(logits)
    if not 1 <= splits <= len(logits):
        raise ValueError(f"splits must be from 1 to the {len(logits)} samples, not {splits}.")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    scores = []
    for p in logits.softmax(dim=1)[order].tensor_split(splits):
        entropy = torch.special.entr(p).sum(dim=1).mean()  # entr(0) = 0, where p log p would be NaN
        scores.append((torch.special.entr(p.mean(dim=0)).sum() - entropy).exp())
    scores = torch.stack(scores)
    return scores.mean().item(), scores.std(correction=0).item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """How much of fake [M, d] looks real, and how much of real [N, d] can be faked.

    Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-2). Around each sample of a set
    lies a ball that reaches to its k-th nearest other sample. Precision, or quality: the share of fake inside a ball
    of real; recall, or coverage: the share of real inside a ball of fake.
    """
    real, fake = _checked_pair(real, fake)
    smaller = min(len(real), len(fake))
    if not 1 <= k < smaller:
        raise ValueError(f"k must be at least 1 and less than the {smaller} samples of the smaller set, not {k}.")
    centre = real.mean(dim=0)
    real, fake = real - centre, fake - centre  # nearer the origin, less is lost in |x|^2 + |y|^2 - 2 x'y
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def _share_inside(x: Tensor, centres: Tensor, k: int) -> float:
    """The share of x [N, d] that lies in a ball around any of centres [M, d]."""
    nearest = [d2.topk(k + 1, largest=False).values[:, k] for d2 in _squared_distances(centres, centres)]  # 0: itself
    slack = 1e-10 * centres.square().sum(dim=1).mean()  # above rounding: a duplicate lies in a ball of radius 0
    radius2 = torch.cat(nearest) + slack
    inside = [(d2 <= radius2).any(dim=1) for d2 in _squared_distances(x, centres)]
    return torch.cat(inside).double().mean().item()


def _squared_distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """|x_i - y_j|^2 of x [N, d] and y [M, d], some rows [n, M] at a time, so that a part stays below 64 MB."""
    y2 = y.square().sum(dim=1)
    for rows in x.split(max(1, 2**23 // len(y))):
        x2 = rows.square().sum(dim=1, keepdim=True)
        yield torch.addmm(y2, rows, y.T, alpha=-2).add_(x2).clamp_(min=0)


def class_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of logits [N, K] whose largest entry is at the label [N]."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(f"Logits [N, K] and labels [N] are needed, not {list(logits.shape)} and {list(labels.shape)}.")
    return (logits.argmax(dim=1) == labels).double().mean().item()


def rmse(x: Tensor, y: Tensor) -> Tensor:
    """Root of the mean squared difference of each sample: x, y [B, *S] -> [B]."""
    return (x - y).flatten(1).square().mean(dim=1).sqrt()


def halving_error(fine: Tensor, coarse: Tensor, order: int) -> Tensor:
    """How far each sample of `fine` is from the limit of ever smaller steps: fine, coarse [B, *S] -> [B], an rmse.

    Richardson's estimate (1911) for a method of that order, where `coarse` took half as many steps as `fine`: halving
    the steps divides the error by 2^order, so the limit lies rmse / (2^order - 1) beyond `fine`.
    """
    return rmse(fine, coarse) / (2**order - 1)


def psnr(x: Tensor, y: Tensor, span: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio of each sample in dB, 20 log10(span / rmse): x, y [B, *S] -> [B].

    span is how far apart two values can be: 2 for images in [-1, 1], the same dB as 255 for bytes.
    """
    return 20 * torch.log10(span / rmse(x, y))


def _checked_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _checked(x), _checked(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"Samples of {x.shape[1]} and of {y.shape[1]} features cannot be compared.")
    return x, y


def _checked(feats: Tensor) -> Tensor:
    """feats in float64 on the CPU, or a ValueError if they are not [N, d] with finite values."""
    if feats.ndim != 2 or feats.numel() == 0:
        raise ValueError(f"Features must be [N, d] with N and d at least 1, not {list(feats.shape)}.")
    feats = feats.detach().cpu().double()
    if not feats.isfinite().all():
        raise ValueError("Features must be finite; some of these are infinite or not a number.")
    return feats
