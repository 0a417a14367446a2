"""Small plots as SVG text: they follow the page's light and dark colours and cost a millisecond, as dragging needs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 320, 200
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 24, 34  # margins, room for labels


class Curve(NamedTuple):
    """One line: y over x, drawn in the style class `kind` (data, noise, snr); `bold` for the one in question."""

    x: np.ndarray
    y: np.ndarray
    kind: str
    label: str = ""
    bold: bool = True
    dash: str = ""


class Frame:
    """Maps data coordinates to the picture's, and draws axes; `log` names those that are logarithmic: "", "x", "xy"."""

    def __init__(
        self, x_range: tuple[float, float], y_range: tuple[float, float], title: str, x_label: str, log: str = ""
    ):
        self.x_range, self.y_range, self.title, self.x_label, self.log = x_range, y_range, title, x_label, log

    def x(self, v):
        return LEFT + _share(v, self.x_range, "x" in self.log) * (WIDTH - LEFT - RIGHT)

    def y(self, v):
        return HEIGHT - BOTTOM - _share(v, self.y_range, "y" in self.log) * (HEIGHT - TOP - BOTTOM)

    def path(self, x: np.ndarray, y: np.ndarray) -> str:
        inside = np.isfinite(y)
        points = zip(self.x(x[inside]), self.y(y[inside]), strict=True)
        return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)

    def svg(self, body: str, description: str, x_ticks: list[tuple[float, str]] | None = None) -> str:
        """The plot; x_ticks are places and their names, by default round numbers."""
        x0, x1, y0, y1 = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
        at_x, at_y = ((_log_ticks if axis in self.log else _ticks) for axis in "xy")
        x_ticks = [(v, _name(v)) for v in at_x(*self.x_range)] if x_ticks is None else x_ticks
        ticks = "".join(
            f'<text x="{self.x(v):.1f}" y="{y0 + 14}" text-anchor="middle">{name}</text>' for v, name in x_ticks
        ) + "".join(
            f'<path class="axis" d="M{x0} {self.y(v):.1f}H{x1}"/>'
            f'<text x="{x0 - 5}" y="{self.y(v) + 3.5:.1f}" text-anchor="end">{_name(v)}</text>'
            for v in at_y(*self.y_range)
        )
        clip = f"inside-{self.title.split()[0].lower()}"
        return (
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{description}">'
            f'<text class="title" x="{x0}" y="14">{self.title}</text>{ticks}'
            f'<text x="{x1}" y="{HEIGHT - 5}" text-anchor="end">{self.x_label}</text>'
            f'<clipPath id="{clip}"><rect x="{x0}" y="{y1 - 3}" width="{x1 - x0}" height="{y0 - y1 + 6}"/></clipPath>'
            f'<g clip-path="url(#{clip})">{body}</g></svg>'
        )


def _share(v, ends: tuple[float, float], log: bool):
    """How far v lies from the one end to the other."""
    a, b = ends
    return np.log(v / a) / math.log(b / a) if log else (v - a) / (b - a)


