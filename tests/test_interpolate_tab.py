"""The Interpolate tab's endpoints, called as a program would."""

import base64
import io
import json
from types import SimpleNamespace

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Classifier, Judge
from diffusion_core.evaluate import features
from diffusion_core.metrics import FeatureStats, Reference
from diffusion_core.paths import Walk
from tabs.widgets.runs import JUDGES
from tests.helpers import picture_in, tiny_model

PATH = dict(
    model="tiny", source="generated", class_a="cat", picture_a=1, class_b="dog", picture_b=2, way="slerp", depth=0.5,
    positions=3, steps=5, guidance=2.0, seed=4,
)  # fmt: skip
MANY = {k: v for k, v in PATH.items() if not k.startswith("picture")} | {"pairs": 3, "approaches": ["a", "c"]}


@pytest.fixture(scope="module")
def tiny() -> Model:
    return tiny_model(dataset="toy")


@pytest.fixture(scope="module")
def toy_judge() -> Judge:
    """An untrained classifier of cats and dogs, and what it makes of random pictures."""
    torch.manual_seed(1)
    network = Classifier(1, 2, width=2).eval().requires_grad_(False)
    feats = features(network, torch.rand(60, 1, 8, 8) * 2 - 1)
    network.head.bias.copy_(-network.head.weight @ feats.mean(dim=0))  # so that either class gets some of them
    real = Reference(FeatureStats().update(feats), feats)
    return Judge("toy classifier", network, ["cat", "dog"], {}, {"train": real, "test": real})


@pytest.fixture(scope="module")
def client(tiny, toy_judge) -> Client:
    page = app.build({"tiny": tiny}, {"toy": toy_judge})
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    yield Client(url, verbose=False)
    page.close()


def walked(client: Client, **changes) -> dict:
    return client.predict(**PATH | changes, api_name="/interpolate")[-1]


def test_interpolating_ends_with_three_rows_a_gif_and_the_same_bits_again(client):
    about = walked(client)
    assert about["finished"] and set(about["psnr"]) == {"A", "B"}
    table = picture_in(about["grid"])
    assert json.loads(table.info["recipe"])["way"] == "slerp"
    moving = Image.open(io.BytesIO(base64.b64decode(about["gif"].removeprefix("data:image/gif;base64,"))))
    assert moving.n_frames == 4 and json.loads(moving.info["comment"]) == about["settings"]  # there, and back again
    assert walked(client)["grid"] == about["grid"] and walked(client, seed=5)["grid"] != about["grid"]
    assert {len(rows) for rows in about["judged"].values()} == {3} and set(about["judged"]) == set("abc")


@pytest.mark.parametrize("way", ["lerp", "class", "slerp + class", "lerp + class"])
def test_every_way_is_gone_and_only_the_class_alone_leaves_b_unused(client, way):
    assert set(walked(client, way=way)["psnr"]) == ({"A"} if way == "class" else {"A", "B"})


def test_noise_to_noise_needs_no_encoding_and_keeps_its_norm(client):
    about = walked(client, source="noise")
    assert about["psnr"] == {} and about["norms"]["slerp"] == pytest.approx([1, 1, 1], abs=0.25)


def test_an_upload_takes_the_place_of_a_picture_and_the_page_says_how_it_was_cut(client, tmp_path):
    Image.effect_noise((90, 70), 90).save(tmp_path / "odd.png")
    html, about = client.predict(**PATH, upload_b=handle_file(tmp_path / "odd.png"), api_name="/interpolate")
    assert "your picture, its centre, 8 × 8, grey" in html and about["settings"]["a"] == "cat, generated, seed 1"


def test_an_end_that_does_not_come_back_is_warned_of(client, monkeypatch):
    spec, far = Walk("cat", "dog", positions=3), torch.ones(1, 1, 8, 8)
    there = SimpleNamespace(images=[far, far], noise=False, words=["far", "far"])
    monkeypatch.delitem(JUDGES, "toy")
    found = dict.fromkeys("abc", torch.cat([-far, far, far]))
    html, about = app.interpolate.done_html("tiny", spec, there, found, {"slerp": [1] * 3, "lerp": [1] * 3}, 1.0)
    assert "Encoded and decoded, A is another picture (0.0 dB)" in html and "B is another" not in html
    assert about["psnr"]["A"] == 0 and "There is no classifier" in html


def test_distances_along_the_path_come_with_their_interval_their_n_and_both_classes(client):
    *_, about = client.predict(**MANY, api_name="/path_distance")
    assert about["n"] == 3 and about["measure"] == "Fréchet distance (features: toy classifier)"
    assert set(about["approaches"]) == {"a", "c"}
    for row in about["approaches"]["c"]:
        assert row["low"] <= row["distance"] <= row["high"] and row["p_a"] + row["p_b"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("endpoint", "change", "sentence"),
    [
        ("/interpolate", {"class_b": "cat"}, "Both ends are of class 'cat'; choose two different classes."),
        ("/interpolate", {"positions": 1}, "Positions must lie between 3 and 15, not 1."),
        ("/interpolate", {"positions": 1000}, "Positions must lie between 3 and 15, not 1000."),
        ("/interpolate", {"depth": "NaN"}, "Latents at time t must lie between 0.1 and 1, not NaN."),
        ("/interpolate", {"picture_a": -1}, "Picture A must be a whole number from 0"),
        ("/interpolate", {"source": "data"}, "'data' .* is not in the list of choices"),
        ("/path_distance", {"class_b": "cat"}, "choose two different classes"),
        ("/path_distance", {"pairs": 1}, "pairs must lie between 2 and 2000, not 1."),
    ],
)
def test_a_path_that_cannot_be_is_refused_in_one_sentence_and_the_next_request_works(
    client, endpoint, change, sentence
):
    good = PATH if endpoint == "/interpolate" else MANY
    with pytest.raises(AppError, match=sentence):
        client.predict(**good | change, api_name=endpoint)
    assert client.predict(**good, api_name=endpoint)[-1]["finished"]
