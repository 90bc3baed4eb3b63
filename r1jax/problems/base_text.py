"""(seed, index) -> a document that a tiny base model is pretrained on: a question and a completion.

Completions differ in length and quality as those in a web corpus do: answers guessed without a thought, searches
that end early with a wrong answer, a few that go on until they find the right one, checks, arithmetic mistakes.
Every attempt of a search ends in a stated verdict:

    <think>3+5=8*7=56 no, again:3*5=15+7=22 yes</think><answer>3*5+7</answer>
    <think>3+5=8*7=56 no, give up</think><answer>(3+5)*7</answer>

An attempt is written as one works on a pocket calculator: every key, and what it then shows. A search takes the
pairs of numbers in turn, joins them by each operator in turn, and goes on to the value nearest to the target.
Only problems of the train split occur. Left out: negative numbers and fractions on the way to a value.
"""

import argparse
import dataclasses
import functools
import itertools
import random
from collections.abc import Iterator

from r1jax import problems, prompts
from r1jax.problems.problem import Problem, ProblemsConfig

_SLIPS = (-10, -2, -1, 1, 2, 10)  # what a mistake adds to a value


@dataclasses.dataclass(frozen=True)
class BaseTextConfig:
  """Shares and chances are between 0 and 1; ValueError names one that is not, or a source without such text."""

  problems: ProblemsConfig = ProblemsConfig()
  count: int = 200_000  # documents
  seed: int = 0
  template: str = 'short'
  guess: float = 0.2  # share of documents that are answered without an attempt
  persistent: float = 0.08  # share of documents that never give up
  again: float = 0.35  # chance to go on after an attempt that failed
  check: float = 0.1  # chance to check an attempt that seems right
  mistake: float = 0.01  # chance that an attempt states a wrong value

  def __post_init__(self):
    if self.problems.source != 'countdown' or self.problems.style != 'short':
      raise ValueError(
        f'source={self.problems.source!r}, style={self.problems.style!r} has no base text; valid: '
        "'countdown', 'short'"
      )
    for field in ('guess', 'persistent', 'again', 'check', 'mistake'):
      if not 0 <= getattr(self, field) <= 1:
        raise ValueError(f'{field}={getattr(self, field)!r} is not possible; valid: from 0 to 1')
    if self.count < 1 or self.guess + self.persistent > 1:
      raise ValueError(
        f'count={self.count}, guess={self.guess}, persistent={self.persistent} is not possible; '
        'valid: a positive count, and shares that sum to at most 1'
      )


def describe(cfg: BaseTextConfig) -> str:
  """What the text is, in a paragraph for a model's card."""
  return (
    f'Text: {cfg.count:,} generated Countdown problems of the train split with {cfg.problems.numbers_min} to '
    f'{cfg.problems.numbers_max} numbers of up to {cfg.problems.max_number}, each with a completion '
    f'(`r1jax/problems/base_text.py`). {cfg.guess:.0%} of the completions are guesses without an attempt; '
    f'{cfg.persistent:.0%} search until they find the answer, right or mistaken; the others give up after a failed '
    f'attempt with a chance of {1 - cfg.again:.0%}. {cfg.check:.0%} of the attempts that seem right are checked, '
    f'{cfg.mistake:.0%} of all attempts state a wrong value. No text from anywhere else.'
  )


@dataclasses.dataclass(frozen=True)
class Expression:
  """text: without spaces, brackets minimal. outer: its last operator. work: the steps up to the last '='.

  (3+5)*7 is worked out as 3+5=8*7 and 9-2*3 as 2*3=6;9-6.
  """

  value: int
  text: str
  outer: str = ''
  work: str = ''


class Documents:
  """A sequence of `cfg.count` pairs (prompt, completion); BOS and EOS are not part of the texts."""

  def __init__(self, cfg: BaseTextConfig):
    self._cfg = cfg
    self._problems = problems.load(cfg.problems, 'train')

  def __len__(self) -> int:
    return self._cfg.count

  def __getitem__(self, index: int) -> tuple[str, str]:
    if not 0 <= index < len(self):
      raise IndexError(f'document {index} of {len(self)}')
    rng = random.Random(f'{self._cfg.seed} {index}')
    problem = _shuffled(rng.choice(self._problems), rng)
    return prompts.render(problem, self._cfg.template), completion(problem, self._cfg, rng)


def documents(cfg: BaseTextConfig) -> Documents:
  return Documents(cfg)


def _shuffled(problem: Problem, rng: random.Random) -> Problem:
  """The problem with its numbers shown in another order."""
  numbers = tuple(rng.sample(problem.numbers, len(problem.numbers)))
  prompt = f'{" ".join(map(str, numbers))} = {problem.answer}'
  return dataclasses.replace(problem, numbers=numbers, prompt=prompt)


