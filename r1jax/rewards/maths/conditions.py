"""Answers with conditions: functions by cases, systems, and sets that are described by what holds in them."""

from collections.abc import Callable

from r1jax.rewards.maths import families, reals
from r1jax.rewards.maths.names import RELATIONS
from r1jax.rewards.maths.structure import Answer, Many, Text
from r1jax.rewards.maths.text import split, with_depth

_IF = frozenset(('"if"', '"for"', '"when"', '"where"', ','))
_ELSE = frozenset(('"otherwise"', '"else"', '"elsewhere"'))
_SEPARATORS = (',', ';', '\\or')

Read = Callable[[list[str]], Answer]


def cases(tokens: list[str], read: Read, make_list: Callable[[list[Answer]], Answer]) -> Answer:
  """What is between \\begin{cases} and its end: rows `value & condition`, or the equations of a system."""
  rows = [_row(_stripped(row)) for row in split(tokens, ('\\\\',)) if row]
  if all(len(row) == 1 for row in rows):
    return make_list([read(_stripped(row[0])) for row in rows])
  if any(len(row) != 2 for row in rows):
    raise ValueError('a case without its condition')
  pairs = [(read(_stripped(value)), _condition(_stripped(cond), read)) for value, cond in rows]
  return Many('cases', tuple(Many('tuple', pair, '()') for pair in pairs))


def _row(tokens: list[str]) -> list[list[str]]:
  """`2, n = 1` is a value with its condition, too."""
  parts = split(tokens, ('&',))
  value, *condition = split(tokens, (',',))
  if len(parts) == 1 and len(condition) == 1 and not RELATIONS & set(value):
    return [value, *condition]
  return parts


def _stripped(tokens: list[str]) -> list[str]:
  while tokens and tokens[0] in _IF:
    tokens = tokens[1:]
  while tokens and tokens[-1] in (',', ';', '.'):
    tokens = tokens[:-1]
  return tokens


def _condition(tokens: list[str], read: Read) -> Answer:
  if len(tokens) == 1 and tokens[0].lower() in _ELSE:
    return Text(('otherwise',))
  if _separated(tokens):
    raise ValueError('cannot read more than one condition')
  return read(tokens)


def _separated(tokens: list[str]) -> set[str]:
  return {token for token, depth in with_depth(tokens) if token in _SEPARATORS and not depth}


def builder(tokens: list[str], read: Read) -> Answer | None:
  """`x | x > 2` between braces -> what it describes; None where that is no description.

  Conditions on a real number are the numbers for which they hold, and an index may be called anything.
  """
  marks = [
    at for at, (token, depth) in enumerate(with_depth(tokens)) if token in '|:' and not depth
  ]
  if not marks or not marks[0] or not (RELATIONS | {'\\in'}) & set(tokens[marks[0] :]):
    return None
  head, domain = tokens[: marks[0]], []
  if '\\in' in head:
    head, domain = head[: head.index('\\in')], head[head.index('\\in') + 1 :]
  inner = tokens[marks[0] + 1 :]
  found = families.family_of(head, split(inner, _SEPARATORS), read) if not domain else None
  if found is None and domain in ([], ['\\R']):
    found = _numbers(head, inner, read)
  if found is not None:
    return found
  parts = (read(head), _condition(inner, read), *([read(domain)] if domain else []))
  return Many('builder', parts)


def _numbers(head: list[str], tokens: list[str], read: Read) -> Answer | None:
  """The real numbers for which conditions hold: all of them, or one, but not a mixture of both."""
  marks = _separated(tokens)
  if '\\or' in marks and len(marks) > 1:
    raise ValueError('conditions joined by commas and by or')
  conditions = [part for part in split(tokens, _SEPARATORS) if part != [*head, '\\in', '\\R']]
  items = [read(part) for part in conditions]
  if any([reals.about(item)] != head for item in items):
    return None
  return reals.joined(items, either='\\or' in marks, strict=True)
