"""Tokens with a relation -> what they say: a name for a value, the numbers for which they hold, or an equation."""

import dataclasses
from collections.abc import Callable

from r1jax.rewards.maths import reals
from r1jax.rewards.maths.names import RELATIONS, name_of
from r1jax.rewards.maths.structure import Answer, Many, Relation, Value, by_name
from r1jax.rewards.maths.text import split, with_depth
from r1jax.rewards.maths.tree import Sym
from r1jax.rewards.maths.value import variables

_FLIPPED = {'>': '<', '\\ge': '\\le'}
SIGNS = frozenset(('\\pm', '\\mp'))

Read = Callable[[list[str]], Answer]


def related(tokens: list[str], read: Read) -> Answer | None:
  """A relation, or `x \\in S`; None where there is none. read: for what stands on a side."""
  if any(token == '\\in' and depth == 0 for token, depth in with_depth(tokens)):
    return _member(tokens, read)
  exact, *rounded = split(tokens, ('\\approx',))
  if rounded and name_of(exact) is None:
    return read(exact)  # what it is about is not the answer
  parts = split(tokens, RELATIONS)
  ops = [token for token, depth in with_depth(tokens) if depth == 0 and token in RELATIONS]
  if not ops:
    return None
  if len(parts) != len(ops) + 1:
    raise ValueError('a side of a relation is missing')
  if ops == ['='] and name_of(parts[0]) is None and SIGNS & set(tokens):
    return Many('list', tuple(related(version, read) for version in both_signs(tokens)))
  if set(ops) <= {'=', '\\equiv', '\\approx'}:
    return _equation(parts, read)
  if ops == ['\\ne'] and SIGNS & set(parts[1]):
    return _not_either(parts, read)
  return _inequality([_side(part, read) for part in parts], ops)


def _member(tokens: list[str], read: Read) -> Answer:
  name, *rest = split(tokens, ('\\in',))
  if name_of(name) is None or len(rest) != 1:
    raise ValueError('cannot read what stands beside \\in')
  found = read(rest[0])
  if isinstance(found, Many) and found.kind == 'tuple' and len(found.items) == 2:
    found = dataclasses.replace(found, kind='interval')
  return _named(found, name_of(name))


def _named(found: Answer, name: str) -> Answer:
  """Of a list, each value is called so."""
  if not isinstance(found, Value | Many):
    return found
  if isinstance(found, Many) and found.kind == 'list':
    found = dataclasses.replace(found, items=tuple(_named(item, name) for item in found.items))
  return dataclasses.replace(found, name=name)


def _equation(parts: list[list[str]], read: Read) -> Answer:
  name = name_of(parts[0])
  if name is not None:
    if all(len(part) == 1 and name_of(part) for part in parts[:-1]) and len(parts) > 2:
      return by_name([_named(read(parts[-1]), part[0]) for part in parts[:-1]])
    values = [read(part) for part in parts[1:]]
    return _named(values[0] if len(values) == 1 else Many('chain', tuple(values)), name)
  sides = [_side(part, read) for part in parts]
  if len(sides) == 2 and any(variables(side.expr) for side in sides):
    return Relation('=', sides[0].expr, sides[1].expr)
  return Many('chain', tuple(sides))


def _side(tokens: list[str], read: Read) -> Value:
  found = read(tokens)
  if not isinstance(found, Value):
    raise ValueError('no value beside a relation')
  return found


def _not_either(parts: list[list[str]], read: Read) -> Answer:
  """`x \\ne \\pm 1`"""
  left, values = _side(parts[0], read), read(parts[1])
  if not isinstance(values, Many) or values.kind != 'list':
    raise ValueError('cannot read what stands beside \\ne')
  each = [_inequality([left, value], ['\\ne']) for value in values.items]
  found = reals.joined(each, either=False)
  if found is None:
    raise ValueError('cannot read what it is not')
  return found


def _inequality(sides: list[Value], ops: list[str]) -> Answer:
  """Bounds of one variable are an interval."""
  exprs = [side.expr for side in sides]
  subject = exprs[0]
  if all(op in _FLIPPED for op in ops):
    exprs, ops = exprs[::-1], [_FLIPPED[op] for op in ops[::-1]]
  if len(ops) == 1:
    found = reals.solved(ops[0], *exprs, subject) if ops[0] in ('<', '\\le') else None
    return found or Relation(ops[0], *exprs)
  if len(ops) != 2 or not set(ops) <= {'<', '\\le'}:
    raise ValueError('cannot read this chain of relations')
  low, middle, high = exprs
  if isinstance(middle, Sym):
    brackets = ('(' if ops[0] == '<' else '[') + (')' if ops[1] == '<' else ']')
    return Many('interval', (Value(low), Value(high)), brackets, middle.name)
  both = [reals.solved(op, *ends, middle) for op, ends in zip(ops, ((low, middle), (middle, high)))]
  found = None if None in both else reals.joined(both, either=False, strict=True)
  if found is None:
    raise ValueError('cannot read this chain of relations')
  return found


def both_signs(tokens: list[str]) -> list[list[str]]:
  """Of `1 \\pm 2`, in the place of the first sign."""
  if tokens.count('\\pm') + tokens.count('\\mp') > 4:
    raise ValueError('more signs \\pm than any answer has')
  at = next(i for i, token in enumerate(tokens) if token in ('\\pm', '\\mp'))
  return [_flip(tokens, at, sign) for sign in '+-']


def _flip(tokens: list[str], at: int, sign: str) -> list[str]:
  """The sign in place of \\pm, and where there is \\mp, in all places together."""
  if '\\mp' not in tokens:
    return [*tokens[:at], sign, *tokens[at + 1 :]]
  signs = {'\\pm': sign, '\\mp': {'+': '-', '-': '+'}[sign]}
  return [signs.get(token, token) for token in tokens]
