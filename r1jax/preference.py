"""Reward models: the policy's architecture with one number for an output, learned from preferences (R1, Methods).

A reward model is a Transformer whose head is a vector [D]: the reward of a text is head . hidden at its last token.
Both of R1's are trained by the same loss, -log sigmoid(margin), where the margin of a comparison is

    helpful   reward(chosen) - reward(rejected): P(chosen is preferred) = sigmoid(margin)    (Bradley-Terry)
    safety    reward(response) where it is labelled safe, its negative where not: binary cross-entropy

so a comparison is one or two texts, each with the sign by which its reward counts. Left out: R1's judge, which makes
the pairs.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.batch import MOST, Batch, BatchShape, Example, Places, pack, spread
from r1jax.model import transformer
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, forward
from r1jax.model.weights import Weight
from r1jax.objective import Terms

KINDS = ('helpful', 'safety')
NORMALISE = ('fixed', 'running')


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
  """Rewards of reward models in RL.

  stages: the grpo stages that have them, () for all. helpful, safety: folders of the stages that trained the models,
  or names of such stages in the same experiment, '' for none. default: the model of the problems whose
  details['preference'] names none: helpful, safety or none. normalise: rewards are standardised by the mean and std
  that the model had on held-out data (fixed), or by those of all rewards so far (running). cap: the most that a
  standardised reward can be, and its negative the least.
  """

  stages: tuple[str, ...] = ()

  helpful: str = ''
  safety: str = ''
  default: str = 'none'
  weight: float = 1.0
  normalise: str = 'fixed'
  cap: float = 3.0

  def __post_init__(self):
    if self.default not in ('none', *KINDS):
      raise ValueError(f'default={self.default!r} is unknown; valid: one of {("none", *KINDS)}')
    if self.default in KINDS and not getattr(self, self.default):
      raise ValueError(
        f"default={self.default!r} is not possible without a model; valid: 'none', or set {self.default}"
      )
    if self.normalise not in NORMALISE:
      raise ValueError(f'normalise={self.normalise!r} is unknown; valid: one of {NORMALISE}')
    for field in ('weight', 'cap'):
      if not 0 < getattr(self, field) < math.inf:
        raise ValueError(
          f'{field}={getattr(self, field)} is not possible; valid: above 0, such as 1.0'
        )

  def models(self, stage: str) -> dict[str, str]:
    """Name of a grpo stage -> its models: kind -> folder or stage."""
    if self.stages and stage not in self.stages:
      return {}
    return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind)}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One or two texts as tokens [N], and the sign of each: +1 for the better one, -1 for the worse."""

  texts: tuple[np.ndarray, ...]
  signs: tuple[float, ...]

  def __len__(self) -> int:
    """Tokens of all texts."""
    return sum(map(len, self.texts))


def config(model: ModelConfig) -> ModelConfig:
  """The policy's -> the reward model's: a head of its own, and nothing that predicts tokens further ahead."""
  return dataclasses.replace(model, tied=False, mtp=0)


def spec(model: ModelConfig) -> Transformer:
  """The reward model's config -> its tree of Weight."""
  return transformer.spec(model).replace(head=Weight('embed', 'zeros'))


def from_policy(policy: Transformer) -> Transformer:
  """The reward model that training begins with: the policy's body, and rewards of 0."""
  return policy.replace(head=jnp.zeros_like(policy.final_norm), mtp=None)


def is_reward_model(w: Transformer) -> bool:
  return w.head is not None and w.head.ndim == 1


def token_rewards(w: Transformer, hidden: jax.Array) -> jax.Array:
  """hidden [B, T, D] -> the reward of the text up to each token [B, T], fp32."""
  head = w.head.astype(hidden.dtype)
  return jnp.einsum('BTD,D->BT', hidden, head, preferred_element_type=jnp.float32)


@functools.partial(jax.jit, static_argnames='model')
def batch_rewards(w: Transformer, batch: Batch, model: ModelConfig) -> jax.Array:
  """The reward after every token [M, B, T], by the same functions as the update."""

  def body(index, out):
    micro = batch.micro_batch(index)
    found = forward(w, model, micro.tokens, micro.positions, segments=micro.segments)
    return out.at[index].set(token_rewards(w, found.hidden))

  return jax.lax.fori_loop(0, batch.live, body, jnp.zeros(batch.tokens.shape, jnp.float32))


@dataclasses.dataclass(frozen=True)
class PreferenceLoss:
  """-log sigmoid(margin), a mean over comparisons."""

  def __call__(self, reward: jax.Array, batch: Batch) -> tuple[jax.Array, Terms]:
    """reward [B, T] of a micro-batch that `pack_comparisons` made -> (loss sum, Terms)."""
    signed = jnp.where(batch.advantage != 0, batch.advantage * reward, 0.0)
    member = jax.nn.one_hot(batch.segments - 1, MOST)
    of_each = functools.partial(jnp.einsum, 'BTS,BT->BS', member, precision='highest')
    margin, there = of_each(signed), of_each(batch.mask)
    correct = 0.5 + 0.5 * jnp.sign(margin)  # a tie is half right
    found = {'loss': jax.nn.softplus(-margin), 'accuracy': correct, 'margin': margin}
    sums = {name: jnp.sum(jnp.where(there > 0, x, 0.0)) for name, x in found.items()}
    return sums['loss'], jax.lax.stop_gradient(Terms(sums, {}))

  def denominator(self, batch: Batch) -> jax.Array:
    return jnp.maximum(batch.sequences, 1).astype(jnp.float32)


def pack_comparisons(comparisons: Sequence[Comparison], shape: BatchShape) -> tuple[Batch, Places]:
  """Comparisons -> (Batch, where each lies). The texts of one lie in a row side by side, positions counting anew.

  Its segment is the comparison; `advantage` is the sign at the last token of each text, and 0 elsewhere; `mask` is 1
  at its last token, so that counts are of comparisons. Raises ValueError when they do not fit.
  """
  batch, places = pack([_example(c) for c in comparisons], shape)
  over = lambda of: spread([of(c) for c in comparisons], places, batch.tokens)
  return batch.replace(positions=over(_positions).astype(np.int32), advantage=over(_signs)), places


def _example(comparison: Comparison) -> Example:
  """A last target stands behind the texts, since it is the last token's hidden state that counts."""
  mask = np.zeros(len(comparison), np.float32)
  mask[-1] = 1.0
  tokens = np.concatenate([*comparison.texts, [0]]).astype(np.int32)
  return Example(tokens, mask, np.zeros_like(mask))


def _positions(comparison: Comparison) -> np.ndarray:
  return np.concatenate([np.arange(len(text)) for text in comparison.texts])


def _signs(comparison: Comparison) -> np.ndarray:
  signs = np.zeros(len(comparison), np.float32)
  signs[np.cumsum([len(text) for text in comparison.texts]) - 1] = comparison.signs
  return signs
