"""What a report draws anew: the forward process, samples, DDPM against DDIM, paths between classes."""

import shlex
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, comb
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from . import figures
from .checkpoint import Model
from .classifier import Judge, load_classifier
from .data import TITLES, ImageSet, available, data_root, load_images
from .denoisers import Clipped, passes
from .evaluate import APPROACHES, Plan, comparison, ladder, read_results, short, steps_needed
from .figures import Picture
from .images import grid, to_tensor
from .page import Block, Missing, Table
from .paths import APPROACHES as DECODINGS
from .paths import Walk, class_pairs, decoded, ends, journeys, path, worth
from .samplers import SAMPLERS, generate, seeded_noise
from .training import device_name

GROUND = 208  # light grey between the images and around them: one of them may be white at its edge
COUNT = 10  # images in a row where there are no classes, and of each run of DDPM and DDIM
MOST = 100  # steps of DDPM and DDIM that are drawn here; more are a matter of minutes
LEVELS = 11  # times of the forward process that are shown
MEASURED = 5  # positions of a path at which distances are measured: each costs as much as an image of the figure a pair


@dataclass(frozen=True)
class Subject:
    """What a report is of. Where there is no judge or no data set, a sentence stands in its place and says why."""

    checkpoint: Path
    model: Model
    judge: Judge | Missing
    images: ImageSet | Missing
    seed: int
    pairs: int
    over: int

    @property
    def title(self) -> str:
        """What the data set is called."""
        dataset = self.model.config.get("dataset", "data of unknown name")
        return TITLES.get(dataset, dataset)

    @property
    def quoted(self) -> str:
        """The checkpoint as a shell takes it."""
        return shlex.quote(str(self.checkpoint))

    def beside(self, ending: str) -> Path:
        """The file of the checkpoint's name with another ending."""
        return self.checkpoint.with_name(self.checkpoint.stem + ending)

    def recipe(self, **settings) -> dict:
        """What goes into a figure's PNG."""
        return {"checkpoint": self.checkpoint.name, "seed": self.seed, **settings}

    def columns(self, count: int) -> list[str]:
        """Names of `count` columns with the classes in turn."""
        classes = self.model.classes or [""]
        return [classes[k % len(classes)] for k in range(count)]


def find_images(model: Model, root: str | Path | None) -> ImageSet | Missing:
    """The test split of what the model was trained on, or the reason why there is none that fits."""
    name = model.config.get("dataset")
    if name is None:
        return Missing("The checkpoint does not say what it was trained on, so no real images can be shown.")
    if name not in available(root):
        where = "`--data` or `$DIFFUSION_DATA` says where it is"
        return Missing(f"The data set {name} is not in {data_root(root)}; {where}.")
    try:
        images = load_images(name, "test", root, size=model.shape[-1], download=False)
    except (ValueError, OSError) as error:
        return Missing(f"The data set {name} cannot be used: {error}")
    c, h, w = model.shape
    if images.images.shape[1:] != (h, w, c) or not set(model.classes) <= set(images.classes):
        return Missing(f"The data set {name} in {data_root(root)} has other classes or sizes than the model.")
    return images


def find_judge(checkpoint: Path, model: Model) -> Judge | Missing:
    """The classifier of the model's data set beside the checkpoint, or the reason why there is none that fits."""
    name = model.config.get("dataset")
    if name is None:
        return Missing("The checkpoint does not say what it was trained on, so no classifier can be found to judge it.")
    kept = checkpoint.with_name(f"{name}-classifier.safetensors")
    if not kept.is_file():
        return Missing(f"Distances need a classifier of {name}, {kept}, which train.py makes for some data sets.")
    try:
        judge = load_classifier(kept, next(model.denoiser.parameters()).device)
    except ValueError as error:
        return Missing(str(error))
    if not set(model.classes) <= set(judge.classes) or judge.network.channels != model.shape[0]:
        return Missing(f"{kept} knows other classes or channels than the model, and cannot judge it.")
    return judge


