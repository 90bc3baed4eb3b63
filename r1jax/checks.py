"""What a config asks of the machine it runs on: devices, files, tokenizer, problems.

All of it is looked at before anything is compiled, and is said as what is wrong with the config.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from r1jax import mesh as mesh_lib
from r1jax import problems as problems_lib
from r1jax import tokenizer as tokenizer_lib
from r1jax.checkpoint import CheckpointError
from r1jax.config import Experiment, Stage
from r1jax.evaluation.benchmarks import Suite, named, there
from r1jax.fields import ConfigError, flat
from r1jax.model import source
from r1jax.preference import KINDS
from r1jax.problems import Problem
from r1jax.problems import texts as texts_lib
from r1jax.prompts import encode
from r1jax.report import RolloutLog
from r1jax.rewards import sandbox
from r1jax.rewards.language import SCRIPTS
from r1jax.rewards.learned import described, judge
from r1jax.stages import export, preference
from r1jax.stages.context import Context

SOME = 1000  # generated problems that are looked at; all of them take minutes where there are many
SPLITS = {'grpo': 'train', 'evaluate': 'heldout'}


def prepare(experiment: Experiment, workdir: Path, config: Mapping) -> Context:
  """Experiment -> Context, and the workdir with its config. Raises ConfigError."""
  same_config(workdir, config)
  devices = _mesh(experiment)
  check_batches(experiment, devices)
  context = Context(experiment, workdir, devices, _tokenizer(experiment))
  _check_model(context)
  for stage in experiment.stages:
    if context.result(stage) is None:
      _check_data(stage, context)
  with _points_to('--workdir', workdir, 'a folder that can be written to'):
    _record(workdir, config)
  return context


def replayable(experiment: Experiment, workdir: Path, name: str, step: int) -> tuple[Stage, int]:
  """The stage of this name ('': the one that has the step) and the step, which can be rebuilt. Raises ConfigError."""
  stages = [s for s in experiment.stages if s.kind == 'grpo']
  if not stages:
    raise ConfigError(
      f'--replay_step={step} is not possible: {experiment.name} has no stage that samples; valid: an experiment '
      'with a grpo stage'
    )
  log = lambda stage: RolloutLog(workdir / stage.name / 'rollouts')
  chosen = [s for s in stages if name == s.name or not name and step in log(s).steps()]
  if name and not chosen or len(chosen) > 1:
    valid = ', '.join(f'{s.name}:{step}' for s in chosen or stages)
    raise ConfigError(f'--replay_step={name and f"{name}:"}{step} is not possible; valid: {valid}')
  with _points_to('--replay_step', step, 'a step whose rollout is saved'):
    log((chosen or stages)[0]).load(step)
  return (chosen or stages)[0], step


@contextlib.contextmanager
def _points_to(key: str, value, valid: str):
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


def _mesh(experiment: Experiment) -> jax.sharding.Mesh:
  sizes = dataclasses.asdict(experiment.mesh)
  try:
    return mesh_lib.make_mesh(**sizes)
  except ValueError as error:
    axis = max(sizes, key=sizes.get)
    raise ConfigError(
      f'mesh.{axis}={sizes[axis]} is not possible: {error}; valid: sizes whose product is {jax.device_count()}, '
      'one of them may be -1 for all that remain'
    ) from error


def check_batches(experiment: Experiment, mesh) -> None:
  """The sequences of a step are shared out evenly. Raises ConfigError."""
  ways = mesh_lib.data_ways(mesh)
  for stage in experiment.stages:
    settings = stage.settings
    if hasattr(settings, 'prompts_per_step'):
      field, group = 'prompts_per_step', settings.samples_per_prompt
    elif hasattr(settings, 'texts_per_step'):
      field, group = 'texts_per_step', 1
    else:
      continue
    count, unit = getattr(settings, field), ways // math.gcd(ways, group)
    if count % unit:
      raise ConfigError(
        f'{stage.section}.{field}={count} is not possible: {count * group} sequences a step do not divide over the '
        f'{ways} ways of data, fsdp and expert; valid: a multiple of {unit}, such as {-(-count // unit) * unit}'
      )


def _tokenizer(experiment: Experiment):
  """The tokenizer of the model. Raises ConfigError for a directory that is not there or has none."""
  init, size = experiment.init, experiment.model.size
  field = 'tokenizer' if init.tokenizer else 'path'
  where = getattr(init, field)
  with _points_to(f'init.{field}', where, 'a directory with tokenizer.json or tokenizer.model'):
    if not where or not Path(where).exists():
      raise ConfigError(
        f'init.{field}={where!r} does not exist; valid: a directory with the weights and the tokenizer of '
        f'{size} in Hugging Face layout'
      )
    found = tokenizer_lib.load(where if init.tokenizer else source.tokenizer(where) or where)
  vocab = experiment.model_config.vocab
  if found.vocab > vocab:
    raise ConfigError(
      f'init.{field}={where!r} is not possible: its tokenizer has {found.vocab} ids; valid: at most the {vocab} '
      f'of {size}'
    )
  return found


def _check_model(context: Context) -> None:
  """The checkpoint's files are there, whole by their headers, and of the model that the config names."""
  path = context.experiment.init.path
  if not path:
    return
  with _points_to('init.path', path, f'a directory with {context.experiment.model.size}'):
    source.check(path, context.model)


