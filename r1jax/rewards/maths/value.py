"""Are two expressions equal? Exactly where both are rational, else numerically until no doubt is left.

Nothing is simplified and nothing rounded: numbers are equal if their difference falls with the precision, to 1000
digits. 0.333 is not 1/3, and 1/2004! is not 1/2006!. Formulas are compared at random points, where they are real.
"""

import math
import operator
import random
from fractions import Fraction

import mpmath

from r1jax.rewards.maths.expr import Expr, Num, Op, Sym, walk

MAX_BITS = 2**17  # of a numerator or denominator
MAX_FACTORIAL = 5000
MAX_ROOT = 64  # degree
MAX_MAGNITUDE = 256  # bits of the exponent of an intermediate result

_POINTS, _ENOUGH = 16, 4
_CONSTANTS = ('pi', 'e', 'i', 'infinity')
_ARITHMETIC = {
  'add': operator.add,
  'sub': operator.sub,
  'mul': operator.mul,
  'div': operator.truediv,
}
_OF_MANY = {'max': max, 'min': min, 'gcd': math.gcd, 'lcm': math.lcm}
_WHOLE = {'abs': abs, 'floor': math.floor, 'ceil': math.ceil, 'neg': operator.neg}
_NUMERIC = {
  'sin': mpmath.sin, 'cos': mpmath.cos, 'tan': mpmath.tan, 'cot': mpmath.cot, 'sec': mpmath.sec, 'csc': mpmath.csc,
  'arcsin': mpmath.asin, 'arccos': mpmath.acos, 'arctan': mpmath.atan, 'sinh': mpmath.sinh, 'cosh': mpmath.cosh,
  'tanh': mpmath.tanh, 'ln': mpmath.log, 'exp': mpmath.exp, 'fact': mpmath.factorial, 'binom': mpmath.binomial,
  'log': lambda base, x: mpmath.log(x) / mpmath.log(base),
}  # fmt: skip


class TooLarge(ValueError):
  """What no answer needs: 9^{9^9}, (10^9)!."""


class _NotReal(ArithmeticError):
  """Outside of the real numbers, in a comparison that stays inside."""


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
  return {n.name for n in walk(node) if isinstance(n, Sym) and n.name not in _CONSTANTS}


def point(names: list[str], number: int) -> dict[str, Fraction]:
  """The first points are positive, where most is defined; the others of any sign."""
  draw = random.Random(number)
  low = 1 if number < 2 else -400
  return {name: Fraction(draw.randint(low, 400) * 97 + 13, 127 * 97) for name in names}


def exact(node: Expr) -> Fraction | None:
  """The value of a rational expression; None for what is not, or not surely."""
  if isinstance(node, Num):
    return _bounded(node.value)
  if isinstance(node, Sym):
    return None
  args = [exact(arg) for arg in node.args]
  if None in args:
    return None
  if node.name == 'div' and args[1] == 0:
    raise ValueError('division by zero')
  if node.name in _ARITHMETIC:
    return _bounded(_ARITHMETIC[node.name](*args))
  if node.name in _WHOLE:
    return Fraction(_WHOLE[node.name](*args))
  if node.name in _OF_MANY:
    return _of_many(node.name, args)
  if node.name == 'root':
    return _power(args[1], 1 / args[0]) if args[0] else None
  return {'pow': _power, 'fact': _factorial, 'binom': _choose}.get(node.name, _never)(*args)


def _of_many(name: str, args: list[Fraction]) -> Fraction:
  if name in ('gcd', 'lcm'):
    if any(arg.denominator > 1 for arg in args):
      raise ValueError(f'{name} of what is no integer')
    args = [arg.numerator for arg in args]
  return _bounded(Fraction(_OF_MANY[name](*args) if len(args) > 1 else args[0]))


def _never(*_) -> None:
  return None


def _bounded(value: Fraction) -> Fraction:
  if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
    raise TooLarge(f'a number of more than {MAX_BITS} bits')
  return value


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
  if base == 0 and exponent <= 0:
    raise ValueError('zero to a power that is not positive')
  if base in (0, 1):
    return base
  if exponent.denominator > 1:
    base = _rational_root(base, exponent.denominator)
  if base is None:
    return None
  bits = max(base.numerator.bit_length(), base.denominator.bit_length())
  if base != -1 and abs(exponent.numerator) * bits > MAX_BITS:
    raise TooLarge(f'a power of more than {MAX_BITS} bits')
  return base ** (exponent.numerator % 2 if base == -1 else exponent.numerator)


def _rational_root(base: Fraction, degree: int) -> Fraction | None:
  """Real where there is one: the cube root of -8 is -2."""
  if degree > MAX_ROOT or (base < 0 and degree % 2 == 0):
    return None
  roots = [_integer_root(part, degree) for part in (abs(base.numerator), base.denominator)]
  if None in roots:
    return None
  return Fraction(*roots) * (-1 if base < 0 else 1)


