"""Tucker-2 of a convolution's kernel: a smaller kernel between a matrix on its inputs and one on its outputs.

Kim, Park, Yoo, Choi, Yang, Shin, "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
Applications" (ICLR 2016); De Lathauwer, De Moor, Vandewalle, "On the Best Rank-1 and Rank-(R1, R2, ..., RN) Approximation
of Higher-Order Tensors" (SIAM Journal on Matrix Analysis and Applications 21, 2000).

    K(t, s, i, j) = sum over r4, r3 of C(r4, r3, i, j) U4(t, r4) U3(s, r3)

in torch's order, outputs first; r3 and r4 are the paper's, whose third and fourth mode are inputs and outputs. HOSVD begins
with the leading left singular vectors of the two unfoldings; HOOI then takes those of the kernel projected on the other
factor, in turn. Each step is the best one for the other factor held fixed, so the error never grows; with orthonormal
factors it is ||K||^2 - ||C||^2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nettrim.baselines import _door
from nettrim.errors import SettingError

Array = NDArray[np.float64]


class Tucker2(NamedTuple):
    """A kernel in Tucker-2 form.

    Attributes
    ----------
    core : numpy.ndarray
        C ``(R4, R3, height, width)``.
    inputs : numpy.ndarray
        U3 ``(S, R3)``, orthonormal columns.
    outputs : numpy.ndarray
        U4 ``(T, R4)``, orthonormal columns.
    errors : tuple of float
        ||K - K_approximate|| / ||K|| after HOSVD and after each sweep of HOOI; the last one is that of these factors.
    """

    core: Array
    inputs: Array
    outputs: Array
    errors: tuple[float, ...]

    def kernel(self) -> Array:
        """Return the kernel that these factors make.

        Returns
        -------
        numpy.ndarray
            ``(T, S, height, width)``.
        """
        return np.einsum("abij,ta,sb->tsij", self.core, self.outputs, self.inputs, optimize=True)

    def absorbed(self) -> tuple[Array, Array | None, Array | None]:
        """Return the factors with those of full rank multiplied into the core, where a square one would only add weights.

        Returns
        -------
        core, inputs, outputs : numpy.ndarray
            As in the attributes; None for a factor that is in the core.
        """
        core, inputs, outputs = self.core, self.inputs, self.outputs
        if inputs.shape[0] == inputs.shape[1]:
            core, inputs = np.einsum("abij,sb->asij", core, inputs), None
        if outputs.shape[0] == outputs.shape[1]:
            core, outputs = np.einsum("abij,ta->tbij", core, outputs), None
        return core, inputs, outputs


def tucker2(kernel: ArrayLike, ranks: tuple[int, int], *, sweeps: int = 100, tol: float = 1e-8) -> Tucker2:
    """Decompose a kernel by HOSVD and HOOI.

    Parameters
    ----------
    kernel : array_like
        K ``(T, S, height, width)``: outputs, inputs, positions.
    ranks : tuple of int
        R3 of the inputs, from 1 to S, and R4 of the outputs, from 1 to T.
    sweeps : int, optional
        Of HOOI at most; 0 leaves HOSVD.
    tol : float, optional
        HOOI ends when a sweep lowers the relative error by no more.

    Returns
    -------
    Tucker2
        The factors.

    Raises
    ------
    SettingError
        If it is no kernel, or has no such ranks, or sweeps or tol is below 0.
    """
    K = np.asarray(kernel, dtype=np.float64)
    if K.ndim != 4 or K.size == 0 or not np.isfinite(K).all():
        raise SettingError(f"a kernel is finite and (outputs, inputs, height, width); got {K.shape}, or NaN or Inf in it")
    if not isinstance(ranks, list | tuple) or len(ranks) != 2:
        raise SettingError(f"ranks must be two, R3 of the inputs and R4 of the outputs; got {ranks!r}")
    r3 = _door.whole("R3, the rank of the inputs,", ranks[0], 1, K.shape[1])
    r4 = _door.whole("R4, the rank of the outputs,", ranks[1], 1, K.shape[0])
    sweeps, tol = _door.whole("sweeps", sweeps, 0), _door.positive("tol", tol, zero=True)
    U3, U4 = _leading(unfolded(K, 1), r3), _leading(unfolded(K, 0), r4)
    core, errors = _core(K, U3, U4), []
    errors.append(_error(K, core, U3, U4))
    for _ in range(sweeps):
        U4 = _leading(unfolded(np.einsum("tsij,sb->tbij", K, U3, optimize=True), 0), r4)
        U3 = _leading(unfolded(np.einsum("tsij,ta->asij", K, U4, optimize=True), 1), r3)
        core = _core(K, U3, U4)
        errors.append(_error(K, core, U3, U4))
        if errors[-2] - errors[-1] <= tol:
            break
    return Tucker2(core, U3, U4, tuple(errors))


def unfolded(kernel: Array, mode: int) -> Array:
    """Return the matrix whose rows are the slices of a mode.

    Parameters
    ----------
    kernel : numpy.ndarray
        A tensor.
    mode : int
        Which of its axes becomes the rows.

    Returns
    -------
    numpy.ndarray
        ``(kernel.shape[mode], all others multiplied)``.
    """
    return np.moveaxis(kernel, mode, 0).reshape(kernel.shape[mode], -1)


def _leading(matrix: Array, rank: int) -> Array:
    """Return the first left singular vectors, orthonormal even where the matrix has fewer columns."""
    return np.linalg.svd(matrix, full_matrices=rank > matrix.shape[1])[0][:, :rank]


def _core(K: Array, U3: Array, U4: Array) -> Array:
    return np.einsum("tsij,ta,sb->abij", K, U4, U3, optimize=True)


def _error(K: Array, core: Array, U3: Array, U4: Array) -> float:
    """Return the relative error from the difference itself: ||K||^2 - ||C||^2 cancels where the error is small."""
    whole = np.linalg.norm(K)
    return float(np.linalg.norm(K - Tucker2(core, U3, U4, ()).kernel()) / whole) if whole else 0.0
