"""Writing files so that a reader, or a crash, never meets half of one, nor a damaged one unawares."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

VERSION = "1"  # of the files that write_checked makes


def write_atomically(path: str | Path, data: bytes) -> None:
    """Put data at path, whole or not at all: written beside it, flushed to disk, then renamed over it.

    Raises OSError, naming the path, when the folder cannot be written or the disk is full; what was there stays.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise OSError(
            f"Could not write {path}: {error.strerror or error}; what was there before is unchanged."
        ) from error


def write_checked(
    path: str | Path, kind: str, about: dict, tensors: dict[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write tensors, floats as dtype (default their own), and the JSON-ready `about`, atomically; `kind` names both."""
    tensors = {
        k: v.detach().to("cpu", dtype if v.is_floating_point() else None).contiguous() for k, v in tensors.items()
    }
    description = json.dumps(about)
    header = {"format": kind, "version": VERSION, "model": description, "sha256": _checksum(description, tensors)}
    write_atomically(path, to_bytes(tensors, metadata=header))


def read_checked(path: str | Path, kind: str, maker: str) -> tuple[dict, dict[str, Tensor]]:
    """`about` and the tensors. Raises as `load` does; `maker` is what the message says such files are made by."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}; {maker} makes one.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file (truncated, or of another kind); copy it again."
        ) from error
    if header.get("format") != kind:
        raise ValueError(f"{path} is a safetensors file of another program; one made by {maker} is needed.")
    if header.get("version") != VERSION:
        raise ValueError(f"{path} has format version {header.get('version')}; this program reads version {VERSION}.")
    if header.get("sha256") != _checksum(header.get("model", ""), tensors):
        raise ValueError(f"{path} has been altered or damaged: its checksum does not match; copy it again.")
    return json.loads(header["model"]), tensors


def _checksum(about: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the description and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
