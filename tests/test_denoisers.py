"""Conversions between x0, eps, score and v, and the wrappers: guidance, clipping, a change of schedule."""

import pytest
import torch

from diffusion_core.denoisers import (
    Clipped,
    Denoiser,
    Guided,
    InBfloat16,
    NetDenoiser,
    Rescheduled,
    passes,
    to_eps,
    to_score,
    to_v,
    to_x0,
)
from diffusion_core.mixtures import GaussianMixture, MixtureDenoiser
from diffusion_core.schedules import SCHEDULES, VPLinear, over_batch
from tests.helpers import Stub, close, randn

ALPHA_SIGMA = [(0.8, 0.6), (1.0, 50.0), (1.0, 0.01), (0.5, 0.2), (1e-2, 1.0)]  # VP, VE twice, sub-VP, almost all noise


class Spy(Denoiser):
    """A denoiser that depends on the class and counts its calls."""

    schedule, null = VPLinear(), 3

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x, t, cond=None):
        self.batches.append(len(x))
        label = torch.full((len(x),), self.null) if cond is None else cond
        return over_batch(1.0 + label, x) * x


def mixture():
    return GaussianMixture(torch.tensor([[-2.0, 0.0], [1.0, 1.0]]).double(), 0.3, torch.tensor([0.3, 0.7]))


# Conversions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha, sigma", ALPHA_SIGMA)
def test_x0_comes_back_from_eps_and_v_for_any_alpha_and_sigma(alpha, sigma):
    x0, x = randn(4, 3), randn(4, 3, seed=1)
    assert to_x0(x0, x, alpha, sigma, "x0") is x0
    close(to_x0(to_eps(x0, x, alpha, sigma), x, alpha, sigma, "eps"), x0)
    close(to_x0(to_v(x0, x, alpha, sigma), x, alpha, sigma, "v"), x0)


@pytest.mark.parametrize("alpha, sigma", ALPHA_SIGMA)
def test_conversions_say_what_their_names_say(alpha, sigma):
    x0, eps = randn(4, 3), randn(4, 3, seed=1)
    x = alpha * x0 + sigma * eps
    scale = (alpha**2 + sigma**2) ** 0.5
    close(to_eps(x0, x, alpha, sigma), eps)
    close(to_score(x0, x, alpha, sigma), -eps / sigma)
    close(to_v(x0, x, alpha, sigma), (alpha * eps - sigma * x0) / scale)


def test_conversions_take_one_alpha_and_sigma_a_sample():
    x0, x = randn(2, 3, 4, 4), randn(2, 3, 4, 4, seed=1)
    alpha, sigma = over_batch(torch.tensor([0.8, 1.0]), x), over_batch(torch.tensor([0.6, 5.0]), x)
    for k in range(2):
        alone = to_v(x0[k], x[k], alpha[k].item(), sigma[k].item())
        close(to_v(x0, x, alpha, sigma)[k], alone)


# A network as a denoiser ------------------------------------------------------------------------------------------


def test_every_prediction_gives_x0_when_the_network_puts_out_its_target(schedule):
    x0, eps = randn(5, 2), randn(5, 2, seed=1)
    t = torch.linspace(schedule.t_min, schedule.t_max, 5, dtype=torch.float64)
    alpha, sigma = over_batch(schedule.alpha(t), x0), over_batch(schedule.sigma(t), x0)
    x = alpha * x0 + sigma * eps
    for prediction, target in {"x0": x0, "eps": eps, "v": to_v(x0, x, alpha, sigma)}.items():
        close(NetDenoiser(Stub(target), schedule, prediction)(x, t), x0, rtol=1e-8, atol=1e-8)


def test_the_network_sees_unit_size_and_thousandths_whatever_the_schedule(schedule):
    x0, eps, t, cond = randn(1000, 2), randn(1000, 2, seed=1), torch.full((1000,), 0.5).double(), torch.zeros(1000)
    net = Stub(x0)
    x = schedule.alpha(t)[:, None] * x0 + schedule.sigma(t)[:, None] * eps
    NetDenoiser(net, schedule)(x, t, cond)
    seen, time, label = net.seen
    assert 0.9 < seen.square().mean() < 1.1
    assert (time == 500).all() and label is cond


def test_the_denoiser_takes_its_null_label_from_the_network():
    net = Stub(None)
    assert NetDenoiser(net, VPLinear()).null is None
    net.num_classes = 10
    assert NetDenoiser(net, VPLinear()).null == 10


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="v, eps or x0"):
        NetDenoiser(Stub(None), VPLinear(), "score")


# Guidance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale, same_as", [(0, None), (1, torch.tensor([0, 2]))])
def test_guidance_0_is_unconditional_and_1_conditional_in_one_pass_of_the_batch(scale, same_as):
    spy, x, t = Spy(), randn(2, 3), torch.full((2,), 0.5)
    guided = Guided(spy, scale)(x, t, torch.tensor([0, 2]))
    assert spy.batches == [2]
    assert torch.equal(guided, spy(x, t, same_as))


