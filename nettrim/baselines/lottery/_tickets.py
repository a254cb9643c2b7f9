"""One training of the lottery-ticket experiment: masked, watched on samples held out, its early stop found afterwards.

Frankle, Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks" (ICLR 2019), section 2: the early
stop is the iteration of least validation loss of a training that goes on to its end. Test samples are looked at there and at
the end, and decide nothing.
"""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nettrim.baselines._stages import Stage
from nettrim.data import Data
from nettrim.errors import DataError
from nettrim.evaluate import evaluate
from nettrim.masks import Masks
from nettrim.train import constant, train


def split(data: Data, share: float, seed: int) -> tuple[Data, tuple[Tensor, Tensor]]:
    """Hold out training samples for validation.

    Parameters
    ----------
    data : Data
        Left unchanged.
    share : float
        Of the training samples that is held out, rounded to a number of them.
    seed : int
        Of the draw.

    Returns
    -------
    data : Data
        Without them, in the order that they were in; the test samples are the same.
    held_out : (torch.Tensor, torch.Tensor)
        The samples and their labels.

    Raises
    ------
    DataError
        If none would be held out, or all.
    """
    n = len(data.x_train)
    n_out = round(share * n)
    if not 0 < n_out < n:
        raise DataError(f"validation={share} of the {n} training samples is {n_out}; it must be some of them and not all")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    out, rest = order[:n_out].sort().values, order[n_out:].sort().values
    left = replace(data, x_train=data.x_train[rest], y_train=data.y_train[rest])
    return left, (data.x_train[out], data.y_train[out])


@dataclass(frozen=True, eq=False)
class Course:
    """What all trainings of an experiment have in common: Adam with a step size that stays as it is.

    Attributes
    ----------
    data : Data
        Without the samples held out.
    held_out : (torch.Tensor, torch.Tensor)
        These, with their labels.
    iterations : int
        Steps of the optimizer, those before a late start too.
    every : int
        Steps from one look at the samples held out to the next.
    batch_size : int
        Samples a step.
    learning_rate : float
        Adam's step size.
    """

    data: Data
    held_out: tuple[Tensor, Tensor]
    iterations: int
    every: int
    batch_size: int
    learning_rate: float

    def until(self, model: nn.Module, step: int, *, seed: int) -> nn.Module:
        """Return a network as ``fit`` has it after some steps, bit for bit: neither masks nor the end change these."""
        return self._train(model, {}, steps=step, label="training to the late start", seed=seed)

    def fit(self, model: nn.Module, masks: Masks, *, seed: int, label: str, since: int = 0) -> Stage:
        """Train a network to the end, and tell where it should have stopped.

        Parameters
        ----------
        model : torch.nn.Module
            Left unchanged.
        masks : dict
            Weights held at 0 throughout.
        seed : int
            Of the order of the samples.
        label : str
            Left of the progress bar.
        since : int, optional
            Steps that the network has behind it; as many fewer are left. The optimizer starts anew.

        Returns
        -------
        Stage
            The network at the end and its masks. Its facts: ``early_stop`` is the iteration of least validation loss, the
            first of several, counted from the initial weights; ``early_accuracy`` and ``early_loss`` are on the test samples
            there; ``validation_loss`` is the least, ``last_validation_loss`` that at the end.
        """
        watch = _Watch(*self.held_out, self.every, since, self.iterations)
        trained = self._train(model, masks, steps=self.iterations - since, label=label, seed=seed, after_step=watch)
        at_stop = copy.deepcopy(trained)
        at_stop.load_state_dict(watch.state)
        score = evaluate(at_stop, self.data.x_test, self.data.y_test)
        facts = {"early_stop": watch.step, "early_accuracy": score.accuracy, "early_loss": score.loss}
        return Stage(trained, masks, facts | {"validation_loss": watch.least, "last_validation_loss": watch.last})

    def _train(self, model: nn.Module, masks: Masks, **how: Any) -> nn.Module:
        return train(
            model,
            self.data.x_train,
            self.data.y_train,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=constant,
            masks=masks,
            **how,
        )


class _Watch:
    """Looks at the samples held out every so many steps and at the end, and keeps the network of least loss."""

    def __init__(self, x: Tensor, y: Tensor, every: int, since: int, end: int) -> None:
        self.x, self.y, self.every, self.since, self.end = x, y, every, since, end
        self.least, self.last, self.step = math.inf, math.inf, 0
        self.state: dict[str, Tensor] = {}

    def __call__(self, done: int, model: nn.Module) -> None:
        step = self.since + done
        if step % self.every and step != self.end:
            return
        self.last = evaluate(model, self.x, self.y).loss
        if self.last < self.least:
            self.least, self.step = self.last, step
            self.state = {name: value.clone() for name, value in model.state_dict().items()}


def seeded(seed: int, what: str, *which: int) -> int:
    """Return a seed for one use, so that no two draws of an experiment share theirs.

    Parameters
    ----------
    seed : int
        Of the experiment.
    what : str
        Is drawn.
    *which : int
        Of several.

    Returns
    -------
    int
        Of 32 bits.
    """
    return int.from_bytes(hashlib.sha256(repr((seed, what, *which)).encode()).digest()[:4], "big")
