"""A judged sample as the page shows it: the number on its scale, what it is of, the table and the trade-offs."""

import base64
import csv
import html
import io
from itertools import groupby

import torch

from diffusion_core.evaluate import Plan, Progress, short, steps_needed
from diffusion_core.samplers import SAMPLERS

from .html import busy, figure, notice, pixels
from .plots import Frame, Series, points

COLUMNS = {
    "model": "Model", "sampler": "Sampler", "steps": "Steps", "calls": "Calls", "guidance": "Guidance", "n": "n",
    "distance": "Distance", "low": "from", "high": "to", "accuracy": "As asked %", "precision": "Precision %",
    "recall": "Recall %", "score": "Class score", "against": "Against", "features": "Features", "seed": "Seed",
    "seconds": "Seconds", "origin": "Run",
}  # fmt: skip

# One result ---------------------------------------------------------------------------------------------


def number_html(result: dict) -> str:
    """The distance, large, with its interval, on a scale from real images to noise."""
    low, high = result["interval"]
    floor, ceiling = result["floor"]["distance"], result["ceiling"]["distance"]
    frame = Scale(min(floor, result["distance"], max(low, 1e-3)) / 2, ceiling * 1.5)
    name, interval = html.escape(result["measure"]), f"95 % interval {short(low)} to {short(high)}"
    return (
        f'<div class="figure-of-merit"><p class="measure">{name}</p>'
        f'<p class="big">{short(result["distance"])} <span class="dim">{interval}</span></p>'
        f'<div class="scale" role="img" aria-label="{name}: {short(result["distance"])}, real images {short(floor)}, '
        f'noise {short(ceiling)}">'
        f'<i class="bar" style="left:{frame.at(low):.2f}%;width:{frame.at(high) - frame.at(low):.2f}%"></i>'
        f'<span class="end" style="left:{frame.at(floor):.2f}%"><b>{short(floor)}</b> real images</span>'
        f'<i class="dot" style="left:{frame.at(result["distance"]):.2f}%"></i>'
        f'<span class="end right" style="left:{frame.at(ceiling):.2f}%"><b>{short(ceiling)}</b> noise</span></div>'
        f"{caveats(result)}</div>"
    )


class Scale:
    """Positions, in percent, on a logarithmic scale."""

    def __init__(self, low: float, high: float):
        self.frame = Frame((low, high), (0, 1), "", "", "x")

    def at(self, v: float) -> float:
        a, b = (self.frame.x(end) for end in self.frame.x_range)
        return 100 * float((self.frame.x(max(v, self.frame.x_range[0])) - a) / (b - a))


