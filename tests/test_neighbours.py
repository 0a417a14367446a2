"""Beside a sample stands the training image nearest to it, or a line that says why not."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_core.checkpoint import Model
from diffusion_core.data import training_images
from diffusion_core.images import to_tensor
from tabs.widgets import neighbours
from tabs.widgets.neighbours import neighbours_html


def model(trained_on: int, **recipe) -> Model:
    return Model(None, (3, 8, 8), ["a"], {"trained_on": trained_on, "recipe": {"dataset": "some", **recipe}})


@pytest.fixture
def images(tmp_path, monkeypatch) -> np.ndarray:
    """Ten pictures in a folder of the data root, of which nine are for training."""
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path))
    neighbours._training_images.cache_clear()
    values = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "some" / "a").mkdir(parents=True)
    for k, value in enumerate(values):
        Image.fromarray(value).save(tmp_path / "some" / "a" / f"{k}.png")
    return values


def right_halves(page: str) -> list[np.ndarray]:
    """The images of side 8 at the right of each pair, at most four pairs a row, with three pixels between."""
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])))
    pixels = np.asarray(picture)
    rows, columns = (pixels.shape[0] + 3) // 11, (pixels.shape[1] + 3) // 19
    tiles = [pixels[11 * r : 11 * r + 8, 19 * c + 8 : 19 * c + 16] for r in range(rows) for c in range(columns)]
    return [tile for tile in tiles if not (tile == 128).all()]


def test_each_sample_has_its_nearest_training_image_at_its_right(images):
    page = neighbours_html(model(9), to_tensor(images[[4, 7]]) * 0.98)
    assert all((a == b).all() for a, b in zip(right_halves(page), images[[4, 7]], strict=True))
    assert "seen 9 images, so few that it knows them by heart" in page and "0.01 to 0.01 away" in page


def test_only_images_that_the_recipe_drew_are_looked_at(images):
    recipe = {"per_class": 2, "seed": 3}
    drawn = training_images({"dataset": "some", **recipe}).images
    tiles = right_halves(neighbours_html(model(2, **recipe), to_tensor(images)))
    assert {tile.tobytes() for tile in tiles} == {image.tobytes() for image in drawn}


def test_without_the_images_it_says_how_few_they_were(images, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "elsewhere"))
    neighbours._training_images.cache_clear()
    assert "by heart. What it draws are close to copies. Put the data set into data/" in neighbours_html(
        model(100), torch.zeros(2, 3, 8, 8)
    )
    page = neighbours_html(model(5000), torch.zeros(2, 3, 8, 8))
    assert "seen 5,000 images. " in page and "heart" not in page and "copies" not in page


@pytest.mark.parametrize("config", [{}, {"trained_on": 60_000, "recipe": {"dataset": "some"}}])
def test_of_a_large_set_or_an_unknown_one_nothing_is_said(images, config):
    assert neighbours_html(Model(None, (3, 8, 8), ["a"], config), torch.zeros(2, 3, 8, 8)) == ""
