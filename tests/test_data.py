"""Every layout of image sets is read into the same form, its splits are disjoint, and what is wrong is named."""

import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from diffusion_core.data import ImageSet, available, data_root, draw_images, load_images, training_images


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv("DIFFUSION_DATA", raising=False)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Downloads fail as they do on a machine without a network."""

    def fail(self):
        raise RuntimeError("Error downloading: <urlopen error [Errno -3] Temporary failure in name resolution>")

    for name in ("MNIST", "CIFAR10"):
        monkeypatch.setattr(getattr(datasets, name), "download", fail)


def numbered(n: int, h: int = 4, w: int = 4, c: int = 3) -> np.ndarray:
    """n images, each filled with its own number."""
    return np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(h, 1).repeat(w, 2).repeat(c, 3)


def numbers(images) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def write_folder(folder, classes: dict[str, int], side: int = 6) -> None:
    """Class folders of one-coloured PNGs, numbered from 0 through all classes."""
    k = 0
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (side, side), (k, k, k)).save(folder / name / f"{i:02}.png")
            k += 1


def write_mnist(root, train: int = 12, test: int = 5) -> None:
    """A tiny data set in the files that torchvision looks for."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, n in (("train", train), ("t10k", test)):
        images = numbered(n, 28, 28, 1) + (100 if prefix == "t10k" else 0)
        labels = np.arange(n, dtype=np.uint8) % 10
        header = struct.pack(">IIII", 0x00000803, n, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x00000801, n) + labels.tobytes())


# digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_the_1797_that_scikit_learn_carries():
    from sklearn.datasets import load_digits

    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert train.images.shape[1:] == (8, 8, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.classes == test.classes == list("0123456789")
    both = np.concatenate([train.images, test.images])[..., 0]
    assert len(both) == 1797
    mine = sorted(np.round(both / 255 * 16).astype(np.uint8).reshape(1797, -1).tolist())
    assert mine == sorted(load_digits().images.astype(np.uint8).reshape(1797, -1).tolist())


def test_digits_keep_a_tenth_of_each_class_for_testing():
    train, test = load_images("digits", "train"), load_images("digits", "test")
    counts = np.bincount(train.labels), np.bincount(test.labels)
    assert (np.abs(counts[1] - (counts[0] + counts[1]) / 10) <= 1).all()
    assert {i.tobytes() for i in train.images}.isdisjoint(i.tobytes() for i in test.images)


# Arrays -----------------------------------------------------------------------------------------------------------


def npz(path, **changes) -> None:
    arrays = {
        "train_images": numbered(6),
        "train_labels": np.arange(6) % 3,
        "test_images": numbered(3) + 50,
        "test_labels": np.arange(3),
    }
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


def test_an_npz_gives_its_own_splits(tmp_path):
    npz(tmp_path / "mine.npz", classes=np.array(["cat", "dog", "emu"]))
    train, test = load_images("mine", "train", tmp_path), load_images("mine", "test", tmp_path)
    assert numbers(train) == [0, 1, 2, 3, 4, 5]
    assert numbers(test) == [50, 51, 52]
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert train.labels.dtype == np.int64
    assert train.classes == test.classes == ["cat", "dog", "emu"]


def test_an_npz_without_names_numbers_its_classes(tmp_path):
    npz(tmp_path / "mine.npz")
    assert load_images("mine", "train", tmp_path).classes == ["0", "1", "2"]


def test_grey_images_without_a_channel_and_labels_in_a_column_are_taken(tmp_path):
    npz(tmp_path / "mine.npz", train_images=numbered(6)[..., 0], train_labels=(np.arange(6) % 3)[:, None])
    images = load_images("mine", "train", tmp_path)
    assert images.images.shape == (6, 4, 4, 1)
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_labels": None}, "must hold train_images and train_labels as plain arrays"),
        ({"train_images": np.array([{"a": "dict"}] * 6)}, "must hold train_images and train_labels as plain arrays"),
        ({"train_images": numbered(6).astype(np.float32)}, r"images must be uint8 .* not float32"),
        ({"train_images": numbered(6, c=2)}, r"images must be uint8 \[N, H, W, 1 or 3\]"),
        ({"train_labels": np.arange(5)}, "6 images and labels of shape .5. do not go together"),
        ({"train_images": numbered(0), "train_labels": np.arange(0)}, "0 images"),
        ({"train_labels": np.array([0, 1, 2, 0, 1, -1])}, "labels run from -1 to 2"),
        ({"classes": np.array(["cat", "dog"])}, "labels run from 0 to 2, but there are 2 classes"),
        ({"train_labels": np.array(list("abcabc"))}, "labels must be whole numbers or one-hot"),
        ({"train_labels": np.arange(6) / 2}, "labels must be whole numbers or one-hot"),
    ],
)
def test_an_npz_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path, changes, words):
    npz(tmp_path / "mine.npz", **changes)
    with pytest.raises(ValueError, match=f"mine.npz.*{words}"):
        load_images("mine", "train", tmp_path)


