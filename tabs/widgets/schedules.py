"""Schedules compared at the same compute: what docs/schedules.md tells, drawn from the same file."""

import json
from pathlib import Path
from statistics import median

from .learning import key_line
from .plots import Curve, traces

KINDS = {"vp_linear": ("data", "linear", ""), "vp_cosine": ("noise", "cosine", "7 3"),
         "vp_quadratic": ("snr", "quadratic", "2 3")}  # fmt: skip


def schedules_html(path: Path) -> str:
    """The comparison kept in `path` by tests/benchmarks/schedules.py; nothing if there is none."""
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    runs = found["runs"]

    def curves(x: str | list[float], y: str) -> list[Curve]:
        return [
            Curve(r[x] if isinstance(x, str) else x, r[y], kind, label, False, dash)
            for name, (kind, label, dash) in KINDS.items()
            for r in runs[name]
        ]

    levels = found["levels"]
    looks = [Curve(levels, found["looks"][name], *KINDS[name][:2], True, KINDS[name][2]) for name in KINDS]
    plots = [
        traces(looks, "Where training looks", "log(σ / α); density upwards", "How often each level is drawn",
               from_zero=True),
        traces(curves("steps", "loss"), "Training loss, smoothed", "step", "Training loss by step", log="xy"),
        traces(curves("steps", "grad_norm"), "Gradient norm, smoothed", "step", "Gradient norm by step", log="xy"),
        traces(curves(levels, "errors"), "Error of v on test images", "log(σ / α)", "Error by noise level", log="y"),
    ]  # fmt: skip
    legend = ", ".join(f"{key_line(kind, dash)}<b>{label}</b>" for kind, label, dash in KINDS.values())
    return (
        f'<div class="schedules"><p class="line">{legend}: {found["data"]}, {found["prediction"]} prediction, times '
        f"uniform in t, {found['steps']:,} steps of {found['batch']} images, {len(found['seeds'])} seeds each.</p>"
        f'<div class="plots">{"".join(plots)}</div>{table(runs)}'
        f'<p class="note">Medians, with the range over the seeds. {found["judge"]}. Unsteady: the 90th over the 10th '
        "percentile of the gradient's norm in the second half. The linear schedule looks most at high noise, where the "
        "error is what images differ by and no training lowers it; the cosine where images take shape, and draws the "
        "best ones, with the highest loss: losses under different schedules are means over different levels, and "
        "cannot be compared.</p></div>"
    )


def table(runs: dict[str, list[dict]]) -> str:
    """What came of each schedule."""
    rows = "".join(
        f"<tr><th>{key_line(kind, dash)}{label}</th>{cell([r['distance'] for r in runs[name]])}"
        f"{cell([100 * r['accuracy'] for r in runs[name]], ' %')}{cell([r['spread'] for r in runs[name]])}</tr>"
        for name, (kind, label, dash) in KINDS.items()
    )
    heads = "".join(f"<th>{head}</th>" for head in ("", "Fréchet distance", "as asked", "unsteady"))
    return f'<div class="scroll"><table class="numbers ladder"><thead><tr>{heads}</tr></thead>{rows}</table></div>'


def cell(values: list[float], unit: str = "") -> str:
    return f"<td>{median(values):.3g}{unit}<small>{min(values):.3g} to {max(values):.3g}</small></td>"
