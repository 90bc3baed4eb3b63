"""Tokens of an answer -> its structure: value with unit, list, set, tuple, interval, matrix, relation or text."""

import dataclasses
import re
from fractions import Fraction

from r1jax.rewards.maths import closed_form, conditions, families, reals, units, vectors
from r1jax.rewards.maths.expr import parse
from r1jax.rewards.maths.names import bare, shared_name
from r1jax.rewards.maths.relations import SIGNS, both_signs, related
from r1jax.rewards.maths.structure import Answer, Many, Relation, Text, Value, by_name
from r1jax.rewards.maths.text import FUNCTIONS, enclosed, split, with_depth
from r1jax.rewards.maths.tree import Expr, Num, Op, Sym, infinite

SEPARATORS = (',', ';', '\\or')
_IN_BASE = re.compile(r'([0-9A-Z]+)_\{?([0-9]+)\}?')
_ROUND = {'\\langle': '(', '\\rangle': ')'}
_BRACKETS = (('(', ')'), ('[', ']'), ('(', ']'), ('[', ')'), ('\\langle', '\\rangle'))
_REALS = frozenset(
  ('全体实数', '所有实数', '一切实数', '任意实数', '实数集', '実数全体', 'すべての実数', '全実数')
)


def read(tokens: list[str]) -> Answer:
  """tokens -> structure; ValueError where they have none."""
  tokens = families.opened(families.without_quantifier(bare(tokens)))
  if not tokens:
    raise ValueError('nothing to read')
  if '"except"' in tokens and (found := _all_but(tokens)):
    return found
  parts = split(tokens, SEPARATORS)
  if len(parts) > 1:
    found = families.read_family(parts, read)
    if found is not None:
      return found[0] if len(found) == 1 else _list(found)
    either = any(token == '\\or' and depth == 0 for token, depth in with_depth(tokens))
    return _list([read(part) for part in shared_name(parts)], either)
  if tokens == ['\\emptyset']:
    return Many('set', ())
  return related(tokens, read) or _union(tokens)


def _all_but(tokens: list[str]) -> Answer | None:
  """'all real numbers except 2'"""
  at = tokens.index('"except"')
  rest = tokens[at + 1 :]
  if not (tokens[:at] == ['\\R'] or _all_reals(tokens[:at])) or not rest:
    return None
  found = read(rest[1:] if rest[0] == '"for"' else rest)
  points = found.items if isinstance(found, Many) and found.kind in ('list', 'set') else (found,)
  if not all(isinstance(point, Value) for point in points):
    return None
  each = [Relation('\\ne', Sym(about or 'x'), p.expr) for p in points for about in (p.name,)]
  return reals.joined(each, either=False)


def prose(tokens: list[str]) -> Text:
  """All of it as text: 'June 20'. Letters side by side are a word, too."""
  words, letters = [], False
  for token in tokens:
    single = len(token) == 1 and token.isalpha()
    word = units.singular(token.strip('"').lower())
    if single and letters:
      words[-1] += word
    else:
      words.append(word)
    letters = single
  return Text(tuple(words))


def _list(items: list[Answer], either: bool = False) -> Answer:
  """Names that differ order a list: (x, y) is meant by `y = 3, x = 2`. Conditions on one number are the numbers."""
  flat = []
  for item in _within_reals(items):
    flat.extend(item.items if isinstance(item, Many) and item.kind == 'list' else [item])
  intervals = all(isinstance(item, Many) and item.kind == 'interval' for item in flat)
  numbers = reals.joined(flat, either or not any(map(reals.about, flat)))
  if numbers is not None:
    return numbers
  if intervals and None in map(reals.spans, flat):
    return Many('union', tuple(flat))
  single = [one for item in flat for one in (item.items if _is_point_by_name(item) else [item])]
  names = [getattr(item, 'name', '') for item in single]
  if all(names) and len({name.split('_')[0] for name in names}) == len(names):
    return by_name(single)
  return Many('list', tuple(flat), 'or' if either else '')


def _within_reals(items: list[Answer]) -> list[Answer]:
  """`x \\in R` beside other conditions on x says nothing."""
  about = {reals.about(item) for item in items}
  rest = [item for item in items if dataclasses.replace(reals.ALL, name=reals.about(item)) != item]
  return rest if rest and len(about) == 1 and '' not in about else items


def _is_point_by_name(item: Answer) -> bool:
  """`x = y = 1`"""
  return (
    isinstance(item, Many)
    and item.kind == 'tuple'
    and all(getattr(one, 'name', '') for one in item.items)
  )


def _union(tokens: list[str]) -> Answer:
  if any(depth == 0 and token in closed_form.SETS for token, depth in with_depth(tokens)):
    return read(closed_form.closed(tokens))
  parts = split(tokens, ('\\cup',))
  return Many('union', tuple(_part(part) for part in parts)) if len(parts) > 1 else _part(tokens)


