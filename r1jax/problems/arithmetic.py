"""Arithmetic: the value of a chain of numbers and + - * / without brackets ('3 + 5 * 7 =')."""

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

from r1jax.problems.problem import PATIENCE, Problem, ProblemsConfig, enough, take

# Above this many chains, problems are drawn instead of enumerated.
_ENUMERATE = 20_000
_QUESTION = (
  'Calculate {chain}. Show your work in <think> </think> tags. And return the final answer in '
  '<answer> </answer> tags, for example <answer> 12 </answer>.'
)


def generate(cfg: ProblemsConfig) -> list[Problem]:
  """config -> chains whose value is an integer from 0 to max_target, no chain twice.

  A small range is enumerated whole, a larger one is drawn `count` times from the seed.
  """
  sizes = range(cfg.numbers_min, cfg.numbers_max + 1)
  if is_enumerated(cfg):
    return take(_problems(_enumerate(sizes, cfg.max_number), cfg, 0), cfg.count, cfg.seed)
  if not cfg.count:
    raise ValueError(
      f'count=0 means all, but {_chains(cfg)} chains of up to {cfg.numbers_max} numbers up to '
      f'{cfg.max_number} are too many to enumerate; valid: a number of problems, such as 4096'
    )
  return enough(_problems(_draw(cfg, sizes), cfg, cfg.count), cfg.count)


def is_enumerated(cfg: ProblemsConfig) -> bool:
  """Whether all problems there are, are made before `count` of them are taken."""
  return _chains(cfg) <= _ENUMERATE


def _chains(cfg: ProblemsConfig) -> int:
  sizes = range(cfg.numbers_min, cfg.numbers_max + 1)
  return sum(cfg.max_number**size * 4 ** (size - 1) for size in sizes)


def _enumerate(sizes: range, max_number: int) -> Iterator[tuple]:
  for size in sizes:
    for numbers in itertools.product(range(1, max_number + 1), repeat=size):
      for operators in itertools.product('+-*/', repeat=size - 1):
        yield numbers, operators


def _draw(cfg: ProblemsConfig, sizes: range) -> Iterator[tuple]:
  rng = random.Random(cfg.seed)
  while True:
    size = rng.choice(sizes)
    numbers = tuple(rng.randint(1, cfg.max_number) for _ in range(size))
    yield numbers, tuple(rng.choice('+-*/') for _ in range(size - 1))


def _problems(chains: Iterator[tuple], cfg: ProblemsConfig, count: int) -> list[Problem]:
  """The chains with a fitting value; `count` of them, or as many as can be found, unless that is 0."""
  problems, since = {}, 0  # since: chains since the last new problem
  for chain in chains:
    value = evaluate(*chain)
    if value.denominator == 1 and 0 <= value <= cfg.max_target and chain not in problems:
      prompt = _prompt(*chain, cfg.style)
      problems[chain] = Problem(len(problems), 'arithmetic', prompt, str(value))
      since = -1
    since += 1
    if count and (len(problems) == count or since == PATIENCE):
      break
  return list(problems.values())


def _prompt(numbers: tuple[int, ...], operators: tuple[str, ...], style: str) -> str:
  pairs = zip(operators, numbers[1:], strict=True)
  chain = ' '.join([str(numbers[0]), *(f'{op} {number}' for op, number in pairs)])
  return f'{chain} =' if style == 'short' else _QUESTION.format(chain=chain)


def evaluate(numbers: tuple[int, ...], operators: tuple[str, ...]) -> Fraction:
  """N positive numbers, N - 1 operators -> the value of the chain, * and / before + and -."""
  terms = [Fraction(numbers[0])]
  for op, number in zip(operators, numbers[1:], strict=True):
    if op == '*':
      terms[-1] *= number
    elif op == '/':
      terms[-1] /= number
    else:
      terms.append(Fraction(number if op == '+' else -number))
  return sum(terms)
