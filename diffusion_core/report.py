"""What an assignment hands in, of one checkpoint: figures, tables and what they are of, as one page."""

import hashlib
import platform
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import diffusion_core

from . import figures
from .checkpoint import load
from .diagnose import loss_path, read_loss_by_time, struggles
from .evaluate import read_results, results_path, short
from .experiments import (
    MEASURED,
    Subject,
    ddpm_and_ddim,
    find_images,
    find_judge,
    forward,
    interpolation,
    interval,
    machine,
    samples,
)
from .figures import Picture
from .files import write_atomically
from .history import CALLS, Growth, read_log
from .images import enlarge
from .page import Block, Commands, Missing, Table, page
from .samplers import SAMPLERS

CORE = "python -m diffusion_core"


def write_report(
    checkpoint: Path,
    out: Path,
    *,
    seed: int = 0,
    pairs: int = 3,
    over: int = 24,
    root: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[str, float]]:
    """Write out/report.html and its figures, out/*.png; yields the title and the seconds of each section when done.

    pairs: how many pairs of classes to interpolate; over: how many pairs of images each distance is measured over.
    Nothing is written before all is computed. Raises ValueError or OSError for a checkpoint that cannot be used, a
    number out of its range or a folder that cannot be written.
    """
    for name, value, low, high in (("seed", seed, 0, 2**31 - 1), ("pairs", pairs, 1, 20), ("over", over, 2, 2000)):
        if not low <= value <= high:
            raise ValueError(f"--{name} must lie between {low} and {high}, not {value}.")
    model = load(checkpoint, device)
    if len(model.shape) != 3:
        raise ValueError(f"{checkpoint} is a model of points; one of images, as train.py makes it, is needed.")
    out.mkdir(parents=True, exist_ok=True)  # now, and not after minutes of work
    subject = Subject(checkpoint, model, find_judge(checkpoint, model), find_images(model, root), seed, pairs, over)
    sections, seconds = [], {}
    for title, section in SECTIONS.items():
        started = time.perf_counter()
        with tqdm(desc=title, unit="step", leave=False) as bar:
            sections.append((title, list(section(subject, bar))))
        seconds[title] = time.perf_counter() - started
        yield title, seconds[title]
    each = ", ".join(f"{title} {s:.0f} s" for title, s in seconds.items() if s >= 0.5)
    sections[-1][1].append(f"Making this report took {sum(seconds.values()):.0f} s: {each}.")
    for picture in (block for _, blocks in sections for block in blocks if isinstance(block, Picture)):
        write_atomically(out / f"{picture.name}.png", picture.png)
    lead = f"A diffusion model of {subject.title}: how it was trained and what it draws. {date.today():%d %B %Y}."
    write_atomically(out / "report.html", page(f"Report on {checkpoint.stem}", lead, sections).encode())


# Sections that read what is there -----------------------------------------------------------------------------------


def facts(subject: Subject, bar: tqdm) -> Iterator[Block]:
    D, (c, h, w), config = subject.model.denoiser, subject.model.shape, subject.model.config
    weights = sum(p.numel() for p in D.parameters()) / 1e6
    about = {k: v for k, v in D.schedule.config().items() if k != "name"}
    numbers = ", ".join(f"{len(v)} {k}" if isinstance(v, list) else f"{k} {v:g}" for k, v in about.items())
    rows = [
        ["data", subject.title],
        ["images", f"{h} × {w} pixels, {'grey' if c == 1 else 'colour'}"],
        ["classes", ", ".join(subject.model.classes) or "none"],
        ["network", f"{type(D.net).__name__}, {weights:.2f} million weights, predicts {D.prediction}"],
        ["process", f"{D.schedule.name}{f' ({numbers})' * bool(numbers)}"],
        ["times", f"t from {D.schedule.t_min:g} to {D.schedule.t_max:g}"],
    ]
    if "trained_on" in config:
        rows.append(["trained on", f"{config['trained_on']:,} images"])
    if {"step", "images", "minutes", "device"} <= config.keys():
        rows.append(["training", f"{config['step']:,} steps, {config['images']:,} images shown"])
        rows.append(["time", f"{config['minutes']:g} minutes on {config['device']}"])
    if "val_loss" in config:
        what = "l2, all noise levels alike, on the first images of the test split (1,000 at most)"
        rows.append(["validation loss", f"{config['val_loss']:.4f} ({what})"])
    data = subject.checkpoint.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    rows.append(["file", f"{subject.checkpoint.name}, {len(data) / 1e6:.1f} MB, SHA-256 {digest[:16]}…"])
    yield Table("The model, as its file describes it.", [], rows)
    if "recipe" in config:
        yield f"The whole recipe (train.py gives the reason for each option): {options(config)}."
    else:
        yield Missing("The checkpoint holds no recipe of its training; those that train.py makes do.")


