"""Sets of real numbers, whose ends are numbers: the same set may be written in many ways.

`|x| < 2` is (-2, 2), `x < -1 or x > 3` a union, `x > 1, x \\ne 2` the interval without a point.
"""

import dataclasses
import functools
import itertools
from fractions import Fraction

from r1jax.rewards.maths.structure import Answer, Many, Relation, Value
from r1jax.rewards.maths.tree import CONSTANTS, Expr, Num, Op, Sym, infinite
from r1jax.rewards.maths.value import same, sign, substitute, variables

_INFINITY = Sym('infinity')
_MINUS_INFINITY = Op('neg', (_INFINITY,))
ALL = Many('interval', (Value(_MINUS_INFINITY), Value(_INFINITY)), '()')
_MAX_PARTS = 12
_ABOVE = {'_\\ge0': '[)', '_>0': '()', '^+': '()'}  # 0, behind `\\R`
_BELOW = {'_\\le0': '(]', '_<0': '()', '^-': '()'}


@dataclasses.dataclass(frozen=True)
class Span:
  """An interval, or a point where low is high."""

  low: Expr
  high: Expr
  has_low: bool
  has_high: bool


def named(marks: list[str]) -> Many | None:
  """What is behind `\\R` -> the numbers that are meant: all, or those that are (not) negative."""
  if not marks:
    return ALL
  zero = Value(Num(Fraction(0)))
  text = ''.join(mark for mark in marks if mark not in '{}')
  if text in _ABOVE:
    return Many('interval', (zero, ALL.items[1]), _ABOVE[text])
  return Many('interval', (ALL.items[0], zero), _BELOW[text]) if text in _BELOW else None


def solved(op: str, left: Expr, right: Expr, subject: Expr) -> Many | None:
  """`left OP right` for OP < or \\le -> the numbers for which it holds; None where it has to be solved first.

  subject: the side that was written first, which it is about if both are names.
  """
  inside = ')' if op == '<' else ']'
  outside = '(' if op == '<' else '['
  if _is_name(left) and not (subject is right and _is_name(right)):
    return Many('interval', (Value(_MINUS_INFINITY), Value(right)), '(' + inside, left.name)
  if _is_name(right):
    return Many('interval', (Value(left), Value(_INFINITY)), outside + ')', right.name)
  for bars, radius in ((left, right), (right, left)):
    centre = _centre(bars)
    if centre is None or variables(radius) or infinite(radius):
      continue
    if sign(radius) < (0 if bars is right and op == '<' else 1):
      continue
    name, at = centre
    low, high = Value(Op('sub', (at, radius))), Value(Op('add', (at, radius)))
    if bars is left:
      return Many('interval', (low, high), outside + inside, name)
    below = Many('interval', (ALL.items[0], low), '(' + inside)
    above = Many('interval', (high, ALL.items[1]), outside + ')')
    return Many('union', (below, above), name=name)
  return None


def _is_name(node: Expr) -> bool:
  return isinstance(node, Sym) and node.name not in CONSTANTS.values()


def _centre(node: Expr) -> tuple[str, Expr] | None:
  """`|x - 3|` -> ('x', 3)."""
  if not isinstance(node, Op) or node.name != 'abs':
    return None
  inner = node.args[0]
  if len(variables(inner)) != 1:
    return None
  (name,) = variables(inner)
  start = substitute(inner, {name: Num(Fraction(0))})
  if same(inner, Op('add', (start, Sym(name)))):
    return name, Op('neg', (start,))
  return (name, start) if same(inner, Op('sub', (start, Sym(name)))) else None


def about(item: Answer) -> str:
  """The name of what it says something about; '' without."""
  if isinstance(item, Relation):
    return next((side.name for side in (item.left, item.right) if _is_name(side)), '')
  return getattr(item, 'name', '')


def joined(items: list[Answer], either: bool, strict: bool = False) -> Many | None:
  """Conditions on one number, or intervals -> the numbers for which (n)either holds; None where they are none.

  A comma between half-lines is an `and`, unless nothing is left then; strict: whatever it is between. None of them may
  be superfluous, and no two intervals may overlap: `x > 1, x > 2` are two answers.
  """
  kinds = {getattr(item, 'kind', type(item)) for item in items}
  points = bool(kinds & {Value, 'set'})
  if not kinds <= {'interval', 'union', 'set', Value, Relation} or kinds <= {'set', Value}:
    return None
  if len({about(item) for item in items}) != 1 or len(items) > _MAX_PARTS:
    return None
  if points and not (either and about(items[0])):
    return None
  parts = [spans(item) for item in items]
  if None in parts:
    return None
  join = _union if either else _intersection
  found = join(parts)
  if not (either or strict):
    if not found:
      found, join = _union(parts), _union
    elif not all(any(infinite(end) for s in part for end in (s.low, s.high)) for part in parts):
      return None
  if not found:
    return None
  rest = (join([*parts[:at], *parts[at + 1 :]]) for at in range(len(parts)))
  if len(parts) > 1 and any(_equal(found, without) for without in rest):
    return None
  return _made(found, about(items[0]))


