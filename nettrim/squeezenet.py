"""Fire modules and the networks made of them: SqueezeNet as published, and a small one for 28 x 28 digits.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB
model size" (2016, arXiv 1602.07360), sections 3, 5 and 6. What the text leaves open is as in the authors' Caffe files: pools
round up; conv10 of version 1.0 pads its input by a pixel, that of 1.1 does not; the ReLU stands behind conv10 too; biases
begin at 0, weights uniform within sqrt(3 / fan_in), those of conv10 normal with a deviation of 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

BYPASSES = ("none", "simple", "complex")
# Version to kernel and channels of conv1, the Fire modules (the first is 0) behind which there is a pool, the pad of conv10.
VERSIONS = {"1.0": (7, 96, (2, 6), 1), "1.1": (3, 64, (1, 3), 0)}


class Fire(nn.Module):
    """A squeeze to few channels by 1 x 1 filters, then 1 x 1 and 3 x 3 filters side by side, a ReLU behind each.

    Parameters
    ----------
    n_in : int
        Channels that come in.
    squeeze, expand1, expand3 : int
        Filters: s_1x1, e_1x1 and e_3x3 of the paper; ``expand1 + expand3`` channels go out.
    bypass : {"none", "simple", "complex"}, optional
        What is added to the output: nothing; the input, where it has as many channels; else also a 1 x 1 convolution of it.

    Raises
    ------
    ValueError
        If a number is not positive, squeezing leaves as many channels as expanding makes, or there is no such bypass.
    """

    def __init__(self, n_in: int, squeeze: int, expand1: int, expand3: int, *, bypass: str = "none") -> None:
        super().__init__()
        n_out = expand1 + expand3
        if min(n_in, squeeze, expand1, expand3) < 1 or squeeze >= n_out:
            raise ValueError(
                f"a Fire module has at least one filter of each kind, and fewer that squeeze than expand; got {n_in} "
                f"channels and filters {squeeze}, {expand1} and {expand3}"
            )
        if bypass not in BYPASSES:
            raise ValueError(f"bypass must be one of {', '.join(map(repr, BYPASSES))}; got {bypass!r}")
        self.squeeze = nn.Conv2d(n_in, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand1, 1)
        self.expand3 = nn.Conv2d(squeeze, expand3, 3, padding=1)
        self.bypass: nn.Module | None = None
        if n_in == n_out and bypass != "none":
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the module.

        Parameters
        ----------
        x : torch.Tensor
            Shape ``(n, n_in, height, width)``.

        Returns
        -------
        torch.Tensor
            Shape ``(n, expand1 + expand3, height, width)``.
        """
        few = F.relu(self.squeeze(x))
        y = torch.cat([F.relu(self.expand1(few)), F.relu(self.expand3(few))], dim=1)
        return y if self.bypass is None else y + self.bypass(x)