def _name(v: float) -> str:
    """A tick's number: 0.05, 2000, 20k, 5M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(v) >= max(unit, 1e4):
            return f"{v / unit:g}{letter}"
    return f"{v:g}"


def _log_ticks(a: float, b: float) -> list[float]:
    """Powers of ten from a to b; if they are few 1, 2 and 5 times these, and round numbers if those are few too."""
    tens = [10.0**k for k in range(math.floor(math.log10(a)), math.ceil(math.log10(b)) + 1)]
    inside = [v for v in tens if a <= v <= b]
    finer = inside if len(inside) > 2 else [m * v for v in tens for m in (1, 2, 5) if a <= m * v <= b]
    return finer if len(finer) > 1 else _ticks(a, b)


def _ticks(a: float, b: float) -> list[float]:
    """Three to six round numbers from a to b."""
    step = 10 ** math.floor(math.log10((b - a) / 2))
    step *= next(m for m in (1, 2, 5, 10) if (b - a) / (step * m) <= 5)
    return [k * step for k in range(math.ceil(a / step - 1e-9), math.floor(b / step + 1e-9) + 1)]


def curves(lines: list[Curve], frame: Frame, now: float, description: str) -> str:
    """Lines with a marker where x = now on the bold ones, each of which is named at its marker's side."""
    body = []
    for c in sorted(lines, key=lambda c: c.bold):
        style = "curve" if c.bold else "other"
        body.append(
            f'<path class="{c.kind} {style}" stroke-dasharray="{c.dash}" d="{frame.path(c.x, c.y)}">'
            f"<title>{c.label}</title></path>"
        )
    body.append(f'<path class="now" d="M{frame.x(now):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for c in lines:
        if not c.bold:
            continue
        y = float(np.interp(now, c.x, np.nan_to_num(c.y, posinf=frame.y_range[1])))
        px, py = frame.x(now), frame.y(min(max(y, frame.y_range[0]), frame.y_range[1]))
        side, anchor = (7, "start") if now < sum(frame.x_range) / 2 else (-7, "end")
        body.append(
            f'<circle class="{c.kind}" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
            f'<text class="{c.kind}" x="{px + side:.1f}" y="{py + (14 if py < TOP + 14 else -6):.1f}" '
            f'text-anchor="{anchor}">{c.label}</text>'
        )
    return frame.svg("".join(body), description)


def histogram(values: np.ndarray, title: str, description: str, bins: int = 36, reach: float = 3.5) -> str:
    """The density of values, as bars, against the standard normal's, dashed."""
    edges = np.linspace(-reach, reach, bins + 1)
    counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
    density = counts / counts.sum() / (edges[1] - edges[0])
    frame = Frame((-reach, reach), (0, 1), title, "pixel value; density upwards")
    bars = "".join(
        f"M{frame.x(a):.1f} {frame.y(0):.1f}V{frame.y(min(d, 1.1)):.1f}H{frame.x(b) - 0.6:.1f}V{frame.y(0):.1f}Z"
        for a, b, d in zip(edges[:-1], edges[1:], density, strict=True)
        if d > 0
    )
    z = np.linspace(-reach, reach, 71)
    normal = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    body = (
        f'<path class="bars" d="{bars}"/><path class="noise curve" stroke-dasharray="5 3" d="{frame.path(z, normal)}"/>'
        f'<text class="noise" x="{frame.x(1.3):.1f}" y="{frame.y(0.27):.1f}">N(0, 1)</text>'
    )
    return frame.svg(body, description)


class Series(NamedTuple):
    """Measured points: y over x with bars from low to high where these are given, joined by a line."""

    x: list[float]
    y: list[float]
    kind: str
    label: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dash: str = ""
    marks: bool = True
    size: float = 4  # radius of the marks


def points(series: list[Series], frame: Frame, description: str, lines: Sequence[Curve] = ()) -> str:
    """Measured points with their intervals, over `lines`; each series is named at its last point."""
    body, named = [_line(c, frame) for c in lines], []
    for s in series:
        x, y = np.array(s.x, float), np.array(s.y, float)
        if len(x) > 1:
            body.append(f'<path class="{s.kind} curve" stroke-dasharray="{s.dash}" d="{frame.path(x, y)}"/>')
        for a, low, high in zip(x, s.low, s.high, strict=bool(s.low)):
            bar = f"M{frame.x(a):.1f} {frame.y(low):.1f}V{frame.y(high):.1f}"
            body.append(f'<path class="{s.kind} interval" d="{bar}"/>')
        for a, b in zip(x, y, strict=True) if s.marks else ():
            title = f"<title>{s.label} {b:.4g} at {a:.4g}</title>"
            place = f'cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}"'
            body.append(f'<circle class="{s.kind}" {place} r="{s.size:g}">{title}</circle>')
        if s.label:
            named.append(_spot(s.label, frame.x(x[-2:]), frame.y(y[-2:]), named))
            body.append(named[-1].text(s))
    return frame.svg("".join(body), description)


class Spot(NamedTuple):
    """Where a series is named: the text's box in the picture, and whether it ends rather than begins at its point."""

    left: float
    top: float
    right: float
    bottom: float
    ends: bool

    def text(self, s: Series) -> str:
        x, anchor = (self.right, "end") if self.ends else (self.left, "start")
        return f'<text class="{s.kind}" x="{x:.1f}" y="{self.bottom - 2:.1f}" text-anchor="{anchor}">{s.label}</text>'

    def clear_of(self, other: "Spot") -> bool:
        apart = max(self.left, other.left) > min(self.right, other.right) + 6
        return apart or max(self.top, other.top) >= min(self.bottom, other.bottom)


def _spot(label: str, x: np.ndarray, y: np.ndarray, taken: list[Spot]) -> Spot:
    """Where there is room for the name of a line, or of a point, whose last places in the picture are x and y.

    Above the last point, or below where the line comes from above, as others may where there is but a point.
    """
    wide, px, py = 7 * len(label), x[-1], y[-1]
    ends = px + 7 + wide > WIDTH - RIGHT  # no room for it at the point's right
    left = px - 7 - wide if ends else px + 7
    below = len(y) == 1 or (ends and y[0] < py)
    spots = [Spot(left, v - 10, left + wide, v + 2, ends) for v in (py + 16, py - 7)[:: 1 if below else -1]]
    free = [s for s in spots if s.bottom < HEIGHT - BOTTOM and all(s.clear_of(other) for other in taken)]
    return next(iter(free), spots[0])


def _line(c: Curve, frame: Frame) -> str:
    style, d = "curve" if c.bold else "other", frame.path(np.asarray(c.x, float), np.asarray(c.y, float))
    return f'<path class="{c.kind} {style}" stroke-dasharray="{c.dash}" d="{d}"><title>{c.label}</title></path>'


def traces(
    lines: list[Curve], title: str, x_label: str, description: str, *, from_zero: bool = False, log: str = ""
) -> str:
    """Lines in a frame that holds them all; `from_zero` starts it at y = 0, `log` is as for Frame."""
    x, y = (np.concatenate([np.asarray(getattr(c, axis), float) for c in lines]) for axis in ("x", "y"))
    y = y[np.isfinite(y)]
    ends = (0.0, around([0.0], y)[1]) if from_zero else around(y, log="y" in log)
    frame = Frame((x.min(), max(x.max(), x.min() + 1e-9)), ends, title, x_label, log)
    body = "".join(
        _line(c, frame)
        + (f'<circle class="{c.kind}" cx="{frame.x(c.x[0]):.1f}" cy="{frame.y(c.y[0]):.1f}" r="4"/>') * (len(c.x) == 1)
        for c in lines
    )
    return frame.svg(body, description)


def around(*values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """The ends of an axis that holds all values, with some room; `log` is for one that is logarithmic."""
    every = np.concatenate([np.asarray(v, float) for v in values])
    every = np.log(every) if log else every
    room = 0.06 * (np.ptp(every) or 1)
    ends = every.min() - room, every.max() + room
    return tuple(float(math.exp(end) if log else end) for end in ends)


def share_bars(true: list[float], found: dict[str, list[float]], title: str, x_label: str, description: str) -> str:
    """Shares of groups as bars side by side, those of each style class in `found`; a line across marks the true one."""
    frame = Frame(
        (0, len(true)), (0, 1.12 * max([*true, *(v for shares in found.values() for v in shares)])), title, x_label
    )
    gap, wide = 0.14, 0.72 / max(1, len(found))
    body = "".join(
        f'<rect class="{kind} share" x="{frame.x(k + gap + j * wide):.1f}" y="{frame.y(share):.1f}" '
        f'width="{frame.x(wide) - frame.x(0) - 0.6:.1f}" height="{frame.y(0) - frame.y(share):.1f}">'
        f"<title>{100 * share:.1f} %</title></rect>"
        for j, (kind, shares) in enumerate(found.items())
        for k, share in enumerate(shares)
    )
    body += "".join(
        f'<path class="truth" d="M{frame.x(k + 0.06):.1f} {frame.y(w):.1f}H{frame.x(k + 0.94):.1f}"/>'
        for k, w in enumerate(true)
    )
    return frame.svg(
        body, description, x_ticks=[(k - 0.5, str(k)) for k in range(1, len(true) + 1) if len(true) <= 12 or k % 5 == 0]
    )
