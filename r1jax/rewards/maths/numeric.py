"""The value of an expression in floating point, to as many digits as are asked for."""

from fractions import Fraction

import mpmath

from r1jax.rewards.maths.exact import ARITHMETIC, MAX_FACTORIAL, OF_MANY, TooLarge, bounded, exact
from r1jax.rewards.maths.tree import Expr, Num, Op, Sym

MAX_MAGNITUDE = 256  # bits of the exponent of an intermediate result
MAX_SPECIAL = 1000  # an argument
_UNSURE = 10  # digits
SLOW = frozenset(('fact', 'binom', 'zeta', 'Gamma', 'erf', 'erfc', 'Li'))  # with many digits

_WHOLE = {
  'floor': lambda x: mpmath.floor(_settled(x)),
  'ceil': lambda x: mpmath.ceil(_settled(x)),
  'abs': abs,
  'neg': lambda x: -x,
  'sgn': mpmath.sign,
}
_NUMERIC = {
  'sin': mpmath.sin, 'cos': mpmath.cos, 'tan': mpmath.tan, 'cot': mpmath.cot, 'sec': mpmath.sec, 'csc': mpmath.csc,
  'arcsin': mpmath.asin, 'arccos': mpmath.acos, 'arctan': mpmath.atan, 'arcsec': mpmath.asec, 'arccsc': mpmath.acsc,
  'arccot': lambda x: mpmath.pi / 2 - mpmath.atan(x), 'sinh': mpmath.sinh, 'cosh': mpmath.cosh, 'tanh': mpmath.tanh,
  'coth': mpmath.coth, 'sech': mpmath.sech, 'csch': mpmath.csch, 'arcsinh': mpmath.asinh, 'arccosh': mpmath.acosh,
  'arctanh': mpmath.atanh, 'ln': mpmath.log, 'exp': mpmath.exp, 'fact': mpmath.factorial, 'binom': mpmath.binomial,
  'log': lambda base, x: mpmath.log(x) / mpmath.log(base), 'zeta': mpmath.zeta, 'Gamma': mpmath.gamma,
  'erf': mpmath.erf, 'erfc': mpmath.erfc, 'Li': mpmath.polylog,
}  # fmt: skip


class _NotReal(ArithmeticError):
  """Outside of the real numbers, in a comparison that stays inside."""


def numeric(node: Expr, values: dict[str, Fraction], digits: int, complex_: bool):
  """expression -> mpmath number. Raises TooLarge, or ArithmeticError where it is not defined (or not real)."""
  with mpmath.workdps(digits):
    return _number(node, values, complex_)


def _number(node: Expr, values: dict[str, Fraction], complex_: bool):
  if isinstance(node, Num):
    return _quotient(bounded(node.value))
  if isinstance(node, Sym):
    return _quotient(values[node.name]) if node.name in values else _constant(node.name)
  args = [_number(arg, values, complex_) for arg in node.args]
  if node.name in ARITHMETIC:
    found = ARITHMETIC[node.name](*args)
  elif node.name == 'root':
    found = _root(args[1], args[0])
  elif node.name == 'pow':
    found = _pow(node, args)
  elif node.name in ('max', 'min'):
    found = OF_MANY[node.name](args)
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


def _settled(x):
  """The integer that it is but for the last digits, if it is one; else itself."""
  nearest = mpmath.nint(x)
  return nearest if abs(x - nearest) < mpmath.mpf(10) ** (_UNSURE - mpmath.mp.dps) else x


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
  if name in SLOW and name not in ('fact', 'binom') and any(abs(arg) > MAX_SPECIAL for arg in args):
    raise TooLarge(f'{name} of more than {MAX_SPECIAL}')
  try:
    return (_WHOLE if name in _WHOLE else _NUMERIC)[name](*args)
  except ValueError as error:  # at a pole
    raise ArithmeticError(str(error)) from error
