"""The groups of one rollout -> the minibatches that are learned from, one entry a step, fit for a checkpoint."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from r1jax import hosts
from r1jax.advantage import advantages, k1, overlong_penalty
from r1jax.batch import Batch, Places, pack
from r1jax.explore import (
  Groups,
  choose,
  examples,
  learned_length,
  metrics_of,
  per_token,
  spread_advantage,
)
from r1jax.stages.training import Program, place
from r1jax.state import State
from r1jax.update import logprobs


@dataclasses.dataclass(frozen=True)
class Part:
  """The groups of one step with their packed batch, and where each sequence lies in it."""

  groups: Groups
  batch: Batch
  places: Places


def minibatches(groups: Groups, cfg, program: Program, state: State, mesh) -> list[dict]:
  """groups, a grpo.Config, ... -> {'arrays' of a Batch, 'metrics', 'shown': (problem, completion, reward)} a step.

  Advantages are taken over the whole rollout (REINFORCE++ normalises over it).
  """
  size = cfg.prompts_per_step
  steps = np.arange(len(groups.problems)).reshape(-1, size)
  parts = [_part(choose(groups, which), cfg, program, state, mesh) for which in steps]
  found = _advantages(parts, cfg).reshape(len(parts), size, cfg.samples_per_prompt, -1)
  return [_entry(part, advantage, cfg) for part, advantage in zip(parts, found, strict=True)]


def _part(groups: Groups, cfg, program: Program, state: State, mesh) -> Part:
  batch, places = pack(examples(groups.rollouts, cfg.algorithm.overlong), program.shape)
  return Part(groups, _with_logprobs(batch, cfg, program, state, mesh), places)


def _with_logprobs(batch: Batch, cfg, program: Program, state: State, mesh) -> Batch:
  """Fills in what the policy and the reference make of the batch, where the objective asks for it."""
  placed = place(batch, mesh)
  of = lambda w: hosts.fetch(logprobs(w, placed, program.model, program.temperature))
  if cfg.updates_per_rollout > 1 or cfg.algorithm.kl_in_reward:
    batch = batch.replace(old_logprob=of(state.policy))
  if cfg.uses_reference:
    batch = batch.replace(reference_logprob=of(state.reference))
  return batch


def _advantages(parts: Sequence[Part], cfg) -> np.ndarray:
  """-> [P, G, 1 or Tc] over all parts."""
  over_all = lambda of: np.concatenate([of(part) for part in parts])
  penalty = over_all(lambda part: _penalty(part, cfg)) if cfg.algorithm.kl_in_reward else None
  length = over_all(lambda part: learned_length(part.groups.rollouts, cfg.algorithm.overlong))
  rewards = over_all(lambda part: _rewards(part.groups, cfg))
  return advantages(rewards, cfg.algorithm.advantage, kl=penalty, length=length)


def _rewards(groups: Groups, cfg) -> np.ndarray:
  """[P, G], with the penalty for great length where the algorithm has one."""
  return groups.scores.total + _for_length(groups, cfg)


def _for_length(groups: Groups, cfg) -> np.ndarray:
  """[P, G] -> what great length takes from a reward: half of what a right answer is worth at most, as in DAPO (3.4),
  where rewards are -1 and 1.
  """
  length, most = groups.rollouts.length, cfg.sampling.max_tokens
  if 'penalty' not in cfg.algorithm.overlong:
    return np.zeros(length.shape, np.float32)
  buffer = cfg.overlong_buffer or max(most // 5, 1)  # DAPO: 4,096 of 20,480
  return cfg.reward.accuracy_weight / 2 * overlong_penalty(length, most, buffer)


def _penalty(part: Part, cfg) -> np.ndarray:
  """kl_weight * k1 of every token [P, G, Tc] (RLOO, REINFORCE++)."""
  rollouts = part.groups.rollouts
  old = per_token(part.batch.old_logprob, rollouts, part.places)
  reference = per_token(part.batch.reference_logprob, rollouts, part.places)
  return cfg.algorithm.kl_weight * k1(old, reference, rollouts.length)


def _entry(part: Part, advantage: np.ndarray, cfg) -> dict:
  groups = part.groups
  spread = spread_advantage(advantage, groups.rollouts, part.places, part.batch)
  shown = [
    dataclasses.asdict(groups.problems[0]),
    groups.texts[0][0],
    float(groups.scores.total[0, 0]),
  ]
  batch = part.batch.replace(advantage=spread)
  metrics = metrics_of(groups)
  if 'penalty' in cfg.algorithm.overlong:
    metrics['overlong_penalty'] = _for_length(groups, cfg).mean().item()
  return {'arrays': batch.arrays(), 'metrics': metrics, 'shown': shown}
