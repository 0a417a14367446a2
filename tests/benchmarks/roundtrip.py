"""How exactly the ODE gives images back:  python -m tests.benchmarks.roundtrip CHECKPOINT [--data ROOT]

Encodes 16 test images to noise with their class, decodes them again, and prints the PSNR: with RK45 at a tolerance of
1e-5, and in as many steps each way as the Interpolate tab takes. Without the data set, images that the model has drawn.
"""

import argparse

import torch

from diffusion_core.checkpoint import load
from diffusion_core.data import available, load_images
from diffusion_core.images import to_tensor
from diffusion_core.interpolate import decode, encode, in_steps
from diffusion_core.metrics import psnr
from diffusion_core.paths import Walk, ends
from diffusion_core.samplers import rk45

N = 16


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("checkpoint")
    p.add_argument("--data")
    args = p.parse_args()
    model = load(args.checkpoint)
    dataset = model.config["dataset"]
    if dataset in available(args.data):
        images = load_images(dataset, "test", args.data, size=model.shape[-1], download=False)
        x, labels, what = to_tensor(images.images[:N]), torch.from_numpy(images.labels[:N]), "test images"
    else:
        names = [model.classes[k % len(model.classes)] for k in range(N)]
        x, what = torch.cat([ends(model, "generated", name, [k]) for k, name in enumerate(names)]), "generated images"
        labels = torch.tensor([model.label(name) for name in names])
    for name, solver in (("RK45, tolerance 1e-5", rk45), (f"2M, {Walk.steps} steps", in_steps(Walk.steps))):
        z = encode(model.denoiser, x, labels, solver)
        dB = psnr(decode(model.denoiser, z, labels, solver), x)
        print(
            f"{args.checkpoint}, {N} {what}, {name} each way: PSNR {dB.mean():.1f} dB on average, {dB.min():.1f} least"
        )


if __name__ == "__main__":
    main()
