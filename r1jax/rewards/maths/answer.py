"""Tokens of an answer -> its structure: value with unit, list, set, tuple, interval, matrix, relation or text."""

import dataclasses
import re
from fractions import Fraction

from r1jax.rewards.maths import closed_form, conditions, units
from r1jax.rewards.maths.expr import CONSTANTS, Expr, Num, Op, Sym, parse, walk
from r1jax.rewards.maths.structure import Answer, Many, Relation, Text, Value
from r1jax.rewards.maths.text import FUNCTIONS, enclosed, split, with_depth

_RELATIONS = frozenset(('=', '<', '>', '\\le', '\\ge', '\\ne', '\\equiv', '\\approx'))
_FLIPPED = {'>': '<', '\\ge': '\\le'}
_IN_BASE = re.compile(r'([0-9]+)_\{?([0-9]+)\}?')
_ROUND = {'\\langle': '(', '\\rangle': ')'}
_LEADING = frozenset(
  (
    'the', 'answer', 'final', 'is', 'are', 'so', 'therefore', 'thus', 'result', 'hence', 'solution', 'solutions',
    'value', 'of', '答案', '答案是', '答案为', '答え', '答', '答えは', '解',
  )
)  # fmt: skip


def read(tokens: list[str]) -> Answer:
  """tokens -> structure; ValueError where they have none."""
  tokens = _bare(tokens)
  if not tokens:
    raise ValueError('nothing to read')
  parts = split(tokens, (',', ';'))
  if len(parts) > 1:
    return _list([read(part) for part in _shared_name(parts)])
  if tokens == ['\\emptyset']:
    return Many('set', ())
  return _related(tokens)


def prose(tokens: list[str]) -> Text:
  """All of it as text: 'June 20'."""
  return Text(tuple(units.singular(token.strip('"').lower()) for token in tokens))


def _bare(tokens: list[str]) -> list[str]:
  """Without what leads to an answer: 'The answer is', 'Area =', 'Answer:', and brackets around all."""
  words = 0
  while words < len(tokens) and tokens[words].startswith('"') and tokens[words] not in units.SIGNS:
    words += 1
  if words == len(tokens):
    return tokens
  rest = tokens[words:]
  if words and rest[0] in (':', '='):
    return _bare(rest[1:])
  if words and all(word.strip('"').lower() in _LEADING for word in tokens[:words]):
    return _bare(rest)
  if enclosed(tokens, '{', '}'):
    return _bare(tokens[1:-1])
  return tokens


def _shared_name(parts: list[list[str]]) -> list[list[str]]:
  """`n = 2, 3, 4` names all of them."""
  head = split(parts[0], ('=',))
  if (
    len(head) == 2
    and _name(head[0]) is not None
    and not any(_RELATIONS & set(part) for part in parts[1:])
  ):
    return [head[1], *parts[1:]]
  return parts


def _list(items: list[Answer]) -> Answer:
  """Names that differ order a list: (x, y) is meant by `y = 3, x = 2`."""
  flat = []
  for item in items:
    flat.extend(item.items if isinstance(item, Many) and item.kind == 'list' else [item])
  if all(isinstance(item, Many) and item.kind == 'interval' for item in flat):
    return Many('union', tuple(flat))
  names = [getattr(item, 'name', '') for item in flat]
  if all(names) and len({name.split('_')[0] for name in names}) == len(names):
    ordered = sorted(flat, key=lambda item: item.name)
    return Many('tuple', tuple(ordered), '()', ','.join(sorted(names)))
  return Many('list', tuple(flat))


def _related(tokens: list[str]) -> Answer:
  """A relation, `x \\in S`, or no relation."""
  if any(token == '\\in' and depth == 0 for token, depth in with_depth(tokens)):
    name, *rest = split(tokens, ('\\in',))
    if _name(name) is None or len(rest) != 1:
      raise ValueError('cannot read what stands beside \\in')
    return read(rest[0])
  exact, *rounded = split(tokens, ('\\approx',))
  if rounded and _name(exact) is None:
    return _related(exact)  # what it is about is not the answer
  parts = split(tokens, _RELATIONS)
  ops = [token for token, depth in with_depth(tokens) if depth == 0 and token in _RELATIONS]
  if not ops:
    return _union(tokens)
  if len(parts) != len(ops) + 1:
    raise ValueError('a side of a relation is missing')
  if set(ops) <= {'=', '\\equiv', '\\approx'}:
    return _equation(parts)
  return _inequality(parts, ops)


