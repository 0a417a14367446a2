"""Metrics against closed forms, direct sums and torchmetrics."""

import math

import pytest
import torch

from diffusion_core.metrics import (
    FeatureStats,
    class_accuracy,
    energy_distance,
    frechet_distance,
    halving_error,
    inception_score,
    kid,
    precision_recall,
    rmse,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stored(mean: list[float], cov: torch.Tensor) -> FeatureStats:
    return FeatureStats.stored(torch.tensor(mean), cov, 1000)


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=9)).Q


# Statistics -------------------------------------------------------------------------------------------------------


def test_statistics_are_the_unbiased_ones():
    x = normal(50, 4)
    stats = FeatureStats().update(x)
    assert stats.n == 50
    torch.testing.assert_close(stats.mean, x.mean(dim=0))
    torch.testing.assert_close(stats.cov, torch.cov(x.T))


@pytest.mark.parametrize("sizes", [[1] * 30, [1, 29], [7, 7, 7, 9]])
def test_in_batches_or_at_once_is_the_same(sizes):
    x = 3 * normal(30, 5) + 1
    once, parts = FeatureStats().update(x), FeatureStats()
    for part in x.split(sizes):
        parts.update(part)
    assert parts.n == once.n
    torch.testing.assert_close(parts.mean, once.mean)
    torch.testing.assert_close(parts.cov, once.cov)


def test_a_small_variance_beside_a_large_mean_survives():
    x = normal(100, 3)
    stats = FeatureStats()
    for part in (x + 1e8).split(10):
        stats.update(part)
    torch.testing.assert_close(stats.cov, torch.cov(x.T), rtol=1e-6, atol=1e-6)


def test_stored_statistics_go_on_where_they_stopped():
    x = normal(40, 3)
    first = FeatureStats().update(x[:25])
    again = FeatureStats.stored(first.mean, first.cov, first.n).update(x[25:])
    torch.testing.assert_close(again.cov, torch.cov(x.T))
    torch.testing.assert_close(again.mean, x.mean(dim=0))
    assert again.n == 40


# Frechet distance -------------------------------------------------------------------------------------------------


def test_equal_covariances_leave_the_squared_gap_of_the_means():
    root = normal(3, 3)
    cov = root @ root.T
    assert frechet_distance(stored([0, 0, 0], cov), stored([1, -2, 2], cov)) == pytest.approx(9)


def test_a_distance_to_itself_is_zero_even_if_the_covariance_is_singular():
    stats = FeatureStats().update(normal(5, 20))
    assert 0 <= frechet_distance(stats, stats) < 1e-5


def test_commuting_covariances():
    """Diagonal in the same basis, each direction adds (gap of the means)^2 + (gap of the deviations)^2."""
    a, b = torch.tensor([1.0, 4.0, 9.0, 0.0]).double(), torch.tensor([4.0, 4.0, 0.25, 1.0]).double()
    Q = rotation(4)
    A, B = (Q @ v.diag() @ Q.T for v in (a, b))
    expected = 2.0**2 + (a.sqrt() - b.sqrt()).square().sum().item()
    assert frechet_distance(stored([0, 0, 0, 0], A), stored([2, 0, 0, 0], B)) == pytest.approx(expected)


def test_two_by_two_covariances_that_do_not_commute():
    """tr sqrt(AB) of 2 x 2 matrices is sqrt(tr AB + 2 sqrt det AB), by Cayley-Hamilton."""
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    B = torch.tensor([[1.0, -0.5], [-0.5, 2.0]]).double()
    AB = A @ B
    overlap = math.sqrt(AB.trace() + 2 * math.sqrt(torch.linalg.det(AB)))
    assert not torch.allclose(AB, B @ A)
    assert frechet_distance(stored([0, 0], A), stored([0, 0], B)) == pytest.approx(5 + 3 - 2 * overlap)


def test_order_and_rotation_do_not_matter():
    x, y, Q = normal(60, 6), 2 * normal(80, 6, seed=1) + 0.5, rotation(6)
    distance = frechet_distance(FeatureStats().update(x), FeatureStats().update(y))
    assert frechet_distance(FeatureStats().update(y), FeatureStats().update(x)) == pytest.approx(distance)
    assert frechet_distance(FeatureStats().update(x @ Q), FeatureStats().update(y @ Q)) == pytest.approx(distance)


