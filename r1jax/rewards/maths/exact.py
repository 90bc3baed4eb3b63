"""The exact value of an expression, where it is rational."""

import math
import operator
from fractions import Fraction

from r1jax.rewards.maths.tree import Expr, Num, Sym

MAX_BITS = 2**17  # of a numerator or denominator
MAX_FACTORIAL = 5000
MAX_ROOT = 64  # degree

ARITHMETIC = {
  'add': operator.add,
  'sub': operator.sub,
  'mul': operator.mul,
  'div': operator.truediv,
}
OF_MANY = {'max': max, 'min': min, 'gcd': math.gcd, 'lcm': math.lcm}
_WHOLE = {
  'abs': abs,
  'floor': math.floor,
  'ceil': math.ceil,
  'neg': operator.neg,
  'sgn': lambda x: (x > 0) - (x < 0),
}


class TooLarge(ValueError):
  """What no answer needs: 9^{9^9}, (10^9)!."""


def exact(node: Expr) -> Fraction | None:
  """The value of a rational expression; None for what is not, or not surely."""
  if isinstance(node, Num):
    return bounded(node.value)
  if isinstance(node, Sym):
    return None
  args = [exact(arg) for arg in node.args]
  if None in args:
    return None
  if node.name == 'div' and args[1] == 0:
    raise ValueError('division by zero')
  if node.name in ARITHMETIC:
    return bounded(ARITHMETIC[node.name](*args))
  if node.name in _WHOLE:
    return Fraction(_WHOLE[node.name](*args))
  if node.name in OF_MANY:
    return _of_many(node.name, args)
  if node.name == 'root':
    return _power(args[1], 1 / args[0]) if args[0] else None
  return _INTEGERS.get(node.name, _never)(*args)


def _of_many(name: str, args: list[Fraction]) -> Fraction:
  if name in ('gcd', 'lcm'):
    if any(arg.denominator > 1 for arg in args):
      raise ValueError(f'{name} of what is no integer')
    args = [arg.numerator for arg in args]
  return bounded(Fraction(OF_MANY[name](*args) if len(args) > 1 else args[0]))


def _never(*_) -> None:
  return None


def bounded(value: Fraction) -> Fraction:
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


def _gamma(n: Fraction) -> Fraction | None:
  return _factorial(n - 1)


def _choose(n: Fraction, k: Fraction) -> Fraction | None:
  if max(n, k) > MAX_FACTORIAL:
    raise TooLarge(f'a binomial coefficient above {MAX_FACTORIAL}')
  whole = n >= 0 and k >= 0 and n.denominator == k.denominator == 1
  return Fraction(math.comb(int(n), int(k))) if whole else None


_INTEGERS = {'pow': _power, 'fact': _factorial, 'Gamma': _gamma, 'binom': _choose}
