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
    import diffusers
    from azula import sample as azula
    from azula.denoise import Denoiser as AzulaDenoiser
    from azula.denoise import DiracPosterior
    from torchdiffeq import odeint

    k = k_diffusion()
    discrete, linear = NetDenoiser(net, Discrete(), "v"), NetDenoiser(net, VPLinear(), "v")
    levels = torch.arange(1000, 0, -1000 // STEPS, dtype=torch.float64) / 1000
    to_zero = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])  # 1, 0.95, ..., 0.05, 0
    betas = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False)

    def scheduled(scheduler) -> Callable[[Tensor], Tensor]:
        """A scheduler of diffusers, in the loop that its documentation gives."""
        scheduler.set_timesteps(STEPS)

        @torch.no_grad()
        def run(x: Tensor) -> Tensor:
            g = torch.Generator().manual_seed(0)
            for t in scheduler.timesteps:
                v = net(x, torch.full((len(x),), float(t) + 1.0), None)  # its level i lies at our t = (i + 1) / 1000
                x = scheduler.step(v, t, x, generator=g).prev_sample
            return x

        return run

    spacing = dict(prediction_type="v_prediction", timestep_spacing="trailing")
    theirs = scheduled(diffusers.DDIMScheduler(**betas, **spacing))
    yield Pair("ddim", "diffusers DDIMScheduler", lambda x: last(ddim(discrete, x, to_zero)), theirs)
    theirs = scheduled(diffusers.DDPMScheduler(**betas, **spacing, variance_type="fixed_small"))
    yield Pair("ddpm", "diffusers DDPMScheduler", lambda x: last(ddpm(discrete, x, to_zero, noise=seeded())), theirs)

    ts = timesteps(linear.schedule, STEPS)
    sigmas = torch.exp(-linear.schedule.lam(ts)).float()  # k-diffusion and azula see x / alpha

    alphas = linear.schedule.alpha(ts).tolist()
    at = {sigma: where for sigma, *where in zip(sigmas.tolist(), ts.tolist(), alphas, strict=True)}

    def in_sigma(x: Tensor, sigma: Tensor) -> Tensor:
        t, alpha = at[sigma[0].item()]
        return linear(alpha * x, torch.full((len(x),), t))

    first, end = linear.schedule.alpha(ts[0]).item(), linear.schedule.alpha(ts[-1]).item()

    def of_k(sample) -> Callable[[Tensor], Tensor]:
        return lambda x: end * sample(in_sigma, x / first, sigmas, disable=True)

    yield Pair("dpmpp_2m", "k-diffusion sample_dpmpp_2m", lambda x: last(dpmpp_2m(linear, x, ts)),
               torch.no_grad()(of_k(k.sample_dpmpp_2m)))  # fmt: skip
    yield Pair("ddim", "k-diffusion sample_euler", lambda x: last(ddim(linear, x, ts)), of_k(k.sample_euler))
    yield Pair("euler", "k-diffusion sample_euler, in sigma", lambda x: last(ode(linear, x, ts, method="euler")),
               of_k(k.sample_euler), twin=False)  # fmt: skip
    yield Pair("heun", "k-diffusion sample_heun, in sigma", lambda x: last(ode(linear, x, ts)),
               of_k(k.sample_heun), twin=False)  # fmt: skip

    class Ours(AzulaDenoiser):
        """Our network as azula asks for one."""

        def __init__(self):
            super().__init__()
            self.schedule = lambda t: tuple(f(t)[:, None, None, None] if t.ndim else f(t)
                                            for f in (linear.schedule.alpha, linear.schedule.sigma))  # fmt: skip

        def forward(self, x: Tensor, t: Tensor, **_):
            return DiracPosterior(mean=linear(x, t.expand(len(x)).float()))

    sampler = azula.DDIMSampler(Ours(), silent=True)

    @torch.no_grad()
    def in_azula(x: Tensor) -> Tensor:
        for a, b in zip(ts[:-1].float(), ts[1:].float(), strict=True):
            x = sampler.step(x, a, b)
        return x

    yield Pair("ddim", "azula DDIMSampler", lambda x: last(ddim(linear, x, ts)), in_azula)

    def slope(t: Tensor, x: Tensor) -> Tensor:
        t = t.clamp(
            min=linear.schedule.t_min
        )  # dopri5 steps beyond the end and interpolates; below 0 there is no sigma
        a, s, f, g2 = (fn(t.double()).item() for fn in (linear.schedule.alpha, linear.schedule.sigma,
                                                        linear.schedule.f, linear.schedule.g2))  # fmt: skip
        return f * x - 0.5 * g2 * (a * linear(x, t.expand(len(x)).float()) - x) / s**2

    @torch.no_grad()
    def dopri5(x: Tensor) -> Tensor:
        ends = torch.tensor([linear.schedule.t_max, linear.schedule.t_min], dtype=torch.float64)
        return odeint(slope, x, ends, rtol=1e-3, atol=1e-3, method="dopri5")[-1]

    def ours(x: Tensor) -> Tensor:
        return last(rk45(linear, x, linear.schedule.t_max, linear.schedule.t_min, rtol=1e-3, atol=1e-3))

    yield Pair("rk45", "torchdiffeq dopri5, tolerance 1e-3", ours, dopri5)


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
