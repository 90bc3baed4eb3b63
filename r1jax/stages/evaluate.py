"""Held-out problems -> pass@1 and the mean response length. Samples the policy and changes nothing."""

import dataclasses
import json
import time

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
  """Evaluates context.params() -> the stage's result: pass@1, ci95, mean_length, truncated, three samples."""
  started = time.time()
  problems = chosen(context.problems('heldout'), cfg.problems)
  rows = cfg.sampling.slots or len(problems) * cfg.samples
  at_once = min(len(problems), max(rows // cfg.samples, 1))
  longest = context.experiment.prompt.longest
  shapes = decoding.shapes_of(at_once, cfg.samples, longest, cfg.sampling, data_ways(context.mesh))
  params, template = context.params(), context.experiment.prompt.template
  eos = end_tokens(context.tokenizer)
  decoding.warm_up(params, context.model, shapes, cfg.sampling, eos)
  key = jax.random.fold_in(context.root_key(), NOISE)
  correct, lengths, truncated, rows = [], [], [], []
  for first in range(0, len(problems), at_once):
    context.raise_if_stopping()
    part = problems[first : first + at_once]
    tokens = prompts.encode(part, context.tokenizer, template)
    rollouts = generate(
      params, context.model, tokens, [p.id for p in part], key, cfg.sampling, group=cfg.samples,
      tokenizer=context.tokenizer, shapes=shapes,
    )  # fmt: skip
    texts = completions(rollouts, context.tokenizer, template)
    scores = score(texts, part, RewardConfig())
    correct.append(scores.parts['accuracy'])
    lengths.append(rollouts.length)
    truncated.append(rollouts.truncated)
    rows += _rows(part, texts, scores.parts['accuracy'], rollouts.length, template)
  result = pass_at_1(np.concatenate(correct), np.concatenate(lengths))
  result |= {
    'problems': len(problems),
    'samples': cfg.samples,
    'seconds': time.time() - started,
    'steps': 0,
  }
  result['truncated'] = float(np.concatenate(truncated).mean())
  result['shown'] = rows[:3]
  _save(context, stage, rows)
  low, high = result['ci95']
  print(
    f'{stage.name}: pass@1 {result["pass@1"]:.3f} ({low:.3f} to {high:.3f}), mean length '
    f'{result["mean_length"]:.1f} tokens, {len(problems)} problems x {cfg.samples}, {duration(result["seconds"])}',
    flush=True,
  )
  return result


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
