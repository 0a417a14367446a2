"""The denoising loss, its weights and times, and the three forms of score matching."""

import math

import pytest
import torch
import torch.nn.functional as F

from diffusion_core.denoisers import NetDenoiser, to_eps, to_v
from diffusion_core.losses import (
    denoising_loss,
    denoising_score_matching,
    explicit_score_matching,
    huber,
    sample_times,
    sliced_score_matching,
    time_density,
)
from diffusion_core.mixtures import GaussianMixture
from diffusion_core.schedules import SCHEDULES, VPLinear
from tests.helpers import Stub, close, randn

PREDICTIONS = ["x0", "eps", "v"]


class Case:
    """A batch of noised images, and a guess at x0; `target` and `guess` in terms of each prediction."""

    def __init__(self, schedule, n=6):
        self.schedule, self.x0, self.eps = schedule, randn(n, 1, 4, 4), randn(n, 1, 4, 4, seed=1)
        self.t = torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)
        alpha, sigma = (fn(self.t)[:, None, None, None] for fn in (schedule.alpha, schedule.sigma))
        self.snr = (alpha / sigma).flatten() ** 2
        x, guess = alpha * self.x0 + sigma * self.eps, randn(n, 1, 4, 4, seed=2)
        self.x0_guess = guess
        self.target, self.guess = (
            {"x0": x0, "eps": to_eps(x0, x, alpha, sigma), "v": to_v(x0, x, alpha, sigma)} for x0 in (self.x0, guess)
        )

    def loss(self, prediction, output, **kwargs):
        D = NetDenoiser(Stub(output), self.schedule, prediction)
        return denoising_loss(D, self.x0, None, self.t, self.eps, **kwargs).double()


# Denoising --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["l2", "l1", "huber"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_zero_when_the_network_puts_out_its_target(schedule, prediction, loss):
    case = Case(schedule)
    close(case.loss(prediction, case.target[prediction], loss=loss), torch.zeros(6).double())


