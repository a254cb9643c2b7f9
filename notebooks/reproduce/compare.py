"""A network pruned by Net-Trim and by HPTD, magnitude pruning to its counts, and what both are worth, fine-tuned too.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its scripts: fine-tuning is by plain gradient steps
from 0.01, 2 % less every 500 steps, without dropout. Biases that became 0 may move again in it, which is a departure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from nettrim import TrimResult, trim
from nettrim.baselines.hptd import counts_of
from nettrim.data import Data
from nettrim.evaluate import accuracy, logits
from nettrim.masks import Masks, everything, impose, largest, weights
from nettrim.train import train
from reproduce.networks import slower

COUNTED = 1e-6
WHOLE = 0.0  # the gain that stands for a network as it was trained, which is fine-tuned alike
Ways = Mapping[str, tuple[nn.Module, Masks]]
Row = dict[str, Any]


class Pair(NamedTuple):
    """Net-Trim's answer, and magnitude pruning to as many weights in each layer; masks of each."""

    result: TrimResult
    masks: Masks
    rival: nn.Module
    largest: Masks


def pruned(model: nn.Module, data: Data, gain: float, samples: int, seed: int, **how: Any) -> Pair:
    """Return the network pruned in both ways, on training images."""
    result = trim(model, data.x_train, gain, n_samples=samples, seed=seed, **how)
    masks = present(result.model)
    return Pair(result, masks, *rival_of(model, masks))


def rival_of(model: nn.Module, masks: Masks) -> tuple[nn.Module, Masks]:
    """Return the network with the largest weights of each layer, as many as others keep, and their masks."""
    rival, held = copy.deepcopy(model), largest(model, counts_of(masks))
    impose(rival, held)
    return rival, held


def present(model: nn.Module) -> Masks:
    """Return which weights are not 0."""
    return {name: weight.detach() != 0 for name, weight in weights(model).items()}


def both_ways(
    model: nn.Module, data: Data, gain: float, samples: int, seed: int, **how: Any
) -> tuple[TrimResult | None, Ways]:
    """Return Net-Trim's answer, and the models of both ways with their masks; of ``WHOLE`` the network itself."""
    if gain == WHOLE:
        return None, {"nettrim": (model, everything(model))}
    result, masks, rival, held = pruned(model, data, gain, samples, seed, **how)
    return result, {"nettrim": (result.model, masks), "hptd": (rival, held)}


def left(model: nn.Module, result: TrimResult | None, data: Data) -> Row:
    """Return what a trim leaves of a network's weights, its discrepancy, and the accuracy before; without one, all."""
    return {
        "kept": 1.0 if result is None else result.kept,
        "solved": "" if result is None else result.solved,
        "discrepancy": 0.0 if result is None else discrepancy(model, result.model, data),
        "accuracy": score(model, data),
    }


def compared(
    ways: Ways,
    data: Data,
    when: Mapping[str, int],
    seed: int,
    *,
    until: int | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    **how: Any,
) -> Row:
    """Return test accuracies of both ways, pruned and fine-tuned, and on demand those on validation images.

    Parameters
    ----------
    ways : mapping
        As ``both_ways`` returns them.
    data : Data
        What they are fine-tuned on and judged by.
    when : mapping
        Of a field's ending, the steps of fine-tuning.
    seed : int
        Of the order of the samples.
    until : int, optional
        Fields of more steps than these stay empty.
    validation : tuple, optional
        Images and labels for fields of their own.
    **how
        Of ``tuned``.
    """
    row: Row = {}
    asked = {ending: steps for ending, steps in when.items() if until is None or steps <= until}
    for name in ("nettrim", "hptd"):
        models: dict[str, nn.Module] = {}
        if name in ways:
            start, held = ways[name]
            after = tuned(start, held, data, list(asked.values()), seed, **how) if asked else []
            models = {name: start} | {f"{name}_{ending}": each for ending, each in zip(asked, after, strict=True)}
        for field in (name, *(f"{name}_{ending}" for ending in when)):
            row[field] = score(models[field], data) if field in models else ""
            if validation is not None:
                row[f"{field}_validation"] = accuracy(models[field], *validation) if field in models else ""
    return row


def tuned(
    model: nn.Module,
    masks: Masks,
    data: Data,
    when: list[int],
    seed: int,
    batch_size: int = 100,
    learning_rate: float = 0.01,
) -> list[nn.Module]:
    """Return a pruned network after some steps of fine-tuning, in the order in which they are asked for."""
    found: dict[int, nn.Module] = {}

    def look(step: int, moving: nn.Module) -> None:
        if step in when:
            found[step] = copy.deepcopy(moving).eval()

    start = copy.deepcopy(model)
    for module in start.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    steps = {"steps": max(when), "schedule": slower(max(when)), "learning_rate": learning_rate, "momentum": 0.0}
    how = {"batch_size": batch_size, "masks": masks, "after_step": look, "seed": seed}
    train(start, data.x_train, data.y_train, label="fine-tuning", **steps, **how)
    return [found[step] for step in when]


def counted(model: nn.Module) -> float:
    """Return the part of the weights that the scripts count, over 1e-6 in magnitude."""
    every = [weight.detach().abs() > COUNTED for weight in weights(model).values()]
    return sum(int(over.sum()) for over in every) / sum(over.numel() for over in every)


def discrepancy(model: nn.Module, other: nn.Module, data: Data) -> float:
    """Return the relative discrepancy of the outputs on the training images."""
    Z, Z_hat = (logits(each, data.x_train).double() for each in (model, other))
    return float((Z - Z_hat).norm() / Z.norm())


def score(model: nn.Module, data: Data) -> float:
    """Return the test accuracy."""
    return accuracy(model, data.x_test, data.y_test)
