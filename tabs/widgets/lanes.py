"""A race as the page shows it: the lanes under one scrubber, the table, and the distance to the ODE's end."""

import html

import torch

from diffusion_core.evaluate import short
from diffusion_core.samplers import SAMPLERS

from .html import busy, figure, mapping, pixels
from .player import Pictures, player
from .plots import Frame as Axes
from .plots import Series, points
from .race import REFERENCE, Lane, calls_of
from .recipes import link, race_link
from .runs import MODELS, SPACING_NAMES, Settings, model_named

HALFWAY, WHOLE = 20, 40  # the demonstration's two numbers of steps
N = 100  # images that a Fréchet distance is measured on
DASHES = {"A": "", "B": "7 3", "C": "2 3", "D": "8 3 2 3"}
WIDTH, GAP = 1010, 20  # page pixels that the lanes share, and those between two of them

# Pictures ---------------------------------------------------------------------------------------------------------


def title(name: str, settings: Settings) -> str:
    """A lane's name in its colour and what it is."""
    sampler = SAMPLERS[settings.sampler]
    steps = f", {settings.steps} steps" if sampler.calls else ""
    return f'<b class="lane-name {settings.sampler}">{name}</b> {sampler.label}{steps}'


def layout(lanes: dict[str, Lane]) -> tuple[int, int]:
    """Columns of a lane's grid of images, and the page pixels it has."""
    count = next(iter(lanes.values())).settings.count
    return (2 if count <= 4 else 4), (WIDTH - GAP * (len(lanes) - 1)) // len(lanes)