def test_guidance_without_a_class_is_one_pass_whatever_its_scale():
    spy, x, t = Spy(), randn(2, 3), torch.full((2,), 0.5)
    assert torch.equal(Guided(spy, 7.5)(x, t), spy(x, t)) and spy.batches == [2, 2]


@pytest.mark.parametrize("scale", [-1, 0.5, 3])
def test_any_other_guidance_is_one_pass_of_twice_the_batch(scale):
    spy, x, t, cond = Spy(), randn(2, 3), torch.full((2,), 0.5), torch.tensor([0, 2])
    guided = Guided(spy, scale)(x, t, cond)
    assert spy.batches == [4]
    close(guided, (1 - scale) * spy(x, t) + scale * spy(x, t, cond))


@pytest.mark.parametrize("scale", [0, 1, -1, 0.5, 3])
def test_the_passes_that_are_counted_are_those_that_are_made(scale):
    spy = Spy()
    Guided(spy, scale)(randn(2, 3), torch.full((2,), 0.5), torch.tensor([0, 2]))
    assert spy.batches == [2 * passes(scale)]


def test_guiding_x0_eps_or_v_is_the_same_thing(schedule):
    D, scale = MixtureDenoiser(mixture(), schedule, classes=True), 3.0
    x, cond = randn(6, 2), torch.arange(6) % 2
    t = torch.linspace(0.2, 0.8, 6).double()
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    guided = Guided(D, scale)(x, t, cond)
    for prediction, convert in (("eps", to_eps), ("v", to_v)):
        u, c = (convert(D(x, t, label), x, alpha, sigma) for label in (None, cond))
        close(to_x0(u + scale * (c - u), x, alpha, sigma, prediction), guided)


def test_guidance_of_a_model_without_classes_is_refused():
    D = MixtureDenoiser(mixture(), VPLinear())
    with pytest.raises(ValueError, match="trained with classes"):
        Guided(D, 2.0)(randn(2, 2), torch.full((2,), 0.5), torch.tensor([0, 1]))


# Clipping and rescheduling ----------------------------------------------------------------------------------------


def test_clipping_bounds_x0_and_changes_nothing_within_the_bounds():
    spy, x, t = Spy(), randn(100, 2), torch.full((100,), 0.5)
    free, clipped = spy(x, t), Clipped(spy)(x, t)
    inside = free.abs() <= 1
    assert torch.equal(clipped[inside], free[inside]) and (clipped[~inside].abs() == 1).all() and not inside.all()
    assert torch.equal(Clipped(spy, 0, 2)(x, t), free.clamp(0, 2))


@pytest.mark.parametrize("wrap", [lambda D: Guided(D, 2.0), Clipped, lambda D: Rescheduled(D, D.schedule)])
def test_wrappers_pass_on_the_schedule_and_the_null_label(wrap):
    assert wrap(Spy()).schedule is Spy.schedule and wrap(Spy()).null == Spy.null


@pytest.mark.parametrize("trained", SCHEDULES)
def test_rescheduling_leaves_the_posterior_mean_unchanged(trained, schedule):
    """The exact denoiser of schedule A, run under B, is the exact denoiser of B: both know the same data."""
    lam = torch.linspace(-3.5, 4.0, 16, dtype=torch.float64)  # levels that every schedule reaches
    t = schedule.t_from_lam(lam)
    x0, eps = mixture().sample(16, torch.Generator().manual_seed(0)), randn(16, 2)
    x = schedule.alpha(t)[:, None] * x0 + schedule.sigma(t)[:, None] * eps
    rescheduled = Rescheduled(MixtureDenoiser(mixture(), SCHEDULES[trained]()), schedule)
    close(rescheduled(x, t), MixtureDenoiser(mixture(), schedule)(x, t), rtol=1e-8, atol=1e-8)


def test_rescheduling_takes_levels_beyond_the_trained_range_at_its_end():
    """VE with sigma up to 50 is noisier than a network under a short VE ever saw."""
    short, long = SCHEDULES["ve"](0.01, 10), SCHEDULES["ve"](0.01, 50)
    t, x = torch.ones(3).double(), 50 * randn(3, 2)
    seen = Rescheduled(MixtureDenoiser(mixture(), short), long)(x, t)
    close(seen, MixtureDenoiser(mixture(), short)(x, t))


# Half precision ---------------------------------------------------------------------------------------------------


def test_in_bfloat16_only_the_products_are_rounded():
    """A linear layer keeps 8 significant bits; the state comes and goes in float32."""
    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("needs a CPU that multiplies bfloat16")
    linear = torch.nn.Linear(16, 16)
    seen = []
    linear.register_forward_hook(lambda module, args, out: seen.append(out.dtype))

    class Net(torch.nn.Module):
        num_classes = 0

        def forward(self, x, time, cond):
            return linear(x)

    D = NetDenoiser(Net(), VPLinear())
    x, t = randn(8, 16).float(), torch.full((8,), 0.5)
    with torch.no_grad():
        exact, rounded = D(x, t), InBfloat16(D)(x, t)
    assert seen == [torch.float32, torch.bfloat16]
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 2**-6 * exact.abs().max()
    assert not torch.is_autocast_enabled("cpu")