def completion(problem: Problem, cfg: BaseTextConfig, rng: random.Random) -> str:
  """One way to think about the problem, with its answer."""
  plan = _plan(problem, rng)
  mode = rng.random()
  if mode < cfg.guess:
    return f'<think></think><answer>{plan[0].text}</answer>'
  again = 1.0 if mode < cfg.guess + cfg.persistent else cfg.again
  thought, found = '', False
  for tried in itertools.cycle(plan):
    thought += (' again:' if thought else '') + tried.work
    attempt, found = _attempt(tried, int(problem.answer), cfg, rng)
    thought += attempt
    if found or rng.random() >= again:
      break
  thought += '' if found else ' give up'
  return f'<think>{thought}</think><answer>{tried.text}</answer>'


def _attempt(
  tried: Expression, target: int, cfg: BaseTextConfig, rng: random.Random
) -> tuple[str, bool]:
  """Expression -> ('=22 yes', True) or ('=38 no,', False), perhaps with a mistake or a check."""
  slip = rng.choice(_SLIPS) if rng.random() < cfg.mistake else 0
  stated = tried.value + slip if tried.value + slip > 0 else tried.value
  if stated != target:
    return f'={stated} no,', False
  if rng.random() >= cfg.check:
    return f'={stated} yes', True
  check = f'={stated} yes, check:{tried.text}={tried.value}'
  return (f'{check} yes', True) if tried.value == target else (f'{check} no,', False)


def _plan(problem: Problem, rng: random.Random) -> list[Expression]:
  """What to try, in order: once around the openings from a random one on."""
  target = int(problem.answer)
  tries = [
    min(endings, key=lambda e: abs(e.value - target)) for endings in openings(problem.numbers)
  ]
  start = rng.randrange(len(tries))
  return tries[start:] + tries[:start]


@functools.lru_cache(maxsize=4096)
def openings(numbers: tuple[int, ...]) -> tuple[tuple[Expression, ...], ...]:
  """numbers -> for each first step, every expression of all numbers that begins with it."""
  found = {}
  for places in itertools.combinations(range(len(numbers)), 2):
    b, a = (Expression(n, str(n)) for n in sorted(numbers[i] for i in places))
    rest = tuple(Expression(n, str(n)) for i, n in enumerate(numbers) if i not in places)
    for first in _joined(a, b):
      found.setdefault(first.text, tuple(_endings((first, *rest))))
  return tuple(found.values())


def _endings(operands: tuple[Expression, ...]) -> Iterator[Expression]:
  """Every way to join the operands, the first of which is always the next to be joined."""
  first, *rest = operands
  if not rest:
    yield first
  for i, other in enumerate(rest):
    for joined in _joined(first, other):
      yield from _endings((joined, *rest[:i], *rest[i + 1 :]))


def _joined(a: Expression, b: Expression) -> Iterator[Expression]:
  """a joined with b by each operator, where that leads to a positive integer but not by 1."""
  high, low = (a, b) if a.value >= b.value else (b, a)
  yield _expression(a, '+', b, a.value + b.value)
  yield _expression(a, '*', b, a.value * b.value)
  if high.value > low.value:
    yield _expression(high, '-', low, high.value - low.value)
  if low.value > 1 and high.value % low.value == 0:  # to divide by 1 is to multiply by it
    yield _expression(high, '/', low, high.value // low.value)


def _expression(a: Expression, op: str, b: Expression, value: int) -> Expression:
  regrouped = (op == '-' and b.outer in ('+', '-')) or (op == '/' and b.outer in ('*', '/'))
  text = _bracketed(a, op in '*/' and a.outer in ('+', '-')) + op
  text += _bracketed(b, regrouped or (op in '*/' and b.outer in ('+', '-')))
  before = f'{b.work}={b.value};' if b.work else ''  # typed first, as it is needed on the right
  shown = f'{a.work}={a.value}' if a.work else f'{a.value}'
  return Expression(value, text, op, f'{before}{shown}{op}{b.value}')


def _bracketed(expression: Expression, needed: bool) -> str:
  return f'({expression.text})' if needed else expression.text


def main() -> None:
  """Prints documents, prompt and completion on a line each: the text the tokenizer is trained on."""
  parser = argparse.ArgumentParser(description='Print documents of the base text.')
  parser.add_argument('--count', type=int, default=20_000, help='number of documents')
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  for document in documents(BaseTextConfig(count=args.count, seed=args.seed)):
    print(*document, sep='\n')


if __name__ == '__main__':
  main()
