"""Log-probabilities of packed rows -> a loss to be minimised, as a sum whose denominator has a name.

The denominator belongs to the whole batch, so that the gradient is the same however the batch is cut into
micro-batches: the sum over them of d(loss sum) / denominator.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct

from r1jax.batch import MOST, Batch

CHOICES = {
  'ratio': ('token', 'sequence'),
  'surrogate': ('clip', 'weight'),
  'average': ('sequence', 'token', 'constant'),
  'kl': ('k1', 'k2', 'k3', 'none'),
  'sampler_correction': ('none', 'truncate', 'mask'),
}

_MAX_LOG_RATIO = (
  20.0  # a bound on |log ratio|: its exponential stays finite, and so do sums of them
)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
  """What is maximised; algorithms.py has the named combinations.

  ratio: of each token, or the sequence's geometric mean (GSPO). surrogate: min(ratio A, clipped ratio A), or the
  clipped ratio as a constant weight of A log pi (CISPO). average: see `denominator`. clip_low, clip_high: the
  ratio is clipped to [1 - clip_low, 1 + clip_high]. dual_clip: c of the loss's bound -A c where A < 0; 0 is off.
  kl: estimator of KL(pi || reference), k2 and k3 in the loss. k1 is taken from the reward and only measured here: its
  gradient does not depend on the reference.
  sampler_correction: what is done about old and sampler log-probabilities that differ by more than a factor of
  sampler_cap. max_tokens: the longest completion possible.
  Raises ValueError for values that are not possible.
  """

  ratio: str = 'token'
  surrogate: str = 'clip'
  average: str = 'sequence'
  clip_low: float = 0.2
  clip_high: float = 0.2
  dual_clip: float = 0.0
  kl: str = 'k3'
  kl_weight: float = 0.001
  entropy_weight: float = 0.0
  sampler_correction: str = 'none'
  sampler_cap: float = 2.0
  max_tokens: int = 1

  def __post_init__(self):
    for field, valid in CHOICES.items():
      if getattr(self, field) not in valid:
        raise impossible(field, getattr(self, field), ', '.join(valid))
    for field in ('clip_low', 'clip_high', 'kl_weight', 'entropy_weight'):
      if not (math.isfinite(getattr(self, field)) and getattr(self, field) >= 0):
        raise impossible(field, getattr(self, field), 'at least 0')
    if self.dual_clip != 0 and not 1 < self.dual_clip < math.inf:
      raise impossible('dual_clip', self.dual_clip, '0 (off), or more than 1')
    if self.dual_clip and self.surrogate == 'weight':
      raise impossible('dual_clip', self.dual_clip, "0 with surrogate='weight'")
    if not 1 <= self.sampler_cap < math.inf:
      raise impossible('sampler_cap', self.sampler_cap, 'at least 1')
    if self.max_tokens < 1:
      raise impossible('max_tokens', self.max_tokens, 'at least 1')

  @property
  def uses_kl(self) -> bool:
    """Whether the loss has a KL."""
    return self.kl in ('k2', 'k3') and self.kl_weight > 0

  @property
  def measures_kl(self) -> bool:
    """Whether the batch has the reference's log-probabilities."""
    return self.kl != 'none' and self.kl_weight > 0


def impossible(field: str, value, valid: str) -> ValueError:
  return ValueError(f'{field}={value!r} is not possible; valid: {valid}')


@struct.dataclass
class Terms:
  """What is measured over learned tokens: sums, and maxima of what is never negative. Merging is exact."""

  sums: dict[str, jax.Array]
  maxima: dict[str, jax.Array]

  @classmethod
  def zero(cls, cfg: ObjectiveConfig) -> 'Terms':
    """Where an accumulation starts."""
    sums = ['loss', 'entropy', 'ratio', 'clipped', 'sampler_gap']
    sums += ['kl'] if cfg.measures_kl else []
    sums += ['corrected'] if cfg.sampler_correction != 'none' else []
    zeros = lambda names: {name: jnp.zeros((), jnp.float32) for name in names}
    return cls(zeros(sums), zeros(['ratio_max', 'sampler_gap_max']))

  def merge(self, other: 'Terms') -> 'Terms':
    return Terms(
      jax.tree.map(jnp.add, self.sums, other.sums),
      jax.tree.map(jnp.maximum, self.maxima, other.maxima),
    )

  def metrics(self, sequences, learned, cfg: ObjectiveConfig) -> dict[str, jax.Array]:
    """Counts of the whole batch -> name -> value: the loss, and means and maxima over learned tokens."""
    means = {name: x / jnp.maximum(learned, 1) for name, x in self.sums.items()}
    loss = self.sums['loss'] / denominator(sequences, learned, cfg)
    return means | self.maxima | {'loss': loss}