def _equation(parts: list[list[str]]) -> Answer:
  name = _name(parts[0])
  if name is not None:
    values = [read(part) for part in parts[1:]]
    found = values[0] if len(values) == 1 else Many('chain', tuple(values))
    return dataclasses.replace(found, name=name) if isinstance(found, Value | Many) else found
  sides = [_side(part) for part in parts]
  if len(sides) == 2 and any(_has_variable(side) for side in sides):
    return Relation('=', sides[0].expr, sides[1].expr)
  return Many('chain', tuple(sides))


def _side(tokens: list[str]) -> Value:
  found = _leaf(tokens)
  if not isinstance(found, Value):
    raise ValueError('no value beside a relation')
  return found


def _has_variable(side: Value) -> bool:
  return any(isinstance(n, Sym) and n.name not in CONSTANTS.values() for n in walk(side.expr))


def _name(tokens: list[str]) -> str | None:
  """What an answer is given a name by: x, x_1 ('x_1'), (x, y) ('x,y'); f(x), AB, \\angle A, words (''). Else None."""
  plain = [token for token in tokens if token not in ('{', '}', '\\angle', '\\triangle', '|')]
  if not plain:
    return None
  if all(token.startswith('"') for token in plain):
    return ''
  if (
    len(plain) == 1
    and (plain[0].isalpha() or plain[0].startswith('\\'))
    and plain[0] not in ('\\pi', 'e', 'i')
  ):
    return plain[0]
  if len(plain) == 3 and plain[1] == '_' and plain[0].isalpha():
    return ''.join(plain)
  if (
    len(plain) > 3
    and plain[0].isalpha()
    and plain[1] == '('
    and all(t.isalpha() for t in plain[2:-1] if t != ',')
  ):
    return ''
  if (
    enclosed(plain, '(', ')')
    and all(token.isalpha() for token in plain[1:-1:2])
    and set(plain[2:-1:2]) == {','}
  ):
    return ''.join(plain[1:-1])
  return '' if all(token.isalpha() and token.isupper() for token in plain) else None


def _inequality(parts: list[list[str]], ops: list[str]) -> Answer:
  """Bounds of one variable are an interval."""
  sides = [_side(part).expr for part in parts]
  if all(op in _FLIPPED for op in ops):
    sides, ops = sides[::-1], [_FLIPPED[op] for op in ops[::-1]]
  if len(ops) == 1 and ops[0] in ('<', '\\le'):
    infinity = Sym('infinity')
    if isinstance(sides[0], Sym):
      sides, ops = [Op('neg', (infinity,)), *sides], ['<', *ops]
    elif isinstance(sides[1], Sym):
      sides, ops = [*sides, infinity], [*ops, '<']
  if len(ops) == 2 and set(ops) <= {'<', '\\le'} and isinstance(sides[1], Sym):
    brackets = ('(' if ops[0] == '<' else '[') + (')' if ops[1] == '<' else ']')
    return Many('interval', (Value(sides[0]), Value(sides[2])), brackets, sides[1].name)
  if len(ops) != 1:
    raise ValueError('cannot read this chain of relations')
  return Relation(ops[0], sides[0], sides[1])


def _union(tokens: list[str]) -> Answer:
  if any(depth == 0 and token in closed_form.SETS for token, depth in with_depth(tokens)):
    return read(closed_form.closed(tokens))
  parts = split(tokens, ('\\cup',))
  return Many('union', tuple(_part(part) for part in parts)) if len(parts) > 1 else _part(tokens)


def _part(tokens: list[str]) -> Answer:
  """A bracketed collection, a ratio, or a leaf."""
  if enclosed(tokens, '\\{', '\\}'):
    inner = tokens[1:-1]
    if described := conditions.builder(inner, read):
      return described
    return (
      Many('set', tuple(read(part) for part in split(inner, (',', ';'))))
      if inner
      else Many('set', ())
    )
  if enclosed(tokens, '\\matrix', '\\endmatrix'):
    return _matrix(tokens[1:-1])
  if enclosed(tokens, '\\cases', '\\endcases'):
    return conditions.cases(tokens[1:-1], read, _list)
  for left, right in (('(', ')'), ('[', ']'), ('(', ']'), ('[', ')'), ('\\langle', '\\rangle')):
    if enclosed(tokens, left, right):
      return _bracket(_ROUND.get(left, left), tokens[1:-1], _ROUND.get(right, right))
  ratio = split(tokens, (':',))
  if len(ratio) > 1:
    return Many('ratio', tuple(_leaf(part) for part in ratio))
  return _signs(tokens)