def options(config: dict) -> str:
    """The recipe's options, with a word beside those whose value does not say by itself what was done."""
    recipe, words = config["recipe"], {}
    if recipe.get("attention") == []:
        words["attention"] = "in the middle only"
    if config.get("step", recipe.get("steps")) != recipe.get("steps"):
        words["steps"] = f"{recipe['steps']} at most (it ended by --minutes, after {config['step']:,})"
    return ", ".join(f"{k} {words.get(k, v)}" for k, v in recipe.items())


def training(subject: Subject, bar: tqdm) -> Iterator[Block]:
    path, chart = subject.beside(".jsonl"), subject.beside("-growth.png")
    try:
        log = [entry for entry in read_log(path) if entry["step"] > 0]
    except (ValueError, KeyError, TypeError):
        log = []
    if log:
        yield losses(subject, log)
    else:
        yield Missing(f"There is no log of the training that can be read, {path}; train.py writes it.")
    if log and not any("grad_norm" in entry for entry in log):
        yield Missing(f"{path.name} does not have the gradient's norms: train.py logs them for models trained anew.")
    try:
        growth = Growth(chart, subject.model.shape[-2])
    except (ValueError, KeyError, TypeError, OSError):
        growth = None
    if growth and growth.rows:
        yield grown(subject, growth)
    else:
        yield Missing(f"There is no chart of samples as training went on, {chart}; train.py draws it.")


def losses(subject: Subject, log: list[dict]) -> Picture:
    recipe = subject.model.config.get("recipe", {})
    weighted = " weighted by min-SNR" * (recipe.get("weight") == "min_snr")
    return figures.training_curves(
        log,
        {"loss": f"training: {recipe.get('loss', 'loss')}{weighted}", "val_loss": "validation: l2, unweighted"},
        name="training",
        alt="Training and validation loss over training steps, on logarithmic axes",
        caption=f"Training of {subject.checkpoint.stem} on {subject.title}, {log[-1]['step']:,} steps of "
        f"{recipe.get('batch', 'unknown numbers of')} images; logarithmic axes. Thin: each entry of the log; thick: "
        f"the mean of those within 15 % of its step. Training loss: at the noise levels that training draws "
        f"({recipe.get('times', 'unknown')}). Validation loss: of the averaged weights, on the first images of the "
        "test split (1,000 at most), all noise levels alike. As weights and noise levels differ, compare the courses "
        "of the two, not their heights.",
        recipe=subject.recipe(log=subject.beside(".jsonl").name),
    )


def grown(subject: Subject, growth: Growth) -> Picture:
    columns = growth.rows[0].shape[1] // subject.model.shape[-1]
    rows = [np.pad(row, ((1, 1), (1, 1), (0, 0)), constant_values=128) for row in growth.rows]  # framed in its own grey
    return figures.plate(
        [(f"{step:,} steps", enlarge(row, 1)) for step, row in zip(growth.steps, rows, strict=True)],
        subject.columns(columns),
        name="growth",
        alt="What the model drew after more and more training steps, a row each",
        caption="Samples as training went on: a row for each number of steps, a column for each seed and class. "
        f"Averaged weights, DPM-Solver++(2M), {CALLS} steps, guidance 1, seeds 0 to {columns - 1}.",
        recipe=subject.recipe(steps=growth.steps),
    )


def quality(subject: Subject, bar: tqdm) -> Iterator[Block]:
    try:
        results = read_results(subject.checkpoint)
    except ValueError as error:
        yield Missing(str(error))
        return
    if not results:
        command = measuring(subject, [])
        where = ", once there is a classifier" if isinstance(subject.judge, Missing) else ""
        yield Missing(
            f"There are no results, {results_path(subject.checkpoint)}; `{command}` measures and keeps them{where}."
        )
        return

    def conditions(r: dict) -> tuple:
        return r["measure"], r["reference"], r["features"], r["n"], r["plan"]["seed"], r["plan"]["precision"]

    for (measure, reference, d, n, seed, precision), rows in groupby(sorted(results, key=conditions), conditions):
        rows = list(rows)
        yield Table(
            f"{measure}, {d} dimensions, to {reference}, of n = {n:,} samples (classes in turn, seeds {seed} to "
            f"{seed + n - 1}, network products in {precision}), with its 95 % interval and its limit for n → ∞; share "
            "of samples recognised as the class asked for; precision and recall. First and last row: the same of real "
            "images of the other split and of noise. Steps are even in log-SNR unless it says otherwise.",
            ["", "network calls", "guidance", "distance", "n → ∞", "as asked", "precision", "recall"],
            [anchor("real images", rows[0]["floor"]), *map(result, rows), anchor("noise", rows[0]["ceiling"])],
        )
    if any(r["measure"] != "FID" for r in results):
        yield (
            "A Fréchet distance in the features of this project's own classifier is not an FID, which is the same "
            "distance in the features of one particular Inception network. It cannot be compared with published FIDs; "
            "compare it with the first and the last row, and rows with one another."
        )