def framed(x: Tensor, columns: int) -> Image.Image:
    """Images [B, C, H, W] in rows, with a frame."""
    return ImageOps.expand(grid(x, columns, ground=GROUND), 1, fill=(GROUND,) * x.shape[1])


def machine(model: Model) -> str:
    """What it runs on."""
    return device_name(next(model.denoiser.parameters()).device)


# The forward process ------------------------------------------------------------------------------------------------


def forward(subject: Subject, bar: tqdm) -> Iterator[Block]:
    schedule, seed = subject.model.denoiser.schedule, subject.seed
    if isinstance(subject.images, Missing):
        yield Missing(f"{subject.images} A generated image stands in for a real one.")
        x0, what = generated(subject.model, seed), f"an image that the model drew (seed {seed})"
    else:
        k = seed % len(subject.images.images)
        x0, what = to_tensor(subject.images.images[[k]]), f"image {k} of the {subject.title} test split"
    t = torch.linspace(schedule.t_min, schedule.t_max, LEVELS, dtype=torch.float64)
    x = schedule.perturb(x0.expand(LEVELS, *x0.shape[1:]), t, seeded_noise([seed])(x0))
    c = schedule.table(t)
    yield figures.plate(
        [("xₜ", framed(x, LEVELS))],
        [""] * LEVELS,
        below={
            "t": [f"{v:.2g}" for v in t.tolist()],
            "α": [f"{v:.3f}" for v in c.alpha],
            "σ": [f"{v:.3f}" for v in c.sigma],
            "SNR": [short((a / s) ** 2) for a, s in zip(c.alpha, c.sigma, strict=True)],
        },
        name="forward",
        alt=f"One image at {LEVELS} times, from clean to noise, with t, alpha, sigma and SNR",
        caption=f"Forward noising, xₜ = α x₀ + σ ε, of {what}, with the same noise ε (seed {seed}) at {LEVELS} "
        f"evenly spaced times of the schedule {schedule.name}. SNR = α² / σ². Values beyond [-1, 1] are shown "
        "black or white.",
        recipe=subject.recipe(schedule=schedule.name, times=t.tolist()),
    )


def generated(model: Model, seed: int) -> Tensor:
    """One image [1, C, H, W] of the first class, if there are classes, on the CPU."""
    if model.classes:
        return ends(model, "generated", model.classes[0], [seed])
    run = generate(Clipped(model.denoiser), (1, *model.shape), "dpmpp_2m", steps=20, seeds=[seed])
    [last] = deque(run, maxlen=1)
    return model.codec.decode(last.x).cpu()


# Samples ------------------------------------------------------------------------------------------------------------


def samples(subject: Subject, bar: tqdm) -> Iterator[Block]:
    model, each = subject.model, 2 if subject.model.classes else COUNT
    columns, groups = model.classes or [""] * COUNT, []
    bar.reset(len(APPROACHES))
    for name, images in comparison(model, subject.seed, each):
        if model.classes:  # they come class by class: a column for each
            images = images.unflatten(0, (-1, each)).transpose(0, 1).flatten(0, 1)
        groups.append((f"({name})", framed(images, len(columns))))
        bar.update()
    plans = {k: plan if model.classes else replace(plan, guidance=0.0) for k, plan in APPROACHES.items()}
    if not model.classes:
        yield Missing("The model knows no classes, so that nothing guides it: (a) and (b) are the same.")
    what = "Two samples of every class" if model.classes else f"{COUNT} samples"
    last = subject.seed + each * max(1, len(model.classes)) - 1
    yield figures.plate(
        groups,
        columns,
        name="samples",
        alt="Samples by the reverse SDE without and with guidance, and by the probability-flow ODE",
        caption=f"{what}, seeds {subject.seed} to {last}; the same place in (a), (b), (c) has the same starting noise. "
        + "; ".join(f"({k}) {described(plan)}" for k, plan in plans.items())
        + (". The names above the columns say nothing of (a)." if model.classes else "."),
        recipe=subject.recipe(each=each, **{k: vars(plan) for k, plan in plans.items()}),
    )


