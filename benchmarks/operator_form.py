"""When is a convolution better solved without its patches, and what does that cost?

The second convolution of LeNet-5 (20 to 50 channels, 5 x 5: N 501, M 50) on all 64 positions of its inputs for the first n
training images of MNIST. Three ways to the same program: "patches", X stored in float32 and ``admm``; "gram" and "cg", the
operator form (``nettrim.solve_operator``) with XX' summed once or with the published conjugate gradients. Every point is a
fresh process that loads the layer and its inputs from files. Seconds: from these to the certified answer, what is cut and
stated counted, compilation not; one run, with the seconds of the CPU beside, for where others compute too. Memory: growth of
the resident set over the same span (Linux's VmHWM), so all but libraries and inputs; the unit is one (M, P) float32
array, and X alone is N / M = 10.02 of them. "cg" ends after ``--cg-max-iter`` iterations, one number a size,
whether or not its certificate is met; the rows say what was reached.

    python -m benchmarks.operator_form --data mnist
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import resident, resident_now, settle
from benchmarks.real_layers import network
from benchmarks.setting import setting
from nettrim import LayerProblem, Solution, solve, solve_operator
from nettrim.asked import Asked, programs
from nettrim.data import Data, load
from nettrim.layers import plain, read

WAYS = ("patches", "gram", "cg")
AT_ONCE = 50  # images whose patches are cut together


def inputs(model: nn.Module, images: Data, n_images: int) -> tuple[nn.Module, Tensor]:
    """Return the second convolution of LeNet-5 and what reaches it, (n, 20, 12, 12)."""
    before, layer = model[:3], model[3]
    with torch.no_grad():
        return layer, torch.cat([before(batch) for batch in images.x_train[:n_images].split(500)])


def with_patches(layer: nn.Module, images: Tensor, epsilon: float) -> LayerProblem:
    """Cut the patches of all positions into one array, and state the program on it."""
    wrapped = plain(layer)
    each = wrapped.rows(images[:1])
    X = np.ones((wrapped.n_inputs + 1, wrapped.rows(images)), np.float32)
    for first in range(0, len(images), AT_ONCE):
        batch = images[first : first + AT_ONCE]
        X[:-1, first * each :][:, : len(batch) * each] = wrapped.columns(batch, torch.arange(len(batch) * each)).numpy()
    (problem,) = programs(read(wrapped), X, None, wrapped.storage, Asked(activation="relu", epsilon=epsilon))
    return problem


def answer(way: str, layer: nn.Module, images: Tensor, epsilon: float, tol: float, max_iter: int | None) -> Solution:
    """Go one of the ways."""
    if way == "patches":
        return solve(with_patches(layer, images, epsilon), tol=tol, throw=False)
    return solve_operator(layer, images, epsilon, inner=way, tol=tol, max_iter=max_iter)


def run(folder: str, way: str, *how: Any) -> dict[str, Any]:
    """Solve the stored layer in this process and return the row."""
    settle()
    layer = torch.load(f"{folder}/layer.pt", weights_only=False)
    images = torch.from_numpy(np.load(f"{folder}/images.npy"))
    answer(way, layer, images[:20], 0.5, 0.1, 20)  # libraries that convolve set up their own buffers
    ctypes.CDLL(None).malloc_trim(0)  # what they gave back must not hide what the solve takes
    before, begin, worked = resident_now(), time.perf_counter(), time.process_time()
    solution = answer(way, layer, images, *how)
    seconds, cpu, grown = time.perf_counter() - begin, time.process_time() - worked, resident("VmHWM") - before
    c, (N, M) = solution.certificate, solution.W.shape
    P = solution.dual.shape[1]
    return {
        "way": way,
        "images": len(images),
        "N": N,
        "M": M,
        "P": P,
        "status": solution.status.name,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "judging": solution.seconds - solution.checks[-1].seconds,  # the certificates' part; a check counts the work alone
        "iterations": solution.iterations,
        "kept": float((solution.W != 0).mean()),
        "objective": c.objective,
        "bound": c.bound,
        "gap": c.gap,
        "violation": c.violation,
        "bytes": grown,
        "units": grown / (4 * M * P),
        "max_iter": how[-1],
        "torch_threads": torch.get_num_threads(),
    }


def show(row: dict[str, Any]) -> None:
    spent = f"{row['seconds']:.1f} s, {row['cpu_seconds']:.1f} of CPU, {row['judging']:.1f} judging"
    reached = f"gap {row['gap']:.1e}, violation {row['violation']:.1e}, kept {row['kept']:.1%}"
    print(
        f"{row['images']:5d} images, {row['way']:7s}: {row['status']:6s} {row['iterations']:3d} iterations, {spent}; "
        f"{row['bytes'] / 1e6:.1f} MB, {row['units']:.2f} units; {reached}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--cg-max-iter", type=int, nargs="+", default=[1000, 40, 10], help="iterations of cg, one a size")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/operator_form.json"))
    args = parser.parse_args()

    images = load(args.data)
    if len(args.cg_max_iter) != len(args.images) or max(args.images) > len(images.x_train):
        parser.error(f"one --cg-max-iter a size is wanted, and {args.data} has {len(images.x_train)} training images")
    layer, seen = inputs(network("lenet5", images), images, max(args.images))
    report: dict[str, Any] = {"arguments": {**vars(args), "out": None}, **setting("numba", "numpy", "scipy", "torch")}
    rows = report["rows"] = []
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(layer, f"{folder}/layer.pt")
        for way in args.ways:
            for n_images, limit in zip(args.images, args.cg_max_iter, strict=True):
                np.save(f"{folder}/images.npy", seen[:n_images].numpy())
                how = (args.epsilon, args.tol, limit if way == "cg" else None)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    rows.append(pool.apply(run, (folder, way, *how)))
                show(rows[-1])
                args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
