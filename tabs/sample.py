"""Sample: from noise to images, with the sampler, the number of steps and the guidance in the viewer's hand."""

import html
import json
import math
import time
from collections.abc import Iterator

import gradio as gr
import numpy as np

from diffusion_core.checkpoint import Model
from diffusion_core.images import enlarge, grid, read_recipe
from diffusion_core.samplers import SAMPLERS
from diffusion_core.schedules import Discrete

from .widgets.controls import QUIET, go_and_stop, plainly, seed_field, seed_of, slider
from .widgets.html import busy, data_uri, figure, gif_uri, mapping, notice, pixels
from .widgets.neighbours import neighbours_html
from .widgets.player import Pictures, evenly, player
from .widgets.recipes import actions, settings_from
from .widgets.runs import MODELS, SPACING_NAMES, Film, Frame, Settings, describe, filmed, frames, model_named, offered
from .widgets.turn import Shown, in_turn, just_shown, remembering, settles, stops

TABS = ("forward", "sample", "compare", "interpolate", "evaluate", "training", "score")  # what a link can open
BOX = 470  # side of the two pictures, in page pixels
MOMENTS, REST = 20, 12  # frames of the animation, and how many more its last one stays
LEAD, SIDE = 520, 262  # of the result, and of those at its side
PREVIEW_GAP = 0.08  # seconds between two previews: more often only slows the run down


def spacing_choices(model: Model | None) -> list[tuple[str, str]]:
    """The ways to spread the steps that this model's schedule has: only a discrete one has levels of its own."""
    own = model is not None and isinstance(model.denoiser.schedule, Discrete)
    return [(name, s) for s, name in SPACING_NAMES.items() if s != "ddpm" or own]


def class_choices(model: Model | None) -> list[str]:
    return [*model.classes, "all", "none"] if model and model.classes else ["none"]


def chips(model: Model | None) -> gr.Radio:
    """The classes to choose from, as a row of chips; all of them in turn at first."""
    choices = class_choices(model)
    return gr.Radio(
        choices,
        value="all" if "all" in choices else "none",
        label="Class",
        info="What to draw; none leaves it to chance.",
        elem_classes="chips",
        elem_id="class",
    )


def running_html(settings: Settings, frame: Frame) -> str:
    """Both sides of the process while it runs, and how far it is."""
    total = f" of {settings.steps}" if SAMPLERS[settings.sampler].calls else ""
    done = frame.i / settings.steps if total else 1 - frame.t
    left = figure(f"<b>x<sub>t</sub></b> at t = {frame.t:.3f}", pixels(frame.x, "Noisy images on their way", BOX))
    expected = pixels(frame.x0, "The images the network expects in the end", BOX)
    right = figure("<b>x<sub>0</sub> predicted</b> on the way there", expected)
    return (
        f'<div class="running"><div class="row">{left}{right}</div><p class="line">{busy(done)}'
        f'<span class="stop-word">Stopped at </span>'
        f"step {frame.i}{total} "
        f'<span class="dim">· {frame.nfe} network calls · {frame.seconds:.1f} s</span></p>{mapping()}</div>'
    )