@pytest.mark.parametrize("loss, reference", [("l2", F.mse_loss), ("l1", F.l1_loss), ("huber", F.huber_loss)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_a_mean_over_each_image_of_its_distance_to_the_target(schedule, prediction, loss, reference):
    case = Case(schedule)
    output = randn(6, 1, 4, 4, seed=3)
    expected = reference(output, case.target[prediction], reduction="none").mean(dim=(1, 2, 3))
    close(case.loss(prediction, output, loss=loss), expected, rtol=1e-5, atol=1e-5)


def test_on_a_vp_schedule_the_target_of_v_is_alpha_eps_minus_sigma_x0():
    case = Case(VPLinear())
    alpha, sigma = (fn(case.t)[:, None, None, None] for fn in (VPLinear().alpha, VPLinear().sigma))
    close(case.target["v"], alpha * case.eps - sigma * case.x0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_the_same_loss_whatever_is_predicted(schedule, prediction):
    """The squared error of x0, weighted by min(snr, 5)."""
    case = Case(schedule)
    expected = case.snr.clamp(max=5) * (case.x0_guess - case.x0).square().mean(dim=(1, 2, 3))
    found = case.loss(prediction, case.guess[prediction], weight="min_snr")
    close(found, expected, rtol=1e-4, atol=1e-6 * expected.max().item())


def test_huber_and_its_slope_are_continuous_at_delta():
    for delta in (0.5, 1.0):
        e = torch.tensor([-1, -1, 1, 1]).double() * delta + torch.tensor([-1e-9, 1e-9, -1e-9, 1e-9]).double()
        e.requires_grad_()
        value = huber(e, delta)
        (gradient,) = torch.autograd.grad(value.sum(), e)
        close(value, torch.full_like(e, 0.5 * delta**2), atol=1e-8)
        close(gradient, delta * e.sign(), atol=1e-8)
    assert huber(torch.tensor(10.0)) == 9.5 and huber(torch.tensor(0.1)) == pytest.approx(0.005)


# Times ------------------------------------------------------------------------------------------------------------


def draw(schedule, n, method, **kwargs):
    return sample_times(schedule, n, method, generator=torch.Generator().manual_seed(0), **kwargs)


@pytest.mark.parametrize("method", ["uniform", "stratified", "lognormal"])
def test_training_times_lie_between_t_min_and_t_max(schedule, method):
    t = draw(schedule, 1000, method)
    assert t.shape == (1000,) and t.dtype == torch.float32
    assert t.min() >= torch.tensor(schedule.t_min) and t.max() <= torch.tensor(schedule.t_max)
    assert torch.equal(t, draw(schedule, 1000, method))


def test_uniform_times_are_uniform(schedule):
    n, u = 10_000, (draw(schedule, 10_000, "uniform") - schedule.t_min) / (schedule.t_max - schedule.t_min)
    for p in (0.1, 0.5, 0.9):
        assert abs((u < p).double().mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_stratified_times_are_one_in_each_stratum(schedule):
    u = (draw(schedule, 64, "stratified").double() - schedule.t_min) / (schedule.t_max - schedule.t_min)
    assert (64 * u).floor().sort().values.tolist() == list(range(64))


@pytest.mark.parametrize("name", SCHEDULES)
def test_lognormal_times_have_a_normal_log_of_sigma_over_alpha(name):
    schedule, n, mean, std = SCHEDULES[name](), 10_000, -0.7, 0.9
    log_ratio = -schedule.lam(draw(schedule, n, "lognormal", mean=mean, std=std).double())
    normal = torch.distributions.Normal(mean, std)
    for p in (0.05, 0.25, 0.5, 0.75, 0.95):
        below = (log_ratio < normal.icdf(torch.tensor(p))).double().mean()
        assert abs(below - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_an_unknown_way_to_draw_times_is_refused():
    with pytest.raises(ValueError, match="uniform, stratified or lognormal"):
        sample_times(VPLinear(), 4, "sobol")


# Score matching ---------------------------------------------------------------------------------------------------
# For s(x) = -W x each objective is a quadratic in W whose gradient vanishes at the inverse of a covariance. Directions
# from an orthogonal frame (below) make the mean of v v' exactly the identity, so that nothing is left to chance.

ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.2, 0.8]]).double()
X = randn(40, 3) @ ROOT.T
MOMENT = X.T @ X / len(X)  # of the sample, so that its inverse is the exact answer


def frame(x):
    """x holds len(x) / n copies of n points; copy k gets the direction sqrt(d) e_k, and copy d + k its opposite."""
    d, n = x.shape[1], len(X)
    directions = math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).to(x)
    return directions[: len(x) // n].repeat_interleave(n, dim=0)


OBJECTIVES = {
    "explicit": explicit_score_matching,
    "sliced": lambda s, x: sliced_score_matching(s, x, projections=3, variance_reduced=False, noise=frame),
    "sliced, variance reduced": lambda s, x: sliced_score_matching(s, x, projections=3, noise=frame),
}


def gradient(objective, W):
    """Of objective(s(x) = -W x), at W."""
    W = W.clone().requires_grad_()
    return torch.autograd.grad(objective(lambda x: -x @ W.T), W)[0]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_vanishes_at_the_inverse_covariance_and_only_there(name):
    def objective(score):
        return OBJECTIVES[name](score, X)

    close(gradient(objective, torch.linalg.inv(MOMENT)), torch.zeros(3, 3).double())
    W = randn(3, 3, seed=5)
    close(gradient(objective, W), W @ MOMENT - torch.eye(3).double())


def test_denoising_score_matching_vanishes_at_the_inverse_covariance_of_the_noised_data():
    sigma, six = 0.7, X.repeat(6, 1)  # each point with the noise +- sqrt(3) e_k: mean 0, variance 1, independent of x
    noised = MOMENT + sigma**2 * torch.eye(3).double()

    def objective(score):
        return denoising_score_matching(score, six, sigma, noise=frame)

    close(gradient(objective, torch.linalg.inv(noised)), torch.zeros(3, 3).double())
    W = randn(3, 3, seed=5)
    close(gradient(objective, W), sigma**2 * (W @ noised - torch.eye(3).double()))


def test_denoising_score_matching_with_gaussian_noise_agrees_in_standard_errors():
    sigma, repeats = 0.7, 200
    W = torch.linalg.inv(MOMENT + sigma**2 * torch.eye(3).double())
    generator = torch.Generator().manual_seed(0)

    def objective(score):
        return denoising_score_matching(
            score, X, sigma, noise=lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)
        )

    draws = torch.stack([gradient(objective, W) for _ in range(repeats)])
    assert (draws.mean(0).abs() < 4 * draws.std(0) / math.sqrt(repeats)).all()


def test_sliced_score_matching_over_a_frame_is_explicit_score_matching_for_any_score():
    modes = GaussianMixture(randn(2, 3, seed=7), 0.8)
    explicit = explicit_score_matching(modes.score, X)
    for name in ("sliced", "sliced, variance reduced"):
        close(OBJECTIVES[name](modes.score, X), explicit)


def test_explicit_score_matching_is_the_distance_to_the_true_score_up_to_a_constant():
    """On N(0, C) with s(x) = -W x, E[tr(grad s) + |s|^2 / 2] = E|s - s*|^2 / 2 - tr(C^-1) / 2 (Hyvarinen's theorem)."""
    W, P = randn(3, 3, seed=5), torch.linalg.inv(MOMENT)
    distance = 0.5 * ((P - W) @ X.T).square().sum(dim=0).mean()
    close(explicit_score_matching(lambda x: -x @ W.T, X), distance - 0.5 * P.trace())


def test_the_mean_in_closed_form_lowers_the_variance_of_sliced_score_matching():
    """Data N(0, I) in d = 10 dimensions with its own score: over v, a point's variance is 2 tr(W^2) = 2 d, not about
    d (d + 2) / 2. In one dimension it would be the other way round.
    """
    x, generator = randn(100, 10), torch.Generator().manual_seed(0)

    def variance(variance_reduced):
        def noise(x):
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        kwargs = dict(variance_reduced=variance_reduced, noise=noise)
        return torch.stack([sliced_score_matching(lambda x: -x, x, **kwargs) for _ in range(300)]).var().item()

    se = math.sqrt(2 / 299)  # relative standard error of a variance
    assert variance(True) == pytest.approx(20 / 100, rel=4 * se)
    assert variance(False) > 2 * variance(True)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("method", ["uniform", "stratified", "lognormal"])
def test_the_density_of_training_times_has_the_area_that_is_drawn_within_the_schedule(name, method):
    """1; with lognormal times, the normal distribution's share between the schedule's ends."""
    schedule = SCHEDULES[name]()
    t = torch.linspace(schedule.t_min, schedule.t_max, 100_001, dtype=torch.float64)
    middle = (t[1:] + t[:-1]) / 2
    area = time_density(schedule, middle, method, mean=-0.6, std=1.4).mean() * (schedule.t_max - schedule.t_min)
    cdf = torch.special.ndtr((-schedule.lam(t[[0, -1]]) + 0.6) / 1.4)
    expected = (cdf[1] - cdf[0]).item() if method == "lognormal" else 1.0
    assert area.item() == pytest.approx(expected, rel=1e-3)
