"""The page's endpoints, called as a program would: right answers, and one clear sentence for wrong questions."""

import base64
import io
import json
from dataclasses import replace
from itertools import pairwise

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from diffusion_core.checkpoint import Model, save
from diffusion_core.classifier import Classifier, Judge, initialised
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.evaluate import Plan, draw, measure, reference
from diffusion_core.fields import METHODS, OBJECTIVES, errors_by_level
from diffusion_core.images import to_uint8
from diffusion_core.networks import UNet
from diffusion_core.plane import PRESETS, data_of
from diffusion_core.schedules import SCHEDULES, VPLinear
from tabs import evaluate, forward, interpolate, score, training
from tabs.widgets.runs import JUDGES, MODELS, Film, Frame, Settings, frames
from tabs.widgets.turn import remembering
from tests.helpers import picture_in, tiny_model

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4
SAMPLE = dict(
    model="tiny", cls="cat", sampler="dpmpp_2m", steps=4, guidance=2.0, seed=5, count=2, eta=0.0, spacing="lam"
)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def client(tiny) -> Client:
    page = app.build({"tiny": tiny}, {})
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    yield Client(url, verbose=False)
    page.close()


def run(client: Client, **changes) -> dict:
    return client.predict(**SAMPLE | changes, api_name="/sample")[-1]


def test_the_public_endpoints_are_these_and_each_says_what_it_does(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {
        "/forward", "/picture", "/upload", "/sample", "/race", "/interpolate", "/path_distance", "/evaluate",
        "/train_score", "/sample_score", "/train_digits",
    }  # fmt: skip
    handlers = (forward.forward, forward.another, forward.upload, app.sample.sample, evaluate.evaluate)
    handlers += (interpolate.interpolate, interpolate.path_distance, score.train_score, score.sample_score)
    handlers += (training.train_digits,)
    for function in (*handlers, app.compare.race):
        assert len(function.__doc__) > 60


def test_a_change_while_a_field_is_empty_runs_nothing_and_a_button_says_what_is_missing(tiny, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", tiny)
    settings = [*Settings("tiny", "cat", steps=2, count=1)]
    settings[Settings._fields.index("seed")] = None
    [page] = remembering(app.sample.sample)(*settings)
    assert page == (gr.skip(), gr.skip(), gr.skip())
    with pytest.raises(gr.Error, match="Seed is empty"):
        next(app.sample.sample(*settings))


def test_what_a_change_has_just_drawn_a_button_does_not_draw_again(tiny, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", tiny)
    settings = Settings("tiny", "cat", steps=2, count=1)
    *_, (_, _, shown) = remembering(app.sample.sample)(*settings)
    assert [*app.sample.sample(*settings, shown)] == [(gr.skip(), gr.skip())]
    skipped = (gr.skip(), gr.skip(), gr.skip())
    assert [*remembering(app.sample.sample)(*settings, shown)] == [skipped]  # nor does the change that a link makes
    assert [*app.sample.sample_again(1.0, *settings, shown)] == [skipped]
    assert len([*app.sample.sample(*settings._replace(seed=8), shown)]) == 3
    assert len([*app.sample.sample(*settings, shown._replace(at=shown.at - 2))]) == 3


# Forward ----------------------------------------------------------------------------------------------------------


def test_at_the_cosines_end_drift_and_diffusion_are_those_of_the_last_time_that_sampling_uses():
    schedule = SCHEDULES["vp_cosine"]()
    end, last = forward.numbers("vp_cosine", 1.0), torch.tensor(schedule.t_max, dtype=torch.float64)
    assert end["f"] == pytest.approx(schedule.f(last).item()) and end["f"] < -50
    assert end["g"] == pytest.approx(schedule.g2(last).sqrt().item())


@pytest.mark.parametrize("name", forward.NAMES)
def test_forward_returns_the_schedules_own_numbers(client, name):
    *_, about = client.predict(schedule=name, t=0.4, seed=0, compare=True, api_name="/forward")
    schedule, t = SCHEDULES[name](), torch.tensor(0.4, dtype=torch.float64)
    assert about["alpha"] == pytest.approx(schedule.alpha(t).item())
    assert about["sigma"] == pytest.approx(schedule.sigma(t).item())
    assert about["log_snr"] == pytest.approx(2 * schedule.lam(t).item())
    assert about["g"] ** 2 == pytest.approx(schedule.g2(t).item())


def test_forward_noises_the_picture_as_the_formula_says():
    *_, about = forward.forward(PICTURE, "vp_cosine", 0.3, seed=3)
    x0, eps = forward.as_tensors(PICTURE, 3)
    x = about["alpha"] * x0 + about["sigma"] * eps
    difference = np.asarray(picture_in(about["x_t"]), int)[..., None] - to_uint8(x).astype(int)
    assert np.abs(difference).max() <= 1  # float32 against float64 may round a level the other way


def test_at_time_zero_the_picture_is_untouched():
    *_, about = forward.forward(PICTURE, "vp_linear", 0.0, seed=0)
    assert np.array_equal(np.asarray(picture_in(about["x_t"]))[..., None], PICTURE)


def test_every_part_of_the_forward_stage_moves_with_t():
    early, late = (forward.forward(PICTURE, "ve", t, seed=0)[:2] for t in (0.2, 0.8))
    assert early[0] != late[0] and early[1] != late[1]
    assert "divided by" in late[0] + late[1]  # what is shown of VE's large values is said


def test_an_uploaded_picture_is_what_is_noised_next(client, tmp_path):
    Image.new("RGB", (90, 70), (255, 0, 0)).save(tmp_path / "red.png")
    client.predict(handle_file(tmp_path / "red.png"), api_name="/upload")
    *_, about = client.predict(schedule="vp_linear", t=0.0, seed=0, compare=False, api_name="/forward")
    image = picture_in(about["x_t"])
    assert image.size == (64, 64) and image.getpixel((10, 10)) == (255, 0, 0)


def test_pictures_can_be_drawn_from_what_is_on_the_machine(client):
    for source in ("digits", "generated: tiny"):
        client.predict(source=source, api_name="/picture")
        *_, about = client.predict(schedule="vp_linear", t=0.0, seed=0, compare=False, api_name="/forward")
        assert picture_in(about["x_t"]).size == (8, 8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"t": 1.5}, "Time t must lie between 0 and 1, not 1.5."),
        ({"t": "NaN"}, "Time t must lie between 0 and 1, not NaN."),
        ({"seed": -1}, "Noise seed must be a whole number from 0"),
        ({"schedule": "linear"}, "linear is not in the list of choices"),
    ],
)
def test_forward_refuses_in_one_sentence_and_the_next_request_works(client, change, sentence):
    good = dict(schedule="vp_linear", t=0.5, seed=0, compare=False)
    with pytest.raises(AppError, match=sentence):
        client.predict(**good | change, api_name="/forward")
    client.predict(**good, api_name="/forward")


