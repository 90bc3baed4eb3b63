"""What is left of a run at its end: plot.png, report.md and summary.json in the workdir."""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from r1jax.report import duration, fenced, read_metrics

Z95 = 1.959963984540054  # the normal distribution holds 95% within this many standard deviations
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'r1jax')

# metric -> (title, unit of the y axis, lower end, upper end)
PANELS = {
  'reward': ('Reward', 'mean reward', None, None),
  'accuracy': ('Accuracy', 'share of correct answers', 0.0, 1.0),
  'length': ('Response length', 'tokens', 0.0, None),
  'kl': ('KL to the reference', 'nats per token', 0.0, None),
}
PRETRAINING_PANELS = {
  'loss': ('Loss', 'nats per token', None, None),
  'grad_norm': ('Gradient norm', '', 0.0, None),
}
EVALUATED = {'accuracy': 'pass@1', 'length': 'mean_length'}  # panel -> its held-out number
SAMPLES = 3


class Sample(NamedTuple):
  """One answer of an evaluation, for the report."""

  prompt: str
  completion: str
  reward: float


def confidence95(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
  """accuracy of each problem [P], in [0, 1] -> 95% confidence interval (low, high) of their mean.

  Wilson's score interval at the effective sample size (Kish): the number of independent answers
  whose mean would vary as much as the mean over these problems does. With one sample a problem it
  is Wilson's interval for P answers; several samples of a problem narrow it only as far as they
  differ in fact. Problems that do not vary at all count as one answer each.
  """
  values = np.asarray(values, np.float64).ravel()
  if not values.size or not ((values >= 0) & (values <= 1)).all():
    raise ValueError(f'{values} is no interval; valid: at least one number, each from 0 to 1')
  mean, variance = values.mean(), values.var()
  answers = len(values) * mean * (1 - mean) / variance if variance > 0 else len(values)
  shrink = 1 + Z95**2 / answers
  center = (mean + Z95**2 / (2 * answers)) / shrink
  half = Z95 * math.sqrt(mean * (1 - mean) / answers + (Z95 / (2 * answers)) ** 2) / shrink
  return max(0.0, float(center - half)), min(1.0, float(center + half))


def pass_at_1(correct: np.ndarray, length: np.ndarray) -> dict:
  """correct [P, G] in {0, 1}, length [P, G] in tokens -> the numbers of an evaluation."""
  by_problem = np.asarray(correct, np.float64).mean(1)
  return {
    'pass@1': float(by_problem.mean()),
    'ci95': list(confidence95(by_problem)),
    'mean_length': float(np.mean(length)),
  }


def finish(
  workdir: str | os.PathLike, *, experiment: str, seed: int, seconds: float,
  stages: Sequence[Mapping], evaluation: Mapping[str, Mapping],
  samples: Mapping[str, Sequence[Sample]],
) -> dict:  # fmt: skip
  """Writes plot.png, report.md and, when they are there, summary.json; returns the summary.

  stages: {'name', 'kind', 'steps', 'seconds'} each. evaluation: {'before': ..., 'after': ...} as
  `pass_at_1` gives them, one or both may be missing; samples: likewise, the first three are shown.
  """
  workdir = Path(workdir)
  summary = {
    'experiment': experiment,
    'seed': int(seed),
    'seconds': float(seconds),
    'stages': [{k: stage[k] for k in ('name', 'kind', 'steps', 'seconds')} for stage in stages],
    'evaluation': {
      when: {k: result[k] for k in ('pass@1', 'ci95', 'mean_length', 'verdicts') if k in result}
      for when, result in evaluation.items()
    },
    'versions': versions(),
  }
  text = json.dumps(summary, indent=2, allow_nan=False) + '\n'
  plotted = plot(workdir, [stage['name'] for stage in stages], summary['evaluation'])
  _replace(workdir / 'report.md', report(summary, samples, plotted))
  _replace(workdir / 'summary.json', text)
  return summary


def versions() -> dict[str, str]:
  """package -> version of what computed the run."""
  found = {'python': platform.python_version()}
  for package in PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def plot(workdir: Path, stages: Sequence[str], evaluation: Mapping[str, Mapping]) -> bool:
  """Metrics of the stages, one after another -> plot.png. False: there are none to plot.

  Stages with a reward are shown; without any, those with a loss.
  """
  rows = {s: _rows(workdir / s / 'metrics.jsonl') for s in stages}
  for panels in (PANELS, PRETRAINING_PANELS):
    chosen = {s: r for s, r in rows.items() if r and next(iter(panels)) in r[0]}
    if chosen:
      break
  else:
    return False
  names = [n for n in panels if any(n in row for r in chosen.values() for row in r)]
  figure = Figure(figsize=(11, 3.6 * math.ceil(len(names) / 2)), dpi=120, layout='constrained')
  axes = figure.subplots(math.ceil(len(names) / 2), 2, squeeze=False).ravel()
  for name, axis in zip(names, axes, strict=False):
    _panel(axis, name, panels[name], chosen, evaluation)
  for axis in axes[len(names) :]:
    axis.set_visible(False)
  temporary = workdir / 'plot.png.tmp'
  figure.savefig(temporary, format='png')
  os.replace(temporary, workdir / 'plot.png')
  return True


def _rows(path: Path) -> list[dict]:
  return read_metrics(path) if path.is_file() else []


def _panel(axis, name: str, panel: tuple, chosen: Mapping[str, list], evaluation: Mapping) -> None:
  """One metric over the steps of all chosen stages: each step faint, their running mean strong."""
  title, unit, low, high = panel
  start, ends = (
    0,
    {},
  )  # ends: last step of a stage, as it counts them -> what lies before its first one
  for number, (stage, rows) in enumerate(chosen.items()):
    offset = ends.get(
      rows[0]['step'] - 1, start
    )  # of the stage that it continues, or after all before it
    steps = np.array([row['step'] + offset for row in rows])
    ends[rows[-1]['step']] = offset
    values = np.array([row.get(name, math.nan) for row in rows], np.float64)
    axis.plot(steps, values, color='tab:blue', alpha=0.3, linewidth=1)
    axis.plot(steps, running_mean(values), color='tab:blue', linewidth=2, label='training')
    if number:
      axis.axvline(start, color='0.6', linestyle=':')
    if len(chosen) > 1:
      axis.annotate(f' {stage}', (start, 1), xycoords=('data', 'axes fraction'), va='top')
    start = int(steps[-1])
  if name in EVALUATED:
    _held_out(axis, EVALUATED[name], start, evaluation)
  axis.set_title(title, fontweight='bold')
  axis.set_xlabel('step')
  axis.set_ylabel(unit)
  axis.set_ylim(low, None if high is None else high * 1.02)
  axis.grid(alpha=0.3)
  axis.spines[['top', 'right']].set_visible(False)


def _held_out(axis, key: str, last: int, evaluation: Mapping[str, Mapping]) -> None:
  """The evaluations before and after as points, pass@1 with its interval."""
  places = {'before': 0, 'after': last}
  for when in [w for w in places if w in evaluation]:
    value, bars = evaluation[when][key], None
    if key == 'pass@1':
      low, high = evaluation[when]['ci95']
      bars = [[max(value - low, 0)], [max(high - value, 0)]]
    axis.errorbar(
      [places[when]], [value], yerr=bars, fmt='o', color='tab:orange', capsize=4, zorder=3,
      clip_on=False, label='held-out problems',
    )  # fmt: skip
    text = f'{value:.2f}' if bars else f'{value:.0f}'
    shift, side = ((9, -15), 'left') if when == 'before' else ((-9, 9), 'right')
    axis.annotate(
      text, (places[when], value), xytext=shift, textcoords='offset points', ha=side,
      color='tab:orange', fontweight='bold', zorder=4,
      bbox={'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.8, 'pad': 1},
    )  # fmt: skip
  handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
  axis.legend(handles.values(), handles.keys(), loc='lower right', frameon=False)


def running_mean(values: np.ndarray) -> np.ndarray:
  """values [N] -> their mean over a centered window of about N / 20, NaNs left out."""
  width = max(len(values) // 20, 1)
  known = np.isfinite(values)
  ones = np.ones(2 * (width // 2) + 1)
  total = np.convolve(np.where(known, values, 0.0), ones)[width // 2 :][: len(values)]
  count = np.convolve(known.astype(float), ones)[width // 2 :][: len(values)]
  return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def report(summary: Mapping, samples: Mapping[str, Sequence[Sample]], plotted: bool) -> str:
  """The summary for people, in Markdown."""
  time = duration(summary['seconds'])
  lines = [f'# {summary["experiment"]}', '', f'Seed {summary["seed"]}, {time} in all.', '']
  if summary['evaluation']:
    lines += ['## Held-out problems', '', *_evaluation_table(summary['evaluation']), '']
  if plotted:
    lines += ['![Metrics over the steps of training](plot.png)', '']
  lines += ['## Stages', '', '| stage | kind | steps | time |', '|---|---|---:|---:|']
  for stage in summary['stages']:
    row = (stage['name'], stage['kind'], str(stage['steps']), duration(stage['seconds']))
    lines.append(f'| {" | ".join(row)} |')
  for when, shown in samples.items():
    lines += ['', f'## Samples {when}', '']
    for sample in shown[:SAMPLES]:
      lines += [f'Reward {sample.reward:.3g}:', '', fenced(sample.prompt + sample.completion), '']
  lines += ['', ', '.join(f'{name} {v}' for name, v in summary['versions'].items()), '']
  return '\n'.join(lines).replace('\n\n\n', '\n\n')


def _evaluation_table(evaluation: Mapping[str, Mapping]) -> list[str]:
  results = evaluation.values()
  low_high = [result['ci95'] for result in results]
  rows = {
    'pass@1': [f'{result["pass@1"]:.3f}' for result in results],
    '95% confidence interval': [f'{low:.3f} to {high:.3f}' for low, high in low_high],
    'mean response length in tokens': [f'{result["mean_length"]:.1f}' for result in results],
  }
  header = [f'| | {" | ".join(evaluation)} |', '|---' * (len(evaluation) + 1) + '|']
  return header + [f'| {name} | {" | ".join(cells)} |' for name, cells in rows.items()]


def _replace(path: Path, text: str) -> None:
  """Writes a file that is there whole or not at all."""
  temporary = path.with_name(f'{path.name}.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)
