"""Problems: generated or read from files, split into train and held-out by a hash of their key."""

import contextlib
import dataclasses
import functools

from r1jax.problems import arithmetic, countdown, files, mixture
from r1jax.problems.problem import KINDS, SPLITS, STYLES, Problem, ProblemsConfig, is_heldout

__all__ = ['KINDS', 'SPLITS', 'STYLES', 'Problem', 'ProblemsConfig', 'load']

GENERATORS = {'countdown': countdown, 'arithmetic': arithmetic}


def load(cfg: ProblemsConfig, split: str, most: int = 0) -> tuple[Problem, ...]:
  """config, 'train' or 'heldout' -> the problems of that split, in order of their ids. Held-out ones are for pass@1, so
  those of kind general, which have no answer, are not among them. most: of a source that is drawn without end, for a
  look at the first ones; 0: all.

  Raises ValueError when the split is unknown or empty, and where the source is at fault.
  """
  if split not in SPLITS:
    raise ValueError(f'split={split!r} is unknown; valid: one of {SPLITS}')
  one = functools.partial(_split, most=most)
  found = mixture.load(cfg, split, one) if cfg.mixture else one(cfg, split)
  if split == 'train':
    return found
  answered = tuple(problem for problem in found if problem.kind != 'general')
  if not answered:
    field = 'mixture' if cfg.mixture else 'source'
    raise ValueError(
      f'{field}={getattr(cfg, field)!r} has no held-out problem with an answer, only general ones; valid: a mixture '
      'with others'
    )
  return answered


def _split(cfg: ProblemsConfig, split: str, most: int = 0) -> tuple[Problem, ...]:
  """One source. Raises ValueError when its split is empty."""
  drawn = cfg.source in GENERATORS and not GENERATORS[cfg.source].is_enumerated(cfg)
  if drawn and 0 < most < cfg.count:
    # The first ones may be too few: the real count has the last word.
    with contextlib.suppress(ValueError):
      return _split(dataclasses.replace(cfg, count=most), split)
  problems = _generated(cfg) if cfg.source in GENERATORS else files.read(cfg)
  heldout = split == 'heldout'
  chosen = tuple(p for p in problems if is_heldout(p, cfg.heldout_fraction) == heldout)
  if not chosen:
    raise ValueError(
      f'the {split} split of source={cfg.source!r} is empty: {len(problems)} problems at '
      f'heldout_fraction={cfg.heldout_fraction}; valid: a larger count, or a fraction like 0.1'
    )
  return chosen


@functools.lru_cache(maxsize=2)
def _generated(cfg: ProblemsConfig) -> tuple[Problem, ...]:
  """Both splits, made once: 300,000 problems take more than a minute."""
  return tuple(GENERATORS[cfg.source].generate(cfg))
