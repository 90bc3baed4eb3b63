"""(seed, index) -> a document that a tiny base model is pretrained on: a question and a completion.

Completions differ in length and quality as those in a web corpus do: answers guessed without a thought, searches
that end early with a wrong answer, a few that go on until they find the right one, checks, arithmetic mistakes.
Every attempt of a search ends in a stated verdict:

    <think>3+5=8*7=56 no, again:3*5=15+7=22 yes</think><answer>3*5+7</answer>
    <think>3+5=8*7=56 no, give up</think><answer>(3+5)*7</answer>

An attempt is written as one works on a pocket calculator: every key, and what it then shows. A search goes once
around the possible expressions in a fixed order, so that nothing is tried twice; what seems far off is skipped.
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
  guess: float = 0.15  # share of documents that are answered without an attempt
  persistent: float = 0.1  # share of documents that never give up
  again: float = 0.42  # chance to go on after an attempt that failed
  check: float = 0.1  # chance to check an attempt that seems right
  mistake: float = 0.01  # chance that an attempt states a wrong value
  reach: float = 10.0  # how far from the target a value is left out half of the time

  def __post_init__(self):
    if self.problems.source != 'countdown' or self.problems.style != 'short':
      raise ValueError(
        f'source={self.problems.source!r}, style={self.problems.style!r} has no base text; valid: '
        "'countdown', 'short'"
      )
    for field in ('guess', 'persistent', 'again', 'check', 'mistake'):
      if not 0 <= getattr(self, field) <= 1:
        raise ValueError(f'{field}={getattr(self, field)!r} is not possible; valid: from 0 to 1')
    if self.count < 1 or self.reach <= 0 or self.guess + self.persistent > 1:
      raise ValueError(
        f'count={self.count}, reach={self.reach}, guess={self.guess}, persistent={self.persistent} '
        'is not possible; valid: positive ones, and shares that sum to at most 1'
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
  plan = _plan(problem, cfg.reach, rng)
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


def _plan(problem: Problem, reach: float, rng: random.Random) -> list[Expression]:
  """What to try, in order: once around all candidates from a random one on, skipping many whose value is far off."""
  target = int(problem.answer)
  chosen = [
    e for e in candidates(problem.numbers) if rng.random() < 1 / (1 + abs(e.value - target) / reach)
  ]
  start = rng.randrange(len(chosen))
  return chosen[start:] + chosen[:start]


@functools.lru_cache(maxsize=4096)
def candidates(numbers: tuple[int, ...]) -> tuple[Expression, ...]:
  """numbers -> for each positive value within reach the simplest expression of all of them."""
  found = {}
  for expression in _expressions(numbers):
    if expression.value > 0:
      found.setdefault(expression.value, expression)
  return tuple(found.values())


def _expressions(numbers: tuple[int, ...]) -> Iterator[Expression]:
  if len(numbers) == 1:
    yield Expression(numbers[0], str(numbers[0]))
    return
  for size in range(len(numbers) - 1, 0, -1):
    for places in itertools.combinations(range(len(numbers)), size):
      left = tuple(numbers[i] for i in places)
      right = tuple(n for i, n in enumerate(numbers) if i not in places)
      larger_first = (len(left), -places[0]) > (len(right), -1)
      for a, b in itertools.product(_expressions(left), _expressions(right)):
        yield from _joined(a, b, '+*-/' if larger_first else '-/')


def _joined(a: Expression, b: Expression, operators: str) -> Iterator[Expression]:
  """Both expressions joined by each operator that leads to a natural number, or to zero."""
  for op in operators:
    if (op == '-' and a.value < b.value) or (op == '/' and (not b.value or a.value % b.value)):
      continue
    value = {'+': a.value + b.value, '-': a.value - b.value, '*': a.value * b.value}.get(op)
    value = a.value // b.value if value is None else value
    regrouped = (op == '-' and b.outer in ('+', '-')) or (op == '/' and b.outer in ('*', '/'))
    text = _bracketed(a, op in '*/' and a.outer in ('+', '-')) + op
    text += _bracketed(b, regrouped or (op in '*/' and b.outer in ('+', '-')))
    yield Expression(value, text, op, _work(a, b, op))


def _work(a: Expression, b: Expression, op: str) -> str:
  """The work of both and the last key; what a calculator still shows is not typed again."""
  shown = f'{a.work}={a.value}' if a.work else f'{a.value}'
  if not b.work:
    return f'{shown}{op}{b.value}'
  before = f'{a.work}={a.value};' if a.work else ''
  return f'{before}{b.work}={b.value};{a.value}{op}{b.value}'


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
