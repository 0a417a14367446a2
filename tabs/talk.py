"""Present: a talk in eleven stops, which talk.toml holds and a presenter can rewrite."""

import html
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from diffusion_core.evaluate import read_results
from diffusion_core.images import to_tensor, to_uint8
from diffusion_core.paths import Walk
from diffusion_core.samplers import seeded_noise

from . import evaluate, forward, interpolate, sample, score
from .widgets import runs
from .widgets.controls import QUIET
from .widgets.html import notice
from .widgets.player import Pictures, player
from .widgets.results import guidance_plots
from .widgets.runs import MODELS, Film, Settings, describe, model_named

TALK = Path(__file__).parent.parent / "talk.toml"
WIDGETS = Path(__file__).parent / "widgets"
HEAD = f"<script>{(WIDGETS / 'talk.js').read_text(encoding='utf-8')}</script>"
CSS = (WIDGETS / "talk.css").read_text(encoding="utf-8")
MOMENTS = 21  # of a picture on its way to noise
WIDE, LARGE, MIDDLE, SMALL = 1160, 560, 432, 344  # sides of the pictures, in page pixels, for a 1440 x 900 window


class Stop(NamedTuple):
    title: str
    caption: str
    show: str
    options: dict


def read_talk(path: Path = TALK) -> list[Stop]:
    """The stops of a talk. Raises ValueError, naming the stop, for what cannot be shown."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("stop", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}.") from error
    stops = []
    for k, entry in enumerate(entries):
        if missing := {"title", "caption", "show"} - set(entry):
            raise ValueError(f"Stop {k + 1} of {path.name} has no {', no '.join(sorted(missing))}.")
        title, caption, show = (entry.pop(key) for key in ("title", "caption", "show"))
        if show not in SHOWS:
            raise ValueError(f"Stop {k + 1} of {path.name} shows {show!r}; it must be one of {', '.join(SHOWS)}.")
        stops.append(Stop(title, caption, show, entry))
    return stops


# What a stop can show -----------------------------------------------------------------------------------------------


def settings_of(options: dict) -> Settings:
    """The settings of a run; "class" is how the talk calls what Settings calls cls."""
    options = {"model": next(iter(MODELS), ""), **options}
    if "class" in options:
        options["cls"] = options.pop("class")
    return Settings(**options)


@lru_cache(maxsize=64)
def filmed(settings: Settings) -> Film:
    """A run, once: several stops may show it."""
    model_named(settings.model)
    return runs.filmed(settings)


def noising(schedule: str = "vp_linear", **options) -> str:
    settings = settings_of({"count": 1, **options})
    x0 = to_tensor(to_uint8(filmed(settings).last.x[0]))
    eps = seeded_noise([settings.seed])(x0[None])[0]
    ts = [k / (MOMENTS - 1) for k in range(MOMENTS)]
    lines = []
    for n in (forward.numbers(schedule, t) for t in ts):
        lines.append(f"<b>t = {n['t']:.2f}</b> · x<sub>t</sub> = {n['alpha']:.3f} x<sub>0</sub> + {n['sigma']:.3f} ε")
    noisy = Pictures("<b>x<sub>t</sub></b>", list(forward.at(forward.schedules[schedule], x0, eps, ts)[:, None]),
                     "A picture on its way to noise", 1, LARGE)  # fmt: skip
    still = [("<b>x<sub>0</sub></b> data", x0), ("<b>ε</b> noise", eps)]
    others = [Pictures(caption, [x[None]] * MOMENTS, caption[3:4], 1, SMALL, 150) for caption, x in still]
    return player([noisy, *others], lines, start=MOMENTS // 3, axis="moment", lead=True)


def run(at: int = -1, **options) -> str:
    settings = settings_of(options)
    film = filmed(settings)
    panels = [
        Pictures("<b>x<sub>t</sub></b>", [f.x for f in film.frames], "Images on their way", box=LARGE),
        Pictures("<b>x<sub>0</sub> predicted</b>", [f.x0 for f in film.frames], "What the network expects", box=SMALL,
                 small_box=150),
        Pictures("<b>noise predicted</b>", [f.eps for f in film.frames], "The noise it sees", box=SMALL, small_box=150),
    ]  # fmt: skip
    return player(panels, [sample.numbers_html(f, film.last.i) for f in film.frames], start=at, lead=True)


def vary(over: str, values: list, at: int = 0, rows: list[dict] | None = None, **options) -> str:
    panels, lines = [], ["" for _ in values]
    rows = rows or [{"label": ""}]
    for row in rows:
        fixed = {key: value for key, value in row.items() if key != "label"}
        ran = [settings_of({**options, **fixed, over: value}) for value in values]
        films = [filmed(settings) for settings in ran]
        box = {1: WIDE, 2: MIDDLE}.get(len(rows), SMALL)
        panels.append(Pictures(f"<b>{row['label']}</b>" if row["label"] else "", [f.last.x for f in films],
                               f"{row['label']} samples".strip(), box=box, columns=columns(ran[0])))  # fmt: skip
        for k, (settings, film) in enumerate(zip(ran, films, strict=True)):
            lines[k] += f"{describe(settings, film.last)}<br>"
    heads = [f"<b>{over} {value:g}</b><br>" for value in values]
    return player(panels, [a + b for a, b in zip(heads, lines, strict=True)], start=at, axis=over)


def columns(settings: Settings) -> int | None:
    """All classes in turn: a column a class."""
    many = len(MODELS[settings.model].classes)
    return many if settings.cls == "all" and many and settings.count % many == 0 else None


def path(a: str, b: str, model: str | None = None, **options) -> str:
    name = model or next(iter(MODELS), "")
    picture = interpolate.PICTURE
    *_, (page, _) = interpolate.go(name, Walk(a, b, **options), "generated", (picture, picture), (None, None))
    return page


def evaluation(model: str | None = None) -> str:
    name = model or next(iter(MODELS), "")
    results = read_results(evaluate.CHECKPOINTS / f"{name}.safetensors")
    plots = guidance_plots(results)
    if not plots:
        return notice(f"There is no shipped judgement of {name} by guidance.")
    what = f"{results[0]['measure']}, n = {results[0]['n']} against {results[0]['reference']}"
    return f'<div class="plots two">{"".join(plots)}</div><p class="line">{html.escape(f"{name}: {what}")}</p>'


def field(data: str, sigma: float = 1.0) -> str:
    return score.first_sight(score.known(None, data, ""), data, "", sigma)


def particles(data: str, methods: list[str], calls: int = 200, particles: int = 500) -> str:
    which = "learned" if data in score.SHIPPED else "exact"
    *_, (page, _) = score.sample_score(None, data, "", which, methods, 1.0, calls, particles, 0.3, 0)
    return page


SHOWS: dict[str, Callable[..., str]] = {
    "noising": noising, "run": run, "vary": vary, "path": path, "evaluation": evaluation, "score": field,
    "particles": particles,
}  # fmt: skip


# The slides ---------------------------------------------------------------------------------------------------------


def slide(stops: list[Stop], k: int, content: str) -> str:
    stop = stops[k]
    return (
        f'<section class="slide" aria-label="Stop {k + 1} of {len(stops)}"><h2>{html.escape(stop.title)}</h2>{content}'
        f'<p class="caption">{html.escape(stop.caption)}</p><p class="turn">'
        '<button type="button" data-talk="-1" aria-label="Back">‹</button>'
        f"<span>{k + 1} of {len(stops)}</span>"
        '<button type="button" data-talk="1" aria-label="On">›</button>'
        "<span>Arrow keys turn, Space plays, Esc leaves.</span></p></section>"
    )


def coming(stops: list[Stop], k: int) -> str:
    return slide(stops, k, '<p class="line"><span class="busy"><i></i></span>Being computed</p>')


def shown(stop: Stop) -> str:
    """What a stop shows; where it cannot be shown, why."""
    try:
        return SHOWS[stop.show](**stop.options)
    except (ValueError, TypeError, KeyError, gr.Error) as error:
        return notice(f"This stop cannot be shown: {error}")


def build(stops: list[Stop], present: gr.Button) -> None:
    """The slides, over the whole page once `present` is pressed. Computed then, in order, ahead of the talk."""
    ready: dict[int, str] = {}

    def prepare() -> Iterator[list]:
        for k, stop in enumerate(stops):
            if k not in ready:
                ready[k] = slide(stops, k, shown(stop))
            yield [ready[k] if j == k else gr.skip() for j in range(len(stops))]

    with gr.Column(elem_id="talk"):
        slides = [
            gr.HTML(coming(stops, k), elem_classes="stop", elem_id=f"stop-{k}", padding=False)
            for k in range(len(stops))
        ]
        leave = gr.Button("Leave", elem_id="talk-leave", size="sm")
        gr.HTML(f"<style>{turning(len(stops))}</style>", padding=False)
    preparing = present.click(prepare, None, slides, concurrency_id="model", concurrency_limit=1, **QUIET)
    leave.click(None, cancels=[preparing])


def turning(count: int) -> str:
    """Which stop is shown: a rule for each."""
    return "\n".join(f'#talk[data-at="{k}"] #stop-{k} {{ display: block !important; }}' for k in range(count))
