"""Is a Countdown answer right? A tokenizer and a parser of its own over exact rationals.

    sum = product {('+' | '-') product}    product = atom {('*' | '/') atom}
    atom = integer | '(' sum ')'

Blanks, tabs and line breaks may stand between tokens. There is no sign, power, decimal point, floor division or '=',
and no other character: those are where evaluating the text, as other reward code does, pays for cheating or never
returns.
"""

from fractions import Fraction

from r1jax.problems.problem import Problem, rational
from r1jax.rewards import format
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict

# Far above what any answer needs; they bound the work for any text.
MAX_CHARS = 256
MAX_DEPTH = 32

_SPACES = ' \t\r\n'

Token = int | str


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where its last answer is an expression of all the numbers, each once, that hits the target."""
  answer = format.answer(completion)
  return judge(answer, problem) if answer is not None else Verdict(UNPARSEABLE, note='no <answer>')


def judge(answer: str, problem: Problem) -> Verdict:
  """The text between the tags -> verdict."""
  try:
    target = rational(problem.answer)
  except ValueError as error:
    return Verdict(BAD_GOLD, answer, note=str(error))
  try:
    tokens = tokenize(answer)
    value = evaluate(tokens)
  except (ValueError, ZeroDivisionError) as error:
    return Verdict(UNPARSEABLE, answer, note=str(error))
  used = sorted(token for token in tokens if isinstance(token, int))
  if used != sorted(problem.numbers):
    return verdict(False, answer, f'uses {used}, not {sorted(problem.numbers)}')
  return verdict(value == target, answer, f'is {value}')


def tokenize(text: str) -> list[Token]:
  """'3 * (5+7)' -> [3, '*', '(', 5, '+', 7, ')']; ValueError for any other character."""
  if len(text) > MAX_CHARS:
    raise ValueError(f'longer than {MAX_CHARS} characters')
  tokens, at = [], 0
  while at < len(text):
    end = at + 1
    if text[at] in '0123456789':
      while end < len(text) and text[end] in '0123456789':
        end += 1
      if text[at] == '0' and end > at + 1:
        raise ValueError(f'leading zero: {text[at:end]}')
      tokens.append(int(text[at:end]))
    elif text[at] in '+-*/()':
      tokens.append(text[at])
    elif text[at] not in _SPACES:
      raise ValueError(f'not part of an expression: {text[at]!r}')
    at = end
  return tokens


def evaluate(tokens: list[Token]) -> Fraction:
  """tokens -> value; ValueError where they are no expression, ZeroDivisionError by zero."""
  value, end = _sum(tokens, 0, 0)
  if end != len(tokens):
    raise ValueError(f'unexpected {tokens[end]!r}')
  return value


def _sum(tokens: list[Token], at: int, depth: int) -> tuple[Fraction, int]:
  """Each of the three reads from `at` and returns (value, the place after what it read)."""
  value, at = _product(tokens, at, depth)
  while at < len(tokens) and tokens[at] in ('+', '-'):
    right, end = _product(tokens, at + 1, depth)
    value = value + right if tokens[at] == '+' else value - right
    at = end
  return value, at


def _product(tokens: list[Token], at: int, depth: int) -> tuple[Fraction, int]:
  value, at = _atom(tokens, at, depth)
  while at < len(tokens) and tokens[at] in ('*', '/'):
    right, end = _atom(tokens, at + 1, depth)
    value = value * right if tokens[at] == '*' else value / right
    at = end
  return value, at


def _atom(tokens: list[Token], at: int, depth: int) -> tuple[Fraction, int]:
  if at == len(tokens):
    raise ValueError('an operand is missing at the end')
  if isinstance(tokens[at], int):
    return Fraction(tokens[at]), at + 1
  if tokens[at] != '(':
    raise ValueError(f'unexpected {tokens[at]!r}')
  if depth == MAX_DEPTH:
    raise ValueError(f'brackets nested deeper than {MAX_DEPTH}')
  value, at = _sum(tokens, at + 1, depth + 1)
  if at == len(tokens) or tokens[at] != ')':
    raise ValueError('a bracket is not closed')
  return value, at + 1
