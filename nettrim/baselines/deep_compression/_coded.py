"""A weight with few distinct values as bytes: relative indices with filler zeros, and Huffman codes of both streams.

Han, Mao, Dally, "Deep Compression" (ICLR 2016), sections 2 and 4. The layout is told in ``_packed``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim.baselines.deep_compression._huffman import code_lengths, decode, encode
from nettrim.baselines.deep_compression._reader import Reader, number, wrong
from nettrim.errors import ModelError

MOST = 2**16  # shared values a layer: with more, nothing is shared
MOST_BITS = 16  # of an index

Ints = NDArray[np.int64]


def differences(places: Ints, bits: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the differences of ascending places, fillers among them, none above ``2**bits``.

    Parameters
    ----------
    places : numpy.ndarray
        Shape ``(n,)``, int64, ascending, from 0 on.
    bits : int
        Of an index.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Shape ``(n + fillers,)``: the differences, each from 1 to ``2**bits``, and which are of places and not of fillers.
    """
    gaps = np.diff(places, prepend=-1)
    fillers = (gaps - 1) // 2**bits
    real = np.zeros(len(places) + int(fillers.sum()), dtype=bool)
    real[np.cumsum(fillers + 1) - 1] = True
    found = np.full(len(real), 2**bits, dtype=np.int64)
    found[real] = gaps - fillers * 2**bits
    return found, real


@dataclass(frozen=True, eq=False)
class Coded:
    """A weight as it stands in a file.

    Attributes
    ----------
    index_bits : int
        Bits of a difference before Huffman coding.
    values : numpy.ndarray
        The shared values, as the whole numbers that have their bits.
    entries : int
        Weights that are kept, and fillers.
    value_lengths, gap_lengths : numpy.ndarray
        The tables.
    value_codes, gap_codes : bytes
        The streams.
    table_bytes : int
        How long both tables are in the file.
    """

    index_bits: int
    values: NDArray[np.generic]
    entries: int
    value_lengths: Ints
    gap_lengths: Ints
    value_codes: bytes
    gap_codes: bytes
    table_bytes: int

    def entry_symbols(self) -> tuple[Ints, Ints]:
        """Return the symbols of values and of differences, both ``(entries,)``.

        Returns
        -------
        numpy.ndarray, numpy.ndarray
            Decoded from the streams.
        """
        values = decode(self.value_codes, self.value_lengths, self.entries)
        return values, decode(self.gap_codes, self.gap_lengths, self.entries)


def coded(name: str, bits: NDArray[np.generic], index_bits: int) -> bytes:
    """Return a weight as bytes.

    Parameters
    ----------
    name : str
        Of the weight, for the error.
    bits : numpy.ndarray
        The weight ``(n,)``, as whole numbers that have its bits: only +0, which has none, is no weight.
    index_bits : int
        Bits of a difference.

    Returns
    -------
    bytes
        What ``read_coded`` reads.

    Raises
    ------
    ModelError
        If there are too many distinct weights.
    """
    places = np.flatnonzero(bits)
    values, which = np.unique(bits[places], return_inverse=True)
    if len(values) > MOST:
        raise ModelError(
            f"{name!r} has {len(values)} distinct weights; let layers share weights first, in {MOST} values at most"
        )
    gaps, real = differences(places, index_bits)
    symbols = np.zeros(len(gaps), dtype=np.int64)
    symbols[real] = which + 1
    parts = [number(index_bits), number(len(values)), values.tobytes(), number(len(gaps))]
    codes = []
    for drawn in (symbols, gaps - 1):
        lengths = code_lengths(np.bincount(drawn, minlength=1))
        parts.append(_table(lengths))
        stream = encode(drawn, lengths)
        codes += [number(len(stream)), stream]
    return b"".join(parts + codes)


def read_coded(reader: Reader, whole: np.dtype[np.generic]) -> Coded:
    """Return the parts of what ``coded`` returned.

    Parameters
    ----------
    reader : Reader
        Where it begins.
    whole : numpy.dtype
        Of the shared values, as whole numbers.

    Returns
    -------
    Coded
        The streams are not decoded yet.

    Raises
    ------
    ModelError
        If something else is there.
    """
    index_bits, n_values = reader.number(), reader.number()
    if not 1 <= index_bits <= MOST_BITS or n_values > MOST:
        raise wrong(f"{index_bits} index bits, {n_values} shared values")
    values = np.frombuffer(reader.take(n_values * whole.itemsize), whole)
    entries = reader.number()
    begin = reader.at
    tables = [_read_table(reader, most) for most in (n_values + 1, 2**index_bits)]
    table_bytes = reader.at - begin
    streams = [reader.take(reader.number()) for _ in range(2)]
    return Coded(index_bits, values, entries, *tables, *streams, table_bytes)


def _table(lengths: Ints) -> bytes:
    """Return a table of lengths, up to the last symbol that has a code, in no more bits each than the longest needs."""
    used = np.trim_zeros(lengths, "b")
    width = int(used.max(initial=0)).bit_length()
    bits = (used[:, None] >> np.arange(width)[::-1]) & 1
    return number(len(used)) + bytes([width]) + np.packbits(bits).tobytes()


def _read_table(reader: Reader, most: int) -> Ints:
    count, (width,) = reader.number(), reader.take(1)
    if count > most or width > 6:
        raise wrong(f"a table of {count} codes, where {most} at most can be, with {width} bits a length")
    packed = np.frombuffer(reader.take((count * width + 7) // 8), np.uint8)
    bits = np.unpackbits(packed, count=count * width).astype(np.int64).reshape(count, width)
    return bits @ (1 << np.arange(width)[::-1])