def bad_uploads(folder):
    """(file, what the refusal says)"""
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(buffer, "PNG")
    (folder / "cut.png").write_bytes(buffer.getvalue()[:5000])
    (folder / "text.png").write_bytes(b"hello")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return [("cut.png", "cut off"), ("text.png", "not a picture"), ("huge.png", "too large")]


def test_bad_uploads_are_refused_in_one_sentence_and_nothing_is_lost(client, tmp_path):
    Image.new("L", (1, 1), 255).save(tmp_path / "white.png")
    client.predict(handle_file(tmp_path / "white.png"), api_name="/upload")
    for name, sentence in bad_uploads(tmp_path):
        with pytest.raises(AppError, match=sentence):
            client.predict(handle_file(tmp_path / name), api_name="/upload")
        *_, about = client.predict(schedule="vp_linear", t=0.0, seed=0, compare=False, api_name="/forward")
        assert picture_in(about["x_t"]).getextrema() == ((255, 255),) * 3  # still the white picture


def test_cmyk_and_animated_uploads_are_taken(client, tmp_path):
    Image.new("CMYK", (30, 20)).save(tmp_path / "print.jpg")
    frames = [Image.new("L", (9, 9), v) for v in (0, 255)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("print.jpg", "moving.gif"):
        client.predict(handle_file(tmp_path / name), api_name="/upload")


# Sample -----------------------------------------------------------------------------------------------------------


def test_sampling_shows_its_steps_and_ends_with_the_images_and_their_recipe(client):
    updates = [about for _, about in client.submit(**SAMPLE, api_name="/sample") if about]
    assert updates[-1]["finished"] and not any(u["finished"] for u in updates[:-1])
    assert len(updates) > 1 and updates[-1]["nfe"] == 4 and updates[-1]["seeds"] == [5, 6]
    image = picture_in(updates[-1]["grid"])
    assert image.size == (17, 8)
    assert json.loads(image.info["recipe"])["seed"] == 5


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_the_same_seed_is_the_same_image_whatever_the_count(client, sampler):
    few, many = (np.asarray(picture_in(run(client, count=n, sampler=sampler)["grid"]), int) for n in (1, 6))
    assert np.abs(few - many[:8, :8]).max() <= 1  # the network's own rounding may tip a level
    again = np.asarray(picture_in(run(client, count=1, sampler=sampler)["grid"]), int)
    assert np.array_equal(few, again)


def test_class_and_guidance_change_the_image_and_guidance_0_is_unconditional(client):
    changes = ({}, {"cls": "dog"}, {"guidance": 1.0}, {"cls": "none"}, {"guidance": 0.0})
    images = [picture_in(run(client, **c)["grid"]).tobytes() for c in changes]
    assert len(set(images)) == 4 and images[3] == images[4]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "Steps must lie between 1 and 250, not 0."),
        ({"steps": 10_000}, "Steps must lie between 1 and 250, not 10000."),
        ({"guidance": "NaN"}, "Guidance must lie between 0 and 10, not NaN."),
        ({"cls": "axolotl"}, "axolotl"),
        ({"sampler": "magic"}, "magic"),
        ({"model": "other"}, "other"),
        ({"seed": -1}, "Seed must be a whole number from 0 to 2147483647, not -1."),
        ({"seed": 2.5}, "Seed must be a whole number from 0 to 2147483647, not 2.5."),
        ({"count": 1000}, "Images must lie between 1 and 64, not 1000."),
    ],
)
def test_sample_refuses_in_one_sentence_and_the_next_request_works(client, change, sentence):
    with pytest.raises(AppError, match=sentence):
        run(client, **change)
    assert run(client)["finished"]


