"""A network of shared weights in a file of its own, from which it comes back bit for bit, and what each part of it costs.

Third stage of Han, Mao, Dally, "Deep Compression" (ICLR 2016): relative indices and Huffman codes. The file, numbers being
LEB128 (seven bits a byte, low ones first) unless said otherwise, all else little-endian:

1. ``NTDC`` and a byte, the version; the number of tensors, those of ``state_dict``, in its order.
2. For each: length of its name and the name in UTF-8; a byte, its type; number of axes, axes; a byte, how it is stored:
   0 as it is, 1 by shared weights, 2 as another tensor, of which the number follows.
3. The contents, in the same order. Of 0: the bytes. Of 2: none. Of 1, with b index bits:
   b; number of shared values and these; number of entries; two tables and two streams of Huffman codes.
4. CRC-32 of all before, four bytes.

An entry is a difference and a value. Weights are taken in the order of memory (of a row, one neuron behind the other).
The difference is from the place of the entry before, the first from place -1, so it is 1 at least; differences 1 ... 2^b
are the symbols 0 ... 2^b - 1. A weight farther away is preceded by fillers, entries of difference 2^b and value zero. The
value is a symbol too: 0 for the filler's zero, i for the i-th shared value. The first table and stream are of the values,
the second of the differences. A table is the number of its symbols up to the last that is used, a byte with the bits of a
length, and the lengths, most significant bit first, filled up to a byte; a stream is its number of bytes, and the codes
(``_huffman``) of all entries in order. Both streams come behind both tables.
"""

from __future__ import annotations

import copy
import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.baselines import _door
from nettrim.baselines.deep_compression._coded import MOST_BITS, Coded, coded, read_coded
from nettrim.baselines.deep_compression._reader import Reader, number, wrong
from nettrim.errors import ModelError
from nettrim.masks import weights

