"""Completions on disk: a JSONL file a benchmark and variant, a line a sample, the samples of a problem together."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FOLDER = 'generations'
# Of a prompt that ends in one: the question stands further in front, whatever it holds.
OPENED = re.compile(r'<think>\s*\Z')


@dataclasses.dataclass(frozen=True)
class Generation:
  """id: of the problem. sample: 0 to k - 1. tokens: of the completion, with EOS. truncated: no end came."""

  id: int
  sample: int
  prompt: str
  completion: str
  tokens: int
  truncated: bool

  @property
  def response(self) -> str:
    """What is judged: the completion, behind the thought that the prompt may have opened for it."""
    begun = OPENED.search(self.prompt)
    return (begun[0] if begun else '') + self.completion


FIELDS = {field.name: field.type for field in dataclasses.fields(Generation)}


def file_of(folder: Path, benchmark: str, variant: str) -> Path:
  return folder / FOLDER / f'{benchmark}.{variant}.jsonl'


def saved(folder: Path) -> list[tuple[str, str]]:
  """(benchmark, variant) of every file, in the order of their names. FileNotFoundError: none."""
  found = sorted((folder / FOLDER).glob('*.*.jsonl'))
  if not found:
    raise FileNotFoundError(
      f'{folder / FOLDER} has no generations; valid: the folder of a finished evaluation'
    )
  return [tuple(path.stem.rsplit('.', 1)) for path in found]


def read(path: Path) -> list[list[Generation]]:
  """File -> the k generations of each problem. Raises ValueError with `file:line`."""
  groups: dict[int, list[Generation]] = {}
  for number, line in enumerate(path.read_bytes().removesuffix(b'\n').split(b'\n'), 1):
    try:
      generation = parse(line)
    except ValueError as error:
      raise ValueError(f'{path}:{number}: {error}') from error
    group = groups.setdefault(generation.id, [])
    if generation.sample != len(group):
      raise ValueError(f'{path}:{number}: sample={generation.sample}; valid: {len(group)}')
    group.append(generation)
  sizes = {len(group) for group in groups.values()}
  if len(sizes) > 1:
    raise ValueError(f'{path}: problems have {sorted(sizes)} samples; valid: as many of each')
  return list(groups.values())


def parse(line: bytes) -> Generation:
  """A line -> what it holds. Raises ValueError."""
  row = json.loads(line)
  if not isinstance(row, dict) or {k: type(v) for k, v in row.items()} != FIELDS:
    valid = ', '.join(f'{name} ({kind.__name__})' for name, kind in FIELDS.items())
    raise ValueError(f'{line[:60]!r} is no generation; valid: an object with {valid}')
  return Generation(**row)


def whole(
  path: Path,
  ids: Sequence[int],
  samples: int,
  at_once: int,
  place: Callable[[bytes], tuple[int, int]],
) -> list[bytes]:
  """A file that may have been cut off -> the lines of the problems that are whole; ids: of all problems, in order.

  Problems are kept `at_once` at a time, as they were sampled: what is sampled anew then has the same company, so that
  its numbers are rounded in the same way and the file becomes that of a run that was never killed. place: a line ->
  the problem's id and the sample's number. Raises ValueError.
  """
  lines = path.read_bytes().split(b'\n')[:-1] if path.is_file() else []
  count = min(len(lines) // samples, len(ids))
  count = count if count == len(ids) else count // at_once * at_once
  expected = [(id_, sample) for id_ in ids[:count] for sample in range(samples)]
  if [place(line) for line in lines[: count * samples]] != expected:
    raise ValueError(
      f'{path} holds other problems or samples than the config asks for; valid: its own workdir'
    )
  return lines[: count * samples]


def place_of(line: bytes) -> tuple[int, int]:
  """Of a generation. Raises ValueError."""
  generation = parse(line)
  return generation.id, generation.sample


def write(path: Path, lines: Sequence[bytes]) -> None:
  """Begins a file anew with these lines."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  temporary.write_bytes(b''.join(line + b'\n' for line in lines))
  os.replace(temporary, path)


def append(path: Path, generations: Sequence[Generation]) -> None:
  """On disk when this returns."""
  append_rows(path, [vars(g) for g in generations])


def append_rows(path: Path, rows: Sequence[Mapping]) -> None:
  """Objects, a line each; on disk when this returns."""
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  with path.open('a', encoding='utf-8') as file:
    file.write(''.join(lines))
    file.flush()
    os.fsync(file.fileno())
