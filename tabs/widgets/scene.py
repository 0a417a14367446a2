"""What the Score tab shows: a learned field beside the exact one, and particles on their way."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from diffusion_core import fields
from diffusion_core.denoisers import NetDenoiser
from diffusion_core.fields import METHODS, OBJECTIVES, SCHEDULE, Outcome
from diffusion_core.plane import EXTENT, OWN_STD, PlaneData, lattice

from .html import busy, figure
from .plane import arrows, bare, dots, shades, square
from .player import Points, evenly, player
from .plots import Curve, share_bars, traces

ARROWS, SHADES, DOTS = 15, 96, 500  # arrows and shades a side; samples shown of the data
FRAMES = 41  # of the particles' way that the page holds
ADD = '<span class="hint">: click to add points</span>'  # which a talk hides
SEEN = 9.0  # natural logarithms below the highest density to which arrows are drawn in full


@dataclass
class Learned:
    """What a visitor's network has learned, and how it came to it. Training goes on in place, so Stop loses nothing."""

    data: str
    points: str
    objective: str
    sigma: float | None  # the one level it knows; None: all
    field: NetDenoiser
    level: float  # at which `errors` are measured
    losses: list = field(default_factory=list)  # of every step, or of a shipped field (step, mean loss)
    errors: list = field(default_factory=list)  # (step, relative error)
    seconds: float = 0.0
    steps: int = 0
    shipped: bool = False

    def loss_curve(self) -> list[tuple[float, float]]:
        return self.losses if self.shipped else fields.smoothed(self.losses)


def named(sigma: float | None) -> str:
    return "all noise levels" if sigma is None else f"σ = {sigma:g}"


# What is learned ---------------------------------------------------------------------------------------------------


class Scene:
    """Everything exact about data noised by sigma, computed once; `html` shows a learned field in it."""

    def __init__(self, name: str, data: PlaneData, sigma: float):
        self.name, self.data, self.sigma = name, data, sigma
        self.at = lattice(ARROWS)
        mixture = self.data.mixture
        log_density = mixture.log_prob(lattice(SHADES), 1.0, sigma)
        self.shade = shades(log_density.reshape(SHADES, SHADES).numpy())
        here = mixture.log_prob(self.at, 1.0, sigma)
        self.seen = (here > log_density.max() - SEEN).numpy()
        self.exact = mixture.score(self.at, 1.0, sigma)
        generator = torch.Generator().manual_seed(0)
        x0 = mixture.sample(DOTS, generator)
        self.samples = x0, x0 + sigma * torch.randn(x0.shape, generator=generator)
        self.unit = mixture.score(self.samples[1], 1.0, sigma).square().sum(dim=1).mean().sqrt().item()

    def panel(self, caption: str, vectors: Tensor, description: str) -> str:
        body = arrows(self.at.numpy(), vectors.numpy(), self.unit, self.seen, EXTENT)
        return figure(caption, square(body, EXTENT, description, self.shade))

    @torch.no_grad()
    def html(self, learned: Learned | None, total: float | None = None) -> str:
        """The four pictures, the numbers and the plots; of a run that still goes on, `total` is how many seconds."""
        sigma = self.sigma
        clean, noised = (v.numpy() for v in self.samples)
        left = figure(
            f"<b>Data</b>{ADD}",
            square(
                dots(noised, EXTENT, "noise") + dots(clean, EXTENT, "data"), EXTENT, f"{DOTS} points", kind="clickable"
            ),
        )
        exact = self.panel("<b>Exact score</b> of the noised data", self.exact, "The exact score as arrows")
        if learned is None or learned.sigma not in (None, sigma):
            why = "Nothing is learned of this yet" if learned is None else f"Learned at {named(learned.sigma)} only"
            words = (
                f'<text class="why" x="50%" y="47%">{why}.</text><text class="why" x="50%" y="54%">Press Train.</text>'
            )
            empty = square(words, EXTENT, why)
            return (
                f'<div class="squares">{left}{figure("<b>Learned score</b>", empty)}{exact}'
                f"{figure('<b>Difference</b>', empty)}</div>{self.note()}"
            )
        found = fields.score(learned.field, self.at, sigma)
        n = 1000 if total else 4000
        error = fields.errors(learned.field, self.data, sigma, n)
        pictures = (
            left
            + self.panel("<b>Learned score</b>", found, "The learned score as arrows")
            + exact
            + self.panel("<b>Difference</b>, learned − exact", found - self.exact, "What is wrong, as arrows")
        )
        return (
            f'<div class="squares">{pictures}</div>{self.line(learned, error, n, total)}'
            f"{self.note()}{self.plots(learned, levels=not total)}"
        )

    def line(self, learned: Learned, error: fields.Errors, n: int, total: float | None) -> str:
        bar = busy(learned.seconds / total) if total else ""
        spent = f"{learned.seconds:.1f} of {total:g} s" if total else f"{learned.seconds:.1f} s"
        how = f"{learned.steps:,} steps, {'shipped' if learned.shipped else spent}"
        return (
            f'<p class="line">{bar}<b>Relative error {100 * error.relative:.1f} %</b>, at the edge '
            f"{100 * error.edge_relative:.1f} % "
            f'<span class="dim">· mean squared error {error.mse:.3g}, at the edge {error.edge_mse:.3g} · at σ = '
            f"{self.sigma:g}, weighted by the density (n = {n:,}) · {OBJECTIVES[learned.objective]} score matching, "
            f"{named(learned.sigma)}, {how}</span></p>"
        )

    def note(self) -> str:
        kernel = f" Your data is a Gaussian of standard deviation {OWN_STD:g} around each point." * (self.name == "own")
        return (
            '<p class="note"><span class="data">Green</span>: samples of the data; <span class="noise">orange</span>: '
            "noised by σ. Shade: log-density of the noised data, exact at every noise level because the data is a "
            f"mixture of Gaussians ({len(self.data.mixture.weights)} of them).{kernel} Arrows: the score, all on one "
            "scale, long ones shortened; faint where there is hardly any data. Relative error: root mean square of the "
            "difference over that of the exact score. Edge: the 5 % of the samples where the density is lowest.</p>"
        )

    def plots(self, learned: Learned, levels: bool) -> str:
        steps, losses = zip(*learned.loss_curve(), strict=True)
        drawn = traces(
            [Curve(np.array(steps), np.array(losses), "noise", "loss")],
            "Loss, averaged over steps",
            "training steps",
            f"The loss fell to {losses[-1]:.3g}",
        )
        if learned.errors:
            steps, wrong = zip(*learned.errors, strict=True)
            drawn += traces(
                [Curve(np.array(steps), 100 * np.array(wrong), "snr", "error")],
                f"Relative error at σ = {learned.level:g}, in %",
                "training steps",
                f"The relative error fell to {100 * wrong[-1]:.3g} %",
                from_zero=True,
            )
        if levels and learned.sigma is None:
            sigmas, wrong = zip(*fields.errors_by_level(learned.field, self.data), strict=True)
            drawn += traces(
                [Curve(np.array(sigmas), 100 * np.array(wrong), "snr", "error")],
                "By noise level: relative error, in %",
                "σ",
                "The relative error at each noise level",
                from_zero=True,
                log="x",
            )
        return f'<div class="plots">{drawn}</div>'


