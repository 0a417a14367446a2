"""Data in the plane: what is said of a density holds for its samples."""

import pytest
import torch

from diffusion_core.plane import EXTENT, MAX_POINTS, PRESETS, data_of, lattice, modes, own
from tests.helpers import close


@pytest.fixture(params=PRESETS)
def data(request):
    return PRESETS[request.param]()


def samples(data, n=20_000, sigma=0.0):
    g = torch.Generator().manual_seed(0)
    x0 = data.mixture.sample(n, g)
    return x0 + sigma * torch.randn(x0.shape, generator=g)


def test_mean_and_covariance_are_those_of_its_samples(data):
    x = samples(data)
    mean, cov = data.moments()
    products = torch.einsum("nd,ne->nde", x - mean, x - mean)
    assert ((x.mean(0) - mean).abs() < 4 * x.std(0) / len(x) ** 0.5).all()
    assert ((products.mean(0) - cov).abs() < 4 * products.std(0) / len(x) ** 0.5).all()


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_mode_weights_of_noised_samples_are_the_true_ones_even_where_modes_overlap(data, sigma):
    x, w = samples(data, sigma=sigma), data.true_weights()
    assert w.sum().item() == pytest.approx(1)
    se = (w * (1 - w) / len(x)).sqrt()  # of hard counts; posterior probabilities vary less
    assert ((data.mode_weights(x, sigma) - w).abs() < 4 * se).all()


def test_song_and_ermons_mixture_is_as_published():
    data = data_of("song_ermon")
    close(data.mixture.weights, torch.tensor([0.2, 0.8]))
    close(data.mixture.means, torch.tensor([[-5.0, -5.0], [5.0, 5.0]]))
    close(data.mixture.covs, torch.eye(2).expand(2, 2, 2))


def test_all_data_lies_within_what_the_page_shows(data):
    assert samples(data).abs().max() < EXTENT


@pytest.mark.parametrize("name", ["moons", "spiral"])
def test_a_curves_gaussians_lie_too_close_together_to_be_told_apart(name):
    data = data_of(name)
    for mode in range(data.modes):
        gaps = data.mixture.means[data.mode == mode].diff(dim=0).norm(dim=1)
        assert gaps.max() < 1.1 * data.mixture.variances.min().sqrt()  # from 2 on there would be a dip between them


def test_a_click_is_one_gaussian():
    data = data_of("own", [[1.0, 2.0], [-3.0, 0.5]])
    assert data.modes == 2
    close(data.true_weights(), torch.tensor([0.5, 0.5]))
    close(data.mixture.means, torch.tensor([[1.0, 2.0], [-3.0, 0.5]]))


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([], "1 to 100 points, not 0"),
        ([[0.0, 0.0]] * (MAX_POINTS + 1), "not 101"),
        (5, "pairs of numbers"),
        ([[0.0, 11.0]], "from -10 to 10"),
        ([[0.0, float("nan")]], "from -10 to 10"),
        ([[0.0, 1.0, 2.0]], "pairs of numbers"),
        ([1.0, 2.0], "pairs of numbers"),
        ([["a", "b"]], "pairs of numbers"),
        ({"x": 1}, "pairs of numbers"),
        ([[0.0, 1.0], [2.0]], "pairs of numbers"),
    ],
)
def test_points_that_make_no_sense_are_refused(points, sentence):
    with pytest.raises(ValueError, match=sentence):
        own(points)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'swissroll'.*song_ermon"):
        data_of("swissroll")


def test_the_lattice_is_centred_and_runs_from_the_bottom_row_by_row():
    close(lattice(4).mean(0), torch.zeros(2))
    close(lattice(2), torch.tensor([[-5.0, -5.0], [5.0, -5.0], [-5.0, 5.0], [5.0, 5.0]]))


def test_particles_in_one_mode_are_counted_there():
    data = modes("pair", [[-5, 0], [5, 0]], 1.0, [0.25, 0.75])
    close(data.mode_weights(torch.tensor([[-5.0, 0.0]])), torch.tensor([1.0, 0.0]), atol=1e-6)
