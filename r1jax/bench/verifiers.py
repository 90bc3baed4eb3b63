"""How fast completions are checked, and how rightly.

    python -m r1jax.bench.verifiers tests/data/adversarial_*.jsonl

Files are as r1jax.rewards reads them. For each kind and number of workers: checks a second through the pool, median and
99th percentile of one check. For maths also math-verify, directly in one process on the same pairs, with its time-outs.
"""

import argparse
import collections
import logging
import time

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards.__main__ import read
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import RIGHT

Pair = tuple[str, Problem]


def load(paths: list[str]) -> dict[str, list[tuple[Pair, bool | None]]]:
  """files -> kind -> ((completion, problem), whether it is right if that is known)."""
  found = collections.defaultdict(list)
  for path in paths:
    for completion, problem, expected in read(path):
      found[problem.kind].append(((completion, problem), expected and expected == RIGHT))
  return found


def pooled(pairs: list[Pair], workers: int, repeat: int) -> tuple[list[bool], float, list[float]]:
  """pairs -> (paid or not, wall seconds of `repeat` rounds, seconds of each check); start-up is not counted."""
  with Pool(workers) as pool:
    pool.check(pairs)
    start = time.perf_counter()
    verdicts = pool.check(pairs * repeat)
    wall = time.perf_counter() - start
  return [v.outcome == RIGHT for v in verdicts[: len(pairs)]], wall, [v.seconds for v in verdicts]


def direct(pairs: list[Pair]) -> tuple[list[bool], float, list[float]]:
  """The same of math-verify in this process."""
  from math_verify import parse, verify

  logging.getLogger('math_verify').setLevel(logging.CRITICAL)
  paid, seconds = [], []
  for completion, problem in pairs:
    start = time.perf_counter()
    paid.append(bool(verify(parse(f'\\boxed{{{problem.answer}}}'), parse(completion))))
    seconds.append(time.perf_counter() - start)
  return paid, sum(seconds), seconds


def describe(name: str, known: list[bool | None], measured: tuple) -> str:
  """A measurement -> a line: speed, percentiles, and how often it was wrong where that is known."""
  paid, wall, seconds = measured
  middle, slow = (1e3 * value for value in np.percentile(seconds, (50, 99)))
  false_pay = sum(p and k is False for p, k in zip(paid, known))
  missed = sum(k is True and not p for p, k in zip(paid, known))
  return (
    f'{name:24} {len(seconds) / wall:8.0f} checks/s, p50 {middle:8.3f} ms, p99 {slow:9.3f} ms; '
    f'of {len(paid)}: {false_pay} paid though wrong, {missed} right but not paid'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
