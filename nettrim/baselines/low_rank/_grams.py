"""X X' of the inputs of linear layers, gathered over a run of the network: all that their responses depend on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.evaluate import evaluating

Array = NDArray[np.float64]


def grams(model: nn.Module, names: Iterable[str], inputs: Tensor, batch_size: int = 1000) -> dict[str, Array]:
    """Return X X' of the inputs of some linear layers, over all of their calls.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    names : iterable of str
        Of linear layers.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    dict
        Name to ``(n_in, n_in)``, float64.
    """
    layers = {name: model.get_submodule(name) for name in names}
    sums = {name: torch.zeros(layer.in_features, layer.in_features).double() for name, layer in layers.items()}

    def watch(name: str) -> Any:
        def see(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0].detach().reshape(-1, args[0].shape[-1]).double().cpu()
            sums[name] += rows.T @ rows

        return layers[name].register_forward_pre_hook(see)

    handles = [watch(name) for name in layers] if layers else []
    try:
        with evaluating(model):
            for batch in inputs.split(batch_size) if layers else ():
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total.numpy() for name, total in sums.items()}
