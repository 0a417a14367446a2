"""Command line:

python -m diffusion_core sample checkpoints/mnist.safetensors --class 3 --out three.png
python -m diffusion_core evaluate checkpoints/mnist.safetensors --guidance 1.5 --count 2000
python -m diffusion_core interpolate checkpoints/mnist.safetensors --classes 3 8 --pairs 3 --out paths
python -m diffusion_core diagnose checkpoints/mnist.safetensors
python -m diffusion_core report checkpoints/mnist.safetensors --out report
"""

import argparse
import csv
import io
import math
import os
import sys
import time
import warnings
from collections import deque
from pathlib import Path

import torch
from tqdm import tqdm

from .checkpoint import Model, load
from .classifier import Judge, load_classifier
from .data import ImageSet, available, load_images, training_images
from .denoisers import Clipped, Guided, passes
from .diagnose import keep_loss_by_time, loss_by_time, loss_path, nearest, struggles
from .evaluate import (
    Plan,
    comparison,
    draw,
    gather,
    inception_judge,
    keep_result,
    ladder,
    measure,
    read_results,
    results_path,
    standard_plans,
)
from .files import write_atomically
from .images import grid, save_gif, save_png, to_tensor
from .interpolate import WAYS
from .memory import keep_freed_memory
from .metrics import psnr
from .paths import APPROACHES, Walk, class_pairs, decoded, ends, journeys, path, worth
from .report import write_report
from .samplers import SAMPLERS, SPACINGS, generate