def done_html(settings: Settings, film: Film) -> str:
    """The result, large, and every step that led to it under one scrubber: x_t, the predicted x0, the noise."""
    last, frames = film.last, film.frames
    name = {"all": "of every class in turn", "none": "of no class in particular"}.get(
        settings.cls, f"of {settings.cls}"
    )
    image = grid(last.x)
    file = f"{settings.model}-{settings.cls}-{settings.sampler}-{settings.steps}-seed{settings.seed}"
    large = enlarge(np.asarray(image).reshape(image.height, image.width, -1), max(1, BOX // max(image.size)))
    classes = classes_of(settings)
    seeds = [(settings.seed + k, c) for k, c in enumerate(classes)]
    run = player(
        [
            Pictures("<b>x<sub>t</sub></b>: at the last step, the samples", [f.x for f in frames],
                     f"{settings.count} generated images {name}", box=LEAD),
            Pictures("<b>x<sub>0</sub> predicted</b>", [f.x0 for f in frames],
                     "The images the network expects in the end", box=SIDE, small_box=150),
            Pictures("<b>noise predicted</b>", [f.eps for f in frames],
                     "The noise that the network saw", box=SIDE, small_box=150),
        ],
        [numbers_html(f, last.i) for f in frames],
        total=last.i,
        tiles=[f"seed {seed}" + (f", {c}" if c != "none" else "") for seed, c in seeds],
        chosen=f"<button type=\"button\" data-use='{html.escape(json.dumps(seeds))}'>Use this seed</button>",
        lead=True,
    )  # fmt: skip
    noise = (
        '<p class="note">Predicted from what the network was last shown, x<sub>t</sub> before the step (Heun and '
        "predictor-corrector look again on the way); noise = (x<sub>t</sub> − α x<sub>0</sub>) / σ there.</p>"
    )
    take = actions(settings, file, png=data_uri(large, settings._asdict()), gif=animation(settings, film))
    near = neighbours_html(model_named(settings.model), last.x)
    return f'<div class="done">{run}<p class="line">{describe(settings, last)}</p>{take}{mapping()}{noise}{near}</div>'


def animation(settings: Settings, film: Film) -> str:
    """The way from noise to images as a GIF, which rests on the last of them."""
    way = [grid(film.frames[k].x, scale=2) for k in evenly(len(film.frames), MOMENTS)]
    return gif_uri([*way, *[way[-1]] * REST], settings._asdict())


def classes_of(settings: Settings) -> list[str]:
    """The class that each image was asked for; "none" where there was none."""
    names = model_named(settings.model).classes
    every = settings.cls == "all" and names
    return [names[k % len(names)] if every else settings.cls for k in range(settings.count)]


def numbers_html(frame: Frame, steps: int) -> str:
    """Where a step is on its way, and how far it went."""
    snr = math.exp(2 * frame.lam)
    moved = "" if math.isnan(frame.update) else f"<br>moved by {frame.update:.3f} a pixel"
    return (
        f"<b>Step {frame.i} of {steps}</b> · t = {frame.t:.3f}<br>"
        f"σ = {frame.sigma:.3f} · SNR {snr:,.{0 if snr >= 100 else 2}f}{moved}"
    )


def summary(settings: Settings, frame: Frame, finished: bool) -> dict:
    """What the API returns beside the picture."""
    about = {"step": frame.i, "t": frame.t, "nfe": frame.nfe, "seconds": round(frame.seconds, 3), "finished": finished}
    if finished:
        seeds = [settings.seed + k for k in range(settings.count)]
        about |= {"settings": settings._asdict(), "seeds": seeds, "grid": data_uri(grid(frame.x), settings._asdict())}
    return about


@plainly
def sample(
    model: str, cls: str, sampler: str, steps: int, guidance: float, seed: int, count: int, eta: float, spacing: str,
    shown: Shown | None = None,
) -> Iterator[tuple[str, dict]]:  # fmt: skip
    """Generate images, showing x_t and the predicted x0 at every step.

    Yields a preview (HTML) and a summary after each step; the last summary holds the images as one PNG (a data URI)
    with the settings in its metadata. The same seed gives the same image, whatever the count: image k has seed + k.
    cls is a class name, "all" (in turn) or "none".
    """
    model_named(model)
    settings = Settings(model, cls, sampler, steps, guidance, seed_of(seed), count, eta, spacing)
    if just_shown(shown, model, cls, sampler, steps, guidance, seed, count, eta, spacing):
        yield gr.skip(), gr.skip()
        return
    film, previewed = Film(), 0.0
    for frame in frames(settings):
        film.add(frame)
        preview = gr.skip()
        if time.perf_counter() - previewed > PREVIEW_GAP:
            preview, previewed = running_html(settings, frame), time.perf_counter()
        # At every step: Stop acts when something is yielded.
        yield preview, summary(settings, frame, finished=False)
    yield done_html(settings, film), summary(settings, frame, finished=True)


def first_result() -> str:
    """What the tab opens with: the default settings, run when the app starts."""
    if not MODELS:
        return notice("There is no model in checkpoints/ yet: `python train.py mnist` makes one.")
    settings = Settings(next(iter(MODELS)))
    return done_html(settings, filmed(settings))


def opened(settings: Settings) -> list:
    """Updates of the controls that show these settings, and of what makes them run."""
    model = model_named(settings.model)
    return [
        time.time(),
        settings.model,
        gr.Radio(class_choices(model), value=settings.cls),
        *settings[2:8],
        gr.Dropdown(spacing_choices(model), value=settings.spacing),
    ]


def open_own(name: str) -> list:
    """The model that a visitor has just trained, with the settings that the tab opens with."""
    again, _, *others = opened(Settings(name))
    return [again, offered(name, MODELS), *others]


@plainly
def other_model(name: str) -> tuple[gr.Radio, gr.Dropdown]:
    """The choices that a model has."""
    model = model_named(name)
    return chips(model), gr.Dropdown(spacing_choices(model), value="lam")


@plainly
def open_tab(request: gr.Request) -> gr.Tabs:
    """The tab that the page's address asks for; were what it says of the controls damaged, it is where that is said."""
    tab = request.query_params.get("tab")
    if tab is None or "race" in request.query_params:  # Compare opens itself
        return gr.skip()
    if tab not in TABS:
        raise ValueError(f"There is no tab {tab}; there are {', '.join(TABS)}.")
    return gr.Tabs(selected=tab)


@plainly
def open_link(request: gr.Request) -> list:
    """The settings of a run that the page's address asks for."""
    query = dict(request.query_params)
    if query.get("tab") != "sample" or not query.keys() & set(Settings._fields):
        return [gr.skip()] * 10
    return opened(settings_from(query))


@plainly
def open_picture(path: str | None) -> list:
    """The settings inside a picture that was made here."""
    if path is None:
        return [gr.skip()] * 10
    recipe = read_recipe(path)
    if recipe is None:
        raise ValueError("This picture holds no recipe; a PNG or GIF downloaded here is needed.")
    return opened(settings_from(recipe))


def sample_again(again: float, *inputs) -> Iterator[tuple[str, dict, Shown]]:
    """`sample`, if something else than a hand has just set the controls: a page that opens as usual has its result.

    The controls' own changes ask for the same run: whichever comes second finds it shown.
    """
    if again:
        yield from remembering(sample)(*inputs)
    else:
        yield gr.skip(), gr.skip(), gr.skip()


def setting_controls(models: dict[str, Model], start: Settings) -> tuple[list, gr.File]:
    """A control for each of the Settings, in their order, and the field that takes them from a picture."""
    names = list(models)
    model = gr.Dropdown(names, value=start.model or None, label="Model", visible=len(names) > 1, elem_id="sample-model")
    cls = chips(models.get(start.model))
    sampler = gr.Dropdown(
        [(s.label, name) for name, s in SAMPLERS.items()], value=start.sampler, label="Sampler", elem_id="sampler",
        info="ODE samplers, DPM-Solver++ and DDIM at eta 0 are deterministic; the others add fresh noise. "
        "Heun and predictor-corrector make two calls a step.",
    )  # fmt: skip
    steps = slider(
        1, 250, start.steps, step=1, label="Steps", elem_id="steps",
        info="More steps follow the true path more closely; each costs network calls. RK45 chooses its own.",
    )  # fmt: skip
    guidance = slider(
        0, 10, start.guidance, step=0.1, label="Guidance", elem_id="guidance",
        info="0 ignores the class, 1 is as trained; more is more typical and less varied.",
    )  # fmt: skip
    seed = seed_field(start.seed, elem_id="seed")
    with gr.Accordion("More", open=False):
        count = slider(1, 64, start.count, step=1, label="Images", elem_id="count")
        eta = slider(
            0, 1, start.eta, step=0.05, label="eta (DDIM only)", elem_id="eta",
            info="Fresh noise at each step: 0 is deterministic, 1 is DDPM.",
        )  # fmt: skip
        choices = spacing_choices(models.get(start.model))
        spacing = gr.Dropdown(choices, value=start.spacing, label="Times of the steps")
        picture = gr.File(
            label="Repeat a picture: drop a PNG or GIF made here", file_types=["image"], height=90, elem_classes="drop"
        )
    return [model, cls, sampler, steps, guidance, seed, count, eta, spacing], picture


def build(models: dict[str, Model], page: gr.Blocks, tabs: gr.Tabs, own: gr.State) -> None:
    """The tab's controls on the left and its stage on the right; `own` is the name of the visitor's own model."""
    with gr.Row(elem_classes="work"):
        with gr.Column(elem_classes="controls"):
            controls, picture = setting_controls(models, Settings(next(iter(models), "")))
            go, stop = go_and_stop("Generate", "generate", "stop")
        with gr.Column(elem_classes="stage"):
            stage = gr.HTML(first_result(), elem_id="sample-stage")
    about, again, shown = gr.JSON(visible=False), gr.State(0), gr.State(None)

    model, cls, sampler, steps, guidance, seed, count, eta, spacing = controls
    turn = in_turn("sample-stage")
    drawing = dict(inputs=[*controls, shown], outputs=[stage, about, shown]) | turn | QUIET
    numbers = [control.change for control in (steps, guidance, eta, count, seed)]  # by hand, key, arrow or die
    choices = [control.input for control in (cls, sampler, spacing)]
    changed = gr.on(
        [*choices, *numbers], remembering(sample), api_name="changed", trigger_mode="always_last", **drawing
    )
    pressed = go.click(sample, [*controls, shown], [stage, about], api_name="sample", **turn)
    other = model.input(other_model, model, [cls, spacing], **QUIET)
    other.success(None, cancels=[changed])
    opened = [other.success(remembering(sample), **drawing)]
    page.load(open_tab, None, tabs, **QUIET)
    for setting in (
        page.load(open_link, None, [again, *controls], **QUIET),
        picture.change(open_picture, picture, [again, *controls], **QUIET),
        own.change(open_own, own, [again, *controls], **QUIET),
    ):
        setting.success(None, cancels=[changed])  # what the first of the controls to be set has begun
        opened.append(setting.success(sample_again, **drawing | {"inputs": [again, *controls, shown]}))
    runs = [pressed, changed, *opened]
    for event in runs:
        event.then(None, js=settles("sample-stage"))
    stop.click(None, cancels=runs).then(None, js=stops("sample-stage"))
