"""Samplers against what is known exactly when data is N(MU, SD^2): the posterior mean is affine in x, so the ODE's flow
has a closed form, and every stochastic step is x' = M x + c + q z, through which mean and variance can be pushed.
"""

import itertools
import math
from functools import partial

import pytest
import torch

from diffusion_core.denoisers import Clipped, Denoiser, Guided
from diffusion_core.mixtures import GaussianMixture, MixtureDenoiser
from diffusion_core.samplers import (
    _ERROR,
    _NODES,
    _STAGES,
    SAMPLERS,
    SPACINGS,
    annealed_langevin,
    ddim,
    ddpm,
    dpmpp_2m,
    generate,
    langevin,
    ode,
    predictor_corrector,
    reverse_sde,
    rk45,
    seeded_noise,
    timesteps,
)
from diffusion_core.schedules import SCHEDULES, VE, Discrete, VPCosine, VPLinear, over_batch

MU, SD = 0.7, 0.5
euler, heun = partial(ode, method="euler"), partial(ode, method="heun")
VP_LIKE = [name for name in SCHEDULES if name not in ("ve", "discrete")]


def f64(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def close(a, b, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def gaussian(schedule):
    return MixtureDenoiser(GaussianMixture(f64([MU]), SD), schedule)


def marginal(schedule, t):
    """Mean and standard deviation of x_t."""
    alpha, sigma = (fn(torch.tensor(t, dtype=torch.float64)).item() for fn in (schedule.alpha, schedule.sigma))
    return alpha * MU, math.hypot(alpha * SD, sigma)


def flow(schedule, x, t, u):
    """Where the probability-flow ODE takes x from time t to u: the same quantile of the other marginal."""
    (mean_t, S_t), (mean_u, S_u) = marginal(schedule, t), marginal(schedule, u)
    return mean_u + S_u / S_t * (x - mean_t)


def start(schedule):
    return schedule.sigma(torch.tensor(schedule.t_max).double()).item() * f64([-1.0], [0.5], [2.0])


def last(steps):
    *_, step = steps
    return step


def slope(errors):
    """Order of convergence from the errors at n = 128 and 512."""
    return math.log(abs(errors[0]) / abs(errors[1])) / math.log(4)


class Stub(Denoiser):
    """An elementwise denoiser in exactly rounded arithmetic, so that bits can be compared; it records its calls."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.times, self.grad_modes, self.conds = schedule, [], [], []

    def forward(self, x, t, cond=None):
        self.times.append(t[0].item())
        self.grad_modes.append(torch.is_grad_enabled())
        self.conds.append(cond)
        shift = 0.0 if cond is None else over_batch(0.25 * cond, x)
        return x / (1 + x * x) + shift


class Fixed(Denoiser):
    """Predicts the same x0 whatever it sees."""

    def __init__(self, schedule, x0):
        super().__init__()
        self.schedule, self.x0 = schedule, x0

    def forward(self, x, t, cond=None):
        return self.x0


# Time grids -------------------------------------------------------------------------------------------------------

EVEN_IN = {
    "lam": lambda s, t: s.lam(t),
    "t": lambda s, t: t,
    "karras": lambda s, t: (s.sigma(t) / s.alpha(t)) ** (1 / 7),
    "quad": lambda s, t: t.sqrt(),
    "ddpm": lambda s, t: t,
}


@pytest.mark.parametrize("n", [1, 2, 37])
@pytest.mark.parametrize("spacing", ["lam", "t", "karras", "quad"])
def test_times_fall_from_t_max_to_t_min_in_even_steps_of_what_the_spacing_says(schedule, spacing, n):
    ts = timesteps(schedule, n, spacing)
    assert ts.shape == (n + 1,) and ts.dtype == torch.float64 and ts.device.type == "cpu"
    assert ts[0] == schedule.t_max and ts[-1] == schedule.t_min and (ts.diff() < 0).all()
    steps = EVEN_IN[spacing](schedule, ts).diff()
    close(steps, steps.mean().expand(n), rtol=1e-7)


@pytest.mark.parametrize("spacing", ["lam", "t", "karras", "quad"])
def test_times_may_begin_and_end_elsewhere_and_rise(schedule, spacing):
    ts = timesteps(schedule, 10, spacing, start=0.2, stop=0.7)
    assert ts[0] == 0.2 and ts[-1] == 0.7 and (ts.diff() > 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_no_steps_are_one_time(spacing):
    assert timesteps(Discrete(), 0, spacing).tolist() == [1.0]


@pytest.mark.parametrize("n", range(1, 10))
def test_ddpm_times_are_levels_of_a_discrete_schedule_spread_evenly(n):
    """As few as two of the ten levels, as many as all."""
    levels = 10 * timesteps(Discrete([0.9**k for k in range(1, 11)]), n, "ddpm")
    assert levels[0] == 10 and levels[-1] == 1
    close(levels, levels.round(), atol=1e-12)
    gaps = -levels.diff().round()
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_a_thousand_ddpm_steps_visit_every_level_once():
    stub = Stub(Discrete())
    assert last(generate(stub, (1, 1), "ddpm", steps=1000, seeds=[0], spacing="ddpm")).nfe == 1000
    visited = (1000 * torch.tensor(stub.times)).round()
    assert visited.tolist() == list(range(1000, 0, -1))


@pytest.mark.parametrize(
    "args, message",
    [
        ((VPLinear(), 5, "linear"), "Unknown spacing"),
        ((VPLinear(), -1), "number of steps"),
        ((VPLinear(), 5, "ddpm"), "continuous"),
        ((Discrete(), 1000, "ddpm"), "1000 levels"),
        ((VPLinear(), 5, "lam", None, 0.0), "sigma = 0"),  # lambda is infinite there: no even steps lead to it
    ],
)
def test_impossible_times_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        timesteps(*args)


# Order of convergence ---------------------------------------------------------------------------------------------

ORDERS = [(euler, 1), (ddim, 1), (heun, 2), (dpmpp_2m, 2)]
ORDER_IDS = ["euler", "ddim", "heun", "dpmpp_2m"]


def errors(sampler, schedule, spacing):
    x = start(schedule)
    exact = flow(schedule, x, schedule.t_max, schedule.t_min)
    grids = (timesteps(schedule, n, spacing) for n in (128, 512))
    return [(last(sampler(gaussian(schedule), x, ts)).x - exact).abs().max().item() for ts in grids]


@pytest.mark.parametrize("sampler, order", ORDERS, ids=ORDER_IDS)
def test_the_error_falls_with_the_order_of_the_method(smooth, sampler, order):
    assert slope(errors(sampler, smooth, "lam")) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("spacing", ["t", "karras", "quad"])
@pytest.mark.parametrize("sampler, order", ORDERS, ids=ORDER_IDS)
def test_the_order_does_not_depend_on_the_spacing(sampler, order, spacing):
    assert slope(errors(sampler, VPLinear(), spacing)) == pytest.approx(order, abs=0.1)


def test_rk45_follows_its_tolerance(smooth):
    x, found = start(smooth), []
    for tol in (1e-3, 1e-5, 1e-7):
        steps = list(rk45(gaussian(smooth), x, smooth.t_max, smooth.t_min, rtol=tol, atol=tol))
        found.append((steps[-1].x - flow(smooth, x, smooth.t_max, smooth.t_min)).abs().max().item())
        assert found[-1] < 20 * tol and steps[-1].t == smooth.t_min
    assert found[0] > 5 * found[1] > 25 * found[2]


def test_rk45s_coefficients_meet_their_order_conditions():
    nodes, weights, error = (torch.tensor(v, dtype=torch.float64) for v in (_NODES, [*_STAGES[-1], 0], _ERROR))
    close(f64(*(sum(stage) for stage in _STAGES)), nodes)
    for k in range(5):
        assert (weights * nodes**k).sum().item() == pytest.approx(1 / (k + 1))  # order 5
        if k < 4:
            assert (error * nodes**k).sum().item() == pytest.approx(0, abs=1e-14)  # and the other of order 4


def test_rk45_gives_up_after_max_nfe():
    with pytest.raises(RuntimeError, match="without arriving"):
        last(rk45(gaussian(VPLinear()), start(VPLinear()), 1.0, 1e-3, rtol=1e-8, atol=1e-8, max_nfe=50))


@pytest.mark.parametrize("sampler", [heun, euler, ddim, dpmpp_2m], ids=["heun", "euler", "ddim", "dpmpp_2m"])
def test_deterministic_samplers_also_run_upwards(smooth, sampler):
    x = marginal(smooth, 0.1)[0] + f64([-0.4], [0.3])
    ts = timesteps(smooth, 500, start=0.1, stop=smooth.t_max)
    exact = flow(smooth, x, 0.1, smooth.t_max)
    close(last(sampler(gaussian(smooth), x, ts)).x, exact, rtol=0.05, atol=0.05)


def test_an_unknown_ode_method_is_refused():
    with pytest.raises(ValueError, match="heun or euler"):
        next(ode(gaussian(VPLinear()), start(VPLinear()), timesteps(VPLinear(), 2), method="rk4"))


# Equalities -------------------------------------------------------------------------------------------------------


def bimodal(schedule):
    return MixtureDenoiser(GaussianMixture(f64([-2.0], [1.0]), 0.3, torch.tensor([0.3, 0.7])), schedule)


def test_ddim_is_euler_in_x_over_alpha_and_sigma_over_alpha(schedule):
    D, ts, x = bimodal(schedule), timesteps(schedule, 20), start(schedule)
    alpha, sigma = schedule.alpha(ts), schedule.sigma(ts)
    y, k = x / alpha[0], sigma / alpha
    for i, step in enumerate(ddim(D, x, ts)):
        eps = (alpha[i] * y - alpha[i] * D(alpha[i] * y, ts[i].expand(3))) / sigma[i]
        y = y + (k[i + 1] - k[i]) * eps
        close(step.x, alpha[i + 1] * y)


def test_the_first_step_of_2m_is_ddim(schedule):
    D, x = bimodal(schedule), start(schedule)
    for pair in timesteps(schedule, 4).unfold(0, 2, 1):
        close(last(dpmpp_2m(D, x, pair)).x, last(ddim(D, x, pair)).x)


def test_2m_is_ddim_where_the_prediction_does_not_change(schedule):
    D, x, ts = Fixed(schedule, f64([0.1], [0.2], [0.3])), start(schedule), timesteps(schedule, 20)
    close(last(dpmpp_2m(D, x, ts)).x, last(ddim(D, x, ts)).x)


def test_eta_1_is_the_posterior_of_ddpm():
    """q(x_{i-1} | x_i, x0), eq. 7 of the DDPM paper, from the betas."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bars = torch.cumprod(1 - betas, dim=0)
    x, x0, z = f64([1.3], [-0.4]), f64([0.2], [0.6]), f64([1.0], [-2.0])
    for i in (1, 10, 500, 999):
        pair, beta, bar, before = f64((i + 1) / 1000, i / 1000), betas[i], bars[i], bars[i - 1]
        mean = before.sqrt() * beta / (1 - bar) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - bar) * x
        std = (beta * (1 - before) / (1 - bar)).sqrt()
        close(last(ddpm(Fixed(Discrete(), x0), x, pair, noise=lambda x: z)).x, mean + std * z)


def test_eta_scales_the_noise_of_ddpm_and_keeps_the_total(schedule):
    """Given x0, x_u has standard deviation sigma_u for any eta: what eta adds as new noise it takes from the old."""
    t, u, x0, zero = 0.6, 0.4, f64([0.2]), f64([0.0])
    (a, a1), (s, s1) = (fn(f64(t, u)).tolist() for fn in (schedule.alpha, schedule.sigma))

    def parts(eta):
        """(coefficient of the old noise, of the new)"""
        run = partial(ddim, Fixed(schedule, x0), ts=f64(t, u), eta=eta)
        old = last(run(x=a * x0 + s, noise=torch.zeros_like)).x - a1 * x0
        new = last(run(x=a * x0, noise=torch.ones_like)).x - a1 * x0
        assert last(run(x=a * x0, noise=torch.zeros_like)).x.item() == pytest.approx((a1 * x0 + zero).item())
        return old.item(), new.item()

    for eta in (0.0, 0.3, 1.0):
        old, new = parts(eta)
        assert new == pytest.approx(eta * parts(1.0)[1], abs=1e-12)
        assert math.hypot(old, new) == pytest.approx(s1)


def test_without_its_corrector_or_with_a_corrector_that_stands_still_pc_is_the_reverse_sde(schedule):
    D, x, ts = bimodal(schedule), start(schedule), timesteps(schedule, 4)
    expected = last(reverse_sde(D, x, ts, noise=seeded_noise([0, 1, 2]))).x
    assert torch.equal(last(predictor_corrector(D, x, ts, corrections=0, noise=seeded_noise([0, 1, 2]))).x, expected)
    for pair in ts.unfold(0, 2, 1):  # snr 0 draws noise, and multiplies it by 0
        still = last(predictor_corrector(D, x, pair, snr=0, noise=seeded_noise([0, 1, 2]))).x
        assert torch.equal(still, last(reverse_sde(D, x, pair, noise=seeded_noise([0, 1, 2]))).x)


TO_ZERO = {"ddim": ddim, "ddpm": partial(ddpm, noise=torch.ones_like), "dpmpp_2m": dpmpp_2m}


def test_the_corrector_is_a_langevin_step_of_2_alpha_snr_sigma_squared_at_the_new_time(schedule):
    D, x, ts, snr = bimodal(schedule), start(schedule), f64(0.6, 0.4), 0.3
    a, s = (fn(ts[1]).item() for fn in (schedule.alpha, schedule.sigma))
    step, draws = 2 * a * (snr * s) ** 2, iter([0.0, 1.0, 0.0])  # noise in the first of two corrections
    found = last(predictor_corrector(D, x, ts, snr=snr, corrections=2, noise=lambda x: torch.full_like(x, next(draws))))
    x = last(reverse_sde(D, x, ts, noise=torch.zeros_like)).x
    for z in (1, 0):
        x = x + step * (a * D(x, ts[1].expand(3)) - x) / s**2 + math.sqrt(2 * step) * z
    close(found.x, x)
    assert found.nfe == 3


@pytest.mark.parametrize("sampler", TO_ZERO.values(), ids=TO_ZERO)
@pytest.mark.parametrize("vp", [VPLinear(), VPCosine(), Discrete()], ids=lambda s: s.name)
def test_a_step_to_sigma_0_lands_on_x0(vp, sampler):
    ts = torch.cat([timesteps(vp, 10), f64(0.0)])
    step = last(sampler(bimodal(vp), start(vp), ts))
    assert step.t == 0 and step.x.isfinite().all() and torch.equal(step.x, step.x0)


# Stochastic samplers without Monte Carlo --------------------------------------------------------------------------


def relative_errors(sampler, schedule, n):
    """Errors of the final mean and variance, in units of the true standard deviation and variance."""
    probe = f64([0.0], [1.0], [0.0], [0.0])  # -> c, c + M, c + q of a step's first draw, c + q of its second
    draws = []

    def noise(x):
        draws.append(2 + len(draws))
        return torch.zeros_like(x).index_fill(0, torch.tensor(draws[-1]), 1.0)

    ts = timesteps(schedule, n)
    mean, S = marginal(schedule, ts[0].item())
    var = S**2
    for step in sampler(gaussian(schedule), probe.clone(), ts, noise=noise):
        c, *rest = step.x.flatten().tolist()
        M, *q = (v - c for v in rest)
        mean, var = M * mean + c, M**2 * var + sum(v**2 for v in q)
        step.x.copy_(probe)  # the next step starts from the probe again
        draws.clear()
    true_mean, S = marginal(schedule, step.t)
    return (mean - true_mean) / S, var / S**2 - 1


@pytest.mark.parametrize("sampler", [ddpm, reverse_sde], ids=["ddpm", "reverse_sde"])
def test_the_variance_is_right_to_first_order(smooth, sampler):
    found = [relative_errors(sampler, smooth, n)[1] for n in (128, 512)]
    assert abs(found[0]) < 0.15 and slope(found) > 0.9  # on VE, the SDE happens to reach second order


@pytest.mark.parametrize("name", VP_LIKE)
def test_so_is_that_of_pc_once_the_correctors_share_shrinks_with_the_step(name):
    """A Langevin step has a bias of its own, which stays when only the grid is refined; snr^2 ~ 1 / n refines both."""
    found = [
        relative_errors(partial(predictor_corrector, snr=0.16 * (128 / n) ** 0.5), SCHEDULES[name](), n)[1]
        for n in (128, 512)
    ]
    assert slope(found) == pytest.approx(1, abs=0.1)


def test_at_a_fixed_snr_pc_stays_within_the_bias_of_its_corrector(smooth):
    alpha, sigma, *_ = (torch.tensor(c) for c in smooth.table(timesteps(smooth, 256)))
    bias = alpha * (0.16 * sigma) ** 2 / (alpha**2 * SD**2 + sigma**2)  # step / (2 S^2) of the unadjusted chain
    mean, var = relative_errors(predictor_corrector, smooth, 256)
    assert abs(var) < bias.max() < 0.03 and abs(mean) < bias.max()


def test_ancestral_sampling_has_the_exact_mean_at_any_number_of_steps(schedule):
    assert abs(relative_errors(ddpm, schedule, 10)[0]) < 1e-10


@pytest.mark.parametrize("vp", [VPLinear(), VE()], ids=lambda s: s.name)
def test_predictor_corrector_keeps_the_weights_of_two_modes(vp):
    n, weight = 4000, 0.3
    modes = GaussianMixture(f64([-2.0, 0.0], [1.0, 1.0]), 0.4, torch.tensor([weight, 1 - weight]))
    generator = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    x = vp.sigma(torch.tensor(1.0)).item() * noise(torch.zeros(n, 2).double())
    x = last(predictor_corrector(MixtureDenoiser(modes, vp), x, timesteps(vp, 100), noise=noise)).x
    share = (x[:, 0] < -0.5).double().mean().item()
    assert abs(share - weight) < 3 * math.sqrt(weight * (1 - weight) / n) + 0.01


# Langevin dynamics ------------------------------------------------------------------------------------------------


def affine(chain):
    """M and q of the first step x' = M x + c + q z of chain(x, noise)."""
    c, cM, cq = (
        next(iter(chain(f64([x]), lambda v, z=z: torch.full_like(v, z)))).item() for x, z in ((0, 0), (1, 0), (0, 1))
    )
    return cM - c, cq - c


def stationary(S2, step):
    return S2 / (1 - step / (2 * S2))


@pytest.mark.parametrize("step", [0.01, 0.1, 0.4])
def test_langevin_settles_at_the_variance_of_the_unadjusted_chain(step):
    def score(x):
        return (MU - x) / SD**2

    M, q = affine(lambda x, noise: langevin(score, x, step, 1, noise))
    assert q**2 / (1 - M**2) == pytest.approx(stationary(SD**2, step))
    *_, x = langevin(score, f64([5.0]), step, 2000, torch.zeros_like)
    assert x.item() == pytest.approx(MU)


@pytest.mark.parametrize("level", range(3))
def test_annealed_langevin_settles_at_each_level_with_a_step_in_proportion_to_sigma2(level):
    sigmas, step = [2.0, 1.0, 0.1], 1e-3

    def score(x, sigma):
        return (MU - x) / (SD**2 + sigma**2)

    shrink, q = affine(lambda x, noise: annealed_langevin(score, x, sigmas[level:], n=1, step=step, noise=noise))
    S2, step = SD**2 + sigmas[level] ** 2, step * (sigmas[level] / 0.1) ** 2
    assert 1 - shrink == pytest.approx(step / S2)
    assert q**2 / (1 - shrink**2) == pytest.approx(stationary(S2, step))


def test_annealed_langevin_takes_n_steps_at_each_level_from_the_first_to_the_last():
    seen = []

    def score(x, sigma):
        seen.append(sigma)
        return -x

    chain = annealed_langevin(score, f64([1.0]), [2.0, 1.0, 0.5], n=4, step=1e-3, noise=torch.zeros_like)
    assert len(list(chain)) == 12
    assert seen == [2.0] * 4 + [1.0] * 4 + [0.5] * 4


# generate ---------------------------------------------------------------------------------------------------------


def sample(D, name, seeds, steps=6, **kwargs):
    return last(generate(D, (len(seeds), 3, 5), name, steps=steps, seeds=seeds, **kwargs))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "rk45"])
