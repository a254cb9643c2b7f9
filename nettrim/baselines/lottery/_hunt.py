"""The rounds of a hunt for lottery tickets, and the controls beside each; what was asked is checked before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nettrim.baselines import _door
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.lottery._tickets import Course, seeded
from nettrim.data import Data
from nettrim.errors import SettingError
from nettrim.masks import LAYERS, Masks, everything, shuffled

SCOPES = ("layer", "global")


class Hunt:
    """Everything that is trained, one network after the other.

    Parameters
    ----------
    data : Data
        Without the samples held out.
    held_out : (torch.Tensor, torch.Tensor)
        These, with their labels.
    stages : Stages
        Keep what is finished.
    settings : mapping
        Of ``lottery.run``, checked.
    theta : torch.nn.Module
        The network with its initial weights.
    again : callable
        Draws it anew, given a seed.
    prune : callable
        Returns the masks after some rounds more, given a stage and how many.
    """

    def __init__(
        self,
        data: Data,
        held_out: tuple[Tensor, Tensor],
        *,
        stages: Stages,
        settings: Mapping[str, Any],
        theta: nn.Module,
        again: Callable[[int], nn.Module],
        prune: Callable[[Stage, int], Masks],
    ) -> None:
        self.stages, self.asked, self.theta, self.again, self.prune = stages, settings, theta, again, prune
        names = ("iterations", "every", "batch_size", "learning_rate")
        self.course = Course(data, held_out, **{name: settings[name] for name in names})

    def trainings(self) -> Iterator[tuple[int, str, int, Stage]]:
        """Yield the round, the kind of network, the number of its draw and the trained network, in order."""
        dense = ticket = self.fit(0, "ticket", 0, self.theta, everything(self.theta))
        yield 0, "ticket", 0, dense
        begin, rewind, rounds = self.begin(), self.asked["rewind"], self.asked["rounds"]
        for number in range(1, rounds + 1):
            masks = self.prune(ticket, 1)
            if self.asked["strategy"] == "reset" or number == rounds:
                ticket = self.fit(number, "ticket", 0, begin, masks, rewind)
            else:
                ticket = self.fit(number, "ticket", 0, ticket.model, masks)
            yield number, "ticket", 0, ticket
            if self.asked["at"] is None or number in self.asked["at"]:
                yield from self.controls(number, masks)
                if self.asked["oneshot"]:
                    yield number, "oneshot", 0, self.fit(number, "oneshot", 0, begin, self.prune(dense, number), rewind)

    def controls(self, number: int, masks: Masks) -> Iterator[tuple[int, str, int, Stage]]:
        """Yield the same of a round's controls that are drawn: other weights in the masks, or the weights in other masks."""
        for draw in range(self.asked["reinits"]):
            network = self.again(self.seed("weights", number, draw))
            yield number, "reinit", draw, self.fit(number, "reinit", draw, network, masks)
        for draw in range(self.asked["shuffles"]):
            places = torch.Generator().manual_seed(self.seed("places", number, draw))
            yield number, "random", draw, self.fit(number, "random", draw, self.theta, shuffled(masks, places))

    def begin(self) -> nn.Module:
        """Return the network that a reset goes back to."""
        steps, order = self.asked["rewind"], self.seed("ticket", 0, 0)  # the order of the dense training
        if not steps:
            return self.theta
        return self.stages.run("start", lambda: Stage(self.course.until(self.theta, steps, seed=order)), self.theta).model

    def fit(self, number: int, kind: str, draw: int, network: nn.Module, masks: Masks, since: int = 0) -> Stage:
        """Return a trained network, an old one if it is kept."""
        name, order = f"round-{number}-{kind}-{draw}", self.seed(kind, number, draw)
        label = f"training {kind} of round {number}"
        return self.stages.run(
            name, lambda: self.course.fit(network, masks, seed=order, label=label, since=since), self.theta
        )

    def seed(self, what: str, *which: int) -> int:
        return seeded(self.asked["seed"], what, *which)


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy whose weights, and whose biases, are in a random order within each layer.

    Where those of a layer were drawn alike and apart from one another, this is as good a draw as the first, whatever they
    were drawn from.
    """
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    layers = (module for module in model.modules() if isinstance(module, LAYERS))
    with torch.no_grad():
        for parameter in (parameter for layer in layers for parameter in (layer.weight, layer.bias)):
            if parameter is not None:  # shared ones are moved twice, which does no harm
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return model


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of ``lottery.run`` as numbers that can be counted with, or refuse them by name."""
    found = dict(settings)
    for name in ("rounds", "iterations", "every", "batch_size"):
        found[name] = _door.whole(name, found[name])
    found["rewind"] = _door.whole("rewind", found["rewind"], 0, found["iterations"] - 1)
    for name in ("reinits", "shuffles", "seed"):
        found[name] = _door.whole(name, found[name], 0)
    for name in ("rate", "validation"):
        found[name] = _door.fraction(name, found[name])
    for name in ("convolution_rate", "output_rate"):
        if found[name] is not None and found[name] != 0:
            found[name] = _door.fraction(name, found[name])
    found["learning_rate"] = _door.positive("learning_rate", found["learning_rate"])
    found["scope"] = _door.choice("scope", found["scope"], SCOPES)
    found["initial"] = _door.choice("initial", found["initial"], ("glorot", "given"))
    found["strategy"] = _door.choice("strategy", found["strategy"], ("reset", "continue"))
    found["oneshot"] = _door.choice("oneshot", found["oneshot"], (True, False))
    if found["at"] is not None:
        if not isinstance(found["at"], list | tuple):
            raise SettingError(f"at must be a list of rounds; got {found['at']!r}")
        found["at"] = [_door.whole("at", number, 1, found["rounds"]) for number in found["at"]]
    return found
