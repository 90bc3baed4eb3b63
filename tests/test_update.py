"""One update: the same whatever the micro-batch and the mesh, and nothing but what it should be."""

import contextlib
import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax import optimizer as optimizer_lib
from r1jax import state as state_lib
from r1jax.batch import BatchShape, Example, pack, spread, unpack
from r1jax.model.moe import bias_step
from r1jax.objective import Likelihood, ObjectiveConfig, PolicyLoss
from r1jax.optimizer import OptimizerConfig, schedule
from r1jax.stages.training import place
from r1jax.update import UpdateConfig, logprobs, update

pytestmark = pytest.mark.usefixtures('quick_compile')

OPTIMIZER = OptimizerConfig(steps=100, learning_rate=0.01, weight_decay=0.1, clip_norm=1e6)
SETTINGS = UpdateConfig(reference_every=2, bias_speed=0.01, balance_weight=0.1, mtp_weight=0.3)
QUIET = dataclasses.replace(SETTINGS, bias_speed=0.0, balance_weight=0.0)
LOSS = PolicyLoss(ObjectiveConfig(kl='k3', kl_weight=0.1, entropy_weight=0.01, max_tokens=8))
ALL_AT_ONCE, ONE_ROW_EACH, PACKED = BatchShape(1, 8, 16), BatchShape(8, 1, 16), BatchShape(5, 2, 32)
BIASES = {'.stacks[1].ffn.bias', '.mtp.block.ffn.bias'}  # they choose experts, and nothing else
LENGTHS = (15, 9, 12, 3, 16, 7, 11, 5)


@pytest.fixture(scope='module')
def batch_of(random_params):
  """(cfg, shape) -> (batch, places): everything that an objective reads, the same sequences for any shape.

  The policy that drew them, the sampler and the reference are near the one that is learned.
  """

  @functools.cache
  def near(cfg):
    examples = [example(cfg, n, np.zeros(n)) for n in LENGTHS]
    batch, places = pack(examples, ALL_AT_ONCE)
    return unpack(np.asarray(logprobs(random_params(cfg), batch, cfg)), places)

  def make(cfg, shape):
    rng, logprob = np.random.default_rng(0), near(dataclasses.replace(cfg, param_dtype='float32'))
    noisy = lambda: [(x + 0.2 * rng.normal(size=len(x))).astype(np.float32) for x in logprob]
    examples = [example(cfg, n, x) for n, x in zip(LENGTHS, noisy(), strict=True)]
    batch, places = pack(examples, shape)
    advantage = spread([rng.normal() * e.mask for e in examples], places, batch.tokens)
    reference = spread(noisy(), places, batch.tokens)
    return batch.replace(advantage=advantage, reference_logprob=reference), places

  return make


