"""The Training tab: logs as curves, samples on the way, and a run in the page that becomes its visitor's own model."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch

import app
from diffusion_core.history import COUNT, Growth, read_log
from diffusion_core.images import enlarge
from tabs import compare, evaluate, forward, interpolate, sample, training
from tabs.training import Live, closely_html, history_html, train_digits, use
from tabs.widgets import runs
from tabs.widgets.html import data_uri
from tabs.widgets.lanes import take_away
from tabs.widgets.learning import by_time_html, column, log_plot, table_html
from tabs.widgets.plots import Curve, Frame
from tabs.widgets.recipes import actions, settings_from
from tabs.widgets.runs import MODELS, OWN, Settings, adopt, filmed, forget, model_named

LOG = [
    {"step": 5, "seconds": 30.0, "images": 40, "loss": 0.5, "grad_norm": 2.0},
    {"step": 10, "seconds": 60.0, "images": 80, "loss": float("nan"), "grad_norm": 1.0},
    {"step": 10, "seconds": 60.0, "images": 80, "val_loss": 0.25},
    {"step": 20, "seconds": 120.0, "images": 160, "loss": 0.125},
]
RUN = dict(seconds=0.6, lr=2e-3, prediction="v", loss="l2", schedule="vp_linear")


@pytest.fixture(autouse=True)
def tiny_run(monkeypatch):
    monkeypatch.setattr(training, "RECIPE", replace(training.RECIPE, width=8, patch=2))
    monkeypatch.setattr(training, "GAP", 0)
    yield
    OWN.clear()


@pytest.fixture(scope="module")
def loaded() -> dict:
    return app.load_models()


@pytest.fixture
def shipped(loaded):
    """The models that come with the page, whatever other tests have put in their place."""
    before = dict(MODELS)
    MODELS.clear()
    MODELS.update(loaded)
    yield
    MODELS.clear()
    MODELS.update(before)


@pytest.fixture
def folder(tmp_path, monkeypatch, shipped):
    """The shipped mnist, as if it had been trained where growth and loss by t are kept."""
    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path)
    (tmp_path / "mnist.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    return tmp_path


def ran(**changes) -> list[tuple]:
    return [update for update in train_digits(**RUN | changes) if update[1] != gr.skip()]


# Logs -------------------------------------------------------------------------------------------------------------


def test_a_column_of_a_log_is_what_it_has_of_it_where_it_stands_on_the_axis():
    assert column(LOG, "loss", "step") == ([5, 20], [0.5, 0.125])  # not what is no number
    assert column(LOG, "loss", "images") == ([40, 160], [0.5, 0.125])
    assert column(LOG, "val_loss", "seconds") == ([1.0], [0.25])  # minutes
    assert column(LOG, "other", "step") == ([], [])


def test_equal_ratios_are_equal_distances_on_the_logarithmic_axes():
    plot = log_plot("Loss", "steps", [Curve([1, 10, 100], [0.4, 0.2, 0.1], "run-0", "a")], [])
    path = re.search(r'class="run-0 curve"[^>]* d="M([^"]+)"', plot)[1]
    points = np.array([[float(v) for v in point.split()] for point in path.split("L")])
    steps = np.diff(points, axis=0)
    assert steps[0] == pytest.approx(steps[1], abs=0.11) and steps[0][0] > 50 and steps[0][1] > 40


def test_the_table_says_how_fast_and_how_far_each_run_was():
    config = {"dataset": "mnist", "device": "CPU, 1 threads", "recipe": {"prediction": "eps"}}
    cells = re.findall(
        r"<td>(?:<svg.*?</svg>)?([^<]*)</td>", table_html({"a": LOG}, {"a": config}, {"a": ("run-0", "")})
    )
    assert cells == ["a", "MNIST", "eps", "20", "160", "1", "2.0", "0.2500", "one CPU thread"]


def test_every_shipped_log_is_drawn_in_its_own_colour_whatever_stands_beside_it(shipped):
    names = list(training.logged())
    assert {"mnist", "cifar10"} <= set(names)
    for chosen in (names, names[1:]):
        page = history_html(chosen, "seconds", 5)
        for k, name in enumerate(names):
            assert (f'class="run-{k} curve"' in page) == (name in chosen)
        assert "not comparable as numbers" in page and "minutes, log scale" in page
        entries = [entry for name in chosen for entry in read_log(app.CHECKPOINTS / f"{name}.jsonl")]
        assert ("Norm of the gradient" in page) == any("grad_norm" in entry for entry in entries)
    assert "Choose at least one run." in history_html([], "step", 5)


def test_where_the_log_has_the_gradients_norm_it_is_drawn(folder):
    assert "Norm of the gradient" in history_html(["mnist"], "step", 1)


def test_without_logs_the_tab_says_who_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path)
    assert "train.py writes one" in history_html([], "step", 5) and closely_html(None) == ""


# One run, closely -------------------------------------------------------------------------------------------------


def test_the_tab_opens_with_a_run_that_kept_what_it_drew(shipped):
    with gr.Blocks() as page:
        training.logged_runs()
    (closely,) = (c for c in page.blocks.values() if c.elem_id == "closely")
    assert training.growth_of(closely.value).is_file()


def test_rows_of_samples_are_shown_pixel_by_pixel_under_their_steps(folder):
    growth = Growth(folder / "mnist-growth.png", 28)
    for step in (500, 1000):
        growth.add(MODELS["mnist"], step)
    page = closely_html("mnist")
    assert all(f"<b>{step:,}</b> steps" in page for step in (500, 1000))
    assert re.findall(r'src="([^"]+)"', page) == [data_uri(enlarge(row, 1)) for row in growth.rows]
    assert "--s:2;" in page and growth.rows[0].shape[1] * 2 < 660


def test_what_was_not_kept_is_said(folder):
    page = closely_html("mnist")
    assert "No rows of mnist are kept here" in page and "has not been measured for mnist" in page


def test_the_loss_by_t_is_drawn_with_its_intervals_of_95_percent(folder):
    edges, mean, se = np.linspace(0, 1, 21), np.linspace(1, 0.05, 20), np.full(20, 0.01)
    some = {"mean": mean.tolist(), "se": se.tolist()}
    found = {
        "n": 1000, "split": "MNIST test", "target": "v", "weight": "min_snr", "times": "lognormal", "t": edges.tolist(),
        "raw": some, "weighted": some, "classes": {"0": some, "1": some}, "why": "Here & there.",
    }  # fmt: skip
    (folder / "mnist-loss.json").write_text(json.dumps(found))
    assert "n = 1,000, MNIST test" in closely_html("mnist")
    page = by_time_html(found, "run-0")
    raw, weighted = page.split("</svg>")[:2]
    assert raw.count('class="class-line other"') == 2 and "Here &amp; there." in page
    frame = Frame((0, 1), (0, 1.08 * (1 + 1.96 * 0.01)), "", "")
    bars = re.findall(r'interval" d="M([\d.]+) ([\d.]+)V([\d.]+)"', weighted)
    assert len(bars) == 20
    for k, bar in enumerate(bars):
        ends = frame.x((edges[k] + edges[k + 1]) / 2), frame.y(mean[k] - 0.0196), frame.y(mean[k] + 0.0196)
        assert [float(v) for v in bar] == pytest.approx(ends, abs=0.06)


# A run in the page ------------------------------------------------------------------------------------------------


def test_a_run_streams_curves_and_samples_and_ends_with_what_it_came_to():
    updates = ran()
    pages, abouts, lives = zip(*updates, strict=True)
    assert len(updates) > 1 and [about["finished"] for about in abouts] == [False] * (len(updates) - 1) + [True]
    assert all("stop-word" in page for page in pages[:-1]) and "stop-word" not in pages[-1]
    last, live = abouts[-1], lives[-1]
    assert last["images"] == last["step"] * training.RECIPE.batch == live.model.config["images"]
    assert last["val_loss"] == live.log[-1]["val_loss"]
    assert last["step"] == len([entry for entry in live.log if "loss" in entry])
    assert 0 <= pages[-1].count("<img") - len(live.rows) - 1 <= 1 and 1 <= len(live.rows) <= training.KEPT
    assert pages[-1].count('<div class="pixels"') == 0  # what is yet to come keeps its place until then
    assert {page.count("<img") + page.count('<div class="pixels"') for page in pages[:-1]} == {2 + training.KEPT}
    json.dumps(abouts)


@pytest.mark.parametrize("change", [{"prediction": "eps"}, {"prediction": "x0", "loss": "l1"}, {"loss": "huber"},
                                    {"schedule": "vp_cosine"}, {"schedule": "vp_quadratic", "lr": 1e-2}])  # fmt: skip
def test_whatever_is_chosen_is_what_is_trained(change):
    *_, (_, about, live) = ran(**change | {"seconds": 0.2})
    asked = {key: (RUN | change)[key] for key in ("lr", "prediction", "loss", "schedule")}
    assert live.model.config["recipe"] | asked == live.model.config["recipe"]
    assert live.model.denoiser.prediction == asked["prediction"]
    assert live.model.denoiser.schedule.config()["name"] == asked["schedule"] and about["samples"].startswith("data:")


def test_before_a_run_the_stage_shows_what_there_is_to_learn_and_when_rows_will_come():
    page = Live().html()
    assert page.count("<img") == 1 and page.count('<div class="pixels"') == training.KEPT + 1
    assert "at 60 s" in page and "Press Train digits" in page
    assert training.real_row().shape == (8, 9 * COUNT - 1, 1)


def test_a_run_that_is_stopped_keeps_what_it_has_learned():
    run = train_digits(**RUN | {"seconds": 60})
    live = next(update for update in run if update[1] != gr.skip())[2]
    run.close()
    name, *_ = use(live, None)
    assert filmed(Settings(name, steps=2, count=3)).last.x.shape == (3, 1, 8, 8)


def test_a_bad_choice_is_refused_in_one_sentence():
    with pytest.raises(gr.Error, match="--loss must be one of l2, l1, huber"):
        next(train_digits(**RUN | {"loss": "l3"}))


# The visitor's own model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live() -> Live:
    run = train_digits(20, 2e-3, "v", "l2", "vp_linear")
    _, _, live = next(update for update in run if update[1] != gr.skip())
    return live


def test_using_it_takes_a_copy_and_the_next_takes_its_place(live):
    name, tab, words = use(live, None)
    assert name in words and tab.selected == "sample"
    for kept, trained in zip(OWN[name].denoiser.parameters(), live.model.denoiser.parameters(), strict=True):
        assert torch.equal(kept, trained) and kept.data_ptr() != trained.data_ptr()
    another, *_ = use(live, name)
    assert list(OWN) == [another] != [name]
    with pytest.raises(gr.Error, match="press Train digits first"):
        use(None, None)


def test_only_who_knows_its_name_finds_it(live, shipped):
    name = adopt(live.model)
    assert model_named(name) is OWN[name] and name not in MODELS
    assert not any(name in source for source in forward.sources()) and name not in evaluate.judged()
    with pytest.raises(ValueError) as refusal:
        model_named("other")
    assert name not in str(refusal.value)
    with pytest.raises(ValueError, match="of a model"):  # a link would be anyone's
        settings_from({"model": name})
    with pytest.raises(gr.Error, match="no model .* to link to"):
        query = {"tab": "compare", "model": name, "race": '{"A": {}, "B": {}}'}
        compare.open_link(SimpleNamespace(query_params=query))
    lanes = compare.entrants(name, "all", 7, 4, {"A": {}, "B": {}})
    assert (
        take_away(lanes) == ""
        and "data-copy-link" not in actions(Settings(name), "file")
        and "data-copy-link" in actions(Settings("mnist"), "file")
    )


def test_there_are_never_more_than_a_few_and_a_lost_one_is_said_to_be_lost(live):
    names = [adopt(live.model) for _ in range(runs.MOST_OWN + 2)]
    assert list(OWN) == names[2:] and len(set(names)) == len(names)
    forget(names[-1])
    for lost in (names[0], names[-1]):
        with pytest.raises(ValueError, match="no longer kept; train it again"):
            model_named(lost)
    forget(None)


def test_it_goes_when_its_visitor_has_gone(live):
    [own] = [s for s in app.demo.blocks.values() if isinstance(s, gr.State) and s.delete_callback is forget]
    name = adopt(live.model)
    own.delete_callback(name)  # as Gradio does at the end of a session, and an hour after the state was set
    own.delete_callback(None)
    assert name not in OWN and own.time_to_live == 3600


def test_each_tab_offers_it_to_its_visitor_with_the_choices_that_it_has(live, shipped):
    name = adopt(live.model)
    digits = list("0123456789")
    _, model, cls, *_, spacing = sample.open_own(name)
    assert model.value == name and [value for _, value in model.choices] == [*MODELS, name]
    assert [value for _, value in cls.choices] == [*digits, "all", "none"]
    assert [value for _, value in spacing.choices] == ["lam", "t", "karras", "quad"]
    cls, *spacings = compare.choices_of(name)
    assert cls.value == "all" and len(spacings) == 4
    *_, (_, numbers, _) = compare.opened(name, [], 0)
    assert "DDIM" in numbers and name not in compare.OPENED
    source, a, b = interpolate.other_model(name)
    assert source.value == "data" and (a.value, b.value) == ("3", "8")
