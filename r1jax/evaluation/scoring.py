"""Saved generations -> verdicts/, scores.json, report.md and report.png. The same generations give the same bytes."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from r1jax import health
from r1jax.evaluation import codeforces, generations, metrics, plot, table, votes
from r1jax.evaluation.benchmarks import BENCHMARKS, CONTESTS, named
from r1jax.evaluation.generations import Generation
from r1jax.evaluation.metrics import Results
from r1jax.evaluation.variants import VARIANTS
from r1jax.problems.problem import Problem
from r1jax.rewards.language import mixing
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES, Verdict

SETTINGS, SCORES, REPORT, PLOT = 'settings.json', 'scores.json', 'report.md', 'report.png'
VERDICTS = 'verdicts'
SHOWN = 200  # characters of an answer in a file of verdicts


def score(folder: Path, benchmarks: Path, pool: Pool) -> dict:
  """Folder of an evaluation, folder of the benchmarks' files -> {benchmark: {variant: scores}}, also written.

  Scores are the estimates of `metrics`, the numbers of problems and samples, and of Codeforces its rating. Says which
  checks found out nothing. Raises FileNotFoundError, or ValueError with file and line.
  """
  scores: dict[str, dict] = {}
  load = functools.cache(lambda name: {p.id: p for p in named(name).load(benchmarks)})
  for name, variant in sorted(generations.saved(folder), key=_order):
    path = generations.file_of(folder, name, variant)
    groups = generations.read(path)
    problems = [_problem(load(name), group[0], path) for group in groups]
    verdicts = check(problems, groups, pool)
    _write(folder / VERDICTS / path.name, _verdict_rows(groups, verdicts))
    results = results_of(problems, groups, verdicts, pool)
    found = {'problems': len(problems), 'samples': len(groups[0])}
    found['estimates'] = metrics.estimates(results) | _rating(problems, results, benchmarks)
    scores.setdefault(name, {})[variant] = found
    _warn(f'{name} ({variant})', found['estimates'], pool)
  settings = json.loads((folder / SETTINGS).read_text())
  _write(folder / SCORES, json.dumps(scores, indent=2) + '\n')
  plotted = plot.draw(scores, settings, folder / PLOT)
  _write(folder / REPORT, table.report(scores, settings, PLOT if plotted else None))
  return scores


def _warn(what: str, estimates: Mapping, pool: Pool) -> None:
  """Prints what makes scores lower and is not the model's doing."""
  rates = health.verdicts({name: estimates[name]['value'] for name in OUTCOMES})
  for warning in filter(None, [rates, *pool.complaints()]):
    print(f'warning: {what}: {warning}', flush=True)


def _order(saved: tuple[str, str]) -> tuple:
  """As in the tables of benchmarks and variants; files that are in neither come last, by name."""
  tables = (list(BENCHMARKS), list(VARIANTS))
  return tuple(
    (table.index(name) if name in table else len(table), name)
    for table, name in zip(tables, saved, strict=True)
  )


def _problem(known: dict[int, Problem], generation: Generation, path: Path) -> Problem:
  if generation.id not in known:
    raise ValueError(
      f'{path}: problem {generation.id} is not in its benchmark; valid: the folder it was sampled from'
    )
  return known[generation.id]


def check(
  problems: Sequence[Problem], groups: Sequence[Sequence[Generation]], pool: Pool
) -> list[list[Verdict]]:
  """P problems, the k generations of each -> their verdicts [P][k]."""
  pairs = [
    (generation.response, problem)
    for problem, group in zip(problems, groups, strict=True)
    for generation in group
  ]
  verdicts = iter(pool.check(pairs))
  return [[next(verdicts) for _ in group] for group in groups]


def results_of(
  problems: Sequence[Problem],
  groups: Sequence[Sequence[Generation]],
  verdicts: list[list[Verdict]],
  pool: Pool,
) -> Results:
  column = lambda value, of: np.array([[value(x) for x in row] for row in of])
  vote = len(groups[0]) > 1 and all(problem.kind in votes.VOTING for problem in problems)
  return Results(
    outcomes=column(lambda v: OUTCOMES.index(v.outcome), verdicts),
    tokens=column(lambda g: g.tokens, groups),
    truncated=column(lambda g: g.truncated, groups),
    mixed=column(lambda g: mixing(g.completion), groups),
    majority=votes.majority_is_right(problems, verdicts, pool) if vote else None,
  )


def _rating(problems: Sequence[Problem], results: Results, benchmarks: Path) -> dict[str, dict]:
  """Estimates of rating and percentile, if these are the problems of the contests in the folder."""
  path = benchmarks / CONTESTS
  if 'contest' not in problems[0].details or not path.is_file():
    return {}
  places = [(problem.details['contest'], problem.details['index']) for problem in problems]
  runs = codeforces.attempts(results.right)
  contests = codeforces.read(path)
  tried = [c for c in contests if {(c.name, index) for index in c.problems} <= set(places)]
  if len(tried) < len(contests):
    print(f'{len(contests) - len(tried)} contests of {path} were not sampled whole: left out')
  if not tried:
    return {}
  found = codeforces.expected(tried, [dict(zip(places, run.tolist(), strict=True)) for run in runs])
  intervals = metrics.bootstrap([np.stack(list(found.values()))])
  return {
    name: {'value': float(x.mean()), 'ci95': ci.tolist()}
    for (name, x), ci in zip(found.items(), intervals, strict=True)
  }


def _verdict_rows(groups: Sequence[Sequence[Generation]], verdicts: list[list[Verdict]]) -> str:
  """A line a sample, for people."""
  rows = (
    {'id': g.id, 'sample': g.sample, 'outcome': v.outcome, 'answer': v.answer and v.answer[:SHOWN], 'note': v.note}
    for group, row in zip(groups, verdicts, strict=True)
    for g, v in zip(group, row, strict=True)
  )  # fmt: skip
  return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def _write(path: Path, text: str) -> None:
  """A file that is there whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.tmp')
  temporary.write_text(text, encoding='utf-8')
  os.replace(temporary, path)
