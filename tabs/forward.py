"""Forward: drag t and watch a picture turn into noise, with the numbers that do it."""

import math
import random
from functools import lru_cache

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from diffusion_core.checkpoint import Model
from diffusion_core.data import available
from diffusion_core.images import fit, read_image, to_pil, to_tensor, to_uint8
from diffusion_core.samplers import seeded_noise
from diffusion_core.schedules import SCHEDULES, Schedule

from .widgets.controls import plainly, seed_field, seed_of, slider
from .widgets.html import data_uri, figure, pixels
from .widgets.plots import Curve, Frame, curves, histogram
from .widgets.runs import MODELS, Settings, frames, held_out

SHAPE = (3, 64, 64)  # of uploaded pictures, and of photographs from a folder
STRIP = 11  # pictures from clean to noise
NAMES = {
    "vp_linear": "VP, linear beta",
    "vp_cosine": "VP, cosine",
    "vp_quadratic": "VP, quadratic beta",
    "sub_vp": "sub-VP",
    "ve": "VE",
    "discrete": "DDPM, 1000 levels",
}
schedules: dict[str, Schedule] = {name: SCHEDULES[name]() for name in NAMES}


# The stage --------------------------------------------------------------------------------------------------------


def at(schedule: Schedule, x0: Tensor, eps: Tensor, ts: list[float]) -> Tensor:
    """x_t of one image [C, H, W] at each t -> [T, C, H, W], divided by scale(t) where that exceeds 1."""
    t = torch.tensor(ts, dtype=torch.float64)
    x = schedule.perturb(x0.expand(len(ts), *x0.shape), t, eps.expand(len(ts), *eps.shape))
    return x / schedule.scale(t).clamp(min=1).to(x)[:, None, None, None]


def stage_html(x0: Tensor, eps: Tensor, x: Tensor, n: dict, name: str, compare: bool) -> tuple[str, str]:
    """Everything the tab shows of x (x_t as `at` gives it) and its `numbers`: the pictures, and the plots."""
    row = at(schedules[name], x0, eps, [k / (STRIP - 1) for k in range(STRIP)])
    return sum_html(x0, eps, x, n) + strip_html(row, n["t"]), line_html(n) + plots_html(name, n["t"], compare, x, n)


def sum_html(x0: Tensor, eps: Tensor, x: Tensor, n: dict) -> str:
    """x_t = alpha x0 + sigma eps, in pictures."""
    shrunk = f", divided by {n['scale']:.3g}" if n["scale"] > 1.0005 else ""
    return (
        '<div class="sum">'
        + figure(f"<b>x<sub>t</sub></b> at t = {n['t']:.2f}{shrunk}", pixels(x[None], "The noisy picture", 290, 170))
        + f'<span class="term"><b>=</b><span class="op data">{n["alpha"]:.3g} ×</span>'
        + figure("<b>x<sub>0</sub></b> data", pixels(x0[None], "The clean picture", 170, 64))
        + f'</span><span class="term"><b>+</b><span class="op noise">{n["sigma"]:.3g} ×</span>'
        + figure("<b>ε</b> noise", pixels(eps[None], "Gaussian noise", 170, 64))
        + "</span></div>"
    )


def strip_html(row: Tensor, t: float) -> str:
    """The pictures from clean to noise, with t marked below."""
    width = row.shape[-1]
    total = STRIP * (width + 1) - 1

    def left(s: float) -> float:  # where time s lies, in percent of the strip
        return 100 * (s * (STRIP - 1) * (width + 1) + width / 2) / total

    ticks = "".join(f'<span style="left:{left(k / 10):.2f}%">{k / 10:g}</span>' for k in range(STRIP))
    marker = f'<span class="at" style="left:{left(t):.2f}%">▲</span>'
    return (
        f'<div class="strip">{pixels(row, "The same picture at eleven times from clean to noise", 960, 320, STRIP)}'
        f'<div class="strip-axis">{ticks}{marker}</div></div>'
    )


@lru_cache
def curve_values(name: str) -> tuple[np.ndarray, ...]:
    """t, alpha, sigma and log-SNR of a schedule on a fine grid."""
    schedule = schedules[name]
    t = torch.linspace(0, 1, 121, dtype=torch.float64)
    return tuple(v.numpy() for v in (t, schedule.alpha(t), schedule.sigma(t), 2 * schedule.lam(t)))


