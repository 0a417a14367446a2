"""How a training went: its losses, what was drawn on the way, and at which noise levels it is hard."""

import html
from collections.abc import Iterable

import numpy as np

from diffusion_core.data import TITLES
from diffusion_core.history import smoothed
from diffusion_core.images import enlarge

from .html import data_uri
from .plots import Curve, Frame, Series, around, points

AXES = {"step": "steps", "images": "images seen", "seconds": "minutes"}  # by the key of a log's entry
STYLES = [("run-0", ""), ("run-1", "7 3"), ("run-2", "2 3"), ("run-3", "9 3 2 3"), ("run-4", "12 4"), ("run-5", "4 2")]
RAW = 400  # points of a line of single batches at most: more would not be told apart
ROW, SMALL_ROW = 660, 250  # width of a row of samples, in page pixels
Z95 = 1.96  # standard errors to either side of a mean that hold 95 %


# Logs -------------------------------------------------------------------------------------------------------------


def style(k: int) -> tuple[str, str]:
    """Colour class and dash of the k-th run, which it keeps whatever is shown beside it."""
    return STYLES[k % len(STYLES)]


def column(log: list[dict], key: str, axis: str) -> tuple[list[float], list[float]]:
    """Where the log has `key`: its places on the axis, and its values; what is not a number is left out."""
    found = [(entry[axis], entry[key]) for entry in log if key in entry and np.isfinite(entry[key])]
    per = 60 if axis == "seconds" else 1
    return [x / per for x, _ in found], [y for _, y in found]


def key_line(kind: str, dash: str) -> str:
    """What a run's lines look like, beside its name."""
    return f'<svg class="key {kind}" viewBox="0 0 30 8"><path stroke-dasharray="{dash}" d="M0 4H30"/></svg>'


def legend_html(styles: dict[str, tuple[str, str]]) -> str:
    runs = "".join(f"<span>{key_line(*how)}{html.escape(name)}</span>" for name, how in styles.items())
    return f'<p class="legend">{runs}<span>thin: single batches</span><span>● validation</span></p>'


def curves_html(logs: dict[str, list[dict]], styles: dict[str, tuple[str, str]], axis: str, width: int) -> str:
    """Losses and, where the logs have them, gradient norms; lines are means over `width` entries. All axes log."""
    lines, marks, norms = [], [], []
    for name, log in logs.items():
        kind, dash = styles[name]
        lines += smooth_lines(column(log, "loss", axis), kind, dash, name, width)
        norms += smooth_lines(column(log, "grad_norm", axis), kind, dash, name, width)
        marks.append(Series(*column(log, "val_loss", axis), kind, dash=dash, size=3))
    marks = [s for s in marks if s.x]
    words = AXES[axis]
    plots = [
        log_plot(
            "Loss, training and validation", f"{words}, log scale", lines, [s._replace(dash="1 3") for s in marks]
        ),
        log_plot("Validation loss", f"{words}, log scale", [], marks),
        log_plot("Norm of the gradient", f"{words}, log scale", norms, []),
    ]
    return f'<div class="plots">{"".join(plots)}</div>{legend_html({name: styles[name] for name in logs})}'


