"""Many paths: their ends, and what is said of the images between."""

import csv
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_core.__main__ import main
from diffusion_core.checkpoint import Model, save
from diffusion_core.classifier import Classifier, Judge, save_classifier
from diffusion_core.data import ImageSet
from diffusion_core.evaluate import features, logits
from diffusion_core.images import read_recipe, to_tensor
from diffusion_core.metrics import FeatureStats, Reference, atypicality, frechet_distance, psnr, rmse
from diffusion_core.paths import (
    Walk,
    class_pairs,
    ends,
    journeys,
    latents,
    lengths,
    noise_pair,
    path,
    real_between,
    worth,
)
from tests.helpers import close, randn, tiny_model

CLASSES = ["cat", "dog", "emu"]
SPEC = Walk("cat", "emu", positions=3, steps=5, seed=2)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(CLASSES)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    return ImageSet(pixels, np.arange(60) % 3, CLASSES)


@pytest.fixture(scope="module")
def judge(images) -> Judge:
    torch.manual_seed(1)
    network = Classifier(1, 3, width=2).eval().requires_grad_(False)
    feats = features(network, to_tensor(images.images))
    network.head.bias.copy_(-network.head.weight @ feats.mean(dim=0))  # untrained: so that each class gets some images
    references = {split: Reference(FeatureStats().update(feats), feats) for split in ("train", "test")}
    return Judge("toy", network, CLASSES, {}, references)


def test_ends_are_images_of_their_class_counted_round(model, images):
    found = ends(model, "data", "dog", [0, 1, 20], images)
    assert torch.equal(found, to_tensor(images.images[[1, 4, 1]]))
    assert ends(model, "generated", "dog", [5, 6]).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="not on this machine; take generated ends"):
        ends(model, "data", "dog", [0])


def test_the_same_settings_give_the_same_numbers_and_a_batch_does_not_matter(model, judge, images):
    runs = [list(journeys(model, judge, SPEC, ["a", "c"], "data", 3, images, batch=b))[-1] for b in (3, 3, 2)]
    for name in ("a", "c"):
        assert torch.equal(runs[0].feats[name], runs[1].feats[name])
        close(runs[0].feats[name], runs[2].feats[name], rtol=1e-3, atol=1e-3)
        assert runs[0].feats[name].shape == (3, 3, 8)


@pytest.mark.parametrize("source", ["generated", "noise"])
def test_paths_need_no_data(model, judge, source):
    steps = list(journeys(model, judge, SPEC, ["b"], source, 2))
    assert len(steps) == 5 + 1 and steps[-1].done == 2 and steps[0].step == 1


def test_the_reference_of_a_position_is_the_mixture_of_both_classes_in_its_proportion(judge):
    sample = judge.references["test"].sample
    taken = logits(judge.network, sample).argmax(dim=1)
    a, b = sample[taken == 0], sample[taken == 2]
    assert len(a) > 1 and len(b) > 1
    for w, alone in ((0.0, a), (1.0, b)):
        found, real = real_between(judge, "cat", "emu", w), FeatureStats().update(alone)
        close(found.mean, real.mean)
        close(found.cov, real.cov)
    both = torch.cat([a.repeat(3 * len(b), 1), b.repeat(len(a), 1)])  # three times as much weight on the first
    found = real_between(judge, "cat", "emu", 0.25)
    close(found.mean, both.double().mean(dim=0), rtol=1e-6, atol=1e-6)
    d = (a.double() - a.double().mean(dim=0)), (b.double() - b.double().mean(dim=0))
    gap = b.double().mean(dim=0) - a.double().mean(dim=0)
    inner = 0.75 * d[0].T @ d[0] / (len(a) - 1) + 0.25 * d[1].T @ d[1] / (len(b) - 1)
    close(found.cov, inner + 0.1875 * gap.outer(gap), rtol=1e-6, atol=1e-9)


def test_worth_is_the_distance_to_real_images_and_the_judges_mean_verdict(judge):
    feats = randn(3, 30, 8).float().abs()
    rows = worth(judge, SPEC, feats)
    for row, here in zip(rows, feats, strict=True):
        real = real_between(judge, "cat", "emu", row["position"])
        assert row["distance"] == frechet_distance(real, FeatureStats().update(here))
        assert row["low"] <= row["distance"] <= row["high"] and row["n"] == 30
        p = logits(judge.network, here).softmax(dim=1).mean(dim=0)
        assert (row["p_a"], row["p_b"]) == pytest.approx((p[0].item(), p[2].item()))
    assert [row["position"] for row in rows] == [0, 0.5, 1]
    assert "distance" not in worth(judge, SPEC, feats[:, :1])[0]  # one image has no Frechet distance


def test_latents_are_of_unit_norm_and_lerp_of_them_sags_by_the_root_of_two(model):
    way = path(model, SPEC, latents(model, [0] * 40), latents(model, list(range(1, 41))), noise=True)
    assert way.t == model.denoiser.schedule.t_max
    found = lengths(SPEC, way)
    assert found["slerp"] == pytest.approx([1, 1, 1], abs=0.1)
    assert found["lerp"][1] == pytest.approx(0.5**0.5, abs=0.1) and found["lerp"][::2] == pytest.approx([1, 1], abs=0.1)