def plots_html(name: str, t: float, compare: bool, x: Tensor, n: dict) -> str:
    """Alpha and sigma, log-SNR, histogram. Compared, each schedule has a colour; alpha is solid, sigma dashed."""
    mixing, log_snr = [], []
    for other in NAMES if compare else [name]:
        ts, alpha, sigma, snr = curve_values(other)
        kinds = (other, other, other) if compare else ("data", "noise", "snr")
        labels = ("alpha", "sigma", "log-SNR") if other == name else (NAMES[other],) * 3
        a, s, r = (
            Curve(ts, y, kind, label, other == name)
            for y, kind, label in zip((alpha, sigma, snr), kinds, labels, strict=True)
        )
        mixing += [a, s._replace(dash="5 3")]
        log_snr.append(r)
    top = 1.1 if compare else 1.1 * max(1.0, curve_values(name)[2].max())  # compared, VE leaves the frame
    values = x.flatten().numpy()
    legend = "<span>alpha solid, sigma dashed</span>" + "".join(
        f'<span class="{k}{" bold" * (k == name)}"><i></i>{v}</span>' for k, v in NAMES.items()
    )
    return (
        '<div class="plots">'
        + curves(
            mixing,
            Frame((0, 1), (0, top), "Signal alpha, noise sigma", "t"),
            t,
            f"alpha is {n['alpha']:.3g} and sigma {n['sigma']:.3g} at t = {t:.2f}",
        )
        + curves(
            log_snr,
            Frame((0, 1), (-12, 12), "log-SNR = ln(alpha² / sigma²)", "t"),
            t,
            f"log-SNR is {n['log_snr']:.2f} at t = {t:.2f}",
        )
        + histogram(
            values,
            f"Pixel values: mean {values.mean():.2f}, std {values.std():.2f}",
            f"Histogram of the pixels of x_t beside the standard normal at t = {t:.2f}",
        )
        + "</div>"
        + (f'<p class="legend">{legend}</p>' if compare else "")
    )


def line_html(n: dict) -> str:
    shrunk = f" x<sub>t</sub> is shown divided by its size, {n['scale']:.3g}." if n["scale"] > 1.0005 else ""
    return (
        f'<p class="line">x<sub>t</sub> = {n["alpha"]:.4f} x<sub>0</sub> + {n["sigma"]:.4f} ε '
        f'<span class="dim">· SNR {n["snr"]:.3g} · log-SNR {n["log_snr"]:.2f} · '
        f"dx = {n['f']:.3g} x dt + {n['g']:.3g} dw</span></p>"
        f'<p class="note">Black is −1, white +1; values beyond are clipped.{shrunk} SNR = alpha² / sigma².</p>'
    )


def numbers(name: str, t: float) -> dict[str, float]:
    """The schedule at t; at t = 0, where the SNR of most is infinite, just beside it.

    f and g, which the cosine's end makes infinite, are those of the last time that sampling uses.
    """
    schedule, t_in = schedules[name], max(t, 1e-6)
    c = schedule.table(torch.tensor([t_in, min(t_in, schedule.t_max)]))
    log_snr = 2 * c.lam[0]
    return {
        "t": t,
        "alpha": c.alpha[0],
        "sigma": c.sigma[0],
        "log_snr": log_snr,
        "snr": math.exp(log_snr),
        "f": c.f[1],
        "g": math.sqrt(c.g2[1]),
        "scale": math.hypot(c.alpha[0], c.sigma[0]),
    }


# Where the picture comes from -------------------------------------------------------------------------------------


def sources() -> list[str]:
    """What pictures there are on this machine, best first."""
    return [*(f"generated: {name}" for name in MODELS), *available()]


def draw(source: str) -> np.ndarray:
    """A picture from a source, by chance -> uint8 [H, W, C]."""
    kind, _, name = source.rpartition(": ")
    if kind:
        settings = Settings(name, "all" if MODELS[name].classes else "none", count=1, seed=random.randrange(2**31))
        if MODELS[name].classes:
            settings = settings._replace(cls=random.choice(MODELS[name].classes))
        *_, last = frames(settings)
        return to_uint8(last.x[0])
    images = held_out(name, SHAPE[-1]).images
    return images[random.randrange(len(images))]


