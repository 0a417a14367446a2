"""Score: learn the score of data in the plane, hold it against the exact one, and let particles follow it."""

import json
import time
from collections.abc import Iterator

import gradio as gr

from diffusion_core import fields
from diffusion_core.checkpoint import Model
from diffusion_core.denoisers import Denoiser
from diffusion_core.fields import METHODS, OBJECTIVES, SCHEDULE
from diffusion_core.plane import EXTENT, PRESETS, PlaneData, data_of

from .widgets.controls import QUIET, go_and_stop, plainly, seed_field, seed_of, slider
from .widgets.html import figure, notice
from .widgets.plane import square
from .widgets.scene import ADD, Learned, Scene, moving_html, named, particles_html, rivals_html
from .widgets.turn import in_turn, stops

GAP = 0.5  # seconds between two pictures of a run
RACE = 5.0  # seconds of CPU time for each objective in a comparison
BREATH = 0.1  # seconds between two moments at which Stop can act: a yield costs as much as several steps
SHIPPED: dict[str, Model] = {}  # a field for each preset, filled once, when the app starts


def shipped(name: str) -> Learned | None:
    """The field that comes with the page for a preset."""
    if name not in SHIPPED:
        return None
    about, D = SHIPPED[name].config, SHIPPED[name].denoiser
    return Learned(
        name,
        "",
        about["objective"],
        None,
        D,
        about["compare_sigma"],
        about["loss"],
        about["errors"],
        steps=about["steps"],
        shipped=True,
    )


def known(learned: Learned | None, name: str, points: str) -> Learned | None:
    """The field to show of this data: this visitor's, else the shipped one, else none."""
    points = points if name == "own" else ""
    return learned if learned and (learned.data, learned.points) == (name, points) else shipped(name)


def parsed(points: str) -> list:
    """The points as they stand in their box. Raises ValueError where they cannot be read."""
    try:
        placed = json.loads(points or "[]")
    except json.JSONDecodeError:
        placed = None
    if not isinstance(placed, list):
        raise ValueError(f"Points must be written as [[x, y], [x, y]], not {points[:40]!r}.")
    return placed


def named_data(name: str, points: str) -> PlaneData:
    """A preset, or the viewer's own points. Raises ValueError with what is wrong with them."""
    if name != "own":
        return data_of(name)
    placed = parsed(points)
    if not placed:
        raise ValueError("Your own data needs at least one point; click into the left picture.")
    return data_of(name, placed)


def lacking(name: str, points: str) -> str:
    """What is wrong with the data, in a sentence; empty where it can be shown."""
    try:
        named_data(name, points)
    except ValueError as error:
        return str(error)
    return ""


# Handlers ---------------------------------------------------------------------------------------------------------


@plainly
def look(learned: Learned | None, data: str, points: str, sigma: float) -> str:
    """The data, the exact field and, if it knows this level, the learned one."""
    return first_sight(known(learned, data, points), data, points, sigma)


def first_sight(learned: Learned | None, data: str, points: str, sigma: float) -> str:
    if why := lacking(data, points):  # said in place, for points may just be being written
        blank = square("", EXTENT, "An empty plane", kind="clickable")
        return f'<div class="squares">{figure(f"<b>Data</b>{ADD}", blank)}</div>{notice(why)}'
    return Scene(data, named_data(data, points), sigma).html(learned)


def shipped_rivals(name: str) -> str:
    """How the objectives compare on a preset, as measured when its field was made; nothing where none is shipped."""
    if name not in SHIPPED:
        return ""
    about = SHIPPED[name].config
    label = PRESETS[name]().label
    return rivals_html(about["rivals"], about["compare_sigma"], about["compare_seconds"], label, "as shipped")


def first_run(name: str) -> str:
    """What the tab opens with: the shipped field followed for a while, or the exact one if there is none."""
    which = "learned" if name in SHIPPED else "exact"
    *_, (page, _) = sample_score(None, name, "", which, OPENING, 1.0, 200, 500, 0.3, 0)
    return page


