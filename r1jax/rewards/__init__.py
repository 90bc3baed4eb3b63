"""Rule rewards: accuracy and format, each kept on its own, and their weighted sum (R1, Methods).

No text that a model wrote is executed in this process: checks run in the workers of a pool, and programs in a sandbox.
"""

import dataclasses
import math
from concurrent.futures import Future

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES


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
  """total [P, G] = the sum of weight * part; parts: name -> [P, G], each in [0, 1]; float32. outcomes [P, G]: what
  the check of the answer said, as places in OUTCOMES.
  """

  total: np.ndarray
  parts: dict[str, np.ndarray]
  outcomes: np.ndarray

  def rates(self) -> dict[str, float]:
    """Outcome -> its share."""
    return {name: float((self.outcomes == i).mean()) for i, name in enumerate(OUTCOMES)}


class Scoring:
  """G completions for each of P problems, handed in one by one in any order while others are still being decoded."""

  def __init__(self, problems: list[Problem], group: int, cfg: RewardConfig, pool: Pool):
    self.problems, self.group, self.cfg, self.pool = problems, group, cfg, pool
    self._texts: dict[int, str] = {}
    self._verdicts: dict[int, Future] = {}

  def add(self, sample: int, completion: str) -> None:
    """Sample p * G + g: a completion with its tags and without EOS. Its check begins at once."""
    self._texts[sample] = completion
    self._verdicts[sample] = self.pool.submit(completion, self.problems[sample // self.group])

  def texts(self) -> list[list[str]]:
    """[P][G] completions. ValueError while one is missing."""
    count = len(self.problems) * self.group
    if len(self._texts) < count:
      raise ValueError(f'{count} completions are needed, {len(self._texts)} are here')
    texts = [self._texts[i] for i in range(count)]
    return [texts[i : i + self.group] for i in range(0, count, self.group)]

  def scores(self) -> Scores:
    """Waits for the checks."""
    texts = sum(self.texts(), [])
    verdicts = [self._verdicts[i].result() for i in range(len(texts))]
    values = {
      'accuracy': [verdict.credit for verdict in verdicts],
      'format': [format.well_formed(text) for text in texts],
    }
    shape = (len(self.problems), self.group)
    parts = {name: np.array(x, np.float32).reshape(shape) for name, x in values.items()}
    weights = {'accuracy': self.cfg.accuracy_weight, 'format': self.cfg.format_weight}
    total = sum(np.float32(weights[name]) * part for name, part in parts.items())
    outcomes = [OUTCOMES.index(verdict.outcome) for verdict in verdicts]
    return Scores(total, parts, np.array(outcomes, np.int8).reshape(shape))


def score(
  completions: list[list[str]], problems: list[Problem], cfg: RewardConfig, pool: Pool
) -> Scores:
  """G completions for each of P problems -> Scores [P, G]."""
  if len(completions) != len(problems) or len({len(group) for group in completions}) > 1:
    sizes = [len(group) for group in completions]
    raise ValueError(f'{len(problems)} problems need as many groups of one size, got {sizes}')
  scoring = Scoring(problems, len(completions[0]), cfg, pool)
  for sample, text in enumerate(sum(completions, [])):
    scoring.add(sample, text)
  return scoring.scores()
