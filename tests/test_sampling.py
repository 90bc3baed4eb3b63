"""Logits -> distribution -> token: against oracles that sort, and against the frequencies that come out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import sampling


def _logits(batch=6, vocab=40, seed=0):
  return 2 * np.random.default_rng(seed).normal(size=(batch, vocab)).astype(np.float32)


def _by_sorting(z, temperature, top_k, top_p):
  """logits [V] -> probabilities [V] in float64: sort, keep the top k, then the shortest prefix reaching top_p."""
  order = np.argsort(-z, kind='stable')
  p = np.exp((z[order] - z.max()).astype(np.float64) / temperature)
  p[top_k or len(p) :] = 0
  p /= p.sum()
  p[np.searchsorted(np.cumsum(p), top_p) + 1 :] = 0
  out = np.zeros(len(z))
  out[order] = p / p.sum()
  return out


@pytest.mark.parametrize('temperature', [1.0, 0.6, 1.7])
@pytest.mark.parametrize(
  'top_k, top_p', [(0, 1.0), (5, 1.0), (0, 0.9), (0, 0.3), (7, 0.8), (99, 0.01)]
)
def test_distribution_equals_sorting(temperature, top_k, top_p):
  z = _logits()
  log_p = sampling.distribution(jnp.asarray(z), temperature=temperature, top_k=top_k, top_p=top_p)
  expected = np.stack([_by_sorting(row, temperature, top_k, top_p) for row in z])
  np.testing.assert_array_equal(np.isfinite(log_p), expected > 0)
  np.testing.assert_allclose(np.exp(log_p), expected, rtol=1e-5, atol=1e-7)


def test_nucleus_by_hand():
  z = jnp.log(jnp.array([[0.1, 0.5, 0.15, 0.25]]))
  keeps = lambda top_p: np.exp(sampling.distribution(z, top_p=top_p))[0]
  np.testing.assert_allclose(keeps(0.5), [0, 1, 0, 0], atol=1e-6)
  np.testing.assert_allclose(keeps(0.7), [0, 2 / 3, 0, 1 / 3], atol=1e-6)
  np.testing.assert_allclose(keeps(0.8), [0, 5 / 9, 1.5 / 9, 2.5 / 9], atol=1e-6)


def test_equal_tokens_at_an_edge_are_all_kept():
  z = jnp.array([[2.0, 1.0, 1.0, 0.0]])
  np.testing.assert_array_equal(np.isfinite(sampling.distribution(z, top_k=2))[0], [1, 1, 1, 0])
  np.testing.assert_array_equal(np.isfinite(sampling.distribution(z, top_p=0.7))[0], [1, 1, 1, 0])


def test_blocked_tokens_leave_before_top_k():
  z, blocked = jnp.array([[3.0, 2.0, 1.0, 0.0]]), jnp.array([[True, False, False, False]])
  log_p = sampling.distribution(z, top_k=2, blocked=blocked)
  e = np.exp([2.0, 1.0])
  np.testing.assert_allclose(np.exp(log_p)[0], [0, *(e / e.sum()), 0], atol=1e-6)


@pytest.mark.parametrize('top_k, top_p', [(0, 1.0), (4, 1.0), (0, 0.9)])
def test_frequencies_follow_the_distribution(top_k, top_p):
  draws, z = 20000, jnp.asarray(_logits(1, 12, seed=3) / 2)
  log_p = sampling.distribution(z, temperature=1.3, top_k=top_k, top_p=top_p)
  keys = sampling.row_keys(jax.random.key(0), jnp.zeros(draws, jnp.int32), jnp.arange(draws))
  tiled = jnp.broadcast_to(log_p, (draws, 12))
  token, logprob = jax.jit(sampling.draw)(tiled, keys, jnp.arange(draws) % 50)
  np.testing.assert_array_equal(logprob, log_p[0, token])
  p = np.exp(np.asarray(log_p[0], np.float64))
  seen = np.bincount(token, minlength=12)
  assert (seen[p == 0] == 0).all()
  expected = draws * p[p > 0]
  degrees = len(expected) - 1
  chi_square = ((seen[p > 0] - expected) ** 2 / expected).sum()
  assert chi_square < degrees + 4 * (2 * degrees) ** 0.5  # four standard deviations


def test_positions_of_one_row_are_independent():
  """Of 20000 pairs of successive positions: a fair coin twice, four cells of a quarter each."""
  log_p, rows = jnp.log(jnp.full((20000, 2), 0.5)), jnp.arange(20000)
  keys = sampling.row_keys(jax.random.key(1), rows // 100, rows % 100)
  first, second = (jax.jit(sampling.draw)(log_p, keys, jnp.full(20000, at))[0] for at in (7, 8))
  seen = np.bincount(2 * np.asarray(first) + np.asarray(second), minlength=4)
  assert ((seen - 5000) ** 2 / 5000).sum() < 3 + 4 * 6**0.5


def test_a_token_of_probability_zero_is_never_drawn():
  """A cumulative sum in fp32 may rise by rounding where nothing is added: most tokens are masked here."""
  p = jnp.exp(sampling.distribution(jnp.asarray(_logits(64, 4096, seed=1)), top_k=40))
  cumulative = np.asarray(jnp.cumsum(p, axis=-1))
  rise = (cumulative[:, 1:] > cumulative[:, :-1]) & (np.asarray(p)[:, 1:] == 0)
  rows, at = np.nonzero(rise)
  assert len(rows) > 20
  p = p[rows]
  edge = np.minimum(cumulative[rows, at], np.float32(1 - 2**-24))
  for u in (edge, np.nextafter(edge, np.float32(0))):
    token = sampling._invert(p, jnp.asarray(u))
    assert (np.take_along_axis(np.asarray(p), np.asarray(token)[:, None], axis=1) > 0).all()


def test_the_largest_number_draws_the_last_possible_token():
  p = jnp.array([[0.3, 0.0, 0.7, 0.0]])
  assert sampling._invert(p, jnp.float32(1 - 2**-24)[None])[0] == 2


def test_a_block_is_inverted_exactly():
  """Every number that a uniform one may be, to 20 bits: how many draw a token is its probability."""
  p = jax.nn.softmax(3 * jnp.asarray(_logits(1, sampling.BLOCK, seed=3)))
  u = jnp.arange(2**20, dtype=jnp.float32) / 2**20
  token = jax.lax.map(lambda x: sampling._invert(p, x[None])[0], u, batch_size=4096)
  count = np.bincount(token, minlength=sampling.BLOCK)
  np.testing.assert_allclose(count / 2**20, p[0], atol=3e-6)


def test_a_large_vocabulary_is_drawn_from_in_proportion():
  """Three blocks of which the last is not full, and one that can hardly be drawn: chi^2 of 3000 draws x 8."""
  size = 2 * sampling.BLOCK + 100
  logits = np.where(np.arange(size) < sampling.BLOCK, -3.0, 0.0)
  logits[size - 1] = 6.0
  log_p = sampling.distribution(jnp.asarray(logits)[None])
  rows = jnp.arange(24000)
  keys = sampling.row_keys(jax.random.key(5), rows, rows * 0)
  token, logprob = jax.jit(sampling.draw)(jnp.tile(log_p, (24000, 1)), keys, rows * 0)
  np.testing.assert_array_equal(logprob, log_p[0, token])
  groups = np.arange(size) // 64  # so that each has a few expected draws
  p = np.bincount(groups, np.exp(log_p[0]))
  seen, expected = np.bincount(groups[token], minlength=len(p)), 24000 * p
  assert ((seen - expected) ** 2 / expected).sum() < len(p) + 4 * (2 * len(p)) ** 0.5


def test_no_two_steps_prompts_or_samples_share_a_key():
  prompt, sample = (x.ravel() for x in jnp.meshgrid(jnp.arange(20), jnp.arange(16)))
  steps = [jax.random.fold_in(jax.random.key(0), step) for step in range(3)]
  data = [np.asarray(jax.random.key_data(sampling.row_keys(s, prompt, sample))) for s in steps]
  assert len(np.unique(np.concatenate(data), axis=0)) == 3 * 20 * 16


def test_greedy_takes_the_largest_with_certainty():
  token, logprob = sampling.greedy(sampling.distribution(jnp.asarray(_logits())))
  np.testing.assert_array_equal(token, _logits().argmax(-1))
  np.testing.assert_array_equal(logprob, 0.0)


def test_a_distribution_is_computed_in_fp32():
  log_p = sampling.distribution(jnp.asarray(_logits(), jnp.bfloat16), top_p=0.9)
  assert log_p.dtype == jnp.float32
  np.testing.assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-6)
