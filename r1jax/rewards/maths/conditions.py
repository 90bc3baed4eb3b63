"""Answers with conditions: functions by cases, systems, and sets that are described by what holds in them."""

from collections.abc import Callable

from r1jax.rewards.maths.structure import Answer, Many, Text
from r1jax.rewards.maths.text import split, with_depth

_IF = frozenset(('"if"', '"for"', '"when"', '"where"', ','))
_ELSE = frozenset(('"otherwise"', '"else"', '"elsewhere"'))
_RELATIONS = frozenset(('=', '<', '>', '\\le', '\\ge', '\\ne', '\\in', '\\equiv'))

Read = Callable[[list[str]], Answer]


def cases(tokens: list[str], read: Read, make_list: Callable[[list[Answer]], Answer]) -> Answer:
  """What is between \\begin{cases} and its end: rows `value & condition`, or the equations of a system."""
  rows = [split(row, ('&',)) for row in split(tokens, ('\\\\',)) if row]
  if all(len(row) == 1 for row in rows):
    return make_list([read(_stripped(row[0])) for row in rows])
  if any(len(row) != 2 for row in rows):
    raise ValueError('a case without its condition')
  pairs = [(read(_stripped(value)), _condition(_stripped(cond), read)) for value, cond in rows]
  return Many('cases', tuple(Many('tuple', pair, '()') for pair in pairs))


def _stripped(tokens: list[str]) -> list[str]:
  while tokens and tokens[0] in _IF:
    tokens = tokens[1:]
  while tokens and tokens[-1] in (',', ';', '.'):
    tokens = tokens[:-1]
  return tokens


def _condition(tokens: list[str], read: Read) -> Answer:
  """A comma may be an `and` or was an `or`."""
  if len(tokens) == 1 and tokens[0].lower() in _ELSE:
    return Text(('otherwise',))
  if any(token in (',', ';') and depth == 0 for token, depth in with_depth(tokens)):
    raise ValueError('cannot read more than one condition')
  return read(tokens)


def builder(tokens: list[str], read: Read) -> Answer | None:
  """`x | x > 2` between braces -> what it describes; None where that is no description.

  Bounds of a real number are its interval.
  """
  marks = [
    at for at, (token, depth) in enumerate(with_depth(tokens)) if token in '|:' and not depth
  ]
  if not marks or not marks[0] or not _RELATIONS & set(tokens[marks[0] :]):
    return None
  head, domain = tokens[: marks[0]], None
  if '\\in' in head:
    head, domain = head[: head.index('\\in')], head[head.index('\\in') + 1 :]
  condition = _condition(tokens[marks[0] + 1 :], read)
  real = domain in (None, ['R'], ['{', 'R', '}'])
  if (
    real
    and isinstance(condition, Many)
    and condition.kind == 'interval'
    and head == [condition.name]
  ):
    return condition
  parts = (read(head), condition, *([] if real else [read(domain)]))
  return Many('builder', parts)