def example(cfg, n, logprob):
  """A third of it is the prompt."""
  tokens = np.random.default_rng(n).integers(0, cfg.vocab, n + 1).astype(np.int32)
  return Example(tokens, (np.arange(n) >= n // 3).astype(np.float32), logprob)


def new_state(cfg, params, mesh=None, *, master=False, optimizer=OPTIMIZER):
  """Of copies: an update gives the buffers of its state away."""
  rule = optimizer_lib.optimizer(optimizer, cfg)
  key = jax.random.key(3)
  return state_lib.init(
    jax.tree.map(jnp.copy, params), key, cfg, rule, mesh, master=master, reference=True
  )


@dataclasses.dataclass
class Step:
  """What one update made of the state, on the host."""

  state: object
  metrics: dict

  @property
  def gradient(self):
    """Adam's first moment after the first step, unclipped: 0.1 * gradient."""
    return jax.tree.map(lambda m: m / 0.1, optax.tree_utils.tree_get(self.state.optimizer, 'mu'))


@pytest.fixture(scope='module')
def step_of(small, random_params, batch_of):
  """(family, shape, mesh) -> the first update of that batch; each is computed once."""

  @functools.cache
  def step(family, shape, mesh=None):
    cfg = small(family)
    state, (batch, _) = new_state(cfg, random_params(cfg), mesh), batch_of(cfg, shape)
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
      state, metrics = update(state, place(batch, mesh), cfg, OPTIMIZER, SETTINGS, LOSS)
    host = on_host(state), jax.device_get(metrics)
    return Step(*host)

  return step


def assert_close(found, wanted, atol, where=lambda path: True):
  """Leaf by leaf, relative to the leaf's largest element."""
  pairs = zip(jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True)
  for (path, want), have in pairs:
    scale = max(float(np.abs(want).max()), 1e-6)
    np.testing.assert_allclose(
      np.asarray(have, np.float64) / scale, np.asarray(want, np.float64) / scale, rtol=0, atol=atol,
      err_msg=jax.tree_util.keystr(path),
    )  # fmt: skip


def same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


# The micro-batch is for memory only


@pytest.mark.parametrize(
  'family, shape',
  [('qwen2', ONE_ROW_EACH), ('qwen2', PACKED), ('deepseek_v3', PACKED)],
  ids=str,
)
def test_the_gradient_does_not_depend_on_the_micro_batch(step_of, family, shape):
  """Nor on how the sequences are packed, with balance and multi-token losses, and empty micro-batches."""
  whole, split = step_of(family, ALL_AT_ONCE), step_of(family, shape)
  assert_close(split.gradient, whole.gradient, 3e-6)
  for a, b in zip(jax.tree.leaves(whole.gradient), jax.tree.leaves(split.gradient), strict=True):
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * whole.metrics['grad_norm'])
  for name in whole.metrics:
    np.testing.assert_allclose(split.metrics[name], whole.metrics[name], 3e-6, 1e-6, err_msg=name)


def test_the_gradient_is_not_trivial(step_of):
  for family in ('qwen2', 'deepseek_v3'):
    step = step_of(family, ALL_AT_ONCE)
    named = jax.tree_util.tree_leaves_with_path(step.gradient)
    zero = {jax.tree_util.keystr(path) for path, g in named if not g.any()}
    assert zero == (BIASES if family == 'deepseek_v3' else set())
    assert step.metrics['kl'] > 0 and 0 < step.metrics['clip_fraction'] < 1
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in jax.tree.leaves(step.gradient)))
    assert step.metrics['grad_norm'] == pytest.approx(norm, rel=1e-5)


# The mesh changes nothing


@pytest.mark.parametrize(
  'family, axes',
  [
    ('qwen2', {'fsdp': 8}),
    ('qwen2', {'data': 2, 'tensor': 4}),
    ('deepseek_v3', {'expert': 8}),
    ('deepseek_v3', {'fsdp': 2, 'expert': 2, 'tensor': 2}),
  ],
  ids=str,
)
def test_an_update_on_a_mesh_is_that_of_one_device(step_of, mesh_of, family, axes):
  alone, together = step_of(family, ALL_AT_ONCE), step_of(family, ALL_AT_ONCE, mesh_of(**axes))
  assert_close(together.gradient, alone.gradient, 1e-5)
  for name in alone.metrics:
    np.testing.assert_allclose(together.metrics[name], alone.metrics[name], rtol=1e-5, err_msg=name)

  # Adam divides the gradient by its size: where it is rounding noise, the step is a coin's.
  def clear(new, old, gradient):
    noise = np.abs(gradient) < 1e-3 * np.abs(gradient).max()
    return np.where(noise, old, new)

  policy = jax.tree.map(clear, together.state.policy, alone.state.policy, alone.gradient)
  assert_close(policy, alone.state.policy, 1e-4 * OPTIMIZER.learning_rate / 0.01)
  assert (together.state.step, together.state.skipped) == (1, 0)


