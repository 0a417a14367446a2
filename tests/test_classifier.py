"""The classifier: shapes, its file, and that it learns, the same way each time."""

import pytest
import torch

from diffusion_core.classifier import Classifier, augmented, load_classifier, save_classifier, train_classifier
from diffusion_core.data import load_images
from diffusion_core.evaluate import reference
from diffusion_core.images import to_tensor
from diffusion_core.metrics import class_accuracy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels, height, width", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 9, 13)])
def test_shapes(channels, height, width):
    model = Classifier(channels, classes=5, width=8).eval()
    x = torch.randn(4, channels, height, width, generator=generator())
    assert model(x).shape == (4, 5)
    assert model.features(x).shape == (4, model.num_features)
    torch.testing.assert_close(model(x), model.head(model.features(x)))


def test_verdicts_do_not_depend_on_the_batch():
    model = Classifier(1, classes=5, width=8).eval()
    x = torch.randn(4, 1, 16, 16, generator=generator())
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 4, 16), (1, 16, 16)])
def test_images_it_is_not_made_for_are_refused(shape):
    with pytest.raises(ValueError, match="takes images"):
        Classifier(1, classes=5, width=8)(torch.zeros(shape))


# Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier that is rounded as the file rounds it, its references, and the file."""
    digits, path = load_images("digits"), tmp_path_factory.mktemp("classifier") / "c.safetensors"
    model = train_classifier(digits, steps=3, batch=32, width=8)  # so that no buffer is as it began
    model.half().float()
    references = {
        split: reference(model, load_images("digits", split).images, sample=50) for split in ("train", "test")
    }
    save_classifier(path, model, digits.classes, {"title": "digits", "dataset": "digits"}, references)
    return model, references, path


def test_what_is_loaded_answers_as_what_was_saved(saved):
    model, references, path = saved
    judge = load_classifier(path)
    x = torch.randn(6, 1, 8, 8, generator=generator())
    assert torch.equal(judge.network(x), model(x))
    assert torch.equal(judge.network.features(x), model.features(x))
    assert judge.network.config() == model.config()
    assert not judge.network.training
    assert judge.name == "digits classifier"
    assert judge.classes == [str(k) for k in range(10)]
    assert judge.config == {"title": "digits", "dataset": "digits"}
    for split, (stats, sample) in references.items():
        found = judge.references[split]
        assert found.stats.n == stats.n
        assert torch.equal(found.stats.mean, stats.mean)
        torch.testing.assert_close(found.stats.cov, stats.cov, rtol=1e-14, atol=0)
        torch.testing.assert_close(found.sample, sample, rtol=1e-3, atol=1e-6)  # kept in half precision


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[: len(data) // 2], "not a complete safetensors file"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "checksum"),
        (lambda data: b"\x80\x04pickle", "not a complete safetensors file"),
        (lambda data: data.replace(b'"diffusion_core.classifier"', b'"diffusion_core.something_"'), "another program"),
    ],
)
def test_a_damaged_file_is_refused(saved, tmp_path, damage, message):
    *_, good = saved
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damage(good.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_classifier(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_classifier(tmp_path / "nowhere.safetensors")


# Training ---------------------------------------------------------------------------------------------------------


def test_it_learns_the_digits():
    losses = []
    train, test = load_images("digits", "train"), load_images("digits", "test")
    model = train_classifier(
        train, steps=120, batch=64, shift=0, progress=lambda step, loss: losses.append((step, loss))
    )
    assert [step for step, _ in losses] == list(range(1, 121))
    assert losses[-1][1] < 0.1 * losses[0][1]
    assert class_accuracy(model(to_tensor(test.images)), torch.from_numpy(test.labels)) > 0.95


def test_weights_are_a_function_of_the_seed_alone():
    images = load_images("digits")

    def weights(seed: int) -> torch.Tensor:
        torch.randn(seed + 1)  # the global generator in some other state
        model = train_classifier(images, steps=3, batch=32, width=8, seed=seed)
        return torch.cat([v.flatten().double() for v in model.state_dict().values()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_training_does_not_seed_the_global_generator():
    images = load_images("digits")
    after = []
    for _ in range(2):
        train_classifier(images, steps=1, batch=32, width=8, seed=0)
        after.append(torch.rand(1).item())
    assert after[0] != after[1]


def test_augmented_images_are_shifted_copies_of_themselves():
    image = torch.arange(28 * 28, dtype=torch.uint8).reshape(1, 1, 28, 28)
    moved = augmented(image.repeat(200, 1, 1, 1), 2, False, generator())
    padded = torch.nn.functional.pad(image.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    shifts = [padded[0, :, i : i + 28, j : j + 28] for i in range(5) for j in range(5)]
    seen = {next(k for k, shift in enumerate(shifts) if torch.equal(shift, x)) for x in moved}
    assert len(seen) == 25


def test_half_of_the_images_are_mirrored_if_asked():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    moved = augmented(image.repeat(400, 1, 1, 1), 0, True, generator())
    mirrored = sum(torch.equal(x, image[0].flip(-1)) for x in moved)
    assert mirrored + sum(torch.equal(x, image[0]) for x in moved) == 400
    assert abs(mirrored - 200) < 4 * 10  # four standard errors
