"""A claim of a paper beside what was found here; its verdict follows from committed rows by the condition that it brings."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


def without_loss(lost: float) -> bool | None:
    """Judge a loss of accuracy in points: none is none; a tenth of a point is in part none."""
    return True if lost <= 0 else None if lost <= 0.1 else False


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a study."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_figure(figure: Figure) -> tuple[Path, ...]:
    """Return the file of a figure's rows."""
    return (figure.path(),)


def command(figure: Figure) -> str:
    """Return the command that makes a figure's rows."""
    return f"python notebooks/figures.py {figure.name}"