def described(plan: Plan) -> str:
    """The settings of an approach, as a caption has them."""
    calls = 2 * plan.steps - 1 if SAMPLERS[plan.sampler].calls == 2 else plan.steps
    times = " × 2" if passes(plan.guidance) == 2 else ""
    guided = f"guidance {plan.guidance:g}" if plan.guidance else "no class"
    return f"{SAMPLERS[plan.sampler].label}, {plan.steps} steps, {calls}{times} network calls, {guided}"


def counted(run: Iterator, bar: tqdm) -> Iterator:
    """What a run yields, the bar moved at each."""
    for state in run:
        bar.update()
        yield state


# DDPM against DDIM --------------------------------------------------------------------------------------------------


def ddpm_and_ddim(subject: Subject, bar: tqdm) -> Iterator[Block]:
    model, runs = subject.model, {}
    levels = round(1 / model.denoiser.schedule.t_min)  # of a discrete schedule, which cannot take more steps
    plans = [p for p in ladder(model, COUNT) if p.steps <= (min(MOST, levels) if p.spacing == "ddpm" else MOST)]
    cond, seeds = model.conditions("all", COUNT), list(range(subject.seed, subject.seed + COUNT))
    bar.reset(sum(plan.steps for plan in plans))
    for plan in plans:  # DDIM and DDPM by turns: what else the machine does slows both
        started, how = time.perf_counter(), dict(steps=plan.steps, spacing=plan.spacing)
        run = generate(Clipped(model.denoiser), (COUNT, *model.shape), plan.sampler, seeds=seeds, cond=cond, **how)
        [last] = deque(counted(run, bar), maxlen=1)
        runs[plan.sampler, plan.steps] = model.codec.decode(last.x).cpu(), last.nfe, time.perf_counter() - started
    runs = dict(sorted(runs.items()))
    guided = "classes in turn, guidance 1" if model.classes else "no class"
    spacing = "levels of the schedule itself" if plan.spacing == "ddpm" else "steps even in log-SNR"
    conditions = f"{COUNT} images, {guided}, seeds {seeds[0]} to {seeds[-1]}, {spacing}"
    yield figures.plate(
        [(f"{SAMPLERS[s].label} {n}", framed(x, COUNT)) for (s, n), (x, _, _) in runs.items()],
        subject.columns(COUNT),
        name="ddpm-ddim",
        alt=f"The same {COUNT} starting noises by DDIM and by DDPM in few steps and in many",
        caption=f"DDIM (η = 0) and DDPM (ancestral, η = 1) in few steps and in many, each column from the same "
        f"starting noise: {conditions}. DDIM solves an ODE, whose answer more steps only refine; DDPM draws fresh "
        "noise at every step, and so other images for every number of steps.",
        recipe=subject.recipe(steps=[n for _, n in runs], spacing=plan.spacing),
    )
    yield from costs(subject, runs, plan.spacing, conditions)


