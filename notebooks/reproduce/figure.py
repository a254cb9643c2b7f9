"""A figure or table of a paper: what its rows are made of, frozen and hashed into their file's name, and how they are made.

The file opens with one line of JSON: the settings, the commits and the versions that made the rows. A run goes on from the
rows that are there; cases are independent, so that any number of processes makes the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from benchmarks import rows
from nettrim.progress import track
from reproduce import ROOT

RESULTS = ROOT / "notebooks" / "results"
MADE_WITH = ("nettrim", "numpy", "scipy", "numba", "torch")

Settings = Mapping[str, Any]
Case = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of a paper.

    Attributes
    ----------
    name : str
        Of the command and of the file.
    source : str
        Where it stands in the papers.
    settings : mapping
        All numbers that its rows follow from, as JSON has them.
    quick : mapping
        Settings that a quick look has in place of some of these.
    cases : callable
        Takes the settings, yields the cases: field to value, each case other values. Networks change from case to case, so
        that two processes do not begin by training the same one.
    measured : callable
        Takes the settings, a case and the folder of trained networks, or None; returns the case's rows, without its fields.
    minutes : int
        Of the whole, on two cores.
    jobs : int
        Processes that it is made by, if no others are asked for: one where the rows have seconds.
    """

    name: str
    source: str
    settings: Settings
    cases: Callable[[Settings], Iterator[Case]]
    measured: Callable[[Settings, Case, Path | None], Sequence[Mapping[str, Any]]]
    quick: Settings = field(default_factory=dict)
    minutes: int = 1
    jobs: int = 2

    @property
    def command(self) -> str:
        """What makes the rows."""
        return f"python notebooks/figures.py {self.name}"

    def frozen(self, *, quick: bool = False, **given: Any) -> dict[str, Any]:
        """Return the settings, with those of a quick look and others that are given in their place.

        Raises
        ------
        ValueError
            If a given setting is none of the figure's.
        """
        unknown = sorted(given.keys() - self.settings.keys())
        if unknown:
            raise ValueError(f"{self.name} has no setting {unknown[0]!r}; it has {', '.join(self.settings)}")
        return {**self.settings, **(self.quick if quick else {}), **given}

    def path(self, settings: Settings | None = None, folder: Path = RESULTS) -> Path:
        """Return the file of the rows that these settings make; other settings, another file."""
        text = json.dumps(self.settings if settings is None else settings, sort_keys=True)
        return folder / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.csv"

    def read(self, settings: Settings | None = None, folder: Path = RESULTS) -> list[dict[str, str]]:
        """Return the rows.

        Raises
        ------
        FileNotFoundError
            If there are none: what to run is in its text.
        """
        path = self.path(settings, folder)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: run {self.command}")
        return rows.read(path)

    def make(
        self, settings: Settings | None = None, *, folder: Path = RESULTS, networks: Path | None = None, n_jobs: int = 1
    ) -> Path:
        """Add the rows that are missing, and return their file.

        Parameters
        ----------
        settings : mapping, optional
            As ``frozen`` returns them; by default those of the figure.
        folder : pathlib.Path, optional
            Where the file is.
        networks : pathlib.Path, optional
            Folder that trained networks are kept in.
        n_jobs : int, optional
            Processes, of one thread each.
        """
        settings = dict(self.settings if settings is None else settings)
        path = self.path(settings, folder)
        cases = list(self.cases(settings))
        there = rows.done(path, *cases[0]) if path.exists() else set()
        todo = [case for case in cases if tuple(map(rows.shown, case.values())) not in there]
        work = Parallel(n_jobs=n_jobs, return_as="generator")
        made = work(delayed(_alone)(self.measured, settings, case, networks) for case in todo)
        for case, found in zip(todo, track(made, self.name, len(todo)), strict=True):
            rows.append(path, [{**case, **row} for row in found], told=[_told(self, settings, path)])
        return path


def _alone(measured: Callable[..., Any], settings: Settings, case: Case, networks: Path | None) -> Any:
    """Return the rows of a case, made by one thread: their last bits do not depend on how many there are."""
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):
        return measured(settings, case, networks)


def _told(figure: Figure, settings: Settings, path: Path) -> str:
    """Return the line that the file opens with; commits of earlier runs stay."""
    before = json.loads(rows.comments(path)[0]) if path.exists() else {"commits": []}
    commits = list(dict.fromkeys([*before["commits"], _commit()]))
    versions = {"python": platform.python_version()} | {name: version(name) for name in MADE_WITH}
    told = {"figure": figure.name, "source": figure.source, "settings": settings, "commits": commits, "versions": versions}
    return json.dumps(told)


def _commit() -> str:
    """Return the commit that is checked out, with a plus behind it if files differ from it."""

    def git(*asked: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *asked], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "") or "unknown"
