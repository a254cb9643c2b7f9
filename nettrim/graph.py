"""What follows each layer, read from the traced graph of a model and never from the order of its modules.

Tracing is ``torch.fx`` (Reed, DeVito, He, Ussery, Ansel, "torch.fx: Practical Program Capture", 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.errors import ModelError

_RELU_FUNCTIONS = {torch.relu, torch.relu_, F.relu, F.relu_}
_RELU_METHODS = {"relu", "relu_"}
_PASS_MODULES = (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.Identity, nn.Flatten)
_PASS_FUNCTIONS = {torch.flatten, torch.reshape, F.dropout}
_PASS_METHODS = {"flatten", "reshape", "view", "contiguous"}
_SHAPE_METHODS = {"size", "dim"}


@dataclass(frozen=True)
class LayerUse:
    """How a model uses one of its layers.

    Attributes
    ----------
    name : str
        Qualified name of the module.
    activation : {"relu", "linear"} or None
        How to state its program; None where it must stay dense.
    note : str
        Why, in words for the report; empty where there is nothing to say.
    """

    name: str
    activation: Literal["relu", "linear"] | None
    note: str = ""


@dataclass(frozen=True)
class Graph:
    """The layers of a model in the order in which they run, then those that do not.

    Attributes
    ----------
    layers : tuple of LayerUse
        One for each module that has parameters of its own.
    chain : bool
        Whether the model is Linear, ReLU, Dropout and Flatten in a row and nothing else, so that errors add up as in
        Theorem 1.
    """

    layers: tuple[LayerUse, ...]
    chain: bool


def trace(model: nn.Module) -> Graph:
    """Read a model's graph.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, so that dropout is off. Not run, not changed.

    Returns
    -------
    Graph
        What each layer is followed by.

    Raises
    ------
    ModelError
        If ``torch.fx`` cannot trace it.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # fx raises whatever the model's own code raises on a proxy
        raise ModelError(
            f"{type(model).__name__} cannot be traced by torch.fx ({type(error).__name__}: {error}); "
            "data-dependent control flow is the usual cause"
        ) from error
    modules = dict(model.named_modules(remove_duplicate=False))
    calls: dict[nn.Module, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(modules[node.target], []).append(node)
    owners = {name: module for name, module in model.named_modules() if module._parameters}
    shared = _shared(owners)
    uses = {name: _use(name, module, calls.get(module, []), modules, shared) for name, module in owners.items()}
    called = [name for nodes in calls.values() for name in {str(nodes[0].target)} if name in uses]
    order = called + [name for name in uses if name not in called]
    chain = _is_chain(graph, modules) and all(use.activation for use in uses.values())
    return Graph(tuple(uses[name] for name in order), chain)


def _use(
    name: str, module: nn.Module, calls: list[fx.Node], modules: dict[str, nn.Module], shared: dict[str, str]
) -> LayerUse:
    """Decide how one layer is to be treated."""
    if type(module) is not nn.Linear:
        return LayerUse(name, None, f"{type(module).__name__} is not supported")
    if name in shared:
        return LayerUse(name, None, f"shares its weight with {shared[name]}")
    if len(calls) != 1:
        return LayerUse(name, None, "is never called" if not calls else f"is called {len(calls)} times")
    followers = _followers(calls[0], modules)
    if len(followers) == 1 and _is_relu(followers[0], modules):
        return LayerUse(name, "relu")
    if len(followers) == 1 and followers[0].op == "output":
        return LayerUse(name, "linear")
    what = ", ".join(_spelled(node, modules) for node in followers)
    return LayerUse(name, "linear", f"treated as linear: followed by {what}, not by ReLU alone")


def _followers(node: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """Return the nodes that use a value, looking through what neither changes nor mixes its entries."""
    found: list[fx.Node] = []
    for user in node.users:
        if _asks_shape(user):
            continue
        found += _followers(user, modules) if _passes(user, modules) else [user]
    return found


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(modules[str(node.target)]) is nn.ReLU
    return (node.op == "call_function" and node.target in _RELU_FUNCTIONS) or (
        node.op == "call_method" and node.target in _RELU_METHODS
    )


def _passes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _PASS_MODULES)
    if node.target is F.dropout:  # off only where its own argument says so
        return (node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)) is False
    return (node.op == "call_function" and node.target in _PASS_FUNCTIONS) or (
        node.op == "call_method" and node.target in _PASS_METHODS
    )


def _asks_shape(node: fx.Node) -> bool:
    """Tell whether a node only reads the shape of a value."""
    return (node.op == "call_method" and node.target in _SHAPE_METHODS) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _spelled(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Return a node's name for people."""
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    return "the output" if node.op == "output" else getattr(node.target, "__name__", str(node.target))


def _is_chain(graph: fx.Graph, modules: dict[str, nn.Module]) -> bool:
    """Tell whether values go through Linear, ReLU and what passes them on, one after the other, from input to output."""
    node = next(iter(graph.nodes))
    while node.op != "output":
        known = node.op == "placeholder" or _is_relu(node, modules) or _passes(node, modules)
        known = known or (node.op == "call_module" and type(modules[str(node.target)]) is nn.Linear)
        users = [user for user in node.users if not _asks_shape(user)]
        if not known or len(users) != 1:
            return False
        node = users[0]
    return True


def _shared(owners: dict[str, nn.Module]) -> dict[str, str]:
    """Return the layers whose parameters also belong to another one, with the name of that one."""
    holders: dict[Any, list[str]] = {}
    for name, module in owners.items():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(parameter, []).append(name)
    tied = [names for names in holders.values() if len(names) > 1]
    return {name: next(other for other in names if other != name) for names in tied for name in names}
