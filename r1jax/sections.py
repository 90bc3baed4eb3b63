"""A flat section of a config -> a frozen dataclass.

A stage's settings are nested dataclasses (sampling, reward, optimizer, ...), each of which takes the keys that are
called like its fields. A key that nobody takes is an error.
"""

import dataclasses
from collections.abc import Mapping

from r1jax.algorithms import Algorithm, algorithm
from r1jax.fields import ConfigError, check, suggest, type_name


def build(cls: type, section: Mapping, where: str):
  """A dataclass from a flat section. ConfigError names what is missing, unknown, of a wrong type or impossible."""
  if not isinstance(section, Mapping):
    raise ConfigError(
      f'{where}={section!r} is not possible; valid: a section with the fields of {cls.__name__}'
    )
  used: set[str] = set()
  value = _build(cls, section, where, used)
  refuse_unknown(section, used, where)
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
      raise ConfigError(f'{where}.{field.name} is missing; valid: {type_name(field.type)}')
  return made(cls, values, where)


def made(make, values: dict, where: str):
  """A dataclass of values; what it says of them is said of the section. Raises ConfigError."""
  try:
    return make(**values)
  except ValueError as error:
    raise ConfigError(f'{where}.{error}' if where else str(error)) from error


def _algorithm(section: Mapping, where: str, used: set[str]) -> Algorithm:
  """The named algorithm; its fields that the section sets, and not to None, are changed."""
  used.add('algorithm')
  values = {'name': check(f'{where}.algorithm', section.get('algorithm', 'grpo'), str)}
  for field in dataclasses.fields(Algorithm):
    used.add(field.name)
    if field.name in section:
      values[field.name] = check(f'{where}.{field.name}', section[field.name], field.type | None)
  return made(algorithm, values, where)


def refuse_unknown(section: Mapping, known: set[str], where: str) -> None:
  """Raises ConfigError for a key that nobody takes, with the nearest one."""
  for key in section:
    if key not in known:
      full = f'{where}.{key}' if where else key
      if isinstance(section[key], Mapping):  # too much to be shown
        raise ConfigError(f'{full} is a section that nothing reads; valid: {suggest(key, known)}')
      raise ConfigError(f'{full}={section[key]!r} is unknown; valid: {suggest(key, known)}')
