"""What no baseline can work with is refused before the work begins, by the name of the argument."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import nn

from nettrim.data import Data
from nettrim.errors import DataError, ModelError, SettingError
from nettrim.evaluate import evaluating
from nettrim.masks import LAYERS, weights


def fits(model: nn.Module, data: Data, *, frozen: bool = False) -> None:
    """Refuse a model and data that cannot be trained together.

    Parameters
    ----------
    model : torch.nn.Module
        To be float32 or float64, on the device of the data, all numbers finite, with logits for every class.
    data : Data
        To have samples, finite, and class numbers from 0 on.
    frozen : bool, optional
        Whether the model may be one that cannot be trained, as a teacher may.

    Raises
    ------
    ModelError
        If the model is not of this kind.
    DataError
        If the data are not.
    """
    for part in ("train", "test"):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        if len(x) == 0 or len(x) != len(y):
            raise DataError(
                f"data {data.name!r} needs as many labels as {part} samples, at least one; got {len(x)} and {len(y)}"
            )
        if not x.isfinite().all():
            raise DataError(f"the {part} samples of {data.name!r} hold NaN or Inf")
        if y.dtype != torch.int64 or y.ndim != 1 or y.min() < 0:
            raise DataError(
                f"the {part} labels of {data.name!r} must be class numbers from 0 on, int64 of shape ({len(x)},); "
                f"got {y.dtype} of shape {tuple(y.shape)}, the least {y.min()}"
            )
    if data.x_train.shape[1:] != data.x_test.shape[1:]:
        raise DataError(
            f"the training and test samples of {data.name!r} must have one shape; got {tuple(data.x_train.shape[1:])} and "
            f"{tuple(data.x_test.shape[1:])}"
        )
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, LAYERS) and "weight" not in module._parameters:
            raise ModelError(
                f"the weight of {name!r} is computed from other parameters (weight normalization, say), so none of it can "
                "be held at 0: make it a plain one first (torch.nn.utils.parametrize.remove_parametrizations)"
            )
    if not isinstance(model, nn.Module) or not weights(model):
        raise ModelError(f"a baseline needs a model with linear layers or convolutions; got {type(model).__name__}")
    if not frozen and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("no parameter of the model requires a gradient, so nothing can be trained: call requires_grad_()")
    for name, value in model.state_dict().items():
        if value.is_floating_point() and (value.dtype != data.x_train.dtype or value.device != data.x_train.device):
            raise ModelError(
                f"{name!r} is {value.dtype} on {value.device}, the samples {data.x_train.dtype} on {data.x_train.device}; "
                "take both to one dtype (float32 or float64: training in half precision loses small steps) and device"
            )
        if value.dtype in (torch.float16, torch.bfloat16):
            raise ModelError(
                f"{name!r} is {value.dtype}; training in it loses small steps: call .float() on model and samples"
            )
        if not value.isfinite().all():
            raise ModelError(f"{name!r} holds NaN or Inf")
    try:
        with evaluating(model):
            logits = model(data.x_test[:2])
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"the model does not take samples of shape {tuple(data.x_test.shape[1:])}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        raise ModelError(f"the model must give a tensor of logits; it gives a {type(logits).__name__}")
    classes = int(max(data.y_train.max(), data.y_test.max())) + 1
    if logits.ndim != 2 or logits.shape[1] < classes:
        raise ModelError(f"the model must give logits (n, {classes}) or more of them; it gives {tuple(logits.shape)}")


def fraction(name: str, value: Any, *, closed: bool = False) -> float:
    """Return a setting that is to lie between 0 and 1.

    Parameters
    ----------
    name : str
        Of the setting.
    value : object
        What came.
    closed : bool, optional
        Whether 0 and 1 themselves will do.

    Returns
    -------
    float
        The value.

    Raises
    ------
    SettingError
        If it is no such number.
    """
    if not _number(value) or not (0 <= value <= 1 if closed else 0 < value < 1):
        raise SettingError(f"{name} must be a number in {'[0, 1]' if closed else '(0, 1)'}; got {value!r}")
    return float(value)


def positive(name: str, value: Any, *, zero: bool = False) -> float:
    """Return a setting that is to be a positive, finite number.

    Parameters
    ----------
    name : str
        Of the setting.
    value : object
        What came.
    zero : bool, optional
        Whether 0 will do.

    Returns
    -------
    float
        The value.

    Raises
    ------
    SettingError
        If it is no such number.
    """
    if not _number(value) or not (0 <= value < float("inf")) or (value == 0 and not zero):
        raise SettingError(f"{name} must be a {'number from 0 on' if zero else 'positive number'}; got {value!r}")
    return float(value)


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a setting that is to be a whole number.

    Parameters
    ----------
    name : str
        Of the setting.
    value : object
        What came.
    least : int, optional
        The least that will do.
    most : int, optional
        The most, if there is one.

    Returns
    -------
    int
        The value.

    Raises
    ------
    SettingError
        If it is no such number.
    """
    top = math.inf if most is None else most
    if not _number(value) or not math.isfinite(value) or value != int(value) or not least <= value <= top:
        upto = "" if most is None else f" and at most {most}"
        raise SettingError(f"{name} must be a whole number, at least {least}{upto}; got {value!r}")
    return int(value)


def choice(name: str, value: Any, among: Any) -> Any:
    """Return a setting that is to be one of some.

    Parameters
    ----------
    name : str
        Of the setting.
    value : object
        What came.
    among : iterable
        What it may be.

    Returns
    -------
    object
        The value.

    Raises
    ------
    SettingError
        If it is none of them.
    """
    if not any(value is one or (isinstance(value, str) and value == one) for one in among):
        raise SettingError(f"{name} must be one of {', '.join(map(repr, among))}; got {value!r}")
    return value


def unhooked(name: str, module: nn.Module) -> None:
    """Refuse a module that another is to take the place of, if it has hooks: they would be lost without a word.

    Parameters
    ----------
    name : str
        Of the module in its network.
    module : torch.nn.Module
        What is looked at, with all that is in it.

    Raises
    ------
    ModelError
        If there is a forward hook, before or behind.
    """
    if any(part._forward_pre_hooks or part._forward_hooks for part in module.modules()):
        raise ModelError(
            f"layer {name!r} is {type(module).__name__} with hooks, which a layer in its place would not have: remove them"
        )


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value  # NaN is unlike itself
