"""What does an iteration of ``admm`` cost beside its two products, and what share of a solve goes into certificates?

Yardstick of the iteration: its two bare matrix products in NumPy, XZ' and W'X, of the same shapes, dtype and threads, timed
in turns with the iterations. Share: the seconds inside ``certify``, the registry's last one included, of the wall time of
``solve``, compilation apart. Medians throughout; beside them the fastest over the fastest, which other work on the
machine moves less.

    python -m benchmarks.iteration_cost --data mnist
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks.real_layers import LAYERS, layer_problem, network
from nettrim.data import load
from solvers import LayerProblem, certify, solve
from solvers.backends import admm
from solvers.backends._memory import plan

RATIO, SHARE = 1.3, 0.05  # targets: an iteration over its products, certificates over a solve, both at most


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def iteration(problem: LayerProblem, repeats: int) -> dict[str, Any]:
    """Return the median seconds of an iteration in float32, of its two products, and the ratio."""
    admm.warm_up()
    steps, _ = admm._relu(problem, np.float32, None, plan(problem, np.float32, None, gram=False))
    W, Z, U = steps.W.copy(), steps.g.copy(), np.empty_like(steps.W)
    ahead = np.empty_like(Z)

    def iterate() -> None:
        steps.prox()
        steps.step(admm.RELAXATION, 1.0)

    def products() -> None:
        np.dot(steps.X, Z.T, out=U)
        np.dot(W.T, steps.X, out=ahead)

    for _ in range(3):  # BLAS sets up its buffers, pages are touched, and W and Z become ordinary numbers
        iterate()
        products()
        W[:], Z[:] = steps.W, steps.g
    runs = [(seconds(iterate), seconds(products)) for _ in range(repeats)]
    medians = [statistics.median(column) for column in zip(*runs, strict=True)]
    ratio = medians[0] / medians[1]
    fastest = min(a for a, _ in runs) / min(b for _, b in runs)
    print(
        f"{problem.N} x {problem.M}, {problem.P} samples: {1e3 * medians[0]:.2f} ms an iteration, {1e3 * medians[1]:.2f} ms "
        f"its two products: {ratio:.2f}x, fastest over fastest {fastest:.2f}x; "
        f"at most {RATIO:g}: {'met' if ratio <= RATIO else 'NOT met'}",
        flush=True,
    )
    found = {"N": problem.N, "M": problem.M, "P": problem.P, "iteration": medians[0], "products": medians[1]}
    return found | {"ratio": ratio, "fastest": fastest, "met": ratio <= RATIO}


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of every call of ``certify``, whichever module of ``solvers`` makes it."""
    calls: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return certify(*args, **options)
        finally:
            calls.append(time.perf_counter() - begin)

    users = [m for name, m in sys.modules.items() if name.startswith("solvers") and getattr(m, "certify", None) is certify]
    for module in users:
        module.certify = timed  # type: ignore[attr-defined]
    try:
        yield calls
    finally:
        for module in users:
            module.certify = certify  # type: ignore[attr-defined]


def share(problem: LayerProblem, tol: float, repeats: int) -> dict[str, Any]:
    """Return the median share of certificates in the wall time of a solve."""
    admm.warm_up()
    runs = []
    for _ in range(repeats):
        with clocked() as calls:
            took = seconds(lambda: solve(problem, tol=tol, throw=False))
        runs.append({"solve": took, "certificates": sum(calls), "calls": len(calls), "share": sum(calls) / took})
    middle, wall = (statistics.median(run[name] for run in runs) for name in ("share", "solve"))
    print(
        f"{problem.N} x {problem.M}, {problem.P} samples: {runs[-1]['calls']} certificates, {100 * middle:.1f} % of "
        f"{wall:.2f} s; at most {100 * SHARE:g} %: {'met' if middle <= SHARE else 'NOT met'}",
        flush=True,
    )
    return {"N": problem.N, "M": problem.M, "P": problem.P, "runs": runs, "share": middle, "met": middle <= SHARE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--layer", default="lenet300-1", choices=list(LAYERS))
    parser.add_argument("--samples", type=int, nargs="+", default=[5000, 60000], help="of the timed iterations")
    parser.add_argument("--solve-samples", type=int, default=5000)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=15, help="iterations, in turns with their products")
    parser.add_argument("--solves", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/iteration_cost.json"))
    args = parser.parse_args()

    images = load(args.data)
    model = network(LAYERS[args.layer][0], images)
    pools = [{key: pool.get(key) for key in ("internal_api", "version", "num_threads")} for pool in threadpool_info()]
    print(f"{args.layer}, NumPy {np.__version__}, threads {[(pool['internal_api'], pool['num_threads']) for pool in pools]}")

    def problem(samples: int) -> LayerProblem:
        return layer_problem(model, args.layer, images, samples, args.epsilon)

    report = {
        "arguments": {**vars(args), "out": None},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "pools": pools},
        "iterations": [iteration(problem(samples), args.repeats) for samples in args.samples],
        "certificates": share(problem(args.solve_samples), args.tol, args.solves),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
