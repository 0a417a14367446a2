"""Compare: two to four samplers race from the same noise, side by side, and network calls are what counts."""

import json
import time
from collections.abc import Iterator

import gradio as gr

from diffusion_core.checkpoint import Model
from diffusion_core.evaluate import Plan, measure
from diffusion_core.images import grid
from diffusion_core.samplers import SAMPLERS

from .evaluate import progresses
from .sample import PREVIEW_GAP, class_choices, spacing_choices
from .widgets.controls import QUIET, go_and_stop, plainly, seed_field, seed_of, slider
from .widgets.html import data_uri, notice
from .widgets.lanes import HALFWAY, WHOLE, N, halfway_html, race_html, results_html, rows_of, running_html, status_line
from .widgets.race import Lane, References, run
from .widgets.recipes import LIMITS, SHARED
from .widgets.runs import MODELS, SPACING_NAMES, Settings, judge_of, model_named, offered
from .widgets.turn import in_turn, settles, stops

OPENING = {
    "A": dict(sampler="dpmpp_2m", steps=12),
    "B": dict(sampler="ddim", steps=12),
    "C": dict(sampler="ddpm", steps=12),
    "D": dict(sampler="heun", steps=6),
}
CHOICES = {"sampler": "dpmpp_2m", "steps": 12, "guidance": 2.0, "eta": 0.0, "spacing": "lam"}  # what a lane can choose
STAGES = "compare-stage", "compare-results"
RACING = ["A", "B", "C"]  # at first
START = Settings("", count=8)  # what the lanes share at first
MOST = 16  # images a lane
REFERENCES = References()
OPENED: dict[str, dict[str, Lane]] = {}  # the opening race of each model, once somebody has looked at it

# Running ----------------------------------------------------------------------------------------------------------


def entrant(name: str, common: Settings, choice: dict) -> Settings:
    """A lane's settings: what it shares and what it chooses. Raises ValueError, naming the lane, for what cannot be."""
    if not isinstance(choice, dict):
        raise ValueError(f"Lane {name} must be a dictionary of settings such as {{'steps': 20}}, not {choice!r}.")
    choice = CHOICES | choice
    unknown = sorted(set(choice) - set(CHOICES))
    if unknown:
        raise ValueError(f"Lane {name} has no setting {unknown[0]!r}; it has {', '.join(CHOICES)}.")
    for key in ("steps", "guidance", "eta"):
        value, (low, high) = choice[key], LIMITS[key]
        if not isinstance(value, int if key == "steps" else int | float) or not low <= value <= high:
            raise ValueError(f"Lane {name}: {key} must lie between {low} and {high}, not {value}.")
    for key, known in (("sampler", SAMPLERS), ("spacing", SPACING_NAMES)):
        if choice[key] not in known:
            raise ValueError(f"Lane {name}: {key} must be one of {', '.join(known)}, not {choice[key]!r}.")
    return common._replace(**choice)


def entrants(model: str, cls: str, seed: int, count: int, choices: dict[str, dict]) -> dict[str, Lane]:
    """The lanes at their start, by name. Raises ValueError for what cannot be raced."""
    model_named(model)
    if not 2 <= len(choices) <= len(OPENING):
        raise ValueError(f"A race has 2 to {len(OPENING)} lanes, not {len(choices)}.")
    seed = seed_of(seed)
    if not 1 <= count <= MOST:
        raise ValueError(f"Images must lie between 1 and {MOST}, not {count}.")
    common = Settings(model, cls, seed=seed, count=int(count))
    return {name: Lane(entrant(name, common, choice)) for name, choice in choices.items()}


class Pace:
    """Says whether it is time to show something again: more often only slows a run down."""

    def __init__(self, gap: float):
        self.gap, self.last = gap, 0.0

    def due(self) -> bool:
        due = time.perf_counter() - self.last > self.gap
        if due:
            self.last = time.perf_counter()
        return due


def results(lanes: dict[str, Lane], demonstration: bool) -> tuple[str, list[dict]]:
    """The numbers of lanes that have arrived, for the eye and as rows."""
    rows = rows_of(lanes)
    return results_html(rows, lead=halfway_html(rows) if demonstration else ""), rows