def as_tensors(picture: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 [H, W, C] -> x0 and its noise, both [C, H, W]."""
    x0 = to_tensor(picture)
    return x0, seeded_noise([seed])(x0[None])[0]


# Handlers ---------------------------------------------------------------------------------------------------------


@plainly
def forward(picture: np.ndarray, schedule: str, t: float, seed: int, compare: bool = False) -> tuple[str, str, dict]:
    """Noise the current picture to time t: x_t = alpha(t) x0 + sigma(t) eps.

    schedule is one of vp_linear, vp_cosine, vp_quadratic, sub_vp, ve, discrete; t from 0 (clean) to 1 (noise).
    Returns two parts of the page as HTML, and the numbers (alpha, sigma, snr, log_snr, drift f, diffusion g) with x_t
    as a PNG (a data URI). The picture is this visitor's: /picture draws one, /upload brings one.
    """
    if seed is None:  # the field is being typed into
        return gr.skip(), gr.skip(), gr.skip()
    x0, eps = as_tensors(picture, seed_of(seed, "Noise seed"))
    x, n = at(schedules[schedule], x0, eps, [t])[0], numbers(schedule, t)
    return *stage_html(x0, eps, x, n, schedule, compare), n | {"x_t": data_uri(to_pil(x))}


@plainly
def another(source: str) -> np.ndarray:
    """Draw another picture from a source by chance: a data set on this machine, or a model."""
    return draw(source)


@plainly
def upload(file: str) -> np.ndarray:
    """Use a picture of your own (PNG, JPEG, WebP or GIF): its centre, 64 x 64, in colour."""
    return to_uint8(fit(read_image(file), SHAPE))


def build(models: dict[str, Model], picture: np.ndarray) -> None:
    """The tab's controls on the left and its stage on the right; it opens with `picture` (uint8 [H, W, C])."""
    state = gr.State(picture)
    with gr.Row(elem_classes="work"):
        with gr.Column(elem_classes="controls"):
            t = slider(0, 1, 0.35, step=0.01, label="Time t", info="0 is the data; noise grows with t.", elem_id="t")
            schedule = gr.Dropdown(
                [(v, k) for k, v in NAMES.items()],
                value="vp_linear",
                label="Schedule",
                info="VP (variance preserving) trades signal for noise; VE (variance exploding) only adds noise.",
                elem_id="schedule",
            )
            compare = gr.Checkbox(False, label="Compare all schedules", elem_id="compare")
            with gr.Row(elem_classes="with-die"):
                source = gr.Dropdown(sources(), label="Picture from", elem_id="source", min_width=100)
                die = gr.Button("⚄ New", elem_classes="die", elem_id="picture-die")
            own = gr.UploadButton("Upload a picture", file_types=["image"], elem_id="upload")
            seed = seed_field(0, "Noise seed", elem_id="noise-seed")
        top, bottom, _ = forward(picture, "vp_linear", 0.35, 0)
        with gr.Column(elem_classes="stage"):
            pictures = gr.HTML(top, elem_id="forward-stage")
        with gr.Column(elem_classes="stage second"):
            plots = gr.HTML(bottom, elem_id="forward-plots")
    about = gr.JSON(visible=False)

    inputs, outputs = [state, schedule, t, seed, compare], [pictures, plots, about]
    follow = dict(show_progress="hidden", trigger_mode="always_last", concurrency_limit=4)
    gr.on(
        [t.change, schedule.input, seed.change, compare.input], forward, inputs, outputs, api_name="forward", **follow
    )
    again = dict(fn=forward, inputs=inputs, outputs=outputs, api_visibility="private", **follow)
    gr.on(
        [die.click, source.input],
        another,
        source,
        state,
        api_name="picture",
        show_progress_on=[pictures],
        concurrency_id="model",
        concurrency_limit=1,
    ).success(**again)
    own.upload(upload, own, state, api_name="upload", show_progress_on=[pictures]).success(**again)
