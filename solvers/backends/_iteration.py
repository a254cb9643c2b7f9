"""The Net-Trim ADMM as a relaxed Douglas-Rachford iteration, on samples or, for a linear layer, on its Gram matrix.

Eckstein and Bertsekas (1992) on ADMM, Douglas-Rachford and relaxation. The program is ``min f1(A) + f2(U)`` over the graph
``A = U'X``, f1 the indicator of ball and ceiling, f2 the priced l1 norm. With s = (s1, s2) and the metric
``|A|^2 / c0^2 + |U|^2``::

    (g, W) = nearest point of the graph to s         g = W'X
    (p, q) = prox of (f1, f2 / rho) at (2g - s1, 2W - s2)
    s     += relaxation ((p, q) - (g, W))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from scipy.linalg import blas, lapack

from solvers.arrays import Array, Mask, blocks
from solvers.backends import _kernels
from solvers.backends._balance import FIRST_RHO
from solvers.backends._memory import Plan
from solvers.prox import soft_threshold

COLUMNS = 256  # samples at a time in a Gram matrix: some megabytes in float64, and long enough for BLAS


class Iteration(Protocol):
    """What the driver asks of either form."""

    q: Array
    plan: Plan

    def begin(self, W: Array, L: Array | None) -> None:
        """Begin where the fixed point would be if W (N, M) and L (M, P) were the solution."""

    def prox(self) -> None:
        """Take the proximal half of a step: q (N, M), exactly sparse, and the factor by which the ball draws p in."""

    def step(self, relaxation: float, change: float) -> None:
        """Take the other half of a step, and change rho by a factor on the way, keeping the multipliers."""

    def dual(self) -> Array:
        """Return the multipliers of ball and ceiling at p (M, P), to be kept until ``restore``."""

    def restore(self) -> None:
        """Tell that the dual is not needed any more."""

    def rest(self) -> None:
        """Give up the memory that ``begin`` makes anew."""

    def pull(self, L: Array) -> Array:
        """Return ``XL'`` (N, M) of that dual."""

    def tau(self) -> float:
        """Return the inverse of the ball's multiplier; inf where the ball does not bind."""


class OnSamples:
    """The iteration with its (M, P) state: ``s1``, and ``g`` of as many neurons as are taken at a time.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs in the working dtype.
    T, on : ndarray, shape (M, P)
        Targets (Y where active, V elsewhere) and the mask, C-contiguous.
    epsilon : float
        Radius.
    penalty : ndarray, shape (), (N, 1) or (N, M)
        Prices.
    rho : float or None
        First penalty parameter.
    plan : Plan
        Where the state goes. With all neurons at a time g is kept from step to step, else made anew in each half.
    """

    def __init__(self, X: Array, T: Array, on: Mask, epsilon: float, penalty: Array, rho: float | None, plan: Plan) -> None:
        real = X.dtype.type
        self.X, self.T, self.on, self.epsilon, self.real, self.plan = X, T, on, epsilon, real, plan
        self.penalty = penalty.astype(real)
        self.inverse, self.metric = graph_inverse(gram(X), real)
        self.rho = first_rho(self.inverse @ (X @ T.T) * real(self.metric)) if rho is None else rho
        self.q = np.zeros((len(X), len(T)), real)
        self.whole = plan.rows >= len(T)
        self.g = np.zeros((plan.rows, T.shape[1]), real)
        self.L = self.g if self.whole else plan.array(T.shape, real)
        self.squares, self.shrink = np.empty(len(T)), real(1)
        self.begin(self.q, None)

    def _parts(self) -> Iterator[tuple[slice, Array]]:
        """Yield neurons that are taken together, and their responses g."""
        for part in blocks(len(self.T), self.plan.rows):
            g = self.g[: part.stop - part.start]
            yield part, g if self.whole else np.dot(self.W[:, part].T, self.X, out=g)

    def begin(self, W: Array, L: Array | None) -> None:
        """Begin where the fixed point would be if W (N, M) and L (M, P) were the solution; L may be that of ``dual``."""
        if not self.inverse.size:  # given up by ``rest``; coming back is rare, and costs a few iterations
            self.inverse, self.metric = graph_inverse(gram(self.X), self.real)
        self.W = np.array(W, self.real, order="C")
        self.s2, self.residual, self.moved = self.W.copy(), np.empty_like(self.W), np.empty_like(self.W)
        self.s1 = self.plan.array(self.T.shape, self.real)
        if L is not None:
            self.s2 += (self.X @ L.T) * self.real(1 / self.rho)
            np.multiply(L, self.real(-1 / (self.rho * self.metric)), out=self.s1)
        self.restore()
        for part, g in self._parts():
            self.s1[part] += g

    def prox(self) -> None:
        """Take the proximal half of a step."""
        for part, g in self._parts():
            _kernels.ball_squares(g, self.s1[part], self.T[part], self.on[part], self.squares[part])
        distance = float(np.sqrt(self.squares.sum()))
        self.shrink = self.real(self.epsilon / distance if distance > self.epsilon else 1.0)
        self.q = soft_threshold(self.W + self.W - self.s2, self.penalty / self.real(self.rho)).astype(self.real, copy=False)

    def step(self, relaxation: float, change: float) -> None:
        """Take the other half of a step; the multipliers ``rho (s - g)`` are kept where rho changes.

        W moves by a correction, so that rounding in the inverse fades as the iterates settle.
        """
        self.s2 += self.real(relaxation) * (self.q - self.W)
        for part, g in self._parts():
            s1 = self.s1[part]
            _kernels.step(g, s1, self.T[part], self.on[part], self.shrink, self.real(relaxation))  # g now holds s1 - g
            if change != 1.0:
                s1 -= g
                g *= self.real(1 / change)
                s1 += g
            if self.whole:
                np.dot(self.X, g.T, out=self.residual)
            else:
                self.residual[:, part] = np.dot(self.X, g.T)
        if change != 1.0:
            self.s2 += (self.s2 - self.W) * self.real(1 / change - 1)
            self.rho *= change
        self.residual *= self.real(self.metric)
        self.residual += np.subtract(self.s2, self.W, out=self.moved)
        self.W += np.dot(self.inverse, self.residual, out=self.moved)
        self.restore()

    def dual(self) -> Array:
        """Return the multipliers of ball and ceiling at p (M, P), in the place of ``g`` if that is kept."""
        scale = self.real(self.rho * self.metric)
        for part, g in self._parts():
            _kernels.multipliers(g, self.s1[part], self.T[part], self.on[part], self.shrink, scale)
            if not self.whole:
                self.L[part] = g
        return self.L

    def rest(self) -> None:
        """Give up all that ``begin`` makes anew, s1 for one, a third of the memory."""
        self.s1 = self.s2 = self.W = self.residual = self.moved = self.inverse = np.empty((0, 0), self.real)

    def restore(self) -> None:
        """Make g again where it is kept: half an iteration's work, for a third less memory than a dual of its own."""
        if self.whole:
            np.dot(self.W.T, self.X, out=self.g)

    def pull(self, L: Array) -> Array:
        """Return ``XL'`` (N, M) of that dual."""
        return np.asarray(self.X @ L.T)

    def tau(self) -> float:
        """Return the inverse of the ball's multiplier."""
        shrink = float(self.shrink)
        return shrink / (self.rho * self.metric * (1 - shrink)) if shrink < 1 else float("inf")


