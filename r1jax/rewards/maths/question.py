"""Is an answer no more than the question? What it says is compared with the prompt's own words and numbers."""

import re
from fractions import Fraction

from r1jax.rewards.maths import closed_form
from r1jax.rewards.maths.exact import exact
from r1jax.rewards.maths.names import RELATIONS, name_of
from r1jax.rewards.maths.structure import Answer, Many, Value
from r1jax.rewards.maths.text import split, tokenize
from r1jax.rewards.maths.tree import Num, Op, walk

_PROMPT_CHARS = 20_000
_FREE = frozenset((0, 1, 2))  # numbers that are in any question
_MATRIX = re.compile(r'\\det|matrix|matrices|determinant|行列', re.IGNORECASE)
_BARS = re.compile(r'\||\\[lr]?vert|\\mid|absolute')
_CALCULATES = RELATIONS | {'+', '-', '*', '/', '^', '_', '!', ':', '\\frac', '\\in'}


def leaves_work(tokens: list[str], gold: list[str], prompt: str) -> bool:
  """Is an answer with a sum, integral or the like still to be worked out no more than the question, which has all of
  its numbers but 0, 1 and 2? Where the reference is written so, it may be. A determinant is the answer's own work
  where the question speaks of no matrix.
  """
  if _unsolved(tokens, gold, prompt):
    return True
  last = split(tokens, ('=', '\\approx'))[-1]
  if not closed_form.undone(last) or closed_form.undone(gold):
    return False
  own = '\\det' in last and not closed_form.undone([t for t in last if t != '\\det'])
  if own and not _MATRIX.search(prompt):
    return False
  words = _significant(_prompt_tokens(prompt))
  known = {*_FREE, *(_number(word) for word in words.split())}
  return _numbers(last) <= known


def _unsolved(tokens: list[str], gold: list[str], prompt: str) -> bool:
  """An inequality between bars for a question that has one, and a reference that has none."""
  relations = (RELATIONS - {'='}) & set(tokens)
  return bool('|' in tokens and relations and '|' not in gold and _BARS.search(prompt))


def unnamed(tokens: list[str], prompt: str) -> list[str]:
  """`a+b = 7` -> 7 where `a+b` is what the prompt asks for: it is there, and nowhere said to be anything."""
  head, *rest = split(tokens, ('=',))
  if not rest or len(head) < 2 or name_of(head) is not None:
    return tokens
  words, asked = _significant(_prompt_tokens(prompt)).split(), _significant(head).split()
  found = [at for at in range(len(words)) if words[at : at + len(asked)] == asked]
  around = {
    word
    for at in found
    for word in (*words[max(at - 1, 0) : at], *words[at + len(asked) : at + len(asked) + 1])
  }
  if not found or _CALCULATES & around:
    return tokens
  return tokens[len(head) + 1 :]


def letters_of(prompt: str) -> set[str]:
  """What the prompt calls something by: `x`, `C`, `C_1`."""
  words = _significant(_prompt_tokens(prompt)).split()
  indexed = {''.join(words[at - 1 : at + 2]) for at, word in enumerate(words) if word == '_' and at}
  return {*words, *indexed}


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


def _numbers(tokens: list[str]) -> set[Fraction]:
  """`\\frac12` has two."""
  words = []
  for before, token in zip(['', *tokens], tokens):
    words += list(token) if before == '\\frac' and token.isdigit() else [token]
  return {_number(word) for word in words} - {None}


def _number(word: str) -> Fraction | None:
  try:
    return Fraction(word)
  except ValueError:
    return None