def test_image_k_is_bit_equal_alone_and_in_any_batch(schedule, name):
    D, seeds = Stub(schedule), [3, 1, 4, 15, 9]
    together = sample(D, name, seeds, eta=0.5).x
    assert together.isfinite().all() and len({tuple(x.flatten().tolist()) for x in together}) == 5
    for group in ([0], [1, 3], [4, 3, 2, 1, 0]):
        assert torch.equal(sample(D, name, [seeds[k] for k in group], eta=0.5).x, together[group])


def test_under_rk45_image_k_is_the_same_in_any_batch_to_within_the_tolerance():
    """Its step length is that of the most difficult sample."""
    D, seeds = Stub(VPLinear()), [3, 1, 4]
    together = sample(D, "rk45", seeds).x
    for k in range(3):
        close(sample(D, "rk45", [seeds[k]]).x, together[[k]], rtol=1e-3, atol=1e-3)


def test_a_noise_source_goes_on_where_it_was():
    noise, x = seeded_noise([7, 8]), torch.zeros(2, 3)
    first, second = noise(x), noise(x)
    assert not torch.equal(first, second) and torch.equal(first, seeded_noise([7, 8])(x))
    assert torch.equal(second[1], torch.randn(6, generator=torch.Generator().manual_seed(8))[3:])
    assert noise(x.double()).dtype == torch.float64


