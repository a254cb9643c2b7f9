"""SciPy's BLAS and LAPACK for compiled code: the parts of a neuron's program then run for long without the interpreter lock.

The functions are those that SciPy exports to Cython. Their addresses differ from process to process, so that compiled code,
which is kept on disk, refers to them by names, which are told to LLVM here. Matrices are C-contiguous float64 and right-hand
sides are rows: to LAPACK, which reads columns, both are what it expects.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import types
from numba.core import cgutils, codegen
from numba.core.cgutils import ir
from numba.core.errors import TypingError
from numba.extending import intrinsic
from scipy.linalg import cython_blas, cython_lapack

from solvers.backends._compiled import compiled

_jit = compiled(nogil=True)

# Numbers go by pointers to eight bytes. The lower half serves a LAPACK of four-byte integers, the lowest byte is the letter
# of a flag (little-endian).
LOWER, LEFT, TRANSPOSED, PLAIN = (ord(letter) for letter in "LLTN")


def _routine(module: Any, name: str, *, tells: bool = False) -> Any:
    """Return a routine for compiled code; it takes numbers and arrays, and gives LAPACK's ``info`` where there is one."""
    symbol = f"nettrim_{name}"
    codegen.ll.add_symbol(symbol, _address(module.__pyx_capi__[name]))

    @intrinsic  # type: ignore[untyped-decorator]  # numba is not typed
    def call(context: Any, *arguments: Any) -> Any:
        for kind in arguments:
            if isinstance(kind, types.Array):
                if kind.dtype != types.float64 or kind.layout != "C" or not kind.mutable:
                    raise TypingError(f"{name} works in place on C-contiguous float64 arrays; got {kind}")
            elif kind not in (types.float64, types.int64) and not isinstance(kind, types.IntegerLiteral):
                raise TypingError(f"{name} takes int64, float64 and arrays; got {kind}")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds, pointers = signature.args[0], []
            for k, kind in enumerate(kinds):
                value = builder.extract_value(values[0], k)
                if isinstance(kind, types.Array):
                    pointer = context.make_array(kind)(context, builder, value).data
                else:
                    to = types.float64 if kind == types.float64 else types.int64
                    pointer = cgutils.alloca_once_value(builder, context.cast(builder, value, kind, to))
                pointers.append(builder.bitcast(pointer, cgutils.voidptr_t))
            info = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
            pointers += [builder.bitcast(info, cgutils.voidptr_t)] if tells else []
            shape = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] * len(pointers))
            builder.call(cgutils.get_or_insert_function(builder.module, shape, symbol), pointers)
            return builder.load(info)

        return types.int64(types.BaseTuple.from_types(arguments)), generate

    return call


def _address(capsule: Any) -> int:
    """Return where an exported function is."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = (
        ctypes.c_void_p,
        [ctypes.py_object, ctypes.c_char_p],
    )
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))


_dpotrf, _dpotri = _routine(cython_lapack, "dpotrf", tells=True), _routine(cython_lapack, "dpotri", tells=True)
_dpotrs = _routine(cython_lapack, "dpotrs", tells=True)
_dtrsm, _dsyrk = _routine(cython_blas, "dtrsm"), _routine(cython_blas, "dsyrk")


@_jit
def cholesky(A):  # type: ignore[no-untyped-def]
    """Factor a symmetric matrix in place, ``A = LL'``, and tell whether it is positive definite.

    The upper triangle is read, and left with L'; where no factor exists it is spoilt.
    """
    n = len(A)
    return n == 0 or _dpotrf(LOWER, n, A, n) == 0


@_jit
def invert(factor):  # type: ignore[no-untyped-def]
    """Replace a factor of ``cholesky`` by the upper triangle of the inverse, and tell whether there is one."""
    n = len(factor)
    return n == 0 or _dpotri(LOWER, n, factor, n) == 0


@_jit
def solve(factor, rows):  # type: ignore[no-untyped-def]
    """Replace each row b by ``(LL')^-1 b``, and tell whether LAPACK took it."""
    n = len(factor)
    return n == 0 or _dpotrs(LOWER, n, len(rows), factor, n, rows, n) == 0


@_jit
def solve_half(factor, rows, transposed):  # type: ignore[no-untyped-def]
    """Replace each row b by ``L^-1 b``, or by ``L'^-1 b``."""
    n = len(factor)
    if n > 0 and len(rows) > 0:
        _dtrsm(LEFT, LOWER, TRANSPOSED if transposed else PLAIN, PLAIN, n, len(rows), 1.0, factor, n, rows, n)


@_jit
def add_square(A, weight, C):  # type: ignore[no-untyped-def]
    """Add ``weight AA'`` to the upper triangle of C."""
    n, k = A.shape
    if n > 0 and k > 0:
        _dsyrk(LOWER, TRANSPOSED, n, k, weight, A, k, 1.0, C, n)


@_jit
def add_inner_square(A, weight, C):  # type: ignore[no-untyped-def]
    """Add ``weight A'A`` to the upper triangle of C."""
    k, n = A.shape
    if n > 0 and k > 0:
        _dsyrk(LOWER, PLAIN, n, k, weight, A, n, 1.0, C, n)
