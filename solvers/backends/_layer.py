"""A layer as the finish sees it: its neurons, and the conditions of optimality, from samples or from a Gram matrix."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from solvers.arrays import Array, Mask
from solvers.backends import _kernels
from solvers.backends._iteration import combine
from solvers.backends._memory import ROWS
from solvers.backends._neuron import LinearNeuron, Neuron
from solvers.backends._reduced import Face


class Layer(Protocol):
    """What the rounds ask of a layer, given by samples or by its Gram matrix."""

    def neuron(self, m: int, allowed: float) -> Neuron:
        """Return a neuron's part."""

    def conditions(self, W: Array, faces: list[Face | None], tau: float, L: Array) -> tuple[Array, Array]:
        """Return ``XL'`` (N, M) of the dual L that goes with the weights, and three sums of each neuron (M, 3).

        The squared residual where on, the squared excess over the ceiling, and ``-<L, T>``.
        """

    def dual(self, W: Array, tau: float, L: Array) -> None:
        """See to it that L holds the dual that goes with the weights."""

    def squares_of(self, L: Array) -> Array:
        """Return ``||l_on||^2`` of each neuron (M,)."""


class SampleLayer:
    """A layer given by its samples.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs in the working dtype, C-contiguous.
    T, on : ndarray, shape (M, P)
        Targets (Y where active, V elsewhere) and the mask.
    price : ndarray, shape (N, M)
        Prices.
    """

    def __init__(self, X: Array, T: Array, on: Mask, price: Array) -> None:
        self.X, self.T, self.on, self.price = X, T, on, price

    def neuron(self, m: int, allowed: float) -> Neuron:
        """Return a neuron's part."""
        return Neuron(self.X, self.on[m], self.T[m], np.ascontiguousarray(self.price[:, m]), allowed)

    def conditions(self, W: Array, faces: list[Face | None], tau: float, L: Array) -> tuple[Array, Array]:
        """Write the dual that goes with the weights to L; a neuron without a face keeps the dual it has."""
        sums = np.zeros((len(L), 3))
        real = self.X.dtype
        for begin in range(0, len(L), ROWS):
            part = slice(begin, begin + ROWS)
            strays = [m for m, face in enumerate(faces[part], begin) if face is None]
            kept = L[strays]
            np.dot(W[:, part].astype(real).T, self.X, out=L[part])
            _kernels.responses_to_dual(L[part], self.T[part], self.on[part], real.type(tau), sums[part])
            L[strays] = kept
            for m, face in enumerate(faces[part], begin):
                if face is not None:
                    lam = np.maximum(face.multipliers(tau), 0.0) / tau
                    L[m, face.cols] = lam
                    sums[m, 2] -= lam @ self.T[m, face.cols]
        return np.asarray(self.X @ L.T), sums

    def dual(self, W: Array, tau: float, L: Array) -> None:
        """Do nothing: L is written as the conditions are looked at."""

    def squares_of(self, L: Array) -> Array:
        """Return them, summed in float64."""
        return np.array([np.square(row, where=on, out=np.zeros(len(row))).sum() for row, on in zip(L, self.on, strict=True)])


class GramLayer:
    """A linear layer given by its Gram matrix; its samples are needed for the dual alone.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs in any dtype.
    Y : ndarray, shape (M, P)
        Responses.
    price : ndarray, shape (N, M)
        Prices.
    G : ndarray, shape (N, N)
        ``XX'``.
    C : ndarray, shape (N, M)
        ``XY'``.
    squares : ndarray, shape (M,)
        ``||y||^2`` of each neuron.
    """

    def __init__(self, X: Array, Y: Array, price: Array, G: Array, C: Array, squares: Array) -> None:
        self.X, self.Y, self.price, self.G, self.C, self.squares = X, Y, price, G, C, squares

    def neuron(self, m: int, allowed: float) -> Neuron:
        """Return a neuron's part."""
        c, price = np.ascontiguousarray(self.C[:, m]), np.ascontiguousarray(self.price[:, m])
        return LinearNeuron(self.G, c, float(self.squares[m]), price)

    def conditions(self, W: Array, faces: list[Face | None], tau: float, L: Array) -> tuple[Array, Array]:
        """Return both from the Gram matrix."""
        against = self.G @ W - self.C
        kept = np.einsum("nm,nm->m", W, self.C)
        residual = self.squares - kept + np.einsum("nm,nm->m", W, against)
        sums = np.stack([np.maximum(residual, 0.0), np.zeros_like(residual), (self.squares - kept) / tau], axis=1)
        return against / tau, sums

    def squares_of(self, L: Array) -> Array:
        """Return them; a linear layer is on everywhere."""
        return np.array([np.square(row, dtype=np.float64).sum() for row in L])

    def dual(self, W: Array, tau: float, L: Array) -> None:
        """Write ``(W'X - Y) / tau`` to L."""
        combine(W / tau, self.X, 1 / tau, self.Y, L)
