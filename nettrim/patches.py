"""Patches: what a convolution multiplies with its kernel, one for each (image, position) pair, for every option it has.

The convolution is then the matrix product that the program of a layer is about, and nothing else of it need be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def positions(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial shape of what a convolution makes of an input.

    Parameters
    ----------
    layer : torch.nn.Conv1d, Conv2d or Conv3d
        The convolution.
    shape : sequence of int
        Shape ``(..., channels, *space)`` of the input.

    Returns
    -------
    tuple of int
        One length a spatial axis; their product is the number of patches an image.
    """
    space = shape[-len(layer.kernel_size) :]
    sizes = []
    for size, k, stride, dilation, (before, after) in zip(
        space, layer.kernel_size, layer.stride, layer.dilation, _padding(layer), strict=True
    ):
        sizes.append((size + before + after - dilation * (k - 1) - 1) // stride + 1)
    return tuple(sizes)


def patches(layer: Any, images: Tensor, pairs: Tensor) -> Tensor:
    """Cut the patches of some (image, position) pairs.

    Parameters
    ----------
    layer : torch.nn.Conv1d, Conv2d or Conv3d
        The convolution: its kernel size, stride, dilation, padding and padding mode are used, its weights are not.
    images : torch.Tensor
        Inputs ``(n, channels, *space)``.
    pairs : torch.Tensor
        Which ones, int64 ``(n_pairs,)``: the place in ``(n, *positions)``, counted row by row.

    Returns
    -------
    torch.Tensor
        Copies ``(n_pairs, channels, *kernel_size)``; their products with the weights, group by group, are the layer's
        outputs at those places.
    """
    where = torch.unravel_index(pairs, (len(images), *positions(layer, images.shape)))
    n_axes = len(layer.kernel_size)
    seen = padded(layer, images)

    def along(values: Tensor, axis: int) -> Tensor:
        """Return values laid along one axis of the result."""
        shape = [1] * (n_axes + 2)
        shape[axis] = -1
        return values.to(images.device).view(shape)

    index = [along(where[0], 0), along(torch.arange(images.shape[1]), 1)]
    for axis, (k, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        index.append(along(where[1 + axis] * stride, 0) + along(torch.arange(k) * dilation, 2 + axis))
    return seen[tuple(index)]


def windows(layer: Any, images: Tensor) -> Tensor:
    """Return all patches of images as a view of them, or of their padded copy.

    Parameters
    ----------
    layer : torch.nn.Conv1d, Conv2d or Conv3d
        The convolution, as in ``patches``.
    images : torch.Tensor
        Inputs ``(n, channels, *space)``.

    Returns
    -------
    torch.Tensor
        View ``(n, *positions, channels, *kernel_size)``; flattened after the positions it is what ``patches`` cuts.
    """
    view = padded(layer, images)
    sizes = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for axis, (k, stride, dilation) in enumerate(sizes):
        view = view.unfold(2 + axis, dilation * (k - 1) + 1, stride)[..., ::dilation]
    return view.movedim(1, 1 + len(layer.kernel_size))


def padded(layer: Any, images: Tensor) -> Tensor:
    """Return images as the kernel sees them.

    Parameters
    ----------
    layer : torch.nn.Conv1d, Conv2d or Conv3d
        The convolution, as in ``patches``.
    images : torch.Tensor
        Inputs ``(n, channels, *space)``.

    Returns
    -------
    torch.Tensor
        Padded in the mode of the layer; the images themselves where nothing is added.
    """
    widths = [width for pair in reversed(_padding(layer)) for width in pair]  # torch begins with the last axis
    if not any(widths):
        return images
    return F.pad(images, widths, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)


def _padding(layer: Any) -> list[tuple[int, int]]:
    """Return how far an input is padded before and after, a pair a spatial axis."""
    if layer.padding == "same":  # as torch does it: the odd one goes behind
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    return [(p, p) for p in layer.padding]
