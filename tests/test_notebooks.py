"""Every notebook runs from a fresh kernel, and is kept with the outputs of such a run."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
LIMIT = 1200  # seconds a cell; far above what any needs


def code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def test_there_are_notebooks():
  assert NOTEBOOKS


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_outputs(path):
  """Kept as one run from top to bottom left it, no cell skipped or run twice."""
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  cells = code_cells(notebook)
  assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
  for cell in cells:
    kinds = [output.output_type for output in cell.outputs]
    assert kinds and 'error' not in kinds, cell.source
    assert all(output.get('name') != 'stderr' for output in cell.outputs), cell.source


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_executes(path):
  """No cell raises; they hold asserts of their own. The kernel sees one device, as a user's does."""
  notebook = nbformat.read(path, as_version=4)
  for cell in code_cells(notebook):
    cell.outputs, cell.execution_count = [], None
  where = {'metadata': {'path': str(ROOT)}}
  NotebookClient(notebook, timeout=LIMIT, kernel_name='python3', resources=where).execute()
  assert all(cell.outputs for cell in code_cells(notebook))
