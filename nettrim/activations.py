"""Calibration samples, and what reaches a layer when they run through the model: hooks that copy, count and always go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nettrim.errors import ModelError
from nettrim.train import evaluating


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


def layer_inputs(model: nn.Module, name: str, samples: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Return what reaches a layer when the samples run through the model in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Run, and left as it was.
    name : str
        Qualified name of the layer.
    samples : torch.Tensor
        Calibration samples ``(n, ...)``; cast to the dtype and device of the model.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    torch.Tensor
        Copies of the inputs ``(n', n_in)`` on the CPU, every axis but the last one flattened.

    Raises
    ------
    ModelError
        If the samples do not fit the model.
    """
    with capture(model, name) as inputs:
        forward(model, samples, batch_size=batch_size)
    return torch.cat(inputs)


@contextmanager
def capture(model: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Record the inputs of a layer for as long as the context lasts.

    Copies are taken before the layer runs, so what happens in place afterwards cannot reach them.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    name : str
        Qualified name of the layer.

    Yields
    ------
    list of torch.Tensor
        One entry ``(n, n_in)`` a call, on the CPU; its length counts the calls.
    """
    calls: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        calls.append(args[0].detach().flatten(0, -2).to("cpu", copy=True))

    handle = model.get_submodule(name).register_forward_pre_hook(keep)
    try:
        yield calls
    finally:
        handle.remove()


def forward(model: nn.Module, samples: Tensor, *, batch_size: int = 1000) -> Tensor:
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
        If the samples do not fit the model.
    """
    parameter = next(model.parameters())
    outputs = []
    with evaluating(model):
        for batch in samples.split(batch_size):
            batch = batch.to(parameter.device)
            batch = batch.to(parameter.dtype) if batch.is_floating_point() else batch
            try:
                outputs.append(model(batch).cpu())
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise ModelError(
                    f"calibration samples of shape {tuple(samples.shape[1:])} do not fit the model: {error}"
                ) from error
    return torch.cat(outputs)


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
