"""The policy on benchmarks: sampled, scored, and set beside the published numbers. What was sampled is kept."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from r1jax import hosts
from r1jax.checkpoint import on_any_process
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.evaluation import generations, sampling, scoring
from r1jax.evaluation.benchmarks import Suite
from r1jax.report import duration
from r1jax.rewards.verdict import OUTCOMES, RIGHT
from r1jax.stages.context import Context


def run(
  suite: Suite, problems: int, samples: int, how: SamplingConfig, stage: Stage, context: Context
) -> dict:
  """Evaluates context.params() -> the stage's result: means over the benchmarks, each counting the same.

  problems: of each benchmark, 0 for all. samples: of each, 0 for the benchmark's own number. Raises Preempted; what
  was sampled is kept, and a second start goes on from there. ValueError for files that cannot be read.
  """
  started, folder = time.time(), context.folder(stage)
  tasks = sampling.tasks(suite, problems, samples, context)
  for task in tasks:
    sampling.check_context(task, how, context.model.max_positions)
  folder.mkdir(parents=True, exist_ok=True)
  _settings(suite, how, context, folder / scoring.SETTINGS)
  for task in tasks:
    sampling.complete(task, how, context, folder)
  if jax.process_index() == 0:
    scoring.score(folder, Path(suite.folder), context.pool)
  on_any_process(False)  # the others read what was written
  scores = json.loads((folder / scoring.SCORES).read_text())
  print((folder / scoring.REPORT).read_text(), flush=True)
  seconds = time.time() - started
  print(f'{stage.name}: {folder / scoring.REPORT}, {duration(seconds)}', flush=True)
  return means(scores) | {
    'problems': sum(len(task.problems) for task in tasks),
    'samples': samples or max(task.samples for task in tasks),
    'seconds': seconds,
    'steps': 0,
    'shown': _shown(folder, tasks),
  }


def _settings(suite: Suite, how: SamplingConfig, context: Context, path: Path) -> None:
  """What `python -m r1jax.evaluation` needs to know."""
  experiment = context.experiment
  settings = {
    'model': Path(experiment.init.path).name or experiment.model.size,
    'size': experiment.model.size,
    'folder': str(Path(suite.folder).absolute()),
    'seed': experiment.seed,
    'sampling': dataclasses.asdict(how),
  }
  if hosts.is_first():
    path.write_text(json.dumps(settings, indent=2) + '\n')


def means(scores: Mapping) -> dict:
  """Of the first variant of each benchmark."""
  firsts = [next(iter(by_variant.values())) for by_variant in scores.values()]
  mean = lambda name: float(np.mean([found['estimates'][name]['value'] for found in firsts]))
  # The benchmarks are independent of each other, so that the widths of their intervals add up as squares.
  halves = [np.diff(found['estimates']['pass@1']['ci95'])[0] / 2 for found in firsts]
  half = float(np.sqrt(np.square(halves).sum())) / len(firsts)
  center = mean('pass@1')
  return {
    'pass@1': center,
    'ci95': [max(center - half, 0.0), min(center + half, 1.0)],
    'mean_length': mean('mean_length'),
    'truncated': mean('truncated'),
    'verdicts': {outcome: mean(outcome) for outcome in OUTCOMES},
  }


def _shown(folder: Path, tasks: list[sampling.Task]) -> list[dict]:
  """Three samples and what was said of them."""
  path = generations.file_of(folder, tasks[0].benchmark, tasks[0].variant)
  samples = [sample for group in generations.read(path)[:3] for sample in group][:3]
  verdicts = (folder / scoring.VERDICTS / path.name).read_text(encoding='utf-8').splitlines()
  right = [json.loads(line)['outcome'] == RIGHT for line in verdicts[:3]]
  return [
    {'id': s.id, 'prompt': s.prompt, 'completion': s.completion, 'accuracy': float(is_right)}
    for s, is_right in zip(samples, right, strict=True)
  ]
