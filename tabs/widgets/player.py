"""The player: every frame of a run is in the page, so that scrubbing through them asks the server nothing.

`player` makes the HTML. `HEAD` goes into the page's head once (`launch(head=...)`): its script listens on the whole
document, so it serves players that come and go as results are replaced.
"""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from diffusion_core.images import grid

from .html import data_uri, figure

HEAD = f"<script>{Path(__file__).with_suffix('.js').read_text(encoding='utf-8')}</script>"
LIMIT = 4_000_000  # characters of HTML that one player may take
GAP = 1  # page pixels of ground between the tiles of a picture, before it is enlarged


class Pictures(NamedTuple):
    """A panel of pictures. images: for each frame a batch [B, C, H, W] in [-1, 1], shown as a grid of B tiles.

    The grid is enlarged by the largest whole factor that fits `box` page pixels, `small_box` on a telephone.
    """

    caption: str
    images: Sequence[Tensor]
    alt: str = ""
    columns: int | None = None
    box: int = 320
    small_box: int = 320

    @property
    def tiles(self) -> int:
        """How many pictures a frame shows."""
        return len(self.images[0])

    def html(self, shown: Sequence[int]) -> str:
        """The frames `shown`, one below the other in a single PNG; the style sheet shows one of them at a time."""
        frames = [np.asarray(grid(self.images[k], self.columns, gap=GAP)) for k in shown]
        h, w = frames[0].shape[:2]
        tile_h, tile_w = self.images[0].shape[-2:]

        def scale(width: int, height: int, box: int) -> int:
            return max(1, box // max(width, height))

        style = {
            "w": w,
            "h": h,
            "s": (s := scale(w, h, self.box)),
            "s-small": (small := scale(w, h, self.small_box)),
            "tw": tile_w,
            "th": tile_h,
            "z-one": scale(tile_w, tile_h, max(w, h) * s),
            "z-one-small": scale(tile_w, tile_h, max(w, h) * small),
        }
        variables = ";".join(f"--{name}:{value}" for name, value in style.items())
        sheet = (
            f'<div class="sheet" role="img" aria-label="{html.escape(self.alt)}" '
            f'data-columns="{(w + GAP) // (tile_w + GAP)}" data-tiles="{self.tiles}" data-gap="{GAP}" '
            f"style=\"background-image:url('{data_uri(Image.fromarray(np.concatenate(frames)))}')\"></div>"
        )
        return figure(self.caption, f'<div class="sheet-box" style="{variables}">{sheet}</div>')


class Points(NamedTuple):
    """A panel of particles in the plane. frames [K, N, 2]; extent (left, right, bottom, top) of what is shown.

    `background` is HTML that fills the panel below the points, say an <svg> or an <img> of the density; `kind` is
    the style class that gives the points their colour.
    """

    caption: str
    frames: np.ndarray
    extent: tuple[float, float, float, float]
    alt: str = ""
    background: str = ""
    kind: str = "noise"
    box: int = 320

    def html(self, shown: Sequence[int]) -> str:
        """The points of the frames `shown` as 16-bit coordinates, which the script draws on a canvas."""
        left, right, bottom, top = self.extent
        corner, size = np.array([left, top]), np.array([right - left, bottom - top])  # y grows downwards on a canvas
        inside = (np.asarray(self.frames, np.float64)[list(shown)] - corner) / size  # [K, N, 2] in 0 .. 1
        # The picture takes the middle half of the 16 bits: points that leave it by less than half its side stay true.
        levels = np.round(np.nan_to_num(inside, nan=2.0) * 32767 + 16384).clip(0, 65535).astype("<u2")
        return figure(
            self.caption,
            f'<div class="plane" style="--box:{self.box}">{self.background}<canvas class="{self.kind}" '
            f'role="img" aria-label="{html.escape(self.alt)}" data-points="{base64.b64encode(levels).decode()}" '
            f'data-count="{levels.shape[1]}"></canvas></div>',
        )


def player(
    panels: Sequence[Pictures | Points],
    lines: Sequence[str],
    *,
    start: int = -1,
    axis: str = "step",
    total: int | None = None,
    tiles: Sequence[str] = (),
    chosen: str = "",
    lead: bool = False,
    above: str = "",
    below: str = "",
    limit: int = LIMIT,
) -> str:
    """Panels side by side above one scrubber; lines[k] is the HTML of the numbers that go with frame k.

    start  the frame it opens at
    axis   what one frame is: "step", "position"
    total  how many there were, if not all of them are given
    tiles  names of the tiles of a panel of pictures ("seed 7"), one of which can be enlarged
    chosen HTML that appears beside the name of a tile while it is enlarged
    lead   whether the first panel stands large at the left and everything else at its right
    above  HTML over the panels, as `below` is under the controls; both see the frame's number as the variable --k
    Where the HTML would exceed `limit` characters, fewer frames are shown, evenly spread, and the player says so.
    """
    count = len(lines)
    total = max(total or 0, count)
    most = count
    while True:
        shown = evenly(count, most)
        content = [panel.html(shown) for panel in panels]
        size = sum(map(len, content)) + len(above) + len(below)
        if size <= 0.98 * limit or most <= 2:
            break
        most = max(2, min(most - 1, int(most * 0.95 * limit / size)))
    opened = min(range(len(shown)), key=lambda j: abs(shown[j] - start % count))

    first, rest = ("".join(content[:1]), content[1:]) if lead else ("", content)
    kept = f"{len(shown)} of {total} {axis}s are kept. " if len(shown) < total else ""
    return (
        f'<div class="player" role="group" aria-label="The run, {axis} by {axis}" style="--k:{opened}">{above}{first}'
        f'<div class="side"><div class="panels">{"".join(rest)}</div>{_controls(len(shown), opened, axis)}'
        f"{_numbers([lines[k] for k in shown], opened)}{_chooser(panels, tiles, chosen)}"
        f'<p class="note">{kept}Space plays, arrow keys step, Home and End jump.</p></div>{below}</div>'
    )


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 .. count - 1, evenly spread, the first and the last among them."""
    most = min(count, most)
    return [round(j * (count - 1) / (most - 1)) for j in range(most)] if most > 1 else [count - 1]


def _controls(count: int, opened: int, axis: str) -> str:
    speeds = "".join(f'<option value="{v}"{" selected" * (v == 1)}>{v:g}×</option>' for v in (0.25, 0.5, 1, 2, 4))
    return (
        '<div class="bar">'
        f'<button type="button" data-act="back" aria-label="One {axis} back">‹</button>'
        '<button type="button" data-act="play" class="play">Play</button>'
        f'<button type="button" data-act="on" aria-label="One {axis} on">›</button>'
        f'<input type="range" min="0" max="{count - 1}" step="1" value="{opened}" aria-label="{axis.capitalize()}">'
        f'<select class="speed" aria-label="Speed">{speeds}</select></div>'
    )


def _numbers(lines: Sequence[str], opened: int) -> str:
    shown = "".join(f"<p{'' if k == opened else ' hidden'}>{line}</p>" for k, line in enumerate(lines))
    return f'<div class="numbers">{shown}</div>'


def _chooser(panels: Sequence[Pictures | Points], tiles: Sequence[str], chosen: str) -> str:
    """Which of the tiles is enlarged: nothing to choose where there is one, or where panels differ in their tiles."""
    counts = {panel.tiles for panel in panels if isinstance(panel, Pictures)}
    if len(counts) != 1 or counts == {1}:
        return ""
    [count] = counts
    names = [*tiles] or [f"image {k + 1}" for k in range(count)]
    options = "".join(f'<option value="{k}">{html.escape(name)}</option>' for k, name in enumerate(names))
    return (
        '<label class="which">Show <select data-act="tile">'
        f'<option value="">all {count}</option>{options}</select> <span class="note">or click an image</span></label>'
        + (f'<span class="chosen">{chosen}</span>' if chosen else "")
    )
