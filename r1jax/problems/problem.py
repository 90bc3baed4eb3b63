"""A problem, where it comes from, and on which side of the train / held-out line it falls."""

import dataclasses
import hashlib
import random
import re
from collections.abc import Sequence
from fractions import Fraction

from r1jax.problems import mixture

# general: no answer, and no check of one: such a problem is for reward models.
KINDS = ('countdown', 'arithmetic', 'math', 'code', 'choice', 'instructions', 'general')
GENERATED = ('countdown', 'arithmetic')
SUFFIXES = ('.jsonl', '.json', '.parquet')
HUB = re.compile(r'hub:[\w.-]+/[\w.-]+(?:/[\w.-]+)?:.+')  # hub:owner/name[/config]:split
BROKEN = ('fatal', 'skip')
STYLES = ('short', 'tinyzero')
SPLITS = ('train', 'heldout')
PATIENCE = (
  20_000  # draws in a row that give nothing new, after which there is taken to be nothing left
)


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question. `id` is unique and stable in its source; `numbers` are Countdown's operands. details: what a
  check of this kind needs beside the answer (JSON: tests of a program, choices, constraints, ...); also what goes
  before the stage's own settings: preference (the reward model that judges it), language (that it is to be thought
  about in), reward_weights.
  """

  id: int
  kind: str
  prompt: str
  answer: str
  numbers: tuple[int, ...] = ()
  details: dict = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class ProblemsConfig:
  """Where problems come from and how hard they are. Raises ValueError on impossible values."""

  source: str = (
    'countdown'  # countdown, arithmetic, a .jsonl, .json or .parquet file, hub:owner/name:split
  )
  numbers_min: int = 3  # operands of the easiest problem
  numbers_max: int = 3  # operands of the hardest problem
  max_number: int = 9  # operands are drawn from 1 to this
  max_target: int = 99  # answers are integers up to this
  style: str = 'short'  # wording of generated questions: 'short' or 'tinyzero'
  heldout_fraction: float = 0.1  # share of the problems that is never trained on
  seed: int = 0  # of the generator
  count: int = 0  # problems of both splits together, 0 = all that exist
  kind: str = ''  # of the problems of a file that does not say; '': inferred from their fields
  broken: str = 'fatal'  # what a line that cannot be read is: 'fatal' or 'skip' (it is said)
  allow_unsandboxed: bool = False  # programs run WITHOUT isolation where no sandbox works
  mixture: tuple[str, ...] = ()  # takes the place of source: 'source:weight' each (mixture.py)

  def __post_init__(self):
    self._check_source()
    if self.numbers_min < 2:
      raise _bad('numbers_min', self.numbers_min, 'an integer of at least 2')
    if self.numbers_max < self.numbers_min:
      raise _bad('numbers_max', self.numbers_max, f'at least numbers_min={self.numbers_min}')
    if self.max_number < 1:
      raise _bad('max_number', self.max_number, 'an integer of at least 1, such as 9')
    if self.max_target < 1:
      raise _bad('max_target', self.max_target, 'an integer of at least 1, such as 99')
    if self.style not in STYLES:
      raise _bad('style', self.style, f'one of {STYLES}')
    if not 0 <= self.heldout_fraction < 1:
      raise _bad('heldout_fraction', self.heldout_fraction, 'at least 0 and below 1, such as 0.1')
    if self.count < 0:
      raise _bad('count', self.count, '0 for all, or a number of problems')

  def _check_source(self) -> None:
    known = self.source in GENERATED or self.source.endswith(SUFFIXES)
    if not (known or HUB.fullmatch(self.source)):
      valid = f"one of {GENERATED}, a file in {', '.join(SUFFIXES)}, or 'hub:owner/name:split'"
      raise _bad('source', self.source, valid)
    generated = self.source in GENERATED or self.mixture  # whose entries have kinds of their own
    if self.kind and (self.kind not in KINDS or generated):
      raise _bad('kind', self.kind, f"one of {KINDS} for a file, '' for any other source")
    if self.broken not in BROKEN:
      raise _bad('broken', self.broken, f'one of {BROKEN}')
    if len(self.mixture) > mixture.MOST:
      raise _bad('mixture', f'{len(self.mixture)} sources', f'at most {mixture.MOST}')
    mixture.parts(self)


def _bad(field: str, value: object, valid: str) -> ValueError:
  return ValueError(f'{field}={value!r} is not possible; valid: {valid}')


_NUMBER = re.compile(r'-?[0-9]+(?:/[0-9]+|\.[0-9]+)?')
_NUMBER_CHARS = 64


def rational(text: str) -> Fraction:
  """'-3', '2.50' or '7/2' -> its exact value; ValueError for all else.

  A quotient has to be in lowest terms: '6/2' is the question `6 / 2` again, not its answer.
  """
  if len(text) > _NUMBER_CHARS or not _NUMBER.fullmatch(text):
    raise ValueError(f'not a number: {text[:_NUMBER_CHARS]!r}')
  top, slash, bottom = text.partition('/')
  if not slash:
    return Fraction(text)
  if int(bottom) == 0:
    raise ValueError(f'division by zero: {text!r}')
  value = Fraction(int(top), int(bottom))
  if value.denominator != int(bottom):
    raise ValueError(f'not in lowest terms: {text!r}')
  return value


def key(problem: Problem) -> str:
  """What makes two problems the same one: Countdown's is blind to the order of the numbers."""
  if problem.kind == 'countdown':
    return f'{sorted(problem.numbers)} {problem.answer}'
  return problem.prompt


def is_heldout(problem: Problem, fraction: float) -> bool:
  """Splits by a hash of the key, so that no seed, count or order moves a problem over the line."""
  digest = hashlib.sha256(key(problem).encode()).digest()
  return int.from_bytes(digest[:8], 'big') < int(fraction * 2**64)


def enough(problems: list[Problem], count: int) -> list[Problem]:
  """The problems that were drawn; ValueError if they are fewer than the `count` that was asked for."""
  if len(problems) < count:
    raise _bad(
      'count', count, f'at most about {len(problems)}, the different problems that were found'
    )
  return problems


def take(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
  """A random `count` of the problems (0 = all), their order kept; ValueError if there are fewer."""
  if count > len(problems):
    raise _bad('count', count, f'0 for all, or at most {len(problems)}, the problems that exist')
  if not count:
    return list(problems)
  chosen = random.Random(seed).sample(range(len(problems)), count)
  return [problems[i] for i in sorted(chosen)]
