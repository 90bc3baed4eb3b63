"""Rows of the public files of benchmarks -> problems. A row's problem has the number of its line as its id.

Beside what a data set is published with, a row of Codeforces or LiveCodeBench may have `tolerance`: by how much the
numbers of an output may differ from those that are expected.
"""

import base64
import binascii
import csv
import dataclasses
import datetime
import io
import json
import pickle
import random
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from r1jax.problems import files
from r1jax.problems.problem import Problem

LETTERS = 'ABCDEFGHIJ'
# LiveCodeBench is scored on the contests of these days (DeepSeek-R1 v2, D.1).
WINDOW = (datetime.date(2024, 8, 1), datetime.date(2025, 1, 31))


def rows(path: Path) -> Iterator[tuple[int, dict | ValueError]]:
  """A .csv, .jsonl or .parquet file -> (line or row, from 1, row), or what is wrong with the line. Blank lines are
  skipped. ValueError for a table that cannot be read.
  """
  if path.suffix == '.parquet':
    yield from files.rows(str(path))
    return
  text = path.read_text(encoding='utf-8-sig')
  yield from _csv(text) if path.suffix == '.csv' else _jsonl(text)


def _jsonl(text: str) -> Iterator[tuple[int, dict | ValueError]]:
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as error:
      row = ValueError(f'not JSON: {error}')
    yield number, row if isinstance(row, dict | ValueError) else ValueError('not a JSON object')


def _csv(text: str) -> Iterator[tuple[int, dict | ValueError]]:
  """The line of a row is the one that it begins in."""
  reader = csv.DictReader(io.StringIO(text, newline=''))
  begin = 2
  for row in reader:
    if None in row or None in row.values():
      row = ValueError(f'not the {len(reader.fieldnames)} columns of the header')
    yield begin, row
    begin = reader.line_num + 1


def maths(number: int, row: Mapping) -> Problem:
  """AIME 2024, AIME 2025 and MATH-500 as they are on the Hub."""
  return Problem(number, 'math', _text(row, 'problem', 'question'), _text(row, 'answer'))


def gpqa(number: int, row: Mapping) -> Problem:
  """The right option stands first in the file: the options are shuffled, for each line in the same way every time."""
  names = ('Correct Answer', *(f'Incorrect Answer {i}' for i in (1, 2, 3)))
  options = [_text(row, name).strip() for name in names]
  order = random.Random(number).sample(range(4), 4)
  shuffled = [options[i] for i in order]
  return _choice(number, _text(row, 'Question').strip(), shuffled, LETTERS[order.index(0)])


def mmlu(number: int, row: Mapping) -> Problem:
  """A column an option and a letter, or, as on the Hub, `choices` and the place of the right one, from 0."""
  if 'choices' not in row:
    options = [_text(row, letter) for letter in 'ABCD']
    return _choice(number, _text(row, 'Question'), options, _text(row, 'Answer').strip())
  options, place = _list(row, 'choices', str), row.get('answer')
  if type(place) is not int or not 0 <= place < len(options):
    raise ValueError(f'answer={place!r} is not possible; valid: 0 to {len(options) - 1}')
  return _choice(number, _text(row, 'question'), options, LETTERS[place])


def mmlu_pro(number: int, row: Mapping) -> Problem:
  options = _list(row, 'options', str)
  problem = _choice(number, _text(row, 'question'), options, _text(row, 'answer').strip())
  return dataclasses.replace(
    problem, details=problem.details | {'category': _text(row, 'category')}
  )


def _choice(number: int, question: str, options: list[str], answer: str) -> Problem:
  letters = LETTERS[: len(options)]
  if answer not in tuple(letters):
    raise ValueError(f'answer={answer!r} is not possible; valid: one of {letters}')
  return Problem(number, 'choice', question, answer, details={'choices': options})