def test_the_same_number_at_both_ends_is_two_independent_noises(model):
    a, b = (z.flatten(1) for z in noise_pair(model, list(range(50)), list(range(50))))
    cosine = torch.nn.functional.cosine_similarity(a, b)
    assert cosine.abs().max() < 5 / a.shape[1] ** 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_b": "cat"}, "Both ends are of class 'cat'; choose two different classes."),
        ({"positions": 1}, "positions must lie between 3 and 15, not 1."),
        ({"positions": 1000}, "positions must lie between 3 and 15, not 1000."),
        ({"depth": float("nan")}, "depth must lie between 0.1 and 1, not nan."),
        ({"way": "walk"}, "way must be one of slerp, lerp, class"),
    ],
)
def test_a_walk_that_cannot_be_is_refused_in_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Walk(**{"class_a": "cat", "class_b": "emu"} | change)


def test_atypicality_is_one_in_the_mean_square_over_its_own_reference_and_knows_its_spread():
    x = randn(500, 4) * torch.tensor([1.0, 5.0, 0.2, 0.0])  # one direction has no spread
    stats = FeatureStats().update(x)
    assert atypicality(x, stats).square().mean().item() == pytest.approx(499 / 500)
    far = stats.mean + torch.tensor([[0.0, 10.0, 0.0, 0.0]])
    assert atypicality(far, stats).item() == pytest.approx(2 / 3**0.5, rel=0.1)


def test_psnr_and_rmse_are_of_each_sample():
    x = torch.zeros(2, 1, 4, 4)
    y = torch.stack([torch.full((1, 4, 4), 0.02), torch.full((1, 4, 4), -0.2)])
    close(rmse(x, y), torch.tensor([0.02, 0.2]), rtol=1e-5, atol=0)
    close(psnr(x, y), torch.tensor([40.0, 20.0]), rtol=1e-5, atol=0)


def test_no_pair_of_classes_comes_twice_before_all_have_come():
    pairs = class_pairs(list("abcd"), 9, seed=3)
    assert {frozenset(pair) for pair in pairs[:6]} == {frozenset(pair) for pair in combinations("abcd", 2)}
    assert pairs[6:] == pairs[:3]
    assert pairs == class_pairs(list("abcd"), 9, seed=3) != class_pairs(list("abcd"), 9, seed=4)
    assert class_pairs(["emu", "cat"], 2, seed=0) == [("emu", "cat")] * 2


# The command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(model, judge, tmp_path, monkeypatch) -> str:
    """A model with its judge beside it, in an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save("tiny.safetensors", replace(model, config={"dataset": "toys"}))
    save_classifier("toys-classifier.safetensors", judge.network, CLASSES, {"title": "toys"}, judge.references)
    return "tiny.safetensors"


SMALL = ["--positions", "3", "--steps", "5", "--over", "2", "--out", "out"]


def test_the_command_writes_pictures_moving_ones_and_a_table_in_two_forms(checkpoint):
    assert main(["interpolate", checkpoint, "--pairs", "2", "--models", "a", "c", *SMALL]) == 0
    pictures, animations = (sorted(Path("out").glob(f"*.{kind}")) for kind in ("png", "gif"))
    assert len(pictures) == len(animations) == 2
    for k, file in enumerate(pictures):
        recipe = read_recipe(file)
        assert recipe["class_a"] != recipe["class_b"] and recipe["seed"] == k
        assert read_recipe(animations[k]) == recipe
    with Image.open(pictures[0]) as image:
        assert image.size == (3 * 80 + 2, 2 * 80 + 1)  # three positions, two ways of decoding
    rows = list(csv.DictReader(Path("out/path.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 3 and {row["n"] for row in rows} == {"2"}
    markdown = Path("out/path.md").read_text()
    assert f"| {float(rows[-1]['distance']):.3f} |" in markdown and "features: toys classifier" in markdown


def test_two_named_classes_are_taken_in_their_order(checkpoint):
    assert main(["interpolate", checkpoint, "--classes", "emu", "cat", "--pairs", "1", "--models", "b", *SMALL]) == 0
    assert Path("out/1-emu-cat.png").is_file()


def test_classes_that_come_again_have_images_of_their_own(checkpoint, monkeypatch):
    written = []
    monkeypatch.setattr(
        "diffusion_core.__main__.write_path", lambda args, model, spec, images, name: written.append(spec)
    )
    options = ["--classes", "emu", "cat", "--pairs", "3", "--models", "c", *SMALL, "--over", "4"]
    assert main(["interpolate", checkpoint, *options]) == 0
    starts = [spec.seed for spec in written]
    assert all(later - earlier >= 4 for earlier, later in pairwise(starts))  # pair k of a path has its seed + k


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "cat", "cat"], "A path needs two different classes, not cat."),
        (["--classes", "cat", "yak"], "This model has no class 'yak'; it has cat, dog, emu."),
        (["--positions", "1000"], "positions must lie between 3 and 15, not 1000."),
        (["--pairs", "0"], "--pairs must lie between 1 and 100, not 0."),
        (["--source", "data"], "The data set is not on this machine; take generated ends."),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(checkpoint, capsys, options, words):
    assert main(["interpolate", checkpoint, *SMALL, *options]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"diffusion_core: {words}"
