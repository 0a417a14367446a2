"""Train a diffusion model, a classifier that judges its samples, or score fields in the plane:

    python train.py mnist --minutes 60
    python train.py fields

Writes to checkpoints/: <name>.safetensors, the averaged weights in half precision; <name>.jsonl, the loss as it went;
<name>-growth.png, what it drew as it went. And runs/<name>.safetensors, from which --resume goes on. Ctrl-C or SIGTERM
saves and ends. With several GPUs: torchrun --nproc_per_node=N train.py mnist
"""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as options_of
from itertools import islice
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from diffusion_core import fields
from diffusion_core.checkpoint import Model, save
from diffusion_core.classifier import save_classifier, train_classifier
from diffusion_core.data import TITLES, load_images, training_images
from diffusion_core.evaluate import features, logits, reference
from diffusion_core.files import read_checked, write_checked
from diffusion_core.history import Growth, Log
from diffusion_core.images import to_tensor
from diffusion_core.memory import keep_freed_memory
from diffusion_core.metrics import class_accuracy
from diffusion_core.plane import PRESETS
from diffusion_core.training import Recipe, Training, device_name, validation_loss

STATE = "diffusion_core training state"


# min_snr: of the choices compared in checkpoints/README.md, the one whose samples are recognised soonest
CIFAR10 = Recipe("cifar10", steps=100_000, weight="min_snr", flip=True, mults=(1, 2, 2), attention=(2,))


@dataclass(frozen=True)
class ClassifierRecipe:
    """A judge of generated images, which must not be one of the networks that it judges."""

    dataset: str
    steps: int = 2_400
    batch: int = 128
    lr: float = 3e-3  # peak of one cycle
    width: int = 32  # channels at the finest level; it has 4 * width features
    shift: int = 2  # pixels by which an image is shifted at most
    flip: bool = False  # mirror half of the images
    seed: int = 0


@dataclass(frozen=True)
class FieldRecipe:
    """The Score tab's first sight of each of its data: a field that knows all noise levels."""

    steps: int = 12_000
    batch: int = 256  # more than the page's 128: what is shipped is what the page can do at leisure
    lr: float = 1e-3
    seed: int = 0
    objective: str = "denoising"  # the cheapest a step
    compare_sigma: float = 1.0  # noise level at which the objectives are compared,
    compare_seconds: float = 5.0  # each after this much CPU time


RECIPES = {
    "mnist": Recipe("mnist"),
    "digits": Recipe("digits", steps=2_000, width=48, patch=1, batch=64, eval_every=200),
    "cifar10": CIFAR10,
    "cifar10-uncond": replace(CIFAR10, conditional=False),
    # DDPM as its paper has it (2006.11239), on the course's sprites: discrete levels, eps, every level as often
    "sprites": Recipe(
        "sprites",
        steps=50_000,
        batch=64,
        lr=2e-4,
        schedule="discrete",
        prediction="eps",
        times="uniform",
        eval_every=1000,
    ),
    # twenty photographs of a class are learned by heart: an example of what a diffusion model does with too few
    "animals": Recipe(
        "animals",
        size=64,
        per_class=20,
        steps=12_000,
        batch=16,
        schedule="discrete",
        mults=(1, 2, 2),
        patch=4,
    ),
    "mnist-classifier": ClassifierRecipe("mnist"),
    "sprites-classifier": ClassifierRecipe("sprites", width=16, shift=1),
    "cifar10-classifier": ClassifierRecipe("cifar10", steps=12_000, width=64, shift=4, flip=True),
    "fields": FieldRecipe(),
}


# Going on where it stopped ----------------------------------------------------------------------------------------


def save_state(path: Path, net, ema, optimizer, about: dict) -> None:
    """Weights, averages and Adam's moments, with `about`, under a checksum. Never a pickle."""
    parts = {"net": net.state_dict(), "ema": ema.state_dict()}
    parts |= {f"adam.{i}": moments for i, moments in optimizer.state_dict()["state"].items()}
    write_checked(path, STATE, about, {f"{part}.{k}": v for part, values in parts.items() for k, v in values.items()})


