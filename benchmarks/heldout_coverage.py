"""Do bounds from held-out images cover new ones as often as they say?

LeNet-300-100 trimmed on training images; the 10,000 test images, which it never saw, fall into held-out and new ones 200
times. A row a split: for each bound the share of new images that are within it, or, where it is about a share or a rate,
whether that is so of all others.

    python -m benchmarks.heldout_coverage
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import rows
from benchmarks.networks import trained
from nettrim import trim
from nettrim.data import load
from theory import new_sample_bound, rate_bound, share_bound


def split(
    errors: NDArray[np.float64], changed: NDArray[np.bool_], held: int, confidence: float, seed: int
) -> dict[str, float]:
    """Return how the three bounds of one split fare on the images that are left."""
    order = np.random.default_rng(seed).permutation(len(errors))
    old, new = order[:held], order[held:]
    one, most = new_sample_bound(errors[old], confidence), share_bound(errors[old], confidence, confidence)
    rate = rate_bound(int(changed[old].sum()), held, confidence)
    return {
        "new_sample_bound": one,
        "new_within": float(np.mean(errors[new] <= one)),
        "share_bound": most,
        "share_within": float(np.mean(errors[new] <= most)),
        "rate_bound": rate,
        "rate_of_new": float(np.mean(changed[new])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--held", type=int, default=1000)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--epsilon", type=float, default=0.2)
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/heldout_coverage.csv"))
    args = parser.parse_args()
    images = load("mnist")
    model = trained("lenet300", images, folder=args.networks)
    result = trim(model, images.x_train, args.epsilon, n_samples=5000)
    with torch.no_grad():
        before, after = model(images.x_test).double(), result.model(images.x_test).double()
    errors = torch.linalg.norm(after - before, dim=1).numpy()
    changed = (after.argmax(1) != before.argmax(1)).numpy()
    what = {"epsilon": args.epsilon, "held": args.held, "confidence": args.confidence}
    args.out.unlink(missing_ok=True)
    found = [
        {"split": seed, **what, **split(errors, changed, args.held, args.confidence, seed)} for seed in range(args.splits)
    ]
    rows.append(args.out, found)
    within = np.array([row["new_within"] for row in found])
    share = np.array([row["share_within"] for row in found]) >= args.confidence
    rate = np.array([row["rate_of_new"] <= row["rate_bound"] for row in found])
    print(f"a new image within its bound: {within.mean():.2%} of pairs of split and image (asked {args.confidence:.0%})")
    print(f"that share of all within the tolerance limit: {share.sum()} of {len(found)} splits")
    print(f"the rate of changed classes within its bound: {rate.sum()} of {len(found)} splits; it is {changed.mean():.2%}")


if __name__ == "__main__":
    main()
