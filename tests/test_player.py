"""The player: all frames in the page, within its limit, and the script that moves them."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_core.images import grid
from tabs.widgets.player import HEAD, LIMIT, Pictures, Points, evenly, player


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sheets(html: str) -> list[np.ndarray]:
    found = re.findall(r"url\('data:image/png;base64,([^']+)'\)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def lines_of(html: str) -> list[str]:
    return re.findall(r"<p(?: hidden)?>(line \d+)</p>", html)


def test_a_panel_of_pictures_is_one_sheet_of_its_frames_in_order():
    frames = [noise(5, 1, 8, 8, seed=k) for k in range(4)]
    html = player([Pictures("x", frames, columns=3)], [f"line {k}" for k in range(4)])
    [sheet] = sheets(html)
    assert sheet.shape == (4 * 17, 26)
    for k, frame in enumerate(frames):
        assert np.array_equal(sheet[17 * k : 17 * (k + 1)], np.asarray(grid(frame, 3)))
    assert 'data-columns="3"' in html and 'data-tiles="5"' in html


@pytest.mark.parametrize("start", [-1, 0, 2])
def test_it_opens_at_its_start_and_shows_that_line_alone(start):
    html = player([Pictures("x", [noise(1, 1, 8, 8)] * 5)], [f"line {k}" for k in range(5)], start=start)
    k = start % 5
    assert f'style="--k:{k}"' in html and f'max="4" step="1" value="{k}"' in html
    assert re.findall(r"<p>(line \d)</p>", html) == [f"line {k}"]


def test_a_long_run_is_thinned_to_the_limit_evenly_and_says_so():
    frames = [noise(1, 3, 16, 16, seed=k) for k in range(100)]
    html = player([Pictures("x", frames), Pictures("y", frames)], [f"line {k}" for k in range(100)], limit=60_000)
    kept = [int(line.split()[1]) for line in lines_of(html)]
    assert len(html) <= 60_000 and 20 < len(kept) < 40
    assert kept[0] == 0 and kept[-1] == 99 and max(np.diff(kept)) - min(np.diff(kept)) <= 1
    assert f"{len(kept)} of 100 steps are kept." in html
    for k, tile in zip(kept, sheets(html)[0].reshape(-1, 16, 16, 3), strict=True):
        assert np.array_equal(tile, np.asarray(grid(frames[k])))


def test_frames_left_out_before_are_counted_and_a_whole_run_needs_no_word():
    panel = [Pictures("x", [noise(1, 1, 8, 8)] * 3)]
    assert "3 of 250 steps are kept." in player(panel, ["a", "b", "c"], total=250)
    assert "3 of 9 positions are kept." in player(panel, ["a", "b", "c"], total=9, axis="position")
    assert "kept" not in player(panel, ["a", "b", "c"], total=3)
    assert LIMIT == 4_000_000


def test_evenly_spread_numbers_hold_both_ends():
    assert evenly(5, 9) == [0, 1, 2, 3, 4] and evenly(9, 3) == [0, 4, 8]
    assert evenly(1, 5) == [0] and evenly(7, 1) == [6] and evenly(250, 2) == [0, 249]


def test_points_keep_their_place_to_a_thousandth_and_y_points_up():
    extent = (-4.0, 4.0, -2.0, 2.0)
    points = np.array([[[-4.0, 2.0], [4.0, -2.0], [1.0, 0.5], [5.0, 0.0]]])
    html = player([Points("p", points, extent)], ["line 0"])
    levels = np.frombuffer(base64.b64decode(re.search(r'data-points="([^"]+)"', html)[1]), "<u2").reshape(1, 4, 2)
    x, y = np.moveaxis((levels - 16384.0) / 32767, -1, 0)
    np.testing.assert_allclose(x[0] * 8 - 4, points[0, :, 0], atol=1e-3)
    np.testing.assert_allclose(2 - y[0] * 4, points[0, :, 1], atol=1e-3)


def test_points_that_are_lost_lie_outside_the_panel():
    html = player([Points("p", np.array([[[np.nan, 0.0], [1e9, 0.0]]]), (-1, 1, -1, 1))], ["line 0"])
    levels = np.frombuffer(base64.b64decode(re.search(r'data-points="([^"]+)"', html)[1]), "<u2").reshape(2, 2)
    assert (levels[:, 0] > 16384 + 32767).all()


def test_only_a_grid_offers_one_of_its_tiles():
    one, many = ([Pictures("x", [noise(b, 1, 8, 8)])] for b in (1, 4))
    assert 'data-act="tile"' not in player(one, ["a"])
    html = player(many, ["a"], tiles=["<1>", "2", "3", "4"])
    assert 'data-act="tile"' in html and "&lt;1&gt;" in html and "all 4" in html


def test_every_control_has_a_name_and_the_script_one_listener_a_kind():
    html = player([Pictures("x", [noise(1, 1, 8, 8)], "A picture")], ["a"])
    for control in re.findall(r"<(?:input|select|button)[^>]*>[^<]*", html):
        assert "aria-label=" in control or control.endswith("Play")
    assert 'role="img" aria-label="A picture"' in html
    assert HEAD.startswith("<script>") and HEAD.count('document.addEventListener("input"') == 1
