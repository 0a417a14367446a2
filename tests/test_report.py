"""The page to hand in: whole where everything is there, and honest about what is not."""

import csv
import io
import re
import tomllib
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_core
from diffusion_core import evaluate, experiments, figures
from diffusion_core.__main__ import main
from diffusion_core.checkpoint import Model, save
from diffusion_core.classifier import Classifier, initialised, load_classifier, save_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.diagnose import keep_loss_by_time, loss_by_time
from diffusion_core.evaluate import Plan, draw, keep_result, measure, read_results, reference, steps_needed
from diffusion_core.history import Growth, Log
from diffusion_core.images import read_recipe
from diffusion_core.networks import MLP
from diffusion_core.page import Commands, Missing, Table, page
from diffusion_core.paths import Walk
from diffusion_core.report import SECTIONS, options
from diffusion_core.schedules import Discrete, VPLinear
from tests.helpers import tiny_model

CLASSES = ["cat", "$dog$ <b>", "emu"]  # the second must not be taken for a formula, nor for HTML
SIZES = ["--pairs", "2", "--over", "2"]
SHORTER = ["--pairs", "1"]
RECIPE = {"dataset": "toys", "steps": 40, "batch": 8, "loss": "l2", "weight": "min_snr", "times": "uniform"}
FACTS = {
    "dataset": "toys",
    "recipe": RECIPE,
    "step": 40,
    "images": 320,
    "minutes": 0.1,
    "device": "CPU",
    "val_loss": 1.5,
}


def untrained(classes=CLASSES, schedule=None, config=None) -> Model:
    model = tiny_model(classes, patch=2, schedule=schedule)
    model.config.update(config or {})
    return model


