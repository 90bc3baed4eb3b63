"""ConfigDict -> frozen dataclasses. Whatever is wrong with a config is said here, before any compile."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from r1jax.fields import ConfigError, check, type_name
from r1jax.model import sizes, source
from r1jax.model.sizes import ModelConfig
from r1jax.preference import PreferenceConfig
from r1jax.problems import ProblemsConfig
from r1jax.prompts import TEMPLATES
from r1jax.sections import build, made, refuse_unknown
from r1jax.stages import KINDS

# What is kept, computed with, and whether an fp32 copy of the weights is kept for the optimizer.
DTYPES = {
  'float32': ('float32', 'float32', False),
  'mixed': ('float32', 'bfloat16', False),
  'bfloat16': ('bfloat16', 'bfloat16', False),
  'bfloat16_master': ('bfloat16', 'bfloat16', True),
}
TRAIN = ('grpo', 'sft')  # kinds of stages that change the policy
REMAT = ('none', 'dots', 'block')
AUTO = 'auto'  # the size that init.path holds


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """Which model, and how it is computed."""

  size: str
  dtype: str = 'float32'
  remat: str = 'none'

  def __post_init__(self):
    for field, valid in (('size', [AUTO, *sizes.names()]), ('dtype', DTYPES), ('remat', REMAT)):
      if getattr(self, field) not in valid:
        raise ValueError(
          f'{field}={getattr(self, field)!r} is unknown; valid: one of {tuple(valid)}'
        )

  def config(self, path: str = '') -> ModelConfig:
    """path: where size 'auto' is read. Raises FileNotFoundError or ValueError where it is no model."""
    param, compute, _ = DTYPES[self.dtype]
    found = source.config(path) if self.size == AUTO else sizes.get(self.size)
    return dataclasses.replace(found, param_dtype=param, compute_dtype=compute, remat=self.remat)

  @property
  def master(self) -> bool:
    return DTYPES[self.dtype][2]


@dataclasses.dataclass(frozen=True)
class InitConfig:
  """What a run starts from: an HF directory, a checkpoint of r1jax or the folder of a run."""

  path: str = ''  # weights and tokenizer; '': random weights
  tokenizer: str = ''  # where `path` has none


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis; one of them may be -1: all that remain."""

  data: int = 1
  fsdp: int = -1
  expert: int = 1
  tensor: int = 1

  def __post_init__(self):
    sizes_ = dataclasses.asdict(self)
    for field, size in sizes_.items():
      if size != -1 and size < 1:
        raise ValueError(
          f'{field}={size} is not possible; valid: at least 1, or -1 for all that remain'
        )
    if list(sizes_.values()).count(-1) > 1:
      raise ValueError(
        f'fsdp={self.fsdp} is not possible; valid: only one axis is -1, here {sizes_}'
      )


@dataclasses.dataclass(frozen=True)
class PromptConfig:
  """How a problem is put to the policy. longest: tokens; problems with a longer prompt are left out."""

  template: str = 'r1_zero'
  longest: int = 512

  def __post_init__(self):
    if self.template not in TEMPLATES:
      raise ValueError(f'template={self.template!r} is unknown; valid: one of {tuple(TEMPLATES)}')
    if self.longest < 1:
      raise ValueError(
        f'longest={self.longest} is not possible; valid: a number of tokens, such as 512'
      )


@dataclasses.dataclass(frozen=True)
class Stage:
  """One part of an experiment: its name, what kind of stage it is, that kind's settings, and their section."""

  name: str
  kind: str
  settings: Any
  section: str = ''


@dataclasses.dataclass(frozen=True)
class Experiment:
  """All that a run depends on."""

  name: str
  seed: int
  model: ModelSettings
  init: InitConfig
  mesh: MeshConfig
  problems: ProblemsConfig
  prompt: PromptConfig
  stages: tuple[Stage, ...]
  preference_reward: PreferenceConfig = PreferenceConfig()

  def __post_init__(self):
    if not NAME.fullmatch(self.name):
      raise ValueError(f'name={self.name!r} is not possible; valid: a folder, such as r1_zero')
    if not 0 <= self.seed < 2**32:  # a random key is made of 32 bits of it
      raise ValueError(f'seed={self.seed} is not possible; valid: 0 to {2**32 - 1}')

  @functools.cached_property
  def model_config(self) -> ModelConfig:
    return self.model.config(self.init.path)


