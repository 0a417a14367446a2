"""The oracle itself: density, score and posterior mean of a noised mixture, each checked against the others."""

import math

import pytest
import torch

from diffusion_core.denoisers import to_x0
from diffusion_core.mixtures import GaussianMixture, MixtureDenoiser

ALPHA_SIGMA = [(1.0, 0.0), (0.8, 0.6), (1.0, 3.0), (0.1, 0.5)]
NOISY = ALPHA_SIGMA[1:]


def close(a, b, rtol=1e-9, atol=1e-11):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def tilted():
    """Three components of unequal weight; the covariances are neither round nor aligned with the axes."""
    means = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [0.0, -1.0]]).double()
    roots = torch.tensor([[[0.9, 0.0], [0.5, 0.3]], [[0.4, 0.0], [-0.3, 0.7]], [[0.5, 0.0], [0.0, 0.5]]]).double()
    return GaussianMixture(means, roots @ roots.mT, torch.tensor([1.0, 2.0, 3.0]))


def points(n=50):
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("alpha, sigma", ALPHA_SIGMA)
def test_score_is_the_gradient_of_log_prob(alpha, sigma):
    x = points().requires_grad_()
    (gradient,) = torch.autograd.grad(tilted().log_prob(x, alpha, sigma).sum(), x)
    close(tilted().score(x.detach(), alpha, sigma), gradient)


@pytest.mark.parametrize("alpha, sigma", NOISY)
def test_posterior_mean_and_score_obey_tweedie(alpha, sigma):
    x = points()
    close(tilted().posterior_mean(x, alpha, sigma), (x + sigma**2 * tilted().score(x, alpha, sigma)) / alpha)


@pytest.mark.parametrize("alpha, sigma", NOISY)
def test_the_posterior_mean_of_one_gaussian_is_linear(alpha, sigma):
    mu, s, x = torch.tensor([[0.7, -1.0]]).double(), 0.5, points()
    expected = mu + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * mu)
    close(GaussianMixture(mu, s).posterior_mean(x, alpha, sigma), expected)


@pytest.mark.parametrize("alpha, sigma", NOISY)
def test_the_posterior_mean_of_one_tilted_gaussian_takes_its_whole_covariance(alpha, sigma):
    mu, C, x = torch.tensor([[0.7, -1.0]]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double(), points()
    gain = alpha * C @ torch.linalg.inv(alpha**2 * C + sigma**2 * torch.eye(2).double())
    close(GaussianMixture(mu, C[None]).posterior_mean(x, alpha, sigma), mu + (x - alpha * mu) @ gain.T)


@pytest.mark.parametrize("alpha, sigma", ALPHA_SIGMA)
def test_the_density_integrates_to_one(alpha, sigma):
    half = 6 * max(1.0, sigma) + 3
    axis, step = torch.linspace(-half, half, 401, dtype=torch.float64), 2 * half / 400
    density = tilted().log_prob(torch.cartesian_prod(axis, axis), alpha, sigma).exp()
    assert (density.sum() * step**2).item() == pytest.approx(1, abs=1e-6)


def test_log_prob_of_one_gaussian_is_torchs():
    mu, C = torch.tensor([0.7, -1.0]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double()
    close(
        GaussianMixture(mu[None], C[None]).log_prob(points()),
        torch.distributions.MultivariateNormal(mu, C).log_prob(points()),
    )


def test_log_prob_and_score_stay_finite_far_away():
    far = torch.tensor([[1e3, -1e3]]).double()
    assert tilted().log_prob(far).isfinite().all() and tilted().score(far).isfinite().all()


def test_alpha_and_sigma_may_differ_from_point_to_point():
    x, alpha, sigma = points(4), torch.tensor([1.0, 0.8, 0.5, 0.1]), torch.tensor([0.1, 0.6, 0.7, 2.0])
    for method in (tilted().log_prob, tilted().score, tilted().posterior_mean):
        alone = [method(x[k : k + 1], alpha[k].item(), sigma[k].item()) for k in range(4)]
        close(method(x, alpha, sigma), torch.cat(alone))


def test_samples_have_the_mean_and_covariance_of_the_mixture():
    n, m = 20_000, tilted()
    w = m.weights
    mean = w @ m.means
    C = torch.einsum("k,kde->de", w, m.covs) + torch.einsum("k,kd,ke->de", w, m.means - mean, m.means - mean)
    x = m.sample(n, torch.Generator().manual_seed(0))
    products = torch.einsum("nd,ne->nde", x - mean, x - mean)
    assert ((x.mean(0) - mean).abs() < 4 * (C.diagonal() / n).sqrt()).all()
    assert ((products.mean(0) - C).abs() < 4 * products.std(0) / math.sqrt(n)).all()


def test_samples_fall_on_the_components_by_weight():
    n, m = 20_000, GaussianMixture(torch.tensor([[-5.0], [5.0]]), 0.1, torch.tensor([3.0, 7.0]))
    share = (m.sample(n, torch.Generator().manual_seed(0)) < 0).double().mean().item()
    assert abs(share - 0.3) < 4 * math.sqrt(0.21 / n)


def test_sampling_repeats_with_its_generator():
    a, b, c = (tilted().sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


# As a denoiser ----------------------------------------------------------------------------------------------------


def test_the_denoiser_is_the_posterior_mean_at_each_samples_time(schedule):
    x, t = points(6), torch.linspace(schedule.t_min, schedule.t_max, 6, dtype=torch.float64)
    D = MixtureDenoiser(tilted(), schedule)
    close(D(x, t), tilted().posterior_mean(x, schedule.alpha(t), schedule.sigma(t)))
    eps = -schedule.sigma(t)[:, None] * tilted().score(x, schedule.alpha(t), schedule.sigma(t))
    x0 = to_x0(eps, x, schedule.alpha(t)[:, None], schedule.sigma(t)[:, None], "eps")
    close(D(x, t), x0, atol=1e-9)


def test_a_class_picks_its_component_and_the_null_label_all_of_them(schedule):
    m, x, t = tilted(), points(4), torch.full((4,), 0.5, dtype=torch.float64)
    D = MixtureDenoiser(m, schedule, classes=True)
    assert D.null == 3 and MixtureDenoiser(m, schedule).null is None
    for k in range(3):
        alone = MixtureDenoiser(GaussianMixture(m.means[k : k + 1], m.covs[k : k + 1]), schedule)
        close(D(x, t, torch.full((4,), k)), alone(x, t))
    assert torch.equal(D(x, t, torch.full((4,), D.null)), D(x, t))
    mixed = D(x, t, torch.tensor([0, 1, 2, 3]))
    close(mixed, torch.stack([D(x, t, torch.full((4,), k))[k] for k in range(4)]))


@pytest.mark.parametrize("alpha, sigma", ALPHA_SIGMA)
def test_responsibilities_are_the_components_shares_of_the_density(alpha, sigma):
    m, x = tilted(), points()
    parts = [
        (w.log() + GaussianMixture(mu[None], C[None]).log_prob(x, alpha, sigma) - m.log_prob(x, alpha, sigma)).exp()
        for w, mu, C in zip(m.weights, m.means, m.covs, strict=True)
    ]
    close(m.responsibilities(x, alpha, sigma), torch.stack(parts, dim=1))
