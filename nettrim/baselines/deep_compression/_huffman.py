"""Canonical Huffman codes: optimal lengths from counts, codes from lengths alone, symbols to bytes and back.

D. A. Huffman, "A Method for the Construction of Minimum-Redundancy Codes" (Proceedings of the IRE, 1952). Canonical: codes
of one length are consecutive numbers in the order of their symbols, shorter ones first: a table of lengths says it all.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim.errors import ModelError

Ints = NDArray[np.int64]


def code_lengths(counts: Any) -> Ints:
    """Return the lengths of an optimal prefix code.

    Parameters
    ----------
    counts : array-like
        How often each symbol comes, ``(n_symbols,)``.

    Returns
    -------
    numpy.ndarray
        Bits of each symbol's code, int64; 0 for one that never comes, and 1 for one that comes alone.
    """
    weights = np.asarray(counts, dtype=np.int64)
    lengths, seen = np.zeros(len(weights), np.int64), np.flatnonzero(weights)
    lengths[seen] = len(seen) == 1
    heap = [(int(weights[s]), int(s), [int(s)]) for s in seen]  # the least symbol settles equal weights: same code each time
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        under = first[2] + second[2]
        lengths[under] += 1
        heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), under))
    return lengths


def canonical(lengths: Any) -> Ints:
    """Return the canonical codes of given lengths.

    Parameters
    ----------
    lengths : array-like
        Bits of each symbol's code, ``(n_symbols,)``; 0 for a symbol that has none.

    Returns
    -------
    numpy.ndarray
        Each code as a number, int64, its first bit the most significant.

    Raises
    ------
    ModelError
        If no prefix code has these lengths.
    """
    bits = np.asarray(lengths, dtype=np.int64)
    codes, code, before = np.zeros(len(bits), np.int64), 0, 0
    for symbol in sorted(np.flatnonzero(bits), key=lambda s: (bits[s], s)):
        code <<= int(bits[symbol]) - before
        before = int(bits[symbol])
        if code >> before:
            raise ModelError("a Huffman table gives lengths that no code has")
        codes[symbol] = code
        code += 1
    return codes


def encode(symbols: Any, lengths: Any) -> bytes:
    """Return symbols as bits, the last byte filled up with zeros.

    Parameters
    ----------
    symbols : array-like
        Shape ``(n,)``, numbers below ``n_symbols``, each with a code.
    lengths : array-like
        Shape ``(n_symbols,)``.

    Returns
    -------
    bytes
        ``ceil(lengths[symbols].sum() / 8)`` of them.
    """
    drawn, bits, codes = np.asarray(symbols, dtype=np.int64), np.asarray(lengths, dtype=np.int64), canonical(lengths)
    each = bits[drawn]
    within = np.arange(each.sum()) - np.repeat(each.cumsum() - each, each)  # the place of each bit in its code
    return np.packbits((np.repeat(codes[drawn], each) >> (np.repeat(each, each) - 1 - within)) & 1).tobytes()


def decode(stream: bytes, lengths: Any, count: int) -> Ints:
    """Return the symbols that were encoded.

    Parameters
    ----------
    stream : bytes
        What ``encode`` returned.
    lengths : array-like
        As there.
    count : int
        How many symbols.

    Returns
    -------
    numpy.ndarray
        Shape ``(count,)``, int64.

    Raises
    ------
    ModelError
        If the bytes are not those of so many symbols.
    """
    bits, codes = np.asarray(lengths, dtype=np.int64), canonical(lengths)
    known = {(int(bits[s]), int(codes[s])): int(s) for s in np.flatnonzero(bits)}
    if count > 8 * len(stream):
        raise ModelError(f"a stream of {len(stream)} bytes cannot hold {count} symbols")
    found, length, code, ends = [], 0, 0, 0
    for at, bit in enumerate(np.unpackbits(np.frombuffer(stream, np.uint8)).tolist()):
        if len(found) == count:
            break
        length, code = length + 1, 2 * code + bit
        symbol = known.get((length, code))
        if symbol is not None:
            found.append(symbol)
            length, code, ends = 0, 0, at + 1
    if len(found) < count or (ends + 7) // 8 != len(stream):
        raise ModelError(f"a stream of {len(stream)} bytes does not hold {count} symbols of its code")
    return np.array(found, dtype=np.int64)
