"""ConfigDict -> frozen dataclasses. Whatever is wrong with a config is said here, before any compile.

A stage's section is flat; its settings are nested dataclasses (sampling, reward, optimizer, ...), each of which
takes the keys that are called like its fields. A key that nobody takes is an error.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from r1jax.algorithms import Algorithm, algorithm
from r1jax.model import sizes
from r1jax.model.sizes import ModelConfig
from r1jax.problems import ProblemsConfig
from r1jax.prompts import TEMPLATES
from r1jax.stages import KINDS

# What is kept, computed with, and whether an fp32 copy of the weights is kept for the optimizer.
DTYPES = {
  'float32': ('float32', 'float32', False),
  'mixed': ('float32', 'bfloat16', False),
  'bfloat16': ('bfloat16', 'bfloat16', False),
  'bfloat16_master': ('bfloat16', 'bfloat16', True),
}
REMAT = ('none', 'dots', 'block')


class ConfigError(ValueError):
  """A config that cannot be run. The message names the key, its value and a valid one."""


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """Which model, and how it is computed."""

  size: str
  dtype: str = 'float32'
  remat: str = 'none'
  path: str = ''  # weights and tokenizer to start from; '': random weights
  tokenizer: str = ''  # where `path` has none

  def __post_init__(self):
    for field, valid in (('size', sizes.names()), ('dtype', DTYPES), ('remat', REMAT)):
      if getattr(self, field) not in valid:
        raise ValueError(
          f'{field}={getattr(self, field)!r} is unknown; valid: one of {tuple(valid)}'
        )

  def config(self) -> ModelConfig:
    param, compute, _ = DTYPES[self.dtype]
    return dataclasses.replace(
      sizes.get(self.size), param_dtype=param, compute_dtype=compute, remat=self.remat
    )

  @property
  def master(self) -> bool:
    return DTYPES[self.dtype][2]


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
  """One part of an experiment: its name, what kind of stage it is, and that kind's settings."""

  name: str
  kind: str
  settings: Any


@dataclasses.dataclass(frozen=True)
class Experiment:
  """All that a run depends on."""

  name: str
  seed: int
  model: ModelSettings
  mesh: MeshConfig
  problems: ProblemsConfig
  prompt: PromptConfig
  stages: tuple[Stage, ...]


def resolve(config: Mapping) -> Experiment:
  """ConfigDict -> Experiment. Raises ConfigError."""
  config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
  parts = {
    'model': ModelSettings,
    'mesh': MeshConfig,
    'problems': ProblemsConfig,
    'prompt': PromptConfig,
  }
  stages = _stages(config, parts)
  known = {'name': str, 'seed': int, 'stages': tuple, **parts}
  sections = {s.name if s.name in config else s.kind for s in stages}
  _refuse_unknown(config, {*known, *sections}, '')
  values = {
    key: check(key, config[key], kind) for key, kind in known.items() if key in ('name', 'seed')
  }
  settings = {name: build(cls, config.get(name, {}), name) for name, cls in parts.items()}
  experiment = Experiment(**values, **settings, stages=stages)
  _check_lengths(experiment)
  return experiment


def _stages(config: dict, parts: dict) -> tuple[Stage, ...]:
  """'name:kind' entries -> stages; the section is called like the stage, or like its kind."""
  entries = check('stages', config.get('stages', ()), tuple[str, ...])
  if not entries:
    raise ConfigError(
      f"stages={entries!r} is empty; valid: 'name:kind' entries, such as ('rl:grpo',)"
    )
  stages = []
  for entry in entries:
    name, _, kind = entry.partition(':')
    kind = kind or name
    if kind not in KINDS:
      raise ConfigError(f'stages={entry!r} is not possible; valid kinds: {", ".join(KINDS)}')
    if name in parts or name in [s.name for s in stages]:
      raise ConfigError(f'stages={entry!r} is not possible; valid: a name of its own, not {name!r}')
    section = name if name in config else kind
    if section not in config:
      raise ConfigError(f'stages={entry!r} has no settings; valid: a section {name!r} or {kind!r}')
    stages.append(Stage(name, kind, build(KINDS[kind](), config[section], section)))
  return tuple(stages)