def _part(tokens: list[str]) -> Answer:
  """A bracketed collection, a ratio, or a leaf."""
  if tokens[0] == '\\R' and (found := reals.named(tokens[1:])):
    return found
  if enclosed(tokens, '\\{', '\\}'):
    return _set(tokens[1:-1])
  if enclosed(tokens, '\\matrix', '\\endmatrix'):
    return _matrix(tokens[1:-1])
  if enclosed(tokens, '\\cases', '\\endcases'):
    return conditions.cases(tokens[1:-1], read, _list)
  for left, right in _BRACKETS:
    if enclosed(tokens, left, right):
      return _bracket(_ROUND.get(left, left), tokens[1:-1], _ROUND.get(right, right))
  if _is_point(tokens):
    return dataclasses.replace(_part(tokens[1:]), name=tokens[0])
  ratio = split(tokens, (':',))
  if len(ratio) > 1:
    return Many('ratio', tuple(_leaf(part) for part in ratio))
  return _signs(tokens)


def _is_point(tokens: list[str]) -> bool:
  """`A(1, 2)`, and not a number that is written so: `C(10, 3)`, `B(2, 3)`."""
  return (
    tokens[0].isalpha()
    and tokens[0].isupper()
    and enclosed(tokens[1:], '(', ')')
    and len(split(tokens[2:-1], (',',))) > 1
    and not (tokens[0] in 'BCP' and all(t.isdigit() for t in tokens[2:-1] if t != ','))
  )


def _set(inner: list[str]) -> Answer:
  """Of what is listed or described; of names with their values, a system."""
  if described := conditions.builder(inner, read):
    return described
  items = []
  for found in (read(part) for part in split(inner, SEPARATORS) if part):
    items += found.items if isinstance(found, Many) and found.kind == 'list' else [found]
  if len(items) > 1 and all(isinstance(item, Value) and item.name for item in items):
    return _list(items)
  return Many('set', tuple(items))


def _bracket(left: str, inner: list[str], right: str) -> Answer:
  if SIGNS & set(inner) and ',' in inner:
    return _list([_bracket(left, version, right) for version in both_signs(inner)])
  items = tuple(read(part) for part in split(inner, (',', ';')))
  if len(items) == 1 and left + right in ('()', '[]'):
    return items[0]
  kind = 'tuple' if left + right == '()' or len(items) != 2 else 'interval'
  endless = any(isinstance(item, Value) and infinite(item.expr) for item in items)
  return Many('interval' if endless and len(items) == 2 else kind, items, left + right)


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
  if not SIGNS & set(tokens):
    return _leaf(tokens)
  return _list([_signs(version) for version in both_signs(tokens)])


def _leaf(tokens: list[str]) -> Answer:
  tokens = bare(tokens)
  if len(tokens) > 3 and (parts := units.in_parts(tokens)):
    return Many('list', tuple(read(part) for part in parts))
  if all(token.startswith('"') for token in tokens) and not (
    len(tokens) == 1 and len(tokens[0]) == 3
  ):
    return reals.ALL if _all_reals(tokens) else prose(tokens)
  if tokens[0] in ('\\triangle', '\\angle') and all(token.isupper() for token in tokens[1:]):
    return prose([tokens[0], f'"{"".join(tokens[1:])}"'])
  in_base = _IN_BASE.fullmatch(''.join(token.strip('"') for token in tokens))
  if in_base and _is_numeral(in_base[1], int(in_base[2][:9])):
    digits = in_base[1]
    expr = Num(Fraction(digits)) if digits.isdigit() else Sym(digits)
    return Value(expr, f'base {in_base[2]}')
  tokens, modulus = _modulus(tokens)
  tokens, unit, scale = units.peel(tokens, any(token[1:] in FUNCTIONS for token in tokens))
  if closed_form.needed(tokens):
    return _worked_out(tokens, unit, modulus)
  percent = bool(tokens) and tokens[-1] == '%'
  expr = parse(tokens[:-1] if percent else tokens)
  if scale != 1:
    expr = Op('mul', (expr, Num(Fraction(scale))))
  if not unit and (components := vectors.components(expr)):
    return Many('tuple', tuple(Value(part) for part in components), '()')
  return Value(expr, unit, percent, modulus)


def _all_reals(tokens: list[str]) -> bool:
  words = [token.strip('"').lower() for token in tokens]
  kinds = {units.singular(word) for word in words} - {'all', 'the', 'any', 'every', 'set', 'of'}
  return (
    kinds == {'real', 'number'}
    or (kinds == {'real'} and words[-1] == 'reals')
    or (len(words) == 1 and words[0] in _REALS)
  )


def _is_numeral(digits: str, base: int) -> bool:
  """Letters are digits above 9, and say that the base is."""
  return (
    digits.isdigit()
    or (digits[0].isdigit() or len(digits) > 1)
    and 10 < base <= 36
    and all(int(digit, 36) < base for digit in digits)
  )


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
