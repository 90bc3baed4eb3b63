"""ConfigDict -> frozen dataclasses. Whatever is wrong with a config is said here, before any compile."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from r1jax import check_settings
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
  """Devices along each axis; one of them may be -1: all that remain.

  cpu_devices: that a CPU counts as, where there is no accelerator. Two that share out the rows make better use of two
  cores than one: XLA splits few operations of one device well.
  """

  data: int = 1
  fsdp: int = -1
  expert: int = 1
  tensor: int = 1
  cpu_devices: int = 1

  @property
  def axes(self) -> dict[str, int]:
    return {axis: getattr(self, axis) for axis in ('data', 'fsdp', 'expert', 'tensor')}

  def __post_init__(self):
    if self.cpu_devices < 1:
      raise ValueError(
        f'cpu_devices={self.cpu_devices} is not possible; valid: at least 1, such as 2'
      )
    sizes_ = self.axes
    for field, size in sizes_.items():
      if size != -1 and size < 1:
        raise ValueError(
          f'{field}={size} is not possible; valid: at least 1, or -1 for all that remain'
        )
    rest = [field for field, size in sizes_.items() if size == -1]
    if len(rest) > 1:
      first, second, *_ = sorted(rest, key='fsdp'.__eq__)  # whose default it is comes last
      raise ValueError(
        f'{first}=-1 is not possible beside {second}=-1; valid: only one axis is -1, such as {first}=-1 and {second}=1'
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
  refuse_unknown(config, {*PLAIN, *PARTS, *(stage.section for stage in stages)}, '')
  parts = {part: build(cls, config.get(part, {}), part) for part, cls in PARTS.items()}
  experiment = made(Experiment, parts | {'name': name, 'seed': seed, 'stages': stages}, '')
  check_settings.check(experiment)
  return experiment


def _stages(entries: tuple[str, ...], config: Mapping) -> tuple[Stage, ...]:
  """'name:kind' entries -> stages; the section is called like the stage, or like its kind."""
  if not entries:
    raise ConfigError("stages=() is empty; valid: 'name:kind' entries, such as ('rl:grpo',)")
  stages: dict[str, Stage] = {}
  whole: dict[
    str, Mapping
  ] = {}  # section of each stage, with what it has from the one that it continues
  for entry in entries:
    name, _, kind = entry.partition(':')
    kind = kind or name
    if kind not in KINDS:
      raise ConfigError(f'stages={entry!r} is not possible; valid kinds: {", ".join(KINDS)}')
    if name in {*PARTS, *PLAIN, *stages} or not NAME.fullmatch(name):
      raise ConfigError(f'stages={entry!r} is not possible; valid: a name of its own, not {name!r}')
    section = name if name in config else kind
    if section not in config and _required(KINDS[kind]()):
      valid = ' or '.join(repr(key) for key in dict.fromkeys((name, kind)))
      raise ConfigError(f'stages={entry!r} has no settings; valid: a section {valid}')
    whole[name] = _whole(config.get(section, {}), section, kind, stages, whole)
    settings = build(KINDS[kind](), whole[name], section)
    stages[name] = Stage(name, kind, settings, section)
    check_settings.continued(stages[name], stages)
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


def _required(cls: type) -> bool:
  """Whether a stage of this kind needs a section."""
  return any(field.default is dataclasses.MISSING for field in dataclasses.fields(cls))
