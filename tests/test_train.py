"""Training is a function of its recipe: it can be interrupted anywhere, goes on bit for bit, and says what is wrong."""

import errno
import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from safetensors.torch import load_file, save_file

import train
from diffusion_core import data, training
from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier
from diffusion_core.data import ImageSet, load_images
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.history import Growth
from diffusion_core.images import to_tensor
from diffusion_core.losses import denoising_loss
from diffusion_core.metrics import class_accuracy
from diffusion_core.networks import UNet, ema_update
from diffusion_core.plane import PRESETS
from diffusion_core.schedules import VPLinear
from diffusion_core.training import Batch, Recipe, Training, build, learning_rate, train_for, train_step
from diffusion_core.training import validation_loss as validation
from train import RECIPES, main, parse

ROOT = Path(train.__file__).parent
TINY = Recipe("digits", steps=20, batch=8, width=8, patch=2, warmup=5, log_every=5, eval_every=10)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFUSION_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def options(recipe: Recipe = TINY) -> list[str]:
    """The command line that asks for a recipe, beginning with its name."""
    argv = ["digits"]
    for name, value in asdict(recipe).items():
        if value != asdict(RECIPES["digits"])[name]:
            argv += [f"--{name}", *(str(v) for v in (value if isinstance(value, tuple) else [value]))]
    return argv


def run(*extra: str, recipe: Recipe = TINY) -> None:
    assert main([*options(recipe), *extra]) == 0


def refused(capsys, *argv: str, words: str) -> None:
    """Exit code 2 and one line that says these words (a progress bar, if it came so far, aside)."""
    capsys.readouterr()
    assert main(list(argv)) == 2
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    [line] = [line for line in lines if line and "step/s" not in line]
    assert line.startswith("train.py: ")
    assert words in line


def log(name: str = "digits") -> list[dict]:
    """The log, but for the time of day."""
    lines = [json.loads(line) for line in Path(f"checkpoints/{name}.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def stop_after(monkeypatch, steps: int, signum: int = signal.SIGTERM) -> None:
    """Send this process a signal in the middle of the n-th step, once."""
    done = []

    def step(*args):
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signum)
        return train_step(*args)

    monkeypatch.setattr(training, "train_step", step)


def start(*extra: str, recipe: Recipe) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *options(recipe), *extra]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)


# Recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", fields(Recipe), ids=lambda f: f.name)
def test_every_field_can_be_overridden_on_the_command_line(field):
    given = {
        tuple[int, ...]: (["1", "2", "4"], [1, 2, 4]),
        tuple[float, ...]: (["0.5", "0.6"], [0.5, 0.6]),
        int: (["3"], 3),
        float: (["0.25"], 0.25),
        str: (["other"], "other"),
        bool: ([], True),
    }
    words, value = given[field.type]
    args = parse(["digits", f"--{field.name}", *words])
    assert getattr(args, field.name) == value
    assert getattr(parse(["digits"]), field.name) is None


def test_a_flag_can_be_taken_back_and_a_list_emptied():
    args = parse(["digits", "--no-flip", "--attention"])
    assert args.flip is False
    assert args.attention == []


def test_a_model_without_classes_is_trained_without_them_and_keeps_none():
    run("--no-conditional")
    model = load("checkpoints/digits.safetensors")
    assert model.classes == []
    assert model.denoiser.net.num_classes == 0


