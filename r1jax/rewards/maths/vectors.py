"""Vectors as sums of the unit vectors i, j and k."""

from fractions import Fraction

from r1jax.rewards.maths.tree import Expr, Num, Op, Sym
from r1jax.rewards.maths.value import same, substitute, variables

UNITS = tuple(f'\\vec{letter * 2}' for letter in 'ijk')  # \\vec{AB} is a token of that form


def components(expr: Expr) -> list[Expr] | None:
  """`3i - j` -> [3, -1]; None for what is no such sum."""
  found = [unit for unit in UNITS if unit in variables(expr)]
  if not found:
    return None
  units = UNITS if UNITS[2] in found else UNITS[:2]
  parts = [
    substitute(expr, {unit: Num(Fraction(unit == this)) for unit in UNITS}) for this in units
  ]
  total = Op('mul', (parts[0], Sym(units[0])))
  for part, unit in zip(parts[1:], units[1:]):
    total = Op('add', (total, Op('mul', (part, Sym(unit)))))
  return parts if same(expr, total) else None
