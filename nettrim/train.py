"""One plain, seeded training loop (Adam or SGD) for every network of the package; masked weights stay at 0 in it."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim import masks as pruning
from nettrim.augment import augmented
from nettrim.masks import Masks
from nettrim.progress import track


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int = 10,
    steps: int | None = None,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    momentum: float | None = None,
    schedule: Callable[[float], float] | None = None,
    augment: bool | Callable[[Tensor, torch.Generator], Tensor] = False,
    masks: Masks | None = None,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    after_step: Callable[[int, nn.Module], object] | None = None,
    after_epoch: Callable[[int, nn.Module], object] | None = None,
    label: str = "training",
    seed: int = 0,
) -> nn.Module:
    """Train a copy of ``model`` and return it in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Maps ``inputs`` to logits ``(n, n_classes)``. Left unchanged; parameters that require no
        gradient stay as they are in the copy too.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor
        Class numbers ``(n,)``, int64; with a ``loss`` of your own whatever it takes, a row a sample.
    epochs : int, optional
        Passes over the samples.
    steps : int, optional
        Steps of the optimizer in all, in place of ``epochs``; the last pass may be cut short.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's first step size; a cosine takes it to 0 at the last step. With ``momentum`` the largest of SGD's.
    weight_decay : float, optional
        Coefficient of the l2 penalty that the optimizer adds to the gradient.
    label_smoothing : float, optional
        Weight of the uniform distribution in the targets (Szegedy et al. 2016).
    momentum : float, optional
        If given, SGD with this Nesterov momentum in place of Adam, with 0 plain gradient steps; its step size rises on a
        line over the first fifth of the steps and falls on one to 0 (one cycle: Smith, Topin 2019).
    schedule : callable, optional
        In place of the cosine or the cycle: maps the part of the steps that is done, from 0 on, to a factor of
        ``learning_rate``.
    augment : bool or callable, optional
        Whether every image of every step is flipped and shifted at random, as ``nettrim.augment.augmented`` does; or what is
        done to the samples of every step, given them and a generator.
    masks : dict, optional
        Weights to be held at 0 (see ``nettrim.masks``).
    loss : callable, optional
        In place of cross-entropy: maps the model, the samples and the labels of a step to what is minimized.
    after_step : callable, optional
        Given the number of steps done and the model in training, after each. It draws nothing from torch's global generator;
        weights that it changes are changed.
    after_epoch : callable, optional
        Given the number of epochs done and the model in training, after each; what it draws changes nothing here.
    label : str, optional
        Text left of the progress bar.
    seed : int, optional
        Seed of the order of the samples, of ``augment`` and of dropout; torch's global generator is left as it was.

    Returns
    -------
    torch.nn.Module
        The trained copy.

    Raises
    ------
    ValueError
        If there are no samples, inputs and labels differ in length, epochs, steps or batch_size are no such number, momentum
        is outside [0, 1), a ``loss`` of your own is to be smoothed, nothing requires a gradient, or inputs that are to be
        augmented are no images.
    MaskError
        If the masks do not fit the model.
    FloatingPointError
        If the loss or the weights stop being finite.
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(f"train needs as many labels as inputs, at least one; got {len(inputs)} and {len(labels)}")
    for name, value, least in (("epochs", epochs, 0), ("steps", steps, 0), ("batch_size", batch_size, 1)):
        if value is not None and (value < least or value != int(value)):
            raise ValueError(f"{name} must be a whole number, at least {least}; got {value}")
    if loss is not None and label_smoothing:
        raise ValueError("label_smoothing is part of the cross-entropy; a loss of your own has its own way to smooth")
    model = copy.deepcopy(model).train()
    held = pruning.impose(model, masks or {})
    an_epoch = math.ceil(len(inputs) / batch_size)
    total = max(epochs * an_epoch, 1) if steps is None else steps
    optimizer, stepping = _stepping(model, total, learning_rate, weight_decay, momentum, schedule)
    move = augmented if augment is True else augment
    order, step = torch.Generator().manual_seed(seed), 0
    with _seeded(model, seed):  # dropout has no generator argument of its own
        for epoch in track(range(epochs if steps is None else math.ceil(steps / an_epoch)), label):
            for batch in torch.randperm(len(inputs), generator=order).split(batch_size)[: total - step]:
                optimizer.zero_grad()
                samples = move(inputs[batch], order) if move else inputs[batch]
                if loss is None:
                    value = F.cross_entropy(model(samples), labels[batch], label_smoothing=label_smoothing)
                else:
                    value = loss(model, samples, labels[batch])
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the loss is {value.item()} in epoch {epoch + 1}; lower learning_rate")
                value.backward()
                for weight, mask in held:  # no gradient: neither momentum nor decay can then move a weight from 0
                    if weight.grad is not None:
                        weight.grad.mul_(mask)
                optimizer.step()
                stepping.step()
                step += 1
                if after_step is not None:
                    after_step(step, model)
            if after_epoch is not None:
                with torch.random.fork_rng(devices=_cuda(model)):
                    after_epoch(epoch + 1, model)
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise FloatingPointError("the last step left weights that are NaN or Inf; lower learning_rate")
    return model.eval()


def constant(part: float) -> float:
    """Keep the step size: a ``schedule``.

    Parameters
    ----------
    part : float
        Of the steps that is done.

    Returns
    -------
    float
        1.
    """
    return 1.0


@contextmanager
def _seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed the global generators of the devices that a model is on, no other, and put them back as they were afterwards."""
    with torch.random.fork_rng(devices=_cuda(model)):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every CUDA device too
        for device in _cuda(model):
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


def _cuda(model: nn.Module) -> list[int]:
    """Return the numbers of the CUDA devices that a model is on."""
    return sorted({parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"})


def _stepping(
    model: nn.Module,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    momentum: float | None,
    schedule: Callable[[float], float] | None,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return the optimizer, and what moves its step size."""
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not moved:
        raise ValueError("no parameter of the model requires a gradient, so there is nothing to train")
    if momentum is not None and not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be at least 0 and below 1, or None for Adam; got {momentum}")
    optimizer: torch.optim.Optimizer
    if momentum is None:
        optimizer = torch.optim.Adam(moved, lr=learning_rate, weight_decay=weight_decay)
        if schedule is None:
            return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    else:
        optimizer = torch.optim.SGD(moved, learning_rate, momentum, weight_decay=weight_decay, nesterov=momentum > 0)

    def cycle(step: int) -> float:
        part = (step + 1) / (steps + 1)
        return min(part / 0.2, (1 - part) / 0.8)

    factor = cycle if schedule is None else lambda step: schedule(step / steps)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