def test_a_damaged_npz_is_named(tmp_path):
    npz(tmp_path / "good.npz")
    data = (tmp_path / "good.npz").read_bytes()
    flipped = bytearray(data)
    flipped[200] ^= 0xFF
    for damaged in (data[:-10], data[:100], b"", b"no arrays", bytes(flipped), pickle.dumps([1])):
        (tmp_path / "mine.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"mine.npz cannot be used"):
            load_images("mine", "train", tmp_path)


def sprites(folder, labels: np.ndarray, n: int = 40) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / "sprites_4x4.npy", numbered(n))
    np.save(folder / "sprite_Labels_4x4.npy", labels)


@pytest.mark.parametrize("one_hot", [True, False])
def test_a_course_pair_is_read_with_integer_and_one_hot_labels(tmp_path, one_hot):
    labels = np.arange(40) % 4
    sprites(tmp_path / "sprites", np.eye(4)[labels] if one_hot else labels)
    train, test = load_images("sprites", "train", tmp_path), load_images("sprites", "test", tmp_path)
    assert sorted(numbers(train) + numbers(test)) == list(range(40))
    for split in (train, test):
        assert (split.labels == np.array(numbers(split)) % 4).all()
        assert set(split.labels) == {0, 1, 2, 3}
    assert len(test.labels) == 4
    assert train.classes == ["0", "1", "2", "3"]


def test_a_course_pair_takes_its_class_names_from_classes_txt(tmp_path):
    sprites(tmp_path / "sprites", np.arange(40) % 4)
    (tmp_path / "sprites" / "classes.txt").write_text("hero\nside facing\nfood\nspell\n")
    assert load_images("sprites", "train", tmp_path).classes == ["hero", "side facing", "food", "spell"]


def test_a_course_pair_that_is_incomplete_damaged_or_pickled_is_refused(tmp_path):
    folder = tmp_path / "sprites"
    sprites(folder, np.arange(40))
    images, labels = folder / "sprites_4x4.npy", folder / "sprite_Labels_4x4.npy"
    for damaged in (images.read_bytes()[:-5], b"", pickle.dumps([1])):
        images.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"sprites: its .npy files are damaged or hold Python objects"):
            load_images("sprites", "train", tmp_path)
    labels.unlink()
    with pytest.raises(ValueError, match=r"sprites must hold one .npy of images and one \*label\*.npy, not 1 and 0"):
        load_images("sprites", "train", tmp_path)


# Class folders ----------------------------------------------------------------------------------------------------


def test_class_folders_are_split_by_class(tmp_path):
    write_folder(tmp_path / "animals", {"cat": 20, "dog": 10, "emu": 3})
    train, test = load_images("animals", "train", tmp_path), load_images("animals", "test", tmp_path)
    assert train.classes == test.classes == ["cat", "dog", "emu"]
    assert sorted(numbers(train) + numbers(test)) == list(range(33))
    assert np.bincount(test.labels).tolist() == [2, 1, 1]
    for split in (train, test):
        assert split.labels.tolist() == [int(k >= 20) + int(k >= 30) for k in numbers(split)]