def test_long_runs_keep_a_bounded_film_evenly_spread_that_ends_with_the_last_frame():
    blank = [None] * len(Frame._fields)
    for length in (1, 40, 64, 65, 333, 1000):
        film = Film(most=64)
        for i in range(1, length + 1):
            film.add(Frame(*blank)._replace(i=i))
        kept = [f.i for f in film.frames]
        assert kept[-1] == length and len(kept) <= 65 and len(kept) >= min(length, 32)
        assert len(set(np.diff(kept[:-1]))) <= 1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m", "euler", "reverse_sde"])
def test_a_frames_noise_and_images_are_what_the_network_saw_in_the_frame_before(tiny, sampler):
    for a, b in pairwise(frames(Settings("tiny", "cat", sampler, steps=5, count=3))):
        alpha = a.sigma * np.exp(a.lam)
        torch.testing.assert_close(alpha * b.x0 + a.sigma * b.eps, a.x, rtol=1e-4, atol=1e-4)


def test_the_update_is_between_frames(tiny):
    *before, last = frames(Settings("tiny", "cat", steps=5, count=3))
    assert np.isnan(before[0].update)
    moved = [(last.x - before[-1].x)[k].square().mean().sqrt().item() for k in range(3)]
    assert last.update == pytest.approx(np.mean(moved), rel=1e-5)


# Starting ---------------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_left_out_with_the_reason_and_the_others_are_used(tiny, tmp_path):
    save(tmp_path / "good.safetensors", tiny)
    (tmp_path / "bad.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:-50])
    with pytest.warns(UserWarning, match="bad.safetensors"):
        models = app.load_models(tmp_path)
    assert list(models) == ["good"]


def test_the_page_opens_with_the_smallest_model(tiny, tmp_path):
    larger = NetDenoiser(UNet(channels=1, width=16, num_classes=2), VPLinear())
    save(tmp_path / "a.safetensors", replace(tiny, denoiser=larger))
    save(tmp_path / "b.safetensors", tiny)
    assert list(app.load_models(tmp_path)) == ["b", "a"]


def test_without_any_model_the_page_still_opens_and_says_what_to_do(tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path))
    assert app.load_models(tmp_path) == {}
    page = app.build({}, {})
    text = json.dumps(page.get_config_file(), default=str)
    assert "train.py mnist" in text and "The noisy picture" in text
    app.build({"tiny": tiny}, {})  # the registry is the page's last built


def test_the_shipped_checkpoint_loads_and_draws_what_it_is_asked_for():
    models = app.load_models()
    assert models["mnist"].shape == (1, 28, 28) and models["mnist"].classes == [str(k) for k in range(10)]


# Evaluate ---------------------------------------------------------------------------------------------------------

EVALUATE = dict(model="tiny", sampler="dpmpp_2m", steps=2, guidance=1.5, n=70, split="test", seed=3)


