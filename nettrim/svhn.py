"""Street View House Numbers, cropped digits, from the two files of its authors.

SVHN: Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading Digits in Natural Images with Unsupervised Feature Learning" (NIPS
workshop 2011); format 2, ``train_32x32.mat`` and ``test_32x32.mat``, in which the digit 0 has the label 10.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from nettrim.data import Data
from nettrim.errors import DataError

FILES = ("train_32x32.mat", "test_32x32.mat")
SIZE = 32  # height and width of an image


def svhn(folder: str | os.PathLike[str] | None = None) -> Data:
    """Load the cropped digits of SVHN; nothing is downloaded.

    Looks in ``folder``, else in ``$NETTRIM_DATA`` and its folder ``svhn``. The extra training images are not read.

    Parameters
    ----------
    folder : path-like, optional
        Where the two files are. When given, nowhere else is looked at.

    Returns
    -------
    Data
        Training and test images ``(n, 3, 32, 32)`` in [0, 1], in the order of the files; classes are the digits.

    Raises
    ------
    DataError
        If a file cannot be found, or does not hold digits in that format.
    """
    parts = [_digits(_found(name, folder)) for name in FILES]
    (x_train, y_train), (x_test, y_test) = parts
    return Data("svhn", x_train, y_train, x_test, y_test)


def _found(name: str, folder: str | os.PathLike[str] | None) -> Path:
    """Return where a file is."""
    root = os.environ.get("NETTRIM_DATA")
    places = [Path(folder)] if folder is not None else [Path(root) / "svhn", Path(root)] if root else []
    for place in places:
        if (place / name).is_file():
            return place / name
    where = f"is not in {' or '.join(map(str, places))}" if places else "was not looked for: NETTRIM_DATA is not set"
    raise DataError(f"{name} {where}; put {' and '.join(FILES)} of SVHN into a folder and set NETTRIM_DATA to it")


def _digits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and digits of a file."""
    try:
        held: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        images, labels = np.asarray(held["X"]), np.asarray(held["y"])
    except Exception as error:  # SciPy's reader raises many kinds on a file that is none of its own, or was cut off
        raise DataError(f"{path} cannot be read as a MATLAB file with X and y: {error}") from error
    wrong = _wrong(images, labels)
    if wrong:
        raise DataError(f"{path} is not a file of SVHN's cropped digits: {wrong}")
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))).float().div_(255.0)
    return x, torch.from_numpy(labels.ravel().astype(np.int64) % 10)


def _wrong(images: NDArray[Any], labels: NDArray[Any]) -> str:
    """Return what is wrong with the content of a file, nothing if nothing is."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (SIZE, SIZE, 3) or images.shape[3] == 0:
        return f"X must be bytes of shape ({SIZE}, {SIZE}, 3, n); got {images.dtype} of {images.shape}"
    if labels.size != images.shape[3] or not np.isin(labels, np.arange(1, 11)).all():
        return f"y must be {images.shape[3]} numbers from 1 to 10; got {labels.size} from {_span(labels)}"
    return ""


def _span(labels: NDArray[Any]) -> str:
    return f"{labels.min()} to {labels.max()}" if labels.size else "none"
