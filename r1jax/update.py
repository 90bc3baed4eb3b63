"""(state, batch) -> (state, metrics): one optimizer step over packed micro-batches, jitted over the mesh."""

import dataclasses
import functools
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from r1jax import optimizer as optimizer_lib
from r1jax import preference
from r1jax.batch import MOST, Batch
from r1jax.model.moe import Moe, bias_step
from r1jax.model.mtp import mtp_logprobs
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Block, Transformer, forward, token_logprobs
from r1jax.objective import Terms
from r1jax.optimizer import OptimizerConfig
from r1jax.state import State

# Means over tokens whose name would not say so.
REPORTED_AS = {
  'clipped': 'clip_fraction',
  'sampler_gap': 'sampler_gap_mean',
  'corrected': 'corrected_fraction',
}


class Loss(Protocol):
  """What is minimised: a hashable function of a micro-batch whose value is a sum, and its denominator."""

  def __call__(
    self, logprob: jax.Array, entropy: jax.Array, batch: Batch
  ) -> tuple[jax.Array, Terms]:
    """logprob, entropy [B, T] of the targets -> (sum over the micro-batch, what is measured).

    A reward model's loss has the reward after each token [B, T] in their place.
    """

  def denominator(self, batch: Batch) -> jax.Array:
    """What the sum over all micro-batches is divided by; at least 1."""


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
  """What an update does beside the loss. Weights and speeds as in DeepSeek-V3, 4.2.

  reference_every: updates after which the reference becomes the policy, 0 never. bias_speed: of the router's
  correction bias. balance_weight, mtp_weight: of the balance and multi-token-prediction losses.
  """

  reference_every: int = 0
  bias_speed: float = 0.0
  balance_weight: float = 0.0
  mtp_weight: float = 0.0

  def __post_init__(self):
    for field, value in dataclasses.asdict(self).items():
      if not 0 <= value < math.inf:
        raise ValueError(f'{field}={value} is not possible; valid: at least 0')


@functools.partial(
  jax.jit, static_argnames=('model', 'optimizer', 'cfg', 'loss', 'temperature'), donate_argnums=0
)
def update(
  state: State, batch: Batch, model: ModelConfig, optimizer: OptimizerConfig, cfg: UpdateConfig, loss: Loss,
  temperature: float = 1.0,
) -> tuple[State, dict[str, jax.Array]]:  # fmt: skip
  """One update -> (state, metrics). A step whose gradient is not finite counts, and moves nothing."""
  grads, (value, terms, loads) = gradient(state.policy, batch, model, cfg, loss, temperature)
  norm = optax.global_norm(grads)
  finite = jnp.isfinite(norm) & jnp.isfinite(value)
  new = _moved(state, grads, loads, model, optimizer, cfg)
  new = optimizer_lib.select(finite, new, state.replace(step=state.step + 1))
  new = _refreshed(new, cfg)
  new = new.replace(
    skipped=state.skipped + ~finite, skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1)
  )
  metrics = {
    'loss': value,
    'grad_norm': norm,
    'learning_rate': optimizer_lib.schedule(optimizer)(state.step - state.skipped),
    'skipped': new.skipped,
    'skipped_in_row': new.skipped_in_row,
  }
  means = {
    name: x / jnp.maximum(batch.learned, 1) for name, x in terms.sums.items() if name != 'loss'
  }
  metrics |= {REPORTED_AS.get(name, name): x for name, x in means.items()}
  metrics |= terms.maxima
  if loads:
    metrics['expert_load_max'] = jnp.max(jnp.stack([(x.max(-1) / x.mean(-1)).max() for x in loads]))
  return new, metrics


def _moved(state: State, grads, loads, model, optimizer, cfg: UpdateConfig) -> State:
  """The state after the optimizer and the bias step."""
  rule = optimizer_lib.optimizer(optimizer, model)
  base = state.policy if state.master is None else state.master
  changes, moments = rule.update(grads, state.optimizer, base)
  base = _with_biases(optax.apply_updates(base, changes), loads, cfg.bias_speed)
  policy = jax.tree.map(lambda new, old: new.astype(old.dtype), base, state.policy)
  return state.replace(
    step=state.step + 1,
    policy=policy,
    master=None if state.master is None else base,
    optimizer=moments,
  )