@pytest.fixture(scope="module")
def judging(tiny) -> Client:
    """The page with a classifier of the tiny model's images beside it."""
    network = initialised(Classifier(1, 2, width=8), torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    real = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    references = {"train": reference(network, real), "test": reference(network, real[:100])}
    judge = Judge("pets classifier", network, ["cat", "dog"], {"title": "pets", "accuracy": 0.9}, references)
    page = app.build({"tiny": replace(tiny, config={"dataset": "pets"})}, {"pets": judge})
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    yield Client(url, verbose=False)
    page.close()


def test_an_evaluation_streams_numbers_and_ends_with_those_of_the_core(judging):
    job = judging.submit(**EVALUATE, api_name="/evaluate")
    *_, result = job.result()
    plan = Plan("dpmpp_2m", 2, 1.5, n=70, seed=3)
    model, judge = MODELS["tiny"], JUDGES["pets"]
    *_, last = draw(model, judge, plan, batch=50)
    wanted = json.loads(json.dumps(measure(judge, model, plan, last, ceiling=result["ceiling"])))
    assert result | {"seconds": 0} == wanted | {"seconds": 0}
    numbers = [r["n"] for *_, r in job.outputs() if isinstance(r, dict) and "n" in r]
    assert sorted(set(numbers)) == [50, 70]
    stage, *_ = job.outputs()[-1]
    for words in ("Fréchet distance (features: pets classifier)", "not an FID", "n = 70", "seeds from 3", "100 images"):
        assert words in stage


def test_each_run_is_a_row_of_the_visits_table(judging):
    for seed in (1, 2):
        *_, table, link, _, _ = judging.predict(**EVALUATE | {"seed": seed, "n": 50}, api_name="/evaluate")
    column = table["headers"].index("Seed")
    assert [line[column] for line in table["data"]][:2] == [2, 1]
    text = base64.b64decode(link.split("base64,")[1].split('"')[0]).decode()
    assert [line.split(",")[0] for line in text.splitlines()][:3] == ["model", "tiny", "tiny"]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"model": "huge"}, "huge"),
        ({"steps": 0}, "Steps"),
        ({"n": 10}, "10"),
        ({"seed": -1}, "Seed must be a whole number from 0"),
        ({"sampler": "magic"}, "magic"),
    ],
)
def test_what_cannot_be_evaluated_is_said_and_the_next_request_works(judging, wrong, words):
    with pytest.raises(AppError, match=words):
        judging.predict(**EVALUATE | wrong, api_name="/evaluate")
    assert judging.predict(**EVALUATE | {"n": 50}, api_name="/evaluate")[-1]["n"] == 50


def test_without_a_classifier_the_tab_says_what_to_do(tiny):
    app.build({"tiny": tiny}, {})
    assert "train.py mnist-classifier" in evaluate.first_result(None)
    assert evaluate.judged() == {}


# Score ------------------------------------------------------------------------------------------------------------

TRAIN = dict(
    data="song_ermon",
    points="[]",
    objective="sliced_vr",
    levels="all",
    sigma=1.0,
    seconds=1,
    lr=1e-3,
    batch=64,
    projections=1,
    seed=0,
)
FOLLOW = dict(
    data="song_ermon",
    points="[]",
    field="exact",
    methods=["langevin", "annealed"],
    sigma=1.0,
    calls=100,
    count=100,
    share=0.3,
    seed=0,
)


def follow(client: Client, **changes) -> dict:
    return client.predict(**FOLLOW | changes, api_name="/sample_score")[-1]


def test_training_streams_the_field_and_what_it_learned_leads_the_particles(client):
    updates = [about for _, about in client.submit(**TRAIN, api_name="/train_score") if isinstance(about, dict)]
    assert updates[-1]["finished"] and not updates[0]["finished"] and updates[-1]["steps"] > updates[0]["steps"]
    assert updates[-1]["relative"] < updates[0]["relative"]
    assert f"learned in {updates[-1]['steps']:,} steps" in follow(client, field="learned")["field"]
    assert "shipped" in follow(client, field="learned", data="ring")["field"]  # other data, another field


@pytest.mark.parametrize("data", [*PRESETS, "own"])
def test_all_ways_to_sample_start_together_and_are_held_against_the_true_weights(client, data):
    points = "[[1, 2], [-3, 4.5]]" if data == "own" else "[]"
    found = follow(client, data=data, points=points, methods=list(METHODS))
    assert sum(found["true_weights"]) == pytest.approx(1)
    for method in METHODS:
        assert sum(found[method]["weights"]) == pytest.approx(1, abs=1e-4) and found[method]["calls"] == 100
        gaps = np.abs(np.subtract(found[method]["weights"], found["true_weights"])).sum() / 2
        assert found[method]["weight_error"] == pytest.approx(gaps, abs=1e-5)


