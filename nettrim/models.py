"""The small reference networks of the pruning literature, built from a seed without touching torch's global generator.

LeNet-300-100 and LeNet-5 (the Caffe variant) are those of Han et al. 2015 and LeCun et al. 1998. ResNet-20: He, Zhang, Ren,
Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2. Depthwise-separable: Howard et al.,
"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications" (2017).
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)


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
        torch.default_generator.manual_seed(seed)
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
        torch.default_generator.manual_seed(seed)
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


def resnet20(*, width: int = 16, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Build ResNet-20 for 32 x 32 images in [0, 1]: 269,722 parameters, 268,336 of them weights.

    A convolution, then three stages of three blocks of two convolutions, all 3 x 3, batch normalization behind each; the
    second and third stage halve the image and double the channels. Shortcuts are those of option A, without parameters:
    every other pixel, and zeros for the new channels. As in the paper but for one thing: the network itself takes pixels
    from [0, 1] to [-2, 2], where the paper subtracts the mean of the training images.

    Parameters
    ----------
    width : int, optional
        Channels of the first stage; even.
    classes : int, optional
        Outputs.
    seed : int, optional
        Seed of the initial weights (He et al. 2015 for convolutions, as in the paper).

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, 3, 32, 32)`` to logits ``(n, classes)``.

    Raises
    ------
    ValueError
        If width is not an even positive number, or classes is not positive.
    """
    if width < 2 or width % 2 or classes < 1:
        raise ValueError(f"width must be an even positive number and classes positive; got {width} and {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[nn.Module] = [_Centered(), *_convolution(3, width, 3)]
        n_in = width
        for n_out in (width, 2 * width, 4 * width):
            for _ in range(3):
                layers.append(_Residual(n_in, n_out))
                n_in = n_out
        return _started(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, classes)))


def separable(*, width: int = 32, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Build a small depthwise-separable network for 32 x 32 images in [0, 1]: 205,642 parameters, 201,664 weights.

    A 3 x 3 convolution, then blocks of a depthwise 3 x 3 and a pointwise 1 x 1 convolution, with batch normalization and
    ReLU behind each, as in MobileNet; six blocks instead of thirteen, and strides for small images.

    Parameters
    ----------
    width : int, optional
        Channels of the first convolution; the last blocks have eight times as many.
    classes : int, optional
        Outputs.
    seed : int, optional
        Seed of the initial weights.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, 3, 32, 32)`` to logits ``(n, classes)``.

    Raises
    ------
    ValueError
        If width or classes is not positive.
    """
    if width < 1 or classes < 1:
        raise ValueError(f"width and classes must be positive; got {width} and {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[nn.Module] = [_Centered(), *_convolution(3, width, 3)]
        n_in = width
        for wider, stride in ((2, 2), (4, 1), (4, 2), (8, 1), (8, 2), (8, 1)):
            n_out = wider * width
            layers += [*_convolution(n_in, n_in, 3, stride, groups=n_in), *_convolution(n_in, n_out, 1)]
            n_in = n_out
        return _started(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, classes)))


class _Centered(nn.Module):
    """Takes pixels from [0, 1] to [-2, 2], so that callers, and calibration, hold plain images."""

    def forward(self, x: Tensor) -> Tensor:
        return 4.0 * x - 2.0


class _Residual(nn.Module):
    """Two convolutions, and a sum with what went into them before the last ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.stride, self.new = n_out // n_in, n_out - n_in
        self.first = nn.Sequential(*_convolution(n_in, n_out, 3, self.stride))
        self.second = nn.Sequential(*_convolution(n_out, n_out, 3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        if self.new:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return F.relu(y + x)


def _convolution(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without a bias, its batch normalization and its ReLU."""
    convolution = nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]


def _started(model: nn.Sequential) -> nn.Sequential:
    """Give convolutions the initial weights of He et al. 2015; to be called where the generator is seeded."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in", nonlinearity="relu")
    return model
