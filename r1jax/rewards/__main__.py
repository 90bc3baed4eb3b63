"""Checks the completions of a file: `python -m r1jax.rewards FILE.jsonl [--workers N] [--allow-unsandboxed]`.

A line is a JSON object with kind, prompt, answer and completion; numbers and details where the kind needs them; and
perhaps expected, the outcome that it should have. Prints each disagreement with `expected`, then the share of each
outcome. Exits with 1 where there is a disagreement, a check that raised or one that killed its worker, and
with 2 where the file cannot be read or programs cannot be run.
"""

import argparse
import json
import pathlib
import sys

from r1jax.problems.problem import Problem
from r1jax.rewards import sandbox
from r1jax.rewards.checks import CHECKS, checks
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES, CannotCheck

Case = tuple[str, Problem, str | None]


def read(path: str) -> list[Case]:
  """file -> (completion, problem, expected outcome or None), ids being line numbers; ValueError names FILE:LINE."""
  cases = []
  for number, line in enumerate(pathlib.Path(path).read_bytes().split(b'\n'), 1):
    if not line.strip():
      continue
    try:
      cases.append(parse(number, json.loads(line)))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}:{number}: {error}') from error
  if not cases:
    raise ValueError(f'{path}: holds no completion; valid: one JSON object a line')
  return cases


def parse(number: int, record: object) -> Case:
  """One line's object; ValueError names the field at fault."""
  if not isinstance(record, dict):
    raise ValueError(f'not a JSON object: {record!r:.60}')
  for field in ('kind', 'prompt', 'answer', 'completion'):
    if not isinstance(record.get(field), str):
      raise ValueError(f'{field}={record.get(field)!r:.60} is not possible; valid: a text')
  for field, valid in (('kind', tuple(CHECKS)), ('expected', (None, *OUTCOMES))):
    if record.get(field) not in valid:
      raise ValueError(f'{field}={record.get(field)!r:.60} is unknown; valid: one of {valid}')
  numbers, details = record.get('numbers', []), record.get('details', {})
  if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
    raise ValueError(f'numbers={numbers!r:.60} is not possible; valid: a list such as [3, 5, 7]')
  if not isinstance(details, dict):
    raise ValueError(f'details={details!r:.60} is not possible; valid: a JSON object')
  problem = Problem(
    number, record['kind'], record['prompt'], record['answer'], tuple(numbers), details
  )
  return record['completion'], problem, record.get('expected')


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(prog='r1jax.rewards', description=__doc__.splitlines()[0])
  parser.add_argument('file', help='a .jsonl file')
  parser.add_argument('--workers', type=int, default=2, help='processes (default: 2)')
  parser.add_argument(
    '--allow-unsandboxed', action='store_true',
    help='run programs WITHOUT isolation, under resource limits alone, where no sandbox works',
  )  # fmt: skip
  args = parser.parse_args(argv)
  try:
    cases = read(args.file)
  except (OSError, ValueError) as error:
    print(error, file=sys.stderr)
    return 2
  allowed = args.allow_unsandboxed
  has_programs = any(problem.kind == 'code' for _, problem, _ in cases)
  if has_programs and (warning := sandbox.unsandboxed_warning(allowed)):
    print(warning, file=sys.stderr)
  with Pool(args.workers, checks=checks(allowed)) as pool:
    try:
      verdicts = pool.check([(completion, problem) for completion, problem, _ in cases])
    except CannotCheck as error:
      print(f'{args.file}: {error}', file=sys.stderr)
      return 2
  wrong = 0
  for (_, problem, expected), found in zip(cases, verdicts):
    if expected not in (None, found.outcome):
      wrong += 1
      print(
        f'{args.file}:{problem.id}: expected {expected}, got {found.outcome} for {found.answer!r} ({found.note})'
      )
  print(
    f'{len(cases)} completions, {sum(case[2] is not None for case in cases)} with an expected outcome, {wrong} differ'
  )
  print('  '.join(f'{outcome} {share:.1%}' for outcome, share in pool.rates().items()))
  for identity, reason in pool.quarantined:
    print(f'{args.file}:{identity}: quarantined, {reason}')
  if pool.errors:
    print(f'{pool.errors} checks raised, which is a bug')
  return int(bool(wrong or pool.errors or pool.quarantined))


if __name__ == '__main__':
  sys.exit(main())
