"""Everything side by side with what people would use instead:  python -m tests.benchmarks

Prints one table after the other and keeps them in runs/benchmarks.md. Run it while nothing else runs; it takes about
twelve minutes on a CPU. Needs tests/benchmarks/requirements.txt.
"""

import platform
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from diffusion_core.files import write_atomically
from diffusion_core.memory import keep_freed_memory

from . import fidelity, growth, learning, memory, networks, page, peers

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
PARTS: dict[str, Callable[[], str]] = {
    "Samplers beside their twins": peers.samplers,
    "Guidance": peers.guided,
    "Networks": lambda: "\n\n".join(networks.compare(device) for device in DEVICES),
    "End to end": page.end_to_end,
    "Judging": fidelity.fidelity,
    "Training": learning.learning,
    "Memory": memory.compare,
    "Growth": growth.growth,
}


def machine() -> str:
    """What it ran on."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{cpu}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}, Python {platform.python_version()}"
    )


def main() -> None:
    keep_freed_memory()  # as app.py and train.py do
    parts = [machine()]
    for title, part in tqdm(PARTS.items(), unit="table"):
        parts.append(f"## {title}\n\n{part()}")
        tqdm.write(parts[-1] + "\n")
        write_atomically("runs/benchmarks.md", ("\n\n".join(parts) + "\n").encode())


if __name__ == "__main__":
    main()
