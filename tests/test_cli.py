"""The command line: the picture asked for, with its settings inside, or one line on what was wrong."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_core
from diffusion_core.__main__ import main
from diffusion_core.checkpoint import Model, save
from diffusion_core.classifier import Classifier, initialised, save_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import Clipped, Guided, NetDenoiser
from diffusion_core.diagnose import read_loss_by_time
from diffusion_core.evaluate import read_results, reference, standard_plans
from diffusion_core.images import grid, read_recipe
from diffusion_core.networks import MLP, UNet
from diffusion_core.samplers import SAMPLERS, generate
from diffusion_core.schedules import VPLinear


def untrained(channels: int = 1, classes: tuple[str, ...] = ("cat", "dog", "emu")) -> Model:
    torch.manual_seed(0)
    net = UNet(channels, width=8, patch=2, num_classes=len(classes))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return Model(NetDenoiser(net, VPLinear()).eval().requires_grad_(False), (channels, 8, 8), list(classes))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> str:
    """An untrained model with three classes, in an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # so that pixels can be compared exactly
    save("tiny.safetensors", untrained())
    return "tiny.safetensors"


def sample(*argv: str, steps: int = 3, count: int = 4) -> np.ndarray:
    assert main(["sample", *argv, "--steps", str(steps), "--count", str(count)]) == 0
    return np.asarray(Image.open("grid.png"))


def refused(capsys, *argv: str, words: str) -> None:
    """Exit code 2, and on stderr exactly one line besides a progress bar."""
    capsys.readouterr()
    assert main(["sample", *argv]) == 2
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    [line] = [line for line in lines if line and "step/s" not in line]
    assert line.startswith("diffusion_core: ")
    assert words in line


def judged(tmp_path, dataset: str = "digits") -> None:
    """The checkpoint says what it is of, and a classifier of that lies beside it."""
    model = untrained(classes=tuple("0123456789"))
    model.config["dataset"] = dataset
    save("tiny.safetensors", model)
    network = initialised(Classifier(1, 10, width=8), torch.Generator().manual_seed(0)).eval()
    found = {split: reference(network, load_images("digits", split).images) for split in ("train", "test")}
    save_classifier(tmp_path / "digits-classifier.safetensors", network, model.classes, {"title": "digits"}, found)


# What is made -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_written_with_its_settings_inside(checkpoint, channels, capsys):
    save(checkpoint, untrained(channels))
    argv = ["--class", "dog", "--seed", "5", "--count", "5", "--steps", "3", "--guidance", "1.5", "--out", "a/b.png"]
    assert main(["sample", checkpoint, *argv]) == 0
    with Image.open("a/b.png") as image:
        assert image.format == "PNG"
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert image.size == (3 * 112 + 2, 2 * 112 + 1)
    assert read_recipe("a/b.png") == {
        "checkpoint": "tiny.safetensors",
        "class": "dog",
        "sampler": "dpmpp_2m",
        "steps": 3,
        "spacing": "lam",
        "guidance": 1.5,
        "eta": 0.0,
        "seed": 5,
        "count": 5,
    }
    assert capsys.readouterr().out.startswith("a/b.png: 5 images, DPM-Solver++(2M), 3 steps, 3 network calls")


def test_the_pixels_are_those_of_the_library(checkpoint):
    pixels = sample(checkpoint, "--class", "dog", "--seed", "5", "--guidance", "2")
    m = untrained()
    D = Clipped(Guided(m.denoiser, 2.0))
    cond = torch.full((4,), 1)
    *_, last = generate(D, (4, 1, 8, 8), "dpmpp_2m", steps=3, seeds=[5, 6, 7, 8], cond=cond)
    assert np.array_equal(pixels, np.asarray(grid(last.x, scale=14)))


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(checkpoint):
    first = sample(checkpoint, "--seed", "3", "--sampler", "ddpm")
    assert np.array_equal(sample(checkpoint, "--seed", "3", "--sampler", "ddpm"), first)
    assert not np.array_equal(sample(checkpoint, "--seed", "4", "--sampler", "ddpm"), first)


def test_classes_are_chosen_by_name_all_in_turn_or_none(checkpoint):
    def tile(pixels: np.ndarray, k: int) -> np.ndarray:
        y, x = k // 2 * 113, k % 2 * 113
        return pixels[y : y + 112, x : x + 112].astype(int)

    by_name = {name: sample(checkpoint, "--class", name) for name in ("cat", "dog", "emu", "none")}
    everything = sample(checkpoint, "--class", "all")
    for k, name in enumerate(("cat", "dog", "emu", "cat")):
        assert np.abs(tile(everything, k) - tile(by_name[name], k)).max() <= 1  # the network rounds by batch
    assert np.array_equal(sample(checkpoint), by_name["none"])
    assert len({pixels.tobytes() for pixels in by_name.values()}) == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_called_by_name(checkpoint, name):
    sample(checkpoint, "--sampler", name, "--class", "all")


