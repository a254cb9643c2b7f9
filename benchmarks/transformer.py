"""A transformer encoder of torch, trimmed: its feed-forward layers as ReLU programs, its projections as linear layers.

Each MNIST image is a sequence of 28 tokens, its rows; two layers of ``torch.nn.TransformerEncoder`` (width 64, 4 heads,
feed-forward 256, ReLU), mean over tokens, one linear layer. Trained for some epochs, then trimmed at each radius on
unlabelled training images; a layer's program sees as many (image, token) pairs as there are images. Accuracy and errors are
of test images.

    python -m benchmarks.transformer --data mnist
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.setting import setting
from nettrim import trim
from nettrim.data import load
from nettrim.evaluate import accuracy
from nettrim.store import to_json
from nettrim.train import train


class RowsOfAnImage(nn.Module):
    """Images (n, 1, 28, 28) to logits (n, 10), by attention between their rows."""

    def __init__(self, width: int = 64, heads: int = 4, feedforward: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(28, width)
        self.place = nn.Parameter(0.1 * torch.randn(28, width))
        block = nn.TransformerEncoderLayer(width, heads, feedforward, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.encoder(self.embed(images.squeeze(1)) + self.place).mean(1))


def built(seed: int) -> nn.Module:
    """Return the network with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RowsOfAnImage()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--scheme", default="parallel", choices=["parallel", "cascade"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transformer.json"))
    args = parser.parse_args()

    images = load(args.data)
    how: dict[str, Any] = {"epochs": args.epochs, "batch_size": 200, "learning_rate": 2e-3, "seed": args.seed}
    model = train(built(args.seed), images.x_train, images.y_train, **how)
    print(f"trained: {accuracy(model, images.x_test, images.y_test):.2%}", flush=True)
    rows = []
    for epsilon in args.epsilon:
        result = trim(
            model,
            images.x_train,
            epsilon,
            scheme=args.scheme,
            n_samples=args.samples,
            seed=args.seed,
            holdout=(images.x_test, images.y_test),
        )
        print(result, flush=True)
        rows.append(to_json(result))
    report = {"arguments": {**vars(args), "out": None}, **setting("numba", "numpy", "torch"), "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