def result(r: dict) -> list[str]:
    """A row of the table of results."""
    plan, limit = r["plan"], r["extrapolated"]
    calls = f"{r['calls']}{' × 2' if r['passes'] == 2 else ''}"
    spacing = {"lam": "", "ddpm": " at its levels"}.get(plan["spacing"], f" spaced {plan['spacing']}")
    eta = f", η {plan['eta']:g}" if plan["eta"] else ""
    label = f"{SAMPLERS[plan['sampler']].label}, {plan['steps']} steps{spacing}{eta}"
    return [label, calls, f"{plan['guidance']:g}", interval(r), "–" if limit is None else short(limit), *shares(r)]


def anchor(label: str, r: dict) -> list[str]:
    """The row of real images, or of noise."""
    return [f"{label}, n = {r['n']:,}", "", "", short(r["distance"]), "", *shares(r)]


def shares(r: dict) -> list[str]:
    return [
        "–" if r[key] is None else f"{100 * r[key]:.1f}\N{NO-BREAK SPACE}%"
        for key in ("accuracy", "precision", "recall")
    ]


def loss_by_timestep(subject: Subject, bar: tqdm) -> Iterator[Block]:
    command = f"{CORE} diagnose {subject.quoted}"
    try:
        found = read_loss_by_time(subject.checkpoint)
        if found:
            yield over_time(subject, found)
            yield found.get("why") or struggles(found, subject.model.denoiser.schedule)
        else:
            yield Missing(
                f"There is no loss by time, {loss_path(subject.checkpoint)}; `{command}` measures and keeps it."
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Missing(f"{loss_path(subject.checkpoint)} cannot be read; `{command}` makes it anew.")


def over_time(subject: Subject, found: dict) -> Picture:
    return figures.loss_over_time(
        found,
        name="loss-by-time",
        alt="The network's error over time, raw and as training weighs it",
        caption=f"Loss by timestep on n = {found['n']:,} images of {found['split']}, in {len(found['t']) - 1} equal "
        f"bins of t, with 95 % intervals. Left: mean squared error of what is predicted ({found['target']}), of all "
        f"images and of each class. Right: the same times the recipe's weight ({found['weight']}) and the density of "
        f"its training times ({found['times']}); the area below is the loss that training minimises.",
        recipe=subject.recipe(n=found["n"], split=found["split"]),
    )


def measuring(subject: Subject, results: list[dict]) -> str:
    """The command that measures the results anew, of as many samples and in the precision of those there are."""
    plan = results[0]["plan"] if results else {"n": 2000, "precision": "bfloat16"}
    return f"{CORE} evaluate {subject.quoted} --standard --save --count {plan['n']} --precision {plan['precision']}"


def repeat(subject: Subject, bar: tqdm) -> Iterator[Block]:
    import matplotlib

    config = subject.model.config
    try:
        results = read_results(subject.checkpoint)
    except ValueError:
        results = []
    sizes = f"--pairs {subject.pairs} --over {subject.over} --seed {subject.seed}"
    yield "This report; the distances along its paths alone; and what it only reads:"
    yield Commands(
        [
            f"{CORE} report {subject.quoted} {sizes}",
            f"{CORE} interpolate {subject.quoted} {sizes} --positions {MEASURED}",
            measuring(subject, results),
            f"{CORE} diagnose {subject.quoted}",
        ]
    )
    if {"recipe", "step", "minutes"} <= config.keys():
        in_steps = config["step"] == config["recipe"]["steps"]
        length = f"--steps {config['step']}" if in_steps else f"--minutes {config['minutes']:g}"
        yield "The model itself, with the options of the recipe in section 1 where they are not train.py's own:"
        yield Commands([f"python train.py {config['dataset']} --name {shlex.quote(subject.checkpoint.stem)} {length}"])
    yield (
        f"diffusion_core {diffusion_core.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}, matplotlib {matplotlib.__version__}; {machine(subject.model)}, {platform.system()}. "
        "The same seed gives the same pictures on the same machine, and on another the same but for rounding."
    )


SECTIONS: dict[str, Callable[[Subject, tqdm], Iterator[Block]]] = {
    "The model": facts,
    "Training": training,
    "Forward noising": forward,
    "Samples": samples,
    "DDPM against DDIM": ddpm_and_ddim,
    "Interpolation": interpolation,
    "Quality": quality,
    "Loss by timestep": loss_by_timestep,
    "How to repeat it": repeat,
}
