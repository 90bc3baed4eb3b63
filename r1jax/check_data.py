"""What one stage reads and writes, looked at before anything is compiled: problems, texts, folders."""

import contextlib
import dataclasses
import math
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from r1jax.checkpoint import CheckpointError
from r1jax.config import Experiment, Stage
from r1jax.evaluation.benchmarks import named, there
from r1jax.fields import ConfigError
from r1jax.model.hf_folder import check_free
from r1jax.preference import KINDS
from r1jax.problems import Problem, ProblemsConfig
from r1jax.problems import texts as texts_lib
from r1jax.problems.files import BrokenLine
from r1jax.prompts import encode
from r1jax.rewards import sandbox
from r1jax.rewards.language import SCRIPTS
from r1jax.rewards.learned import described, judge
from r1jax.stages import export, preference, sft
from r1jax.stages.context import Context


@contextlib.contextmanager
def points_to(key: str, value, valid: str):
  """What a field points to is at fault: its error, as one of the field."""
  try:
    yield
  except ConfigError:
    raise
  except (OSError, ValueError, CheckpointError) as error:
    text = str(error)
    if re.match(r'\w+=', text):  # it names a field of the same section
      raise ConfigError(f'{key.rpartition(".")[0]}.{text}') from error
    valid = '' if '; valid' in text else f'; valid: {valid}'
    value = repr(value) if isinstance(value, str) else value
    raise ConfigError(f'{key}={value} is not possible: {text}{valid}') from error


@contextlib.contextmanager
def points_to_problems(cfg: ProblemsConfig):
  """As points_to, of the source or the mixture; says how a file with broken lines can be used all the same."""
  field = 'mixture' if cfg.mixture else 'source'
  value = getattr(cfg, field)
  with points_to(f'problems.{field}', value, 'countdown, arithmetic or a .jsonl file'):
    try:
      yield
    except BrokenLine as error:
      way = ', or' if '; valid' in str(error) else '; valid:'
      raise ValueError(f'{error}{way} problems.broken=skip, which leaves such lines out') from error


def reward_models(stage: Stage, experiment: Experiment) -> None:
  """Its models are there, or are made by a stage before it."""
  before = {s.name for s in experiment.stages[: experiment.stages.index(stage)]}
  for kind, path in experiment.preference_reward.models(stage.name).items():
    if path not in before:
      with points_to(f'preference_reward.{kind}', path, 'the folder of a preference stage'):
        described(path)


def own_rewards(problems: tuple[Problem, ...], stage: Stage, experiment: Experiment) -> None:
  """What problems say of their rewards is there in this stage. Raises ValueError: else they would silently earn 0."""
  cfg, reward = experiment.preference_reward, stage.settings.reward
  models = cfg.models(stage.name)
  paid = models or any(reward.weights().values())
  if not paid and not any(problem.details.get('reward_weights') for problem in problems):
    raise ConfigError(
      f'{stage.section}.accuracy_weight={reward.accuracy_weight} is not possible: no part of the reward has a weight; '
      'valid: above 0, such as 1.0'
    )
  # A stage that is to have no models does without; but general problems are for nothing else.
  spared = cfg.stages and stage.name not in cfg.stages
  for problem in problems:
    judged = judge(problem, cfg, KINDS if spared else models)
    if problem.kind == 'general' and judged not in models:
      raise ValueError(
        f'problem {problem.id} is of kind general, and no reward model judges it in {stage.name}; valid: preference='
        f'{KINDS[0]} or {KINDS[1]} of the problem or the source, and preference_reward with that model'
      )
    language = problem.details.get('language', reward.language)
    own = problem.details.get('reward_weights', {})
    if own.get('language', reward.language_weight) and language not in SCRIPTS:
      raise ValueError(
        f'problem {problem.id} has a reward for language={language!r:.60}; valid: one of {", ".join(SCRIPTS)}, as lang '
        f'of its source or {stage.section}.language'
      )


