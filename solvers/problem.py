"""The program of one layer, frozen and validated at birth.

Aghasi, Abdi, Nguyen, Romberg, "Net-Trim: Convex Pruning of Deep Neural Networks with Performance Guarantee" (NIPS 2017),
constraint set (S.3)-(S.4) of its supplement; the linear last layer is (S.5)-(S.7).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from solvers import _parts as parts
from solvers._parts import Activation
from solvers.arrays import Array, LazyMatrix, Mask, blocks, frobenius, read_only, to_array
from solvers.errors import ProblemError
from solvers.feasibility import out_of_reach


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """The sparse retraining of one layer as a convex program.

    ::

        minimize    sum_ij  penalty_ij |U_ij|
        subject to  || (U'X - Y)_active ||_F  <= epsilon      (the ball)
                    (U'X)_inactive            <= V_inactive   (the ceiling)

    Arrays are kept as read-only views: nothing is copied unless its dtype must change (half precision becomes float32,
    integers become float64). Tensors with ``detach`` and ``cpu`` methods are accepted, on any device.

    Parameters
    ----------
    X : array_like, shape (N, P)
        Inputs of the layer, one column a sample. A ``solvers.arrays.LazyMatrix`` is kept as it is: the problem can then be
        certified against, but backends refuse it.
    Y : array_like, shape (M, P)
        Responses to keep, one row a neuron; not negative where ``activation`` is ``"relu"``.
    epsilon : float
        Radius of the ball, in the units of Y (absolute: the constructors below take relative ones).
    V : float or array_like, shape (M, P), optional
        Ceiling of the pre-activations where the neuron was off; read on the inactive pairs only.
    active : array_like of bool, shape (M, P), optional
        Omega, the (neuron, sample) pairs whose ReLU is on. Default: ``Y > 0``, or every pair of a linear layer.
    penalty : float or array_like, shape (N, 1) or (N, M), optional
        Price of each weight, at least 0: 1 in the paper, 0 leaves a weight free, ``inf`` forces it to zero.
    activation : {"relu", "linear"}, optional
        What follows the layer; a linear layer is active everywhere.

    Raises
    ------
    ProblemError
        If the arrays do not fit each other, are empty, hold NaN or Inf, or a number is out of its range.
    """

    X: Array
    Y: Array
    epsilon: float
    V: Array = field(default_factory=lambda: np.zeros(()))
    active: Mask = field(default=None)  # type: ignore[arg-type]  # __post_init__ replaces None
    penalty: Array = field(default_factory=lambda: np.ones(()))
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        given: Any = self.X
        X, Y = given if isinstance(given, LazyMatrix) else to_array(given, "X"), to_array(self.Y, "Y")
        for name, array, axes in (("X", X, "(N, P), inputs by samples"), ("Y", Y, "(M, P), neurons by samples")):
            if array.ndim != 2 or 0 in array.shape:
                raise ProblemError(f"{name} must be a matrix {axes}, none of them 0; got shape {array.shape}")
        if X.shape[1] != Y.shape[1]:
            raise ProblemError(
                f"X is {X.shape} and Y is {Y.shape}: their columns are samples and must be as many. Samples in rows? "
                "Pass the transposes, or use LayerProblem.from_activations"
            )
        if self.activation not in ("relu", "linear"):
            raise ProblemError(f"activation must be 'relu' or 'linear'; got {self.activation!r}")
        if self.activation == "relu" and float(Y.min()) < 0:
            raise ProblemError(
                f"Y has a response of {float(Y.min()):g}, and those of a ReLU layer are not negative; "
                "a layer without ReLU is LayerProblem.linear"
            )
        epsilon = float(self.epsilon)
        if not (np.isfinite(epsilon) and not np.signbit(epsilon)):
            raise ProblemError(f"epsilon must be a finite number, 0 or more; got {epsilon}")
        fields = {
            "X": X,
            "Y": Y,
            "epsilon": epsilon,
            "V": parts.spread(self.V, "V", Y.shape),
            "active": parts.omega(self.active, Y, self.activation),
            "penalty": parts.prices(self.penalty, X.shape[0], Y.shape[0]),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, read_only(value) if isinstance(value, np.ndarray) else value)

    @classmethod
    def parallel(cls, X: Any, W: Any, epsilon: float, *, relative: bool = True, penalty: Any = 1.0) -> LayerProblem:
        """State a ReLU layer on its own original inputs (V = 0), as parallel Net-Trim does.

        Parameters
        ----------
        X : array_like, shape (N, P)
            Inputs of the layer.
        W : array_like, shape (N, M)
            Its trained weights, one column a neuron; always feasible for this program.
        epsilon : float
            Radius, as a fraction of ``||Y||_F`` or, with ``relative=False``, in the units of Y.
        relative : bool, optional
            How ``epsilon`` is meant.
        penalty : float or array_like, optional
            As in the class.

        Returns
        -------
        LayerProblem
            With ``Y = max(W'X, 0)`` and ``active = W'X > 0``.

        Raises
        ------
        ProblemError
            As in the class.
        """
        X, Z = parts.responses(X, W)
        np.maximum(Z, 0, out=Z)
        return cls(X, Z, parts.radius(epsilon, Z, Z > 0, relative), penalty=penalty)

    @classmethod
    def linear(cls, X: Any, W: Any, epsilon: float, *, relative: bool = True, penalty: Any = 1.0) -> LayerProblem:
        """State a layer without activation (S.5): the ball alone, over all pairs.

        Parameters
        ----------
        X : array_like, shape (N, P)
            Inputs of the layer.
        W : array_like, shape (N, M)
            Its trained weights.
        epsilon : float
            Radius, as a fraction of ``||Y||_F`` or, with ``relative=False``, in the units of Y.
        relative : bool, optional
            How ``epsilon`` is meant.
        penalty : float or array_like, optional
            As in the class.

        Returns
        -------
        LayerProblem
            With ``Y = W'X`` and every pair active.

        Raises
        ------
        ProblemError
            As in the class.
        """
        X, Y = parts.responses(X, W)
        return cls(
            X,
            Y,
            parts.radius(epsilon, Y, np.broadcast_to(np.True_, Y.shape), relative),
            penalty=penalty,
            activation="linear",
        )

    @classmethod
    def cascade(cls, X_hat: Any, X: Any, W: Any, gamma: float, *, loose: bool = False, penalty: Any = 1.0) -> LayerProblem:
        """State a ReLU layer whose inputs come from layers already trimmed (S.4), (S.22), (S.23).

        The radius is ``epsilon^2 = gamma ||(W'X_hat - Y)_active||_F^2`` and the ceiling is ``W'X_hat``, so that the
        trained weights stay feasible.

        Parameters
        ----------
        X_hat : array_like, shape (N, P)
            Inputs of the layer in the trimmed network.
        X : array_like, shape (N, P)
            Inputs of the layer in the original network, same samples.
        W : array_like, shape (N, M)
            Its trained weights.
        gamma : float
            Inflation rate, at least 1.
        loose : bool, optional
            Whether ceilings below 0 are raised to 0, ``max(W'X_hat, 0)``. A ReLU maps what is below 0 to 0, so what is
            proved of the responses (Theorem 2) stays the same; the set of feasible weights is larger, and the optimum no
            larger. With the ceilings as published, weights cannot even shrink where their neuron is off.
        penalty : float or array_like, optional
            As in the class.

        Returns
        -------
        LayerProblem
            Inputs ``X_hat``; ``Y`` and ``active`` from the original network.

        Raises
        ------
        ProblemError
            If gamma is below 1 or not finite, or as in the class.
        """
        parts.check_gamma(gamma)
        X, Y = parts.responses(X, W)
        X_hat, V = parts.responses(X_hat, W, "X_hat")
        parts.check_same_samples(X_hat, X)
        active = Y > 0
        np.maximum(Y, 0, out=Y)
        epsilon = np.sqrt(gamma) * frobenius((V, Y), lambda v, y, on: (v - y)[on], active)
        if loose:
            np.maximum(V, 0, out=V)
        return cls(X_hat, Y, epsilon, V=V, active=active, penalty=penalty)

    @classmethod
    def cascade_linear(
        cls, X_hat: Any, X: Any, W: Any, gamma: float, *, kappa: float = 1.0, penalty: Any = 1.0
    ) -> LayerProblem:
        """State a layer without activation whose inputs come from layers already trimmed (S.5)-(S.7).

        ::

            minimize    sum_ij  penalty_ij |U_ij|
            subject to  ||U'X_hat - Y||_F <= kappa sqrt(gamma) ||W'X_hat - Y||_F ,   Y = W'X

        The trained weights are feasible where ``kappa^2 gamma >= 1``. A smaller kappa asks for responses nearer than theirs,
        with which the errors of the layers before are made up for in part; there may be no such weights.

        Parameters
        ----------
        X_hat : array_like, shape (N, P)
            Inputs of the layer in the trimmed network.
        X : array_like, shape (N, P)
            Inputs of the layer in the original network, same samples.
        W : array_like, shape (N, M)
            Its trained weights.
        gamma : float
            Inflation rate, at least 1.
        kappa : float, optional
            Risk coefficient, over 0 and at most 1.
        penalty : float or array_like, optional
            As in the class.

        Returns
        -------
        LayerProblem
            Inputs ``X_hat``; ``Y`` from the original network, every pair active.

        Raises
        ------
        ProblemError
            If gamma or kappa is out of its range, if no weights come that near (the least kappa is named), or as in the
            class.
        """
        parts.check_gamma(gamma)
        if not 0 < kappa <= 1:
            raise ProblemError(f"kappa, the risk coefficient, must be over 0 and at most 1; got {kappa}")
        X, Y = parts.responses(X, W)
        X_hat, Z = parts.responses(X_hat, W, "X_hat")
        parts.check_same_samples(X_hat, X)
        widest = float(np.sqrt(gamma)) * frobenius((Z, Y), lambda z, y: z - y)
        problem = cls(X_hat, Y, kappa * widest, penalty=penalty, activation="linear")
        if kappa**2 * gamma >= 1 and not (problem.penalty == np.inf).any():
            return problem
        least = out_of_reach(problem)
        if least is not None:
            needed = np.ceil(least / widest * 1e4) / 1e4 if widest > 0 else np.inf
            way = f"kappa must be at least {needed:.4f}"
            way = way if needed <= 1 else "no kappa up to 1 will do; raise gamma, or price fewer weights inf"
            raise ProblemError(
                f"kappa={kappa:g} asks for responses within {problem.epsilon:.6g} of Y, and no weights on these inputs come "
                f"nearer than {least:.6g}: {way}"
            )
        return problem

    @classmethod
    def from_activations(
        cls,
        inputs: Any,
        weight: Any,
        bias: Any | None = None,
        epsilon: float = 0.1,
        *,
        relative: bool = True,
        activation: Activation = "relu",
        penalize_bias: bool = True,
    ) -> LayerProblem:
        """State a layer in torch's orientation; a bias becomes the last row of W over a row of ones in X.

        Parameters
        ----------
        inputs : array_like, shape (n_samples, n_in)
            Inputs of the layer, one row a sample.
        weight : array_like, shape (n_out, n_in)
            Its trained weights.
        bias : array_like, shape (n_out,), optional
            Its bias.
        epsilon : float, optional
            Radius, as a fraction of ``||Y||_F`` or, with ``relative=False``, in the units of Y.
        relative : bool, optional
            How ``epsilon`` is meant.
        activation : {"relu", "linear"}, optional
            What follows the layer.
        penalize_bias : bool, optional
            Whether the bias is priced like a weight, as the authors do; else it is free (penalty 0).

        Returns
        -------
        LayerProblem
            With N = n_in + 1 where there is a bias, else n_in; M = n_out; P = n_samples.

        Raises
        ------
        ProblemError
            If the three do not fit each other, or as in the class.
        """
        rows, kernel = to_array(inputs, "inputs"), to_array(weight, "weight")
        if rows.ndim != 2 or kernel.ndim != 2 or rows.shape[1] != kernel.shape[1] or 0 in rows.shape:
            raise ProblemError(
                "inputs must be (n_samples, n_in) and weight (n_out, n_in), with the same n_in and at least one sample; "
                f"got {rows.shape} and {kernel.shape}"
            )
        if activation not in ("relu", "linear"):
            raise ProblemError(f"activation must be 'relu' or 'linear'; got {activation!r}")
        state = cls.linear if activation == "linear" else cls.parallel
        if bias is None:
            return state(rows.T, kernel.T, epsilon, relative=relative)
        last = to_array(bias, "bias")
        if last.shape != (kernel.shape[0],):
            raise ProblemError(f"bias must be ({kernel.shape[0]},), one number a row of weight; got {last.shape}")
        X = np.ones((rows.shape[1] + 1, rows.shape[0]), dtype=rows.dtype)
        X[:-1] = rows.T
        penalty = np.ones((len(X), 1))
        penalty[-1] = 1.0 if penalize_bias else 0.0
        W = np.vstack([kernel.T, last])
        return state(X, W, epsilon, relative=relative, penalty=1.0 if penalize_bias else penalty)

    @property
    def N(self) -> int:  # noqa: N802 (the paper's letter)
        """Number of inputs, a bias row counted."""
        return int(self.X.shape[0])

    @property
    def M(self) -> int:  # noqa: N802
        """Number of neurons."""
        return int(self.Y.shape[0])

    @property
    def P(self) -> int:  # noqa: N802
        """Number of samples."""
        return int(self.X.shape[1])

    @cached_property
    def norm(self) -> float:
        """``||Y_active||_F``, in float64: what a relative epsilon is a fraction of."""
        return frobenius((self.Y,), lambda y, on: y[on], self.active)

    @cached_property
    def epsilon_max(self) -> float:
        """The radius from which on U = 0 is optimal: ``||Y_active||_F``, or inf where 0 breaks a ceiling."""
        for part in blocks(self.P):
            if bool(np.any((self.V[:, part] < 0) & ~self.active[:, part])):
                return float("inf")
        return self.norm

    @property
    def violation_unit(self) -> float:
        """What violations are measured against: epsilon; if 0, ``||Y_active||_F``; if 0 too, ``||V_inactive||_F``."""
        return self.epsilon or self.norm or frobenius((self.V,), lambda v, on: np.where(on, 0.0, v), self.active)

    def replace(self, **changes: Any) -> LayerProblem:
        """Return the same problem with some fields changed, validated anew.

        Parameters
        ----------
        **changes
            Fields of the class by name.

        Returns
        -------
        LayerProblem
            A new problem; this one is unchanged.

        Raises
        ------
        ProblemError
            As in the class.
        """
        return dataclasses.replace(self, **changes)

    def restricted(self, mask: Any) -> LayerProblem:
        """Return the program on a fixed support: weights outside the mask are priced inf, hence zero.

        Parameters
        ----------
        mask : array_like of bool, shape (N, M)
            True where a weight may differ from zero.

        Returns
        -------
        LayerProblem
            A new problem; this one is unchanged.

        Raises
        ------
        ProblemError
            If the mask is not a bool matrix (N, M).
        """
        keep = np.asarray(mask)
        if keep.dtype != bool or keep.shape != (self.N, self.M):
            raise ProblemError(f"mask must be bool of shape {(self.N, self.M)}; got {keep.dtype} of shape {keep.shape}")
        return self.replace(penalty=np.where(keep, self.penalty, np.inf))