def shown(lanes: dict[str, Lane], demonstration: bool = False) -> Iterator[tuple]:
    """A race on the page: stage, results and rows, after every step; the stage is left alone once all have arrived."""
    pace, same = Pace(PREVIEW_GAP), gr.skip()
    yield same, notice("The numbers stand here when all lanes have arrived."), []
    for _ in run(lanes):
        yield running_html(lanes) if pace.due() else same, same, same
    rows = rows_of(lanes)
    what = "Reference run of the ODE"
    yield race_html(lanes, demonstration), results_html(rows, status_line(what, 0)), rows
    for done, total in REFERENCES.find(lanes):
        status = status_line(f"{what}: step {done} of {total}, its check in half as many included", done / total)
        yield same, results_html(rows, status) if pace.due() else same, same
    yield same, *results(lanes, demonstration)


@plainly
def race(model: str, lanes: list[dict], cls: str = "all", seed: int = 7, count: int = 8) -> Iterator[dict]:
    """Race 2 to 4 samplers from the same noise; the one with the fewest network calls so far goes next.

    lanes is a list such as [{"sampler": "ddim", "steps": 20}, {"sampler": "heun", "steps": 10, "guidance": 2}]; a lane
    may choose sampler, steps, guidance, eta and spacing. Yields where each lane is, and last, finished, what each came
    to: steps, network calls, seconds, its distance to the ODE's end if it is deterministic, and its images as a PNG.
    """
    lanes = entrants(model, cls, seed, count, {chr(ord("A") + k): lane for k, lane in enumerate(lanes)})
    for _ in (step for part in (run(lanes), REFERENCES.find(lanes)) for step in part):
        frames = {name: lane.film.last for name, lane in lanes.items() if lane.film.last}
        steps, calls = ({name: getattr(f, key) for name, f in frames.items()} for key in ("i", "nfe"))
        yield {"finished": False, "steps": steps, "calls": calls}
    rows = rows_of(lanes)
    for r, lane in zip(rows, lanes.values(), strict=True):
        r["grid"] = data_uri(grid(lane.film.last.x), lane.settings._asdict())
    yield {"finished": True, "lanes": rows}


def chosen_lanes(names: list[str], fields: tuple) -> dict[str, dict]:
    """What the lanes' controls say: fields holds the five of A, then those of B, and so on."""
    size = len(CHOICES)
    by_lane = {name: fields[k * size : (k + 1) * size] for k, name in enumerate(OPENING)}
    return {name: dict(zip(CHOICES, by_lane[name], strict=True)) for name in OPENING if name in names}


@plainly
def raced(model: str, cls: str, seed: int, count: int, names: list[str], *fields) -> Iterator[tuple]:
    """The race that the controls describe."""
    yield from shown(entrants(model, cls, seed, count, chosen_lanes(names, fields)))


@plainly
def demonstrated(model: str, cls: str, seed: int, count: int, names: list[str], *fields) -> Iterator[tuple]:
    """The race that the controls describe, which `halves` has set, looked at after A's last step."""
    yield from shown(entrants(model, cls, seed, count, chosen_lanes(names, fields)), demonstration=True)


@plainly
def open_link(request: gr.Request) -> list:
    """The race that the page's address asks for: its tab, the time, and the controls as that race had them."""
    query = dict(request.query_params)
    if query.get("tab") != "compare" or "race" not in query:
        return [gr.skip()] * (3 + len(SHARED) + len(OPENING) * len(CHOICES))
    try:
        lanes = json.loads(query["race"])
        shared = {k: type(getattr(START, k))(query.get(k, getattr(START, k))) for k in SHARED}
    except ValueError as error:
        raise ValueError("This link is damaged: seed and count must be numbers, and the race JSON.") from error
    if not isinstance(lanes, dict) or not lanes.keys() <= OPENING.keys():
        raise ValueError(f"This link is damaged: a race has lanes among {', '.join(OPENING)}.")
    if shared["model"] not in MODELS:
        raise ValueError(f"There is no model {shared['model']!r} to link to; there is {', '.join(MODELS) or 'none'}.")
    race = {name: lane.settings for name, lane in entrants(**shared, choices=lanes).items()}
    model = MODELS[shared["model"]]
    if shared["cls"] not in class_choices(model):
        model.label(shared["cls"])
    fields = [getattr(race[name], key) if name in race else gr.skip() for name in OPENING for key in CHOICES]
    about = [shared["model"], gr.Radio(class_choices(model), value=shared["cls"]), shared["seed"], shared["count"]]
    return [gr.Tabs(selected="compare"), time.time(), *about, list(race), *fields]


