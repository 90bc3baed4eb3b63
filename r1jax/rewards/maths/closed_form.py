"""Sums, products, integrals, limits, derivatives, matrices to be multiplied, intersections -> what they come to.

Read by math-verify and worked out by sympy, with nothing of their time-outs: the pool's budget ends what takes long.
They get our tokens, which are in one spelling, and are asked for nothing that they are known to misread: 5!!, decimals
as floats, `A` as `a`, a one-sided limit for a two-sided one, an index in a subscript.
"""

import contextlib
import functools
import logging
import string
from collections.abc import Sequence

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.function import UndefinedFunction
from sympy.logic.boolalg import BooleanAtom

from r1jax.rewards.maths.operators import plain
from r1jax.rewards.maths.text import SPECIAL, tokenize, with_depth

SETS = frozenset(('\\cap', '\\setminus'))
_BOUND = frozenset(
  ('\\sum', '\\prod', '\\int', '\\lim', '\\iint', '\\iiint')
)  # by an index of their own
OPERATORS = SETS | _BOUND | {'\\det'}
_UNDONE = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
_WRITTEN = (  # what the answer's parser reads as sympy writes it
  sympy.Add, sympy.Mul, sympy.Pow, sympy.Number, sympy.Symbol, sympy.exp, sympy.log, sympy.factorial, sympy.binomial,
  sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.MatrixBase, sympy.FiniteSet, sympy.Interval,
  sympy.Union, sympy.Tuple, sympy.sin, sympy.cos, sympy.tan, sympy.asin, sympy.acos, sympy.atan, sympy.sinh,
  sympy.cosh, sympy.tanh, sympy.zeta, sympy.gamma, sympy.erf, BooleanAtom,
)  # fmt: skip
_TAKES = ('\\frac', '\\sqrt', '\\binom')
_COUNTING = (sympy.Sum, sympy.Product)
_APART = frozenset(('=', '<', '>', ',', ';', ':', '%', '&', '\\or'))  # outside of brackets
_CONSTANTS = (sympy.pi, sympy.E, sympy.oo, -sympy.oo, sympy.S.EmptySet)
_READABLE = OPERATORS | frozenset(
  (
    '\\frac', '\\sqrt', '\\binom', '\\infty', '\\pi', '\\rightarrow', '\\lfloor', '\\rfloor', '\\lceil', '\\rceil',
    '\\{', '\\}', '\\\\', '\\matrix', '\\endmatrix', '\\cup', '\\sin', '\\cos', '\\tan', '\\arcsin', '\\arccos',
    '\\arctan', '\\sinh', '\\cosh', '\\tanh', '\\log', '\\ln', '\\exp', '\\max', '\\min', '\\gcd', '\\lcm', '\\top',
    '\\alpha', '\\beta', '\\gamma', '\\theta', '\\lambda', '\\mu', '\\emptyset', '\\R',
  )
)  # fmt: skip
_SPELLING = {
  '\\rightarrow': '\\to', '\\matrix': '\\begin{pmatrix}', '\\endmatrix': '\\end{pmatrix}', '*': '\\cdot',
  '\\top': 'T', '\\R': '\\mathbb{R}',
}  # fmt: skip
_GREEK = ('\\xi', '\\eta', '\\kappa', '\\nu', '\\rho', '\\tau', '\\omega', '\\psi', '\\phi')
_CONFIG = LatexExtractionConfig(
  boxed_match_priority=0, normalization_config=NormalizationConfig(boxed='last')
)

logging.getLogger('math_verify').setLevel(logging.ERROR)  # warns of a missing time-out


def needed(tokens: list[str]) -> bool:
  """Is there anything that has to be worked out first?"""
  return bool((OPERATORS | {'\\matrix'}) & set(tokens)) or _derives(tokens)


def undone(tokens: list[str]) -> bool:
  """Does it leave the work to the reader?"""
  pairs = list(zip(tokens, tokens[1:]))
  operators = OPERATORS & set(tokens)
  if all(a in ('\\R', 'R') for a, b in pairs if b == '\\setminus'):
    operators -= {'\\setminus'}  # `R \\setminus \\{0\\}` is as good as a union
  special = any(a[1:] in SPECIAL and b in ('(', '_') for a, b in pairs)
  of_many = {'\\max', '\\min', '\\gcd', '\\lcm'} & set(tokens)
  return bool(operators or special or of_many) or _derives(tokens)


