"""Layers in factors: at full rank they are the layer, at a low one they have the kernel that they make."""

import numpy as np
import pytest
import torch
from torch import nn

from nettrim.baselines.low_rank import _ranks
from nettrim.baselines.low_rank._cost import multiply_adds, parameters
from nettrim.baselines.low_rank._cp import cp
from nettrim.baselines.low_rank._factored import cp_convolutions, linear_pair, tucker_convolutions
from nettrim.baselines.low_rank._truncated import truncated
from nettrim.baselines.low_rank._tucker import tucker2
from nettrim.models import lenet5, lenet300


def off(a, b):
    return float((a - b).detach().abs().max())


CONVOLUTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "bias": False},
    {"padding": (1, 2), "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect"},
]


def convolution(dtype, kernel=(3, 4), **how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(4, 6, kernel, dtype=dtype, **how), torch.randn(2, 4, 11, 12, dtype=dtype)


# float32 rounds at 6e-8, and the sums here have some hundred terms of size 1
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
def test_convolutions_at_full_rank_are_the_convolution(how, dtype, limit):
    layer, images = convolution(dtype, **how)
    K = layer.weight.detach().double().numpy()
    found = tucker2(K, (4, 6))
    whole = tucker_convolutions(layer, found.core, found.inputs, found.outputs)
    absorbed = tucker_convolutions(layer, *found.absorbed())
    # every entry is a component of its own: an exact CP without a fit
    t, s, i, j = (index.ravel() for index in np.indices(K.shape))
    ones = tuple(np.eye(n)[:, index] for n, index in zip(K.shape, (t, s, i, j), strict=True))
    signs = (ones[0] * np.sign(K.ravel()), *ones[1:])
    every = cp_convolutions(layer, np.abs(K.ravel()), signs)
    for made, parts in ((whole, 3), (absorbed, 1), (every, 4)):
        assert len(made) == parts and all(p.dtype == dtype for p in made.parameters())
        assert off(made(images), layer(images)) < limit
        assert [module.bias is None for module in made] == [True] * (parts - 1) + [layer.bias is None]


def test_convolutions_of_low_rank_are_convolutions_with_the_kernel_they_make():
    layer, images = convolution(torch.float64, stride=2, padding=1)
    K = layer.weight.detach().numpy()
    for found, made in (
        (two := tucker2(K, (2, 3)), tucker_convolutions(layer, two.core, two.inputs, two.outputs)),
        (four := cp(K, 3, sweeps=30), cp_convolutions(layer, four.weights, four.factors)),
    ):
        assert found.kernel().shape == K.shape and np.abs(found.kernel() - K).max() > 0.01
        expected = nn.functional.conv2d(images, torch.from_numpy(found.kernel()), layer.bias, stride=2, padding=1)
        assert off(made(images), expected) < 1e-12
    assert [tuple(m.kernel_size) for m in made] == [(1, 1), (3, 1), (1, 4), (1, 1)]
    assert [m.groups for m in made] == [1, 3, 3, 1]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (7, 7)])
def test_linear_layers_at_full_rank_are_the_layer(shape, dtype, limit):
    n_in, n_out = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, x = nn.Linear(n_in, n_out, dtype=dtype), torch.randn(3, 4, n_in, dtype=dtype)
    X = x.reshape(-1, n_in).double().numpy().T
    for gram in (None, X @ X.T, np.diag([0.0, *[1.0] * (n_in - 1)])):
        pair = truncated(layer.weight.detach().numpy(), min(shape), gram)
        made = linear_pair(layer, pair.left, pair.right)
        assert off(made(x), layer(x)) < limit and made[0].bias is None
    assert made.training and not linear_pair(layer.eval(), pair.left, pair.right).training
    made[1].bias.data.fill_(0.0)
    assert layer.bias.any()  # what was given is left alone


def test_counts_are_the_formulas():
    layer, images = convolution(torch.float32, kernel=(3, 3), padding=1, stride=2)
    h, w = layer(images).shape[2:]
    S, T, d, R3, R4, R, H, W = 4, 6, 3, 2, 3, 5, 11, 12
    tucker = tucker_convolutions(layer, np.zeros((R4, R3, d, d)), np.zeros((S, R3)), np.zeros((T, R4)))
    assert parameters(tucker) - T == S * R3 + d * d * R3 * R4 + T * R4 == _ranks.size("tucker", (T, S, d, d), (R3, R4))
    assert multiply_adds(tucker, images[:1]) == S * R3 * H * W + d * d * R3 * R4 * h * w + T * R4 * h * w
    alone = tucker_convolutions(layer, np.zeros((R4, S, d, d)), None, np.zeros((T, R4)))
    assert parameters(alone) - T == d * d * S * R4 + T * R4 == _ranks.size("tucker", (T, S, d, d), (S, R4))
    four = cp_convolutions(layer, np.zeros(R), tuple(np.zeros((n, R)) for n in (T, S, d, d)))
    assert parameters(four) - T == R * (S + 2 * d + T) == _ranks.size("cp", (T, S, d, d), (R,))
    assert multiply_adds(four, images[:1]) == R * (S * H * W + d * h * W + d * h * w + T * h * w)
    linear = nn.Linear(7, 4, device="meta")
    assert _ranks.size("svd", linear.weight.shape, (2,)) == 2 * (7 + 4)
    assert multiply_adds(lenet300(), torch.zeros(1, 1, 28, 28)) == 266_200
    # 24^2 and 8^2 positions of the convolutions of LeNet-5
    assert multiply_adds(lenet5(), torch.zeros(1, 1, 28, 28)) == 500 * 576 + 25_000 * 64 + 400_000 + 5_000
