"""Codes: optimal prefixes, and places of weights as differences with fillers."""

import heapq
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim.baselines.deep_compression import (
    canonical,
    code_lengths,
    differences,
)
from nettrim.baselines.deep_compression._huffman import decode, encode
from nettrim.errors import ModelError

# --- Huffman


def least_bits(counts):
    """The length of an optimal code by another way: the sum of all merged weights."""
    heap, total = [c for c in counts if c], 0
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_codes_are_optimal_prefix_codes_near_the_entropy(counts):
    lengths, c = code_lengths(counts), np.array(counts)
    used = lengths > 0
    assert np.array_equal(used, c > 0) and int((c * lengths).sum()) == least_bits(counts)
    if used.sum() > 1:
        assert sum(Fraction(1, 2 ** int(n)) for n in lengths[used]) == 1
        p = c[used] / c.sum()
        mean, entropy = (p * lengths[used]).sum(), -(p * np.log2(p)).sum()
        assert entropy - 1e-9 <= mean < entropy + 1
    words = [format(code, f"0{n}b") for code, n in zip(canonical(lengths)[used], lengths[used], strict=True)]
    assert all(not b.startswith(a) for a in words for b in words if a is not b)


@given(st.lists(st.integers(0, 30), max_size=200))
def test_what_is_encoded_is_decoded(symbols):
    lengths = code_lengths(np.bincount(symbols, minlength=1)) if symbols else np.zeros(1, int)
    stream = encode(symbols, lengths)
    assert len(stream) == math.ceil(sum(int(lengths[s]) for s in symbols) / 8)
    assert decode(stream, lengths, len(symbols)).tolist() == symbols
    for wrong, count in ((stream + b"\0", len(symbols)), (stream[:-1], len(symbols)), (stream, 8 * len(stream) + 1)):
        if wrong != stream or count != len(symbols):
            with pytest.raises(ModelError, match="symbols"):
                decode(wrong, lengths, count)


def test_canonical_codes_of_a_known_example():
    lengths = code_lengths([5, 1, 2, 0, 8])  # merges 1+2, 3+5, 8+8
    assert lengths.tolist() == [2, 3, 3, 0, 1]
    assert [format(c, f"0{n}b") for c, n in zip(canonical(lengths), lengths, strict=True) if n] == ["10", "110", "111", "0"]
    with pytest.raises(ModelError, match="lengths that no code has"):
        canonical([1, 1, 1])


# --- relative indices


def test_gaps_beyond_the_bound_get_filler_zeros():
    # 3 bits: differences up to 8. From place -1: 2, then 3, then 11 = 8 (filler) + 3, then 8, then 17 = 8 + 8 + 1.
    found, real = differences(np.array([1, 4, 15, 23, 40]), 3)
    assert found.tolist() == [2, 3, 8, 3, 8, 8, 8, 1]
    assert real.tolist() == [True, True, False, True, True, False, False, True]


@given(st.sets(st.integers(0, 400)), st.integers(1, 9))
def test_differences_lead_back_to_the_places(places, index_bits):
    at = np.array(sorted(places), dtype=np.int64)
    found, real = differences(at, index_bits)
    assert np.array_equal(np.cumsum(found)[real] - 1, at)
    assert np.all((found >= 1) & (found <= 2**index_bits)) and np.all(found[~real] == 2**index_bits)
    gaps = np.diff(at, prepend=-1)
    assert len(found) == sum(math.ceil(g / 2**index_bits) for g in gaps)  # no more fillers than needed