def live_code_bench(number: int, row: Mapping) -> Problem | None:
  """None for a contest outside of the window."""
  day = datetime.date.fromisoformat(_text(row, 'contest_date')[:10])
  if not WINDOW[0] <= day <= WINDOW[1]:
    return None
  tests = [
    test for field in ('public_test_cases', 'private_test_cases') for test in _hidden(row, field)
  ]
  metadata = json.loads(_text(row, 'metadata'))
  starter = row.get('starter_code') or ''
  details = {'tests': tests, 'metadata': metadata, 'starter_code': starter} | _given(
    row, 'tolerance'
  )
  return Problem(number, 'code', _text(row, 'question_content'), '', details=details)


class _PlainUnpickler(pickle.Unpickler):
  """Numbers, texts and their containers: a pickle that names a class or a function could run anything."""

  def find_class(self, module, name):
    raise ValueError(f'holds a pickled {module}.{name}; valid: a pickled text')


def _hidden(row: Mapping, field: str) -> list:
  """Tests as JSON, or as that JSON pickled, compressed and in base64, which is how the file hides them."""
  text = _text(row, field)
  if text.lstrip().startswith('['):
    return json.loads(text)
  try:
    packed = zlib.decompress(base64.b64decode(text, validate=True))
    return json.loads(_PlainUnpickler(io.BytesIO(packed)).load())
  except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, TypeError) as error:
    raise ValueError(f'{field}={text[:40]!r} cannot be read: {error}') from error


def codeforces(number: int, row: Mapping) -> Problem:
  """Outputs are compared: what a problem with several right outputs needs, its checker, is not run. A problem whose
  official tests are not published is tested on its examples, and marked: details['examples_only'].
  """
  parts = [_text(row, 'title'), _text(row, 'description')]
  for field, title in (('input_format', 'Input'), ('output_format', 'Output'), ('note', 'Note')):
    parts += [f'{title}\n{row[field]}'] if row.get(field) else []
  examples = row.get('examples') or []
  for example in examples:
    parts.append(f'Example input\n{example["input"]}\nExample output\n{example["output"]}')
  hidden = _list(row, 'official_tests', dict) if row.get('official_tests') or not examples else []
  details = {'tests': [*examples, *hidden]} | ({} if hidden else {'examples_only': True})
  details |= _given(row, 'time_limit', 'memory_limit', 'tolerance')
  details |= {'contest': _text(row, 'contest_id'), 'index': _text(row, 'index')}
  return Problem(number, 'code', '\n\n'.join(parts), '', details=details)


def ifeval(number: int, row: Mapping) -> Problem:
  """Parameters that are null belong to other instructions."""
  names, kwargs = _list(row, 'instruction_id_list', str), _list(row, 'kwargs', dict)
  if len(names) != len(kwargs):
    raise ValueError(f'{len(names)} instructions have {len(kwargs)} kwargs; valid: as many')
  instructions = [
    {'id': name, 'kwargs': {k: v for k, v in given.items() if v is not None}}
    for name, given in zip(names, kwargs, strict=True)
  ]
  details = {'instructions': instructions}
  return Problem(number, 'instructions', _text(row, 'prompt'), '', details=details)


def _text(row: Mapping, *names: str) -> str:
  """The first of these fields that is there, in upper or lower case. Numbers are taken as texts."""
  fields = {key.lower(): value for key, value in row.items()}
  found = next((fields[name.lower()] for name in names if name.lower() in fields), None)
  if type(found) is int:
    return str(found)
  if not isinstance(found, str) or not found.strip():
    raise ValueError(f'{names[0]}={found!r} is not possible; valid: a text')
  return found


def _given(row: Mapping, *names: str) -> dict:
  """These fields, as far as they are there."""
  return {name: row[name] for name in names if row.get(name)}


def _list(row: Mapping, name: str, of: type) -> list:
  found = row.get(name)
  if not isinstance(found, list) or not found or not all(isinstance(x, of) for x in found):
    raise ValueError(f'{name}={str(found)[:60]!r} is not possible; valid: a list of {of.__name__}')
  return found
