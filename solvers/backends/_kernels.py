"""The elementwise passes of ``admm`` over its (M, P) arrays, fused and compiled by numba.

With g = W'X, s the Douglas-Rachford state and T the targets (Y where active, V elsewhere), the reflected point is 2g - s and
r = 2g - s - T its offset from the targets. No kernel runs its own threads: callers may be joblib workers.
"""

import numba
import numpy as np

# Reassociation lets the sums vectorize; the order is fixed by the compiled code, so the same call gives the same bytes.
_jit = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_jit
def ball_squares(g, s, T, on, squares):  # type: ignore[no-untyped-def]
    """Write ``||(2g - s - T)_on||^2`` of each neuron to ``squares`` (M,), in float64."""
    for m in range(g.shape[0]):
        total = 0.0
        for p in range(g.shape[1]):
            r = g[m, p] + g[m, p] - s[m, p] - T[m, p]
            total += float(r) * float(r) if on[m, p] else 0.0
        squares[m] = total


@_jit
def step(g, s, T, on, shrink, relaxation):  # type: ignore[no-untyped-def]
    """Set ``s += relaxation (p - g)`` and ``g = s - g``, where p is the projection of 2g - s on ball and ceiling."""
    for m in range(g.shape[0]):
        for p in range(g.shape[1]):
            old = g[m, p]
            r = old + old - s[m, p] - T[m, p]
            kept = shrink * r if on[m, p] else min(r, r * 0)
            new = s[m, p] + relaxation * (kept + T[m, p] - old)
            s[m, p] = new
            g[m, p] = new - old


@_jit
def multipliers(g, s, T, on, shrink, scale):  # type: ignore[no-untyped-def]
    """Set ``g = scale (2g - s - p)``: in the normal cone of ball and ceiling at p, so a dual guess of the right signs."""
    for m in range(g.shape[0]):
        for p in range(g.shape[1]):
            r = g[m, p] + g[m, p] - s[m, p] - T[m, p]
            g[m, p] = scale * (r - shrink * r if on[m, p] else max(r, r * 0))


def warm_up() -> None:
    """Compile, or load from the cache, every kernel for both dtypes."""
    for dtype in (np.float32, np.float64):
        g, s = np.zeros((1, 1), dtype), np.zeros((1, 1), dtype)
        T, on = np.zeros((1, 1), dtype), np.ones((1, 1), bool)
        T.flags.writeable = on.flags.writeable = False  # as the problem's views are
        ball_squares(g, s, T, on, np.zeros(1))
        step(g, s, T, on, dtype(1), dtype(1))
        multipliers(g, s, T, on, dtype(1), dtype(1))