def test_a_classifier_is_trained_tested_and_kept_with_its_references(capsys):
    assert main(["mnist-classifier", "--dataset", "digits", "--steps", "60", "--width", "8", "--shift", "0"]) == 0
    judge = load_classifier("checkpoints/mnist-classifier.safetensors")
    train_set, test_set = load_images("digits", "train"), load_images("digits", "test")
    right = class_accuracy(judge.network(to_tensor(test_set.images)), torch.from_numpy(test_set.labels))
    assert judge.config["accuracy"] == right > 0.5
    assert judge.config["tested_on"] == len(test_set.labels)
    assert f"{100 * right:.2f} % of the {len(test_set.labels)}" in capsys.readouterr().out
    for split, images in (("train", train_set), ("test", test_set)):
        feats = judge.network.features(to_tensor(images.images))
        stats = judge.references[split].stats
        assert stats.n == len(feats)
        torch.testing.assert_close(stats.mean, feats.double().mean(dim=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["--minutes", "--ema"])
def test_what_is_not_for_classifiers_is_refused(capsys, option):
    refused(capsys, "mnist-classifier", option, "1", words=option)


def test_what_is_for_classifiers_only_is_refused(capsys):
    refused(capsys, "digits", "--shift", "1", words="--shift is not an option of digits")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, "0") for name in ("steps", "batch", "width", "blocks", "patch", "warmup", "log_every", "eval_every")),
        ("mults", "0"),
        ("minutes", "0"),
        ("minutes", "-1"),
        ("minutes", "nan"),
        ("lr", "nan"),
        ("clip", "0"),
        ("label_dropout", "1.5"),
        ("dropout", "-0.1"),
        ("schedule", "cubic"),
        ("prediction", "score"),
        ("times", "often"),
        ("loss", "l3"),
        ("weight", "heavy"),
        ("dataset", "nope"),
    ],
)
def test_a_value_that_cannot_be_trained_with_is_named(capsys, option, value):
    refused(capsys, "digits", f"--{option}", value, words=value if option == "dataset" else f"--{option}")
    assert not os.listdir(".")


def test_an_image_side_that_the_network_cannot_halve_is_named(capsys):
    refused(capsys, *options(replace(TINY, patch=3)), words="sides a multiple of 6, not (8, 8)")


def test_an_unknown_recipe_or_option_exits_with_2(capsys):
    for argv in (["nope"], ["digits", "--nope", "1"], ["digits", "--steps", "many"]):
        with pytest.raises(SystemExit) as stopped:
            parse(argv)
        assert stopped.value.code == 2
    capsys.readouterr()


def test_the_data_root_is_the_option_else_the_environment(capsys, tmp_path, monkeypatch):
    argv = [*options(), "--dataset", "mine"]
    (tmp_path / "given").mkdir()
    refused(capsys, *argv, "--data", str(tmp_path / "given"), words=f"No data set 'mine' in {tmp_path / 'given'}")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "set"))
    refused(capsys, *argv, words=f"No data set 'mine' in {tmp_path / 'set'}")
    train_set = load_images("digits", "train")
    arrays = {"train_images": train_set.images[:50], "train_labels": train_set.labels[:50]}
    np.savez(
        tmp_path / "given" / "mine.npz",
        **arrays,
        test_images=arrays["train_images"],
        test_labels=arrays["train_labels"],
    )
    run("--dataset", "mine", "--data", str(tmp_path / "given"), recipe=replace(TINY, steps=1))


# The pieces -------------------------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_linearly_and_decays_linearly_to_zero():
    r = Recipe("digits", lr=0.8, warmup=4)
    assert [learning_rate(r, step, 0.0) for step in range(6)] == [0.2, 0.4, 0.6000000000000001, 0.8, 0.8, 0.8]
    assert [learning_rate(r, 100, p) for p in (0.0, 0.25, 0.5, 1.0, 1.5)] == [0.8, 0.6000000000000001, 0.4, 0.0, 0.0]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 16.97])
def test_the_average_of_n_values_weighs_value_t_by_the_growth_of_t_to_the_exponent_plus_one(exponent):
    """prod beta telescopes: weight t^(g+1) - (t-1)^(g+1), over n^(g+1); the start has no weight at all."""
    torch.manual_seed(0)
    n, values = 30, torch.randn(30, 5, dtype=torch.float64)
    net, ema = torch.nn.Linear(1, 5, bias=False).double(), torch.nn.Linear(1, 5, bias=False).double()
    ema.requires_grad_(False)
    for step in range(n):
        net.weight.data[:, 0] = values[step]
        ema_update(ema, net, step, exponent)
    edges = (torch.arange(n + 1, dtype=torch.float64) / n) ** (exponent + 1)
    torch.testing.assert_close(ema.weight[:, 0], edges.diff() @ values, rtol=1e-12, atol=1e-12)


def test_the_average_has_the_promised_width():
    """5 % of the run: the standard deviation of t / n under weights ~ t^16.97."""
    edges = (torch.arange(10_001, dtype=torch.float64) / 10_000) ** 17.97
    t = (torch.arange(10_000) + 0.5) / 10_000
    mean = (edges.diff() * t).sum()
    assert ((edges.diff() * (t - mean) ** 2).sum().sqrt() - 0.05).abs() < 1e-4


