"""Countdown: reach the target with + - * / and every number exactly once (TinyZero's task).

All values are exact rationals; a step on the way to the target may be negative or a fraction.
"""

import functools
import itertools
import math
import operator
import random
from collections.abc import Iterator
from fractions import Fraction

from r1jax.problems.problem import PATIENCE, Problem, ProblemsConfig, enough, key, take

OPERATORS = {'+': operator.add, '-': operator.sub, '*': operator.mul, '/': operator.truediv}

# Above this many multisets of numbers, or numbers in one, problems are drawn, not enumerated.
_ENUMERATE, _ENUMERATE_SIZE = 400, 4
_QUESTION = (
  'Using the numbers {numbers}, create an equation that equals {target}. You can use basic '
  'arithmetic operations (+, -, *, /) and each number can only be used once. Show your work in '
  '<think> </think> tags. And return the final answer in <answer> </answer> tags, for example '
  '<answer> (1 + 2) / 3 </answer>.'
)


def generate(cfg: ProblemsConfig) -> list[Problem]:
  """config -> solvable problems, no two alike but for the order of their numbers.

  A small range is enumerated: every multiset of numbers with every target it reaches. A larger
  one (four numbers, or two-digit ones) is drawn `count` times. The seed sets the order in which a
  problem shows its numbers, and which problems are drawn.
  """
  rng = random.Random(cfg.seed)
  sizes = range(cfg.numbers_min, cfg.numbers_max + 1)
  if is_enumerated(cfg):
    pairs = _enumerate(sizes, cfg.max_number, cfg.max_target)
    return take(
      [_problem(i, *pair, cfg.style, rng) for i, pair in enumerate(pairs)], cfg.count, cfg.seed
    )
  if not cfg.count:
    raise ValueError(
      f'count=0 means all, but {_multisets(cfg)} multisets of up to {cfg.numbers_max} numbers up to '
      f'{cfg.max_number} are too many to enumerate; valid: a number of problems, such as 4096'
    )
  return _draw(cfg, sizes, rng)


def is_enumerated(cfg: ProblemsConfig) -> bool:
  """Whether all problems there are, are made before `count` of them are taken."""
  return _multisets(cfg) <= _ENUMERATE and cfg.numbers_max <= _ENUMERATE_SIZE


def _multisets(cfg: ProblemsConfig) -> int:
  sizes = range(cfg.numbers_min, cfg.numbers_max + 1)
  return sum(math.comb(cfg.max_number + size - 1, size) for size in sizes)


def _enumerate(sizes: range, max_number: int, max_target: int) -> Iterator[tuple]:
  for size in sizes:
    for numbers in itertools.combinations_with_replacement(range(1, max_number + 1), size):
      for target in targets(numbers, max_target):
        yield numbers, target


def _draw(cfg: ProblemsConfig, sizes: range, rng: random.Random) -> list[Problem]:
  """Draws numbers, then joins them at random: a target that many expressions reach is likelier."""
  problems, since = {}, 0  # since: draws since the last new problem
  while len(problems) < cfg.count and since < PATIENCE:
    numbers = tuple(rng.randint(1, cfg.max_number) for _ in range(rng.choice(sizes)))
    target = _join(numbers, rng)
    if target is not None and target.denominator == 1 and 1 <= target <= cfg.max_target:
      problem = _problem(len(problems), numbers, int(target), cfg.style, rng)
      since = -1 if problems.setdefault(key(problem), problem) is problem else since
    since += 1
  return enough(list(problems.values()), cfg.count)


def _join(numbers: tuple[int, ...], rng: random.Random) -> Fraction | None:
  """numbers -> the value of a random expression of them all; None where it divides by zero."""
  values = [Fraction(number) for number in numbers]
  while len(values) > 1:
    rng.shuffle(values)
    right, left, op = values.pop(), values.pop(), rng.choice('+-*/')
    if op == '/' and right == 0:
      return None
    values.append(OPERATORS[op](left, right))
  return values[0]


def _problem(
  index: int, numbers: tuple[int, ...], target: int, style: str, rng: random.Random
) -> Problem:
  shown = rng.sample(numbers, len(numbers))
  if style == 'short':
    prompt = f'{" ".join(map(str, shown))} = {target}'
  else:
    prompt = _QUESTION.format(numbers=shown, target=target)
  return Problem(index, 'countdown', prompt, str(target), tuple(shown))


def values(numbers: tuple[int, ...]) -> frozenset[Fraction]:
  """numbers -> every value of an expression that uses each of them exactly once."""
  return _values(tuple(sorted(numbers)))


@functools.lru_cache(maxsize=4096)
def _values(numbers: tuple[int, ...]) -> frozenset[Fraction]:
  if len(numbers) == 1:
    return frozenset([Fraction(numbers[0])])
  return frozenset(
    OPERATORS[op](left, right)
    for lefts, rights in _splits(numbers)
    for left, right in itertools.product(_values(lefts), _values(rights))
    for op in OPERATORS
    if op != '/' or right != 0
  )


def _splits(numbers: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
  """sorted numbers -> each way to part them into two sorted groups, left and right ordered."""
  found = {}
  for size in range(1, len(numbers)):
    for places in itertools.combinations(range(len(numbers)), size):
      left = tuple(numbers[i] for i in places)
      right = tuple(number for i, number in enumerate(numbers) if i not in places)
      found[left, right] = None
  return list(found)


def targets(numbers: tuple[int, ...], max_target: int) -> list[int]:
  """numbers -> the positive integers up to max_target that they reach, in rising order."""
  return sorted(int(v) for v in values(numbers) if v.denominator == 1 and 1 <= v <= max_target)


def solve(numbers: tuple[int, ...], target: int | Fraction) -> Iterator[str]:
  """numbers, target -> every expression of all the numbers that equals it, lazily, none twice.

  Brackets are minimal ('3*(5+7)', '3+5+7') and there are no spaces. The order is fixed and does
  not depend on the order of the numbers. Nothing is yielded when the target is out of reach.
  """
  seen = set()
  for text, _ in _solve(tuple(sorted(numbers)), Fraction(target)):
    if text not in seen:
      seen.add(text)
      yield text


def _solve(numbers: tuple[int, ...], target: Fraction) -> Iterator[tuple[str, str]]:
  """Yields (expression, its outermost operator or '')."""
  if len(numbers) == 1:
    if numbers[0] == target:
      yield str(numbers[0]), ''
    return
  for lefts, rights in _splits(numbers):
    for left, right in itertools.product(sorted(_values(lefts)), sorted(_values(rights))):
      for op in OPERATORS:
        if (op == '/' and right == 0) or OPERATORS[op](left, right) != target:
          continue
        for a, b in itertools.product(_solve(lefts, left), _solve(rights, right)):
          yield _bracket(*a, op, right=False) + op + _bracket(*b, op, right=True), op


def _bracket(text: str, inner: str, outer: str, right: bool) -> str:
  """Brackets an operand that precedence, or grouping from the left, would read otherwise."""
  looser = inner in '+-' and outer in '*/'
  regrouped = right and ((outer == '-' and inner in '+-') or (outer == '/' and inner in '*/'))
  return f'({text})' if inner and (looser or regrouped) else text
