"""The objective against numbers worked by hand and against a formula in plain loops, differentiated numerically."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.algorithms import ALGORITHMS
from r1jax.batch import Batch
from r1jax.objective import ObjectiveConfig, Terms, denominator, k2, k3, policy_objective

PLAIN = ObjectiveConfig(kl='none', kl_weight=0.0)
pytestmark = pytest.mark.usefixtures('quick_compile')
FULL = ObjectiveConfig(kl='k3', kl_weight=0.3, entropy_weight=0.2, max_tokens=6)
VARIANTS = {name: a.objective(max_tokens=6) for name, a in ALGORITHMS.items()} | {
  'full': FULL,
  'r1': dataclasses.replace(FULL, clip_low=10.0, clip_high=10.0),
  'k2': dataclasses.replace(FULL, kl='k2'),
  'gspo_wide': dataclasses.replace(FULL, ratio='sequence', clip_high=0.1),
  'gspo_tokens': dataclasses.replace(FULL, ratio='sequence', average='token'),
  'gspo_weight': dataclasses.replace(FULL, ratio='sequence', surrogate='weight', clip_high=0.1),
  'dual': dataclasses.replace(FULL, clip_low=0.1, dual_clip=1.3),
  'truncate': dataclasses.replace(FULL, sampler_correction='truncate', sampler_cap=1.2),
  'mask': dataclasses.replace(FULL, sampler_correction='mask', sampler_cap=1.2),
}


@dataclasses.dataclass
class Drawn:
  """One sequence: `prompt` targets that are not learned, then its learned ones [N] with their log-probabilities."""

  prompt: int
  advantage: float
  logprob: np.ndarray
  old: np.ndarray
  sampler: np.ndarray
  reference: np.ndarray
  entropy: np.ndarray


def drawn(seed=0, lengths=(3, 1, 4, 2, 5, 6)):
  random = np.random.default_rng(seed)
  near = lambda x, scale: x + scale * random.normal(size=x.shape)
  out = []
  for n in lengths:
    old = -2 * random.random(n) - 0.5
    logprob, sampler = near(old, 0.4), near(old, 0.3)
    out.append(
      Drawn(
        random.integers(1, 4), random.normal(), logprob, old, sampler, near(old, 0.5),
        random.random(n),
      )
    )  # fmt: skip
  return out


def packed(sequences, rows, width=24, garbage=0.0, dtype=np.float32):
  """Sequences, and which of them share a row -> logprob, entropy [B, T], Batch. `garbage` is where none is learned."""
  ints = ('tokens', 'targets', 'positions', 'segments')
  arrays = {n: np.zeros((len(rows), width), np.int32) for n in ints}
  floats = (
    'logprob',
    'entropy',
    'old_logprob',
    'sampler_logprob',
    'reference_logprob',
    'advantage',
  )
  arrays |= {n: np.full((len(rows), width), garbage, dtype) for n in floats}
  arrays |= {n: np.zeros((len(rows), width), dtype) for n in ('mask', 'length')}
  for row, members in enumerate(rows):
    start = 0
    for segment, s in enumerate((sequences[i] for i in members), 1):
      whole = slice(start, start + s.prompt + len(s.old))
      arrays['segments'][row, whole], arrays['length'][row, whole] = segment, len(s.old)
      values = (s.logprob, s.entropy, s.old, s.sampler, s.reference, s.advantage, 1.0)
      for name, value in zip((*floats, 'mask'), values):
        arrays[name][row, start + s.prompt : whole.stop] = value
      start = whole.stop
  counts = {'sequences': len(sequences), 'learned': sum(len(s.old) for s in sequences), 'live': 1}
  logprob, entropy = arrays.pop('logprob'), arrays.pop('entropy')
  return logprob, entropy, Batch(**arrays, **{n: np.int32(x) for n, x in counts.items()})


@functools.partial(jax.jit, static_argnames=('cfg', 'most', 'on_policy'))
def value_and_grad(logprob, entropy, batch, cfg, most=4, on_policy=False):
  """-> loss, its gradient with respect to logprob [B, T]."""

  def loss(logprob):
    total, _ = policy_objective(logprob, entropy, batch, cfg, most, on_policy=on_policy)
    return total / denominator(batch.sequences, batch.learned, cfg)

  return jax.value_and_grad(loss)(logprob)


def one(cfg, pi, old=None, sampler=None, reference=None, advantage=1.0, **how):
  """Probabilities of one sequence's tokens -> loss, gradient [N]."""
  logs = [np.log(np.asarray(pi if p is None else p, float)) for p in (pi, old, sampler, reference)]
  sequence = Drawn(1, advantage, *logs, np.zeros(len(pi)))
  logprob, entropy, batch = packed([sequence], [[0]], width=len(pi) + 2)
  loss, grad = value_and_grad(logprob, entropy, batch, cfg, **how)
  assert grad[0, 0] == grad[0, -1] == 0
  return loss, grad[0, 1:-1]


