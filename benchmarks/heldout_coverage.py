"""Do bounds from held-out images hold for new ones as often as they say?

LeNet-300-100 trimmed on training images. The 10,000 test images, which it never saw, are the distribution: 200 times
held-out images are drawn from it, each independent of the others as the bounds assume, and how much of the distribution a
bound covers is counted. A row a draw.

    python -m benchmarks.heldout_coverage
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import rows
from nettrim import trim
from nettrim.data import load
from nettrim.recipes import trained
from theory import new_sample_bound, rate_bound, share_bound


def drawn(
    errors: NDArray[np.float64], changed: NDArray[np.bool_], held: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Return the three bounds of one draw, and how much of the distribution they cover."""
    old = np.random.default_rng([seed, held]).integers(0, len(errors), held)
    one, most = new_sample_bound(errors[old], confidence), share_bound(errors[old], confidence, confidence)
    return {
        "new_sample_bound": one,
        "within_new_sample_bound": float(np.mean(errors <= one)),
        "share_bound": most,
        "within_share_bound": float(np.mean(errors <= most)),
        "rate_bound": rate_bound(int(changed[old].sum()), held, confidence),
        "rate": float(np.mean(changed)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--held", type=int, nargs="+", default=[100, 1000])
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
    args.out.unlink(missing_ok=True)
    for held in args.held:
        what = {"epsilon": args.epsilon, "held": held, "confidence": args.confidence}
        found = [{**what, "draw": seed, **drawn(errors, changed, held, args.confidence, seed)} for seed in range(args.draws)]
        rows.append(args.out, found)
        one = np.array([row["within_new_sample_bound"] for row in found])
        share = np.array([row["within_share_bound"] for row in found])
        met = float(np.mean(share >= args.confidence))
        rate = np.array([row["rate"] <= row["rate_bound"] for row in found])
        print(
            f"{held} held out, {len(found)} draws, {args.confidence:.0%} asked: one new sample {one.mean():.2%} (standard "
            f"error {one.std(ddof=1) / np.sqrt(len(one)):.2%}); tolerance limit met in {met:.1%} of "
            f"draws, covering {share.mean():.2%}; rate of changed classes within its bound in {rate.mean():.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
