"""What a config asks of the machine it runs on: devices, tokenizer, weights, what its stages read and write.

All of it is looked at before anything is compiled, and is said as what is wrong with the config.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import jax

from r1jax import check_data
from r1jax import mesh as mesh_lib
from r1jax import problems as problems_lib
from r1jax import tokenizer as tokenizer_lib
from r1jax.config import Experiment, Stage
from r1jax.fields import ConfigError, flat
from r1jax.model import source
from r1jax.problems import Problem
from r1jax.report import RolloutLog
from r1jax.stages.context import Context

SOME = 1000  # problems that are looked at of those that are drawn; all of them take minutes where there are many
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
  with check_data.points_to('--workdir', workdir, 'a folder that can be written to'):
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
  with check_data.points_to('--replay_step', step, 'a step whose rollout is saved'):
    log((chosen or stages)[0]).load(step)
  return (chosen or stages)[0], step


def _mesh(experiment: Experiment) -> jax.sharding.Mesh:
  sizes = experiment.mesh.axes
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
  if not where:
    raise ConfigError(
      "init.tokenizer='' is missing: random weights (init.path='') need a tokenizer; valid: a directory with "
      'tokenizer.json or tokenizer.model'
    )
  with check_data.points_to(
    f'init.{field}', where, 'a directory with tokenizer.json or tokenizer.model'
  ):
    if not Path(where).exists():
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
  with check_data.points_to('init.path', path, f'a directory with {context.experiment.model.size}'):
    source.check(path, context.model)


def _check_data(stage: Stage, context: Context) -> None:
  """What a stage reads can be read and is not empty; what it writes is not in the way."""
  experiment, found = context.experiment, check_data.asked(stage)
  if stage.kind in SPLITS and found is None:
    with check_data.points_to_problems(experiment.problems):
      found = _some_problems(experiment, SPLITS[stage.kind])
      if stage.kind == 'grpo':
        check_data.own_rewards(found, stage, experiment)
    check_data.prompts(found, context)
  if any(problem.kind == 'code' for problem in found or ()):
    check_data.programs(experiment.problems.allow_unsandboxed)
  if stage.kind == 'grpo':
    check_data.reward_models(stage, experiment)
  if stage.kind == 'sft':
    check_data.texts(stage, context)
  if stage.kind == 'preference':
    check_data.comparisons(stage, context)
  if stage.kind == 'export' and stage.settings.path:
    check_data.free_path(stage, context)


def _some_problems(experiment: Experiment, split: str) -> tuple[Problem, ...]:
  """Problems of a split: all that there are, the first ones where they are drawn without end."""
  return problems_lib.load(experiment.problems, split, most=SOME)


def same_config(workdir: Path, config: Mapping) -> None:
  """A run is gone on with under the config that it was started with. Raises ConfigError."""
  path = workdir / 'config.json'
  if not path.exists():
    return
  with check_data.points_to(
    '--workdir', workdir, 'a folder whose config.json is as it was written'
  ):
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
