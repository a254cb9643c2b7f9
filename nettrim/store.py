"""Results on disk: weights as safetensors, the report as JSON, each written whole or not at all, the report last."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nettrim.batchnorm import fold
from nettrim.errors import ModelError
from nettrim.graph import trace
from nettrim.report import Checks, LayerRow, TrimResult
from nettrim.unseen import Unseen

SCHEMA_VERSION = 4
_FIELDS = (
    "bound",
    "output_error",
    "output_norm",
    "holdout_error",
    "accuracy",
    "accuracy_dense",
    "parameters",
    "parameters_kept",
    "settings",
)


def save(result: TrimResult, folder: str | os.PathLike[str]) -> None:
    """Write a result to a folder.

    Parameters
    ----------
    result : TrimResult
        What to write.
    folder : path-like
        Made where it is missing; a result saved there before is replaced.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    # Copies, because safetensors refuses tensors that share memory or are not contiguous.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in result.model.state_dict().items()}
    temporary = place / "model.safetensors.part"
    save_file(tensors, temporary)
    temporary.replace(place / "model.safetensors")
    write_json(to_json(result), place / "report.json")


def load(folder: str | os.PathLike[str], model: nn.Module) -> TrimResult:
    """Read a result back.

    Parameters
    ----------
    folder : path-like
        Where ``save`` wrote it.
    model : torch.nn.Module
        A model of the architecture that was given to ``trim``, trained or not; left unchanged. Its batch normalizations are
        folded where the trim left them so.

    Returns
    -------
    TrimResult
        With a copy of ``model`` that holds the trimmed weights.

    Raises
    ------
    ModelError
        If the folder holds no result, one of another version, or one of another architecture.
    """
    place = Path(folder)
    try:
        report = json.loads((place / "report.json").read_text(encoding="utf-8"))
        tensors = load_file(place / "model.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise ModelError(f"{place} does not hold a saved result ({error})") from error
    if report.get("schema_version") != SCHEMA_VERSION:
        raise ModelError(f"{place} has schema version {report.get('schema_version')}; this package reads {SCHEMA_VERSION}")
    if report["settings"].get("unfold") is False:
        model = fold(model, trace(model).folds)
    rows = tuple(LayerRow(**{**row, "shape": tuple(row["shape"])}) for row in report["layers"])
    checks = Checks.from_json(report["checks"])
    unseen = report["unseen"] and Unseen.from_json(report["unseen"])
    fields = {name: report[name] for name in _FIELDS}
    return TrimResult(model=with_weights(model, tensors, place), layers=rows, checks=checks, unseen=unseen, **fields)


def with_weights(model: nn.Module, tensors: dict[str, torch.Tensor], source: Any) -> nn.Module:
    """Return a copy of a model with other weights.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    tensors : dict
        A whole state dict.
    source : object
        Where it is from, for the error.

    Returns
    -------
    torch.nn.Module
        The copy.

    Raises
    ------
    ModelError
        If names or shapes differ.
    """
    model = copy.deepcopy(model)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"the weights in {source} are not of this model: {error}") from error
    return model


def to_json(result: TrimResult) -> dict[str, Any]:
    """Return the report in JSON's types, without the model.

    Parameters
    ----------
    result : TrimResult
        The result.

    Returns
    -------
    dict
        Numbers that JSON does not know (inf, nan) are None.
    """
    report = {
        "schema_version": SCHEMA_VERSION,
        "versions": versions(),
        "solved": result.solved,
        "kept": result.kept,
        "compression": result.compression,
        **{name: getattr(result, name) for name in _FIELDS},
        "unseen": result.unseen and dataclasses.asdict(result.unseen),
        "layers": [dataclasses.asdict(row) for row in result.layers],
        "checks": result.checks.to_json(),
    }
    return _finite(report)


def versions() -> dict[str, str]:
    """Return the versions that a number depends on.

    Returns
    -------
    dict
        Of Python, this package, torch, NumPy and numba.
    """
    return {"python": platform.python_version()} | {name: version(name) for name in ("nettrim", "torch", "numpy", "numba")}


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON to a file, whole or not at all.

    Parameters
    ----------
    content : dict
        What to write; numbers that JSON does not know (inf, nan) become null.
    path : pathlib.Path
        Where; replaced where it exists.
    """
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
