"""Completions of a rollout -> their scores. Each is checked on one host, while others are still being decoded."""

import dataclasses
from concurrent.futures import Future

import jax
import numpy as np

from r1jax import hosts
from r1jax.problems.problem import Problem
from r1jax.rewards import RewardConfig
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES, Verdict

UNCHECKED = -1
PARTS = ('accuracy', 'format', 'language')


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
  """G completions for each of P problems, handed in one by one in any order while others are still being decoded.

  Every host is handed all of them and checks its share, each sample on one host alone.
  """

  def __init__(self, problems: list[Problem], group: int, cfg: RewardConfig, pool: Pool):
    self.problems, self.group, self.cfg, self.pool = problems, group, cfg, pool
    self.languages = [cfg.language_of(problem) for problem in problems]
    self._texts: dict[int, str] = {}
    self._verdicts: dict[int, Future] = {}

  def add(self, sample: int, completion: str) -> None:
    """Sample p * G + g: a completion with its tags and without EOS. Its check begins at once."""
    p = sample // self.group
    self._texts[sample] = completion
    if sample % jax.process_count() == jax.process_index():
      self._verdicts[sample] = self.pool.submit(completion, self.problems[p], self.languages[p])

  def texts(self) -> list[list[str]]:
    """[P][G] completions. ValueError while one is missing."""
    count = len(self.problems) * self.group
    if len(self._texts) < count:
      raise ValueError(f'{count} completions are needed, {len(self._texts)} are here')
    texts = [self._texts[i] for i in range(count)]
    return [texts[i : i + self.group] for i in range(0, count, self.group)]

  def scores(self) -> Scores:
    """Waits for the checks, also for those of the other hosts. What one host raises, such as CannotCheck, all raise."""
    self.texts()  # all of them are here
    shape, found = (len(self.problems), self.group), self._found()
    columns = zip(*(found[i] for i in sorted(found)), strict=True)
    *values, outcomes = (np.reshape(column, shape) for column in columns)
    names = PARTS if any(self.languages) else PARTS[:-1]
    parts = {name: x.astype(np.float32) for name, x in zip(names, values, strict=False)}
    total = sum(self._weights(name) * part for name, part in parts.items())
    outcomes = outcomes.astype(np.int8)
    outcomes[[problem.kind == 'general' for problem in self.problems]] = UNCHECKED
    return Scores(total, parts, outcomes)

  def _found(self) -> dict[int, tuple]:
    """Sample -> what its check has found."""
    try:
      own, failure = {i: _numbers(v.result()) for i, v in self._verdicts.items()}, None
    except Exception as error:  # whatever it is, the other hosts wait for this one
      own, failure = {}, error
    found: dict[int, tuple] = {}
    for theirs, failed in hosts.gather((own, failure)):
      if failed:
        raise failed
      found |= theirs
    return found

  def _weights(self, part: str) -> np.ndarray:
    """[P, 1]: a source of a mixture may have weights of its own, which its problems carry."""
    return np.array([self.cfg.weights_of(p)[part] for p in self.problems], np.float32)[:, None]


def _numbers(verdict: Verdict) -> tuple[float, float, float, int]:
  """-> the values of PARTS, the outcome's place in OUTCOMES."""
  of_text = verdict.parts['format'], verdict.parts.get('language', 0.0)
  return verdict.credit, *of_text, OUTCOMES.index(verdict.outcome)


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
