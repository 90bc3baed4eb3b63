"""Held-out problems -> pass@1 and the mean response length. Samples the policy and changes nothing."""

import dataclasses
import json
import time
from collections.abc import Iterator

import jax
import numpy as np

from r1jax import decoding, prompts
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.explore import completions
from r1jax.mesh import data_ways
from r1jax.report import duration
from r1jax.rewards import RewardConfig, score
from r1jax.rollout import end_tokens, generate
from r1jax.stages.context import Context
from r1jax.summary import pass_at_1

NOISE = 2  # tells the noise of an evaluation from that of training


@dataclasses.dataclass(frozen=True)
class Config:
  """problems: how many of the held-out ones, 0 all. samples: of each."""

  problems: int
  samples: int
  sampling: SamplingConfig

  def __post_init__(self):
    if self.problems < 0:
      raise ValueError(
        f'problems={self.problems} is not possible; valid: 0 for all, or a number of problems'
      )
    if self.samples < 1:
      raise ValueError(f'samples={self.samples} is not possible; valid: at least 1')


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Evaluates context.params() -> the stage's result: pass@1, ci95, mean_length, truncated, three samples.

  Raises Preempted; it then begins anew, with the same noise.
  """
  started = time.time()
  problems = chosen(context.problems('heldout'), cfg.problems)
  parts = list(_sampled(cfg, context, problems))
  correct, length, truncated = (
    np.concatenate([getattr(part, name) for part in parts])
    for name in ('correct', 'length', 'truncated')
  )
  rows = [row for part in parts for row in part.rows]
  _save(context, stage, rows)
  result = pass_at_1(correct, length) | {
    'problems': len(problems),
    'samples': cfg.samples,
    'seconds': time.time() - started,
    'steps': 0,
    'truncated': float(truncated.mean()),
    'shown': rows[:3],
  }
  low, high = result['ci95']
  print(
    f'{stage.name}: pass@1 {result["pass@1"]:.3f} ({low:.3f} to {high:.3f}), mean length '
    f'{result["mean_length"]:.1f} tokens, {len(problems)} problems x {cfg.samples}, {duration(result["seconds"])}',
    flush=True,
  )
  return result


@dataclasses.dataclass
class _Part:
  """Some of the problems: correct, length, truncated [P, G], and a row a sample."""

  correct: np.ndarray
  length: np.ndarray
  truncated: np.ndarray
  rows: list[dict]


def _sampled(cfg: Config, context: Context, problems: list) -> Iterator[_Part]:
  """As many problems at once as `slots` has room for."""
  rows = cfg.sampling.slots or len(problems) * cfg.samples
  at_once = min(len(problems), max(rows // cfg.samples, 1))
  prompt, tokenizer, how = context.experiment.prompt, context.tokenizer, cfg.sampling
  shapes = decoding.shapes_of(at_once, cfg.samples, prompt.longest, how, data_ways(context.mesh))
  params, key = context.params(), jax.random.fold_in(context.root_key(), NOISE)
  decoding.warm_up(params, context.model, shapes, how, end_tokens(tokenizer))
  for first in range(0, len(problems), at_once):
    part = problems[first : first + at_once]
    tokens = prompts.encode(part, tokenizer, prompt.template)
    rollouts = generate(
      params, context.model, tokens, [p.id for p in part], key, how, group=cfg.samples, tokenizer=tokenizer,
      shapes=shapes, poll=context.raise_if_stopping,
    )  # fmt: skip
    texts = completions(rollouts, tokenizer, prompt.template)
    correct, length = score(texts, part, RewardConfig()).parts['accuracy'], rollouts.length
    shown = _rows(part, texts, correct, length, prompt.template)
    yield _Part(correct, length, rollouts.truncated, shown)


def chosen(problems: list, count: int) -> list:
  """A spread of `count` problems over the whole list, the same ones every time; 0: all."""
  if not count or count >= len(problems):
    return list(problems)
  return [problems[i] for i in np.random.default_rng(0).permutation(len(problems))[:count]]


def _rows(problems, texts, accuracy, length, template) -> list[dict]:
  """One row a sample."""
  return [
    {
      'id': problem.id,
      'prompt': prompts.render(problem, template),
      'completion': texts[p][g],
      'accuracy': float(accuracy[p, g]),
      'length': int(length[p, g]),
    }
    for p, problem in enumerate(problems)
    for g in range(length.shape[1])
  ]


def _save(context: Context, stage: Stage, rows: list[dict]) -> None:
  """Every sample, for whoever wants to look or to score them anew."""
  folder = context.folder(stage)
  folder.mkdir(parents=True, exist_ok=True)
  lines = (json.dumps(row, ensure_ascii=False) for row in rows)
  (folder / 'completions.jsonl').write_text('\n'.join(lines) + '\n')
