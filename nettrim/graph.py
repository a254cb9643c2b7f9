"""What follows each layer, read from the traced graph of a model and never from the order of its modules.

Tracing is ``torch.fx`` (Reed, DeVito, He, Ussery, Ansel, "torch.fx: Practical Program Capture", 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.batchnorm import folds
from nettrim.errors import ModelError
from nettrim.patches import CONVOLUTIONS

Activation = Literal["relu", "linear"]
SUPPORTED = (nn.Linear, *CONVOLUTIONS)
PROJECTIONS = ("q", "k", "v", "out")  # of an attention; it multiplies them by hand and calls no module for them

_RELU_FUNCTIONS = {torch.relu, torch.relu_, F.relu, F.relu_}
_RELU_METHODS = {"relu", "relu_"}
# What changes no entry: errors go through as they are.
_SAME_MODULES = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
)
_SAME_FUNCTIONS = {torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, F.dropout}
_SAME_METHODS = {"flatten", "reshape", "view", "contiguous", "permute", "transpose", "squeeze", "unsqueeze", "unflatten"}
# What commutes with a ReLU: the responses to keep are those before it, whichever comes first.
_COMMUTING_MODULES = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
_COMMUTING_FUNCTIONS = {torch.cat, torch.concat, torch.stack, F.max_pool1d, F.max_pool2d, F.max_pool3d}
_SHAPE_METHODS = {"size", "dim"}
_TRANSFORMERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@dataclass(frozen=True)
class LayerUse:
    """How a model uses one of its layers.

    Attributes
    ----------
    name : str
        Of the layer: the qualified name of its module, and for a projection of an attention ``.q``, ``.k``, ``.v`` or
        ``.out`` behind it.
    activation : {"relu", "linear"} or None
        How to state its program; None where it must stay dense.
    note : str
        Why, in words for the report; empty where there is nothing to say.
    module : str
        Qualified name of the module that holds its parameters.
    part : str
        ``"q"``, ``"k"``, ``"v"`` or ``"out"`` of an attention; else empty.
    norm : str
        Qualified name of the batch normalization that alone follows it and is folded into it; else empty.
    last : bool
        Whether its responses are the model's output.
    """

    name: str
    activation: Activation | None
    note: str = ""
    module: str = ""
    part: str = ""
    norm: str = ""
    last: bool = False


@dataclass(frozen=True)
class Graph:
    """The layers of a model in the order in which they run, then those that do not.

    Attributes
    ----------
    layers : tuple of LayerUse
        One for each module that has parameters of its own (four for an attention), folded normalizations apart.
    chain : bool
        Whether the model is Linear, ReLU, Dropout, Flatten and folded normalizations in a row and nothing else, so that
        errors add up as in Theorem 1.
    traced : bool
        Whether ``torch.fx`` could read it; if not, layers are in the order in which the model holds them.
    """

    layers: tuple[LayerUse, ...]
    chain: bool
    traced: bool = True

    @property
    def folds(self) -> dict[str, str]:
        """Layer to the batch normalization that is folded into it, by name."""
        return {use.module: use.norm for use in self.layers if use.norm}


def trace(model: nn.Module, activations: Mapping[str, Activation] | None = None) -> Graph:
    """Read a model's graph.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, so that dropout is off. Not run, not changed.
    activations : mapping of str to {"relu", "linear"}, optional
        What follows layers, by name: the word of whoever knows better, or of a model that does not trace.

    Returns
    -------
    Graph
        What each layer is followed by. Where ``torch.fx`` cannot trace the model, layers that ``activations`` does not name
        are linear, and their notes say so.

    Raises
    ------
    ModelError
        If ``activations`` names a layer that is not there, or holds another word.
    """
    try:
        reading: _Reading | _Untraced = _Reading(model, fx.Tracer().trace(model))
    except Exception as error:  # fx raises whatever the model's own code raises on a proxy
        reading = _Untraced(model, f"{type(error).__name__}: {error}".partition("\n")[0])
    shared = _shared(model)
    uses = {}
    for use in _owned(model):
        module = model.get_submodule(use.module)
        if not isinstance(module, nn.MultiheadAttention) and type(module) not in SUPPORTED:
            use = dataclasses.replace(use, note=f"{type(module).__name__} is not supported")
        elif not use.part and module._parameters.get("weight") is None:
            note = "computes its weight from other parameters; torch.nn.utils.prune.remove and its like make it its own"
            use = dataclasses.replace(use, note=note)
        elif use.module in shared:
            use = dataclasses.replace(use, note=f"shares its weight with {shared[use.module]}")
        else:
            use = reading.use(use, module)
        uses[use.name] = use
    folded = {use.norm for use in uses.values()}
    uses = {name: use for name, use in uses.items() if use.module not in folded}
    for name, word in (activations or {}).items():
        if uses.get(name) is None or uses[name].activation is None or word not in ("relu", "linear"):
            why = f"; it {uses[name].note}" if name in uses and uses[name].note else ""
            trimmable = ", ".join(use.name for use in uses.values() if use.activation)
            raise ModelError(
                f"activations={{{name!r}: {word!r}}} must name a layer that can be trimmed, as 'relu' or 'linear'{why}; "
                f"there are {trimmable}"
            )
        uses[name] = dataclasses.replace(uses[name], activation=word, note=f"treated as {word}, as told")
    order = [name for module in reading.order for name in uses if uses[name].module == module]
    order += [name for name in uses if name not in order]
    chain = reading.chain and all(use.activation for use in uses.values())
    return Graph(tuple(uses[name] for name in order), chain, isinstance(reading, _Reading))


class _Untraced:
    """A model whose graph is not known."""

    chain = False
    order: tuple[str, ...] = ()

    def __init__(self, model: nn.Module, why: str) -> None:
        self.note = f"treated as linear: {type(model).__name__} cannot be traced by torch.fx ({why[:120]})"

    def use(self, use: LayerUse, module: nn.Module) -> LayerUse:
        """Decide how a layer is to be treated."""
        return dataclasses.replace(use, activation="linear", note=self.note)


class _Reading:
    """A traced graph, and what can be asked of it."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model, self.graph = model, graph
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.calls: dict[nn.Module, list[fx.Node]] = {}
        self.inside: dict[str, str] = {}  # modules that a module of torch's own holds: the graph stops at that one
        for node in graph.nodes:
            if node.op == "call_module":
                self.calls.setdefault(self.modules[str(node.target)], []).append(node)
        for module, nodes in self.calls.items():
            outer = str(nodes[0].target)
            self.inside |= {f"{outer}.{name}": outer for name, _ in module.named_modules() if name}
        called = [str(nodes[0].target) for nodes in self.calls.values()]
        self.order = tuple(name for outer in called for name in (outer, *_within(self.modules[outer], outer)))
        self.chain = self._is_chain()

    def use(self, use: LayerUse, module: nn.Module) -> LayerUse:
        """Decide how a layer is to be treated."""
        outer = self.inside.get(use.module, use.module)
        calls = self.calls.get(self.modules[outer], [])
        if len(calls) != 1:
            note = "is never called" if not calls else f"is called {len(calls)} times"
            return dataclasses.replace(use, note=note)
        if use.part or outer != use.module:
            relu = self._precedes_relu_of_transformer(use.module)
            return dataclasses.replace(use, activation="relu" if relu else "linear")
        node, norm = self._fold(calls[0], module)
        followers = self._followers(node)
        use = dataclasses.replace(use, norm=norm, last=len(followers) == 1 and followers[0].op == "output")
        if followers and all(self._is_relu(follower) for follower in followers):
            return dataclasses.replace(use, activation="relu")
        if use.last or not followers:
            return dataclasses.replace(use, activation="linear")
        what = ", ".join(self._spelled(follower) for follower in followers)
        return dataclasses.replace(
            use, activation="linear", note=f"treated as linear: followed by {what}, not by ReLU alone"
        )

    def _fold(self, node: fx.Node, module: nn.Module) -> tuple[fx.Node, str]:
        """Return where a layer's responses are, and the name of the batch normalization up to there."""
        users = [user for user in node.users if not _asks_shape(user)]
        if len(users) != 1 or users[0].op != "call_module":
            return node, ""
        norm = self.modules[str(users[0].target)]
        return (users[0], str(users[0].target)) if folds(norm) and len(self.calls[norm]) == 1 else (node, "")

    def _precedes_relu_of_transformer(self, name: str) -> bool:
        """Tell whether a module is the first of the feed-forward part of a transformer layer whose activation is ReLU."""
        parent, _, child = name.rpartition(".")
        block = self.modules[parent]
        if not isinstance(block, _TRANSFORMERS) or child != "linear1":
            return False
        return block.activation in (F.relu, torch.relu) or isinstance(block.activation, nn.ReLU)

    def _followers(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that use a value, looking through what neither changes entries nor minds a ReLU before it."""
        found: list[fx.Node] = []
        for user in node.users:
            if _asks_shape(user):
                continue
            found += self._followers(user) if self._passes(user) or self._commutes(user) else [user]
        return list(dict.fromkeys(found))

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return type(self.modules[str(node.target)]) is nn.ReLU
        return (node.op == "call_function" and node.target in _RELU_FUNCTIONS) or (
            node.op == "call_method" and node.target in _RELU_METHODS
        )

    def _passes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], _SAME_MODULES)
        if node.target is F.dropout:  # off only where its own argument says so
            return (node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)) is False
        return (node.op == "call_function" and node.target in _SAME_FUNCTIONS) or (
            node.op == "call_method" and node.target in _SAME_METHODS
        )

    def _commutes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], _COMMUTING_MODULES)
        return node.op == "call_function" and node.target in _COMMUTING_FUNCTIONS

    def _spelled(self, node: fx.Node) -> str:
        """Return a node's name for people."""
        if node.op == "call_module":
            return type(self.modules[str(node.target)]).__name__
        return "the output" if node.op == "output" else getattr(node.target, "__name__", str(node.target))

    def _is_chain(self) -> bool:
        """Tell whether values go through Linear, ReLU and what passes them on, one after the other, from input to output."""
        node = next(iter(self.graph.nodes))
        while node.op != "output":
            known = node.op == "placeholder" or self._is_relu(node) or self._passes(node)
            if node.op == "call_module" and type(self.modules[str(node.target)]) is nn.Linear:
                known, (node, _) = True, self._fold(node, self.modules[str(node.target)])
            users = [user for user in node.users if not _asks_shape(user)]
            if not known or len(users) != 1:
                return False
            node = users[0]
        return True


def _owned(model: nn.Module) -> Iterator[LayerUse]:
    """Yield each module with parameters of its own, as yet dense; an attention as its four projections."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            for part in PROJECTIONS:
                yield LayerUse(f"{name}.{part}".lstrip("."), None, module=name, part=part)
        elif module._parameters and not _is_projection(model, name):
            yield LayerUse(name, None, module=name)


def _is_projection(model: nn.Module, name: str) -> bool:
    parent, _, child = name.rpartition(".")
    return child == "out_proj" and isinstance(model.get_submodule(parent), nn.MultiheadAttention)


def _within(module: nn.Module, name: str) -> Iterator[str]:
    """Yield the names of the modules inside one, in the order in which it holds them."""
    for inner, _ in module.named_modules():
        if inner:
            yield f"{name}.{inner}"


def _asks_shape(node: fx.Node) -> bool:
    """Tell whether a node only reads the shape of a value."""
    return (node.op == "call_method" and node.target in _SHAPE_METHODS) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _shared(model: nn.Module) -> dict[str, str]:
    """Return the modules whose parameters also belong to another one, with the name of that one."""
    holders: dict[Any, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(parameter, []).append(name)
    tied = [names for names in holders.values() if len(names) > 1]
    return {name: next(other for other in names if other != name) for names in tied for name in names}