@pytest.mark.parametrize(
  'family, axes',
  [('qwen2', {'fsdp': 8}), ('deepseek_v3', {'fsdp': 2, 'expert': 2, 'tensor': 2})],
  ids=str,
)
def test_the_abstract_state_is_that_of_init_and_of_update(
  small, random_params, mesh_of, family, axes, caplog, batch_of
):
  """Structure, shapes, dtypes and shardings: what is restored is what was saved, and nothing recompiles."""
  cfg, mesh = small(family), mesh_of(**axes)
  state = new_state(cfg, random_params(cfg), mesh)
  rule = optimizer_lib.optimizer(OPTIMIZER, cfg)
  goal = state_lib.abstract(cfg, rule, mesh, master=False, reference=True)
  with jax.set_mesh(mesh):
    batch = place(batch_of(cfg, ALL_AT_ONCE)[0], mesh)
    for _ in range(3):
      assert jax.tree.structure(state) == jax.tree.structure(goal)
      pairs = zip(jax.tree_util.tree_leaves_with_path(goal), jax.tree.leaves(state), strict=True)
      for (path, want), x in pairs:
        name = jax.tree_util.keystr(path)
        assert (x.shape, x.dtype) == (want.shape, want.dtype), name
        assert x.sharding.is_equivalent_to(want.sharding, x.ndim), (name, x.sharding, want.sharding)
      caplog.clear()
      with jax.log_compiles():
        state, _ = update(state, batch, cfg, OPTIMIZER, SETTINGS, LOSS)
      compiled = [r for r in caplog.records if 'Compiling' in r.message]
  assert not compiled  # once the first step was made
  leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
  held = sum(x.addressable_shards[0].data.nbytes for x in leaves)
  assert state_lib.bytes_per_device(goal) == held


# What an update changes


def on_host(state):
  """A copy: what device_get gives may share the buffer that the next update reuses."""
  return jax.tree.map(np.array, state.replace(key=jax.random.key_data(state.key)))


def run(cfg, state, batches, *, optimizer=OPTIMIZER, settings=SETTINGS):
  """-> the states before and after each update, on the host, and the metrics."""
  states, metrics = [on_host(state)], []
  for batch in batches:
    state, found = update(state, batch, cfg, optimizer, settings, LOSS)
    states.append(on_host(state))
    metrics.append(jax.device_get(found))
  return states, metrics


def test_the_reference_is_refreshed_at_multiples_and_at_no_other_step(
  small, random_params, batch_of
):
  cfg = small('qwen2')
  batch = batch_of(cfg, ALL_AT_ONCE)[0]
  states, _ = run(cfg, new_state(cfg, random_params(cfg)), [batch] * 5)
  for step in range(1, 6):
    assert states[step].step == step
    old, new, policy = states[step - 1].reference, states[step].reference, states[step].policy
    if step % 2:
      assert same_bits(new, old) and not same_bits(new, policy)
    else:  # unoptimised, a program may compute it twice; an update moves weights by 0.01
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 3e-7, 1e-7), new, policy)


def test_a_gradient_that_is_not_finite_counts_and_moves_nothing(small, random_params, batch_of):
  """Of a good step, two bad ones, and a good one. In the first bad one the reference is due to be refreshed."""
  cfg = small('deepseek_v3')
  good = batch_of(cfg, ALL_AT_ONCE)[0]
  nan, infinite = (
    good.replace(advantage=np.where(good.mask > 0, x, 0).astype(np.float32))
    for x in (np.nan, np.inf)
  )
  states, metrics = run(cfg, new_state(cfg, random_params(cfg)), [good, nan, infinite, good])
  for before, after in [(states[1], states[2]), (states[2], states[3])]:
    left_out = dict.fromkeys(('step', 'skipped', 'skipped_in_row', 'reference'), np.int32(0))
    assert same_bits(before.replace(**left_out), after.replace(**left_out))
  assert same_bits(states[2].reference, states[1].policy)
  assert not same_bits(states[2].reference, states[1].reference)
  assert same_bits(states[3].reference, states[2].reference)
  assert [int(s.step) for s in states] == [0, 1, 2, 3, 4]
  assert [int(s.skipped) for s in states] == [0, 0, 1, 2, 2]
  assert [int(s.skipped_in_row) for s in states] == [0, 0, 1, 2, 0]
  assert [bool(np.isfinite(m['loss'])) for m in metrics] == [True, False, False, True]
  rates = [float(schedule(OPTIMIZER)(count)) for count in (0, 1, 1, 1)]
  assert [float(m['learning_rate']) for m in metrics] == pytest.approx(rates)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(states[4].policy))
  assert not same_bits(states[3].policy, states[4].policy)


