"""What the radius costs: the optimum as a function of epsilon, and of how a layer's neurons share it.

The program is that of Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), whose ball is joint: one epsilon for all of a layer.
That its optimum is convex in epsilon, with slopes from the dual, is the perturbation theory of any convex program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from solvers.arrays import Array
from solvers.certificate import Certificate
from solvers.errors import ProblemError
from solvers.problem import LayerProblem

Rule = Literal["equal", "relative"]
ROUNDING = 1e-12  # by which squares of shares may sum to more than they should


def slope(certificate: Certificate) -> float:
    """Return the slope of the optimum in epsilon, ``-||L_active||_F``: what a wider ball saves.

    In the dual bound ``-<L_active, Y_active> - epsilon ||L_active||_F - <L_inactive, V_inactive>`` the radius has that
    factor, and whether L is feasible does not depend on epsilon. At an optimal L it is the derivative, if there is one, or
    between the two one-sided derivatives elsewhere.

    Parameters
    ----------
    certificate : Certificate
        Of a solution; as near to the derivative as its gap is to 0.

    Returns
    -------
    float
        In units of the objective over those of epsilon; 0 or less.

    Raises
    ------
    ProblemError
        If the certificate has no lower bound over 0 on an objective that is: it was made without a dual.
    """
    if certificate.objective > 0 >= certificate.bound:
        raise ProblemError(
            "this certificate has no dual point, so it proves nothing of the slope; certify with one, or solve"
        )
    return 0.0 - certificate.ball_multiplier


def bound_at(problem: LayerProblem, certificate: Certificate, epsilon: float) -> float:
    """Bound the optimum at another radius from below, from the dual point of a solution at this one.

    The tangent ``bound + (epsilon' - epsilon) slope``; the optimum, convex in epsilon, is nowhere under it. So one solve
    tells what no radius nearby can save.

    Parameters
    ----------
    problem : LayerProblem
        The program that was solved.
    certificate : Certificate
        Of its solution.
    epsilon : float
        The other radius, absolute.

    Returns
    -------
    float
        A lower bound on the optimum of ``problem.replace(epsilon=epsilon)``; never below 0, which always is one.

    Raises
    ------
    ProblemError
        If epsilon is negative or not finite.
    """
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ProblemError(f"epsilon must be a finite number, 0 or more; got {epsilon}")
    return max(0.0, certificate.bound - (epsilon - problem.epsilon) * certificate.ball_multiplier)


def shares(problem: LayerProblem, rule: Rule = "equal") -> Array:
    """Return a radius for each neuron, whose squares sum to ``epsilon^2``.

    Parameters
    ----------
    problem : LayerProblem
        A layer.
    rule : {"equal", "relative"}, optional
        The same for all neurons that are ever active, which on trained layers costs the less by far; or in proportion to
        ``||(y_j)_active||_2``, so that each has the relative radius of the layer. A neuron that is never active gets 0.

    Returns
    -------
    ndarray, shape (M,)
        Absolute radii. All 0 where no neuron is ever active.

    Raises
    ------
    ProblemError
        If the rule is unknown.
    """
    if rule not in ("relative", "equal"):
        raise ProblemError(f"rule must be 'relative' or 'equal'; got {rule!r}")
    on = np.where(problem.active, problem.Y, 0.0).astype(np.float64)
    sizes = np.linalg.norm(on, axis=1) if rule == "relative" else problem.active.any(axis=1)
    weights: Array = np.asarray(sizes, np.float64)
    size = float(np.linalg.norm(weights))
    return problem.epsilon * weights / size if size > 0 else weights


def split(problem: LayerProblem, radii: Sequence[float] | Array) -> list[LayerProblem]:
    """State a layer as one program a neuron, each with its own ball.

    Answers to them, side by side, are feasible for the joint program, whose optimum is therefore at most the sum of theirs;
    it is their sum where each neuron has the radius that the joint optimum gives it, ``||(w_j'X - y_j)_active||_2``. The
    difference for other radii is what splitting costs.

    Parameters
    ----------
    problem : LayerProblem
        A layer.
    radii : array_like, shape (M,)
        Absolute radius of each neuron, as of ``shares``.

    Returns
    -------
    list of LayerProblem
        One for each neuron, M = 1.

    Raises
    ------
    ProblemError
        If there is not one for each neuron, one is negative or not finite, or their squares sum to more than ``epsilon^2``.
    """
    radii = np.asarray(radii, np.float64)
    if radii.shape != (problem.M,) or not (np.isfinite(radii) & (radii >= 0)).all():
        raise ProblemError(f"radii must be {problem.M} finite numbers, 0 or more, one a neuron; got {radii}")
    total = float(np.linalg.norm(radii))
    if total > problem.epsilon * (1 + ROUNDING):
        raise ProblemError(
            f"the squares of the radii must sum to epsilon^2 at most, or the answers may leave the joint ball: epsilon is "
            f"{problem.epsilon:g}, the root of the sum {total:g}"
        )
    wide = problem.penalty.shape[1:] == (problem.M,)
    return [
        problem.replace(
            Y=problem.Y[j : j + 1],
            V=problem.V[j : j + 1],
            active=problem.active[j : j + 1],
            penalty=problem.penalty[:, j : j + 1] if wide else problem.penalty,
            epsilon=float(radii[j]),
        )
        for j in range(problem.M)
    ]
