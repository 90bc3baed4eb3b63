"""What stands before an answer: words that lead to it, and what it is the value of."""

from r1jax.rewards.maths import units
from r1jax.rewards.maths.text import enclosed, split

RELATIONS = frozenset(('=', '<', '>', '\\le', '\\ge', '\\ne', '\\equiv', '\\approx'))
_NO_NAMES = frozenset(('\\pi', 'e', 'i', '\\R', '\\infty'))
_LEADING = frozenset(
  (
    'the', 'answer', 'final', 'is', 'are', 'so', 'therefore', 'thus', 'result', 'hence', 'solution', 'solutions',
    'value', 'of', 'point', 'points', '答案', '答え', '答', '解', '点',
  )
)  # fmt: skip
_COPULAS = ('是', '为', '為', 'は')
_NEGATIONS = ('不', '非', '没', '未', '勿')


def bare(tokens: list[str]) -> list[str]:
  """Without what leads to an answer: 'The answer is', 'Area =', 'Answer:', and brackets around all."""
  words = 0
  while words < len(tokens) and tokens[words].startswith('"') and tokens[words] not in units.SIGNS:
    words += 1
  if words == len(tokens):
    return tokens
  rest = tokens[words:]
  if words and rest[0] in (':', '='):
    return bare(rest[1:])
  if words and all(_leads(word.strip('"').lower()) for word in tokens[:words]):
    return bare(rest)
  if enclosed(tokens, '{', '}'):
    return bare(tokens[1:-1])
  return tokens


def _leads(word: str) -> bool:
  """'面积为' is '(its) area is'."""
  stated = word.endswith(_COPULAS) and not any(negation in word for negation in _NEGATIONS)
  return word in _LEADING or stated


def name_of(tokens: list[str]) -> str | None:
  """What an answer is given a name by: x, x_1 ('x_1'), (x, y) ('x,y'); f(x), AB, \\angle A, words (''). Else None."""
  if tokens[:2] == ['m', '\\angle']:
    tokens = tokens[1:]
  plain = [token for token in tokens if token not in ('{', '}', '\\angle', '\\triangle', '|')]
  if not plain:
    return None
  if all(token.startswith('"') for token in plain):
    return ''
  if len(plain) == 1 and _is_letter(plain[0]):
    return plain[0]
  if len(plain) > 2 and plain[1] == '_' and _is_letter(plain[0]):
    index = [token.strip('"') for token in plain[2:]]
    return ''.join((*plain[:2], *index)) if len(index) == 1 or ''.join(index).isalpha() else None
  if _is_function(plain) or _is_derivative(plain) or _is_quantity(plain):
    return ''
  if (
    enclosed(plain, '(', ')')
    and all(_is_letter(token) for token in plain[1:-1:2])
    and set(plain[2:-1:2]) == {','}
  ):
    return ''.join(plain[1:-1])
  return '' if all(token.isalpha() and token.isupper() for token in plain) else None


def _is_letter(token: str) -> bool:
  return (token.isalpha() or token.startswith('\\')) and token not in _NO_NAMES


def _is_function(tokens: list[str]) -> bool:
  """f(x), P(A, B), f'(x), f^{-1}(x); the braces are gone."""
  rest = tokens[1:]
  for mark in (["'"], ["'", "'"], ['^', '-', '1']):
    if rest[: len(mark)] == mark and rest[len(mark) :][:1] == ['(']:
      rest = rest[len(mark) :]
  return (
    tokens[0].isalpha()
    and len(rest) > 2
    and enclosed(rest, '(', ')')
    and all(token.isalpha() for token in rest[1:-1] if token != ',')
  )


def _is_derivative(tokens: list[str]) -> bool:
  """y', dy/dx, d/dx f(x), \\nabla f; the braces are gone."""
  rest = [token for token in tokens[1:] if token != "'"]
  if tokens[0] == '\\frac':
    d = '\\partial' if '\\partial' in rest else 'd'
    letters = [t for t in rest if t not in (d, '^', '(', ')') and not t.isdigit()]
    return (
      rest[:1] == [d] and rest.count(d) > 1 and len(letters) > 1 and all(map(_is_letter, letters))
    )
  if tokens[0] == '\\nabla':
    return len(rest) == 1 and _is_letter(rest[0]) or _is_function(rest)
  return _is_letter(tokens[0]) and not rest and len(tokens) > 1


def _is_quantity(tokens: list[str]) -> bool:
  """P(X = 2), E[X], Var(X), rank A: of which the value is given."""
  head, rest = tokens[0], tokens[1:]
  word = head.startswith('"') and len(head) > 3 and not units.denies(head.strip('"').lower())
  if any(enclosed(rest, *ends) for ends in (('(', ')'), ('[', ']'))):
    inner = [token for token in rest[1:-1] if token != ',']
    return head in 'PE' and len(head) == 1 or word and all(map(_is_letter, inner))
  return word and len(rest) == 1 and rest[0].isalpha() and rest[0].isupper()


def shared_name(parts: list[list[str]]) -> list[list[str]]:
  """`n = 2, 3, 4` names all of them, and `x \\ne 2, 3` is said of both."""
  head, beside = split(parts[0], ('=',)), split(parts[0], ('\\ne',))
  plain = not any((RELATIONS | {'\\in'}) & set(part) for part in parts[1:])
  if len(beside) == 2 and plain and name_of(beside[0]) is not None:
    return [parts[0], *([*beside[0], '\\ne', *part] for part in parts[1:])]
  if len(head) == 2 and name_of(head[0]) is not None and plain:
    return [head[1], *parts[1:]]
  return parts
