"""Which layers of a model are trimmed, on which samples, and what is asked of each: decided before any solve."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nettrim import batchnorm
from nettrim.activations import BATCH, survey
from nettrim.asked import Asked
from nettrim.errors import ModelError
from nettrim.graph import Graph, LayerUse, trace
from nettrim.layers import Layer, find
from nettrim.request import Request
from nettrim.select import chosen


@dataclass(frozen=True)
class Job:
    """A layer that is to be trimmed.

    Attributes
    ----------
    use : LayerUse
        How the model uses it.
    rows : torch.Tensor
        Which samples of it, as in ``Draw``.
    asked : Asked
        What is asked.
    """

    use: LayerUse
    rows: Tensor
    asked: Asked


@dataclass(frozen=True)
class Plan:
    """What a trim will do.

    Attributes
    ----------
    model : torch.nn.Module
        A copy of the trained model in evaluation mode, normalizations folded if they are to stay so.
    samples, outputs : torch.Tensor
        Calibration, and what the model makes of it.
    uses : tuple of LayerUse
        Every layer, in the order in which they run.
    jobs : tuple of Job
        Those that are to be trimmed, in that order.
    chain : bool
        Whether the layers are a chain and each program sees all samples, so that the errors of layers bound the output's.
    folds : dict of str to str
        Layer to the batch normalization that stays folded into it.
    """

    model: nn.Module
    samples: Tensor
    outputs: Tensor
    uses: tuple[LayerUse, ...]
    jobs: tuple[Job, ...]
    chain: bool
    folds: dict[str, str]


def prepare(model: nn.Module, samples: Tensor, request: Request) -> Plan:
    """Decide what a trim will do.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network; not changed.
    samples : torch.Tensor
        Calibration samples.
    request : Request
        What is asked.

    Returns
    -------
    Plan
        With at least one job.

    Raises
    ------
    ModelError
        If there is no layer to trim, the samples do not fit, a number is NaN or Inf, parameters lie on several devices, a
        pattern names no layer or, with ``strict``, a layer would stay dense.
    """
    original = copy.deepcopy(model).eval()
    _check_parameters(original)
    graph = trace(original, request.activations)
    folds = {} if request.unfold else graph.folds
    if folds:
        _check_folds(original, graph, samples)
        original = batchnorm.fold(original, folds)
        graph = trace(original, request.activations)
    uses = _selected(original, graph, request)
    layers = {use.name: find(original, use) for use in uses if use.activation}
    _check_layers(original, uses, request.strict)
    wanted = request.of_layers([use for use in uses if use.activation], {name: layer.kind for name, layer in layers.items()})
    outputs, shapes = survey(original, layers, samples)
    uses = _settled(uses, layers, shapes, math.ceil(len(samples) / BATCH))
    if not graph.traced:
        ran = list(shapes)
        uses = sorted(uses, key=lambda use: ran.index(use.name) if use.name in ran else len(ran))
    _check_layers(original, uses, request.strict)
    jobs, whole = [], True
    for place, use in enumerate(uses):
        if use.activation is None:
            continue
        reached = reaching(layers[use.name], shapes[use.name])
        rows = drawn(reached, request.n_samples, request.seed, place)
        whole = whole and len(rows) == reached
        jobs.append(Job(use, rows, dataclasses.replace(wanted[use.name], activation=use.activation)))
    chain = graph.chain and whole and len(jobs) == len(uses)
    return Plan(original, samples, outputs, tuple(uses), tuple(jobs), chain, folds)


def reaching(layer: Layer, shapes: Sequence[torch.Size]) -> int:
    """Return how many samples reach a layer in one run of its model.

    Parameters
    ----------
    layer : Layer
        The layer.
    shapes : sequence of torch.Size
        Of its inputs, call by call.

    Returns
    -------
    int
        Over all calls.
    """
    return sum(layer.rows(torch.empty(shape, device="meta")) for shape in shapes)


def drawn(reached: int, n_samples: int, seed: int, place: int) -> Tensor:
    """Return which samples of a layer its program sees, drawn without replacement.

    Parameters
    ----------
    reached : int
        How many reach it.
    n_samples : int
        How many at most.
    seed, place : int
        Seed of the draw, and place of the layer in the model: each layer has a draw of its own.

    Returns
    -------
    torch.Tensor
        Places among all samples that reach it, int64, ascending.
    """
    if reached <= n_samples:
        return torch.arange(reached)
    keep = np.random.default_rng([seed, place]).choice(reached, n_samples, replace=False)
    return torch.from_numpy(np.sort(keep))


def _selected(model: nn.Module, graph: Graph, request: Request) -> list[LayerUse]:
    """Return the layers, those that are not to be trimmed dense."""
    kinds = {
        use.name: find(model, use).kind if use.activation else type(model.get_submodule(use.module)).__name__
        for use in graph.layers
    }
    wanted = chosen(kinds, request.targets, request.ignore)
    dense = "is left out by targets or ignore"
    return [use if use.name in wanted else dataclasses.replace(use, activation=None, note=dense) for use in graph.layers]


def _settled(
    uses: list[LayerUse], layers: Mapping[str, Layer], shapes: Mapping[str, list[torch.Size]], n_batches: int
) -> list[LayerUse]:
    """Return the layers, those that did not run once a pass dense."""
    settled = []
    for use in uses:
        calls = shapes.get(use.name)
        if calls is not None and len(calls) != n_batches:
            note = f"is called {len(calls) / n_batches:g} times a pass" if calls else "is never called"
            use = dataclasses.replace(use, activation=None, note=note)
        elif calls and _normalizes_tokens(use, layers[use.name], calls[0]):
            use = dataclasses.replace(use, activation=None, note="is followed by a batch normalization of tokens")
        settled.append(use)
    return settled


def _normalizes_tokens(use: LayerUse, layer: Layer, shape: torch.Size) -> bool:
    """Tell whether the batch normalization behind a Linear may be one of its tokens, which sizes cannot tell."""
    return bool(use.norm) and type(layer) is Layer and len(shape) > 2


def _check_folds(model: nn.Module, graph: Graph, samples: Tensor) -> None:
    """Refuse to leave folded what is not the same folded."""
    layers = {use.name: find(model, use) for use in graph.layers if use.norm}
    _, shapes = survey(model, layers, samples)
    for use in graph.layers:
        if use.norm and shapes[use.name] and _normalizes_tokens(use, layers[use.name], shapes[use.name][0]):
            raise ModelError(
                f"unfold=False cannot fold {use.norm!r}, a batch normalization of tokens, into {use.name!r}; leave it out"
            )


def _check_parameters(model: nn.Module) -> None:
    """Refuse a model whose numbers cannot be used."""
    devices = {str(parameter.device) for parameter in model.parameters()}
    if len(devices) > 1:
        raise ModelError(f"the model lies on {' and '.join(sorted(devices))}; move it to one device")
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            layer, _, array = name.rpartition(".")
            raise ModelError(f"layer {layer!r}: {array} holds NaN or Inf; was the network trained to the end?")


def _check_layers(model: nn.Module, uses: list[LayerUse], strict: bool) -> None:
    """Refuse a model with nothing to trim or, if strict, with a layer that would stay dense."""
    dense = [f"{use.name!r} ({use.note})" for use in uses if use.activation is None]
    if len(dense) == len(uses):
        found = f"; its layers are {', '.join(dense)}" if dense else ""
        raise ModelError(f"{type(model).__name__} has no layer to trim{found}")
    if strict and dense:
        raise ModelError(f"layers that cannot be trimmed, under strict=True: {', '.join(dense)}")
