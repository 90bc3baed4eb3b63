"""Advantages against numbers worked by hand; test_oracle.py has those that TRL computed."""

import numpy as np
import pytest

from r1jax.advantage import KINDS, advantages, group_variance, k1, overlong_penalty

REWARDS = np.array([[1.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, 3.0]], np.float32)
PER_GROUP = ('group', 'group_mean', 'leave_one_out')


@pytest.mark.parametrize(
  'kind, expected',
  [
    # Means 1/4 and 2; sums of squares 3/4 and 4, over G - 1 = 3: std 0.5 and 1.1547005.
    ('group', [[0.75 / 0.5001, *3 * [-0.25 / 0.5001]], [1 / 1.1548005 * s for s in (1, -1, -1, 1)]]),
    ('group_mean', [[0.75, -0.25, -0.25, -0.25], [1, -1, -1, 1]]),
    # The others' means: 0, 1/3, ... and 5/3, 7/3, ...
    ('leave_one_out', [[1, -1 / 3, -1 / 3, -1 / 3], [4 / 3, -4 / 3, -4 / 3, 4 / 3]]),
  ],
)  # fmt: skip
def test_of_a_group_by_hand(kind, expected):
  result = advantages(REWARDS, kind)
  assert result.shape == (2, 4, 1) and result.dtype == np.float32
  np.testing.assert_allclose(result[..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize('kind', PER_GROUP)
@pytest.mark.parametrize('group', [2, 3, 7, 16])
def test_equal_rewards_give_exactly_zero(kind, group):
  # The mean of three times 0.1 is not 0.1, in float32 nor in float64.
  for reward in (0.1, 1.1, 1 / 3, 1e8 + 0.1):
    for dtype in (np.float32, np.float64):
      assert (advantages(np.full((2, group), reward, dtype), kind) == 0).all()


@pytest.mark.parametrize('kind', ['batch', 'group_then_batch'])
def test_a_batch_of_equal_rewards_gives_exactly_zero(kind):
  result = advantages(np.full((2, 3), 0.1), kind, length=np.array([[1, 2, 3], [4, 5, 7]]))
  assert (result == 0).all()


def test_a_group_of_equal_rewards_is_left_out_of_whitening():
  """Values 1, -1 with 3 tokens and 1, and 0, 0 with 4: mean 2 / 8, mean square 4 / 8, variance 7 / 16."""
  rewards, length = np.array([[5.0, 3.0], [2.0, 2.0]]), np.array([[3, 1], [2, 2]])
  result = advantages(rewards, 'group_then_batch', length=length)
  np.testing.assert_allclose(result[0, :, 0], [0.75 / 7**0.5 * 4, -1.25 / 7**0.5 * 4], rtol=1e-6)
  assert (result[1] == 0).all()


def test_reward_to_go_and_whitening_by_hand():
  # Penalties 0.5, 1 | 1 and rewards 2 | 0: to go 2 - 1.5, 2 - 1 | 0 - 1: mean 1/6, variance 26/36.
  kl = np.array([[[0.5, 1.0, 99.0], [1.0, 99.0, 99.0]]])
  length = np.array([[2, 1]])
  kl = np.where(np.arange(3) < length[..., None], kl, 0)
  result = advantages(np.array([[2.0, 0.0]]), 'batch', kl=kl, length=length)
  std = np.sqrt(26 / 36)
  expected = [[(0.5 - 1 / 6) / std, (1 - 1 / 6) / std, 0], [(-1 - 1 / 6) / std, 0, 0]]
  np.testing.assert_allclose(result[0], expected, rtol=1e-6)


def test_long_sequences_weigh_more_in_whitening():
  # Values 1, -1 with 3 tokens and 1: mean 0.5, variance 0.75.
  expected = np.array([[[0.5], [-1.5]]]) / np.sqrt(0.75)
  for kind, rewards in (('batch', [[1.0, -1.0]]), ('group_then_batch', [[5.0, 3.0]])):
    result = advantages(np.array(rewards), kind, length=np.array([[3, 1]]))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_whitened_over_learned_tokens_only():
  random = np.random.default_rng(0)
  rewards, length = random.normal(size=(4, 5)), random.integers(0, 7, (4, 5))
  learned = np.arange(6) < length[..., None]
  kl = 0.1 * random.normal(size=(4, 5, 6)) * learned
  result = advantages(rewards, 'batch', kl=kl, length=length).astype(np.float64)
  assert (result[~learned] == 0).all()
  np.testing.assert_allclose([result[learned].mean(), result[learned].std()], [0, 1], atol=1e-6)


def test_one_number_a_sequence_is_the_same_as_one_a_token():
  random = np.random.default_rng(1)
  rewards, length = random.normal(size=(3, 4)), random.integers(0, 7, (3, 4))
  learned = np.arange(6) < length[..., None]
  each = advantages(rewards, 'batch', kl=np.zeros((3, 4, 6)), length=length)
  np.testing.assert_allclose(each, advantages(rewards, 'batch', length=length) * learned, rtol=1e-6)


def test_nothing_learned_gives_zero():
  assert (advantages(REWARDS, 'batch', length=np.zeros((2, 4), int)) == 0).all()


def test_penalty_of_the_sequence_by_hand():
  # Rewards 1, 0, 0 less 0.2 * (0.5 + 1), 0.2 * -1, 0: 0.7, 0.2, 0.
  old = np.array([[[-1.0, -2.0], [-3.0, np.nan], [-1.0, -1.0]]], np.float32)
  reference = np.array([[[-1.5, -3.0], [-2.0, np.inf], [-1.0, -1.0]]], np.float32)
  estimate = k1(old, reference, np.array([[2, 1, 2]]))
  np.testing.assert_array_equal(estimate, [[[0.5, 1.0], [-1.0, 0.0], [0.0, 0.0]]])
  result = advantages(np.array([[1.0, 0.0, 0.0]]), 'leave_one_out', kl=0.2 * estimate)
  np.testing.assert_allclose(result[0, :, 0], [0.7 - 0.1, 0.2 - 0.35, -0.45], rtol=1e-6)


def test_which_groups_have_variance():
  rewards = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2], [0.0, 1.0, 1.0]], np.float32)
  assert group_variance(rewards).tolist() == [False, True, True]


def test_overlong_penalty_by_hand():
  lengths = np.array([[1, 16384], [18432, 19456], [20480, 20481]])
  penalty = overlong_penalty(lengths, 20480, 4096)
  np.testing.assert_array_equal(penalty, [[0, 0], [-0.5, -0.75], [-1, -1]])
  assert penalty.dtype == np.float32
  with pytest.raises(ValueError, match='buffer=0 is not possible; valid: 1 to 8 tokens'):
    overlong_penalty(lengths, 8, 0)


def test_refused():
  with pytest.raises(ValueError, match="advantage='grp' is not possible; valid: group, group_mean"):
    advantages(REWARDS, 'grp')
  with pytest.raises(ValueError, match='needs the length'):
    advantages(REWARDS, 'batch')
  for kind in set(KINDS) - {'batch'}:
    with pytest.raises(ValueError, match='group=1 is not possible; valid: 2 or more'):
      advantages(np.ones((3, 1)), kind, length=np.ones((3, 1), int))
