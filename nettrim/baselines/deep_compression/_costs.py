"""What each stage of Deep Compression saves, counted in bytes: pruned, shared (quantized), Huffman coded; layer by layer.

Han, Mao, Dally, "Deep Compression" (ICLR 2016), tables 4 and 5. "Pruned" is P, "shared" P+Q and "file" P+Q+H there.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from nettrim.baselines.deep_compression._coded import Coded, differences
from nettrim.baselines.deep_compression._packed import Stored, parse
from nettrim.masks import weights

SUMMED = ("dense_bytes", "pruned_bytes", "shared_bytes", "value_bytes", "index_bytes", "codebook_bytes", "table_bytes")


def sharing_rate(n: int, k: int, *, bits: int = 32) -> float:
    """Return the rate of weight sharing, r = n b / (n log2 k + k b): equation (1) of the paper.

    Parameters
    ----------
    n : int
        Weights.
    k : int
        Shared values.
    bits : int, optional
        b, of a weight.

    Returns
    -------
    float
        How many times smaller indices and shared values are than the weights.
    """
    return n * bits / (n * math.log2(k) + k * bits)


def breakdown(file: bytes) -> list[dict[str, Any]]:
    """Return what a compressed network costs, a row a layer and one of all.

    Parameters
    ----------
    file : bytes
        From ``compress``.

    Returns
    -------
    list of dict
        ``layer``, ``weights`` and the fraction ``kept``; ``entries``, of which ``fillers``; bits an entry of value and
        index, in a code of fixed length (``value_bits``: log2 of the number of symbols, zero counted where there are
        fillers; ``index_bits``) and by Huffman (``value_bits_huffman``, ``index_bits_huffman``); then bytes.
        ``pruned_bytes``: entries of an index and a whole value (P). ``shared_bytes``: entries of an index and a symbol, and
        the codebook (P+Q). ``value_bytes`` and ``index_bytes`` of the Huffman codes, ``codebook_bytes``, ``table_bytes``,
        and ``file_bytes``, these four together (P+Q+H).

        The last row, ``all``, has sums of the layers in all of these but ``pruned_bytes``, ``shared_bytes`` and
        ``dense_bytes``, in which also the other tensors are (biases), and ``file_bytes``, which is the length of the file:
        the four, the other tensors (``other_bytes``), and ``header_bytes``, which is all that is left: names, shapes, counts
        and check sum.

    Raises
    ------
    ModelError
        If the file is of another kind, damaged or cut off.
    """
    stored = parse(file)
    layers = [_layer(tensor, tensor.content) for tensor in stored if isinstance(tensor.content, Coded)]
    other = sum(len(tensor.content) for tensor in stored if isinstance(tensor.content, bytes))
    whole = {name: sum(row[name] for row in layers) for name in SUMMED}
    for name in SUMMED[:3]:
        whole[name] += other
    n, entries, fillers = (sum(row[name] for row in layers) for name in ("weights", "entries", "fillers"))
    bits = {
        name: sum(row[name] * row["entries"] for row in layers) / max(entries, 1)
        for name in ("value_bits", "value_bits_huffman", "index_bits", "index_bits_huffman")
    }
    parts = sum(whole[name] for name in SUMMED[3:])
    last = {
        "layer": "all",
        "weights": n,
        "kept": (entries - fillers) / max(n, 1),
        "entries": entries,
        "fillers": fillers,
    } | bits
    last |= whole | {"other_bytes": other, "header_bytes": len(file) - parts - other, "file_bytes": len(file)}
    return [*layers, last]


def pruned_bytes(model: nn.Module, index_bits: int) -> int:
    """Return the bytes of a pruned network that shares no weights: entries of an index and a whole value (P).

    Parameters
    ----------
    model : torch.nn.Module
        Its zeros are not stored.
    index_bits : int
        Bits of a difference.

    Returns
    -------
    int
        With all other parameters and buffers.
    """
    total = dense_bytes(model)
    for weight in weights(model).values():
        entries = len(differences(weight.detach().flatten().nonzero()[:, 0].cpu().numpy(), index_bits)[0])
        total += _pruned(entries, index_bits, weight.dtype.itemsize) - weight.numel() * weight.dtype.itemsize
    return total


def dense_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, those under two names once.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.

    Returns
    -------
    int
        For LeNet-300-100 in float32, 1,066,440.
    """
    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values())


def _layer(tensor: Stored, coded: Coded) -> dict[str, Any]:
    """Return the row of a layer; the lengths of codes come from decoded symbols, not from streams filled up to bytes."""
    values, gaps = coded.entry_symbols()
    fillers, k, n = int((values == 0).sum()), len(coded.values), math.prod(tensor.shape)
    codebook, item = coded.values.nbytes, tensor.dtype.itemsize
    fixed = math.log2(max(k + (fillers > 0), 1))
    each = max(coded.entries, 1)
    parts = {
        "value_bytes": len(coded.value_codes),
        "index_bytes": len(coded.gap_codes),
        "codebook_bytes": codebook,
        "table_bytes": coded.table_bytes,
    }
    return {
        "layer": tensor.name,
        "weights": n,
        "kept": (coded.entries - fillers) / max(n, 1),
        "entries": coded.entries,
        "fillers": fillers,
        "value_bits": fixed,
        "value_bits_huffman": int(coded.value_lengths[values].sum()) / each,
        "index_bits": coded.index_bits,
        "index_bits_huffman": int(coded.gap_lengths[gaps].sum()) / each,
        "dense_bytes": n * item,
        "pruned_bytes": _pruned(coded.entries, coded.index_bits, item),
        "shared_bytes": math.ceil(coded.entries * (fixed + coded.index_bits) / 8) + codebook,
        **parts,
        "other_bytes": 0,
        "header_bytes": 0,
        "file_bytes": sum(parts.values()),
    }


def _pruned(entries: int, index_bits: int, item: int) -> int:
    return math.ceil(entries * (index_bits + 8 * item) / 8)
