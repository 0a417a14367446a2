"""The loss by time is the training loss, spread out; the nearest image is the nearest."""

import math

import numpy as np
import pytest
import torch

from diffusion_core.checkpoint import Model
from diffusion_core.data import ImageSet
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.diagnose import keep_loss_by_time, loss_by_time, nearest, read_loss_by_time, struggles
from diffusion_core.images import to_tensor
from diffusion_core.losses import denoising_loss, sample_times
from diffusion_core.networks import UNet
from diffusion_core.schedules import Discrete, VPCosine, VPLinear


class Zero(torch.nn.Module):
    """Always predicts 0."""

    num_classes = 0

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, time, cond):
        return torch.zeros_like(x)


def images(n: int = 60) -> ImageSet:
    values = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    return ImageSet(values, np.arange(n) % 3, ["a", "b", "c"])


def zero(prediction: str, recipe: dict, schedule=None) -> Model:
    D = NetDenoiser(Zero(), schedule or VPLinear(), prediction)
    return Model(D, (1, 4, 4), ["a", "b", "c"], {"dataset": "some", "recipe": recipe})


def test_predicting_nothing_costs_the_mean_square_of_the_image_whatever_the_time():
    """With x0 as the target the loss of the answer 0 is that of each image alone: in all, and class by class."""
    found = loss_by_time(zero("x0", {"times": "uniform"}), images(), bins=5)
    squares = to_tensor(images().images).square().flatten(1).mean(dim=1)
    assert found["raw"]["mean"] == pytest.approx([squares.mean().item()] * 5, rel=1e-6)
    assert found["raw"]["se"] == pytest.approx([squares.std().item() / math.sqrt(60)] * 5, rel=1e-5)
    for k, c in enumerate("abc"):
        assert found["classes"][c]["mean"] == pytest.approx([squares[k::3].mean().item()] * 5, rel=1e-6)
    assert (found["n"], found["split"], found["target"], len(found["t"])) == (60, "some test", "x0", 6)


def test_predicting_no_noise_costs_its_variance_within_the_error_that_is_given():
    found = loss_by_time(zero("eps", {}, Discrete()), images(), bins=8)
    for mean, se in zip(*found["raw"].values(), strict=True):
        assert abs(mean - 1) < 4 * se and se == pytest.approx(math.sqrt(2 / (60 * 16)), rel=0.4)


@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), Discrete()], ids=lambda s: s.name)
@pytest.mark.parametrize("weight", ["none", "min_snr"])
def test_the_area_under_the_weighted_curve_is_the_training_loss(schedule, weight):
    recipe = {"times": "lognormal", "time_mean": -0.6, "time_std": 1.0, "weight": weight}
    model = zero("v", recipe, schedule)
    found = loss_by_time(model, images(), bins=40)
    width = (schedule.t_max - schedule.t_min) / 40
    area, error = width * sum(found["weighted"]["mean"]), width * math.hypot(*found["weighted"]["se"])
    g = torch.Generator().manual_seed(0)
    t = sample_times(schedule, 60_000, "lognormal", mean=-0.6, std=1.0, generator=g)
    x0 = to_tensor(images().images).repeat(1000, 1, 1, 1)
    losses = denoising_loss(model.denoiser, x0, None, t, torch.randn(x0.shape, generator=g), weight=weight)
    assert abs(area - losses.mean().item()) < 4 * error < 0.1 * area


def test_it_says_where_the_error_is_largest_and_why():
    model = zero("v", {})
    found = loss_by_time(model, images(6), bins=10)
    for worst, words in ((0, "cannot be told from texture"), (2, "takes shape"), (9, "hidden")):
        found["raw"]["mean"] = [1.0 if k == worst else 0.1 for k in range(10)]
        said = struggles(found, model.denoiser.schedule)
        assert f"between t = {found['t'][worst]:.2f} and {found['t'][worst + 1]:.2f}" in said and words in said


def test_an_error_above_that_of_answering_nothing_is_said_to_be_learned_by_heart():
    model = zero("v", {})
    found = loss_by_time(model, images(6), bins=10)
    found["raw"]["mean"] = [1.2, *[0.1] * 9]
    assert "by heart" in struggles(found, model.denoiser.schedule)


def test_it_survives_its_file_and_a_damaged_one_is_named(tmp_path):
    found = loss_by_time(
        zero("eps", {}), images(1), bins=2
    )  # one image: no error can be given, and two classes are empty
    checkpoint = tmp_path / "some.safetensors"
    assert read_loss_by_time(checkpoint) is None
    keep_loss_by_time(checkpoint, found)
    assert read_loss_by_time(checkpoint) == found
    (tmp_path / "some-loss.json").write_text("{")
    with pytest.raises(ValueError, match=r"some-loss.json is damaged"):
        read_loss_by_time(checkpoint)


def test_a_model_without_classes_is_told_none():
    D = NetDenoiser(UNet(1, width=8, mults=(1,)), VPLinear())
    found = loss_by_time(Model(D, (1, 4, 4), [], {}), images(5), bins=2)
    assert found["classes"] == {} and len(found["raw"]["mean"]) == 2


@pytest.mark.parametrize("chunk", [7, 60, 5000])
def test_the_nearest_image_is_found_with_its_distance(chunk):
    pool = images()
    x = to_tensor(pool.images[[3, 59, 0]]) + torch.tensor([0.0, 0.01, -0.02])[:, None, None, None]
    index, distance = nearest(x, pool.images, chunk)
    assert index.tolist() == [3, 59, 0]
    torch.testing.assert_close(distance, torch.tensor([0.0, 0.01, 0.02]), rtol=1e-3, atol=2e-4)
