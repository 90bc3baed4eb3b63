"""Scores -> report.png: a panel a row of the published table, with what was measured here on top."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from r1jax.evaluation.published import PUBLISHED, ROWS
from r1jax.evaluation.table import measured

MEASURED, PRINTED = 'tab:orange', '0.75'
COLUMNS = 3


def draw(scores: Mapping, settings: Mapping, path: Path) -> bool:
  """False: nothing was measured that is published, and there is no picture."""
  panels = {row: found for row in ROWS if (found := measured(scores, *row))}
  if not panels:
    return False
  lines = math.ceil(len(panels) / COLUMNS)
  figure = Figure(figsize=(4.4 * COLUMNS, 3.4 * lines), dpi=120, layout='constrained')
  axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
  for axis, (row, found) in zip(axes, panels.items(), strict=False):
    _panel(axis, row, found, settings['model'])
  for axis in axes[len(panels) :]:
    axis.set_visible(False)
  temporary = path.with_name(f'{path.name}.tmp')
  figure.savefig(temporary, format='png', metadata={'Software': None})
  os.replace(temporary, path)
  return True


def _panel(axis, row: tuple[str, str], found: tuple[float, float, float], model: str) -> None:
  """Bars from the best at the top to the worst; the measured one has its interval."""
  scores = {name: printed[row] for name, printed in PUBLISHED.items() if row in printed}
  bars = [*((score, name, False) for name, score in scores.items()), (found[0], model, True)]
  bars.sort(key=lambda bar: bar[0])
  for y, (score, _, ours) in enumerate(bars):
    axis.barh(y, score, color=MEASURED if ours else PRINTED)
    text, x = (f' {score:.1f}', found[2]) if ours else (f' {score:g}', score)
    axis.annotate(text, (x, y), va='center', fontsize=7)
    if ours:
      error = [[max(score - found[1], 0)], [max(found[2] - score, 0)]]
      axis.errorbar([score], [y], xerr=error, color='black', capsize=3, linewidth=1)
  labels = [f'{name} (measured)' if ours else f'{name} (published)' for _, name, ours in bars]
  axis.set_yticks(range(len(bars)), labels, fontsize=7)
  axis.set_title(ROWS[row], fontweight='bold', fontsize=9)
  axis.set_xlabel('rating' if row[1] == 'rating' else '%', fontsize=8)
  axis.set_xlim(0, None)
  axis.spines[['top', 'right']].set_visible(False)
