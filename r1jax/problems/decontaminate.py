"""Takes out of training files what an evaluation asks: rows that share ten words in a row with one of its questions.

    python -m r1jax.problems.decontaminate --train TRAIN.jsonl --against AIME.jsonl BENCHMARKS/ --out CLEAN.jsonl

An evaluation file is one of problems, or has the name and the layout of a benchmark (r1jax/evaluation/benchmarks.py); a
folder stands for all of those that are in it.

The filter of DeepSeek-R1 (Supplementary D.1) over all the texts of a training row. Words are compared without case,
width and punctuation; each Han, kana and Hangul character is one. A question of fewer words is looked for as a whole
text. Wording that all rows share ('Put your answer in a box.') would match everywhere: files are best without it.
"""

import argparse
import collections
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from r1jax.evaluation import benchmarks
from r1jax.problems import files, layouts
from r1jax.problems.problem import HUB, SUFFIXES

T = TypeVar('T')
NGRAM = 10  # words
_WORD = re.compile(
  r'[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+'
)


def grams(text: str, size: int = NGRAM) -> set[str]:
  """A text -> its runs of `size` words; of one that is shorter, its only one: all of its words."""
  words = _WORD.findall(unicodedata.normalize('NFKC', text).casefold())
  count = max(len(words) - size + 1, 1)
  return {' '.join(words[i : i + size]) for i in range(count)} if words else set()


def evaluation_files(against: Iterable[str]) -> list[str]:
  """Files and folders -> files. ValueError for a folder without benchmarks."""
  found = []
  for place in map(Path, against):
    inside = benchmarks.there(place) if place.is_dir() else ()
    found += [str(benchmarks.named(n).path(place)) for n in inside] if inside else [str(place)]
  return found


def questions(source: str) -> Iterator[str]:
  """An evaluation file -> its questions in their own words. Raises FileNotFoundError, or ValueError at file:line."""
  path = Path(source)
  benchmark = benchmarks.BENCHMARKS.get(path.stem)
  if benchmark and path == benchmark.path(path.parent):
    yield from (problem.prompt for problem in benchmark.load(path.parent))
  else:
    yield from (question for _, question in _read(source, layouts.question_of))


def index(sources: Iterable[str], size: int = NGRAM) -> dict[str, set[str]]:
  """Evaluation files -> n-gram -> the files that ask it. Raises FileNotFoundError, or ValueError at file:line."""
  found = collections.defaultdict(set)
  for source in sources:
    for question in questions(source):
      for gram in grams(question, size):
        found[gram].add(source)
  return dict(found)


def touched(record: Mapping, index: Mapping[str, set[str]], size: int = NGRAM) -> set[str]:
  """A training row -> the evaluation files with which any text of it shares an n-gram."""
  shared = (index.get(gram, ()) for text in _texts(record) for gram in grams(text, size))
  return set().union(*shared)


def _texts(value: object) -> Iterator[str]:
  """All texts in a row, however deep."""
  if isinstance(value, str):
    yield value
  inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
  for part in inner:
    yield from _texts(part)


def _read(source: str, what: Callable[[dict], T]) -> Iterator[tuple[str, T]]:
  """A file -> ('file:line', what is read of the record) of each row."""
  for number, row in files.rows(source):
    try:
      yield f'{source}:{number}', what(layouts.record_of(row))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{source}:{number}: {error}') from error


def decontaminate(
  train: Iterable[str], against: Iterable[str], out: str, size: int = NGRAM
) -> tuple[dict[str, set[str]], int]:
  """Writes the clean rows of all training files to `out` (JSONL) -> {'file:line' of a removed row: the evaluation files
  that it touches}, number of rows. One row is in memory at a time, and `out` appears when it is whole.
  """
  known, removed, total = index(against, size), {}, 0
  with open(f'{out}.part', 'w', encoding='utf8') as file:
    for source in train:
      for place, record in _read(source, dict):
        total += 1
        found = touched(record, known, size)
        if found:
          removed[place] = found
        else:
          file.write(json.dumps(record, ensure_ascii=False) + '\n')
  os.replace(f'{out}.part', out)
  return removed, total


def check_files(args) -> None:
  """Raises ValueError for an argument that names no file, before any is read."""
  for name, sources in (('train', args.train), ('against', args.against)):
    for source in sources:
      folder = name == 'against' and Path(source).is_dir()
      if not folder and not HUB.fullmatch(source) and not Path(source).is_file():
        more = ', or a folder of benchmarks' if name == 'against' else ''
        raise ValueError(
          f'--{name}={source!r} is not a file; valid: one in {", ".join(SUFFIXES)}{more}'
        )
  if not Path(args.out).absolute().parent.is_dir():
    raise ValueError(f'--out={args.out!r} is in no folder; valid: a file in a folder that exists')


def main(argv: list[str] | None = None) -> int:
  """Prints how many rows touch each evaluation file, then the rows that were removed."""
  parser = argparse.ArgumentParser(prog='r1jax.problems.decontaminate', description=main.__doc__)
  parser.add_argument('--train', nargs='+', required=True, help='.jsonl, .json or .parquet files')
  parser.add_argument(
    '--against', nargs='+', required=True, help='evaluation files, or folders of benchmarks'
  )
  parser.add_argument('--out', required=True, help='the .jsonl file to write')
  parser.add_argument('--ngram', type=int, default=NGRAM, help=f'words in a row (default: {NGRAM})')
  args = parser.parse_args(argv)
  if args.ngram < 1:
    parser.error(f'--ngram={args.ngram} is not possible; valid: at least 1, such as {NGRAM}')
  try:
    check_files(args)
    against = evaluation_files(args.against)
    removed, total = decontaminate(args.train, against, args.out, args.ngram)
  except (OSError, ValueError) as error:
    print(error, file=sys.stderr)
    return 2
  for source in against:
    count = sum(source in found for found in removed.values())
    print(f'{source}: {count} of {total} rows share {args.ngram} words in a row')
  for place, found in removed.items():
    print(f'removed {place} ({", ".join(sorted(found))})')
  print(f'{args.out}: {total - len(removed)} rows, {len(removed)} removed')
  return 0


if __name__ == '__main__':
  sys.exit(main())
