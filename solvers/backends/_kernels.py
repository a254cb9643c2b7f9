"""What ``admm`` does entry by entry, fused and compiled by numba.

First the passes over (M, P) arrays: with g = W'X, s the Douglas-Rachford state and T the targets (Y where active, V
elsewhere), the reflected point is 2g - s and r = 2g - s - T its offset from the targets. Then the parts of one neuron's
program. No kernel runs its own threads: callers may be joblib workers.
"""

import numpy as np

from solvers.backends import _lapack
from solvers.backends._compiled import compiled

# Reassociation lets the sums vectorize; the order is fixed by the compiled code, so the same call gives the same bytes.
_jit = compiled(_lapack, nogil=True, fastmath={"reassoc", "contract", "nsz"})

COLUMNS = 256  # samples at a time in a Gram matrix: some megabytes, and long enough for BLAS


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


@_jit
def responses_to_dual(g, T, on, tau, sums):  # type: ignore[no-untyped-def]
    """Turn responses W'X into ``L = (W'X - Y) / tau`` where on and 0 elsewhere, in place.

    Writes to ``sums`` (M, 3) each neuron's squared residual where on, squared excess over the ceiling elsewhere, and
    ``-<L_on, Y_on>``.
    """
    for m in range(g.shape[0]):
        inside = 0.0
        above = 0.0
        gain = 0.0
        for p in range(g.shape[1]):
            r = g[m, p] - T[m, p]
            excess = max(r, r * 0)
            inside += float(r) * float(r) if on[m, p] else 0.0
            above += 0.0 if on[m, p] else float(excess) * float(excess)
            gain -= float(r) * float(T[m, p]) if on[m, p] else 0.0
            g[m, p] = r / tau if on[m, p] else r * 0
        sums[m, 0] = inside
        sums[m, 1] = above
        sums[m, 2] = gain / tau


@_jit
def take(A, rows, cols):  # type: ignore[no-untyped-def]
    """Return ``A[rows][:, cols]`` as float64."""
    out = np.empty((rows.shape[0], cols.shape[0]))
    for i in range(rows.shape[0]):
        row = A[rows[i]]
        for j in range(cols.shape[0]):
            out[i, j] = row[cols[j]]
    return out


@_jit
def mirror(K):  # type: ignore[no-untyped-def]
    """Copy the upper triangle of a square matrix to the lower one, and return it."""
    for i in range(K.shape[0]):
        for j in range(i):
            K[i, j] = K[j, i]
    return K


@_jit
def grams(X, rows, on, y):  # type: ignore[no-untyped-def]
    """Return ``AA'`` and ``Ay`` for ``A = X[rows][:, on]``, in float64 and in blocks of the samples ``on`` (unsigned)."""
    n, P = rows.shape[0], on.shape[0]
    H, h, room = np.zeros((n, n)), np.zeros(n), np.empty(n * min(COLUMNS, P))
    for begin in range(0, P, COLUMNS):
        part, target = on[begin : begin + COLUMNS], y[begin : begin + COLUMNS]
        A = room[: n * part.shape[0]].reshape(n, part.shape[0])
        for i in range(n):
            row, total = X[rows[i]], 0.0
            for j in range(part.shape[0]):
                A[i, j] = row[part[j]]
            for j in range(part.shape[0]):
                total += A[i, j] * target[j]
            h[i] += total
        _lapack.add_square(A, 1.0, H)
    return mirror(H), h


@_jit
def cross_grams(X, rows, more, on, y):  # type: ignore[no-untyped-def]
    """Return ``BA'`` and ``By`` for ``A = X[rows][:, on]`` and some rows more, ``B = X[more][:, on]``, as ``grams`` does."""
    out, h, a = np.zeros((more.shape[0], rows.shape[0])), np.zeros(more.shape[0]), np.empty(COLUMNS)
    for begin in range(0, on.shape[0], COLUMNS):
        part, target = on[begin : begin + COLUMNS], y[begin : begin + COLUMNS]
        B = take(X, more, part)
        for i in range(rows.shape[0]):
            row = X[rows[i]]
            for j in range(part.shape[0]):
                a[j] = row[part[j]]
            for k in range(more.shape[0]):
                total = 0.0
                for j in range(part.shape[0]):
                    total += B[k, j] * a[j]
                out[k, i] += total
        for k in range(more.shape[0]):
            for j in range(part.shape[0]):
                h[k] += B[k, j] * target[j]
    return out, h


@_jit
def respond(X, rows, u):  # type: ignore[no-untyped-def]
    """Return ``X_rows'u`` (P,), accumulated in float64; four rows at a time, so that z is written a quarter as often."""
    n, P = rows.shape[0], X.shape[1]
    z = np.zeros(P)
    whole = n - n % 4
    for i in range(0, whole, 4):
        a, b, c, d = u[i], u[i + 1], u[i + 2], u[i + 3]
        A, B, C, D = X[rows[i]], X[rows[i + 1]], X[rows[i + 2]], X[rows[i + 3]]
        for p in range(P):
            z[p] += (a * A[p] + b * B[p]) + (c * C[p] + d * D[p])
    for i in range(whole, n):
        for p in range(P):
            z[p] += u[i] * X[rows[i], p]
    return z


@_jit
def project(X, rows, r):  # type: ignore[no-untyped-def]
    """Return ``X_rows r``, accumulated in float64; four rows at a time, so that r is read a quarter as often."""
    n, P = rows.shape[0], X.shape[1]
    out = np.empty(n)
    whole = n - n % 4
    for i in range(0, whole, 4):
        A, B, C, D = X[rows[i]], X[rows[i + 1]], X[rows[i + 2]], X[rows[i + 3]]
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for p in range(P):
            a += A[p] * r[p]
            b += B[p] * r[p]
            c += C[p] * r[p]
            d += D[p] * r[p]
        out[i], out[i + 1], out[i + 2], out[i + 3] = a, b, c, d
    for i in range(whole, n):
        total = 0.0
        for p in range(P):
            total += X[rows[i], p] * r[p]
        out[i] = total
    return out


@_jit
def offsets(X, rows, u, target, off):  # type: ignore[no-untyped-def]
    """Return ``r = X_rows'u - target`` where not ``off``, 0 elsewhere, and the excess over the target where ``off``."""
    r = respond(X, rows, u)
    above = np.zeros(r.shape[0])
    for p in range(r.shape[0]):
        r[p] -= target[p]
        above[p] = max(r[p], 0.0) if off[p] else 0.0
        r[p] = 0.0 if off[p] else r[p]
    return r, above