def batches(recipe: Recipe) -> Batch:
    return Batch(load_images("digits", "train"), recipe, VPLinear(), CPU)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_is_a_function_of_seed_and_step():
    a, b = batches(TINY), batches(TINY)
    a(3)
    assert same(a(7), b(7))
    assert not same(a(7), a(8))
    assert not same(a(7), batches(replace(TINY, seed=1))(7))
    state = torch.get_rng_state()
    a(9)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_shares_of_the_processes_make_up_the_batch(world):
    batch = batches(replace(TINY, flip=True))
    shares = zip(*(batch(5, rank, world) for rank in range(world)), strict=True)
    whole = [torch.stack(parts, dim=1).flatten(0, 1) for parts in shares]
    assert same(whole, batch(5))


def test_labels_are_dropped_at_the_rate_asked_for():
    batch = batches(replace(TINY, batch=10_000, label_dropout=0.1))
    dropped = (batch(0)[1] == 10).double().mean().item()
    assert abs(dropped - 0.1) < 4 * (0.1 * 0.9 / 10_000) ** 0.5
    kept = batches(replace(TINY, batch=10_000, label_dropout=0.0))(0)
    assert (kept[1] < 10).all()


def test_an_image_keeps_its_own_label_unless_it_is_dropped():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    batch = Batch(ImageSet(images, np.arange(10), list("0123456789")), replace(TINY, batch=1000), VPLinear(), CPU)
    x0, cond, t, eps = batch(0)
    number = ((x0[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert ((cond == number) | (cond == 10)).all()
    assert ((t >= VPLinear.t_min) & (t <= VPLinear.t_max)).all()
    assert abs(eps.mean().item()) < 4 / eps.numel() ** 0.5


def test_half_of_the_images_are_mirrored_when_asked():
    plain, flipped = (batches(replace(TINY, batch=2000, flip=f))(0) for f in (False, True))
    mirrored = (flipped[0] == plain[0].flip(-1)).flatten(1).all(dim=1)
    kept = (flipped[0] == plain[0]).flatten(1).all(dim=1)
    assert (mirrored | kept).all()
    assert same(plain[1:], flipped[1:])
    assert abs(mirrored.double().mean().item() - 0.5) < 4 * 0.5 / 2000**0.5


# Interrupted and resumed ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """State, checkpoint and log of 20 steps in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train.train("digits", TINY, out=folder / "checkpoints", runs=folder / "runs")
    return folder


def assert_like(uninterrupted: Path) -> None:
    """The run in the current folder has ended where the uninterrupted one has, to the last bit."""
    here, there = load_file("runs/digits.safetensors"), load_file(uninterrupted / "runs" / "digits.safetensors")
    assert here.keys() == there.keys()
    assert [k for k in here if not torch.equal(here[k], there[k])] == []
    a, b = (load(f / "checkpoints" / "digits.safetensors") for f in (Path(), uninterrupted))
    assert same(a.denoiser.net.state_dict().values(), b.denoiser.net.state_dict().values())
    assert {k: v for k, v in a.config.items() if k != "minutes"} == {
        k: v for k, v in b.config.items() if k != "minutes"
    }


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_and_resumed_is_the_uninterrupted_run_bit_for_bit(uninterrupted, monkeypatch, tmp_path, signum):
    stop_after(monkeypatch, 10, signum)
    run()
    assert log()[-1]["step"] == 10
    assert load("checkpoints/digits.safetensors").config["step"] == 10
    run("--resume")
    assert_like(uninterrupted)
    monkeypatch.chdir(uninterrupted)
    expected = log()
    monkeypatch.chdir(tmp_path)
    assert log() == expected
    assert [line["step"] for line in expected] == [5, 10, 10, 15, 20, 20]


def test_a_run_stopped_twice_between_two_saves_goes_on_bit_for_bit(uninterrupted, monkeypatch):
    stop_after(monkeypatch, 7)
    run()
    stop_after(monkeypatch, 6)
    run("--resume")
    assert load("checkpoints/digits.safetensors").config["step"] == 13
    run("--resume")
    assert_like(uninterrupted)


def test_dropout_masks_are_resumed_too(monkeypatch):
    recipe = replace(TINY, dropout=0.3)
    run("--name", "whole", recipe=recipe)
    stop_after(monkeypatch, 10)
    run(recipe=recipe)
    run("--resume", recipe=recipe)
    a, b = load_file("runs/whole.safetensors"), load_file("runs/digits.safetensors")
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_resuming_a_finished_run_changes_nothing(uninterrupted, monkeypatch):
    run()
    before = log()
    run("--resume")
    assert log() == before
    assert_like(uninterrupted)


def test_a_finished_run_can_be_made_longer():
    run()
    run("--resume", "--steps", "25")
    assert load("checkpoints/digits.safetensors").config["step"] == 25


def test_after_training_ctrl_c_means_what_it_did_before(monkeypatch):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    stop_after(monkeypatch, 1, signal.SIGINT)
    run()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_log_line_cut_off_by_a_kill_is_dropped_and_later_lines_too(monkeypatch):
    stop_after(monkeypatch, 10)
    run()
    whole = log()
    with open("checkpoints/digits.jsonl", "a") as file:
        file.write('{"step": 15, "loss": 0.5}\n{"step": 20, "lo')
    run("--resume")
    assert log()[: len(whole)] == whole
    assert [line["step"] for line in log()] == [5, 10, 10, 15, 20, 20]


def test_sigterm_saves_and_exits_cleanly_and_the_run_goes_on(uninterrupted, capsys):
    process = start(recipe=replace(TINY, steps=100_000, log_every=1))
    wait_for(lambda: Path("checkpoints/digits.jsonl").exists() and Path("checkpoints/digits.jsonl").read_text())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == "checkpoints/digits.safetensors"
    step = load("checkpoints/digits.safetensors").config["step"]
    assert step == log()[-1]["step"] > 0
    run("--resume", "--steps", str(step + 3), "--log_every", "1")
    assert load("checkpoints/digits.safetensors").config["step"] == step + 3


def test_a_kill_at_any_moment_leaves_a_good_checkpoint_and_a_state_to_resume():
    """Saving all the time, so that most kills fall into the middle of a save."""
    recipe = replace(TINY, steps=100_000, eval_every=1, log_every=1)
    process = start(recipe=recipe)
    wait_for(Path("runs/digits.safetensors").exists)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    step = load("checkpoints/digits.safetensors").config["step"]
    about, _ = train.read_state(Path("runs/digits.safetensors"))
    assert about["step"] in (step, step - 1)
    run("--resume", "--steps", str(step + 2), recipe=recipe)
    assert load("checkpoints/digits.safetensors").config["step"] == step + 2


@pytest.mark.parametrize(
    ("write", "name"),
    [(1, "digits.jsonl"), (2, "digits.safetensors"), (3, "digits-growth.png"), (4, "digits.safetensors")],
)
def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_state(capsys, monkeypatch, write, name):
    """A resumed run writes the log, the model, what it draws and the state: each fails in turn."""
    run(recipe=replace(TINY, steps=10))
    made = ("digits.jsonl", "digits.safetensors", "digits-growth.png")
    paths = [*(Path("checkpoints", name) for name in made), Path("runs/digits.safetensors")]
    before = [path.read_bytes() for path in paths]
    real, calls = os.fsync, []

    def full(fd):
        calls.append(fd)
        if len(calls) == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        refused(capsys, *options(), "--resume", words=f"{name}: No space left on device; what was there before is")
    assert paths[write - 1].read_bytes().startswith(before[write - 1])
    assert not [f for f in (*os.listdir("checkpoints"), *os.listdir("runs")) if f.startswith(".")]
    assert load(paths[1]).config["step"] in (10, 20)
    run("--resume")
    assert load(paths[1]).config["step"] == 20


def growth() -> Growth:
    return Growth(Path("checkpoints/digits-growth.png"), 8)


def test_what_the_run_draws_is_kept_at_doubling_steps_and_at_its_end(uninterrupted):
    """Rows at 10, 20, 40 and the end, each drawn by the averages as they were then: the last by those that are kept."""
    run("--steps", "50")
    assert growth().steps == [10, 20, 40, 50]
    model = load("checkpoints/digits.safetensors")  # rounded to half precision, and so its levels by one or two
    again = Growth(Path("again.png"), 8)
    again.add(model, 50)
    assert np.abs(again.rows[0].astype(int) - growth().rows[-1]).max() <= 2


def test_a_run_begun_anew_or_gone_on_with_draws_no_row_twice(monkeypatch):
    run("--steps", "30")
    run("--steps", "20")
    assert growth().steps == [10, 20]
    run("--steps", "40", "--resume")
    assert growth().steps == [10, 20, 40]


def test_the_gradient_norm_in_the_log_is_that_before_clipping():
    recipe = replace(TINY, clip=1e-3)
    D = build(recipe, load_images("digits"))
    batch = batches(recipe)(0)
    grads = torch.autograd.grad(denoising_loss(D, *batch).mean(), D.net.parameters())
    norm = torch.cat([g.flatten() for g in grads]).norm()
    _, measured = train_step(D, torch.optim.SGD(D.net.parameters(), 0.1), batch, recipe, CPU)
    assert norm > 10 * recipe.clip
    torch.testing.assert_close(measured, norm, rtol=0.05, atol=0)  # training may be in bfloat16


def test_a_few_images_of_each_class_are_what_is_trained_on(capsys):
    run("--per_class", "3")
    assert load("checkpoints/digits.safetensors").config["trained_on"] == 30
    refused(capsys, *options(), "--per_class", "1000", words="training images of 0; 1000 are asked for")


def test_pictures_without_classes_train_an_unconditional_model(tmp_path):
    (tmp_path / "flat").mkdir()
    for k in range(12):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(tmp_path / "flat" / f"{k}.png")
    run("--dataset", "flat", "--data", str(tmp_path))
    model = load("checkpoints/digits.safetensors")
    assert model.classes == [] and model.shape == (3, 8, 8) and model.denoiser.net.num_classes == 0


def test_at_the_end_of_its_time_a_run_no_longer_moves():
    run = Training(TINY, load_images("digits"), CPU)
    run.advance(run.batch(0), 0.0)
    before = [p.clone() for p in run.net.parameters()]
    run.advance(run.batch(1), 1.0)
    assert all(map(torch.equal, before, run.net.parameters())) and run.step == 2


def test_a_run_of_so_many_seconds_ends_with_them_and_the_rate_falls_over_them(monkeypatch):
    clock, rates = count(step=0.5), []  # half a second from one look at the clock to the next
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run = Training(replace(TINY, warmup=1), load_images("digits"), CPU)
    monkeypatch.setattr(
        training,
        "train_step",
        lambda D, optimizer, *rest: rates.append(optimizer.param_groups[0]["lr"]) or (torch.tensor(1.0),) * 2,
    )
    moments = list(train_for(run, 3.0))
    assert [m.seconds for m in moments] == [0.5, 1.5, 2.5] and [m.step for m in moments] == [1, 2, 3]
    assert rates == pytest.approx([TINY.lr * (1 - spent / 3) for spent in (0, 1, 2)])


def test_the_model_of_a_run_is_its_averages_as_they_are_and_says_where_they_come_from():
    run = Training(TINY, load_images("digits"), CPU)
    run.advance(run.batch(0), 0.0)
    model = run.model(minutes=2)
    assert model.denoiser is run.ema and model.shape == (1, 8, 8) and model.classes == list("0123456789")
    about = {"dataset": "digits", "recipe": asdict(TINY), "step": 1, "images": 8, "trained_on": 1614, "minutes": 2}
    assert model.config == about
    assert Training(replace(TINY, conditional=False), load_images("digits"), CPU).model().classes == []


def test_resuming_without_a_state_says_so(capsys):
    refused(capsys, *options(), "--resume", words="There is no runs/digits.safetensors to resume from")


def test_a_damaged_state_or_a_checkpoint_in_its_place_is_refused(capsys, uninterrupted):
    data = (uninterrupted / "runs" / "digits.safetensors").read_bytes()
    flipped = bytearray(data)
    flipped[-1000] ^= 1
    checkpoint = (uninterrupted / "checkpoints" / "digits.safetensors").read_bytes()
    Path("runs").mkdir()
    for bad in (data[:-1], data[:50], b"", bytes(flipped), checkpoint):
        Path("runs/digits.safetensors").write_bytes(bad)
        refused(capsys, *options(), "--resume", words="runs/digits.safetensors is damaged or not a training state")
    save_file({"x": torch.zeros(1)}, "runs/digits.safetensors")
    refused(capsys, *options(), "--resume", words="runs/digits.safetensors is damaged or not a training state")


@pytest.mark.parametrize(("option", "value"), [("lr", "0.5"), ("width", "16"), ("mults", "2"), ("seed", "1")])
def test_resuming_with_another_recipe_is_refused_and_the_field_named(capsys, option, value):
    run(recipe=replace(TINY, steps=1))
    refused(capsys, *options(), "--resume", f"--{option}", value, words=f"leave --{option} out")


def test_resuming_on_images_of_another_kind_is_refused(capsys, monkeypatch):
    run(recipe=replace(TINY, steps=1))
    two = load_images("digits")._replace(classes=[str(k) for k in range(12)])
    monkeypatch.setattr(data, "load_images", lambda *_, **__: two)
    refused(capsys, *options(), "--resume", words="--resume: the images have another shape or number of classes")


def test_minutes_end_the_run_in_time():
    started = time.monotonic()
    run("--minutes", "0.02", recipe=replace(TINY, steps=1))  # 1.2 s; --steps is not heeded
    assert 1.2 <= time.monotonic() - started < 10
    config = load("checkpoints/digits.safetensors").config
    assert config["step"] > 1


# What comes out ---------------------------------------------------------------------------------------------------


def test_training_lowers_the_validation_loss_clearly():
    run(recipe=replace(TINY, steps=240, batch=32, warmup=20, eval_every=80, lr=3e-3))
    losses = [line["val_loss"] for line in log() if "val_loss" in line]
    first = next(line["loss"] for line in log() if "loss" in line)
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]
    assert losses[-1] < 0.5 * first


def test_the_checkpoint_holds_the_averages_in_half_precision_and_where_they_come_from(uninterrupted):
    path = uninterrupted / "checkpoints" / "digits.safetensors"
    state = load_file(uninterrupted / "runs" / "digits.safetensors")
    for name, value in load_file(path).items():
        assert torch.equal(value, state[f"ema.{name}"].half())
    m = load(path)
    assert (m.shape, m.classes) == ((1, 8, 8), list("0123456789"))
    assert m.config["dataset"] == "digits"
    assert m.config["images"] == 20 * 8
    assert Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in m.config["recipe"].items()}) == TINY


