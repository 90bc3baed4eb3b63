"""Problems -> groups of scored samples -> packed minibatches: what happens between two updates."""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np

from r1jax import prompts
from r1jax.advantage import group_variance
from r1jax.batch import Batch, Example, Places, spread, unpack
from r1jax.problems import Problem
from r1jax.rewards.learned import drift
from r1jax.rewards.scoring import Scores, Scoring
from r1jax.rollout import Rollouts


@dataclasses.dataclass
class Groups:
  """P problems, the G samples of each, and what they earned."""

  problems: list[Problem]
  rollouts: Rollouts
  scores: Scores
  texts: list[list[str]]


def scored_when_done(scoring: Scoring, tokenizer, template: str) -> Callable:
  """-> what `generate` is to be watched by: a completion is checked while others are still being decoded.

  The text that is scored begins with what the template has opened, and ends before EOS.
  """
  opened, tokens = prompts.opened(template), collections.defaultdict(list)

  def watch(sample: int, new: np.ndarray, last: bool) -> None:
    tokens[sample] += new.tolist()
    if last:
      scoring.add(sample, opened + tokenizer.decode(tokens.pop(sample)))

  return watch


def examples(rollouts: Rollouts, overlong: str) -> list[Example]:
  """P * G sequences: prompt and completion, of which the completion is learned; none of it if it was cut off and
  the algorithm filters such samples (DAPO, 3.4).
  """
  found, learned = [], learned_length(rollouts, overlong)
  for p, g in np.ndindex(rollouts.length.shape):
    prompt, completion = rollouts.prompts[p], rollouts.completion(p, g)
    mask = np.zeros(len(prompt) + len(completion) - 1, np.float32)
    logprob = np.zeros_like(mask)
    if learned[p, g]:
      mask[len(prompt) - 1 :] = 1.0
    logprob[len(prompt) - 1 :] = rollouts.logprob[p, g, : len(completion)]
    found.append(Example(np.concatenate([prompt, completion]), mask, logprob))
  return found


def learned_length(rollouts: Rollouts, overlong: str) -> np.ndarray:
  """Tokens of each sample that are learned from [P, G]; 0 where it was cut off and such samples are filtered."""
  return np.where(rollouts.truncated & ('filter' in overlong), 0, rollouts.length)


def spread_advantage(
  advantage: np.ndarray, rollouts: Rollouts, places: Places, batch: Batch
) -> np.ndarray:
  """[P, G, 1 or Tc] -> [M, B, T], on the completions' tokens."""
  values = []
  for i, (p, g) in enumerate(np.ndindex(rollouts.length.shape)):
    value, count = np.zeros(places.size[i], np.float32), rollouts.length[p, g]
    value[len(value) - count :] = advantage[p, g, :count]
    values.append(value)
  return spread(values, places, batch.tokens)


def choose(groups: Groups, which: np.ndarray) -> Groups:
  """Some of the groups, by index or by a mask."""
  index = np.flatnonzero(which) if which.dtype == bool else which
  r, s = groups.rollouts, groups.scores
  rollouts = Rollouts(
    [r.prompts[i] for i in index],
    r.tokens[index],
    r.logprob[index],
    r.length[index],
    r.truncated[index],
    r.decoded,
    r.drafted,
    r.accepted,
  )
  parts = {name: x[index] for name, x in s.parts.items()}
  scores = Scores(s.total[index], parts, s.outcomes[index])
  return Groups(
    [groups.problems[i] for i in index], rollouts, scores, [groups.texts[i] for i in index]
  )


def join(a: Groups, b: Groups) -> Groups:
  ra, rb = a.rollouts, b.rollouts
  both = lambda name: np.concatenate([getattr(ra, name), getattr(rb, name)])
  rollouts = Rollouts(
    ra.prompts + rb.prompts,
    both('tokens'),
    both('logprob'),
    both('length'),
    both('truncated'),
    ra.decoded + rb.decoded,
    ra.drafted + rb.drafted,
    ra.accepted + rb.accepted,
  )
  # A part that one side lacks has no weight there.
  names = a.scores.parts | b.scores.parts
  part = lambda g, name: g.scores.parts.get(name, np.zeros_like(g.scores.total))
  parts = {name: np.concatenate([part(a, name), part(b, name)]) for name in names}
  of_both = lambda name: np.concatenate([getattr(a.scores, name), getattr(b.scores, name)])
  scores = Scores(of_both('total'), parts, of_both('outcomes'))
  return Groups(a.problems + b.problems, rollouts, scores, a.texts + b.texts)


def metrics_of(part: Groups) -> dict[str, float]:
  """What the samples of a step say, before anything is learned from them."""
  rewards = part.scores.total
  found = {
    'reward': rewards.mean(),
    'reward_std': rewards.std(),
    'length': part.rollouts.length.mean(),
    'length_max': part.rollouts.length.max(),
    'tokens': part.rollouts.length.sum(),
    'truncated': part.rollouts.truncated.mean(),
    'groups_without_variance': 1.0 - group_variance(rewards).mean(),
  }
  found |= {name: x.mean() for name, x in part.scores.parts.items()}
  if part.scores.checked.any():
    found['accuracy'] = part.scores.parts['accuracy'][part.scores.checked].mean()
  if part.rollouts.drafted:  # in speculative decoding, over the whole rollout
    found['acceptance'] = np.float64(part.rollouts.accepted / part.rollouts.drafted)
  found = {name: x.item() for name, x in found.items()}
  return found | part.scores.rates() | drift(part.scores)


def per_token(values: np.ndarray, rollouts: Rollouts, places: Places) -> np.ndarray:
  """Packed values of targets [M, B, T] -> of the completions' tokens [P, G, Tc], zero from `length` on."""
  out = np.zeros(rollouts.tokens.shape, np.float32)
  samples = np.ndindex(rollouts.length.shape)
  for sample, found in zip(samples, unpack(values, places), strict=True):
    count = rollouts.length[sample]
    out[sample][:count] = found[len(found) - count :]
  return out