def _check_lengths(experiment: Experiment) -> None:
  """What a stage generates must fit into the model's context."""
  most = experiment.model.config().max_positions
  for stage in experiment.stages:
    sampling = getattr(stage.settings, 'sampling', None)
    if sampling and experiment.prompt.longest + sampling.max_tokens > most:
      raise ConfigError(
        f'{stage.name}.max_tokens={sampling.max_tokens} is not possible; valid: at most '
        f'{most - experiment.prompt.longest}, since {experiment.model.size} has a context of {most} '
        f'tokens and prompt.longest={experiment.prompt.longest} of them are for the prompt'
      )


def build(cls: type, section: Mapping, where: str):
  """A dataclass from a flat section. ConfigError names what is missing, unknown, of a wrong type or impossible."""
  if not isinstance(section, Mapping):
    raise ConfigError(
      f'{where}={section!r} is not possible; valid: a section with the fields of {cls.__name__}'
    )
  used: set[str] = set()
  value = _build(cls, section, where, used)
  _refuse_unknown(section, used, where)
  return value


def _build(cls: type, section: Mapping, where: str, used: set[str]):
  if cls is Algorithm:
    return _algorithm(section, where, used)
  values = {}
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.type):
      values[field.name] = _build(field.type, section, where, used)
      continue
    used.add(field.name)
    if field.name in section:
      values[field.name] = check(f'{where}.{field.name}', section[field.name], field.type)
    elif field.default is dataclasses.MISSING:
      raise ConfigError(f'{where}.{field.name} is missing; valid: {_name(field.type)}')
  return _made(cls, values, where)


def _made(make, values: dict, where: str):
  try:
    return make(**values)
  except ValueError as error:
    raise ConfigError(f'{where}.{error}') from error


def _algorithm(section: Mapping, where: str, used: set[str]) -> Algorithm:
  """The named algorithm; its fields that the section sets, and not to None, are changed."""
  used.add('algorithm')
  values = {'name': check(f'{where}.algorithm', section.get('algorithm', 'grpo'), str)}
  for field in dataclasses.fields(Algorithm):
    used.add(field.name)
    if field.name in section:
      values[field.name] = check(f'{where}.{field.name}', section[field.name], field.type | None)
  return _made(algorithm, values, where)


def _refuse_unknown(section: Mapping, known: set[str], where: str) -> None:
  for key in section:
    if key not in known:
      full = f'{where}.{key}' if where else key
      raise ConfigError(f'{full}={section[key]!r} is unknown; valid: {suggest(key, known)}')


def suggest(key: str, known) -> str:
  """A misspelt key -> the nearest known ones, or all of them."""
  near = difflib.get_close_matches(key, known, n=3)
  return ' or '.join(near) if near else ', '.join(sorted(known))


def check(key: str, value: Any, kind: Any) -> Any:
  """A value of the type that a field has; whole floats pass for integers, integers for floats, lists for tuples."""
  if isinstance(kind, types.UnionType):
    if value is None:
      return None
    kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
  plain = typing.get_origin(kind) or kind
  if plain is float and type(value) is int:
    return float(value)
  if plain is int and type(value) is float and value.is_integer():
    return int(value)
  if plain is tuple and isinstance(value, list | tuple):
    of = (typing.get_args(kind) or (object,))[0]
    if all(isinstance(v, of) for v in value):
      return tuple(value)
  elif type(value) is plain:
    return value
  raise ConfigError(f'{key}={value!r} is a {type(value).__name__}; valid: {_name(kind)}')


def _name(kind: Any) -> str:
  """A type as a reader of the message would call it, with an example."""
  examples = {
    int: 'an integer, such as 16',
    float: 'a number, such as 0.001',
    bool: 'True or False',
  }
  examples |= {str: "a text, such as 'grpo'", tuple: "texts, such as ('</answer>',)"}
  if isinstance(kind, types.UnionType):
    return ' or '.join('None' if k is types.NoneType else _name(k) for k in typing.get_args(kind))
  return examples.get(typing.get_origin(kind) or kind, str(kind))
