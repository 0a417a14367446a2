"""Files are written whole or not at all, and a damaged one is told from a good one."""

import errno
import os

import pytest
import torch

from diffusion_core.files import read_checked, write_atomically, write_checked


def fail_at(monkeypatch, name: str) -> None:
    """Let os.<name> fail as on a full disk."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, full)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    for data in (b"first", b"", bytes(range(256)) * 100):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]


def test_a_written_file_can_be_read_by_all(tmp_path):
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as m:
        fail_at(m, step)
        with pytest.raises(OSError, match=r"Could not write .*file: No space left on device; .* unchanged\.$"):
            write_atomically(path, b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_or_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    with pytest.raises(OSError, match=r"Could not write .*folder"):
        write_atomically(tmp_path / "folder", b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match=r"Could not write .*file/below"):
        write_atomically(tmp_path / "file" / "below", b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_checked_tensors_come_back_with_their_types_shapes_and_bits(tmp_path):
    tensors = {
        "matrix": torch.randn(3, 4),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(5).half(),
        "double": torch.randn(2, 1, 2, dtype=torch.float64),
        "labels": torch.arange(7),
        "flags": torch.tensor([True, False]),
        "transposed": torch.randn(3, 4).T,
        "empty": torch.zeros(0, 3),
    }
    about = {"a": [1, 2.5, None], "ü": "ß"}
    write_checked(tmp_path / "file", "kind", about, tensors)
    read_about, read = read_checked(tmp_path / "file", "kind", "its maker")
    assert read_about == about
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_a_storage_type_changes_floats_only(tmp_path):
    write_checked(tmp_path / "file", "kind", {}, {"x": torch.randn(3), "n": torch.arange(3)}, torch.float16)
    _, read = read_checked(tmp_path / "file", "kind", "its maker")
    assert (read["x"].dtype, read["n"].dtype) == (torch.float16, torch.int64)


def test_a_file_of_another_kind_is_refused_and_its_maker_named(tmp_path):
    write_checked(tmp_path / "file", "kind", {}, {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"file is .* another program; one made by its maker is needed"):
        read_checked(tmp_path / "file", "other kind", "its maker")
