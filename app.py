"""The demo:  python app.py  serves it at http://127.0.0.1:7860. It needs this folder only: no network, no data."""

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from tabs.widgets import controls  # noqa: F401, I001  first: on a ZeroGPU Space it must come before torch

import gradio as gr
import torch

from diffusion_core.checkpoint import Model, load
from diffusion_core.classifier import Judge, load_classifier
from diffusion_core.fields import OBJECTIVES
from diffusion_core.memory import keep_freed_memory
from diffusion_core.samplers import SAMPLERS
from tabs import compare, evaluate, forward, interpolate, sample, score, talk, training
from tabs.widgets import formulas, player, recipes, turn
from tabs.widgets.runs import JUDGES, MODELS, OWN, forget
from tabs.widgets.style import CSS, THEME

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def device() -> str:
    """The fastest this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_models(folder: Path = CHECKPOINTS, where: str | None = None) -> dict[str, Model]:
    """Every model in a folder, by name, the smallest first: the page opens with it, and soon.

    One that cannot be read is left out with a warning that says why.
    """
    paths = {p.stem: p for p in folder.glob("*.safetensors") if not p.stem.endswith("-classifier")}
    found = readable(paths, lambda path: load(path, where or device()))
    return dict(sorted(found.items(), key=lambda item: sum(p.numel() for p in item[1].denoiser.parameters())))


def load_judges(folder: Path = CHECKPOINTS) -> dict[str, Judge]:
    """Every classifier in a folder, by the name of its data set; those that cannot be read are left out likewise."""
    found = {p.stem.removesuffix("-classifier"): p for p in folder.glob("*-classifier.safetensors")}
    return readable(found, lambda path: load_classifier(path, device()))


def readable(paths: dict[str, Path], read: Callable) -> dict:
    found = {}
    for name, path in sorted(paths.items()):
        try:
            found[name] = read(path)
        except (ValueError, OSError) as error:
            warnings.warn(f"Left out: {error}", stacklevel=1)
    return found


def build(models: dict[str, Model], judges: dict[str, Judge]) -> gr.Blocks:
    """The whole page. Every public endpoint has a name; what only serves the page is private."""
    models = {name: model for name, model in models.items() if len(model.shape) == 3}  # images, not points in the plane
    for registry, loaded in ((MODELS, models), (JUDGES, judges), (OWN, {})):
        registry.clear()
        registry.update(loaded)
    with gr.Blocks(title="Diffusion, step by step", delete_cache=(600, 1800), analytics_enabled=False) as page:
        with gr.Row(elem_classes="head"):
            gr.Markdown("# Diffusion, step by step")
            gr.Checkbox(True, label="Explanations", interactive=True, elem_id="explanations", min_width=120)
            present = gr.Button("Present", elem_id="present", size="sm", min_width=90)
        gr.Markdown(
            "Noise a picture, then sample new ones from noise: every number is of the picture above it.",
            elem_classes="lead",
        )
        own = gr.State(None, time_to_live=3600, delete_callback=forget)  # the name of what this visitor has trained
        with gr.Tabs() as tabs:
            with gr.Tab("Forward", id="forward"):
                forward.build(models, forward.draw(forward.sources()[0]))
            with gr.Tab("Sample", id="sample"):
                sample.build(models, page, tabs, own)
            with gr.Tab("Compare", id="compare") as tab:
                compare.build(models, page, tabs, tab, own)
            with gr.Tab("Interpolate", id="interpolate"):
                interpolate.build(models, own)
            with gr.Tab("Evaluate", id="evaluate"):
                evaluate.build()
            with gr.Tab("Training", id="training") as tab:
                training.build(tabs, own, tab)
            with gr.Tab("Score", id="score"):
                score.build(load_models(CHECKPOINTS / "fields", "cpu"))
        talk.build(talk.read_talk(), present)
    return page.queue(max_size=32)


def launch_options() -> dict:
    """How the page is served; the tests use the same."""
    labels = {
        "schedule": forward.NAMES,
        "sampler": {k: s.label for k, s in SAMPLERS.items()},
        "objective": OBJECTIVES,
        "live-schedule": forward.NAMES,
    }
    return dict(
        theme=THEME,
        css=CSS + talk.CSS,
        head=turn.HEAD + player.HEAD + recipes.HEAD + talk.HEAD + formulas.head(labels),
        footer_links=["api"],
        ssr_mode=False,
        run_history=False,
        state_session_capacity=64,
        max_file_size="20mb",
    )


keep_freed_memory()
demo = build(load_models(), load_judges())

if __name__ == "__main__":
    threading.Thread(target=score.warm_up, daemon=True).start()
    demo.launch(**launch_options())
