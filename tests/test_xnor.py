"""Networks of signs on bits: counting gives the very same hidden signs and scores, and storage is exact to the byte."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim.baselines.binarize import (
    XnorNetwork,
    binarized,
    binary_mlp,
    dots,
    load_packed,
    save_packed,
    size,
    weight_bits,
)
from nettrim.errors import ModelError
from nettrim.models import lenet5
from tests.networks import small
from tests.toys import looked

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.integers(1, 70))
def test_counting_bits_gives_the_products_of_signs(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.choice([-1, 1], (5, n)), rng.choice([-1, 1], (4, n))
    bits = [np.packbits(signs > 0, axis=1) for signs in (a, b)]
    assert np.array_equal(dots(*bits, n), a @ b.T)


def awkward(model, seed):
    """Give the normalizations of a network scales of both signs and 0, and widely spread means and variances."""
    made = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            size_of = norm.weight.shape
            norm.weight.data = torch.randn(size_of, generator=made)
            norm.weight.data[::5] = 0.0
            norm.bias.data = torch.randn(size_of, generator=made)
            norm.running_mean = 3 * torch.randn(size_of, generator=made)
            norm.running_var = torch.randn(size_of, generator=made).mul(3).exp()
    return model.eval()


@given(SEEDS)
def test_on_bits_hidden_signs_and_scores_are_those_of_the_float_network(seed):
    model = awkward(binary_mlp((12, 21, 16, 9, 4), seed=seed), seed)
    x = torch.rand(30, 12, generator=torch.Generator().manual_seed(seed))
    signs, scores = looked(model, x)
    bits = XnorNetwork(model)
    assert len(signs) == 3
    for ours, theirs in zip(bits.hidden(x), signs, strict=True):
        assert np.array_equal(np.unpackbits(ours, axis=1, count=theirs.shape[1]), theirs.numpy() > 0)
    assert torch.equal(bits(x), scores)
    # Rows of weights in whole bytes, 4 bytes and a bit a hidden unit, four vectors of the last normalization.
    assert bits.bytes == (21 * 2 + 16 * 3 + 9 * 2 + 4 * 2) + 4 * (21 + 16 + 9) + (3 + 2 + 2) + 16 * 4


@given(SEEDS)
def test_thresholds_are_right_at_the_very_next_float(seed):
    model = awkward(binary_mlp((3, 40, 2)), seed)
    bits = XnorNetwork(model)
    at, falling = bits.thresholds[0], bits.falling[0]
    with np.errstate(over="ignore"):  # beside the largest float is infinity
        beside = [np.nextafter(at, np.float32(sign * np.inf)) for sign in (-1, 1)]
    for z in (at, *beside, np.zeros_like(at)):
        finite = np.isfinite(z)
        with torch.no_grad():
            theirs = model[3](torch.from_numpy(np.where(finite, z, 0.0)[None]))[0].numpy() >= 0
        assert np.array_equal(((z >= at) ^ falling)[finite], theirs[finite])
    assert np.isfinite(at).sum() >= 32  # all but the eight of scale 0


def test_bits_take_a_plain_binary_network():
    model = binary_mlp((6, 5, 3))
    for wrong in (
        small(),
        binarized(small(), weights="scaled"),
        binarized(small(), activations="relu"),
        binarized(lenet5()),
        model.double(),
    ):
        with pytest.raises(ModelError, match="running on bits takes"):
            XnorNetwork(wrong)
    with pytest.raises(ModelError, match="takes a network with a hidden layer"):
        XnorNetwork(binary_mlp((6, 3)))


def test_what_is_stored_is_the_network_to_the_byte(tmp_path):
    path, x = tmp_path / "net.safetensors", torch.rand(9, 12, generator=torch.Generator().manual_seed(1))
    weights, norms = [-(-n // 8) for n in (108, 63, 28)], 16 * (9 + 7 + 4)
    for kind, more in (("sign", 0), ("scaled", 4 * 20), ("stochastic", 0), ("real", None)):
        model = awkward(binarized(small(), weights=kind), 3)
        by_hand = norms + (4 * 199 if more is None else sum(weights) + more)
        assert size(model) == by_hand
        assert weight_bits(model) == 199 * (32 if kind == "real" else 1)
        save_packed(model, path)
        raw = path.read_bytes()
        assert len(raw) == 8 + int.from_bytes(raw[:8], "little") + by_hand
        like = awkward(binarized(small(seed=8), weights=kind), 4)
        back = load_packed(like, path)
        assert not torch.allclose(like(x), model(x))
        if kind == "scaled":  # the mean of equal magnitudes may be rounded: 2^-24 a weight, in three layers
            assert torch.allclose(back[2].binary(), model[2].binary(), rtol=1e-5)
        else:
            assert torch.equal(back(x), model(x))
