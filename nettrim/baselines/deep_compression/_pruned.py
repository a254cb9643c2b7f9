"""Pruning by magnitude in rounds, each followed by training of what is left.

S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural Networks" (NeurIPS 2015),
which is the first stage of "Deep Compression" (Han, Mao, Dally, ICLR 2016).
"""

from __future__ import annotations

import copy
import math
import os
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from nettrim import masks as pruning
from nettrim.baselines import _door
from nettrim.baselines._result import settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.data import Data
from nettrim.errors import SettingError
from nettrim.train import train


def prune(
    model: nn.Module,
    data: Data,
    *,
    keep: float | list[float] | None = None,
    rounds: int = 4,
    round_epochs: int = 3,
    epochs: int = 20,
    learning_rate: float = 2e-3,
    batch_size: int = 200,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> list[Stage]:
    """Prune a trained network and train it on.

    Parameters
    ----------
    model : torch.nn.Module
        Trained; left unchanged.
    data : Data
        Its training samples are used.
    keep : float or list of float, optional
        As ``fractions`` takes it.
    rounds : int, optional
        After round r of R a layer has ``keep**(r/R)`` of its weights, those of largest magnitude of what was left.
    round_epochs : int, optional
        Passes of training in all rounds but the last.
    epochs : int, optional
        And in the last.
    learning_rate : float, optional
        Of Adam, by a cosine to 0 in each round.
    batch_size, weight_decay, label_smoothing : optional
        As ``train`` takes them.
    seed : int, optional
        Of the order of the samples; each round has its own.
    folder : path-like, optional
        For finished rounds.

    Returns
    -------
    list of Stage
        The network and its masks after each round.

    Raises
    ------
    ModelError, DataError
        If model and data do not go together.
    SettingError
        If a setting is outside of what it may be.
    """
    asked = check(settings_of(locals()))
    _door.fits(model, data)
    final = fractions(model, keep)
    stages = Stages(folder, model, data, {"method": "prune", **asked, "keep": list(final.values())})
    how = {name: asked[name] for name in ("learning_rate", "batch_size", "weight_decay", "label_smoothing")}
    done, rounds = [Stage(model, pruning.everything(model))], asked["rounds"]
    for r in range(1, rounds + 1):
        left = {name: part ** (r / rounds) for name, part in final.items()}
        more = how | {"epochs": asked["epochs" if r == rounds else "round_epochs"], "seed": asked["seed"] + r}
        done.append(stages.run(f"round-{r}", lambda left=left, more=more: _round(done[-1], left, data, more), model))
    return done[1:]


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings, those of ``prune`` as numbers of their kind, or refuse those outside of what they may be.

    Parameters
    ----------
    settings : dict
        All of them; others are passed over.

    Returns
    -------
    dict
        In the same order.

    Raises
    ------
    SettingError
        By the name of the first.
    """
    found = {name: _door.whole(name, settings[name]) for name in ("rounds", "round_epochs", "epochs", "batch_size")}
    found["seed"] = _door.whole("seed", settings["seed"], 0)
    found["learning_rate"] = _door.positive("learning_rate", settings["learning_rate"])
    found["weight_decay"] = _door.positive("weight_decay", settings["weight_decay"], zero=True)
    found["label_smoothing"] = _door.fraction("label_smoothing", settings["label_smoothing"], closed=True)
    return settings | found


def fractions(model: nn.Module, keep: Any) -> dict[str, float]:
    """Return the fraction of the weights that is to be kept of each layer.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.
    keep : float or list of float or None
        For all layers, or one for each in the order of the model; None for 9 %, and 30 % of the last.

    Returns
    -------
    dict
        Name of the weight to fraction, in (0, 1].

    Raises
    ------
    SettingError
        If there are not as many as layers, or one is outside of this.
    """
    names = list(pruning.weights(model))
    if keep is None:
        keep = [0.09] * (len(names) - 1) + [0.3]
    if not isinstance(keep, list | tuple):
        keep = [keep] * len(names)
    if len(keep) != len(names):
        raise SettingError(f"keep must be one fraction, or one for each of {len(names)} layers; got {len(keep)}")
    for part in keep:
        if _door.fraction("keep", part, closed=True) == 0:
            raise SettingError("keep must be above 0 in every layer; got 0")
    return dict(zip(names, map(float, keep), strict=True))


def _round(before: Stage, left: dict[str, float], data: Data, how: dict[str, Any]) -> Stage:
    """Keep fractions of the weights, at least one a layer, and train them."""
    sizes = {name: weight.numel() for name, weight in pruning.weights(before.model).items()}
    counts = {name: max(round(left[name] * size), 1) for name, size in sizes.items()}
    masks = pruning.largest(before.model, counts, before.masks)
    thinner = _less_dropout(before.model, {name: count / sizes[name] for name, count in counts.items()})
    label = f"training {sum(counts.values()) / sum(sizes.values()):.1%} of the weights"
    trained = train(thinner, data.x_train, data.y_train, masks=masks, label=label, **how)
    model = copy.deepcopy(before.model)  # with its own dropout
    model.load_state_dict(trained.state_dict())
    return Stage(model.eval(), masks)


def _less_dropout(model: nn.Module, parts: dict[str, float]) -> nn.Module:
    """Return a copy with dropout lower by the root of what is left of the layer before it (Han et al. 2015, section 3.2)."""
    model, part = copy.deepcopy(model), 1.0
    names = {id(weight): name for name, weight in pruning.weights(model).items()}
    for module in model.modules():
        if isinstance(module, pruning.LAYERS):
            part = parts[names[id(module.weight)]]
        elif isinstance(module, _DropoutNd):  # of units and of whole channels
            module.p *= math.sqrt(part)
    return model