def raced_again(again: float, *inputs) -> Iterator[tuple]:
    """`raced`, if a link has just set the controls."""
    if again:
        yield from raced(*inputs)
    else:
        yield [gr.skip()] * 3


@plainly
def opened(model: str, rows: list[dict], again: float) -> Iterator[tuple]:
    """What the tab shows when it is first looked at: a race between the settings that its controls open with.

    Nothing, where a link has set them: that race is on its way.
    """
    if rows or again or model is None:
        yield [gr.skip()] * 3
    elif model in OPENED:
        yield race_html(OPENED[model]), *results(OPENED[model], demonstration=False)
    else:
        lanes = {name: OPENING[name] for name in RACING}
        cls = START.cls if model_named(model).classes else "none"
        lanes = entrants(model, cls, START.seed, START.count, lanes)
        yield from shown(lanes)
        if model in MODELS:
            OPENED[model] = lanes


def halves() -> list:
    """The controls for the demonstration: A and B alone, alike but for their steps."""
    lanes = [CHOICES | dict(steps=steps) for steps in (HALFWAY, WHOLE)]
    return [["A", "B"], *[lane[key] for lane in lanes for key in CHOICES]]


@plainly
def measured(rows: list[dict]) -> Iterator[tuple[str, list[dict]]]:
    """The Fréchet distance of each lane over N images, in rows that the table then shows."""
    yield gr.skip(), gr.skip()
    pace = Pace(0.2)
    for k, r in enumerate(rows):
        s = Settings(**r["settings"])
        model = model_named(s.model)
        judge = judge_of(model)
        if judge is None:
            raise ValueError(
                f"No classifier here judges {s.model}: one of {model.config.get('dataset', s.model)} is needed."
            )
        plan = Plan(s.sampler, s.steps, 0 if s.cls == "none" else s.guidance, N, "test", s.seed, s.spacing, s.eta)
        for progress in progresses(s.model, plan):
            text = f"Lane {r['lane']}: {progress.done} of {N} images, step {progress.step}"
            status = status_line(text, (k + progress.done / N) / len(rows))
            yield results_html(rows, status) if pace.due() else gr.skip(), gr.skip()
        rows = [*rows[:k], r | {"frechet": measure(judge, model, plan, progress)}, *rows[k + 1 :]]
        yield results_html(rows), rows


# The tab ----------------------------------------------------------------------------------------------------------


def shared_controls(models: dict[str, Model]) -> list:
    """What all lanes share: model, class, seed, number of images, and which lanes there are."""
    names = list(models)
    first = models[names[0]] if names else None
    choices = class_choices(first)
    model = gr.Dropdown(names, value=names[0] if names else None, label="Model", visible=len(names) > 1)
    cls = gr.Radio(choices, value=START.cls if START.cls in choices else "none", label="Class", elem_classes="chips",
                   elem_id="compare-class")  # fmt: skip
    chosen = gr.CheckboxGroup(
        list(OPENING), value=RACING, label="Lanes", elem_classes="chips", elem_id="lanes",
        info="Two to four, all from the same noise. The lane with the fewest network calls so far goes next.",
    )  # fmt: skip
    seed = seed_field(START.seed, elem_id="compare-seed")
    count = slider(1, MOST, START.count, step=1, label="Images", elem_id="compare-count")
    return [model, cls, seed, count, chosen]


