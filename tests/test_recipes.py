"""Recipes: a link, a picture and lines of Python each give the same run back."""

import base64
import re
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image

from diffusion_core.checkpoint import load, save
from diffusion_core.images import grid, read_recipe, save_png
from tabs.sample import classes_of, done_html
from tabs.widgets.recipes import link, python, settings_from
from tabs.widgets.runs import MODELS, Film, Settings, frames
from tests.helpers import tiny_model

SETTINGS = Settings("tiny", "dog", "ddim", 5, 1.5, 12, 3, 0.3, "karras")


@pytest.fixture(autouse=True)
def _tiny_model(tmp_path, monkeypatch):
    """A model with two classes, among the page's and in checkpoints/ of an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    save("checkpoints/tiny.safetensors", tiny_model(("cat", "big dog")))
    monkeypatch.setitem(MODELS, "tiny", load("checkpoints/tiny.safetensors"))


def picture(settings: Settings) -> np.ndarray:
    film = Film()
    for frame in frames(settings):
        film.add(frame)
    return np.asarray(grid(film.last.x))


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS._replace(cls="big dog"),
        Settings("tiny", "all", steps=4, count=5),
        Settings("tiny", "none", "ddpm", 4, count=2),
        Settings("tiny", "cat", "heun", 3, guidance=0.0, count=1),
    ],
    ids=lambda s: s.sampler,
)
def test_the_lines_of_python_make_the_very_pixels_of_the_page(settings):
    exec(python(settings), {})
    assert np.array_equal(np.asarray(Image.open("samples.png")), picture(settings))


def test_a_link_brings_back_every_setting():
    settings = SETTINGS._replace(cls="big dog")
    query = dict(parse_qsl(link(settings).removeprefix("?")))
    assert query["tab"] == "sample"
    assert settings_from(query) == settings


def test_a_link_without_a_model_is_of_the_first():
    assert settings_from({"tab": "sample", "steps": "9"}) == Settings(next(iter(MODELS)), steps=9)


def test_a_picture_brings_back_every_setting():
    settings = SETTINGS._replace(cls="all")
    save_png("a.png", Image.new("L", (4, 4)), settings._asdict())
    assert settings_from(read_recipe("a.png")) == settings


def test_the_page_gives_a_png_and_a_gif_with_the_recipe_of_what_they_show():
    settings = SETTINGS._replace(cls="all", steps=9)
    film = Film()
    for frame in frames(settings):
        film.add(frame)
    page = done_html(settings, film)
    for kind in ("png", "gif"):
        [data] = re.findall(rf'download="tiny-all-ddim-9-seed12\.{kind}" href="data:image/{kind};base64,([^"]+)"', page)
        Path(f"a.{kind}").write_bytes(base64.b64decode(data))
        assert settings_from(read_recipe(f"a.{kind}")) == settings
    with Image.open("a.gif") as moving:
        assert moving.n_frames == 9 and moving.size == (3 * 16 + 2, 16)
        moving.seek(8)
        assert np.array_equal(np.asarray(moving.convert("L")), np.asarray(grid(film.last.x, scale=2)))


def test_a_picture_of_the_command_line_does_too():
    recipe = {"checkpoint": "tiny.safetensors", "class": None, "sampler": "ddim", "steps": 7, "seed": 3, "count": 4}
    assert settings_from(recipe) == Settings("tiny", "none", "ddim", 7, seed=3, count=4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "huge"}, "a model 'huge'; here there is"),
        ({"cls": "emu"}, "no class 'emu'; it has cat, big dog"),
        ({"sampler": "magic"}, "a sampler 'magic'"),
        ({"spacing": "odd"}, "a spacing 'odd'"),
        ({"steps": "0"}, "steps = 0; it must lie from 1 to 250"),
        ({"count": "9999"}, "count = 9999"),
        ({"guidance": "nan"}, "guidance = nan"),
        ({"seed": "-1"}, "seed = -1"),
        ({"steps": "many"}, "damaged"),
    ],
)
def test_a_recipe_that_cannot_be_run_here_is_refused_and_the_value_named(change, words):
    with pytest.raises(ValueError, match=words):
        settings_from(Settings("tiny", "cat")._asdict() | change)


def test_each_image_knows_the_class_it_was_asked_for():
    assert classes_of(Settings("tiny", "all", count=3)) == ["cat", "big dog", "cat"]
    assert classes_of(Settings("tiny", "cat", count=2)) == ["cat", "cat"]
    assert classes_of(Settings("tiny", "none", count=2)) == ["none", "none"]
