"""Image sets: uint8 arrays with labels, from wherever they lie.

`load_images(name, split)` looks for `name` in the data root (the argument, else $DIFFUSION_DATA, else `data/`), in
this order: arrays `name.npz`; a folder `name` with `*.npy` image and label arrays, with one folder a class, or with
pictures and no classes; then the sets that torchvision knows and can download. `digits`, 8 x 8, comes with
scikit-learn and is always there.
"""

import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .images import read_image

Split = Literal["train", "test"]
TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10"}
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}  # what a set is called beside a number, if not by its name
UNREADABLE = (OSError, RuntimeError, AssertionError, ValueError, EOFError)  # what torchvision says of bad files
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


class ImageSet(NamedTuple):
    """images [N, H, W, C] uint8, labels [N] int64 into classes."""

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def data_root(root: str | Path | None = None) -> Path:
    """The folder that data sets lie in: the argument, else the environment's DIFFUSION_DATA, else `data`."""
    return Path(root or os.environ.get("DIFFUSION_DATA") or "data")


def load_images(
    name: str, split: Split = "train", root: str | Path | None = None, *, size: int | None = None, download: bool = True
) -> ImageSet:
    """One split of an image set. The test split never overlaps the training split.

    Sets that come without a split have one in ten images of each class held out as their test split. `size` is the
    side that photographs of a class folder are cropped and resized to (needed where they differ in shape).
    Raises FileNotFoundError or ValueError, naming the place and what would be right.
    """
    root = data_root(root)
    if name == "digits":
        return _hold_out(_digits(), split)
    if (root / f"{name}.npz").is_file():
        return _npz(root / f"{name}.npz", split)
    folder = root / name
    if name not in TORCHVISION and folder.is_dir():
        return _npy_pair(folder, split) if any(folder.glob("*.npy")) else _class_folders(folder, split, size)
    if name in TORCHVISION:
        return _torchvision(name, split, root, download)
    raise FileNotFoundError(
        f"No data set {name!r} in {root}: expected {name}.npz or a folder {name} there, "
        f"or one of {', '.join(['digits', *TORCHVISION])}."
    )


def _hold_out(images: ImageSet, split: Split) -> ImageSet:
    """The 2nd, 12th, ... image of each class is for testing, the others for training: of two images each gets one."""
    rank = np.empty(len(images.labels), np.int64)  # the how-manyth of its class each image is
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        rank[members] = np.arange(len(members))
    keep = (rank % 10 == 1) == (split == "test")
    return ImageSet(images.images[keep], images.labels[keep], images.classes)


def training_images(recipe: dict, root: str | Path | None = None, *, download: bool = False) -> ImageSet:
    """What a model was trained on, by the recipe in its config. Raises as `load_images` and `draw_images` do."""
    images = load_images(recipe["dataset"], "train", root, size=recipe.get("size") or None, download=download)
    return draw_images(images, recipe["per_class"], recipe["seed"]) if recipe.get("per_class") else images


def draw_images(images: ImageSet, per_class: int, seed: int) -> ImageSet:
    """`per_class` images of each class, drawn without replacement: a function of the seed.

    Raises ValueError, naming the class, where it has fewer.
    """
    g, drawn = np.random.default_rng(seed), []
    for label, name in enumerate(images.classes):
        members = np.flatnonzero(images.labels == label)
        if len(members) < per_class:
            raise ValueError(f"There are {len(members)} training images of {name}; {per_class} are asked for.")
        drawn.append(np.sort(g.choice(members, per_class, replace=False)))
    keep = np.concatenate(drawn)
    return ImageSet(images.images[keep], images.labels[keep], images.classes)


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 17 grey levels, 0 .. 16
    return ImageSet(images, digits.target.astype(np.int64), [str(k) for k in range(10)])


def _npz(path: Path, split: Split) -> ImageSet:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            classes = [str(c) for c in arrays["classes"]] if "classes" in arrays else None
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be used: it must hold {split}_images and {split}_labels as plain arrays."
        ) from error
    return _checked(path, images, labels, classes)


def _npy_pair(folder: Path, split: Split) -> ImageSet:
    """The course layout: one .npy of images, one of labels (integer or one-hot; its name contains "label").

    A file classes.txt beside them, one name a line, names the classes.
    """
    files = sorted(folder.glob("*.npy"))
    labels = [f for f in files if "label" in f.name.lower()]
    images = [f for f in files if f not in labels]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"{folder} must hold one .npy of images and one *label*.npy, not {len(images)} and {len(labels)}."
        )
    names = folder / "classes.txt"
    classes = names.read_text().splitlines() if names.is_file() else None
    try:
        arrays = np.load(images[0], allow_pickle=False), np.load(labels[0], allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{folder}: its .npy files are damaged or hold Python objects; plain arrays are needed."
        ) from error
    return _hold_out(_checked(folder, *arrays, classes), split)


