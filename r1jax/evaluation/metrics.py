"""Verdicts [P, k] of P problems, k samples of each -> numbers, each with an interval."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from r1jax.rewards.verdict import OUTCOMES, RIGHT
from r1jax.summary import confidence95

RESAMPLES = 2000
LENGTHS = ('mean_length',)  # in tokens, all others are shares


@dataclasses.dataclass(frozen=True)
class Results:
  """outcomes [P, k]: places in OUTCOMES. tokens, truncated, mixed [P, k]: length of a completion, whether no end came,
  whether it mixes languages. majority [P]: whether the most frequent answer is right; None where answers cannot agree.
  """

  outcomes: np.ndarray
  tokens: np.ndarray
  truncated: np.ndarray
  mixed: np.ndarray
  majority: np.ndarray | None = None

  @property
  def right(self) -> np.ndarray:
    return self.outcomes == OUTCOMES.index(RIGHT)


def estimates(results: Results) -> dict[str, dict]:
  """-> name -> {'value', 'ci95'}: a mean over problems, and 95% of its bootstrap distribution; of a share in which all
  problems agree, where that has no width, Wilson's interval with each problem as one answer.
  """
  values = by_problem(results)
  intervals = bootstrap([np.stack(list(values.values()))])
  return {
    name: {'value': float(x.mean()), 'ci95': _with_width(name, x, ci.tolist())}
    for (name, x), ci in zip(values.items(), intervals, strict=True)
  }


def _with_width(name: str, values: np.ndarray, ci: list[float]) -> list[float]:
  """Ten problems that are all solved do not show that all problems are."""
  return ci if name in LENGTHS or np.ptp(values) > 0 else list(confidence95(values))


def by_problem(results: Results) -> dict[str, np.ndarray]:
  """-> name -> [P], whose mean is the metric."""
  samples = results.right.shape[1]
  powers = (4**i for i in range(1, 16) if 4**i < samples)
  draws = [*powers, samples] if samples > 1 else []
  found = {'pass@1': results.right.mean(1)}
  found |= {f'pass@{k}': pass_at(results.right, k) for k in draws}
  if results.majority is not None:
    found[f'cons@{samples}'] = results.majority
  found |= {'mean_length': results.tokens.mean(1), 'truncated': results.truncated.mean(1)}
  found['language_mixing'] = results.mixed.mean(1)
  found |= {name: (results.outcomes == i).mean(1) for i, name in enumerate(OUTCOMES)}
  return {name: np.asarray(x, np.float64) for name, x in found.items()}


def pass_at(right: np.ndarray, k: int) -> np.ndarray:
  """right [P, n] -> [P], the probability that k of the n samples, drawn without replacement, hold a right one.

  The unbiased estimate 1 - C(n - c, k) / C(n, k) of Chen et al. (2021), c of n being right.
  """
  n = right.shape[1]
  if not 1 <= k <= n:
    raise ValueError(f'k={k} is not possible; valid: 1 to {n}, the samples of a problem')
  return np.array([1 - math.comb(n - int(c), k) / math.comb(n, k) for c in right.sum(1)])


def bootstrap(parts: Sequence[np.ndarray], resamples: int = RESAMPLES) -> np.ndarray:
  """Parts, each [M, P] values of its own P problems -> [M, 2]: 2.5% and 97.5% of the mean over parts of their means
  when problems are drawn with replacement, within each part, by a fixed seed.

  Samples of one problem stay together: they are not independent. Where no problem differs the interval has no width.
  """
  random = np.random.default_rng(0)
  means = np.zeros((resamples, len(parts[0])))
  for part in parts:
    for row in means:
      row += part[:, random.integers(part.shape[1], size=part.shape[1])].mean(1) / len(parts)
  return np.quantile(means, (0.025, 0.975), axis=0).T


def doubt(what: str, before: Mapping, after: Mapping) -> str | None:
  """Two estimates -> a warning where an interval is wider than their difference, None where neither is,
  or where they do not differ."""
  difference = after['value'] - before['value']
  width = max(high - low for low, high in (before['ci95'], after['ci95']))
  if not difference or width <= abs(difference):
    return None
  return (
    f'{what}: {before["value"]:.4g} and {after["value"]:.4g} differ by {difference:+.2g}, but an interval is '
    f'{width:.2g} wide: sample more before you claim a difference'
  )