def denominator(sequences, learned, cfg: ObjectiveConfig):
  """Sequences and learned tokens of the whole batch -> what the loss sum is divided by, at least 1.

  sequence  the number of sequences: a mean of the sequences' means    (DeepSeekMath, 4.1)
  token     the number of learned tokens: long answers weigh more      (DAPO, 3.3)
  constant  sequences * max_tokens: a token weighs the same ever after (Dr.GRPO, 3.2)
  """
  count = {'sequence': sequences, 'token': learned, 'constant': sequences * cfg.max_tokens}
  return jnp.maximum(jnp.asarray(count[cfg.average], jnp.float32), 1.0)


def policy_objective(
  logprob: jax.Array,
  entropy: jax.Array,
  batch: Batch,
  cfg: ObjectiveConfig,
  sequences: int,
  *,
  on_policy: bool = False,
) -> tuple[jax.Array, Terms]:
  """logprob, entropy [B, T] of a micro-batch's targets -> (loss sum, Terms); see `denominator`.

  loss = -correction * surrogate + kl_weight * KL - entropy_weight * entropy, a token. sequences: the most that a
  row holds. on_policy: the policy has not moved since the rollout, so that old is logprob, a constant. Where the
  mask is 0 nothing counts, neither in the value nor in the gradient, whatever stands there.
  """
  learned = batch.mask > 0
  at = lambda x: jnp.where(learned, x, 0.0)  # first of all: 0 times what is infinite is NaN
  logprob, entropy, advantage = at(logprob), at(entropy), at(batch.advantage)
  old = jax.lax.stop_gradient(logprob) if on_policy else at(batch.old_logprob)
  sampler = at(batch.sampler_logprob)

  share = at(1.0 / jnp.maximum(batch.length, 1.0))  # of its sequence
  ratio = _ratio(logprob, old, share, batch.segments, cfg, sequences)
  gain, clipped = (_clip if cfg.surrogate == 'clip' else _weight)(ratio, logprob, advantage, cfg)
  trust, corrected = _correction(jax.lax.stop_gradient(old - sampler), cfg)
  loss = -trust * gain - cfg.entropy_weight * entropy

  gap = jnp.abs(jax.lax.stop_gradient(old) - sampler)  # of numerics alone: both are of one policy
  sums = {'entropy': entropy, 'ratio': ratio, 'clipped': clipped, 'sampler_gap': gap}
  if cfg.measures_kl:
    log_ratio = _bounded(at(batch.reference_logprob) - logprob)
    sums['kl'] = k3(log_ratio)  # the measured one, whichever is the loss: unbiased, never negative
  if cfg.uses_kl:
    loss += cfg.kl_weight * (k2(log_ratio) if cfg.kl == 'k2' else sums['kl'])
  if cfg.sampler_correction != 'none':
    sums['corrected'] = corrected

  sums['loss'] = loss * share if cfg.average == 'sequence' else loss
  sums = {name: jnp.sum(at(x)) for name, x in sums.items()}
  terms = Terms(sums, {'ratio_max': at(ratio).max(), 'sampler_gap_max': gap.max()})
  return sums['loss'], jax.lax.stop_gradient(terms)


def k2(log_ratio: jax.Array) -> jax.Array:
  """log(reference / pi) -> log^2 / 2: on policy its gradient is that of KL(pi || reference), unbiased."""
  return 0.5 * log_ratio**2


def k3(log_ratio: jax.Array) -> jax.Array:
  """log(reference / pi) -> reference / pi - log - 1: unbiased and never negative (R1, eq. 2)."""
  return jnp.expm1(log_ratio) - log_ratio


def _bounded(log_ratio: jax.Array) -> jax.Array:
  return jnp.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)


