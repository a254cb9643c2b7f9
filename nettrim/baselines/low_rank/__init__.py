"""Low-rank factorization: linear layers become two, convolutions three (Tucker-2) or four (CP), and the whole is fine-tuned.

Denton, Zaremba, Bruna, LeCun, Fergus, "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation"
(NIPS 2014) for linear layers; Kim, Park, Yoo, Choi, Yang, Shin, "Compression of Deep Convolutional Neural Networks for Fast
and Low Power Mobile Applications" (ICLR 2016) for Tucker-2 with ranks by EVBMF and one fine-tuning of the whole network;
Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky, "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition"
(ICLR 2015) for CP.

    layer                       in factors                                                  weights
    linear, W (m, n)            W_r = (U_r S_r^(1/2)) (S_r^(1/2) V_r')                      r (m + n)
    the same, on inputs X       the W_r that minimizes ||(W - W_r) X||_F                    r (m + n)
    Tucker-2, K (T, S, d, d)    1 x 1 to R3 channels, d x d to R4, 1 x 1 to T               S R3 + d^2 R3 R4 + T R4
    CP                          1 x 1 to R, d x 1 and 1 x d on each of the R, 1 x 1 to T    R (S + 2 d + T)

The pieces: ``truncated``, ``tucker2``, ``cp``, ``evbmf``, and the modules made of them, ``linear_pair``,
``tucker_convolutions``, ``cp_convolutions``. Departures from the papers:

* Linear layers can be approximated in their responses on training samples rather than in their weights (``linear="data"``,
  the default; inputs are those of the dense network). ``linear="plain"`` is the plain truncated SVD.
* The layer that gives the logits is left alone unless it is named.
* A side of Tucker-2 at full rank gets no 1 x 1 convolution, since a square factor can be multiplied into the core. So a
  first layer with one input channel becomes two convolutions, and a 1 x 1 convolution becomes two, as a matrix would.
* CP is fitted by alternating least squares with a small penalty, which keeps components from diverging. Its rank is told,
  or gives as many weights as Tucker-2 by the same rule would have, since CP has no spectrum to read a rank from.
* A layer in which EVBMF finds rank 0 is left alone unless it is named in ``layers``; then its rank is 1.
* A layer that would not get smaller is left alone, as are convolutions in groups, over one or three axes, and weights that
  are in several places; each has a row that says so.
* Fine-tuning is Adam with a cosine, as the dense networks here are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.low_rank import _ranks
from nettrim.baselines.low_rank._cost import multiply_adds, parameters
from nettrim.baselines.low_rank._cp import CP, cp
from nettrim.baselines.low_rank._factored import cp_convolutions, linear_pair, replaced, tucker_convolutions
from nettrim.baselines.low_rank._grams import grams
from nettrim.baselines.low_rank._ranks import Plan
from nettrim.baselines.low_rank._truncated import Pair, truncated
from nettrim.baselines.low_rank._tucker import Tucker2, tucker2
from nettrim.baselines.low_rank._vbmf import VBMF, evbmf
from nettrim.data import Data
from nettrim.errors import SettingError
from nettrim.train import train

__all__ = [
    "CP",
    "VBMF",
    "Pair",
    "Tucker2",
    "cp",
    "cp_convolutions",
    "evbmf",
    "linear_pair",
    "multiply_adds",
    "parameters",
    "replaced",
    "run",
    "truncated",
    "tucker2",
    "tucker_convolutions",
]

BEGINS = "trained"
NETWORK = "lenet300"


def run(
    model: nn.Module,
    data: Data,
    *,
    linear: str = "data",
    convolution: str = "tucker",
    rule: str = "evbmf",
    amount: float | None = None,
    ranks: Mapping[str, int | Sequence[int]] | None = None,
    layers: Sequence[str] | None = None,
    smaller_only: bool = True,
    samples: int = 10_000,
    epochs: int = 5,
    batch_size: int = 200,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.1,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Baseline:
    """Put the layers of a trained network into factors and fine-tune the whole.

    Parameters
    ----------
    model : torch.nn.Module
        The trained network, left unchanged.
    data : Data
        What it was trained on.
    linear : {"data", "plain", "none"}, optional
        Whether a linear layer's responses are approximated, or its weights, or it is left alone.
    convolution : {"tucker", "cp", "none"}, optional
        What becomes of a convolution over two axes.
    rule : {"evbmf", "energy", "ratio", "number"}, optional
        How ranks are chosen: by EVBMF of the weights; as the least that keep ``amount`` of the squared singular values (of
        the responses with ``linear="data"``; of both unfoldings of a kernel); as ``amount`` times the full rank; as
        ``amount``, or the full rank where that is less.
    amount : float, optional
        For the last three rules, and for these only.
    ranks : mapping, optional
        Name of a layer to its rank, or of Tucker-2 to [R3, R4], in place of the rule.
    layers : sequence of str, optional
        Names of the layers that are factored, beside those with told ``ranks``; by default all but the one that gives the
        logits: a rank below the number of classes ties these together, and saves a few weights.
    smaller_only : bool, optional
        Whether a layer is left alone where its factors would have no fewer weights.
    samples : int, optional
        Training samples from which ``linear="data"`` takes the inputs of the layers; all where there are fewer.
    epochs : int, optional
        Of fine-tuning; 0 leaves the factors as they are.
    batch_size, learning_rate, weight_decay, label_smoothing
        Of fine-tuning, as in ``nettrim.train.train``.
    seed : int, optional
        Of the draw of the samples, of the starts of CP and of fine-tuning.
    folder : path-like, optional
        Where finished stages are kept.

    Returns
    -------
    Baseline
        Its network has another architecture than ``model`` and no masks: ``kept`` is 1, of the weights that it has. Rows:
        ``dense``, one a layer in order (``factored``, with accuracy as layers are replaced one by one, or ``left alone``),
        ``all factored`` and ``fine-tuned``. ``parameters`` is what is left of the dense network's, biases too,
        ``n_parameters`` their number, ``multiply_adds`` those of a sample, ``rank`` and ``how`` what was done with the
        ``layer``, ``error`` the relative error of its weights, or of its responses with ``linear="data"``.

    Raises
    ------
    SettingError
        If a setting is not as above.
    """
    settings = _checked(settings_of(locals()))
    amount, epochs, seed = (settings[name] for name in ("amount", "epochs", "seed"))
    _door.fits(model, data)
    kinds = _ranks.kinds(model, data.x_test[:1], linear, convolution, layers, ranks or ())
    told = {name: _told(model, name, asked, kinds) for name, asked in (ranks or {}).items()}
    settings["ranks"] = None if ranks is None else told
    stages = Stages(folder, model, data, {"method": "low_rank"} | settings)

    @cache
    def inputs() -> dict[str, Any]:
        names = [name for name, how in kinds.items() if how == "svd" and linear == "data"]
        drawn = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(seed))[: settings["samples"]]
        return grams(model, names, data.x_train[drawn])

    def choose() -> Stage:
        plans = {}
        for name, how in kinds.items():
            more = {"asked": told.get(name), "gram": inputs().get(name), "floor": layers is not None}
            plans[name] = _ranks.planned(model.get_submodule(name), how, rule, amount, smaller_only=smaller_only, **more)
        return Stage(model, {}, {"plans": plans})

    plans = {name: Plan(how, tuple(of)) for name, (how, of) in stages.run("ranks", choose, model).facts["plans"].items()}
    chosen = {name: (model.get_submodule(name), plan) for name, plan in plans.items() if plan.ranks}
    empty = replaced(model, {name: _empty(layer, plan) for name, (layer, plan) in chosen.items()})

    def factor() -> Stage:
        made = {}
        for name, (layer, plan) in chosen.items():
            made[name] = _factored(layer, plan, inputs().get(name), seed)
        errors = {name: error for name, (_, error) in made.items()}
        return Stage(replaced(model, {name: module for name, (module, _) in made.items()}).eval(), {}, {"errors": errors})

    factored = stages.run("factors", factor, empty)
    rows, final = _steps(model, factored, plans, data), factored
    if epochs:
        final = stages.run("fine-tuned", lambda: Stage(_tuned(factored.model, data, settings)), empty)
        rows.append(_row("fine-tuned", final.model, model, data))
    return Baseline("low_rank", final.model, {}, tuple(rows), settings)


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as numbers of their kind, or refuse those that are none."""
    found: dict[str, Any] = {}
    _door.choice("linear", told["linear"], ("data", "plain", "none"))
    _door.choice("convolution", told["convolution"], ("tucker", "cp", "none"))
    _door.choice("rule", told["rule"], _ranks.RULES)
    if told["rule"] == "evbmf":
        if told["amount"] is not None:
            raise SettingError(
                f"amount goes with the rules energy, ratio and number, not with evbmf; got {told['amount']!r}"
            )
    elif told["rule"] == "number":
        found["amount"] = _door.whole("amount", told["amount"])
    else:
        _door.positive("amount", told["amount"])
        found["amount"] = _door.fraction("amount", told["amount"], closed=True)
    listed = told["layers"] is None or (
        isinstance(told["layers"], list | tuple) and all(isinstance(name, str) for name in told["layers"])
    )
    if not listed:
        raise SettingError(f"layers is a list of names; got {told['layers']!r}")
    if not isinstance(told["ranks"], Mapping | None):
        raise SettingError(f"ranks maps names of layers to ranks; got {told['ranks']!r}")
    if not isinstance(told["smaller_only"], bool):
        raise SettingError(f"smaller_only is true or false; got {told['smaller_only']!r}")
    for name, least in (("samples", 1), ("epochs", 0), ("batch_size", 1), ("seed", 0)):
        found[name] = _door.whole(name, told[name], least)
    found["learning_rate"] = _door.positive("learning_rate", told["learning_rate"])
    found["weight_decay"] = _door.positive("weight_decay", told["weight_decay"], zero=True)
    found["label_smoothing"] = _door.fraction("label_smoothing", told["label_smoothing"], closed=True)
    return dict(told) | found


