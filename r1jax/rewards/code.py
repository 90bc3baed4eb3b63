"""Does a program pass all of its tests? They run in a sandbox, one test in each.

A program gets the input of one test. What is expected of it stays in this process and is compared here, so that no
program can read it, and no object of the program's is asked whether it is equal.
"""

import dataclasses
import functools
import json
import math
import pathlib
import re
import secrets
import textwrap
import time

from r1jax.problems.problem import Problem
from r1jax.rewards import format, sandbox
from r1jax.rewards.code_tests import Case, limits_of, tests_of, total_seconds
from r1jax.rewards.verdict import BAD_GOLD, RIGHT, TIMEOUT, UNPARSEABLE, WRONG, Verdict

# Indent, fence, what is said of the block. No pattern here takes more than linear time.
_FENCE = re.compile(r'([ \t]*)(?:<answer>[ \t]*)?(`{3,}|~{3,})(.*)')
# The language of 'python', 'Python title="x"', '{.python .numberLines}'.
_LANGUAGE = re.compile(r'[\s{.]*([\w+#-]*)')
_LANGUAGES = ('python', 'python3', 'py', 'py3', 'pypy', 'pypy3')
_NUMBER = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?', re.ASCII | re.IGNORECASE)
_EXCERPT = 80


@dataclasses.dataclass(frozen=True)
class Failure:
  """Why a test was not passed, and whether that was for want of time."""

  note: str
  timeout: bool = False


def check(completion: str, problem: Problem, allow_unsandboxed: bool = False) -> Verdict:
  """completion -> right where its program passes every test of problem.details['tests'] (see code_tests).

  All tests are run. Credit is all or nothing, or the share passed where details['partial_credit'] is true; the first
  test that fails makes it wrong or a timeout. Raises sandbox.SandboxError where programs cannot be run safely.
  """
  begin = time.monotonic()
  try:
    cases, limits = tests_of(problem.details), limits_of(problem.details)
    deadline = begin + total_seconds(problem.details)
  except ValueError as error:
    return Verdict(BAD_GOLD, note=str(error))
  program = program_of(completion)
  if program is None:
    return Verdict(UNPARSEABLE, note='no closed ```python block and no <answer>')
  attempt = functools.partial(_attempt, program, allow_unsandboxed=allow_unsandboxed)
  failures = [attempt(case, _within(limits, deadline)) for case in cases]
  seconds = time.monotonic() - begin
  first = next((number for number, failure in enumerate(failures) if failure), None)
  if first is None:
    return Verdict(RIGHT, program, 1.0, f'passes {len(cases)} of {len(cases)} tests', seconds)
  passed = failures.count(None)
  note = f'passes {passed} of {len(cases)} tests; test {first}: {failures[first].note}'
  credit = passed / len(cases) if problem.details.get('partial_credit') is True else 0.0
  return Verdict(TIMEOUT if failures[first].timeout else WRONG, program, credit, note, seconds)


def program_of(completion: str) -> str | None:
  """completion -> its program: of what follows the last </think>, the last closed ```python block, else the last one
  without a language, else the answer; None without any.
  """
  text = format.after_thought(completion)
  blocks = _blocks(text)
  ours = [body for language, body in blocks if language in _LANGUAGES]
  plain = [body for language, body in blocks if not language]
  return (ours or plain or [_plain_answer(text)])[-1] or None


def _plain_answer(text: str) -> str | None:
  """text -> the answer that is no block: as it stands, or what stands in it between back-ticks."""
  answer = format.answer(text)
  if not answer or not (answer.startswith('`') and answer.endswith('`')):
    return answer
  program = answer.strip('`').strip()
  language, _, rest = program.partition(' ')
  return rest.strip() if language.lower() in _LANGUAGES else program


def _blocks(text: str) -> list[tuple[str, str]]:
  """text -> (language in lower case, body) of every closed fenced block, by CommonMark's rules: a fence of back-ticks
  or tildes ends at one of the same kind that is as long; the body loses the indent of its fence.
  """
  blocks, opened, body = [], None, []
  for line in text.replace('\r\n', '\n').split('\n'):
    fence = _fence(line)
    if opened is None:
      opened, body = fence, []
    elif fence and fence[2].startswith(opened[2]) and not fence[3].strip():
      language = _LANGUAGE.match(opened[3])[1].lower()
      blocks.append((language, _dedented(body, len(opened[1]))))
      opened = None
    else:
      body.append(line)
  return blocks


def _fence(line: str) -> re.Match | None:
  """A line that begins a block or ends one. The tags of the answer may stand on it."""
  fence = _FENCE.fullmatch(line.rstrip().removesuffix('</answer>'))
  return None if fence and fence[2][0] == '`' and '`' in fence[3] else fence


def _dedented(lines: list[str], indent: int) -> str:
  """Without up to `indent` characters of white space ahead of each line, and what is indented still as a whole."""
  spaces = [len(line) - len(line.lstrip(' \t')) for line in lines]
  text = '\n'.join(line[min(indent, n) :] for line, n in zip(lines, spaces, strict=True))
  return textwrap.dedent(text) if text.lstrip('\n').startswith((' ', '\t')) else text


