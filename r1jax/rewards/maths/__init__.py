"""Is a mathematical answer right? The last `\\boxed{}`, or else the last `<answer>`, against the reference.

Read by a parser of our own and compared in value (see maths.value): nothing is evaluated that is larger than any answer
needs, so that a check ends at once on almost any text; the pool's budget is for the rest. What it has no word for is
left to math-verify and sympy (see maths.closed_form).
"""

import functools
import re
from collections.abc import Callable

from r1jax.problems.boxed import boxes, last_boxed
from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.maths import closed_form, constants
from r1jax.rewards.maths.answer import prose, read
from r1jax.rewards.maths.match import matches
from r1jax.rewards.maths.question import leaves_work, restates, unnamed
from r1jax.rewards.maths.structure import Answer
from r1jax.rewards.maths.text import tokenize
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict

_BETWEEN = re.compile(r'[\s$.,;]*(?:\\?[,;]|or|and|\\text\s*\{\s*(?:or|and)\s*\})[\s$]*')


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where its answer equals problem.answer. One that only repeats the question is wrong."""
  try:
    gold_tokens, read_as, gold = _reference(problem.answer)
  except (ValueError, ArithmeticError) as error:
    return Verdict(BAD_GOLD, note=f'answer={problem.answer[:80]!r}: {error}')
  text = answer_of(completion)
  if text is None:
    return Verdict(UNPARSEABLE, note='no closed \\boxed{} and no <answer>')
  try:
    tokens = unnamed(tokenize(text), problem.prompt)
    answer = None if gold is None else _read(tokens, read_as)
    if answer is None:
      right = closed_form.agree(gold_tokens, tokens)
    else:
      gold, answer = constants.called_alike(gold, answer, problem.prompt)
      right = matches(gold, answer, in_percent=bool(re.search('percent|%', problem.prompt)))
  except (ValueError, ArithmeticError) as error:
    return Verdict(UNPARSEABLE, text[:200], note=str(error))
  if right and leaves_work(tokens, gold_tokens, problem.prompt):
    return verdict(False, text, 'leaves the work to the reader')
  if right and answer is not None and restates(tokens, answer, gold, problem.prompt):
    return verdict(False, text, 'repeats the question')
  return verdict(right, text)


@functools.lru_cache(maxsize=1024)  # a reference comes with each completion of its group
def _reference(text: str) -> tuple[list[str], Callable, Answer | None]:
  """Its tokens, how answers to it are read, and what it says. Raises ValueError where it cannot be read."""
  tokens = tokenize(_unboxed(text))
  read_as = prose if _is_prose(tokens) else read
  gold = _read(tokens, read_as)
  if gold is None:
    closed_form.readable(tokens)
  return tokens, read_as, gold


def _read(tokens: list[str], read_as) -> Answer | None:
  """None where it has to be left to math-verify. Raises ValueError where that is no use."""
  try:
    return read_as(tokens)
  except (ValueError, ArithmeticError):
    if not closed_form.needed(tokens):
      raise
  return None


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
  text = format.after_thought(completion)
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