@plainly
def train_score(
    data: str,
    points: str,
    objective: str,
    levels: str,
    sigma: float,
    seconds: float,
    lr: float,
    batch: int,
    projections: int,
    seed: int,
) -> Iterator[tuple]:
    """Train a score network on data in the plane, showing the field and the loss as it goes.

    data is a preset's name or "own", with points as JSON [[x, y], ...]; objective one of explicit, sliced, sliced_vr,
    denoising; levels "all" (conditional on noise) or "one" (sigma only). Yields the page's part as HTML and a summary
    with steps, loss, and relative error (density-weighted, and at the data's edge); /sample_score uses what it learned.
    """
    scene = Scene(data, named_data(data, points), sigma)
    only = None if levels == "all" else sigma
    run = fields.train(
        scene.data, objective, sigma=only, lr=lr, batch=batch, projections=projections, seed=seed_of(seed)
    )
    learned, shown, paused, began = None, -GAP, -BREATH, 0.0
    for progress in run:
        if learned is None:  # from the first step on: until then torch may have loaded parts of itself
            learned = Learned(data, points if data == "own" else "", objective, only, progress.field, sigma)
            began = time.perf_counter()
        spent = time.perf_counter() - began
        learned.losses.append(progress.loss)
        learned.steps, learned.seconds = progress.step, spent
        if spent >= seconds:
            break
        if spent - shown > GAP:
            learned.errors.append((progress.step, fields.errors(progress.field, scene.data, sigma).relative))
            yield scene.html(learned, seconds), summary(scene, learned, finished=False), learned
            shown = paused = time.perf_counter() - began
        elif spent - paused > BREATH:
            yield gr.skip(), gr.skip(), gr.skip()
            paused = time.perf_counter() - began
    learned.errors.append((learned.steps, fields.errors(learned.field, scene.data, sigma).relative))
    yield scene.html(learned), summary(scene, learned, finished=True), learned


def summary(scene: Scene, learned: Learned, finished: bool) -> dict:
    """What the API returns beside the picture."""
    about = {"steps": learned.steps, "loss": fields.smoothed(learned.losses)[-1][1], "sigma": scene.sigma}
    about |= fields.errors(learned.field, scene.data, scene.sigma)._asdict()
    return about | {"seconds": round(learned.seconds, 3), "finished": finished}


@plainly
def compare_objectives(data: str, points: str, sigma: float, lr: float, batch: int, projections: int) -> Iterator[str]:
    """Train with each objective for the same time and show how far it came."""
    scene, found, shown, paused = Scene(data, named_data(data, points), sigma), [], 0.0, 0.0
    began = time.perf_counter()
    for rival in fields.compare(scene.data, sigma, RACE, lr=lr, batch=batch, projections=projections):
        found += [rival._asdict()] if rival else []
        now = time.perf_counter()
        if rival or now - shown > GAP:
            where = "measured here and now" + f", {len(found)} of {len(OBJECTIVES)} done" * (
                len(found) < len(OBJECTIVES)
            )
            yield rivals_html(found, sigma, RACE, scene.data.label, f"{where}, {now - began:.0f} s")
            shown = paused = time.perf_counter()
        elif now - paused > BREATH:
            yield gr.skip()
            paused = now


@plainly
def sample_score(
    learned: Learned | None,
    data: str,
    points: str,
    field: str,
    methods: list[str],
    sigma: float,
    calls: int,
    count: int,
    share: float,
    seed: int,
) -> Iterator[tuple[str, dict]]:
    """Move particles from one start to the data, by each of the methods.

    methods are some of langevin, annealed, reverse_sde, ode, predictor_corrector; field is "learned" (what
    /train_score learned, else the shipped one) or "exact". Returns the page's part as HTML, and for each method the
    mode weights beside the true ones, the energy distance to the data, the network calls and the seconds.
    """
    if not methods:
        raise ValueError("Choose at least one way to sample.")
    mine = known(learned, data, points)
    level = mine.sigma if field == "learned" and mine and mine.sigma else sigma
    scene = Scene(data, named_data(data, points), level)
    D, whose = chosen(scene.data, mine, field, methods)
    seed, calls, count = seed_of(seed), int(calls), int(count)
    x = fields.start(scene.data, count, seed)
    step = fields.langevin_step(scene.data, level, share)
    ways, seconds = {method: [] for method in methods}, {}
    for k, method in enumerate(methods):
        paused = 0.0
        began = time.perf_counter()
        for moment in fields.travel(method, D, x, calls, sigma=level, step=step, share=share, seed=seed):
            ways[method].append(moment)
            now = time.perf_counter()
            if now - paused > BREATH:
                yield moving_html(scene, ways, method, (k + moment.calls / calls) / len(methods)), gr.skip()
                paused = time.perf_counter()
                began += paused - now  # what is shown is of the sampling, not of the page
        seconds[method] = time.perf_counter() - began
    about = {"true_weights": scene.data.true_weights().tolist(), "particles": count, "field": whose}
    for method, moments in ways.items():
        about[method] = fields.outcome(scene.data, moments[-1])._asdict()
        about[method] |= {"calls": moments[-1].calls, "seconds": round(seconds[method], 3)}
    yield particles_html(scene, ways, seconds, whose, count), about


def changed(learned: Learned | None, data: str, points: str, which: str, *options) -> Iterator[str]:
    """After a change of data: its particles at once, by the exact score where none is learned yet."""
    if why := lacking(data, points):
        yield notice(why)
        return
    for page, _ in sample_score(learned, data, points, which if known(learned, data, points) else "exact", *options):
        yield page


