"""The reference kernels against numpy loops, and their blocked forms against the plain ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernels
from kernels import reference


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _attention_by_loops(q, k, v, lo, hi, scale):
  """q [B, N, T, H], k, v [B, K, S, H]: one query head and one query at a time, in float64."""
  out = np.zeros((*q.shape[:3], v.shape[3]))
  for b, n, t in np.ndindex(*q.shape[:3]):
    group = n // (q.shape[1] // k.shape[1])
    seen = slice(lo[b, t], hi[b, t] + 1)
    scores = k[b, group, seen].astype(np.float64) @ q[b, n, t] * scale
    p = np.exp(scores - scores.max())
    out[b, n, t] = p @ v[b, group, seen] / p.sum()
  return out


def _attention_inputs(batch, heads, groups, queries, keys, width, value_width):
  q = _normal(batch, heads, queries, width)
  k, v = (
    _normal(batch, groups, keys, width, seed=1),
    _normal(batch, groups, keys, value_width, seed=2),
  )
  random = np.random.default_rng(3)
  hi = random.integers(0, keys, size=(batch, queries))
  lo = random.integers(0, hi + 1)
  return q, k, v, lo, hi


@pytest.mark.parametrize('heads, groups', [(4, 4), (4, 2), (4, 1)])
def test_attention_equals_loops(heads, groups):
  args = _attention_inputs(2, heads, groups, 5, 9, 8, 6)
  out = kernels.attention(*args, 0.3)
  np.testing.assert_allclose(out, _attention_by_loops(*args, 0.3), rtol=1e-5, atol=1e-6)


def test_attention_ignores_what_lies_outside_of_the_interval():
  q, k, v, lo, hi = _attention_inputs(2, 4, 2, 5, 9, 8, 6)
  lo, hi = np.maximum(lo, 2), np.clip(hi, 2, 6)
  hidden = np.isin(np.arange(9), [0, 1, 7, 8])[None, None, :, None]
  a = kernels.attention(q, k, v, lo, hi, 0.3)
  b = kernels.attention(q, np.where(hidden, 1e4, k), np.where(hidden, -1e4, v), lo, hi, 0.3)
  np.testing.assert_array_equal(a, b)


def test_attention_is_stable_for_large_scores():
  q, k, v, lo, hi = _attention_inputs(1, 2, 2, 4, 6, 8, 8)
  out, grad = jax.value_and_grad(lambda q: kernels.attention(q, k, v, lo, hi, 1e4).sum())(q)
  assert np.isfinite(out) and np.isfinite(grad).all()


def test_an_empty_interval_gives_finite_values_and_gradients():
  q, k, v, lo, hi = _attention_inputs(1, 2, 2, 4, 6, 8, 8)
  run = lambda q, k, v: kernels.attention(q, k, v, hi + 1, hi, 0.3)
  mean = np.broadcast_to(v.mean(2, keepdims=True), v.shape[:2] + (4, 8))
  np.testing.assert_allclose(run(q, k, v), mean, rtol=1e-5, atol=1e-6)
  for g in jax.grad(lambda *a: run(*a).sum(), argnums=(0, 1, 2))(q, k, v):
    assert np.isfinite(g).all()


@pytest.mark.parametrize('queries', [16, 13])
def test_attention_in_query_blocks_equals_the_plain_one(queries, monkeypatch):
  """Of four queries, which need not divide them all."""
  args = _attention_inputs(2, 4, 2, queries, 16, 8, 6)
  q, k, v, lo, hi = map(jnp.asarray, args)
  weight = _normal(2, 4, queries, 6, seed=5)

  def run(q, k, v):
    return (kernels.attention(q, k, v, lo, hi, 0.3) * weight).sum()

  plain = jax.value_and_grad(run, argnums=(0, 1, 2))(q, k, v)
  monkeypatch.setattr(reference, '_QUERY_BLOCK', 4)
  assert 'scan' in str(jax.make_jaxpr(run)(q, k, v)) or 'while' in str(jax.make_jaxpr(run)(q, k, v))
  blocked = jax.value_and_grad(run, argnums=(0, 1, 2))(q, k, v)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, blocked)


def test_scores_of_a_long_row_never_exist_at_once():
  """The paper's longest row, prompt and completion: 33,024 queries, and scores of at most 1024 of them; of at most
  2**28 / (128 x 33,024) = 63, so 32, with the 128 heads of DeepSeek-V3.
  """
  length = 33_024
  for heads, queries in ((2, 1024), (128, 32)):
    x, at = (
      jax.ShapeDtypeStruct(s, t)
      for s, t in (((1, heads, length, 8), 'float32'), ((1, length), int))
    )
    traced = jax.make_jaxpr(lambda *a: kernels.attention(*a, 0.3))(x, x, x, at, at)
    sizes = [math.prod(v.aval.shape) for eqn in _equations(traced.jaxpr) for v in eqn.outvars]
    assert max(sizes) == heads * queries * length


def _equations(jaxpr):
  """All of them, inner ones too."""
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')):
      if hasattr(inner, 'eqns') or hasattr(inner, 'jaxpr'):
        yield from _equations(getattr(inner, 'jaxpr', inner))


@pytest.mark.parametrize('block', [1, 4, 8])
@pytest.mark.parametrize('sizes', [(8, 16, 0, 8), (0, 0, 32, 0), (8, 8, 8, 8)])
def test_grouped_matmul_equals_a_loop(block, sizes):
  x, w = _normal(32, 6), _normal(4, 6, 5, seed=1)
  ends = np.cumsum(sizes)

  def loop(x, w):
    parts = [x[e - n : e] @ w[g] for g, (n, e) in enumerate(zip(sizes, ends, strict=True))]
    return jnp.concatenate(parts)

  def run(x, w):
    return kernels.grouped_matmul(x, w, jnp.asarray(sizes), block)

  weight = _normal(32, 5, seed=2)
  np.testing.assert_allclose(run(x, w), loop(x, w), rtol=1e-5, atol=1e-5)
  ours = jax.grad(lambda *a: (run(*a) * weight).sum(), argnums=(0, 1))(x, w)
  theirs = jax.grad(lambda *a: (loop(*a) * weight).sum(), argnums=(0, 1))(x, w)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


@pytest.mark.parametrize('block', [1, 4])
def test_rows_beyond_the_groups_change_nothing(block):
  x, w, sizes = _normal(16, 6), _normal(3, 6, 5, seed=1), jnp.asarray((4, 0, 4))
  expected = np.concatenate([x[:4] @ w[0], x[4:8] @ w[2]])
  np.testing.assert_allclose(
    kernels.grouped_matmul(x, w, sizes, block)[:8], expected, rtol=1e-5, atol=1e-5
  )

  def first_rows(w):
    return kernels.grouped_matmul(x, w, sizes, block)[:8].sum()

  grad = jax.grad(first_rows)(w)
  np.testing.assert_allclose(grad[0], np.repeat(x[:4].sum(0)[:, None], 5, 1), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(grad[1], 0)


@pytest.mark.parametrize(
  'rows, groups, expected', [(6, 8, 8), (256, 8, 32), (2400, 8, 128), (10**6, 256, 128)]
)
def test_group_block_on_a_cpu(rows, groups, expected):
  assert kernels.group_block(rows, groups) == expected