def closed(tokens: list[str]) -> list[str]:
  """tokens -> those of the value, in which no operator is left. Raises ValueError where there is none."""
  tokens = plain(tokens)
  names = _renamed(tokens)
  with _unreadable():
    found = _value(tuple(tokens), names)
    for node in sympy.preorder_traversal(found):
      if not (isinstance(node, _WRITTEN) or node in _CONSTANTS) or node is sympy.nan:
        raise ValueError(f'no closed form: {type(node).__name__} is left')
    written = tokenize(sympy.latex(found, ln_notation=True, inv_trig_style='full'))
  back = {greek: letter for letter, greek in names}
  return [back.get(token, token) for token in written]


def readable(tokens: list[str]) -> None:
  """Raises ValueError where math-verify cannot read them."""
  with _unreadable():
    tokens = plain(tokens)
    _value(tuple(tokens), _renamed(tokens))


def agree(gold: list[str], answer: list[str]) -> bool:
  """Are both the same to math-verify, and to sympy, though one has no closed form? Raises ValueError where one cannot
  be read. Math-verify's own tolerance (1e-15) is not enough: what is left of the difference has to be zero.
  """
  gold, answer = plain(gold), plain(answer)
  names = _renamed([*gold, *answer])
  with _unreadable():
    left, right = (_value(tuple(tokens), names) for tokens in (gold, answer))
    if left == right or left.dummy_eq(right):
      return True
    if all(isinstance(x, sympy.Expr) and not x.is_Matrix for x in (left, right)):
      return sympy.simplify(left - right) == 0 and verify(left, right, timeout_seconds=None)
    if not all(isinstance(x, sympy.Set) for x in (left, right)):
      return False
    same = left.symmetric_difference(right).is_empty is True
    return same and verify(left, right, timeout_seconds=None)


@contextlib.contextmanager
def _unreadable():
  """Whatever sympy raises, RecursionError and MemoryError among it, as ValueError."""
  try:
    yield
  except (ValueError, ArithmeticError):
    raise
  except Exception as error:
    raise ValueError(f'cannot work it out: {error!r:.80}') from error


def _derives(tokens: Sequence[str]) -> bool:
  """\\frac{d}{dx}"""
  text = ' '.join(tokens)
  return '\\frac { d } { d ' in text or '\\frac d { d ' in text


def _has_differentials(tokens: Sequence[str]) -> bool:
  return '\\int' in tokens or _derives(tokens)


def _renamed(tokens: list[str]) -> tuple[tuple[str, str], ...]:
  """Each capital with a Greek letter in its place, since math-verify takes A for a; d, too, where it is a variable."""
  capitals = [token for token in dict.fromkeys(tokens) if token in string.ascii_uppercase]
  kept = ('RZNQC' if SETS & set(tokens) else '') + ('T' if '\\matrix' in tokens else '')
  capitals = [letter for letter in capitals if letter not in kept]
  if 'd' in tokens and not _has_differentials(tokens):
    capitals.append('d')
  free = [letter for letter in _GREEK if letter not in tokens]
  if len(capitals) > len(free):
    raise ValueError('more capitals than any answer has')
  return tuple(zip(capitals, free))


@functools.lru_cache(maxsize=256)  # a reference comes with each completion of its group
def _value(tokens: tuple[str, ...], names: tuple) -> sympy.Basic:
  """tokens -> what they come to, as far as sympy can tell."""
  return _worked_out(_read(tokens, dict(names)), one_sided=_one_sided(tokens))


def _read(tokens: tuple[str, ...], names: dict[str, str]) -> sympy.Basic:
  """tokens -> what they say, not worked out. Raises ValueError."""
  _check(tokens)
  found = parse(
    f'\\boxed{{{_latex(tokens, names)}}}', [_CONFIG], fallback_mode='no_fallback', extraction_mode='first_match',
    parsing_timeout=None,
  )  # fmt: skip
  if len(found) != 1 or not isinstance(found[0], sympy.Basic | sympy.MatrixBase):
    raise ValueError('math-verify cannot read it')
  if any(isinstance(f.func, UndefinedFunction) for f in found[0].atoms(sympy.Function)):
    raise ValueError('a function that nobody has defined')
  return found[0]


def _latex(tokens: tuple[str, ...], names: dict[str, str]) -> str:
  """LaTeX that math-verify reads as it is meant."""
  words = []
  differentials = _has_differentials(tokens)
  for last, before, token in zip(['', '', *tokens], ['', *tokens], tokens):
    if before == 'd' and differentials and token.isalpha():
      words[-1] += token  # dx is one word
    elif before == '\\frac' and token.isdigit() and len(token) == 2:
      words.append(f'{{{token[0]}}}{{{token[1]}}}')
    elif _is_argument(last, before, token):
      words.append(f'{{{names.get(token, _SPELLING.get(token, token))}}}')
    elif token in ('R', 'Z', 'N', 'Q', 'C') and SETS & set(tokens):
      words.append(f'\\mathbb{{{token}}}')
    elif '.' in token and token[-1].isdigit():
      whole, _, places = token.partition('.')
      words.append(f'\\frac{{{whole + places}}}{{{10 ** len(places)}}}')
    else:
      words.append(names.get(token, _SPELLING.get(token, token)))
  return ' '.join(words).replace(' ^ ', '^')  # ^ {T} is a power, ^{T} transposes


