"""Schedules by hand, what decays, what is clipped."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax.model.transformer import spec
from r1jax.model.weights import map_spec
from r1jax.optimizer import OptimizerConfig, optimizer, schedule, select


def first_step(rule, grads, params):
  """One program instead of one for every operation and shape."""
  return jax.jit(lambda g, p: rule.update(g, rule.init(p), p))(grads, params)


def norm_of(tree):
  return math.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))


def rates(steps, **changes):
  """The learning rate of every update."""
  rate = schedule(OptimizerConfig(**{'steps': steps, 'learning_rate': 0.5} | changes))
  return jax.jit(jax.vmap(rate))(jnp.arange(steps)).tolist()


def test_constant():
  assert schedule(OptimizerConfig(4, 0.5))(3) == 0.5


def test_warm_up_is_linear_and_ends_at_the_full_rate():
  np.testing.assert_allclose(rates(6, warmup_steps=4), [0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
  np.testing.assert_allclose(rates(3, warmup_steps=1), [0.5] * 3)
  np.testing.assert_allclose(rates(3, warmup_steps=2), [0.25, 0.5, 0.5])


def test_cosine_falls_to_a_tenth():
  want = [0.5 * (0.55 + 0.45 * math.cos(math.pi * i / 8)) for i in range(8)]
  np.testing.assert_allclose(rates(8, schedule='cosine'), want, rtol=1e-6)
  rate = schedule(OptimizerConfig(8, 0.5, schedule='cosine'))
  assert float(rate(8)) == pytest.approx(0.05) and float(rate(4)) == pytest.approx(0.275)
  assert float(rate(100)) == pytest.approx(0.05)


def test_cosine_after_warm_up():
  found = rates(10, schedule='cosine', warmup_steps=2)
  np.testing.assert_allclose(found[:3], [0.25, 0.5, 0.5], rtol=1e-6)
  np.testing.assert_allclose(found[6], 0.275, rtol=1e-6)  # halfway between 2 and 10
  assert found[2:] == sorted(found[2:], reverse=True)


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
def test_matrices_decay_and_nothing_else_does(family, small, random_params):
  """Without a gradient, AdamW leaves p - rate * decay * p of what decays, and all of the rest."""
  cfg = small(family)
  rule = optimizer(OptimizerConfig(10, 0.5, weight_decay=0.1), cfg)
  params = random_params(cfg)
  grads = jax.tree.map(np.zeros_like, params)
  changes, _ = first_step(rule, grads, params)
  kinds = map_spec(lambda w: w.init, spec(cfg))
  names = jax.tree_util.tree_leaves_with_path(kinds)
  for (path, kind), p, change in zip(names, *map(jax.tree.leaves, (params, changes)), strict=True):
    name = jax.tree_util.keystr(path).rpartition('.')[2]
    want = -0.05 * np.asarray(p) if kind == 'normal' else np.zeros(p.shape)
    np.testing.assert_allclose(change, want, rtol=1e-6, err_msg=name)
    assert (kind == 'normal') == ('norm' not in name and 'bias' not in name), name


def test_the_first_step_by_hand(small, random_params):
  """Adam's first step is the rate in the direction of the gradient's sign; moments hold the clipped gradient."""
  cfg = small('qwen2')
  params = random_params(cfg)
  grads = jax.tree.map(lambda p: 3 * np.asarray(p), params)
  norm = norm_of(grads)
  rule = optimizer(OptimizerConfig(10, 0.01, clip_norm=1.0), cfg)
  changes, state = first_step(rule, grads, params)
  mu, nu = optax.tree_utils.tree_get(state, 'mu'), optax.tree_utils.tree_get(state, 'nu')
  for g, change, m, v in zip(*map(jax.tree.leaves, (grads, changes, mu, nu)), strict=True):
    clipped = np.asarray(g) / norm
    np.testing.assert_allclose(m, 0.1 * clipped, rtol=1e-5)  # beta1 = 0.9
    np.testing.assert_allclose(v, 0.05 * clipped**2, rtol=1e-5)  # beta2 = 0.95
    np.testing.assert_allclose(change, -0.01 * clipped / (np.abs(clipped) + 1e-8), rtol=1e-4, atol=1e-8)  # fmt: skip


def test_a_small_gradient_is_not_scaled(small, random_params):
  cfg = small('qwen2')
  params = random_params(cfg)
  norm = norm_of(params)
  rule = optimizer(OptimizerConfig(10, 0.01, clip_norm=2 * norm), cfg)
  _, state = first_step(rule, params, params)
  assert norm_of(optax.tree_utils.tree_get(state, 'mu')) == pytest.approx(0.1 * norm)


def test_select_is_bit_for_bit():
  old = {'a': jnp.array([1.0, -0.0, jnp.inf]), 'k': jax.random.key(1), 'n': jnp.int32(3)}
  new = {'a': jnp.array([jnp.nan, 2.0, 3.0]), 'k': jax.random.key(2), 'n': jnp.int32(4)}
  for yes, want in [(True, new), (False, old)]:
    found = jax.jit(select)(jnp.bool_(yes), new, old)
    assert np.asarray(found['a']).tobytes() == np.asarray(want['a']).tobytes()
    assert found['n'] == want['n']
    assert (jax.random.key_data(found['k']) == jax.random.key_data(want['k'])).all()


@pytest.mark.parametrize(
  'changes',
  [{'steps': 0}, {'learning_rate': -1.0}, {'learning_rate': math.inf}, {'schedule': 'linear'}, {'warmup_steps': 10},
   {'warmup_steps': -1}, {'weight_decay': math.nan}, {'clip_norm': 0.0}],
  ids=str,
)  # fmt: skip
def test_impossible_settings(changes):
  ((field, _),) = changes.items()
  with pytest.raises(ValueError, match=f'^{field}=.*; valid: '):
    OptimizerConfig(**{'steps': 10, 'learning_rate': 0.1} | changes)
