"""python -m r1jax.evaluation DIR [--folder BENCHMARKS] [--against DIR] [--allow-unsandboxed]

Scores the saved generations of an evaluation anew, and writes scores.json, report.md and report.png. DIR is the folder
of an evaluation's stage in a run, which holds generations/. Exit codes: 0 done, 2 what was asked is not possible.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1jax.evaluation import metrics, scoring
from r1jax.rewards.checks import checks
from r1jax.rewards.pool import Pool
from r1jax.rewards.sandbox import unsandboxed_warning
from r1jax.rewards.verdict import CannotCheck


def main(argv: Sequence[str]) -> int:
  """Arguments -> exit code."""
  parser = argparse.ArgumentParser('r1jax.evaluation', description=__doc__)
  parser.add_argument('dir', type=Path, help='folder with generations/ and settings.json')
  parser.add_argument(
    '--folder', type=Path, help="the benchmarks' files, if they are not where they were"
  )
  parser.add_argument(
    '--against', type=Path, help='another such folder, already scored, to compare with'
  )
  risk = 'run programs WITHOUT isolation where no sandbox works'
  parser.add_argument('--allow-unsandboxed', action='store_true', help=risk)
  args = parser.parse_args(argv)
  try:
    check_folders(args)
    settings = json.loads((args.dir / scoring.SETTINGS).read_text())
    if warning := unsandboxed_warning(args.allow_unsandboxed):
      print(warning, file=sys.stderr)
    workers = max((os.cpu_count() or 1) // 2, 1)
    with Pool(workers, checks=checks(args.allow_unsandboxed)) as pool:
      scores = scoring.score(args.dir, args.folder or Path(settings['folder']), pool)
    print((args.dir / scoring.REPORT).read_text())
    if args.against:
      print('\n'.join(compared(json.loads((args.against / scoring.SCORES).read_text()), scores)))
  except (OSError, ValueError, CannotCheck) as error:
    print('error:', error, file=sys.stderr)
    return 2
  return 0


def check_folders(args) -> None:
  """Raises ValueError for an argument that is no such folder, before anything is scored."""
  scored = 'the folder of an evaluation in a run, such as runs/evaluate-tiny-seed0/evaluate'
  if not (args.dir / scoring.SETTINGS).is_file():
    raise ValueError(f'DIR={args.dir} has no {scoring.SETTINGS}; valid: {scored}')
  if args.against and not (args.against / scoring.SCORES).is_file():
    raise ValueError(
      f'--against={args.against} has no {scoring.SCORES}; valid: {scored}, once `python -m r1jax.evaluation` has '
      'scored it'
    )
  if args.folder and not args.folder.is_dir():
    raise ValueError(
      f"--folder={args.folder} is not a folder; valid: that of the benchmarks' files"
    )


def compared(before: Mapping, after: Mapping) -> list[str]:
  """Two scores.json -> a line for every benchmark and variant that both have."""
  lines = []
  for name, variant in ((n, v) for n in after for v in after[n] if v in before.get(n, {})):
    pair = [scores[name][variant]['estimates']['pass@1'] for scores in (before, after)]
    values = [estimate['value'] for estimate in pair]
    said = f'{name} ({variant}): pass@1 {values[0]:.4g}, then {values[1]:.4g}'
    lines.append(metrics.doubt(f'{name} ({variant})', *pair) or said)
  return lines


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
