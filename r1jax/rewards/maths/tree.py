"""What an expression is made of."""

import dataclasses
from fractions import Fraction

CONSTANTS = {'\\pi': 'pi', 'e': 'e', 'i': 'i', '\\infty': 'infinity'}


@dataclasses.dataclass(frozen=True)
class Num:
  value: Fraction


@dataclasses.dataclass(frozen=True)
class Sym:
  """A variable, or one of the constants pi, e, i and infinity."""

  name: str


@dataclasses.dataclass(frozen=True)
class Op:
  """add, sub, mul, div, neg, pow, root (degree, radicand), fact, binom, abs, floor, ceil, log (base, x), max, min,
  gcd, lcm or a function of FUNCTIONS or SPECIAL (`Li`: order, x).
  """

  name: str
  args: tuple


Expr = Num | Sym | Op


def walk(node: Expr):
  """The node and all below it."""
  yield node
  for arg in node.args if isinstance(node, Op) else ():
    yield from walk(arg)


def infinite(node: Expr) -> bool:
  return Sym('infinity') in walk(node)
