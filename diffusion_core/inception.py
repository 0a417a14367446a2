"""The network whose features make a Frechet distance an FID: Inception v3 as TensorFlow released it in December 2015.

Other weights, another way to resize or another pool give other numbers, not to be compared with published ones. The
weights (95 MB) are no part of this package: `find_weights` looks for them, and `download_inception` fetches them.
"""

import hashlib
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import inception as blocks

from .images import levels

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
NAMES = (Path(URL).name, "pt_inception-2015-12-05-6726825d.pth")  # torch-fidelity's and pytorch-fid's: one content


# The network ------------------------------------------------------------------------------------------------------


def resize(x: Tensor, side: int = 299) -> Tensor:
    """Images [B, C, H, W] -> [B, C, side, side], bilinear as in TensorFlow 1.

    Row i of the result lies at i H / side of the picture: pixels are points, and not squares around (i + 1/2) as
    everywhere else, and nothing is smoothed before a picture is made smaller.
    """
    for dim in (3, 2):
        n = x.shape[dim]
        at = torch.arange(side, dtype=torch.float32, device=x.device) * (n / side)
        low = at.long()
        a, b = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=n - 1))
        x = a + (b - a) * (at - low).view(-1, *[1] * (3 - dim))
    return x


class InsideAverage:
    """For a block of torchvision's: its pool averages what is inside the picture, and not the padding's zeros too."""

    def pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        y, own = super().forward(x), self.branch_pool(self.pooled(x))
        y[:, -own.shape[1] :] = own  # branches are concatenated, that of the pool last
        return y


class InceptionA(InsideAverage, blocks.InceptionA):
    """For 35 x 35 pixels (Szegedy et al. 2015, fig. 5)."""


class InceptionC(InsideAverage, blocks.InceptionC):
    """For 17 x 17 pixels (fig. 6)."""


class InceptionE(InsideAverage, blocks.InceptionE):
    """For 8 x 8 pixels (fig. 7)."""


class LastInceptionE(InceptionE):
    """Its pool takes the largest, not the average: perhaps a slip in the graph that was released, now the standard."""

    def pooled(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=1, padding=1)


class Inception(blocks.Inception3):
    """Inception v3 (Szegedy et al. 2015, arXiv 1512.00567) as the FID uses it (Heusel et al. 2017, arXiv 1706.08500).

    torchvision's but for the pools, the resizing and 1008 classes, and with the same names of weights. It stays in
    evaluation mode and takes no gradients. An image costs about 16 MB of memory: the fastest batches are of 16 to 32
    on a CPU.
    """

    num_features = 2048

    def __init__(self):
        kinds = [blocks.BasicConv2d, InceptionA, blocks.InceptionB, InceptionC, blocks.InceptionD, InceptionE, None]
        super().__init__(num_classes=1008, aux_logits=False, init_weights=False, inception_blocks=kinds)
        self.Mixed_7c = LastInceptionE(2048)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # almost twice as fast on a CPU

    def train(self, mode: bool = True) -> "Inception":
        """Does nothing: the network stays in evaluation mode."""
        return super().train(False)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of images [B, 1 or 3, H, W] in [-1, 1], called pool3 -> [B, 2048].

        The images are first rounded to the levels of a picture file, since the FID is defined on those.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"Inception takes images [B, 1 or 3, H, W], not {list(x.shape)}.")
        x = (resize(levels(x)) - 128) / 128
        x = x.expand(-1, 3, -1, -1)
        for name, layer in self.named_children():  # in the order of the forward pass
            if name != "fc":
                x = layer(x)
        return x.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        """[B, 2048] -> logits [B, 1008], without the bias: those the Inception Score is computed from."""
        return features @ self.fc.weight.T

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


# Its weights ------------------------------------------------------------------------------------------------------


def find_weights(path: str | Path | None = None) -> Path:
    """The file of weights: path, else $FID_INCEPTION, else what torch-fidelity, pytorch-fid or we have downloaded.

    Raises FileNotFoundError if there is none; where a path is given, no other is tried.
    """
    if given := path or os.environ.get("FID_INCEPTION"):
        if Path(given).is_file():
            return Path(given)
        source = "" if path else ", where FID_INCEPTION points"
        raise FileNotFoundError(f"There is no file {given}{source}; the weights of Inception, {NAMES[0]}, are needed.")
    for name in NAMES:
        if (_folder() / name).is_file():
            return _folder() / name
    raise FileNotFoundError(
        f"An FID needs the weights of Inception: download_inception() puts {NAMES[0]} into {_folder()}, and a copy "
        "elsewhere is found by FID_INCEPTION=path."
    )


def load_inception(path: str | Path | None = None, device: str | torch.device = "cpu") -> Inception:
    """The network with the weights that `find_weights` finds, in .pth or .safetensors format.

    Raises FileNotFoundError if there are none, and ValueError, naming the file, if it is damaged or holds anything
    else. Nothing in the file is ever executed.
    """
    path = find_weights(path)
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # on damaged data the readers raise whatever they stumble over
        raise ValueError(f"{path} is damaged or no file of weights; download_inception() fetches another.") from error
    model = Inception()
    try:
        # Counters of training steps matter to nobody, and some files lack them: none is read, none is missed.
        model.load_state_dict({k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")})
    except (AttributeError, TypeError, RuntimeError) as error:  # no dictionary of tensors; or names or shapes differ
        raise ValueError(f"{path} holds other weights than those of the FID's Inception, {NAMES[0]}.") from error
    return model.to(device)


def download_inception(progress: bool = True) -> Path:
    """Fetch the weights, published by torch-fidelity, into torch.hub's folder, unless they are there and undamaged.

    The file counts only if its SHA-256 begins with the digits in its name. Raises OSError, and leaves no file, where
    there is no network or something else has arrived.
    """
    target = _folder() / Path(URL).name
    digits = target.stem.rpartition("-")[-1]
    if target.is_file():
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(digits):
                return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(target), digits, progress)
    except (OSError, RuntimeError) as error:  # torch.hub's RuntimeError: the digits differ
        reason = getattr(error, "reason", error)  # urllib's errors carry one
        raise OSError(f"Could not download {URL} into {target.parent}: {reason}.") from error
    return target


def _folder() -> Path:
    """Where torch.hub, and so torch-fidelity, keeps what it downloads; $TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"
