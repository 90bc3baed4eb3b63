"""The answer that most samples agree on (self-consistency). 1/2 and 0.5 are one answer in mathematics."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import RIGHT, Verdict

VOTING = ('math', 'choice', 'countdown', 'arithmetic')  # kinds whose answers can agree
CORRECT = object()  # the class of all answers that are right


def majority_is_right(
  problems: Sequence[Problem], verdicts: list[list[Verdict]], pool: Pool
) -> np.ndarray:
  """verdicts [P][k] -> [P], whether the majority's answer is right. The pool compares answers in mathematics."""
  equal = _equal(problems, verdicts, pool)
  winners = [
    majority(labels(group, lambda a, b, p=p: a == b or (p, a, b) in equal))
    for p, group in enumerate(verdicts)
  ]
  return np.array([winner is CORRECT for winner in winners])


def labels(verdicts: Sequence[Verdict], same: Callable[[str, str], bool]) -> list:
  """k verdicts -> the class of each answer: CORRECT, else the first answer that is the same; None for no answer."""
  found, firsts = [], []
  for verdict in verdicts:
    text = verdict.answer and verdict.answer.strip()
    if verdict.outcome == RIGHT or not text:
      found.append(CORRECT if verdict.outcome == RIGHT else None)
      continue
    first = next((f for f in firsts if same(f, text)), text)
    firsts += [first] if first is text else []
    found.append(first)
  return found


def majority(votes: Sequence):
  """The class with the most votes; of several, the one that was first. None abstains, and wins if all do."""
  counts = Counter(vote for vote in votes if vote is not None)
  return max(counts, key=counts.get, default=None)


def _equal(
  problems: Sequence[Problem], verdicts: list[list[Verdict]], pool: Pool
) -> set[tuple[int, str, str]]:
  """(place of the problem, answer, later answer) of wrong answers that the check of mathematics takes for equal."""
  pairs = [
    (p, first, text)
    for p, (problem, group) in enumerate(zip(problems, verdicts, strict=True))
    if problem.kind == 'math'
    for first, text in _pairs(group)
  ]
  checks = [(f'\\boxed{{{b}}}', Problem(problems[p].id, 'math', '', a)) for p, a, b in pairs]
  return {
    pair for pair, found in zip(pairs, pool.check(checks), strict=True) if found.outcome == RIGHT
  }


def _pairs(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
  wrong = (v.answer.strip() for v in verdicts if v.outcome != RIGHT and v.answer)
  texts = list(dict.fromkeys(text for text in wrong if text))
  return [(a, b) for i, a in enumerate(texts) for b in texts[i + 1 :]]
