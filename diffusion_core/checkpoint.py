"""One safetensors file holds a whole model: the weights, and in its header how to rebuild everything around them."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .denoisers import NetDenoiser
from .files import read_checked, write_checked
from .networks import network_from_config
from .schedules import schedule_from_config

FORMAT = "diffusion_core"


class Codec:
    """Pixels to what the model works on, and back. This one, the identity, is for models of pixels."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


@dataclass
class Model:
    """A trained denoiser with what one needs to use it.

    shape    (C, H, W) of one sample; values in [-1, 1]
    classes  names of the labels 0, 1, ...; label len(classes) is the null class
    config   where it came from: data, recipe, steps, minutes, device
    """

    denoiser: NetDenoiser
    shape: tuple[int, ...]
    classes: list[str]
    config: dict = field(default_factory=dict)
    codec: Codec = field(default_factory=Codec)

    def label(self, name: str) -> int:
        """The label of a class name. Raises ValueError, listing the classes, if there is none of that name."""
        if name not in self.classes:
            raise ValueError(f"This model has no class {name!r}; it has {', '.join(self.classes) or 'none'}.")
        return self.classes.index(name)

    def conditions(self, name: str | None, count: int) -> Tensor | None:
        """Labels [count] for a class, for "all" of them in turn, or None, unconditional, for None or "none".

        "all" of a model without classes is unconditional too. Raises ValueError for a class that does not exist.
        """
        if name in (None, "none") or (name == "all" and not self.classes):
            return None
        labels = torch.arange(count) % len(self.classes) if name == "all" else torch.full((count,), self.label(name))
        return labels.to(next(self.denoiser.parameters()).device)


def save(path: str | Path, model: Model, dtype: torch.dtype | None = None) -> None:
    """Write the model atomically; dtype (say torch.float16) is what the weights are stored in, default their own."""
    D = model.denoiser
    about = {
        "shape": list(model.shape),
        "classes": model.classes,
        "config": model.config,
        "net": D.net.config(),
        "schedule": D.schedule.config(),
        "prediction": D.prediction,
    }
    write_checked(path, FORMAT, about, D.net.state_dict(), dtype)


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model, its weights in float32, in evaluation mode, on `device`.

    Raises FileNotFoundError if there is no such file and ValueError, naming the file and what is wrong with it, if
    it is truncated, altered, or not a model of this package. Nothing in the file is ever executed.
    """
    about, tensors = read_checked(path, FORMAT, "train.py")
    try:
        net = network_from_config(about["net"])
        D = NetDenoiser(net, schedule_from_config(about["schedule"]), about["prediction"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} describes a model that this program cannot build: {error}") from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: its weights do not fit the network it describes; train it again.") from error
    D = D.float().to(device).eval().requires_grad_(False)
    return Model(D, tuple(about["shape"]), about["classes"], about["config"])