class OnGram:
    """The same iteration for a linear layer: ``s1 = A'X + beta Y``, so that the loop needs no sample.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs in any dtype, for the dual alone.
    Y : ndarray, shape (M, P)
        Responses.
    G : ndarray, shape (N, N)
        ``XX'``, float64.
    C : ndarray, shape (N, M)
        ``XY'``, float64.
    squared : float
        ``||Y||_F^2``.
    epsilon : float
        Radius.
    penalty : ndarray, shape (), (N, 1) or (N, M)
        Prices.
    rho : float or None
        First penalty parameter.
    plan : Plan
        Where the dual goes.
    """

    def __init__(
        self,
        X: Array,
        Y: Array,
        G: Array,
        C: Array,
        squared: float,
        epsilon: float,
        penalty: Array,
        rho: float | None,
        plan: Plan,
    ) -> None:
        self.plan = plan
        self.X, self.Y, self.G, self.C, self.squared = X, Y, G, C, squared
        self.epsilon, self.penalty = epsilon, penalty
        self.inverse, self.metric = graph_inverse(G.copy(order="F"), np.float64)
        self.rho = first_rho(self.inverse @ C * self.metric) if rho is None else rho
        self.W = np.zeros_like(C)
        self.s2, self.A, self.q = self.W.copy(), self.W.copy(), self.W.copy()
        self.GW, self.GA, self.beta, self.shrink = self.W.copy(), self.W.copy(), 0.0, 1.0
        self.L: Array | None = None

    def begin(self, W: Array, L: Array | None) -> None:
        """Begin where the fixed point would be if W (N, M) and L (M, P) were the solution.

        At a solution ``L = (W'X - Y) / tau``, for which the state is again of the form ``A'X + beta Y``; L is taken to be
        of this kind, and tau read from its size.
        """
        self.W[:] = W
        self.GW = self.G @ self.W
        self.A, self.GA, self.s2, self.beta = self.W.copy(), self.GW.copy(), self.W.copy(), 0.0
        if L is not None:
            scale = float(np.linalg.norm(L)) / self.epsilon / self.rho if self.epsilon > 0 else 0.0
            self.s2 += scale * (self.GW - self.C)
            self.A -= scale / self.metric * self.W
            self.GA -= scale / self.metric * self.GW
            self.beta = scale / self.metric

    def prox(self) -> None:
        """Take the proximal half of a step; ``2g - s1 - Y = D'X - (1 + beta) Y``."""
        D, GD, b = self.W + self.W - self.A, self.GW + self.GW - self.GA, 1 + self.beta
        distance = np.sqrt(max(float(np.vdot(D, GD) - 2 * b * np.vdot(D, self.C)) + b * b * self.squared, 0.0))
        self.shrink = self.epsilon / distance if distance > self.epsilon else 1.0
        self.q = soft_threshold(self.W + self.W - self.s2, self.penalty / self.rho)

    def step(self, relaxation: float, change: float) -> None:
        """Take the other half of a step; the multipliers ``rho (s - g)`` are kept where rho changes."""
        self.s2 += relaxation * (self.q - self.W)
        for state, W in ((self.A, self.W), (self.GA, self.GW)):
            state += relaxation * (self.shrink * (W + W - state) - W)
        self.beta += relaxation * (1 - self.shrink * (1 + self.beta))
        if change != 1.0:
            for state, W in ((self.A, self.W), (self.GA, self.GW), (self.s2, self.W)):
                state += (1 / change - 1) * (state - W)
            self.beta /= change
            self.rho *= change
        residual = self.metric * (self.GA - self.GW + self.beta * self.C) + self.s2 - self.W
        self.W += self.inverse @ residual
        self.GW = self.G @ self.W

    def dual(self) -> Array:
        """Return the multipliers of the ball at p (M, P)."""
        scale = self.rho * self.metric * (1 - self.shrink)
        if self.L is None:
            self.L = self.plan.array(self.Y.shape, np.float64)
        combine(scale * (self.W + self.W - self.A), self.X, scale * (1 + self.beta), self.Y, self.L)
        return self.L

    def restore(self) -> None:
        """Do nothing: the dual has a place of its own."""

    def rest(self) -> None:
        """Do nothing: there is no array of (M, P) to give up."""

    def pull(self, L: Array) -> Array:
        """Return ``XL'`` (N, M), from the Gram matrix."""
        scale = self.rho * self.metric * (1 - self.shrink)
        return np.asarray(scale * (self.GW + self.GW - self.GA - (1 + self.beta) * self.C))

    def tau(self) -> float:
        """Return the inverse of the ball's multiplier."""
        return self.shrink / (self.rho * self.metric * (1 - self.shrink)) if self.shrink < 1 else float("inf")