def fires(
    count: int = 8,
    *,
    base_e: int = 128,
    incr_e: int = 128,
    freq: int = 2,
    pct3x3: float = 0.5,
    squeeze_ratio: float = 0.125,
) -> list[tuple[int, int, int]]:
    """Return the numbers of filters of Fire modules by the metaparameters of section 5.1; the defaults are SqueezeNet's.

    Module i = 0, 1, ... has e_i = base_e + incr_e floor(i / freq) filters that expand, pct3x3 e_i of them 3 x 3, and
    SR e_i that squeeze; numbers that are not whole are rounded.

    Parameters
    ----------
    count : int, optional
        How many modules.
    base_e : int, optional
        Filters that expand in the first.
    incr_e : int, optional
        How many more they are after every ``freq`` modules.
    freq : int, optional
        Modules of one width.
    pct3x3 : float, optional
        Part of the expanding filters that is 3 x 3, in (0, 1).
    squeeze_ratio : float, optional
        Squeezing filters over expanding ones, in (0, 1): SR of the paper.

    Returns
    -------
    list of (int, int, int)
        s_1x1, e_1x1 and e_3x3 of each module.

    Raises
    ------
    ValueError
        If a metaparameter is outside its range, or leaves a module without filters of a kind.
    """
    if count < 1 or base_e < 2 or incr_e < 0 or freq < 1 or not 0 < pct3x3 < 1 or not 0 < squeeze_ratio < 1:
        raise ValueError(
            "a network of Fire modules has count >= 1, base_e >= 2, incr_e >= 0, freq >= 1, pct3x3 and squeeze_ratio in "
            f"(0, 1); got {count}, {base_e}, {incr_e}, {freq}, {pct3x3} and {squeeze_ratio}"
        )
    found = []
    for i in range(count):
        e = base_e + incr_e * (i // freq)
        e3 = round(pct3x3 * e)
        found.append((round(squeeze_ratio * e), e - e3, e3))
    if min(map(min, found)) < 1:
        raise ValueError(f"these metaparameters leave a module without filters of a kind: {found}")
    return found


def squeezenet(
    *,
    classes: int = 1000,
    version: str = "1.0",
    bypass: str = "none",
    sizes: Sequence[tuple[int, int, int]] | None = None,
    dropout: float = 0.5,
    seed: int = 0,
) -> nn.Sequential:
    """Build SqueezeNet for color images, 227 x 227 in the paper: 1,248,424 parameters, or 1,235,496 in version 1.1.

    Parameters
    ----------
    classes : int, optional
        Outputs.
    version : {"1.0", "1.1"}, optional
        As in the paper; or with a smaller first convolution and earlier pools, as the authors published later.
    bypass : {"none", "simple", "complex"}, optional
        See ``Fire``; a simple one is around fire3, fire5, fire7 and fire9.
    sizes : sequence of (int, int, int), optional
        Filters of the eight modules; by default ``fires()``.
    dropout : float, optional
        Probability of dropping each output of fire9 while training.
    seed : int, optional
        Seed of the initial weights.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, 3, height, width)`` to logits ``(n, classes)``.

    Raises
    ------
    ValueError
        If there is no such version or bypass, or sizes are not of eight modules.
    """
    if version not in VERSIONS:
        raise ValueError(f"version must be one of {', '.join(map(repr, VERSIONS))}; got {version!r}")
    modules = fires() if sizes is None else list(sizes)
    if len(modules) != 8:
        raise ValueError(f"SqueezeNet has eight Fire modules; got sizes of {len(modules)}")
    kernel, channels, pools, pad = VERSIONS[version]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        first = nn.Conv2d(3, channels, kernel, stride=2)
        last = nn.Conv2d(sum(modules[-1][1:]), classes, 1, padding=pad)
        layers = [first, nn.ReLU(), _pool(), *_between(channels, modules, pools, bypass)]
        layers += [nn.Dropout(dropout)] if dropout else []
        model = started(nn.Sequential(*layers, last, *_averaged()))
        nn.init.normal_(last.weight, std=0.01)
    return model


def squeezenet_small(
    *,
    base_e: int = 32,
    incr_e: int = 32,
    freq: int = 2,
    pct3x3: float = 0.5,
    squeeze_ratio: float = 0.25,
    bypass: str = "none",
    classes: int = 10,
    seed: int = 0,
) -> nn.Sequential:
    """Build a small network of four Fire modules for 28 x 28 images: 16,026 parameters.

    16 filters of 5 x 5 with a stride of 2, two modules on 14 x 14 pixels, a pool, two on 7 x 7, and a 1 x 1 convolution, its
    outputs averaged over the image. The paper shrinks images late; here it is early, for speed. Weights begin as large as
    ReLUs need (He et al. 2015): a few epochs make little of the paper's smaller ones.

    Parameters
    ----------
    base_e, incr_e, freq, pct3x3, squeeze_ratio
        Metaparameters, see ``fires``.
    bypass : {"none", "simple", "complex"}, optional
        See ``Fire``.
    classes : int, optional
        Outputs.
    seed : int, optional
        Seed of the initial weights.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, 1, 28, 28)`` to logits ``(n, classes)``.

    Raises
    ------
    ValueError
        If a metaparameter is outside its range, or there is no such bypass.
    """
    sizes = fires(4, base_e=base_e, incr_e=incr_e, freq=freq, pct3x3=pct3x3, squeeze_ratio=squeeze_ratio)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        last = nn.Conv2d(sum(sizes[-1][1:]), classes, 1)
        layers = [nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), *_between(16, sizes, (1,), bypass)]
        return started(nn.Sequential(*layers, last, *_averaged()), 2.0)


def started(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """Give convolutions uniform initial weights with a variance of gain / fan_in, and biases of 0.

    Parameters
    ----------
    model : torch.nn.Module
        Changed; to be called where torch's generator is seeded.
    gain : float, optional
        1 as in Caffe's "xavier"; 2 makes up for a ReLU behind each (He et al. 2015).

    Returns
    -------
    torch.nn.Module
        The model itself.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            bound = math.sqrt(3 * gain / module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _between(n_in: int, sizes: Sequence[tuple[int, int, int]], pools: Collection[int], bypass: str) -> list[nn.Module]:
    """Return Fire modules, and pools behind some of them."""
    layers: list[nn.Module] = []
    for i, (s, e1, e3) in enumerate(sizes):
        layers.append(Fire(n_in, s, e1, e3, bypass=bypass))
        layers += [_pool()] if i in pools else []
        n_in = e1 + e3
    return layers


def _averaged() -> list[nn.Module]:
    """Return what follows conv10: each class has a map of its own, and its mean is the logit."""
    return [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
