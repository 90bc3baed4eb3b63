import math

import numpy as np
import pytest

from r1jax.evaluation import metrics
from r1jax.evaluation.metrics import Results
from r1jax.rewards.verdict import OUTCOMES

R, W, U, T = (OUTCOMES.index(name) for name in ('right', 'wrong', 'unparseable', 'timeout'))


def results(outcomes, majority=None, **given) -> Results:
  outcomes = np.array(outcomes)
  zeros = np.zeros(outcomes.shape)
  arrays = {'tokens': zeros, 'truncated': zeros, 'mixed': zeros} | given
  return Results(outcomes, majority=majority, **arrays)


@pytest.mark.parametrize(
  'right, k, value',
  [
    (0, 1, 0.0), (1, 1, 0.25), (1, 2, 0.5),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    (2, 2, 5 / 6), (2, 3, 1.0), (1, 4, 1.0), (0, 4, 0.0), (4, 1, 1.0),
  ],
)  # fmt: skip
def test_pass_at_k_of_four_samples(right, k, value):
  samples = np.arange(4)[None] < right
  assert metrics.pass_at(samples, k) == pytest.approx([value])


def test_pass_at_k_is_the_share_of_all_choices_of_samples():
  from itertools import combinations

  right = np.array([[1, 0, 0, 1, 0, 0, 0]], bool)
  for k in range(1, 8):
    chosen = [right[0, list(c)].any() for c in combinations(range(7), k)]
    assert metrics.pass_at(right, k)[0] == pytest.approx(np.mean(chosen))


@pytest.mark.parametrize('k', [0, 3])
def test_pass_at_more_than_there_are_is_refused(k):
  with pytest.raises(ValueError, match=f'^k={k} is not possible; valid: 1 to 2'):
    metrics.pass_at(np.ones((1, 2), bool), k)


def test_metrics_of_two_problems():
  found = metrics.by_problem(
    results(
      [[R, R, R, W], [U, W, T, R]],
      majority=np.array([True, False]),
      tokens=np.array([[10, 20, 30, 40], [100, 100, 100, 60]]),
      truncated=np.array([[0, 0, 0, 0], [1, 0, 1, 0]]),
      mixed=np.array([[0, 0, 0, 1], [0, 0, 0, 0]]),
    )
  )
  assert {name: values.tolist() for name, values in found.items()} == {
    'pass@1': [0.75, 0.25], 'pass@4': [1, 1], 'cons@4': [1, 0], 'mean_length': [25, 90], 'truncated': [0, 0.5],
    'language_mixing': [0.25, 0], 'right': [0.75, 0.25], 'wrong': [0.25, 0.25], 'unparseable': [0, 0.25],
    'timeout': [0, 0.25], 'bad_gold': [0, 0],
  }  # fmt: skip


def test_pass_at_powers_of_four_and_at_all():
  names = metrics.by_problem(results(np.zeros((1, 64), int)))
  assert [n for n in names if n.startswith('pass')] == ['pass@1', 'pass@4', 'pass@16', 'pass@64']
  assert [n for n in metrics.by_problem(results([[R]])) if '@' in n] == ['pass@1']


def test_the_interval_of_two_problems():
  """Drawn with replacement, the mean of 0 and 1 is 0, 1/2, 1 with chances 1/4, 1/2, 1/4: quantiles 0 and 1."""
  assert metrics.bootstrap([np.array([[0.0, 1.0]])]).tolist() == [[0.0, 1.0]]


def test_the_interval_has_the_width_that_theory_gives():
  """100 problems, half of them right: a standard error of 0.05."""
  low, high = metrics.bootstrap([np.arange(100)[None] % 2])[0]
  assert (high - low) / 2 == pytest.approx(1.96 * 0.05, rel=0.1)
  assert (high + low) / 2 == pytest.approx(0.5, abs=0.01)


def test_problems_that_do_not_differ_have_no_width():
  assert metrics.bootstrap([np.full((1, 30), 0.25)]).tolist() == [[0.25, 0.25]]


@pytest.mark.parametrize('count, low', [(1, 0.2065), (30, 0.8865)])
def test_a_share_in_which_all_problems_agree_has_wilsons_interval(count, low):
  """n of n: from n / (n + z^2) on, z = 1.96; none of n: up to z^2 / (n + z^2)."""
  found = metrics.estimates(results(np.full((count, 4), R), tokens=np.full((count, 4), 7)))
  assert found['pass@1']['value'] == 1.0
  assert found['pass@1']['ci95'] == pytest.approx([low, 1.0], abs=1e-4)
  assert found['timeout']['ci95'] == pytest.approx([0.0, 1 - low], abs=1e-4)
  assert found['mean_length'] == {'value': 7.0, 'ci95': [7.0, 7.0]}  # no share


def test_samples_of_one_problem_do_not_narrow_the_interval():
  """30 problems, always or never solved: 64 samples of each say no more than one."""
  once = np.arange(30)[:, None] < 15
  values = [
    metrics.estimates(results(np.where(once.repeat(k, 1), R, W)))['pass@1'] for k in (1, 64)
  ]
  assert values[0] == values[1]
  assert values[0]['ci95'][1] - values[0]['ci95'][0] == pytest.approx(4 * 0.5 * 30**-0.5, rel=0.15)


def test_parts_count_the_same_and_are_drawn_apart():
  """Means of 0 and of 1 with 1 and 1000 problems: no drawing mixes them."""
  parts = [np.zeros((1, 1)), np.ones((1, 1000))]
  assert metrics.bootstrap(parts).tolist() == [[0.5, 0.5]]


def test_estimates_are_the_same_every_time():
  outcomes = results(np.random.default_rng(1).integers(5, size=(20, 8)))
  assert metrics.estimates(outcomes) == metrics.estimates(outcomes)


@pytest.mark.parametrize(
  'before, after, warns',
  [
    ((0.2, [0.1, 0.3]), (0.3, [0.2, 0.4]), True),  # 0.2 wide, 0.1 apart
    ((0.2, [0.15, 0.25]), (0.4, [0.35, 0.45]), False),
    ((0.2, [0.2, 0.2]), (0.4, [0.2, 0.6]), True),  # the wider of both counts
    ((0.4, [0.3, 0.5]), (0.1, [0.05, 0.15]), False),  # a fall is a difference, too
    ((0.4, [0.3, 0.5]), (0.4, [0.3, 0.5]), False),  # nothing is claimed
  ],
)
def test_a_warning_where_an_interval_is_wider_than_the_difference(before, after, warns):
  estimates = ({'value': v, 'ci95': ci} for v, ci in (before, after))
  said = metrics.doubt('AIME', *estimates)
  assert bool(said) == warns
  if warns:
    assert said.startswith('AIME: 0.2 and ') and f'{after[0] - before[0]:+.2g}' in said


def test_a_nan_is_not_hidden():
  assert math.isnan(metrics.bootstrap([np.array([[math.nan, 1.0]])])[0, 1])