def check(result, loss, grad):
  np.testing.assert_allclose(result[0], loss, rtol=2e-6, atol=1e-7)
  np.testing.assert_allclose(result[1], grad, rtol=2e-6, atol=1e-7)


# By hand. Ratios 1.25 and 0.75; where the clip acts there is no gradient.


def test_grpo_by_hand():
  pi, old = [0.5, 0.3], [0.4, 0.4]
  # min(2.5, 2.4) and min(1.5, 1.6), and for A = -2 min(-2.5, -2.4) and min(-1.5, -1.6); d = ratio * A.
  check(one(PLAIN, pi, old, advantage=2.0), -(2.4 + 1.5) / 2, [0, -0.75])
  check(one(PLAIN, pi, old, advantage=-2.0), (2.5 + 1.6) / 2, [1.25, 0])


def test_kl_by_hand():
  # reference / pi = 0.5 and 2: k3 = r - ln r - 1 with d = 1 - r, k2 = ln^2 / 2 with d = -ln r.
  ln2 = math.log(2)
  how = {'pi': [0.5, 0.3], 'reference': [0.25, 0.6], 'advantage': 0.0}
  k3_cfg = ObjectiveConfig(kl='k3', kl_weight=0.1)
  check(one(k3_cfg, **how), 0.1 * ((ln2 - 0.5) + (1 - ln2)) / 2, [0.025, -0.05])
  k2_cfg = ObjectiveConfig(kl='k2', kl_weight=0.1)
  check(one(k2_cfg, **how), 0.1 * ln2**2 / 2, [0.05 * ln2, -0.05 * ln2])


def test_each_average_by_hand():
  # On policy the gradient of a token is -A times its weight: 1 / (2 * 3), 1 / 4, 1 / (2 * 8).
  ones = [np.full(n, -1.0) for n in (3, 1)]
  sequences = [Drawn(1, a, *4 * [x], 0 * x) for a, x in zip((1.0, 2.0), ones)]
  expected = {'sequence': (1 / 6, 1), 'token': (1 / 4, 1 / 2), 'constant': (1 / 16, 1 / 8)}
  for average, (first, second) in expected.items():
    cfg = dataclasses.replace(PLAIN, average=average, max_tokens=8)
    loss, grad = value_and_grad(*packed(sequences, [[0, 1]], width=6), cfg)
    np.testing.assert_allclose(grad[0], [0, *3 * [-first], 0, -second], rtol=1e-6)
    np.testing.assert_allclose(loss, -(3 * first + second), rtol=1e-6)


def test_denominators():
  count = lambda average, *n: denominator(
    *n, dataclasses.replace(PLAIN, average=average, max_tokens=9)
  )
  assert [count(a, 2, 7) for a in ('sequence', 'token', 'constant')] == [2, 7, 18]
  assert [count(a, 0, 0) for a in ('sequence', 'token', 'constant')] == [1, 1, 1]


def test_gspo_by_hand():
  # Ratios 4 and 1, the sequence's is 2: gain 2 A for both tokens, of which each has half the gradient.
  cfg = dataclasses.replace(PLAIN, ratio='sequence', clip_high=1.5)
  check(one(cfg, [0.8, 0.3], [0.2, 0.3], advantage=3.0), -6, [-3, -3])
  # Beyond 1.5 the whole sequence is clipped; a token's ratio of 1 does not help it.
  check(one(dataclasses.replace(cfg, clip_high=0.5), [0.8, 0.3], [0.2, 0.3]), -1.5, [0, 0])


