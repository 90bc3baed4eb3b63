"""`x = k\\pi, k \\in Z`: the values of an expression for each value of an index."""

from fractions import Fraction

from r1jax.rewards.maths.reals import about
from r1jax.rewards.maths.structure import Answer, Many, Relation, Text, Value
from r1jax.rewards.maths.text import CLOSE, OPEN, with_depth
from r1jax.rewards.maths.tree import Expr, Num, Op, Sym
from r1jax.rewards.maths.value import is_integer, same, sign, substitute, variables

_INDEX = Sym('#')
_LEAD = frozenset(('"where"', '"for"', '"with"', '"any"', '"all"', '"some"', '"每"', '"其中"'))
_POSITIVE = frozenset(('N^*', 'N_+', 'N^+', 'Z^+', 'Z_+', 'N_*', 'Z_>0', 'N^\\star'))
_INTEGER = frozenset(
  ('integer', 'integers', '为整数', 'は整数', '整数', 'は任意の整数', '是整数', '为任意整数')
)
_REAL = frozenset(
  (
    'real', 'reals', 'constant', 'constants', '为常数', '为任意常数', 'は定数', 'は任意定数', '为任意实数',
  )
)  # fmt: skip
_FROM_THE_START = tuple([op, n] for op, n in (('\\ge', '0'), ('\\ge', '1'), ('>', '0')))
_SAID = frozenset(
  ('is', 'are', 'a', 'an', 'any', 'some', 'all', 'every', 'arbitrary', 'number', 'numbers')
)
_DOMAINS = frozenset(('Z', 'N', 'N+', 'Q', '\\R', 'C'))


def index_of(tokens: list[str]) -> tuple[str, str] | None:
  """`k \\in Z`, `where k is an integer` -> ('k', 'Z'); None for what says nothing of the kind."""
  while tokens and tokens[0] in _LEAD:
    tokens = tokens[1:]
  if described := _described(tokens):
    return described
  if len(tokens) < 2 or not tokens[0].isalpha():
    return None
  name, rest = tokens[0], tokens[1:]
  if rest[0] != '\\in':
    return None
  domain = ''.join(token.strip('"') for token in rest[1:] if token not in ('{', '}'))
  domain = 'N+' if domain in _POSITIVE else domain
  return (name, domain) if domain in _DOMAINS else None


def _described(tokens: list[str]) -> tuple[str, str] | None:
  """`k is an integer`, `any real constant c`: a letter and words, none of which says anything else."""
  letters = [at for at, token in enumerate(tokens) if not token.startswith('"')]
  names = [tokens[at] for at in letters if at in (0, len(tokens) - 1)]
  articles = [tokens[at] for at in letters if 0 < at < len(tokens) - 1]
  if len(names) != 1 or not names[0].isalpha() or articles not in ([], ['a'], ['a', 'n']):
    return None
  words = {token.strip('"').lower() for token in tokens if token.startswith('"')} - _SAID
  if words and words <= _INTEGER:
    return names[0], 'Z'
  if len(words) == 2 and words & _INTEGER and 'positive' in words:
    return names[0], 'N+'
  return (names[0], '\\R') if words and words <= _REAL else None


def opened(tokens: list[str]) -> list[str]:
  """`k\\pi (k \\in Z)` -> `k\\pi, k \\in Z`."""
  for at, (token, depth) in enumerate(with_depth(tokens)):
    if at and not depth and token in _LEAD and tokens[at - 1] != ',' and index_of(tokens[at:]):
      return [*tokens[:at], ',', *tokens[at:]]
  if tokens[-1:] != [')']:
    return tokens
  depth = 0
  for at in range(len(tokens) - 1, -1, -1):
    depth += (tokens[at] in CLOSE) - (tokens[at] in OPEN)
    if depth == 0:
      break
  inner = tokens[at + 1 : -1]
  return [*tokens[:at], ',', *inner] if at and index_of(inner) else tokens


