"""A small classifier, whose features and verdicts judge generated images where Inception's weights are not at hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import read_checked, write_checked
from .metrics import FeatureStats, Reference
from .networks import mixed_precision

if TYPE_CHECKING:
    from .data import ImageSet

FORMAT = "diffusion_core.classifier"
INCEPTION = "Inception 2015-12-05"  # the one network whose Frechet distance is called FID


class Residual(nn.Module):
    """ReLU(skip + two 3 x 3 convolutions), at a stride (He et al. 2016, arXiv 1512.03385).

    The skip averages before it is projected, so that no pixel goes unseen (arXiv 1812.01187, fig. 2c).
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)
        self.skip = nn.Identity()
        if stride > 1:
            pool, project = nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False)
            self.skip = nn.Sequential(pool, project, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(x) + self.norm2(self.conv2(h)))


class Classifier(nn.Module):
    """Images [B, C, H, W] in [-1, 1], of sides from 8 to about 64, to logits [B, classes].

    channels  of the image
    classes   how many
    width     channels of the finest level; there are num_features = 4 * width features
    """

    def __init__(self, channels: int, classes: int, width: int = 32):
        super().__init__()
        self._config = dict(channels=channels, classes=classes, width=width)
        self.channels, self.num_features = channels, 4 * width
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.body = nn.Sequential(
            Residual(width, width, 1), Residual(width, 2 * width, 2), Residual(2 * width, 4 * width, 2)
        )
        self.head = nn.Linear(self.num_features, classes)

    def config(self) -> dict:
        return dict(self._config)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, an average over the picture -> [B, num_features]; logits are head(features)."""
        if x.ndim != 4 or x.shape[1] != self.channels or min(x.shape[2:]) < 8:
            wanted = f"[B, {self.channels}, H, W] with sides of at least 8"
            raise ValueError(f"This classifier takes images {wanted}, not {list(x.shape)}.")
        return self.body(self.stem(x)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


# Files ------------------------------------------------------------------------------------------------------------


class Judge(NamedTuple):
    """A network that judges images, with what it makes of real ones.

    name        what to call its features beside a number
    network     has features(x) -> [B, num_features] and head(features) -> logits; in evaluation mode
    classes     names of the logits' columns
    config      where it came from
    references  by split, "train" and "test": the features of real images
    """

    name: str
    network: nn.Module
    classes: list[str]
    config: dict
    references: dict[str, Reference]

    @property
    def distance(self) -> str:
        """What the Frechet distance in its features must be called: with Inception's only, it is an FID."""
        return "FID" if self.name == INCEPTION else f"Fréchet distance (features: {self.name})"


def save_classifier(
    path: str | Path, model: Classifier, classes: list[str], config: dict, references: dict[str, Reference]
) -> None:
    """Write the classifier, rounded to half precision, its classes, its origin and its references, atomically.

    config["title"] is what the images are called. Means and covariances stay in float64; of the sample it keeps
    half precision.
    """
    weights = {f"net.{name}": v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()}
    about = {
        "net": model.config(),
        "classes": classes,
        "config": config,
        "references": {split: real.stats.n for split, real in references.items()},
    }
    write_checked(path, FORMAT, about, weights | packed(references))


def packed(references: dict[str, Reference]) -> dict[str, Tensor]:
    """References as tensors to store: all but the number of images that they are of."""
    tensors = {}
    for split, (stats, sample) in references.items():
        tensors |= {f"{split}.mean": stats.mean, f"{split}.cov": stats.cov, f"{split}.sample": sample.half()}
    return tensors


def unpacked(tensors: dict[str, Tensor], split: str, n: int) -> Reference:
    """The reference of n images that `packed` took apart."""
    stats = FeatureStats.stored(tensors[f"{split}.mean"], tensors[f"{split}.cov"], n)
    return Reference(stats, tensors[f"{split}.sample"].float())


def load_classifier(path: str | Path, device: str | torch.device = "cpu") -> Judge:
    """The classifier as a judge, on `device` and in evaluation mode.

    Raises FileNotFoundError if there is no such file and ValueError, naming the file and what is wrong with it, if
    it is truncated, altered, or not a classifier of this package. Nothing in the file is ever executed.
    """
    about, tensors = read_checked(path, FORMAT, "save_classifier")
    model = Classifier(**about["net"])
    try:
        model.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        references = {split: unpacked(tensors, split, n) for split, n in about["references"].items()}
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: its weights do not fit the classifier it describes; train it again.") from error
    model = model.to(device).eval().requires_grad_(False)
    return Judge(f"{about['config']['title']} classifier", model, about["classes"], about["config"], references)


# Training ---------------------------------------------------------------------------------------------------------


def train_classifier(
    images: "ImageSet",
    *,
    steps: int,
    batch: int = 128,
    lr: float = 3e-3,
    width: int = 32,
    shift: int = 2,
    flip: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Classifier:
    """A classifier of images, in evaluation mode.

    AdamW, whose rate rises to lr and falls to 0 in one cycle (Smith & Topin 2017, arXiv 1708.07120). Images are shown
    shifted by up to `shift` pixels, and half of them mirrored if `flip`: wrong for digits and letters. Weights, order
    and shifts are functions of the seed. progress(step, loss) is called after each step, from 1.
    """
    g = torch.Generator().manual_seed(seed)
    pixels, labels = torch.from_numpy(images.images).movedim(-1, 1), torch.from_numpy(images.labels)
    model = initialised(Classifier(pixels.shape[1], len(images.classes), width), g)
    model = model.to(device, memory_format=torch.channels_last)  # a third faster, on the CPU too
    pixels, labels = pixels.to(device), labels.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for step, index in enumerate(batches(len(labels), batch, steps, g), start=1):
        index = index.to(device)
        x = augmented(pixels[index], shift, flip, g).contiguous(memory_format=torch.channels_last)
        with mixed_precision(labels.device):
            loss = F.cross_entropy(model(x / 127.5 - 1), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        progress(step, loss.item())
    return model.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


def initialised(model: Classifier, g: torch.Generator) -> Classifier:
    """The model with its weights drawn anew (He et al. 2015, arXiv 1502.01852), from g and not the global generator."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=g)
    nn.init.zeros_(model.head.bias)
    return model


def batches(n: int, batch: int, steps: int, g: torch.Generator) -> tuple[Tensor, ...]:
    """The indices [batch] of each step: all n come up, in random order, before any comes up again."""
    epochs = math.ceil(steps * batch / n)
    order = torch.cat([torch.randperm(n, generator=g) for _ in range(epochs)])
    return order[: steps * batch].split(batch)


def augmented(x: Tensor, shift: int, flip: bool, g: torch.Generator) -> Tensor:
    """x [B, C, H, W], each image shifted by up to `shift` pixels, its border repeated, and half mirrored if `flip`."""
    b, _, h, w = x.shape
    rows, columns = (
        (torch.arange(side) + torch.randint(-shift, shift + 1, (b, 1), generator=g)).clamp(0, side - 1)
        for side in (h, w)
    )  # [B, H], [B, W]: where each pixel is taken from
    if flip:
        columns = torch.where(torch.rand(b, 1, generator=g) < 0.5, columns.flip(1), columns)
    of_image, rows, columns = (v.to(x.device) for v in (torch.arange(b)[:, None, None], rows, columns))
    return x.movedim(1, -1)[of_image, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
