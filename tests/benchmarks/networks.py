"""Our UNet beside diffusers' UNet2DModel:  python -m tests.benchmarks.networks

3 x 32 x 32 images, ten classes, the shipped cifar10 network. Theirs three times: of the same cost a call, of the same
number of parameters, and on the same 2 x 2 unshuffled pixels, where both have the same levels and widths. Images a
second forwards and in training (loss, gradient, AdamW), on the CPU and where there is one on a GPU, in the precision
that train.py uses there. Needs tests/benchmarks/requirements.txt.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_core.checkpoint import load
from diffusion_core.networks import mixed_precision, network_from_config
from diffusion_core.training import device_name
from tune import cost

from .timing import interleaved, ratio, table

RUNS = 5
SHAPE = (3, 32, 32)
BATCHES = {"cpu": 32, "cuda": 512}


class Theirs(nn.Module):
    """diffusers' UNet2DModel, with attention on its coarsest level, called as ours is."""

    def __init__(self, width: int, patch: int = 1, classes: int = 10):
        super().__init__()
        from diffusers import UNet2DModel

        self.patch, self.null = patch, classes
        self.net = UNet2DModel(
            sample_size=32 // patch,
            in_channels=3 * patch**2,
            out_channels=3 * patch**2,
            layers_per_block=1,
            block_out_channels=(width, 2 * width, 2 * width),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=32 if width >= 32 else 8,
            norm_num_groups=math.gcd(32, width),
            num_class_embeds=classes + 1,
        )

    def forward(self, x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
        cond = torch.full_like(time, self.null, dtype=torch.long) if cond is None else cond
        out = self.net(F.pixel_unshuffle(x, self.patch), time, class_labels=cond).sample
        return F.pixel_shuffle(out, self.patch)


def batch(n: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 32, 32, generator=g)
    return x.to(device), torch.full((n,), 500.0, device=device), (torch.arange(n) % 10).to(device)


def nearest(target: float, which: int) -> Theirs:
    """Theirs of the width whose parameters (which = 0) or FLOPs (1) are nearest to the target."""
    return min((Theirs(width) for width in range(16, 129, 8)), key=lambda net: abs(cost(net, SHAPE)[which] - target))


def step(net: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple[Tensor, ...], device: str) -> None:
    """One step of training on a mean squared error."""
    with mixed_precision(torch.device(device)):
        loss = (net(*inputs) - inputs[0]).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def call(net: nn.Module, inputs: tuple[Tensor, ...], device: str) -> None:
    with torch.no_grad(), mixed_precision(torch.device(device)):
        net(*inputs)


def kept_for_gradient(net: nn.Module, inputs: tuple[Tensor, ...], device: str) -> float:
    """MB an image that a forward pass leaves behind for the backward pass, the weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), mixed_precision(torch.device(device)):
        out = net(*inputs)  # held, so that no storage is freed and its address used again
    found = sum(size for where, size in kept.items() if where not in weights)
    return found / len(out) / 1e6


def compare(device: str) -> str:
    """The table of one device."""
    ours = network_from_config(load("checkpoints/cifar10.safetensors").denoiser.net.config())
    parameters, flops = cost(ours, SHAPE)
    nets = {
        "ours": ours,
        "theirs, unshuffled pixels": Theirs(64, patch=2),
        "theirs, equal FLOPs": nearest(flops, 1),
        "theirs, equal parameters": nearest(parameters, 0),
    }
    costs, n = {name: cost(net, SHAPE) for name, net in nets.items()}, BATCHES[device]
    inputs, forwards, training, memory = batch(n, device), {}, {}, {}
    for name, net in nets.items():
        net.to(device)
        memory[name] = kept_for_gradient(net, inputs, device)
        if device == "cuda":
            net = torch.compile(net.to(memory_format=torch.channels_last))
        optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=device == "cuda")
        forwards[name] = partial(call, net, inputs, device)
        training[name] = partial(step, net, optimizer, inputs, device)
    found = [interleaved(subjects, RUNS) for subjects in (forwards, training)]
    rows = [
        [name, f"{costs[name][0]:.2f} M", f"{costs[name][1]:.2f}"]
        + [f"{n / times[name].median:.0f}, {ratio(times['ours'], times[name])}" for times in found]
        + [f"{memory[name]:.2f}"]
        for name in nets
    ]
    where = device_name(torch.device(device))
    heads = [f"{where}, batch {n}", "parameters", "GFLOP", "images/s forwards, ours faster by", "images/s in training",
             "MB an image kept for the gradient"]  # fmt: skip
    return table(heads, rows)


if __name__ == "__main__":
    print(*(compare(device) for device in (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])), sep="\n\n")
