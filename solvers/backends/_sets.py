"""A neuron's quadratic program on working sets, compiled: the steps of ``_reduced`` in one piece each.

A piece holds no interpreter lock, and lasts: threads that came back for the lock after every product waited more than they
computed.
"""

import numpy as np

from solvers.backends import _lapack
from solvers.backends._compiled import compiled

_jit = compiled(_lapack, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # as in ``_kernels``

RIDGE = 1e-12  # relative, so that rows which depend on each other leave a factor


@_jit
def admm_inverse(H, X, r1, r2):  # type: ignore[no-untyped-def]
    """Return the inverse of ``H + r1 I + r2 XX'``, and whether there is one."""
    K = H.copy()
    _lapack.add_square(X, r2, K)
    for i in range(len(K)):
        K[i, i] += r1
    found = _lapack.cholesky(K) and _lapack.invert(K)
    for i in range(len(K)):
        for j in range(i):
            K[i, j] = K[j, i]
    return K, found


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
def active_set(  # type: ignore[no-untyped-def]
    H, h, X, v, price, tau, beyond, held, member, priced, binding, steps
):
    """Solve the equalities of the guessed sets, and correct these by what is violated, until nothing changes.

    Returned are whether that came to an end, in so many steps at most; whether the equations of the ceilings had to be
    added to H (``held`` tells whether they were before); the rows and the ceilings of the last step, with (a, b) and (c, d).
    """
    n, m = X.shape
    u, lam, above = np.empty(n), np.empty(m), np.empty(m)
    square, sides = np.empty(n * n), np.empty((2 + m) * n)
    S, B, ab, cd = np.flatnonzero(member), np.flatnonzero(binding), np.zeros((2, 0)), np.zeros((2, 0))
    for _ in range(steps):
        S, B = np.flatnonzero(member), np.flatnonzero(binding)
        solved, ab, cd = _equalities(H, h, X, v, priced, S, B, held, square, sides)
        if solved:
            u[:], lam[:], above[:] = 0.0, 0.0, -v
            for i in range(len(S)):
                weight = ab[0, i] - tau * ab[1, i]
                u[S[i]] = weight
                for k in range(m):
                    above[k] += weight * X[S[i], k]
            for k in range(len(B)):
                lam[B[k]] = cd[0, k] - tau * cd[1, k]
        worst = 0.0
        for k in range(len(B)):
            worst = max(worst, abs(above[B[k]]))
        if len(B) > 0 and not held and (not solved or worst > beyond):
            held = True  # H alone does not carry the equations: few active samples, or rows that are nearly alike
            continue
        if not solved:
            break
        if _correct_sets(H, h, X, price, tau, beyond, u, lam, above, member, priced, binding) == 0:
            return True, held, S, B, ab, cd
    return False, held, S, B, ab, cd


@_jit
def _equalities(H, h, X, v, priced, S, B, held, square, sides):  # type: ignore[no-untyped-def]
    """Solve ``H u + X_B lambda = h - tau priced, X_B'u = v_B`` on the rows S for u = a - tau b and lambda = c - tau d.

    Returned are whether it could be done, (a, b) and (c, d); ``square`` and ``sides`` are memory to work in.
    """
    n, m = len(S), len(B)
    ab, cd = np.empty((2, n)), np.empty((2, m))
    if n == 0 or m > n:
        return False, ab, cd
    factor, rows = square[: n * n].reshape(n, n), sides[: (2 + m) * n].reshape(2 + m, n)
    trace = 0.0
    for i in range(n):
        row = H[S[i]]
        for j in range(i, n):
            factor[i, j] = row[S[j]]
        trace += factor[i, i]
        row = X[S[i]]
        rows[0, i], rows[1, i] = h[S[i]], priced[S[i]]
        for k in range(m):
            rows[2 + k, i] = row[B[k]]
    if held and m > 0:  # X_B (X_B'u - v_B) is 0 at the solution, so that any multiple of it may be added
        size = 0.0
        for k in range(2, 2 + m):
            for i in range(n):
                size += rows[k, i] * rows[k, i]
        weight = trace / max(size, 1e-300)
        _lapack.add_inner_square(rows[2:], weight, factor)
        for k in range(m):
            for i in range(n):
                rows[0, i] += weight * v[B[k]] * rows[2 + k, i]
    if not _lapack.cholesky(factor):
        return False, ab, cd
    _lapack.solve_half(factor, rows, False)
    ab[:] = rows[:2]
    if m > 0:
        C = np.zeros((m, m))
        _lapack.add_square(rows[2:], 1.0, C)
        for k in range(m):
            C[k, k] *= 1 + RIDGE
            a, b = 0.0, 0.0
            for i in range(n):
                a += ab[0, i] * rows[2 + k, i]
                b += ab[1, i] * rows[2 + k, i]
            cd[0, k], cd[1, k] = a - v[B[k]], b
        if not (_lapack.cholesky(C) and _lapack.solve(C, cd)):
            return False, ab, cd
        for k in range(m):
            for i in range(n):
                ab[0, i] -= cd[0, k] * rows[2 + k, i]
                ab[1, i] -= cd[1, k] * rows[2 + k, i]
    _lapack.solve_half(factor, ab, True)
    return True, ab, cd


@_jit
def _correct_sets(  # type: ignore[no-untyped-def]
    H, h, X, price, tau, beyond, u, lam, above, member, priced, binding
):
    """Correct the sets of an active-set step, in place, and return how many entries changed.

    Out go weights whose sign turned and multipliers below 0; in come weights whose gradient exceeds their price (with the
    sign that lowers the objective) and ceilings that are exceeded.
    """
    changes = 0
    for i in range(len(u)):
        if member[i]:
            if price[i] > 0 and u[i] * priced[i] <= 0:
                member[i] = False
                priced[i] = 0.0
                changes += 1
            continue
        gradient = -h[i]
        for j in range(len(u)):
            gradient += H[i, j] * u[j]
        for k in range(len(lam)):
            gradient += X[i, k] * lam[k]
        if abs(gradient) > tau * price[i] * (1 + 1e-9):
            member[i] = True
            priced[i] = -np.sign(gradient) * price[i]
            changes += 1
    for k in range(len(lam)):
        if binding[k]:
            if lam[k] < 0:
                binding[k] = False
                changes += 1
        elif above[k] > beyond:
            binding[k] = True
            changes += 1
    return changes
