"""Problems from a JSONL file: one object a line with prompt, answer, kind, and perhaps numbers."""

import json
import pathlib

from r1jax.problems.problem import KINDS, Problem, ProblemsConfig, rational, take


def read(cfg: ProblemsConfig) -> list[Problem]:
  """config -> the problems of the file `source`; a problem's id is its line number, from 1.

  Blank lines are skipped and further fields ignored. Raises FileNotFoundError, or ValueError with
  `file:line` for a broken line: nothing is ever left out silently.
  """
  path = pathlib.Path(cfg.source)
  if not path.is_file():
    raise FileNotFoundError(
      f'source={cfg.source!r} is not a file; valid: a .jsonl file that exists'
    )
  problems = []
  for number, line in enumerate(path.read_bytes().removeprefix(b'\xef\xbb\xbf').split(b'\n'), 1):
    if not line.strip():
      continue
    try:
      problems.append(parse(number, line.decode()))
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
      raise ValueError(f'{path}:{number}: {error}') from error
  if not problems:
    raise ValueError(f'source={cfg.source!r} holds no problem; valid: one JSON object a line')
  return take(problems, cfg.count, cfg.seed)


def parse(number: int, line: str) -> Problem:
  """A line and its number -> Problem; ValueError names the field at fault."""
  record = json.loads(line)
  if not isinstance(record, dict):
    raise ValueError(f'not a JSON object: {line[:60]!r}')
  for field in ('prompt', 'answer', 'kind'):
    if field not in record:
      raise ValueError(f'{field!r} is missing; valid fields: prompt, answer, kind[, numbers]')
  prompt, answer, kind = record['prompt'], record['answer'], record['kind']
  if not isinstance(prompt, str) or not prompt.strip():
    raise ValueError(f'prompt={prompt!r} is not possible; valid: a text')
  if kind not in KINDS:
    raise ValueError(f'kind={kind!r} is unknown; valid: one of {KINDS}')
  if type(answer) is int:
    answer = str(answer)
  if not isinstance(answer, str):
    raise ValueError(f'answer={answer!r} is not possible; valid: a text or an integer')
  rational(answer)
  return Problem(number, kind, prompt, answer, _numbers(kind, record.get('numbers', [])))


def _numbers(kind: str, numbers: object) -> tuple[int, ...]:
  if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
    raise ValueError(f'numbers={numbers!r} is not possible; valid: a list such as [3, 5, 7]')
  if kind == 'countdown' and not numbers:
    raise ValueError('numbers is missing; valid for countdown: a list such as [3, 5, 7]')
  return tuple(numbers)
