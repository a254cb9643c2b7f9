"""How much memory does ``admm`` take on a real layer, beside X?

Yardstick: one (M, P) array of float32. Measured in a fresh process, after compilation, libraries and BLAS's own buffers: the
peak of what NumPy allocates (tracemalloc), and the growth of the resident set (Linux's VmHWM). Y and the mask, which the
problem holds before the solve, are counted; X is not.

    python -m benchmarks.memory --data mnist
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from solvers import LayerProblem, solve


def peak(folder: str, epsilon: float, traced: bool) -> int:
    """Solve the stored layer in this process and return the bytes it took beyond the problem itself."""
    settle()
    problem = stored(folder, epsilon)
    if traced:
        tracemalloc.start()
        solve(problem)
        return tracemalloc.get_traced_memory()[1]
    before = resident_now()
    solve(problem)
    return resident("VmHWM") - before


def settle() -> None:
    """Compile, and have every library set up what it keeps for good."""
    from solvers.backends import admm

    admm.warm_up()
    small = np.random.default_rng(0)  # large enough for LAPACK and BLAS to set up their own buffers, in every thread
    solve(LayerProblem.parallel(small.normal(size=(300, 900)), small.normal(size=(300, 200)), 0.1))
    for dtype in (np.float32, np.float64):
        np.ones((1000, 1000), dtype) @ np.ones((1000, 1000), dtype)


def store(folder: str, problem: LayerProblem) -> None:
    """Write X and Y of a layer whose ceiling is 0 and whose mask is Y > 0."""
    np.save(f"{folder}/X.npy", problem.X)
    np.save(f"{folder}/Y.npy", problem.Y)


def stored(folder: str, epsilon: float) -> LayerProblem:
    """Read a layer that ``store`` wrote."""
    return LayerProblem(np.load(f"{folder}/X.npy"), np.load(f"{folder}/Y.npy"), epsilon)


def resident_now() -> int:
    """Reset the peak of the resident set to what is resident now, and return that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(field: str) -> int:
    """Return a field of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    from benchmarks.real_layers import layers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    args = parser.parse_args()

    problem = layers(["lenet300-1"], args.data, args.samples, args.epsilon)["lenet300-1"]
    unit = 4 * problem.M * problem.P
    held = (problem.Y.nbytes + problem.active.nbytes) / unit
    with tempfile.TemporaryDirectory() as folder:
        store(folder, problem)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            traced, grown = pool.starmap(peak, [(folder, problem.epsilon, kind) for kind in (True, False)], chunksize=1)
    row = {
        "N": problem.N,
        "M": problem.M,
        "P": problem.P,
        "X": problem.X.nbytes / unit,
        "problem": held,
        "solve_traced": traced / unit,
        "solve_resident": grown / unit,
        "total": held + max(traced, grown) / unit,
    }
    print("in units of one (M, P) float32 array:", json.dumps({k: round(v, 2) for k, v in row.items()}))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