def stand(lane: Lane, calls: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x_t and the predicted x0 after that many calls; grey before there is any."""
    frame = lane.at(calls)
    blank = torch.zeros_like(lane.film.last.x)
    return (frame.x, frame.x0) if frame else (blank, blank)


def progress_line(name: str, lane: Lane) -> str:
    """Where a running lane is."""
    frame, steps = lane.film.last, lane.settings.steps
    if frame is None:
        return f'<p class="line"><span class="busy"></span>{title(name, lane.settings)}</p>'
    known = SAMPLERS[lane.settings.sampler].calls
    done = frame.i / steps if known else 1 - frame.t
    return (
        f'<p class="line">{busy(done)}'
        f"{title(name, lane.settings)} "
        f'<span class="dim">· step {frame.i} · {frame.nfe} call{"s" * (frame.nfe != 1)}{" × 2" * lane.settings.guided} '
        f"· {frame.seconds:.1f} s</span></p>"
    )


def running_html(lanes: dict[str, Lane]) -> str:
    """The lanes side by side, x_t above what it is expected to become, and a line each."""
    columns, box = layout(lanes)
    shown = []
    for name, lane in lanes.items():
        s = lane.settings
        x = lane.film.last.x if lane.film.last else torch.zeros(s.count, *model_named(s.model).shape)
        x0 = lane.film.last.x0 if lane.film.last else x
        about = SAMPLERS[lane.settings.sampler].label
        options = dict(box=box, small_box=160, columns=columns)
        shown.append(figure(f"{title(name, lane.settings)}<br>x<sub>t</sub>", pixels(x, f"{about}: x_t", **options)))
        shown.append(figure("x<sub>0</sub> predicted", pixels(x0, f"{about}: predicted images", **options)))
    lines = "".join(progress_line(name, lane) for name, lane in lanes.items())
    return (
        f'<div class="race running" style="--lanes:{len(lanes)}"><div class="panels">{"".join(shown)}</div>'
        f'<div class="status"><p class="line"><span class="stop-word">Stopped.</span></p>{lines}</div></div>'
    )


def race_html(lanes: dict[str, Lane], demonstration: bool = False) -> str:
    """The finished race under one scrubber, whose axis is network calls.

    It opens at the end; the demonstration half-way, with a word on why.
    """
    columns, box = layout(lanes)
    axis = calls_of(lanes)
    panels = []
    for name, lane in lanes.items():
        about = SAMPLERS[lane.settings.sampler].label
        x, x0 = zip(*(stand(lane, calls) for calls in axis), strict=True)
        options = dict(columns=columns, box=box, small_box=160)
        panels.append(Pictures(f"{title(name, lane.settings)}<br>x<sub>t</sub>", x, f"{about}: x_t", **options))
        panels.append(Pictures("x<sub>0</sub> predicted", x0, f"{about}: predicted images", **options))
    settings = next(iter(lanes.values())).settings
    run = player(
        panels,
        [numbers_html(lanes, calls) for calls in axis],
        start=axis.index(HALFWAY) if demonstration else -1,
        axis="network call",
        total=axis[-1],
        tiles=[f"seed {settings.seed + k}" for k in range(settings.count)],
    )
    grey = " Grey: no step is finished yet." if any(lane.at(axis[0]) is None for lane in lanes.values()) else ""
    return (
        f'<div class="race done" style="--lanes:{len(lanes)}">{demonstration_html(lanes) if demonstration else ""}{run}'
        f'<p class="note">The same noise for all lanes, seeds {settings.seed} to {settings.seed + settings.count - 1}.'
        f"{grey}</p>{mapping()}{take_away(lanes)}</div>"
    )


def take_away(lanes: dict[str, Lane]) -> str:
    """A link to this very race; pictures and Python of a single lane are in the Sample tab, where its row leads."""
    if any(lane.settings.model not in MODELS for lane in lanes.values()):
        return ""  # a visitor's own model: no link leads to it
    address = html.escape(race_link({name: lane.settings for name, lane in lanes.items()}))
    return f'<p class="line actions"><button type="button" data-copy-link="{address}">Copy link</button></p>'


def numbers_html(lanes: dict[str, Lane], calls: int) -> str:
    """Where each lane stands after that many calls, a line each."""
    lines = [f"<b>After {calls} network call{'s' * (calls != 1)}</b>"]
    for name, lane in lanes.items():
        frame, last = lane.at(calls), lane.film.last
        where = "its first step is under way"
        if frame is last:
            where = f"finished: {last.i} steps, {last.nfe} calls"
        elif frame:
            where = f"step {frame.i} of {last.i}, t = {frame.t:.3f}, σ = {frame.sigma:.3f}"
        lines.append(f"{name}: {where}")
    return "<br>".join(lines)


def demonstration_html(lanes: dict[str, Lane]) -> str:
    """Why a run that is stopped half-way is not a run of half as many steps."""
    b = lanes["B"].at(HALFWAY)
    return (
        f'<p class="line"><b>Step {HALFWAY} of {WHOLE} is not {HALFWAY} steps.</b> After {HALFWAY} network calls A has '
        f"arrived; B has come to t = {b.t:.2f}, noise of σ = {b.sigma:.2f} is still in it, and its x<sub>0</sub> is an "
        "average over what it may yet become. The number of steps, fixed before the first, decides how far each one "
        f"goes: B's {WHOLE} reach the data only with the last. Play on from here.</p>"
    )


# Numbers ----------------------------------------------------------------------------------------------------------


def row(name: str, lane: Lane) -> dict:
    """All that is known of a finished lane, ready for JSON."""
    frame, curve = lane.film.last, lane.curve()
    return {
        "lane": name,
        "settings": lane.settings._asdict(),
        "deterministic": lane.deterministic,
        "steps": frame.i,
        "calls": frame.nfe,
        "passes": 2 if lane.settings.guided else 1,
        "seconds": round(frame.seconds, 3),
        "ms_a_call": round(1000 * frame.seconds / frame.nfe, 1),
        "curve": curve,
        "distance": curve[-1][1] if curve else None,
        "reference_error": lane.reference.error if lane.reference else None,
        "frechet": None,
    }


def rows_of(lanes: dict[str, Lane]) -> list[dict]:
    return [row(name, lane) for name, lane in lanes.items()]


def distance_text(r: dict) -> str:
    if not r["deterministic"]:
        return "none: own noise"
    if r["distance"] is None:
        return "…"
    error = r["reference_error"]
    return f"{r['distance']:.4f}" if r["distance"] > error else f"below {error:.4f}"


def frechet_text(r: dict) -> str:
    found = r["frechet"]
    if found is None:
        return "not measured"
    distance, low, high = map(short, (found["distance"], *found["interval"]))
    return f"{distance} <small>{low} to {high}</small>"


def about(s: Settings) -> str:
    """What a lane is beside its sampler and steps, and a link that runs it in the Sample tab."""
    sampler = SAMPLERS[s.sampler]
    parts = [
        "deterministic" if sampler.deterministic(s.eta) else "stochastic",
        f"guidance {s.guidance:g}" if s.cls != "none" else "unconditional",
        f"eta {s.eta:g}" if sampler.uses_eta else "",
        SPACING_NAMES[s.spacing] if sampler.calls else "own steps",
    ]
    again = f'<a href="{html.escape(link(s))}" target="_blank">open in Sample</a>' if s.model in MODELS else ""
    return f"<small>{', '.join(filter(None, parts))}</small><small>{again}</small>"


def table_html(rows: list[dict]) -> str:
    """A line a lane: what it is, what it cost, what came of it."""
    heads = ["Lane", "Network calls", "Distance to the ODE", f"Fréchet, n = {N}", "Steps", "Seconds", "ms a call"]
    lines = []
    for r in rows:
        s = Settings(**r["settings"])
        cells = [
            f"{r['calls']}{' × 2' * s.guided}", distance_text(r), frechet_text(r), r["steps"],
            f"{r['seconds']:.1f}", f"{r['ms_a_call']:.0f}",
        ]  # fmt: skip
        name = f'<b class="lane-name {s.sampler}">{r["lane"]}</b> {SAMPLERS[s.sampler].label}'
        lines.append(f"<tr><th>{name}{about(s)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f'<div class="scroll"><table class="numbers lanes-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def curves_html(rows: list[dict]) -> str:
    """The distance of each deterministic lane to its reference, over network calls."""
    drawn = [r for r in rows if r["curve"]]
    if not drawn:
        return ""
    error = max(r["reference_error"] for r in drawn)
    calls, distances = zip(*(point for r in drawn for point in r["curve"]), strict=True)
    ends = 0.8 * min(calls), 1.5 * max(calls)
    low = max(min(min(distances), error), 1e-6) / 1.5
    lines = [Series(list(ends), [error] * 2, "reference", dash="1 4", marks=False)]
    for r in drawn:
        kind, x, y = r["settings"]["sampler"], [c for c, _ in r["curve"]], [max(d, low) for _, d in r["curve"]]
        lines.append(Series(x, y, kind, dash=DASHES[r["lane"]], marks=False))
        lines.append(Series(x[-1:], y[-1:], kind, r["lane"]))
    frame = Axes(
        ends, (low, 1.4 * max(distances)), "Distance of the predicted x0 to the ODE's end", "network calls", "xy"
    )
    return points(lines, frame, "Distance to the reference over network calls, a line a deterministic lane")


def ode_note(rows: list[dict]) -> str:
    """What the distance is from, and how sure that is."""
    error = max((r["reference_error"] for r in rows if r["reference_error"] is not None), default=None)
    if error is None:
        return ""
    label, steps = SAMPLERS[REFERENCE["sampler"]].label, REFERENCE["steps"]
    return (
        f"<b>Distance to the ODE</b>: root mean square difference of a pixel (black −1, white +1) from a reference "
        f"run of the same ODE, same noise and guidance: {label}, {steps} steps, {steps} calls, itself within about "
        f"{error:.4f} of the limit (dotted), judged by a run of {steps // 2} steps. Before a lane's end the curve "
        "is of its predicted x<sub>0</sub>; its last point is the result's."
    )


def noise_note(rows: list[dict]) -> str:
    """Why stochastic lanes have no such distance."""
    names = " and ".join(r["lane"] for r in rows if not r["deterministic"])
    if not names:
        return ""
    return (
        f"<b>{names}</b>: no such distance, because every run adds noise of its own and ends elsewhere; only the "
        "distribution of many images can be judged, by a Fréchet distance."
    )


def frechet_note(rows: list[dict]) -> str:
    """What a Fréchet distance is of, and how far it can be trusted."""
    found = next((r["frechet"] for r in rows if r["frechet"]), None)
    if found is None:
        return ""
    asked = "all classes in turn" if rows[0]["settings"]["cls"] != "none" else "no class asked for"
    few = found["features"] >= N
    return (
        f"<b>{html.escape(found['measure'])}</b>: n = {N} images, {asked}, against {html.escape(found['reference'])}, "
        f"with a 95 % interval; {N} real images have {short(found['floor']['distance'])}."
        + f" {N} images are not more than the {found['features']} features, so it compares these lanes and no more."
        * few
    )


def notes_html(rows: list[dict]) -> str:
    """What the distances are, and why some lanes have none."""
    guided = "<b>× 2</b>: with guidance each call is on twice the batch, with the class and without."
    notes = [ode_note(rows), noise_note(rows), frechet_note(rows), guided * any(r["passes"] == 2 for r in rows)]
    return "".join(f'<p class="note">{note}</p>' for note in notes if note)


def halfway_html(rows: list[dict]) -> str:
    """The demonstration's two distances, once they are known."""
    if not all(r["curve"] for r in rows):
        return ""
    a, b = (max((c, d) for c, d in r["curve"] if c <= HALFWAY)[1] for r in rows)
    return (
        f"<p class=\"line\">After {HALFWAY} calls: A {a:.4f} from the ODE's end, B's predicted x<sub>0</sub> {b:.4f}; "
        f"B after all its {rows[1]['calls']}: {distance_text(rows[1])}.</p>"
    )


def results_html(rows: list[dict], status: str = "", lead: str = "") -> str:
    """The table, and below it the curves with what they are of."""
    return (
        f'<div class="race-results">{lead}{table_html(rows)}{status}'
        f'<div class="row"><div class="curves">{curves_html(rows)}</div>'
        f'<div class="notes">{notes_html(rows)}</div></div></div>'
    )


def status_line(text: str, share: float) -> str:
    return f'<p class="line">{busy(share)}<span class="stop-word">Stopped. </span>{text}</p>'
