"""What training leaves behind beside the weights: the log of its losses, and what it drew as it went."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from .checkpoint import Model
from .denoisers import Clipped
from .files import write_atomically
from .images import enlarge, grid, read_recipe, save_png
from .samplers import generate

GAP = 1  # pixels between the images of a growth chart
COUNT, CALLS = 10, 18  # images in a row of it, and network calls to each


class Log:
    """`path`, one JSON line a measurement; a run that goes on at `step` drops what was written after its last save."""

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = [json.dumps(entry) + "\n" for entry in read_log(path) if entry["step"] <= step] if step else []
        write_atomically(path, "".join(kept).encode())

    def __call__(self, **entry) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict]:
    """The lines of a log, each with step, seconds and images, and either loss and grad_norm or val_loss.

    [] if there is none; a last line that a kill has cut off is left out.
    """
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


class Growth:
    """`path`, a picture with a row for each of `steps`: ten samples, each column always of one seed and one class.

    rows[k] is uint8 [H, W, C], drawn by the model as it was after steps[k], in 18 steps without guidance.
    """

    def __init__(self, path: Path, side: int):
        self.path, self.steps, self.rows = path, [], []
        about = read_recipe(path) if path.exists() else None
        if about:
            with Image.open(path) as image:
                pixels = np.asarray(image).reshape(image.height, image.width, -1)
            self.steps = about["steps"]
            self.rows = [pixels[k * (side + GAP) :][:side] for k in range(len(self.steps))]

    def due(self, step: int) -> bool:
        """Whether the run is twice as long as at the last row: what changes, changes early."""
        return not self.steps or step >= 2 * self.steps[-1]

    def rewind(self, step: int) -> None:
        """Forget what was drawn after `step`, where a run goes on, or begins anew."""
        self.steps = [s for s in self.steps if s <= step]
        self.rows = self.rows[: len(self.steps)]

    def add(self, model: Model, step: int) -> None:
        """Draw a row and write the picture."""
        self.steps.append(step)
        self.rows.append(drawn(model))
        gap = np.full((GAP, *self.rows[0].shape[1:]), 128, np.uint8)
        chart = np.concatenate([part for row in self.rows for part in (gap, row)][1:])
        about = {"steps": self.steps, "seeds": list(range(COUNT)), "classes": model.classes}
        save_png(self.path, enlarge(chart, 1), about)


def drawn(model: Model, calls: int = CALLS) -> np.ndarray:
    """A row of a growth chart, uint8 [H, W, C]: ten samples of the classes in turn, image k from seed k."""
    cond, seeds = model.conditions("all", COUNT), list(range(COUNT))
    shape = (COUNT, *model.shape)
    *_, last = generate(Clipped(model.denoiser), shape, "dpmpp_2m", steps=calls, seeds=seeds, cond=cond)
    row = np.asarray(grid(model.codec.decode(last.x), columns=COUNT, gap=GAP))
    return row.reshape(*row.shape[:2], -1)


def smoothed(values: list[float], width: int) -> list[float]:
    """Each value's mean with its neighbours, `width` values in all (even numbers one more).

    Near the start, where a loss falls steeply, only as many on either side as there are before it; near the end as
    many as there are.
    """
    k = np.arange(len(values))
    reach, total = np.minimum(k, width // 2), np.cumsum([0.0, *values])
    first, end = k - reach, np.minimum(k + reach + 1, len(values))
    return ((total[end] - total[first]) / (end - first)).tolist()