def read_state(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """What `save_state` was told (step, seconds, recipe), and the tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path} to resume from; start without --resume.")
    try:
        return read_checked(path, STATE, "train.py")
    except ValueError as error:
        raise ValueError(f"{path} is damaged or not a training state; start without --resume.") from error


def load_state(tensors: dict[str, Tensor], net, ema, optimizer) -> None:
    """Put the tensors of `read_state` back where `save_state` took them from."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    try:
        net.load_state_dict(part("net."))
        ema.load_state_dict(part("ema."))
    except RuntimeError as error:
        raise ValueError("--resume: the images have another shape or number of classes than before.") from error
    state = optimizer.state_dict()
    state["state"] = {i: part(f"adam.{i}.") for i, _ in enumerate(net.parameters())}
    optimizer.load_state_dict(state)


# The run ----------------------------------------------------------------------------------------------------------


class Stop:
    """Within it, Ctrl-C and SIGTERM only set a flag that the loop reads once a step; a second Ctrl-C ends at once."""

    asked = False

    def __enter__(self) -> "Stop":
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def _ask(self, signum, frame) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def agree(world: int, device: torch.device, *values: float) -> list[float]:
    """The largest of each value over all processes: they must share one clock, and all stop at the same step."""
    if world == 1:
        return list(values)
    largest = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.tolist()


class Run(Training):
    """A training with where it is kept, and how long it has taken."""

    def __init__(self, name: str, recipe: Recipe, device: torch.device, root: str | None, out: Path, runs: Path):
        self.model_path, self.state_path = (folder / f"{name}.safetensors" for folder in (out, runs))
        self.log_path, self.growth_path = out / f"{name}.jsonl", out / f"{name}-growth.png"
        self.test = load_images(recipe.dataset, "test", root, size=recipe.size or None)
        super().__init__(recipe, training_images(asdict(recipe), root, download=True), device)
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent training, earlier runs included."""
        return time.monotonic() - self.started

    def progress(self, seconds: float, minutes: float | None) -> float:
        return seconds / (60 * minutes) if minutes else self.step / self.recipe.steps

    def resume(self, about: dict, tensors: dict[str, Tensor]) -> None:
        load_state(tensors, self.net, self.ema.net, self.optimizer)
        self.step, self.started = about["step"], time.monotonic() - about["seconds"]

    def entry(self, **measured: float) -> dict:
        """A line of the log."""
        return {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "images": self.step * self.recipe.batch,
            **measured,
        }

    def keep(self, log: Log, growth: Growth, over: bool = False) -> None:
        """Everything to disk: the validation loss, the model as it would be used, what it draws, the state to go on."""
        val = validation_loss(self.ema, self.test, self.device)
        log(**self.entry(val_loss=val))
        minutes, device = round(self.seconds / 60, 1), device_name(self.device)
        model = self.model(minutes=minutes, device=device, val_loss=val)
        save(self.model_path, model, torch.float16)
        if over or growth.due(self.step):
            growth.add(model, self.step)
        about = {"step": self.step, "seconds": self.seconds, "recipe": asdict(self.recipe)}
        save_state(self.state_path, self.net, self.ema.net, self.optimizer, about)


def train(
    name: str,
    recipe: Recipe,
    *,
    minutes: float | None = None,
    resume: bool = False,
    root: str | None = None,
    out: Path = Path("checkpoints"),
    runs: Path = Path("runs"),
) -> Path:
    """Train `recipe` until `recipe.steps`, or for `minutes`; returns the checkpoint's path."""
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes must be more than 0, not {minutes}.")
    rank, world, device = setup()
    if recipe.batch % world:
        raise ValueError(f"--batch must be a multiple of the {world} processes, not {recipe.batch}.")
    saved = read_state(runs / f"{name}.safetensors") if resume else None
    if saved:
        check_same_recipe(recipe, saved[0]["recipe"])
    run = Run(name, recipe, device, root, out, runs)
    if saved:
        run.resume(*saved)
    if device.type == "cuda":
        run.D.net = torch.compile(run.D.net)
    if world > 1:
        run.D.net = torch.nn.parallel.DistributedDataParallel(run.D.net)
    loop(run, minutes, rank, world)
    if world > 1:
        dist.barrier()  # lets the threads of the group finish: they need Python once more, which its end would block
        dist.destroy_process_group()
    return run.model_path


def loop(run: Run, minutes: float | None, rank: int, world: int) -> None:
    """Steps until the time is up or a stop is asked for; the first process shows, logs and saves."""
    recipe, chief = run.recipe, rank == 0
    log, growth = Log(run.log_path, run.step) if chief else None, Growth(run.growth_path, run.shape[-2])
    growth.rewind(run.step)
    total, kept = None if minutes else recipe.steps, run.step
    run.net.train()
    with (
        Stop() as stop,
        tqdm(total=total, initial=run.step, desc=run.model_path.stem, unit="step", disable=not chief) as bar,
    ):
        while True:
            seconds, asked = agree(world, run.device, run.seconds, stop.asked)
            progress = run.progress(seconds, minutes)
            if progress >= 1 or asked:
                break
            if recipe.dropout:  # its masks too are a function of (seed, step), and differ between processes
                torch.manual_seed((recipe.seed * 1_000_003 + run.step) * world + rank)
            loss, grad_norm = run.advance(run.batch(run.step, rank, world), progress)
            bar.update()
            if chief and run.step % recipe.log_every == 0:
                log(**run.entry(loss=loss.item(), grad_norm=grad_norm.item()))
                left = f", {minutes - seconds / 60:.1f} min left" if minutes else ""
                bar.set_postfix_str(
                    f"loss {loss.item():.4f}, {recipe.batch * (bar.format_dict['rate'] or 0):.0f} images/s{left}"
                )
            if chief and run.step % recipe.eval_every == 0 and run.progress(run.seconds, minutes) < 1:
                run.keep(log, growth)
                kept = run.step
        if chief and run.step > kept:
            run.keep(log, growth, over=True)


def setup() -> tuple[int, int, torch.device]:
    """Rank, number of processes and device of this process; joins the others under torchrun."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    if not cuda:
        return rank, world, torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")
    return rank, world, device


def check_same_recipe(recipe: Recipe, saved: dict) -> None:
    """Only how long to go on may differ from the run being resumed."""
    now = json.loads(json.dumps(asdict(recipe)))
    changed = [k for k in now if k != "steps" and now[k] != saved.get(k)]
    if changed:
        k = changed[0]
        raise ValueError(
            f"--resume goes on with {k} = {saved.get(k)}, not {now[k]}; leave --{k} out, or start without --resume."
        )


# Classifiers ------------------------------------------------------------------------------------------------------


def train_judge(
    name: str, recipe: ClassifierRecipe, *, root: str | None = None, out: Path = Path("checkpoints")
) -> Path:
    """Train a classifier and keep it with its accuracy and with what it makes of real images; returns its path."""
    _, _, device = setup()
    images = {split: load_images(recipe.dataset, split, root) for split in ("train", "test")}
    options = {k: v for k, v in asdict(recipe).items() if k != "dataset"}
    with tqdm(total=recipe.steps, desc=name, unit="step") as bar:

        def progress(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)

        model = train_classifier(images["train"], device=device, progress=progress, **options)
    model.half().float()  # rounded as it will be in the file, so that the references are of the very same network
    with tqdm(total=sum(len(s.images) for s in images.values()), desc="references", unit="image") as bar:
        references = {split: reference(model, s.images, progress=bar.update) for split, s in images.items()}
    found = features(model, to_tensor(images["test"].images))
    accuracy = class_accuracy(logits(model, found), torch.from_numpy(images["test"].labels))
    about = {"title": TITLES.get(recipe.dataset, recipe.dataset), "device": device_name(device)}
    config = asdict(recipe) | about | {"accuracy": accuracy, "tested_on": len(found)}
    path = out / f"{name}.safetensors"
    save_classifier(path, model.cpu(), images["train"].classes, config, references)
    print(f"{100 * accuracy:.2f} % of the {len(found)} test images recognised")
    return path


# Fields in the plane ----------------------------------------------------------------------------------------------


def train_fields(recipe: FieldRecipe, out: Path) -> Path:
    """Train a field for each preset of the plane and keep it with how the objectives compare; returns the folder."""
    for name, preset in PRESETS.items():
        data = preset()
        run = fields.train(data, recipe.objective, lr=recipe.lr, batch=recipe.batch, seed=recipe.seed)
        losses, errors = [], []
        for progress in tqdm(islice(run, recipe.steps), total=recipe.steps, desc=name, unit="step"):
            losses.append(progress.loss)
            if progress.step % (recipe.steps // 20 or 1) == 0:
                errors.append((progress.step, fields.errors(progress.field, data, recipe.compare_sigma).relative))
        rivals = [r._asdict() for r in fields.compare(data, recipe.compare_sigma, recipe.compare_seconds) if r]
        config = {"data": name, **asdict(recipe), "loss": fields.smoothed(losses), "errors": errors, "rivals": rivals}
        save(out / f"{name}.safetensors", Model(progress.field, (2,), [], config), torch.float16)
    return out


# Command line -----------------------------------------------------------------------------------------------------


OPTIONS = {f.name: f for kind in (Recipe, ClassifierRecipe, FieldRecipe) for f in options_of(kind)}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--name", help="of the checkpoint; default: the recipe's")
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps; counts earlier runs too")
    parser.add_argument("--resume", action="store_true", help="go on from runs/<name>.safetensors")
    parser.add_argument("--data", metavar="ROOT", help="folder of the data sets; default: $DIFFUSION_DATA, else data/")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    for f in OPTIONS.values():
        if get_args(f.type):  # a tuple: --mults 1 2 4
            parser.add_argument(f"--{f.name}", type=get_args(f.type)[0], nargs="*")
        elif f.type is bool:
            parser.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(f"--{f.name}", type=f.type)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(sys.argv[1:] if argv is None else argv)
    keep_freed_memory()
    try:
        path = run(args)
    except (ValueError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    if int(os.environ.get("RANK", 0)) == 0:
        print(path)
    return 0


def run(args: argparse.Namespace) -> Path:
    """Train what the command line asks for; returns where it is."""
    recipe, name = RECIPES[args.recipe], args.name or args.recipe
    given = {option: getattr(args, option) for option in OPTIONS if getattr(args, option) is not None}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    for option in given.keys() - {f.name for f in options_of(recipe)}:
        raise ValueError(f"--{option} is not an option of {args.recipe}.")
    recipe = replace(recipe, **given)
    if isinstance(recipe, Recipe):
        how_long = dict(minutes=args.minutes, resume=args.resume)
        return train(name, recipe, **how_long, root=args.data, out=args.out, runs=args.runs)
    if args.minutes or args.resume:
        raise ValueError(f"--minutes and --resume are not for {args.recipe}, trained in one go; use --steps.")
    if isinstance(recipe, FieldRecipe):
        return train_fields(recipe, args.out / "fields")
    return train_judge(name, recipe, root=args.data, out=args.out)


if __name__ == "__main__":
    sys.exit(main())
