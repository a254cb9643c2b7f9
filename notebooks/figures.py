"""Rows of the papers' figures and tables: ``python notebooks/figures.py NAME``, or without a name a list of them.

A run goes on from the rows that are there. ``--quick`` makes small ones, in another file; ``--data NAME`` takes other data
and ``--set KEY=VALUE`` changes a setting, which makes another file too. The committed rows are in ``notebooks/results``; the
notebooks draw them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from reproduce.catalog import FIGURES, PAGE, page
from reproduce.figure import RESULTS

from nettrim.errors import DataError

NETWORKS = Path(__file__).parent / "networks"


def main(given: Sequence[str] | None = None) -> None:
    """Make the rows of the figures that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--claims", action="store_true", help="write REPRODUCTION.md from the committed rows, and no rows")
    parser.add_argument("--quick", action="store_true", help="small rows, in seconds")
    parser.add_argument("--data", help="other data, such as mnist5k, which come with the package")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=JSON", help="another setting")
    parser.add_argument("--jobs", type=int, help="processes; by default two, and one for rows with seconds")
    parser.add_argument("--networks", type=Path, default=NETWORKS, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the rows")
    args = parser.parse_args(given)
    unknown = sorted(set(args.names) - set(FIGURES))
    if unknown:
        parser.error(f"no figure is called {unknown[0]!r}; there are {', '.join(FIGURES)}")
    if args.claims:
        PAGE.write_text(page(), encoding="utf-8")
        return
    if not args.names:
        for figure in FIGURES.values():
            unit = "minute " if figure.minutes == 1 else "minutes"
            print(f"{figure.name:20s} {figure.minutes:3d} {unit}  {figure.source}")
        return
    for name in args.names:
        figure = FIGURES[name]
        try:
            data = {} if args.data is None else {"data": args.data}
            settings = figure.frozen(quick=args.quick, **data | dict(map(setting, args.settings)))
        except ValueError as error:
            parser.error(str(error))
        try:
            print(figure.make(settings, folder=args.out, networks=args.networks, n_jobs=args.jobs or figure.jobs))
        except DataError as error:
            parser.error(str(error))


def setting(text: str) -> tuple[str, object]:
    """Return the name and the value of a setting.

    Raises
    ------
    ValueError
        If there is no value, or it is not JSON.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes KEY=JSON, such as seeds=[0,1]; got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f'--set {key}= takes JSON, such as 0.1, [0, 1] or "a"; got {value!r}') from error


if __name__ == "__main__":
    main()
