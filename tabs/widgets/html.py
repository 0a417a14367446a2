"""Pieces of the page that are pictures: pixel-exact images inside HTML, captions, status lines."""

import base64
import html

import torch
from PIL import Image

from diffusion_core.images import gif, grid, png


def data_uri(image: Image.Image, recipe: dict | None = None) -> str:
    """A PNG as text that an <img> or a link can carry, with the settings that made it inside."""
    return "data:image/png;base64," + base64.b64encode(png(image, recipe)).decode()


def gif_uri(frames: list[Image.Image], recipe: dict | None = None, *, ms: int = 80) -> str:
    """An animated GIF likewise."""
    return "data:image/gif;base64," + base64.b64encode(gif(frames, recipe, ms=ms)).decode()


def pixels(x: torch.Tensor, alt: str, box: int, small_box: int = 320, columns: int | None = None, gap: int = 1) -> str:
    """Images [B, C, H, W] as one sharp picture, enlarged by the largest whole factor that fits `box` page pixels.

    `small_box` is the room on a telephone's screen.
    """
    image = grid(x, columns, gap=gap)
    scale, small = max(1, box // max(image.size)), max(1, small_box // max(image.size))
    return (
        f'<img class="pixels" alt="{html.escape(alt)}" src="{data_uri(image)}" '
        f'style="--w:{image.width};--h:{image.height};--s:{scale};--s-small:{small}">'
    )


def busy(done: float) -> str:
    """A bar that is full when done is 1."""
    return f'<span class="busy"><i style="width:{min(100, 100 * done):.0f}%"></i></span>'


def figure(caption: str, content: str) -> str:
    return f'<figure class="panel"><figcaption>{caption}</figcaption>{content}</figure>'


def notice(text: str) -> str:
    """One line in a place where something cannot be shown: what is missing, and what to do."""
    return f'<p class="line">{html.escape(text)}</p>'


def mapping() -> str:
    return (
        '<p class="note">Black is −1, white +1; values beyond are clipped. Pixels are enlarged without smoothing.</p>'
    )
