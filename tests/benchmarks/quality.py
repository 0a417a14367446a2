"""How good the digits are:  python -m tests.benchmarks.quality --data ROOT

Trains a classifier of its own on MNIST's training split (about five minutes on a CPU; kept in out/), then asks the
model for digits by class and reports how many the classifier recognises, and how close and how varied they are:
Frechet distance, precision and recall in the classifier's features against the test split, with the same numbers
for real training images beside them. Not FID: the features are the classifier's.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from diffusion_core.checkpoint import load
from diffusion_core.classifier import load_classifier, save_classifier, train_classifier
from diffusion_core.data import load_images
from diffusion_core.denoisers import Clipped, Guided
from diffusion_core.images import to_tensor, to_uint8
from diffusion_core.metrics import FeatureStats, class_accuracy, frechet_distance, precision_recall
from diffusion_core.samplers import generate


def judge(root: str | None, path: Path):
    if not path.exists():
        images, steps = load_images("mnist", "train", root), 2345
        with tqdm(total=steps, desc="classifier") as bar:
            model = train_classifier(images, steps=steps, progress=lambda step, loss: bar.update())
        save_classifier(path, model, images.classes, {"dataset": "mnist", "steps": steps})
    return load_classifier(path)[0]


@torch.no_grad()
def features(classifier, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([classifier.features(part) for part in x.split(500)])


def samples(model, count: int, guidance: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [count, C, H, W] as they would be shown (rounded to 8 bits), and the classes asked for."""
    D, cond, parts = Clipped(Guided(model.denoiser, guidance)), torch.arange(count) % len(model.classes), []
    for seeds in tqdm(torch.arange(count).split(100), desc=f"guidance {guidance:g}"):
        shape = (len(seeds), *model.shape)
        *_, last = generate(D, shape, "dpmpp_2m", steps=steps, seeds=seeds.tolist(), cond=cond[seeds])
        parts.append(to_tensor(to_uint8(last.x)))
    return torch.cat(parts), cond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--checkpoint", default="checkpoints/mnist.safetensors")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    args = parser.parse_args()
    classifier = judge(args.data, Path("out/mnist-classifier.safetensors"))
    test, train = (load_images("mnist", split, args.data) for split in ("test", "train"))
    real = features(classifier, to_tensor(test.images))
    right = class_accuracy(classifier.head(real), torch.from_numpy(test.labels))
    print(f"classifier: {100 * right:.2f} % on the {len(real)} test images")

    def report(name: str, f: torch.Tensor, labels: torch.Tensor) -> None:
        accuracy = class_accuracy(classifier.head(f), labels)
        distance = frechet_distance(FeatureStats().update(f), FeatureStats().update(real))
        precision, recall = precision_recall(real[: len(f)], f)
        print(f"{name:28s} n {len(f)}  recognised {100 * accuracy:6.2f} %  Frechet {distance:6.3f}  "
              f"precision {precision:.3f}  recall {recall:.3f}")  # fmt: skip

    model = load(args.checkpoint)
    report("real training images", features(classifier, to_tensor(train.images[: args.count])),
           torch.from_numpy(train.labels[: args.count]))  # fmt: skip
    for guidance in args.guidance:
        x, labels = samples(model, args.count, guidance, args.steps)
        report(f"guidance {guidance:g}, {args.steps} steps of 2M", features(classifier, x), labels)


if __name__ == "__main__":
    main()
