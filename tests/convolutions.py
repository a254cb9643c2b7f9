"""Convolutions and inputs for them: with every option they have, drawn by hypothesis, and of a kind that is asked for."""

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from nettrim.layers import plain

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def convolutions(draw, max_axes=3, max_groups=3):
    """Draw a convolution in float64, and an input for it."""
    axes = draw(st.integers(1, max_axes))
    groups = draw(st.integers(1, max_groups))
    few = st.integers(1, 3)

    def each(values):
        return tuple(draw(values) for _ in range(axes))

    kernel, dilation = each(few), each(st.integers(1, 2))
    stride, mode = each(few), draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.sampled_from(["same", "valid", "number"]))
    space = each(st.integers(4, 7))
    if padding == "same":
        stride = (1,) * axes
    elif padding == "number":
        padding = each(st.integers(0, 2))
    assume(mode != "reflect" or axes < 3 or padding != "same")
    seed = draw(st.integers(0, 99))
    channels = groups * draw(few), groups * draw(few)
    bias = draw(st.booleans())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = KINDS[axes](
            *channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=mode,
            dtype=torch.float64,
        )
        return layer, torch.randn(3, layer.in_channels, *space, dtype=torch.float64)


def made(seed=0, layer=nn.Conv2d, shape=(20, 4, 7, 7), dtype=torch.float64, out=6, kernel=3, **options):
    """Return a convolution and images for it, standard normal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return layer(shape[1], out, kernel, dtype=dtype, **options), torch.randn(*shape, dtype=dtype)


def stored(layer, images):
    """Return X (N, P) of all pairs, cut by ``nettrim.patches``."""
    wrapped = plain(layer)
    X = wrapped.columns(images, torch.arange(wrapped.rows(images)))
    return X if layer.bias is None else torch.vstack([X, X.new_ones(1, X.shape[1])])


def possible(layer, images):
    """Tell whether torch itself can run the layer; not where kernel or padding is too large for the images."""
    try:
        with torch.no_grad():
            layer(images)
    except RuntimeError as error:
        assert "adding" in str(error) or "ernel size" in str(error)
        return False
    return True
