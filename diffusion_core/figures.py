"""Figures of print quality, each as SVG and PNG: images with labels around them, and curves.

Of matplotlib, which is imported where it is first used: sampling does not need it.
"""

import io
import json
import math
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH = 6.7  # inches: the text column of an A4 page
PLATE = 5.4, 4.0  # inches, the most that pictures take: two such figures, or one and a table, go on a page
TILE = 0.95  # inches, the most that one image takes
MARGIN = 0.82  # inches for the names of rows
SHARP = 220  # pixels an inch at least, of the PNG

COLOURS = {
    "a": "#c25400",
    "b": "#a8528a",
    "c": "#0072b2",
    "training": "#0072b2",
    "validation": "#c25400",
    "raw": "#0072b2",
    "weighted": "#c25400",
    "gradient": "#00805d",
}  # those of the page; Okabe & Ito's, darkened, which eyes that confuse red and green tell apart
MARKS = {"a": "o", "b": "s", "c": "D"}
STYLE = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "image.composite_image": False,  # each picture goes into the SVG with its own pixels
    "svg.hashsalt": "diffusion_core",  # the same figure is the same file
}


class Picture(NamedTuple):
    """A finished figure: `name` is its file's, `alt` says what is to be seen to whom cannot see it."""

    name: str
    alt: str
    caption: str
    svg: bytes
    png: bytes


def style():
    """The context to draw in."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def saved(figure, name: str, alt: str, caption: str, recipe: dict, dpi: float = SHARP) -> Picture:
    """The figure as both files, with the settings that made it as text in the PNG."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.savefig(png, format="png", dpi=dpi, metadata={"recipe": json.dumps(recipe)})
    return Picture(name, alt, caption, svg.getvalue(), png.getvalue())


# Images -----------------------------------------------------------------------------------------------------------


def plate(
    groups: list[tuple[str, Image.Image]],
    columns: list[str],
    *,
    name: str,
    alt: str,
    caption: str,
    recipe: dict,
    below: dict[str, list[str]] | None = None,
) -> Picture:
    """Rows of images, a group with a name at its left; names of columns above and lines of numbers below.

    groups: (name, picture of as many images side by side as there are columns), all of one width. The figure is laid
    out in the pictures' own pixels, each of which becomes a square of a whole number of pixels.
    """
    from matplotlib.figure import Figure

    below = below or {}
    width = groups[0][1].width
    tile = width / len(columns)
    inch = _pixels_an_inch(width, tile, sum(picture.height for _, picture in groups))
    left, line, gap = round(MARGIN * inch), math.ceil(0.17 * inch), max(1, round(0.08 * inch))
    columns = [wrapped(label, 0.96 * tile / inch) for label in columns]
    top = line * max(len(label.splitlines()) for label in columns)
    height = top + sum(picture.height + gap for _, picture in groups) + line * len(below) - gap * (not below)
    with style():
        figure = Figure(((left + width) / inch, height / inch))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, left + width), ylim=(height, 0))
        ax.axis("off")
        text = dict(parse_math=False, va="center")  # a class may have any name, also one with dollar signs
        centres = [left + (k + 0.5) * tile for k in range(len(columns))]
        for x, label in zip(centres, columns, strict=True):
            ax.text(x, top / 2, label, ha="center", fontsize=_fitting(label, 0.96 * tile / inch), linespacing=1, **text)
        y = top
        for label, picture in groups:
            pixels = np.asarray(picture.convert("RGB"))
            enlarged = pixels.repeat(4, axis=0).repeat(4, axis=1)  # for readers of PDF that smooth what they enlarge
            ax.imshow(enlarged, extent=(left, left + width, y + picture.height, y), aspect="auto", interpolation="none")
            size = _fitting(label, 0.92 * MARGIN)
            ax.text(left - gap, y + picture.height / 2, label, ha="right", fontsize=size, **text)
            y += picture.height + gap
        for label, numbers in below.items():
            ax.text(left - gap, y + line / 2, label, ha="right", fontsize=8.5, **text)
            for x, number in zip(centres, numbers, strict=True):
                ax.text(x, y + line / 2, number, ha="center", fontsize=_fitting(number, 0.96 * tile / inch), **text)
            y += line
        ax.set(xlim=(0, left + width), ylim=(height, 0))  # imshow has moved them
        return saved(figure, name, alt, caption, recipe, dpi=inch * math.ceil(SHARP / inch))


def _pixels_an_inch(width: int, tile: float, height: int) -> float:
    """How many of the pictures' own pixels make an inch, so that neither page nor one image is overfull."""
    return max(width / PLATE[0], height / PLATE[1], tile / TILE)


def _fitting(label: str, inches: float) -> float:
    """The size in points, from 4 to 8.5, at which a label is about as wide as it may be."""
    longest = max((len(line) for line in label.splitlines()), default=1)
    return max(4.0, min(8.5, 72 * inches / (0.5 * longest)))


def wrapped(label: str, inches: float) -> str:
    """A name in lines that fit at 7 points, as far as it has spaces, hyphens or underscores to break it at."""
    room, lines = 72 * inches / (0.5 * 7), [""]
    for word in re.findall(r"[^ _-]+[ _-]?|[ _-]", label):
        if lines[-1] and len(lines[-1] + word.rstrip()) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.strip() for line in lines)


