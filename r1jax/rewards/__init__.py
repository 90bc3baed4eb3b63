"""Rule rewards: accuracy and format, each kept on its own, and their weighted sum (R1, Methods).

No text that a model wrote is ever executed, and every check ends at once on any text.
"""

import dataclasses
import math

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards import arithmetic, countdown, format

ACCURACY = {'countdown': countdown.accuracy, 'arithmetic': arithmetic.accuracy}


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """Weights of the parts. The paper calls them equal, but prints no number for the format's."""

  accuracy_weight: float = 1.0
  format_weight: float = 0.1

  def __post_init__(self):
    for field, weight in dataclasses.asdict(self).items():
      if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f'{field}={weight!r} is not possible; valid: a weight of at least 0')


@dataclasses.dataclass(frozen=True)
class Scores:
  """total [P, G] = the sum of weight * part; parts: name -> [P, G], each in [0, 1]; float32."""

  total: np.ndarray
  parts: dict[str, np.ndarray]


def score(completions: list[list[str]], problems: list[Problem], cfg: RewardConfig) -> Scores:
  """G completions (tags included, EOS stripped) for each of P problems -> Scores [P, G]."""
  if len(completions) != len(problems) or len({len(group) for group in completions}) > 1:
    sizes = [len(group) for group in completions]
    raise ValueError(f'{len(problems)} problems need as many groups of one size, got {sizes}')
  parts = {
    'accuracy': _each(completions, problems, accuracy),
    'format': _each(completions, problems, lambda text, _: format.well_formed(text)),
  }
  weights = {'accuracy': cfg.accuracy_weight, 'format': cfg.format_weight}
  total = sum(np.float32(weights[name]) * part for name, part in parts.items())
  return Scores(total, parts)


def _each(completions, problems, part) -> np.ndarray:
  rows = [[part(text, p) for text in group] for group, p in zip(completions, problems, strict=True)]
  return np.array(rows, np.float32)


def accuracy(completion: str, problem: Problem) -> float:
  """completion -> 1.0 where its last answer solves the problem, else 0.0."""
  answer = format.answer(completion)
  return 0.0 if answer is None else ACCURACY[problem.kind](answer, problem)