def test_class_folders_below_train_and_test_are_left_as_they_are(tmp_path):
    write_folder(tmp_path / "animals" / "train", {"cat": 2, "dog": 3})
    write_folder(tmp_path / "animals" / "test", {"cat": 1, "dog": 1})
    train, test = load_images("animals", "train", tmp_path), load_images("animals", "test", tmp_path)
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 1]


def test_a_label_means_the_same_class_in_both_splits(tmp_path):
    write_folder(tmp_path / "animals" / "train", {"cat": 2, "dog": 2, "emu": 2})
    write_folder(tmp_path / "animals" / "test", {"dog": 1, "emu": 1})
    test = load_images("animals", "test", tmp_path)
    assert test.classes == ["cat", "dog", "emu"]
    assert test.labels.tolist() == [1, 2]
    write_folder(tmp_path / "animals" / "test", {"yak": 1})
    with pytest.raises(ValueError, match=r"test has a class yak, which .*train has not"):
        load_images("animals", "test", tmp_path)


def test_one_unreadable_picture_is_named_and_the_others_kept(tmp_path):
    write_folder(tmp_path / "animals", {"cat": 5, "dog": 5})
    (tmp_path / "animals" / "cat" / "02.png").write_bytes(b"not a picture")
    (tmp_path / "animals" / "cat" / "notes.txt").write_text("not meant to be one")
    with pytest.warns(UserWarning, match=r"animals: left out 1 unreadable picture.*02.png"):
        train = load_images("animals", "train", tmp_path)
    with pytest.warns(UserWarning):
        test = load_images("animals", "test", tmp_path)
    assert sorted(numbers(train) + numbers(test)) == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_photographs_of_different_shapes_are_resized_or_refused(tmp_path):
    write_folder(tmp_path / "animals", {"cat": 3})
    write_folder(tmp_path / "animals", {"dog": 3}, side=9)
    with pytest.raises(ValueError, match="animals holds pictures of different shapes; give the side"):
        load_images("animals", "train", tmp_path)
    assert load_images("animals", "train", tmp_path, size=8).images.shape == (4, 8, 8, 3)


def test_one_class_is_a_class(tmp_path):
    write_folder(tmp_path / "one", {"a": 10})
    images = load_images("one", root=tmp_path)
    assert images.classes == ["a"] and images.labels.tolist() == [0] * 9


def test_pictures_without_class_folders_have_no_classes_and_the_null_label(tmp_path):
    write_folder(tmp_path / "flat", {".": 20})
    assert "flat" in available(tmp_path)
    train, test = (load_images("flat", split, tmp_path) for split in ("train", "test"))
    assert train.classes == test.classes == [] and set(train.labels) == {0}
    assert sorted(numbers(train) + numbers(test)) == list(range(20)) and numbers(test) == [1, 11]


def test_grey_and_coloured_pictures_go_together(tmp_path):
    write_folder(tmp_path / "mixed", {"a": 2})
    Image.new("L", (6, 6), 77).save(tmp_path / "mixed" / "a" / "00.png")
    images = load_images("mixed", root=tmp_path)
    assert images.images.shape == (1, 6, 6, 3) and (images.images == 77).all()


def test_an_empty_folder_says_what_is_expected_in_it(tmp_path):
    (tmp_path / "animals").mkdir()
    with pytest.raises(ValueError, match=r"animals holds no pictures; expected .*animals/<class>/<picture.png>"):
        load_images("animals", "train", tmp_path)
    (tmp_path / "animals" / "cat").mkdir()
    with pytest.raises(ValueError, match="animals holds no pictures"):
        load_images("animals", "train", tmp_path)


def test_a_missing_test_folder_is_not_replaced_by_training_images(tmp_path):
    write_folder(tmp_path / "animals" / "train", {"cat": 2})
    with pytest.raises(FileNotFoundError, match="has a folder train but no folder test"):
        load_images("animals", "test", tmp_path)


# torchvision ------------------------------------------------------------------------------------------------------


