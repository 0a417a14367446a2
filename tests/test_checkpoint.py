"""What is saved is what is loaded; anything else is refused in one sentence that names the file."""

import errno
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion_core import files
from diffusion_core.checkpoint import Model, load, save
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.networks import MLP, UNet
from diffusion_core.schedules import SCHEDULES, Discrete, VPLinear


def model(net=None, schedule=None, prediction="v") -> Model:
    """An untrained model whose output is not zero."""
    torch.manual_seed(0)
    net = net or UNet(1, width=8, num_classes=3)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    D = NetDenoiser(net, schedule or VPLinear(), prediction).eval()
    return Model(D, (1, 8, 8), ["cat", "dog", "emu"], {"step": 7, "device": "none"})


def outputs(m: Model, *shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    x, t = torch.randn(4, *shape, generator=g), torch.linspace(0.01, 0.9, 4)
    return m.denoiser(x, t, torch.tensor([0, 1, 2, 3]))


@pytest.fixture
def path(tmp_path):
    """A good checkpoint."""
    save(tmp_path / "model.safetensors", model())
    return tmp_path / "model.safetensors"


def refused(path, words: str | None = None, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# Round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_a_loaded_unet_gives_bit_equal_output(tmp_path, schedule, prediction):
    m = model(UNet(3, 8, (1, 2), 1, (0,), 2, 3), schedule, prediction)
    m.shape = (3, 8, 8)
    save(tmp_path / "m", m)
    loaded = load(tmp_path / "m")
    assert torch.equal(outputs(loaded, 3, 8, 8), outputs(m, 3, 8, 8))
    assert (loaded.shape, loaded.classes, loaded.config) == (m.shape, m.classes, m.config)
    assert loaded.denoiser.schedule.config() == schedule.config()


def test_a_loaded_mlp_gives_bit_equal_output(tmp_path, schedule):
    m = model(MLP(2, 16, 2, num_classes=3), schedule)
    m.shape = (2,)
    save(tmp_path / "m", m)
    assert torch.equal(outputs(load(tmp_path / "m"), 2), outputs(m, 2))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedules_own_settings_are_kept(tmp_path, name):
    settings = {
        "vp_cosine": {"s": 0.02},
        "ve": {"sigma_min": 0.02, "sigma_max": 30.0},
        "discrete": {"alphas_bar": [0.9, 0.5, 0.1 + 1e-17]},
    }.get(name, {"beta_min": 0.2, "beta_max": 15.0})
    save(tmp_path / "m", model(schedule=SCHEDULES[name](**settings)))
    config = load(tmp_path / "m").denoiser.schedule.config()
    assert config == {"name": name, **settings}


def test_a_network_without_classes_is_kept(tmp_path):
    m = model(UNet(1, 8))
    m.classes = []
    save(tmp_path / "m", m)
    assert load(tmp_path / "m").classes == []


def test_half_precision_halves_the_file_and_rounds_the_weights_once(tmp_path, path):
    save(tmp_path / "half", model(), torch.float16)
    weights = model().denoiser.net.state_dict()
    loaded = load(tmp_path / "half").denoiser.net.state_dict()
    for name, value in weights.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], value.half().float())
    sizes = [(sum(t.nbytes for t in load_file(p).values())) for p in (path, tmp_path / "half")]
    assert sizes[0] == 2 * sizes[1]


def test_saving_leaves_the_model_as_it_is(path):
    m = model()
    before = outputs(m, 1, 8, 8)
    save(path, m, torch.float16)
    assert torch.equal(outputs(m, 1, 8, 8), before)
    assert m.denoiser.training is False
    assert next(m.denoiser.parameters()).dtype == torch.float32


def test_a_loaded_model_is_ready_to_use(path):
    D = load(path).denoiser
    assert not D.training
    assert not any(p.requires_grad for p in D.parameters())


# Refused ----------------------------------------------------------------------------------------------------------


def test_a_truncated_file_is_refused(path):
    data = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        refused(path, "not a complete safetensors file")


