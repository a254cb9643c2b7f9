"""Neurons that pruning left without inputs or without outputs: taken out of masks and biases, or out of the network itself.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks" (NIPS 2015): a neuron with no
input connections or no output connections is removed with all the others that it has. The paper leaves it to the penalty to
drive those to 0. Here they go at once and the outputs of the network stay what they are: a neuron that has lost its inputs
still sends a constant, ReLU(b), and this constant is added to the biases behind it.

That is right where the constant arrives everywhere: zero padding brings other numbers in at the edges. A neuron that sends a
constant other than 0 into such padding, or into a layer without biases, keeps its outputs.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nettrim.errors import ModelError
from nettrim.masks import LAYERS, Masks, check, everything, impose

_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(*_AVERAGES, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # nothing in evaluation mode


@dataclass
class Link:
    """A layer of a chain and what lies between it and the next.

    Attributes
    ----------
    name : str
        Of its module.
    module : torch.nn.Module
        Linear or a convolution.
    relu : bool
        Whether a ReLU follows.
    even : bool
        Whether a constant that the layer sends arrives as the same constant everywhere at the next layer.
    """

    name: str
    module: nn.Module
    relu: bool = False
    even: bool = True

    @property
    def weight(self) -> str:
        """Name of its weight, as in the masks."""
        return f"{self.name}.weight"


def chain(model: nn.Module) -> list[Link]:
    """Read a network whose layers follow one another.

    Parameters
    ----------
    model : torch.nn.Module
        ``nn.Sequential``, nested or not, of Linear, convolutions, ReLU, pooling, dropout, Flatten and Identity.

    Returns
    -------
    list of Link
        Its layers, first to last.

    Raises
    ------
    ModelError
        If it is none, has groups or a layer used twice, or its neurons cannot be told from the inputs of the next layer.
    """
    links: list[Link] = []
    flat = True
    for name, module in _leaves(model, ""):
        if isinstance(module, LAYERS):
            if any(module.weight is link.module.weight for link in links):
                raise ModelError(f"the weight of {name!r} is used twice, so its neurons have no inputs of their own")
            if getattr(module, "groups", 1) != 1:
                raise ModelError(f"{name!r} has groups, whose neurons see a part of the inputs only")
            if links:
                _joined(links[-1], name, module, flat)
            links.append(Link(name, module))
            flat = isinstance(module, nn.Linear)
        elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            flat = True
        elif isinstance(module, nn.ReLU):
            if links:
                links[-1].relu = True
        elif isinstance(module, _POOLS) and not (links and flat):
            if links and isinstance(module, _AVERAGES) and not _evens(module):
                links[-1].even = False
        elif not isinstance(module, (*_DROPOUTS, nn.Identity)):
            raise ModelError(f"{name!r}, {type(module).__name__} here, is no part of a chain whose neurons can be removed")
    if not links:
        raise ModelError("there is no linear layer or convolution in the model")
    return links


def remove_dead(model: nn.Module, masks: Masks) -> tuple[nn.Module, Masks]:
    """Take all connections from neurons that have no inputs or no outputs, until there is none that has but the other.

    Parameters
    ----------
    model : torch.nn.Module
        A chain (see ``chain``); left unchanged.
    masks : dict
        Which of its weights are kept; a layer without a mask is whole.

    Returns
    -------
    torch.nn.Module
        A copy with the masks imposed and the constants of the removed neurons in the next biases: in evaluation mode its
        outputs are those of the masked model, but for rounding. Biases of removed neurons are 0.
    dict
        Masks of all its layers.

    Raises
    ------
    ModelError
        If the model is no chain.
    MaskError
        If the masks do not fit.
    """
    check(model, masks)
    model = copy.deepcopy(model)
    links = chain(model)
    masks = everything(model) | {name: mask.clone() for name, mask in masks.items()}
    impose(model, masks)
    with torch.no_grad():
        # On the way forth only inputs of later neurons are lost, on the way back only outputs of earlier ones, and each is
        # lost by a neuron that has nothing left then: after both there is nothing more to do.
        for here, behind in itertools.pairwise(links):
            _cut_constants(here, behind, masks)
        for here, behind in reversed(list(itertools.pairwise(links))):
            idle = ~_by_unit(masks[behind.weight], here).any(2).any(0)
            masks[here.weight][idle] = False
            if here.module.bias is not None:
                here.module.bias[idle] = 0
    impose(model, masks)
    return model, masks


def alive(model: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """Tell which neurons of a chain have connections.

    Parameters
    ----------
    model : torch.nn.Module
        A chain.
    masks : dict
        Which of its weights are kept; a layer without a mask is whole.

    Returns
    -------
    dict
        Name of each hidden layer to bools, one a neuron (a channel of a convolution): whether it has an input or an output.

    Raises
    ------
    ModelError
        If the model is no chain.
    MaskError
        If the masks do not fit.
    """
    check(model, masks)
    every = everything(model) | masks
    return {
        here.name: every[here.weight].flatten(1).any(1) | _by_unit(every[behind.weight], here).any(2).any(0)
        for here, behind in itertools.pairwise(chain(model))
    }


def shrink(model: nn.Module, masks: Masks) -> tuple[nn.Module, Masks]:
    """Build the smaller network that is left when dead neurons are not only cut off but gone.

    Parameters
    ----------
    model : torch.nn.Module
        A chain (see ``chain``); left unchanged.
    masks : dict
        Which of its weights are kept; a layer without a mask is whole.

    Returns
    -------
    torch.nn.Module
        A network of the same modules under the same names, its layers narrower; its outputs are those of the masked model,
        but for rounding. A layer that would have no neuron left keeps one.
    dict
        Masks of its layers.

    Raises
    ------
    ModelError
        If the model is no chain.
    MaskError
        If the masks do not fit.
    """
    model, masks = remove_dead(model, masks)
    links = chain(model)
    living, smaller = alive(model, masks), {}
    columns = torch.ones(links[0].module.weight.shape[1], dtype=torch.bool, device=links[0].module.weight.device)
    for link in links:
        module = link.module
        size = module.weight.shape
        rows = living.get(link.name, torch.ones(size[0], dtype=torch.bool, device=module.weight.device))
        if not rows.any():
            rows[0] = True
        into = columns.repeat_interleave(size[1] // len(columns))
        smaller[link.weight] = masks[link.weight][rows][:, into]
        module.weight = nn.Parameter(module.weight.detach()[rows][:, into].clone(), module.weight.requires_grad)
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias.detach()[rows].clone(), module.bias.requires_grad)
        names = ("in_features", "out_features") if isinstance(module, nn.Linear) else ("in_channels", "out_channels")
        setattr(module, names[0], int(into.sum()))
        setattr(module, names[1], int(rows.sum()))
        columns = rows
    return model, smaller


def _cut_constants(here: Link, behind: Link, masks: Masks) -> None:
    """Take the outputs from neurons without inputs where the constants that they send can be put into the next biases."""
    bias, into = here.module.bias, behind.module.bias
    weight = here.module.weight
    sent = bias.clone() if bias is not None else weight.new_zeros(len(weight))
    if here.relu:
        sent.relu_()
    cut = ~masks[here.weight].flatten(1).any(1)
    if into is None or not here.even or _padded(behind.module):
        cut &= sent == 0
    if into is not None:
        into += _by_unit(behind.module.weight, here)[:, cut].sum(2) @ sent[cut]
    lost = cut.repeat_interleave(behind.module.weight.shape[1] // len(cut))
    masks[behind.weight][:, lost] = False
    behind.module.weight[:, lost] = 0
    if bias is not None:
        bias[cut] = 0


def _by_unit(tensor: Tensor, here: Link) -> Tensor:
    """Return weights of the next layer as (outputs, neurons here, inputs from each): kernels, or positions of a channel."""
    return tensor.reshape(len(tensor), len(here.module.weight), -1)


def _evens(pool: nn.Module) -> bool:
    """Return whether an average of equal numbers is that number, at the border too."""
    divided_as_many = getattr(pool, "divisor_override", None) is None
    return divided_as_many and not (_wide(pool.padding) and pool.count_include_pad)


def _leaves(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return the modules of nested Sequentials as they run."""
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return [(name, module)]
    inside = zip(module._modules, module, strict=True)  # named_children() leaves out what it has named before
    return [leaf for key, child in inside for leaf in _leaves(child, f"{name}.{key}" if name else key)]


def _joined(before: Link, name: str, module: nn.Module, flat: bool) -> None:
    """Refuse layers between which it cannot be told which inputs come from which neuron."""
    units, inputs = len(before.module.weight), module.weight.shape[1]
    if isinstance(module, nn.Linear):
        fits = flat and (inputs == units or (inputs % units == 0 and not isinstance(before.module, nn.Linear)))
    else:
        fits = inputs == units and type(module) is type(before.module)
    if not fits:
        raise ModelError(f"the {inputs} inputs of {name!r} cannot be told to be of the {units} neurons of {before.name!r}")


def _padded(module: nn.Module) -> bool:
    """Tell whether zeros are put around what the layer sees."""
    if isinstance(module, nn.Linear) or module.padding_mode != "zeros":
        return False
    return max(module.kernel_size) > 1 if module.padding == "same" else module.padding != "valid" and _wide(module.padding)


def _wide(padding: int | tuple[int, ...]) -> bool:
    return any(padding) if isinstance(padding, tuple) else padding > 0
