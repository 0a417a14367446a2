"""Interpolate: from one image to another by way of their latents, decoded in three ways, and what that is worth."""

import random
import time
from collections.abc import Iterator

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from diffusion_core.checkpoint import Model
from diffusion_core.classifier import Judge
from diffusion_core.data import ImageSet, available
from diffusion_core.evaluate import features
from diffusion_core.images import fit, grid, read_image
from diffusion_core.interpolate import WAYS, follow
from diffusion_core.metrics import psnr, rmse
from diffusion_core.paths import APPROACHES, Walk, ends, journeys, lengths, noise_pair, path, worth

from .widgets.controls import QUIET, go_and_stop, gpu, plainly, seed_of, slider
from .widgets.html import busy, data_uri, gif_uri, notice, pixels
from .widgets.learning import key_line
from .widgets.player import Pictures, player
from .widgets.plots import LEFT, RIGHT, WIDTH, Curve, Frame, curves
from .widgets.runs import MODELS, held_out, judge_of, model_named, offered
from .widgets.turn import Shown, in_turn, just_shown, remembering, settles, stops

BOX, SMALL_BOX = 880, 300  # width of the rows of images, in page pixels
PREVIEW_GAP = 0.1  # seconds between two previews
DASHES = {"a": "2 3", "b": "7 3", "c": ""}
PICTURE = 3  # the number of the picture of its class that either end opens with
TRUSTED = 30  # dB: below, an end is not what the model makes of it
SOURCES = {"data": "data set", "generated": "generated", "noise": "pure noise"}

# What the tab works on --------------------------------------------------------------------------------------------


def real_images(model: Model) -> ImageSet | None:
    """The test images of the data set that a model was trained on, if they are on this machine."""
    dataset = model.config.get("dataset")
    return held_out(dataset, model.shape[-1]) if dataset in available() else None


def source_choices(model: Model | None) -> list[tuple[str, str]]:
    there = model is not None and model.config.get("dataset") in available()
    return [(label, name) for name, label in SOURCES.items() if name != "data" or there]


def model_of(name: str) -> Model:
    model = model_named(name)
    if len(model.classes) < 2:
        raise ValueError(f"{name} knows fewer than two classes, between which there would be a path.")
    return model


class Ends:
    """The images at either end, [1, C, H, W] each, or None where they are noise; `words` says where they are from."""

    def __init__(self, model: Model, spec: Walk, source: str, pictures: tuple[int, int], uploads: tuple):
        if source not in SOURCES:
            raise ValueError(f"The ends come from {', '.join(SOURCES)}, not {source!r}.")
        self.images, self.words = [], []
        self.pictures, self.noise = pictures, source == "noise"
        for name, picture, upload in zip((spec.class_a, spec.class_b), pictures, uploads, strict=True):
            if self.noise:
                self.words.append(f"noise {picture}")
            elif upload:
                self.images.append(fit(read_image(upload), model.shape)[None])
                colour = "grey" if model.shape[0] == 1 else "colour"
                self.words.append(f"your picture, its centre, {model.shape[2]} × {model.shape[1]}, {colour}, as {name}")
            else:
                self.images.append(ends(model, source, name, [picture], real_images(model)))
                self.words.append(f"{name}, {'test image' if source == 'data' else 'generated, seed'} {picture}")


@gpu(duration=60)
def rows(name: str, spec: Walk, there: Ends) -> Iterator[tuple[str, int, Tensor, dict[str, list[float]]]]:
    """Decode along the path by (c), (a) and (b): the approach, its step, images [K, C, H, W], norms of the latents.

    Last of an approach comes its step -1, with the images as they turned out.
    """
    model = model_named(name)
    if there.noise:
        way = path(model, spec, *noise_pair(model, *([picture] for picture in there.pictures)), noise=True)
    else:
        way = path(model, spec, *there.images)
    norms = lengths(spec, way)
    for approach in "cab":
        for step in follow(approach, model.denoiser, way, steps=spec.steps, guidance=spec.guidance, seeds=[spec.seed]):
            yield approach, step.i, model.codec.decode(step.x0).cpu(), norms
        yield approach, -1, model.codec.decode(step.x).cpu(), norms


