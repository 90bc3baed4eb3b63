"""How fast completions are checked, and how rightly.

    python -m r1jax.bench.verifiers tests/data/adversarial_*.jsonl

Files are as r1jax.rewards reads them, or hold what a completion earns beside its answer, one object a line: `part`
('format' or 'language'), `language` (which is wanted), `completion`, and `expected` (from 0 to 1). For each kind and
number of workers: checks a second through the pool, median and 99th percentile of one check. For maths also
math-verify, directly in one process on the same pairs, with its time-outs.
"""

import argparse
import collections
import json
import logging
import pathlib
import time

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards.__main__ import read
from r1jax.rewards.checks import CHECKS, Check
from r1jax.rewards.parts import parts
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import RIGHT, Verdict

Pair = tuple[str, Problem]
PARTS = ('format', 'language')
_CHECKS = CHECKS | {part: Check('r1jax.bench.verifiers', 1.0) for part in PARTS}
_EXACT = 1e-6  # what a share may differ by


def load(paths: list[str]) -> dict[str, list[tuple[Pair, float | None]]]:
  """files -> kind -> ((completion, problem), what it should earn if that is known). ValueError names FILE:LINE."""
  found = collections.defaultdict(list)
  for path in paths:
    if '"part"' in pathlib.Path(path).read_text('utf-8').partition('\n')[0]:
      for number, line in enumerate(pathlib.Path(path).read_text('utf-8').split('\n'), 1):
        if line.strip():
          pair, earned = _part(f'{path}:{number}', number, json.loads(line))
          found[pair[1].kind].append((pair, earned))
      continue
    for completion, problem, expected in read(path):
      earned = None if expected is None else float(expected == RIGHT)
      found[problem.kind].append(((completion, problem), earned))
  return found


def _part(where: str, number: int, record: dict) -> tuple[Pair, float]:
  """A line of a file of parts. Checks are given what follows a thought alone, so the completion goes into details."""
  if record.get('part') not in PARTS:
    raise ValueError(f'{where}: part={record.get("part")!r} is unknown; valid: one of {PARTS}')
  details = {'completion': record['completion'], 'language': record.get('language', '')}
  return ('', Problem(number, record['part'], '', '', details=details)), record['expected']


def check(_: str, problem: Problem) -> Verdict:
  """What a pool's worker runs for a part of the reward: its value is the credit."""
  found = parts(problem.details['completion'], problem.details['language'])
  return Verdict(RIGHT, credit=found[problem.kind])


def pooled(pairs: list[Pair], workers: int, repeat: int) -> tuple[list[float], float, list[float]]:
  """pairs -> (what each earns, wall seconds of `repeat` rounds, seconds of each check); start-up is not counted."""
  with Pool(workers, checks=_CHECKS) as pool:
    pool.check(pairs)
    start = time.perf_counter()
    verdicts = pool.check(pairs * repeat)
    wall = time.perf_counter() - start
  earned = [v.credit if v.outcome == RIGHT else 0.0 for v in verdicts[: len(pairs)]]
  return earned, wall, [v.seconds for v in verdicts]


def direct(pairs: list[Pair]) -> tuple[list[float], float, list[float]]:
  """The same of math-verify in this process."""
  from math_verify import parse, verify

  logging.getLogger('math_verify').setLevel(logging.CRITICAL)
  paid, seconds = [], []
  for completion, problem in pairs:
    start = time.perf_counter()
    paid.append(float(verify(parse(f'\\boxed{{{problem.answer}}}'), parse(completion))))
    seconds.append(time.perf_counter() - start)
  return paid, sum(seconds), seconds


def describe(name: str, known: list[float | None], measured: tuple) -> str:
  """A measurement -> a line: speed, percentiles, and how often it was wrong where that is known."""
  paid, wall, seconds = measured
  middle, slow = (1e3 * value for value in np.percentile(seconds, (50, 99)))
  false_pay = sum(k is not None and p > k + _EXACT for p, k in zip(paid, known))
  missed = sum(k is not None and p < k - _EXACT for p, k in zip(paid, known))
  return (
    f'{name:24} {len(seconds) / wall:8.0f} checks/s, p50 {middle:8.3f} ms, p99 {slow:9.3f} ms; '
    f'of {len(paid)}: {false_pay} paid though wrong, {missed} right but not paid'
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m r1jax.bench.verifiers', description=__doc__.splitlines()[0]
  )
  parser.add_argument('files', nargs='+', help='.jsonl files')
  parser.add_argument('--repeat', type=int, default=5, help='rounds that are timed (default: 5)')
  args = parser.parse_args()
  for kind, cases in load(args.files).items():
    pairs, known = [case[0] for case in cases], [case[1] for case in cases]
    for workers in (1, 2):
      print(
        describe(f'{kind}, {workers} worker(s)', known, pooled(pairs, workers, args.repeat)),
        flush=True,
      )
    if kind == 'math':
      print(describe('math-verify, directly', known, direct(pairs)), flush=True)


if __name__ == '__main__':
  main()
