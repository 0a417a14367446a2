"""Learning a score field, how wrong it is, and where particles go that follow it: each against an exact answer."""

import itertools
import math
import threading

import pytest
import torch

from diffusion_core import fields
from diffusion_core.denoisers import Denoiser
from diffusion_core.fields import METHODS, OBJECTIVES, SCHEDULE, Moment
from diffusion_core.losses import explicit_score_matching
from diffusion_core.mixtures import GaussianMixture
from diffusion_core.plane import EXTENT, data_of, lattice, modes
from tests.helpers import close

DATA = data_of("song_ermon")


def batch(n=64, sigma=None, seed=0):
    """Clean points and times, all at sigma or at all levels."""
    g = torch.Generator().manual_seed(seed)
    t = torch.rand(n, generator=g) if sigma is None else torch.full((n,), fields.time_of(sigma))
    return DATA.mixture.sample(n, g), t


class Stretched(Denoiser):
    """The exact field with its score multiplied by `factor`."""

    def __init__(self, data, factor):
        super().__init__()
        self.exact, self.schedule, self.factor = fields.exact_field(data), SCHEDULE, factor

    def forward(self, x, t, cond=None):
        return x + self.factor * (self.exact(x, t) - x)


# Score and loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0, 7.0, 10.0])
def test_the_exact_fields_score_is_the_noised_mixtures(sigma):
    close(SCHEDULE.sigma(torch.tensor(fields.time_of(sigma))), torch.tensor(sigma), rtol=1e-5, atol=0)
    x = lattice(12)
    expected = DATA.mixture.score(x, 1.0, sigma)
    close(fields.score(fields.exact_field(DATA), x, sigma), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("sigma", [0.1, 11.0, math.nan])
def test_a_noise_level_out_of_range_is_refused(sigma):
    with pytest.raises(ValueError, match="between 0.2 and 10"):
        fields.time_of(sigma)


def test_in_units_of_sigma_the_explicit_loss_is_sigma_squared_times_the_usual_one():
    D, sigma, noise = fields.new_field(), 3.0, torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    x0, t = batch(sigma=sigma)
    found = fields.loss(D, "explicit", x0, t, lambda x: noise)
    usual = explicit_score_matching(lambda x: fields.score(D, x, sigma), x0 + sigma * noise)
    close(found, sigma**2 * usual, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("objective", ["sliced", "sliced_vr"])
def test_over_both_axes_sliced_score_matching_is_the_exact_trace_at_every_level(objective):
    """Directions sqrt(2) e_1 and sqrt(2) e_2: the mean of v v' is the identity."""
    D, (x0, t) = fields.new_field(), batch()
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))

    def noise(x):
        return z if len(x) == 64 else math.sqrt(2) * torch.eye(2).repeat_interleave(64, dim=0)

    found = fields.loss(D, objective, x0, t, noise, projections=2)
    close(found, fields.loss(D, "explicit", x0, t, noise), rtol=1e-4, atol=1e-5)


def test_denoising_and_explicit_score_matching_have_the_same_mean_gradient():
    """Vincent 2011; in standard errors, over batches with independent noise."""
    D = fields.new_field(width=8, depth=1)
    g = torch.Generator().manual_seed(0)
    differences = []
    for k in range(100):
        x0, t = batch(256, sigma=1.0, seed=k)
        values = [fields.loss(D, name, x0, t, fields.noise_from(g)) for name in ("denoising", "explicit")]
        a, b = (torch.autograd.grad(v, D.net.layers[0][2].weight)[0].flatten() for v in values)
        differences.append(a - b)
    differences = torch.stack(differences)
    z = differences.mean(0) / (differences.std(0) / math.sqrt(len(differences)))
    assert z.square().mean().sqrt() < 1.5 and z.abs().max() < 5


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="'magic'.*sliced_vr"):
        fields.loss(fields.new_field(), "magic", *batch(), torch.randn_like)


# Training ---------------------------------------------------------------------------------------------------------


def after(n, objective="sliced_vr", **options):
    return next(itertools.islice(fields.train(DATA, objective, **options), n - 1, None))


