"""Evaluation: the same samples however they are shared out, intervals that hold, anchors taken the same way."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Judge, train_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import Clipped, Guided, NetDenoiser
from diffusion_core.evaluate import (
    APPROACHES,
    Plan,
    comparison,
    distance_curve,
    distance_interval,
    draw,
    extrapolate,
    features,
    gather,
    keep_result,
    ladder,
    measure,
    noise_images,
    read_results,
    real_images,
    reference,
    standard_plans,
    steps_needed,
)
from diffusion_core.images import to_tensor, to_uint8
from diffusion_core.metrics import FeatureStats, Reference, frechet_distance
from diffusion_core.samplers import generate
from diffusion_core.schedules import Discrete
from tests.helpers import tiny_model

DIGITS = [str(k) for k in range(10)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_judge() -> Judge:
    network = train_classifier(load_images("digits"), steps=40, batch=64, width=8, shift=0)
    found = {split: reference(network, load_images("digits", split).images, sample=100) for split in ("train", "test")}
    return Judge("digits classifier", network, DIGITS, {"title": "digits", "accuracy": 0.9}, found)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(DIGITS)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return make_judge()


def finished(*args, **kwargs):
    *_, last = draw(*args, **kwargs)
    return last


# Samples ----------------------------------------------------------------------------------------------------------


def test_the_samples_are_those_of_the_sampler_as_they_would_be_shown(model, judge):
    last = finished(model, judge, Plan(steps=3, n=12, seed=5), batch=5)
    D = Clipped(Guided(model.denoiser, 2.0))
    *_, step = generate(D, (12, 1, 8, 8), "dpmpp_2m", steps=3, seeds=list(range(5, 17)), cond=torch.arange(12) % 10)
    shown = to_tensor(to_uint8(step.x))
    torch.testing.assert_close(last.feats, judge.network.features(shown), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(last.images, shown[10:], rtol=0, atol=2 / 255 + 1e-6)
    assert last.done == 12
    assert last.calls == 3


def test_every_step_is_reported_so_that_one_can_stop(model, judge):
    seen = [(p.done, p.step, len(p.feats)) for p in draw(model, judge, Plan(steps=3, n=6), batch=4)]
    assert seen == [(0, 1, 0), (0, 2, 0), (0, 3, 0), (4, 0, 4), (4, 1, 4), (4, 2, 4), (4, 3, 4), (6, 0, 6)]


def test_guidance_0_asks_for_no_class(model, judge):
    last = finished(model, judge, Plan(steps=2, n=4, guidance=0.0))
    *_, step = generate(Clipped(model.denoiser), (4, 1, 8, 8), "dpmpp_2m", steps=2, seeds=[0, 1, 2, 3])
    torch.testing.assert_close(last.images, to_tensor(to_uint8(step.x)))
    assert measure(judge, model, Plan(steps=2, n=4, guidance=0.0), last)["accuracy"] is None


def test_the_shares_of_three_processes_are_the_samples_of_one(model, judge):
    plan = Plan(steps=2, n=10)
    whole = finished(model, judge, plan)
    for rank in range(3):
        share = finished(model, judge, plan, rank=rank, world=3)
        assert share.index.tolist() == list(range(rank, 10, 3))
        torch.testing.assert_close(share.feats, whole.feats[rank::3], rtol=1e-3, atol=1e-3)


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model, judge, plan = tiny_model(DIGITS), make_judge(), Plan(steps=2, n=9)
    together = gather(finished(model, judge, plan, rank=rank, world=2))
    result = measure(judge, model, plan, together)
    with open(os.path.join(folder, f"{rank}.json"), "w") as file:
        json.dump(result, file)
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_find_the_same_numbers_as_one(model, judge, tmp_path):
    mp.spawn(_one_of_two, (str(tmp_path),), nprocs=2)
    plan = Plan(steps=2, n=9)
    alone = measure(judge, model, plan, finished(model, judge, plan))
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for name in ("n", "calls", "accuracy", "precision", "recall"):
            assert found[name] == alone[name]
        assert found["distance"] == pytest.approx(alone["distance"], rel=1e-3)
        assert found["floor"]["distance"] == alone["floor"]["distance"]


# Numbers ----------------------------------------------------------------------------------------------------------


def test_the_same_plan_gives_the_same_result_twice_but_for_the_time_it_took(model, judge):
    def result() -> str:
        plan = Plan(steps=2, n=40)
        return json.dumps(measure(judge, model, plan, finished(model, judge, plan)) | {"seconds": 0})

    assert result() == result()


def test_a_result_says_what_it_is_of(model, judge):
    plan = Plan(sampler="heun", steps=2, n=6, guidance=1.5, split="train", seed=3)
    result = measure(judge, model, plan, finished(model, judge, plan))
    assert Plan(**result["plan"]) == plan
    assert result["measure"] == "Fréchet distance (features: digits classifier)"
    assert result["reference"] == f"digits train, {judge.references['train'].stats.n} images"
    assert (result["n"], result["features"], result["calls"], result["passes"]) == (6, 32, 3, 2)


def test_only_inceptions_distance_is_called_fid(judge):
    assert judge._replace(name="Inception 2015-12-05").distance == "FID"
    assert "FID" not in judge.distance


def test_the_interval_is_as_wide_as_the_distance_scatters():
    """The half-width over 1.96 estimates the standard deviation of the distance over independent samples."""
    d, n = 3, 400
    real = FeatureStats.stored(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), 10**6)
    shift = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    samples = [normal(n, d, seed=k) + shift for k in range(200)]
    distances = torch.tensor([frechet_distance(real, FeatureStats().update(x)) for x in samples])
    low, high = zip(*(distance_interval(x, real) for x in samples[:20]), strict=True)
    width = (torch.tensor(high) - torch.tensor(low)).mean() / (2 * 1.96)
    assert width == pytest.approx(distances.std().item(), rel=0.2)  # the latter has a standard error of 5 %
    inside = [a <= distances.mean() <= b for a, b in zip(low, high, strict=True)]
    assert sum(inside) >= 16  # of 20 at 95 %: fewer has a chance below 0.3 %


def test_the_curve_halves_the_samples_while_there_are_more_than_dimensions():
    real = FeatureStats.stored(torch.zeros(9, dtype=torch.float64), torch.eye(9, dtype=torch.float64), 10**6)
    assert [m for m, _ in distance_curve(normal(80, 9), real)] == [80, 40, 20, 10]
    assert [m for m, _ in distance_curve(normal(79, 9), real)] == [79, 39, 19]
    assert distance_curve(normal(9, 9), real) == []


def test_the_line_in_one_over_n_is_extrapolated():
    assert extrapolate([(800, 3 + 40 / 800), (400, 3 + 40 / 400), (200, 3 + 40 / 200)]) == pytest.approx(3)
    assert extrapolate([(800, 3.0)]) is None


def test_extrapolation_takes_most_of_the_bias_away():
    """Samples of the reference itself have distance 0; at finite n it is d (d + 1) / 4n + d / n to first order."""
    d, n = 8, 800
    real = FeatureStats.stored(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), 10**9)
    curves = [distance_curve(normal(n, d, seed=k), real) for k in range(20)]
    biased = sum(curve[0][1] for curve in curves) / 20
    assert biased == pytest.approx((d * (d + 1) / 4 + d) / n, rel=0.1)
    assert abs(sum(extrapolate(curve) for curve in curves) / 20) < 0.15 * biased


def test_the_floor_at_the_size_of_the_other_split_is_the_distance_of_the_splits(judge):
    test, train = judge.references["test"].stats, judge.references["train"].stats
    assert real_images(judge, "test", train.n)["distance"] == pytest.approx(frechet_distance(test, train))


def test_the_floor_of_few_images_is_the_mean_over_lots_of_them(judge):
    test, kept = judge.references["test"].stats, judge.references["train"].sample
    lots = [frechet_distance(test, FeatureStats().update(kept[k : k + 30])) for k in (0, 30, 60)]
    found = real_images(judge, "test", 30)
    assert found["distance"] == pytest.approx(sum(lots) / 3)
    assert found["n"] == 30


def test_the_floor_falls_with_n_between_what_is_known(judge):
    distances = [real_images(judge, "test", n)["distance"] for n in (50, 100, 200, 800, 1600, 5000)]
    assert distances == sorted(distances, reverse=True)


def test_a_floor_of_fewer_images_than_samples_says_of_how_many_it_is(judge):
    train = judge.references["train"]
    assert real_images(judge, "test", train.stats.n + 1)["n"] == train.stats.n
    kept = Reference(FeatureStats().update(train.sample), train.sample)  # a small split, kept as a whole
    small = judge._replace(references=judge.references | {"train": kept})
    found = real_images(small, "test", 10 * len(train.sample))
    assert found["n"] == len(train.sample)
    assert found["distance"] == pytest.approx(frechet_distance(judge.references["test"].stats, kept.stats))


def test_noise_lies_far_above_the_floor_and_fools_nobody(judge):
    floor, ceiling = real_images(judge, "test", 100), noise_images(judge, "test", 100, (1, 8, 8))
    assert ceiling["distance"] > 10 * floor["distance"]
    assert 3 * ceiling["precision"] < floor["precision"]
    assert ceiling["n"] == floor["n"] == 100


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sampler": "magic"}, "sampler must be one of"),
        ({"split": "validation"}, "split must be one of train, test, not 'validation'"),
        ({"precision": "int8"}, "precision must be"),
        ({"spacing": "odd"}, "spacing must be"),
        ({"n": 1}, "n must lie between 2 and 100000, not 1"),
        ({"steps": 0}, "steps must lie"),
        ({"guidance": -1.0}, "guidance must lie"),
        ({"guidance": math.nan}, "guidance must lie"),
        ({"seed": -1}, "seed must lie"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_and_the_value_named(options, words):
    with pytest.raises(ValueError, match=words):
        Plan(**options)


def test_features_do_not_depend_on_the_batch(judge):
    x = torch.rand(7, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(features(judge.network, x, batch=3), features(judge.network, x))


# Results on disk --------------------------------------------------------------------------------------------------


def result(**changes) -> dict:
    plan = {"sampler": "ddim", "steps": 10, "guidance": 1.0, "n": 50}
    return {"plan": plan, "measure": "FID", "distance": 2.0} | changes


def test_results_are_kept_beside_the_checkpoint_and_a_new_one_of_the_same_plan_replaces_the_old(tmp_path):
    path = tmp_path / "cats.safetensors"
    assert read_results(path) == []
    keep_result(path, result())
    keep_result(path, result(plan=result()["plan"] | {"steps": 20}))
    keep_result(path, result(distance=1.0))
    assert [(r["plan"]["steps"], r["distance"]) for r in read_results(path)] == [(20, 2.0), (10, 1.0)]
    assert (tmp_path / "cats-evaluation.json").is_file()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"results": [{}]}', '{"results": [{"plan": {"speed": 3}, "distance": 1}]}']
)
def test_a_file_that_holds_no_results_is_refused(tmp_path, text):
    (tmp_path / "cats-evaluation.json").write_text(text)
    with pytest.raises(ValueError, match=r"cats-evaluation\.json does not hold results"):
        read_results(tmp_path / "cats.safetensors")


# The comparison ---------------------------------------------------------------------------------------------------


def test_each_approach_changes_one_thing():
    a, b, c = APPROACHES.values()
    assert (a.sampler, a.steps) == (b.sampler, b.steps)
    assert a.guidance == 0 < b.guidance == c.guidance
    assert b.sampler != c.sampler


def test_the_standard_plans_are_all_different_and_of_n():
    plans = standard_plans(200, precision="bfloat16")
    assert len(set(plans)) == len(plans) > 10
    assert {(p.n, p.precision) for p in plans} == {(200, "bfloat16")}
    assert {p.guidance for p in plans if p.sampler == "reverse_sde"} == {0.0, 1.5, 2.0, 3.0}  # (a), and (b) at three


def test_the_comparison_starts_from_the_same_noise_and_goes_through_the_classes(model):
    rows = dict(comparison(model, seed=4))
    assert list(rows) == ["a", "b", "c"]
    D = Clipped(Guided(model.denoiser, 2.0))
    *_, last = generate(D, (20, 1, 8, 8), "heun", steps=18, seeds=list(range(4, 24)), cond=torch.arange(20) // 2)
    torch.testing.assert_close(rows["c"], last.x)


# DDPM against DDIM ------------------------------------------------------------------------------------------------


def rung(sampler: str, steps: int, distance: float) -> dict:
    return {"plan": {"sampler": sampler, "steps": steps}, "distance": distance}


def test_the_steps_needed_are_the_fewest_within_a_tenth_of_the_best_of_all():
    results = [rung("ddim", 10, 5.0), rung("ddim", 100, 2.1), rung("ddim", 50, 2.2), rung("ddim", 20, 2.21),
               rung("ddpm", 100, 3.0), rung("ddpm", 1000, 2.0)]  # fmt: skip
    best, needed = steps_needed(results)
    assert best["plan"] == {"sampler": "ddpm", "steps": 1000}
    assert needed == {"ddim": 50, "ddpm": 1000}
    assert steps_needed(results[:4])[1] == {"ddim": 20}  # 2.21 is within a tenth of 2.1
    assert steps_needed(results[:1] + results[4:])[1] == {"ddim": None, "ddpm": 1000}


def test_ddpm_and_ddim_are_compared_at_the_same_steps_and_at_the_levels_of_a_discrete_model(model):
    plans = ladder(model, n=50, seed=3)
    assert {(p.n, p.seed, p.guidance, p.spacing, p.eta) for p in plans} == {(50, 3, 1.0, "lam", 0.0)}
    assert [{p.steps for p in plans if p.sampler == s} for s in ("ddim", "ddpm")] == [{10, 20, 50, 100, 250, 1000}] * 2
    discrete = replace(model, denoiser=NetDenoiser(model.denoiser.net, Discrete(), "eps"))
    assert {p.spacing for p in ladder(discrete, n=50)} == {"ddpm"}
