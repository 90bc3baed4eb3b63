"""Settings that contradict each other, or the model. Said with the key, its value and a valid one."""

import os
import typing
from collections.abc import Mapping

from r1jax.fields import ConfigError

if typing.TYPE_CHECKING:  # config.py needs this module to check a config
  from r1jax.config import Experiment, Stage
  from r1jax.update import UpdateConfig


def check(experiment: 'Experiment') -> None:
  """Everything here but `continued`, which is seen while stages are made."""
  _auto(experiment)
  _reward_models(experiment)
  _exports(experiment)
  for stage in experiment.stages:
    _model(experiment, stage)


def continued(stage: 'Stage', stages: Mapping[str, 'Stage']) -> None:
  """Where one stage ends another can go on: the same problems and state, a whole rollout, further steps."""
  name = getattr(stage.settings, 'continues', '')
  if not name:
    return
  here, there = stage.settings, stages[name].settings
  first, where = there.optimizer.steps, stage.section
  if here.optimizer.steps <= first:
    raise ConfigError(
      f'{where}.steps={here.optimizer.steps} is not possible; valid: more than the {first} of {name}, which it goes '
      'on from'
    )
  if (here.optimizer.schedule, there.optimizer.schedule) != ('constant', 'constant'):
    raise ConfigError(
      f"{where}.schedule={here.optimizer.schedule!r} is not possible; valid: 'constant', in {name} too, as the rate "
      'would jump between them'
    )
  if first % here.updates_per_rollout:
    raise ConfigError(
      f'{where}.steps_per_rollout={here.steps_per_rollout} is not possible: {name} ends with step {first}; valid: what '
      f'divides that, with inner_epochs={here.inner_epochs}'
    )
  if here.prompts_per_step != there.prompts_per_step:
    raise ConfigError(
      f'{where}.prompts_per_step={here.prompts_per_step} is not possible; valid: {there.prompts_per_step}, as in {name}'
    )
  if here.uses_reference != there.uses_reference:
    raise ConfigError(
      f'{where}.kl_weight={here.algorithm.kl_weight} is not possible: one of {where} and {name} measures KL against a '
      'reference and the other does not; valid: kl and kl_weight that both have, or that neither has'
    )


def _auto(experiment: 'Experiment') -> None:
  """Size 'auto' needs a model to read."""
  path = experiment.init.path
  if experiment.model.size != 'auto':
    return
  valid = 'a directory with weights and config.json'
  if not path:
    raise ConfigError(
      f"init.path='' is missing: model.size='auto' is what is there; valid: {valid}"
    )
  try:
    _ = experiment.model_config
  except (ValueError, OSError) as error:
    text = str(error)
    text += '' if '; valid: ' in text else f'; valid: {valid}'
    raise ConfigError(
      f"init.path={path!r} is not possible with model.size='auto': {text}"
    ) from error


def _model(experiment: 'Experiment', stage: 'Stage') -> None:
  """What a stage generates or learns must fit into the model's context; drafts need a module that makes them."""
  settings, size, prompt = stage.settings, experiment.model.size, experiment.prompt.longest
  most = experiment.model_config.max_positions
  if hasattr(settings, 'sampling') and prompt + settings.sampling.max_tokens > most:
    if prompt >= most:
      raise ConfigError(
        f'prompt.longest={prompt} is not possible; valid: less than the context of {size}, {most} tokens'
      )
    raise ConfigError(
      f'{stage.section}.max_tokens={settings.sampling.max_tokens} is not possible; valid: at most '
      f'{most - prompt}, since {size} has a context of {most} tokens and prompt.longest={prompt} of them are '
      'for the prompt'
    )
  if (
    hasattr(settings, 'sampling')
    and settings.sampling.speculative
    and not experiment.model_config.mtp
  ):
    raise ConfigError(
      f'{stage.section}.speculative=True is not possible: {size} has no module for multi-token prediction; valid: False'
    )
  if hasattr(settings, 'update'):
    _update(settings.update, stage, experiment)
  if getattr(settings, 'longest', 0) > most:
    raise ConfigError(
      f'{stage.section}.longest={settings.longest} is not possible; valid: at most {most}, the context of {size}'
    )


def _update(cfg: 'UpdateConfig', stage: 'Stage', experiment: 'Experiment') -> None:
  """A weight of what the model has not would change nothing."""
  model, size = experiment.model_config, experiment.model.size
  needs = {
    'mtp_weight': (model.mtp, 'module for multi-token prediction'),
    'balance_weight': (model.moe, 'experts'),
    'bias_speed': (model.moe, 'experts'),
  }
  for field, (part, what) in needs.items():
    value = getattr(cfg, field)
    if value and not part:
      raise ConfigError(
        f'{stage.section}.{field}={value} is not possible: {size} has no {what}; valid: 0.0'
      )


def _reward_models(experiment: 'Experiment') -> None:
  """The stages that have reward models are stages of reinforcement learning."""
  named = experiment.preference_reward.stages
  there = [stage.name for stage in experiment.stages if stage.kind == 'grpo']
  for name in named if there else ():
    if name not in there:
      raise ConfigError(
        f'preference_reward.stages={named!r} is not possible: {name!r} is no grpo stage; valid: some of '
        f'{", ".join(there)}, or () for all'
      )


def _exports(experiment: 'Experiment') -> None:
  """No two stages write the same directory."""
  writers: dict[str, str] = {}
  for stage in experiment.stages:
    path = stage.settings.path if stage.kind == 'export' else ''
    if path and writers.setdefault(os.path.abspath(path), stage.name) != stage.name:
      raise ConfigError(
        f'{stage.section}.path={path!r} is not possible: {writers[os.path.abspath(path)]} and {stage.name} would both '
        "write it; valid: a section and a path for each, or '' for the folder of the stage"
      )
