"""The tests of a programming problem, from the layouts in which data sets keep them, to one.

    [{"input": "1 2\\n", "output": "3\\n"}, ...]                       stdin and stdout (Codeforces and others)
    {"inputs": [...], "outputs": [...], "fn_name": "add"}             APPS; without fn_name, stdin and stdout
    [{"input": "1\\n2", "output": "3", "testtype": "functional"}]      LiveCodeBench; one JSON value a line

Beside "tests", details may hold metadata (LiveCodeBench: {"func_name"}), fn_name, time_limit (seconds of one test),
memory_limit (MB; no more than the worker itself may have), total_limit (seconds of all tests: 60 without one, up to
600; the pool's budget follows it), tolerance (of numbers) and partial_credit.
"""

import dataclasses
import json
import math

from r1jax.rewards.sandbox import Limits

SECONDS, MEMORY_MB, TOTAL_SECONDS = 4.0, 512, 60.0
INTERPRETER_MB = 64  # on top of a memory limit, which was set for the program alone
MAX_SECONDS, MAX_MEMORY_MB = 600.0, 65536


@dataclasses.dataclass(frozen=True)
class Case:
  """One test. input: the text of stdin; of a call, its arguments. expected: outputs of which any will do. function:
  what is called, '' for a whole program. tolerance: by which numbers may differ, 0 for none.
  """

  input: str | list
  expected: tuple
  function: str = ''
  tolerance: float = 0.0


def tests_of(details: dict) -> list[Case]:
  """details -> its tests; ValueError for a layout that is none of the above, and for tests that test nothing."""
  tests = _json('tests', details.get('tests'))
  rows = _transposed(tests) if isinstance(tests, dict) else tests
  if not isinstance(rows, list) or not rows:
    raise ValueError(
      f"tests={str(rows)[:80]!r} holds no test; valid: [{{'input': '1\\n', 'output': '1\\n'}}]"
    )
  tolerance = _number(details, 'tolerance', 0.0, 1.0) if 'tolerance' in details else 0.0
  cases = [_case(number, row, details, tolerance) for number, row in enumerate(rows)]
  if not any(case.function or case.expected[0].strip() for case in cases):
    raise ValueError('tests: every output is empty, so that any program would pass')
  return cases


def limits_of(details: dict) -> Limits:
  """details -> what one test may use; ValueError for impossible limits."""
  memory = _number(details, 'memory_limit', MEMORY_MB, MAX_MEMORY_MB)
  return Limits(
    seconds=_number(details, 'time_limit', SECONDS, MAX_SECONDS),
    memory_mb=math.ceil(memory) + INTERPRETER_MB,
  )


def total_seconds(details: dict) -> float:
  """details -> seconds that all tests together may take."""
  return _number(details, 'total_limit', TOTAL_SECONDS, MAX_SECONDS)


def _number(details: dict, key: str, default: float, maximum: float) -> float:
  value = details.get(key, default)
  if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= maximum:
    raise ValueError(
      f'{key}={value!r} is not possible; valid: a number above 0 and up to {maximum}'
    )
  return value


def _json(name: str, value: object) -> object:
  """A value, or the JSON text in which some data sets keep it."""
  if not isinstance(value, str):
    return value
  try:
    return json.loads(value)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{name}={value[:80]!r} is not JSON: {error}') from None


def _transposed(tests: dict) -> list[dict]:
  """APPS -> one row a test, its call's arguments and value as they stand."""
  inputs, outputs = tests.get('inputs'), tests.get('outputs')
  if not (isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs)):
    raise ValueError("tests: 'inputs' and 'outputs' must be lists of one length")
  name = {'apps_name': tests['fn_name']} if tests.get('fn_name') else {}
  return [{'input': i, 'output': o, **name} for i, o in zip(inputs, outputs, strict=True)]


def _case(number: int, row: object, details: dict, tolerance: float) -> Case:
  if not isinstance(row, dict) or not {'input', 'output'} <= row.keys():
    raise ValueError(f"tests[{number}]={str(row)[:80]!r} needs 'input' and 'output'")
  if 'apps_name' in row:
    return _apps_call(number, row, tolerance)
  if row.get('testtype', 'stdin') == 'functional':
    return _functional(number, row, details, tolerance)
  if row.get('testtype', 'stdin') != 'stdin':
    raise ValueError(
      f"tests[{number}].testtype={row['testtype']!r} is unknown; valid: 'stdin' or 'functional'"
    )
  texts = {key: _text(f'tests[{number}].{key}', row[key]) for key in ('input', 'output')}
  return Case(texts['input'], (texts['output'],), tolerance=tolerance)


def _apps_call(number: int, row: dict, tolerance: float) -> Case:
  """A value may stand in a list of its own: APPS has both, and does not say which."""
  if not isinstance(row['input'], list):
    raise ValueError(f'tests[{number}].input={str(row["input"])[:80]!r} is not a list of arguments')
  value = row['output']
  inner = (value[0],) if isinstance(value, list) and len(value) == 1 else ()
  return Case(row['input'], (value, *inner), row['apps_name'], tolerance)


def _functional(number: int, row: dict, details: dict, tolerance: float) -> Case:
  name = f'tests[{number}]'
  metadata = _json('metadata', row.get('metadata') or details.get('metadata') or {})
  sources = [source for source in (row, metadata, details) if isinstance(source, dict)]
  names = [source[key] for source in sources for key in ('fn_name', 'func_name') if source.get(key)]
  if not names:
    raise ValueError(f"{name} is functional, but metadata={metadata!r} has no 'func_name'")
  lines = _text(f'{name}.input', row['input']).split('\n')
  arguments = [_json(f'{name}.input', line) for line in lines if line.strip()]
  return Case(arguments, (_json(f'{name}.output', row['output']),), str(names[0]), tolerance)


def _text(name: str, value: object) -> str:
  """Text, or the list of its lines that some data sets keep."""
  if isinstance(value, list) and all(isinstance(line, str) for line in value):
    return '\n'.join(value)
  if not isinstance(value, str):
    raise ValueError(f"{name}={str(value)[:80]!r} is not text; valid: '1 2\\n'")
  return value