class Projection(torch.nn.Module):
    """A tiny extractor: pixels times a fixed matrix."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", normal(3 * 4 * 4, self.num_features, seed=5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).double() @ self.matrix


def test_frechet_distance_agrees_with_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    real, fake, extractor = normal(40, 3, 4, 4), 1.5 * normal(50, 3, 4, 4, seed=1) + 0.1, Projection()
    metric = fid.FrechetInceptionDistance(feature=extractor)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    a, b = FeatureStats().update(extractor(real)), FeatureStats().update(extractor(fake))
    assert frechet_distance(a, b) == pytest.approx(metric.compute().item(), rel=1e-6)


# Kernel distance --------------------------------------------------------------------------------------------------


def direct_mmd2(x: torch.Tensor, y: torch.Tensor) -> float:
    """Gretton et al. 2012, eq. 3, term by term."""
    n, d = x.shape

    def kernel(p, q):
        return (float(p @ q) / d + 1) ** 3

    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(p, q) for p in x for q in y)
    return within / (n * (n - 1)) - 2 * across / n**2


def test_kid_of_everything_is_the_direct_sum():
    x, y = normal(12, 5), normal(12, 5, seed=1) + 0.3
    mean, std = kid(x, y, subsets=3, subset_size=12)
    assert mean == pytest.approx(direct_mmd2(x, y))
    assert std == pytest.approx(0, abs=1e-12)


def test_kid_agrees_with_torchmetrics():
    theirs = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is not installed")
    x, y = normal(30, 8), normal(30, 8, seed=1) + 0.3
    assert kid(x, y, subsets=1, subset_size=30)[0] == pytest.approx(theirs.poly_mmd(x, y).item())


def test_kid_is_unbiased_and_repeatable():
    """Two samples of one distribution: the mean over disjoint pairs is 0 within 4 standard errors."""
    pairs = [(normal(20, 4, seed=2 * s), normal(20, 4, seed=2 * s + 1)) for s in range(100)]
    values = torch.tensor([kid(x, y, subsets=1, subset_size=20)[0] for x, y in pairs])
    assert values.mean().abs() < 4 * values.std() / 10
    x, y = normal(50, 4), normal(60, 4, seed=1)
    assert kid(x, y, subsets=5, subset_size=10, seed=3) == kid(x, y, subsets=5, subset_size=10, seed=3)
    assert kid(x, y, subsets=5, subset_size=10, seed=3) != kid(x, y, subsets=5, subset_size=10, seed=4)


# Inception score --------------------------------------------------------------------------------------------------


def test_inception_score_of_no_opinion_is_one():
    assert inception_score(torch.zeros(50, 7)) == pytest.approx((1, 0))


def test_inception_score_of_sure_and_balanced_verdicts_is_the_number_of_classes():
    sure = 1e4 * torch.eye(7).repeat(10, 1)
    assert inception_score(sure, splits=1) == pytest.approx((7, 0))


def test_inception_score_of_one_class_is_one():
    assert inception_score(1e4 * torch.eye(7)[[2] * 50]) == pytest.approx((1, 0))


def test_inception_score_between():
    """Verdicts p and 1 - p in halves: log 2 minus the entropy of p."""
    p = 0.9
    logits = torch.tensor([[math.log(p), math.log(1 - p)], [math.log(1 - p), math.log(p)]]).double().repeat(10, 1)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert inception_score(logits, splits=1)[0] == pytest.approx(2 * math.exp(-entropy))


def test_inception_score_does_not_mind_samples_sorted_by_class():
    sure = 1e4 * torch.eye(5)
    by_class, in_turn = sure.repeat_interleave(200, dim=0), sure.repeat(200, 1)
    assert inception_score(by_class)[0] > 4.8  # split as they come, the score of the first would be 1 to 2
    assert inception_score(in_turn)[0] > 4.8


# Precision and recall ---------------------------------------------------------------------------------------------


def test_identical_sets_have_precision_and_recall_one():
    x = normal(100, 6)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x + 1e4, x + 1e4) == (1, 1)


def test_duplicates_lie_in_their_balls_of_radius_zero():
    x = normal(10, 6).repeat(8, 1) + 100
    assert precision_recall(x, x) == (1, 1)


def test_mode_collapse_keeps_precision_and_loses_recall():
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]]).double()
    real = normal(400, 2) + modes.repeat(100, 1)
    fake = 0.5 * normal(400, 2, seed=1)  # the first mode only
    precision, recall = precision_recall(real, fake)
    assert precision > 0.9
    assert recall <= 0.25


def test_too_wide_a_spread_loses_precision_and_keeps_recall():
    real, fake = normal(300, 2), 8 * normal(300, 2, seed=1)
    precision, recall = precision_recall(real, fake)
    assert precision < 0.2
    assert recall > 0.8


def test_balls_reach_to_the_kth_other_sample():
    """On a line with unit gaps: k = 1 reaches 1 far, so of these three only the first two are inside."""
    real = torch.arange(5.0)[:, None]
    fake = torch.tensor([[2.5], [4.9], [5.5]])
    assert precision_recall(real, fake, k=1)[0] == pytest.approx(2 / 3)
    assert precision_recall(real, fake, k=2)[0] == 1  # an end's second nearest is 2 away


def test_precision_recall_is_the_direct_definition():
    real, fake, k = normal(60, 3), 1.3 * normal(50, 3, seed=1) + 0.4, 3

    def share(x, centres):
        radius = torch.cdist(centres, centres).sort(dim=1).values[:, k]  # [:, 0] is the distance to itself
        return (torch.cdist(x, centres) <= radius).any(dim=1).double().mean().item()

    assert precision_recall(real, fake, k) == pytest.approx((share(fake, real), share(real, fake)))


# Accuracy and bad input -------------------------------------------------------------------------------------------


def test_class_accuracy():
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    assert class_accuracy(logits, torch.tensor([1, 0, 0, 0])) == 0.75


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: FeatureStats().update(torch.zeros(3)), "must be"),
        (lambda: FeatureStats().update(torch.zeros(0, 3)), "must be"),
        (lambda: FeatureStats().update(torch.tensor([[1.0, math.nan]])), "finite"),
        (lambda: FeatureStats().update(torch.zeros(2, 3)).update(torch.zeros(2, 4)), "of 3 features, not of 4"),
        (lambda: FeatureStats().mean, "at least 1"),
        (lambda: FeatureStats().update(torch.zeros(1, 3)).cov, "at least 2 samples, not 1"),
        (lambda: FeatureStats.stored(torch.zeros(3), torch.eye(2), 10), "covariance"),
        (lambda: frechet_distance(FeatureStats(), FeatureStats()), "at least 2 samples, not 0"),
        (lambda: frechet_distance(stored([0, 0], torch.eye(2)), stored([0], torch.eye(1))), "cannot be compared"),
        (lambda: kid(normal(5, 2), normal(5, 2), subset_size=6), "subset_size"),
        (lambda: kid(normal(5, 2), normal(5, 2), subset_size=5, subsets=0), "subsets must be"),
        (lambda: kid(normal(5, 2), normal(5, 3), subset_size=5), "cannot be compared"),
        (lambda: inception_score(normal(5, 2), splits=6), "splits"),
        (lambda: precision_recall(normal(5, 2), normal(5, 2), k=5), "k must be"),
        (lambda: precision_recall(normal(5, 2), normal(5, 3)), "cannot be compared"),
        (lambda: class_accuracy(normal(5, 2), torch.zeros(4)), "needed"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Energy distance --------------------------------------------------------------------------------------------------


def test_the_energy_distance_of_two_points_each_is_as_by_hand():
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(2 * (1 + 5 + 1 + 3) / 4 - 2 - 4)


def test_the_energy_distance_is_unbiased_and_symmetric_and_ignores_shifts_and_turns_of_both():
    g = torch.Generator().manual_seed(0)
    pairs = [torch.randn(2, 30, 2, generator=g).double() for _ in range(200)]
    same = torch.tensor([energy_distance(x, y) for x, y in pairs])
    assert same.mean().abs() < 4 * same.std() / len(same) ** 0.5
    (x, y), turn = pairs[0], torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    assert energy_distance(x + 5, y) > 5
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))
    assert energy_distance(x @ turn + 3, y @ turn + 3) == pytest.approx(energy_distance(x, y))


def test_an_energy_distance_needs_two_samples_of_each():
    with pytest.raises(ValueError, match="not 1 and 5"):
        energy_distance(torch.zeros(1, 2), torch.zeros(5, 2))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_halving_the_steps_tells_the_error_that_is_left(order):
    limit, direction = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1)
    fine, coarse = (limit + direction / n**order for n in (20, 10))  # what a method of that order does
    assert torch.allclose(halving_error(fine, coarse, order), rmse(fine, limit))
