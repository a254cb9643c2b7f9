"""Numbers of k bits: torch's own quantizers agree in values and gradients, ranges are no worse, packing is undone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim.baselines.quantize import (
    QuantLinear,
    fake_quantize,
    pack,
    signed_codes,
    unpack,
    weight_scale,
)
from tests.toys import drawn

SEEDS = st.integers(0, 2**31)


def gradient(function, x):
    """Return the result and its gradient for upstream gradients 1, 2, 3, ..."""
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(torch.arange(1.0, y.numel() + 1).reshape(y.shape))
    return y.detach(), x.grad


def test_a_fake_quantized_number_by_hand():
    # Codes -0.6 -> -1, -0.4 -> -0, 0.4 -> 0, 0.5 -> 0 (even), 1.5 -> 2 (even), 2, 3.2 -> 3, 3.8 -> 4.
    x = torch.tensor([-0.3, -0.2, 0.2, 0.25, 0.75, 1.0, 1.6, 1.9])
    y, came = gradient(lambda x: fake_quantize(x, 0.5, 0, 3), x)
    assert y.tolist() == [0, 0, 0, 0, 1, 1, 1.5, 1.5]
    assert came.tolist() == [0, 2, 3, 4, 5, 6, 7, 0]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-7, 7), (-127, 127), (0, 3), (0, 255)])
def test_torch_fake_quantizes_likewise_values_and_gradients(low, high):
    x = 2 * drawn((4000,), high)
    for scale in (2.0**-6, 2.0**-1, 0.0371, 1.3):
        ours = gradient(lambda x, s=scale: fake_quantize(x, s, low, high), x)
        theirs = gradient(lambda x, s=scale: torch.fake_quantize_per_tensor_affine(x, s, 0, low, high), x)
        # torch multiplies by 1/s: exact for powers of two, else codes differ at most where x/s is within rounding of a half.
        tie = (x.double() / scale % 1 - 0.5).abs() < 1e-6 * (1 + x.abs() / scale)
        clear = torch.ones_like(tie) if scale in (2.0**-6, 2.0**-1) else ~tie
        assert clear.float().mean() > 0.99
        assert all(torch.equal(a[clear], b[clear]) for a, b in zip(ours, theirs, strict=True))


def test_torch_fake_quantizes_channels_likewise():
    weight, scales = drawn((6, 5, 2, 2), 3), 2.0 ** torch.arange(-5.0, 1.0)
    ours = gradient(lambda w: fake_quantize(w, scales.reshape(-1, 1, 1, 1), -7, 7), weight)
    zero = torch.zeros(6, dtype=torch.int32)
    theirs = gradient(lambda w: torch.fake_quantize_per_channel_affine(w, scales, zero, 0, -7, 7), weight)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert 0 < (ours[1] == 0).float().mean() < 1  # some are clipped, not all


@given(SEEDS, st.integers(2, 16), st.sampled_from(["channel", "tensor"]))
def test_the_largest_weight_has_the_greatest_code_and_errors_are_half_a_step(seed, bits, per):
    weight, most = drawn((4, 9), seed), 2 ** (bits - 1) - 1
    scale = weight_scale(weight, bits, per=per, rule="max")
    rows_of = weight if per == "channel" else weight.reshape(1, -1)
    assert signed_codes(bits) == most
    assert torch.equal(scale.flatten(), rows_of.abs().amax(1) / most)
    near, came = gradient(lambda w: fake_quantize(w, scale, -most, most), weight)
    codes = (near.double() / scale.double()).round().reshape(rows_of.shape)
    assert codes.abs().amax(1).eq(most).all()
    # Half a step, and the roundings of a division and a product in float32, of numbers up to most steps.
    assert ((near.double() - weight.double()).abs() <= scale.double() * (0.5 + 2 * most * 2.0**-24)).all()
    assert torch.equal(came.flatten(), torch.arange(1.0, 37.0))  # nothing is clipped
    again = fake_quantize(near, scale, -most, most)
    assert torch.equal(again, near)


@given(SEEDS, st.integers(2, 6))
def test_the_range_of_least_squares_is_no_worse_than_the_whole_one(seed, bits):
    weight, most = drawn((3, 60), seed), signed_codes(bits)

    def error(scale):
        return (fake_quantize(weight, scale, -most, most) - weight).square().sum(1)

    found = weight_scale(weight, bits, rule="mse")
    every = [step / 50 * weight_scale(weight, bits, rule="max") for step in range(1, 51)]
    # Of equal scales computed in another order the errors differ by roundings of 60 terms: 60 times 2^-24.
    assert (error(found) <= torch.stack([error(scale) for scale in every]).amin(0) * (1 + 1e-5)).all()
    if bits == 2:
        assert (error(found) < 0.8 * error(every[-1])).any()


def test_a_channel_of_zeros_stays_one():
    for rule in ("max", "mse"):
        layer = nn.Linear(3, 2)
        nn.init.zeros_(layer.weight)
        made = QuantLinear(layer, 4, rule=rule)
        assert made.scale.flatten().tolist() == [1.0, 1.0] and not made.quantized_weight().any()


def test_numbers_are_packed_without_gaps():
    assert pack(torch.tensor([1, 0, 1, 1]), 1).tolist() == [0b10110000]
    assert pack(torch.tensor([1, 2, 3]), 2).tolist() == [0b01101100]
    assert pack(torch.tensor([[5], [4095]]), 12).tolist() == [0b00000000, 0b01011111, 0b11111111]
    for wrong in ([4], [-1]):
        with pytest.raises(ValueError, match="codes of 2 bits are from 0 to 3"):
            pack(torch.tensor(wrong), 2)


@given(SEEDS, st.integers(1, 16), st.integers(0, 40))
def test_packing_is_undone(seed, bits, count):
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(seed))
    stored = pack(codes, bits)
    assert stored.dtype == torch.uint8 and stored.numel() == -(-count * bits // 8)
    assert torch.equal(unpack(stored, bits, count), codes)
