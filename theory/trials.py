"""Random trials of Theorem 3: sparse weights, inputs drawn sample by sample, and how many of them it takes.

What a trial draws depends on its key alone, so that trials can be run anywhere, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from solvers.arrays import Array, to_array
from solvers.errors import ProblemError
from solvers.problem import LayerProblem
from theory.ensembles import Ensemble
from theory.recovery import least_samples


def draw_trial(draw: Ensemble, N: int, s: int, P: int, key: Sequence[int]) -> tuple[Array, Array]:
    """Draw the inputs and the weights of a trial.

    Parameters
    ----------
    draw : callable
        ``(rng, N, P) -> X``, as in ``theory.ensembles``.
    N, s, P : int
        Inputs, weights other than 0, samples.
    key : sequence of int
        Seed of the trial: numbers of 0 or more.

    Returns
    -------
    X : ndarray, shape (N, P)
        Inputs, whose first columns are the same for every P.
    w : ndarray, shape (N,)
        s weights, standard normal, at places that are as likely as any others; the others are 0.

    Raises
    ------
    ProblemError
        If s is not between 1 and N.
    """
    if not 1 <= s <= N:
        raise ProblemError(f"s weights of N are other than 0, 1 <= s <= N; got s={s}, N={N}")
    rng, w = np.random.default_rng([*key, 0]), np.zeros(N)
    w[rng.choice(N, s, replace=False)] = rng.standard_normal(s)
    return draw(np.random.default_rng([*key, 1]), N, P), w


def recovery_trial(draw: Ensemble, N: int, s: int, most: int, key: Sequence[int]) -> float:
    """Return the least number of samples from which on the weights of a trial are recovered.

    The share of trials that return P or less estimates the probability of recovery from P samples, for every P at once.

    Parameters
    ----------
    draw : callable
        ``(rng, N, P) -> X``, as in ``theory.ensembles``.
    N, s : int
        Inputs, and weights other than 0.
    most : int
        Samples at which to give up.
    key : sequence of int
        Seed of the trial: numbers of 0 or more.

    Returns
    -------
    float
        As ``least_samples``: inf where ``most`` samples are not enough.

    Raises
    ------
    ProblemError
        If s is not between 1 and N.
    """
    for P in (math.ceil(most / 4), most):  # most trials end early, and drawing takes time too
        found = least_samples(*draw_trial(draw, N, s, P, key))
        if found < math.inf:
            break
    return found


def noisy_problem(X: Any, w: Any, epsilon: float, rng: np.random.Generator) -> LayerProblem:
    """State the program of w behind noise of the size of the radius, so that w is feasible with nothing to spare.

    ``y_p = w'x_p + z_p`` where ``w'x_p > 0``, z in a random direction with ``||z|| = epsilon``. The active pairs are w's.
    Responses of a ReLU are not negative: a z_p that would make y_p so is taken with the other sign, which keeps the norm.

    Parameters
    ----------
    X : array_like, shape (N, P)
        Inputs.
    w : array_like, shape (N,)
        Weights of one neuron.
    epsilon : float
        Size of the noise and radius, as a fraction of the norm of the responses without it.
    rng : numpy.random.Generator
        Where the direction comes from.

    Returns
    -------
    LayerProblem
        The program of one neuron, its radius in the units of Y.

    Raises
    ------
    ProblemError
        If the neuron is never on, or as in ``LayerProblem``.
    """
    clean = LayerProblem.parallel(X, to_array(w, "w")[:, None], epsilon)
    if not clean.active.any():
        raise ProblemError("w'x is positive at no sample: there are no responses to put noise on")
    z: Array = np.where(clean.active, rng.standard_normal(clean.Y.shape), 0.0)
    z *= clean.epsilon / np.linalg.norm(z)
    return clean.replace(Y=clean.Y + np.where(clean.Y + z < 0, -z, z))
