"""The talk: what its file may say, and that a stop shows what it says."""

import base64
import inspect
import io
import re

import numpy as np
import pytest
from PIL import Image

import app
from diffusion_core.checkpoint import Model
from diffusion_core.images import grid
from tabs import talk
from tabs.talk import SHOWS, Stop, filmed, read_talk, settings_of, shown
from tabs.widgets import runs as running
from tabs.widgets.player import GAP
from tabs.widgets.runs import MODELS, Settings
from tests.helpers import tiny_model

RUN = dict(model="tiny", steps=3, count=2, seed=5)


@pytest.fixture(autouse=True)
def tiny() -> Model:
    model = tiny_model()
    MODELS.clear()
    MODELS["tiny"] = model
    filmed.cache_clear()
    yield model
    MODELS.clear()
    filmed.cache_clear()


def sheets(page: str) -> list[np.ndarray]:
    """The sprite sheets of a player."""
    found = re.findall(r"background-image:url\('data:image/png;base64,([^']+)'\)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_the_talk_that_ships_has_about_ten_stops_with_options_that_exist():
    stops = read_talk()
    assert 9 <= len(stops) <= 13
    run_options = {"class", *Settings._fields}
    for stop in stops:
        assert stop.title and stop.caption
        parameters = inspect.signature(SHOWS[stop.show]).parameters
        extra = set(stop.options) - set(parameters)
        allowed = {"path": {"way", "depth", "positions", "steps", "guidance", "seed"}}.get(stop.show, run_options)
        assert extra <= (allowed if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else set())
        if stop.show == "vary":
            assert stop.options["over"] in run_options and 0 <= stop.options["at"] < len(stop.options["values"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[[stop]]\ntitle = "A"\nshow = "run"', "Stop 1 of talk.toml has no caption."),
        ('[[stop]]\ntitle = "A"\ncaption = ""\nshow = "fireworks"', "Stop 1 of talk.toml shows 'fireworks'"),
        ("[[stop]\n", "talk.toml is not valid TOML"),
    ],
)
def test_a_talk_that_cannot_be_given_is_refused_with_the_stop_that_is_wrong(tmp_path, text, sentence):
    (tmp_path / "talk.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_talk(tmp_path / "talk.toml")


def test_a_stop_that_cannot_be_shown_says_why_and_the_talk_goes_on():
    for stop in (Stop("", "", "run", {"model": "gone"}), Stop("", "", "vary", {"over": "speed", "values": [1]})):
        assert "This stop cannot be shown:" in shown(stop)
    assert "no shipped judgement of tiny" in shown(Stop("", "", "evaluation", {}))


def test_a_comparison_shows_the_very_images_of_its_runs_and_draws_each_once(monkeypatch):
    drawn = []
    frames = running.frames
    monkeypatch.setattr(running, "frames", lambda settings: drawn.append(settings) or frames(settings))
    rows = [{"label": "DDIM", "sampler": "ddim"}, {"label": "DDPM", "sampler": "ddpm"}]
    page = talk.vary("steps", [2, 4], at=1, rows=rows, **RUN)
    assert page == talk.vary("steps", [2, 4], at=1, rows=rows, **RUN) and len(drawn) == 4
    for sheet, row in zip(sheets(page), rows, strict=True):
        runs = [settings_of({**RUN, "sampler": row["sampler"], "steps": n}) for n in (2, 4)]
        assert (sheet == np.concatenate([np.asarray(grid(filmed(s).last.x, gap=GAP)) for s in runs])).all()
    assert "DDIM · 4 steps" in page and 'value="1"' in page


def test_a_run_has_every_step_and_noising_ends_in_the_noise_that_it_names():
    page = talk.run(at=0, **RUN)
    assert page.count("<b>Step") == 3 and len(sheets(page)) == 3
    page = talk.noising(**{"class": "dog", **RUN, "count": 1})
    noisy, clean, eps = sheets(page)
    assert page.count("<b>t = ") == talk.MOMENTS
    assert (noisy[:8] == clean[:8]).all() and np.abs(noisy[-8:].astype(int) - eps[-8:]).max() <= 3


def test_points_and_fields_need_no_model():
    assert shown(Stop("", "", "score", {"data": "song_ermon"})).count("<figure") == 4
    assert 'class="player"' in shown(
        Stop("", "", "particles", {"data": "song_ermon", "methods": ["langevin"], "calls": 20, "particles": 50})
    )


def test_the_page_holds_every_slide_and_computes_nothing_of_it_before_it_is_asked(monkeypatch, tiny):
    monkeypatch.setattr(talk, "shown", lambda stop: pytest.fail("computed too early"))
    config = app.build({"tiny": tiny}, {}).get_config_file()
    slides = [
        c["props"]["value"] for c in config["components"] if re.fullmatch(r"stop-\d+", c["props"].get("elem_id", ""))
    ]
    assert len(slides) == len(read_talk()) and all("Being computed" in s for s in slides)
