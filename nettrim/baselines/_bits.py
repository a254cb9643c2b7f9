"""Numbers of a few bits each, packed without gaps; what a network of such numbers takes on disk, to the byte."""

from __future__ import annotations

import copy
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
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

    Raises
    ------
    ModelError
        If so many numbers take another number of bytes.
    """
    wanted = (count * bits + 7) // 8
    if packed.numel() != wanted:  # NumPy would take zeros for the bits that are missing
        raise ModelError(f"{count} numbers of {bits} bits are packed in {wanted} bytes; got {packed.numel()}")
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
        Name to tensor; a module or a tensor that the model holds twice is stored once, with all its bits if one of the two
        modules that hold it computes with them.
    """
    real = {id(tensor) for module in model.modules() if not hasattr(module, "packed") for tensor in _own(module).values()}
    made, seen = {}, set()
    for name, module in model.named_modules():
        own, few = _own(module), hasattr(module, "packed")
        for key, value in (module.packed() if few else own).items():
            tensor = own.get(key)
            if key == "num_batches_tracked" or id(tensor) in seen or (few and id(tensor) in real):
                continue
            seen |= set() if tensor is None else {id(tensor)}  # None: made for the file, as the scales of signs
            made[f"{name}.{key}" if name else key] = value.detach()
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
        A safetensors file: eight bytes, a header of names and shapes, in whose metadata are a check sum and what the numbers
        mean (bits, and the codes of inputs), and ``size(model)`` bytes.
    """
    part = Path(path).with_name(Path(path).name + ".part")
    tensors, layers = {name: value.clone().contiguous() for name, value in packed(model).items()}, _layers(model)
    about = {"layers": layers, "crc32": _check_sum(tensors, layers)}
    save_file(tensors, part, {"packed": json.dumps(about)})  # in one entry: the order of several differs between runs
    part.replace(path)


def load_packed(like: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Read a network that ``save_packed`` wrote.

    Parameters
    ----------
    like : torch.nn.Module
        Of the same architecture and settings: quantized to as many bits, and calibrated if that was; left unchanged.
    path : path-like
        Where it is.

    Returns
    -------
    torch.nn.Module
        A copy of ``like`` with what is stored, in evaluation mode.

    Raises
    ------
    ModelError
        If the file is of another network, of another kind, damaged or cut off.
    """
    stored, layers = _read(path)
    model = copy.deepcopy(like)
    for name, meant in _layers(model).items():
        if name in layers and layers[name] != meant:
            raise ModelError(
                f"{path} holds a network of other bits: layer {name!r} has {_text(layers[name])} in it and {_text(meant)} "
                "in the model; load it into one made with the settings of the stored one"
            )
    wanted, found = (
        {name: f"{tuple(value.shape)}, {value.dtype}" for name, value in tensors.items()}
        for tensors in (packed(model), stored)
    )
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            came, like_it = (each.get(name, "missing") for each in (found, wanted))
            raise ModelError(f"{path} holds a network of other layers: {name!r} is {came} in it and {like_it} in the model")
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        own = {key[len(dot) :]: value for key, value in stored.items() if key.startswith(dot) and "." not in key[len(dot) :]}
        _put(module, own)
    return model.eval()


def _own(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))


def _layers(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return what the packed numbers of each layer mean, by its name."""
    return {name: module.meaning() for name, module in model.named_modules() if hasattr(module, "packed")}


def _check_sum(tensors: Mapping[str, Tensor], layers: Mapping[str, Any]) -> int:
    """Return the CRC-32 of all numbers and of what they mean."""
    total = zlib.crc32(json.dumps(layers, sort_keys=True).encode())
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy(), total)
    return total


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and what they mean."""
    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get("packed")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping, though it has keys)
    except SafetensorError as error:
        raise ModelError(f"{path} is no packed network, or is damaged or cut off: {error}") from error
    if about is None:
        raise ModelError(f"{path} is no packed network: it has no check sum; write one with save_packed(model, path)")
    try:
        told = json.loads(about)
        layers, right = told["layers"], told["crc32"] == _check_sum(tensors, told["layers"])
    except (ValueError, KeyError, TypeError):  # damaged where the check sum itself is
        right = False
    if not right:
        raise ModelError(f"{path} is damaged: its check sum is wrong; write it again with save_packed(model, path)")
    return tensors, layers


def _text(meaning: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in meaning.items())


def _put(module: nn.Module, own: Mapping[str, Tensor]) -> None:
    if hasattr(module, "unpacked"):
        module.unpacked(own)
        return
    with torch.no_grad():
        for key, value in own.items():
            getattr(module, key).copy_(value)
