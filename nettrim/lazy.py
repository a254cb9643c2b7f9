"""The patches of a convolution as a matrix that is cut where it is looked at: what a certificate needs of X."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nettrim.convolve import ROOM, check
from nettrim.patches import positions, windows
from solvers.arrays import LazyMatrix, blocks


class LazyPatches(LazyMatrix):
    """The inputs X (N, P) of a convolution's program at all positions of given images.

    Entry for entry, and in its order, what ``nettrim.patches`` cuts; a row of ones at the end where the layer has a bias.

    Parameters
    ----------
    layer : torch.nn.Conv1d or Conv2d
        One group, any stride, dilation, padding and padding mode; its weights are not used.
    images : torch.Tensor
        Inputs ``(n, channels, *space)``, finite, float32 or float64, on the CPU. Not copied: not to be changed either.
    room : int, optional
        Bytes that the patches which ``max``, ``min`` and ``pieces`` cut together may take, a second copy and one in float64
        included, about; the patches of one image at least.

    Raises
    ------
    ModelError
        If the layer is no such convolution, or the images do not fit it.
    """

    def __init__(self, layer: Any, images: Tensor, room: int = ROOM) -> None:
        check(layer, images)
        self.layer, self.images = layer, images
        self.each = prod(positions(layer, images.shape))  # columns an image
        self.n_weights = layer.in_channels * prod(layer.kernel_size)
        self.shape = (self.n_weights + (layer.bias is not None), len(images) * self.each)
        self.dtype = np.dtype(str(images.dtype).removeprefix("torch."))
        self.width = self.each * max(1, int(room // ((2 * images.element_size() + 8) * self.shape[0] * self.each)))

    def columns(self, part: slice) -> Tensor:
        """Cut some columns.

        Parameters
        ----------
        part : slice
            Which ones, without a step.

        Returns
        -------
        torch.Tensor, shape (N, width)
            A copy, in the dtype of the images.
        """
        begin, end, _ = part.indices(self.shape[1])
        first, last = begin // self.each, -(-end // self.each)
        X = self.images.new_ones((self.shape[0], max(end - begin, 0)))
        if end > begin:
            cut = self._by_row(self.images[first:last]).reshape(self.n_weights, -1)
            X[: self.n_weights] = cut[:, begin - first * self.each : end - first * self.each]
        return X

    def pieces(self) -> Iterator[Tensor]:
        """Yield all columns in order, some whole images at a time.

        Yields
        ------
        torch.Tensor, shape (N, width)
            The next columns.
        """
        for part in blocks(self.shape[1], self.width):
            yield self.columns(part)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return ``X[:, begin:end]``, ``X[rows]`` by a mask or indices, or raise a TypeError."""
        if isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice):
            if key[1].step in (None, 1):
                return self.columns(key[1]).numpy()
        elif isinstance(key, list | np.ndarray):
            return self._rows(np.arange(self.shape[0])[np.asarray(key)])
        raise TypeError(
            f"patches that are not stored are read as X[:, begin:end] or X[rows]; X[:, :] stores them; got {key!r}"
        )

    def max(self) -> float:
        """Return the largest entry, found once by cutting all patches."""
        return self._extremes[1]

    def min(self) -> float:
        """Return the smallest entry."""
        return self._extremes[0]

    @cached_property
    def _extremes(self) -> tuple[float, float]:
        found = [torch.stack(torch.aminmax(piece)) for piece in self.pieces()]
        return min(float(low) for low, _ in found), max(float(high) for _, high in found)

    def _rows(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return some rows (n_rows, P), each of which is a strided view of the images."""
        X = np.ones((len(rows), self.shape[1]), self.dtype)
        for part in blocks(len(self.images), max(1, self.width // self.each)):
            cut = self._by_row(self.images[part])
            for at, row in enumerate(rows):
                if row < self.n_weights:
                    place = np.unravel_index(row, cut.shape[: len(cut.shape) // 2])
                    X[at, part.start * self.each : part.stop * self.each] = cut[place].flatten().numpy()
        return X

    def _by_row(self, images: Tensor) -> Tensor:
        """Return the patches of images as a view ``(channels, *kernel, n, *positions)``."""
        view = windows(self.layer, images)  # (n, *positions, channels, *kernel)
        half = view.ndim // 2
        return view.permute(*range(half, view.ndim), *range(half))
