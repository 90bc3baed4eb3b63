"""A problem that has no answer, such as a poem to be written: what a completion of it is worth a reward model says."""

from r1jax.problems.problem import Problem
from r1jax.rewards.verdict import UNPARSEABLE, Verdict


def check(completion: str, problem: Problem) -> Verdict:
  """Nothing is right or wrong here: no credit, and scoring.Scores leaves it out of the shares of outcomes."""
  return Verdict(UNPARSEABLE, note='a general problem has no answer')
