"""Run notebooks from top to bottom and keep their pictures in them: ``python notebooks/execute.py [NAME.ipynb ...]``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def executed(path: Path, *, quick: bool = False) -> nbformat.NotebookNode:
    """Return a notebook as it is after a run; an error in a cell is raised.

    Parameters
    ----------
    path : pathlib.Path
        The notebook, left unchanged.
    quick : bool, optional
        Whether cells that compute do so in small (they look at ``NETTRIM_QUICK``).
    """
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    environment = os.environ | {"NETTRIM_QUICK": "1" if quick else "0"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}, record_timing=False)
    return client.execute(env=environment)


def main(given: Sequence[str] | None = None) -> None:
    """Run the notebooks that are named, or all, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    for path in parser.parse_args(given).notebooks:
        nbformat.write(executed(path), path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
