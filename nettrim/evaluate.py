"""How good a classifier is on labelled samples, whoever trained or pruned it; its modes are left as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)


class Score(NamedTuple):
    """What a model makes of labelled samples.

    Attributes
    ----------
    accuracy : float
        Fraction whose largest logit is at the label.
    loss : float
        Mean cross-entropy, in nats.
    errors : int
        How many others there are.
    """

    accuracy: float
    loss: float
    errors: int


def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 1000) -> Score:
    """Return how good a model is.

    Parameters
    ----------
    model : torch.nn.Module
        Maps inputs to logits ``(n, n_classes)``; evaluated as in evaluation mode, its own mode is restored.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor
        Class numbers ``(n,)``, int64.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    Score
        Accuracy, loss and number of errors.

    Raises
    ------
    ValueError
        If there are no inputs, inputs and labels differ in length, or labels are no class numbers (n,).
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(f"evaluating needs as many labels as inputs, at least one; got {len(inputs)} and {len(labels)}")
    if labels.ndim != 1:
        raise ValueError(f"labels must be class numbers, shape (n,); got shape {tuple(labels.shape)}")
    hits, loss = 0, 0.0
    with evaluating(model):
        for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            hits += int((logits.argmax(1) == y).sum())
            loss += float(F.cross_entropy(logits.double(), y, reduction="sum"))
    return Score(hits / len(inputs), loss / len(inputs), len(inputs) - hits)


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 1000) -> float:
    """Return the fraction of ``inputs`` whose largest logit is at the label.

    Parameters
    ----------
    model : torch.nn.Module
        Maps inputs to logits; evaluated as in evaluation mode, its own mode is restored.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor
        Class numbers ``(n,)``.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If there are no inputs, inputs and labels differ in length, or labels are no class numbers (n,).
    """
    return evaluate(model, inputs, labels, batch_size=batch_size).accuracy


def logits(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Return what a model says of samples.

    Parameters
    ----------
    model : torch.nn.Module
        Evaluated as in evaluation mode, its own mode is restored.
    inputs : torch.Tensor
        Samples ``(n, ...)``, at least one.
    batch_size : int, optional
        Samples a forward pass.

    Returns
    -------
    torch.Tensor
        Its logits ``(n, n_classes)``, without gradients.
    """
    with evaluating(model):
        return torch.cat([model(x) for x in inputs.split(batch_size)])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model in evaluation mode, without gradients, and give every module its own mode back afterwards.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.

    Yields
    ------
    torch.nn.Module
        The model itself.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode
