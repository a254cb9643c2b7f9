"""Variants of the iteration of ``admm``, each one change alone, by subclasses and patched constants: the library has none.

Rows of unit norm: Giselsson and Boyd (2017). Residuals: He, Yang and Wang (2000), relative ones Wohlberg (2017). Anderson
acceleration of type II with a safeguard: Walker and Ni (2011), Zhang, O'Donoghue and Boyd (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from solvers import LayerProblem
from solvers.arrays import Array
from solvers.backends import _finish, _iteration, admm
from solvers.backends._balance import FIRST_RHO
from solvers.certificate import Certificate

EVERY = 10  # iterations from one look at the residuals to the next
RIDGE = 1e-8  # of the trace, in the least squares of Anderson's weights


@dataclass(frozen=True)
class Variant:
    """One change: what to patch, by (module, name); the relaxation; whether rows are scaled; where to start from.

    ``alone`` is False where the iteration without the finish is the default's; ``kept`` says where the library has it.
    """

    name: str
    patches: dict[tuple[Any, str], Any] = field(default_factory=dict)
    relaxation: float = admm.RELAXATION
    unit_rows: bool = False
    start: str = ""
    alone: bool = True
    kept: str = ""


@contextmanager
def applied(variant: Variant) -> Iterator[None]:
    """Patch, and undo it. Linear layers go by their samples too: the same iteration, and one class to vary."""
    patches = {(admm, "_linear"): admm._relu, (_finish, "Finish"): CountedFinish} | variant.patches
    before = {(module, name): getattr(module, name) for module, name in patches}
    try:
        for (module, name), value in patches.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def with_unit_rows(problem: LayerProblem) -> LayerProblem:
    """Return the program of ``r_i U_ij``, r_i the norm of row i of X: unit rows, prices over r_i, the same duals and bounds.

    Samples cannot be scaled likewise. The ball is over all pairs alike; over scaled responses it is an ellipsoid, and the
    nearest point of that takes a search for its multiplier where the ball takes one factor.
    """
    r = np.linalg.norm(problem.X.astype(np.float64), axis=1, keepdims=True)
    r[r == 0] = 1.0
    return problem.replace(X=(problem.X / r).astype(problem.X.dtype), penalty=problem.penalty / r)


def inverse_at(G: Array, metric: float, real: Any) -> Array:
    """Return ``(metric G + I)^-1`` from the lower triangle of G."""
    full = np.tril(G) + np.tril(G, -1).T
    return np.linalg.inv(metric * full + np.eye(len(G))).astype(real)


def c0_times(factor: float) -> Any:
    """Return ``graph_inverse`` with another multiple of ``sqrt(max XX')``."""

    def graph_inverse(G: Array, real: Any) -> tuple[Array, float]:
        metric = 1.0 / ((0.3 * factor) ** 2 * float(G.diagonal().max()))
        return inverse_at(G, metric, real), metric

    return graph_inverse


class CountedFinish(_finish.Finish):
    """Counts its rounds."""

    rounds = 0

    def run(self, judge: Any, pull: Array, L: Array, iteration: int, limit: int) -> tuple[int, Certificate | None]:
        """Go through rounds, and count them."""
        after, certificate = super().run(judge, pull, L, iteration, limit)
        CountedFinish.rounds += after - iteration
        return after, certificate


class Constant(admm.Balance):
    """No balance: the first rho stays."""

    def change(self, certificate: Certificate) -> float:
        """Return 1."""
        return 1.0


def rescale(steps: _iteration.OnSamples, on_responses: float, on_weights: float) -> None:
    """Change the penalty parameters of both parts by factors, keeping the multipliers."""
    steps.s1 += (steps.s1 - steps.g) * steps.real(1 / on_responses - 1)
    steps.s2 += (steps.s2 - steps.W) * steps.real(1 / on_weights - 1)
    steps.rho *= on_weights
    if on_responses != on_weights:
        steps.metric *= on_responses / on_weights
        steps.inverse = inverse_at(_iteration.gram(steps.X), steps.metric, steps.real)


class ByResiduals(_iteration.OnSamples):
    """Moves rho by the primal and the dual residual of every tenth step, not by the certificate (He, Yang and Wang)."""

    taken = 0

    def step(self, relaxation: float, change: float) -> None:
        """Take the step, and move rho where it is due; ``change`` is not asked for."""
        old = self.g.copy(), self.W.copy(), self.s1.copy()
        super().step(relaxation, 1.0)
        self.taken += 1
        if self.taken % EVERY == 0:
            p = old[0] + (self.s1 - old[2]) / self.real(relaxation)
            rescale(self, *self.factors(norms(p, old[0], self.g, self.s1), norms(self.q, old[1], self.W, self.s2)))

    def factors(self, on_responses: Array, on_weights: Array) -> tuple[float, float]:
        """Return both factors: double or halve where one residual is ten times the other."""
        primal, dual, _, _ = np.sqrt(self.metric * on_responses**2 + on_weights**2)
        factor = 2.0 if primal > 10 * self.rho * dual else 0.5 if self.rho * dual > 10 * primal else 1.0
        return factor, factor


class ByRelativeResiduals(ByResiduals):
    """Each residual relative to the size of what it is a difference of (Wohlberg)."""

    def factors(self, on_responses: Array, on_weights: Array) -> tuple[float, float]:
        """Return one factor twice."""
        factor = relative(np.sqrt(self.metric * on_responses**2 + on_weights**2))
        return factor, factor


class PartByPart(ByResiduals):
    """Responses and weights each with a penalty parameter of their own, by their own relative residuals."""

    def factors(self, on_responses: Array, on_weights: Array) -> tuple[float, float]:
        """Return two factors."""
        return relative(on_responses), relative(on_weights)


def norms(prox: Array, old: Array, new: Array, state: Array) -> Array:
    """Return the primal residual, the dual one over rho, the size of what is to agree, and of the multipliers over rho."""
    sizes = [np.linalg.norm(a) for a in (prox - new, new - old, prox, new, state - new)]
    return np.array([sizes[0], sizes[1], max(sizes[2:4]), sizes[4]], dtype=float)


def relative(sizes: Array) -> float:
    """Return the root of primal over dual residual, each relative, at most 2 and at least 1/2."""
    primal, dual, size, multipliers = np.maximum(sizes, 1e-30)
    return float(np.clip(np.sqrt(primal / size / (dual / multipliers)), 0.5, 2.0))


class Anderson(_iteration.OnSamples):
    """Extrapolates the state from the last steps, and goes back to the plain step where the fixed-point residual grows.

    The projection onto the graph is linear, so it is extrapolated with the state and costs no product. A change of rho makes
    another map, so the memory begins anew.
    """

    memory = 5

    def begin(self, W: Array, L: Array | None) -> None:
        """Begin without memory."""
        super().begin(W, L)
        self.forget()

    def forget(self) -> None:
        """Begin the memory anew."""
        self.plain: list[list[Array]] = []  # s1, s2, W, g after plain steps
        self.moves: list[Array] = []  # by which those steps moved s, in the metric
        self.residual_norm = np.inf

    def step(self, relaxation: float, change: float) -> None:
        """Take the plain step; then go back, or extrapolate."""
        s1, s2 = self.s1.copy(), self.s2.copy()
        super().step(relaxation, 1.0)
        move = np.append((self.s1 - s1) * np.sqrt(self.metric), self.s2 - s2).astype(np.float64)
        norm = float(np.linalg.norm(move))
        if norm > self.residual_norm:
            self.take(self.plain[-1])
            self.forget()
        else:
            self.residual_norm = norm
            self.moves = [*self.moves[-self.memory :], move]
            self.plain = [*self.plain[-self.memory :], [a.copy() for a in (self.s1, self.s2, self.W, self.g)]]
            F = np.array([[a @ b for a in self.moves] for b in self.moves])
            weights = np.linalg.solve(F + RIDGE * np.trace(F) * np.eye(len(F)), np.ones(len(F)))
            weights = (weights / weights.sum()).astype(self.real)
            if change == 1.0:
                self.take([sum(map(np.multiply, weights, parts)) for parts in zip(*self.plain, strict=True)])
        if change != 1.0:
            rescale(self, change, change)
            self.forget()

    def take(self, state: list[Any]) -> None:
        """Go to a state."""
        for mine, other in zip((self.s1, self.s2, self.W, self.g), state, strict=True):
            mine[:] = other


class LongAnderson(Anderson):
    """The same with a longer memory."""

    memory = 10


SAMPLES, BALANCE = (_iteration, "OnSamples"), (admm, "Balance")
DEFAULT = Variant("default")
VARIANTS = [
    Variant("rows of X of unit norm", unit_rows=True),
    *(Variant(f"c0 x{factor:g}", {(_iteration, "graph_inverse"): c0_times(factor)}) for factor in (0.3, 3.0)),
    Variant("two rhos, by relative residuals", {SAMPLES: PartByPart}),
    Variant("no balance", {BALANCE: Constant}),
    Variant("balance by residuals", {SAMPLES: ByResiduals}),
    Variant("balance by relative residuals", {SAMPLES: ByRelativeResiduals}),
    *(Variant(f"relaxation {relaxation:g}", relaxation=relaxation) for relaxation in (1.0, 1.5, 1.7, 1.95)),
    Variant("Anderson, memory 5", {SAMPLES: Anderson}),
    Variant("Anderson, memory 10, no balance", {SAMPLES: LongAnderson, BALANCE: Constant}),
    *(Variant(f"first rho x{factor:g}", {(_iteration, "FIRST_RHO"): factor * FIRST_RHO}) for factor in (0.3, 3.0)),
    *(Variant(f"first finish at {at}", {(admm, "FIRST_FINISH"): at}, alone=False) for at in (20, 80)),
    Variant("no finish", {(admm, "FIRST_FINISH"): 0, (admm, "FINISH_ROOM"): 10**9}, alone=False),
    Variant("start: trained weights", start="trained weights"),
    Variant("start: answer to half the radius", start="half the radius"),
    Variant("start: answer of the round before", start="round before", kept="by `reweighted`"),
]
