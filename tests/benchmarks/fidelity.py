"""Judging beside torch-fidelity:  python -m tests.benchmarks.fidelity

Features of two sets of images and the Frechet distance between them, with the same network: CIFAR-10's classifier. The
images are random: what is timed does not look at them.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from diffusion_core.classifier import load_classifier
from diffusion_core.evaluate import reference
from diffusion_core.metrics import frechet_distance

from .timing import interleaved, ratio, table

JUDGE = "checkpoints/cifar10-classifier.safetensors"


class Images(torch.utils.data.Dataset):
    """uint8 [N, H, W, C] as torch-fidelity asks for them: [C, H, W] each."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> Tensor:
        return torch.from_numpy(self.images[k]).movedim(-1, 0)


def register(network: torch.nn.Module) -> None:
    """Make the judge's network a feature extractor of torch-fidelity's, "judge"."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Extractor(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_):
            super().__init__(name, features_list)
            self.network = network

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (self.network.features(x.float() / 127.5 - 1),)

    register_feature_extractor("judge", Extractor)


def fidelity(n: int = 10_000, runs: int = 5) -> str:
    """Seconds of both, and the two distances."""
    from torch_fidelity import calculate_metrics

    network = load_classifier(JUDGE).network
    register(network)
    g = np.random.default_rng(0)
    a, b = (g.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) // k for k in (1, 2))
    found = {}

    def ours() -> None:
        found["ours"] = frechet_distance(*(reference(network, images).stats for images in (a, b)))

    def theirs() -> None:
        options = dict(feature_extractor="judge", batch_size=250, cuda=False, cache=False, verbose=False)
        metrics = calculate_metrics(input1=Images(a), input2=Images(b), fid=True, save_cpu_ram=True, **options)
        found["torch-fidelity"] = metrics["frechet_inception_distance"]

    times = interleaved({"ours": ours, "torch-fidelity": theirs}, runs)
    rows = [
        [name, times[name].text(), ratio(times["ours"], times[name]), f"{distance:.6f}"]
        for name, distance in found.items()
    ]
    return table([f"features of 2 x {n:,} images, Fréchet distance", "s", "over ours", "distance"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    print(fidelity(parser.parse_args().count))
