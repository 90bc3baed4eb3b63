"""Scores -> report.md: what was measured beside what is published."""

from collections.abc import Mapping, Sequence

import numpy as np

from r1jax.evaluation import metrics
from r1jax.evaluation.benchmarks import named
from r1jax.evaluation.published import PUBLISHED, ROWS, counterpart
from r1jax.rewards.verdict import BAD_GOLD, TIMEOUT, UNPARSEABLE, WRONG

RATED = ('rating', 'percentile')  # not shares


def report(scores: Mapping, settings: Mapping, plot: str | None) -> str:
  """scores: {benchmark: {variant: scores}}. settings: model, folder, seed, sampling. plot: the picture's file."""
  parts = [
    f'# Evaluation of {settings["model"]}',
    _sampling(settings),
    '## Beside the published numbers',
    'The first column is measured here, with the 95% interval of a bootstrap over problems; all others are marked as '
    'published and were not run. In percent; Codeforces as rating and percentile.',
    _published(scores),
    f'![Measured and published scores]({plot})' if plot else '',
    '## All that was measured',
    _measured(scores),
    *_sensitivity(scores),
    *_warnings(scores, settings),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def markdown(rows: Sequence[Sequence[str]]) -> str:
  """Rows of cells, the first of which is the header -> a table whose numbers stand on the right."""
  lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
  return '\n'.join([lines[0], '|---' + '|---:' * (len(rows[0]) - 1) + '|', *lines[1:]])


def scaled(estimate: Mapping, metric: str) -> tuple[float, float, float]:
  """An estimate -> value, low, high in the unit of the published numbers."""
  scale = 1 if metric in RATED else 100
  return tuple(scale * x for x in (estimate['value'], *estimate['ci95']))


def measured(scores: Mapping, benchmark: str, metric: str) -> tuple[float, float, float] | None:
  """Value, low, high of the first variant; None where it was not measured."""
  found = next(iter(scores.get(benchmark, {}).values()), {'estimates': {}})['estimates']
  return scaled(found[metric], metric) if metric in found else None


def _sampling(settings: Mapping) -> str:
  how = settings['sampling']
  return (
    f'Temperature {how["temperature"]:g}, top-p {how["top_p"]:g}, up to {how["max_tokens"]:,} tokens, '
    f'seed {settings["seed"]}.'
  )


def _published(scores: Mapping) -> str:
  rows = [['metric', '**measured**', *(f'{model} (published)' for model in PUBLISHED)]]
  for (benchmark, metric), title in ROWS.items():
    found = measured(scores, benchmark, metric)
    others = (model.get((benchmark, metric)) for model in PUBLISHED.values())
    cell = f'**{found[0]:.1f}** ({found[1]:.1f} to {found[2]:.1f})' if found else ''
    rows.append([title, cell, *('' if other is None else f'{other:g}' for other in others)])
  return markdown(rows)


def _measured(scores: Mapping) -> str:
  """One row a benchmark and variant. The intervals of all numbers are in scores.json."""
  rows = [
    ['benchmark', 'wording', 'problems', 'samples', 'pass@1', 'pass@k', 'cons@k', 'tokens', 'cut off',
     'mixed languages', 'wrong', 'no answer', 'out of time'],
  ]  # fmt: skip
  for name, by_variant in scores.items():
    for variant, found in by_variant.items():
      estimates, samples = found['estimates'], found['samples']
      value, low, high = scaled(estimates['pass@1'], 'pass@1')
      share = lambda metric, e=estimates: f'{100 * e[metric]["value"]:.1f}' if metric in e else ''
      rows.append([
        named(name).title, variant, str(found['problems']), str(samples), f'{value:.1f} ({low:.1f} to {high:.1f})',
        share(f'pass@{samples}'), share(f'cons@{samples}'), f'{estimates["mean_length"]["value"]:.0f}',
        *map(share, ('truncated', 'language_mixing', WRONG, UNPARSEABLE, TIMEOUT)),
      ])  # fmt: skip
  return markdown(rows)


def _sensitivity(scores: Mapping) -> list[str]:
  """The same problems in several wordings."""
  rows = [['benchmark', 'wordings', 'lowest pass@1', 'highest pass@1', 'standard deviation']]
  for name, by_variant in scores.items():
    if len(by_variant) > 1:
      low, high, deviation = spread(by_variant)
      cells = f'{low:.1f}', f'{high:.1f}', f'{deviation:.1f}'
      rows.append([named(name).title, ', '.join(by_variant), *cells])
  return ['## How much the wording of the prompt changes', markdown(rows)] if len(rows) > 1 else []


def spread(by_variant: Mapping) -> tuple[float, float, float]:
  """{variant: scores} -> lowest, highest and standard deviation (n - 1) of pass@1, in percent."""
  values = [100 * found['estimates']['pass@1']['value'] for found in by_variant.values()]
  return min(values), max(values), float(np.std(values, ddof=1))


def _warnings(scores: Mapping, settings: Mapping) -> list[str]:
  found = []
  for name, by_variant in scores.items():
    title = named(name).title
    for variant, result in by_variant.items():
      if bad := result['estimates'][BAD_GOLD]['value']:
        found.append(
          f'{title} ({variant}): the reference of {bad:.1%} of the samples cannot be read'
        )
    first, *others = by_variant.items()
    for variant, result in others:
      pair = (x['estimates']['pass@1'] for x in (first[1], result))
      found.append(metrics.doubt(f'{title}, {first[0]} against {variant}', *pair))
  found += _against_published(scores, settings)
  lines = '\n'.join(f'- {warning}' for warning in found if warning)
  return ['## Warnings', lines] if lines else []


def _counterpart(settings: Mapping) -> str | None:
  """The published model that has these weights, by the name of the size or, as with size auto, of the folder."""
  folder = settings['model'].lower()
  names = (settings['size'], folder, folder.removeprefix('deepseek-'))
  return next(filter(None, map(counterpart, names)), None)


def _against_published(scores: Mapping, settings: Mapping) -> list[str | None]:
  """Where the weights are published with their scores, they should be met."""
  model = _counterpart(settings)
  found = []
  for (benchmark, metric), published in PUBLISHED.get(model, {}).items():
    if ours := measured(scores, benchmark, metric):
      theirs = {'value': published, 'ci95': [published, published]}
      estimate = {'value': ours[0], 'ci95': ours[1:]}
      found.append(
        metrics.doubt(f'{ROWS[benchmark, metric]}, {model} as published', theirs, estimate)
      )
  return found
