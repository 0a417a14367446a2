"""Samplers side by side with their twins elsewhere:  python -m tests.benchmarks.peers

The very same network object on the very same grid, 16 x 3 x 32 x 32, 20 steps. The share is what is not network calls.
A twin computes the same formula: how far the results are apart stands beside it. Where no library has the formula,
the nearest relative is timed, and said to be one; Euler-Maruyama and the predictor-corrector have none that is kept
up. Needs tests/benchmarks/requirements.txt.
"""

import importlib.util
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core.checkpoint import load
from diffusion_core.denoisers import Guided, NetDenoiser, to_x0
from diffusion_core.samplers import SAMPLERS, ddim, ddpm, dpmpp_2m, ode, rk45, timesteps
from diffusion_core.schedules import Discrete, VPLinear

from .timing import Clock, interleaved, ratio, table

STEPS, COUNT, RUNS = 20, 16, 5
CHECKPOINT = "checkpoints/cifar10.safetensors"


def k_diffusion() -> types.ModuleType:
    """k-diffusion's sampling module alone: the package around it imports the training of half a dozen networks."""
    spec = importlib.util.find_spec("k_diffusion")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    package.utils = types.ModuleType("k_diffusion.utils")
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": package.utils}
    package.utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    return importlib.import_module("k_diffusion.sampling")


class Pair(NamedTuple):
    """Ours and theirs, each a function of the starting state; `twin`: whether they compute the same formula."""

    name: str
    peer: str
    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]
    twin: bool = True


def last(run: Iterator) -> Tensor:
    *_, step = run
    return step.x


def seeded(seed: int = 0) -> Callable[[Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=g)


def pairs(net: torch.nn.Module) -> Iterator[Pair]:
    """Our samplers, each with the nearest there is."""
    yield from beside_diffusers(net)
    D = NetDenoiser(net, VPLinear(), "v")
    ts = timesteps(D.schedule, STEPS)
    yield from beside_k_diffusion(D, ts)
    yield beside_azula(D, ts)
    yield beside_torchdiffeq(D)


def beside_diffusers(net: torch.nn.Module) -> Iterator[Pair]:
    """On an even subset of the discrete schedule's levels, down to 0."""
    import diffusers

    D = NetDenoiser(net, Discrete(), "v")
    levels = torch.arange(1000, 0, -1000 // STEPS, dtype=torch.float64) / 1000
    ts = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])  # 1, 0.95, ..., 0.05, 0
    options = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False,
                   prediction_type="v_prediction", timestep_spacing="trailing")  # fmt: skip

    def scheduled(scheduler) -> Callable[[Tensor], Tensor]:
        """A scheduler of theirs, in the loop that their documentation gives."""
        scheduler.set_timesteps(STEPS)

        @torch.no_grad()
        def run(x: Tensor) -> Tensor:
            g = torch.Generator().manual_seed(0)
            for t in scheduler.timesteps:
                v = net(x, torch.full((len(x),), float(t) + 1.0), None)  # its level i lies at our t = (i + 1) / 1000
                x = scheduler.step(v, t, x, generator=g).prev_sample
            return x

        return run

    theirs = scheduled(diffusers.DDIMScheduler(**options))
    yield Pair("ddim", "diffusers DDIMScheduler", lambda x: last(ddim(D, x, ts)), theirs)
    theirs = scheduled(diffusers.DDPMScheduler(**options, variance_type="fixed_small"))
    yield Pair("ddpm", "diffusers DDPMScheduler", lambda x: last(ddpm(D, x, ts, noise=seeded())), theirs)


def beside_k_diffusion(D: NetDenoiser, ts: Tensor) -> Iterator[Pair]:
    """Its samplers see x / alpha, whose noise is sigma / alpha."""
    k = k_diffusion()
    sigmas, alphas = torch.exp(-D.schedule.lam(ts)).float(), D.schedule.alpha(ts).tolist()
    at = {sigma: where for sigma, *where in zip(sigmas.tolist(), ts.tolist(), alphas, strict=True)}

    def in_sigma(x: Tensor, sigma: Tensor) -> Tensor:
        t, alpha = at[sigma[0].item()]
        return D(alpha * x, torch.full((len(x),), t))

    def theirs(sample) -> Callable[[Tensor], Tensor]:
        return torch.no_grad()(lambda x: alphas[-1] * sample(in_sigma, x / alphas[0], sigmas, disable=True))

    euler, heun, two_m = (theirs(sample) for sample in (k.sample_euler, k.sample_heun, k.sample_dpmpp_2m))
    yield Pair("dpmpp_2m", "k-diffusion sample_dpmpp_2m", lambda x: last(dpmpp_2m(D, x, ts)), two_m)
    yield Pair("ddim", "k-diffusion sample_euler", lambda x: last(ddim(D, x, ts)), euler)
    ours = partial(ode, D, ts=ts, method="euler")
    yield Pair("euler", "k-diffusion sample_euler, in sigma", lambda x: last(ours(x)), euler, twin=False)
    yield Pair("heun", "k-diffusion sample_heun, in sigma", lambda x: last(ode(D, x, ts)), heun, twin=False)


