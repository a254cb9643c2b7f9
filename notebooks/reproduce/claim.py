"""A claim of a paper beside what was found here; its verdict follows from committed rows by the condition that it brings."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.baselines._tables import numbers
from reproduce.figure import RESULTS, Figure

OPEN = "open"


class Found(NamedTuple):
    """What was found: in words and numbers, and whether it is what the paper says (None: in part)."""

    text: str
    same: bool | None


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes
    ----------
    source, claim, published : str
        Where it stands, what it says, and its numbers.
    command : str
        What makes the rows.
    minutes : int
        On two cores.
    files : tuple of pathlib.Path
        The rows; while one is missing the claim is open.
    found : callable
        Computes from them what was found here.
    where : str
        The notebook or page that shows it.
    """

    source: str
    claim: str
    published: str
    command: str
    minutes: int
    files: tuple[Path, ...]
    found: Callable[[], Found]
    where: str = ""

    @classmethod
    def of(cls, figure: Figure, source: str, claim: str, published: str, found: Callable[[], Found], where: str) -> Claim:
        """Return the claim that a figure's rows decide."""
        return cls(source, claim, published, figure.command, figure.minutes, (figure.path(),), found, where)

    def cells(self) -> list[str]:
        """Return the row of the table."""
        made = all(path.exists() for path in self.files)
        found = self.found() if made else Found("", None)
        verdict = {True: "reproduced", False: "not reproduced", None: "in part"}[found.same] if made else OPEN
        return [
            self.source,
            self.claim,
            self.published,
            found.text,
            verdict,
            self.where,
            f"`{self.command}`",
            str(self.minutes),
        ]


def points(rows: Iterable[Mapping[str, str]], field: str) -> float:
    """Return the mean of a fraction in percent, without the last digits: means of the same sum are then the same."""
    return round(statistics.fmean(numbers(rows, field, 100)), 6)


def without_loss(lost: float) -> bool | None:
    """Judge a loss of accuracy in points: none is none; a tenth of a point is in part none."""
    lost = round(lost, 6)
    return True if lost <= 0 else None if lost <= 0.1 else False


def of_all(right: Iterable[bool]) -> bool | None:
    """Return the verdict on something that is claimed of several: in part, if it is so of some; of none it is not so."""
    seen = set(right)
    return None if len(seen) == 2 else seen == {True}


def worst(*verdicts: bool | None) -> bool | None:
    """Return the verdict on several things that are claimed together; in part, if all are so in part at least."""
    return False if False in verdicts else None if None in verdicts else True


def certified(rows: Iterable[Mapping[str, str]]) -> bool | None:
    """Judge trims by their certificates, in part at best where one is missing: a layer without one was kept as it was."""
    return True if all(row["solved"] in ("True", "") for row in rows) else None


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a study."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