def test_correction_biases_follow_the_loads_and_no_gradient(small, random_params, step_of):
  """One bias step from the loads of the whole batch, the same for any micro-batch, and nothing of Adam's."""
  cfg = small('deepseek_v3')
  biases = lambda w: np.concatenate([w.stacks[1].ffn.bias, w.mtp.block.ffn.bias[None]])
  old, found = biases(random_params(cfg)), []
  for shape in (ALL_AT_ONCE, PACKED):
    step = step_of('deepseek_v3', shape)
    sizes = np.abs(biases(step.state.policy) - old)
    assert np.all((sizes < 1e-6) | (np.abs(sizes - 0.01) < 1e-6)) and (sizes > 0).any(-1).all()
    found.append(biases(step.state.policy))
    assert not biases(step.gradient).any()
  np.testing.assert_array_equal(*found)
  # Experts with more than the mean load become less likely.
  load = jnp.array([[3.0, 1.0, 2.0, 2.0]])
  np.testing.assert_allclose(bias_step(jnp.zeros((1, 4)), load, 0.01), [[-0.01, 0.01, 0, 0]])


def test_the_state_is_given_away(small, random_params, batch_of):
  """Every buffer of the old state is reused: a step needs the memory of one state."""
  cfg = small('deepseek_v3')
  state = new_state(cfg, random_params(cfg))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    new, _ = update(state, batch_of(cfg, ALL_AT_ONCE)[0], cfg, OPTIMIZER, SETTINGS, LOSS)
  left = [p for p, x in jax.tree_util.tree_leaves_with_path(state) if not x.is_deleted()]
  assert not left, left
  jax.block_until_ready(new)


# bf16


SLOW = dataclasses.replace(OPTIMIZER, learning_rate=3e-4, weight_decay=0.0)


@pytest.fixture(scope='module')
def bf16_runs(small, random_params, batch_of):
  """Four slow steps on one batch, then one on a batch of which nothing is learned: (states, metrics)."""

  @functools.cache
  def of(family, master):
    cfg = dataclasses.replace(small(family), param_dtype='bfloat16', mtp=0)
    batch = batch_of(cfg, ALL_AT_ONCE)[0]
    zero = {'mask': batch.mask * 0, 'length': batch.length * 0}
    empty = batch.replace(**zero, learned=np.int32(0), sequences=np.int32(0))
    state = new_state(cfg, random_params(cfg), master=master, optimizer=SLOW)
    return run(cfg, state, [batch] * 4 + [empty], optimizer=SLOW, settings=QUIET)

  return of


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
def test_a_bf16_policy_is_its_fp32_master_rounded(bf16_runs, family):
  states, _ = bf16_runs(family, True)
  for state in states:
    rounded = jax.tree.map(lambda m, p: m.astype(p.dtype), state.master, state.policy)
    assert same_bits(rounded, state.policy)
    assert {x.dtype for x in jax.tree.leaves(state.master)} == {np.dtype('float32')}
    moments = optax.tree_utils.tree_get(state.optimizer, 'mu')
    assert {x.dtype for x in jax.tree.leaves(moments)} == {np.dtype('float32')}
  assert states[0].policy.embed.dtype == jnp.bfloat16