def same_set(gold: Answer, answer: Answer) -> bool | None:
  """None where one is no set of numbers that we know the ends of."""
  if not any(isinstance(s, Relation) or s.kind in ('interval', 'union') for s in (gold, answer)):
    return None
  try:
    parts = [spans(side) for side in (gold, answer)]
    return None if None in parts else _equal(*(_union([part]) for part in parts))
  except ValueError:
    return None


def spans(side: Answer) -> list[Span] | None:
  """None for what is no set of numbers. A point of one number is `x = 2`."""
  try:
    return _spans(side)
  except (ValueError, ArithmeticError):
    return None


def _spans(side: Answer) -> list[Span] | None:
  if isinstance(side, Value):
    if side.unit or side.percent or side.modulus or infinite(side.expr):
      return None
    sign(side.expr)  # raises for what is no real number
    return [Span(side.expr, side.expr, True, True)]
  if isinstance(side, Relation):
    return _all_but(side)
  if not isinstance(side, Many):
    return None
  if side.kind in ('union', 'set'):
    parts = [_spans(item) for item in side.items]
    return None if None in parts or len(parts) > _MAX_PARTS else list(itertools.chain(*parts))
  if side.kind not in ('interval', 'tuple') or len(side.items) != 2:
    return None
  low, high = side.items
  if not all(isinstance(end, Value) and not (end.unit or end.percent) for end in side.items):
    return None
  if side.brackets[:1] not in '([' or _order(low.expr, high.expr) >= 0:
    return None
  return [Span(low.expr, high.expr, side.brackets[0] == '[', side.brackets[1] == ']')]


def _all_but(side: Relation) -> list[Span] | None:
  """`x \\ne 0` -> what is below 0 and what is above."""
  for name, point in ((side.left, side.right), (side.right, side.left)):
    if side.op == '\\ne' and _is_name(name) and not infinite(point):
      sign(point)
      return [
        Span(_MINUS_INFINITY, point, False, False),
        Span(point, _INFINITY, False, False),
      ]
  return None


def _order(a: Expr, b: Expr) -> int:
  """-1, 0 or 1. Raises ValueError for what is no real number."""
  ends = {_MINUS_INFINITY: -1, _INFINITY: 1}
  if a in ends or b in ends:
    for side in (a, b):
      if side not in ends:
        sign(side)
    return (ends.get(a, 0) > ends.get(b, 0)) - (ends.get(a, 0) < ends.get(b, 0))
  if infinite(a) or infinite(b):
    raise ValueError('infinity is no number')
  return sign(Op('sub', (a, b)))


def _below(a: Span, b: Span) -> int:
  return _order(a.low, b.low) or b.has_low - a.has_low


def _union(parts: list[list[Span]]) -> list[Span]:
  """In order, and none touches the next."""
  merged: list[Span] = []
  for span in sorted(itertools.chain(*parts), key=functools.cmp_to_key(_below)):
    last = merged[-1] if merged else None
    gap = _order(last.high, span.low) if last else -1
    if gap < 0 or (gap == 0 and not (last.has_high or span.has_low)):
      merged.append(span)
      continue
    longer = _order(last.high, span.high)
    high, has_high = (last.high, last.has_high) if longer >= 0 else (span.high, span.has_high)
    merged[-1] = Span(last.low, high, last.has_low, has_high or (longer == 0 and span.has_high))
  return merged


def _intersection(parts: list[list[Span]]) -> list[Span]:
  found = [Span(_MINUS_INFINITY, _INFINITY, False, False)]
  for part in parts:
    both = [_common(a, b) for a in found for b in _union([part])]
    found = [span for span in both if span]
  return _union([found])


def _common(a: Span, b: Span) -> Span | None:
  low, high = _order(a.low, b.low), _order(a.high, b.high)
  has_low = (a.has_low or low < 0) and (b.has_low or low > 0)
  has_high = (a.has_high or high > 0) and (b.has_high or high < 0)
  found = Span(a.low if low >= 0 else b.low, a.high if high <= 0 else b.high, has_low, has_high)
  length = _order(found.low, found.high)
  return found if length < 0 or (length == 0 and has_low and has_high) else None


def _equal(a: list[Span], b: list[Span]) -> bool:
  return len(a) == len(b) and all(
    (x.has_low, x.has_high) == (y.has_low, y.has_high)
    and _order(x.low, y.low) == _order(x.high, y.high) == 0
    for x, y in zip(a, b)
  )


def _made(found: list[Span], name: str) -> Many:
  items = []
  for span in found:
    if span.has_low and span.has_high and _order(span.low, span.high) == 0:
      items.append(Many('set', (Value(span.low),)))
    else:
      brackets = '(['[span.has_low] + ')]'[span.has_high]
      items.append(Many('interval', (Value(span.low), Value(span.high)), brackets))
  if len(items) == 1:
    return dataclasses.replace(items[0], name=name)
  return Many('union', tuple(items), name=name) if items else Many('set', ())
