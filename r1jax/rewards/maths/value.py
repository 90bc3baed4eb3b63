"""Are two expressions equal? Exactly where both are rational, else numerically until no doubt is left.

Nothing is simplified and nothing rounded: numbers are equal if their difference falls with the precision, to 1000
digits. 0.333 is not 1/3, and 1/2004! is not 1/2006!. Formulas are compared at random points, where they are real.
"""

import random
from fractions import Fraction

import mpmath

from r1jax.rewards.maths.exact import exact
from r1jax.rewards.maths.numeric import SLOW, numeric
from r1jax.rewards.maths.tree import CONSTANTS, Expr, Num, Op, Sym, walk

_POINTS, _ENOUGH = 16, 4
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
  zeros = 0
  for number in range(_POINTS if names else 1):
    try:
      if not _is_zero(node, point(names, number)):
        return False
      zeros += 1
    except (ArithmeticError, mpmath.libmp.NoConvergence, TypeError):
      if not names:
        raise ValueError('not defined') from None
    if zeros == _ENOUGH:
      break
  return zeros == (_ENOUGH if names else 1)


def variables(node: Expr) -> set[str]:
  return {n.name for n in walk(node) if isinstance(n, Sym) and n.name not in CONSTANTS.values()}


def point(names: list[str], number: int) -> dict[str, Fraction]:
  """The first points are positive, where most is defined; the others of any sign."""
  draw = random.Random(number)
  low = 1 if number < 2 else -400
  return {name: Fraction(draw.randint(low, 400) * 97 + 13, 127 * 97) for name in names}


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