def test_the_validation_loss_is_that_of_the_test_split_and_always_the_same(uninterrupted):
    D = load(uninterrupted / "checkpoints" / "digits.safetensors").denoiser
    test = load_images("digits", "test")
    assert validation(D, test, CPU) == validation(D, test, CPU)
    assert validation(D, load_images("digits", "train"), CPU) != validation(D, test, CPU)


def test_in_the_validation_loss_every_class_sees_all_times_also_where_the_images_are_sorted(monkeypatch):
    test = load_images("digits", "test")
    order = np.argsort(test.labels, kind="stable")
    ordered = test._replace(images=test.images[order], labels=test.labels[order])
    seen = []

    def watched(D, x0, cond, t, eps):
        seen.append((cond, t))
        return t

    monkeypatch.setattr(training, "denoising_loss", watched)
    assert validation(build(TINY, test), ordered, CPU) == pytest.approx(0.5, abs=0.01)
    cond, t = (torch.cat(parts) for parts in zip(*seen, strict=True))
    for k in range(10):
        of_class = t[cond == k]
        assert abs(of_class.mean() - 0.5) < 4 * (1 / 12 / len(of_class)) ** 0.5


def test_a_new_run_begins_a_new_log():
    run()
    run(recipe=replace(TINY, steps=5))
    assert [line["step"] for line in log()] == [5, 5]


