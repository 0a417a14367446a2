"""Who may import whom: down only, and heavy packages only where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "diffusion_core").glob("*.py"))

LAYERS = [  # a module imports from rows above its own only
    {"__init__", "schedules", "networks", "files", "metrics", "figures", "memory"},
    {"denoisers", "images", "autoencoder", "page"},
    {"mixtures", "samplers", "losses", "checkpoint", "data"},
    {"interpolate", "classifier", "inception", "plane", "history", "diagnose", "training"},
    {"evaluate", "fields"},
    {"paths"},
    {"experiments"},
    {"report"},
    {"__main__"},
]
LAYER = {module: row for row, modules in enumerate(LAYERS) for module in modules}


def imports(path):
    """Every module that a file imports, at its top or within a function, in full: diffusion_core.samplers, torch.nn."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["diffusion_core" if node.level else "", node.module or ""]))
            yield from [f"{module}.{alias.name}" for alias in node.names] if module == "diffusion_core" else [module]


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_imports_within_the_package_point_down(path):
    assert path.stem in LAYER, f"{path.stem} needs a place in LAYERS"
    for name in imports(path):
        if name.startswith("diffusion_core."):
            below = name.split(".")[1]
            assert LAYER[below] < LAYER[path.stem], f"{path.stem} imports {below}"


@pytest.mark.parametrize("path", [*PACKAGE, ROOT / "train.py", ROOT / "tune.py"], ids=lambda path: path.stem)
def test_only_the_app_knows_gradio(path):
    assert not {"gradio", "app", "tabs"} & {name.split(".")[0] for name in imports(path)}


def test_sampling_and_training_objectives_cost_torch_and_nothing_else():
    light = ["schedules", "denoisers", "samplers", "mixtures", "losses", "networks", "interpolate", "plane", "fields"]
    heavy = ["torchvision", "torchmetrics", "sklearn", "PIL", "gradio", "safetensors", "scipy", "pandas", "matplotlib"]
    code = f"""
import sys, torch
before = set(sys.modules)
import {", ".join(f"diffusion_core.{name}" for name in light)}
print(*({heavy!r} & (set(sys.modules) - before)))
""".replace(repr(heavy), repr(set(heavy)))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