def _is_argument(last: str, before: str, token: str) -> bool:
  """Without the braces that math-verify may need."""
  if token == '{':
    return False
  bare = last == '\\frac' and len(before) == 1 and before != '{'
  return before in ('\\frac', '^') or bare


def _check(tokens: tuple[str, ...]) -> None:
  """Raises ValueError for what may mean two things, or means another one to math-verify."""
  for last, before, token, after in zip(
    ['', '', *tokens], ['', *tokens], tokens, [*tokens[1:], '']
  ):
    if token[0] == '"' or (len(token) > 1 and token[0] == '\\' and token not in _READABLE):
      raise ValueError(f'cannot read {token}')
    if token == '!' and (before in ('!', '}') or last == '^' or after == '!'):
      raise ValueError('cannot read this factorial')
    if token == '_' and before not in (*_BOUND, '\\log'):
      raise ValueError('cannot read an index')
    if token[0].isdigit() and (before[:1].isdigit() or (before == '\\sqrt' and len(token) > 1)):
      raise ValueError('two numbers side by side')
    if before == '\\frac' and (token in _TAKES or token.isdigit() and len(token) > 2):
      raise ValueError('a fraction without braces')
  if any(token in _APART and depth == 0 for token, depth in with_depth(tokens)):
    raise ValueError('more than one thing')
  pairs = list(zip(tokens, [*tokens[1:], '']))
  bound = [second for first, second in pairs if first in _BOUND]
  if any(second != '_' for second in bound):
    raise ValueError('an operator without bounds')
  if sum(a == 'd' and b.isalpha() for a, b in pairs) < tokens.count('\\int'):
    raise ValueError('an integral without its variable')
  if 'i' in tokens and '_ { i =' not in ' '.join(tokens):
    raise ValueError('cannot read i beside an operator')


def _one_sided(tokens: tuple[str, ...]) -> bool:
  text = ' '.join(tokens)
  return any(mark in text for mark in ('^ { + }', '^ { - }', '^ + }', '^ - }'))


def _worked_out(found: sympy.Basic, one_sided: bool) -> sympy.Basic:
  """Sums to n are to a positive integer. Raises ValueError where an index is used outside of what it counts."""
  operators = found.atoms(*_UNDONE) if isinstance(found, sympy.Basic) else set()
  for node in operators:
    if found.free_symbols & set(_indices(node)):
      raise ValueError('an index is used outside')
  limits = {s for node in operators if isinstance(node, _COUNTING) for s in _limit_symbols(node)}
  whole = {s: sympy.Symbol(s.name, integer=True, positive=True) for s in limits}
  found = found.subs(whole) if whole else found
  if not one_sided:
    found = found.replace(sympy.Limit, _two_sided)
  found = found.replace(_is_matrix_power, _matrix_power)
  found = found.doit()
  if isinstance(found, sympy.MatrixBase):
    found = found.as_immutable()
  found = found.replace(sympy.Piecewise, _where_it_is_done)
  return found.subs({new: old for old, new in whole.items()}) if whole else found


def _indices(node: sympy.Basic) -> tuple:
  if isinstance(node, sympy.Derivative):
    return ()
  return (node.args[1],) if isinstance(node, sympy.Limit) else tuple(node.variables)


def _limit_symbols(node: sympy.Basic) -> set:
  bounds = (bound for limit in node.limits for bound in limit[1:])
  return set().union(*(bound.free_symbols for bound in bounds)) - set(node.variables)


def _two_sided(expr, x, to, direction) -> sympy.Limit:
  """Math-verify takes the limit from above, which may exist where the limit does not."""
  return sympy.Limit(expr, x, to, '+-' if to.is_finite is not False else direction)


def _is_matrix_power(node: sympy.Basic) -> bool:
  return isinstance(node, sympy.Pow) and isinstance(node.base, sympy.MatrixBase)


def _matrix_power(node: sympy.Pow) -> sympy.MatrixBase:
  if not node.exp.is_Integer:
    raise ValueError('a matrix to the power of what is no integer')
  return node.base**node.exp


def _where_it_is_done(*branches) -> sympy.Basic:
  """A sum where it converges: the only branch of which nothing is left to do."""
  done = [value for value, _ in branches if not value.has(*_UNDONE)]
  return done[0] if len(done) == 1 else sympy.Piecewise(*branches)
