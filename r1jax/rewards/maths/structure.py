"""What an answer can be: the structures that maths.answer reads and maths.match compares."""

import dataclasses

from r1jax.rewards.maths.tree import Expr


@dataclasses.dataclass(frozen=True)
class Value:
  """An expression and what is written around it. unit: in one spelling, '' without. name: 'x' of `x = 5`."""

  expr: Expr
  unit: str = ''
  percent: bool = False
  modulus: Expr | None = None
  name: str = ''


@dataclasses.dataclass(frozen=True)
class Many:
  """kind: 'list' (no brackets), 'set', 'union', 'tuple', 'interval', 'matrix' (of rows, which are tuples), 'ratio',
  'cases' (tuples of a value and its condition), 'family' (`2k, k in Z`: what stands before, and the index with its
  domain), 'builder' (any other `{x | ...}`: its element and its condition) or 'chain' (equal to each other:
  `10/2 = 5`). brackets: of a tuple or interval, as '(]'; of a list, 'or' where it says so.
  """

  kind: str
  items: tuple
  brackets: str = ''
  name: str = ''


@dataclasses.dataclass(frozen=True)
class Relation:
  """left OP right, OP one of = < \\le \\ne."""

  op: str
  left: Expr
  right: Expr


@dataclasses.dataclass(frozen=True)
class Text:
  words: tuple[str, ...]


Answer = Value | Many | Relation | Text
_ORDER = {
  '\\rho': 'r',
  '\\theta': 's',
  '\\phi': 't',
  '\\varphi': 't',
}  # (r, \\theta, z), (\\rho, \\theta, \\phi)


def by_name(items: list[Answer]) -> Many:
  """`y = 3, x = 2` -> the point (2, 3)."""
  ordered = sorted(items, key=lambda item: _ORDER.get(item.name, item.name.strip('\\')))
  return Many('tuple', tuple(ordered), '()', ','.join(item.name for item in ordered))