def _bracket(left: str, inner: list[str], right: str) -> Answer:
  items = tuple(read(part) for part in split(inner, (',', ';')))
  if len(items) == 1 and left + right in ('()', '[]'):
    return items[0]
  kind = 'tuple' if left + right == '()' or len(items) != 2 else 'interval'
  infinite = len(items) == 2 and any(_infinite(item) for item in items)
  return Many('interval' if infinite else kind, items, left + right)


def _infinite(item: Answer) -> bool:
  return isinstance(item, Value) and Sym('infinity') in walk(item.expr)


def _matrix(tokens: list[str]) -> Answer:
  """A column is a vector."""
  rows = [tuple(read(cell) for cell in split(row, ('&',))) for row in split(tokens, ('\\\\',))]
  if len({len(row) for row in rows}) != 1:
    raise ValueError('a matrix with rows of different lengths')
  if len(rows[0]) == 1 and len(rows) > 1:
    return Many('tuple', tuple(row[0] for row in rows), '()')
  return Many('matrix', tuple(Many('tuple', row, '()') for row in rows))


def _signs(tokens: list[str]) -> Answer:
  """`1 \\pm 2` is the list of both."""
  if not {'\\pm', '\\mp'} & set(tokens):
    return _leaf(tokens)
  if tokens.count('\\pm') + tokens.count('\\mp') > 4:
    raise ValueError('more signs \\pm than any answer has')
  at = next(i for i, token in enumerate(tokens) if token in ('\\pm', '\\mp'))
  both = [_flip(tokens, at, sign) for sign in '+-']
  return _list([_signs(version) for version in both])


def _flip(tokens: list[str], at: int, sign: str) -> list[str]:
  """The sign in place of \\pm, and where there is \\mp, in all places together."""
  if '\\mp' not in tokens:
    return [*tokens[:at], sign, *tokens[at + 1 :]]
  signs = {'\\pm': sign, '\\mp': {'+': '-', '-': '+'}[sign]}
  return [signs.get(token, token) for token in tokens]


def _leaf(tokens: list[str]) -> Answer:
  tokens = _bare(tokens)
  if all(token.startswith('"') for token in tokens) and not (
    len(tokens) == 1 and len(tokens[0]) == 3
  ):
    return prose(tokens)
  in_base = _IN_BASE.fullmatch(''.join(tokens))
  if in_base:
    return Value(Num(Fraction(in_base[1])), f'base {in_base[2]}')
  tokens, modulus = _modulus(tokens)
  tokens, unit, scale = units.peel(tokens, any(token[1:] in FUNCTIONS for token in tokens))
  if closed_form.needed(tokens):
    return _worked_out(tokens, unit, modulus)
  percent = bool(tokens) and tokens[-1] == '%'
  expr = parse(tokens[:-1] if percent else tokens)
  if scale != 1:
    expr = Op('mul', (expr, Num(Fraction(scale))))
  return Value(expr, unit, percent, modulus)


def _worked_out(tokens: list[str], unit: str, modulus: Expr | None) -> Answer:
  found = read(closed_form.closed(tokens))
  if isinstance(found, Value):
    return dataclasses.replace(found, unit=unit, modulus=modulus)
  if unit or modulus:
    raise ValueError('a unit of what is no number')
  return found


def _modulus(tokens: list[str]) -> tuple[list[str], Expr | None]:
  """`3 \\pmod 7`, `3 (mod 7)` -> (3, 7)."""
  if '\\pmod' not in tokens:
    return tokens, None
  at = tokens.index('\\pmod')
  before, after = tokens[:at], tokens[at + 1 :]
  if before and before[-1] == '(' and after[-1:] == [')']:
    before, after = before[:-1], after[:-1]
  return before, parse(after)