def smooth_lines(xy: tuple[list[float], list[float]], kind: str, dash: str, name: str, width: int) -> list[Curve]:
    """Single batches, thin, and over them the mean of `width` neighbours; nothing where there are no values."""
    x, y = xy
    if len(x) < 2:
        return []
    every = -(-len(x) // RAW)
    mean = smoothed(y, width)
    raw = Curve(x[::every], y[::every], f"{kind} raw", name, bold=False)
    return [raw, Curve(x[::every], mean[::every], kind, name, dash=dash)]


def log_plot(title: str, x_label: str, lines: list[Curve], marks: list[Series]) -> str:
    """A plot with logarithmic axes that hold everything; nothing where there is nothing to hold."""
    drawn = [*lines, *marks]
    if not drawn:
        return ""
    x, y = ([getattr(s, key) for s in drawn] for key in "xy")
    frame = Frame(around(*x, log=True), around(*y, log=True), title, x_label, "xy")
    return points(marks, frame, title, lines)


def table_html(logs: dict[str, list[dict]], configs: dict[str, dict], styles: dict[str, tuple[str, str]]) -> str:
    """What each run was, and how fast."""
    heads = ("run", "data", "predicts", "steps", "images", "images/s", "minutes", "validation loss", "on")
    body = ""
    for name, log in logs.items():
        last, config = log[-1], configs[name]
        validated = [entry["val_loss"] for entry in log if "val_loss" in entry]
        cells = [
            key_line(*styles[name]) + html.escape(name),
            html.escape(TITLES.get(config.get("dataset"), config.get("dataset", "–"))),
            html.escape(str(config.get("recipe", {}).get("prediction", "–"))),
            f"{last['step']:,}",
            f"{last['images']:,}",
            f"{last['images'] / last['seconds']:,.0f}",
            f"{last['seconds'] / 60:.1f}",
            f"{validated[-1]:.4f}" if validated else "–",
            html.escape(
                str(config.get("device", "–")).replace("CPU, 1 threads", "one CPU thread")
            ),  # as it once was written
        ]
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table class="rivals logs"><thead><tr>{head}</tr></thead>{body}</table></div>'


# Samples on the way -----------------------------------------------------------------------------------------------


def rows_html(rows: Iterable[tuple[str, np.ndarray | None]], width: int, height: int) -> str:
    """Rows of samples, each uint8 [height, width, C] beside its label (HTML); in grey those that are yet to come."""
    scale, small = max(1, ROW // width), max(1, SMALL_ROW // width)
    size = f'style="--w:{width};--h:{height};--s:{scale};--s-small:{small}"'
    body = ""
    for label, row in rows:
        image = (
            f'<div class="pixels" {size}></div>'
            if row is None
            else f'<img class="pixels" alt="Ten samples" src="{data_uri(enlarge(row, 1))}" {size}>'
        )
        body += f"<span>{label}</span>{image}"
    return f'<div class="growth">{body}</div>'


# Loss by time -----------------------------------------------------------------------------------------------------


def by_time_html(found: dict, kind: str) -> str:
    """The validation loss in bins of t, raw and as it is trained on, with 95 % intervals, and what that says."""
    edges = np.array(found["t"])
    t = ((edges[:-1] + edges[1:]) / 2).tolist()
    classes = {name: c["mean"] for name, c in found["classes"].items() if None not in c["mean"]}  # those with images
    raw, weighted = ((np.array(found[key]["mean"]), Z95 * np.array(found[key]["se"])) for key in ("raw", "weighted"))
    each = [Curve(t, c, "class-line", f"class {name}", bold=False) for name, c in classes.items()]
    mean, bar = raw
    low = np.maximum(mean - bar, 0.5 * mean)  # of a logarithm there is no 0
    inside = Frame((0, 1), around(mean, mean + bar, low, *(c.y for c in each), log=True), "Error by t", "t", "y")
    plain = points([Series(t, mean.tolist(), kind, "", tuple(low), tuple(mean + bar), size=3)], inside,
                   "Mean squared error of what the network predicts, by t", each)  # fmt: skip
    mean, bar = weighted
    frame = Frame((0, 1), (0, 1.08 * float((mean + bar).max())), "Weighted as in training", "t")
    heavy = points([Series(t, mean.tolist(), kind, "", tuple(mean - bar), tuple(mean + bar), size=3)], frame,
                   "The same times weight and density of the training times, by t")  # fmt: skip
    thin = " · thin: each class" if classes else ""
    words = (
        f'<div><p class="line">{html.escape(found["why"])}</p><p class="note">n = {found["n"]:,}, '
        f"{html.escape(found['split'])}, in {len(t)} bins of t. Error: mean squared error of {found['target']}, which "
        f"the network predicts, with 95 % intervals{thin}. Weighted: times the weight ({found['weight']}) and the "
        f"density of the training times ({found['times']}).</p></div>"
    )
    return f'<div class="plots">{plain}{heavy}{words}</div>'