# The stage --------------------------------------------------------------------------------------------------------


def lanes(found: dict[str, Tensor], spec: Walk, shape: tuple[int, ...]) -> str:
    """The three rows one below the other, what is not there yet in grey, with a frame around the current position."""
    empty = torch.zeros(spec.positions, *shape)
    tiles = torch.cat([found.get(name, empty) for name in APPROACHES])
    width = grid(tiles, spec.positions).width
    scale, small = max(1, BOX // width), max(1, SMALL_BOX // width)
    names = "".join(f"<div><b>({name})</b><br><span>{label}</span></div>" for name, label in APPROACHES.items())
    picture = pixels(
        tiles, f"From {spec.class_a} to {spec.class_b}, decoded in three ways", BOX, SMALL_BOX, spec.positions
    )
    marker = f'<i class="at" style="--tw:{shape[-1]};--s:{scale};--s-small:{small}"></i>'
    return f'<div class="lanes"><div class="names">{names}</div><div class="path">{picture}{marker}</div></div>'


def status_line(what: str, done: float) -> str:
    return f'<p class="line">{busy(done)}<span class="stop-word">Stopped at </span>{what}</p>'


def running_html(spec: Walk, found: dict[str, Tensor], shape: tuple[int, ...], done: float, what: str) -> str:
    return (
        f'<div class="running tall"><div class="player" style="--k:-99">{lanes(found, spec, shape)}</div>'
        f"{status_line(what, done)}</div>"
    )


def single_images(judge: Judge | None, spec: Walk, found: dict[str, Tensor]) -> dict[str, list[dict]]:
    """What a judge makes of every single image, by approach; empty without a judge."""
    if judge is None:
        return {}
    return {name: worth(judge, spec, features(judge.network, x.clamp(-1, 1))[:, None]) for name, x in found.items()}


def numbers_html(spec: Walk, k: int, length: float, judged: dict[str, list[dict]]) -> str:
    line = (
        f"<b>Position {k + 1} of {spec.positions}</b> · {100 * spec.weights[k]:.0f} % of the way · "
        f"|z| / √d = {length:.3f}"
    )
    for name, rows_ in judged.items():
        r = rows_[k]
        line += (
            f"<br>({name}) P({spec.class_a}) {r['p_a']:.2f} · P({spec.class_b}) {r['p_b']:.2f} · "
            f"atypical {r['atypical']:.2f}"
        )
    return line


def walked(spec: Walk) -> str:
    return "lerp" if spec.way.startswith("lerp") else "slerp"


def plots_html(spec: Walk, norms: dict[str, list[float]], judged: dict[str, list[dict]]) -> str:
    """Along the path: the latent's norm, the classes that (c) is taken for, how atypical each image is."""
    w = spec.weights.numpy()
    lines = [
        Curve(w, np.array(v), "snr", name, name == walked(spec), "" if name == walked(spec) else "5 3")
        for name, v in norms.items()
    ]
    [other] = set(norms) - {walked(spec)}
    frame = Frame((0, 1), (0, 1.15 * max(map(max, norms.values()))), f"Norm of z / √d ({other} dashed)", "from A to B")
    out = curves(lines, frame, 0.0, "The norm of the latents along the path")
    if judged:
        lines = [
            Curve(w, np.array([r[f"p_{end}"] for r in judged["c"]]), kind, f"P({name})", dash=dash)
            for end, kind, name, dash in (("a", "data", spec.class_a, ""), ("b", "noise", spec.class_b, "5 3"))
        ]
        frame = Frame((0, 1), (0, 1.1), "Class of (c), by the classifier", "from A to B")
        out += curves(lines, frame, 0.0, "Probability of either class along the path of (c)")
        out += approaches_plot(
            spec, {name: [r["atypical"] for r in rows_] for name, rows_ in judged.items()}, "How atypical each image is"
        )
    return plots_along(spec, out)


def plots_along(spec: Walk, plots: str) -> str:
    """Plots over the position, whose markers follow a player's scrubber."""
    keys = "".join(
        f"<span>{key_line(f'approach-{key}', DASHES[key])}({key}) {label}</span>" for key, label in APPROACHES.items()
    )
    return (
        f'<div class="plots" style="--pitch:{(WIDTH - LEFT - RIGHT) / (spec.positions - 1):.2f}">{plots}</div>'
        f'<p class="legend">{keys}</p>'
    )


def approaches_plot(
    spec: Walk, values: dict[str, list[float]], title: str, bands: dict[str, list[list[float]]] | None = None
) -> str:
    """One line an approach over the position; thin ones beside it where an interval ends."""
    w, lines = spec.weights.numpy(), []
    for name, v in values.items():
        lines += [Curve(w, np.array(b), f"approach-{name}", bold=False) for b in (bands or {}).get(name, ())]
        lines.append(Curve(w, np.array(v), f"approach-{name}", dash=DASHES[name]))
    top = 1.15 * max(float(c.y.max()) for c in lines)
    return curves(lines, Frame((0, 1), (0, top), title, "from A to B"), 0.0, title)


def done_html(
    name: str, spec: Walk, there: Ends, found: dict[str, Tensor], norms: dict[str, list[float]], seconds: float
) -> tuple[str, dict]:
    """The finished path as HTML, and what the API returns beside it."""
    judge = judge_of(model_named(name))
    found = {key: found[key] for key in APPROACHES}
    judged = single_images(judge, spec, found)
    back = reconstructions(spec, there, found["c"])
    run = player(
        panels(spec, there, found),
        [numbers_html(spec, k, norms[walked(spec)][k], judged) for k in range(spec.positions)],
        start=0,
        axis="position",
        above=lanes(found, spec, model_named(name).shape),
        below=plots_html(spec, norms, judged),
    )
    settings = {"model": name, **vars(spec), "a": there.words[0], "b": there.words[1]}
    about = {"settings": settings, "seconds": round(seconds, 2), "norms": norms, "judged": judged, "psnr": {}}
    about |= files(spec, found, settings)
    quality, warnings = [], ""
    for side, (dB, off) in back.items():
        about["psnr"][side] = round(dB, 3)
        quality.append(f"{side} comes back with PSNR {dB:.1f} dB, error {off:.4f} a pixel")
        if dB < TRUSTED:
            warnings += (
                f'<p class="warning">Encoded and decoded, {side} is another picture ({dB:.1f} dB), and the path begins '
                f"there: it is far from what this model was trained on, or {spec.steps} steps are too few.</p>"
            )
    parts = [
        f"A: {there.words[0]}", f"B: {there.words[1]}", spec.way,
        f"latents at t = {'t_max' if there.noise else format(spec.depth, 'g')}", *quality, f"{spec.steps} steps",
        f"guidance {spec.guidance:g} in (b)", f"noise seed {spec.seed}", f"{seconds:.1f} s",
    ]  # fmt: skip
    file = f"{name}-{spec.class_a}-to-{spec.class_b}"
    links = (
        f'<a download="{file}.gif" href="{about["gif"]}">Download GIF</a> '
        f'<a download="{file}.png" href="{about["grid"]}">PNG</a>'
    )
    line = f'<p class="line">{" · ".join(parts)} &nbsp; {links}</p>'
    return f'<div class="done">{warnings}{run}{line}{note(judge)}</div>', about


def reconstructions(spec: Walk, there: Ends, decoded: Tensor) -> dict[str, tuple[float, float]]:
    """PSNR in dB and error a pixel of each end that was encoded and decoded again, from (c)'s row."""
    if there.noise:
        return {}
    ends_ = {"A": (there.images[0], decoded[:1])}
    if WAYS[spec.way].latent:  # else B's image takes no part, only its class does
        ends_["B"] = there.images[1], decoded[-1:]
    return {side: (psnr(again, image).item(), rmse(again, image).item()) for side, (image, again) in ends_.items()}


def panels(spec: Walk, there: Ends, found: dict[str, Tensor]) -> list[Pictures]:
    """The three images at a position, between the ends, under each of which is what comes back of it."""
    middle = [
        Pictures(f"<b>({key})</b> {label}", list(found[key][:, None]), label, box=170, small_box=100)
        for key, label in APPROACHES.items()
    ]
    if there.noise:
        return middle
    (a, b), decoded = there.images, found["c"]
    both = torch.cat([b, decoded[-1:]]) if WAYS[spec.way].latent else b
    first = end_panel("<b>A</b>, and back", torch.cat([a, decoded[:1]]), spec)
    return [first, *middle, end_panel("<b>B</b>, and back" if len(both) > 1 else "<b>B</b>, unused", both, spec)]


def end_panel(caption: str, images: Tensor, spec: Walk) -> Pictures:
    return Pictures(caption, [images] * spec.positions, "An end, and what decoding makes of it", 1, 175, 100)


def files(spec: Walk, found: dict[str, Tensor], settings: dict) -> dict[str, str]:
    """The rows as a PNG and the walk there and back as a GIF, both data URIs with the settings inside."""
    side = found["c"].shape[-1]
    table = grid(torch.cat(list(found.values())), spec.positions, scale=max(1, BOX // (side * spec.positions)))
    there = [grid(torch.stack([x[k] for x in found.values()]), 3, scale=6) for k in range(spec.positions)]
    return {"grid": data_uri(table, settings), "gif": gif_uri([*there, *there[-2:0:-1]], settings, ms=200)}


def note(judge: Judge | None) -> str:
    judged = (
        f"Judged by the {judge.name}. One image has no FID, which compares sets: “atypical” is the distance of its "
        "features to the mean of real test images, in these images' own covariance."
        if judge
        else "There is no classifier for this data set in checkpoints/, so nothing is judged."
    )
    return (
        '<p class="note">The ends are encoded along the ODE at guidance 1: the way back only retraces the way there if '
        "both follow the model's own field, which guidance bends. (a) and (b) add the same fresh noise at every "
        f"position: the earlier the latents are taken, the less it decides. {judged}</p>"
    )


# Handlers ---------------------------------------------------------------------------------------------------------


@plainly
def interpolate(
    model: str,
    source: str,
    class_a: str,
    picture_a: int,
    class_b: str,
    picture_b: int,
    way: str,
    depth: float,
    positions: int,
    steps: int,
    guidance: float,
    seed: int,
    upload_a: str | None = None,
    upload_b: str | None = None,
    shown: Shown | None = None,
) -> Iterator[tuple[str, dict]]:
    """Encode two images, interpolate between their latents, decode by (a) SDE, (b) guided SDE and (c) ODE.

    source is "data", "generated" or "noise"; picture_a and picture_b number the images of their classes (or seed
    them); an upload takes the place of its picture. way is slerp, lerp, class, slerp + class or lerp + class; depth
    the time t of the latents. Yields the page's HTML and a summary; the last has the images as one PNG and an
    animated GIF (data URIs), the PSNR of either end's reconstruction and what the judge says of each image.
    """
    asked = (model, source, class_a, picture_a, class_b, picture_b, way, depth, positions, steps, guidance, seed)
    if just_shown(shown, *asked, upload_a, upload_b):
        yield gr.skip(), gr.skip()
        return
    pictures = seed_of(picture_a, "Picture A"), seed_of(picture_b, "Picture B")
    seed = seed_of(seed, "Noise seed")
    yield from go(
        model,
        Walk(class_a, class_b, way, depth, positions, steps, guidance, seed),
        source,
        pictures,
        (upload_a, upload_b),
    )


def go(model: str, spec: Walk, source: str, pictures: tuple[int, int], uploads: tuple) -> Iterator[tuple[str, dict]]:
    """The rows as they come, and then the finished path."""
    started, shown, found, drawn = time.perf_counter(), 0.0, {}, 0
    whole = model_of(model)
    there = Ends(whole, spec, source, pictures, uploads)
    for approach, i, images, norms in rows(model, spec, there):  # noqa: B007  the last norms are used below
        drawn += i > 0
        found[approach] = images
        preview = gr.skip()
        if i < 0 or time.perf_counter() - shown > PREVIEW_GAP:
            what = f"({approach}) {APPROACHES[approach]}, " + ("done" if i < 0 else f"step {i} of {spec.steps}")
            preview = running_html(spec, found, whole.shape, drawn / (3 * spec.steps), what)
            shown = time.perf_counter()
        yield preview, {"approach": approach, "step": i, "finished": False}
    html, about = done_html(model, spec, there, found, norms, time.perf_counter() - started)
    yield html, about | {"finished": True}


@plainly
def path_distance(
    model: str,
    source: str,
    class_a: str,
    class_b: str,
    way: str,
    depth: float,
    positions: int,
    steps: int,
    guidance: float,
    seed: int,
    pairs: int = 64,
    approaches: list[str] | None = None,
) -> Iterator[tuple[str, dict]]:
    """Go the path between many pairs of the two classes and measure the images at each position.

    Yields the page's HTML and a summary; the last has, by approach and position, the Fréchet distance to real images
    of the two classes in the position's proportion, with its 95 % interval, the classifier's mean probability of either
    class, and n. approaches are among a, b and c. Pair k has picture and noise seed + k.
    """
    whole = model_of(model)
    judge, wanted = judge_of(whole), [key for key in APPROACHES if key in (["c"] if approaches is None else approaches)]
    if not wanted:
        raise ValueError("Choose at least one way of decoding to measure: (a), (b) or (c).")
    if judge is None:
        raise ValueError(f"There is no classifier for the images of {model} in checkpoints/ to measure with.")
    if source == "data" and real_images(whole) is None:
        raise ValueError("The data set is not on this machine; take generated ends.")
    spec = Walk(class_a, class_b, way, depth, positions, steps, guidance, seed_of(seed, "Noise seed"))
    started, shown = time.perf_counter(), 0.0
    for progress in measured(model, spec, wanted, source, pairs):
        seconds, preview = time.perf_counter() - started, gr.skip()
        if seconds - shown > PREVIEW_GAP:
            left = f", about {seconds / progress.done * (pairs - progress.done):.0f} s left" if progress.done else ""
            preview, shown = status_line(f"{progress.done} of {pairs} pairs{left}", progress.done / pairs), seconds
        yield preview, {"done": progress.done, "finished": False}
    found = {key: worth(judge, spec, feats) for key, feats in progress.feats.items()}
    about = {"settings": {"model": model, "source": source, **vars(spec)}, "n": pairs, "approaches": found}
    about |= {"measure": judge.distance, "seconds": round(time.perf_counter() - started, 1), "finished": True}
    yield distance_html(spec, judge, about), about


@gpu(duration=120)
def measured(name: str, spec: Walk, approaches: list[str], source: str, pairs: int) -> Iterator:
    model = model_named(name)
    yield from journeys(model, judge_of(model), spec, approaches, source, pairs, real_images(model))


def distance_html(spec: Walk, judge: Judge, about: dict) -> str:
    """The measured distances and classes over the position."""
    found = about["approaches"]

    def column(key: str) -> dict[str, list[float]]:
        return {name: [r[key] for r in rows_] for name, rows_ in found.items()}

    low, high = column("low"), column("high")
    out = approaches_plot(
        spec, column("distance"), "Fréchet distance, 95 % interval", {name: [low[name], high[name]] for name in found}
    )
    out += approaches_plot(spec, column("p_a"), f"Mean P({spec.class_a})")
    out += approaches_plot(spec, column("p_b"), f"Mean P({spec.class_b})")
    middle = " · ".join(
        f"({name}) {rows_[len(rows_) // 2]['distance']:.1f} "
        f"[{rows_[len(rows_) // 2]['low']:.1f}, {rows_[len(rows_) // 2]['high']:.1f}]"
        for name, rows_ in found.items()
    )
    return (
        f'{plots_along(spec, out)}<p class="line">{judge.distance}, in the middle: {middle} '
        f'<span class="dim">· n = {about["n"]} pairs, {spec.class_a} to {spec.class_b} · {spec.way} · '
        f"t = {spec.depth:g} · {spec.steps} steps · {about['seconds']} s</span></p>"
        '<p class="note">To real test images of the two classes, as the classifier sorts them, in the proportion of '
        "the position. A distance of so few images is too large throughout: compare positions and approaches, at the "
        "same n. Intervals by the bootstrap.</p>"
    )


# The tab ----------------------------------------------------------------------------------------------------------


def first_result() -> str:
    """What the tab opens with: the default path of the first model, gone when the app starts."""
    for name, model in MODELS.items():
        if len(model.classes) > 1:
            spec = default_walk(model)
            *_, (html, _) = go(name, spec, source_choices(model)[0][1], (PICTURE, PICTURE), (None, None))
            return html
    return notice("There is no model with classes in checkpoints/ yet: `python train.py mnist` makes one.")


def default_walk(model: Model) -> Walk:
    """From the fourth class to the ninth where there are as many: of digits a 3 and an 8, which have much in common."""
    return Walk(model.classes[min(3, len(model.classes) - 2)], model.classes[min(8, len(model.classes) - 1)])


def readable(upload: str | None) -> str | None:
    """The upload, or nothing in its place with a word on why: what cannot be read must not stay and fail each run."""
    try:
        if upload:
            read_image(upload)
    except (ValueError, OSError) as error:
        gr.Warning(str(error))
        return None
    return upload


def end_controls(side: str, classes: list[str], value: str | None) -> tuple:
    """Class, number, die and upload of one end."""
    key = side.lower()
    with gr.Row(elem_classes="with-die"):
        cls = gr.Dropdown(classes, value=value, label=f"{side}: class", elem_id=f"class-{key}", min_width=80)
        picture = gr.Number(PICTURE, label="picture", precision=0, elem_id=f"picture-{key}", min_width=70)
        die = gr.Button("⚄ New", elem_classes="die", elem_id=f"die-{key}")
    own = gr.UploadButton(f"Upload {side}", file_types=["image"], elem_id=f"upload-{key}", size="sm")
    return cls, picture, die, own


@plainly
def other_model(name: str) -> tuple[gr.Radio, gr.Dropdown, gr.Dropdown]:
    """The choices that a model has."""
    model = model_named(name)
    start, choices = default_walk(model), source_choices(model)
    return (
        gr.Radio(choices, value=choices[0][1]),
        gr.Dropdown(model.classes, value=start.class_a),
        gr.Dropdown(model.classes, value=start.class_b),
    )


def path_controls(able: dict[str, Model]) -> tuple[list, list[gr.Button]]:
    """The controls of a path, in the order in which `interpolate` takes them, and the dice of its two ends."""
    first = next(iter(able.values()), None)
    start, classes = (default_walk(first), first.classes) if first else (Walk("A", "B"), [])
    model = gr.Dropdown(list(able), value=next(iter(able), None), label="Model", visible=len(able) > 1)
    choices = source_choices(first)
    source = gr.Radio(
        choices, value=choices[0][1], label="Ends", elem_classes="chips", elem_id="ends-from",
        info="Pictures are encoded to latents by the ODE; pure noise needs no encoding.",
    )  # fmt: skip
    class_a, picture_a, die_a, upload_a = end_controls("A", classes, start.class_a if first else None)
    class_b, picture_b, die_b, upload_b = end_controls("B", classes, start.class_b if first else None)
    way = gr.Radio(
        list(WAYS), value=start.way, label="What moves", elem_classes="chips", elem_id="way",
        info="slerp turns the latent, lerp cuts across and loses norm; class blends the class embeddings.",
    )  # fmt: skip
    depth = slider(
        0.1, 1, start.depth, step=0.05, label="Latents at time t", elem_id="depth",
        info="Later latents are nearer to noise: at 1, (a) and (b) no longer see where they start.",
    )  # fmt: skip
    with gr.Accordion("More", open=False):
        positions = slider(3, 15, start.positions, step=1, label="Positions", elem_id="positions")
        steps = slider(
            5, 100, start.steps, step=1, label="Steps each way", elem_id="path-steps",
            info="More steps bring the ends back more exactly.",
        )  # fmt: skip
        guidance = slider(0, 10, start.guidance, step=0.1, label="Guidance of (b)", elem_id="path-guidance")
        seed = gr.Number(0, label="Noise seed of (a) and (b)", elem_id="path-seed")
    controls = [
        model, source, class_a, picture_a, class_b, picture_b, way, depth, positions, steps, guidance, seed,
        upload_a, upload_b,
    ]  # fmt: skip
    return controls, [die_a, die_b]


def measure_controls() -> tuple:
    """How many pairs to measure along the path, and by which of the ways to decode."""
    pairs = slider(
        2, 2000, 64, step=1, label="Measure along the path: pairs", elem_id="pairs",
        info="One image has no FID: a distance needs many pairs of ends, all going the same path.",
    )  # fmt: skip
    ways = [(f"({key})", key) for key in APPROACHES]
    which = gr.CheckboxGroup(ways, value=["c"], label="Decoded by", elem_id="which")
    with gr.Row(elem_classes="buttons later"):
        measure = gr.Button("Measure", elem_id="measure-path", min_width=80)
        halt = gr.Button("Stop", elem_id="measure-stop", min_width=60)
    return pairs, which, measure, halt


def build(models: dict[str, Model], own: gr.State) -> None:
    """The tab's controls on the left; the path, and under it what many paths are worth, on the right."""
    able = {name: model for name, model in models.items() if len(model.classes) > 1}
    with gr.Row(elem_classes="work"):
        with gr.Column(elem_classes="controls"):
            controls, dice = path_controls(able)
            run, stop = go_and_stop("Interpolate", "interpolate", "interpolate-stop")
            pairs, which, measure, halt = measure_controls()
        with gr.Column(elem_classes="stage"):
            stage = gr.HTML(first_result(), elem_id="interpolate-stage")
        with gr.Column(elem_classes="stage second"):
            worth_ = gr.HTML(
                notice("Measure along the path: the Fréchet distance and the classes of the images at each position."),
                elem_id="path-distance",
            )
    about, about_distance, shown = gr.JSON(visible=False), gr.JSON(visible=False), gr.State(None)

    model, source, class_a, picture_a, class_b, picture_b, way, *numbers, upload_a, upload_b = controls
    outputs, turn = [stage, about], in_turn("interpolate-stage")
    drawing = dict(fn=remembering(interpolate), inputs=controls, outputs=[*outputs, shown]) | turn | QUIET
    changes = [c.change for c in (picture_a, picture_b, *numbers)]
    changes += [c.input for c in (source, class_a, class_b, way)]
    runs = [
        run.click(interpolate, [*controls, shown], outputs, api_name="interpolate", **turn),
        gr.on(changes, api_name="changed_path", trigger_mode="always_last", **drawing),
    ]
    for die, picture, upload in zip(dice, (picture_a, picture_b), (upload_a, upload_b), strict=True):
        die.click(lambda: (random.randrange(800), None), None, [picture, upload], **QUIET)
        runs.append(upload.upload(readable, upload, upload, **QUIET).then(**drawing))
    for event in runs:
        event.then(None, js=settles("interpolate-stage"))
    stop.click(None, cancels=runs).then(None, js=stops("interpolate-stage"))
    source.input(lambda: (None, None), None, [upload_a, upload_b], **QUIET)
    dependent = [source, class_a, class_b]
    model.input(other_model, model, dependent, **QUIET)
    own.change(lambda name: [offered(name, able), *other_model(name)], own, [model, *dependent], **QUIET)

    measuring = measure.click(
        path_distance, [model, source, class_a, class_b, way, *numbers, pairs, which], [worth_, about_distance],
        api_name="path_distance", **in_turn("path-distance"),
    )  # fmt: skip
    halt.click(None, cancels=[measuring]).then(None, js=stops("path-distance"))
