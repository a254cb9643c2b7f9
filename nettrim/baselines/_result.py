"""What every baseline returns: the network that came of it, its masks, and a row for each step on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from safetensors.torch import save_file
from torch import nn

from nettrim.data import Data
from nettrim.evaluate import evaluate
from nettrim.masks import Masks, kept
from nettrim.store import versions, write_json


@dataclass(frozen=True, eq=False)
class Baseline:
    """The outcome of a baseline.

    Attributes
    ----------
    method : str
        Its name.
    model : torch.nn.Module
        The network in the end, in evaluation mode.
    masks : dict
        Which of its weights are kept (``nettrim.masks``); a layer without a mask is whole.
    rows : tuple of dict
        A row for each step, in order: ``step`` says which, ``kept`` is the fraction of the weights that are left (of linear
        layers and convolutions), ``accuracy``, ``loss`` and ``errors`` are on the test samples, and what else the method has
        to tell. All rows have the same fields.
    settings : dict
        What the method was asked to do.
    """

    method: str
    model: nn.Module
    masks: Masks
    rows: tuple[dict[str, Any], ...]
    settings: dict[str, Any]

    @property
    def kept(self) -> float:
        """Fraction of the weights of the final network that are kept."""
        left, all_of_them = kept(self.model, self.masks)
        return left / all_of_them

    def summary(self) -> Table:
        """Return the rows as a table for the terminal.

        Returns
        -------
        rich.table.Table
            A line a row.
        """
        table = Table(*self.rows[0], title=self.method)
        for row in self.rows:
            table.add_row(*(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return rows, settings and versions in JSON's types.

        Returns
        -------
        dict
            All but the network and its masks.
        """
        return {
            "method": self.method,
            "versions": versions(),
            "settings": self.settings,
            "kept": self.kept,
            "rows": list(self.rows),
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors``, ``masks.safetensors`` and ``report.json``.

        Parameters
        ----------
        folder : path-like
            Made where it is missing.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().clone().contiguous() for name, value in self.model.state_dict().items()}
        for name, tensors in (("model", state), ("masks", {name: mask.contiguous() for name, mask in self.masks.items()})):
            part = place / f"{name}.safetensors.part"
            save_file(tensors, part)
            part.replace(place / f"{name}.safetensors")
        write_json(self.to_json(), place / "report.json")


def row(step: str, model: nn.Module, masks: Masks, data: Data, **more: Any) -> dict[str, Any]:
    """Return a row of a result: the one way in which all methods are looked at.

    Parameters
    ----------
    step : str
        What has just been done.
    model : torch.nn.Module
        As it is then.
    masks : dict
        Its masks.
    data : Data
        Whose test samples are looked at.
    **more
        Further fields.

    Returns
    -------
    dict
        ``step``, ``kept``, ``weights``, ``accuracy``, ``loss``, ``errors`` and what was added.
    """
    left, all_of_them = kept(model, masks)
    score = evaluate(model, data.x_test, data.y_test)
    return {"step": step, "kept": left / all_of_them, "weights": left} | score._asdict() | more


def settings_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the arguments of a method: ``settings_of(locals())`` in its first line.

    Parameters
    ----------
    arguments : mapping
        All of them.

    Returns
    -------
    dict
        Without the model, the data and the folder.
    """
    return {name: value for name, value in arguments.items() if name not in ("model", "data", "folder")}