@pytest.fixture(scope="module")
def quick():
    """The same sections in fewer steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "LADDER", (2, 3, 250))
        patch.setattr(experiments, "Walk", partial(Walk, steps=5))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for name, plan in evaluate.APPROACHES.items():
            patch.setitem(evaluate.APPROACHES, name, replace(plan, steps=3))
        yield patch


def report(folder: Path, *argv: str, out: str = "out") -> str:
    assert main(["report", str(folder / "tiny.safetensors"), "--out", str(folder / out), *SIZES, *argv]) == 0
    return (folder / out / "report.html").read_text()


def missing(html: str) -> list[str]:
    return [unescape(re.sub("<.*?>", "", text)) for text in re.findall(r'<p class="missing">(.*?)</p>', html)]


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}


# With everything at hand --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quick) -> Path:
    """A model with all that a report can use, and its report in `out`."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoint, g = folder / "tiny.safetensors", np.random.default_rng(0)
    data = {f"{s}_images": g.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8) for s in ("train", "test")}
    labels = {f"{split}_labels": np.arange(30) % 3 for split in ("train", "test")}
    np.savez(folder / "toys.npz", **data, **labels, classes=np.array(CLASSES))
    quick.setenv("DIFFUSION_DATA", str(folder))
    model = untrained(config=FACTS)
    save(checkpoint, model)
    log = Log(folder / "tiny.jsonl", 0)
    for step in range(5, 45, 5):
        log(step=step, seconds=1.0, images=8 * step, loss=1 / step, grad_norm=2 / step)
    log(step=40, seconds=1.0, images=320, val_loss=1.5)
    growth = Growth(folder / "tiny-growth.png", 8)
    growth.add(model, 10)
    growth.add(model, 40)
    network = initialised(Classifier(1, 3, width=8), torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():  # so that each class is given to some of the images
        network.head.bias -= network(torch.rand(50, 1, 8, 8) * 2 - 1).mean(dim=0)
    found = {split: reference(network, data[f"{split}_images"]) for split in ("train", "test")}
    save_classifier(folder / "toys-classifier.safetensors", network, CLASSES, {"title": "toys", "accuracy": 0.5}, found)
    judge = load_classifier(folder / "toys-classifier.safetensors")
    for sampler, steps in (("ddpm", 2), ("ddpm", 3), ("ddim", 2), ("ddim", 3), ("ddim", 5)):
        plan = Plan(sampler, steps, 1.0, n=8)
        *_, last = draw(model, judge, plan)
        keep_result(checkpoint, measure(judge, model, plan, last))
    keep_loss_by_time(checkpoint, loss_by_time(model, load_images("toys", "test"), n=9, bins=4))
    assert report(folder)
    return folder


def test_every_section_is_there_and_nothing_is_missing(whole):
    html = (whole / "out/report.html").read_text()
    heads = [unescape(head) for head in re.findall(r"<h2.*?>\d (.*?)</h2>", html)]
    assert heads == list(SECTIONS)
    assert missing(html) == []
    for words in ("40 steps, 320 images shown", "image 0 of the toys test split", "weight min_snr", "not an FID"):
        assert words in html
    for words in ("--pairs 2 --over 2 --seed 0", f"torch {torch.__version__}", "The error of v is largest"):
        assert words in re.sub("</?span>", "", html)


def test_the_results_are_measured_again_as_they_were(whole):
    text = re.sub("<[^>]+>", "", unescape((whole / "out/report.html").read_text()))
    plan = read_results(whole / "tiny.safetensors")[0]["plan"]
    assert f"--standard --save --count {plan['n']} --precision {plan['precision']}" in text


def test_options_that_do_not_speak_for_themselves_have_a_word_beside_them():
    recipe = {"steps": 20_000, "attention": [], "lr": 0.001}
    assert options({"recipe": recipe, "step": 5_493}) == (
        "steps 20000 at most (it ended by --minutes, after 5,493), attention in the middle only, lr 0.001"
    )
    assert options({"recipe": recipe | {"attention": [2]}, "step": 20_000}) == "steps 20000, attention [2], lr 0.001"


def test_every_figure_is_in_the_page_with_its_words_and_beside_it_as_a_picture(whole):
    html = (whole / "out/report.html").read_text()
    shown = re.findall(r'<figure id="(.*?)"><img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]+)">', html)
    names = {name for name, _ in shown}
    paths = {"path-1", "path-2", "path-distances"}
    assert names == {"training", "growth", "forward", "samples", "ddpm-ddim", "loss-by-time"} | paths
    assert names == set(pictures(whole / "out"))
    for name in names:
        with Image.open(whole / f"out/{name}.png") as image:
            assert min(image.size) > 100
        assert read_recipe(whole / f"out/{name}.png")["checkpoint"] == "tiny.safetensors"
    assert [int(k) for k in re.findall(r"<b>Figure (\d+)\.</b>", html)] == list(range(1, 10))


def test_the_page_needs_nothing_but_itself(whole):
    html = (whole / "out/report.html").read_text()
    assert "<script" not in html and "<link" not in html and "@import" not in html and "url(" not in html
    targets = re.findall(r'(?:src|href)="(.*?)"', html)
    assert len(targets) == 18  # nine sections in the contents, nine figures
    assert all(target.startswith(("data:", "#s")) for target in targets)
    assert "<b>" not in re.sub(r"<b>(Figure|Table) \d+\.</b>", "", html)  # a class's name stays text
    assert "$dog$ &lt;b&gt;" in html


def test_the_numbers_are_those_of_the_other_commands(whole, monkeypatch):
    html = (whole / "out/report.html").read_text()
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    for r in read_results(whole / "tiny.safetensors"):
        low, high = r["interval"]
        text = f"{experiments.short(r['distance'])} [{experiments.short(low)}, {experiments.short(high)}]"
        assert text in cells and f"{text}, n = 8" in cells
    assert "real images, n = 8" in cells and "noise, n = 8" in cells
    best, needed = steps_needed(read_results(whole / "tiny.safetensors"))
    assert f"The best of these distances is {experiments.short(best['distance'])}, by " in html
    assert f"DDIM in {needed['ddim']} steps" in html or needed["ddim"] is None
    monkeypatch.chdir(whole)
    assert main(["interpolate", "tiny.safetensors", *SIZES, "--positions", "5", "--steps", "5"]) == 0
    rows = list(csv.DictReader(Path("paths/path.csv").read_text().splitlines()))
    assert len(rows) == 2 * 3 * 5
    for row in rows:
        assert (
            "{distance:.1f} [{low:.1f}, {high:.1f}]".format(**{k: float(row[k]) for k in row if k[0] in "dlh"}) in cells
        )


# From the checkpoint alone ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory, quick) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    save(folder / "tiny.safetensors", untrained(schedule=Discrete(), config={"dataset": "toys"}))
    report(folder, "--data", str(folder), *SHORTER)
    return folder


def test_from_a_checkpoint_alone_every_missing_part_is_named(bare):
    told = missing((bare / "out/report.html").read_text())
    files = ("tiny.jsonl", "tiny-growth.png", "tiny-evaluation.json", "tiny-loss.json", "toys-classifier.safetensors")
    for words in (*files, "data set toys is not in", "no recipe", "--ladder"):
        assert sum(words in sentence for sentence in told) == 1, words
    assert len(told) == 8
    assert set(pictures(bare / "out")) == {"forward", "samples", "ddpm-ddim", "path-1"}


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(bare):
    report(bare, "--data", str(bare), *SHORTER, out="again")
    report(bare, "--data", str(bare), *SHORTER, "--seed", "4", out="other")
    first, again, other = (pictures(bare / name) for name in ("out", "again", "other"))
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_model_without_classes_has_no_paths_and_says_so(tmp_path, quick):
    save(tmp_path / "tiny.safetensors", untrained(classes=()))
    html = report(tmp_path)
    assert any("nothing guides it" in words for words in missing(html))
    assert any("leads from one class to another" in words for words in missing(html))
    assert any("does not say what it was trained on" in words for words in missing(html))
    assert set(pictures(tmp_path / "out")) == {"forward", "samples", "ddpm-ddim"}
    assert "guidance 2" not in html


def test_damaged_files_beside_a_checkpoint_are_named_and_the_rest_is_written(tmp_path, quick):
    save(tmp_path / "tiny.safetensors", untrained(classes=("cat", "emu"), config={"dataset": "toys"}))
    names = ("tiny.jsonl", "tiny-growth.png", "tiny-evaluation.json", "tiny-loss.json", "toys-classifier.safetensors")
    for name in names:
        (tmp_path / name).write_text("{}\n" if name.endswith("json") else "garbage\n")
    np.savez(tmp_path / "toys.npz", test_images=np.zeros((4, 9, 9, 1), np.uint8), test_labels=np.arange(4))
    told = missing(report(tmp_path, "--data", str(tmp_path)))
    for name in names:
        assert any(name in sentence for sentence in told), name
    assert any("other classes or sizes" in sentence for sentence in told)
    assert {name for name in pictures(tmp_path / "out") if "path" in name} == {"path-1"}  # there are not two pairs


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["none.safetensors"], "There is no checkpoint none.safetensors; train.py makes one."),
        (["garbage.safetensors"], "garbage.safetensors is not a complete safetensors file"),
        (["points.safetensors"], "points.safetensors is a model of points; one of images, as train.py makes it"),
        (["tiny.safetensors", "--seed", "-1"], "--seed must lie between 0 and 2147483647, not -1."),
        (["tiny.safetensors", "--pairs", "0"], "--pairs must lie between 1 and 20, not 0."),
        (["tiny.safetensors", "--over", "1"], "--over must lie between 2 and 2000, not 1."),
        (["tiny.safetensors", "--out", "garbage.safetensors"], "garbage.safetensors"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    Path("garbage.safetensors").write_text("garbage")
    save("tiny.safetensors", untrained())
    save("points.safetensors", Model(NetDenoiser(MLP(), VPLinear()), (2,), []))
    capsys.readouterr()
    assert main(["report", *argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("diffusion_core: ") and words in line
    assert not Path("report").exists()


# Its parts ----------------------------------------------------------------------------------------------------------


def test_text_is_text_whatever_is_in_it():
    html = page(
        "a < b", "c & d", [("e", ["<i> `x < y`", Missing("z > 1"), Table("t", ["<u>"], [["<v>"]]), Commands(["<w>"])])]
    )
    for words in (
        "a &lt; b",
        "c &amp; d",
        "&lt;i&gt; <code>x &lt; y</code>",
        "z &gt; 1",
        "&lt;u&gt;",
        "&lt;v&gt;",
        "&lt;w&gt;",
    ):
        assert words in html


def test_each_pixel_of_a_plate_is_a_square_of_its_own_colour_and_no_line_is_cut_off():
    colours = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [200, 200, 0]]], np.uint8)
    about = dict(name="n", alt="a", caption="c", recipe={})
    lines = {"first": ["1", "2"], "second": ["3", "4"]}
    plate = figures.plate([("row", Image.fromarray(colours))], ["one", "two"], below=lines, **about)
    png = np.asarray(Image.open(io.BytesIO(plate.png)).convert("RGB")).astype(int)
    for colour in colours.reshape(-1, 3):
        rows, columns = np.nonzero((png == colour).all(axis=2))
        side = rows.max() - rows.min() + 1
        assert side == columns.max() - columns.min() + 1 == len(rows) ** 0.5 > 10
    ink = np.nonzero((png < 128).all(axis=2).any(axis=1))[0]
    assert ink.min() > 0 and ink.max() < len(png) - 1


