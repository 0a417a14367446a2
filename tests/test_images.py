"""Conversions are exact, pictures have the geometry they promise, and any upload is read or refused in one sentence."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from diffusion_core.images import (
    fit,
    grid,
    read_image,
    read_recipe,
    save_gif,
    save_png,
    strip,
    to_pil,
    to_tensor,
    to_uint8,
)


def picture(h: int = 12, w: int = 20, c: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """A few hundred bytes that claim side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# Tensors and uint8 ------------------------------------------------------------------------------------------------


def test_uint8_to_tensor_and_back_is_the_identity_on_all_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(to_uint8(to_tensor(levels)), levels)


def test_channels_move_and_the_ends_of_the_range_are_exact():
    images = picture()[None].repeat(2, axis=0)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    x = to_tensor(images)
    assert x.shape == (2, 3, 12, 20)
    assert x.dtype == torch.float32
    assert (x[0, :, 0, 0] == -1).all()
    assert (x[0, :, 0, 1] == 1).all()
    assert np.array_equal(to_uint8(x), images)


def test_values_outside_are_clipped_and_those_between_rounded():
    values = torch.tensor([-1e9, -1.5, -1.0, 1.0, 1.5, 1e9, (100.4 - 127.5) / 127.5, (100.6 - 127.5) / 127.5])
    assert to_uint8(values.reshape(1, 1, 8)).ravel().tolist() == [0, 0, 0, 255, 255, 255, 100, 101]


def test_tensors_that_need_a_gradient_or_have_half_precision_are_converted():
    x = to_tensor(picture())
    assert np.array_equal(to_uint8(x.clone().requires_grad_()), picture())
    assert np.abs(to_uint8(x.half()).astype(int) - picture()).max() <= 1


# Pictures made of many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarging_makes_each_pixel_a_square(channels):
    pixels = picture(5, 7, channels)
    big = np.asarray(to_pil(to_tensor(pixels), scale=4)).reshape(20, 28, channels)
    assert np.array_equal(big, pixels.repeat(4, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_its_images_in_rows_on_a_ground_of_one_colour(channels):
    tiles = np.stack([picture(4, 6, channels, seed=k) for k in range(5)])
    image = np.asarray(grid(to_tensor(tiles), 3, scale=2, gap=3, ground=77)).reshape(19, 42, channels)
    ground = np.ones((19, 42), bool)
    for k, tile in enumerate(tiles):
        y, x = k // 3 * 11, k % 3 * 15
        assert np.array_equal(image[y : y + 8, x : x + 12], tile.repeat(2, axis=0).repeat(2, axis=1))
        ground[y : y + 8, x : x + 12] = False
    assert (image[ground] == 77).all()


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3), (8, 4, 2), (10, 5, 2), (16, 4, 4), (64, 8, 8)],
)
def test_a_grid_is_near_a_square_and_has_no_hole_if_that_can_be(count, columns, rows):
    assert grid(torch.zeros(count, 1, 8, 8)).size == (columns * 9 - 1, rows * 9 - 1)


def test_a_strip_is_one_row():
    assert strip(torch.zeros(5, 3, 8, 6), scale=2, gap=4).size == (5 * 12 + 4 * 4, 16)


# Fitting a picture to a model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 16, 24)])
def test_a_fitted_picture_has_the_models_shape_and_range(mode, shape):
    x = fit(Image.fromarray(picture()).convert(mode), shape)
    assert tuple(x.shape) == shape
    assert -1 <= x.min() < x.max() <= 1


def test_a_picture_of_the_right_size_is_fitted_unchanged():
    assert np.array_equal(to_uint8(fit(Image.fromarray(picture()), (3, 12, 20))), picture())


def test_fitting_crops_to_the_middle_and_does_not_distort():
    wide = np.full((10, 30, 3), 255, np.uint8)
    wide[:, 10:20] = 0
    assert (fit(Image.fromarray(wide), (3, 10, 10)) == -1).all()


def test_a_fitted_tensor_can_be_written_to():
    x = fit(Image.fromarray(picture()), (3, 12, 20))
    x += 1
    assert np.array_equal(np.asarray(Image.fromarray(picture())), picture())


# Recipes in files -------------------------------------------------------------------------------------------------

RECIPE = {"seed": 7, "guidance": 2.5, "class": "ünïcode → 9", "long": "x" * 1000}


def test_a_png_keeps_its_pixels_and_its_recipe(tmp_path):
    save_png(tmp_path / "a.png", Image.fromarray(picture()), RECIPE)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture())
    assert read_recipe(tmp_path / "a.png") == RECIPE


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_gif_keeps_its_frames_its_pace_and_its_recipe(tmp_path, mode):
    frames = [Image.new(mode, (8, 8), level) for level in ("black", "white", "gray")]
    save_gif(tmp_path / "a.gif", frames, RECIPE, ms=120)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (3, 120, 0)
        for k, level in enumerate((0, 255, 128)):
            gif.seek(k)
            assert np.asarray(gif.convert("L")).ravel().tolist() == [level] * 64
    assert read_recipe(tmp_path / "a.gif") == RECIPE


