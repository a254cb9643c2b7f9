"""A neuron's quadratic program on working sets: a few ADMM steps lead near the solution, active-set steps end there.

    minimize  tau sum_i penalty_i |u_i| + 1/2 u'Hu - h'u   subject to  X'u <= v,      H = X_on X_on',  h = X_on y.

While the support S, its signs and the binding ceilings B stay, the solution is affine in tau (a ``Face``). The steps are the
primal-dual active-set method, a semismooth Newton method (Hintermueller, Ito, Kunisch 2003): it ends after few steps from a
start that is near. The ADMM in the form of Stellato et al. (2020), its quadratic whole, provides that start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arrays import Array
from solvers.backends import _sets
from solvers.backends._sets import RIDGE

Index = Any  # an integer array

ADMM_STEPS, ADMM_TRIES, ADMM_RELAXATION, ADMM_WEIGHT = 25, 6, 1.7, 0.1
ACTIVE_SET_STEPS = 8
NEGLIGIBLE = 100  # times what a ceiling may be exceeded by: how far the responses of a point may move with its least weights


@dataclass(frozen=True, eq=False)
class Face:
    """A neuron's solution while its sets stay: ``u_S = a - tau b``, multipliers of the ceilings ``lambda_B = c - tau d``.

    ``||X_on'u - y||^2 = fixed + tau^2 slope``: the two parts are orthogonal, by stationarity and ``X_B'b = 0``. Where the
    sets could not be settled, it is only the point near the solution that was reached, and does not move with tau.
    """

    rows: Index  # S
    cols: Index  # B
    a: Array
    b: Array
    c: Array
    d: Array
    fixed: float
    slope: float
    exact: bool = True

    def weights(self, tau: float) -> Array:
        """Return ``u_S`` at tau."""
        return self.a - tau * self.b

    def multipliers(self, tau: float) -> Array:
        """Return ``lambda_B`` at tau; over tau they are the dual of the layer's program."""
        return self.c - tau * self.d


