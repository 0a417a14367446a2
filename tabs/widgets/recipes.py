"""The recipe of a run: as a link that outlives the server, inside a picture, and as lines of Python."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints
from urllib.parse import urlencode

from diffusion_core.samplers import SAMPLERS, SPACINGS

from .runs import MODELS, Settings

HEAD = f"<script>{Path(__file__).with_name('copy.js').read_text(encoding='utf-8')}</script>"
SHARED = ("model", "cls", "seed", "count")  # by all lanes of a race
LIMITS = {"steps": (1, 250), "guidance": (0, 10), "seed": (0, 2**31 - 1), "count": (1, 64), "eta": (0, 1)}


def link(settings: Settings) -> str:
    """What comes after the page's address to open it with these settings."""
    return "?" + urlencode({"tab": "sample", **settings._asdict()})


def race_link(settings: dict[str, Settings]) -> str:
    """What comes after the page's address to repeat a race: what its lanes share, and as JSON what each has chosen."""
    shared = next(iter(settings.values()))
    query = {"tab": "compare", **{k: getattr(shared, k) for k in SHARED}}
    lanes = {name: {k: v for k, v in s._asdict().items() if k not in SHARED} for name, s in settings.items()}
    return "?" + urlencode(query | {"race": json.dumps(lanes, separators=(",", ":"))})


def settings_from(recipe: Mapping) -> Settings:
    """The settings that a link or a picture holds; what it does not say is as at first.

    Pictures of the command line name a checkpoint and a class. Raises ValueError, naming the value, for what this page
    cannot run.
    """
    recipe = {"model": next(iter(MODELS), ""), **recipe}
    if "checkpoint" in recipe:
        recipe |= {"model": Path(recipe["checkpoint"]).stem, "cls": recipe.get("class") or "none"}
    types = get_type_hints(Settings)
    try:
        settings = Settings(**{k: types[k](v) for k, v in recipe.items() if k in types})
    except (TypeError, ValueError) as error:
        raise ValueError("This recipe is damaged: its steps, seed, guidance, count and eta must be numbers.") from error
    if settings.model not in MODELS:
        raise ValueError(f"This recipe is of a model {settings.model!r}; here there is {', '.join(MODELS) or 'none'}.")
    if settings.cls not in ("all", "none"):
        MODELS[settings.model].label(settings.cls)
    for name, known in (("sampler", SAMPLERS), ("spacing", SPACINGS)):
        if getattr(settings, name) not in known:
            raise ValueError(
                f"This recipe has a {name} {getattr(settings, name)!r}; it must be one of {', '.join(known)}."
            )
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(settings, name) <= high:
            raise ValueError(f"This recipe has {name} = {getattr(settings, name)}; it must lie from {low} to {high}.")
    return settings


def python(settings: Settings) -> str:
    """The lines that make the same images with the package alone."""
    s = settings
    return f"""from diffusion_core.checkpoint import load
from diffusion_core.denoisers import Clipped, Guided
from diffusion_core.images import grid
from diffusion_core.samplers import generate

model = load("checkpoints/{s.model}.safetensors")
D = Clipped(Guided(model.denoiser, scale={s.guidance:g}))
cond = model.conditions("{s.cls}", {s.count})
seeds = list(range({s.seed}, {s.seed + s.count}))
shape = ({s.count}, *model.shape)
options = dict(steps={s.steps}, spacing="{s.spacing}", eta={s.eta:g})
*_, last = generate(D, shape, "{s.sampler}", seeds=seeds, cond=cond, **options)
grid(model.codec.decode(last.x)).save("samples.png")
"""


def actions(settings: Settings, file: str, **pictures: str) -> str:
    """What one can take away of a run: pictures (data URIs by file type), a link to it, the lines that repeat it."""
    links = "".join(
        f'<a download="{file}.{kind}" href="{uri}">Download {kind.upper()}</a>' for kind, uri in pictures.items()
    )
    if settings.model not in MODELS:
        note = "This model is of your visit only: no link leads to it. train.py digits makes one that lasts."
        return f'<p class="line actions">{links}</p><p class="note">{note}</p>'
    address, code = html.escape(link(settings)), html.escape(python(settings))
    return (
        f'<p class="line actions">{links}'
        f'<button type="button" data-copy-link="{address}">Copy link</button>'
        f'<button type="button" data-copy="{code}">Copy Python</button></p>'
        f"<details><summary>The same in Python</summary><pre>{code}</pre></details>"
    )
