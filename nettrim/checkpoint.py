"""Finished layers on disk, so that a trim that was cut off goes on where it was; nothing of another trim is ever taken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from nettrim.errors import ModelError
from nettrim.fingerprint import fingerprint
from nettrim.plan import Job, Plan
from nettrim.request import Request
from nettrim.retrain import Outcome
from solvers import Status


class Checkpoint:
    """A folder of outcomes, one file a layer, each written whole or not at all.

    Parameters
    ----------
    folder : path-like or None
        Made where it is missing; None for no checkpoint.
    plan : Plan
        Model, samples and layers.
    request : Request
        What is asked.

    Raises
    ------
    ModelError
        If the folder holds layers of another model, of other samples or of another request.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, plan: Plan, request: Request) -> None:
        self.folder = None if folder is None else Path(folder)
        self.read: dict[str, Outcome | None] = {}
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        key, mark = fingerprint(request.settings, plan.model, [plan.samples]), self.folder / "trim.sha256"
        if mark.exists() and mark.read_text().strip() != key:
            raise ModelError(
                f"checkpoint {self.folder} holds layers of another model, of other samples or of another request; name "
                "another folder, or remove it"
            )
        mark.write_text(key + "\n")

    def get(self, job: Job) -> Outcome | None:
        """Return what is known of a layer.

        Parameters
        ----------
        job : Job
            The layer.

        Returns
        -------
        Outcome or None
            None where it has not been finished.
        """
        if self.folder is None:
            return None
        name = job.use.name
        if name not in self.read:
            path = self._path(name)
            self.read[name] = _load(path) if path.exists() else None
        return self.read[name]

    def put(self, job: Job, outcome: Outcome) -> None:
        """Write what came of a layer.

        Parameters
        ----------
        job : Job
            The layer.
        outcome : Outcome
            What to write.
        """
        if self.folder is None or self.get(job) is not None:
            return
        path = self._path(job.use.name)
        facts: dict[str, Any] = {name: value for name, value in outcome._asdict().items() if name not in ("W", "status")}
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            arrays = {f"W{g}": weights for g, weights in enumerate(outcome.W)}
            np.savez(file, facts=json.dumps(facts | {"status": outcome.status.name}), **arrays)  # type: ignore[arg-type]
        part.replace(path)

    def _path(self, name: str) -> Path:
        assert self.folder is not None  # the caller has looked
        return self.folder / f"{name}.npz"


def _load(path: Path) -> Outcome:
    with np.load(path, allow_pickle=False) as saved:
        facts = json.loads(str(saved["facts"]))
        W = [saved[f"W{g}"] for g in range(len(saved.files) - 1)]
    return Outcome(W=W, **facts | {"status": Status[facts["status"]]})
