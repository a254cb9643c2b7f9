"""Targeted dropout: a network learns to do without its smallest weights or units, and is pruned of them afterwards.

Aidan N. Gomez, Ivan Zhang, Siddhartha Rao Kamalakara, Divyam Madaan, Kevin Swersky, Yarin Gal, Geoffrey E. Hinton,
"Learning Sparse Networks Using Targeted Dropout" (2019), arXiv:1905.13678.

In every step the bottom fraction gamma is a candidate: of the weights of each unit, by magnitude, or of the units of each
layer, by l2 norm. Each candidate is dropped with probability alpha, so that ``1 - gamma alpha`` of the weights are expected
to be left; the step uses the others as they are, and what is dropped has no gradient. When training is over the bottom
fraction is pruned by the same rule, and nothing is trained again. Ramping targeted dropout begins with both rates at 0 and
ends with high ones (``ramp``). Ordinary dropout and the l1 penalty, with which the paper compares, are settings here.

What is as the paper has it, what is as its authors' code (github.com/for-ai/TD) has it, and what is ours:

- A targeted unit is dropped whole. The code draws for each weight in it, which ``whole_units=False`` does too.
- A dropped, or pruned, unit loses its weights and keeps its bias, as in the code: after a ReLU it is a constant.
- The layer of the logits is exempt, as in the code; its ResNets spare the first convolution too (``exempt`` names layers).
- Candidates are counted as ``floor(gamma n)`` of each, also where magnitudes are equal; the code takes those below a
  threshold. In evaluation mode a layer is whole; the code's convolutions have all candidates at 0 then.
- SGD with momentum, as in the code, but Nesterov's, and its step size rises over the first fifth of the training and falls
  to 0 on a line (``nettrim.train``). The ramp ends after ``ramp_until`` of the training; the code's, after 40,000 steps.
- The l1 penalty is ``l1`` times the sum of the magnitudes in the layers that are pruned.
- Networks and data are ours: LeNet-300-100 on MNIST.

Nothing makes up for what is dropped, so with high rates the whole network, which training never saw, can be less accurate
than the pruned one; a row tells of both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim import masks as pruning
from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.targeted_dropout._layers import TargetedConv2d, TargetedLinear
from nettrim.baselines.targeted_dropout._models import aimed_at, bottom, plain, targeted
from nettrim.baselines.targeted_dropout._targeting import candidates, ramp
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.masks import Masks
from nettrim.train import train

__all__ = [
    "BEGINS",
    "NETWORK",
    "TargetedConv2d",
    "TargetedLinear",
    "aimed_at",
    "bottom",
    "candidates",
    "plain",
    "ramp",
    "run",
    "targeted",
]

BEGINS = "born"
NETWORK = "lenet300"
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def run(
    model: nn.Module,
    data: Data,
    *,
    targets: str = "weights",
    gamma: float = 0.95,
    alpha: float = 0.99,
    ramp_until: float = 0.5,
    whole_units: bool = True,
    rescale: bool = False,
    dropout: float = 0.0,
    l1: float = 0.0,
    prune: float = 0.9,
    levels: Sequence[float] = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99),
    exempt: Sequence[str] | None = None,
    epochs: int = 15,
    batch_size: int = 200,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    folder: Any = None,
) -> Baseline:
    """Train a network with targeted dropout and prune it, without training it again.

    Parameters
    ----------
    model : torch.nn.Module
        With its initial weights, of linear layers and convolutions in two dimensions; left unchanged.
    data : Data
        What it is trained and tested on.
    targets : {"weights", "units"}, optional
        What is dropped in training, and pruned in the end.
    gamma : float, optional
        Fraction that is targeted, in [0, 1].
    alpha : float, optional
        Probability with which a candidate is dropped, in [0, 1]; 0 is training without targeted dropout.
    ramp_until : float, optional
        Part of the training over which the rates rise from 0 (see ``ramp``); 0 for rates that are constant.
    whole_units : bool, optional
        Whether a targeted unit is dropped whole, or weight by weight.
    rescale : bool, optional
        Whether candidates that are left are divided by ``1 - alpha``: with ``gamma`` 1 this is ordinary dropout of weights
        or units, drawn anew for each step.
    dropout : float, optional
        Rate of the network's own dropout modules in training, in [0, 1); 0 turns them off.
    l1 : float, optional
        Coefficient of the l1 penalty on the weights of the layers that are pruned.
    prune : float, optional
        Fraction that the network in the end is pruned of, in [0, 1): of each unit's weights, or of each layer's units.
    levels : sequence of float, optional
        Further such fractions that the rows tell of, each for weights and for units.
    exempt : sequence of str, optional
        Names of layers that are neither targeted nor pruned; by default the last one, which gives the logits.
    epochs, batch_size, learning_rate, momentum, weight_decay : optional
        Of the training (``nettrim.train``): SGD with Nesterov's momentum, in [0, 1).
    seed : int, optional
        Seed of the order of the samples and of all that is dropped.
    folder : path-like, optional
        Where the trained network is kept.

    Returns
    -------
    Baseline
        The pruned network. Its rows have the fields ``by`` (what is pruned), ``pruned`` (the fraction), ``kept_here`` (what
        is kept of the weights in the layers that are pruned) and ``units`` (how many of their units have weights left).

    Raises
    ------
    SettingError
        If a setting is outside of what it may be.
    ModelError
        If the model cannot be trained on the data, or has no layer to target.
    DataError
        If the data are no such data.
    """
    settings = settings_of(locals())
    settings |= _checked(settings)
    _door.fits(model, data)
    aimed_at(model, exempt)
    if dropout and not any(isinstance(module, _DROPOUTS) for module in model.modules()):
        raise ModelError("dropout needs a network with dropout modules, for example lenet300(dropout=0.1); it has none")
    stages = Stages(folder, model, data, {"method": "targeted_dropout"} | settings)
    dense = stages.run("trained", lambda: Stage(_trained(model, data, settings)), model).model
    rows = [_row("trained", dense, {}, data, exempt, "", 0.0)]
    for by in ("weights", "units"):
        for level in levels:
            made, kept = _pruned(dense, level, by, exempt)
            rows.append(_row(f"{by} pruned by {level:g}", made, kept, data, exempt, by, level))
    made, kept = _pruned(dense, prune, targets, exempt)
    rows.append(_row("pruned", made, kept, data, exempt, targets, prune))
    return Baseline("targeted_dropout", made, kept, tuple(rows), settings)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be asked, and return the whole numbers as such."""
    _door.choice("targets", settings["targets"], ("weights", "units"))
    for name in ("gamma", "alpha", "ramp_until"):
        _door.fraction(name, settings[name], closed=True)
    for name in ("whole_units", "rescale"):
        _door.choice(name, settings[name], (True, False))
    if settings["rescale"] and settings["alpha"] == 1:
        raise SettingError("alpha must be below 1 where what is left is rescaled by 1 / (1 - alpha)")
    if not isinstance(settings["levels"], list | tuple):
        raise SettingError(f"levels must be a list of fractions; got {settings['levels']!r}")
    for name, value in [("dropout", settings["dropout"]), ("prune", settings["prune"])] + [
        ("levels", level) for level in settings["levels"]
    ]:
        if _door.fraction(name, value, closed=True) == 1:
            raise SettingError(f"{name} must be below 1; got {value!r}")
    if settings["exempt"] is not None and not isinstance(settings["exempt"], list | tuple):
        raise SettingError(f"exempt must be a list of names of layers; got {settings['exempt']!r}")
    for name in ("l1", "weight_decay"):
        _door.positive(name, settings[name], zero=True)
    _door.positive("learning_rate", settings["learning_rate"])
    if _door.fraction("momentum", settings["momentum"], closed=True) == 1:
        raise SettingError("momentum must be below 1; got 1")
    least = {"epochs": 1, "batch_size": 1, "seed": 0}
    return {name: _door.whole(name, settings[name], value) for name, value in least.items()}


