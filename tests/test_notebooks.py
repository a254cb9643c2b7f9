"""Notebooks run from top to bottom, and are committed with the pictures of such a run."""

from pathlib import Path

import nbformat
import pytest
from execute import executed

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def pictures(notebook):
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_small_and_draws_all_its_pictures(path):
    before = path.read_bytes()
    assert pictures(executed(path, quick=True)) == pictures(nbformat.read(path, nbformat.NO_CONVERT)) > 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_of_one_run_from_top_to_bottom(path):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert not any(str(FOLDER.parent) in str(output) for cell in cells for output in cell.outputs)
