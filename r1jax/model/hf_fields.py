"""What a field of `config.json` may hold: a table of kinds, and the one function that reads a field."""

import math
from typing import Any

REQUIRED = object()
DTYPES = ('float32', 'bfloat16', 'float16')


def _whole(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
  return (_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _token(value) -> bool:
  return _whole(value) and value >= 0


# Kind -> (what its values are, whether a value is one). null is for `take`.
KINDS = {
  'count': ('a whole number above 0', lambda v: _whole(v) and v > 0),
  'size': ('a whole number, 0 for none', lambda v: _whole(v) and v >= 0),
  'positive': ('a number above 0', lambda v: _number(v) and v > 0),
  'factor': ('a number, 0 for none', lambda v: _number(v) and v >= 0),
  'flag': ('true or false', lambda v: isinstance(v, bool)),
  'text': ('a text', lambda v: isinstance(v, str)),
  'object': ('an object', lambda v: isinstance(v, dict)),
  'token': ('the number of a token', _token),
  'tokens': (
    'the number of a token or a list of them',
    lambda v: _token(v) or isinstance(v, list) and bool(v) and all(map(_token, v)),
  ),
  'dtype': (', '.join(DTYPES), lambda v: isinstance(v, str) and v in DTYPES),
  'layers': (
    "'full_attention' for every layer",
    lambda v: isinstance(v, list) and all(x == 'full_attention' for x in v),
  ),
}


def take(fields: dict, name: str, kind: str, absent: Any = REQUIRED, where: str = '') -> Any:
  """Value of the field, or `absent` where it is null or not there. ValueError names `where` and the field."""
  value = fields.get(name)
  if value is None:
    if absent is REQUIRED:
      raise ValueError(f'field {where}{name} is missing')
    return absent
  valid, holds = KINDS[kind]
  if not holds(value):
    raise ValueError(f'{where}{name} {value!r} is not possible; valid: {valid}')
  return value


def check_fixed(fields: dict, only: dict, where: str = '') -> None:
  """Raises ValueError for a field with another value than the one that is implemented.

  Absent means that value. null is as good as false or 0 and as nothing else: readers ask for truth.
  """
  for name, value in only.items():
    if name in fields and fields[name] != value and not (fields[name] is None and not value):
      raise ValueError(f'{where}{name} {fields[name]!r} is not implemented; only {value!r} is')
