"""How far behind ``admm`` are Lasso solvers on a linear layer, at equal certified accuracy?

The first layer of LeNet-300-100, bias included, read as a linear one: all pairs active, one ball around all neurons. Its
program is solved to 1e-8 first; the multiplier tau that this gives the ball splits it into one Lasso a neuron,
``min_u 1/2 ||X'u - y||^2 + tau ||u||_1``, and tau is a gift to the Lasso solvers: without it they would have to search.

Further gifts: inputs that are always 0 are left out; the Gram matrix, or a QR factorization that makes 5,000 samples as
few as the inputs, is computed once for the layer; the tolerance is each contender's loosest, in halvings from 1e-3, whose
answer is certified, and the tries that fail are not counted. skglm (Bertrand et al. 2022) goes four ways: its Lasso as it
comes, its AndersonCD on the Gram matrix and on the QR factor, its GramCD on the QR factor; the ratios are given for the
Lasso as it comes and for the fastest. scikit-learn's Lasso and LARS on the Gram matrix stand beside them.

Certified: the columns put together are a solution of the neurons' program, dual ``(W'X - Y) / tau``, judged by ``certify``
on the data as given. Not all neurons are run unless ``--all`` says so: evenly spread ones, on their own part of the
layer's program (the radius that its solution leaves them, hence the same tau), and their time is scaled to all. Clock:
medians of the runs, one run for a contender over ``--slow`` seconds; compilation, on a first neuron, apart. One thread for
everybody: set OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and NUMBA_NUM_THREADS to 1.

    pip install -c constraints.txt -e '.[bench]'
    python -m benchmarks.linear_vs_skglm --data mnist
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_layers import layer_problem, network
from benchmarks.setting import setting
from nettrim.data import load
from solvers import LayerProblem, Solution, certify, solve
from solvers.backends import admm

Array = NDArray[np.float64]
Column = Callable[[int], Array]  # the weights of a neuron, by its place among those that are run
LADDER = [1e-3 / 2**k for k in range(12)]


def linear_layer(data: str, n_samples: int, epsilon: float) -> LayerProblem:
    """State the trained first layer on real images as a layer without activation."""
    images = load(data)
    model = network("lenet300", images)
    relu = layer_problem(model, "lenet300-1", images, n_samples, epsilon)
    layer = model.get_submodule("1")
    W = np.vstack([layer.weight.detach().numpy().T, layer.bias.detach().numpy()])
    return LayerProblem.linear(relu.X, W, epsilon)


def multiplier(problem: LayerProblem, solution: Solution) -> float:
    """Return tau: the solution of the layer's program solves each neuron's Lasso at this price."""
    return problem.epsilon / solution.certificate.ball_multiplier


def part(problem: LayerProblem, solution: Solution, neurons: NDArray[np.intp]) -> LayerProblem:
    """State the program of some neurons of a linear layer, with the radius that its solution leaves them: tau stays."""
    residual = solution.W[:, neurons].T.astype(np.float64) @ problem.X - problem.Y[neurons]
    return LayerProblem(problem.X, problem.Y[neurons], float(np.linalg.norm(residual)), activation="linear")


class Shared(NamedTuple):
    """What is computed once for all neurons: X (P, n) of the inputs that are not always 0, targets, and their reductions."""

    X: Array  # (P, n), Fortran order
    Y: Array  # (m, P)
    tau: float
    G: Array  # X'X, (n, n)
    C: Array  # YX, (m, n)
    R: Array  # of X = QR, (n, n), Fortran order
    D: Array  # YQ, (m, n)
    seconds: dict[str, float]  # of "gram" and "qr"


def share(problem: LayerProblem, tau: float) -> Shared:
    """Reduce the samples to a Gram matrix and to a QR factor, in float64."""
    live = problem.X.any(axis=1)
    X, Y = np.asfortranarray(problem.X[live].T, dtype=np.float64), problem.Y.astype(np.float64)
    begin = time.perf_counter()
    G, C = X.T @ X, Y @ X
    gram = time.perf_counter() - begin
    begin = time.perf_counter()
    Q, R = np.linalg.qr(X)
    D = Y @ Q
    return Shared(X, Y, tau, G, C, np.asfortranarray(R), D, {"gram": gram, "qr": time.perf_counter() - begin})


def skglm_lasso(at: Shared, tol: float) -> Column:
    from skglm import Lasso

    P = len(at.X)
    lasso = Lasso(alpha=at.tau / P, fit_intercept=False, tol=tol * at.tau / P)
    return lambda k: lasso.fit(at.X, at.Y[k]).coef_


def skglm_gram(at: Shared, tol: float) -> Column:
    from skglm.datafits import QuadraticHessian
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD

    P, n = at.X.shape
    G, C = at.G / P, at.C / P
    solver = AndersonCD(tol=tol * at.tau / P, fit_intercept=False)
    fit, price = QuadraticHessian(), L1(at.tau / P)
    return lambda k: solver.solve(G, -C[k], fit, price, np.zeros(n), np.zeros(n))[0]


def skglm_qr(at: Shared, tol: float) -> Column:
    from skglm.datafits import Quadratic
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD

    n = len(at.R)
    solver = AndersonCD(tol=tol * at.tau / n, fit_intercept=False)
    fit, price = Quadratic(), L1(at.tau / n)
    return lambda k: solver.solve(at.R, at.D[k], fit, price)[0]


def skglm_gram_cd(at: Shared, tol: float) -> Column:
    """Return GramCD on the QR factor: it computes the Gram matrix anew for every neuron, which costs less from there."""
    from skglm.penalties import L1
    from skglm.solvers import GramCD

    n = len(at.R)
    solver = GramCD(tol=tol * at.tau / n, fit_intercept=False, max_iter=10_000)
    price = L1(at.tau / n)
    return lambda k: solver.solve(at.R, at.D[k], None, price)[0]


def sklearn_lasso(at: Shared, tol: float) -> Column:
    """Return scikit-learn's Lasso on the Gram matrix; its tolerance is a duality gap over ``||y||^2``."""
    from sklearn.linear_model import Lasso

    lasso = Lasso(alpha=at.tau / len(at.X), fit_intercept=False, precompute=at.G, tol=1e-2 * tol, max_iter=10**6)
    return lambda k: lasso.fit(at.X, at.Y[k], check_input=False).coef_


