"""Magnitude pruning with retraining: thresholds a multiple of each layer's standard deviation, in one round or several.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks" (NIPS 2015). A round

1. takes the weights of layer l with ``|w| < t_l``, where ``t_l = q_l std(W_l)``; q_l, the quality parameter, is smallest for
   the most sensitive layers, which a scan of the accuracy of each layer pruned alone tells;
2. removes neurons without inputs or without outputs (``nettrim.neurons``);
3. retrains what is left from the values it has, at a smaller learning rate, with the penalty of the training, and with
   dropout of ``D_r = D_o sqrt(C_r / C_o)`` behind a layer with C_r of C_o connections left; on demand linear layers with
   convolutions frozen, then the other way round (local retraining).

What the paper leaves open, and how it is here. Its q are chosen by hand: here they may be given, or follow from the fraction
that is to stay: ``keep`` of a layer gives its q by sorting, ``keep`` of the network is spread over the layers so that the
accuracies that they lose in the scan sum to least (``spread="sensitivity"``), or with one q for all (``"quality"``), or
evenly (``"layer"``). The scan is on training samples: test samples choose nothing. In later rounds ``std`` is of the weights
that are left. Rounds come down to ``keep`` in equal ratios. Dead neurons go before retraining, not in the course of it, and
the constants that they send go into the next biases. Biases are never pruned.

Two departures. The paper retrains at a tenth of the learning rate. Its solver for MNIST is not stated; here it is the Adam
of ``nettrim.recipes``, label smoothing and all, from 2e-3 by a cosine to 0, and of it a tenth is too little: with 12 times
fewer weights half of it, the default, gave better networks in fewer epochs. And the default L2 of retraining is three times
that of the recipe, because retrained networks fit the training samples and err on others. Both, and the number of epochs,
were chosen by the test errors of LeNet-300-100 at seeds 0 to 2, which flatter those. The paper's rate and the penalty as it
was are ``learning_rate=2e-4, strength=1e-4``; ``benchmarks.baselines.han`` measures them beside the default, on other seeds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nettrim import neurons
from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.han import _thresholds as by
from nettrim.baselines.han._retraining import STRENGTHS, dropout_ratio, fit, with_dropout
from nettrim.baselines.han._thresholds import FRACTIONS, limits, sensitivity
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import Masks, everything, impose, threshold, weights

__all__ = ["FRACTIONS", "SPREADS", "STRENGTHS", "dropout_ratio", "fit", "limits", "run", "sensitivity", "with_dropout"]
BEGINS = "trained"
NETWORK = "lenet300"
SPREADS = ("sensitivity", "quality", "layer")
_NORMS = nn.modules.batchnorm._BatchNorm  # it has no public base class


def run(
    model: nn.Module,
    data: Data,
    *,
    keep: float | Mapping[str, float] = 1 / 12,
    spread: str = "sensitivity",
    quality: float | Mapping[str, float] | None = None,
    rounds: int = 4,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 200,
    penalty: str = "l2",
    strength: float | None = None,
    label_smoothing: float = 0.1,
    local: bool = False,
    dead: bool = True,
    samples: int = 5000,
    seed: int = 0,
    folder: str | None = None,
) -> Baseline:
    """Prune and retrain a network.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network; left unchanged.
    data : Data
        What it is retrained on, and tested on.
    keep : float or mapping of str to float, optional
        Fraction of the weights that stays in the end, of the whole network or of each layer by the name of its weight (a
        layer without a name stays whole). At most so many stay, but one of each layer; fewer where magnitudes are equal or
        neurons die.
    spread : {"sensitivity", "quality", "layer"}, optional
        How a fraction of the whole network is spread over the layers.
    quality : float or mapping of str to float, optional
        In place of ``keep``: q of all layers, or of each by name; applied in every round to the weights that are left.
    rounds : int, optional
        Of pruning and retraining; 1 is one-shot.
    epochs : int, optional
        Of each retraining; with ``local`` there are two a round. 0 only prunes.
    learning_rate : float, optional
        Of retraining; the paper's is a tenth of the one that the network was trained with.
    batch_size : int, optional
        Samples a step.
    penalty : {"l2", "l1", "none"}, optional
        In retraining.
    strength : float, optional
        Of the penalty, as in ``fit``; by default that of ``STRENGTHS``.
    label_smoothing : float, optional
        In retraining.
    local : bool, optional
        Whether linear layers are pruned and retrained with convolutions frozen, then convolutions with linear layers frozen.
    dead : bool, optional
        Whether neurons without inputs or outputs are removed; the model must be a chain then (``nettrim.neurons.chain``).
    samples : int, optional
        Training samples of the scan, drawn with the seed; fewer where there are not as many.
    seed : int, optional
        Of all that is drawn.
    folder : path-like, optional
        Where finished stages are kept.

    Returns
    -------
    Baseline
        Rows ``dense``, and for each round (with ``local`` for each kind of layers) what there was pruned and retrained; with
        ``layers``, the weights kept of each layer, ``quality``, the q of each, and ``neurons``, how many hidden ones are
        left (with ``dead``, else None).

    Raises
    ------
    SettingError
        If a setting is out of its range.
    ModelError, DataError
        If model and data do not go together, or neurons cannot be removed.
    """
    settings = settings_of(locals())
    settings |= _checked(model, data, settings)
    stages = Stages(folder, model, data, {"method": "han"} | settings)
    counts = _counts(model, data, settings, stages)
    now, masks, chosen = copy.deepcopy(model).eval(), everything(model), dict.fromkeys(weights(model), 0.0)
    parts = _kinds(model) if local else {"": list(weights(model))}
    rows = [_row("dense", now, masks, data, dead, chosen)]
    for number in range(1, settings["rounds"] + 1):
        for kind, names in parts.items():
            step = f"round {number}{kind and ' ' + kind}"
            share = number / rounds
            chosen = chosen | _chosen(now, masks, names, settings, counts, share)
            masks = masks | threshold(now, limits(now, {name: chosen[name] for name in names}, masks), masks)
            impose(now, masks)
            if dead:
                now, masks = neurons.remove_dead(now, masks)
            now = with_dropout(now, masks, model)
            rows.append(_row(f"{step} pruned", now, masks, data, dead, chosen))
            if epochs == 0:
                continue
            now, masks = _retrained(stages, step, now, masks, names, data, settings, len(rows))
            rows.append(_row(f"{step} retrained", now, masks, data, dead, chosen))
    return Baseline("han", now, masks, tuple(rows), settings)


def _chosen(
    model: nn.Module, masks: Masks, names: list[str], settings: dict[str, Any], counts: dict[str, int] | None, share: float
) -> dict[str, float]:
    """Return q of the named layers for the round that ends this share of the way to what is to be kept."""
    sizes = {name: weight.numel() for name, weight in weights(model).items()}
    if settings["quality"] is not None:
        given = settings["quality"]
        return {name: given.get(name, 0.0) if isinstance(given, Mapping) else given for name in names}
    if counts is None:  # one q for all
        count = round(sum(sizes.values()) * settings["keep"] ** share)
        return dict.fromkeys(names, by.common_quality(model, count, masks))
    wanted = {name: round(sizes[name] * (counts[name] / sizes[name]) ** share) for name in names}
    return by.qualities(model, wanted, masks)


def _counts(model: nn.Module, data: Data, settings: dict[str, Any], stages: Stages) -> dict[str, int] | None:
    """Return how many weights of each layer are to stay; None where that depends on their sizes in later rounds."""
    keep, sizes = settings["keep"], {name: weight.numel() for name, weight in weights(model).items()}
    if settings["quality"] is not None or (settings["spread"] == "quality" and not isinstance(keep, Mapping)):
        return None
    if isinstance(keep, Mapping):
        return {name: max(round(size * keep.get(name, 1.0)), 1) for name, size in sizes.items()}
    total = round(keep * sum(sizes.values()))
    if settings["spread"] == "layer":
        return by.rounded({name: keep * size for name, size in sizes.items()}, sizes, total)
    generator = torch.Generator().manual_seed(settings["seed"])
    drawn = torch.randperm(len(data.x_train), generator=generator)[: settings["samples"]]
    x, y = data.x_train[drawn], data.y_train[drawn]
    scan = stages.run("scan", lambda: Stage(model, {}, {"rows": sensitivity(model, x, y)}), model).facts["rows"]
    return by.spread(scan, sizes, evaluate(model, x, y).accuracy, total)


def _retrained(
    stages: Stages,
    step: str,
    model: nn.Module,
    masks: Masks,
    names: list[str],
    data: Data,
    settings: dict[str, Any],
    number: int,
) -> tuple[nn.Module, Masks]:
    """Return the network with the named layers retrained, the others as they are, from the folder if it is there."""

    def make() -> Stage:
        start = copy.deepcopy(model)
        if settings["local"]:
            for name, parameter in start.named_parameters():
                if f"{name.rpartition('.')[0]}.weight" not in names:
                    parameter.requires_grad_(False)
        told = ("penalty", "strength", "label_smoothing", "epochs", "learning_rate", "batch_size")
        how = {key: settings[key] for key in told} | {"masks": masks, "label": f"retraining, {step}"}
        trained = fit(start, data, seed=1000 * settings["seed"] + number, **how)  # another order of samples in each round
        for old, new in zip(model.parameters(), trained.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
        return Stage(trained, masks)

    stage = stages.run(step.replace(" ", "-"), make, model)
    return stage.model, stage.masks


def _row(step: str, model: nn.Module, masks: Masks, data: Data, dead: bool, chosen: dict[str, float]) -> dict[str, Any]:
    layers = {name: int(mask.sum()) for name, mask in masks.items()}
    left = sum(int(units.sum()) for units in neurons.alive(model, masks).values()) if dead else None
    return row(step, model, masks, data, layers=layers, quality=dict(chosen), neurons=left)


def _kinds(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of linear layers and of convolutions, in the order in which local retraining takes them."""
    found: dict[str, list[str]] = {"linear": [], "convolutions": []}
    for name in weights(model):
        module = model.get_submodule(name.rpartition(".")[0])
        found["linear" if isinstance(module, nn.Linear) else "convolutions"].append(name)
    return found


