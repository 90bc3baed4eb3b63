"""Routing, experts, balance: against loops and numbers worked by hand, on one device and eight."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.model import weights
from r1jax.model.moe import Moe, balance_loss, bias_step, moe, moe_spec, route, top_k_mask
from r1jax.model.sizes import MoeConfig

run_moe = jax.jit(moe, static_argnums=(3, 4))


@pytest.fixture
def cfg(small):
  return small('deepseek_v3')


def _weights(cfg, seed=0):
  w = weights.init(moe_spec(cfg), cfg, jax.random.key(seed))
  if w.bias is None:
    return w
  return w.replace(bias=0.2 * jax.random.normal(jax.random.key(seed + 1), w.bias.shape))


def _tokens(cfg, batch=2, length=7, seed=5):
  return jax.random.normal(jax.random.key(seed), (batch, length, cfg.embed))


def _route_by_loops(w, x, cfg: MoeConfig):
  """x [R, D] -> dense weights [R, E], by the words of the papers, one token at a time."""
  logits = np.asarray(x, np.float64) @ np.asarray(w.router, np.float64)
  out = np.zeros_like(logits)
  for row, z in zip(out, logits, strict=True):
    sigmoid = cfg.score == 'sigmoid'
    score = 1 / (1 + np.exp(-z)) if sigmoid else np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    biased = score + (0 if w.bias is None else np.asarray(w.bias, np.float64))
    groups = np.split(np.arange(cfg.experts), cfg.groups)
    rank = [np.sort(biased[g])[-2:].sum() if sigmoid else biased[g].max() for g in groups]
    reach = np.concatenate([groups[g] for g in np.argsort(rank)[::-1][: cfg.kept_groups]])
    chosen = reach[np.argsort(biased[reach])[::-1][: cfg.chosen]]
    total = score[chosen].sum() if cfg.normalise else 1.0
    row[chosen] = score[chosen] / total * cfg.scale
  return out


def _dense(weights, experts, count):
  out = np.zeros((weights.shape[0], count))
  np.put_along_axis(out, np.asarray(experts), np.asarray(weights), axis=1)
  return out


@pytest.mark.parametrize('family', ['deepseek_v3', 'deepseek_v2'])
@pytest.mark.parametrize('groups, kept', [(1, 1), (4, 2), (4, 4), (2, 1)])
def test_routing_equals_a_loop_over_tokens(small, family, groups, kept):
  cfg = small(family)
  routing = dataclasses.replace(cfg.moe, groups=groups, kept_groups=kept)
  w, x = _weights(cfg), _tokens(cfg, 1, 64)[0]
  weight, experts, affinity = route(w, x, routing)
  expected = _route_by_loops(w, x, routing)
  np.testing.assert_allclose(
    _dense(weight, experts, routing.experts), expected, rtol=1e-5, atol=1e-6
  )
  if routing.normalise:
    np.testing.assert_allclose(weight.sum(-1), routing.scale, rtol=1e-6)
  assert affinity.dtype == weight.dtype == jnp.float32


def test_negative_biased_scores_of_kept_groups_are_still_chosen():
  """Groups that were dropped are out of reach, even when every biased score is below zero."""
  routing = MoeConfig(experts=4, chosen=2, expert_mlp=1, groups=2, kept_groups=1)
  bias = jnp.array([-5.0, -6.0, -9.0, -9.0])
  w = Moe(jnp.zeros((3, 4)), bias, gate=None, up=None, down=None, shared=None)
  _, experts, _ = route(w, jnp.ones((1, 3)), routing)
  assert sorted(experts[0].tolist()) == [0, 1]


def test_correction_bias_moves_the_choice_and_not_the_weights(cfg):
  routing = dataclasses.replace(cfg.moe, groups=1, kept_groups=1, normalise=False, scale=1.0)
  w, x = _weights(cfg), _tokens(cfg, 1, 16)[0]
  w = w.replace(bias=jnp.zeros(8).at[5].set(10.0))
  weight, experts, affinity = route(w, x, routing)
  assert (experts == 5).any(-1).all()
  np.testing.assert_allclose(weight, np.take_along_axis(affinity, experts, axis=1), rtol=1e-6)
  free = route(w.replace(bias=jnp.zeros(8)), x, routing)
  np.testing.assert_array_equal(free[2], affinity)
  assert not (np.sort(free[1]) == np.sort(experts)).all()


def test_the_router_computes_in_fp32_on_every_platform(cfg):
  """Accelerators multiply fp32 in bf16 or TF32 passes unless they are told not to."""
  jaxpr = str(jax.make_jaxpr(lambda w, x: route(w, x, cfg.moe))(_weights(cfg), _tokens(cfg)[0]))
  first = jaxpr[jaxpr.index('dot_general') :]
  assert 'Precision.HIGHEST' in first[: first.index(']\n')]


def test_top_k_mask():
  mask = top_k_mask(jnp.array([[0.1, 0.9, 0.5, 0.7], [3.0, 1.0, 1.0, 1.0]]), 2)
  np.testing.assert_array_equal(mask, [[0, 1, 0, 1], [1, 1, 0, 0]])


def _dense_moe(w, x, cfg):
  """Every expert on every token, weighted by a [R, E] matrix that is zero for those not chosen."""
  flat = x.reshape(-1, x.shape[-1])
  weight, experts, _ = route(w, flat, cfg.moe)
  dense = jnp.einsum('rce,rc->re', jax.nn.one_hot(experts, cfg.moe.experts), weight)
  out = 0.0
  for e in range(cfg.moe.experts):
    hidden = jax.nn.silu(flat @ w.gate[e]) * (flat @ w.up[e])
    out = out + dense[:, e : e + 1] * (hidden @ w.down[e])
  shared = jax.nn.silu(flat @ w.shared.gate) * (flat @ w.shared.up) @ w.shared.down
  return (out + shared).reshape(x.shape)


@pytest.mark.parametrize('family', ['deepseek_v3', 'deepseek_v2'])
@pytest.mark.parametrize('length', [1, 40])
def test_moe_equals_a_dense_loop_over_experts_in_values_and_gradients(small, family, length):
  cfg = small(family)
  w, x = _weights(cfg), _tokens(cfg, length=length)
  weight = jax.random.normal(jax.random.key(9), x.shape)

  def loss(run):
    return jax.jit(jax.value_and_grad(lambda w, x: (run(w, x) * weight).sum(), argnums=(0, 1)))

  ours, (ours_w, ours_x) = loss(lambda w, x: moe(w, x, None, cfg, 0)[0])(w, x)
  theirs, (theirs_w, theirs_x) = loss(lambda w, x: _dense_moe(w, x, cfg))(w, x)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  np.testing.assert_allclose(ours_x, theirs_x, rtol=1e-5, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours_w, theirs_w
  )
  assert np.abs(ours_w.router).max() > 1e-3
  if ours_w.bias is not None:
    np.testing.assert_array_equal(ours_w.bias, 0)


def test_every_token_may_choose_the_same_experts(cfg):
  """No capacity: nothing is dropped when the load is as uneven as it can be."""
  w, x = _weights(cfg), _tokens(cfg, length=40)
  w = w.replace(bias=jnp.where(jnp.arange(8) < 3, 100.0, 0.0))
  cfg = dataclasses.replace(cfg, moe=dataclasses.replace(cfg.moe, groups=1, kept_groups=1))
  out, routing = run_moe(w, x, None, cfg, 0)
  np.testing.assert_array_equal(routing.load, [80, 80, 80, 0, 0, 0, 0, 0])
  np.testing.assert_allclose(out, _dense_moe(w, x, cfg), rtol=1e-5, atol=1e-5)


def test_load_counts_live_tokens_only(cfg):
  w, x = _weights(cfg), _tokens(cfg)
  segments = jnp.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
  _, routing = run_moe(w, x, segments, cfg, 2)
  assert routing.load.sum() == 3 * 11
  live = x.reshape(-1, cfg.embed)[np.asarray(segments).reshape(-1) > 0]
  expected = (_route_by_loops(w, live, cfg.moe) > 0).sum(0)
  np.testing.assert_array_equal(routing.load, expected)


def test_balance_loss_worked_by_hand():
  """Two experts, one chosen, two tokens: f = 2 / (1 * 2) * [2, 0], P = mean normalised affinity."""
  routing = MoeConfig(experts=2, chosen=1, expert_mlp=1)
  affinity = jnp.array([[[0.6, 0.2], [0.5, 0.5]]])  # normalised: [0.75, 0.25], [0.5, 0.5]
  counts = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
  loss = balance_loss(counts, affinity, jnp.ones((1, 2), jnp.int32), routing, 1)
  np.testing.assert_allclose(loss, 2.0 * 0.625, rtol=1e-6)
  even = balance_loss(jnp.eye(2)[None], affinity, jnp.ones((1, 2), jnp.int32), routing, 1)
  np.testing.assert_allclose(even, 1.0, rtol=1e-6)


def test_packed_balance_loss_is_the_sum_over_sequences(cfg):
  w, x = _weights(cfg), _tokens(cfg, 1, 12)
  segments = jnp.array([[1] * 5 + [2] * 5 + [0] * 2])
  whole = run_moe(w, x, segments, cfg, 3)[1].balance
  one = jnp.ones((1, 5), jnp.int32)
  parts = [run_moe(w, x[:, i : i + 5], one, cfg, 1)[1].balance for i in (0, 5)]
  np.testing.assert_allclose(whole, sum(parts), rtol=1e-5)
  assert run_moe(w, x, segments, cfg, 0)[1].balance == 0


def test_balance_loss_reaches_the_router_only(cfg):
  w, x = _weights(cfg), _tokens(cfg)
  segments = jnp.ones(x.shape[:2], jnp.int32)
  grad = jax.jit(jax.grad(lambda w: moe(w, x, segments, cfg, 1)[1].balance))(w)
  assert np.abs(grad.router).max() > 0
  for part in (grad.bias, grad.gate, grad.up, grad.down):
    np.testing.assert_array_equal(part, 0)


def test_bias_step_lowers_what_is_overloaded():
  bias, load = jnp.array([0.0, 1.0, -1.0, 0.5]), jnp.array([10.0, 2.0, 6.0, 6.0])
  np.testing.assert_allclose(bias_step(bias, load, 0.001), [-0.001, 1.001, -1.0, 0.5], rtol=1e-6)
  stacked = bias_step(jnp.stack([bias, bias]), jnp.stack([load, load[::-1]]), 0.1)
  np.testing.assert_allclose(stacked[1], [0.0, 1.0, -0.9, 0.4], rtol=1e-6)


def test_bias_steps_even_out_the_load(cfg):
  w, x = _weights(cfg), _tokens(cfg, 8, 64)
  w = w.replace(bias=jnp.linspace(-0.3, 0.3, 8))
  cfg = dataclasses.replace(cfg, moe=dataclasses.replace(cfg.moe, groups=1, kept_groups=1))
  load = jax.jit(lambda bias: moe(w.replace(bias=bias), x, None, cfg, 0)[1].load)
  first, bias = load(w.bias), w.bias
  for _ in range(60):
    bias = bias_step(bias, load(bias), 0.01)
  assert load(bias).max() / 192 < 1.3 < first.max() / 192


@pytest.mark.parametrize(
  'axes',
  [{'expert': 8}, {'data': 2, 'expert': 4}, {'expert': 2, 'tensor': 2}, {'expert': 2, 'fsdp': 4}],
)
def test_expert_parallel_equals_one_device(cfg, mesh_of, axes):
  w, x = _weights(cfg), _tokens(cfg, batch=8)
  weight = jax.random.normal(jax.random.key(9), x.shape)

  def run(w, x):
    out, routing = moe(w, x, jnp.ones(x.shape[:2], jnp.int32), cfg, 1)
    return (out * weight).sum() + routing.balance, routing.load

  step = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
  alone = jax.jit(step)(w, x)
  mesh = mesh_of(**axes)
  goal = weights.abstract(moe_spec(cfg), cfg, mesh)
  placed = jax.tree.map(lambda a, g: jax.device_put(a, g.sharding), w, goal)
  with jax.set_mesh(mesh):
    together = jax.jit(step)(placed, x)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    alone,
    jax.device_get(together),
  )


@pytest.mark.parametrize('axes', [{}, {'fsdp': 2, 'expert': 4}], ids=str)
@pytest.mark.parametrize('most', [1, 30, 100])
def test_some_tokens_at_a_time_equal_all_at_once(cfg, mesh_of, monkeypatch, axes, most):
  w, x = _weights(cfg), _tokens(cfg, batch=8)

  def run(w, x):
    out = moe(w, x, None, cfg, 0)[0]
    return (out * jnp.sin(jnp.arange(out.size).reshape(out.shape))).sum(), out

  step = lambda: jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))
  alone = jax.device_get(step()(w, x))
  monkeypatch.setattr('r1jax.model.moe.MOST_PAIRS', most)
  with jax.set_mesh(mesh_of(**axes)) if axes else contextlib.nullcontext():
    pieces = jax.device_get(step()(w, x))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), alone, pieces)


def test_a_batch_that_does_not_divide_is_computed_by_every_shard(cfg, mesh_of):
  w, x = _weights(cfg), _tokens(cfg, batch=3)
  alone = run_moe(w, x, None, cfg, 0)[0]
  with jax.set_mesh(mesh_of(expert=4)):
    together = jax.jit(lambda w, x: moe(w, x, None, cfg, 0)[0])(w, x)
  np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)