def rivals_html(rivals: list[dict], sigma: float, seconds: float, name: str, where: str) -> str:
    """How far each objective came in the same time, and how noisy the gradient is that it follows."""
    first = rivals[0]["variance"] if rivals else 1.0
    worst = max((r["relative"] for r in rivals), default=1.0)
    rows = "".join(
        f"<tr><td>{OBJECTIVES[r['objective']]}</td><td>{r['steps']:,}</td>"
        f'<td><i class="meter" style="width:{90 * r["relative"] / worst:.0f}px"></i>{100 * r["relative"]:.1f} %</td>'
        f"<td>{r['variance'] / first:.2f} ×</td></tr>"
        for r in rivals
    )
    return (
        f'<p class="line"><b>The objectives at equal compute</b> <span class="dim">· {name}, σ = {sigma:g}, '
        f"{seconds:g} s of CPU time each, {where}</span></p>"
        '<div class="scroll"><table class="rivals"><tr><th>Objective</th><th>Steps</th><th>Relative error</th>'
        f"<th>Gradient variance</th></tr>{rows}</table></div>"
        '<p class="note">Gradient variance: over batches of 128, all taken at one and the same field, as a multiple of '
        "that of the exact trace.</p>"
    )


# Where particles go ------------------------------------------------------------------------------------------------


def panel_box(count: int) -> int:
    """The side of each of so many panels of particles, in page pixels: one or two rows of them fill the stage."""
    return {1: 460, 2: 460, 4: 225}.get(count, 310)


def moving_html(scene: Scene, ways: dict[str, list[fields.Moment]], method: str, done: float) -> str:
    """Where each method's particles are while `method` moves its own, in panels of the size they will have after."""
    box = panel_box(len(ways))
    panels = "".join(
        figure(
            f"<b>{METHODS[m]}</b>",
            f'<div class="plane" style="--box:{box}"><img alt="" src="{scene.shade}">'
            f"{bare(dots(moments[-1].x[:DOTS].numpy(), EXTENT, m) if moments else '')}</div>",
        )
        for m, moments in ways.items()
    )
    moment = ways[method][-1]
    return (
        f'<div class="player"><div class="side"><div class="panels">{panels}</div><p class="line">{busy(done)}'
        f'<span class="stop-word">Stopped: </span><b>{METHODS[method]}</b> {moment.calls} network calls'
        f'<span class="dim"> · σ = {moment.sigma:.2g}</span></p></div></div>'
    )