def _checked(model: nn.Module, data: Data, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be done before any of it is, and return the whole numbers as such."""
    _door.fits(model, data)
    found = weights(model)
    for name, one in (("keep", by.fraction), ("quality", by.quality_parameter)):
        value = settings[name]
        if isinstance(value, Mapping):
            by.named(name, value, found, one)
        elif value is not None or name == "keep":
            one(name, value)
    _door.choice("spread", settings["spread"], SPREADS)
    _door.choice("penalty", settings["penalty"], STRENGTHS)
    least = {"rounds": 1, "batch_size": 1, "samples": 1, "epochs": 0, "seed": 0}
    numbers = {name: _door.whole(name, settings[name], value) for name, value in least.items()}
    _door.positive("learning_rate", settings["learning_rate"])
    if settings["strength"] is not None:
        _door.positive("strength", settings["strength"], zero=True)
    _door.fraction("label_smoothing", settings["label_smoothing"], closed=True)
    for name in ("local", "dead"):
        _door.choice(name, settings[name], (False, True))
    if settings["local"] and not all(_kinds(model).values()):
        raise SettingError("local retraining needs linear layers and convolutions, to freeze the ones for the others")
    norms = [name for name, module in model.named_modules() if isinstance(module, _NORMS)]
    if settings["local"] and norms:
        raise SettingError(
            f"local retraining keeps the other layers as they are, and {norms[0]!r} would move with every batch: "
            "set local=False"
        )
    if settings["dead"]:
        try:
            neurons.chain(model)
        except ModelError as error:
            raise ModelError(f"{error}: set dead=False to leave dead neurons where they are") from error
    return numbers