def _told(model: nn.Module, name: str, asked: Any, kinds: Mapping[str, str]) -> int | list[int]:
    """Return the rank or ranks that were told for a layer, or refuse them, or ranks for a layer that gets no factors."""
    if name not in kinds or kinds[name].startswith("left alone"):
        why = kinds.get(name, f"there is no such layer, there are {', '.join(kinds)}")
        raise SettingError(f"ranks has one for {name!r}, which gets no factors: {why}")
    ranks = _ranks.told(asked, kinds[name], model.get_submodule(name))
    return list(ranks) if isinstance(asked, list | tuple) else ranks[0]


def _empty(layer: nn.Module, plan: Plan) -> nn.Module:
    """Return the modules of a layer in factors, without their weights."""
    n_out, n_in, *extent = layer.weight.shape
    if plan.how == "svd":
        return linear_pair(layer, np.zeros((n_out, *plan.ranks)), np.zeros((*plan.ranks, n_in)))
    if plan.how == "cp":
        return cp_convolutions(layer, np.zeros(plan.ranks), tuple(np.zeros((n, *plan.ranks)) for n in layer.weight.shape))
    r3, r4 = plan.ranks
    zeros = Tucker2(np.zeros((r4, r3, *extent)), np.zeros((n_in, r3)), np.zeros((n_out, r4)), ())
    return tucker_convolutions(layer, *zeros.absorbed())


