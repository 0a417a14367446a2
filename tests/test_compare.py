"""The Compare tab: fair by network calls, from the same noise, and as far from the ODE's end as it says."""

import base64
import io
import re
import time
from html import unescape
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

import app
from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Classifier, Judge, initialised
from diffusion_core.evaluate import reference
from diffusion_core.images import grid
from diffusion_core.metrics import rmse
from diffusion_core.samplers import SAMPLERS
from tabs import compare
from tabs.widgets import lanes as widget
from tabs.widgets import race
from tabs.widgets.recipes import race_link, settings_from
from tabs.widgets.runs import Frame, Settings, frames
from tests.helpers import tiny_model

LANES = [{"sampler": "dpmpp_2m", "steps": 6}, {"sampler": "heun", "steps": 3}, {"sampler": "ddpm", "steps": 4}]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return tiny_model(dataset="pets")


@pytest.fixture(scope="module")
def page(tiny):
    network = initialised(Classifier(1, 2, width=8), torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    real = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    references = {split: reference(network, real) for split in ("train", "test")}
    judge = Judge("pets classifier", network, ["cat", "dog"], {"title": "pets", "accuracy": 0.9}, references)
    return app.build({"tiny": tiny}, {"pets": judge})


@pytest.fixture(scope="module")
def client(page) -> Client:
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    yield Client(url, verbose=False)
    page.close()


@pytest.fixture
def short(monkeypatch):
    """References of few steps, where it does not matter how good they are."""
    monkeypatch.setitem(race.REFERENCE, "steps", 8)
    compare.REFERENCES.kept.clear()
    yield
    compare.REFERENCES.kept.clear()


def settings(*choices: dict, **common) -> dict[str, Settings]:
    start = Settings("tiny", "cat", count=2, **common)
    return {name: start._replace(**choice) for name, choice in zip("ABCD", choices, strict=False)}


def start(*choices: dict, **common) -> dict[str, race.Lane]:
    return {name: race.Lane(s) for name, s in settings(*choices, **common).items()}


def raced(*choices: dict) -> dict[str, race.Lane]:
    """The lanes at their end, each with its reference."""
    lanes = start(*choices)
    list(race.run(lanes))
    list(compare.REFERENCES.find(lanes))
    return lanes


# The race ---------------------------------------------------------------------------------------------------------


def test_the_lane_with_the_fewest_calls_goes_next(page):
    calls = {"A": 0, "B": 0, "C": 0, "D": 0}
    going = dict.fromkeys(calls, True)
    entries = settings(*LANES, {"sampler": "predictor_corrector", "steps": 4})
    lengths = {name: sum(1 for _ in frames(s)) for name, s in entries.items()}
    for name, frame in race.advance(entries):
        assert calls[name] == min(calls[n] for n in going if going[n])
        calls[name] = frame.nfe
        going[name] = frame.i < lengths[name]
    assert not any(going.values()) and calls["A"] == 6 and calls["B"] == 5 and calls["C"] == 4


def test_a_lane_in_a_race_is_the_run_it_would_be_alone_and_all_start_from_the_same_noise(page):
    entries = settings(*LANES, seed=3)
    ends = {}
    for name, frame in race.advance(entries):
        ends[name] = frame
    for name, s in entries.items():
        *_, alone = frames(s)
        assert torch.equal(ends[name].x, alone.x)
    twice = settings(LANES[2], LANES[2], seed=3)  # fresh noise too is a function of the seed
    ends = dict(race.advance(twice))
    assert torch.equal(ends["A"].x, ends["B"].x)


def test_seconds_are_the_lanes_own(page):
    entries = settings({"steps": 3}, {"steps": 3})
    started, total = time.perf_counter(), {}
    for name, frame in race.advance(entries):
        time.sleep(0.02)  # the page's own time
        total[name] = frame.seconds
    assert sum(total.values()) <= time.perf_counter() - started - 6 * 0.02


def blank(i: int, nfe: int) -> Frame:
    return Frame(*[None] * len(Frame._fields))._replace(i=i, nfe=nfe, x=torch.full((1, 1, 2, 2), 0.1 * i), t=0.5)


def test_a_lane_stands_where_its_last_finished_step_left_it():
    lane = race.Lane(Settings("tiny", sampler="heun"))
    assert lane.at(5) is None
    for i, nfe in enumerate((2, 4, 5), start=1):
        lane.film.add(blank(i, nfe))
    assert [getattr(lane.at(k), "i", None) for k in (1, 2, 3, 4, 5, 99)] == [None, 1, 1, 2, 3, 3]
    other = race.Lane(Settings("tiny"))
    other.film.add(blank(1, 3))
    assert race.calls_of({"A": lane, "B": other}) == [2, 3, 4, 5]


# Distances --------------------------------------------------------------------------------------------------------


def test_the_reference_is_converged_and_the_distance_is_the_rmse_to_it(page):
    state = raced({"steps": 10}, {"sampler": "heun", "steps": 40}, {"sampler": "ddim", "steps": 10})
    *_, long = frames(state["B"].settings._replace(steps=200))
    truth = state["A"].reference
    assert rmse(truth.x, long.x).mean() < 3 * truth.error + 1e-4
    for name, lane in state.items():
        r = widget.row(name, lane)
        assert lane.reference is truth  # one reference serves all lanes of the same guidance
        assert r["distance"] == pytest.approx(rmse(lane.film.last.x, truth.x).mean().item())
        assert r["curve"][-1] == (lane.film.last.nfe, r["distance"])
    ends = {name: widget.row(name, lane)["distance"] for name, lane in state.items()}
    assert ends["B"] < ends["A"] < ends["C"]  # 79 calls of order 2, 10 of order 2, 10 of order 1


def test_references_are_made_once_for_each_guidance_and_only_the_latest_are_kept(page, short):
    kept = race.References()
    first = start({"guidance": 1.0}, {"guidance": 1.0, "sampler": "heun", "spacing": "t"}, {"sampler": "ddpm"})
    assert list(kept.find(first)) == [(k, 12) for k in range(1, 13)]  # 8 steps, and 4 that tell its error
    assert first["A"].reference is first["B"].reference and first["C"].reference is None
    again = start({"guidance": 1.0, "steps": 50}, {"sampler": "euler", "guidance": 3.0})
    assert list(kept.find(again))[-1] == (12, 12)
    assert again["A"].reference is first["A"].reference is not again["B"].reference
    for seed in range(race.KEPT):
        list(kept.find(start({}, seed=seed)))
    assert len(kept.kept) == race.KEPT


def test_a_distance_below_the_references_own_error_is_not_claimed(page, short):
    same = {"steps": race.REFERENCE["steps"]}  # the reference itself
    rows = widget.rows_of(raced(same, {"sampler": "ddpm", "steps": 2}))
    assert rows[0]["distance"] == 0 and widget.distance_text(rows[0]).startswith("below 0.")
    assert rows[1]["distance"] is None and widget.distance_text(rows[1]) == "none: own noise"
    svg = widget.curves_html(rows)
    assert "nan" not in svg and "inf " not in svg and 'class="dpmpp_2m curve"' in svg and "ddpm" not in svg
    assert "B</b>: no such distance" in widget.notes_html(rows)


@pytest.mark.parametrize("name", SAMPLERS)
def test_which_samplers_are_deterministic_stands_in_the_table(name):
    for eta in (0.0, 0.5):
        lane = race.Lane(Settings("tiny", sampler=name, eta=eta))
        lane.film.add(blank(1, 1)._replace(seconds=0.1))
        stochastic = name in ("ddpm", "reverse_sde", "predictor_corrector") or (name == "ddim" and eta > 0)
        assert lane.deterministic != stochastic
        table = widget.table_html([widget.row("A", lane)])
        assert f"<small>{'stochastic' if stochastic else 'deterministic'}, guidance 2" in table


# The page ---------------------------------------------------------------------------------------------------------


def updates(generator) -> list[tuple]:
    """What an event has shown, without what it left alone."""
    return [[None if isinstance(v, dict) else v for v in update] for update in generator]


def sheet(html: str, k: int) -> np.ndarray:
    data = re.findall(r"url\('data:image/png;base64,([^']+)'\)", html)[k]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_race_streams_and_ends_with_every_lane_by_network_calls(page, short, monkeypatch):
    monkeypatch.setattr(compare, "PREVIEW_GAP", 0)
    entries = settings(*LANES)
    seen = updates(compare.shown(start(*LANES)))
    assert "when all lanes have arrived" in seen[0][1] and seen[0][2] == []  # not the numbers of the race before
    stages = [stage for stage, _, _ in seen if stage]
    assert "running" in stages[0] and "step 1" in stages[0]
    final, rows = stages[-1], seen[-1][2]
    assert "finished: 3 steps, 5 calls" in final and "deterministic" in seen[-1][1]
    assert [r["calls"] for r in rows] == [6, 5, 4]
    assert any(results and "Reference run of the ODE: step" in results for _, results, _ in seen)
    for k, name in enumerate("ABC"):
        lane = race.Lane(entries[name])
        for frame in frames(entries[name]):
            lane.film.add(frame)
        picture = sheet(final, 2 * k).reshape(6, 8, -1)  # six numbers of calls, one below the other
        for calls in range(1, 7):
            wanted = lane.at(calls).x if lane.at(calls) else torch.zeros(2, 1, 8, 8)
            assert np.array_equal(picture[calls - 1], np.asarray(grid(wanted, 2)))


def test_the_demonstration_opens_after_twenty_calls_with_one_lane_finished_and_one_half_way(page, short):
    names, *values = compare.halves()
    seen = updates(compare.demonstrated("tiny", "cat", 7, 2, names, *values, *values))  # C and D do not run
    final = [stage for stage, _, _ in seen if stage][-1]
    assert "Step 20 of 40 is not 20 steps." in final and 'style="--k:19"' in final
    assert "A: finished: 20 steps, 20 calls<br>B: step 20 of 40" in final
    assert "After 20 calls: A 0." in seen[-1][1]


def test_the_first_look_at_the_tab_races_and_the_next_one_has_it_at_once(page, short):
    compare.OPENED.clear()
    first = updates(compare.opened("tiny", [], 0))
    assert len(first) > 5
    [again] = updates(compare.opened("tiny", [], 0))
    assert "race done" in again[0] and "lanes-table" in again[1] and len(again[2]) == 3
    assert updates(compare.opened("tiny", again[2], 0)) == [[None] * 3]  # a race that is there stays


class Address:
    """A request for the page with this query."""

    def __init__(self, query: str):
        self.query_params = dict(parse_qsl(query.removeprefix("?")))


def test_a_link_brings_back_the_race(page):
    common = Settings("tiny", "dog", seed=5, count=3)
    race = {
        "A": common._replace(sampler="heun", steps=4),
        "C": common._replace(sampler="ddim", eta=0.5, guidance=1.5, spacing="t"),
    }
    tab, again, model, cls, seed, count, names, *fields = compare.open_link(Address(race_link(race)))
    assert tab.selected == "compare" and again and names == ["A", "C"]
    chosen = compare.chosen_lanes(names, tuple(fields))
    assert {
        name: lane.settings for name, lane in compare.entrants(model, cls.value, seed, count, chosen).items()
    } == race
    assert updates(compare.opened("tiny", [], again)) == [[None] * 3]  # the link's race goes first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"race": "{"}, "damaged"),
        ({"race": "[]"}, "lanes among A, B, C, D"),
        ({"race": '{"E": {}, "A": {}}'}, "lanes among A, B, C, D"),
        ({"race": '{"A": {}}'}, "2 to 4 lanes, not 1"),
        ({"race": '{"A": {}, "B": {"steps": "9"}}'}, "Lane B: steps must lie between 1 and 250, not 9"),
        ({"model": "huge"}, "no model 'huge'"),
        ({"cls": "emu"}, "no class 'emu'"),
        ({"seed": "x"}, "damaged"),
        ({"count": "99"}, "Images must lie between 1 and 16, not 99"),
    ],
)
def test_a_link_to_a_race_that_cannot_be_is_refused_and_the_value_named(page, change, words):
    query = {"tab": "compare", "model": "tiny", "race": '{"A": {}, "B": {}}', **change}
    with pytest.raises(gr.Error, match=words):
        compare.open_link(Address(urlencode(query)))


