"""The log and the pictures that training leaves behind come back as they were written."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_core.checkpoint import Model
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.history import Growth, Log, read_log, smoothed
from diffusion_core.images import to_uint8
from diffusion_core.networks import UNet
from diffusion_core.samplers import generate
from diffusion_core.schedules import VPLinear


def model(channels: int = 3) -> Model:
    torch.manual_seed(0)
    net = UNet(channels, width=8, mults=(1,), num_classes=2)
    return Model(NetDenoiser(net, VPLinear()), (channels, 8, 8), ["a", "b"], {})


def test_a_log_is_read_as_it_was_written_and_goes_on_after_its_last_save(tmp_path):
    path = tmp_path / "run.jsonl"
    assert read_log(path) == []
    log = Log(path, 0)
    entries = [{"step": k, "seconds": 0.5 * k, "images": 8 * k, "loss": 1 / k} for k in (5, 10, 15)]
    for entry in entries:
        log(**entry)
    assert read_log(path) == entries
    with path.open("a") as file:
        file.write('{"step": 20, "lo')
    assert read_log(path) == entries
    Log(path, 10)
    assert read_log(path) == entries[:2]
    Log(path, 0)
    assert read_log(path) == []


def test_a_row_is_ten_samples_of_the_model_and_survives_the_file(tmp_path):
    for channels in (1, 3):
        m, path = model(channels), tmp_path / f"{channels}.png"
        growth = Growth(path, 8)
        growth.add(m, 5)
        m.denoiser.net.head[-1].bias.data += 0.1
        growth.add(m, 10)
        *_, last = generate(m.denoiser, (10, channels, 8, 8), "dpmpp_2m", steps=18, seeds=list(range(10)),
                            cond=torch.arange(10) % 2)  # fmt: skip
        back = Growth(path, 8)
        assert back.steps == [5, 10]
        assert all((a == b).all() for a, b in zip(back.rows, growth.rows, strict=True))
        assert (back.rows[0] != back.rows[1]).any()
        tiles = [back.rows[1][:, 9 * k : 9 * k + 8] for k in range(10)]
        assert np.abs(np.stack(tiles).astype(int) - to_uint8(last.x)).max() <= 1
        with Image.open(path) as image:
            assert image.size == (10 * 9 - 1, 2 * 9 - 1)


def test_rows_come_at_doubling_steps_and_later_ones_are_forgotten(tmp_path):
    growth = Growth(tmp_path / "g.png", 8)
    drawn = []
    for step in range(100, 1700, 100):
        if growth.due(step):
            growth.steps.append(step)
            growth.rows.append(None)
            drawn.append(step)
    assert drawn == [100, 200, 400, 800, 1600]
    growth.rewind(799)
    assert growth.steps == [100, 200, 400] and len(growth.rows) == 3
    growth.rewind(0)
    assert growth.due(1)


def test_smoothing_is_the_mean_of_neighbours_and_keeps_both_a_line_and_the_first_value():
    values = np.random.default_rng(0).normal(size=30)
    for width in (1, 4, 5, 99):
        for k, mean in enumerate(smoothed(list(values), width)):
            reach = min(k, width // 2)
            assert mean == pytest.approx(values[k - reach : k + reach + 1].mean())
    assert smoothed([3.0, 5.0, 7.0, 9.0, 8.5], 3)[:3] == pytest.approx([3, 5, 7])
    assert smoothed([], 5) == []