@dataclass(eq=False)
class Reduced:
    """The program on some rows (weights that may differ from 0) and columns (ceilings that are heeded).

    Parameters
    ----------
    rows, cols : ndarray of int
        Which of the layer's inputs and samples.
    H : ndarray, shape (rows, rows)
        Gram matrix on the active samples.
    h : ndarray, shape (rows,)
        ``X_on y``.
    X : ndarray, shape (rows, cols)
        Inputs at the ceilings.
    v : ndarray, shape (cols,)
        The ceilings.
    price : ndarray, shape (rows,)
        Prices, finite.
    squared : float
        ``||y||^2``.
    tau : float
        Inverse of the ball's multiplier.
    beyond : float
        By how much a ceiling may be exceeded.
    """

    rows: Index
    cols: Index
    H: Array
    h: Array
    X: Array
    v: Array
    price: Array
    squared: float
    tau: float
    beyond: float

    def __post_init__(self) -> None:
        self.held = False  # whether the equations of the ceilings are added to H
        self._stiffen(0)

    def extend(self, rows: Index, cols: Index, cross: Array, h: Array, X: Array, v: Array, price: Array) -> None:
        """Take in more rows and columns.

        Parameters
        ----------
        rows, cols : ndarray of int
            The new ones.
        cross : ndarray, shape (new rows, all rows)
            Their part of H.
        h, price : ndarray, shape (new rows,)
            Theirs.
        X : ndarray, shape (all rows, all cols)
            The whole of it.
        v : ndarray, shape (new cols,)
            Theirs.
        """
        old = len(self.rows)
        H = np.empty((old + len(rows), old + len(rows)))
        H[:old, :old], H[old:], H[:old, old:] = self.H, cross, cross[:, :old].T
        self.H, self.X, self.h = H, X, np.concatenate([self.h, h])
        self.v, self.price = np.concatenate([self.v, v]), np.concatenate([self.price, price])
        self.rows, self.cols = np.concatenate([self.rows, rows]), np.concatenate([self.cols, cols])
        self._stiffen(old)

    def _stiffen(self, begin: int) -> None:
        which = np.arange(begin, len(self.H))
        self.H[which, which] += RIDGE * float(self.H.diagonal().max(initial=0.0))

    def resume(self, u: Array, lam: Array, face: Face) -> Face | None:
        """Try active-set steps from an exact face, with whatever is violated at (u, lam) let in at once.

        Parameters
        ----------
        u : ndarray, shape (rows,)
            Weights.
        lam : ndarray, shape (cols,)
            Multipliers.
        face : Face
            Whose sets to begin with.

        Returns
        -------
        Face or None
            None where the steps did not end.
        """
        member = _among(self.rows, face.rows)
        gradient = self.H @ u - self.h + self.X @ lam
        joins = ~member & (np.abs(gradient) > self.tau * self.price)
        sign = np.where(member, np.sign(u), np.where(joins, -np.sign(gradient), 0.0))
        binding = _among(self.cols, face.cols) | (u @ self.X > self.v)
        return self._active_set(member | joins, sign, binding)

    def enter(self, u: Array, lam: Array, steps: int = ADMM_STEPS) -> Face | None:
        """Take ADMM steps from (u, lam), and try active-set steps from where they lead.

        Splitting ``z1 = u`` carries the prices, ``z2 = X'u`` the ceilings.

        Parameters
        ----------
        u : ndarray, shape (rows,)
            Weights.
        lam : ndarray, shape (cols,)
            Multipliers, at least 0.
        steps : int, optional
            ADMM steps before active-set steps are tried.

        Returns
        -------
        Face or None
            Not exact where the active-set steps did not end; None where the numbers leave no factor.
        """
        if len(self.cols) == 0:  # a lasso: the active-set steps seldom need a better start than the iterate's own support
            face = self._active_set((u != 0) | (self.price == 0), np.sign(u), np.zeros(0, dtype=bool))
            if face is not None:
                return face
        r1, r2 = self._penalties(u)
        K, found = _sets.admm_inverse(self.H, self.X, r1, r2)
        if not found:
            return None
        most = self.tau * self.price / r1
        z1, z2, y2 = u.copy(), np.minimum(u @ self.X, self.v), lam / r2
        y1 = np.clip((self.h - self.H @ u - self.X @ lam) / r1, -most, most)
        for _ in range(ADMM_TRIES):
            _sets.admm_steps(K, self.h, self.X, most, self.v, z1, y1, z2, y2, r1, r2, ADMM_RELAXATION, steps)
            face = self._active_set((z1 != 0) | (self.price == 0), np.sign(z1), y2 > 0)
            if face is not None:
                return face
        return self._point(z1, r2 * y2)

    def _point(self, u: Array, lam: Array) -> Face:
        """Return a point as a face that does not move, without weights that only the rounding of the steps has left there.

        Such is a neuron that is best at 0, where its ceilings of 0 bind: more of them than active-set steps tell apart.
        """
        moved = np.abs(u) * np.sqrt(self.H.diagonal() + np.square(self.X).sum(axis=1))  # responses, by each weight
        order = np.argsort(moved)
        u = u.copy()
        u[order[np.cumsum(moved[order]) <= NEGLIGIBLE * self.beyond]] = 0.0
        S, B = np.flatnonzero(u), np.flatnonzero(lam > 0)
        u, lam = u[S], lam[B]
        squared = float(u @ self.H[np.ix_(S, S)] @ u - 2 * (self.h[S] @ u)) + self.squared
        return Face(
            self.rows[S], self.cols[B], u, np.zeros(len(S)), lam, np.zeros(len(B)), max(squared, 0.0), 0.0, exact=False
        )

    def _penalties(self, u: Array) -> tuple[float, float]:
        """Return the weights of the two splittings, in the units of H: by typical prices and weights, and by energies."""
        energy = float(self.H.trace()) / len(u)
        nonzero = np.abs(u[u != 0])
        typical = float(nonzero.mean()) if len(nonzero) else float(np.sqrt(self.squared / max(energy, 1e-300) / len(u)))
        price = self.tau * float(self.price.mean()) / max(typical, 1e-300) or energy  # free weights alone have no price
        r1 = float(np.clip(ADMM_WEIGHT * price, 1e-9 * energy, 1e3 * energy)) or 1.0
        off = float(np.vdot(self.X, self.X))
        return r1, (r1 * self.X.size / off if off > 0 else r1)

    def _active_set(self, member: Any, sign: Array, binding: Any) -> Face | None:
        """Take active-set steps from guessed sets; return None where they do not end."""
        program, priced = (self.H, self.h, self.X, self.v, self.price, self.tau, self.beyond), sign * self.price
        ended, self.held, S, B, (a, b), (c, d) = _sets.active_set(
            *program, self.held, member, priced, binding, ACTIVE_SET_STEPS
        )
        if not ended:
            return None
        # Stationarity gives a'Ha = h'a - v'c and b'Hb = signs'b.
        fixed = self.squared - float(self.h[S] @ a) - float(self.v[B] @ c)
        slope = float(priced[S] @ b)
        return Face(self.rows[S], self.cols[B], a, b, c, d, max(fixed, 0.0), slope)


def _among(which: Index, known: Index) -> Any:
    """Tell which of some places are among others."""
    mask = np.zeros(max(which.max(initial=-1), known.max(initial=-1)) + 1, bool)
    mask[known] = True
    return mask[which]