def _checked(place: Path, images: np.ndarray, labels: np.ndarray, classes: list[str] | None) -> ImageSet:
    """Arrays brought to the shapes of an `ImageSet`, or a ValueError that says what is wrong with them."""
    if images.ndim == 3:
        images = images[..., None]
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)  # a column, or one-hot
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"{place}: images must be uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}.")
    if len(images) == 0 or labels.shape != (len(images),):
        raise ValueError(f"{place}: {len(images)} images and labels of shape {list(labels.shape)} do not go together.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{place}: labels must be whole numbers or one-hot, not {labels.dtype}.")
    classes = classes or [str(k) for k in range(int(labels.max()) + 1)]
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{place}: labels run from {labels.min()} to {labels.max()}, but there are {len(classes)} classes."
        )
    return ImageSet(images, labels.astype(np.int64), classes)


def _class_folders(folder: Path, split: Split, size: int | None) -> ImageSet:
    """folder/<class>/<picture>, or folder/train/<class>/<picture> and folder/test/<class>/<picture>.

    Without class folders, folder/<picture>, there are no classes, and label 0 is the null class.
    """
    has_splits = (folder / "train").is_dir()
    if has_splits and not (folder / split).is_dir():
        raise FileNotFoundError(f"{folder} has a folder train but no folder {split}.")
    top = folder / split if has_splits else folder
    # Both splits count the classes of the training split, so that a label means the same in each.
    classes = _folders(folder / "train" if has_splits else folder)
    unknown = sorted(set(_folders(top)) - set(classes))
    if unknown:
        raise ValueError(f"{top} has a class {unknown[0]}, which {folder / 'train'} has not.")
    images, labels, unreadable = [], [], []
    for label, name in enumerate(classes or ["."]):
        for path in sorted((top / name).glob("*")):
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                image = read_image(path)
            except ValueError:
                unreadable.append(path.name)
                continue
            images.append(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS) if size else image)
            labels.append(label)
    if unreadable:
        warnings.warn(
            f"{folder}: left out {len(unreadable)} unreadable picture(s), {unreadable[0]} first.", stacklevel=2
        )
    if not images:
        raise ValueError(
            f"{folder} holds no pictures; expected {folder}/<class>/<picture.png>, or {folder}/<picture.png>."
        )
    if len({i.size for i in images}) > 1:
        raise ValueError(f"{folder} holds pictures of different shapes; give the side they shall be resized to.")
    everything = ImageSet(np.stack([np.asarray(i) for i in images]), np.array(labels), classes)
    return everything if has_splits else _hold_out(everything, split)


def _folders(place: Path) -> list[str]:
    return sorted(d.name for d in place.iterdir() if d.is_dir() and not d.name.startswith("."))


def _torchvision(name: str, split: Split, root: Path, download: bool) -> ImageSet:
    """A set of torchvision's, downloaded with a progress bar if it is not there and may be."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"{name} is read by torchvision, which does not work here ({error}); install the one made for this torch."
        ) from error
    try:
        data = getattr(datasets, TORCHVISION[name])(root, train=split == "train", download=download)
    except UNREADABLE as error:
        raise FileNotFoundError(
            f"{name} is missing or damaged in {root.resolve()} and could not be downloaded; "
            f"put it there anew, or set DIFFUSION_DATA to where it is."
        ) from error
    images = np.asarray(data.data)
    classes = [c.split(" - ")[0] for c in data.classes]  # MNIST calls its classes "0 - zero"
    return _checked(root / name, images, np.asarray(data.targets), classes)


def available(root: str | Path | None = None) -> list[str]:
    """Names that `load_images` can load here without a download."""
    root = data_root(root)
    found = [path.stem for path in sorted(root.glob("*.npz"))]
    for path in sorted(d for d in root.iterdir() if d.is_dir()) if root.is_dir() else []:
        if path.name in TORCHVISION:
            continue  # that name is torchvision's
        if any(path.glob("*.npy")) or any(f.suffix.lower() in SUFFIXES for f in [*path.glob("*"), *path.glob("*/*")]):
            found.append(path.name)
    unpacked = {"mnist": "MNIST/raw/train-images-idx3-ubyte", "cifar10": "cifar-10-batches-py/batches.meta"}
    found += [name for name, file in unpacked.items() if (root / file).exists() and name not in found]
    return [*found, "digits"]
