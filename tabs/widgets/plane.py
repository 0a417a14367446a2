"""Pictures of the plane, as SVG text: a density as shades, a vector field as arrows, data as dots."""

import html

import numpy as np
from PIL import Image

from .html import data_uri

SIDE, MARGIN = 240, 16  # of the square, and room below and left of it for the numbers of its axes
SHADE = (0, 128, 93)  # of the density, the colour of data; its opacity is what varies, so it suits any ground
DEPTH = 12.0  # natural logarithms below the highest density at which the shade ends
LONGEST = 0.95  # of an arrow, in cells of the lattice


def shades(log_density: np.ndarray) -> str:
    """log density [n, n], row by row from the bottom, as an image for an SVG or a page to stretch -> its address."""
    level = np.clip((log_density - log_density.max()) / DEPTH + 1, 0, 1)[::-1]
    pixels = np.empty((*level.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = SHADE, np.round(level * 0.62 * 255)
    return data_uri(Image.fromarray(pixels))


def arrows(at: np.ndarray, vectors: np.ndarray, unit: float, seen: np.ndarray, extent: float) -> str:
    """An arrow at each point of a square lattice, at [n, 2]; vectors [n, 2]; seen [n] says which are drawn in full.

    One as long as `unit` gets half the greatest length, longer ones less and less more: L = |v| / (|v| + unit).
    """
    cell = SIDE / np.sqrt(len(at))
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    reach = LONGEST * cell * vectors / (size + unit) * [1, -1]
    tails = _place(at, extent) - reach / 2
    side = reach[:, ::-1] * [-1, 1]
    strokes = [
        f"M{x:.1f} {y:.1f}l{dx:.1f} {dy:.1f}m{a:.1f} {b:.1f}L{x + dx:.1f} {y + dy:.1f}l{c:.1f} {d:.1f}"
        for (x, y), (dx, dy), (a, b), (c, d) in zip(
            tails, reach, -0.35 * reach + 0.2 * side, -0.35 * reach - 0.2 * side, strict=True
        )
    ]
    faint, full = ("".join(s for s, one in zip(strokes, seen, strict=True) if one == k) for k in (False, True))
    return f'<path class="arrows faint" d="{faint}"/><path class="arrows" d="{full}"/>'


def dots(points: np.ndarray, extent: float, kind: str) -> str:
    """A dot at each of points [N, 2]."""
    d = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in _place(points, extent))
    return f'<path class="dots {kind}" d="{d}"/>'


def square(body: str, extent: float, description: str, shade: str = "", kind: str = "") -> str:
    """The plane from -extent to extent both ways, with its axes; `shade` is an address made by `shades`."""
    image = f'<image href="{shade}" width="{SIDE}" height="{SIDE}" preserveAspectRatio="none"/>' if shade else ""
    ticks = "".join(
        f'<text x="{SIDE * f:.0f}" y="{SIDE + 12}" text-anchor="{anchor}">{v:g}</text>'
        f'<text x="-4" y="{SIDE * (1 - f) + drop:.0f}" text-anchor="end">{v:g}</text>'
        for v, f, anchor, drop in ((-extent, 0, "start", 0), (0, 0.5, "middle", 4), (extent, 1, "end", 9))
    )
    return (
        f'<svg class="square {kind}" viewBox="{-MARGIN - 4} 0 {SIDE + MARGIN + 5} {SIDE + MARGIN}" role="img" '
        f'aria-label="{html.escape(description)}"><rect class="ground" width="{SIDE}" height="{SIDE}"/>'
        f'<svg width="{SIDE}" height="{SIDE}">{image}{body}</svg>{ticks}</svg>'
    )


def bare(body: str) -> str:
    """The plane without axes or ground, to lie over a picture of it."""
    return f'<svg class="square" viewBox="0 0 {SIDE} {SIDE}" aria-hidden="true">{body}</svg>'


def _place(points: np.ndarray, extent: float) -> np.ndarray:
    """Points of the plane -> points of the picture, whose y grows downwards."""
    return (points / extent * [1, -1] + 1) * SIDE / 2
