"""The same loss and gradients on one device and on any mesh of eight, to fp32 rounding."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import mesh as mesh_lib
from r1jax.model import sizes, weights
from r1jax.model.mtp import mtp_logprobs
from r1jax.model.transformer import forward, spec, token_logprobs

pytestmark = pytest.mark.usefixtures('quick_compile')


def _loss(params, cfg, batch):
  """Policy, entropy, balance and MTP terms of a packed batch: every path that has a gradient."""
  tokens, targets, positions, segments = batch
  out = forward(params, cfg, tokens, positions, segments=segments, sequences=2)
  logprob, entropy = token_logprobs(params, cfg, out.hidden, targets)
  loss = (logprob + 0.1 * entropy).mean() + 0.01 * sum(r.balance.sum() for r in out.routing)
  if cfg.mtp:
    after, valid, _ = mtp_logprobs(params, cfg, out.hidden, targets, positions, segments)
    loss = loss + 0.3 * (after * valid).mean()
  return loss, [r.load for r in out.routing]


STEP = jax.jit(jax.value_and_grad(_loss, has_aux=True), static_argnums=1)


def _batch(cfg, rows=8, length=10):
  tokens = np.random.default_rng(0).integers(0, cfg.vocab, (rows, length + 1))
  positions = np.tile([*range(4), *range(6)], (rows, 1))
  segments = np.tile([1] * 4 + [2] * 6, (rows, 1))
  return tuple(
    jnp.asarray(x, jnp.int32) for x in (tokens[:, :-1], tokens[:, 1:], positions, segments)
  )


@pytest.fixture(scope='module')
def alone(small, random_params):
  """Family -> what one device makes of the batch; computed once."""
  results = {}

  def result(family):
    if family not in results:
      cfg = small(family)
      results[family] = jax.device_get(STEP(random_params(cfg), cfg, _batch(cfg)))
    return results[family]

  return result


@pytest.mark.parametrize(
  'family, axes',
  [
    ('qwen2', {'fsdp': 8}),
    ('qwen2', {'data': 2, 'tensor': 4}),
    ('qwen2', {'data': 2, 'fsdp': 2, 'tensor': 2}),
    ('deepseek_v3', {'fsdp': 8}),
    ('deepseek_v3', {'data': 4, 'tensor': 2}),
    ('deepseek_v3', {'expert': 8}),
    ('deepseek_v3', {'fsdp': 2, 'expert': 2, 'tensor': 2}),
  ],
  ids=str,
)
def test_loss_and_gradients_of_a_mesh_are_those_of_one_device(
  small, random_params, mesh_of, alone, family, axes
):
  cfg, mesh = small(family), mesh_of(**axes)
  goal = weights.abstract(spec(cfg), cfg, mesh)
  params = jax.tree.map(lambda x, g: jax.device_put(x, g.sharding), random_params(cfg), goal)
  with jax.set_mesh(mesh):
    batch = jax.device_put(_batch(cfg), mesh_lib.batch_sharding(mesh))
    together = jax.device_get(STEP(params, cfg, batch))
  # fp32 sums of another order: 1e-5 of the largest element of a leaf.
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(alone(family)), jax.tree.leaves(together), strict=True
  ):
    scale = max(np.abs(a).max(), 1e-6)
    np.testing.assert_allclose(b / scale, a / scale, atol=1e-5, err_msg=jax.tree_util.keystr(path))


def test_every_size_has_valid_shardings(mesh_of):
  """Also where heads, experts or the vocabulary do not divide."""
  mesh = mesh_of(fsdp=2, expert=2, tensor=2)
  for name in sizes.names():
    cfg = sizes.get(name)
    weights.abstract(spec(cfg), cfg, mesh)


def test_large_weights_of_deepseek_v3_are_split_over_everything():
  mesh = jax.sharding.AbstractMesh((1, 16, 32, 4), mesh_lib.AXES)
  cfg = sizes.get('deepseek_v3')
  goal = weights.abstract(spec(cfg), cfg, mesh)
  gate = goal.stacks[1].ffn.gate
  assert gate.sharding.shard_shape(gate.shape) == (58, 256 // 32, 7168 // 16, 2048 // 4)
  q_b = goal.stacks[1].attention.q_b
  assert q_b.sharding.shard_shape(q_b.shape) == (58, 1536 // 16, 128 // 4, 192)
  large = [x for x in jax.tree.leaves(goal) if x.size > 1e7]
  assert all(np.prod(x.sharding.shard_shape(x.shape)) <= x.size // 16 for x in large)


def test_a_mesh_axis_is_used_once():
  mesh = jax.sharding.AbstractMesh((1, 2, 1, 1), mesh_lib.AXES)
  sharding = mesh_lib.weight_sharding(mesh, ('two_embed', 'embed'), (8, 4))
  assert sharding.spec == jax.sharding.PartitionSpec('fsdp', None)
  sharding = mesh_lib.weight_sharding(mesh, ('two_embed', 'embed'), (7, 4))
  assert sharding.spec == jax.sharding.PartitionSpec(None, 'fsdp')


def test_axes_that_do_not_divide_are_replicated(small, mesh_of):
  mesh, cfg = mesh_of(data=2, tensor=4), small('qwen2')
  attention = weights.abstract(spec(cfg), cfg, mesh).stacks[0].attention
  assert attention.q.sharding.shard_shape(attention.q.shape) == (2, 32, 1, 8)
  assert attention.k.sharding.shard_shape(attention.k.shape) == (2, 32, 2, 8)  # 2 heads, 4 shards


def test_make_mesh():
  assert dict(mesh_lib.make_mesh(fsdp=-1, tensor=2).shape) == {
    'data': 1,
    'fsdp': 4,
    'expert': 1,
    'tensor': 2,
  }
  with pytest.raises(ValueError, match='needs 3 devices or a multiple, 8 are here'):
    mesh_lib.make_mesh(data=3)
  with pytest.raises(ValueError, match='devices'):
    mesh_lib.make_mesh(data=3, fsdp=-1)


@pytest.mark.parametrize(
  ('before', 'flags', 'devices'),
  [
    ('pass', '', 3),
    ('pass', '--xla_force_host_platform_device_count=2', 2),  # what the user says
    ('jax.devices()', '', 1),  # in use by now
  ],
)
def test_split_cpu(before, flags, devices):
  code = f'import jax; from r1jax.mesh import split_cpu; {before}; split_cpu(3); print(jax.device_count())'
  found = subprocess.run(
    [sys.executable, '-c', code], env=os.environ | {'XLA_FLAGS': flags}, capture_output=True, text=True, check=True
  )  # fmt: skip
  assert found.stdout.split() == [str(devices)]


def test_without_a_mesh_nothing_is_constrained(mesh_of):
  x = jnp.ones((4, 2))
  assert mesh_lib.shard(x, 'batch', None) is x
  with jax.set_mesh(mesh_of(data=1)):
    assert mesh_lib.shard(x, 'batch', None) is x
  with jax.set_mesh(mesh_of(data=4)):
    split = jax.jit(lambda x: mesh_lib.shard(x, 'batch', None))(x)
  assert split.sharding.shard_shape(x.shape) == (1, 2)
