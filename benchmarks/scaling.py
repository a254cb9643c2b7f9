"""How do the seconds and the memory of ``admm`` grow with the samples and with the neurons of a real layer?

P: the first layer of LeNet-300-100 on the first P training images of MNIST. M: the first M neurons of the first layer of
a wider network, 784-1000-100-10, trained by the same recipe for fewer epochs, so that all neurons are of one kind.
Certified to 1e-3 at epsilon 0.1. Every point is a fresh process that loads X in float32 from a file. Seconds: the median
of the runs, or the one run of a point that takes more than ``--slow`` seconds; compilation apart. Memory: growth of the
resident set in the first run (Linux's VmHWM), Y and the mask counted, X not; its unit is one (M, P) array of float32. The
exponents are those of least squares on logarithms, over all points and, since small layers pay what does not grow, over the
last two.

Under ``--memory-limit`` the largest M at the largest P is solved twice more, each in a fresh process: without a limit, and
with ``memory_limit`` at a quarter (or another fraction) of what the first took. What the second takes is the growth of the
anonymous resident set (RssAnon), looked at every few milliseconds: pages of a mapped file, which the kernel can drop, are
not held against it.

    python -m benchmarks.scaling --data mnist --memory-limit
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.memory import resident, resident_now, settle, store, stored
from benchmarks.real_layers import layer_problem, network
from benchmarks.setting import setting
from nettrim.data import Data, load
from nettrim.models import mlp
from nettrim.train import train
from solvers import LayerProblem, solve

WIDTH = 1000
TARGET = 90.0  # seconds, for all 60,000 images at epsilon 0.1, certified to 1e-3
PAUSE = 0.003  # seconds between two looks at the anonymous memory


class Watch(threading.Thread):
    """Remembers the largest anonymous resident set of this process while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.largest = resident("RssAnon")
        self.done = threading.Event()

    def run(self) -> None:
        """Look, until told to stop."""
        while not self.done.wait(PAUSE):
            self.largest = max(self.largest, resident("RssAnon"))

    def stop(self) -> int:
        """End the watch and return by how many bytes the set had grown at its largest."""
        self.done.set()
        self.join()
        return self.largest - self.before


def run(folder: str, epsilon: float, tol: float, repeats: int, slow: float, limit: int | None) -> dict[str, Any]:
    """Solve the stored layer in this process and return the row, without what the problem itself holds."""
    settle()
    problem = stored(folder, epsilon)
    options = {} if limit is None else {"memory_limit": limit}
    before = resident_now()
    watch = Watch() if limit is not None else None  # it costs the solve a percent or so: not where seconds are compared
    if watch is not None:
        watch.start()
    solution = solve(problem, tol=tol, throw=False, **options)
    grown = resident("VmHWM") - before
    row = {"grown": grown} if watch is None else {"grown": grown, "limit": limit, "anonymous": watch.stop()}
    seconds = [solution.seconds]
    while watch is None and len(seconds) < repeats and seconds[0] <= slow:
        seconds.append(solve(problem, tol=tol, throw=False).seconds)
    c = solution.certificate
    return row | {
        "status": solution.status.name,
        "seconds": seconds,
        "median": statistics.median(seconds),
        "iterations": solution.iterations,
        "objective": c.objective,
        "gap": c.gap,
        "violation": c.violation,
    }


