"""From a rough iterate to the solution: every neuron solved exactly for a common tau, and tau moved until the ball is met.

Given the multiplier 1 / tau of the ball the layer's program parts into its neurons (``_neuron``). On their faces the
squared residual is ``sum_m fixed_m + tau^2 slope_m``, so the tau that meets the ball is known in closed form, and a few
rounds settle faces and tau together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from solvers.arrays import Array
from solvers.backends._layer import Layer
from solvers.backends._memory import give_back
from solvers.backends._reduced import Face
from solvers.backends._turns import blas_threads, libraries
from solvers.certificate import Certificate
from solvers.solution import Judge

ROUNDS = 8
SHARE = 0.2  # of the tolerance, by which a neuron may miss its own conditions
PROGRESS = 0.7  # of the best so far, which a round must come below, or settle neurons; two that do not end the finish
SPARE = 0.01  # by which tau may leave what is known of it, for neurons that were not solved again are known roughly
FEW = 4  # neurons that are not worth a pool of threads
MANY = 32  # neurons of which some are solved first, to learn tau from
SAMPLES = 16, 4  # one of so many, then one of so many: only few are solved at the first tau
FAR = 1.5  # by which factor tau may move at what they say

Item = TypeVar("Item")
Result = TypeVar("Result")


class Finish:
    """The rounds on one layer.

    Parameters
    ----------
    layer : Layer
        Its data.
    price : ndarray, shape (N, M)
        Prices.
    epsilon : float
        Radius of the ball, positive.
    W : ndarray, shape (N, M)
        Weights to begin with.
    tau : float
        First guess at the inverse of the ball's multiplier.
    active : ndarray of bool, shape (M,)
        Neurons that are on somewhere.
    threads : int, optional
        At most; each works on a neuron.
    """

    def __init__(
        self, layer: Layer, price: Array, epsilon: float, W: Array, tau: float, active: Any, threads: int | None = None
    ) -> None:
        self.threads = threads
        self.layer, self.price, self.epsilon, self.tau, self.active = layer, price, epsilon, tau, active
        self.W = W.astype(np.float64)
        self.faces: list[Face | None] = [None] * W.shape[1]
        self.dirty = active.copy()
        self.low, self.high = (0.0, 0.0), (float("inf"), float("inf"))  # tau, and the squared residual there
        self.miss = float("inf")  # the gap or violation of the last round, as the working precision sees it

    def run(self, judge: Judge, pull: Array, L: Array, iteration: int, limit: int) -> tuple[int, Certificate | None]:
        """Go through rounds until the certificate is met or nothing is left to do.

        Parameters
        ----------
        judge : Judge
            Asked once the working precision says that the tolerance is met.
        pull : ndarray, shape (N, M)
            ``XL'`` of the dual to begin with.
        L : ndarray, shape (M, P)
            That dual; in the end it holds the one that goes with ``W``.
        iteration, limit : int
            Iterations so far, and at most.

        Returns
        -------
        int
            Iterations, each round counted as one.
        Certificate or None
            The judge's last word; None if it was not asked.
        """
        certificate, best, fewest, stalled = None, float("inf"), len(self.faces), 0
        for _ in range(ROUNDS):
            if iteration >= limit or not self.dirty.any() or stalled > 1:
                break
            iteration += 1
            which = self.dirty
            if which.sum() >= MANY and all(face is None for face in self.faces):
                which = self._learn_tau(pull, L, judge.tol)
            self._solve_neurons(which, pull, L, judge.tol)
            if all(face is None for face in self.faces):
                break
            self._move_tau()
            pull, sums = self.layer.conditions(self.W, self.faces, self.tau, L)
            miss = self._look(pull, sums, judge.tol)
            self.miss = miss * judge.tol
            unsettled = int(self.dirty.sum())
            stalled = 0 if miss < PROGRESS * best or unsettled < fewest else stalled + 1
            best, fewest = min(best, miss), min(fewest, unsettled)
            if miss <= 1:
                self.layer.dual(self.W, self.tau, L)
                certificate = judge(self.W.astype(L.dtype), L, iteration)
                if certificate.meets(judge.tol):
                    break
        return iteration, certificate

    def _learn_tau(self, pull: Array, L: Array, tol: float) -> Any:
        """Solve some of the neurons, move tau by what they say, and return which are left: fewer are solved twice then.

        The residuals of the iterate, ``tau L``, meet the ball. The share of their squares that is of these neurons is taken
        for the share that they will have at the solution.
        """
        left, squares = self.dirty.copy(), self.layer.squares_of(L)
        for every in SAMPLES:
            some = np.zeros_like(left)
            some[np.flatnonzero(self.dirty)[::every]] = True
            self._solve_neurons(some & left, pull, L, tol)
            left &= ~some
            solved = [face is not None and face.exact for face in self.faces]
            faces = [face for face in self.faces if face is not None and face.exact]
            share = float(squares[solved].sum()) / max(float(squares.sum()), 1e-300)
            moved, slope = share * self.epsilon**2 - sum(face.fixed for face in faces), sum(face.slope for face in faces)
            if moved > 0 and slope > 0:
                self.tau = float(np.clip(np.sqrt(moved / slope), self.tau / FAR, self.tau * FAR))
        return left

    def _solve_neurons(self, which: Any, pull: Array, L: Array, tol: float) -> None:
        """Find the faces of some neurons."""
        allowed = SHARE * tol * self.epsilon / np.sqrt(len(self.faces))

        def solve(m: int) -> tuple[int, Face | None]:
            neuron = self.layer.neuron(m, allowed)
            column = np.ascontiguousarray(pull[:, m], dtype=np.float64)
            return m, neuron.solve(self.tau, self.W[:, m].copy(), L[m], column, self.faces[m], SHARE * tol)

        for m, face in over_threads(solve, np.flatnonzero(which).tolist(), self.threads):
            self.faces[m] = face

    def _move_tau(self) -> None:
        """Set tau so that the faces meet the ball together, and the weights to theirs."""
        faces = [face for face in self.faces if face is not None]
        fixed, slope = sum(face.fixed for face in faces), sum(face.slope for face in faces)
        left, reached = self.epsilon**2 - fixed, fixed + self.tau**2 * slope
        if reached <= self.epsilon**2:  # the residual grows with tau
            self.low = max(self.low, (self.tau, reached))
        else:
            self.high = min(self.high, (self.tau, reached))
        tau = float(np.sqrt(left / slope)) if left > 0 and slope > 0 else 0.0
        # Faces that change with tau may send it to and fro.
        self.tau = tau if self.low[0] * (1 - SPARE) < tau < self.high[0] * (1 + SPARE) else self._between()
        for m, face in enumerate(self.faces):
            if face is not None:
                self.W[:, m] = 0.0
                self.W[face.rows, m] = face.weights(self.tau)

    def _between(self) -> float:
        """Return a tau between two that are known to be too small and too large, where the faces do not tell one.

        Faces that could not be settled stand for a point, which is right at its own tau only, and does not move.
        """
        (low, below), (high, above) = self.low, self.high
        if high == np.inf:
            return 2 * low
        if low == 0:
            return 0.5 * high
        share = (self.epsilon**2 - below) / (above - below) if above > below else 0.5
        return float(np.sqrt(low**2 + min(max(share, 0.1), 0.9) * (high**2 - low**2))) if high > low else 0.5 * low

    def _look(self, pull: Array, sums: Array, tol: float) -> float:
        """Mark the neurons that miss their own conditions; return the layer's miss, in units of the tolerance."""
        ratio, own, objective = np.zeros(len(self.faces)), np.zeros(len(self.faces)), 0.0
        for m, u in enumerate(self.W.T):
            price = self.price[:, m]
            priced = (price > 0) & (price < np.inf)
            ratio[m] = (np.abs(pull[priced, m]) / price[priced]).max(initial=0.0)
            cost = float(np.abs(u[priced]) @ price[priced])
            own[m] = cost + float(u[priced] @ pull[priced, m])  # complementary slackness: 0 at a solution
            objective += cost
        scale = 1 / np.maximum(ratio, 1.0)  # by which a neuron's dual fits its prices
        squares, gain = sums[:, 0] / self.tau, sums[:, 2]  # squares: epsilon / ||L_active|| is tau
        bound = float(scale @ gain) - self.epsilon * float(np.sqrt((scale**2) @ squares / self.tau))
        lost = (1 - scale) * np.abs(gain - squares) + (1 - scale) ** 2 * squares
        turned = [face is None or bool((face.multipliers(self.tau) < 0).any()) for face in self.faces]
        share, allowed = SHARE * tol * objective / len(lost), (SHARE * tol * self.epsilon) ** 2 / len(lost)
        self.dirty = self.active & ((lost > share) | (np.abs(own) > share) | (sums[:, 1] > 4 * allowed) | turned)
        residual, excess = np.sqrt(sums[:, :2].sum(axis=0))
        return float(
            max(
                abs(objective - bound) / (0.8 * tol * max(objective, 1e-300)),
                excess / (0.9 * tol * self.epsilon),
                (residual - self.epsilon) / (0.9 * tol * self.epsilon),
            )
        )


def over_threads(call: Callable[[Item], Result], items: Iterable[Item], most: int | None = None) -> Iterator[Result]:
    """Yield ``call(item)`` in order, from as many threads as BLAS may use, each with a BLAS of one thread.

    What is called depends on its item alone, so the results are the same bytes whatever the number of threads.

    Parameters
    ----------
    call : callable
        Thread-safe.
    items : iterable
        Its arguments.
    most : int, optional
        Threads at most.

    Yields
    ------
    object
        The results.
    """
    items, threads = list(items), blas_threads()
    if threads == 1:
        yield from map(call, items)
        return
    with libraries().limit(limits=1, user_api="blas"):
        if len(items) <= FEW or most == 1:
            yield from map(call, items)
            return
        pool = ThreadPoolExecutor(threads if most is None else min(threads, most))
        try:
            yield from pool.map(call, items)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            give_back()