PARTS = {
  'model': ModelSettings,
  'init': InitConfig,
  'mesh': MeshConfig,
  'problems': ProblemsConfig,
  'prompt': PromptConfig,
  'preference_reward': PreferenceConfig,
}
PLAIN = {'name': str, 'seed': int, 'stages': tuple[str, ...]}
NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


def resolve(config: Mapping) -> Experiment:
  """ConfigDict -> Experiment. Raises ConfigError."""
  config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
  for key, kind in PLAIN.items():
    if key not in config:
      raise ConfigError(f'{key} is missing; valid: {type_name(kind)}')
  name, seed, entries = (check(key, config[key], kind) for key, kind in PLAIN.items())
  stages = _stages(entries, config)
  refuse_unknown(config, {*PLAIN, *PARTS, *(s.section for s in stages)}, '')
  parts = {part: build(cls, config.get(part, {}), part) for part, cls in PARTS.items()}
  experiment = made(Experiment, parts | {'name': name, 'seed': seed, 'stages': stages}, '')
  _check_auto(experiment)
  for stage in stages:
    _check_model(experiment, stage)
  return experiment


def _stages(entries: tuple[str, ...], config: Mapping) -> tuple[Stage, ...]:
  """'name:kind' entries -> stages; the section is called like the stage, or like its kind."""
  if not entries:
    raise ConfigError("stages=() is empty; valid: 'name:kind' entries, such as ('rl:grpo',)")
  stages: dict[str, Stage] = {}
  whole: dict[
    str, Mapping
  ] = {}  # the section of each stage, with what it takes from the one that it continues
  for entry in entries:
    name, _, kind = entry.partition(':')
    kind = kind or name
    if kind not in KINDS:
      raise ConfigError(f'stages={entry!r} is not possible; valid kinds: {", ".join(KINDS)}')
    if name in {*PARTS, *PLAIN, *stages} or not NAME.fullmatch(name):
      raise ConfigError(f'stages={entry!r} is not possible; valid: a name of its own, not {name!r}')
    section = name if name in config else kind
    if section not in config and _required(KINDS[kind]()):
      raise ConfigError(f'stages={entry!r} has no settings; valid: a section {name!r} or {kind!r}')
    whole[name] = _whole(config.get(section, {}), section, kind, stages, whole)
    settings = build(KINDS[kind](), whole[name], section)
    stages[name] = Stage(name, kind, settings, section)
    _check_continued(stages[name], stages)
  return tuple(stages.values())


def _whole(
  section: Mapping, where: str, kind: str, stages: Mapping[str, Stage], whole: Mapping[str, Mapping]
) -> Mapping:
  """A section with the fields of the stage that it continues, where it does not set them itself."""
  name = isinstance(section, Mapping) and section.get('continues')
  if not name:
    return section
  trained = [s for s in stages.values() if s.kind in TRAIN]
  possible = trained[-1].name if trained and trained[-1].kind == kind else ''
  if name != possible:
    valid = f"{possible!r} or ''" if possible else f"'', as no {kind} stage is right before it"
    raise ConfigError(f'{where}.continues={name!r} is not possible; valid: {valid}')
  return {**whole[name], **section}


def _check_continued(stage: Stage, stages: Mapping[str, Stage]) -> None:
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


def _required(cls: type) -> bool:
  """Whether a stage of this kind needs a section."""
  return any(field.default is dataclasses.MISSING for field in dataclasses.fields(cls))


def _check_auto(experiment: Experiment) -> None:
  """Size 'auto' needs a model to read."""
  if experiment.model.size != AUTO:
    return
  path = experiment.init.path
  try:
    _ = experiment.model_config
  except (ValueError, OSError) as error:
    raise ConfigError(
      f"init.path={path!r} is not possible with model.size='auto': {error}; valid: a directory with weights and "
      'config.json'
    ) from error


def _check_model(experiment: Experiment, stage: Stage) -> None:
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
  if getattr(settings, 'longest', 0) > most:
    raise ConfigError(
      f'{stage.section}.longest={settings.longest} is not possible; valid: at most {most}, the context of {size}'
    )