def _within(limits: sandbox.Limits, deadline: float) -> sandbox.Limits:
  return dataclasses.replace(limits, seconds=min(limits.seconds, deadline - time.monotonic()))


def _attempt(
  program: str, case: Case, limits: sandbox.Limits, allow_unsandboxed: bool
) -> Failure | None:
  """None where the program passes."""
  if limits.seconds <= 0:
    return Failure('not run, since the tests before it used up the total time', timeout=True)
  token = secrets.token_hex(16)
  limits = dataclasses.replace(limits, output_bytes=_room(case, limits.output_bytes))
  try:
    result = sandbox.run(
      program, _stdin(case, token), limits, _driver(case), allow_unsandboxed=allow_unsandboxed
    )
  except ValueError as error:
    return Failure(str(error))
  if result.end == sandbox.TIMEOUT:
    return Failure(f'stopped after {limits.seconds:.3g} s', timeout=True)
  if result.end == sandbox.OUTPUT:
    return Failure(f'wrote more than {limits.output_bytes} bytes')
  if result.status != 0:
    return Failure(f'exit status {result.status}: {_excerpt(_last_line(result.stderr))}')
  return (
    _compare_value(result.stdout, token, case)
    if case.function
    else _compare_text(result.stdout, case)
  )


def _room(case: Case, least: int) -> int:
  """Bytes that a program may write: twice what is expected, and more where a number may have other digits."""
  texts = map(json.dumps, case.expected) if case.function else case.expected
  longest = max(len(text.encode(errors='replace')) for text in texts)
  return max(least, (8 if case.tolerance else 2) * longest)


def _stdin(case: Case, token: str) -> bytes:
  if not case.function:
    return case.input.encode(errors='replace')
  request = {'token': token, 'function': case.function, 'arguments': case.input}
  return json.dumps(request).encode()


def _driver(case: Case) -> str:
  return _call_driver() if case.function else sandbox.MAIN


@functools.cache
def _call_driver() -> str:
  return pathlib.Path(__file__).with_name('sandbox_call.py').read_text(encoding='utf8')


def _last_line(stderr: bytes) -> str:
  return stderr.decode(errors='replace').strip().split('\n')[-1]


def _excerpt(text: str) -> str:
  return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + '...')


def _compare_text(stdout: bytes, case: Case) -> Failure | None:
  lines, expected = _lines(stdout.decode(errors='replace')), _lines(case.expected[0])
  for number, (line, wanted) in enumerate(zip(lines, expected, strict=False), 1):
    if not _same_line(line, wanted, case.tolerance):
      return Failure(f'line {number} is {_excerpt(line)}, not {_excerpt(wanted)}')
  if len(lines) != len(expected):
    return Failure(f'{len(lines)} lines, not {len(expected)}')
  return None


def _lines(text: str) -> list[str]:
  return [line.rstrip() for line in text.rstrip().split('\n')]


def _same_line(line: str, wanted: str, tolerance: float) -> bool:
  if line == wanted or not tolerance:
    return line == wanted
  words, others = line.split(), wanted.split()
  pairs = zip(words, others, strict=False)
  return len(words) == len(others) and all(_same_word(a, b, tolerance) for a, b in pairs)


def _same_word(word: str, wanted: str, tolerance: float) -> bool:
  if word == wanted or not (_NUMBER.fullmatch(word) and _NUMBER.fullmatch(wanted)):
    return word == wanted
  value, expected = float(word), float(wanted)
  return math.isfinite(expected) and _close(value, expected, tolerance)


def _compare_value(stdout: bytes, token: str, case: Case) -> Failure | None:
  text = stdout.decode(errors='replace')
  if not text.startswith(token):
    return Failure(f'{case.function} sent no value back')
  try:
    value = json.loads(text[len(token) :])
    same = any(same_value(value, expected, case.tolerance) for expected in case.expected)
  except (ValueError, RecursionError) as error:
    return Failure(f'{case.function} returned what cannot be read: {_excerpt(str(error))}')
  if same:
    return None
  wanted = json.dumps(case.expected[0])
  return Failure(f'{case.function} returned {_excerpt(text[len(token) :])}, not {_excerpt(wanted)}')


def same_value(value: object, expected: object, tolerance: float = 0.0) -> bool:
  """Are two JSON values the same? 2 is 2.0, as in JSON, and true is not 1."""
  if isinstance(expected, list) and isinstance(value, list):
    pairs = zip(value, expected, strict=False)
    return len(value) == len(expected) and all(same_value(a, b, tolerance) for a, b in pairs)
  if isinstance(expected, dict) and isinstance(value, dict):
    return value.keys() == expected.keys() and all(
      same_value(value[key], expected[key], tolerance) for key in expected
    )
  if isinstance(expected, bool) or isinstance(value, bool):
    return value is expected
  if isinstance(expected, int | float) and isinstance(value, int | float):
    return _close(value, expected, tolerance)
  return type(value) is type(expected) and value == expected


def _close(value: float, expected: float, tolerance: float) -> bool:
  """Equal, or finite and within the tolerance, relative where the value expected is above 1."""
  if value == expected or not tolerance:
    return value == expected
  try:
    return math.isfinite(value) and abs(value - expected) <= tolerance * max(1.0, abs(expected))
  except OverflowError:
    return False