@pytest.mark.parametrize("query", ["", "?tab=compare", "?tab=sample&race={}"])
def test_without_a_race_in_the_address_nothing_changes(page, query):
    assert updates([compare.open_link(Address(query))]) == [[None] * (7 + 20)]


def test_a_frechet_distance_says_what_it_is_of(page, short):
    *_, (_, _, rows) = updates(compare.shown(start({"steps": 2}, {"sampler": "ddpm", "steps": 2})))
    *_, (html, kept) = updates(compare.measured(rows))
    for r in kept:
        low, high = r["frechet"]["interval"]
        assert low <= r["frechet"]["distance"] <= high
    for words in ("Fréchet distance (features: pets classifier)", "n = 100", "against pets test, 120 images"):
        assert words in html
    assert updates(compare.measured([])) == [[None, None]]


def test_without_a_classifier_measuring_says_what_is_missing(page, short, monkeypatch):
    monkeypatch.setattr(compare, "judge_of", lambda model: None)
    with pytest.raises(gr.Error, match="No classifier here judges tiny"):
        list(compare.measured([widget.row(*lane) for lane in raced({"steps": 2}, {"steps": 3}).items()]))


def test_each_lane_has_a_link_that_runs_it_in_the_sample_tab(page, short):
    lanes = raced({"steps": 2, "guidance": 1.5}, {"sampler": "ddpm", "steps": 2})
    links = re.findall('href="([^"]+)"', widget.table_html(widget.rows_of(lanes)))
    found = [settings_from(dict(parse_qsl(unescape(href)[1:]))) for href in links]
    assert found == [lane.settings for lane in lanes.values()]


