"""SciPy's LAPACK without the interpreter lock, which ``scipy.linalg.lapack`` holds: neurons are solved in threads.

The functions are those that SciPy exports to Cython, called through ctypes, which lets the lock go. Matrices are
C-contiguous float64 and right-hand sides are rows: to LAPACK, which reads columns, both are what it expects.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from scipy.linalg import cython_lapack

from solvers.arrays import Array


def _function(name: str, arguments: int) -> Any:
    """Return an exported function; every argument of LAPACK's is a pointer."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = (
        ctypes.c_void_p,
        [ctypes.py_object, ctypes.c_char_p],
    )
    capsule = cython_lapack.__pyx_capi__[name]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


_dpotrf, _dpotri = _function("dpotrf", 5), _function("dpotri", 5)
_dtrtrs, _dpotrs = _function("dtrtrs", 10), _function("dpotrs", 8)
_LOWER, _PLAIN, _TRANSPOSED = (ctypes.c_char(c) for c in (b"L", b"N", b"T"))


def cholesky(A: Array) -> bool:
    """Factor a symmetric matrix in place, ``A = LL'``, and tell whether it is positive definite.

    Parameters
    ----------
    A : ndarray, shape (n, n)
        Left with L' in its upper triangle.

    Returns
    -------
    bool
        False where no factor exists; A is spoilt then.
    """
    return _call(_dpotrf, [_LOWER], A, [])


def invert(factor: Array) -> bool:
    """Replace a factor of ``cholesky`` by the upper triangle of the inverse.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        Changed in place.

    Returns
    -------
    bool
        False where the factor is singular.
    """
    return _call(_dpotri, [_LOWER], factor, [])


def solve(factor: Array, rows: Array) -> bool:
    """Replace each row b by ``(LL')^-1 b``.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        Of ``cholesky``.
    rows : ndarray, shape (k, n)
        Changed in place.

    Returns
    -------
    bool
        Whether LAPACK took it.
    """
    return _call(_dpotrs, [_LOWER], factor, [rows])


def solve_half(factor: Array, rows: Array, *, transposed: bool) -> bool:
    """Replace each row b by ``L^-1 b``, or by ``L'^-1 b``.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        Of ``cholesky``.
    rows : ndarray, shape (k, n)
        Changed in place.
    transposed : bool
        Which of the two.

    Returns
    -------
    bool
        False where the factor is singular.
    """
    return _call(_dtrtrs, [_LOWER, _TRANSPOSED if transposed else _PLAIN, _PLAIN], factor, [rows])


def _call(function: Any, flags: list[Any], A: Array, rows: list[Array]) -> bool:
    for array in (A, *rows):
        if array.dtype != np.float64 or not array.flags.c_contiguous or not array.flags.writeable:
            raise TypeError("LAPACK works in place on C-contiguous float64 arrays")
    if len(A) == 0:
        return True
    # Eight bytes serve a LAPACK of four-byte integers too, which reads and writes the lower half (little-endian).
    n, info = ctypes.c_int64(len(A)), ctypes.c_int64(0)
    sizes = [n, *(ctypes.c_int64(len(B)) for B in rows)]
    arguments: list[Any] = [ctypes.byref(value) for value in (*flags, *sizes)]
    for array in (A, *rows):
        arguments += [array.ctypes.data, ctypes.byref(n)]
    function(*arguments, ctypes.byref(info))
    return info.value == 0
