"""Magnitude pruning to Net-Trim's counts: what Net-Trim's authors hold it against under the name HPTD.

Han, Pool, Tran, Dally (NIPS 2015), as in the comparisons of Aghasi, Abdi, Nguyen, Romberg, "Net-Trim: Convex Pruning of Deep
Neural Networks with Performance Guarantee" (NIPS 2017), by their code: each layer keeps as many weights as Net-Trim keeps
there, the largest; biases stay; accuracy is looked at without fine-tuning, and after one fine-tuning of what is left by
plain gradient steps of 0.005 (by their script for CIFAR-10; that for MNIST has 0.01), falling by 2 % every 500 steps, in
batches of 100. The paper's own method is ``nettrim.baselines.han``.

Departures: exactly the count is kept, ties decided by place, where the authors take a percentile. Unless counts are given,
Net-Trim is run here first, and its network is fine-tuned in the same way beside the other, so that neither has more than the
other. Net-Trim may drop biases; they do not count, and its fine-tuning may move them again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.data import Data
from nettrim.errors import SettingError
from nettrim.masks import Masks, everything, impose, largest, weights
from nettrim.report import TrimResult
from nettrim.train import train
from nettrim.trim import trim

BEGINS = "trained"
NETWORK = "lenet300"
DECAY, EVERY = 0.98, 500  # of the authors' step size, in steps


def run(
    model: nn.Module,
    data: Data,
    *,
    counts: Mapping[str, int] | None = None,
    epsilon: float | Mapping[str, float] = 0.1,
    n_samples: int = 5000,
    epochs: int = 10,
    learning_rate: float = 0.005,
    momentum: float | None = 0.0,
    batch_size: int = 100,
    seed: int = 0,
    folder: str | None = None,
) -> Baseline:
    """Prune by magnitude to given counts, and fine-tune once.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network; left unchanged.
    data : Data
        What it is fine-tuned on, and tested on.
    counts : mapping of str to int, optional
        How many weights each layer keeps, by the name of its weight (see ``counts_of``); a layer without a name stays whole.
        By default those of ``nettrim.trim`` at ``epsilon`` with ``n_samples`` training samples.
    epsilon : float or mapping of str to float, optional
        Of Net-Trim, where it is run.
    n_samples : int, optional
        Likewise.
    epochs : int, optional
        Of fine-tuning; the authors report 10, 20 and 30.
    learning_rate : float, optional
        Of its first step.
    momentum : float, optional
        Of its steps, in [0, 1); None is Adam.
    batch_size : int, optional
        Samples a step.
    seed : int, optional
        Of all that is drawn.
    folder : path-like, optional
        Where finished stages are kept.

    Returns
    -------
    Baseline
        Rows ``dense``, then ``net-trim`` and ``net-trim fine-tuned`` where it was run, then ``hptd`` and
        ``hptd fine-tuned``, whose network it is; with ``layers``, the weights kept of each layer.

    Raises
    ------
    SettingError
        If a setting is out of its range.
    ModelError, DataError
        If model and data do not go together.
    """
    settings = settings_of(locals())
    _door.fits(model, data)
    settings |= _checked(model, settings)
    stages = Stages(folder, model, data, {"method": "hptd"} | settings)
    rows = [_row("dense", model, everything(model), data)]
    if counts is None:

        def trimmed() -> Stage:
            result = trim(model, data.x_train, epsilon, n_samples=n_samples, seed=seed)
            return Stage(result.model, _of(result.model))

        rival = stages.run("net-trim", trimmed, model)
        _looked_at("net-trim", rival, data, settings, stages, rows)
        counts = counts_of(rival.masks)
    masks = everything(model) | largest(model, counts)
    pruned = copy.deepcopy(model).eval()
    impose(pruned, masks)
    last = _looked_at("hptd", Stage(pruned, masks), data, settings, stages, rows)
    return Baseline("hptd", last.model, masks, tuple(rows), settings)


def counts_of(source: TrimResult | Masks) -> dict[str, int]:
    """Return how many weights of each layer another method keeps.

    Parameters
    ----------
    source : TrimResult or dict
        What ``nettrim.trim`` gives, or masks of any method.

    Returns
    -------
    dict
        Name of each weight to the number that is kept; of a trim those that are not 0.
    """
    masks = _of(source.model) if isinstance(source, TrimResult) else source
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _looked_at(
    name: str, pruned: Stage, data: Data, settings: dict[str, Any], stages: Stages, rows: list[dict[str, Any]]
) -> Stage:
    """Add the rows of a pruned network and of the same fine-tuned, and return the latter."""
    rows.append(_row(name, pruned.model, pruned.masks, data))
    if settings["epochs"] == 0:
        return pruned
    how = {key: settings[key] for key in ("epochs", "batch_size", "learning_rate", "momentum", "seed")}
    steps = settings["epochs"] * math.ceil(len(data.x_train) / settings["batch_size"])
    how |= {"masks": pruned.masks, "label": f"fine-tuning {name}"}
    how["schedule"] = lambda part: DECAY ** (round(part * steps) // EVERY)

    def make() -> Stage:
        return Stage(train(pruned.model, data.x_train, data.y_train, **how), pruned.masks)

    tuned = stages.run(f"{name}-fine-tuned", make, pruned.model)
    rows.append(_row(f"{name} fine-tuned", tuned.model, tuned.masks, data))
    return tuned


def _of(model: nn.Module) -> Masks:
    return {name: weight.detach() != 0 for name, weight in weights(model).items()}


def _row(step: str, model: nn.Module, masks: Masks, data: Data) -> dict[str, Any]:
    return row(step, model, masks, data, layers=counts_of(masks))


def _checked(model: nn.Module, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be done before any of it is, and return the whole numbers as such."""
    if settings["counts"] is not None:
        found = weights(model)
        if not isinstance(settings["counts"], Mapping):
            raise SettingError(f"counts must map names of weights to whole numbers; got {settings['counts']!r}")
        for name, count in settings["counts"].items():
            if name not in found:
                raise SettingError(f"counts names {name!r}, which is no weight here; there are {', '.join(found)}")
            _door.whole(f"counts of {name!r}", count, least=0, most=found[name].numel())
    epsilon = settings["epsilon"]
    for name, value in epsilon.items() if isinstance(epsilon, Mapping) else [("epsilon", epsilon)]:
        _door.positive(f"epsilon of {name!r}" if isinstance(epsilon, Mapping) else name, value, zero=True)
    least = {"n_samples": 1, "batch_size": 1, "epochs": 0, "seed": 0}
    numbers = {name: _door.whole(name, settings[name], value) for name, value in least.items()}
    _door.positive("learning_rate", settings["learning_rate"])
    if settings["momentum"] is not None and _door.fraction("momentum", settings["momentum"], closed=True) == 1:
        raise SettingError("momentum must be below 1, or None for Adam; got 1")
    return numbers
