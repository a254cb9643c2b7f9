"""What ``admm`` does entry by entry, fused and compiled by numba.

First the passes over (M, P) arrays: with g = W'X, s the Douglas-Rachford state and T the targets (Y where active, V
elsewhere), the reflected point is 2g - s and r = 2g - s - T its offset from the targets. Then the parts of one neuron's
program. No kernel runs its own threads: callers may be joblib workers.
"""

import numpy as np

from solvers.backends._compiled import compiled

# Reassociation lets the sums vectorize; the order is fixed by the compiled code, so the same call gives the same bytes.
_jit = compiled(nogil=True, fastmath={"reassoc", "contract", "nsz"})


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
        for j in range(cols.shape[0]):
            out[i, j] = A[rows[i], cols[j]]
    return out


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
def project_rows(X, rows, cols, r):  # type: ignore[no-untyped-def]
    """Return ``X[rows][:, cols] r``, accumulated in float64."""
    out = np.empty(rows.shape[0])
    for i in range(rows.shape[0]):
        total = 0.0
        for j in range(cols.shape[0]):
            total += X[rows[i], cols[j]] * r[j]
        out[i] = total
    return out


@_jit
def mirror(K):  # type: ignore[no-untyped-def]
    """Copy the upper triangle of a square matrix to the lower one, and return it."""
    for i in range(K.shape[0]):
        for j in range(i):
            K[i, j] = K[j, i]
    return K


@_jit
def admm_steps(K, h, X, thresholds, v, z1, y1, z2, y2, r1, r2, relaxation, steps):  # type: ignore[no-untyped-def]
    """Take ADMM steps, in place, for ``1/2 u'Hu - h'u + prices |z1|``, ``z1 = u``, ``z2 = X'u <= v``.

    K is the inverse of ``H + r1 I + r2 XX'``; y1, y2 are the scaled multipliers.
    """
    n, m = X.shape
    u, side, z = np.empty(n), np.empty(n), np.empty(m)
    for _ in range(steps):
        for k in range(m):
            z[k] = r2 * (z2[k] - y2[k])
        for i in range(n):
            total = h[i] + r1 * (z1[i] - y1[i])
            for k in range(m):
                total += X[i, k] * z[k]
            side[i] = total
        z[:] = 0.0
        for i in range(n):
            total = 0.0
            for j in range(n):
                total += K[i, j] * side[j]
            u[i] = total
            for k in range(m):
                z[k] += X[i, k] * total
        for i in range(n):
            moved = relaxation * u[i] + (1 - relaxation) * z1[i] + y1[i]
            z1[i] = np.sign(moved) * max(abs(moved) - thresholds[i], 0.0)
            y1[i] = moved - z1[i]
        for k in range(m):
            moved = relaxation * z[k] + (1 - relaxation) * z2[k] + y2[k]
            z2[k] = min(moved, v[k])
            y2[k] = moved - z2[k]


@_jit
def correct_sets(  # type: ignore[no-untyped-def]
    member, priced, binding, u, lam, gradient, above, price, tau, beyond
):
    """Correct the sets of an active-set step, in place, and return how many entries changed.

    Out go weights whose sign turned and multipliers below 0; in come weights whose gradient exceeds their price (with the
    sign that lowers the objective) and ceilings that are exceeded.
    """
    changes = 0
    for i in range(u.shape[0]):
        if member[i]:
            if price[i] > 0 and u[i] * priced[i] <= 0:
                member[i] = False
                priced[i] = 0.0
                changes += 1
        elif abs(gradient[i]) > tau * price[i] * (1 + 1e-9):
            member[i] = True
            priced[i] = -np.sign(gradient[i]) * price[i]
            changes += 1
    for k in range(lam.shape[0]):
        if binding[k]:
            if lam[k] < 0:
                binding[k] = False
                changes += 1
        elif above[k] > beyond:
            binding[k] = True
            changes += 1
    return changes