def measure(problem: LayerProblem, *arguments: Any) -> dict[str, Any]:
    """Return the row of a layer, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store(folder, problem)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(run, (folder, problem.epsilon, *arguments))
    held = problem.Y.nbytes + problem.active.nbytes
    unit = 4 * problem.M * problem.P
    size = {"N": problem.N, "M": problem.M, "P": problem.P, "X": problem.X.nbytes / unit}
    return size | row | {"bytes": row["grown"] + held, "units": (row["grown"] + held) / unit}


def exponent(sizes: Iterable[float], amounts: Iterable[float]) -> float:
    """Return the a of ``amount = c size^a`` by least squares on logarithms; nan for fewer than two sizes."""
    x, y = np.log(list(sizes)), np.log(list(amounts))
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else math.nan


def exponents(rows: list[dict[str, Any]], letter: str) -> dict[str, float]:
    """Return how seconds and bytes grow with P or M, over all rows and over the last two."""
    found = {}
    for kind, key in (("seconds", "median"), ("bytes", "bytes")):
        for name, part in ((kind, rows), (f"{kind}_last_two", rows[-2:])):
            found[name] = exponent([row[letter] for row in part], [row[key] for row in part])
    return found


def wide(images: Data, epochs: int) -> nn.Module:
    """Train 784-1000-100-10 by the recipe of the demonstration, for a few epochs."""
    return train(
        mlp((784, WIDTH, 100, 10), dropout=0.1, seed=0),
        images.x_train,
        images.y_train,
        epochs=epochs,
        batch_size=200,
        learning_rate=2e-3,
        weight_decay=1e-4,
        label_smoothing=0.1,
        seed=0,
    )


def first_neurons(problem: LayerProblem, n_neurons: int, epsilon: float) -> LayerProblem:
    """State the program of the first neurons of a layer, its radius relative to their own responses."""
    Y = problem.Y[:n_neurons]
    return LayerProblem(problem.X, Y, epsilon * float(np.linalg.norm(Y.astype(np.float64))))


def limited(problem: LayerProblem, fraction: float, tol: float) -> dict[str, Any]:
    """Solve a layer without a limit, then within a fraction of what that took, and return both rows."""
    rows = {"free": measure(problem, tol, 1, 0.0, None)}
    show(rows["free"])
    limit = int(fraction * rows["free"]["grown"])
    row = rows["within"] = measure(problem, tol, 1, 0.0, limit)
    show(row)
    free, taken = rows["free"]["grown"] / 1e6, row["anonymous"] / 1e6
    print(f"  took {free:.1f} MB; limit {limit / 1e6:.1f} MB: took {taken:.1f} MB of anonymous memory", flush=True)
    return rows


def show(row: dict[str, Any]) -> None:
    runs = f"{len(row['seconds'])} run{'s' if len(row['seconds']) > 1 else ''}"
    print(
        f"P {row['P']:6d}, M {row['M']:5d}: {row['status']:6s} {row['median']:8.2f} s ({runs}), {row['units']:5.2f} units, "
        f"{row['iterations']:3d} iterations, gap {row['gap']:.1e}, violation {row['violation']:.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 4000, 16000, 60000], help="P, with 300 neurons")
    parser.add_argument("--neurons", type=int, nargs="*", default=[100, 300, 1000], help="M; none: leave them out")
    parser.add_argument("--neuron-samples", type=int, default=4000, help="P, where M grows")
    parser.add_argument("--epochs", type=int, default=5, help="of training the wide network")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow", type=float, default=150.0, help="seconds from which on a point runs once")
    parser.add_argument(
        "--memory-limit", type=float, nargs="?", const=0.25, help="solve the largest layer in this part of its memory"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    args = parser.parse_args()

    images = load(args.data)
    most = len(images.x_train)
    if max(*args.samples, args.neuron_samples) > most or max(args.neurons, default=0) > WIDTH:
        parser.error(f"{args.data} has {most} training images and the wide layer {WIDTH} neurons; ask for no more")
    model = network("lenet300", images)
    how = (args.tol, args.repeats, args.slow, None)
    report: dict[str, Any] = {"arguments": {**vars(args), "out": None}, **setting("numba", "numpy", "scipy"), "rows": {}}
    rows = report["rows"]["P"] = []
    for n_samples in sorted(args.samples):
        problem = layer_problem(model, "lenet300-1", images, n_samples, args.epsilon)
        rows.append(measure(problem, *how))
        show(rows[-1])
    if n_samples == 60_000 and (args.epsilon, args.tol) == (0.1, 1e-3):
        seconds = rows[-1]["median"]
        report["all_images"] = {"seconds": seconds, "target": TARGET, "status": rows[-1]["status"]}
        print(f"first layer, all 60,000 images, epsilon 0.1, certified 1e-3: {seconds:.1f} s, target {TARGET:g} s")
    if args.neurons:
        model = wide(images, args.epochs)
        layer = layer_problem(model, "lenet300-1", images, args.neuron_samples, args.epsilon)
        rows = report["rows"]["M"] = []
        for n_neurons in sorted(args.neurons):
            rows.append(measure(first_neurons(layer, n_neurons, args.epsilon), *how))
            show(rows[-1])
        if args.memory_limit is not None:
            layer = layer_problem(model, "lenet300-1", images, n_samples, args.epsilon)
            report["limited"] = limited(first_neurons(layer, n_neurons, args.epsilon), args.memory_limit, args.tol)
    report["exponents"] = {letter: exponents(rows, letter) for letter, rows in report["rows"].items()}
    for letter, found in report["exponents"].items():
        print(
            f"in {letter}: seconds grow with the power {found['seconds']:.2f} (last two points "
            f"{found['seconds_last_two']:.2f}), memory with {found['bytes']:.2f} ({found['bytes_last_two']:.2f})"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
