"""How a network of real weights becomes one of signs, and the loss that it is trained with (see ``_binary``)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines import _door
from nettrim.baselines.binarize._binary import WEIGHTS, BinaryConv2d, BinaryLinear, Sign, Signed
from nettrim.errors import ModelError
from nettrim.models import mlp

ACTIVATIONS = ("sign", "stochastic", "relu")
EPSILON = 1e-4  # of batch normalization, as in the authors' code
_BEFORE_NORM = (nn.MaxPool2d,)
_BEHIND_NORM = (nn.Flatten, nn.Dropout)


def binarized(model: nn.Module, *, weights: str = "sign", activations: str = "sign", gate: bool = True) -> nn.Sequential:
    """Return the binary network of a plain one's shape, begun with its weights.

    Inputs go from [0, 1] to [-1, 1]; each linear layer or convolution becomes a binary one without a bias, followed by what
    pools behind it, batch normalization, the activation and the rest. Every layer but the last has the activation, also one
    that no ReLU follows; all ReLUs of the model go.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Linear, Conv2d, ReLU, MaxPool2d, Flatten and Dropout; left unchanged.
    weights : {"sign", "stochastic", "scaled", "real"}, optional
        As in ``BinaryLinear``.
    activations : {"sign", "stochastic", "relu"}, optional
        Signs, signs drawn in training, or real ones.
    gate : bool, optional
        Whether no gradient passes an activation whose input is outside of [-1, 1].

    Returns
    -------
    torch.nn.Sequential
        In training mode; with ``"real"`` and ``"relu"`` the float twin.

    Raises
    ------
    SettingError
        If weights or activations are none of those.
    ModelError
        If the model is of other modules, does not end with a layer, or one of its modules has hooks.
    """
    _door.choice("weights", weights, WEIGHTS)
    _door.choice("activations", activations, ACTIVATIONS)
    parts = list(model) if isinstance(model, nn.Sequential) else []
    at = [i for i, part in enumerate(parts) if type(part) in (nn.Linear, nn.Conv2d)]
    odd = [part for part in parts if type(part) not in _BEFORE_NORM + _BEHIND_NORM + (nn.Linear, nn.Conv2d, nn.ReLU)]
    if not at or odd or at[-1] != len(parts) - 1:
        what = type(odd[0]).__name__ if odd else type(model).__name__
        raise ModelError(
            "binarizing takes an nn.Sequential of Linear, Conv2d, ReLU, MaxPool2d, Flatten and Dropout that ends with a "
            f"layer; this one is, or holds, {what}"
        )
    for name, part in (*model.named_children(), ("", model)):
        _door.unhooked(name, part)
    made = [Signed(), *copy.deepcopy(parts[: at[0]])]
    for begin, end in zip(at, [*at[1:], len(parts)], strict=True):
        layer, behind = parts[begin], parts[begin + 1 : end]
        last = end == len(parts)
        made += _block(layer, behind, weights, None if last else _activation(activations, gate))
    return nn.Sequential(*made).train()


def binary_mlp(sizes: Iterable[int], seed: int = 0) -> nn.Sequential:
    """Return a fully connected network with binary weights and activations.

    Parameters
    ----------
    sizes : sequence of int
        Widths from the input to the output, for example ``(784, 512, 512, 10)``.
    seed : int, optional
        Seed of the real weights that it begins with.

    Returns
    -------
    torch.nn.Sequential
        Images in [0, 1] to scores.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is not positive.
    """
    return binarized(mlp(tuple(sizes), seed=seed))


def squared_hinge(model: nn.Module, samples: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of ``max(0, 1 - t z)^2`` over samples and classes, t = +1 at the label and -1 elsewhere: a ``loss``.

    Parameters
    ----------
    model : torch.nn.Module
        Gives scores z ``(n, n_classes)``.
    samples : torch.Tensor
        Inputs.
    labels : torch.Tensor
        Class numbers ``(n,)``.

    Returns
    -------
    torch.Tensor
        A number.
    """
    scores = model(samples)
    targets = 2.0 * F.one_hot(labels, scores.shape[1]).to(scores.dtype) - 1.0
    return (1.0 - targets * scores).clamp_min(0.0).square().mean()


def clip_real(model: nn.Module) -> None:
    """Clip the real weights of all binary layers, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Changed.
    """
    for module in model.modules():
        if isinstance(module, BinaryLinear | BinaryConv2d):
            module.clip()


def _activation(activations: str, gate: bool) -> nn.Module:
    return nn.ReLU() if activations == "relu" else Sign(stochastic=activations == "stochastic", gate=gate)


def _block(layer: nn.Module, behind: list[nn.Module], weights: str, activation: nn.Module | None) -> list[nn.Module]:
    """Return a layer and what follows it up to the next; pooling real responses, not signs, of which most would be +1."""
    linear = isinstance(layer, nn.Linear)
    out = layer.weight.shape[0]
    like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    norm = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(out, eps=EPSILON, **like)
    made = [BinaryLinear(layer, weights) if linear else BinaryConv2d(layer, weights)]
    made += [copy.deepcopy(part) for part in behind if isinstance(part, _BEFORE_NORM)]
    made += [norm] if activation is None else [norm, activation]
    return made + [copy.deepcopy(part) for part in behind if isinstance(part, _BEHIND_NORM)]
