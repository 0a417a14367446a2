"""alpha, sigma, lambda and the SDE's coefficients, against closed forms."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diffusion_core.schedules import (
    SCHEDULES,
    VE,
    Discrete,
    SubVP,
    VPCosine,
    VPLinear,
    VPQuadratic,
    schedule_from_config,
)

QUARTER, S = 0.5 * math.pi / 1.008, 0.008  # of the cosine schedule
ROOTS = math.sqrt(0.1), math.sqrt(30) - math.sqrt(0.1)  # of the quadratic one: sqrt(beta) = a + b t

VP = [  # schedule, beta(t), beta(0), beta'(0)
    pytest.param(VPLinear(), lambda t: 0.1 + 19.9 * t, 0.1, 19.9, id="linear"),
    pytest.param(VPQuadratic(), lambda t: (ROOTS[0] + ROOTS[1] * t) ** 2, 0.1, 2 * ROOTS[0] * ROOTS[1], id="quadratic"),
    pytest.param(
        VPCosine(),
        lambda t: 2 * QUARTER * torch.tan(QUARTER * (t + S)),
        2 * QUARTER * math.tan(QUARTER * S),
        2 * (QUARTER / math.cos(QUARTER * S)) ** 2,
        id="cosine",
    ),
]


def times(schedule, n=257):
    return torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)


def close(a, b, rtol=1e-10, atol=0.0):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# Drift and diffusion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vp, beta, beta0, slope0", VP)
def test_vp_drift_is_minus_half_beta_and_diffusion_is_beta(vp, beta, beta0, slope0):
    t = times(vp)
    close(vp.f(t), -0.5 * beta(t))
    close(vp.g2(t), beta(t))


def test_sub_vp_has_the_drift_of_vp_and_the_diffusion_beta_times_1_minus_exp_minus_2B():
    t = times(SubVP())
    B = 0.1 * t + 0.5 * 19.9 * t**2
    close(SubVP().f(t), VPLinear().f(t))
    close(SubVP().g2(t), -(0.1 + 19.9 * t) * torch.expm1(-2 * B))


def test_ve_has_no_drift_and_diffusion_sigma2_times_2_log_ratio():
    t = times(VE())
    assert (VE().f(t) == 0).all()
    close(VE().sigma(t), 0.01 * 5000**t)
    close(VE().g2(t), VE().sigma(t) ** 2 * 2 * math.log(5000))


def test_discrete_between_two_levels_has_the_drift_of_that_beta():
    discrete = Discrete()
    t = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    rate = -1000 * torch.log1p(-torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))  # one beta each 1 / 1000
    close(discrete.f(t), -0.5 * rate)
    close(discrete.g2(t), rate)


# Near t = 0 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vp, beta, beta0, slope0", VP)
def test_sigma2_near_zero_has_full_relative_accuracy(vp, beta, beta0, slope0):
    t = 1e-8
    series = beta0 * t + 0.5 * (slope0 - beta0**2) * t**2  # of 1 - exp(-B); the next term is 1e-16 of it
    assert vp.sigma2(torch.tensor(t, dtype=torch.float64)).item() == pytest.approx(series, rel=1e-12, abs=0)


def test_single_precision_is_good_down_to_t_min(schedule):
    t = torch.logspace(math.log10(schedule.t_min), math.log10(schedule.t_max), 257)
    for fn in (schedule.alpha, schedule.sigma):
        close(fn(t).double(), fn(t.double()), rtol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drift_and_diffusion_at_zero_are_finite(schedule, dtype):
    zero = torch.zeros((), dtype=dtype)
    assert schedule.f(zero).isfinite() and schedule.g2(zero).isfinite() and schedule.g2(zero) >= 0


# alpha, sigma, lambda ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("ve", "sub_vp")])
def test_vp_keeps_unit_variance(name):
    vp = SCHEDULES[name]()
    t = torch.cat([torch.tensor([0.0, 1e-12, 1e-8, 1e-4], dtype=torch.float64), times(vp)])
    close(vp.alpha(t) ** 2 + vp.sigma(t) ** 2, torch.ones_like(t), rtol=1e-15, atol=1e-15)


def test_sub_vp_has_the_variance_of_vp_squared():
    t = times(SubVP())
    close(SubVP().sigma(t), VPLinear().sigma2(t))


def test_lambda_falls_strictly(schedule):
    t = torch.cat(
        [torch.logspace(-8, -3, 100, dtype=torch.float64)[:-1], times(schedule, 1000).clamp(min=1e-3)]
    ).unique()
    assert (schedule.lam(t).diff() < 0).all()


def test_lambda_is_log_alpha_over_sigma(schedule):
    t = times(schedule)
    close(schedule.lam(t), torch.log(schedule.alpha(t) / schedule.sigma(t)), atol=1e-12)


def test_scale_is_the_size_of_x_t_for_data_of_unit_size(schedule):
    t = times(schedule)
    close(schedule.scale(t) ** 2, schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2)


def test_perturb_mixes_each_image_with_noise_by_its_own_time(schedule):
    x0, eps, t = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0), torch.tensor([0.2, 0.7])
    x = schedule.perturb(x0, t, eps)
    assert x.shape == x0.shape and x.dtype == x0.dtype
    close(x[:, 0, 0, 0], schedule.alpha(t) + 2 * schedule.sigma(t), rtol=1e-6)
    assert (x == x[:, :1, :1, :1]).all()


def test_t_from_lam_inverts_lam(schedule):
    t = times(schedule)
    close(schedule.t_from_lam(schedule.lam(t)), t, atol=1e-12)


def test_t_from_lam_beyond_the_range_gives_its_ends(schedule):
    close(schedule.t_from_lam(torch.tensor([1e3, -1e3]).double()), torch.tensor([0.0, 1.0]).double(), atol=1e-15)


# Discrete ---------------------------------------------------------------------------------------------------------


def test_discrete_has_the_classical_alphas_bar_at_its_levels():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    close(Discrete().alpha(t) ** 2, torch.cumprod(1 - betas, dim=0))
    assert Discrete().alpha(torch.zeros(())) == 1 and Discrete().t_min == 1 / 1000


@pytest.mark.parametrize("bad", [[], [0.5, 0.9], [0.5, 0.5], [1.0, 0.5], [0.5, 0.0], [0.5, -0.1], [0.5, math.nan]])
def test_discrete_refuses_alphas_bar_that_do_not_fall_within_0_and_1(bad):
    with pytest.raises(ValueError, match="fall strictly"):
        Discrete(bad)


# Interface --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_every_method_keeps_shape_and_dtype(schedule, shape, dtype):
    t = torch.full(shape, 0.3, dtype=dtype)
    for fn in (
        schedule.log_alpha,
        schedule.sigma2,
        schedule.alpha,
        schedule.sigma,
        schedule.lam,
        schedule.f,
        schedule.g2,
    ):
        assert fn(t).shape == shape and fn(t).dtype == dtype, fn
    assert schedule.t_from_lam(t).shape == shape and schedule.t_from_lam(t).dtype == dtype


def test_the_table_of_a_grid_is_what_the_methods_say(schedule):
    ts = times(schedule, 9)
    for name, column in schedule.table(ts)._asdict().items():
        assert column == getattr(schedule, name)(ts).tolist() and all(type(v) is float for v in column)
    assert schedule.table(ts.float()).alpha == schedule.alpha(ts.float().double()).tolist()  # float64 inside, always


def test_config_survives_json(schedule):
    again = schedule_from_config(json.loads(json.dumps(schedule.config())))
    t = times(schedule)
    assert type(again) is type(schedule) and again.config() == schedule.config()
    assert torch.equal(again.lam(t), schedule.lam(t))


def test_config_keeps_parameters_other_than_the_defaults():
    for schedule in (
        VPLinear(0.2, 10),
        VPQuadratic(0.2, 10),
        VPCosine(0.01),
        SubVP(0.2, 10),
        VE(0.02, 80),
        Discrete([0.9, 0.1]),
    ):
        again = schedule_from_config(schedule.config())
        t = times(schedule, 5)
        assert torch.equal(again.lam(t), schedule.lam(t)) and not torch.equal(again.lam(t), type(schedule)().lam(t))


@pytest.mark.parametrize("config", [{"name": "linear"}, {}])
def test_an_unknown_schedule_is_refused_with_the_known_ones_named(config):
    with pytest.raises(ValueError, match=r"vp_linear.*ve"):
        schedule_from_config(config)


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_made_in_many_threads_at_once_are_those_made_alone(name):
    schedule = SCHEDULES[name]()
    ts = torch.linspace(schedule.t_min, schedule.t_max, 21, dtype=torch.float64)
    alone = schedule.table(ts)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: schedule.table(ts), range(100)))
    assert all(table == alone for table in together)