def combine(A: Array, X: Array, beta: float, Y: Array, out: Array) -> None:
    """Write ``A'X - beta Y`` (M, P) to ``out`` in float64: where A'X comes near to Y, float32 leaves few digits of it."""
    for part in blocks(X.shape[1], COLUMNS):
        np.subtract(A.T @ X[:, part].astype(np.float64), beta * Y[:, part].astype(np.float64), out=out[:, part])


def gram(X: Array) -> Array:
    """Return the lower triangle of ``XX'`` (N, N) in float64, Fortran-ordered, as BLAS and LAPACK have it."""
    return moments(X, None)[0]


def moments(X: Array, Y: Array | None) -> tuple[Array, Array, Array]:
    """Return the lower triangle of ``XX'`` (N, N), ``XY'`` (N, M) and ``||y||^2`` (M,) in float64; zeros for no Y."""
    M = 0 if Y is None else len(Y)
    G, C, squares = np.zeros((len(X), len(X)), order="F"), np.zeros((len(X), M)), np.zeros(M)
    for part in blocks(X.shape[1], COLUMNS):
        A = X[:, part].T.astype(np.float64, order="F")
        G = blas.dsyrk(1.0, A, 1.0, G, trans=1, lower=1, overwrite_c=1)
        if Y is not None:
            B = Y[:, part].T.astype(np.float64, order="F")
            C += A.T @ B
            squares += np.einsum("pm,pm->m", B, B)
    return G, C, squares


def graph_inverse(G: Array, real: Any) -> tuple[Array, float]:
    """Return ``(G / c0^2 + I)^-1`` and ``1 / c0^2``, with the authors' c0 = 0.3 sqrt(max XX'); G is used up."""
    c0 = 0.3 * float(np.sqrt(G.diagonal().max())) or 1.0  # the largest entry of a Gram matrix is on its diagonal
    G /= c0**2
    G[np.diag_indices_from(G)] += 1.0
    factor, _ = lapack.dpotrf(G, lower=1, overwrite_a=1)
    inverse = lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
    return _kernels.mirror(inverse.T).astype(real), 1.0 / c0**2


def first_rho(ridge: Array) -> float:
    """Return the first rho from the ridge weights; ``sum w^2 / sum |w|`` is their typical size, many small ones or not."""
    mass = float(np.abs(ridge).sum())
    return FIRST_RHO * mass / float(np.vdot(ridge, ridge)) if mass > 0 else 1.0