def test_training_repeats_with_its_seed_and_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    a, b, c = after(5, seed=0), after(5, seed=0), after(5, seed=1)
    assert torch.equal(torch.rand(3), expected)
    x = lattice(3)
    of = [fields.score(p.field, x, 1.0) for p in (a, b, c)]
    assert a.step == 5 and a.loss == b.loss and torch.equal(of[0], of[1]) and not torch.equal(of[0], of[2])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_learns_the_score(objective):
    untrained = fields.errors(fields.new_field(), DATA, 3.0).relative
    learned = fields.errors(after(150, objective, sigma=3.0).field, DATA, 3.0).relative
    assert learned < 0.3 < untrained


def test_a_field_of_all_levels_learns_them_all():
    field = after(300, "denoising").field
    assert all(error < 0.35 for sigma, error in fields.errors_by_level(field, DATA) if sigma >= 1)


def test_training_works_where_gradients_are_switched_off_and_leaves_them_off():
    with torch.no_grad():
        assert after(2).step == 2
        assert not torch.is_grad_enabled()


def test_losses_are_averaged_in_steps_of_equal_length():
    assert fields.smoothed([1.0, 3.0]) == [(1.0, 2.0)]
    curve = fields.smoothed([float(k) for k in range(1000)])
    assert len(curve) == 100 and curve[0] == (5.0, 4.5) and curve[-1] == (995.0, 994.5)


# Errors -----------------------------------------------------------------------------------------------------------


def test_the_exact_field_has_no_error_and_a_stretched_one_its_own():
    exact = fields.errors(fields.exact_field(DATA), DATA, 1.0)
    assert max(exact) < 1e-4
    stretched = fields.errors(Stretched(DATA, 1.1), DATA, 1.0)
    assert stretched.relative == pytest.approx(0.1, rel=1e-3)
    assert stretched.edge_relative == pytest.approx(0.1, rel=1e-3)
    assert stretched.edge_mse > stretched.mse  # far out the score is large


def test_the_mean_squared_error_is_over_the_noised_density():
    """One Gaussian: E|0.1 s|^2 = 0.01 * 2 / (1 + sigma^2)."""
    data = modes("one", [[0.0, 0.0]], 1.0)
    n, expected = 20_000, 0.01 * 2 / (1 + 4)
    found = fields.errors(Stretched(data, 1.1), data, 2.0, n=n).mse
    assert found == pytest.approx(expected, rel=4 / math.sqrt(n))  # the relative standard deviation of chi^2 / 2 is 1


def test_the_edge_is_where_the_density_is_lowest():
    data = modes("one", [[0.0, 0.0]], 1.0)

    class WrongFarOut(Stretched):
        def forward(self, x, t, cond=None):
            far = x.norm(dim=1, keepdim=True) > 1.02 * math.sqrt(2) * math.sqrt(-2 * math.log(0.05))
            return torch.where(far, super().forward(x, t), self.exact(x, t))  # in less than 5 % of N(0, 2 I)

    found = fields.errors(WrongFarOut(data, 2.0), data, 1.0)
    assert 0.05 * found.edge_mse == pytest.approx(found.mse, rel=0.01) and found.mse > 0


def test_objectives_are_compared_after_the_same_time_at_the_same_place():
    rivals = [r for r in fields.compare(DATA, 1.0, 0.1) if r]
    assert [r.objective for r in rivals] == list(OBJECTIVES)
    assert all(r.steps >= 1 and r.variance > 0 and math.isfinite(r.relative) for r in rivals)


def test_a_comparison_ends_though_each_step_is_asked_for_by_another_thread():
    """As on the page. CPU time is counted by thread, and a new one's begins at 0."""
    run, found = fields.compare(DATA, 1.0, 0.02), []
    for _ in range(500):
        thread = threading.Thread(target=lambda: found.append(next(run, "end")))
        thread.start()
        thread.join()
        if found[-1] == "end":
            break
    assert len([r for r in found[:-1] if r]) == len(OBJECTIVES) and found[-1] == "end"