def test_a_long_name_is_broken_where_it_can_be():
    assert figures.wrapped("spell_weapon_item", 0.5) == "spell_\nweapon_\nitem"
    assert figures.wrapped("spell_weapon_item", 1) == "spell_weapon_item"
    assert figures.wrapped("two words-and", 0.3) == "two\nwords-\nand"
    assert figures.wrapped("automobile", 0.1) == "automobile"
    assert figures.wrapped("", 1) == ""


def test_no_distance_lies_outside_its_panel(monkeypatch):
    monkeypatch.setattr(figures, "saved", lambda figure, **about: figure)

    def along(top: float) -> dict:
        return {"c": [{"position": w, "distance": top, "low": top - 1, "high": top + 1} for w in (0, 0.5, 1)]}

    drawn = figures.distances_along({"one": along(5), "two": along(90)}, {"c": "ODE"})
    for ax in drawn.axes:
        low, high = ax.get_ylim()
        assert low == 0 and high >= 91


def test_smoothing_keeps_a_level_and_averages_what_is_near_on_a_logarithmic_axis():
    x = [1, 2, 4, 8, 8.8, 9.6]
    assert figures.smoothed(x, [3] * 6).tolist() == [3] * 6
    assert figures.smoothed(x, [1, 2, 3, 4, 7, 10]).tolist() == [1, 2, 3, 5.5, 7, 8.5]


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert diffusion_core.__version__ == project["version"]
