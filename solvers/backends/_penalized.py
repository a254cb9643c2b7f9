"""One neuron's penalized QP, solved by OSQP on the few inputs and samples that matter to it.

The QP is that of Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), in the epigraph form of OSQP's own Lasso example (Stellato et
al., 2020); its working sets are those of Celer (Massias, Gramfort, Salmon, 2018), for columns and for rows.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from solvers.arrays import Array, Mask
from solvers.errors import SolverError

# Polishing finds the exact solution as soon as the iterates know which bounds hold, so OSQP is first asked for little, and
# for more only where polishing did not arrive.
PRECISIONS = (1e-1, 1e-3, 1e-5, 1e-7)  # of the smaller of 1 and the price of a weight
RHO = 1e-2  # first penalty parameter of OSQP, for data of unit size; it adapts
GROWTH = 10  # inputs or samples added at once at least; at most, a working set doubles
ROUNDS = 100
SMALL = 1e-6  # of the largest multiplier of a start: those of an interior point method are never 0
IDLE = 1e-3  # of the price, the multiplier that shows a weight at zero; of the largest weight, or 1: what it may hide
ZERO_BELOW = 1e-7  # of the largest weight and of the price as above: a polished zero is some 1e-16, others are less near


class PenalizedNeuron:
    """Minimizes ``weight sum_j price_j |u_j| + 1/2 ||X_on' u - y||^2`` under ``X_off' u <= v``, warm started.

    ``weight`` enters the linear term alone, so that OSQP keeps its factor from one weight to the next while the working
    sets stay as they are. So do the multipliers of the equations ``X_on' u = y``, which where they are ``exact`` shift y as
    in the method of multipliers: no weight need then be small.

    Parameters
    ----------
    X : ndarray, shape (N, P)
        Inputs in float64, scaled to rows of norm 1 at most.
    on : ndarray of bool, shape (P,)
        Where the neuron is active.
    target : ndarray, shape (P,)
        Responses y where active, ceilings v elsewhere, of unit size.
    price : ndarray, shape (N,)
        Prices of the weights, the usual one 1; inf keeps a weight at zero.
    exact : bool
        Whether the residual is to vanish; each call of ``minimize`` is then a step of the method of multipliers.
    accuracy : float
        By how much the conditions of optimality may be missed, as a fraction of their own sizes.

    Attributes
    ----------
    u : ndarray, shape (N,)
        The minimizer.
    multipliers : ndarray, shape (P,)
        Residual where active and multiplier of the ceiling elsewhere, over ``weight``.
    square : float
        ``||X_on' u - y||^2``.
    setups : int
        How often OSQP had to factorize from scratch.
    """

    def __init__(self, X: Array, on: Mask, target: Array, price: Array, exact: bool, accuracy: float) -> None:
        self.X, self.on, self.target, self.exact, self.accuracy = X, on, target, exact, accuracy
        self.price = np.where(X.any(axis=1), price, np.inf)
        self.u, self.multipliers = np.zeros(len(X)), np.zeros(len(target))
        self.gradient, self.square, self.setups = np.zeros(len(X)), 0.0, 0
        # Where 0 breaks a ceiling, a few inputs alone may find no feasible point: they are all there from the start.
        feasible = bool((target >= 0)[~on].all())
        self.columns = (self.price == 0) if feasible else (self.price < np.inf)  # (N,), the working sets
        self.rows = np.zeros(len(target), dtype=bool)  # (P,)
        self._solver: Any = None

    def start(self, u: Array, multipliers: Array | None) -> None:
        """Begin at weights, and at multipliers where known; their supports become the working sets."""
        self.u = np.where(self.price < np.inf, u, 0.0)
        self.columns |= self.u != 0
        if multipliers is not None:
            self.multipliers = np.where(self.on, multipliers, np.maximum(multipliers, 0.0))
            self.rows |= ~self.on & (multipliers > SMALL * np.abs(multipliers).max())
            self.gradient = self.X @ self.multipliers

    def minimize(self, weight: float, stop: threading.Event) -> None:
        """Solve on the working sets, and enlarge these until no input and no sample outside them matters."""
        weight = weight if self.on.any() else 1.0  # without a residual the weight only scales the objective
        aim = self.target[self.on] - (weight * self.multipliers[self.on] if self.exact else 0.0)
        for _ in range(ROUNDS):
            if stop.is_set():
                return
            if self.columns.any():
                self._solve(weight, aim)
            Z = self.u[self.columns] @ self.X[self.columns]  # (P,)
            residual = Z - self.target
            self.multipliers[self.on] = (Z[self.on] - aim) / weight
            self.gradient = self.X @ self.multipliers
            self.square = float(np.sum(residual[self.on] ** 2))
            columns = _largest(np.abs(self.gradient) - self.price * (1 + self.accuracy), self.columns)
            above = np.where(self.on, -np.inf, residual - self.accuracy / np.sqrt(len(Z)))
            rows = _largest(above, self.rows)
            if not (columns.any() or rows.any()):
                return
            self.columns, self.rows, self._solver = self.columns | columns, self.rows | rows, None

    def _solve(self, weight: float, aim: Array) -> None:
        """Run OSQP on the working sets; the variables are (u, t) with |u| <= t."""
        from osqp import SolverStatus

        usable = (SolverStatus.OSQP_SOLVED, SolverStatus.OSQP_SOLVED_INACCURATE, SolverStatus.OSQP_MAX_ITER_REACHED)
        J, C = np.flatnonzero(self.columns), np.flatnonzero(self.rows)
        k, price = len(J), weight * self.price[J]
        if self._solver is None:
            self._setup(J, C, aim, price)
        self._solver.update(q=np.concatenate([-self._active @ aim, price]))
        slope = weight * self.gradient[J]  # duals scale with the weight, so those of another one are a good guess
        pair = np.maximum(np.concatenate([price - slope, price + slope]) / 2, 0.0)
        self._solver.warm_start(
            x=np.concatenate([self.u[J], np.abs(self.u[J])]), y=np.concatenate([pair, weight * self.multipliers[C]])
        )
        for precision in PRECISIONS:
            self._solver.update_settings(eps_abs=precision * min(1.0, weight), eps_rel=0.0)
            result = self._solver.solve(raise_error=False)
            status = result.info.status_val
            if status == SolverStatus.OSQP_SIGINT:  # OSQP takes the signal away from Python while it works
                raise KeyboardInterrupt
            if status not in usable:
                raise SolverError(f"OSQP gives up on the QP of a neuron; its status is {result.info.status!r}")
            if result.info.prim_res <= self.accuracy and result.info.dual_res <= self.accuracy * weight:
                break
        u, size = result.x[:k], max(np.abs(result.x[:k]).max(), 1.0)  # 1: no smaller sum of |u| gives y in full
        idle = np.minimum(result.y[:k], result.y[k : 2 * k]) > IDLE * price  # both of |u| <= t press: u is 0
        zero = np.abs(u) <= np.where(idle, IDLE, ZERO_BELOW * min(1.0, weight)) * size
        self.u[J] = np.where(zero, 0.0, u)
        self.multipliers[C] = np.maximum(result.y[2 * k :], 0.0) / weight

    def _setup(self, J: Any, C: Any, aim: Array, price: Array) -> None:
        """Hand OSQP the matrices of the working sets J (inputs) and C (samples), and let it factorize."""
        import osqp
        from scipy.sparse import csc_matrix

        k, c = len(J), len(C)
        self._active = self.X[J][:, self.on]
        gram = self._active @ self._active.T
        column, row = np.tril_indices(k)  # the upper triangle, column by column
        starts = np.concatenate([[0], np.cumsum(np.arange(1, k + 1)), np.full(k, len(row))])
        P = csc_matrix((gram[row, column], row, starts), shape=(2 * k, 2 * k))
        i = np.arange(k)[:, None]
        entries = np.hstack([np.ones((k, 1)), -np.ones((k, 1)), self.X[np.ix_(J, C)]])  # u_i in its pair and the ceilings
        places = np.hstack([i, k + i, np.broadcast_to(2 * k + np.arange(c), (k, c))])
        A = csc_matrix(
            (
                np.concatenate([entries.ravel(), -np.ones(2 * k)]),
                np.concatenate([places.ravel(), np.hstack([i, k + i]).ravel()]),
                np.concatenate([np.arange(k) * (c + 2), k * (c + 2) + 2 * np.arange(k + 1)]),
            ),
            shape=(2 * k + c, 2 * k),
        )
        pair = np.where(self.price[J] > 0, 0.0, np.inf)  # a free weight needs no t
        upper = np.concatenate([pair, pair, self.target[C]])
        self._solver = osqp.OSQP()
        self._solver.setup(
            P,
            np.concatenate([-self._active @ aim, price]),  # OSQP scales by it
            A,
            np.full(len(upper), -np.inf),
            upper,
            verbose=False,
            rho=RHO,
            adaptive_rho=1,  # after so many iterations, never after so much time: answers can be made again
            polishing=bool((price > 0).any()),  # where no bound is active OSQP prints so, verbose or not
            eps_prim_inf=1e-8,
            eps_dual_inf=1e-8,
        )
        self.setups += 1


def _largest(excess: Array, present: Mask) -> Mask:
    """Return which entries to add: the largest positive ones that are not there yet, as many as there are now, or GROWTH."""
    excess = np.where(present, -np.inf, excess)
    count = min(max(GROWTH, int(present.sum())), int((excess > 0).sum()))
    chosen = np.zeros(len(excess), dtype=bool)
    chosen[np.argsort(-excess, kind="stable")[:count]] = True
    return chosen
