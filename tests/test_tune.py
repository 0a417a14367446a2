"""tune.py: what it measures, how it chooses, and that one command ends with a judged checkpoint."""

import json
import math

import pytest
from torch import nn

from diffusion_core.checkpoint import load
from diffusion_core.evaluate import read_results
from train import RECIPES, ClassifierRecipe, train_judge
from tune import Trial, choose, cost, main, scaled


def of(width: int, batch: int, speed: float, megabytes: float = 5, gflops: float = 0.5) -> Trial:
    return Trial(width, batch, speed, megabytes, gflops, None)


def test_the_widest_network_that_can_be_afforded_is_chosen():
    found = [of(32, 64, 900), of(64, 64, 500), of(96, 64, 300, megabytes=20), of(80, 64, 300, gflops=3)]
    assert choose(found).width == 64


def test_of_its_batches_the_smallest_that_is_nearly_as_fast_as_any():
    found = [of(64, 64, 100), of(64, 128, 190), of(64, 256, 200), of(64, 512, 205)]
    assert choose(found).batch == 128  # 190 >= 0.9 * 205, and more steps in the same time


def test_nothing_affordable_is_said():
    with pytest.raises(ValueError, match="--widths: none of them stays under 10 MB and 1.25 GFLOP"):
        choose([of(512, 64, 100, megabytes=100)])


def test_the_learning_rate_grows_as_the_root_of_the_batch():
    recipe = RECIPES["cifar10"]
    larger = scaled(recipe, 48, 4 * recipe.batch)
    assert (larger.width, larger.batch) == (48, 4 * recipe.batch)
    assert math.isclose(larger.lr, 2 * recipe.lr)
    assert scaled(recipe, recipe.width, recipe.batch) == recipe


def test_the_cost_of_a_network_is_counted_exactly():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1, bias=False)

        def forward(self, x, time):
            return self.conv(x)

    assert cost(Net(), (3, 4, 4)) == pytest.approx((15e-6, 2 * 15 * 16 / 1e9))


def test_without_a_judge_nothing_is_trained(capsys, tmp_path):
    assert main(["digits", "--minutes", "1", "--out", str(tmp_path)]) == 2
    assert "first: python train.py digits-classifier" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", ("0", "-1", "nan"))
def test_minutes_must_be_some(capsys, tmp_path, minutes):
    assert main(["digits", "--minutes", minutes, "--out", str(tmp_path)]) == 2
    assert "--minutes must be more than 0" in capsys.readouterr().err


def test_one_command_measures_trains_and_judges(capsys, tmp_path):
    train_judge("digits-classifier", ClassifierRecipe("digits", steps=5, batch=16, width=8), out=tmp_path)
    argv = ["digits", "--minutes", "0.03", "--widths", "8", "16", "--batches", "8", "--seconds", "0.1", "--count", "20"]
    assert main([*argv, "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 0
    about = json.loads((tmp_path / "digits-tune.json").read_text())
    assert [(t["width"], t["batch"]) for t in about["trials"]] == [(8, 8), (16, 8)]
    assert about["chosen"] == about["trials"][1]
    assert all(t["images_per_second"] > 0 for t in about["trials"])
    model = load(tmp_path / "digits.safetensors")
    assert model.config["recipe"]["width"] == 16
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    assert about["chosen"]["megabytes"] == pytest.approx(2e-6 * parameters)
    assert {r["plan"]["guidance"] for r in read_results(tmp_path / "digits.safetensors")} >= {1.0, 1.5, 2.0, 3.0}
    assert "width 16, batch 8" in capsys.readouterr().out
