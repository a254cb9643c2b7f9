"""A trained binary network run on bits: exclusive or, counting, and one threshold a unit in place of its normalization.

Courbariaux et al. (arXiv:1602.02830, 2016), section on the first layer and XNOR-count: the product of two vectors of n signs
is ``n - 2 popcount(a xor b)`` of their bits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.baselines.binarize._binary import BinaryLinear, Sign, Signed
from nettrim.errors import ModelError
from nettrim.evaluate import evaluating

Bits = NDArray[np.uint8]
# How many bits of a byte are 1: NumPy has a function for it from 2.0 on only.
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def dots(a: Bits, b: Bits, n: int) -> NDArray[np.int64]:
    """Return the products of vectors of signs, ``n - 2 popcount(a xor b)``.

    Parameters
    ----------
    a : ndarray of uint8, shape (rows, ceil(n / 8))
        Bits, 1 for +1, packed a row; what fills up the last byte is 0.
    b : ndarray of uint8, shape (columns, ceil(n / 8))
        Likewise.
    n : int
        Length of the vectors.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        From -n to n.
    """
    differ = np.zeros((len(a), len(b)), np.int64)
    for x, y in zip(a.T, b.T, strict=True):  # a byte of all vectors at a time
        differ += ONES[x[:, None] ^ y[None, :]]
    return n - 2 * differ


class XnorNetwork:
    """A binary network of linear layers for use: bits, and for each hidden unit a threshold and a direction.

    Batch normalization in evaluation mode is monotone in its input, also as it is rounded. So the sign of what it gives is a
    comparison with a threshold, and the one that is right for every float32 is found by asking the normalization itself.
    Hidden signs are those of the network, bit for bit; scores are what its last normalization makes of the same integers.

    Parameters
    ----------
    model : torch.nn.Sequential
        From ``binary_mlp`` or ``binarized`` without convolutions, trained, with signs for weights and activations, float32,
        and with at least one hidden layer.

    Raises
    ------
    ModelError
        If it is another network.
    """

    def __init__(self, model: nn.Module) -> None:
        parts = [part for part in model.children() if not isinstance(part, nn.Flatten | nn.Dropout)]
        layers, norms, signs = parts[1::3], parts[2::3], parts[3::3]
        fits = parts and isinstance(parts[0], Signed) and len(parts) == 3 * len(layers)
        fits = fits and all(isinstance(layer, BinaryLinear) and layer.kind in ("sign", "stochastic") for layer in layers)
        fits = fits and all(isinstance(norm, nn.BatchNorm1d) and norm.weight.dtype == torch.float32 for norm in norms)
        if not fits or not all(isinstance(sign, Sign) for sign in signs):
            raise ModelError(
                "running on bits takes a float32 network of linear layers with signs for weights and activations"
            )
        if len(layers) < 2:
            raise ModelError(
                "running on bits takes a network with a hidden layer: without one all products are with real inputs, and "
                "there are no bits to count; call the network itself"
            )
        self.widths = [(layer.in_features, layer.out_features) for layer in layers]
        self.bits: list[Bits] = [np.packbits(layer.weight.detach().numpy() >= 0, axis=1) for layer in layers]
        self.thresholds, self.falling = zip(*map(_threshold, norms[:-1]), strict=True)
        self.last = norms[-1]

    def hidden(self, inputs: Tensor) -> list[Bits]:
        """Return the signs of the hidden layers as packed bits.

        Parameters
        ----------
        inputs : torch.Tensor, shape (n, ...)
            Samples in [0, 1].

        Returns
        -------
        list of ndarray of uint8, shape (n, ceil(width / 8))
            Of each hidden layer, 1 for +1.
        """
        signs = torch.from_numpy(2.0 * np.unpackbits(self.bits[0], axis=1, count=self.widths[0][0]) - 1.0).float()
        found: list[Bits] = []
        for i, (threshold, falling) in enumerate(zip(self.thresholds, self.falling, strict=True)):
            if i == 0:  # the only products with real numbers
                z = torch.nn.functional.linear(2.0 * inputs.flatten(1) - 1.0, signs).numpy()
            else:
                z = dots(found[-1], self.bits[i], self.widths[i][0]).astype(np.float32)
            found.append(np.packbits((z >= threshold) ^ falling, axis=1))
        return found

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the scores.

        Parameters
        ----------
        inputs : torch.Tensor, shape (n, ...)
            Samples in [0, 1].

        Returns
        -------
        torch.Tensor, shape (n, n_classes)
            What the last normalization gives.
        """
        z = dots(self.hidden(inputs)[-1], self.bits[-1], self.widths[-1][0])
        with evaluating(self.last):
            return self.last(torch.from_numpy(z).float())  # type: ignore[no-any-return]

    @property
    def bytes(self) -> int:
        """Bits of the weights (a row ends with a byte), thresholds, a bit of direction a unit, the last normalization."""
        hidden = sum(threshold.nbytes + -(-len(threshold) // 8) for threshold in self.thresholds)
        return sum(each.nbytes for each in self.bits) + hidden + 4 * 4 * self.widths[-1][1]


def _threshold(norm: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return for each unit the least float32 z at which ``(BN(z) >= 0) ^ falling`` holds, infinite where there is none."""
    falling = norm.weight.detach() < 0  # type: ignore[union-attr, operator]
    top = _key(torch.full_like(norm.weight.detach(), torch.finfo(torch.float32).max))  # type: ignore[arg-type]
    low, high = -top - 1, top + 1  # over the floats in their order: not at low, at high
    with evaluating(norm):
        while (high - low > 1).any():
            middle = (low + high).div(2, rounding_mode="floor").clamp(-top, top)
            up = (norm(_float(middle)[None])[0] >= 0) ^ falling
            low, high = torch.where(up, low, middle), torch.where(up, middle, high)
    found = torch.where(high > top, torch.inf, _float(high.clamp(-top, top)))
    return found.numpy(), falling.numpy()


def _key(x: Tensor) -> Tensor:
    """Return whole numbers in the order of floats, next to each other where those are."""
    bits = x.view(torch.int32).long()
    return torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))


def _float(key: Tensor) -> Tensor:
    size = key.abs().to(torch.int32).view(torch.float32)
    return torch.where(key >= 0, size, -size)