def chosen(data: PlaneData, mine: Learned | None, which: str, methods: list[str]) -> tuple[Denoiser, str]:
    """The field to follow, and what it is called. Raises ValueError if it cannot lead these methods."""
    if which == "exact":
        return fields.exact_field(data), "the exact score"
    if mine is None:
        raise ValueError("Nothing is learned of this data yet; press Train, or choose the exact score.")
    if mine.sigma is not None and set(methods) != {"langevin"}:
        raise ValueError(
            f"This field knows {named(mine.sigma)} only, enough for Langevin at one level; train on all noise levels "
            "for the others, or choose the exact score."
        )
    whose = "the shipped field" if mine.shipped else f"the field learned in {mine.steps:,} steps"
    return mine.field, f"{whose} ({OBJECTIVES[mine.objective].lower()} score matching, {named(mine.sigma)})"


def add_point(data: str, points: str, event: gr.EventData) -> tuple:
    """A click into the picture of the data: from then on the data is the viewer's own."""
    placed = parsed(points) if data == "own" else []
    return own_points([*placed, [round(v, 1) + 0.0 for v in (event.x, event.y)]])  # + 0.0: no minus zero


def own_points(placed: list) -> tuple:
    """The data set to the viewer's own points, and their box."""
    return "own", json.dumps(placed), gr.Column(visible=True)


def warm_up() -> None:
    """Take one step of training: the first of a process loads parts of torch, which takes seconds."""
    next(fields.train(data_of(next(iter(PRESETS))), "sliced_vr"))


# The tab ----------------------------------------------------------------------------------------------------------

CLICKED = f"""
element.addEventListener('click', (event) => {{
  const box = event.target.closest('svg.clickable')?.querySelector('rect.ground').getBoundingClientRect();
  if (!box) return;
  const x = 2 * (event.clientX - box.left) / box.width - 1, y = 1 - 2 * (event.clientY - box.top) / box.height;
  if (Math.max(Math.abs(x), Math.abs(y)) <= 1) trigger('click', {{ x: {EXTENT} * x, y: {EXTENT} * y }});
}});
"""
# What is below the particles leaves while they move; their box keeps its height, so that nothing jumps.
KEEP_HEIGHT = """
  const box = document.querySelector('#score-particles');
  box.style.setProperty('--was', `${box.offsetHeight}px`);
"""
OPENING = ["langevin", "annealed"]  # the two ways whose difference is the lesson


def build(shipped_fields: dict[str, Model]) -> None:
    """Two rows: learning a field, and following it. It opens with a shipped field, and particles that follow it."""
    SHIPPED.clear()
    SHIPPED.update(shipped_fields)
    start = next((name for name in PRESETS if name in SHIPPED), next(iter(PRESETS)))
    about = gr.JSON(visible=False)
    with gr.Row(elem_classes="work"):
        learned, data, points, sigma = learning(start, about)
    with gr.Row(elem_classes="work"):
        following(start, learned, data, points, sigma, about)


def learning(start: str, about: gr.JSON) -> tuple:
    """The row in which a field is learned. Returns what the other row needs: the field, data, points, noise level."""
    learned = gr.State(None, time_to_live=3600)
    with gr.Column(elem_classes="controls"):
        data, mine, points, undo, clear = data_controls(start)
        sigma = level_control()
        objective, levels, seconds, lr, batch, projections, seed = recipe_controls()
        go, stop = go_and_stop("Train", "train-score", "stop-score")
        race = gr.Button(f"Compare the objectives ({RACE * len(OBJECTIVES):.0f} s)", elem_id="compare-objectives")
    with gr.Column(elem_classes="stage"):
        page = first_sight(known(None, start, ""), start, "", 1.0)
        stage = gr.HTML(page, elem_id="score-stage", js_on_load=CLICKED)
        rivals = gr.HTML(shipped_rivals(start), elem_id="score-rivals")

    recipe = [data, points, objective, levels, sigma, seconds, lr, batch, projections, seed]
    outputs = [stage, about, learned]
    training = go.click(train_score, recipe, outputs, api_name="train_score", **in_turn("score-stage"))
    compared = [data, points, sigma, lr, batch, projections]
    racing = race.click(compare_objectives, compared, rivals, api_visibility="private", **in_turn("score-rivals"))
    seen = dict(fn=look, inputs=[learned, data, points, sigma], outputs=stage, **QUIET)
    stop.click(None, cancels=[training, racing]).then(**seen)
    gr.on([sigma.change, data.change, points.change], **seen, trigger_mode="always_last")
    data.change(shipped_rivals, data, rivals, **QUIET)
    data.input(lambda name: gr.Column(visible=name == "own"), data, mine, **QUIET)
    written = [data, points, mine]
    undo.click(lambda text: own_points(parsed(text)[:-1]), points, written, **QUIET)
    clear.click(lambda: own_points([]), None, written, **QUIET)
    stage.click(add_point, [data, points], written, **QUIET)
    return learned, data, points, sigma