MAGIC = b"NTDC\x01"
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
TYPES += (torch.uint8, torch.bool)
WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PLAIN, SHARED, SAME = range(3)


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it stands in a file.

    Attributes
    ----------
    name : str
        In ``state_dict``.
    dtype : torch.dtype
        Of the tensor.
    shape : tuple of int
        Likewise.
    content : bytes, Coded or int
        The tensor's bytes, its shared weights, or the number of a tensor that is the same.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    content: bytes | Coded | int

    @property
    def size(self) -> int:
        """Bytes of the tensor when it is not compressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def compress(model: nn.Module, *, index_bits: int = 8) -> bytes:
    """Return a network of shared weights as a file; nothing is lost, whatever the network.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Weights of linear layers and convolutions are stored by their distinct values, those that are not
        0; all other parameters and the buffers as they are.
    index_bits : int, optional
        Bits of a difference before Huffman coding, 1 to 16: more of them need fewer fillers.

    Returns
    -------
    bytes
        What ``decompress`` reads.

    Raises
    ------
    SettingError
        If ``index_bits`` is outside of this.
    ModelError
        If a layer has more than 65,536 distinct weights, or a tensor is of a type that files do not know.
    """
    index_bits = _door.whole("index_bits", index_bits, 1, MOST_BITS)
    shared, seen = {id(weight) for weight in weights(model).values()}, {}
    head, body = [MAGIC], []
    state = model.state_dict(keep_vars=True)  # the parameters themselves, so that one under two names is known again
    head.append(number(len(state)))
    for at, (name, tensor) in enumerate(state.items()):
        if tensor.dtype not in TYPES:
            raise ModelError(f"{name!r} is {tensor.dtype}, which a compressed file does not hold")
        how = SAME if id(tensor) in seen else SHARED if id(tensor) in shared else PLAIN
        called = name.encode()
        head += [number(len(called)), called, bytes([TYPES.index(tensor.dtype)])]
        head += [number(tensor.ndim), *map(number, tensor.shape), bytes([how])]
        if how == SAME:
            head.append(number(seen[id(tensor)]))
        else:
            seen[id(tensor)] = at
            body.append(coded(name, _bits(tensor), index_bits) if how == SHARED else _bits(tensor).tobytes())
    whole = b"".join(head + body)
    return whole + zlib.crc32(whole).to_bytes(4, "little")


def decompress(file: bytes, model: nn.Module) -> nn.Module:
    """Return the network that a file holds.

    Parameters
    ----------
    file : bytes
        From ``compress``.
    model : torch.nn.Module
        Of the same architecture, with any weights; left unchanged.

    Returns
    -------
    torch.nn.Module
        A copy, in evaluation mode, every parameter and buffer bit for bit what was compressed.

    Raises
    ------
    ModelError
        If the file is of another kind, damaged, cut off, or of another architecture.
    """
    stored, wanted = parse(file), model.state_dict()
    for name in [*wanted, *(tensor.name for tensor in stored)]:
        if name not in wanted or name not in {tensor.name for tensor in stored}:
            raise ModelError(f"the compressed file is of another architecture: only one of it and the model has {name!r}")
    for tensor in stored:
        like = wanted[tensor.name]
        if tensor.shape != tuple(like.shape) or tensor.dtype != like.dtype:
            raise ModelError(
                f"the compressed file is of another architecture: {tensor.name!r} is {tensor.shape}, {tensor.dtype} in it "
                f"and {tuple(like.shape)}, {like.dtype} in the model"
            )
    found: list[Tensor] = []
    for tensor in stored:
        found.append(found[tensor.content] if isinstance(tensor.content, int) else _tensor(tensor))
    made = copy.deepcopy(model)
    made.load_state_dict({tensor.name: value for tensor, value in zip(stored, found, strict=True)})
    return made.eval()


def parse(file: bytes) -> list[Stored]:
    """Return what a file holds, each tensor as it is stored.

    Parameters
    ----------
    file : bytes
        From ``compress``.

    Returns
    -------
    list of Stored
        In the order of the file.

    Raises
    ------
    ModelError
        If the file is of another kind, damaged or cut off.
    """
    if not isinstance(file, bytes | bytearray):
        raise ModelError(f"a compressed network is bytes, as compress or Path.read_bytes gives; got {type(file).__name__}")
    if not file.startswith(MAGIC):
        raise ModelError(f"this is no compressed network: it does not begin with {MAGIC!r}")
    if len(file) < len(MAGIC) + 5 or zlib.crc32(file[:-4]) != int.from_bytes(file[-4:], "little"):
        raise ModelError("the compressed file is damaged or cut off: its check sum is wrong")
    reader = Reader(file[:-4], len(MAGIC))
    heads = [_head(reader) for _ in range(reader.number())]
    stored: list[Stored] = []
    for name, dtype, shape, how, same in heads:
        if how == SAME:
            if same >= len(stored) or (stored[same].dtype, stored[same].shape) != (dtype, shape):
                raise wrong(f"{name!r} is to be the same as a tensor that is not like it")
            content: bytes | Coded | int = same
        elif how == SHARED:
            content = read_coded(reader, _numpy(dtype))
        else:
            content = reader.take(math.prod(shape) * dtype.itemsize)
        stored.append(Stored(name, dtype, shape, content))
    if reader.left or len({tensor.name for tensor in stored}) < len(stored):
        raise wrong(f"{reader.left} bytes too many, or a tensor twice")
    return stored


def _head(reader: Reader) -> tuple[str, torch.dtype, tuple[int, ...], int, int]:
    """Read name, type, shape and way of storing of a tensor, and the number of the one that it is the same as."""
    try:
        name = reader.take(reader.number()).decode()
    except UnicodeDecodeError as error:
        raise wrong("a name is no text") from error
    (kind,) = reader.take(1)
    shape = tuple(reader.number() for _ in range(reader.number()))
    (how,) = reader.take(1)
    if kind >= len(TYPES) or how not in (PLAIN, SHARED, SAME):
        raise wrong(f"{name!r} is of a type, or stored in a way, that this version does not know")
    return name, TYPES[kind], shape, how, reader.number() if how == SAME else -1


def _tensor(stored: Stored) -> Tensor:
    """Return a tensor from its content."""
    n = math.prod(stored.shape)
    if isinstance(stored.content, Coded):
        values, gaps = stored.content.entry_symbols()
        places, real = np.cumsum(gaps + 1) - 1, values > 0
        if len(places) and places[-1] >= n:
            raise ModelError(f"the compressed file is damaged: {stored.name!r} has weights behind its end")
        flat = np.zeros(n, _numpy(stored.dtype))
        flat[places[real]] = stored.content.values[values[real] - 1]
    else:
        flat = np.frombuffer(stored.content, _numpy(stored.dtype)).copy()
    native = flat.astype(flat.dtype.newbyteorder("="))
    return torch.from_numpy(native).view(stored.dtype).reshape(stored.shape)


def _bits(tensor: Tensor) -> NDArray[np.generic]:
    """Return a tensor's bits as whole numbers ``(n,)``, little-endian."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(WHOLE[tensor.dtype.itemsize]).numpy()
    return flat.astype(_numpy(tensor.dtype))


def _numpy(dtype: torch.dtype) -> np.dtype[np.generic]:
    return np.dtype("<u1" if dtype.itemsize == 1 else f"<i{dtype.itemsize}")
