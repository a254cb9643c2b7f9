"""A convolution as a linear operator on its kernel: W to W'X and L to XL', with X the patches, which are never stored.

The product is a convolution of the images; its adjoint is the gradient of one with respect to its kernel (Aghasi, Abdi,
Romberg, "Fast Convex Pruning of Deep Neural Networks", SIAM J. Math. Data Sci. 2(1), 2020, section on operators).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.errors import ModelError
from nettrim.patches import padded, positions

ROOM = 8 << 20  # bytes of images and responses that are worked on together


class ConvolutionOperator:
    """The maps W to W'X and L to XL' of one convolution on given images, at all of their positions.

    The P columns are the (image, position) pairs in the order of ``nettrim.patches``: image by image, positions row by row.
    The N rows are those of a patch, ``channels * kernel`` of them, and a row of ones where the layer has a bias.

    Attributes
    ----------
    shape : tuple of int
        ``(N, P)`` of the patches.
    n_outputs : int
        M, neurons.
    dtype : torch.dtype
        In which it computes: images are cast batch by batch.

    Parameters
    ----------
    layer : torch.nn.Conv1d or Conv2d
        One group, any stride, dilation, padding and padding mode; its weights are not used.
    images : torch.Tensor
        Inputs ``(n, channels, *space)``, on the CPU.
    dtype : torch.dtype, optional
        Default: that of the images.
    room : int, optional
        Bytes that a batch of images, its responses and the copies made of both may take, about; one image at least.

    Raises
    ------
    ModelError
        If the layer is no such convolution, or the images do not fit it.
    """

    def __init__(self, layer: Any, images: Tensor, dtype: torch.dtype | None = None, room: int = ROOM) -> None:
        check(layer, images)
        self.layer, self.images, self.dtype = layer, images, dtype or images.dtype
        self.positions = positions(layer, images.shape)
        self.kernel_shape = (layer.out_channels, layer.in_channels, *layer.kernel_size)
        self.n_outputs: int = layer.out_channels
        self.n_weights = prod(self.kernel_shape[1:])
        self.shape = (self.n_weights + (layer.bias is not None), len(images) * prod(self.positions))
        one_d = isinstance(layer, nn.Conv1d)
        self._conv = F.conv1d if one_d else F.conv2d
        self._gradient = nn.grad.conv1d_weight if one_d else nn.grad.conv2d_weight
        self.room = room

    def forward(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        """Return W'X.

        Parameters
        ----------
        W : torch.Tensor, shape (N, M)
            Weights, the bias as the last row where there is one.
        out : torch.Tensor, shape (M, P), optional
            Where to put the result.

        Returns
        -------
        torch.Tensor, shape (M, P)
            In the operator's dtype, or that of ``out``.
        """
        self._fits("W", W, (self.shape[0], self.n_outputs))
        if out is None:
            out = W.new_empty((self.n_outputs, self.shape[1]), dtype=self.dtype)
        kernel, bias = self._kernel(W.to(self.dtype))
        for part, images in self._batches(self.dtype):
            responses = self._convolved(images, kernel, bias)  # (n, M, *positions)
            into = out[:, part].view(self.n_outputs, len(images), -1)
            into.copy_(responses.flatten(2).transpose(0, 1))
        return out

    def adjoint(self, L: Tensor) -> Tensor:
        """Return X L', the N x M matrix with ``<W'X, L> = <W, XL'>`` for all W.

        Parameters
        ----------
        L : torch.Tensor, shape (M, P)
            Anything of the shape of the responses.

        Returns
        -------
        torch.Tensor, shape (N, M)
            In the operator's dtype.
        """
        self._fits("L", L, (self.n_outputs, self.shape[1]))
        total = L.new_zeros((self.shape[0], self.n_outputs), dtype=self.dtype)
        for part, images in self._batches(self.dtype):
            block = L[:, part].to(self.dtype).view(self.n_outputs, len(images), -1)
            responses = block.transpose(0, 1).reshape(len(images), self.n_outputs, *self.positions)
            self._add_gradient(total, images, responses)
        return total

    def normal(self, W: Tensor) -> Tensor:
        """Return XX'W, for which nothing of the size of the responses is held.

        Parameters
        ----------
        W : torch.Tensor, shape (N, M)
            Weights.

        Returns
        -------
        torch.Tensor, shape (N, M)
            In the operator's dtype.
        """
        self._fits("W", W, (self.shape[0], self.n_outputs))
        kernel, bias = self._kernel(W.to(self.dtype))
        total = W.new_zeros(W.shape, dtype=self.dtype)
        for _, images in self._batches(self.dtype):
            self._add_gradient(total, images, self._convolved(images, kernel, bias))
        return total

    def squares(self) -> Tensor:
        """Return the diagonal of XX', the sums of the squares of the rows of X.

        Returns
        -------
        torch.Tensor, shape (N,)
            In float64.
        """
        total = self.images.new_full((self.shape[0],), float(self.shape[1]), dtype=torch.float64)
        total[: self.n_weights] = 0
        one = (1, *self.kernel_shape[1:])
        for _, images in self._batches(torch.float64):
            ones = images.new_ones((len(images), 1, *self.positions), dtype=torch.float64)
            gradient = self._gradient(images.square(), one, ones, self.layer.stride, 0, self.layer.dilation)
            total[: self.n_weights] += gradient.flatten()
        return total

    def _fits(self, name: str, tensor: Tensor, shape: tuple[int, int]) -> None:
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{name} must be {shape} for this layer and these images; got {tuple(tensor.shape)}")

    def _kernel(self, W: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the kernel (M, channels, *kernel) and the bias (M,) or None."""
        bias = None if len(W) == self.n_weights else W[-1]
        return W[: self.n_weights].T.reshape(self.kernel_shape), bias

    def _batches(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yield the columns of each batch, and its images as the kernel sees them."""
        each = prod(self.positions)
        # The padded images and the responses, and each once more in the order of the library that convolves; in float64
        # PyTorch has none on a CPU, and cuts the patches of a batch.
        numbers = 2 * padded(self.layer, self.images[:1]).numel() + 4 * self.n_outputs * each
        numbers += self.n_weights * each if dtype == torch.float64 else 0
        size = max(1, int(self.room // (dtype.itemsize * numbers)))
        for begin in range(0, len(self.images), size):
            images = padded(self.layer, self.images[begin : begin + size].to(dtype))
            yield slice(begin * each, (begin + len(images)) * each), images

    def _convolved(self, images: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv(images, kernel, bias, stride=self.layer.stride, dilation=self.layer.dilation)

    def _add_gradient(self, total: Tensor, images: Tensor, responses: Tensor) -> None:
        """Add XL' of a batch, L (n, M, *positions), to an (N, M) total."""
        gradient = self._gradient(images, self.kernel_shape, responses, self.layer.stride, 0, self.layer.dilation)
        total[: self.n_weights] += gradient.flatten(1).T
        if len(total) > self.n_weights:
            total[-1] += responses.flatten(2).sum((0, 2))


def check(layer: Any, images: Tensor) -> None:
    """Refuse what is no convolution of one group, and images that do not fit it.

    Parameters
    ----------
    layer : torch.nn.Module
        Anything.
    images : torch.Tensor
        Its inputs.

    Raises
    ------
    ModelError
        With what came, and what was wanted.
    """
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        raise ModelError(f"the operator form is for a Conv1d or a Conv2d; got {type(layer).__name__}. Use trim")
    if layer.groups != 1:
        raise ModelError(f"the operator form takes a convolution of one group; this one has {layer.groups}. Use trim")
    wanted = f"(n, {layer.in_channels}, {'length' if isinstance(layer, nn.Conv1d) else 'height, width'})"
    n_axes = len(layer.kernel_size)
    if images.ndim != n_axes + 2 or images.shape[1] != layer.in_channels or 0 in images.shape:
        raise ModelError(f"images must be {wanted}, none of them 0, as the layer takes them; got {tuple(images.shape)}")
    if min(positions(layer, images.shape)) < 1:
        raise ModelError(f"images of {tuple(images.shape[2:])} are smaller than what the kernel spans: no position is left")
    try:
        padded(layer, images[:1])
    except RuntimeError as error:
        raise ModelError(f"images of {tuple(images.shape[2:])} cannot be padded as the layer asks: {error}") from error
