"""One plain, seeded training loop (cross-entropy; Adam or SGD) and how accurate the outcome is. No pruning here."""

import copy
import math
from collections.abc import Callable, Iterator
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
    momentum: float | None = None,
    augment: bool = False,
    after_epoch: Callable[[int, nn.Module], object] | None = None,
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
        Adam's first step size; a cosine takes it to 0 at the last step. With ``momentum`` the largest of SGD's.
    weight_decay : float, optional
        Coefficient of the l2 penalty that the optimizer adds to the gradient.
    label_smoothing : float, optional
        Weight of the uniform distribution in the targets (Szegedy et al. 2016).
    momentum : float, optional
        If given, SGD with this Nesterov momentum in place of Adam; its step size rises on a line over the first fifth of the
        steps and falls on one to 0 (one cycle: Smith, Topin 2019).
    augment : bool, optional
        Whether every image of every step is flipped and shifted at random, as ``augmented`` does.
    after_epoch : callable, optional
        Given the number of epochs done and the model in training, after each; what it draws changes nothing here.
    seed : int, optional
        Seed of the order of the samples, of ``augment`` and of dropout; torch's global generator is left as it was.

    Returns
    -------
    torch.nn.Module
        The trained copy.

    Raises
    ------
    ValueError
        If there are no samples, inputs and labels differ in length, momentum is outside (0, 1), or inputs that are to be
        augmented are no images.
    FloatingPointError
        If the loss stops being finite.
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(f"train needs as many labels as inputs, at least one; got {len(inputs)} and {len(labels)}")
    model = copy.deepcopy(model).train()
    steps = max(epochs * math.ceil(len(inputs) / batch_size), 1)
    optimizer, schedule = _stepping(model, steps, learning_rate, weight_decay, momentum)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout has no generator argument of its own
        for epoch in track(range(epochs), "training"):
            for batch in torch.randperm(len(inputs), generator=order).split(batch_size):
                optimizer.zero_grad()
                samples = augmented(inputs[batch], order) if augment else inputs[batch]
                loss = F.cross_entropy(model(samples), labels[batch], label_smoothing=label_smoothing)
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower learning_rate")
                loss.backward()
                optimizer.step()
                schedule.step()
            if after_epoch is not None:
                with torch.random.fork_rng(devices=[]):
                    after_epoch(epoch + 1, model)
    return model.eval()


def augmented(images: Tensor, generator: torch.Generator, *, shift: int = 4) -> Tensor:
    """Flip half of the images left to right and move each by a few pixels, what is uncovered mirroring what is inside.

    Parameters
    ----------
    images : torch.Tensor
        Shape ``(n, channels, height, width)``; left unchanged.
    generator : torch.Generator
        Of the draws.
    shift : int, optional
        Pixels, at most, in each direction.

    Returns
    -------
    torch.Tensor
        Images of the same shape, each pixel of which is one of the image it comes from.

    Raises
    ------
    ValueError
        If these are no images of more than ``shift`` pixels in height and width.
    """
    if images.ndim != 4 or min(images.shape[2:]) <= shift:
        raise ValueError(
            f"augmenting takes images (n, channels, height, width) of more than {shift} pixels in height and width; got "
            f"shape {tuple(images.shape)}"
        )
    n, channels, height, width = images.shape
    down, right = torch.randint(2 * shift + 1, (2, n, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)  # (n, height), (n, width)
    flipped = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (shift,) * 4, mode="reflect")
    image, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _stepping(
    model: nn.Module, steps: int, learning_rate: float, weight_decay: float, momentum: float | None
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return the optimizer, and what moves its step size."""
    if momentum is None:
        adam = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    if not 0.0 < momentum < 1.0:
        raise ValueError(f"momentum must be between 0 and 1, or None for Adam; got {momentum}")
    sgd = torch.optim.SGD(model.parameters(), learning_rate, momentum, weight_decay=weight_decay, nesterov=True)

    def cycle(step: int) -> float:
        part = (step + 1) / (steps + 1)
        return min(part / 0.2, (1 - part) / 0.8)

    return sgd, torch.optim.lr_scheduler.LambdaLR(sgd, cycle)


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
