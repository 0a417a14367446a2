"""Evaluate: how good a model's samples are, with everything that a number needs beside it."""

import math
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from PIL import Image

from diffusion_core.checkpoint import Model
from diffusion_core.evaluate import APPROACHES, Plan, Progress, draw, measure, noise_images, read_results
from diffusion_core.samplers import SAMPLERS

from .widgets.controls import QUIET, go_and_stop, gpu, plainly, seed_field, seed_of, slider
from .widgets.html import data_uri, notice
from .widgets.results import COLUMNS, csv_link, result_html, row, running_html, tradeoff_html
from .widgets.runs import MODELS, judge_of
from .widgets.turn import in_turn, stops

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
NAMES = {"a": "(a) SDE, no class", "b": "(b) SDE, guided", "c": "(c) ODE, guided", "own": "own choice"}
WORDS = ("model", "sampler", "against", "features", "origin")  # columns that are not numbers
COMPARED, WIDEST = (
    2,
    860,
)  # enlargement of the three approaches' images, and the page pixels that a row of them may take
BATCH = 50  # samples between two numbers: a few seconds on a laptop


def judged() -> dict[str, Model]:
    """The models whose images a classifier here can judge."""
    return {name: model for name, model in MODELS.items() if judge_of(model)}


# What is shown -----------------------------------------------------------------------------------------------------


def shipped(name: str) -> list[dict]:
    """The results that lie beside a shipped checkpoint."""
    return read_results(CHECKPOINTS / f"{name}.safetensors")


def comparison_html(name: str) -> str:
    """(a), (b) and (c) from the same noise, two of each class; as many classes a row as fit a laptop's page."""
    path, classes = CHECKPOINTS / f"{name}-comparison.png", MODELS[name].classes
    if not path.is_file():
        return ""
    side = 2 * (MODELS[name].shape[-1] + 1)  # of the two tiles of a class, and the gaps after them
    rows = math.ceil(len(classes) * side * COMPARED / WIDEST)
    each = math.ceil(len(classes) / rows)
    with Image.open(path) as whole:
        parts = [compared_html(whole, classes, side, slice(k, k + each)) for k in range(0, len(classes), each)]
    how = "; ".join(f"({key}) {approach(plan)}" for key, plan in APPROACHES.items())
    return (
        f"{''.join(parts)}"
        f'<p class="note">{how}. Column by column the same noise. (a) is told no class: what stands above its column '
        "is what (b) and (c) were asked for.</p>"
    )


def compared_html(whole: Image.Image, classes: list[str], side: int, shown: slice) -> str:
    """The columns of some of the classes."""
    classes = classes[shown]
    part = whole.crop((shown.start * side, 0, (shown.start + len(classes)) * side - 1, whole.height))
    heads = "".join(f"<span>{c}</span>" for c in classes)
    names = "".join(f"<span>{NAMES[key]}</span>" for key in APPROACHES)
    alt = f"Two samples of {', '.join(classes)} by each approach, from the same noise"
    return (
        f'<div class="comparison" style="--columns:{len(classes)};--w:{part.width};--h:{part.height};--s:{COMPARED};'
        f'--s-small:{COMPARED}"><div class="names">{names}</div>'
        f'<div class="scroll"><div class="classes">{heads}</div>'
        f'<img class="pixels" alt="{alt}" src="{data_uri(part)}"></div></div>'
    )


def approach(plan: Plan) -> str:
    label = SAMPLERS[plan.sampler].label
    return f"{label}, {plan.steps} steps" + (f", guidance {plan.guidance:g}" if plan.guidance else "")


# Running ----------------------------------------------------------------------------------------------------------


@gpu(duration=120)
def progresses(name: str, plan: Plan) -> Iterator[Progress]:
    yield from draw(MODELS[name], judge_of(MODELS[name]), plan, batch=BATCH)


@plainly
def evaluate(
    model: str, sampler: str, steps: int, guidance: float, n: int, split: str, seed: int, runs: list[dict]
) -> Iterator[tuple]:
    """Draw n samples of every class in turn, judge them, and report each number beside what it is of.

    split is the reference, "train" or "test"; guidance 0 is unconditional. Streams the state of things as HTML and a
    summary; the last summary is the whole result: plan, distance with a 95 % interval, precision, recall, class
    accuracy, the same of real images (floor) and of noise (ceiling). The distance is not an FID: see "measure".
    """
    if model not in judged():
        names = ", ".join(judged()) or "none: train.py makes models and classifiers"
        raise ValueError(f"There is no model {model!r} with a classifier to judge it; there is {names}.")
    plan = Plan(sampler, steps, guidance, int(n), split, seed_of(seed))
    owner, judge = MODELS[model], judge_of(MODELS[model])
    ceiling = noise_images(judge, split, 500, owner.shape)
    history, result = [], None
    for progress in progresses(model, plan):
        update = [gr.skip()] * 5
        if progress.step == 0:
            last = progress.done == plan.n
            result = measure(judge, owner, plan, progress, draws=100 if last else 20, ceiling=ceiling)
            history.append(result)
            kept = [*runs, {"model": model, "result": result}]
            update = [*tables(model, kept), kept, result]
            if last:
                yield result_html(model, result, progress.images), *update
                return
        yield running_html(model, plan, progress, history), *update


