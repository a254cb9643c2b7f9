"""CIFAR-10 from one archive of JPEGs in class folders, decoded once and kept as arrays in the cache.

CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The original images are not compressed;
JPEGs are lossy, so numbers on them stand beside those of the literature with that said.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nettrim.data import Data
from nettrim.errors import DataError
from nettrim.progress import track

ARCHIVE = "cifar10-jpeg.tar.gz"
ARCHIVE_SHA256 = "764a5d6b0635ae4c7e6414a573608a3a227694b0b4a5cd04fb0a0c6418f1034b"
SIZE = 32  # height and width of an image
_PARTS = ("train", "test")
_LAYOUT = "images as FOLDER/train/CLASS/NAME.jpg and FOLDER/test/CLASS/NAME.jpg"

Arrays = dict[str, NDArray[np.uint8]]


def cifar10(folder: str | os.PathLike[str] | None = None) -> Data:
    """Load CIFAR-10 from the archive ``cifar10-jpeg.tar.gz``; nothing is downloaded.

    Looks in ``folder``, else in ``$NETTRIM_DATA`` (and its folder ``cifar10``), else in the cache. The images went through
    JPEG, which is lossy: their pixels are near those of the original data set and not equal to them. The split is the
    archive's own. In either part the classes take turns, so that the first n images hold all of them in equal numbers, give
    or take one.

    Parameters
    ----------
    folder : path-like, optional
        Where the archive is. When given, nowhere else is looked at.

    Returns
    -------
    Data
        50,000 training and 10,000 test images ``(n, 3, 32, 32)`` in [0, 1]; classes numbered in alphabetical order, from
        airplane to truck. Decoded images are kept in the cache, where a second call finds them.

    Raises
    ------
    DataError
        If the archive cannot be found, or is another one (by SHA-256).
    """
    archive = _found(folder)
    key = hashlib.sha256(archive.read_bytes()).hexdigest()
    if key != ARCHIVE_SHA256:
        raise DataError(f"{archive} is not the CIFAR-10 archive that this package knows (SHA-256 differs); replace it")
    arrays = decoded(archive, key)
    images = [torch.from_numpy(arrays[f"x_{part}"]).float().div_(255.0) for part in _PARTS]
    labels = [torch.from_numpy(arrays[f"y_{part}"]).long() for part in _PARTS]
    return Data("cifar10", images[0], labels[0], images[1], labels[1])


def decoded(archive: Path, key: str) -> Arrays:
    """Return the images of an archive, from the cache where they are there; else decode them and leave them there.

    Parameters
    ----------
    archive : pathlib.Path
        A gzipped tar file of images, as ``decode`` takes it.
    key : str
        Its SHA-256, which names the file in the cache.

    Returns
    -------
    dict of ndarray
        As ``decode`` returns them.

    Raises
    ------
    DataError
        As ``decode`` does.
    """
    kept = _cache() / f"{key}.npz"
    unusable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # not there, or not whole
    with suppress(*unusable), kept.open("rb") as file, np.load(file) as stored:
        return {name: stored[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays = decode(archive)
    with suppress(OSError):  # a cache that cannot be written costs the next call its time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        _write(arrays, kept)
    return arrays


def decode(archive: Path) -> Arrays:
    """Decode every image of an archive.

    Parameters
    ----------
    archive : pathlib.Path
        A gzipped tar file that holds ``FOLDER/train/CLASS/NAME.jpg`` and ``FOLDER/test/CLASS/NAME.jpg``, images of 32 x 32
        pixels, of the same classes in both parts.

    Returns
    -------
    dict of ndarray, uint8
        ``x_train`` and ``x_test`` of shape (n, 3, 32, 32), ``y_train`` and ``y_test`` of shape (n,): images in the order of
        their names, those of one name in the order of their classes.

    Raises
    ------
    DataError
        If the archive is broken, laid out in another way, or holds something that is not such an image.
    """
    parts = listed(archive)
    classes, others = (sorted({label for _, label, _ in parts[part]}) for part in _PARTS)
    if classes != others:
        raise DataError(f"{archive} must hold the same classes in train and in test; got {classes} and {others}")
    arrays = {}
    for part, images in parts.items():
        pixels = np.empty((len(images), 3, SIZE, SIZE), np.uint8)
        for place, (name, label, content) in enumerate(track(images, f"decoding {part} images")):
            pixels[place] = _pixels(content, f"{part}/{label}/{name} in {archive}")
        arrays[f"x_{part}"] = pixels
        arrays[f"y_{part}"] = np.array([classes.index(label) for _, label, _ in images], np.uint8)
    return arrays


def listed(archive: Path) -> dict[str, list[tuple[str, str, bytes]]]:
    """Read an archive without decoding its images.

    Parameters
    ----------
    archive : pathlib.Path
        As ``decode`` takes it.

    Returns
    -------
    dict of list
        Of ``"train"`` and ``"test"``: file name, class and bytes of each image, in that order of importance.

    Raises
    ------
    DataError
        If the archive is broken or laid out in another way.
    """
    parts: dict[str, list[tuple[str, str, bytes]]] = {part: [] for part in _PARTS}
    try:
        # Unpacked first, which checks it to its last byte: tarfile takes a stream that breaks off for one that ends.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive.read_bytes()))) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                place = member.name.split("/")
                if len(place) != 4 or place[1] not in parts or not place[3].endswith(".jpg"):
                    raise DataError(f"{archive} holds {member.name}; wanted {_LAYOUT}, and nothing else")
                content = tar.extractfile(member)
                assert content is not None  # it is a file
                parts[place[1]].append((place[3], place[2], content.read()))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is not a whole .tar.gz file ({error}); replace it") from error
    if not all(parts.values()):
        raise DataError(f"{archive} holds no {' and no '.join(p for p in _PARTS if not parts[p])} images; wanted {_LAYOUT}")
    return {part: sorted(images) for part, images in parts.items()}


def _pixels(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return one image (3, 32, 32)."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not a JPEG that can be read ({error}); replace the archive") from error
    if pixels.shape != (SIZE, SIZE, 3):
        raise DataError(f"{name} has {pixels.shape[1]} x {pixels.shape[0]} pixels; wanted {SIZE} x {SIZE}")
    return pixels.transpose(2, 0, 1)


def _write(arrays: Arrays, path: Path) -> None:
    """Write arrays to a file, whole or not at all, also where two processes do so at once."""
    handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("nettrim")) / "cifar10"


def _found(folder: str | os.PathLike[str] | None) -> Path:
    """Return where the archive is."""
    root = os.environ.get("NETTRIM_DATA")
    usual = [*([Path(root) / "cifar10", Path(root)] if root else []), _cache()]
    places = usual if folder is None else [Path(folder)]
    for place in places:
        if (place / ARCHIVE).is_file():
            return place / ARCHIVE
    raise DataError(
        f"{ARCHIVE} is not in {' or '.join(map(str, places))}; put that archive of CIFAR-10 ({_LAYOUT}) into a folder and "
        "set NETTRIM_DATA to it. Nothing is downloaded; mnist5k needs no file"
    )