def _integer_root(value: int, degree: int) -> int | None:
  low, high = 0, 1 << (value.bit_length() // degree + 1)
  while low < high:
    middle = (low + high) // 2
    low, high = (middle + 1, high) if middle**degree < value else (low, middle)
  return low if low**degree == value else None


def _factorial(n: Fraction) -> Fraction | None:
  if n > MAX_FACTORIAL:
    raise TooLarge(f'a factorial above {MAX_FACTORIAL}')
  return Fraction(math.factorial(int(n))) if n >= 0 and n.denominator == 1 else None


def _choose(n: Fraction, k: Fraction) -> Fraction | None:
  if max(n, k) > MAX_FACTORIAL:
    raise TooLarge(f'a binomial coefficient above {MAX_FACTORIAL}')
  whole = n >= 0 and k >= 0 and n.denominator == k.denominator == 1
  return Fraction(math.comb(int(n), int(k))) if whole else None


def _is_zero(difference: Op, values: dict[str, Fraction]) -> bool:
  """What is zero falls as the precision grows, and what is not stays. Factorials of no integers need minutes for many
  digits, and do with fewer.
  """
  complex_ = not values or Sym('i') in walk(difference)
  many = not any(
    isinstance(node, Op) and node.name in ('fact', 'binom') for node in walk(difference)
  )
  for low, high in ((50, 150), (400, 1200))[: 1 + many]:
    coarse, fine = (abs(numeric(difference, values, digits, complex_)) for digits in (low, high))
    size = abs(numeric(difference.args[0], values, low, complex_))
    with mpmath.workdps(high):
      noise = (coarse or size * mpmath.mpf(10) ** -low) * mpmath.mpf(10) ** (low - high + low // 2)
      if fine > noise:
        return False
  return True


def numeric(node: Expr, values: dict[str, Fraction], digits: int, complex_: bool):
  """expression -> mpmath number. Raises TooLarge, or ArithmeticError where it is not defined (or not real)."""
  with mpmath.workdps(digits):
    return _number(node, values, complex_)


def _number(node: Expr, values: dict[str, Fraction], complex_: bool):
  if isinstance(node, Num):
    return _quotient(_bounded(node.value))
  if isinstance(node, Sym):
    return _quotient(values[node.name]) if node.name in values else _constant(node.name)
  args = [_number(arg, values, complex_) for arg in node.args]
  if node.name in _ARITHMETIC:
    found = _ARITHMETIC[node.name](*args)
  elif node.name == 'root':
    found = _root(args[1], args[0])
  elif node.name == 'pow':
    found = _pow(node, args)
  elif node.name in ('max', 'min'):
    found = _OF_MANY[node.name](args)
  else:
    found = _function(node.name, args)
  return _checked(found, complex_)


def _checked(found, complex_: bool):
  if isinstance(found, mpmath.mpc) and not complex_:
    raise _NotReal
  if not mpmath.isfinite(found):
    raise ArithmeticError('not finite')
  if found and abs(mpmath.mag(found)).bit_length() > MAX_MAGNITUDE:
    raise TooLarge('a number beyond any answer')
  return found


def _quotient(value: Fraction):
  return mpmath.mpf(value.numerator) / value.denominator


def _constant(name: str):
  if name == 'infinity':
    raise ArithmeticError('infinity is no number')
  return {'pi': +mpmath.pi, 'e': +mpmath.e, 'i': mpmath.mpc(0, 1)}[name]


def _root(x, degree):
  """Of odd degree: real, also of a negative number."""
  if degree == 0:
    raise ArithmeticError('a root of degree zero')
  if mpmath.im(x) == 0 and mpmath.re(x) < 0 and mpmath.isint(degree) and degree % 2 == 1:
    return -((-x) ** (1 / degree))
  return x ** (1 / degree) if degree != 2 else mpmath.sqrt(x)


def _pow(node: Op, args: list):
  base, exponent = args
  fraction = exact(node.args[1])
  if (
    base and exponent and mpmath.mag(exponent) + abs(mpmath.mag(base)).bit_length() > MAX_MAGNITUDE
  ):
    raise TooLarge('a power beyond any answer')
  if fraction is not None and fraction.denominator > 1 and fraction.denominator % 2:
    return _root(base, mpmath.mpf(fraction.denominator)) ** fraction.numerator
  return base**exponent


def _function(name: str, args: list):
  if any(arg and mpmath.mag(arg) > MAX_MAGNITUDE for arg in args):
    raise TooLarge(f'{name} of a number beyond any answer')
  if name in ('gcd', 'lcm'):
    raise ArithmeticError('of what is not known to be an integer')
  if name in ('fact', 'binom') and any(abs(arg) > MAX_FACTORIAL for arg in args):
    raise TooLarge(f'a factorial above {MAX_FACTORIAL}')
  if name in _WHOLE:
    return {'floor': mpmath.floor, 'ceil': mpmath.ceil, 'abs': abs, 'neg': operator.neg}[name](
      *args
    )
  return _NUMERIC[name](*args)


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
  first = point(names, number)
  fixed = [_substitute(side, first) for side in (left, right)]
  return vanishes(Op('sub', (Op('mul', (left, fixed[1])), Op('mul', (right, fixed[0])))))


def _substitute(node: Expr, values: dict[str, Fraction]) -> Expr:
  if isinstance(node, Sym):
    return Num(values[node.name]) if node.name in values else node
  return (
    Op(node.name, tuple(_substitute(arg, values) for arg in node.args))
    if isinstance(node, Op)
    else node
  )