def costs(subject: Subject, runs: dict, spacing: str, conditions: str) -> Iterator[Block]:
    """The table of DDPM and DDIM: what each run cost, and what saved samples of its kind are worth."""
    kept, rows = saved_runs(subject, spacing), []
    longest = max(steps for _, steps in runs)
    for sampler, steps in sorted({*runs, *kept}):
        cells = ["–"] * 4
        if (sampler, steps) in runs:
            x, calls, seconds = runs[sampler, steps]
            rms = (x - runs["ddim", longest][0]).square().mean().sqrt().item()
            cells = [str(calls), f"{seconds:.2f}", f"{1000 * seconds / calls / COUNT:.1f}", f"{rms:.3f}"]
        r = kept.get((sampler, steps))
        distance = f"{interval(r)}, n = {r['n']:,}" if r else "not measured"
        rows.append([SAMPLERS[sampler].label, str(steps), *cells, distance])
    measure = next((f"{r['measure']} to {r['reference']}" for r in kept.values()), "Fréchet distance")
    yield Table(
        f"What they cost: {conditions}; seconds for all {COUNT} together, on {machine(subject.model)}. rms: difference "
        f"a pixel, of values in [-1, 1], to DDIM in {longest} steps. Distance: of other samples of the same settings, "
        "measured before (section Quality), with its 95 % interval.",
        ["sampler", "steps", "network calls", "seconds", "ms a call and image", "rms", measure],
        rows,
    )
    if any(sampler == "ddim" for sampler, _ in kept) and any(sampler == "ddpm" for sampler, _ in kept):
        best, needed = steps_needed(list(kept.values()))
        plan = best["plan"]
        enough = [f"{SAMPLERS[s].label} {f'in {n} steps' if n else 'in none of these'}" for s, n in needed.items()]
        yield (
            f"The best of these distances is {short(best['distance'])}, by {SAMPLERS[plan['sampler']].label} in "
            f"{plan['steps']} steps. Within 10 % of it come {' and '.join(enough)} at the least."
        )
    if not runs.keys() <= kept.keys():
        command = f"python -m diffusion_core evaluate {subject.quoted} --ladder --save --count 2000"
        yield Missing(f"Distances of the steps that have none are measured and kept by `{command}`.")


def saved_runs(subject: Subject, spacing: str) -> dict[tuple[str, int], dict]:
    """By sampler and steps: saved results of DDPM and DDIM as they run here, all of one n, reference and measure."""
    try:
        results = read_results(subject.checkpoint)
    except ValueError:  # the section on quality says so
        return {}
    found = {}
    for r in results:
        plan = Plan(**r["plan"])
        alike = (plan.eta, plan.spacing) == (0, spacing) and (plan.guidance == 1 or not subject.model.classes)
        if alike and plan.sampler in ("ddpm", "ddim"):
            found.setdefault((r["measure"], r["reference"], r["n"]), {})[plan.sampler, plan.steps] = r
    return max(found.values(), key=len, default={})


def interval(result: dict) -> str:
    """A saved distance with its 95 % interval."""
    low, high = result["interval"]
    return f"{short(result['distance'])} [{short(low)}, {short(high)}]"


# Paths --------------------------------------------------------------------------------------------------------------


def interpolation(subject: Subject, bar: tqdm) -> Iterator[Block]:
    model, judge, images = subject.model, subject.judge, subject.images
    if len(model.classes) < 2:
        yield Missing("A path leads from one class to another, and this model does not have two.")
        return
    if isinstance(images, Missing) or not {images.classes.index(c) for c in model.classes} <= set(images.labels):
        images = None  # or some class has no test image
    pairs = class_pairs(model.classes, min(subject.pairs, comb(len(model.classes), 2)), subject.seed)
    specs = [Walk(a, b, seed=subject.seed + k) for k, (a, b) in enumerate(pairs)]
    batches = 0 if isinstance(judge, Missing) else ceil(subject.over / 8)
    bar.reset(len(specs) * (len(APPROACHES) + batches * (len(APPROACHES) * specs[0].steps + 1)))
    first = specs[0]
    yield (
        f"Two images of different classes are encoded by the probability-flow ODE up to t = {first.depth:g}, their "
        f"latents interpolated by {first.way} and decoded in {first.steps} steps by (a) DDPM's ancestral steps of the "
        f"reverse SDE, without a class, (b) the same at guidance {first.guidance:g} towards the class of the nearer "
        "end, (c) the ODE, which alone gives back the ends."
    )
    for k, spec in enumerate(specs, 1):
        yield one_path(subject, spec, k, images, bar)
    if isinstance(judge, Missing):
        yield judge
        return
    try:
        found = {}
        source = "data" if images else "generated"
        for spec in [replace(spec, positions=MEASURED) for spec in specs]:
            run = journeys(model, judge, spec, list(APPROACHES), source, subject.over, images)
            [last] = deque(counted(run, bar), maxlen=1)
            feats = last.feats.items()
            found[f"{spec.class_a} to {spec.class_b}"] = {k: worth(judge, spec, of_k) for k, of_k in feats}
    except ValueError as error:  # the judge has kept too few images of a class
        yield Missing(str(error))
    else:
        yield from distances(subject, images, found)


