"""The file of Deep Compression: it decodes to the same bits, its parts are all of it, and files that lie are refused."""

import copy
import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim.baselines.deep_compression import (
    breakdown,
    compress,
    decompress,
    dense_bytes,
    share,
)
from nettrim.baselines.deep_compression._costs import pruned_bytes
from nettrim.errors import ModelError, SettingError
from nettrim.masks import weights
from nettrim.models import lenet300
from tests.networks import Tied, small
from tests.toys import bits, pruned


def odd(seed=0):
    """A convolution, batch normalization with its buffers, a layer of zeros, one of a single weight, and -0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 300, bias=False), nn.Linear(300, 4)
        )
    model[3].weight.data.zero_()
    model[4].weight.data.zero_()
    model[4].weight.data[3, 299] = 0.7
    model[0].weight.data[0, 0, 0, 0] = -0.0
    return model


@pytest.mark.parametrize(
    "model",
    [
        share(pruned(small()), 3),
        share(pruned(small().double()), 2),
        small(),
        odd(),
        Tied(),
        pruned(odd().to(torch.bfloat16)),
    ],
    ids=["shared", "float64", "nothing shared", "odd", "tied", "bfloat16"],
)
@pytest.mark.parametrize("index_bits", [1, 3, 8, 16])
def test_a_file_decodes_to_the_same_bits(model, index_bits):
    before = bits(model)
    file = compress(model, index_bits=index_bits)
    other = copy.deepcopy(model)
    for value in other.state_dict().values():
        value.zero_()
    assert bits(decompress(file, other)) == before == bits(model)
    assert all(not value.any() for value in other.state_dict().values())
    assert file == compress(model, index_bits=index_bits)
    last = breakdown(file)[-1]
    assert last["dense_bytes"] == dense_bytes(model)


def test_the_numbers_of_a_hand_made_layer():
    model = nn.Linear(40, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, [0, 1, 2, 3, 30]] = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0])
    layer, last = breakdown(compress(model, index_bits=3))
    # differences 1 1 1 1, then 27 = 8 + 8 + 8 + 3; values 1 1 1 -2, three zeros, -2: codes of 1.5 bits, 3 of 1 and 5 of 2
    assert (layer["entries"], layer["fillers"], layer["kept"]) == (8, 3, 5 / 40)
    assert layer["value_bits"] == pytest.approx(math.log2(3)) and layer["value_bits_huffman"] == (3 * 1 + 5 * 2) / 8
    assert layer["index_bits"] == 3 and layer["index_bits_huffman"] == (4 * 1 + 3 * 2 + 1 * 2) / 8
    assert layer["pruned_bytes"] == 8 * (3 + 32) / 8 and layer["shared_bytes"] == math.ceil(8 * (math.log2(3) + 3) / 8) + 8
    assert (layer["value_bytes"], layer["index_bytes"], layer["codebook_bytes"]) == (2, 2, 8)
    # tables: number of symbols, bits of a length, lengths of 2 bits: 3 symbols in a byte, 8 in two
    assert layer["table_bytes"] == (2 + 1) + (2 + 2) and layer["file_bytes"] == 2 + 2 + 8 + 7
    assert last["other_bytes"] == 4 and last["dense_bytes"] == 41 * 4 and last["pruned_bytes"] == 35 + 4
    # magic and version, two tensors; names, types, axes and ways; b, values, entries, stream lengths; the check sum
    assert last["header_bytes"] == 6 + (1 + 6 + 1 + 3 + 1) + (1 + 4 + 1 + 2 + 1) + 5 + 4


def test_a_pruned_network_is_counted_in_any_type():
    model = pruned(small())
    entries = sum(int(weight.count_nonzero()) for weight in weights(model).values())  # without fillers: below 2^16 apart
    for dtype, item in ((torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)):
        by_hand = sum(math.ceil(int(w.count_nonzero()) * (16 + 8 * item) / 8) for w in weights(model).values()) + 20 * item
        assert pruned_bytes(model.to(dtype), 16) == by_hand >= entries * (2 + item)


def test_the_parts_of_a_file_are_all_of_it_and_huffman_is_within_its_bytes():
    model = share(pruned(lenet300(), 0.08), 5)
    file = compress(model)
    *layers, last = breakdown(file)
    parts = ("value_bytes", "index_bytes", "codebook_bytes", "table_bytes", "other_bytes", "header_bytes")
    assert sum(last[name] for name in parts) == last["file_bytes"] == len(file)
    assert last["dense_bytes"] == dense_bytes(model) == 1_066_440 and last["other_bytes"] == 4 * 410
    for name in ("entries", "fillers", "value_bytes", "index_bytes", "codebook_bytes", "table_bytes"):
        assert last[name] == sum(layer[name] for layer in layers)
    for layer in layers:
        for part in ("value", "index"):
            assert layer[f"{part}_bytes"] == math.ceil(layer["entries"] * layer[f"{part}_bits_huffman"] / 8 - 1e-9)
        assert layer["codebook_bytes"] == 32 * 4
        assert layer["pruned_bytes"] > layer["shared_bytes"]
    assert last["pruned_bytes"] > last["shared_bytes"] > last["file_bytes"]  # not of 80 weights: tables outweigh codes there


def signed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_what_is_no_file_is_refused():
    for wrong in ("abc", None, 3):
        with pytest.raises(ModelError, match=f"a compressed network is bytes, .*; got {type(wrong).__name__}"):
            decompress(wrong, small())
    model = share(small(), 2)
    assert bits(decompress(bytearray(compress(model)), small())) == bits(model)


def test_damaged_and_cut_off_files_are_refused():
    model = share(pruned(small()), 2)
    file = compress(model)
    for length in range(len(file)):
        with pytest.raises(ModelError, match=r"damaged or cut off|no compressed network"):
            decompress(file[:length], model)
    for at in range(len(file)):
        with pytest.raises(ModelError, match=r"damaged or cut off|no compressed network"):
            decompress(file[:at] + bytes([file[at] ^ 16]) + file[at + 1 :], model)
    with pytest.raises(ModelError, match="damaged"):
        decompress(signed(file[:-4] + b"\0"), model)  # a byte too many under a right check sum


@given(st.integers(5, 10_000), st.integers(0, 255), st.integers(0, 60))
def test_files_that_lie_under_a_right_check_sum_are_refused_by_name_or_decode(at, value, cut):
    model = share(pruned(small()), 2)
    body = bytearray(compress(model)[:-4])
    body[5 + (at - 5) % (len(body) - 5)] = value
    file = signed(bytes(body[: len(body) - max(cut - 40, 0)]))
    for read in (lambda: decompress(file, model), lambda: breakdown(file)):
        try:
            read()
        except ModelError as error:
            assert "compressed" in str(error) or "Huffman" in str(error) or "stream" in str(error)


def test_weights_behind_the_end_of_their_layer_are_refused():
    model = nn.Linear(40, 1)
    body = bytearray(compress(model)[:-4])
    body[body.index(b"weight") + len("weight") + 3] = 20  # the second axis, behind type, number of axes and the first
    with pytest.raises(ModelError, match="'weight' has weights behind its end"):
        decompress(signed(bytes(body)), nn.Linear(20, 1))


def test_files_of_another_architecture_are_refused_by_the_name_of_the_tensor():
    file = compress(small())
    for model, match in (
        (small()[:4], r"another architecture: only one of it and the model has '4.weight'"),
        (small().double(), r"'1.weight' is \(9, 12\), torch.float32 in it and \(9, 12\), torch.float64"),
        (nn.Sequential(*small(), nn.Linear(4, 4)), "only one of it and the model has '7.weight'"),
    ):
        before = bits(model)
        with pytest.raises(ModelError, match=match):
            decompress(file, model)
        assert bits(model) == before
    other = small()
    other[4] = nn.Linear(9, 6)
    with pytest.raises(ModelError, match=r"'4.weight' is \(7, 9\), torch.float32 in it and \(6, 9\)"):
        decompress(file, other)


def test_what_a_file_cannot_hold_is_refused():
    with pytest.raises(ModelError, match=r"'weight' has 65\d\d\d distinct weights; let layers share"):
        big = nn.Linear(256, 257)
        big.weight.data = torch.arange(1.0, 257 * 256 + 1).reshape(257, 256)
        compress(big)
    with pytest.raises(ModelError, match=r"'weight' is torch\.complex64"):
        compress(nn.Linear(2, 2, dtype=torch.complex64))
    for wrong in (0, 17, 2.5, True):
        with pytest.raises(SettingError, match="index_bits must be a whole number"):
            compress(small(), index_bits=wrong)
