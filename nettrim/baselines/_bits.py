"""Numbers of a few bits each, packed without gaps; what a network of such numbers takes on disk, to the byte."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nettrim.errors import ModelError


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack whole numbers, the highest bit of each first.

    Parameters
    ----------
    codes : torch.Tensor
        Integers of any shape, from 0 to ``2^bits - 1``.
    bits : int
        Of each, 1 to 16.

    Returns
    -------
    torch.Tensor, shape (ceil(n bits / 8),)
        Bytes; the last is filled up with 0.

    Raises
    ------
    ValueError
        If a number does not fit.
    """
    values = codes.detach().cpu().numpy().reshape(-1)
    if values.size and (values.min() < 0 or values.max() >= 2**bits):
        raise ValueError(f"codes of {bits} bits are from 0 to {2**bits - 1}; got {values.min()} to {values.max()}")
    each = (values[:, None] >> np.arange(bits - 1, -1, -1)) & 1  # (n, bits)
    return torch.from_numpy(np.packbits(each.astype(np.uint8)))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo ``pack``.

    Parameters
    ----------
    packed : torch.Tensor
        Bytes.
    bits : int
        Of each number.
    count : int
        How many there are.

    Returns
    -------
    torch.Tensor, shape (count,)
        int64.
    """
    each = np.unpackbits(packed.cpu().numpy(), count=count * bits).reshape(count, bits).astype(np.int64)
    return torch.from_numpy(each @ (1 << np.arange(bits - 1, -1, -1)))


def packed(model: nn.Module) -> dict[str, Tensor]:
    """Return all that must be stored of a network, weights of few bits packed.

    Parameters
    ----------
    model : torch.nn.Module
        Its quantized and binary layers say what they need (their method ``packed``); of all other modules parameters and
        buffers are stored as they are, but for the count of batches that a normalization has seen.

    Returns
    -------
    dict
        Name to tensor; a module that the model holds twice is stored once.
    """
    made: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if hasattr(module, "packed"):
            parts = module.packed()
        else:
            parts = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        dot = f"{name}." if name else ""
        made |= {dot + key: value.detach() for key, value in parts.items() if key != "num_batches_tracked"}
    return made


def size(model: nn.Module) -> int:
    """Return how many bytes ``packed`` takes.

    Parameters
    ----------
    model : torch.nn.Module
        Any.

    Returns
    -------
    int
        Of the numbers alone, without names and shapes.
    """
    return sum(value.numel() * value.element_size() for value in packed(model).values())


def save_packed(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a network with its weights of few bits packed.

    Parameters
    ----------
    model : torch.nn.Module
        Any.
    path : path-like
        A safetensors file: eight bytes, a header of names and shapes, and ``size(model)`` bytes.
    """
    part = Path(path).with_name(Path(path).name + ".part")
    save_file({name: value.clone().contiguous() for name, value in packed(model).items()}, part)
    part.replace(path)


def load_packed(like: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Read a network that ``save_packed`` wrote.

    Parameters
    ----------
    like : torch.nn.Module
        Of the same architecture and settings; left unchanged.
    path : path-like
        Where it is.

    Returns
    -------
    torch.nn.Module
        A copy of ``like`` with what is stored, in evaluation mode.

    Raises
    ------
    ModelError
        If the file is of another network.
    """
    stored, model = load_file(path), copy.deepcopy(like)
    wanted = {name: (value.shape, value.dtype) for name, value in packed(model).items()}
    if wanted != {name: (value.shape, value.dtype) for name, value in stored.items()}:
        raise ModelError(f"{path} holds a network of other layers, or of other bits")
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        own = {key[len(dot) :]: value for key, value in stored.items() if key.startswith(dot) and "." not in key[len(dot) :]}
        _put(module, own)
    return model.eval()


def _put(module: nn.Module, own: Mapping[str, Tensor]) -> None:
    if hasattr(module, "unpacked"):
        module.unpacked(own)
        return
    with torch.no_grad():
        for key, value in own.items():
            getattr(module, key).copy_(value)
