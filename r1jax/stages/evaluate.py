"""Held-out problems, or benchmarks -> pass@1 and the mean response length. Samples the policy and changes nothing."""

import dataclasses
import json
import time
from collections.abc import Iterator

import jax
import numpy as np

from r1jax import decoding, hosts, prompts
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.evaluation import metrics
from r1jax.evaluation import run as benchmark_run
from r1jax.evaluation.benchmarks import Suite
from r1jax.evaluation.sampling import NOISE, chosen
from r1jax.explore import agreed, scored_when_done
from r1jax.mesh import data_ways
from r1jax.report import duration
from r1jax.rewards import RewardConfig, Scoring
from r1jax.rollout import end_tokens, generate
from r1jax.stages.context import Context
from r1jax.summary import pass_at_1


@dataclasses.dataclass(frozen=True)
class Config:
  """problems: how many of the held-out ones, or of each benchmark, 0 all. samples: of each problem; of those of a
  benchmark, 0 for as many as R1's tables were made with.
  """

  problems: int
  samples: int
  sampling: SamplingConfig
  suite: Suite

  def __post_init__(self):
    if self.problems < 0:
      raise ValueError(
        f'problems={self.problems} is not possible; valid: 0 for all, or a number of problems'
      )
    if self.samples < (0 if self.suite.folder else 1):
      valid = 'at least 1; with a folder of benchmarks also 0, for the number of each'
      raise ValueError(f'samples={self.samples} is not possible; valid: {valid}')


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Evaluates context.params() -> the stage's result: pass@1, ci95, mean_length, truncated, three samples.

  On the benchmarks of a folder, if there is one. Raises Preempted.
  """
  if cfg.suite.folder:
    result = benchmark_run.run(cfg.suite, cfg.problems, cfg.samples, cfg.sampling, stage, context)
  else:
    result = held_out(cfg, stage, context)
  for warning in doubts(result, stage, context):
    print(f'warning: {warning}', flush=True)
  return result


def doubts(result: dict, stage: Stage, context: Context) -> list[str]:
  """Warnings where this pass@1 is not far enough from that of an earlier stage which evaluated in the same way."""
  stages = context.experiment.stages
  estimate = lambda r: {'value': r['pass@1'], 'ci95': r['ci95']}
  found = [
    metrics.doubt(f'pass@1 {earlier.name} and {stage.name}', estimate(done), estimate(result))
    for earlier in stages[: stages.index(stage)]
    if earlier.settings == stage.settings and (done := context.result(earlier))
  ]
  return [warning for warning in found if warning]


def held_out(cfg: Config, stage: Stage, context: Context) -> dict:
  """On the held-out problems. When it is stopped it begins anew, with the same noise."""
  started = time.time()
  problems = chosen(context.problems('heldout'), cfg.problems)
  parts = list(_sampled(cfg, context, problems))
  correct, length, truncated = (
    np.concatenate([getattr(part, name) for part in parts])
    for name in ('correct', 'length', 'truncated')
  )
  rows = [row for part in parts for row in part.rows]
  if hosts.is_first():
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
    scoring = Scoring(part, cfg.samples, RewardConfig(), context.pool)
    rollouts = generate(
      params, context.model, tokens, [p.id for p in part], key, how, group=cfg.samples, tokenizer=tokenizer,
      shapes=shapes, poll=context.raise_if_stopping, watch=scored_when_done(scoring, tokenizer, prompt.template),
    )  # fmt: skip
    correct, length = agreed(scoring.scores()).parts['accuracy'], rollouts.length
    shown = _rows(part, scoring.texts(), correct, length, prompt.template)
    yield _Part(correct, length, rollouts.truncated, shown)


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