def test_extra_bytes_are_refused(path):
    path.write_bytes(path.read_bytes() + b"x")
    refused(path, "not a complete safetensors file")


def test_a_flipped_byte_anywhere_is_refused(path):
    """Every byte of the length, every seventh of the header, and some of the tensors."""
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(8), *range(8, header, 7), *range(header, len(data), len(data) // 50), len(data) - 1]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        refused(path)


@pytest.mark.parametrize("bit", [1, 32])
def test_a_flipped_bit_of_the_description_is_refused(path, bit):
    data = path.read_bytes()
    start, end = data.index(b'"model":'), data.index(b'"sha256":')
    for place in range(start, end, 11):
        damaged = bytearray(data)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        refused(path)


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_and_never_executed(tmp_path, path):
    bomb = {"state_dict": Bomb(tmp_path / "executed")}
    path.write_bytes(pickle.dumps(bomb))
    refused(path, "not a complete safetensors file")
    torch.save(bomb, path)
    refused(path, "not a complete safetensors file")
    assert not (tmp_path / "executed").exists()


def test_another_programs_file_is_refused(path):
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        refused(path, "another program; one made by train.py is needed")


def test_another_version_is_refused_and_both_are_named(path, monkeypatch):
    monkeypatch.setattr(files, "VERSION", "9")
    save(path, model())
    monkeypatch.undo()
    refused(path, "version 9; this program reads version 1")


def forge(path, **changes) -> None:
    """A file with a good checksum whose description has been changed."""
    about, tensors = files.read_checked(path, "diffusion_core", "train.py")
    files.write_checked(path, "diffusion_core", json.loads(json.dumps(about)) | changes, tensors)


def test_weights_that_do_not_fit_the_network_are_refused(path):
    forge(path, net=UNet(1, width=16, num_classes=3).config())
    refused(path, "weights do not fit the network")
    forge(path, net=MLP().config())
    refused(path, "weights do not fit the network")


@pytest.mark.parametrize(
    "changes",
    [{"net": {"name": "dit"}}, {"net": {"name": "unet", "depth": 3}}, {"schedule": {"name": "new"}}],
)
def test_a_network_or_schedule_of_a_newer_program_is_refused(path, changes):
    forge(path, **changes)
    refused(path)


def test_a_missing_file_and_a_folder_are_said_to_be_no_checkpoint(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        refused(path, "There is no checkpoint .*; train.py makes one", FileNotFoundError)


# Saving -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_checkpoint_bit_for_bit(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"Could not write .*model\.safetensors: No space left"):
        save(path, model(UNet(1, width=16, num_classes=3)))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    load(path)


# Classes ----------------------------------------------------------------------------------------------------------


def test_a_label_is_found_by_its_name_or_the_classes_are_listed():
    m = model()
    assert [m.label(name) for name in m.classes] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"no class 'yak'; it has cat, dog, emu\."):
        m.label("yak")
    with pytest.raises(ValueError, match=r"no class 'yak'; it has none\."):
        Model(m.denoiser, m.shape, []).label("yak")


def test_conditions_are_one_class_all_in_turn_or_none():
    m = model()
    assert m.conditions("dog", 3).tolist() == [1, 1, 1]
    assert m.conditions("all", 5).tolist() == [0, 1, 2, 0, 1]
    assert m.conditions("none", 3) is m.conditions(None, 3) is None
    with pytest.raises(ValueError, match="no class 'yak'"):
        m.conditions("yak", 3)
    assert Model(m.denoiser, m.shape, []).conditions("all", 3) is None


def test_a_codec_that_is_none_changes_nothing():
    x = torch.randn(2, 1, 8, 8)
    codec = model().codec
    assert torch.equal(codec.decode(codec.encode(x)), x)


def test_discrete_schedules_survive_to_the_last_bit(tmp_path):
    schedule = Discrete()
    save(tmp_path / "m", model(schedule=schedule))
    assert torch.equal(load(tmp_path / "m").denoiser.schedule.alphas_bar, schedule.alphas_bar)