def beside_azula(D: NetDenoiser, ts: Tensor) -> Pair:
    """One step at a time, so that the grid is ours."""
    from azula import sample as azula
    from azula.denoise import Denoiser as AzulaDenoiser
    from azula.denoise import DiracPosterior

    class Ours(AzulaDenoiser):
        """Our network as azula asks for one."""

        def __init__(self):
            super().__init__()
            self.schedule = lambda t: tuple(f(t)[:, None, None, None] if t.ndim else f(t)
                                            for f in (D.schedule.alpha, D.schedule.sigma))  # fmt: skip

        def forward(self, x: Tensor, t: Tensor, **_):
            return DiracPosterior(mean=D(x, t.expand(len(x)).float()))

    sampler = azula.DDIMSampler(Ours(), silent=True)

    @torch.no_grad()
    def theirs(x: Tensor) -> Tensor:
        for a, b in zip(ts[:-1].float(), ts[1:].float(), strict=True):
            x = sampler.step(x, a, b)
        return x

    return Pair("ddim", "azula DDIMSampler", lambda x: last(ddim(D, x, ts)), theirs)


def beside_torchdiffeq(D: NetDenoiser) -> Pair:
    """Both with the steps that they choose themselves."""
    from torchdiffeq import odeint

    schedule, tolerance = D.schedule, 1e-3
    ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)

    def slope(t: Tensor, x: Tensor) -> Tensor:
        t = t.clamp(min=schedule.t_min)  # dopri5 steps beyond the end and interpolates; below 0 there is no sigma
        a, s, f, g2 = (fn(t.double()).item() for fn in (schedule.alpha, schedule.sigma, schedule.f, schedule.g2))
        return f * x - 0.5 * g2 * (a * D(x, t.expand(len(x)).float()) - x) / s**2

    @torch.no_grad()
    def theirs(x: Tensor) -> Tensor:
        return odeint(slope, x, ends, rtol=tolerance, atol=tolerance, method="dopri5")[-1]

    def ours(x: Tensor) -> Tensor:
        return last(rk45(D, x, schedule.t_max, schedule.t_min, rtol=tolerance, atol=tolerance))

    return Pair("rk45", f"torchdiffeq dopri5, tolerance {tolerance:g}", ours, theirs)


def compared(pair: Pair, clock: Clock, x: Tensor) -> list[str]:
    """A row: seconds, their ratio, the shares that are not network calls, and how far apart the results are."""
    shares: dict[str, list[float]] = {"ours": [], "theirs": []}
    results, calls = {}, {}

    def timed(side: str) -> None:
        clock.seconds, clock.calls, started = 0.0, 0, time.perf_counter()
        results[side] = getattr(pair, side)(x)
        shares[side].append(100 * (1 - clock.seconds / (time.perf_counter() - started)))
        calls[side] = clock.calls

    found = interleaved({side: partial(timed, side) for side in shares}, RUNS)
    apart = (results["ours"] - results["theirs"]).abs().max().item()
    other = f", {calls['theirs']} calls" if calls["theirs"] != calls["ours"] else ""
    return [
        SAMPLERS[pair.name].label,
        pair.peer,
        str(calls["ours"]),
        found["ours"].text(),
        ratio(found["ours"], found["theirs"]) + other,
        *(f"{median(each[1:]):.2f} %" for each in shares.values()),
        f"{apart:.1e}" if pair.twin else "not a twin",
    ]


def samplers() -> str:
    """A row a pair."""
    net = load(CHECKPOINT).denoiser.net
    clock = Clock(net)
    x = torch.randn(COUNT, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    heads = ["ours", "theirs", "calls", "ours, s", "theirs / ours", "own share", "their share", "apart at most"]
    return table(heads, [compared(pair, clock, x) for pair in pairs(net)])


def guided() -> str:
    """Guidance by one pass on twice the batch, ours and as diffusers' pipelines write it, and by two passes."""
    D = load(CHECKPOINT).denoiser
    x = torch.randn(COUNT, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    t, cond = torch.full((COUNT,), 0.5), torch.arange(COUNT) % 10
    ours, null = Guided(D, 2.0), torch.full((COUNT,), D.net.num_classes)

    @torch.no_grad()
    def two_passes() -> Tensor:
        u, c = D(x, t, null), D(x, t, cond)
        return u + 2.0 * (c - u)

    @torch.no_grad()
    def as_in_diffusers() -> Tensor:
        """torch.cat([latents] * 2), the network's output chunked and combined, then brought to x0."""
        v_u, v_c = D.net(torch.cat([x] * 2), 1000 * torch.cat([t] * 2), torch.cat([null, cond])).chunk(2)
        v = v_u + 2.0 * (v_c - v_u)
        alpha, sigma = (fn(t)[:, None, None, None] for fn in (D.schedule.alpha, D.schedule.sigma))
        return to_x0(v, x, alpha, sigma, "v")

    subjects = {"one pass on 2B, ours": torch.no_grad()(lambda: ours(x, t, cond)), "two passes": two_passes,
                "one pass on 2B, as diffusers writes it": as_in_diffusers}  # fmt: skip
    found, results = interleaved(subjects, 15), {name: subject() for name, subject in subjects.items()}
    [base, *_] = subjects
    rows = [
        [name, found[name].text(1e-3), ratio(found[base], found[name]),
         f"{(results[name] - results[base]).abs().max().item():.1e}"]
        for name in subjects
    ]  # fmt: skip
    return table(["a guided call, 16 x 3 x 32 x 32", "ms", "over ours", "apart at most"], rows)


if __name__ == "__main__":
    print(samplers(), guided(), sep="\n\n")