def sklearn_lars(at: Shared, tol: float) -> Column:
    """Return scikit-learn's LARS on the Gram matrix, which is exact: it follows the path down to tau."""
    from sklearn.linear_model import lars_path_gram

    P = len(at.X)
    return lambda k: lars_path_gram(
        at.C[k], at.G, n_samples=P, method="lasso", alpha_min=at.tau / P, max_iter=10**6, return_path=False
    )[2]


CONTENDERS: dict[str, tuple[Callable[[Shared, float], Column], str | None]] = {
    "skglm, AndersonCD on Gram": (skglm_gram, "gram"),
    "skglm, AndersonCD on QR": (skglm_qr, "qr"),
    "skglm, GramCD on QR": (skglm_gram_cd, "qr"),
    "skglm, Lasso": (skglm_lasso, None),
    "scikit-learn, Lasso on Gram": (sklearn_lasso, "gram"),
    "scikit-learn, LARS on Gram": (sklearn_lars, "gram"),
}


def measure(
    name: str, problem: LayerProblem, at: Shared, n_neurons: int, tol: float, repeats: int, slow: float
) -> dict[str, Any]:
    """Return the row of a Lasso solver at its loosest tolerance that is certified."""
    make, reduction = CONTENDERS[name]
    begin = time.perf_counter()
    make(at, LADDER[0])(0)
    warm_up = time.perf_counter() - begin
    once = at.seconds[reduction] if reduction else 0.0
    live = problem.X.any(axis=1)
    seconds: list[float] = []
    for own in LADDER:
        solution_of = make(at, own)
        W = np.zeros((problem.N, problem.M))
        begin = time.perf_counter()
        columns = [solution_of(k) for k in range(problem.M)]
        seconds = [time.perf_counter() - begin]
        W[live] = np.stack(columns, axis=1)
        dual = (W.T @ problem.X - problem.Y) / at.tau
        certificate = certify(problem, W, dual)
        if certificate.meets(tol):
            break
    while certificate.meets(tol) and len(seconds) < repeats and seconds[0] <= slow:
        begin = time.perf_counter()
        for k in range(problem.M):
            solution_of(k)
        seconds.append(time.perf_counter() - begin)
    each = statistics.median(seconds) / problem.M
    return {
        "contender": name,
        "status": "SOLVED" if certificate.meets(tol) else "UNMET",
        "own_tolerance": own,
        "warm_up": warm_up,
        "seconds": seconds,
        "once": once,
        "each": each,
        "median": once + each * n_neurons,
        "neurons_run": problem.M,
        "objective": certificate.objective,
        "gap": certificate.gap,
        "violation": certificate.violation,
    }


