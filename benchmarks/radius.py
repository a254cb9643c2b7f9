"""What does the radius cost: the slope of the optimum in epsilon, and a ball a neuron in place of one for the layer?

Layers of LeNet-300-100 with real MNIST activations. The slope from the dual beside finite differences; the objective and the
weights kept where every neuron has its own ball, in proportion to its responses or equal for all, over those of the joint.

    python -m benchmarks.radius
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rows
from benchmarks.real_layers import layers
from solvers import LayerProblem, solve
from theory import bound_at, shares, slope, split

STEP = 0.02  # of epsilon, between the radii of the finite differences


def sensitivity(problem: LayerProblem, tol: float) -> dict[str, Any]:
    """Return the slope from the dual and from finite differences."""
    h = STEP * problem.epsilon
    before, here, after = (
        solve(problem.replace(epsilon=problem.epsilon + step), tol=tol).certificate for step in (-h, 0.0, h)
    )
    return {
        "optimum": here.objective,
        "gap": here.gap,
        "slope": slope(here),
        "backward": (here.objective - before.objective) / h,
        "central": (after.objective - before.objective) / (2 * h),
        "forward": (after.objective - here.objective) / h,
        "optimum_at_twice": solve(problem.replace(epsilon=2 * problem.epsilon), tol=tol).certificate.objective,
        "bound_at_twice": bound_at(problem, here, 2 * problem.epsilon),
    }


def splitting(problem: LayerProblem, tol: float) -> list[dict[str, Any]]:
    """Return what each rule of splitting the ball costs."""
    joint = solve(problem, tol=tol)
    found = []
    for rule in ("relative", "equal"):
        parts = split(problem, shares(problem, rule))  # type: ignore[arg-type]
        answers = [solve(part, tol=tol) for part in parts]
        W = np.hstack([answer.W for answer in answers])
        found.append(
            {
                "rule": rule,
                "objective": sum(answer.certificate.objective for answer in answers) / joint.certificate.objective,
                "kept_joint": float((joint.W != 0).mean()),
                "kept_split": float((W != 0).mean()),
                "certified": all(answer.certificate.meets(tol) for answer in answers),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=["lenet300-1", "lenet300-2", "lenet300-3"])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--out", type=Path, default=Path("notebooks/results"))
    args = parser.parse_args()
    slopes, balls = args.out / "radius_slope.csv", args.out / "radius_split.csv"
    for path in (slopes, balls):
        path.unlink(missing_ok=True)
    stated = layers(args.layers, "mnist", args.samples, 1.0)
    for name, whole in stated.items():
        for epsilon in args.epsilon:
            problem = whole.replace(epsilon=epsilon * whole.norm)
            what = {"layer": name, "epsilon": epsilon, "samples": args.samples}
            row = what | sensitivity(problem, args.tol)
            rows.append(slopes, [row])
            print(f"{name} {epsilon}: slope {row['slope']:.5g}, differences {row['backward']:.5g} to {row['forward']:.5g}")
            for cost in splitting(problem, args.tol):
                rows.append(balls, [what | cost])
                print(
                    f"  {cost['rule']}: objective x {cost['objective']:.4f}, kept {cost['kept_joint']:.2%} -> "
                    f"{cost['kept_split']:.2%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