def test_cispo_by_hand():
  # Weights min(4, 3) and 0.25: gains weight * A * log pi, and the clipped token keeps its gradient.
  cfg = dataclasses.replace(PLAIN, surrogate='weight', average='token', clip_low=1.0, clip_high=2.0)
  gains = 3 * math.log(0.8) + 0.25 * math.log(0.1)
  check(one(cfg, [0.8, 0.1], [0.2, 0.4], advantage=2.0), -gains, [-3, -0.25])
  check(one(cfg, [0.8, 0.1], [0.2, 0.4], advantage=-2.0), gains, [3, 0.25])


def test_dual_clip_by_hand():
  # Ratios 8 and 2 with A = -1: the loss is 8 and 2, at most 3; A > 0 is left alone.
  cfg = dataclasses.replace(PLAIN, dual_clip=3.0)
  check(one(cfg, [0.8, 0.4], [0.1, 0.2], advantage=-1.0), (3 + 2) / 2, [0, 1])
  check(one(cfg, [0.8, 0.2], [0.1, 0.4], advantage=1.0), -(1.2 + 0.5) / 2, [0, -0.25])


def test_entropy_is_maximised():
  sequence = dataclasses.replace(drawn(lengths=[2])[0], advantage=0.0, entropy=np.array([1.0, 2.0]))
  logprob, entropy, batch = packed([sequence], [[0]], width=8)
  cfg = dataclasses.replace(PLAIN, entropy_weight=0.1)
  loss = lambda entropy: policy_objective(jnp.asarray(logprob), entropy, batch, cfg, 1)[0]
  value, grad = jax.value_and_grad(loss)(jnp.asarray(entropy))
  np.testing.assert_allclose(value, -0.1 * 1.5, rtol=1e-6)
  np.testing.assert_allclose(grad, -0.05 * batch.mask, rtol=1e-6)


def test_sampler_corrections_by_hand():
  # old / sampler = 3, 1.5 and 0.25, with a cap of 2.
  old, sampler = np.array([0.3, 0.3, 0.1]), [0.1, 0.2, 0.4]
  weights = {'none': [1, 1, 1], 'truncate': [2, 1.5, 0.25], 'mask': [0, 1.5, 0]}
  for correction, weight in weights.items():
    cfg = dataclasses.replace(PLAIN, sampler_correction=correction)
    grad = -np.array(weight) / 3
    check(one(cfg, old, None, sampler), grad.sum(), grad)
    # With pi = 1.1 old, the surrogate's ratio and the correction are two factors.
    check(one(cfg, 1.1 * old, old, sampler), 1.1 * grad.sum(), 1.1 * grad)
    # On policy the weight is pi / sampler, a constant.
    check(one(cfg, old, [0.9, 0.9, 0.9], sampler, on_policy=True), grad.sum(), grad)


def test_a_kl_in_the_reward_is_measured_and_not_in_the_loss():
  """reference / pi = 1 and 0.5: k3 is 0 and 0.5 - 1 + ln 2; the loss is that of no KL at all."""
  probabilities = ([0.4, 0.2], [0.4, 0.2], [0.4, 0.2], [0.4, 0.1])
  sequence = Drawn(1, 1.0, *(np.log(p) for p in probabilities), np.array([1.0, 2.0]))
  logprob, entropy, batch = packed([sequence], [[0]], width=4)
  run = lambda cfg: policy_objective(jnp.asarray(logprob), entropy, batch, cfg, 1)
  loss, terms = run(ObjectiveConfig(kl='k1', kl_weight=0.3))
  without, nothing = run(ObjectiveConfig(kl='none', kl_weight=0.0))
  assert loss == without and 'kl' not in nothing.sums
  np.testing.assert_allclose(terms.sums['kl'], 0.5 - 1 + math.log(2), rtol=1e-5)


def test_correction_leaves_the_kl():
  cfg = ObjectiveConfig(kl_weight=0.1, sampler_correction='mask')
  check(one(cfg, [0.5], None, [0.01], [0.25]), 0.1 * (math.log(2) - 0.5), [0.05])


