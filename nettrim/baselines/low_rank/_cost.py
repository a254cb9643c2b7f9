"""What a network costs to keep and to run: its parameters, and the multiply-adds of a sample."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from nettrim.evaluate import evaluating
from nettrim.masks import LAYERS


def parameters(model: nn.Module) -> int:
    """Count the parameters, biases and normalizations too, shared ones once.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.

    Returns
    -------
    int
        How many there are.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, sample: Tensor) -> int:
    """Count the products of weights and activations in linear layers and convolutions, for one sample.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; a layer that is called twice counts twice.
    sample : torch.Tensor
        One sample with its axis of samples, ``(1, ...)``.

    Returns
    -------
    int
        Each weight times the positions at which it is used; biases are not counted, padding is.
    """
    seen = [0]

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        width = output.shape[-1] if isinstance(module, nn.Linear) else len(module.weight)
        seen[0] += module.weight.numel() * (prod(output.shape) // width)

    handles = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, LAYERS)]
    try:
        with evaluating(model):
            model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0]