def data_controls(start: str) -> tuple:
    """The data, and the viewer's own points: their box with its buttons is seen for these alone."""
    data = gr.Dropdown(
        [*((make().label, name) for name, make in PRESETS.items()), ("Your own points", "own")],
        value=start, label="Data", elem_id="score-data",
    )  # fmt: skip
    with gr.Column(visible=False) as mine:
        points = gr.Textbox(
            "[]", label="Points", info="Click into the picture, or write them.", lines=2, elem_id="own-points"
        )
        with gr.Row(elem_classes="buttons"):
            undo = gr.Button("Undo", min_width=80, elem_id="undo-point")
            clear = gr.Button("Clear", min_width=80, elem_id="clear-points")
    return data, mine, points, undo, clear


def level_control() -> gr.Slider:
    """The noise level, with a button for each of three that look different."""
    sigma = slider(
        SCHEDULE.sigma_min, SCHEDULE.sigma_max, 1.0, step=0.1, label="Noise level σ", elem_id="score-sigma",
        info="More noise joins the modes and smooths the score.",
    )  # fmt: skip
    with gr.Row(elem_classes="quick"):
        for value in (1, 3, 7):
            button = gr.Button(f"{value}", min_width=50, elem_id=f"sigma-{value}")
            button.click(lambda value=value: value, None, sigma, **QUIET)
    return sigma


def recipe_controls() -> tuple:
    """How the score is learned, what one rarely changes folded away."""
    objective = gr.Dropdown(
        [(label, name) for name, label in OBJECTIVES.items()], value="sliced_vr", label="Score matching",
        elem_id="objective", info="Four ways to fit a score without knowing it.",
    )  # fmt: skip
    levels = gr.Radio(
        [("This level", "one"), ("All levels", "all")], value="all", label="Train at", elem_classes="chips",
        elem_id="score-levels", info="All: one network that is told the noise level.",
    )  # fmt: skip
    seconds = slider(1, 120, 20, step=1, label="Train for, in seconds", elem_id="score-seconds")
    with gr.Accordion("More", open=False):
        lr = slider(1e-4, 1e-2, 1e-3, step=1e-4, label="Learning rate", elem_id="score-lr")
        batch = slider(16, 512, 128, step=1, label="Batch", elem_id="score-batch")
        projections = slider(
            1, 8, 1, step=1, label="Projections", elem_id="projections", info="Directions a point (sliced)."
        )
        seed = gr.Number(0, label="Seed", elem_id="score-seed")
    return objective, levels, seconds, lr, batch, projections, seed


def following(
    start: str, learned: gr.State, data: gr.Dropdown, points: gr.Textbox, sigma: gr.Slider, about: gr.JSON
) -> None:
    """The row in which particles follow a field."""
    with gr.Column(elem_classes="controls"):
        which, methods, calls, count, share, seed = way_controls()
        run, halt = go_and_stop("Run", "run-score", "halt-score")
    with gr.Column(elem_classes="stage"):
        particles = gr.HTML(first_run(start), elem_id="score-particles")

    way = [learned, data, points, which, methods, sigma, calls, count, share, seed]
    turn = in_turn("score-particles", also=KEEP_HEIGHT)
    sampling = run.click(sample_score, way, [particles, about], api_name="sample_score", **turn)
    moved = gr.on(
        [data.change, points.change], changed, way, particles, trigger_mode="always_last",
        api_visibility="private", **turn,
    )  # fmt: skip
    halt.click(None, cancels=[sampling, moved]).then(None, js=stops("score-particles"))


def way_controls() -> tuple:
    """Which field is followed, by which of the methods, and how far."""
    methods = gr.CheckboxGroup(
        [(label, name) for name, label in METHODS.items()], value=OPENING, label="Ways to sample", elem_id="methods",
        info="All from the same particles, with as many network calls.", elem_classes="chips",
    )  # fmt: skip
    which = gr.Radio(
        [("Learned", "learned"), ("Exact", "exact")], value="learned", label="Score to follow", elem_classes="chips",
        elem_id="which-score",
    )  # fmt: skip
    calls = slider(20, 1000, 200, step=20, label="Network calls", elem_id="score-calls")
    count = slider(50, 2000, 500, step=50, label="Particles", elem_id="particles")
    share = slider(
        0.02, 0.6, 0.3, step=0.02, label="Langevin step", elem_id="langevin-step",
        info="As a share of the smallest variance; larger moves faster and settles wider.",
    )  # fmt: skip
    return which, methods, calls, count, share, seed_field(0, elem_id="run-seed")