def test_r1s_clip_of_ten():
  cfg = dataclasses.replace(PLAIN, clip_low=10.0, clip_high=10.0)
  check(one(cfg, [0.5, 0.6], [0.05, 0.05]), -(10 + 11) / 2, [-5, 0])
  check(one(cfg, [0.6, 0.01], [0.05, 0.9], advantage=-1.0), (12 + 1 / 90) / 2, [6, 1 / 180])


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('far', [-500.0, 500.0])
def test_nothing_overflows(name, far):
  first, second = drawn(lengths=[3, 3])
  shift = {f: getattr(first, f) + far for f in ('old', 'sampler')}
  far_off = [dataclasses.replace(first, reference=first.old - far, **shift), second]
  for advantage in (-1.0, 1.0):
    far_off[0].advantage = advantage
    loss, grad = value_and_grad(*packed(far_off, [[0, 1]]), VARIANTS[name])
    assert np.isfinite(loss) and np.isfinite(grad).all()


# Identities.


def by_hand(logprobs, sequences, cfg, constants, on_policy=False):
  """The loss in plain loops over sequences; `constants`: log-probabilities where they are not differentiated."""
  total = 0.0
  for s, logprob, constant in zip(sequences, logprobs, constants):
    n, a, old = len(logprob), s.advantage, constant if on_policy else s.old
    for t in range(n):
      ratio, fixed = (
        math.exp(x[t] - old[t] if cfg.ratio == 'token' else sum(x - old) / n)
        for x in (logprob, constant)
      )
      gain = clip(fixed, cfg) * a * logprob[t]
      if cfg.surrogate == 'clip':
        gain = min(ratio * a, clip(ratio, cfg) * a)
        gain = max(gain, cfg.dual_clip * a) if cfg.dual_clip and a < 0 else gain
      trust = math.exp(old[t] - s.sampler[t])
      inside = 1 / cfg.sampler_cap <= trust <= cfg.sampler_cap
      trust = {'none': 1, 'truncate': min(trust, cfg.sampler_cap), 'mask': trust * inside}
      d = s.reference[t] - logprob[t]
      kl = {'none': 0, 'k1': 0, 'k2': d * d / 2, 'k3': math.exp(d) - d - 1}[cfg.kl]
      loss = -gain * trust[cfg.sampler_correction] + cfg.kl_weight * kl
      loss -= cfg.entropy_weight * s.entropy[t]
      total += loss / n if cfg.average == 'sequence' else loss
  tokens = sum(map(len, logprobs))
  count = {'sequence': len(sequences), 'token': tokens, 'constant': len(sequences) * cfg.max_tokens}
  return total / count[cfg.average]


def clip(ratio, cfg):
  return min(max(ratio, 1 - cfg.clip_low), 1 + cfg.clip_high)


def slopes(f, xs, step=1e-6):
  """Central differences of f(list of arrays) -> list of arrays."""
  out = [np.zeros_like(x) for x in xs]
  for i, x in enumerate(xs):
    for t in range(len(x)):
      up, down = ([y.copy() for y in xs] for _ in range(2))
      up[i][t] += step
      down[i][t] -= step
      out[i][t] = (f(up) - f(down)) / (2 * step)
  return out