def test_generate_sets_and_reads_no_global_seed():
    before = torch.get_rng_state()
    for name in SAMPLERS:
        sample(Stub(VPLinear()), name, [0, 1], eta=1.0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_step_is_a_denoise_and_nfe_counts_every_call(name):
    D, n = Stub(VPLinear()), 5
    *moves, end = generate(D, (2, 3), name, steps=n, seeds=[0, 1])
    assert [s.i for s in (*moves, end)] == list(range(1, len(moves) + 2))
    assert end.nfe == len(D.times)
    if (calls := SAMPLERS[name].calls) is not None:
        assert end.nfe == calls * (n - 1) + 1 and len(moves) == n - 1
    assert end.t == moves[-1].t == VPLinear().t_min and end.nfe == moves[-1].nfe + 1
    assert torch.equal(end.x, D(moves[-1].x, torch.full((2,), end.t))) and torch.equal(end.x, end.x0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_one_denoise_of_pure_noise(schedule, name):
    D = Stub(schedule)
    (only,) = generate(D, (2, 3), name, steps=1, seeds=[0, 1])
    x = schedule.sigma(torch.tensor(schedule.t_max).double()).item() * seeded_noise([0, 1])(torch.zeros(2, 3))
    assert only.nfe == len(D.times) == 1 and torch.equal(only.x, D(x, torch.full((2,), schedule.t_max)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_class_reaches_every_call(name):
    D, cond = Stub(VPLinear()), torch.tensor([0, 1])
    sample(D, name, [0, 1], cond=cond)
    assert all(c is cond for c in D.conds)


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_a_sampler_that_uses_eta_changes_with_it_and_only_a_stochastic_one_asks_for_noise(name):
    D = Stub(VPLinear())
    changed = not torch.equal(sample(D, name, [0, 1]).x, sample(D, name, [0, 1], eta=1.0).x)
    assert changed == SAMPLERS[name].uses_eta
    asked = []

    def noise(x):
        asked.append(len(x))
        return torch.zeros_like(x)

    last(SAMPLERS[name].run(D, torch.ones(2, 3), timesteps(VPLinear(), 3), None, 0.0, noise))
    assert bool(asked) == SAMPLERS[name].stochastic


def test_ddim_with_eta_1_is_ddpm():
    D = Stub(VPLinear())
    assert torch.equal(sample(D, "ddim", [0, 1], eta=1.0).x, sample(D, "ddpm", [0, 1]).x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_and_clipping_work_under_every_sampler(name):
    modes = GaussianMixture(torch.tensor([[-2.0, 0.0], [1.0, 1.0]]), 0.3, torch.tensor([0.3, 0.7]))
    D = Clipped(Guided(MixtureDenoiser(modes, VPLinear(), classes=True), 2.0), -3, 0.5)
    x = last(generate(D, (2, 2), name, steps=30, seeds=[0, 1], cond=torch.tensor([0, 1]))).x
    assert x[0, 0] < -1 and x[1, 0] > 0 and x.max() <= 0.5


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"sampler": "plms"}, r"Unknown sampler.*dpmpp_2m"),
        ({"steps": 0}, "At least 1 step"),
        ({"eta": 1.5}, "eta"),
        ({"eta": -0.1}, "eta"),
        ({"seeds": [0]}, "1 seeds for a batch of 2"),
        ({"seeds": [0, 1, 2]}, "3 seeds for a batch of 2"),
        ({"spacing": "linear"}, "Unknown spacing"),
    ],
)
def test_generate_refuses_what_it_cannot_do_before_the_first_step(wrong, message):
    with pytest.raises(ValueError, match=message):
        generate(Stub(VPLinear()), (2, 3), **{"sampler": "ddim", "steps": 5, "seeds": [0, 1]} | wrong)


# Generators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", [*SAMPLERS, "langevin"])
def test_the_grad_mode_of_the_caller_is_untouched_between_yields(name, mode):
    D, x = Stub(VPLinear()), torch.ones(2, 3, requires_grad=True)

    def score(x):
        return D(x, torch.ones(2))

    with torch.set_grad_enabled(mode):
        if name == "langevin":
            steps = langevin(score, x, 0.1, 5, torch.ones_like)
        else:
            steps = SAMPLERS[name].run(D, x, timesteps(VPLinear(), 5), None, 0.5, torch.ones_like)
        for step in itertools.islice(steps, 4):  # and leave before the end
            assert torch.is_grad_enabled() is mode
            assert not (step if name == "langevin" else step.x).requires_grad
        steps.close()
        assert torch.is_grad_enabled() is mode
    assert not any(D.grad_modes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_state_keeps_its_dtype_and_its_start_is_not_written_to(name, dtype):
    x = torch.ones(2, 3, dtype=dtype)
    for step in SAMPLERS[name].run(Stub(VPLinear()), x, timesteps(VPLinear(), 3), None, 0.5, torch.ones_like):
        assert step.x.dtype == step.x0.dtype == dtype
    assert (x == 1).all()
