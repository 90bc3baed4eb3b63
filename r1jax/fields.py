"""Fields of a config: which values they may have, and messages that name the key, its value and a valid one.

Nothing here needs jax, so that a mistyped flag is answered at once.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any


class ConfigError(ValueError):
  """A config that cannot be run. The message names the key, its value and a valid one."""


def check(key: str, value: Any, kind: Any) -> Any:
  """A value of the type that a field has; whole floats pass for integers, integers for floats, lists for tuples."""
  valid = type_name(kind)
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
  raise ConfigError(f'{key}={value!r} is of type {type(value).__name__}; valid: {valid}')


def type_name(kind: Any, example: Any = None) -> str:
  """A type as a reader of the message would call it, with an example."""
  if isinstance(kind, types.UnionType):
    kinds = typing.get_args(kind)
    return ' or '.join('None' if k is types.NoneType else type_name(k, example) for k in kinds)
  if kind is bool:
    return 'true or false'
  names = {
    int: ('an integer', 16),
    float: ('a number', 0.001),
    str: ('a text', 'grpo'),
    tuple: ('texts', ('</answer>',)),
  }
  what, usual = names[typing.get_origin(kind) or kind]
  return f'{what}, such as {example or usual!r}'


def suggest(key: str, known: Iterable[str]) -> str:
  """An unknown key -> what it may have been: that name elsewhere, or a similar one, or any of its section."""
  known = sorted(known)
  section, _, last = key.rpartition('.')
  beside = {name.rpartition('.')[2]: name for name in known if name.rpartition('.')[0] == section}
  found = [name for name in known if name.rpartition('.')[2] == last]
  found = found or [beside[name] for name in difflib.get_close_matches(last, beside, n=3)]
  return ' or '.join(found) if found else ', '.join(beside.values() or known)


def flat(tree: Mapping, prefix: str = '') -> dict[str, Any]:
  """Nested sections -> 'section.field' -> value."""
  fields = {}
  for key, value in tree.items():
    inner = isinstance(value, Mapping)
    fields |= flat(value, f'{prefix}{key}.') if inner else {prefix + key: value}
  return fields