def lane_controls(name: str, model: Model | None) -> tuple[gr.Column, list]:
    """A lane's card and its five controls, in the order of CHOICES."""
    start = CHOICES | OPENING[name]
    samplers = [(s.label, key) for key, s in SAMPLERS.items()]
    with gr.Column(elem_classes="lane", min_width=180, visible=name in RACING) as card:
        sampler = gr.Dropdown(
            samplers, value=start["sampler"], label=f"{name}: sampler", elem_id=f"lane-{name}-sampler"
        )
        steps = slider(*LIMITS["steps"], start["steps"], step=1, label="Steps", elem_id=f"lane-{name}-steps")
        guidance = slider(*LIMITS["guidance"], start["guidance"], step=0.1, label="Guidance",
                          elem_id=f"lane-{name}-guidance")  # fmt: skip
        with gr.Accordion("More", open=False):
            eta = slider(*LIMITS["eta"], start["eta"], step=0.05, label="eta (DDIM only)", elem_id=f"lane-{name}-eta")
            spacing = gr.Dropdown(spacing_choices(model), value=start["spacing"], label="Times of the steps")
    return card, [sampler, steps, guidance, eta, spacing]


@plainly
def choices_of(name: str) -> list:
    """Updates of the classes and of every lane's spacings: those of the model."""
    model = model_named(name)
    spacing = gr.Dropdown(spacing_choices(model), value=CHOICES["spacing"])
    return [gr.Radio(class_choices(model), value=START.cls if model.classes else "none"), *[spacing] * len(OPENING)]


def build(models: dict[str, Model], page: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab, own: gr.State) -> None:
    """The tab: what all lanes share on the left, the lanes' settings and the race on the right, its numbers below.

    The opening race is run when the tab is first looked at: the page itself starts without waiting for it.
    """
    OPENED.clear()
    REFERENCES.kept.clear()
    empty = "The first race starts when this tab is opened."
    if not models:
        empty = "There is no model in checkpoints/ yet: `python train.py mnist` makes one."
    with gr.Row(elem_classes="work compare"):
        with gr.Column(elem_classes="controls"):
            shared = shared_controls(models)
            go, stop = go_and_stop("Race", "race", "compare-stop")
            halfway = gr.Button(f"Step {HALFWAY} of {WHOLE} is not {HALFWAY} steps", elem_id="halfway")
            measuring = gr.Button(
                f"Measure over {N} images", elem_id="measure", visible=any(judge_of(m) for m in models.values())
            )
        with gr.Column(elem_classes="controls entrants"), gr.Row():
            cards, groups = zip(
                *(lane_controls(name, next(iter(models.values()), None)) for name in OPENING), strict=True
            )
        with gr.Column(elem_classes="stage"):
            stage = gr.HTML(notice(empty), elem_id="compare-stage")
        with gr.Column(elem_classes="stage second"):
            numbers = gr.HTML(notice("The numbers stand here when all lanes have arrived."), elem_id="compare-results")
    rows, again = gr.State([], time_to_live=3600), gr.State(0)

    model, *_, chosen = shared
    fields = [control for group in groups for control in group]
    inputs, outputs = [*shared, *fields], [stage, numbers, rows]
    runs = in_turn(*STAGES) | QUIET
    link = page.load(open_link, None, [tabs, again, *shared, *fields], **QUIET)
    link.failure(lambda: gr.Tabs(selected="compare"), None, tabs, **QUIET)  # which says why
    linked = link.success(raced_again, [again, *inputs], outputs, **runs)
    opening = tab.select(opened, [model, rows, again], outputs, **runs)
    measurement = measuring.click(measured, rows, [numbers, rows], **runs)
    # A new race ends what runs. The listener that cancels must come first: a later one would wait for the run's end.
    gr.on([go.click, halfway.click], None, cancels=[opening, linked, measurement])
    pressed = go.click(raced, inputs, outputs, **runs)
    halfway.click(None, cancels=[pressed])
    preset = halfway.click(halves, None, [chosen, *fields[: 2 * len(CHOICES)]], **QUIET)
    demonstration = preset.then(demonstrated, inputs, outputs, **runs)
    events = [opening, linked, preset, demonstration, pressed, measurement]
    for event in events:
        event.then(None, js=settles(*STAGES))
    stop.click(None, cancels=events).then(None, js=stops(*STAGES))
    chosen.change(lambda names: [gr.Column(visible=name in names) for name in OPENING], chosen, list(cards), **QUIET)
    dependent = [shared[1], *[group[-1] for group in groups]]
    model.input(choices_of, model, dependent, **QUIET)
    own.change(lambda name: [offered(name, MODELS), *choices_of(name)], own, [model, *dependent], **QUIET)
    gr.api(race, api_name="race", concurrency_id="model", concurrency_limit=1)