def settings_of(approach: str) -> list:
    """Sampler, steps and guidance of an approach; the visitor's own stay as they are."""
    plan = APPROACHES.get(approach)
    return [plan.sampler, plan.steps, plan.guidance] if plan else [gr.skip()] * 3


def tables(model: str, runs: list[dict]) -> tuple[list[list], str, str]:
    """The table's cells, the link to them as CSV, and the plots: results of this visit, then those shipped.

    Of these the model's own come first.
    """
    rows = [row(r["model"], r["result"], "this visit") for r in reversed(runs)]
    names = sorted(judged(), key=lambda name: name != model)
    rows += [row(name, result, "shipped") for name in names for result in shipped(name)]
    mine = [r["result"] for r in runs if r["model"] == model]
    return [list(r.values()) for r in rows], csv_link(rows), tradeoff_html(model, [*shipped(model), *mine])


def first_result(name: str | None) -> str:
    """What the tab opens with: the best of the shipped results of the first model."""
    if name is None:
        return notice("There is no model with a classifier to judge it: `python train.py mnist-classifier` makes one.")
    results = [r for r in shipped(name) if r["plan"]["sampler"] == "dpmpp_2m"] or shipped(name)
    if not results:
        return notice("Press Evaluate: there is no shipped result of this model yet.")
    return result_html(name, min(results, key=lambda r: r["distance"]), None)


def plan_controls(names: list[str]) -> list:
    """What a run depends on, in the order in which `evaluate` takes it; the approach sets some of it."""
    first, start = names[0] if names else None, Plan()
    model = gr.Dropdown(names, value=first, label="Model", elem_id="evaluate-model", visible=len(names) > 1)
    by = gr.Radio(
        [(label, key) for key, label in NAMES.items()], value="own", label="Approach", elem_classes="chips",
        elem_id="approach", info="Score-based SDE, with guidance, and its ODE: each sets the controls below.",
    )  # fmt: skip
    sampler = gr.Dropdown(
        [(s.label, k) for k, s in SAMPLERS.items()], value=start.sampler, label="Sampler", elem_id="evaluate-sampler"
    )
    steps = slider(1, 1000, start.steps, step=1, label="Steps", info="Time grows with them.",
                   elem_id="evaluate-steps")  # fmt: skip
    guidance = slider(0, 10, 1.5, step=0.1, label="Guidance", info="0 is unconditional, 1 as trained.",
                      elem_id="evaluate-guidance")  # fmt: skip
    n = slider(50, 10_000, 200, step=50, label="n, how many samples", elem_id="evaluate-n",
               info="The distance falls with n by its bias: compare equal n only.")  # fmt: skip
    split = gr.Radio(
        [("test images", "test"), ("training images", "train")], value=start.split, label="Compare with",
        elem_classes="chips",
    )  # fmt: skip
    seed = seed_field(start.seed, "Seed of the first", elem_id="evaluate-seed")

    by.input(settings_of, by, [sampler, steps, guidance], **QUIET)
    gr.on([sampler.input, steps.input, guidance.input], lambda: "own", None, by, **QUIET)
    return [model, sampler, steps, guidance, n, split, seed]


def build() -> None:
    """The tab's controls on the left, the result on the right, and all runs below."""
    names = list(judged())
    first = names[0] if names else None
    cells, link, plots = tables(first, []) if first else ([], "", "")
    compared = comparison_html(first) if first else ""
    with gr.Row(elem_classes="work"):
        with gr.Column(elem_classes="controls"):
            plan = plan_controls(names)
            go, stop = go_and_stop("Evaluate", "evaluate", "evaluate-stop")
        with gr.Column(elem_classes="stage"):
            stage = gr.HTML(first_result(first), elem_id="evaluate-stage")
        with gr.Column(elem_classes="stage second"):
            tradeoff = gr.HTML(plots)
            table = gr.Dataframe(
                cells, headers=list(COLUMNS.values()), interactive=False, label="All runs", elem_id="evaluate-table",
                datatype=["str" if key in WORDS else "number" for key in COLUMNS], max_height=420,
            )  # fmt: skip
            link = gr.HTML(link)
            gr.Markdown("### The three approaches, from the same noise", visible=bool(compared))
            pictures = gr.HTML(compared)
    runs, about = gr.State([], time_to_live=3600), gr.JSON(visible=False)

    outputs = [stage, table, link, tradeoff, runs, about]
    pressed = go.click(evaluate, [*plan, runs], outputs, api_name="evaluate", **in_turn("evaluate-stage"))
    stop.click(None, cancels=[pressed]).then(None, js=stops("evaluate-stage"))
    model = plan[0]
    model.input(
        lambda name, kept: (first_result(name), *tables(name, kept), comparison_html(name)),
        [model, runs], [stage, table, link, tradeoff, pictures], **QUIET,
    )  # fmt: skip
