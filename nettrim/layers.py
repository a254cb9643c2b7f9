"""Between torch's orientation and the paper's: the only file of this package that transposes.

torch stores a weight as (n_out, n_in, ...) and feeds rows; the paper has W (N, M) and X (N, P), a bias being the last row
of W over a row of ones in X. A convolution is a program a group, on patches; a batch normalization behind a layer is part of
it; an attention is four linear layers, though it calls no module for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from nettrim import batchnorm
from nettrim.graph import LayerUse
from nettrim.patches import patches, positions
from nettrim.storage import Storage, Weights

_asked_again: set[nn.Module] = set()  # attentions that are run for what their output projection is applied to
Watcher = Callable[[Tensor], None]


class Layer:
    """A layer of a model as its program sees it.

    Parameters
    ----------
    module : torch.nn.Module
        What holds the parameters.
    weight : torch.Tensor
        View ``(n_out, n_in, ...)`` of the weight.
    bias : torch.Tensor or None
        View ``(n_out,)`` of the bias.
    groups : int
        Programs that the layer falls into, each with its own inputs and neurons.
    norm : torch.nn.Module or None
        Batch normalization that is folded into it.
    """

    def __init__(self, module: nn.Module, weight: Tensor, bias: Tensor | None, groups: int = 1, norm: Any = None) -> None:
        self.module, self.weight, self.bias, self.groups, self.norm = module, weight, bias, groups, norm

    @property
    def kind(self) -> str:
        """Class of the module, for the report."""
        return type(self.module).__name__

    @property
    def storage(self) -> Storage:
        """How its weights lie in the model."""
        if self.norm is None:
            return Storage(self.weight.dtype, self.bias is not None)
        scale, _ = batchnorm.affine(self.norm)
        return Storage(self.weight.dtype, True, scale, _float64(self.norm.running_mean) * scale)

    @property
    def n_inputs(self) -> int:
        """Inputs of all groups, the row of ones apart."""
        return self.groups * prod(self.weight.shape[1:])

    @contextmanager
    def watch(self, see: Watcher) -> Iterator[None]:
        """Hand over the input of every call, before the layer runs, for as long as the context lasts.

        Parameters
        ----------
        see : callable
            Takes the input, which it must not change.
        """
        handle = self.module.register_forward_pre_hook(lambda _, args: see(args[0].detach()))
        try:
            yield
        finally:
            handle.remove()

    def rows(self, inputs: Tensor) -> int:
        """Return how many samples of its program an input holds.

        Parameters
        ----------
        inputs : torch.Tensor
            Of one call; only its shape counts.

        Returns
        -------
        int
            All axes but the last one, multiplied.
        """
        return prod(inputs.shape[:-1])

    def columns(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return some samples of an input, without the row of ones.

        Parameters
        ----------
        inputs : torch.Tensor
            Of one call.
        rows : torch.Tensor
            Places of the samples, int64 ``(n_rows,)``.

        Returns
        -------
        torch.Tensor
            Columns ``(n_inputs, n_rows)``.
        """
        return inputs.reshape(-1, inputs.shape[-1])[rows.to(inputs.device)].T