def _trained(model: nn.Module, data: Data, settings: dict[str, Any]) -> nn.Module:
    """Train a copy with what is asked for, and return it with the plain layers and the dropout that came."""
    gamma, alpha, until, l1 = (settings[name] for name in ("gamma", "alpha", "ramp_until", "l1"))
    units, whole, exempt = settings["targets"] == "units", settings["whole_units"], settings["exempt"]
    start = targeted(model, gamma=gamma, alpha=alpha, units=units, whole=whole, rescale=settings["rescale"], exempt=exempt)
    steps = settings["epochs"] * math.ceil(len(data.x_train) / settings["batch_size"])

    def rise(step: int, network: nn.Module) -> None:
        now = ramp(step / steps, gamma, alpha, until)
        for layer in network.modules():
            if isinstance(layer, TargetedLinear | TargetedConv2d):
                layer.gamma, layer.alpha = now

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = F.cross_entropy(network(x), y)
        weights = {id(layer.weight): layer.weight for layer in aimed_at(network, exempt).values()}
        return value + l1 * torch.stack([weight.abs().sum() for weight in weights.values()]).sum()

    for module in start.modules():
        if isinstance(module, _DROPOUTS):
            module.p = settings["dropout"]
    rise(0, start)
    trained = train(
        start,
        data.x_train,
        data.y_train,
        loss=loss if l1 else None,
        after_step=rise if alpha and until else None,
        label=f"training with {settings['targets']} targeted" if alpha else "training without targets",
        **{name: settings[name] for name in ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "seed")},
    )
    made = plain(trained)
    for module, given in zip(made.modules(), model.modules(), strict=True):
        if isinstance(module, _DROPOUTS):
            module.p = given.p
    return made


def _pruned(model: nn.Module, prune: float, by: str, exempt: Sequence[str] | None) -> tuple[nn.Module, Masks]:
    """Return a pruned copy and its masks."""
    made, kept = copy.deepcopy(model), bottom(model, prune, units=by == "units", exempt=exempt)
    pruning.impose(made, kept)
    return made, kept


def _row(
    step: str, model: nn.Module, kept: Masks, data: Data, exempt: Sequence[str] | None, by: str, pruned: float
) -> dict[str, Any]:
    here = kept or bottom(model, 0.0, exempt=exempt)
    left, size = sum(int(mask.sum()) for mask in here.values()), sum(mask.numel() for mask in here.values())
    units = sum(int(mask.flatten(1).any(1).sum()) for mask in here.values())
    return row(step, model, kept, data, by=by, pruned=float(pruned), kept_here=left / size, units=units)
