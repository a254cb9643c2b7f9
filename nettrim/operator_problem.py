"""The program of a convolution on all positions of its images, stated without its patches: X is cut where it is judged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nettrim.convolve import ROOM, ConvolutionOperator, check
from nettrim.errors import ModelError
from nettrim.graph import Activation
from nettrim.layers import plain, read
from nettrim.lazy import LazyPatches
from solvers import LayerProblem, ProblemError
from solvers.backends._tensors import full_precision


def operator_problem(
    layer: Any,
    images: Any,
    epsilon: float = 0.1,
    *,
    activation: Activation = "relu",
    penalize_bias: bool = True,
    room: int = ROOM,
) -> LayerProblem:
    """State the program of one convolution on all positions of its input images, with an X that is never stored.

    Parameters
    ----------
    layer, images, epsilon, activation, penalize_bias, room
        As in ``solve_operator``.

    Returns
    -------
    LayerProblem
        ``solvers.certify`` judges any weights on it. Its X is a ``LazyPatches``; backends refuse it.

    Raises
    ------
    ModelError
        If the layer is no such convolution, or the images do not fit it or hold NaN or Inf.
    ProblemError
        If a number or a name is out of its range.
    """
    return stated(layer, images, epsilon, activation, penalize_bias, room)[0]


def stated(
    layer: Any, images: Any, epsilon: float, activation: Activation, penalize_bias: bool, room: int
) -> tuple[LayerProblem, Tensor, Tensor]:
    """State the program, and keep hold of the tensors whose memory it shares.

    Parameters
    ----------
    layer, images, epsilon, activation, penalize_bias, room
        As in ``operator_problem``.

    Returns
    -------
    problem : LayerProblem
        The program.
    Y : torch.Tensor, shape (M, P)
        Its responses, in the dtype of the images. They are the targets too, for V is 0 off Omega and so is Y.
    on : torch.Tensor of bool, shape (M, P)
        Omega; of a linear layer one True, spread.

    Raises
    ------
    ModelError, ProblemError
        As in ``operator_problem``.
    """
    images = _images(images)
    check(layer, images)
    if not bool(torch.isfinite(images).all()):
        where = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ModelError(f"images hold NaN or Inf, first in image {where}; remove such images")
    if activation not in ("relu", "linear"):
        raise ProblemError(f"activation must be 'relu' or 'linear'; got {activation!r}")
    if not 0 <= epsilon < float("inf"):
        raise ProblemError(f"epsilon must be a finite number, 0 or more; got {epsilon}")
    (W,) = read(plain(layer))
    if not np.isfinite(W).all():
        raise ModelError("the weights of the layer hold NaN or Inf; it cannot be trimmed")
    penalty: NDArray[Any] = np.ones((len(W), 1))
    if layer.bias is not None and not penalize_bias:
        penalty[-1] = 0.0
    with exactly():
        Y = ConvolutionOperator(layer, images, room=room).forward(torch.from_numpy(W).to(images.dtype))
        if activation == "relu":
            on = torch.gt(Y.clamp_(min=0), 0)
        else:
            on = torch.ones((), dtype=torch.bool, device="cpu").expand_as(Y)
    # The radius needs a norm, which the program knows best: it is stated with another, then with this one.
    problem = LayerProblem(
        LazyPatches(layer, images, room),
        Y.numpy(),
        0.0,
        active=on.numpy() if activation == "relu" else None,
        penalty=penalty,
        activation=activation,
    )
    return problem.replace(epsilon=epsilon * problem.norm), Y, on


def _images(images: Any) -> Tensor:
    """Return images as a float32 or float64 tensor on the CPU, copied only where they must change."""
    if not isinstance(images, Tensor):
        array = np.asarray(images)
        if array.dtype.kind not in "fiub":
            raise ModelError(f"images must hold real numbers; got {array.dtype}")
        images = torch.from_numpy(array.copy())  # torch warns of arrays that are read-only
    images = images.detach().to("cpu")
    if images.is_complex():
        raise ModelError(f"images must hold real numbers; got {images.dtype}")
    if not images.is_floating_point():
        return images.double()
    return images.float() if images.element_size() < 4 else images


@contextmanager
def exactly() -> Iterator[None]:
    """Hold PyTorch as a solve needs it: no gradients and no lower precision, whatever the caller has set.

    Yields
    ------
    None
        For as long as the context lasts; afterwards PyTorch is as it was.
    """
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), full_precision():
        yield
