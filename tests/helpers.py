"""What several test files need: small models, seeded numbers, closeness in float64, pictures out of a page."""

import base64
import io

import torch
from PIL import Image
from torch import nn

from diffusion_core.checkpoint import Model
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.networks import UNet
from diffusion_core.schedules import Schedule, VPLinear


def close(a, b, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Stub(nn.Module):
    """A network that puts out what it is told, and remembers what it was given."""

    num_classes = 0

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, time, cond):
        self.seen = x, time, cond
        return self.output


def tiny_model(
    classes: tuple[str, ...] = ("cat", "dog"), dataset: str = "", patch: int = 1, schedule: Schedule | None = None
) -> Model:
    """A model of 8 x 8 grey images, its weights random: as initialised, neither noise nor class makes a difference."""
    torch.manual_seed(0)
    net = UNet(channels=1, width=8, patch=patch, num_classes=len(classes))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.15)
    D = NetDenoiser(net.eval().requires_grad_(False), schedule or VPLinear())
    return Model(D, (1, 8, 8), list(classes), {"dataset": dataset} if dataset else {})


def picture_in(uri: str) -> Image.Image:
    """The PNG that a data URI holds."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    image.load()
    return image
