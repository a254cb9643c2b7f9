"""Rows of a study in a CSV file that a rerun goes on from; every write leaves a whole file.

A file may open with comments, lines that begin with ``#``: how its rows were made.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def comments(path: Path) -> list[str]:
    """Return the comments that a file opens with, without their marks; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [line[1:].strip() for line in file if line.startswith("#")]


def append(path: Path, rows: Iterable[Mapping[str, Any]], *, told: Sequence[str] | None = None) -> None:
    """Add rows, all of the same fields, to a file or to a new one; an interrupted call adds none of them.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    rows : iterable of mapping
        Field to value; floats are written by ``shown``.
    told : sequence of str, optional
        Comments of a line each, in place of those that the file has.

    Raises
    ------
    ValueError
        If the fields are not those of the file.
    """
    before, rows = read(path), [{name: shown(value) for name, value in row.items()} for row in rows]
    every = before + rows
    if any(row.keys() != every[0].keys() for row in every):
        raise ValueError(f"rows of other fields than those in {path}: move the file away, or finish it with the old script")
    told = comments(path) if told is None else told
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {line}\n" for line in told)
        writer = csv.DictWriter(file, list(every[0]) if every else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(every)
    part.replace(path)


def done(path: Path, *fields: str) -> set[tuple[str, ...]]:
    """Return the values that these fields have together in some row, as text."""
    return {tuple(row[field] for field in fields) for row in read(path)}


def shown(value: Any) -> str:
    """Return a value as text: seven digits of a float, which is what a float32 has."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)
