"""The formula that a control changes, which stands under it with the number that is in it: by the control's elem_id.

A string has {} where the number goes; a dictionary has a formula for each choice, by its value. The script that `HEAD`
holds writes them into the page and keeps them up to date, whoever moves the control.
"""

import json
from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")

GUIDED = "D = D<sub>∅</sub> + {} (D<sub>c</sub> − D<sub>∅</sub>)"
ODE = "dx = [f x − ½ g² ∇log p] dt"
SDE = "dx = [f x − g² ∇log p] dt + g dw"
DDIM = "x ← α' x<sub>0</sub> + √(σ'² − ς²) ε + ς z"
SLERP = (
    "z = r (sin((1 − w) θ) ẑ<sub>A</sub> + sin(w θ) ẑ<sub>B</sub>) / sin θ, r from |z<sub>A</sub>| to |z<sub>B</sub>|"
)
LERP = "z = (1 − w) z<sub>A</sub> + w z<sub>B</sub>"
CLASS = "c = (1 − w) c<sub>A</sub> + w c<sub>B</sub>"
SCHEDULES = {
    "vp_linear": "dx = −½ β x dt + √β dw, β = 0.1 + 19.9 t",
    "vp_cosine": "α = cos(½ π (t + s) / (1 + s)) / cos(½ π s / (1 + s)), s = 0.008, σ² = 1 − α²",
    "vp_quadratic": "dx = −½ β x dt + √β dw, √β = √0.1 + (√30 − √0.1) t",
    "sub_vp": "α as VP's with linear beta, σ = 1 − α²",
    "ve": "α = 1, σ = 0.01 · 5000<sup>t</sup>",
    "discrete": "α² = Π (1 − β<sub>i</sub>), β from 0.0001 to 0.02 in 1000 levels",
}

# What the tabs that run a sampler have in common: by the end of the elem_id
SAMPLING = {
    "sampler": {
        "dpmpp_2m": "x ← σ' / σ · x − α' (e<sup>−h</sup> − 1) D, h = λ' − λ, D extrapolated from two calls",
        "ddim": f"{DDIM}, ς = η × DDPM's",
        "ddpm": f"{DDIM}, ς that of the posterior",
        "heun": f"{ODE}, by the mean of two slopes",
        "euler": f"{ODE}, by one slope a step",
        "rk45": f"{ODE}, steps as long as the error allows",
        "reverse_sde": f"{SDE}, by Euler–Maruyama",
        "predictor_corrector": f"{SDE}; then x ← x + s ∇log p + √(2 s) z, s = 2 α (0.16 σ)²",
    },
    "steps": "x<sub>0</sub> is predicted at t<sub>max</sub> = t<sub>1</sub> > … > t<sub>{}</sub> = t<sub>min</sub>",
    "guidance": GUIDED,
    "eta": "ς = {} · σ' √(1 − (α σ' / (α' σ))²)",
}

FORMULAS: dict[str, str | dict[str, str]] = {
    # Forward
    "t": "x<sub>t</sub> = α({}) x<sub>0</sub> + σ({}) ε",
    "schedule": SCHEDULES,
    "noise-seed": "ε ~ N(0, I), seed {}",
    # Sample
    "class": "D(x, t, c), c = {}",
    **SAMPLING,
    "seed": "x<sub>T</sub> = σ<sub>T</sub> z, image k from seed {} + k",
    # Interpolate
    "way": {
        "slerp": SLERP, "lerp": LERP, "class": CLASS, "slerp + class": f"{SLERP}; {CLASS}",
        "lerp + class": f"{LERP}; {CLASS}",
    },
    "depth": f"z = x<sub>t</sub> at t = {{}}, by {ODE}",
    "positions": "w = k / ({} − 1), k = 0, 1, …",
    "path-guidance": GUIDED,
    # Compare
    **{f"lane-{lane}-{control}": formula for lane in "ABCD" for control, formula in SAMPLING.items()},
    # Evaluate
    **{f"evaluate-{control}": SAMPLING[control] for control in ("sampler", "steps", "guidance")},
    "evaluate-n": "d² = |μ − μ'|² + tr(Σ + Σ' − 2 (Σ Σ')<sup>½</sup>), μ, Σ from n = {}",
    # Training
    "live-lr": "w ← w − η Adam(∇L), η = {} · min(1, step / 20) · (1 − time / total)",
    "live-prediction": {
        "v": "target v = α ε − σ x<sub>0</sub>; D = α x<sub>t</sub> − σ v",
        "eps": "target ε; D = (x<sub>t</sub> − σ ε) / α",
        "x0": "target x<sub>0</sub>; D = x<sub>0</sub>",
    },
    "live-loss": {
        "l2": "E |prediction − target|²",
        "l1": "E |prediction − target|",
        "huber": "E [½ e² where |e| < 1, else |e| − ½], e = prediction − target",
    },
    "live-schedule": {name: SCHEDULES[name] for name in ("vp_linear", "vp_cosine", "vp_quadratic")},
    # Score
    "score-sigma": "s(x) = ∇log ∫ p(x<sub>0</sub>) N(x; x<sub>0</sub>, {}²) dx<sub>0</sub>",
    "objective": {
        "explicit": "E [σ² (tr ∇s + ½ |s|²)]",
        "sliced": "E [σ² (vᵀ ∇s v + ½ (vᵀ s)²)]",
        "sliced_vr": "E [σ² (vᵀ ∇s v + ½ |s|²)]",
        "denoising": "E [½ |σ s(x + σ z) + z|²]",
    },
    "langevin-step": "x ← x + ε s(x) + √(2 ε) z, ε = {} (σ² + least variance); annealed: {} σ²",
}  # fmt: skip


def head(choices: dict[str, dict[str, str]]) -> str:
    """What goes into the page's head. choices: what the page calls a choice, by its value, for each control (or all
    whose elem_id ends in it) where that is not the value itself."""
    shown = {
        name: {choices.get(name.split("-")[-1], {}).get(value, value): text for value, text in formula.items()}
        if isinstance(formula, dict)
        else formula
        for name, formula in FORMULAS.items()
    }
    return f"<script>const FORMULAS = {json.dumps(shown)};\n{SCRIPT}</script>"
