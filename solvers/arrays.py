"""How arrays come in (validated, read-only, never copied without need) and how long ones are walked over in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ProblemError

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Samples a block: 785 inputs in float64 are 0.8 MB, small beside any layer worth blocking and large enough for BLAS.
BLOCK = 128


class LazyMatrix(ABC):
    """Inputs X (N, P) whose columns are made when they are asked for and never held together.

    What ``certify`` reads of an X, and no more: a problem that holds one can be judged, but no backend takes it.

    Attributes
    ----------
    shape : tuple of int
        ``(N, P)``.
    dtype : numpy.dtype
        float32 or float64.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    ndim = 2

    @abstractmethod
    def __getitem__(self, key: Any) -> Array:
        """Return columns, ``X[:, begin:end]`` (N, end - begin), or rows, ``X[mask or indices]`` (n, P); all finite."""

    @abstractmethod
    def max(self) -> float:
        """Return the largest entry."""

    @abstractmethod
    def min(self) -> float:
        """Return the smallest entry."""


def to_array(value: Any, name: str) -> Array:
    """Return ``value`` as a finite floating-point array, without a copy where its dtype may stay.

    Parameters
    ----------
    value : array_like
        NumPy array, nested list, number, or tensor with ``detach`` and ``cpu`` (any device, any float dtype).
    name : str
        What to call it in an error.

    Returns
    -------
    ndarray
        float32 and float64 as they are; half precision as float32; integers and bools as float64.

    Raises
    ------
    ProblemError
        If it is not numeric, or holds NaN or Inf.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        value = value.float() if value.element_size() < 4 and value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iub":
        array = array.astype(np.float64)
    elif array.dtype not in (np.float32, np.float64):
        raise ProblemError(f"{name} must hold real numbers (float16, float32, float64 or integers); got {array.dtype}")
    # A sum is finite unless an entry is not (or the sum overflows): one pass, no temporary; then look closer.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = array.size > 0 and not np.isfinite(array.sum())
    if suspicious:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise ProblemError(f"{name} has {len(bad)} entries that are NaN or Inf, the first at {where}; remove them")
    return array


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of ``array`` that cannot be written through.

    Parameters
    ----------
    array : ndarray
        Any array; it stays as writable as it was.

    Returns
    -------
    ndarray
        The view.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def blocks(length: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield slices that cover ``range(length)`` in order.

    Parameters
    ----------
    length : int
        How many columns there are.
    size : int, optional
        Columns a slice; the last may be shorter.

    Yields
    ------
    slice
        The next block.
    """
    for begin in range(0, length, size):
        yield slice(begin, min(begin + size, length))


def frobenius(arrays: tuple[Array, ...], term: Callable[..., Array], active: Mask | None = None) -> float:
    """Return the Frobenius norm of an elementwise expression of (M, P) arrays, in float64 and in blocks of samples.

    Parameters
    ----------
    arrays : tuple of ndarray, shape (M, P)
        Arguments of ``term``, cast to float64 block by block.
    term : callable
        Takes a block of each array (and of ``active``, where given) and returns the entries to square and add.
    active : ndarray of bool, shape (M, P), optional
        A mask to pass on.

    Returns
    -------
    float
        The norm.
    """
    total = 0.0
    for part in blocks(arrays[0].shape[1]):
        block = [array[:, part].astype(np.float64) for array in arrays]
        entries = term(*block) if active is None else term(*block, active[:, part])
        total += float(np.vdot(entries, entries))
    return float(np.sqrt(total))