def caveats(result: dict) -> str:
    """What a reader must not overlook."""
    notes = []
    if result["measure"] != "FID":
        notes.append("This is not an FID: its features are a small classifier's, so compare it within this page only.")
    if result["n"] <= result["features"]:
        notes.append(
            f"n = {result['n']} is not more than the {result['features']} features: the covariance is rank-deficient, "
            "and the distance says little yet."
        )
    if result["floor"]["n"] < result["n"]:
        notes.append(
            f"Only {result['floor']['n']} other real images are known: as many of them as of samples would come lower."
        )
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def numbers_html(result: dict) -> str:
    """What the images are worth besides, each beside the same of real images."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    floor, infinity = result["floor"], result["extrapolated"]
    score, score_floor = result["inception_score"], floor["inception_score"]
    rows = [
        (
            "Classes as asked for",
            percent(result["accuracy"]),
            percent(floor["accuracy"]),
            "by the classifier's verdict",
        ),
        ("Precision", percent(result["precision"]), percent(floor["precision"]), "samples that lie among real images"),
        ("Recall", percent(result["recall"]), percent(floor["recall"]), "real images that lie among samples"),
        (
            "Class score",
            f"{score[0]:.2f}",
            f"{score_floor[0]:.2f}",
            "Inception Score, by this judge: sure, and every class",
        ),
        ("Kernel distance", f"{result['kid'][0]:.5f}", f"{floor['kid'][0]:.5f}", "unbiased at any n"),
        ("Distance, n → ∞", "–" if infinity is None else f"{infinity:.3g}", "", "the line through several n"),
    ]
    body = "".join(
        f"<tr><th>{name}<small>{what}</small></th><td>{value}</td><td>{real}</td></tr>"
        for name, value, real, what in rows
    )
    m = result["neighbours_n"]
    return (
        f'<table class="numbers"><thead><tr><th></th><th>samples</th><th>real</th></tr></thead>{body}</table>'
        f'<p class="note">Precision and recall: {m} against {m} images, k = 3 neighbours.</p>'
    )


def line_html(name: str, result: dict) -> str:
    """What the numbers are of."""
    plan = result["plan"]
    passes = " × 2 (guided)" if result["passes"] == 2 else ""
    parts = [
        f"model {name}",
        SAMPLERS[plan["sampler"]].label,
        f"{plan['steps']} steps",
        f"{result['calls']} network calls{passes}",
        "unconditional" if plan["guidance"] == 0 else f"guidance {plan['guidance']:g}",
        f"n = {result['n']}",
        f"against {result['reference']}",
        f"seeds from {plan['seed']}",
        f"{result['seconds']:.0f} s",
    ]
    return f'<p class="line">{" · ".join(parts)}</p>'


def curve_html(result: dict) -> str:
    """The distance against 1 / n, with the line to infinitely many samples."""
    curve, infinity = result["curve"], result["extrapolated"]
    if infinity is None:
        need = 2 * (result["features"] + 1)
        return f'<p class="note">The distance against 1/n needs n of at least {need}.</p>'
    x, y = [1 / m for m, _ in curve], [distance for _, distance in curve]
    frame = Frame((0, 1.1 * max(x)), (min(0, infinity), 1.15 * max(y)), "Distance against 1/n", "1/n; left: n → ∞")
    line = Series([0, x[-1]], [infinity, infinity + (y[0] - infinity) / x[0] * x[-1]], "snr", dash="5 3", marks=False)
    label = f"{infinity:.3g} at n → ∞"
    lines = [line, Series(x, y, "snr"), Series([0], [infinity], "noise", label)]
    return points(lines, frame, f"The distance of smaller parts of the sample; extrapolated: {label}")


def result_html(name: str, result: dict, images: torch.Tensor | None) -> str:
    """All of a finished result."""
    latest = ""
    if images is not None:
        latest = figure("<b>The last samples</b>", pixels(images[:48], "The samples drawn last", 340, columns=8))
    return (
        f'{line_html(name, result)}<div class="row result"><div class="wide">{number_html(result)}</div>'
        f'<div class="half">{numbers_html(result)}</div><div class="half">{curve_html(result)}{latest}</div></div>'
    )


def running_html(name: str, plan: Plan, progress: Progress, history: list[dict]) -> str:
    """How far it is, the number as it settles, and the latest samples."""
    rate = progress.done / progress.seconds if progress.seconds else 0
    left = f"about {(plan.n - progress.done) / rate:.0f} s left" if rate else "the first batch is under way"
    state = (
        f'<p class="line">{busy(progress.done / plan.n)}'
        f'<span class="stop-word">Stopped at </span>{progress.done} of {plan.n} images '
        f'<span class="dim">· step {progress.step} of {plan.steps} · {rate:.1f} images/s · {left}</span></p>'
    )
    if not history:
        return state + notice("The first number comes with the first batch of images.")
    low, high = zip(*(r["interval"] for r in history), strict=True)
    n, distance = [r["n"] for r in history], [r["distance"] for r in history]
    frame = Frame((0, plan.n), (0, 1.1 * max(distance)), "The distance as it settles", "images so far")
    settling = points([Series(n, distance, "snr", "", low, high)], frame, "The distance over the number of samples")
    latest = figure("<b>The last samples</b>", pixels(progress.images[:48], "The samples drawn last", 340, columns=8))
    return (
        f'<div class="row result"><div class="wide">{number_html(history[-1])}</div>'
        f'<div class="half">{settling}</div><div class="half">{latest}</div></div>{state}'
    )


# All results ---------------------------------------------------------------------------------------------------------


def row(name: str, result: dict, origin: str) -> dict:
    """One line of the table, by the keys of COLUMNS."""
    plan, (low, high) = result["plan"], result["interval"]

    def percent(key: str) -> float | None:
        return None if result[key] is None else round(100 * result[key], 1)

    return {
        "model": name, "sampler": SAMPLERS[plan["sampler"]].label, "steps": plan["steps"],
        "calls": result["calls"] * result["passes"], "guidance": plan["guidance"], "n": result["n"],
        "distance": _round(result["distance"]), "low": _round(low), "high": _round(high),
        "accuracy": percent("accuracy"), "precision": percent("precision"), "recall": percent("recall"),
        "score": _round(result["inception_score"][0]), "against": result["reference"].split(",")[0],
        "features": "Inception" if result["measure"] == "FID" else "classifier", "seed": plan["seed"],
        "seconds": round(result["seconds"]), "origin": origin,
    }  # fmt: skip


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def csv_link(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    data = base64.b64encode(text.getvalue().encode()).decode()
    return f'<p class="line"><a download="evaluation.csv" href="data:text/csv;base64,{data}">Download CSV</a></p>'


def tradeoff_html(name: str, results: list[dict]) -> str:
    """Guidance against distance and shares, and network calls against distance, of the results with the largest n."""
    if not results:
        return ""
    n = max(r["n"] for r in results)
    what = results[0]["reference"], results[0]["measure"]
    same = [r for r in results if r["n"] == n and (r["reference"], r["measure"]) == what]
    plots = [*guidance_plots(same), *calls_plot(same)]
    if not plots:
        return ""
    title = f'<p class="line"><b>{name}</b>, n = {n} against {results[0]["reference"]}</p>'
    return f'{title}<div class="plots">{"".join(plots)}</div>{ladder_html(same)}'


def guidance_plots(results: list[dict]) -> list[str]:
    """What guidance buys and costs: a line for each way to sample, and the shares of that tried at most guidances."""

    def how(r: dict) -> tuple:
        return r["plan"]["sampler"], r["plan"]["steps"]

    guided = sorted((r for r in results if r["plan"]["guidance"] > 0), key=lambda r: (*how(r), r["plan"]["guidance"]))
    sweeps = [rows for _, group in groupby(guided, how) if len(rows := list(group)) > 1]
    if not sweeps:
        return []
    every = [r for rows in sweeps for r in rows]
    w, top = [r["plan"]["guidance"] for r in every], max(r["interval"][1] for r in every)
    ends = (min(w) - 0.2, max(w) + 0.2)
    distances = [sweep(rows) for rows in sweeps]
    swept = max(sweeps, key=len)
    shares = [
        Series([r["plan"]["guidance"] for r in swept], [100 * r[key] for r in swept], kind, label)
        for key, kind, label in (
            ("accuracy", "data", "as asked"),
            ("precision", "snr", "precision"),
            ("recall", "noise", "recall"),
        )
        if all(r[key] is not None for r in swept)
    ]
    return [
        points(distances, Frame(ends, (0, 1.15 * top), "Distance by guidance", "guidance"), "Distance by guidance"),
        points(shares, Frame(ends, (0, 112), f"Shares in %: {sampling(swept[0])}", "guidance"), "Shares by guidance"),
    ]


def sampling(r: dict) -> str:
    return f"{SAMPLERS[r['plan']['sampler']].label}, {r['plan']['steps']} steps"


def sweep(rows: list[dict]) -> Series:
    """The distance of one way to sample, by guidance."""
    low, high = zip(*(r["interval"] for r in rows), strict=True)
    w, distance = ([r["plan"]["guidance"] for r in rows], [r["distance"] for r in rows])
    return Series(w, distance, rows[0]["plan"]["sampler"], sampling(rows[0]), low, high)


def calls_plot(results: list[dict]) -> list[str]:
    """How many network calls buy what distance, a line a sampler, at guidance 1: without any."""

    def sampler(r: dict) -> str:
        return r["plan"]["sampler"]

    plain = sorted((r for r in results if r["plan"]["guidance"] == 1), key=lambda r: (sampler(r), r["calls"]))
    lines = [
        Series([r["calls"] for r in group], [r["distance"] for r in group], name, SAMPLERS[name].label)
        for name, group in ((name, list(group)) for name, group in groupby(plain, sampler))
    ]
    if not any(len(line.x) > 1 for line in lines):
        return []
    calls, top = [r["calls"] for r in plain], max(r["distance"] for r in plain)
    frame = Frame((min(calls) / 1.3, 1.3 * max(calls)), (0, 1.1 * top), "Distance at guidance 1", "network calls", "x")
    return [points(lines, frame, "Distance by network calls, a line a sampler")]


def ladder_html(results: list[dict]) -> str:
    """DDPM and DDIM step by step under the same conditions, and how few steps are nearly as good as the best."""
    spacing = next((r["plan"]["spacing"] for r in results if r["plan"]["sampler"] == "ddpm"), None)
    found = {
        (r["plan"]["sampler"], r["plan"]["steps"]): r
        for r in results
        if r["plan"]["sampler"] in ("ddim", "ddpm") and r["plan"]["guidance"] == 1 and not r["plan"]["eta"]
        if r["plan"]["spacing"] == spacing
    }
    steps = sorted({n for sampler, n in found if sampler == "ddpm"})
    if not steps:
        return ""
    rows = "".join(
        f"<tr><th>{n} steps</th>{ladder_cells(found.get(('ddim', n)))}{ladder_cells(found.get(('ddpm', n)))}</tr>"
        for n in steps
    )
    best, needed = steps_needed(list(found.values()))
    who = SAMPLERS[best["plan"]["sampler"]].label
    enough = ", ".join(f"{SAMPLERS[s].label} {'never' if n is None else f'{n} steps'}" for s, n in needed.items())
    heads = "".join(f"<th>{SAMPLERS[s].label}</th>" for s in ("ddim", "ddpm"))
    return (
        f'<div class="beside"><table class="numbers ladder"><thead><tr><th></th>{heads}</tr></thead>{rows}</table>'
        f'<p class="note">Distance of DDIM and DDPM from the same seeds, guidance 1, n = {best["n"]}. A step of either '
        f"is one network call, so at equal steps they take equally long. Best: {short(best['distance'])}, {who} in "
        f"{best['plan']['steps']} steps. Within 10 % of it: {enough}.</p></div>"
    )


def ladder_cells(result: dict | None) -> str:
    """The distance with its interval."""
    if result is None:
        return "<td>–</td>"
    low, high = (short(v) for v in result["interval"])
    return f"<td>{short(result['distance'])}<small>{low} to {high}</small></td>"