def test_the_endpoint_races_and_returns_what_it_came_to(client, short):
    job = client.submit(model="tiny", lanes=LANES, cls="cat", seed=5, count=2, api_name="/race")
    result = job.result()
    assert result["finished"] and [r["calls"] for r in result["lanes"]] == [6, 5, 4]
    assert [r["deterministic"] for r in result["lanes"]] == [True, True, False]
    assert result["lanes"][0]["distance"] > 0 and result["lanes"][2]["distance"] is None
    image = Image.open(io.BytesIO(base64.b64decode(result["lanes"][0]["grid"].split(",")[1])))
    assert image.size == (17, 8) and '"seed": 5' in image.info["recipe"]
    assert len(job.outputs()) > 10


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "other"}, "There is no model 'other'; there is tiny."),
        ({"lanes": LANES[:1]}, "A race has 2 to 4 lanes, not 1."),
        ({"lanes": LANES * 3}, "A race has 2 to 4 lanes, not 9."),
        ({"lanes": [LANES[0], {"steps": 0}]}, "Lane B: steps must lie between 1 and 250, not 0."),
        ({"lanes": [LANES[0], {"steps": 2.5}]}, "Lane B: steps must lie between 1 and 250, not 2.5."),
        ({"lanes": [{"sampler": "magic"}, {}]}, "Lane A: sampler must be one of .*, not 'magic'."),
        ({"lanes": [{"colour": 1}, {}]}, "Lane A has no setting 'colour'; it has sampler, steps"),
        ({"lanes": [3, {}]}, "Lane A must be a dictionary"),
        ({"lanes": [{"spacing": "ddpm"}, {}]}, "discrete schedule"),
        ({"cls": "axolotl"}, "axolotl"),
        ({"seed": -1}, "Seed must be a whole number"),
        ({"count": 1000}, "Images must lie between 1 and 16, not 1000."),
    ],
)
def test_what_cannot_be_raced_is_said_in_one_sentence(client, change, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**dict(model="tiny", lanes=LANES[:2], cls="cat", count=1) | change, api_name="/race")


def test_without_a_model_the_tab_says_what_to_do(page, tiny):
    empty = app.build({}, {})
    assert "python train.py mnist" in str(empty.get_config_file())
    assert updates(compare.opened(None, [], 0)) == [[None] * 3]