def _ratio(logprob, old, share, segments, cfg: ObjectiveConfig, sequences: int) -> jax.Array:
  """-> pi / old [B, T], of the token or of its sequence.

  The sequence's is s = exp(mean of the log ratios) (GSPO, eq. 7), written s * pi / pi with s and the lower pi
  constant (GSPO, eq. 14): the token mean then has the gradient of s, and each token has its part of it.
  """
  log_ratio = logprob - old
  if cfg.ratio == 'token':
    return jnp.exp(_bounded(log_ratio))
  member = jax.nn.one_hot(segments - 1, sequences, dtype=log_ratio.dtype)
  # A matrix unit's bf16 would be as coarse as the interval of the clip is narrow.
  mean = jnp.einsum('BTS,BT,BT->BS', member, log_ratio, share, precision='highest')
  mean = jnp.einsum('BTS,BS->BT', member, mean, precision='highest')
  constant = jax.lax.stop_gradient
  return constant(jnp.exp(_bounded(mean))) * jnp.exp(logprob - constant(logprob))


def _clip(ratio, logprob, advantage, cfg: ObjectiveConfig) -> tuple[jax.Array, jax.Array]:
  """-> min(ratio A, clipped ratio A), at least dual_clip * A where A < 0; and where the clip acts."""
  gain = ratio * advantage
  bound = jnp.clip(ratio, 1.0 - cfg.clip_low, 1.0 + cfg.clip_high) * advantage
  clipped = bound < gain
  gain = jnp.minimum(gain, bound)
  if cfg.dual_clip:
    floor = cfg.dual_clip * advantage
    beyond = (advantage < 0) & (gain < floor)
    gain, clipped = jnp.where(beyond, floor, gain), clipped | beyond
  return gain, clipped


def _weight(ratio, logprob, advantage, cfg: ObjectiveConfig) -> tuple[jax.Array, jax.Array]:
  """-> clipped ratio * A * log pi, the ratio a constant: no token loses its gradient (MiniMax-M1, eq. 4-5)."""
  weight = jax.lax.stop_gradient(jnp.clip(ratio, 1.0 - cfg.clip_low, 1.0 + cfg.clip_high))
  return weight * advantage * logprob, weight != ratio


def _correction(log_ratio: jax.Array, cfg: ObjectiveConfig) -> tuple[jax.Array, jax.Array]:
  """log(old / sampler) -> factor of the surrogate, 1 where numerics agree; and where the cap acts.

  truncate: min(old / sampler, cap) (truncated importance sampling). mask: old / sampler where it lies between
  1 / cap and cap, else 0: the token is dropped from the surrogate, and stays in the KL and in the denominator.
  """
  weight, cap = jnp.exp(_bounded(log_ratio)), cfg.sampler_cap
  if cfg.sampler_correction == 'none':
    return jnp.ones_like(weight), jnp.zeros_like(weight, bool)
  if cfg.sampler_correction == 'truncate':
    return jnp.minimum(weight, cap), weight > cap
  dropped = (weight > cap) | (weight < 1.0 / cap)
  return jnp.where(dropped, 0.0, weight), dropped


@dataclasses.dataclass(frozen=True)
class PolicyLoss:
  """`policy_objective` as a loss for update.py. on_policy: one update a rollout, so that the ratio is 1."""

  cfg: ObjectiveConfig
  on_policy: bool = False

  def __call__(self, logprob, entropy, batch: Batch) -> tuple[jax.Array, Terms]:
    return policy_objective(logprob, entropy, batch, self.cfg, MOST, on_policy=self.on_policy)

  def denominator(self, batch: Batch) -> jax.Array:
    return denominator(batch.sequences, batch.learned, self.cfg)


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """Negative log-likelihood of the learned tokens, a mean over tokens: pretraining, SFT, distillation on texts."""

  def __call__(self, logprob, entropy, batch: Batch) -> tuple[jax.Array, Terms]:
    learned = batch.mask > 0
    total = -jnp.sum(jnp.where(learned, logprob, 0.0))
    entropy = jnp.sum(jnp.where(learned, entropy, 0.0))
    return total, jax.lax.stop_gradient(Terms({'loss': total, 'entropy': entropy}, {}))

  def denominator(self, batch: Batch) -> jax.Array:
    return jnp.maximum(batch.learned, 1).astype(jnp.float32)
