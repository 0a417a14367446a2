"""The networks: `UNet` for images, `MLP` for points in the plane.

Both are called as net(x, time, cond): x [B, *S] of about unit size, time [B] in 0 .. 1000, cond [B] integer labels
or None. Label `num_classes` is the null class, "no class"; None means the same for the whole batch. cond may also be
weights [B, num_classes + 1] of a mixture of labels: their embeddings' weighted mean is then taken.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoids(time: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Sines and cosines of time [B] at dim / 2 geometric frequencies -> [B, dim] (arXiv 1706.03762)."""
    freqs = torch.exp(-math.log(max_period) / (dim // 2) * torch.arange(dim // 2, device=time.device))
    angles = time[:, None].float() * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(time.dtype)


class Embedding(nn.Module):
    """Time and class -> one vector [B, dim] that modulates every block."""

    def __init__(self, dim: int, num_classes: int, frequencies: int = 64):
        super().__init__()
        self.frequencies, self.num_classes = frequencies, num_classes
        self.time = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None

    def forward(self, time: Tensor, cond: Tensor | None) -> Tensor:
        emb = self.time(sinusoids(time, self.frequencies))
        if self.label is not None:
            cond = torch.full_like(time, self.num_classes, dtype=torch.long) if cond is None else cond
            emb = emb + (self.label(cond) if cond.ndim == 1 else cond @ self.label.weight)
        return F.silu(emb)


def zero(module: nn.Module) -> nn.Module:
    """Zero-initialised: a residual branch that starts as the identity trains faster and more stably."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups of at least 2 channels: a group of one would erase each channel's mean."""
    return nn.GroupNorm(math.gcd(32, channels // 2), channels)


class ResBlock(nn.Module):
    """norm, SiLU, conv; norm scaled and shifted by the embedding, SiLU, conv; plus the input (2105.05233)."""

    def __init__(self, c_in: int, c_out: int, emb: int, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = nn.Linear(emb, 2 * c_out)
        self.norm2, self.conv2 = norm(c_out), zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(self.dropout(h))


class Attention(nn.Module):
    """Self-attention over the pixels, added to the input."""

    def __init__(self, channels: int, head: int = 32):
        super().__init__()
        self.heads = max(1, channels // head)
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.proj = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # [B, heads, HW, c / heads] each
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(out.transpose(2, 3).reshape(b, c, h, w))


class Block(nn.Module):
    """A residual block, followed by attention where the recipe says."""

    def __init__(self, c_in: int, c_out: int, emb: int, attention: bool, dropout: float):
        super().__init__()
        self.res = ResBlock(c_in, c_out, emb, dropout)
        self.attention = Attention(c_out) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class UNet(nn.Module):
    """The usual image network of diffusion models (Ho et al. 2020, arXiv 2006.11239, app. B), small.

    channels     of the image
    width        channels of the finest level
    mults        channels of each level, as multiples of width; each further level halves the image side
    blocks       residual blocks a level on the way down (one more on the way up)
    attention    levels (0 is the finest) whose blocks are followed by self-attention; the middle always has it
    patch        side of the squares that a pixel-unshuffle folds into channels first: 2 makes it about 4 times cheaper
    num_classes  labels 0 .. num_classes - 1, and the null class num_classes; 0 for a network without classes
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        mults: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        patch: int = 1,
        num_classes: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self._config = dict(
            channels=channels,
            width=width,
            mults=list(mults),
            blocks=blocks,
            attention=list(attention),
            patch=patch,
            num_classes=num_classes,
            dropout=dropout,
        )
        self.num_classes, self.patch = num_classes, patch
        self.multiple = patch * 2 ** (len(mults) - 1)  # the image side must be one of this
        emb = 4 * width
        self.embedding = Embedding(emb, num_classes)
        self.stem = nn.Conv2d(channels * patch**2, width, 3, padding=1)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        c, skips = width, [width]
        for level, mult in enumerate(mults):
            if level > 0:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            for _ in range(blocks):
                self.down.append(Block(c, c := mult * width, emb, level in attention, dropout))
                skips.append(c)
        self.middle = nn.ModuleList(
            [
                Block(c, c, emb, True, dropout),
                Block(c, c, emb, False, dropout),
            ]
        )
        for level, mult in reversed(list(enumerate(mults))):
            for _ in range(blocks + 1):
                self.up.append(Block(c + skips.pop(), c := mult * width, emb, level in attention, dropout))
            if level > 0:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1)))
        self.head = nn.Sequential(norm(c), nn.SiLU(), zero(nn.Conv2d(c, channels * patch**2, 3, padding=1)))

    def config(self) -> dict:
        return {"name": "unet", **self._config}

    def forward(self, x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"This UNet takes images with sides a multiple of {self.multiple}, not {tuple(x.shape[-2:])}."
            )
        emb = self.embedding(time, cond)
        h = self.stem(F.pixel_unshuffle(x, self.patch))  # [B, width, H / patch, W / patch]
        skips = [h]
        for layer in self.down:
            h = layer(h, emb) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(layer, Block) else layer(h)
        return F.pixel_shuffle(self.head(h), self.patch)


class MLP(nn.Module):
    """Residual multilayer perceptron for points x [B, dim]: the score network of the 2-D playground."""

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 3, num_classes: int = 0):
        super().__init__()
        self._config = dict(dim=dim, width=width, depth=depth, num_classes=num_classes)
        self.num_classes = num_classes
        self.embedding = Embedding(width, num_classes)
        self.stem = nn.Linear(dim, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, dim)

    def config(self) -> dict:
        return {"name": "mlp", **self._config}

    def forward(self, x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
        emb = self.embedding(time, cond)
        h = self.stem(x)
        for layer in self.layers:
            h = h + layer(F.silu(h + emb))
        return self.head(F.silu(h))


def ema_update(ema: nn.Module, net: nn.Module, step: int, exponent: float) -> None:
    """Average with weight ~ t^exponent: forgets the start, and suits a run of any length (arXiv 2312.02696, eq. 5)."""
    beta = (1 - 1 / (step + 1)) ** (exponent + 1)
    averages, values = list(ema.parameters()), [p.detach() for p in net.parameters()]
    torch._foreach_lerp_(averages, values, 1 - beta)


def mixed_precision(device: torch.device) -> torch.autocast:
    """The context to train in: products in bfloat16 where the device has hardware for them, twice as fast or more."""
    able = device.type == "cuda" or (device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False))
    return torch.autocast(device.type, torch.bfloat16, enabled=able)


NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": MLP}


def network_from_config(config: dict) -> nn.Module:
    """The inverse of `config()`. Raises ValueError for a name that is not in `NETWORKS`."""
    kwargs = dict(config)
    name = kwargs.pop("name", None)
    if name not in NETWORKS:
        raise ValueError(f"Unknown network {name!r}; choose one of {', '.join(NETWORKS)}.")
    return NETWORKS[name](**kwargs)