def test_more_projections_make_the_gradient_of_sliced_score_matching_less_noisy():
    D = after(50, sigma=1.0).field
    one, many = (fields.gradient_variance(D, DATA, "sliced", 1.0, projections=p) for p in (1, 16))
    assert many < 0.5 * one


# Particles --------------------------------------------------------------------------------------------------------


def last(method, D, x, calls, **options):
    *_, moment = fields.travel(method, D, x, calls, **{"sigma": 1.0, "step": 0.2, "share": 0.3} | options)
    return moment


def test_particles_start_with_the_mean_and_covariance_of_the_noisiest_data():
    n = 20_000
    x, (mean, cov) = fields.start(DATA, n), DATA.moments()
    cov = cov + SCHEDULE.sigma_max**2 * torch.eye(2)
    assert ((x.mean(0) - mean).abs() < 4 * (cov.diagonal() / n).sqrt()).all()
    found = torch.cov(x.T)
    se = ((cov.square() + torch.outer(cov.diagonal(), cov.diagonal())) / n).sqrt()
    assert ((found - cov).abs() < 4 * se).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_way_begins_at_the_start_repeats_with_its_seed_and_counts_its_calls(method):
    D, x = fields.exact_field(DATA), fields.start(DATA, 20)
    calls = []
    counted = Stretched(DATA, 1.0)
    counted.register_forward_hook(lambda *_: calls.append(1))
    first, *_, end = fields.travel(method, counted, x, 100, sigma=1.0, step=0.2, share=0.3)
    assert torch.equal(first.x, x) and first.calls == 0
    assert end.calls == len(calls) == 100
    assert end.sigma == pytest.approx(1.0 if method == "langevin" else SCHEDULE.sigma_min, rel=1e-3)
    assert torch.equal(last(method, D, x, 100).x, last(method, D, x, 100).x)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="'teleport'.*langevin"):
        last("teleport", fields.exact_field(DATA), fields.start(DATA, 2), 10)


def test_langevin_settles_at_the_variance_of_the_unadjusted_chain():
    """S^2 / (1 - step / (2 S^2)) with S^2 = 1 + sigma^2, for x' = (1 - step / S^2) x + sqrt(2 step) z."""
    data, n, sigma, share = modes("one", [[0.0, 0.0]], 1.0), 4000, 1.0, 0.3
    step = fields.langevin_step(data, sigma, share)
    assert step == pytest.approx(0.6)
    x = last("langevin", fields.exact_field(data), fields.start(data, n), 100, sigma=sigma, step=step).x
    expected = 2 / (1 - step / 4)
    assert x.square().mean().item() == pytest.approx(expected, rel=4 * math.sqrt(1 / n))


def test_plain_langevin_gets_the_weights_wrong_and_annealed_langevin_gets_them_right():
    """The lesson: at one level no particle crosses between the modes, so that their weights are those of the start."""
    n, D = 1000, fields.exact_field(DATA)
    x, true = fields.start(DATA, n), DATA.true_weights()[0].item()
    se = math.sqrt(true * (1 - true) / n)
    found = {}
    for method in ("langevin", "annealed"):
        moment = last(method, D, x, 200 if method == "langevin" else 2000)
        found[method] = DATA.mode_weights(moment.x, moment.sigma)[0].item()
    assert abs(found["annealed"] - true) < 4 * se < 8 * se < found["langevin"] - true


def test_the_outcome_of_samples_of_the_data_is_as_good_as_it_gets():
    n, right = 2000, fields.true_outcome(DATA, 2000)
    assert right.weight_error < 4 * math.sqrt(0.16 / n) and abs(right.energy) < 0.1
    one_mode = Moment(GaussianMixture(torch.tensor([[5.0, 5.0]]), 1.0).sample(n), 0.0, 0)
    wrong = fields.outcome(DATA, one_mode)
    assert wrong.weight_error == pytest.approx(0.2, abs=1e-5) and wrong.energy > 5 * right.energy


def test_particles_that_follow_a_field_of_all_levels_arrive_within_the_picture():
    field = after(200, "denoising").field
    for method in METHODS:
        x = last(method, field, fields.start(DATA, 50), 60).x
        assert x.isfinite().all() and x.abs().median() < EXTENT