def _factored(layer: nn.Module, plan: Plan, gram: Any, seed: int) -> tuple[nn.Module, float]:
    """Return a layer in factors, and its relative error."""
    weight = layer.weight.detach().double().cpu().numpy()
    if plan.how == "svd":
        pair = truncated(weight, plan.ranks[0], gram)
        return linear_pair(layer, pair.left, pair.right), pair.error
    if plan.how == "cp":
        components = cp(weight, plan.ranks[0], seed=seed)
        return cp_convolutions(layer, components.weights, components.factors), components.error
    found = tucker2(weight, plan.ranks)
    return tucker_convolutions(layer, *found.absorbed()), found.errors[-1]


def _tuned(model: nn.Module, data: Data, told: Mapping[str, Any]) -> nn.Module:
    names = ("epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "seed")
    how = {name: told[name] for name in names}
    return train(model, data.x_train, data.y_train, label="fine-tuning factors", **how)


def _steps(model: nn.Module, factored: Stage, plans: Mapping[str, Plan], data: Data) -> list[dict[str, Any]]:
    """Return the rows before fine-tuning: the layers are replaced one by one, so that each shows what it costs."""
    rows, so_far = [_row("dense", model, model, data)], {}
    for name, plan in plans.items():
        if not plan.ranks:
            rows.append(rows[-1] | {"step": "left alone", "layer": name, "how": plan.how, "rank": "", "error": 0.0})
            continue
        so_far[name] = factored.model.get_submodule(name)
        more = {
            "layer": name,
            "how": plan.how,
            "rank": " ".join(map(str, plan.ranks)),
            "error": factored.facts["errors"][name],
        }
        rows.append(_row("factored", replaced(model, so_far), model, data, **more))
    return [*rows, rows[-1] | {"step": "all factored", "layer": "", "how": "", "rank": "", "error": 0.0}]


def _row(step: str, now: nn.Module, before: nn.Module, data: Data, **more: Any) -> dict[str, Any]:
    """Return a row with what the network costs."""
    cost = {
        "parameters": parameters(now) / parameters(before),
        "n_parameters": parameters(now),
        "multiply_adds": multiply_adds(now, data.x_test[:1]),
    }
    return row(step, now, {}, data, **({"layer": "", "how": "", "rank": "", "error": 0.0} | more | cost))
