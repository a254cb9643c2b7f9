"""Every study of the baselines, one after the other; each goes on from the rows that are there.

    python -m benchmarks.baselines --networks FOLDER

runs all, ``python -m benchmarks.baselines han lottery`` some. How many minutes each takes is said at the head of its file.
``--page`` runs none: it puts the tables of the committed rows into README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import benchmarks.baselines as studies
from benchmarks.baselines._tables import PAGE, Table, filled, put

RESULTS = Path("notebooks/results")


def names() -> list[str]:
    """Return the names of the studies, found by looking into the folder."""
    return sorted(info.name for info in pkgutil.iter_modules(studies.__path__) if not info.name.startswith("_"))


def tables(folder: Path) -> dict[str, Table]:
    """Return the tables of all studies by title, from the rows in a folder."""
    made: dict[str, Table] = {}
    for name in names():
        made |= importlib.import_module(f"benchmarks.baselines.{name}").tables(folder / f"baseline_{name}.csv")
    return filled(made)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())}; by default all")
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--page", action="store_true", help="only put the tables of the committed rows into the page")
    args = parser.parse_args(given)
    unknown = sorted(set(args.names) - set(names()))
    if unknown:
        parser.error(f"no study is called {unknown[0]!r}; there are {', '.join(names())}")
    if args.page:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), tables(RESULTS)), encoding="utf-8")
        return
    for name in args.names or names():
        print(f"--- {name}", flush=True)
        kept = [] if args.networks is None else ["--networks", str(args.networks)]
        importlib.import_module(f"benchmarks.baselines.{name}").main(kept)


if __name__ == "__main__":
    main()