# Curves -----------------------------------------------------------------------------------------------------------


def smoothed(x: list[float], y: list[float], reach: float = 1.15) -> np.ndarray:
    """The mean of all values whose x is within a factor `reach`: as wide everywhere on a logarithmic axis."""
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    return np.array([y[(x >= here / reach) & (x <= here * reach)].mean() for here in x])


def _plain_numbers(axis) -> None:
    """A logarithmic axis labelled 0.05, 0.1, 0.2 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def training_curves(log: list[dict], what: dict[str, str], **about) -> Picture:
    """Losses over steps, both on logarithmic axes, and the gradient's norm where the log has it.

    what: the legend of "loss" and of "val_loss".
    """
    from matplotlib.figure import Figure

    norms = [(e["step"], e["grad_norm"]) for e in log if "grad_norm" in e]
    with style():
        figure = Figure((WIDTH, 2.6 if not norms else 3.5), layout="constrained")
        axes = figure.subplots(2 if norms else 1, sharex=True, squeeze=False, height_ratios=[2, 1] if norms else [1])
        ax = axes[0, 0]
        for key, colour in (("loss", COLOURS["training"]), ("val_loss", COLOURS["validation"])):
            points = [(e["step"], e[key]) for e in log if key in e]
            if points:
                steps, values = zip(*points, strict=True)
                raw = key == "val_loss"
                ax.plot(steps, values, color=colour, lw=0.7, alpha=0.9 if raw else 0.4, marker="o" if raw else "", ms=3)
                smooth = values if raw else smoothed(steps, values)
                ax.plot(steps, smooth, color=colour, lw=0.7 if raw else 1.5, label=what[key])
        ax.set(xscale="log", yscale="log", ylabel="loss")
        ax.legend()
        if norms:
            steps, values = zip(*norms, strict=True)
            axes[1, 0].plot(steps, values, color=COLOURS["gradient"], lw=0.7, alpha=0.4)
            axes[1, 0].plot(steps, smoothed(steps, values), color=COLOURS["gradient"], lw=1.5)
            axes[1, 0].set(xscale="log", yscale="log", ylabel="norm of the gradient")
        for ax in axes.flat:
            _plain_numbers(ax.xaxis)
            _plain_numbers(ax.yaxis)
        axes[-1, 0].set_xlabel("training step")
        return saved(figure, **about)


def distances_along(rows: dict[str, dict[str, list[dict]]], labels: dict[str, str], **about) -> Picture:
    """A panel for each path: the distance with its 95 % interval at each position, for each way of decoding.

    rows: {title: {approach: what `paths.worth` says of it}}; labels: what each approach is called.
    """
    from matplotlib.figure import Figure

    with style():
        per_row = min(3, len(rows))
        figure = Figure((WIDTH, 2.4 * math.ceil(len(rows) / per_row)), layout="constrained")
        axes = figure.subplots(math.ceil(len(rows) / per_row), per_row, squeeze=False, sharey=True)
        for ax in axes.flat[len(rows) :]:
            ax.set_axis_off()
        for ax, (title, found) in zip(axes.flat, rows.items(), strict=False):
            for k, (approach, worth) in enumerate(found.items()):
                x = np.array([row["position"] for row in worth]) + 0.012 * (k - 1)
                y, low, high = (np.array([row[key] for row in worth]) for key in ("distance", "low", "high"))
                colour, mark = COLOURS[approach], MARKS[approach]
                error = np.maximum(0, [y - low, high - y])
                ax.errorbar(
                    x, y, error, color=colour, marker=mark, ms=3.5, lw=1.1, elinewidth=0.8, label=labels[approach]
                )
            ax.set_title(title, parse_math=False)
            ax.set_xlabel("position")
        axes[0, 0].set_ylim(0, None)  # all share it: from zero to the largest of them
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        for ax in axes[:, 0]:
            ax.set_ylabel("Fréchet distance")
        return saved(figure, **about)


def loss_over_time(found: dict, **about) -> Picture:
    """Left the error of each class, thin, and of all, with 95 % intervals; right the same as training weighs it."""
    from matplotlib.figure import Figure

    edges = np.array(found["t"])
    middle = (edges[1:] + edges[:-1]) / 2

    def numbers(values: list[float | None]) -> np.ndarray:
        return np.array(values, dtype=float)  # None becomes nan, which is not drawn

    with style():
        figure = Figure((WIDTH, 2.8), layout="constrained")
        raw, weighted = figure.subplots(1, 2)
        for values in found.get("classes", {}).values():
            [thin] = raw.plot(middle, numbers(values["mean"]), color="#9aa5b1", lw=0.6)
            thin.set_label(None if raw.get_legend_handles_labels()[0] else "each class")
        for ax, key in ((raw, "raw"), (weighted, "weighted")):
            mean, se = numbers(found[key]["mean"]), numbers(found[key]["se"])
            error = 1.96 * np.nan_to_num(se)
            ax.errorbar(middle, mean, error, color=COLOURS[key], marker="o", ms=3, lw=1.2, elinewidth=0.8, label="all")
            ax.set(xlabel="time t")
        raw.set(yscale="log", ylabel=f"squared error of {found['target']}, a pixel")
        weighted.set(ylabel="weighted, times the density of t", ylim=(0, None))
        _plain_numbers(raw.yaxis)
        raw.legend()
        return saved(figure, **about)