def test_training_never_imports_gradio():
    code = "import sys, train; sys.exit(any(m.split('.')[0] in ('gradio', 'tabs', 'app') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# Several processes ------------------------------------------------------------------------------------------------


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _net() -> NetDenoiser:
    """A tiny network whose every weight has a gradient."""
    torch.manual_seed(0)
    net = UNet(1, width=8, patch=2, num_classes=10)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return NetDenoiser(net, VPLinear())


class Keep:
    """In the optimizer's place: keeps the gradients instead of following them."""

    def __init__(self, net):
        self.net = net

    def step(self):
        self.grads = [p.grad.clone() for p in self.net.parameters()]

    def zero_grad(self, **_):
        self.net.zero_grad()


def _exactly(device: torch.device) -> torch.autocast:
    """In the place of mixed_precision: half a batch rounds otherwise than the whole, in bfloat16 so that it shows."""
    return torch.autocast(device.type, enabled=False)


def _one_process_of_two(rank: int, ports: list[int], folder: str) -> None:
    training.mixed_precision = _exactly
    faulthandler.dump_traceback_later(60, exit=True)  # processes that wait for each other would wait for ever
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0])}
    _, world, device = train.setup()
    D = _net()
    keep = Keep(D.net)
    D.net = torch.nn.parallel.DistributedDataParallel(D.net)
    train_step(D, keep, batches(TINY)(3, rank, world), replace(TINY, clip=1e9), device)
    clock = train.agree(world, device, 1.5 + rank, float(rank == 0))
    torch.save({"grads": keep.grads, "clock": clock}, f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    for port, name, minutes in ((ports[1], "steps", None), (ports[2], "minutes", 0.01)):
        os.environ["MASTER_PORT"] = str(port)
        train.train(name, replace(TINY, steps=4), minutes=minutes)


def test_two_processes_have_the_gradient_of_one_on_the_whole_batch_and_train_the_same_network(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "mixed_precision", _exactly)
    mp.spawn(_one_process_of_two, (_free_ports(3), str(tmp_path)), nprocs=2)
    D = _net()
    keep = Keep(D.net)
    train_step(D, keep, batches(TINY)(3), replace(TINY, clip=1e9), CPU)
    shared = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert same(shared[0]["grads"], shared[1]["grads"])
    torch.testing.assert_close(shared[0]["grads"], keep.grads, rtol=1e-4, atol=1e-6)
    assert all(g.abs().max() > 0 for g in keep.grads)
    assert shared[0]["clock"] == shared[1]["clock"] == [2.5, 1.0]

    train.train("one", replace(TINY, steps=4))
    two, one = load_file("runs/steps.safetensors"), load_file("runs/one.safetensors")
    for name in one:
        if name.startswith(("net.", "ema.")):
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=2e-4)  # Adam amplifies rounding
    assert load("checkpoints/minutes.safetensors").config["step"] > 0