def one_path(subject: Subject, spec: Walk, k: int, images: ImageSet | None, bar: tqdm) -> Picture:
    """The ends, and what (a), (b) and (c) make of the way between."""
    model, source = subject.model, "data" if images else "generated"
    a, b = (ends(model, source, end, [spec.seed], images) for end in (spec.class_a, spec.class_b))
    way, between = path(model, spec, a, b), torch.ones(spec.positions - 2, *model.shape)
    both, side = framed(torch.cat([a, between, b]), spec.positions), model.shape[-1] + 2  # with its frame
    both.paste("white", (side, 0, both.width - side, both.height))
    groups = [("ends", both)]
    for approach in APPROACHES:
        groups.append((f"({approach})", framed(decoded(model, spec, way, approach), spec.positions)))
        bar.update()
    where = "number {} of its class in the test split" if images else "drawn by the model, seed {}"
    return figures.plate(
        groups,
        [spec.class_a, *[""] * (spec.positions - 2), spec.class_b],
        below={"position": [f"{w:.3g}" for w in spec.weights.tolist()]},
        name=f"path-{k}",
        alt=f"A path from {spec.class_a} to {spec.class_b} in {spec.positions} images, decoded in three ways",
        caption=f"From {spec.class_a} to {spec.class_b}, each end {where.format(spec.seed)}; (a) {DECODINGS['a']}, "
        f"(b) {DECODINGS['b']} (guidance {spec.guidance:g}), (c) {DECODINGS['c']}; {spec.way} at t = {spec.depth:g}, "
        f"{spec.steps} steps, noise of (a) and (b) from seed {spec.seed}.",
        recipe=subject.recipe(source=source, **vars(spec)),
    )


def distances(subject: Subject, images: ImageSet | None, found: dict) -> Iterator[Block]:
    """What the images along the paths are worth: {path: {approach: rows of `paths.worth`}}."""
    judge, n = subject.judge, subject.over
    few = (
        f" {n} images in {judge.network.num_features} dimensions make every distance far too large: compare them with "
        "one another, not with other tables."
    )
    source = "test images" if images else "images drawn by the model"
    yield figures.distances_along(
        found,
        {k: f"({k}) {label}" for k, label in DECODINGS.items()},
        name="path-distances",
        alt="Fréchet distance over the position along each path, for the three ways of decoding",
        caption=f"{judge.distance} to real test images of both classes, mixed as the position says, with 95 % "
        f"intervals; n = {n} images at each position, between {n} pairs of {source}, seeds {subject.seed} onwards (one "
        "more for each further path), decoded as in the figures above. (b) asks for one class at each position, and "
        "so is far from the mixture in the middle." + few * (n <= judge.network.num_features),
        recipe=subject.recipe(over=n, source="data" if images else "generated"),
    )
    for title, worths in found.items():
        head, rows = ["position"], [[f"{w:.2f}"] for w in torch.linspace(0, 1, MEASURED).tolist()]
        for approach, values in worths.items():
            head += [f"({approach}) distance", "p(from)", "p(to)"]
            for row, v in zip(rows, values, strict=True):
                row += [f"{v['distance']:.1f} [{v['low']:.1f}, {v['high']:.1f}]", f"{v['p_a']:.2f}", f"{v['p_b']:.2f}"]
        yield Table(
            f"From {title}: the distances of the figure, n = {n} at each position, and the mean probabilities that "
            f"the {judge.name} gives to the class that the path comes from and to the one it goes to.",
            head,
            rows,
        )