def sample(args: argparse.Namespace) -> None:
    """Generate a grid of images and write it, with its settings inside, as a PNG."""
    if not 1 <= args.count <= 10_000:
        raise ValueError(f"--count must lie between 1 and 10000, not {args.count}.")
    if not 1 <= args.steps <= 1000:
        raise ValueError(f"--steps must lie between 1 and 1000, not {args.steps}.")
    if not math.isfinite(args.guidance):
        raise ValueError(f"--guidance must be a finite number, not {args.guidance}.")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must lie between 0 and {2**32 - 1}, not {args.seed}.")
    model = load(args.checkpoint, best_device())
    if len(model.shape) != 3:
        raise ValueError(f"{args.checkpoint} is a model of points; one of images, as train.py makes it, is needed.")
    cond = model.conditions(args.class_name, args.count)
    D = Clipped(Guided(model.denoiser, args.guidance))
    seeds = [args.seed + k for k in range(args.count)]
    doubled = cond is not None and passes(args.guidance) == 2
    started = time.perf_counter()
    run = generate(
        D,
        (args.count, *model.shape),
        args.sampler,
        steps=args.steps,
        seeds=seeds,
        cond=cond,
        spacing=args.spacing,
        eta=args.eta,
    )
    label = SAMPLERS[args.sampler].label
    [last] = deque(tqdm(run, total=args.steps, desc=label, unit="step"), maxlen=1)
    recipe = {
        "checkpoint": Path(args.checkpoint).name,
        "class": args.class_name,
        "sampler": args.sampler,
        "steps": args.steps,
        "spacing": args.spacing,
        "guidance": args.guidance,
        "eta": args.eta,
        "seed": args.seed,
        "count": args.count,
    }
    save_png(args.out, grid(model.codec.decode(last.x), scale=max(1, 112 // model.shape[-1])), recipe)
    print(
        f"{args.out}: {args.count} images, {label}, {args.steps} step{'s' * (args.steps > 1)}, "
        f"{last.nfe} network call{'s' * (last.nfe > 1)}{' x 2' * doubled}, "
        f"guidance {args.guidance:g}, seeds {seeds[0]} to {seeds[-1]}, {time.perf_counter() - started:.1f} s"
    )


def evaluate(args: argparse.Namespace) -> None:
    """Draw samples, judge them and print the numbers; --save keeps them beside the checkpoint, for the page."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    device = best_device()
    model = load(args.checkpoint, device)
    judge = load_judge(args, model, device)
    common = dict(n=args.count, split=args.split, seed=args.seed, precision=args.precision)
    one = Plan(args.sampler, args.steps, args.guidance, spacing=args.spacing, eta=args.eta, **common)
    plans = standard_plans(**common) if args.standard else []
    plans += ladder(model, **common) if args.ladder else []
    plans = plans or [one]
    if args.missing:
        kept = [r["plan"] for r in read_results(args.checkpoint) if r["measure"] == judge.distance]
        plans = [plan for plan in plans if vars(plan) not in kept]
    for plan in plans:
        quiet = rank > 0
        with tqdm(total=plan.n, desc=SAMPLERS[plan.sampler].label, unit="image", disable=quiet, leave=False) as bar:
            for progress in draw(model, judge, plan, batch=args.batch, rank=rank, world=world):
                bar.update(min(plan.n, progress.done * world) - bar.n)
        progress = gather(progress) if world > 1 else progress
        if rank == 0:
            result = measure(judge, model, plan, progress)
            print(describe(result), flush=True)
            if args.save:
                keep_result(args.checkpoint, result)
    if args.standard and args.save and rank == 0:
        rows = torch.stack([images for _, images in comparison(model)])  # [3, K, C, H, W]
        picture = grid(rows.flatten(0, 1), columns=rows.shape[1])
        save_png(results_path(args.checkpoint).with_name(f"{args.checkpoint.stem}-comparison.png"), picture)
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def interpolate(args: argparse.Namespace) -> None:
    """Paths between pairs of distinct classes: a picture and a GIF each, and a table of what they are worth."""
    if not 1 <= args.pairs <= 100:
        raise ValueError(f"--pairs must lie between 1 and 100, not {args.pairs}.")
    model = load(args.checkpoint, best_device())
    judge = judging_classifier(args, model, best_device())
    classes = list(dict.fromkeys(args.classes or model.classes))
    if len(classes) < 2:
        raise ValueError(f"A path needs two different classes, not {', '.join(classes) or 'none'}.")
    dataset = model.config["dataset"]
    images = load_images(dataset, "test", size=model.shape[-1], download=False) if dataset in available() else None
    args.source, rows = args.source or ("data" if images else "generated"), []
    different = math.comb(len(classes), 2)
    for k, (a, b) in enumerate(class_pairs(classes, args.pairs, args.seed)):
        seed = args.seed + k + k // different * args.over  # classes that come again have images of their own
        spec = Walk(a, b, args.way, args.depth, args.positions, args.steps, args.guidance, seed)
        write_path(args, model, spec, images, f"{k + 1}-{a}-{b}".replace(" ", "-").replace("/", "-"))
        with tqdm(total=args.over, desc=f"{a} to {b}", unit="pair", leave=False) as bar:
            for progress in journeys(model, judge, spec, args.models, args.source, args.over, images):
                bar.update(progress.done - bar.n)
        for approach, feats in progress.feats.items():
            rows += [{"pair": k + 1, "a": a, "b": b, "model": approach, **row} for row in worth(judge, spec, feats)]
    write_table(args.out, rows, f"{judge.distance}, ends: {args.source}, {args.way}, latents at t = {args.depth:g}")


def write_path(args: argparse.Namespace, model: Model, spec: Walk, images: ImageSet | None, name: str) -> None:
    """One path, a row for each way of decoding, as a PNG and, there and back, as a GIF."""
    x = [ends(model, args.source, end, [spec.seed], images) for end in (spec.class_a, spec.class_b)]
    way = path(model, spec, *x)
    found = {approach: decoded(model, spec, way, approach) for approach in args.models}
    recipe = {"checkpoint": args.checkpoint.name, "source": args.source, "models": args.models, **vars(spec)}
    scale = max(1, 84 // model.shape[-1])
    save_png(args.out / f"{name}.png", grid(torch.cat(list(found.values())), spec.positions, scale=scale), recipe)
    there = [grid(torch.stack([row[k] for row in found.values()]), scale=scale) for k in range(spec.positions)]
    save_gif(args.out / f"{name}.gif", [*there, *there[-2:0:-1]], recipe, ms=200)
    back = ""
    if "c" in found:
        dB = [psnr(found["c"][[k]], image).item() for k, image in zip((0, -1), x, strict=True)]
        back = f"; the ends come back with {dB[0]:.1f} and {dB[1]:.1f} dB"
    print(f"{args.out / name}.png: {spec.class_a} to {spec.class_b}, {spec.way}{back}", flush=True)


def write_table(folder: Path, rows: list[dict], caption: str) -> None:
    """path.csv and path.md in the folder, with the same numbers."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(folder / "path.csv", text.getvalue().encode())
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    lines = [list(rows[0].keys()), ["---"] * len(rows[0]), *cells]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    legend = "; ".join(f"({key}) {label}" for key, label in APPROACHES.items())
    write_atomically(folder / "path.md", f"{caption}\n\n{body}\n\n{legend}\n".encode())
    print(f"{folder / 'path.csv'}, {folder / 'path.md'}: {caption}")


def diagnose(args: argparse.Namespace) -> None:
    """The loss by time, kept beside the checkpoint for the page, and how near samples are to training images."""
    model = load(args.checkpoint, best_device())
    if "recipe" not in model.config:
        raise ValueError(f"{args.checkpoint} does not say what it was trained on; a checkpoint of train.py does.")
    recipe = model.config["recipe"]
    size = recipe.get("size") or None
    images = load_images(recipe["dataset"], args.split, args.data, size=size)
    bins = 20
    with tqdm(total=bins * min(args.count, len(images.images)), desc="loss by time", unit="image") as bar:
        found = loss_by_time(model, images, args.split, n=args.count, bins=bins, seed=args.seed, progress=bar.update)
    found["why"] = struggles(found, model.denoiser.schedule)
    keep_loss_by_time(args.checkpoint, found)
    print(f"{loss_path(args.checkpoint)}: {found['n']} images, {found['split']}. {found['why']}")
    trained_on, n = training_images(recipe, args.data, download=True), 50
    run = generate(
        Clipped(model.denoiser), (n, *model.shape), "dpmpp_2m", steps=20,
        seeds=[args.seed + k for k in range(n)], cond=model.conditions("all", n),
    )  # fmt: skip
    [last] = deque(tqdm(run, total=20, desc="samples", unit="step"), maxlen=1)
    test = images if args.split == "test" else load_images(recipe["dataset"], "test", args.data, size=size)
    unseen = test.images[:n]
    for what, x in ((f"{n} samples", last.x.cpu()), (f"{len(unseen)} test images", to_tensor(unseen))):
        _, distance = nearest(x, trained_on.images)
        low, middle, high = distance.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
        print(
            f"nearest of the {len(trained_on.images)} training images to {what}: "
            f"rms {middle:.3f} a pixel in the median, 90 % between {low:.3f} and {high:.3f}"
        )


def report(args: argparse.Namespace) -> None:
    """A page with everything that there is to hand in about a checkpoint, and its figures one by one."""
    sizes = dict(seed=args.seed, pairs=args.pairs, over=args.over)
    for title, seconds in write_report(args.checkpoint, args.out, **sizes, root=args.data, device=best_device()):
        print(f"{seconds:6.1f} s  {title}", flush=True)
    print(args.out / "report.html")


def load_judge(args: argparse.Namespace, model: Model, device: str) -> Judge:
    """Inception if asked for, else the classifier named, else that of the data set, beside the checkpoint."""
    if args.inception is None:
        return judging_classifier(args, model, device)
    dataset = model.config["dataset"]
    if args.inception == "download":
        from .inception import download_inception

        download_inception()
    with tqdm(desc="references", unit="image") as bar:
        weights = None if args.inception in ("find", "download") else args.inception
        kept = Path("runs") / f"{dataset}-inception.safetensors"
        return inception_judge(dataset, weights=weights, root=args.data, kept=kept, device=device, progress=bar.update)


def judging_classifier(args: argparse.Namespace, model: Model, device: str) -> Judge:
    kept = args.checkpoint.with_name(f"{model.config['dataset']}-classifier.safetensors")
    return load_classifier(args.judge or kept, device)


def describe(result: dict) -> str:
    """A result in three lines: what was judged, what was found, and what the same is for real images and for noise."""
    plan, (low, high) = result["plan"], result["interval"]
    line = "" if result["extrapolated"] is None else f", n to infinity {result['extrapolated']:.3f}"

    calls = f"{result['calls']} network calls" + " x 2" * (result["passes"] == 2)
    floor, ceiling = result["floor"], result["ceiling"]
    named = {"accuracy": "classes as asked", "precision": "precision", "recall": "recall"}

    def shares(of: dict) -> str:
        return "".join(f", {name} {100 * of[key]:.1f} %" for key, name in named.items() if of[key] is not None)

    rank = (
        f"\n  the covariance of {result['n']} samples in {result['features']} dimensions is singular: more are needed"
    )
    return (
        f"{SAMPLERS[plan['sampler']].label}, {plan['steps']} steps, {calls}, guidance {plan['guidance']:g}, "
        f"n {result['n']}, seeds from {plan['seed']}, against {result['reference']}, {result['seconds']} s\n"
        f"  {result['measure']} {result['distance']:.3f} [{low:.3f}, {high:.3f}]{line}{shares(result)}\n"
        f"  the same of {floor['n']} real images {floor['distance']:.3f}{shares(floor)}; "
        f"of noise {ceiling['distance']:.1f}" + rank * (result["n"] <= result["features"])
    )


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m diffusion_core", description="Sample from and judge a diffusion model."
    )
    commands = top.add_subparsers(dest="command", required=True)
    p = commands.add_parser("sample", help="generate images from a checkpoint")
    add_sampling_options(p, steps=20, count=16)
    p.add_argument("--class", dest="class_name", help='a class name, "all" in turn, or "none" (the default)')
    p.add_argument("--out", type=Path, default=Path("grid.png"))
    p.set_defaults(run=sample)

    p = commands.add_parser("evaluate", help="measure how good a checkpoint's samples are")
    add_sampling_options(p, steps=18, count=1000)
    p.add_argument("--split", choices=("train", "test"), default="test", help="real images to compare with")
    p.add_argument("--judge", type=Path, help="classifier; default: <data set>-classifier.safetensors beside it")
    p.add_argument(
        "--inception", nargs="?", const="find", metavar="FILE",
        help="judge by the FID's own network: its weights FILE, else $FID_INCEPTION, else torch's cache; "
        '"download" fetches them there',
    )  # fmt: skip
    p.add_argument("--data", metavar="ROOT", help="folder of the data sets, which --inception needs once")
    p.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network's products")
    p.add_argument("--batch", type=int, default=100, help="samples drawn at a time, by each process")
    p.add_argument("--standard", action="store_true", help="every row of the page's table instead of one setting")
    p.add_argument("--ladder", action="store_true", help="DDPM and DDIM in 10 to 1000 steps instead, or besides")
    p.add_argument("--missing", action="store_true", help="leave out what is kept already")
    p.add_argument("--save", action="store_true", help="keep the result in <checkpoint>-evaluation.json")
    p.set_defaults(run=evaluate)

    p = commands.add_parser("interpolate", help="go from image to image by way of their latents, and measure it")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--classes", nargs="+", help="two, or more to draw distinct ones from; default: all")
    p.add_argument("--pairs", type=int, default=3, help="paths to write, each between one image of either class")
    p.add_argument("--positions", type=int, default=9)
    p.add_argument("--models", nargs="+", choices=APPROACHES, default=list(APPROACHES), help="how to decode")
    p.add_argument("--way", choices=WAYS, default="slerp", help="what moves")
    p.add_argument("--depth", type=float, default=0.5, help="time t of the latents")
    p.add_argument("--steps", type=int, default=20, help="of each encoding and decoding")
    p.add_argument("--guidance", type=float, default=2.0, help="of (b)")
    p.add_argument("--seed", type=int, default=0, help="of the first pair: its classes, images and noise")
    p.add_argument("--over", type=int, default=64, help="pairs of images that each distance is measured over")
    p.add_argument("--source", choices=("data", "generated"), help="default: data, where the data set is here")
    p.add_argument("--judge", type=Path, help="classifier; default: <data set>-classifier.safetensors beside it")
    p.add_argument("--out", type=Path, default=Path("paths"))
    p.set_defaults(run=interpolate)

    p = commands.add_parser("diagnose", help="loss by time, and whether training images are known by heart")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--split", choices=("train", "test"), default="test", help="images that the loss is taken of")
    p.add_argument("--count", type=int, default=1000, help="how many of them")
    p.add_argument("--seed", type=int, default=0, help="of the noise, and of the first sample")
    p.add_argument("--data", metavar="ROOT", help="folder of the data sets; default: $DIFFUSION_DATA, else data/")
    p.set_defaults(run=diagnose)

    p = commands.add_parser("report", help="write a page to hand in: training, samples, comparisons, paths, numbers")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--out", type=Path, default=Path("report"), help="folder of report.html and its figures")
    p.add_argument("--seed", type=int, default=0, help="of the first image of each figure, and of the pairs of classes")
    p.add_argument("--pairs", type=int, default=3, help="pairs of classes to interpolate")
    p.add_argument("--over", type=int, default=24, help="pairs of images that each of their distances is measured over")
    p.add_argument("--data", metavar="ROOT", help="folder of the data sets; default: $DIFFUSION_DATA, else data/")
    p.set_defaults(run=report)
    return top


def add_sampling_options(p: argparse.ArgumentParser, steps: int, count: int) -> None:
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    p.add_argument("--steps", type=int, default=steps)
    p.add_argument("--spacing", choices=SPACINGS, default="lam", help="how the steps are spread over time")
    p.add_argument(
        "--guidance", type=float, default=2.0, help="0: the class is ignored, 1: as trained, more: more typical"
    )
    p.add_argument("--eta", type=float, default=0.0, help="of DDIM: 0 deterministic, 1 as noisy as DDPM")
    p.add_argument("--seed", type=int, default=0, help="of the first image; image k has seed + k")
    p.add_argument("--count", type=int, default=count, help="how many images")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after one line on what was wrong with the input."""
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
    args = parser().parse_args(argv)
    keep_freed_memory()
    try:
        args.run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print("diffusion_core:", *str(error).split(), file=sys.stderr)  # on one line, whatever the library said
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