def test_a_batch_that_the_processes_cannot_share_evenly_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(train, "setup", lambda: (0, 3, CPU))
    refused(capsys, *options(), words="--batch must be a multiple of the 3 processes, not 8")


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")], ids=str)
def test_the_step_runs_in_bfloat16_where_that_is_fast_and_the_weights_stay_in_float32(device):
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    if device.type == "cpu" and not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("needs a CPU that multiplies bfloat16")
    seen = []
    D = _net().to(device)
    D.net.stem.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    optimizer = torch.optim.AdamW(D.net.parameters(), fused=True)
    batch = Batch(load_images("digits", "train"), TINY, VPLinear(), device)
    loss, _ = train_step(D, optimizer, batch(0), TINY, device)
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert {p.dtype for p in D.net.parameters()} == {torch.float32}


# Fields -----------------------------------------------------------------------------------------------------------


def test_fields_are_trained_for_every_preset_and_kept_with_their_comparison(monkeypatch, capsys):
    presets = {name: PRESETS[name] for name in ("two", "moons")}
    monkeypatch.setattr("train.PRESETS", presets)
    assert main(["fields", "--steps", "20", "--batch", "32", "--compare_seconds", "0.02"]) == 0
    assert {path.stem for path in Path("checkpoints/fields").iterdir()} == set(presets)
    for name in presets:
        model = load(f"checkpoints/fields/{name}.safetensors")
        assert model.shape == (2,) and model.config["steps"] == 20
        assert len(model.config["rivals"]) == 4 and model.config["errors"][-1][0] == 20


def test_what_is_not_for_fields_is_refused(capsys):
    refused(capsys, "fields", "--minutes", "1", words="--minutes")
    refused(capsys, "fields", "--width", "8", words="--width")