def test_the_master_keeps_what_bf16_would_lose(bf16_runs):
  """Steps of 3e-4 on weights from 0.25 to 0.5, which bf16 tells apart only by 1/512."""
  (with_master, _), (without, _) = bf16_runs('qwen2', True), bf16_runs('qwen2', False)
  moved = lost = total = 0
  first, last, plain = with_master[0], with_master[4], without[4]
  trees = (first.policy, last.policy, plain.policy, last.master)
  for old, new, plain, master in zip(*map(jax.tree.leaves, trees), strict=True):
    old, new, plain = (np.asarray(x, np.float32) for x in (old, new, plain))
    size = np.abs(old)
    far = np.abs(master - old) > 0.6 / 512  # more than half of the distance to the next bf16
    chosen = (size > 0.26) & (size < 0.48) & far
    moved, lost = moved + (chosen & (new != old)).sum(), lost + (chosen & (plain == old)).sum()
    total += chosen.sum()
  assert total > 100
  assert moved == total and lost == total
  # And the master has moved in steps that are far below what bf16 resolves.
  step = np.abs(with_master[1].master.embed - with_master[0].master.embed)
  assert 0 < step.max() < 1 / 1024


def test_a_bf16_policy_without_a_master_keeps_its_types(bf16_runs):
  states, _ = bf16_runs('qwen2', False)
  for a, b in zip(jax.tree.leaves(states[0]), jax.tree.leaves(states[5]), strict=True):
    assert a.dtype == b.dtype


def test_a_batch_without_a_learned_token_has_no_gradient(bf16_runs):
  """As when every sample was cut off and is filtered."""
  _, metrics = bf16_runs('deepseek_v3', True)
  assert metrics[0]['loss'] != 0 and metrics[0]['grad_norm'] > 0
  assert metrics[4]['loss'] == 0 and metrics[4]['grad_norm'] == 0 and metrics[4]['skipped'] == 0
  assert all(np.isfinite(x) for x in metrics[4].values())


def test_without_a_speed_the_biases_stay(bf16_runs):
  states, _ = bf16_runs('deepseek_v3', True)
  first, last = (s.master.stacks[1].ffn for s in (states[0], states[5]))
  assert same_bits(first.bias, last.bias) and not same_bits(first.gate, last.gate)


# Log-probabilities


def test_on_policy_the_ratio_is_one(small, random_params, batch_of):
  """logprobs() is the update's own function: what it gives as old makes every ratio 1, in any shape."""
  cfg = small('deepseek_v3')
  params = random_params(cfg)
  found = {}
  for shape in (ALL_AT_ONCE, PACKED):
    batch, places = batch_of(cfg, shape)
    found[shape] = unpack(np.asarray(logprobs(params, batch, cfg)), places)
  for a, b in zip(*found.values(), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
  batch, places = batch_of(cfg, ALL_AT_ONCE)
  batch = batch.replace(old_logprob=spread(found[PACKED], places, batch.tokens))
  _, metrics = update(new_state(cfg, params), batch, cfg, OPTIMIZER, SETTINGS, LOSS)
  assert float(metrics['ratio']) == pytest.approx(1, abs=1e-5)
  assert float(metrics['ratio_max']) == pytest.approx(1, abs=1e-5)
  assert float(metrics['clip_fraction']) == 0


def test_the_likelihood_is_the_mean_of_its_log_probabilities(small, random_params, batch_of):
  cfg = small('qwen2')
  params, (batch, _) = random_params(cfg), batch_of(cfg, ALL_AT_ONCE)
  want = -(np.asarray(logprobs(params, batch, cfg)) * batch.mask).sum() / batch.learned
  _, metrics = update(new_state(cfg, params), batch, cfg, OPTIMIZER, UpdateConfig(), Likelihood())
  assert float(metrics['loss']) == pytest.approx(float(want), rel=1e-6)
  assert set(metrics) == {
    'loss',
    'grad_norm',
    'learning_rate',
    'skipped',
    'skipped_in_row',
    'entropy',
  }


@pytest.mark.parametrize('field', ['reference_every', 'bias_speed', 'balance_weight', 'mtp_weight'])
def test_impossible_settings(field):
  for value in (-1, float('nan'), float('inf')):
    with pytest.raises(ValueError, match=f'^{field}=.*; valid: at least 0'):
      UpdateConfig(**{field: value})