def without_quantifier(tokens: list[str]) -> list[str]:
  """`f(x) = x for all x \\in R` -> `f(x) = x`."""
  for at in range(1, len(tokens) - 1):
    if tokens[at] == '\\forall' or tokens[at : at + 2] in (
      ['"for"', '"all"'],
      ['"for"', '"every"'],
    ):
      rest = [token for token in tokens[at + 1 :] if token not in ('"all"', '"every"', '"real"')]
      plain = rest[0].isalpha() and len(rest) == 1
      plain = plain or (rest[0] in ('n', 'm', 'k') and rest[1:] in _FROM_THE_START)
      end = at - (tokens[at - 1] == ',')
      return tokens[:end] if plain or index_of(rest) else tokens
  return tokens


def read_family(parts: list[list[str]], read) -> list[Answer] | None:
  """Parts of a list, the last of which may say what an index of the others is."""
  found = index_of(parts[-1])
  if found is None or len(parts) < 2:
    return None
  families = [family(read(part), *found) for part in parts[:-1]]
  return None if None in families else families


def family(item: Answer, index: str, domain: str) -> Many | None:
  """None where the index is not in it."""
  if isinstance(item, Many) and item.kind == 'list':
    all_of = [family(one, index, domain) for one in item.items]
    return None if None in all_of else Many('list', tuple(all_of))
  found = _exprs(item)
  if found is None or not any(index in variables(expr) for expr in found[1]):
    return None
  return Many('family', (item, Text((index, domain))), name=about(item))


def _exprs(item: Answer) -> tuple[tuple, list[Expr]] | None:
  """What is written around its expressions, and these: of a value, an interval or a point, or `x \\ne k`."""
  if isinstance(item, Value):
    return (item.unit, item.percent, item.modulus), [item.expr]
  if isinstance(item, Relation) and item.op == '\\ne' and about(item):
    return ('\\ne', item.left), [item.right]
  if isinstance(item, Many) and item.kind in ('interval', 'tuple'):
    parts = [_exprs(part) for part in item.items]
    if None not in parts:
      around = (item.brackets, *(shape for shape, _ in parts))
      return around, [expr for _, exprs in parts for expr in exprs]
  return None


def same_family(gold: Many, answer: Many) -> bool:
  """However the index is called; if it is any integer, wherever it starts and in whichever direction."""
  (left, right), (index, other) = zip(gold.items, answer.items)
  (shape, exprs), (around, others) = _exprs(left), _exprs(right)
  domain = index.words[1]
  if shape != around or domain != other.words[1] or len(exprs) != len(others):
    return False
  exprs = [substitute(expr, {index.words[0]: _INDEX}) for expr in exprs]
  others = [substitute(expr, {other.words[0]: _INDEX}) for expr in others]
  return all(map(same, exprs, others)) or (domain == 'Z' and _same_steps(exprs, others))


def _same_steps(exprs: list[Expr], others: list[Expr]) -> bool:
  """Is each a_0 + k a_1, and b_0 + (n + k) b_1 or b_0 + (n - k) b_1 for one integer n?"""
  lines = [(_line(a), _line(b)) for a, b in zip(exprs, others)]
  if any(None in pair for pair in lines):
    return False
  (start, step), (first, first_step) = lines[0]
  try:
    if sign(first_step) == 0:
      return False
    shift = Op('div', (Op('sub', (start, first)), first_step))
    if not is_integer(shift):
      return False
  except ValueError:
    return False
  turned = not same(step, first_step)
  return all(
    same(a[1], Op('neg', (b[1],)) if turned else b[1])
    and same(Op('sub', (a[0], b[0])), Op('mul', (shift, b[1])))
    for a, b in lines
  )


def _line(node: Expr) -> tuple[Expr, Expr] | None:
  start, after = (substitute(node, {'#': Num(Fraction(n))}) for n in (0, 1))
  step = Op('sub', (after, start))
  line = Op('add', (start, Op('mul', (_INDEX, step))))
  return (start, step) if same(node, line) else None


def family_of(head: list[str], conditions: list[list[str]], read) -> Answer | None:
  """Of `{x | x = k\\pi, k \\in Z}` or `{k\\pi | k \\in Z}`; None for anything else."""
  found = index_of(conditions[-1])
  if found is None:
    return None
  if len(conditions) == 1:
    return family(read(head), *found)
  item = read(conditions[0]) if len(conditions) == 2 else None
  return family(item, *found) if item and [about(item)] == head else None