class Convolution(Layer):
    """A convolution: its samples are (image, position) pairs."""

    def rows(self, inputs: Tensor) -> int:
        """Return how many pairs an input holds.

        Parameters
        ----------
        inputs : torch.Tensor
            Of one call; only its shape counts.

        Returns
        -------
        int
            Images times positions.
        """
        images = _batched(self.module, inputs)
        return len(images) * prod(positions(self.module, images.shape))

    def columns(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the patches of some pairs.

        Parameters
        ----------
        inputs : torch.Tensor
            Of one call.
        rows : torch.Tensor
            Places of the pairs, int64 ``(n_rows,)``.

        Returns
        -------
        torch.Tensor
            Columns ``(n_inputs, n_rows)``.
        """
        return patches(self.module, _batched(self.module, inputs), rows).flatten(1).T


class Projection(Layer):
    """A projection of an attention, a linear layer that no module is called for."""

    def __init__(self, module: Any, part: str) -> None:
        self.part = part
        if part == "out":
            super().__init__(module, module.out_proj.weight, module.out_proj.bias)
            return
        width, place = module.embed_dim, "qkv".index(part)
        rows = slice(place * width, (place + 1) * width)
        packed = module.in_proj_weight
        weight = getattr(module, f"{part}_proj_weight") if packed is None else packed[rows]
        super().__init__(module, weight, None if module.in_proj_bias is None else module.in_proj_bias[rows])

    @property
    def kind(self) -> str:
        """Class of the module, and which projection."""
        return f"{type(self.module).__name__}.{self.part}"

    @contextmanager
    def watch(self, see: Watcher) -> Iterator[None]:
        """Hand over the query, key or value of every call, or what the output projection is applied to.

        Parameters
        ----------
        see : callable
            Takes the input, which it must not change.
        """

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module in _asked_again:
                return
            if self.part == "out":  # once more, with an output projection that changes nothing
                same = {"out_proj.weight": torch.eye(self.weight.shape[1]).to(self.weight)}
                same |= {} if self.bias is None else {"out_proj.bias": torch.zeros_like(self.bias)}
                _asked_again.add(module)
                try:
                    projected = functional_call(module, same, args, kwargs)[0]
                finally:
                    _asked_again.discard(module)
                see(projected.detach())
                return
            place = "qkv".index(self.part)
            name = ("query", "key", "value")[place]
            see((args[place] if len(args) > place else kwargs[name]).detach())

        handle = self.module.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def find(model: nn.Module, use: LayerUse) -> Layer:
    """Return a layer of a model.

    Parameters
    ----------
    model : torch.nn.Module
        The model, or a copy of it.
    use : LayerUse
        One that can be trimmed.

    Returns
    -------
    Layer
        Its parameters are views: what is written into it changes the model.
    """
    module = model.get_submodule(use.module)
    if use.part:
        return Projection(module, use.part)
    return plain(module, model.get_submodule(use.norm) if use.norm else None)


def plain(module: Any, norm: nn.Module | None = None) -> Layer:
    """Return a linear or convolutional layer.

    Parameters
    ----------
    module : torch.nn.Linear, Conv1d, Conv2d or Conv3d
        What holds the parameters.
    norm : torch.nn.Module, optional
        Batch normalization to fold into it.

    Returns
    -------
    Layer
        Its parameters are those of the module.
    """
    if isinstance(module, nn.Linear):
        return Layer(module, module.weight, module.bias, norm=norm)
    return Convolution(module, module.weight, module.bias, module.groups, norm)


def read(layer: Layer) -> Weights:
    """Return the parameters of a layer, a folded normalization included.

    Parameters
    ----------
    layer : Layer
        Any layer, any dtype and device.

    Returns
    -------
    list of ndarray, shape (N, M)
        In float64, one a group: weights, and the bias as the last row where there is one.
    """
    rows = _float64(layer.weight).reshape(len(layer.weight), -1)
    columns = [rows]
    bias = None if layer.bias is None else _float64(layer.bias)
    if layer.norm is not None:
        scale, shift = batchnorm.affine(layer.norm)
        columns = [rows * scale[:, None]]
        bias = shift if bias is None else bias * scale + shift
    if bias is not None:
        columns.append(bias[:, None])
    W = np.hstack(columns).T
    return [np.ascontiguousarray(part) for part in np.split(W, layer.groups, axis=1)]


def write(layer: Layer, W: Weights) -> None:
    """Put weights into a layer, cast to its dtype; a bias before a folded normalization goes into that one.

    Parameters
    ----------
    layer : Layer
        The layer to change.
    W : list of ndarray, shape (N, M)
        As ``read`` gives them.
    """
    storage = layer.storage
    values = torch.from_numpy(storage.parameters(np.hstack(W), storage.scale, storage.offset).T.copy())
    n_inputs = values.shape[1] - storage.bias
    with torch.no_grad():
        layer.weight.copy_(values[:, :n_inputs].reshape(layer.weight.shape))
        if layer.norm is not None:
            if layer.bias is not None:
                layer.bias.zero_()
            batchnorm.move(layer.norm, np.hstack(W)[-1], ~layer.weight.flatten(1).bool().any(dim=1))
        elif layer.bias is not None:
            layer.bias.copy_(values[:, -1])


def _batched(module: Any, inputs: Tensor) -> Tensor:
    """Return the input of a convolution with its axis of images, which torch lets one leave out."""
    return inputs if inputs.ndim == len(module.kernel_size) + 2 else inputs[None]


def _float64(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()
