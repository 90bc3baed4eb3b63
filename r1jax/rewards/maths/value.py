"""Are two expressions equal? Exactly where both are rational, else numerically until no doubt is left.

Nothing is simplified and nothing rounded: numbers are equal if their difference falls with the precision, to 1000
digits. 0.333 is not 1/3, and 1/2004! is not 1/2006!. Formulas are compared at random points, where they are real:
(-1)^n and what is rounded at integers n, and at more of them, since they may agree at all even ones.
"""

import random
from collections.abc import Iterable
from fractions import Fraction

import mpmath

from r1jax.rewards.maths.exact import exact
from r1jax.rewards.maths.numeric import SLOW, numeric
from r1jax.rewards.maths.tree import CONSTANTS, Expr, Num, Op, Sym, walk

_POINTS, _ENOUGH, _ENOUGH_WHOLE = 24, 4, 20
_IN_A_ROW, _LARGE = 12, 3000
_COUNTS = frozenset('nmkjlN#')  # what these letters stand for, # of a family
_MAX_DIGITS = 30  # of a quotient that may be an integer


def same(left: Expr, right: Expr) -> bool:
  """Equal in value, for all values of the variables? Raises TooLarge."""
  if left == right:
    return True
  if Sym('infinity') in (*walk(left), *walk(right)):
    return False
  a, b = exact(left), exact(right)
  if a is not None and b is not None:
    return a == b
  return vanishes(Op('sub', (left, right)))


def vanishes(node: Op) -> bool:
  """Is the difference zero at every point? Points where it is not defined say nothing; false if too few are left."""
  names = sorted(variables(node))
  if not names:
    return _zeros(node, [{}], 1) == 1
  whole, steps = _only_whole(node)
  enough = _ENOUGH_WHOLE if whole else _ENOUGH
  points = [point(names, number) for number in range(_POINTS)]
  if _zeros(node, map(dict.__or__, points, _integers(whole, node)), enough) != enough:
    return False
  jumps = map(dict.__or__, points, _integers(steps, node)) if steps else ()
  return _zeros(node, jumps, _POINTS) is not None


def _zeros(node: Op, points: Iterable[dict[str, Fraction]], enough: int) -> int | None:
  """At how many points it is zero, until there are enough; None where it is not at one of them."""
  zeros = 0
  for values in points:
    try:
      if not _is_zero(node, values):
        return None
      zeros += 1
    except (ArithmeticError, mpmath.libmp.NoConvergence, TypeError):
      if not values:
        raise ValueError('not defined') from None
    if zeros == enough:
      break
  return zeros


def variables(node: Expr) -> set[str]:
  return {n.name for n in walk(node) if isinstance(n, Sym) and n.name not in CONSTANTS.values()}


def point(names: list[str], number: int) -> dict[str, Fraction]:
  """Points up to 3: the first are positive, where most is defined, the others of any sign; then up to 25."""
  draw = random.Random(number)
  low, scale = 1 if number < 2 or number > 15 else -400, 8 if number > 15 else 1
  return {name: Fraction(draw.randint(low, 400) * scale * 97 + 13, 127 * 97) for name in names}


def _only_whole(node: Expr) -> tuple[list[str], list[str]]:
  """(those that are integers: letters that count something, in the exponent of a negative number or in what is rounded;
  the others that are in what is rounded, which jumps at integers).
  """
  signs, rounded = set(), set()
  for op in walk(node):
    if isinstance(op, Op) and op.name in ('floor', 'ceil'):
      rounded |= variables(op)
    elif isinstance(op, Op) and op.name == 'pow' and not variables(op.args[0]):
      base = exact(op.args[0])
      signs |= variables(op.args[1]) if base is not None and base < 0 else set()
  whole = signs | (rounded & _COUNTS) if signs <= _COUNTS else set()
  return sorted(whole), sorted(rounded - whole)


def _integers(names: list[str], node: Expr) -> list[dict[str, Fraction]]:
  """Of the first, some in a row, some about the numbers in the expression, and large ones. An index of a family has
  negative ones, too.
  """
  draw = random.Random(0)
  numbers = {
    int(n.value) for n in walk(node) if isinstance(n, Num) and _IN_A_ROW < n.value < _LARGE
  }
  near = sorted({number + side for number in numbers for side in (-1, 0, 1)})
  near += [draw.randint(_IN_A_ROW, _LARGE) for _ in range(_POINTS)]
  firsts = [*range(1, _IN_A_ROW + 1), *near][:_POINTS]
  values = [
    {name: draw.randint(1, 30) if at else first for at, name in enumerate(names)}
    for first in firsts
  ]
  return [{name: Fraction(n - 8 * (name == '#')) for name, n in point.items()} for point in values]


def _is_zero(difference: Op, values: dict[str, Fraction]) -> bool:
  """What is zero falls as the precision grows, and what is not stays. Special functions and
  factorials of no integers need minutes for many digits, and do with fewer.
  """
  complex_ = not values or Sym('i') in walk(difference)
  many = not any(isinstance(node, Op) and node.name in SLOW for node in walk(difference))
  for low, high in ((50, 150), (400, 1200))[: 1 + many]:
    coarse, fine = (abs(numeric(difference, values, digits, complex_)) for digits in (low, high))
    size = abs(numeric(difference.args[0], values, low, complex_))
    with mpmath.workdps(high):
      noise = (coarse or size * mpmath.mpf(10) ** -low) * mpmath.mpf(10) ** (low - high + low // 2)
      if fine > noise:
        return False
  return True


def proportional(left: Expr, right: Expr, positive: bool) -> bool:
  """Is left a (positive) constant times right, not zero? That of two equations f = 0 and g = 0."""
  names = sorted(variables(left) | variables(right))
  if not names:
    return same(left, right)
  for number in range(_POINTS):
    try:
      a, b = (numeric(side, point(names, number), 50, False) for side in (left, right))
    except ArithmeticError:
      continue
    if a and b:
      break
  else:
    return False
  if positive and a / b < 0:
    return False
  first = {name: Num(value) for name, value in point(names, number).items()}
  fixed = [substitute(side, first) for side in (left, right)]
  return vanishes(Op('sub', (Op('mul', (left, fixed[1])), Op('mul', (right, fixed[0])))))


def sign(expr: Expr) -> int:
  """Of a real number: -1, 0 or 1. Raises ValueError for what is none."""
  if variables(expr):
    raise ValueError('not a number')
  rational = exact(expr)
  if rational is not None:
    return (rational > 0) - (rational < 0)
  if same(expr, Num(Fraction(0))):
    return 0
  found = numeric(expr, {}, 50, True)
  if mpmath.im(found) != 0:
    raise ValueError('not a real number')
  return 1 if mpmath.re(found) > 0 else -1


def is_integer(expr: Expr) -> bool:
  """Of a number."""
  if variables(expr):
    return False
  rational = exact(expr)
  if rational is not None:
    return rational.denominator == 1
  found = numeric(expr, {}, 50, True)
  if mpmath.im(found) != 0 or mpmath.mag(found) > 3 * _MAX_DIGITS:
    return False
  return same(expr, Num(Fraction(int(mpmath.nint(mpmath.re(found))))))


def substitute(node: Expr, values: dict[str, Expr]) -> Expr:
  if isinstance(node, Sym):
    return values.get(node.name, node)
  return (
    Op(node.name, tuple(substitute(arg, values) for arg in node.args))
    if isinstance(node, Op)
    else node
  )