def test_a_model_without_classes_is_sampled(checkpoint, capsys):
    save(checkpoint, untrained(classes=()))
    assert np.array_equal(sample(checkpoint), sample(checkpoint, "--class", "all"))
    refused(capsys, checkpoint, "--class", "3", words="no class '3'; it has none")


def test_it_runs_as_a_module(checkpoint):
    environment = os.environ | {"PYTHONPATH": str(Path(diffusion_core.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "diffusion_core", "sample"]
    good = subprocess.run([*command, checkpoint, "--steps", "2"], env=environment, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert Path("grid.png").exists()
    bad = subprocess.run([*command, "none.safetensors"], env=environment, capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr == "diffusion_core: There is no checkpoint none.safetensors; train.py makes one.\n"


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--steps", "0", "--steps must lie between 1 and 1000, not 0"),
        ("--steps", "10000", "--steps must lie between 1 and 1000, not 10000"),
        ("--guidance", "nan", "--guidance must be a finite number, not nan"),
        ("--guidance", "inf", "--guidance must be a finite number, not inf"),
        ("--count", "0", "--count must lie between 1 and 10000, not 0"),
        ("--count", "1000000", "--count must lie between 1 and 10000, not 1000000"),
        ("--seed", "-1", "--seed must lie between 0 and 4294967295, not -1"),
        ("--seed", "99999999999999999999", "--seed must lie between 0 and 4294967295, not 99999999999999999999"),
        ("--eta", "2", "eta must lie between 0 (deterministic) and 1 (DDPM), not 2"),
        ("--eta", "nan", "eta must lie between"),
        ("--class", "yak", "no class 'yak'; it has cat, dog, emu"),
        ("--spacing", "ddpm", "Spacing 'ddpm' picks levels of a discrete schedule; this one is continuous"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_would_be_right(checkpoint, capsys, option, value, words):
    refused(capsys, checkpoint, option, value, words=words)
    assert not Path("grid.png").exists()


@pytest.mark.parametrize("argv", [["--sampler", "magic"], ["--spacing", "odd"], ["--steps", "many"], ["--nope"]])
def test_what_the_parser_does_not_know_exits_with_2(checkpoint, capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        main(["sample", checkpoint, *argv])
    assert stopped.value.code == 2
    assert argv[-1] in capsys.readouterr().err


def test_a_checkpoint_that_is_missing_or_garbage_is_named(checkpoint, capsys):
    refused(capsys, "none.safetensors", words="There is no checkpoint none.safetensors; train.py makes one")
    data = Path(checkpoint).read_bytes()
    for bad in (b"garbage", data[:-1], b""):
        Path("bad.safetensors").write_bytes(bad)
        refused(capsys, "bad.safetensors", words="bad.safetensors is not a complete safetensors file")
    torch.save({"a": 1}, "bad.safetensors")
    refused(capsys, "bad.safetensors", words="bad.safetensors is not a complete safetensors file")


def test_a_model_of_points_is_refused(checkpoint, capsys):
    save(checkpoint, Model(NetDenoiser(MLP(), VPLinear()), (2,), []))
    refused(capsys, checkpoint, words="tiny.safetensors is a model of points; one of images")


def test_a_place_that_cannot_be_written_is_named(checkpoint, capsys):
    Path("file").write_text("in the way")
    Path("folder.png").mkdir()
    for out in ("file/grid.png", "folder.png"):
        refused(capsys, checkpoint, "--steps", "1", "--out", out, words=f"Could not write {out}: ")
    assert Path("file").read_text() == "in the way"


# Evaluation -------------------------------------------------------------------------------------------------------


def evaluated(capsys, *argv: str) -> str:
    capsys.readouterr()
    assert main(["evaluate", "tiny.safetensors", *argv]) == 0
    return capsys.readouterr().out


def without_time(text: str) -> str:
    return re.sub(r"[\d.]+ s\n", "", text)


def test_evaluation_prints_the_same_numbers_twice_with_all_they_are_of(checkpoint, tmp_path, capsys):
    judged(tmp_path)
    out = evaluated(capsys, "--count", "40", "--steps", "2", "--guidance", "1.5", "--seed", "3")
    assert without_time(out) == without_time(
        evaluated(capsys, "--count", "40", "--steps", "2", "--guidance", "1.5", "--seed", "3")
    )
    for words in (
        "DPM-Solver++(2M), 2 steps, 2 network calls x 2, guidance 1.5, n 40, seeds from 3,",
        "against digits test, 183 images",
        "Fréchet distance (features: digits classifier)",
        "classes as asked",
        "precision",
        "the same of 40 real images",
    ):
        assert words in out
    assert re.search(r"of 40 real images .*, precision .* %, recall .* %; of noise", out)
    assert "FID" not in out
    assert "singular" not in out
    assert "singular: more are needed" in evaluated(capsys, "--count", "20", "--steps", "1")
    assert read_results("tiny.safetensors") == []


def test_the_standard_evaluation_keeps_every_row_and_the_comparison(checkpoint, tmp_path, capsys, monkeypatch):
    judged(tmp_path)
    plans = [replace(plan, steps=2) for plan in standard_plans(40)[:2]]
    monkeypatch.setattr("diffusion_core.__main__.standard_plans", lambda **_: plans)
    evaluated(capsys, "--standard", "--save", "--count", "40")
    kept = read_results("tiny.safetensors")
    assert [r["plan"]["guidance"] for r in kept] == [p.guidance for p in plans]
    assert Image.open("tiny-comparison.png").size == (20 * 9 - 1, 3 * 9 - 1)


def test_the_ladder_is_climbed_and_what_is_kept_already_is_left_out(tmp_path, checkpoint, capsys, monkeypatch):
    judged(tmp_path)
    monkeypatch.setattr("diffusion_core.evaluate.LADDER", (2, 3))
    evaluated(capsys, "--sampler", "ddpm", "--steps", "3", "--guidance", "1", "--save", "--count", "10")
    lines = evaluated(capsys, "--ladder", "--missing", "--save", "--count", "10")
    done = [(r["plan"]["sampler"], r["plan"]["steps"]) for r in read_results("tiny.safetensors")]
    assert done == [("ddpm", 3), ("ddim", 2), ("ddpm", 2), ("ddim", 3)]
    assert str(lines).count("network calls") == 3


class Sums(torch.nn.Module):
    """In Inception's place, whose features cost a second: four sums of the picture."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.arange(256.0).reshape(4, 64).sin())

    def features(self, x):
        return x.flatten(1) @ self.weights.T

    def head(self, feats):
        return feats


def test_with_inception_the_distance_is_called_fid_and_its_references_are_computed_once(
    checkpoint, tmp_path, capsys, monkeypatch
):
    judged(tmp_path)
    asked = []
    monkeypatch.setattr("diffusion_core.inception.load_inception", lambda path, device: asked.append(path) or Sums())
    out = evaluated(capsys, "--count", "30", "--steps", "1", "--inception", "w.pth")
    assert "  FID " in out
    assert asked == ["w.pth"]
    monkeypatch.setattr("diffusion_core.evaluate.load_images", None)  # not needed again
    again = evaluated(capsys, "--count", "30", "--steps", "1", "--inception")
    assert without_time(out) == without_time(again)
    assert asked == ["w.pth", None]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--count", "1"], "n must lie between 2 and 100000, not 1"),
        (["--guidance", "nan"], "guidance must lie"),
        (["--judge", "nobody.safetensors"], "There is no checkpoint nobody.safetensors"),
        (["--inception", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(checkpoint, tmp_path, capsys, argv, words):
    judged(tmp_path)
    capsys.readouterr()
    assert main(["evaluate", "tiny.safetensors", *argv]) == 2
    [line] = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "image" not in line and line]
    assert line.startswith("diffusion_core: ")
    assert words in line


# Diagnosing -------------------------------------------------------------------------------------------------------


def test_the_loss_by_time_is_kept_beside_the_checkpoint_and_the_nearest_images_named(tmp_path, checkpoint, capsys):
    model = untrained(classes=tuple("0123456789"))
    model.config |= {"dataset": "digits", "recipe": {"dataset": "digits", "per_class": 5, "seed": 0}}
    save(checkpoint, model)
    assert main(["diagnose", checkpoint, "--count", "30"]) == 0
    out = capsys.readouterr().out
    assert "tiny-loss.json: 30 images, digits test. The error of v is largest" in out
    assert "nearest of the 50 training images to 50 samples: rms 0." in out and "to 50 test images" in out
    found = read_loss_by_time(checkpoint)
    assert found["n"] == 30 and len(found["raw"]["mean"]) == 20 and found["why"] in out


def test_a_checkpoint_that_does_not_say_its_data_cannot_be_diagnosed(checkpoint, capsys):
    assert main(["diagnose", checkpoint]) == 2
    assert "tiny.safetensors does not say what it was trained on" in capsys.readouterr().err
