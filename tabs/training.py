"""Training: how the shipped models were trained, and one that is trained while you watch, and is then yours to use."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from diffusion_core.checkpoint import Model
from diffusion_core.data import ImageSet, load_images
from diffusion_core.diagnose import read_loss_by_time
from diffusion_core.history import COUNT, Growth, drawn, read_log
from diffusion_core.images import enlarge, grid, to_tensor
from diffusion_core.training import Moment, Recipe, Training, train_for, validation_loss

from .evaluate import CHECKPOINTS
from .forward import NAMES as SCHEDULE_NAMES
from .widgets.controls import QUIET, go_and_stop, plainly, slider
from .widgets.html import busy, data_uri, notice
from .widgets.learning import AXES, by_time_html, curves_html, rows_html, style, table_html
from .widgets.runs import MODELS, adopt, forget
from .widgets.schedules import schedules_html
from .widgets.turn import in_turn, settles, stops

RECIPE = Recipe("digits", batch=32, width=32, patch=1, lr=2e-3, warmup=20)  # legible after a minute of one CPU thread
LENGTH, LENGTHS = 60, (20, 180)  # seconds that a run in the page takes at first, and may take
GAP, BREATH, LOOK = 0.5, 0.1, 3.0  # seconds between two pictures, two moments to stop at, and at most two looks
CALLS = 12  # network calls to each of those samples
KEPT = 6  # rows that stay, at half the time, a quarter, and so on
CPU = torch.device("cpu")


# How the shipped models were trained ------------------------------------------------------------------------------


def logged() -> dict[str, list[dict]]:
    """The shipped models' logs, by name."""
    logs = {name: read_log(CHECKPOINTS / f"{name}.jsonl") for name in sorted(MODELS)}
    return {name: log for name, log in logs.items() if log}


def history_html(names: list[str], axis: str, width: int) -> str:
    """The losses of some runs in the same plots, and what each of them was."""
    logs = logged()
    if not logs:
        return notice("No model here has a log of its training: train.py writes one beside each checkpoint.")
    styles = {name: style(k) for k, name in enumerate(logs)}
    chosen = {name: logs[name] for name in logs if name in names}
    if not chosen:
        return notice("Choose at least one run.")
    table = table_html(chosen, {name: MODELS[name].config for name in chosen}, styles)
    return (
        f"{curves_html(chosen, styles, axis, width)}{table}"
        '<p class="note">Losses of different data, targets and weights are not comparable as numbers, only in how they '
        "fall. The training loss counts the times as the recipe draws and weights them; the validation loss is the "
        "plain mean squared error of the averaged weights on up to 1,000 test images, over all times alike.</p>"
    )


def growth_of(name: str) -> Path:
    """Where what a model drew on its way is kept, if it is."""
    return CHECKPOINTS / f"{name}-growth.png"


def closely_html(name: str | None) -> str:
    """One run: what it drew on its way, and its loss by t."""
    if name is None:
        return ""
    grown = Growth(growth_of(name), MODELS[name].shape[-2])
    title = f"<h3>{name}: samples as training went on</h3>"
    if grown.rows:
        h, w, _ = grown.rows[0].shape
        rows = [(f"<b>{step:,}</b> steps", row) for step, row in zip(grown.steps, grown.rows, strict=True)]
        title += rows_html(rows, w, h)
        title += '<p class="note">Each column is one seed and one class, 18 network calls without guidance.</p>'
    else:
        title += notice(f"No rows of {name} are kept here; train.py writes them, as {name}-growth.png, when it trains.")
    title += f"<h3>{name}: where it is hard</h3>"
    try:
        found = read_loss_by_time(CHECKPOINTS / f"{name}.safetensors")
    except ValueError as error:
        return title + notice(str(error))
    if found is None:
        how = f"`python -m diffusion_core diagnose checkpoints/{name}.safetensors`"
        return title + notice(f"The loss by t has not been measured for {name}; {how} does.")
    return title + by_time_html(found, style(list(logged()).index(name))[0])


