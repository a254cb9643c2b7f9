"""Lottery tickets: prune by magnitude, put the weights that are left back to where they began, train again, and so on.

Frankle, Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks" (ICLR 2019). From initial weights
theta_0 and masks m of ones, a round is

    theta_j = the weights of f(x; m * theta_0) after j iterations of training,
    of the n weights that a layer has left, the round(p n) of smallest |theta_j| leave m,

and the ticket of the round is f(x; m * theta_0), which is then trained as the dense network was. p is 20 %, in the output
layer half of it; biases are never pruned. What makes a ticket is seen beside controls, which train for as long: its masks on
weights drawn anew (``reinits``), theta_0 with as many weights in other places of each layer (``shuffles``), and as many
weights chosen in one shot, by |theta_j| of the dense network (``oneshot``; on its own that is ``rounds=1`` at a high rate).

For LeNet-300-100 the paper has Glorot's normal initialization with biases 0 (``glorot``), Adam at 1.2e-3 throughout, batches
of 60, and 5,000 of the 60,000 training images held out, looked at every 100 iterations; so have the defaults. Departures are
6,000 iterations in place of 50,000, and an order of the samples for each training of its own. The network that the command
line takes from ``nettrim.recipes`` has a dropout of 0.1; that of ``nettrim.models`` has none, as the paper's.

``rewind=k`` resets to the weights after iteration k of the dense training in place of theta_0 (late rewinding: Frankle,
Dziugaite, Roy, Carbin, "Stabilizing the Lottery Ticket Hypothesis", 2019). The optimizer starts anew there and makes the
iterations that the dense network had left; controls that begin from other weights, or in other places, make all of them.
``strategy="continue"`` trains the weights that are left on from where they are and resets them once, in the last round (the
paper's strategy 2); until then its rows are those of networks that were not reset.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stages
from nettrim.baselines.lottery._hunt import SCOPES, Hunt, checked, redrawn
from nettrim.baselines.lottery._tickets import seeded, split
from nettrim.data import Data
from nettrim.errors import MaskError
from nettrim.masks import LAYERS, Masks, check, largest, weights

BEGINS = "born"
NETWORK = "lenet300"


def run(
    model: nn.Module,
    data: Data,
    *,
    rounds: int = 12,
    rate: float = 0.2,
    convolution_rate: float | None = None,
    output_rate: float | None = None,
    scope: str = "layer",
    initial: str = "glorot",
    strategy: str = "reset",
    rewind: int = 0,
    iterations: int = 6000,
    every: int = 100,
    batch_size: int = 60,
    learning_rate: float = 1.2e-3,
    validation: float = 1 / 12,
    reinits: int = 0,
    shuffles: int = 0,
    oneshot: bool = False,
    at: Sequence[int] | None = None,
    seed: int = 0,
    folder: str | None = None,
) -> Baseline:
    """Find lottery tickets, a smaller one each round, and train each.

    Parameters
    ----------
    model : torch.nn.Module
        With its initial weights. Left unchanged.
    data : Data
        What it is trained on.
    rounds : int, optional
        Of pruning; the dense network is trained before the first.
    rate : float, optional
        Part of the weights left that a round takes from a layer, in (0, 1).
    convolution_rate : float, optional
        In place of ``rate`` in convolutions, in [0, 1).
    output_rate : float, optional
        In the last layer, in [0, 1); by default half of what its rate would be.
    scope : {"layer", "global"}, optional
        Whether a rate holds in each layer, or in all layers of that rate together.
    initial : {"glorot", "given"}, optional
        Whether the initial weights are drawn by ``glorot(model, seed=seed)``, or the model's. Weights drawn anew for a
        control come from ``glorot`` too, or else are the model's in a random order within each layer.
    strategy : {"reset", "continue"}, optional
        Whether weights are reset in every round, or in the last one only.
    rewind : int, optional
        Iterations of the dense training after which the weights are those that a reset goes back to.
    iterations : int, optional
        Steps of the optimizer from the initial weights to the end.
    every : int, optional
        Steps from one look at the validation samples to the next; the last look is at the end.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's step size.
    validation : float, optional
        Part of the training samples that is held out, drawn with the seed.
    reinits : int, optional
        Controls with the ticket's masks on weights drawn anew.
    shuffles : int, optional
        Controls with masks of the same number of weights in each layer, in random places.
    oneshot : bool, optional
        Whether to train what pruning the dense network once leaves, as many weights as the ticket has.
    at : sequence of int, optional
        Rounds that have controls; by default all.
    seed : int, optional
        Of all that is drawn.
    folder : path-like, optional
        Where finished trainings are kept.

    Returns
    -------
    Baseline
        The last round's ticket, trained to the end. A row for each training: ``network`` is "ticket" (in round 0 the dense
        network), "reinit", "random" or "oneshot", and ``draw`` counts those of a kind. ``accuracy`` and ``loss`` are at the
        end, ``early_accuracy`` and ``early_loss`` at ``early_stop``, the iteration of least ``validation_loss``.

    Raises
    ------
    SettingError
        If a setting is none of what it may be.
    ModelError
        If the model cannot be trained on the data, or the folder holds another run.
    DataError
        If the data cannot be used, or ``validation`` holds out no sample or all.
    """
    _door.fits(model, data)
    settings = checked(settings_of(locals()))
    takes = rates(model, rate, convolution_rate=convolution_rate, output_rate=output_rate)
    drawn = initial == "glorot"
    hunt = Hunt(
        *split(data, validation, seeded(settings["seed"], "validation")),
        stages=Stages(folder, model, data, {"method": "lottery"} | settings),
        settings=settings,
        theta=glorot(model, seed=settings["seed"]) if drawn else copy.deepcopy(model),
        again=lambda anew: glorot(model, seed=anew) if drawn else redrawn(model, anew),
        prune=lambda stage, n: pruned(stage.model, stage.masks, takes, rounds=n, scope=scope),
    )
    rows = []
    for number, network, draw, stage in hunt.trainings():
        what = f"round {number}" + ("" if network == "ticket" else f", {network} {draw}")
        more = {"round": number, "network": network, "draw": draw} | stage.facts
        rows.append(row(what, stage.model, stage.masks, data, **more))
        if network == "ticket":
            ticket = stage
    return Baseline("lottery", ticket.model, ticket.masks, tuple(rows), settings)


def glorot(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return a copy with biases 0 and normal weights of the variance of Glorot, Bengio (AISTATS 2010).

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Parameters of other modules than linear layers and convolutions are as they are.
    seed : int, optional
        Of the draw; torch's global generator is left alone.

    Returns
    -------
    torch.nn.Module
        The copy: the variance of each weight is 2 / (fan_in + fan_out).
    """
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights(model).values():
            weight.copy_(nn.init.xavier_normal_(torch.empty(weight.shape, dtype=weight.dtype), generator=generator))
        for module in model.modules():
            if isinstance(module, LAYERS) and module.bias is not None:
                module.bias.zero_()
    return model


