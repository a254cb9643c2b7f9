"""Packed networks on disk: only their own like takes them, no damage goes unseen, and what is tied is stored once."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nettrim.baselines.binarize import binarized
from nettrim.baselines.deep_compression import dense_bytes
from nettrim.baselines.quantize import calibrated, load_packed, packed, quantized, save_packed, size, unpack, weight_bits
from nettrim.errors import ModelError
from tests.networks import Tied, samples, small


def few(bits=4, inputs=4, seed=0):
    """A small network of few bits, its inputs too."""
    return calibrated(quantized(small(seed), bits), samples(), inputs)


def test_a_network_of_other_activation_bits_is_refused_by_its_layer(tmp_path):
    save_packed(few(inputs=8), tmp_path / "net")
    with pytest.raises(ModelError, match=r"layer '4' has bits 4, inputs \[0, 255\] in it and bits 4, inputs \[0, 3\] in"):
        load_packed(few(inputs=2, seed=5), tmp_path / "net")
    with pytest.raises(ModelError, match=r"layer '4' has bits 4, inputs \[0, 255\] in it and bits 4, inputs \[0, 0\] in"):
        load_packed(quantized(small(), 4), tmp_path / "net")


def test_signed_inputs_are_not_those_of_a_network_with_unsigned_ones(tmp_path):
    model = quantized(nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 4)), 4)
    x = samples().flatten(1)
    both, positive = calibrated(model, x, 4), calibrated(model, x, 4)
    positive[1].calibrate(x.abs(), 4)
    save_packed(both, tmp_path / "net")
    with pytest.raises(ModelError, match=r"inputs \[-7, 7\] in it and bits 4, inputs \[0, 15\] in the model"):
        load_packed(positive, tmp_path / "net")


def test_layers_so_small_that_other_bits_take_as_many_bytes_are_told_apart(tmp_path):
    two, four = (quantized(nn.Sequential(nn.Linear(2, 1)), bits) for bits in (2, 4))
    assert size(two) == size(four)
    save_packed(two, tmp_path / "net")
    with pytest.raises(ModelError, match=r"layer '0' has bits 2, .* in it and bits 4,"):
        load_packed(four, tmp_path / "net")


def test_other_weights_of_signs_are_refused(tmp_path):
    save_packed(binarized(small(), weights="stochastic"), tmp_path / "net")
    with pytest.raises(ModelError, match="layer '2' has weights stochastic in it and weights sign in the model"):
        load_packed(binarized(small()), tmp_path / "net")


def test_other_layers_are_refused_by_the_name_of_a_tensor(tmp_path):
    save_packed(quantized(small(), 4), tmp_path / "net")
    with pytest.raises(ModelError, match=r"other layers: '4\.bias' is \(7,\), torch.float32 in it and missing in the model"):
        load_packed(quantized(small()[:4], 4), tmp_path / "net")
    with pytest.raises(ModelError, match=r"'1.weight' is \(54,\), torch.uint8 in it and \(9, 12\), torch.float32 in the"):
        load_packed(small(), tmp_path / "net")


def test_no_damaged_byte_and_no_cut_goes_unseen(tmp_path):
    model, path = quantized(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), 3), tmp_path / "net"
    save_packed(model, path)
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in range(len(whole))]
    for wrong in (*damaged, whole[:-5], whole[:20], b"junk", b"", whole + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(ModelError, match=f"{path} (is no packed network|is damaged|holds a network of other)"):
            load_packed(model, path)
    with pytest.raises(FileNotFoundError):
        load_packed(model, tmp_path / "none")


def test_tensors_that_it_did_not_write_are_refused(tmp_path):
    model = quantized(small(), 4)
    save_file(packed(model), tmp_path / "net")
    with pytest.raises(ModelError, match="no check sum; write one with save_packed"):
        load_packed(model, tmp_path / "net")
    save_file(packed(model), tmp_path / "net", {"packed": "3"})
    with pytest.raises(ModelError, match="is damaged: its check sum is wrong"):
        load_packed(model, tmp_path / "net")


def test_the_same_network_is_the_same_file(tmp_path):
    for name in "abcdef":
        save_packed(few(), tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abcdef"}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [*"abcdef"]  # and no part of one is left


def test_unpacking_takes_as_many_bytes_as_there_are_numbers():
    for bytes_ in (1, 2, 4):
        with pytest.raises(ModelError, match=f"5 numbers of 4 bits are packed in 3 bytes; got {bytes_}"):
            unpack(torch.full((bytes_,), 255, dtype=torch.uint8), 4, 5)


class Embedded(nn.Module):
    """An embedding whose weight is that of the last layer too; which of them comes first is told."""

    def __init__(self, first):
        super().__init__()
        self.first = nn.Linear(5, 12, bias=False) if first == "linear" else nn.Embedding(12, 5)
        self.last = nn.Embedding(12, 5) if first == "linear" else nn.Linear(5, 12, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x):
        both = (self.first, self.last)
        table = next(part for part in both if isinstance(part, nn.Embedding))
        return next(part for part in both if part is not table)(table(x))


def test_a_tied_weight_is_stored_once(tmp_path):
    model = Tied()
    assert size(model) == dense_bytes(model) == 4 * (144 + 12 + 12 + 48 + 4)
    tied = quantized(model, 4)
    assert size(tied) == weight_bits(tied) // 8 + 4 * (12 + 12 + 4) * 2  # codes, and a scale and a bias an output
    save_packed(tied, tmp_path / "net")
    back, x = load_packed(quantized(Tied(), 4), tmp_path / "net"), samples().flatten(1)
    assert torch.equal(back(x), tied(x)) and back.a.weight is back.b.weight


@pytest.mark.parametrize("first", ["linear", "embedding"])
def test_a_weight_tied_to_a_module_that_computes_with_all_its_bits_is_stored_with_them(first, tmp_path):
    tied, x = quantized(Embedded(first), 2), torch.arange(12)
    assert size(tied) == 4 * (60 + 12)
    save_packed(tied, tmp_path / "net")
    assert torch.equal(load_packed(quantized(Embedded(first), 2), tmp_path / "net")(x), tied(x))