@pytest.mark.parametrize('on_policy', [False, True], ids=['moved', 'on_policy'])
@pytest.mark.parametrize('name', VARIANTS)
def test_against_loops_and_finite_differences(name, on_policy):
  cfg, sequences = VARIANTS[name], drawn()
  # Ratios on both sides of each clip: far from 1 for the wide ones, near it for GSPO's.
  for s in sequences:
    s.old = s.logprob + {'gspo': 5e-3, 'r1': 4.0, 'cispo': 3.0}.get(name, 1.0) * (s.old - s.logprob)
  logprobs = [s.logprob for s in sequences]
  formula = functools.partial(
    by_hand, sequences=sequences, cfg=cfg, constants=logprobs, on_policy=on_policy
  )
  expected = slopes(formula, logprobs)
  with jax.enable_x64(True):
    logprob, entropy, batch = packed(sequences, [[0, 1, 2], [3], [4, 5]], dtype=np.float64)
    loss, grad = value_and_grad(logprob, entropy, batch, cfg, on_policy=on_policy)
  assert loss.dtype == grad.dtype == np.float64
  np.testing.assert_allclose(loss, formula(logprobs), rtol=1e-12)
  np.testing.assert_allclose(grad[batch.mask > 0], np.concatenate(expected), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('name', VARIANTS)
def test_packed_equals_unpacked(name):
  sequences = drawn()
  apart, *others = (
    [[0], [1], [2], [3], [4], [5]],
    [[0, 1, 2], [3, 4, 5]],
    [[5, 0], [4, 2], [3, 1]],
  )

  def per_sequence(rows):
    loss, grad = value_and_grad(*packed(sequences, rows), VARIANTS[name])
    order, batch = [i for row in rows for i in row], packed(sequences, rows)[2]
    ends = np.cumsum([len(sequences[i].old) for i in order])[:-1]
    parts = dict(zip(order, np.split(np.asarray(grad)[batch.mask > 0], ends)))
    return loss, np.concatenate([parts[i] for i in sorted(parts)])

  loss, grad = per_sequence(apart)
  for rows in others:
    check(per_sequence(rows), loss, grad)


@functools.partial(jax.jit, static_argnames='cfg')
def micro_batch(theta, features, logprob, entropy, batch, cfg):
  """Log-probabilities that share the parameters theta [K] -> gradient of the loss sum, Terms."""

  def loss(theta):
    moved = logprob + jnp.einsum('K,KBT->BT', theta, features, precision='highest')
    return policy_objective(moved, entropy, batch, cfg, 2)

  return jax.grad(loss, has_aux=True)(theta)


@pytest.mark.parametrize('name', VARIANTS)
def test_any_split_into_micro_batches_gives_the_same(name):
  cfg, sequences = VARIANTS[name], drawn(seed=3)
  logprob, entropy, batch = packed(sequences, [[0, 1], [2], [3], [4], [5]])
  features = np.random.default_rng(0).normal(size=(7, *logprob.shape)).astype(np.float32)

  def accumulated(sizes):
    grad, terms, start = jnp.zeros(7), Terms.zero(cfg), 0
    for size in sizes:
      cut = lambda x, a=start, b=start + size: x[a:b] if np.ndim(x) else x
      part = jax.tree.map(cut, (logprob, entropy, batch))
      more, measured = micro_batch(jnp.zeros(7), features[:, start : start + size], *part, cfg)
      grad, terms, start = grad + more, terms.merge(measured), start + size
    count = denominator(batch.sequences, batch.learned, cfg)
    return grad / count, terms.metrics(batch.sequences, batch.learned, cfg)

  whole, metrics = accumulated([5])
  for sizes in ([1, 1, 1, 1, 1], [1, 2, 2], [2, 1, 2], [2, 2, 1]):
    grad, again = accumulated(sizes)
    assert np.linalg.norm(grad - whole) <= 1e-6 * np.linalg.norm(whole)
    assert again.keys() == metrics.keys()
    for key, value in metrics.items():
      np.testing.assert_allclose(again[key], value, rtol=2e-6, atol=1e-6, err_msg=key)


@functools.partial(jax.jit, static_argnames=('cfg', 'on_policy'))
def terms_of(logprob, entropy, batch, cfg, on_policy):
  return policy_objective(logprob, entropy, batch, cfg, 3, on_policy=on_policy)[1]


@pytest.mark.parametrize('on_policy', [False, True], ids=['moved', 'on_policy'])
@pytest.mark.parametrize('name', VARIANTS)
def test_padding_contributes_nothing_whatever_it_holds(name, on_policy):
  rows, cfg = [[0, 1, 2], [3, 4, 5], []], VARIANTS[name]
  clean = packed(drawn(), rows)
  expected = value_and_grad(*clean, cfg, on_policy=on_policy)
  terms = functools.partial(terms_of, cfg=cfg, on_policy=on_policy)
  measured = terms(*clean)
  for garbage in (np.inf, -np.inf, np.nan, 3e38):
    dirty = packed(drawn(), rows, garbage=garbage)
    loss, grad = value_and_grad(*dirty, cfg, on_policy=on_policy)
    assert loss == expected[0]
    np.testing.assert_array_equal(grad, expected[1])
    assert (np.asarray(grad)[clean[2].mask == 0] == 0).all()
    jax.tree.map(np.testing.assert_array_equal, terms(*dirty), measured)


@pytest.mark.parametrize('name', VARIANTS)
def test_no_advantage_no_policy_gradient(name):
  cfg = dataclasses.replace(VARIANTS[name], kl_weight=0.0, entropy_weight=0.0)
  flat = [dataclasses.replace(s, advantage=0.0) for s in drawn()]
  loss, grad = value_and_grad(*packed(flat, [[0, 1, 2], [3, 4, 5]]), cfg)
  assert loss == 0 and (grad == 0).all()


def test_nothing_learned_is_zero_and_not_nan():
  for cfg in VARIANTS.values():
    loss, grad = value_and_grad(*packed([], [[], []]), cfg)
    assert loss == 0 and (grad == 0).all()


@pytest.mark.parametrize('kl', ['k2', 'k3'])
def test_the_gradient_of_the_kl_depends_on_the_reference(kl):
  cfg = ObjectiveConfig(kl=kl, kl_weight=1.0)
  sequences = drawn()
  moved = [dataclasses.replace(s, reference=s.reference + 0.1) for s in sequences]
  grads = [value_and_grad(*packed(s, [[0, 1, 2], [3, 4, 5]]), cfg)[1] for s in (sequences, moved)]
  learned = packed(sequences, [[0, 1, 2], [3, 4, 5]])[2].mask > 0
  assert (np.abs(grads[0] - grads[1])[learned] > 1e-4).all()


def test_what_the_kl_estimators_estimate():
  """Over a whole distribution: the values are KL(pi || ref), the gradients those of one KL or the other."""
  random = np.random.default_rng(0)
  logits, reference = (jnp.asarray(random.normal(size=9), jnp.float32) for _ in range(2))
  log_ref = jax.nn.log_softmax(reference)
  constant = jax.nn.softmax(logits)

  def mean(estimator):
    return lambda z: jnp.sum(constant * estimator(log_ref - jax.nn.log_softmax(z)))

  k1 = lambda log_ratio: -log_ratio
  reverse = lambda z: jnp.sum(jax.nn.softmax(z) * (jax.nn.log_softmax(z) - log_ref))
  forward = lambda z: jnp.sum(jnp.exp(log_ref) * (log_ref - jax.nn.log_softmax(z)))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  close(mean(k3)(logits), reverse(logits))
  close(mean(k1)(logits), reverse(logits))
  close(jax.grad(mean(k2))(logits), jax.grad(reverse)(logits))
  close(jax.grad(mean(k3))(logits), jax.grad(forward)(logits))
  close(jax.grad(mean(k1))(logits), np.zeros(9))  # why k1 is taken from the reward


def test_on_policy_ratio_is_one_whatever_old_is():
  for ratio in ('token', 'sequence'):
    cfg = dataclasses.replace(PLAIN, ratio=ratio)
    logprob, entropy, batch = packed(drawn(), [[0, 1, 2], [3, 4, 5]])
    _, terms = policy_objective(jnp.asarray(logprob), entropy, batch, cfg, 3, on_policy=True)
    metrics = terms.metrics(batch.sequences, batch.learned, cfg)
    assert metrics['ratio'] == metrics['ratio_max'] == 1 and metrics['clipped'] == 0


def test_metrics_by_hand():
  # Ratios 2, 0.5 and 1 with A = 1: one clipped. |log old - log sampler|: ln 2, wherever the policy has gone.
  ln2, cfg = math.log(2), ObjectiveConfig(kl='k2', kl_weight=0.3, sampler_correction='truncate')
  probabilities = ([0.4, 0.2, 0.3], [0.2, 0.4, 0.3], [0.1, 0.2, 0.6], [0.4, 0.1, 0.3])
  sequence = Drawn(1, 1.0, *(np.log(p) for p in probabilities), np.array([1.0, 2.0, 6.0]))
  logprob, entropy, batch = packed([sequence], [[0]], width=5)
  _, terms = policy_objective(jnp.asarray(logprob), entropy, batch, cfg, 1)
  # Weights old / sampler = 2, 2, 0.5, none above the cap: gains 1.2 * 2, 0.5 * 2, 0.5.
  # reference / pi = 1, 0.5, 1.
  expected = {
    'loss': (0.3 * ln2**2 / 2 - (2.4 + 1.0 + 0.5)) / 3, 'kl': (0.5 - 1 + ln2) / 3, 'entropy': 3.0, 'ratio': 3.5 / 3,
    'clipped': 1 / 3, 'corrected': 0.0, 'sampler_gap': ln2, 'ratio_max': 2.0,
    'sampler_gap_max': ln2,
  }  # fmt: skip
  metrics = terms.metrics(batch.sequences, batch.learned, cfg)
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=3e-6, atol=1e-7, err_msg=name)