def test_a_field_of_one_level_is_only_for_langevin_at_that_level(client):
    client.predict(**TRAIN | {"levels": "one", "sigma": 3.0}, api_name="/train_score")
    with pytest.raises(AppError, match="knows σ = 3 only"):
        follow(client, field="learned")
    assert "σ = 3" in follow(client, field="learned", methods=["langevin"])["field"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_ships_a_field_that_knows_all_levels(name):
    model = score.SHIPPED[name]
    levels = errors_by_level(model.denoiser, data_of(name))
    assert max(error for sigma, error in levels if sigma >= 1) < 0.15 and max(error for _, error in levels) < 0.35
    assert [r["objective"] for r in model.config["rivals"]] == list(OBJECTIVES)
    page = score.first_sight(score.shipped(name), name, "[]", 1.0)
    assert page.count("<svg") >= 7 and "shipped" in page


@pytest.mark.parametrize(
    ("endpoint", "change", "sentence"),
    [
        ("/train_score", {"data": "own"}, "at least one point"),
        ("/train_score", {"data": "own", "points": "[[1, 2"}, "must be written as"),
        ("/train_score", {"data": "own", "points": "[[1, 99]]"}, "from -10 to 10"),
        ("/train_score", {"sigma": 0.0}, "Noise level σ must lie between 0.2 and 10, not 0"),
        ("/train_score", {"objective": "magic"}, "magic"),
        ("/train_score", {"seed": -1}, "Seed must be a whole number"),
        ("/sample_score", {"methods": []}, "at least one way to sample"),
        ("/sample_score", {"data": "own", "points": "[[1, 2]]", "field": "learned"}, "press Train, or choose"),
        ("/sample_score", {"count": 10_000}, "Particles must lie between 50 and 2000, not 10000"),
    ],
)
def test_the_score_tab_refuses_in_one_sentence_and_the_next_request_works(client, endpoint, change, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**(TRAIN if endpoint == "/train_score" else FOLLOW) | change, api_name=endpoint)
    assert follow(client, methods=["ode"])["ode"]["calls"] == 100


def test_what_was_measured_on_the_way_says_at_which_noise_level():
    """The slider may have moved since."""
    *_, (_, _, learned) = score.train_score(*(TRAIN | {"sigma": 3.0, "seconds": 0.1}).values())
    assert "Relative error at σ = 3, in %" in score.first_sight(learned, "song_ermon", "[]", 7.0)
    assert "Relative error at σ = 1, in %" in score.first_sight(score.shipped("ring"), "ring", "[]", 7.0)


def test_while_particles_move_every_method_has_its_panel():
    methods = ["annealed", "ode"]
    first, *_ = score.sample_score(None, *(FOLLOW | {"methods": methods}).values())
    assert [first[0].count(METHODS[m]) for m in methods] == [2, 1]  # the one that moves is named below too
    assert first[0].count('class="dots') == 1


@pytest.mark.parametrize(
    ("points", "sentence"),
    [("[]", "at least one point"), *((text, "must be written as") for text in ("[[1, 2], [", "5", "null"))],
)
def test_points_that_are_still_being_written_are_no_error(points, sentence):
    assert sentence in score.look(None, "own", points, 1.0)
    assert sentence in next(score.changed(None, "own", points, *list(FOLLOW.values())[2:]))


def test_new_data_is_followed_at_once_by_what_is_known_of_it():
    options = list((FOLLOW | {"field": "learned"}).values())[2:]
    *_, page = score.changed(None, "own", "[[1, 2]]", *options)
    assert "moved by the exact score" in page
    *_, page = score.changed(None, "ring", "[[1, 2]]", *options)
    assert "moved by the shipped field" in page


def test_a_comparison_of_the_objectives_ends_with_all_four(monkeypatch):
    monkeypatch.setattr(score, "RACE", 0.05)
    *_, page = score.compare_objectives("ring", "[]", 1.0, 1e-3, 64, 1)
    assert all(label in page for label in OBJECTIVES.values()) and "measured here and now" in page


def test_a_click_makes_the_data_the_viewers_own():
    class Click:
        x, y = 1.04, -0.01

    data, points, _ = score.add_point("ring", "[[5, 5]]", Click)
    assert data == "own" and json.loads(points) == [[1.0, 0.0]]
    assert json.loads(score.add_point("own", points, Click)[1]) == [[1.0, 0.0]] * 2


def test_models_of_points_are_not_offered_where_images_are_made(tiny):
    app.build({"tiny": tiny, "plane": score.SHIPPED["ring"]}, {})
    assert list(MODELS) == ["tiny"]