def rates(
    model: nn.Module, rate: float = 0.2, *, convolution_rate: float | None = None, output_rate: float | None = None
) -> dict[str, float]:
    """Return which part of the weights left a round takes from each layer.

    Parameters
    ----------
    model : torch.nn.Module
        Its last linear layer or convolution, in the order of its parameters, counts as the output layer.
    rate : float, optional
        In linear layers.
    convolution_rate : float, optional
        In convolutions; by default ``rate``.
    output_rate : float, optional
        In the output layer; by default half of what its rate would be.

    Returns
    -------
    dict
        Name of a weight to its rate.
    """
    found = dict.fromkeys(weights(model), rate)
    if convolution_rate is not None:
        found |= {name: convolution_rate for name, weight in weights(model).items() if weight.ndim > 2}
    last = list(found)[-1]
    return found | {last: found[last] / 2 if output_rate is None else output_rate}


def pruned(model: nn.Module, masks: Masks, rates: Mapping[str, float], *, rounds: int = 1, scope: str = "layer") -> Masks:
    """Take the weights of smallest magnitude out of masks: of n that are left exactly round(p n), a round.

    Parameters
    ----------
    model : torch.nn.Module
        Whose weights are compared. Left unchanged.
    masks : dict
        Which are left; a layer without a mask is whole.
    rates : mapping
        Name of a weight to the part p that a round takes, in [0, 1).
    rounds : int, optional
        As many weights are taken as so many rounds take.
    scope : {"layer", "global"}, optional
        Whether p is taken from each layer, or from all layers of the same p together.

    Returns
    -------
    dict
        Masks for the names in ``rates``. Of equal magnitudes the first in the model are kept.

    Raises
    ------
    MaskError
        If a name is not of the model, or the masks do not fit it.
    SettingError
        If a rate or the scope is none of what it may be.
    """
    found = weights(model)
    check(model, masks)
    _door.choice("scope", scope, SCOPES)
    for name, rate in rates.items():
        if rate != 0:
            _door.fraction(f"the rate of {name!r}", rate)
        if name not in found:
            raise MaskError(f"{name!r} is no weight of a linear layer or convolution here; there are {', '.join(found)}")
    alive = {name: int(masks[name].sum()) if name in masks else found[name].numel() for name in rates}
    if scope == "layer":
        return largest(model, {name: _left(alive[name], rate, rounds) for name, rate in rates.items()}, masks)
    counts: dict[str, int] = {}
    for rate in set(rates.values()):
        names = [name for name in found if rates.get(name) == rate]
        count = _left(sum(alive[name] for name in names), rate, rounds)
        counts |= _shares({name: found[name] for name in names}, masks, count)
    return largest(model, counts, masks)


def _left(n: int, rate: float, rounds: int) -> int:
    """Return how many of n weights some rounds leave."""
    for _ in range(rounds):
        n -= round(rate * n)
    return n


def _shares(found: Mapping[str, nn.Parameter], masks: Masks, count: int) -> dict[str, int]:
    """Return how many of the largest weights of several layers together are in each."""
    sizes = [weight.detach().abs() for weight in found.values()]
    sizes = [
        size.masked_fill(~masks[name], -1.0) if name in masks else size for name, size in zip(found, sizes, strict=True)
    ]
    top = torch.argsort(torch.cat([size.flatten() for size in sizes]), descending=True, stable=True)[:count]
    ends = torch.tensor([size.numel() for size in sizes], device=top.device).cumsum(0)
    inside = torch.bincount(torch.bucketize(top, ends, right=True), minlength=len(sizes))
    return dict(zip(found, inside.tolist(), strict=True))
