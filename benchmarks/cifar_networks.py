"""How far does an hour of one core train a ResNet-20 and a depthwise-separable network on CIFAR-10?

The images are JPEGs, which are lossy: all 50,000 for training or the first of them, augmented by flips and shifts. SGD in
one cycle, with label smoothing, whose margins survive a trim better (``nettrim.demo``). The number of epochs is fixed before
the first one, from the speed of a short run of the same training; ``--epochs`` with that number repeats the run. Minutes are
those of the processor, over the threads, which on a machine that does nothing else are those of the clock. After each epoch
the test accuracy is printed, and weights and report are written: a run that is cut off leaves a network, though one whose
step size never came down.

glibc hands the memory of activations back after each step; a step takes a quarter less time where MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ are set to some 4 GB.

    python -m benchmarks.cifar_networks --network resnet20 --minutes 55 --out networks/resnet20
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.setting import setting
from nettrim import store
from nettrim.cifar import cifar10
from nettrim.data import Data
from nettrim.evaluate import accuracy
from nettrim.models import resnet20, separable
from nettrim.train import train

NETWORKS = {"resnet20": resnet20, "separable": separable}
RECIPE: dict[str, Any] = {
    "batch_size": 128,
    "learning_rate": 0.2,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "label_smoothing": 0.1,
    "augment": True,
}
TRIAL = 30  # steps of the run whose speed is taken
LOOK = 100  # test images a forward pass, so that activations stay in the processor's cache


def epochs_within(model: nn.Module, images: Data, minutes: float) -> int:
    """Return how many epochs, each with a look at the test images, fit into a budget; at least one."""
    n = min(TRIAL * RECIPE["batch_size"], len(images.x_train))
    train(model, images.x_train[: n // 10], images.y_train[: n // 10], epochs=1, **RECIPE)  # libraries set themselves up
    started = time.process_time()
    train(model, images.x_train[:n], images.y_train[:n], epochs=1, **RECIPE)
    trained = time.process_time()
    accuracy(model, images.x_test[:n], images.y_test[:n], batch_size=LOOK)
    looked = time.process_time()
    epoch = (trained - started) / n * len(images.x_train)
    epoch += (looked - trained) / len(images.x_test[:n]) * len(images.x_test)
    epoch /= torch.get_num_threads()
    print(f"an epoch of {len(images.x_train)} images will take about {epoch:.0f} s of the processor", flush=True)
    return max(1, int(60 * minutes / epoch))


def save(model: nn.Module, report: dict[str, Any], folder: Path) -> None:
    """Write weights and report, each whole or not at all, the report last."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "model.safetensors.part"
    save_file({name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}, part)
    part.replace(folder / "model.safetensors")
    store.write_json(report, folder / "training.json")


def saved(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network that ``save`` wrote, in evaluation mode, and its report."""
    report = json.loads((folder / "training.json").read_text())
    weights = folder / "model.safetensors"
    return store.with_weights(NETWORKS[report["network"]](), load_file(weights), weights).eval(), report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, choices=list(NETWORKS))
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--epochs", type=int)
    budget.add_argument("--minutes", type=float, help="budget that the number of epochs is chosen for")
    parser.add_argument("--images", type=int, default=50_000, help="training images used: the first, classes in turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="seed of the network and its training")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and training.json")
    args = parser.parse_args()
    if not 1 <= args.images <= 50_000 or (args.epochs is not None and args.epochs < 1):
        parser.error("--images must be from 1 to 50000, and --epochs 1 or more")

    torch.set_num_threads(args.threads)
    data = cifar10()
    data = Data(data.name, data.x_train[: args.images], data.y_train[: args.images], data.x_test, data.y_test)
    # Channels last is the order in which oneDNN convolves: a quarter less time a step.
    model = NETWORKS[args.network](seed=args.seed).to(memory_format=torch.channels_last)
    epochs = args.epochs or epochs_within(model, data, args.minutes)
    report: dict[str, Any] = {
        "network": args.network,
        "data": f"{data.name}, as JPEGs",
        "images": len(data.x_train),
        "recipe": RECIPE,
        "minutes": args.minutes,
        "epochs": epochs,
        "seed": args.seed,
        "torch_threads": args.threads,
        "setting": setting("torch", "numpy"),
        "accuracies": [],
    }
    print(f"{args.network}: {epochs} epochs of {len(data.x_train)} images", flush=True)
    started, ran = time.perf_counter(), time.process_time()

    def look(done: int, network: nn.Module) -> None:
        reached = accuracy(network, data.x_test, data.y_test, batch_size=LOOK)
        report["accuracies"].append(reached)
        seconds = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - ran}
        report.update(epochs_done=done, accuracy=reached, **seconds)
        save(network, report, args.out)
        print(f"epoch {done:2d}: test accuracy {reached:.2%}, {report['seconds']:.0f} s", flush=True)

    train(model, data.x_train, data.y_train, epochs=epochs, after_epoch=look, seed=args.seed, **RECIPE)


if __name__ == "__main__":
    main()