def ours(problem: LayerProblem, tol: float, repeats: int) -> dict[str, Any]:
    """Return the row of ``admm`` on the whole layer."""
    begin = time.perf_counter()
    admm.warm_up()
    warm_up = time.perf_counter() - begin
    runs = [solve(problem, tol=tol) for _ in range(repeats)]
    c = runs[-1].certificate
    median = statistics.median(run.seconds for run in runs)
    return {
        "contender": "admm",
        "status": runs[-1].status.name,
        "warm_up": warm_up,
        "seconds": [run.seconds for run in runs],
        "each": median / problem.M,
        "median": median,
        "neurons_run": problem.M,
        "objective": c.objective,
        "gap": c.gap,
        "violation": c.violation,
    }


def show(row: dict[str, Any]) -> None:
    runs = f"{len(row['seconds'])} run{'s' if len(row['seconds']) > 1 else ''} of {row['neurons_run']} neurons"
    own = f", its own {row['own_tolerance']:.1e}" if "own_tolerance" in row else ""
    print(
        f"{row['contender']:28s} {row['status']:6s} {row['median']:8.2f} s, {1e3 * row['each']:7.1f} ms a neuron, "
        f"gap {row['gap']:.1e}, violation {row['violation']:.1e} ({runs}{own})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--neurons", type=int, default=30, help="neurons that the Lasso solvers run, evenly spread")
    parser.add_argument("--all", action="store_true", help="have them run all neurons")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow", type=float, default=60.0, help="seconds from which on a contender runs once")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/linear_vs_skglm.json"))
    args = parser.parse_args()
    if find_spec("skglm") is None:
        parser.error("needs skglm: pip install -c constraints.txt -e '.[bench]'")

    problem = linear_layer(args.data, args.samples, args.epsilon)
    n_run = problem.M if args.all else min(args.neurons, problem.M)
    rows = [ours(problem, args.tol, args.repeats)]
    exact = solve(problem, tol=1e-8)
    tau = multiplier(problem, exact)
    print(f"{problem.N} x {problem.M} linear, {problem.P} samples, optimum {exact.certificate.objective:.4f}, tau {tau:.4f}")
    show(rows[0])
    sample = part(problem, exact, np.linspace(0, problem.M - 1, n_run).round().astype(np.intp))
    at = share(sample, tau)
    for name in CONTENDERS:
        rows.append(measure(name, sample, at, problem.M, args.tol, args.repeats, args.slow))
        show(rows[-1])
    ratios = {}
    for name in ("skglm, Lasso", "skglm", "scikit-learn"):  # as it comes, and the fastest way of each library
        done = [row for row in rows if row["contender"].startswith(name) and row["status"] == "SOLVED"]
        if done:
            best = min(done, key=lambda row: row["median"])
            ratios[name] = best["median"] / rows[0]["median"]
            print(f"{best['contender']} takes {ratios[name]:.1f} times as long as admm")
    report = {
        "arguments": {**vars(args), "out": None},
        **setting("numba", "numpy", "scikit-learn", "scipy", "skglm"),
        "tau": tau,
        "optimum": exact.certificate.objective,
        "rows": rows,
        "ratios": ratios,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
