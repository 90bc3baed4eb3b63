"""Rule rewards: accuracy, format and language, each kept on its own, and their weighted sum (R1, Methods).

No text that a model wrote is executed in this process: checks run in the workers of a pool, and programs in a sandbox.
"""

import dataclasses
import math
from concurrent.futures import Future

import numpy as np

from r1jax.problems.problem import Problem
from r1jax.rewards.language import SCRIPTS
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES

UNCHECKED = -1


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """Weights of the parts. The paper calls accuracy's and format's equal, but prints no number for the format's.

  language: such as 'en': the thought's share of it is rewarded (R1's second stage of RL); '' where it has no weight.
  A problem may have weights of its own, in details['reward_weights'], and a language, in details['language'].
  """

  accuracy_weight: float = 1.0
  format_weight: float = 0.1
  language_weight: float = 0.0
  language: str = ''

  def __post_init__(self):
    for part, weight in self.weights().items():
      if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f'{part}_weight={weight!r} is not possible; valid: a weight of at least 0')
    if (self.language_weight or self.language) and self.language not in SCRIPTS:
      raise ValueError(f'language={self.language!r} is unknown; valid: one of {", ".join(SCRIPTS)}')

  def weights(self) -> dict[str, float]:
    """Part -> its weight."""
    return {
      'accuracy': self.accuracy_weight,
      'format': self.format_weight,
      'language': self.language_weight,
    }

  def weights_of(self, problem: Problem) -> dict[str, float]:
    """The same with the problem's own ones in their place."""
    return self.weights() | problem.details.get('reward_weights', {})

  def language_of(self, problem: Problem) -> str:
    """The language that a problem's thoughts are rewarded for, '' for none. Raises ValueError."""
    if not self.weights_of(problem)['language']:
      return ''
    wanted = problem.details.get('language', self.language)
    if wanted not in SCRIPTS:
      raise ValueError(
        f'language={wanted!r} of problem {problem.id}, which is rewarded for it, is unknown; valid: one of '
        f'{", ".join(SCRIPTS)}, in the stage or in details of the problem'
      )
    return wanted


@dataclasses.dataclass(frozen=True)
class Scores:
  """total [P, G] = the sum of weight * part; parts: name -> [P, G], each in [0, 1]; float32. outcomes [P, G]: what
  the check of the answer said, as places in OUTCOMES; UNCHECKED where there is no answer, in general problems.

  'language' is a part where a problem has a weight for it, and 0 for those that have none.
  """

  total: np.ndarray
  parts: dict[str, np.ndarray]
  outcomes: np.ndarray

  @property
  def checked(self) -> np.ndarray:
    """[P, G], whether there was an answer to be checked."""
    return self.outcomes != UNCHECKED

  def rates(self) -> dict[str, float]:
    """Outcome -> its share of what was checked."""
    count = max(self.checked.sum(), 1)
    return {name: float((self.outcomes == i).sum() / count) for i, name in enumerate(OUTCOMES)}


class Scoring:
  """G completions for each of P problems, handed in one by one in any order while others are still being decoded."""

  def __init__(self, problems: list[Problem], group: int, cfg: RewardConfig, pool: Pool):
    self.problems, self.group, self.cfg, self.pool = problems, group, cfg, pool
    self.languages = [cfg.language_of(problem) for problem in problems]
    self._texts: dict[int, str] = {}
    self._verdicts: dict[int, Future] = {}

  def add(self, sample: int, completion: str) -> None:
    """Sample p * G + g: a completion with its tags and without EOS. Its check begins at once."""
    p = sample // self.group
    self._texts[sample] = completion
    self._verdicts[sample] = self.pool.submit(completion, self.problems[p], self.languages[p])

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
      'format': [verdict.parts['format'] for verdict in verdicts],
    }
    if any(self.languages):
      values['language'] = [verdict.parts.get('language', 0.0) for verdict in verdicts]
    shape = (len(self.problems), self.group)
    parts = {name: np.array(x, np.float32).reshape(shape) for name, x in values.items()}
    total = sum(self._weights(name) * part for name, part in parts.items())
    outcomes = np.array([OUTCOMES.index(v.outcome) for v in verdicts], np.int8).reshape(shape)
    outcomes[[problem.kind == 'general' for problem in self.problems]] = UNCHECKED
    return Scores(total, parts, outcomes)

  def _weights(self, part: str) -> np.ndarray:
    """[P, 1]: a source of a mixture may have weights of its own, which its problems carry."""
    return np.array([self.cfg.weights_of(p)[part] for p in self.problems], np.float32)[:, None]


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