def asked(stage: Stage) -> list[Problem] | None:
  """The problems of the benchmarks that it evaluates on, None if it does not. Raises ConfigError."""
  suite = getattr(stage.settings, 'suite', None)
  if suite is None or not suite.folder:
    return None
  with points_to(f'{stage.section}.folder', suite.folder, 'the folder of the files of benchmarks'):
    names = suite.benchmarks or there(Path(suite.folder))
    return [problem for name in names for problem in named(name).load(Path(suite.folder))]


def programs(allow_unsandboxed: bool) -> None:
  """Programs can be run here. Raises ConfigError; warns where they would not be shut in."""
  if reason := sandbox.refusal(allow_unsandboxed):
    raise ConfigError(
      f'problems.allow_unsandboxed={allow_unsandboxed} is not possible with problems of kind code: {reason}; valid: '
      'True, where programs that nobody has read may run without isolation'
    )
  if warning := sandbox.unsandboxed_warning(allow_unsandboxed):
    print(warning, file=sys.stderr, flush=True)


def prompts(problems: tuple[Problem, ...], context: Context) -> None:
  """One of the problems at least is put to the policy. Raises ConfigError."""
  prompt, shortest = context.experiment.prompt, math.inf
  for problem in problems:
    shortest = min(shortest, len(encode([problem], context.tokenizer, prompt.template)[0]))
    if shortest <= prompt.longest:
      return
  raise ConfigError(
    f'prompt.longest={prompt.longest} is not possible: no prompt is that short; valid: at least {shortest} tokens'
  )


def texts(stage: Stage, context: Context) -> None:
  """Supervised training has texts, and learns something of one of them at least. Raises ConfigError."""
  cfg, experiment = stage.settings, context.experiment
  section = 'problems' if cfg.source == texts_lib.BASE_TEXT else stage.section
  with points_to(f'{section}.source', cfg.source, 'base_text or a .jsonl file'):
    found = texts_lib.load(cfg.source, experiment.problems, experiment.prompt.template)
  uncut, least = dataclasses.replace(cfg, longest=sys.maxsize - 1), math.inf
  for pair in found:
    learned = np.flatnonzero(sft.example(*pair, context.tokenizer, uncut).mask)
    least = min(least, learned[0] + 1 if learned.size else math.inf)
    if least <= cfg.longest:
      return
  if least < math.inf:
    _refuse_longest(stage, 'every text is cut off within its prompt, and nothing is learned', least)


def comparisons(stage: Stage, context: Context) -> None:
  """Preferences can be read, and one of them at least is short enough. Raises ConfigError."""
  cfg, least = stage.settings, math.inf
  with points_to(f'{stage.section}.source', cfg.source, 'a .jsonl file'):
    found = preference.read(cfg.source, cfg.kind)
  for record in found:
    comparison = preference.compare(record, cfg.kind, context)
    least = min(least, max(map(len, comparison.texts)))
    if least <= cfg.longest:
      return
  _refuse_longest(stage, 'no comparison is that short', least)


def _refuse_longest(stage: Stage, reason: str, least: int) -> None:
  raise ConfigError(
    f'{stage.section}.longest={stage.settings.longest} is not possible: {reason}; valid: at least {least} tokens'
  )


def free_path(stage: Stage, context: Context) -> None:
  """A stage can write a new directory there. Raises ConfigError."""
  key, path = f'{stage.section}.path', Path(stage.settings.path)
  with points_to(key, str(path), 'a new directory, in a folder that can be written to'):
    if not export.is_begun(context.folder(stage), path):
      check_free(path)
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
      raise NotADirectoryError(f'{parent} is a file')
    try:
      with tempfile.TemporaryDirectory(dir=parent, prefix='.r1jax'):  # access() would ask less
        pass
    except OSError as error:
      raise OSError(f'{parent} cannot be written to: {error.strerror}') from error
