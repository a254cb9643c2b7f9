"""What does an iteration of ``torch`` cost beside its two products, and how long does it take to a certified 1e-3?

Yardstick: the two bare matrix products of an iteration, W'X and X Z', by PyTorch on the same device and in the same dtype,
timed in turns with the iterations; and ``admm`` to the same certificate, in turns too. Clock: medians over rounds of a few
iterations, the device waited for at both ends; to the certificate, the whole solve with its checks and transfers, without
compilation and the start of CUDA.

    python -m benchmarks.torch_backend --contenders cuda admm
    python -m benchmarks.torch_backend --layer wide-2 --contenders cuda --out wide.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_layers import LARGE, LAYERS, layers
from solvers import LayerProblem, solve
from solvers.backends import admm
from solvers.backends._tensors import Iteration, full_precision


def seconds_each(device: str, work: Callable[[], None], count: int) -> float:
    """Return the seconds of one call among ``count`` in a row."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    wait()
    begin = time.perf_counter()
    for _ in range(count):
        work()
    wait()
    return (time.perf_counter() - begin) / count


def per_iteration(problem: LayerProblem, device: str, dtype: str, rounds: int, count: int) -> dict[str, float]:
    """Return the seconds of an iteration and of its two bare products."""
    at = Iteration(problem, device, dtype, (None, None), None)
    Z, U = torch.empty_like(at.T), torch.empty_like(at.W)

    def iterate() -> None:
        at.propose()
        at.accept(admm.RELAXATION)
        at.project()

    def products() -> None:
        torch.mm(at.W.T, at.X, out=Z)
        torch.mm(at.X, Z.T, out=U)

    found: dict[str, list[float]] = {"iteration": [], "products": []}
    with torch.inference_mode(), full_precision():
        seconds_each(device, iterate, count)  # the first ones load the kernels
        seconds_each(device, products, count)
        for _ in range(rounds):
            found["iteration"].append(seconds_each(device, iterate, count))
            found["products"].append(seconds_each(device, products, count))
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    return medians | {"ratio": medians["iteration"] / medians["products"]}


def to_certificate(problem: LayerProblem, repeats: int, contenders: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each contender the median seconds of a solve to a certified 1e-3, and what was certified."""
    for options in contenders.values():
        solve(problem, max_iter=2, throw=False, **options)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    last = {}
    for _ in range(repeats):
        for name, options in contenders.items():
            last[name] = solve(problem, tol=1e-3, throw=False, **options)
            seconds[name].append(last[name].seconds)
    return [
        {
            "contender": name,
            "seconds": statistics.median(seconds[name]),
            "iterations": solution.iterations,
            "status": solution.status.name,
            "gap": solution.certificate.gap,
            "violation": solution.certificate.violation,
        }
        for name, solution in last.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--layer", default="lenet5-fc1", choices=[*LAYERS, *LARGE])
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=20, help="of timing iterations and products in turns")
    parser.add_argument("--count", type=int, default=5, help="iterations a round")
    parser.add_argument("--contenders", nargs="+", choices=["admm", "cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=3, help="solves to the certificate")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/torch_backend.json"))
    args = parser.parse_args()
    here = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    asked = args.contenders or ["admm", *here]
    if "cuda" in asked and "cuda" not in here:
        parser.error("PyTorch finds no CUDA device here; leave cuda out of --contenders")

    problem = layers([args.layer], args.data, args.samples, args.epsilon)[args.layer]
    devices, threads = [device for device in here if device in asked], f"{torch.get_num_threads()} threads"
    names = {"cpu": f"cpu, {threads}", "cuda": ""}
    if "cuda" in devices:
        names["cuda"] = torch.cuda.get_device_name()
    print(
        f"layer {problem.N} x {problem.M}, {problem.P} samples, epsilon {args.epsilon:g} ||Y||, PyTorch {torch.__version__}"
    )
    iterations = []
    for device in devices:
        for dtype in ("float32", "float64"):
            row = per_iteration(problem, device, dtype, args.rounds, args.count)
            iterations.append({"device": names[device], "dtype": dtype, **row})
            print(
                f"{names[device]:28s} {dtype}  {1e3 * row['iteration']:9.3f} ms an iteration, "
                f"{1e3 * row['products']:9.3f} ms its two products: {row['ratio']:.2f}x",
                flush=True,
            )
    contenders: dict[str, dict[str, Any]] = {f"torch, {names[at]}": {"backend": "torch", "device": at} for at in devices}
    contenders |= {f"admm, {threads}": {"backend": "admm"}} if "admm" in asked else {}
    certificates = to_certificate(problem, args.repeats, contenders)
    for row in certificates:
        print(f"{row['contender']:36s} {row['iterations']:5d} iterations {row['seconds']:9.2f} s  {row['status']}")
    report = {
        "arguments": {**vars(args), "out": None},
        "shape": {"N": problem.N, "M": problem.M, "P": problem.P},
        "versions": {"torch": torch.__version__},
        "iterations": iterations,
        "certificates": certificates,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
