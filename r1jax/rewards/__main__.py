"""Checks the completions of a file: `python -m r1jax.rewards FILE [--workers N] [--allow-unsandboxed]`.

FILE is .jsonl, .json or .parquet, one problem an object, in any layout that r1jax/problems/layouts.py knows, with its
completion; and perhaps expected, the outcome that it should have. Of a problem without a completion only the reference
is judged, so that a file of problems can be looked through. Named with file and line are: disagreements with
`expected`; references that cannot be read (bad_gold) and checks that ran out of time, unless that was expected; and
checks that raised, or killed their workers. Then comes the share of each outcome. Exits with 1 where there is a
disagreement, a check that raised or one that killed its worker, and with 2 where the file cannot be read or programs
cannot be run.
"""

import argparse
import sys

from r1jax.problems import files, layouts
from r1jax.problems.problem import Problem
from r1jax.rewards import sandbox
from r1jax.rewards.checks import CHECKS, checks
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import BAD_GOLD, OUTCOMES, TIMEOUT, CannotCheck, Verdict

Case = tuple[str, Problem, str | None]


def read(path: str) -> list[Case]:
  """file -> (completion, problem, expected outcome or None), ids being line numbers; ValueError names FILE:LINE."""
  cases = []
  for number, row in files.rows(path):
    try:
      cases.append(parse(number, row))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}:{number}: {error}') from error
  if not cases:
    raise ValueError(f'{path}: holds no completion; valid: one JSON object a line')
  return cases


def parse(number: int, row: object) -> Case:
  """One row, bytes or a record; ValueError names the field at fault."""
  record = layouts.record_of(row)
  completion, expected = record.get('completion', ''), record.get('expected')
  if not isinstance(completion, str):
    raise ValueError(f'completion={completion!r:.60} is not possible; valid: a text')
  if expected not in (None, *OUTCOMES):
    raise ValueError(f'expected={expected!r:.60} is unknown; valid: one of {OUTCOMES}')
  try:
    problem = layouts.parse(number, record)
  except ValueError:
    # What a reader of problems refuses, though it has all fields, is for the check to call bad_gold.
    problem = _as_it_stands(number, record)
    if problem is None:
      raise
  if problem.kind not in CHECKS:
    raise ValueError(f'kind={problem.kind!r} has no check; valid: one of {tuple(CHECKS)}')
  return completion, problem, expected


def _as_it_stands(number: int, record: dict) -> Problem | None:
  """A record with the fields of a Problem, none of them read; None where it is another one."""
  numbers, details = record.get('numbers', []), record.get('details', {})
  fits = (
    all(isinstance(record.get(field), str) for field in ('kind', 'prompt', 'answer'))
    and record['kind'] in CHECKS
    and isinstance(numbers, list)
    and all(type(n) is int for n in numbers)
    and isinstance(details, dict)
  )
  if not fits:
    return None
  kind, prompt, answer = (record[field] for field in ('kind', 'prompt', 'answer'))
  return Problem(number, kind, prompt, answer, tuple(numbers), details)


def named(path: str, case: Case, found: Verdict, killed: bool) -> str | None:
  """A line for what should be looked at. killed: whether it has killed its workers."""
  _, problem, expected = case
  if expected not in (None, found.outcome):
    said = f'expected {expected}, got {found.outcome}'
  elif found.failed or killed or (expected is None and found.outcome in (BAD_GOLD, TIMEOUT)):
    said = found.outcome
  else:
    return None
  return f'{path}:{problem.id}: {said} for {found.answer!r} ({found.note})'


def main(argv: list[str] | None = None) -> int:
  args = _arguments(argv)
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
  killers = {identity for identity, _ in pool.quarantined}
  for case, found in zip(cases, verdicts):
    if line := named(args.file, case, found, case[1].id in killers):
      print(line)
  asked = [(case[2], found.outcome) for case, found in zip(cases, verdicts) if case[2]]
  wrong = sum(expected != outcome for expected, outcome in asked)
  print(f'{len(cases)} completions, {len(asked)} with an expected outcome, {wrong} differ')
  print('  '.join(f'{outcome} {share:.1%}' for outcome, share in pool.rates().items()))
  if pool.errors:
    print(f'{pool.errors} checks raised, which is a bug')
  return int(bool(wrong or pool.errors or pool.quarantined))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog='r1jax.rewards', description=__doc__.splitlines()[0])
  parser.add_argument('file', help='a .jsonl, .json or .parquet file')
  parser.add_argument('--workers', type=int, default=2, help='processes (default: 2)')
  parser.add_argument(
    '--allow-unsandboxed', action='store_true',
    help='run programs WITHOUT isolation, under resource limits alone, where no sandbox works',
  )  # fmt: skip
  args = parser.parse_args(argv)
  if args.workers < 1:
    parser.error(f'--workers={args.workers} is not possible; valid: at least 1')
  return args


if __name__ == '__main__':
  sys.exit(main())