# A run in the page ------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """A visitor's own run: what it has learned, its log, and what it drew. It goes on in place; Stop loses nothing."""

    seconds: float = 0.0  # that it is to take; 0: not begun
    model: Model | None = None
    log: list[dict] = field(default_factory=list)  # as train.py's, an entry a step
    rows: list[tuple[str, np.ndarray]] = field(default_factory=list)  # those that stay
    latest: tuple[str, np.ndarray] | None = None

    @property
    def spent(self) -> float:
        return self.log[-1]["seconds"] if self.log else 0.0

    def add(self, moment: Moment) -> None:
        self.log.append(moment._asdict() | {"images": moment.step * RECIPE.batch})

    def look(self, test: ImageSet) -> None:
        """Measure and draw with the averages as they are now."""
        entry = {key: self.log[-1][key] for key in ("step", "seconds", "images")}
        self.log.append(entry | {"val_loss": validation_loss(self.model.denoiser, test, CPU)})
        self.latest = f"<b>{short(self.spent)} s</b> step {entry['step']:,}", drawn(self.model, CALLS)
        if self.due:
            self.rows.append(self.latest)

    def moment(self, k: int) -> float:
        """When the k-th row is drawn that stays, in seconds: the later, the longer after the one before."""
        return (self.seconds or LENGTH) / 2 ** (KEPT - k)

    @property
    def due(self) -> bool:
        """Whether it is time for a row that stays."""
        return len(self.rows) < KEPT and self.spent >= self.moment(len(self.rows))

    def value(self, key: str) -> float:
        """The last that the log has of `key`."""
        return next((entry[key] for entry in reversed(self.log) if key in entry), float("nan"))

    def html(self, finished: bool = False) -> str:
        """The rows of samples, one line of numbers, the plots."""
        real = real_row()
        to_come = [(f"at {short(self.moment(k))} s", None) for k in range(KEPT + 1)]
        more = [self.latest] if self.latest and not any(self.latest is row for row in self.rows) else []
        yet = [] if finished else to_come[len(self.rows) : KEPT + 1 - len(more)]
        rows = [("<b>data</b>", real), *self.rows, *more, *yet]
        pictures = rows_html(rows, real.shape[1], real.shape[0])
        if not self.log:
            return pictures + notice("Press Train digits: a network starts from nothing, and draws as it learns.")
        plots = curves_html({"your run": self.log}, {"your run": style(0)}, "step", max(1, len(self.log) // 20))
        return f"{pictures}{self.line(finished)}{plots}{NOTE}"

    def line(self, finished: bool) -> str:
        about = self.summary(finished)
        bar = "" if finished else busy(self.spent / self.seconds) + '<span class="stop-word">Stopped at </span>'
        left = "" if finished else f'<span class="until"> · {max(0.0, self.seconds - self.spent):.0f} s left</span>'
        return (
            f'<p class="line">{bar}step {about["step"]:,} · {self.spent:.0f} of {self.seconds:g} s'
            f'<span class="dim">{left} · {about["images_per_second"]:.0f} images/s · training loss '
            f"{about['loss']:.3f} · validation loss {about['val_loss']:.4f}</span></p>"
        )

    def summary(self, finished: bool) -> dict:
        """What the API returns beside the page."""
        about = {key: self.value(key) for key in ("step", "seconds", "images", "loss", "val_loss")}
        rate = about["images"] / max(about["seconds"], 1e-9)
        about |= {"images_per_second": round(rate, 1), "finished": finished}
        if finished:
            about["samples"] = data_uri(enlarge(self.latest[1], 1), self.model.config)
        return about


def short(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 9.95 else f"{seconds:.0f}"


NOTE = (
    '<p class="note">Rows: one seed and one digit a column, by the average of the weights, 12 network calls. The '
    "validation loss is the mean squared error of that average's prediction on the 183 digits held out. Losses of "
    "different predictions and losses are not comparable as numbers; the samples are.</p>"
)


@lru_cache(maxsize=1)
def real_row() -> np.ndarray:
    """A training image of each digit, as a row of samples: uint8 [H, W, C]."""
    data = load_images(RECIPE.dataset)
    first = [int(np.argmax(data.labels == k)) for k in range(COUNT)]
    row = np.asarray(grid(to_tensor(data.images[first]), columns=COUNT))
    return row.reshape(*row.shape[:2], -1)


@plainly
def train_digits(seconds: float, lr: float, prediction: str, loss: str, schedule: str) -> Iterator[tuple]:
    """Train a small model of 8 x 8 digits from nothing for so many seconds (20 to 180), on the CPU.

    lr is the peak of the learning rate, which falls to 0 within the time; prediction is v, eps or x0; loss l2, l1 or
    huber; schedule vp_linear, vp_cosine or vp_quadratic. Yields the page's part as HTML and a summary with step,
    seconds, images, loss, val_loss and images_per_second; the last has ten samples as a PNG (a data URI).
    """
    recipe = replace(RECIPE, lr=lr, prediction=prediction, loss=loss, schedule=schedule)
    data, test = (load_images(recipe.dataset, split) for split in ("train", "test"))
    training, live = Training(recipe, data, CPU), Live(seconds)
    shown = paused = looked = -math.inf
    for moment in train_for(training, seconds):
        live.add(moment)
        live.model = training.model(minutes=round(moment.seconds / 60, 2), device="CPU")
        now = time.monotonic()
        if live.due or now - looked > LOOK:
            live.look(test)
            looked = time.monotonic()
        if now - shown > GAP:
            yield live.html(), live.summary(finished=False), live
            shown = paused = time.monotonic()
        elif now - paused > BREATH:
            yield gr.skip(), gr.skip(), gr.skip()
            paused = time.monotonic()
    live.look(test)
    yield live.html(finished=True), live.summary(finished=True), live


@plainly
def use(live: Live | None, former: str | None) -> tuple[str, gr.Tabs, str]:
    """Keep what was learned so far as this visitor's model, in the place of their former one, and go to Sample."""
    if live is None or live.model is None:
        raise ValueError("Nothing is trained yet; press Train digits first.")
    forget(former)
    name = adopt(live.model)
    return name, gr.Tabs(selected="sample"), used_html(name)


def used_html(name: str) -> str:
    return notice(f"It is “{name}” among the models of Sample, Compare and Interpolate, for you alone, for an hour.")


# The tab ----------------------------------------------------------------------------------------------------------


def build(tabs: gr.Tabs, own: gr.State, tab: gr.Tab) -> None:
    """Two rows: how the shipped models were trained, and a run in the page, whose model's name goes to `own`."""
    with gr.Row(elem_classes="work"):
        logged_runs()
    with gr.Row(elem_classes="work"):
        own_run(tabs, own, tab)


def logged_runs() -> None:
    """The row of the shipped models' logs; looked at closely is first one that kept what it drew."""
    names = list(logged())
    first = max(names, key=lambda name: growth_of(name).is_file(), default=None)
    with gr.Column(elem_classes="controls"):
        runs = gr.CheckboxGroup(names, value=names, label="Runs", elem_classes="chips", elem_id="logged-runs",
                                info="The models that come with the page.")  # fmt: skip
        axis = gr.Radio(
            [(label.capitalize(), key) for key, label in AXES.items()], value="step", label="Against",
            elem_classes="chips", elem_id="log-axis",
        )  # fmt: skip
        width = slider(
            1, 51, 9, step=2, label="Smoothing", elem_id="smoothing",
            info="Each point is the mean of so many neighbours; single batches are noisy.",
        )  # fmt: skip
        one = gr.Radio(names, value=first, label="Look closely at", elem_classes="chips", elem_id="closely",
                       info="What it drew on its way, and the loss by t.", visible=len(names) > 1)  # fmt: skip
    with gr.Column(elem_classes="stage"):
        history = gr.HTML(history_html(names, "step", 9), elem_id="training-history")
        closely = gr.HTML(closely_html(first), elem_id="training-closely")
    compared = schedules_html(CHECKPOINTS / "schedules.json")
    with gr.Column(elem_classes="stage second", visible=bool(compared)):
        gr.HTML(f"<h3>Schedules at the same compute</h3>{compared}", elem_id="training-schedules")

    gr.on([runs.change, axis.change, width.change], history_html, [runs, axis, width], history,
          trigger_mode="always_last", concurrency_limit=4, **QUIET)  # fmt: skip
    one.change(closely_html, one, closely, trigger_mode="always_last", **QUIET)


def recipe_controls() -> list:
    """How the digits are learned, in the order in which `train_digits` takes it."""
    seconds = slider(*LENGTHS, LENGTH, step=1, label="Train for, in seconds", elem_id="live-seconds")
    lr = slider(
        1e-4, 1e-2, RECIPE.lr, step=1e-4, label="Learning rate", elem_id="live-lr",
        info="Its peak; it falls to 0 within the time. Too low learns little, too high wanders.",
    )  # fmt: skip
    prediction = gr.Radio(
        [("v", "v"), ("noise ε", "eps"), ("image x0", "x0")], value=RECIPE.prediction,
        label="What the network predicts", elem_classes="chips", elem_id="live-prediction",
    )  # fmt: skip
    loss = gr.Radio(
        [("L2", "l2"), ("L1", "l1"), ("Huber", "huber")], value=RECIPE.loss, label="Loss",
        elem_classes="chips", elem_id="live-loss",
    )  # fmt: skip
    schedule = gr.Dropdown(
        [(SCHEDULE_NAMES[key], key) for key in ("vp_linear", "vp_cosine", "vp_quadratic")],
        value=RECIPE.schedule, label="Schedule", elem_id="live-schedule",
    )  # fmt: skip
    return [seconds, lr, prediction, loss, schedule]


def own_run(tabs: gr.Tabs, own: gr.State, tab: gr.Tab) -> None:
    """The row of a run in the page.

    The digits are read when the tab is first looked at: the page itself starts without scikit-learn.
    """
    with gr.Column(elem_classes="controls"):
        recipe = recipe_controls()
        go, stop = go_and_stop("Train digits", "train-digits", "stop-digits")
        take = gr.Button("Use it in the other tabs", elem_id="use-digits")
    with gr.Column(elem_classes="stage"):
        stage = gr.HTML(notice("The digits to learn from come when this tab is opened."), elem_id="live-stage")
        used = gr.HTML("", elem_id="live-used")
    about, live = gr.JSON(visible=False), gr.State(None, time_to_live=3600)

    tab.select(lambda live: gr.skip() if live else Live().html(), live, stage, **QUIET)
    turn = in_turn("live-stage", of="training")
    training = go.click(train_digits, recipe, [stage, about, live], api_name="train_digits", **turn)
    training.then(None, js=settles("live-stage"))
    stop.click(None, cancels=[training]).then(None, js=stops("live-stage"))
    take.click(use, [live, own], [own, tabs, used], **QUIET)