def _refreshed(state: State, cfg: UpdateConfig) -> State:
  """The policy becomes the reference where that is due, also in a step that was skipped."""
  if state.reference is None or not cfg.reference_every:
    return state
  due = state.step % cfg.reference_every == 0
  return state.replace(reference=optimizer_lib.select(due, state.policy, state.reference))


def _with_biases(policy: Transformer, loads, speed: float) -> Transformer:
  """Correction biases follow the loads of the whole batch, outside of the gradient (DeepSeek-V3, 2.1.2)."""
  if not speed:
    return policy
  left = iter(loads)

  def stepped(block: Block) -> Block:
    load = next(left, None) if isinstance(block.ffn, Moe) else None
    if load is None or block.ffn.bias is None:
      return block
    return block.replace(ffn=block.ffn.replace(bias=bias_step(block.ffn.bias, load, speed)))

  policy = policy.replace(stacks=tuple(map(stepped, policy.stacks)))
  if policy.mtp is None:
    return policy
  return policy.replace(mtp=policy.mtp.replace(block=stepped(policy.mtp.block)))


def gradient(
  policy: Transformer, batch: Batch, model: ModelConfig, cfg: UpdateConfig, loss: Loss, temperature
):
  """-> (gradient in fp32, (loss, Terms, loads)), summed over the live micro-batches: their number and size
  change nothing but rounding.
  """
  of_micro = jax.value_and_grad(
    functools.partial(_micro_loss, model, cfg, loss, temperature), has_aux=True
  )

  def body(index, total):
    (value, (terms, loads)), grads = of_micro(policy, batch.micro_batch(index))
    grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
    return _add(total, (grads, (value, terms, loads)))

  shapes = jax.eval_shape(lambda: body(0, None))
  start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.fori_loop(0, batch.live, body, start)


def _add(total, new):
  """Sums are added; of maxima the larger stays."""
  if total is None:
    return new
  (grads, (value, terms, loads)), (more_grads, (more, other, more_loads)) = total, new
  add = functools.partial(jax.tree.map, jnp.add)
  return add(grads, more_grads), (value + more, terms.merge(other), add(loads, more_loads))


def _micro_loss(
  model: ModelConfig, cfg: UpdateConfig, loss: Loss, temperature: float, policy, batch: Batch
):
  """One micro-batch -> (its share of the loss, (Terms, loads of every stack of experts and of MTP's block))."""
  sequences = MOST if model.moe and cfg.balance_weight else 0
  out = forward(
    policy, model, batch.tokens, batch.positions, segments=batch.segments, sequences=sequences
  )
  total, terms = loss(*_outputs(policy, model, out.hidden, batch, temperature), batch)
  value = total / loss.denominator(batch)
  if sequences:
    balance = sum(r.balance.sum() for r in out.routing)
    value += cfg.balance_weight * balance / jnp.maximum(batch.sequences, 1)
  routing = out.routing
  if model.mtp and cfg.mtp_weight:
    after, follows, routed = mtp_logprobs(
      policy, model, out.hidden, batch.targets, batch.positions, batch.segments
    )
    routing += () if routed is None else (routed,)
    learned = jnp.roll(batch.mask, -1, axis=1) * follows
    value -= cfg.mtp_weight * jnp.sum(after * learned) / jnp.maximum(batch.learned, 1)
  return value, (terms, [r.load for r in routing])


def _outputs(policy, model: ModelConfig, hidden, batch: Batch, temperature) -> tuple:
  """hidden [B, T, D] -> what the loss is a function of, [B, T] each."""
  if preference.is_reward_model(policy):
    return (preference.token_rewards(policy, hidden),)
  return token_logprobs(policy, model, hidden, batch.targets, temperature)


@functools.partial(jax.jit, static_argnames=('model', 'temperature'))
def logprobs(
  policy: Transformer, batch: Batch, model: ModelConfig, temperature: float = 1.0
) -> jax.Array:
  """Log-probability of every target [M, B, T], by the same functions as the update."""

  def body(index, out):
    micro = batch.micro_batch(index)
    hidden = forward(policy, model, micro.tokens, micro.positions, segments=micro.segments).hidden
    logprob, _ = token_logprobs(policy, model, hidden, micro.targets, temperature)
    return out.at[index].set(logprob)

  return jax.lax.fori_loop(0, batch.live, body, jnp.zeros(batch.tokens.shape, jnp.float32))
