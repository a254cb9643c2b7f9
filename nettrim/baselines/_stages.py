"""Finished stages of a method on disk, so that a run that was cut off goes on behind them; none of another run is taken."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nettrim.data import Data
from nettrim.errors import ModelError
from nettrim.fingerprint import fingerprint
from nettrim.masks import Masks, weights


@dataclass(frozen=True, eq=False)
class Stage:
    """What a stage leaves behind.

    Attributes
    ----------
    model : torch.nn.Module
        As it is then.
    masks : dict
        Which weights are kept.
    facts : dict
        Whatever else the next stages need, in JSON's types.
    """

    model: nn.Module
    masks: Masks = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Stages:
    """The stages of one run of a method; with a folder, each is a file there, written whole or not at all.

    Parameters
    ----------
    folder : path-like or None
        Made where it is missing; None keeps nothing.
    model : torch.nn.Module
        What the method was given.
    data : Data
        Likewise.
    settings : mapping
        All else that the outcome depends on, the name of the method too.

    Raises
    ------
    ModelError
        If the folder holds stages of another run.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, model: nn.Module, data: Data, settings: Mapping[str, Any]
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        key = fingerprint(settings, model, [data.x_train, data.y_train, data.x_test, data.y_test])
        mark = self.folder / "run.sha256"
        if mark.exists() and mark.read_text().strip() != key:
            raise ModelError(
                f"folder {self.folder} holds stages of another model, of other data or of other settings; name another "
                "folder, or remove it"
            )
        mark.write_text(key + "\n")

    def run(self, name: str, make: Callable[[], Stage], like: nn.Module) -> Stage:
        """Return what a stage left behind, from the folder if it is there, and else by running it.

        Parameters
        ----------
        name : str
            Of the stage; unlike those of all others.
        make : callable
            Runs it.
        like : torch.nn.Module
            A model of the architecture that the stage ends with, left unchanged; what is read is put into a copy.

        Returns
        -------
        Stage
            Its outcome.
        """
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is not None and path.exists():
            return _read(path, like)
        stage = make()
        if path is not None:
            _write(stage, path)
        return stage


def _write(stage: Stage, path: Path) -> None:
    tensors = {f"model.{name}": value for name, value in stage.model.state_dict().items()}
    tensors |= {f"mask.{name}": mask for name, mask in stage.masks.items()}
    part = path.with_name(path.name + ".part")
    apart = {name: value.detach().clone().contiguous() for name, value in tensors.items()}  # shared memory is not stored
    save_file(apart, part, {"facts": json.dumps(stage.facts)})
    part.replace(path)


def _read(path: Path, like: nn.Module) -> Stage:
    tensors: dict[str, dict[str, Tensor]] = {"model": {}, "mask": {}}
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        for key in file.keys():  # noqa: SIM118 (no mapping, though it has keys)
            kind, name = key.split(".", 1)
            tensors[kind][name] = file.get_tensor(key)
    model = copy.deepcopy(like)
    model.load_state_dict(tensors["model"])
    found = weights(model)  # in their order, which files do not keep, and on their device
    masks = {name: tensors["mask"][name].to(weight.device) for name, weight in found.items() if name in tensors["mask"]}
    return Stage(model.eval(), masks, facts)