def test_mnist_is_read_where_it_lies(tmp_path):
    write_mnist(tmp_path)
    train = load_images("mnist", "train", tmp_path, download=False)
    test = load_images("mnist", "test", tmp_path, download=False)
    assert train.images.shape == (12, 28, 28, 1)
    assert numbers(train) == list(range(12))
    assert numbers(test) == list(range(100, 105))
    assert test.labels.tolist() == [0, 1, 2, 3, 4]
    assert train.classes == list("0123456789")


def test_an_npz_goes_before_a_download(tmp_path):
    npz(tmp_path / "cifar10.npz")
    assert numbers(load_images("cifar10", "train", tmp_path)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("download", [True, False])
def test_a_set_that_is_not_there_and_cannot_be_downloaded_says_where_to_put_it(tmp_path, name, download):
    with pytest.raises(
        FileNotFoundError, match=f"^{name} is missing .* in {tmp_path}.*could not.*DIFFUSION_DATA"
    ) as error:
        load_images(name, "train", tmp_path, download=download)
    assert "\n" not in str(error.value)


def test_a_damaged_mnist_is_named(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for damaged in (path.read_bytes()[:-100], b""):
        path.write_bytes(damaged)
        with pytest.raises(FileNotFoundError, match=r"mnist is missing or damaged in .*put it there anew"):
            load_images("mnist", "train", tmp_path, download=False)


# Where to look ----------------------------------------------------------------------------------------------------


def test_the_root_is_the_argument_then_the_environment_then_data(tmp_path, monkeypatch):
    assert data_root().as_posix() == "data"
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path))
    assert data_root() == tmp_path
    npz(tmp_path / "mine.npz")
    assert numbers(load_images("mine")) == [0, 1, 2, 3, 4, 5]
    assert data_root("elsewhere").as_posix() == "elsewhere"


def test_an_unknown_set_is_named_with_what_there_could_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No data set 'nope' in .*nope\.npz or a folder nope.*digits.*mnist"):
        load_images("nope", "train", tmp_path)


def test_what_is_available_can_be_loaded(tmp_path):
    assert available(tmp_path / "nowhere") == ["digits"]
    npz(tmp_path / "arrays.npz")
    sprites(tmp_path / "sprites", np.arange(40) % 4)
    write_folder(tmp_path / "animals", {"cat": 3})
    write_mnist(tmp_path)
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "cifar10", {"cat": 3})  # that name is torchvision's set, which is not there
    found = available(tmp_path)
    assert sorted(found) == ["animals", "arrays", "digits", "mnist", "sprites"]
    for name in found:
        assert len(load_images(name, "train", tmp_path, download=False).images)


def test_a_few_images_of_each_class_are_drawn_by_the_seed_and_keep_their_labels():
    images = ImageSet(numbered(30), np.arange(30) % 3, ["a", "b", "c"])
    few = draw_images(images, 4, seed=1)
    assert few.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and few.classes == images.classes
    assert len(set(numbers(few))) == 12 and [n % 3 for n in numbers(few)] == few.labels.tolist()
    assert numbers(draw_images(images, 4, seed=1)) == numbers(few) != numbers(draw_images(images, 4, seed=2))
    assert sorted(numbers(draw_images(images, 10, seed=0))) == list(range(30))
    with pytest.raises(ValueError, match="There are 10 training images of a; 11 are asked for"):
        draw_images(images, 11, seed=0)


def test_the_training_images_of_a_recipe_are_those_it_was_trained_on(tmp_path):
    write_folder(tmp_path / "some", {"a": 20, "b": 20})
    everything = load_images("some", root=tmp_path, size=3)
    few = training_images({"dataset": "some", "size": 3, "per_class": 5, "seed": 4}, tmp_path)
    assert (few.images == draw_images(everything, 5, 4).images).all() and few.images.shape == (10, 3, 3, 3)
    assert len(training_images({"dataset": "some"}, tmp_path).images) == 36
    with pytest.raises(FileNotFoundError):
        training_images({"dataset": "mnist"}, tmp_path)
