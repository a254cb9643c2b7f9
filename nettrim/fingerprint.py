"""A digest of all that an outcome depends on, so that work kept on disk is never taken for that of another run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(settings: Mapping[str, Any], model: nn.Module, tensors: Iterable[Tensor]) -> str:
    """Return a digest.

    Parameters
    ----------
    settings : mapping
        What is asked, in JSON's types; others are written as text.
    model : torch.nn.Module
        Its modules count, with the settings that they print, and its parameters and buffers, with their names.
    tensors : iterable of torch.Tensor
        The data.

    Returns
    -------
    str
        SHA-256, in hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(repr(model).encode())  # a ReLU, a stride or a dropout has no parameters, and makes another network
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(value) if value.ndim else str(value).encode())
    for tensor in tensors:
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
