"""Calibration samples, and what reaches a layer when they run through the model: hooks that copy, count and always go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.errors import ModelError
from nettrim.evaluate import evaluating
from nettrim.layers import Layer

BATCH = 500  # samples a forward pass


def gather(calibration: Any, n_samples: int, seed: int) -> Tensor:
    """Return at most ``n_samples`` calibration samples as one tensor.

    Parameters
    ----------
    calibration : Tensor, ndarray or iterable of batches
        Samples along the first axis. A batch is a tensor or an array, or a tuple or list that begins with one (labels
        behind it are ignored). From a tensor or an array the samples are drawn with ``seed``, without replacement; from
        an iterable the first ones are taken.
    n_samples : int
        How many, at most.
    seed : int
        Seed of the draw.

    Returns
    -------
    torch.Tensor
        Shape ``(n, ...)``, n at least 1.

    Raises
    ------
    ModelError
        If there are none, they are not numbers, differ in shape, or hold NaN or Inf.
    """
    if n_samples < 1:
        raise ModelError(f"n_samples must be at least 1; got {n_samples}")
    if isinstance(calibration, Tensor | np.ndarray):
        samples = _tensor(calibration)
        if samples.ndim and len(samples) > n_samples:
            keep = np.random.default_rng(seed).choice(len(samples), n_samples, replace=False)
            samples = samples[torch.from_numpy(np.sort(keep)).to(samples.device)]
    elif isinstance(calibration, Iterable):
        samples = _first(calibration, n_samples)
    else:
        raise ModelError(f"calibration must be a tensor, an array or batches of them; got {type(calibration).__name__}")
    if samples.ndim == 0 or len(samples) == 0:
        raise ModelError("calibration holds no samples; Net-Trim needs inputs, labels it does not")
    if samples.is_floating_point() and not bool(torch.isfinite(samples).all()):
        where = int((~torch.isfinite(samples)).flatten(1).any(1).nonzero()[0]) if samples.ndim > 1 else 0
        raise ModelError(f"calibration holds NaN or Inf, first in sample {where} of those drawn; remove such samples")
    return samples


@dataclass(frozen=True)
class Draw:
    """Which samples of a layer's program are recorded.

    Attributes
    ----------
    layer : Layer
        The layer, in the model that is run.
    rows : torch.Tensor
        Places among all samples that reach it in one run, int64, ascending.
    """

    layer: Layer
    rows: Tensor


def survey(model: nn.Module, layers: Mapping[str, Layer], samples: Tensor) -> tuple[Tensor, dict[str, list[torch.Size]]]:
    """Run samples through a model and see what reaches its layers, without keeping it.

    Parameters
    ----------
    model : torch.nn.Module
        Run, and left as it was.
    layers : mapping of str to Layer
        Layers of that model.
    samples : torch.Tensor
        Calibration samples ``(n, ...)``.

    Returns
    -------
    outputs : torch.Tensor
        Of the model.
    shapes : dict
        For each layer the shapes of its inputs, call by call; in the order in which the layers first ran, those that never
        did last.

    Raises
    ------
    ModelError
        If the samples do not fit the model.
    """
    shapes: dict[str, list[torch.Size]] = {}

    def note(name: str, inputs: Tensor) -> None:
        shapes.setdefault(name, []).append(inputs.shape)

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(layer.watch(partial(note, name)))
        outputs = forward(model, samples)
    return outputs, shapes | {name: [] for name in layers if name not in shapes}


def record(model: nn.Module, draws: Mapping[str, Draw], samples: Tensor) -> dict[str, NDArray[Any]]:
    """Run samples through a model and keep what reaches its layers.

    Parameters
    ----------
    model : torch.nn.Module
        Run, and left as it was; no further than its layers need.
    draws : mapping of str to Draw
        Layers of that model, each called once a run, and which samples of each to keep.
    samples : torch.Tensor
        Calibration samples ``(n, ...)``; cast to the dtype and device of the model.

    Returns
    -------
    dict of ndarray
        X (N, P) of each layer, copies, in float32 (float64 where the model is): a row of ones at the end where the layer has
        a bias. What happens in place after a layer took its input cannot reach them.
    """
    tapes = {name: _Tape(draw) for name, draw in draws.items()}
    waiting: set[str] = set()

    def see(name: str, inputs: Tensor) -> None:
        tapes[name].see(inputs)
        waiting.discard(name)
        if not waiting:
            raise _EnoughError

    with ExitStack() as stack:
        for name, draw in draws.items():
            stack.enter_context(draw.layer.watch(partial(see, name)))
        for batch in stack.enter_context(_running(model, samples)):
            waiting.update(tapes)
            with suppress(_EnoughError):
                _call(model, batch)
    return {name: tape.X for name, tape in tapes.items()}


class _Tape:
    """What is being recorded of one layer."""

    def __init__(self, draw: Draw) -> None:
        storage = draw.layer.storage
        dtype = np.float64 if storage.dtype == torch.float64 else np.float32
        self.draw, self.seen, self.filled = draw, 0, 0
        self.X = np.ones((draw.layer.n_inputs + storage.bias, len(draw.rows)), dtype)

    def see(self, inputs: Tensor) -> None:
        """Keep what was drawn of an input."""
        layer, rows = self.draw.layer, self.draw.rows
        low, self.seen = self.seen, self.seen + layer.rows(inputs)
        here = rows[(rows >= low) & (rows < self.seen)]
        columns = layer.columns(inputs, here - low)
        wide = columns.to("cpu", torch.float64 if self.X.dtype == np.float64 else torch.float32)
        self.X[: layer.n_inputs, self.filled : self.filled + len(here)] = wide.numpy()
        self.filled += len(here)


class _EnoughError(Exception):
    """Ends a run whose layers have all been seen."""


def forward(model: nn.Module, samples: Tensor, *, batch_size: int = BATCH) -> Tensor:
    """Return the outputs of a model in evaluation mode, on the CPU.

    Parameters
    ----------
    model : torch.nn.Module
        Run, and left as it was.
    samples : torch.Tensor
        Inputs ``(n, ...)``; cast to the dtype and device of the model.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    torch.Tensor
        Outputs ``(n, ...)``.

    Raises
    ------
    ModelError
        If the samples do not fit the model, or its output is not a tensor.
    """
    with _running(model, samples, batch_size) as batches:
        return torch.cat([_call(model, batch).cpu() for batch in batches])


@contextmanager
def _running(model: nn.Module, samples: Tensor, batch_size: int = BATCH) -> Iterator[Iterator[Tensor]]:
    """Put a model in evaluation mode and give its batches, on its device and in its dtype."""
    parameter = next(model.parameters())

    def batches() -> Iterator[Tensor]:
        for batch in samples.split(batch_size):
            batch = batch.to(parameter.device)
            yield batch.to(parameter.dtype) if batch.is_floating_point() else batch

    fast = torch.backends.mha.get_fastpath_enabled()  # it computes a transformer layer whole and calls none of its parts
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(model):
            yield batches()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _call(model: nn.Module, batch: Tensor) -> Tensor:
    try:
        output = model(batch)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"calibration samples of shape {tuple(batch.shape[1:])} do not fit the model: {error}") from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"the model must return a tensor; got {type(output).__name__}. Wrap it in a module that returns one"
        )
    return output


def _tensor(value: Any) -> Tensor:
    """Return a batch as a detached tensor; float64 arrays and bools are fine, objects are not."""
    if isinstance(value, Tensor):
        return value.detach()
    try:
        return torch.from_numpy(np.array(value))  # a copy: torch warns of read-only arrays
    except TypeError as error:
        raise ModelError(f"calibration must hold numbers; got an array of {np.asarray(value).dtype}") from error


def _first(batches: Iterable[Any], n_samples: int) -> Tensor:
    """Return the first samples of an iterable of batches."""
    kept: list[Tensor] = []
    count = 0
    for batch in batches:
        inputs = _tensor(batch[0] if isinstance(batch, tuple | list) else batch)
        if kept and inputs.shape[1:] != kept[0].shape[1:]:
            raise ModelError(f"calibration batches differ in shape: {tuple(kept[0].shape)} and {tuple(inputs.shape)}")
        kept.append(inputs[: n_samples - count])
        count += len(kept[-1])
        if count >= n_samples:
            break
    return torch.cat(kept) if kept else torch.empty(0)