def test_a_file_without_a_recipe_of_ours_has_none(tmp_path):
    path = tmp_path / "a.png"
    save_png(path, Image.fromarray(picture()))
    assert read_recipe(path) is None
    for text in ("not json", "[1, 2]", "3", ""):
        info = PngImagePlugin.PngInfo()
        info.add_text("recipe", text)
        Image.fromarray(picture()).save(path, pnginfo=info)
        assert read_recipe(path) is None
    for kind in ("JPEG", "GIF"):
        path.write_bytes(encoded(Image.fromarray(picture()), kind, comment=b"made \xff elsewhere"))
        assert read_recipe(path) is None


def test_a_file_that_is_no_picture_or_not_there_has_no_recipe(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert read_recipe(tmp_path / "a.png") is None
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "b.png")


# Reading whatever is uploaded -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_kinds_are_read_exactly_from_a_file_and_from_bytes(tmp_path, kind):
    data = encoded(Image.fromarray(picture()), kind)
    (tmp_path / "picture").write_bytes(data)
    for source in (data, tmp_path / "picture", str(tmp_path / "picture")):
        image = read_image(source)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), picture())


def test_a_cmyk_jpeg_is_read_as_rgb():
    image = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert image.mode == "RGB"
    red, green, blue = np.asarray(image)[8, 8]
    assert red > 200
    assert max(green, blue) < 60


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    save_gif(tmp_path / "a.gif", [Image.new("RGB", (8, 8), c) for c in ("red", "lime", "blue")])
    assert np.asarray(read_image(tmp_path / "a.gif")).reshape(-1, 3).tolist() == [[255, 0, 0]] * 64


def test_16_bit_levels_are_divided_by_257():
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert np.asarray(read_image(encoded(Image.fromarray(levels), "PNG")))[0, :, 0].tolist() == [0, 1, 128, 255]
    flat = np.full((4, 4), 100 * 257, np.uint16)
    assert (np.asarray(read_image(encoded(Image.fromarray(flat), "PNG"))) == 100).all()


def test_float_and_32_bit_pictures_are_stretched_over_all_levels():
    for dtype in (np.float32, np.int32):
        levels = np.array([[-1000, 0, 1000]], dtype)
        assert np.asarray(read_image(encoded(Image.fromarray(levels), "TIFF")))[0, :, 0].tolist() == [0, 127, 255]


def test_transparency_becomes_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    assert np.asarray(read_image(encoded(palette, "PNG", transparency=0))).tolist() == [[[255] * 3, [40, 50, 60]]]
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    assert np.asarray(read_image(encoded(Image.fromarray(rgba), "PNG"))).tolist() == [[[255] * 3, [10, 20, 30]]]
    grey = np.array([[[10, 0], [10, 255]]], np.uint8)
    assert np.asarray(read_image(encoded(Image.fromarray(grey), "PNG"))).tolist() == [[[255] * 3, [10] * 3]]


def test_black_and_white_and_a_single_pixel_are_read():
    assert np.asarray(read_image(encoded(Image.new("1", (3, 1), 1), "PNG"))).tolist() == [[[255] * 3] * 3]
    one = read_image(encoded(Image.new("L", (1, 1), 9), "PNG"))
    assert np.asarray(one).tolist() == [[[9] * 3]]
    assert fit(one, (1, 28, 28)).shape == (1, 28, 28)


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be rotated by 90 degrees clockwise
    upright = np.asarray(read_image(encoded(Image.fromarray(picture()), "PNG", exif=exif)))
    assert np.array_equal(upright, np.rot90(picture(), -1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_cut_off_anywhere_is_read_or_refused_in_one_sentence(kind, recwarn):
    data = encoded(Image.fromarray(picture()), kind)
    refused = 0
    for length in [*range(0, len(data) - 1, 7), len(data) // 2]:
        try:
            read_image(data[:length])
        except ValueError as error:
            assert str(error).startswith("The picture is ")
            refused += 1
    assert refused > 20
    assert not recwarn


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_half_a_picture_is_refused_by_name(tmp_path, kind):
    data = encoded(Image.fromarray(picture(64, 64)), kind)
    (tmp_path / "cat.pic").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"^cat\.pic is cut off or damaged; try another copy\.$"):
        read_image(tmp_path / "cat.pic")


def test_damaged_bytes_never_raise_anything_but_our_sentences(capfd):
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        data = encoded(Image.fromarray(picture()), kind)
        for _ in range(100):
            damaged = bytearray(data)
            for _ in range(3):
                damaged[rng.integers(min(len(data), 200))] = rng.integers(256)
            try:
                read_image(bytes(damaged))
            except ValueError as error:
                assert str(error).startswith("The picture ")
                assert "\n" not in str(error)


def test_what_is_no_picture_is_refused():
    for data in (b"", b"hello", b"%PDF-1.4 ...", bytes(1000)):
        with pytest.raises(ValueError, match="is not a picture that can be read; a PNG, JPEG, WebP or GIF is"):
            read_image(data)


def test_a_picture_that_is_not_there_is_said_to_be_missing(tmp_path):
    for path in (tmp_path / "cat.png", tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no picture"):
            read_image(path)


def test_a_huge_picture_is_refused_before_it_is_decoded():
    started = time.perf_counter()
    for side, words in (
        (20_000, "far too large; the most is 50 million"),
        (9_000, "9000 x 9000 pixels; the most is 50"),
    ):
        with pytest.raises(ValueError, match=words):
            read_image(huge_png(side))
    assert time.perf_counter() - started < 1
