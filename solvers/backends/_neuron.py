"""One neuron's part of the layer's program at a given tau, solved exactly on working sets of weights and ceilings.

With tau = 1 / (multiplier of the ball) the neurons part, and each has the quadratic program

    minimize  tau sum_i penalty_i |u_i| + 1/2 ||X_on'u - y||^2   subject to  X_off'u <= v.

Few weights differ from 0 and few ceilings bind, so it is solved on few rows and columns (``_reduced``), and those that turn
out to be violated are taken in. The rows that are not looked at here are looked at for the whole layer (``_finish``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers.arrays import Array
from solvers.backends import _kernels
from solvers.backends._reduced import ADMM_STEPS, Face, Index, Reduced

NEAR_PRICE = 0.8  # fraction of the price of |X L'| above which a row enters at once
NEAR_CEILING = 0.1  # distance to the ceiling, in root mean squares of the responses, within which a column enters at once
MOST_COLUMNS = 1.5  # columns at first, over rows
EXTENSIONS = 6
PATIENCE = 8  # times the ADMM steps, for a neuron whose sets did not settle in an earlier round


class Neuron:
    """A neuron given by its samples.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs of the layer, C-contiguous.
    on : ndarray of bool, shape (P,)
        Where it is on; somewhere.
    target : ndarray, shape (P,)
        Y where on, V elsewhere.
    price : ndarray, shape (N,)
        Its prices.
    allowed : float
        Norm of the ceilings' excess that is let go.
    """

    def __init__(self, X: Array, on: Any, target: Array, price: Array, allowed: float) -> None:
        self.X, self.off, self.price, self.allowed = X, ~on, price, allowed
        self.on: Index = np.flatnonzero(on).astype(np.uint32)  # unsigned: compiled code asks of any other if it is below 0
        self.target: Array = target.astype(np.float64)
        self.y = self.target[self.on]
        self.squared = float(self.y @ self.y)

    def solve(self, tau: float, u: Array, dual: Array, pull: Array, face: Face | None, slack: float) -> Face | None:
        """Return the face that the solution at tau lies on.

        Parameters
        ----------
        tau : float
            Inverse of the ball's multiplier, positive.
        u : ndarray, shape (N,)
            Where to begin.
        dual : ndarray, shape (P,)
            The layer's dual there; its inactive part is used.
        pull : ndarray, shape (N,)
            ``XL'`` there.
        face : Face or None
            Where the solution at another tau was.
        slack : float
            By how much, relatively, ``|XL'|`` may exceed the price.

        Returns
        -------
        Face or None
            Not exact where the sets could not be settled; None where nothing could be said.
        """
        others = self.price < np.inf
        rows = np.flatnonzero(others & ((u != 0) | (np.abs(pull) > NEAR_PRICE * self.price) | (self.price == 0)))
        rows = rows if len(rows) else np.flatnonzero(others)[:1]
        others[rows] = False
        reduced = self._open(tau, rows, self._near(u, dual, int(MOST_COLUMNS * len(rows)) + 10))
        lam: Array = tau * np.maximum(dual[reduced.cols], 0.0)
        found = reduced.resume(u[rows], lam, face) if face is not None and face.exact else None
        # Sets that would not settle before are degenerate: there the point itself must be good.
        steps = ADMM_STEPS if face is None or face.exact else PATIENCE * ADMM_STEPS
        found = found or reduced.enter(u[rows], lam, steps)
        for _ in range(EXTENSIONS):
            if found is None:
                return None
            late, more = self._violated(np.flatnonzero(others), reduced.cols, found, tau, slack)
            if len(late) == 0 and len(more) == 0:
                return found
            others[late] = False
            self._extend(reduced, late, more)
            weights: Array = _scatter(found.rows, found.weights(tau), len(u))[reduced.rows]
            lam = _scatter(found.cols, found.multipliers(tau), len(dual))[reduced.cols]
            found = (reduced.resume(weights, lam, found) if found.exact else None) or reduced.enter(weights, lam, steps)
        return found

    def _open(self, tau: float, rows: Index, cols: Index) -> Reduced:
        H, h = _kernels.grams(self.X, rows, self.on, self.y)
        X = _kernels.take(self.X, rows, cols)
        beyond = 1e-3 * self.allowed
        return Reduced(rows, cols, H, h, X, self.target[cols], self.price[rows], self.squared, tau, beyond)

    def _extend(self, reduced: Reduced, rows: Index, cols: Index) -> None:
        every = np.concatenate([reduced.rows, rows])
        cross, h = _kernels.cross_grams(self.X, every, rows, self.on, self.y)
        X = _kernels.take(self.X, every, np.concatenate([reduced.cols, cols]))
        reduced.extend(rows, cols, cross, h, X, self.target[cols], self.price[rows])

    def _near(self, u: Array, dual: Array, most: int) -> Index:
        """Return the inactive columns near or beyond their ceiling or with a multiplier, at most so many."""
        above = _kernels.respond(self.X, np.flatnonzero(u), u[u != 0]) - self.target
        held = self.off & (dual > 0)
        size = np.sqrt(self.squared / len(self.y))
        cols = np.flatnonzero(held | (self.off & (above > -NEAR_CEILING * size)))
        if len(cols) > most:
            key = np.where(held[cols], np.inf, above[cols])
            cols = np.sort(cols[np.argpartition(-key, most)[:most]])
        return cols

    def _violated(self, others: Index, known: Index, face: Face, tau: float, slack: float) -> tuple[Index, Index]:
        """Return which other rows have a gradient over their price, and which columns not known are above their ceiling.

        Columns are named only if together they are too much.
        """
        r, above = _kernels.offsets(self.X, face.rows, face.weights(tau), self.target, self.off)
        r[face.cols], above[known] = face.multipliers(tau), 0.0
        gradient, beyond = _kernels.project(self.X, others, r), np.flatnonzero(above)
        late = others[np.abs(gradient) > tau * self.price[others] * (1 + slack)]
        return late, beyond if np.linalg.norm(above[beyond]) > self.allowed else beyond[:0]


class LinearNeuron(Neuron):
    """A neuron of a linear layer, given by the layer's Gram matrix.

    Parameters
    ----------
    G : ndarray, shape (N, N)
        ``XX'``.
    c : ndarray, shape (N,)
        ``Xy``.
    squared : float
        ``||y||^2``.
    price : ndarray, shape (N,)
        Its prices.
    """

    def __init__(self, G: Array, c: Array, squared: float, price: Array) -> None:
        self.G, self.c, self.squared, self.price = G, c, squared, price

    def _open(self, tau: float, rows: Index, cols: Index) -> Reduced:
        H, none = _kernels.take(self.G, rows, rows), np.empty((len(rows), 0))
        return Reduced(rows, cols, H, self.c[rows], none, np.empty(0), self.price[rows], self.squared, tau, 0.0)

    def _extend(self, reduced: Reduced, rows: Index, cols: Index) -> None:
        every = np.concatenate([reduced.rows, rows])
        none = np.empty((len(every), 0))
        reduced.extend(rows, cols, _kernels.take(self.G, rows, every), self.c[rows], none, np.empty(0), self.price[rows])

    def _near(self, u: Array, dual: Array, most: int) -> Index:
        return np.empty(0, np.intp)

    def _violated(self, others: Index, known: Index, face: Face, tau: float, slack: float) -> tuple[Index, Index]:
        gradient = _kernels.take(self.G, others, face.rows) @ face.weights(tau) - self.c[others]
        return others[np.abs(gradient) > tau * self.price[others] * (1 + slack)], np.empty(0, np.intp)


def _scatter(where: Index, values: Array, length: int) -> Array:
    """Return a vector of zeros with ``values`` put in."""
    full = np.zeros(length)
    full[where] = values
    return full
