"""Problems from files (.jsonl, .json, .parquet) and from the hub: what lies in them, row by row, and what is broken."""

import importlib
import json
import types
from collections.abc import Iterator
from pathlib import Path

from r1jax.problems import layouts
from r1jax.problems.problem import HUB, Problem, ProblemsConfig, take

Row = tuple[int, object]  # a number from 1, and the bytes of a line or a record
_SHOWN = 5  # broken lines that are named


class BrokenLine(ValueError):
  """A line that is no problem; the message begins with `file:line`."""


def read(cfg: ProblemsConfig) -> list[Problem]:
  """config -> the problems of the file `source`; a problem's id is the number of its line, item or row, from 1.

  Blank lines are skipped and further fields ignored. Raises FileNotFoundError, ValueError, or BrokenLine with the
  first broken line and the number of all; where cfg.broken is 'skip' they are printed and left out.
  """
  problems, broken, cause = [], [], None
  for number, row in rows(cfg.source):
    try:
      problems.append(layouts.parse(number, row, cfg.kind))
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
      cause = cause or error
      broken.append(f'{cfg.source}:{number}: {error}')
  total = len(problems) + len(broken)
  if broken and cfg.broken == 'fatal':
    more = f' (one of {len(broken)} broken lines of {total})' if len(broken) > 1 else ''
    raise BrokenLine(broken[0] + more) from cause
  if broken:
    listed = '\n  '.join(broken[:_SHOWN])
    print(f'{cfg.source}: {len(broken)} of {total} lines are broken and left out:\n  {listed}')
  if not problems:
    raise ValueError(f'source={cfg.source!r} holds no problem; valid: one JSON object a line')
  return take(problems, cfg.count, cfg.seed)


def rows(source: str) -> Iterator[Row]:
  """A file or a name on the hub -> its rows, one at a time. Raises FileNotFoundError or ValueError."""
  if HUB.fullmatch(source):
    yield from enumerate(_hub(source), 1)
    return
  path = Path(source)
  if not path.is_file():
    raise FileNotFoundError(
      f'source={source!r} is not a file; valid: a {path.suffix or ".jsonl"} file that exists'
    )
  yield from {'.json': _items, '.parquet': _table}.get(path.suffix, _lines)(path)


def _lines(path: Path) -> Iterator[Row]:
  with path.open('rb') as file:
    for number, line in enumerate(file, 1):
      line = line.removeprefix(b'\xef\xbb\xbf') if number == 1 else line
      if line.strip():
        yield number, line


def _items(path: Path) -> Iterator[Row]:
  try:
    items = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: {error}') from error
  if not isinstance(items, list):
    raise ValueError(f'{path}: is no JSON array; valid: [{{"prompt": ...}}, ...]')
  yield from enumerate(items, 1)


def _table(path: Path) -> Iterator[Row]:
  parquet = _optional('pyarrow.parquet', str(path))
  try:
    file = parquet.ParquetFile(path)
  except (ValueError, OSError) as error:  # pyarrow's errors are of these kinds
    raise ValueError(f'{path}: {error}') from error
  records = (record for batch in file.iter_batches() for record in batch.to_pylist())
  yield from enumerate(records, 1)


def _hub(source: str) -> Iterator[dict]:
  """'hub:owner/name[/config]:split' -> its records; from the network or datasets' cache."""
  datasets = _optional('datasets', source)
  _, name, split = source.split(':', 2)  # a split may be 'train[:100]'
  owner, name, *config = name.split('/')
  return iter(datasets.load_dataset(f'{owner}/{name}', *config, split=split))


def _optional(module: str, source: str) -> types.ModuleType:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    package = module.partition('.')[0]
    raise ValueError(
      f"source={source!r} needs {package}; valid: pip install 'r1jax[datasets]', or a .jsonl file"
    ) from error
