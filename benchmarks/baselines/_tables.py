"""Tables of what the studies found: each study makes them from its rows and prints them; README.md beside it holds them."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks import rows

Table = Sequence[Sequence[str]]
"""The head, and a row of cells a line."""
Rows = list[dict[str, str]]
PAGE = Path(__file__).with_name("README.md")
TITLES = {"lenet300": "LeNet-300-100", "plain": "LeNet-300-100, trained plainly", "lenet5": "LeNet-5"}
"""As the papers call them."""


def grouped(path: Path, *fields: str) -> dict[tuple[str, ...], Rows]:
    """Return the rows of a file by some of their fields, in the order of the file."""
    found = defaultdict(list)
    for row in rows.read(path):
        found[tuple(row[field] for field in fields)].append(row)
    return dict(found)


def numbers(cases: Iterable[Mapping[str, str]], field: str, factor: float = 1) -> list[float]:
    """Return what the rows have in a field, times a factor."""
    return [factor * float(case[field]) for case in cases]


def mean(values: Sequence[float], digits: int = 2) -> str:
    """Return a mean and, of more than one value, its standard error in parentheses."""
    error = f" ({statistics.stdev(values) / len(values) ** 0.5:,.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{error}"


def percent(cases: Iterable[Mapping[str, str]], field: str = "accuracy", digits: int = 2) -> str:
    """Return the mean of a fraction in percent, with its standard error; a dash where no row has it."""
    values = numbers([case for case in cases if case[field]], field, 100)
    return f"{mean(values, digits)} %" if values else "-"


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    head, *body = table
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))


def filled(tables: Mapping[str, Table]) -> dict[str, Table]:
    """Return the tables that have more than a head: of a study that was not run there are no rows."""
    return {title: table for title, table in tables.items() if len(table) > 1}


def show(tables: Mapping[str, Table]) -> None:
    """Print tables under their titles."""
    for title, table in filled(tables).items():
        print(f"\n### {title}\n\n{markdown(table)}", flush=True)


def put(text: str, tables: Mapping[str, Table]) -> str:
    """Return a page with the tables under their titles replaced.

    Raises
    ------
    ValueError
        If a title is not on the page, or has no table under it.
    """
    for title, table in filled(tables).items():
        found = re.compile(rf"(^### {re.escape(title)}\n(?:(?!#|\|).*\n)*)(?:\|.*\n)+", flags=re.MULTILINE)
        if not found.search(text):
            raise ValueError(f"the page has no table under {title!r}: write the heading, and a line that begins with |")
        made = markdown(table)
        text = found.sub(lambda match, made=made: f"{match[1]}{made}\n", text)
    return text
