"""Constants that may be any number, as in `x^2 + C`: how they are called, and by how much one is shifted, says nothing.

Only where the question asks for something up to them, does not speak of them, and the reference has them.
"""

import contextlib
import dataclasses
import itertools
import re

from r1jax.rewards.maths.numeric import numeric
from r1jax.rewards.maths.question import letters_of
from r1jax.rewards.maths.structure import Answer, Many, Value
from r1jax.rewards.maths.tree import Expr, Num, Op, Sym, walk
from r1jax.rewards.maths.value import point, same, substitute, variables

_ASKED = re.compile(
  r'\\i*nt(?![a-z])|∫|integral|integrat|antiderivative|primitive|differential equation|general solution|all functions'
  r"|\b[yfx]'|积分|積分|微分方程|通解|一般解|原函数|原始関数|不定",
  re.IGNORECASE,
)
_ARBITRARY = re.compile(r'[CKc]|[Cc]_?\d')  # in a reference
_LIKE_IT = re.compile(r'[A-DK]|[ACKack]_?\d|[ack]')  # in an answer
_VARIABLE = re.compile(r'[a-z]|\\[a-z]+')
_MOST = 3
_SHIFTS = 24  # points at which both may be defined


def called_alike(gold: Answer, answer: Answer, prompt: str) -> tuple[Answer, Answer]:
  """Both, and the answer with its constants as the reference has them, where that makes the two the same."""
  left, right = (_formula(side) for side in (gold, answer))
  if not (isinstance(left, Value) and isinstance(right, Value) and _ASKED.search(prompt)):
    return gold, answer
  found = _renamed(left.expr, right.expr, letters_of(prompt))
  return (left, dataclasses.replace(right, expr=found)) if found else (gold, answer)


def _formula(side: Answer) -> Answer:
  """`x + C` of `x + C` for any C"""
  for_all = isinstance(side, Many) and side.kind == 'family' and side.items[1].words[1] == '\\R'
  return side.items[0] if for_all else side


def _renamed(gold: Expr, answer: Expr, known: set[str]) -> Expr | None:
  """known: letters that mean something in the question."""
  letters = variables(gold)
  theirs = sorted(name for name in letters if _ARBITRARY.fullmatch(name) and name not in known)
  others = letters - set(theirs)
  ours = sorted(variables(answer) - others)
  if not (
    others and 0 < len(theirs) == len(ours) <= _MOST and all(map(_VARIABLE.fullmatch, others))
  ):
    return None
  if not all(_LIKE_IT.fullmatch(name) and name not in known for name in ours):
    return None
  for order in itertools.permutations(theirs):
    expr = substitute(answer, {ours[at]: Sym(name) for at, name in enumerate(order)})
    if len(theirs) == 1:
      return _shifted(gold, expr, theirs[0])
    if same(gold, expr):
      return expr
  return None


def _shifted(gold: Expr, expr: Expr, name: str) -> Expr:
  """`(x^3 + 1)/3 + C` -> `(x^3 + 1)/3 + C - 1/3` beside `x^3/3 + C`."""
  if not all(_is_added(side, name) for side in (gold, expr)):
    return expr
  names = sorted(variables(gold))
  for number in range(_SHIFTS):
    values = {key: Num(value) for key, value in point(names, number).items()}
    shift = Op('sub', tuple(substitute(side, values) for side in (gold, expr)))
    with contextlib.suppress(ArithmeticError):
      numeric(shift, {}, 15, False)  # raises where one is not defined
      return Op('add', (expr, shift))
  return expr


def _is_added(expr: Expr, name: str) -> bool:
  """Once, as in `x + C` or `C - x`."""
  if sum(node == Sym(name) for node in walk(expr)) != 1:
    return False
  while isinstance(expr, Op) and expr.name in ('add', 'sub'):
    left, right = expr.args
    expr = left if expr.name == 'sub' or Sym(name) in walk(left) else right
  return expr == Sym(name)
