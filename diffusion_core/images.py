"""Tensors in [-1, 1], uint8 arrays and PIL images: every conversion between them, and pictures made of many."""

import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from .files import write_atomically

MAX_PIXELS = 50_000_000  # an upload of more is refused before it is decoded


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 [..., H, W, C] -> float32 [..., C, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, -3).float() / 127.5 - 1


def levels(x: Tensor) -> Tensor:
    """float, clipped to [-1, 1] and rounded -> the levels 0 to 255 of a picture file, still in float32."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255)


def to_uint8(x: Tensor) -> np.ndarray:
    """float [..., C, H, W] in [-1, 1] -> uint8 [..., H, W, C] of the nearest levels."""
    return levels(x.detach().cpu()).to(torch.uint8).movedim(-3, -1).contiguous().numpy()


def to_pil(x: Tensor, scale: int = 1) -> Image.Image:
    """One image [C, H, W], C 1 or 3, enlarged by a whole factor without smoothing."""
    return enlarge(to_uint8(x), scale)


def enlarge(pixels: np.ndarray, scale: int) -> Image.Image:
    """uint8 [H, W, C] -> PIL image with each pixel a square of scale x scale."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def grid(x: Tensor, columns: int | None = None, *, scale: int = 1, gap: int = 1, ground: int = 128) -> Image.Image:
    """Images [B, C, H, W] row by row, `gap` grey pixels between. Default: near a square, if possible without a hole."""
    tiles = to_uint8(x)
    b, h, w, c = tiles.shape
    columns = min(b, columns or _near_square(b))
    rows = math.ceil(b / columns)
    h, w = h * scale, w * scale
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), ground, np.uint8)
    for k, tile in enumerate(tiles.repeat(scale, axis=1).repeat(scale, axis=2)):
        top, left = k // columns * (h + gap), k % columns * (w + gap)
        canvas[top : top + h, left : left + w] = tile
    return enlarge(canvas, 1)


def _near_square(b: int) -> int:
    """Columns for b images: as few as make it no higher than wide, up to twice as wide if that fills every row."""
    least = math.ceil(math.sqrt(b))
    return next((c for c in range(least, math.isqrt(4 * b) + 1) if b % c == 0), least)


def strip(x: Tensor, *, scale: int = 1, gap: int = 1) -> Image.Image:
    """Images [B, C, H, W] in one row."""
    return grid(x, len(x), scale=scale, gap=gap)


def fit(image: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """The largest centred crop of the right proportions, resized -> [C, H, W] in [-1, 1]; C is 1 or 3."""
    c, h, w = shape
    image = ImageOps.fit(image.convert("L" if c == 1 else "RGB"), (w, h), Image.Resampling.LANCZOS)
    return to_tensor(np.array(image).reshape(h, w, c))  # a copy: Pillow's own memory is read-only


def read_image(source: str | Path | bytes) -> Image.Image:
    """The first frame of a picture file, upright, as RGB.

    Raises FileNotFoundError if there is no such file, and ValueError, naming the file and what is wrong with it, for
    one that is no picture, cut off, or over 50 million pixels.
    """
    name = "The picture" if isinstance(source, bytes) else Path(source).name
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"There is no picture {source}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of large size: our own limit follows
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                w, h = image.size
                if w * h <= MAX_PIXELS:
                    return _on_white(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is far too large; the most is {MAX_PIXELS // 10**6} million pixels.") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that can be read; a PNG, JPEG, WebP or GIF is.") from error
    except Exception as error:  # on damaged data Pillow's decoders raise whatever they stumble over
        raise ValueError(f"{name} is cut off or damaged; try another copy.") from error
    raise ValueError(f"{name} has {w} x {h} pixels; the most is {MAX_PIXELS // 10**6} million.")


def _on_white(image: Image.Image) -> Image.Image:
    """Transparency replaced by white, any mode (CMYK, palette, 16 bit) by RGB."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))  # 65535 / 257 = 255
    elif image.mode in ("I", "F"):  # no fixed range: what is there is stretched over all levels
        levels = np.nan_to_num(np.asarray(image, np.float64))
        span = max(levels.max() - levels.min(), 1)
        image = Image.fromarray(((levels - levels.min()) / span * 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def png(image: Image.Image, recipe: dict | None = None) -> bytes:
    """The image as a PNG file, with the settings that made it as text inside."""
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_text("recipe", json.dumps(recipe))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=1)  # twice as fast as 6; noise does not shrink anyway
    return buffer.getvalue()


def save_png(path: str | Path, image: Image.Image, recipe: dict | None = None) -> None:
    """Write `png` atomically."""
    write_atomically(path, png(image, recipe))


def gif(frames: list[Image.Image], recipe: dict | None = None, *, ms: int = 80) -> bytes:
    """An endless animation as a GIF file, `ms` milliseconds a frame, with the settings that made it as its comment."""
    buffer = io.BytesIO()
    comment = json.dumps(recipe).encode() if recipe is not None else b""
    first, *rest = [_in_few_colours(frame) for frame in frames]
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=ms, loop=0, comment=comment)
    return buffer.getvalue()


def _in_few_colours(frame: Image.Image) -> Image.Image:
    """The 256 colours of a GIF: by octree, 30 times as fast as Pillow's median cut, and as good to see."""
    return frame if frame.mode == "L" else frame.quantize(method=Image.Quantize.FASTOCTREE)


def save_gif(path: str | Path, frames: list[Image.Image], recipe: dict | None = None, *, ms: int = 80) -> None:
    """Write `gif` atomically."""
    write_atomically(path, gif(frames, recipe, ms=ms))


def read_recipe(path: str | Path) -> dict | None:
    """The settings inside a PNG or GIF that `save_png` or `save_gif` wrote; None for any other file."""
    try:
        with Image.open(path) as image:
            text = image.info.get("recipe") or image.info.get("comment")
        recipe = json.loads(text) if text else None
    except (UnidentifiedImageError, ValueError):
        return None
    return recipe if isinstance(recipe, dict) else None
