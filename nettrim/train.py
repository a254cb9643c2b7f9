"""One plain, seeded training loop (cross-entropy, Adam, cosine decay) and how accurate the outcome is. No pruning here."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.progress import track


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """Train a copy of ``model`` and return it in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Maps ``inputs`` to logits ``(n, n_classes)``. Left unchanged.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor
        Class numbers ``(n,)``, int64.
    epochs : int, optional
        Passes over the samples.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's first step size; a cosine takes it to 0 at the last step.
    weight_decay : float, optional
        Coefficient of the l2 penalty that Adam adds to the gradient.
    label_smoothing : float, optional
        Weight of the uniform distribution in the targets (Szegedy et al. 2016).
    seed : int, optional
        Seed of the order of the samples and of dropout; torch's global generator is left as it was.

    Returns
    -------
    torch.nn.Module
        The trained copy.

    Raises
    ------
    ValueError
        If there are no samples, or inputs and labels differ in length.
    FloatingPointError
        If the loss stops being finite.
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(f"train needs as many labels as inputs, at least one; got {len(inputs)} and {len(labels)}")
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * math.ceil(len(inputs) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout has no generator argument of its own
        for epoch in track(range(epochs), "training"):
            for batch in torch.randperm(len(inputs), generator=order).split(batch_size):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs[batch]), labels[batch], label_smoothing=label_smoothing)
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower learning_rate")
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


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
        If there are no inputs, or inputs and labels differ in length.
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(f"accuracy needs as many labels as inputs, at least one; got {len(inputs)} and {len(labels)}")
    with evaluating(model):
        pairs = zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
        hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)
    return hits / len(inputs)


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
