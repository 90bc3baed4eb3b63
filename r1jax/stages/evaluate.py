"""Held-out problems, or benchmarks -> pass@1 and the mean response length. Samples the policy and changes nothing."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from r1jax import decoding, health, hosts, prompts
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.evaluation import generations, metrics
from r1jax.evaluation import run as benchmark_run
from r1jax.evaluation.benchmarks import Suite
from r1jax.evaluation.sampling import chosen
from r1jax.explore import scored_when_done
from r1jax.mesh import data_ways
from r1jax.problems import Problem
from r1jax.report import duration
from r1jax.rewards import RewardConfig
from r1jax.rewards.pool import Pool
from r1jax.rewards.scoring import Scores, Scoring
from r1jax.rewards.verdict import OUTCOMES
from r1jax.rollout import Rollouts, end_tokens, generate
from r1jax.stages.context import Context
from r1jax.summary import pass_at_1

COMPLETIONS = 'completions.jsonl'


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
  """Evaluates context.params() -> the stage's result: pass@1, ci95, mean_length, truncated, verdicts, three samples.

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
  """On the held-out problems. What was sampled is kept, and a second start goes on from there. Raises Preempted."""
  started = time.time()
  problems = chosen(context.problems('heldout'), cfg.problems)
  rows = _complete(cfg, stage, context, problems)
  column = lambda name: np.array([row[name] for row in rows]).reshape(len(problems), cfg.samples)
  outcomes = column('outcome')
  result = pass_at_1(column('accuracy'), column('length')) | {
    'problems': len(problems),
    'samples': cfg.samples,
    'seconds': time.time() - started,
    'steps': 0,
    'truncated': float(column('truncated').mean()),
    'verdicts': {name: float((outcomes == name).mean()) for name in OUTCOMES},
    'shown': rows[:3],
  }
  _tell(stage.name, result, context.pool)
  return result


def _tell(name: str, result: dict, pool: Pool) -> None:
  """The result in two lines, and what of it is not the policy's doing."""
  low, high = result['ci95']
  shares = ', '.join(f'{outcome} {share:.1%}' for outcome, share in result['verdicts'].items())
  print(
    f'{name}: pass@1 {result["pass@1"]:.3f} ({low:.3f} to {high:.3f}), mean length '
    f'{result["mean_length"]:.1f} tokens, {result["problems"]} problems x {result["samples"]}, '
    f'{duration(result["seconds"])}\n{name}: {shares}',
    flush=True,
  )
  complaints = sum(hosts.gather(pool.complaints()), [])
  for warning in filter(None, [health.verdicts(result['verdicts']), *complaints]):
    print(f'warning: {name}: {warning}', flush=True)


def _complete(cfg: Config, stage: Stage, context: Context, problems: list[Problem]) -> list[dict]:
  """Every sample and what was said of it, a row each, also on disk; what is there already is not sampled again.

  As many problems at once as `slots` has room for.
  """
  slots = cfg.sampling.slots or len(problems) * cfg.samples
  at_once = min(len(problems), max(slots // cfg.samples, 1))
  path = context.folder(stage) / COMPLETIONS
  ids = [problem.id for problem in problems]
  kept = generations.whole(path, ids, cfg.samples, at_once, _place_of)
  if hosts.is_first():
    generations.write(path, kept)
  rows = [json.loads(line) for line in kept]
  for part in _sampled(cfg, context, problems[len(kept) // cfg.samples :], at_once):
    rows += part
    if hosts.is_first():
      _save(path, part)
  return rows


def _sampled(
  cfg: Config, context: Context, problems: list[Problem], at_once: int
) -> Iterator[list[dict]]:
  """The rows of `at_once` problems after another."""
  if not problems:
    return
  prompt, tokenizer, how = context.experiment.prompt, context.tokenizer, cfg.sampling
  shapes = decoding.shapes_of(at_once, cfg.samples, prompt.longest, how, data_ways(context.mesh))
  params, key = context.params(), context.key('evaluation')
  decoding.warm_up(
    params, context.model, shapes, how, end_tokens(tokenizer), context.raise_if_stopping
  )
  for first in range(0, len(problems), at_once):
    part = problems[first : first + at_once]
    tokens = prompts.encode(part, tokenizer, prompt.template)
    scoring = Scoring(part, cfg.samples, RewardConfig(), context.pool)
    rollouts = generate(
      params, context.model, tokens, [p.id for p in part], key, how, group=cfg.samples, tokenizer=tokenizer,
      shapes=shapes, poll=context.raise_if_stopping, watch=scored_when_done(scoring, tokenizer, prompt.template),
    )  # fmt: skip
    yield _rows(part, scoring.texts(), scoring.scores(), rollouts, prompt.template)


def _rows(
  problems: list[Problem], texts: list[list[str]], scores: Scores, rollouts: Rollouts, template: str
) -> list[dict]:
  """One row a sample."""
  return [
    {
      'id': problems[p].id,
      'sample': g,
      'prompt': prompts.render(problems[p], template),
      'completion': texts[p][g],
      'accuracy': float(scores.parts['accuracy'][p, g]),
      'outcome': OUTCOMES[scores.outcomes[p, g]],
      'length': int(rollouts.length[p, g]),
      'truncated': bool(rollouts.truncated[p, g]),
    }
    for p, g in np.ndindex(rollouts.length.shape)
  ]


def _place_of(line: bytes) -> tuple[int, int]:
  """A row -> the problem's id and the sample's number. Raises ValueError."""
  row = json.loads(line)
  if not isinstance(row, dict) or not row.keys() >= {'id', 'sample', 'outcome', 'truncated'}:
    raise ValueError(f'{line[:60]!r} is no sample of an evaluation; valid: another --workdir')
  return row['id'], row['sample']


def _save(path: Path, rows: list[dict]) -> None:
  """For whoever wants to look, and for a second start."""
  generations.append_rows(path, rows)
