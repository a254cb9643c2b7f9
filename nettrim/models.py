"""The small reference networks of the pruning literature, built from a seed without touching torch's global generator.

LeNet-300-100 and LeNet-5 (the Caffe variant) are those of Han et al. 2015 and LeCun et al. 1998.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


def mlp(sizes: Sequence[int], *, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Build a fully connected ReLU network with a linear output layer.

    Parameters
    ----------
    sizes : sequence of int
        Widths from the input to the output, at least two, for example ``(784, 300, 100, 10)``.
    dropout : float, optional
        Probability of dropping each hidden activation while training; 0 adds no dropout layer.
    seed : int, optional
        Seed of the initial weights (torch's default initialization).

    Returns
    -------
    torch.nn.Sequential
        Flatten, then Linear and ReLU in turn, and a last Linear: images ``(n, ...)`` to logits ``(n, sizes[-1])``.

    Raises
    ------
    ValueError
        If fewer than two sizes are given, one of them is not positive, or dropout is outside [0, 1).
    """
    widths = [int(size) for size in sizes]
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"sizes must be at least two positive widths, input first; got {list(sizes)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1); got {dropout}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Linear(widths[-2], widths[-1]))
    return nn.Sequential(*layers)


def lenet300(*, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Build LeNet-300-100 for 28 x 28 images: 266,610 parameters, 266,200 of them weights.

    Parameters
    ----------
    dropout : float, optional
        Probability of dropping each hidden activation while training.
    seed : int, optional
        Seed of the initial weights.

    Returns
    -------
    torch.nn.Sequential
        The network ``784-300-100-10``.
    """
    return mlp((784, 300, 100, 10), dropout=dropout, seed=seed)


def lenet5(*, seed: int = 0) -> nn.Sequential:
    """Build LeNet-5 in its Caffe variant (20 and 50 filters of 5 x 5, then 500 and 10 units): 431,080 parameters.

    Parameters
    ----------
    seed : int, optional
        Seed of the initial weights.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, 1, 28, 28)`` to logits ``(n, 10)``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )
