"""Encoding, walking from latent to latent, decoding."""

import math

import pytest
import torch

from diffusion_core.denoisers import Guided
from diffusion_core.interpolate import WAYS, decode, encode, follow, in_steps, lerp, slerp, walk
from diffusion_core.mixtures import GaussianMixture, MixtureDenoiser
from diffusion_core.networks import MLP
from diffusion_core.samplers import ode, rk45, timesteps
from diffusion_core.schedules import VPLinear
from tests.helpers import tiny_model

W = torch.linspace(0, 1, 9, dtype=torch.float64)


def close(a, b, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def f64(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def latents(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heun(n):
    def solver(D, x, t0, t1, cond):
        return ode(D, x, timesteps(D.schedule, n, start=t0, stop=t1), cond)

    return solver


def adaptive(tol):
    def solver(D, x, t0, t1, cond):
        return rk45(D, x, t0, t1, cond, rtol=tol, atol=tol)

    return solver


def norms(x):
    return x.flatten(2).norm(dim=2)


# Encode and decode ------------------------------------------------------------------------------------------------

MODES = GaussianMixture(f64([-2.0, 0.0], [1.0, 1.0]), 0.4, torch.tensor([0.3, 0.7]))
POINTS = f64([-2.1, 0.2], [0.8, 0.9], [0.0, 0.5])


def round_trip_error(schedule, solver):
    D = MixtureDenoiser(MODES, schedule)
    return (decode(D, encode(D, POINTS, solver=solver), solver=solver) - POINTS).abs().max().item()


def test_the_latent_of_gaussian_data_is_the_same_quantile_of_the_noised_marginal(smooth):
    mu, s, x = 0.7, 0.5, f64([-0.2], [0.9])
    alpha, sigma, *_ = smooth.table(f64(smooth.t_min, smooth.t_max))
    S = [math.hypot(a * s, b) for a, b in zip(alpha, sigma, strict=True)]
    z = encode(MixtureDenoiser(GaussianMixture(f64([mu]), s), smooth), x, solver=adaptive(1e-9))
    close(z, alpha[1] * mu + S[1] / S[0] * (x - alpha[0] * mu), rtol=1e-6, atol=1e-6)


def test_heuns_round_trip_gains_an_order_and_is_8_times_better_with_twice_the_steps(smooth):
    """The way back undoes the leading error of the way there."""
    a, b = (round_trip_error(smooth, heun(n)) for n in (128, 256))
    assert a / b == pytest.approx(8, rel=0.05)


def test_rk45s_round_trip_follows_its_tolerance(smooth):
    found = [round_trip_error(smooth, adaptive(tol)) for tol in (1e-3, 1e-5, 1e-7)]
    assert all(error < 200 * tol for error, tol in zip(found, (1e-3, 1e-5, 1e-7), strict=True))
    assert found[0] > 5 * found[1] > 25 * found[2]


def test_the_class_is_passed_on_both_ways(smooth):
    D = MixtureDenoiser(MODES, smooth, classes=True)
    x, cond = POINTS[:2], torch.tensor([0, 1])
    z = encode(D, x, cond)
    close(decode(D, z, cond), x, rtol=1e-2, atol=1e-2)
    assert (decode(D, z, 1 - cond) - x).norm(dim=1).min() > 2  # the same latent in the other mode


# Walking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("walk", [slerp, lerp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_walk_begins_and_ends_exactly_at_its_ends(walk, dtype):
    a, b = latents(4, 3, 8, 8).to(dtype), latents(4, 3, 8, 8, seed=1).to(dtype)
    path = walk(a, b, W)
    assert path.shape == (9, 4, 3, 8, 8) and path.dtype == dtype
    close(path[0], a, rtol=1e-15, atol=1e-15)
    close(path[-1], b, rtol=1e-15, atol=1e-15)


def test_lerp_is_linear():
    a, b = latents(2, 5), latents(2, 5, seed=1)
    close(lerp(a, b, W), torch.stack([a + w * (b - a) for w in W]))


def test_slerp_keeps_its_norm_even_between_the_ends_where_lerp_sags():
    a, b = latents(4, 3, 16, 16), 2 * latents(4, 3, 16, 16, seed=1)
    even = lerp(norms(a[None])[0], norms(b[None])[0], W)
    close(norms(slerp(a, b, W)), even)
    assert (norms(lerp(a, b, W))[4] < 0.85 * even[4]).all()


def test_slerp_turns_at_constant_speed_in_the_plane_of_its_ends():
    a, b = latents(3, 20), 3 * latents(3, 20, seed=1)
    path = slerp(a, b, W)
    unit = path / path.norm(dim=2, keepdim=True)
    whole = torch.arccos((unit[0] * unit[-1]).sum(dim=1))
    close(torch.arccos((unit[:-1] * unit[1:]).sum(dim=2)), (whole / 8).expand(8, 3))
    for k in range(3):
        assert torch.linalg.matrix_rank(path[:, k]) == 2


@pytest.mark.parametrize("scale", [1.0, 2.5, -1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parallel_opposite_and_zero_vectors_have_no_arc_and_fall_back_to_lerp(scale, dtype):
    a = latents(2, 3, 4, 4).to(dtype)
    path = slerp(a, scale * a, W)
    assert path.isfinite().all()
    close(path, lerp(a, scale * a, W), rtol=1e-5, atol=1e-5)
    assert slerp(torch.zeros_like(a), a, W).isfinite().all()


def test_slerp_is_continuous_where_it_falls_back_to_lerp():
    a, d = f64([1.0, 0.0]), f64([0.0, 1.0])
    for angle in (1e-3, 1e-5, 1e-7, 1e-9):
        close(slerp(a, a + angle * d, W), lerp(a, a + angle * d, W), atol=angle**2 + 1e-10)


def test_each_sample_walks_on_its_own():
    a, b = latents(4, 3, 8, 8), latents(4, 3, 8, 8, seed=1)
    b[2] = a[2]  # one that takes the fallback
    for k in range(4):
        close(slerp(a, b, W)[:, k], slerp(a[[k]], b[[k]], W)[:, 0])


def test_in_steps_of_2m_the_round_trip_gains_more_than_an_order_with_twice_the_steps(smooth):
    errors = [round_trip_error(smooth, in_steps(n)) for n in (40, 80, 160)]
    assert errors[0] > 3.5 * errors[1] > 3.5**2 * errors[2]


def test_a_latent_taken_earlier_is_the_same_quantile_of_the_marginal_there():
    mu, s, x, schedule, t = 0.7, 0.5, f64([-0.2], [0.9]), VPLinear(), 0.4
    alpha, sigma, *_ = schedule.table(f64(schedule.t_min, t))
    S = [math.hypot(a * s, b) for a, b in zip(alpha, sigma, strict=True)]
    z = encode(MixtureDenoiser(GaussianMixture(f64([mu]), s), schedule), x, solver=adaptive(1e-9), depth=t)
    close(z, alpha[1] * mu + S[1] / S[0] * (x - alpha[0] * mu), rtol=1e-6, atol=1e-6)


# Classes on the way, and the three ways of decoding ---------------------------------------------------------------


def network(classes=("cat", "dog", "emu")):
    return tiny_model(classes).denoiser


def weights(rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_all_weight_on_one_class_is_that_class_guided_or_not(scale):
    D = Guided(network(), scale)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.8])
    close(D(x, t, weights([[0, 1, 0, 0], [0, 0, 0, 1]])), D(x, t, torch.tensor([1, 3])), rtol=1e-5, atol=1e-5)


def test_a_mixture_of_classes_has_the_mean_of_their_embeddings():
    net = MLP(width=16, num_classes=2)
    time = torch.tensor([100.0])
    mixed = net.embedding(time, weights([[0.25, 0.75, 0.0]]))
    table = net.embedding.label.weight
    with torch.no_grad():
        table[0], table[1] = 0.25 * table[0] + 0.75 * table[1], 0
    close(mixed, net.embedding(time, torch.tensor([0])), rtol=1e-5, atol=1e-6)


def test_what_moves_is_what_the_way_says():
    D, (a, b) = network(), latents(2, 4, 1, 8, 8).float()
    labels = torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    for name, way in WAYS.items():
        path = walk(D, a, b, 1.0, way, W, labels)
        close(path.z[0], a, rtol=1e-6, atol=1e-6)
        close(path.z[-1], a if name == "class" else b, rtol=1e-6, atol=1e-6)
        assert (path.cond is not None) == ("class" in name)
        assert path.asked[0, 0].tolist() == [1, 0, 0, 0] and path.asked[-1, 0].tolist() == [0, 0, 1, 0]
        assert path.asked[4, 0].tolist() == ([0.5, 0, 0.5, 0] if "class" in name else [1, 0, 0, 0])


def test_a_model_without_classes_has_a_latent_path_only():
    D, (a, b) = network(()), latents(2, 1, 1, 8, 8).float()
    path = walk(D, a, b, 1.0, WAYS["slerp"], W)
    for approach in "abc":
        *_, last = follow(approach, D, path, steps=2, guidance=2.0, seeds=[0])
        assert last.x.shape == (9, 1, 8, 8)
    with pytest.raises(ValueError, match="no classes to go from one to the other"):
        walk(D, a, b, 1.0, WAYS["class"], W)


@pytest.mark.parametrize("way", ["slerp", "lerp", "slerp + class"])
def test_the_odes_row_begins_and_ends_with_the_reconstructions_of_its_ends(way):
    D, labels = network(), (torch.tensor([0, 1]), torch.tensor([2, 2]))
    x = 0.5 * latents(4, 1, 8, 8).float()
    cond = torch.cat(labels) if WAYS[way].classes else None
    z = encode(D, x, cond, in_steps(4), depth=0.6)
    path = walk(D, *z.chunk(2), 0.6, WAYS[way], W, labels)
    *_, last = follow("c", D, path, steps=4, guidance=2.0, seeds=[0, 1])
    row = last.x.unflatten(0, (9, 2))
    *_, back = in_steps(4)(D, z, 0.6, D.schedule.t_min, cond)
    close(torch.cat([row[0], row[-1]]), back.x, rtol=1e-4, atol=1e-4)


def test_the_noise_of_a_pair_is_the_same_all_along_its_path():
    D, a = network(), latents(2, 1, 8, 8).float()
    path = walk(D, a, a, 0.6, WAYS["lerp"], W[[0, 4, 8]])
    *_, last = follow("a", D, path, steps=3, guidance=2.0, seeds=[3, 4])
    row = last.x.unflatten(0, (3, 2))
    close(row[1], row[0], rtol=1e-4, atol=1e-4)
    close(row[2], row[0], rtol=1e-4, atol=1e-4)
    *_, alone = follow("a", D, walk(D, a[1:], a[1:], 0.6, WAYS["lerp"], W[:1]), steps=3, guidance=2.0, seeds=[4])
    close(alone.x, row[0, 1:], rtol=1e-4, atol=1e-4)