def _check_data(stage: Stage, context: Context) -> None:
  """What a stage reads can be read and is not empty; what it writes is not in the way."""
  experiment = context.experiment
  if stage.kind in SPLITS:
    field = 'mixture' if experiment.problems.mixture else 'source'
    source, valid = getattr(experiment.problems, field), 'countdown, arithmetic or a .jsonl file'
    with _points_to(f'problems.{field}', source, valid):
      found = _some_problems(experiment, SPLITS[stage.kind])
      if stage.kind == 'grpo':
        _check_own_rewards(found, stage, experiment)
    _check_prompts(found, context)
    asked = _asked(stage) or found
    if any(problem.kind == 'code' for problem in asked):
      _check_sandbox(experiment.problems.allow_unsandboxed)
  if stage.kind == 'sft':
    source = stage.settings.source
    section = 'problems' if source == texts_lib.BASE_TEXT else stage.section
    with _points_to(f'{section}.source', source, 'base_text or a .jsonl file'):
      texts_lib.load(source, experiment.problems, experiment.prompt.template)
  if stage.kind == 'preference':
    source = stage.settings.source
    with _points_to(f'{stage.section}.source', source, 'a .jsonl file'):
      preference.read(source, stage.settings.kind)
  if stage.kind == 'grpo':
    _check_preference_reward(stage, experiment)
  if stage.kind == 'export' and stage.settings.path:
    path = Path(stage.settings.path)
    taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if taken and not export.is_begun(context.folder(stage), path):
      raise ConfigError(
        f'{stage.section}.path={str(path)!r} exists and is not empty; valid: a new directory'
      )


def _check_preference_reward(stage: Stage, experiment: Experiment) -> None:
  """Its models are there, or are made by a stage before it."""
  before = {s.name for s in experiment.stages[: experiment.stages.index(stage)]}
  for kind, path in experiment.preference_reward.models(stage.name).items():
    if path not in before:
      with _points_to(f'preference_reward.{kind}', path, 'the folder of a preference stage'):
        described(path)


def _check_own_rewards(problems: tuple[Problem, ...], stage: Stage, experiment: Experiment) -> None:
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


def _asked(stage: Stage) -> list[Problem]:
  """The problems of the benchmarks that it is on, if it is. Raises ConfigError."""
  suite = getattr(stage.settings, 'suite', Suite())
  if not suite.folder:
    return []
  with _points_to(f'{stage.section}.folder', suite.folder, 'the folder of the files of benchmarks'):
    names = suite.benchmarks or there(Path(suite.folder))
    return [problem for name in names for problem in named(name).load(Path(suite.folder))]


def _check_sandbox(allow_unsandboxed: bool) -> None:
  """Programs can be run here. Raises ConfigError; warns where they would not be shut in."""
  if reason := sandbox.refusal(allow_unsandboxed):
    raise ConfigError(
      f'problems.allow_unsandboxed={allow_unsandboxed} is not possible with problems of kind code: {reason}; valid: '
      'True, where programs that nobody has read may run without isolation'
    )
  if warning := sandbox.unsandboxed_warning(allow_unsandboxed):
    print(warning, file=sys.stderr, flush=True)


def _some_problems(experiment: Experiment, split: str) -> tuple[Problem, ...]:
  """Problems of a split: all that a file has, the first ones where they are generated."""
  cfg = experiment.problems
  if cfg.source.endswith('.jsonl') or cfg.count <= SOME:
    return problems_lib.load(cfg, split)
  try:
    return problems_lib.load(dataclasses.replace(cfg, count=SOME), split)
  except ValueError:  # the first ones may be too few: the real count has the last word
    return problems_lib.load(cfg, split)


def _check_prompts(problems: tuple[Problem, ...], context: Context) -> None:
  prompt, shortest = context.experiment.prompt, math.inf
  for problem in problems:
    shortest = min(shortest, len(encode([problem], context.tokenizer, prompt.template)[0]))
    if shortest <= prompt.longest:
      return
  raise ConfigError(
    f'prompt.longest={prompt.longest} is not possible: no prompt is that short; valid: at least {shortest} tokens'
  )


def same_config(workdir: Path, config: Mapping) -> None:
  """A run is gone on with under the config that it was started with. Raises ConfigError."""
  path = workdir / 'config.json'
  if not path.exists():
    return
  with _points_to('--workdir', workdir, 'a folder whose config.json is as it was written'):
    there = flat(json.loads(path.read_text()))
  here = flat(_plain(config))
  for key in {**here, **there}:
    if key not in here or key not in there or here[key] != there[key]:
      raise ConfigError(
        f'{key}={here.get(key)!r} is not what {workdir} was started with; valid: {there.get(key)!r}, or another '
        '--workdir'
      )


def _record(workdir: Path, config: Mapping) -> None:
  path = workdir / 'config.json'
  if path.exists():
    return
  workdir.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(_plain(config), indent=2) + '\n')
  os.replace(temporary, path)


def _plain(config: Mapping) -> dict:
  """As JSON gives it back: lists for tuples."""
  return json.loads(json.dumps(config.to_dict() if hasattr(config, 'to_dict') else dict(config)))
