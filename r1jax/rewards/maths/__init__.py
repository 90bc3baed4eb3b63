"""Is a mathematical answer right? The last `\\boxed{}`, or else the last `<answer>`, against the reference.

Read by a parser of our own and compared in value (see maths.value): nothing is evaluated that is larger than any answer
needs, so that a check ends at once on almost any text; the pool's budget is for the rest. What it has no word for is
left to math-verify and sympy (see maths.closed_form).
"""

import re
from fractions import Fraction

from r1jax.problems.boxed import boxes, last_boxed
from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.maths import closed_form
from r1jax.rewards.maths.answer import prose, read
from r1jax.rewards.maths.expr import Num, Op, walk
from r1jax.rewards.maths.match import matches
from r1jax.rewards.maths.structure import Answer, Many, Value
from r1jax.rewards.maths.text import split, tokenize
from r1jax.rewards.maths.value import exact
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict

_BETWEEN = re.compile(r'[\s$.,;]*(?:\\?[,;]|or|and|\\text\s*\{\s*(?:or|and)\s*\})[\s$]*')
_PROMPT_CHARS = 20_000


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where its answer equals problem.answer. One that only repeats the question is wrong."""
  try:
    gold_tokens = tokenize(_unboxed(problem.answer))
    read_as = prose if _is_prose(gold_tokens) else read
    gold = _read(gold_tokens, read_as)
    if gold is None:
      closed_form.readable(gold_tokens)
  except (ValueError, ArithmeticError) as error:
    return Verdict(BAD_GOLD, note=f'answer={problem.answer[:80]!r}: {error}')
  text = answer_of(completion)
  if text is None:
    return Verdict(UNPARSEABLE, note='no closed \\boxed{} and no <answer>')
  try:
    tokens = tokenize(text)
    answer = None if gold is None else _read(tokens, read_as)
    if answer is None:
      right = closed_form.agree(gold_tokens, tokens)
    else:
      right = matches(gold, answer, in_percent=bool(re.search('percent|%', problem.prompt)))
  except (ValueError, ArithmeticError) as error:
    return Verdict(UNPARSEABLE, text[:200], note=str(error))
  if right and leaves_work(tokens, gold_tokens, problem.prompt):
    return verdict(False, text, 'leaves the work to the reader')
  if right and answer is not None and restates(tokens, answer, gold, problem.prompt):
    return verdict(False, text, 'repeats the question')
  return verdict(right, text)


def _read(tokens: list[str], read_as) -> Answer | None:
  """None where it has to be left to math-verify. Raises ValueError where that is no use."""
  try:
    return read_as(tokens)
  except (ValueError, ArithmeticError):
    if not closed_form.needed(tokens):
      raise
  return None


def leaves_work(tokens: list[str], gold: list[str], prompt: str) -> bool:
  """Is an answer with a sum, integral or the like still to be worked out no more than the question, which has all of
  its numbers but 0, 1 and 2? Where the reference is written so, it may be.
  """
  last = split(tokens, ('=', '\\approx'))[-1]
  if not closed_form.undone(last) or closed_form.undone(gold):
    return False
  words = _significant(_prompt_tokens(prompt))
  known = {0, 1, 2, *(_number(word) for word in words.split())}
  return {_number(token) for token in last} - {None} <= known


def _is_prose(tokens: list[str]) -> bool:
  """Words and no formula: 'June 20' is compared as text."""
  first = {token[0] for token in tokens}
  if '"' not in first or '\\' in first:
    return False
  try:
    read(tokens)
  except ValueError:
    return True
  return False


def answer_of(completion: str) -> str | None:
  """completion -> what is in its last box behind the thinking, else in its last <answer>; None without both.

  Boxes with nothing but 'or', 'and' or a comma between them are one answer, a list.
  """
  text = completion.rpartition('</think>')[2]
  found = boxes(text)
  if not found:
    return format.answer(text) or None
  parts = [found[-1]]
  for box in found[-2::-1]:
    if not _BETWEEN.fullmatch(text[box[2] : parts[0][0]]):
      break
    parts.insert(0, box)
  return ', '.join(dict.fromkeys(text[start : end - 1].strip() for _, start, end in parts))


def _unboxed(text: str) -> str:
  box = last_boxed(text)
  return box[1] if box else text


def restates(tokens: list[str], answer: Answer, gold: Answer, prompt: str) -> bool:
  """Is a right answer no more than the question? `2+3` or `3+2` for 'What is 2+3?', if the reference is 5.

  It is if the prompt holds it word for word, or all of its numbers, with a calculation left to do. An answer that is
  written as the reference is, or is a single number, letter or fraction, restates nothing but in the prompt's words.
  """
  if _written(answer) == _written(gold) or len(tokens) < 2:
    return False
  words = _significant(_prompt_tokens(prompt))
  if f' {_significant(tokens)} ' in f' {words} ':
    return True
  last = answer.items[-1] if isinstance(answer, Many) and answer.kind == 'chain' else answer
  if not isinstance(last, Value) or _is_literal(last.expr) or exact(last.expr) is None:
    return False
  numbers = [node.value for node in walk(last.expr) if isinstance(node, Num)]
  return set(numbers) <= {_number(word) for word in words.split()}


def _written(answer: Answer) -> object:
  return answer.expr if isinstance(answer, Value) else answer


def _is_literal(expr) -> bool:
  """A number, a quotient of two, or minus one of these."""
  if isinstance(expr, Op) and expr.name in ('neg', 'div'):
    return all(
      isinstance(arg, Num) or (expr.name == 'neg' and _is_literal(arg)) for arg in expr.args
    )
  return isinstance(expr, Num)


def _significant(tokens: list[str]) -> str:
  return ' '.join(token for token in tokens if token not in ('{', '}', '$'))


def _prompt_tokens(prompt: str) -> list[str]:
  """The prompt in pieces, each of which is read or left out."""
  tokens = []
  for piece in re.split(r'(?<=[.?!,;:])\s+|\n', prompt[:_PROMPT_CHARS]):
    try:
      tokens += [*tokenize(piece), '|']
    except ValueError:
      continue
  return tokens


def _number(word: str) -> Fraction | None:
  try:
    return Fraction(word)
  except ValueError:
    return None