def particles_html(
    scene: Scene, ways: dict[str, list[fields.Moment]], seconds: dict[str, float], whose: str, n: int
) -> str:
    """The particles of each method on their way, and beside the truth where they end."""
    data = scene.data
    kept = {m: [moments[k] for k in evenly(len(moments), FRAMES)] for m, moments in ways.items()}
    outcomes = {m: [fields.outcome(data, moment) for moment in moments] for m, moments in kept.items()}
    floor, extent = fields.true_outcome(data, n), (-EXTENT, EXTENT, -EXTENT, EXTENT)
    ground = f'<img alt="" src="{scene.shade}">'
    panels = [
        Points(
            f"<b>{METHODS[m]}</b>",
            np.stack([moment.x.numpy() for moment in moments]),
            extent,
            alt=f"{n} particles",
            background=ground,
            kind=m,
            box=panel_box(len(kept)),
        )
        for m, moments in kept.items()
    ]
    lines = [moment_line(k, kept, outcomes) for k in range(min(map(len, kept.values())))]
    weights = share_bars(
        data.true_weights().tolist(),
        {m: o[-1].weights for m, o in outcomes.items()},
        "Weights of the modes; line: the true ones",
        "mode",
        "Share of the particles in each mode",
    )
    curves = [
        Curve(np.array([k.calls for k in kept[m]]), np.array([o.energy for o in outcomes[m]]), m, METHODS[m])
        for m in kept
    ]
    reach = np.array([0, max(c.x[-1] for c in curves)])
    curves.append(Curve(reach, np.full(2, floor.energy), "data", "samples of the data", False, "4 3"))
    energy = traces(
        curves, "Energy distance to the data", "network calls", "The energy distance on the way", from_zero=True
    )
    legend = "".join(f'<span class="{m}"><i></i>{METHODS[m]}</span>' for m in kept)
    legend += '<span class="data"><i></i>fresh samples of the data</span>'
    ends = table(data, kept, outcomes, floor, seconds)
    return (
        f'{player(panels, lines, axis="frame")}<div class="plots wide">{weights}{energy}{ends}</div>'
        f'<p class="legend">{legend}</p>'
        f'<p class="note">{n:,} particles from one start, a Gaussian as wide as the data noised by σ = '
        f"{SCHEDULE.sigma_max:g}, moved by {whose}; shown from −{EXTENT:g} to {EXTENT:g} both ways. Langevin at one "
        f"level samples the data noised by it, the others that of σ = {SCHEDULE.sigma_min:g}. In the wrong mode: half "
        "the sum of the gaps between found and true weights. Energy distance: 0 for equal distributions, which chance "
        "can take below 0; between "
        f"{min(n, 500)} particles and 500 samples of the data.</p>"
    )


def moment_line(k: int, kept: dict[str, list[fields.Moment]], outcomes: dict[str, list[Outcome]]) -> str:
    parts = [
        f"<b>{METHODS[m]}</b> {moments[k].calls} calls, σ = {moments[k].sigma:.2g}, "
        f"{100 * outcomes[m][k].weight_error:.1f} % in the wrong mode"
        for m, moments in kept.items()
    ]
    return "<br>".join(parts)


def table(data: PlaneData, kept: dict, outcomes: dict, floor: Outcome, seconds: dict[str, float]) -> str:
    rows = "".join(
        f'<tr class="{m}"><td><i></i>{METHODS[m]}</td><td>{moments[-1].calls}</td><td>{moments[-1].sigma:.2g}</td>'
        f"<td>{100 * outcomes[m][-1].weight_error:.1f} %</td><td>{number(outcomes[m][-1].energy)}</td>"
        f"<td>{seconds[m]:.1f} s</td></tr>"
        for m, moments in kept.items()
    )
    return (
        '<div class="scroll"><table class="rivals"><tr><th>At the end</th><th>Calls</th><th>σ</th>'
        f"<th>Wrong mode</th><th>Energy distance</th><th>Time</th></tr>{rows}"
        "<tr><td>The data itself</td><td></td><td>0</td>"
        f"<td>{100 * floor.weight_error:.1f} %</td><td>{number(floor.energy)}</td><td></td></tr></table></div>"
    )


def number(value: float) -> str:
    """To three decimals, with a minus sign rather than a hyphen."""
    return f"{value:.3f}".replace("-", "−")
