"""Sums and integrals as people write them -> in the one spelling that math-verify reads."""

from r1jax.rewards.maths.text import CLOSE, OPEN, split, with_depth

_UPWARD = {'<': '<', '\\le': '\\le', '>': '<', '\\ge': '\\le'}
_ADDED = ('\\sum', '\\prod')
_MULTIPLE = {'\\iint': 2, '\\iiint': 3}
_AXES = 'xyz'


def plain(tokens: list[str]) -> list[str]:
  """`\\sum_{n \\ge 1}` -> `\\sum_{n = 1}^{\\infty}`; `\\iint` over a box -> integrals in it. Raises ValueError."""
  if _MULTIPLE.keys() & set(tokens):
    tokens = _iterated(tokens)
  found: list[str] = []
  at = 0
  while at < len(tokens):
    found.append(tokens[at])
    at += 1
    if found[-1] not in _ADDED or tokens[at : at + 2] != ['_', '{']:
      continue
    end = _closing(tokens, at + 1)
    inner = tokens[at + 2 : end]
    if _UPWARD.keys() & set(inner) and tokens[end + 1 : end + 2] != ['^']:
      found += _bounds(inner)
      at = end + 1
  return found


def _closing(tokens: list[str], at: int) -> int:
  """Where the bracket at `at` closes."""
  depth = 0
  for end in range(at, len(tokens)):
    depth += (tokens[end] in OPEN) - (tokens[end] in CLOSE)
    if depth == 0:
      return end
  raise ValueError('a bracket is not closed')


def _bounds(tokens: list[str]) -> list[str]:
  """`1 \\le k < n` -> `_{k = 1}^{n - 1}`: bounds are integers, and the lower one is there."""
  parts = split(tokens, _UPWARD)
  ops = [token for token in tokens if token in _UPWARD]
  if len({_UPWARD[op] == op for op in ops}) != 1 or len(parts) != len(ops) + 1:
    raise ValueError('cannot read what is below the sign')
  if ops[0] in ('>', '\\ge'):
    parts, ops = parts[::-1], [_UPWARD[op] for op in ops[::-1]]
  if len(parts) == 2:
    parts, ops = [*parts, ['\\infty']], [*ops, '\\le']
  if len(parts) != 3:
    raise ValueError('cannot read what is below the sign')
  low, name, high = parts
  if len(name) != 1 or not name[0].isalpha() or not (_whole(low) and _whole(high)):
    raise ValueError('cannot read what is below the sign')
  if ops[0] == '<':
    low = [*low, '+', '1']
  if ops[1] == '<':
    high = [*high, '-', '1']
  return ['_', '{', *name, '=', *low, '}', '^', '{', *high, '}']


def _whole(tokens: list[str]) -> bool:
  return all(
    t.isdigit() or t in ('+', '-', '\\infty') or (t.isalpha() and len(t) == 1) for t in tokens
  )


def _iterated(tokens: list[str]) -> list[str]:
  """\\iint over a box, as in `\\iint_{[0,1]^2} x\\,dx\\,dy`, or with nothing below: bounds may follow."""
  at = next(i for i, token in enumerate(tokens) if token in _MULTIPLE)
  times, rest = _MULTIPLE[tokens[at]], tokens[at + 1 :]
  if rest[:2] != ['_', '{']:
    return [*tokens[:at], *['\\int'] * times, *rest]
  end = _closing(rest, 1)
  sides = _box(rest[2:end], times)
  names = _AXES[:times]
  integrand, order = _integrand(rest[end + 1 :], names)
  signs = []
  for name in order[::-1]:  # the last sign belongs to the first differential
    low, high = sides[names.index(name)]
    signs += ['\\int', '_', '{', *low, '}', '^', '{', *high, '}']
  return [*tokens[:at], *signs, *integrand, *(token for name in order for token in ('d', name))]


def _box(tokens: list[str], times: int) -> list[tuple[list[str], list[str]]]:
  """`[0,1] \\times [0,2]`, `[0,1]^2` -> its sides."""
  if tokens[-4:-1] == ['^', '{', str(times)]:
    tokens = tokens[:-4]
    factors = [tokens] * times
  else:
    factors = split(tokens, ('*',))
  sides = [
    split(factor[1:-1], (',',)) for factor in factors if factor[:1] + factor[-1:] == ['[', ']']
  ]
  if len(sides) != times or any(len(side) != 2 for side in sides):
    raise ValueError('cannot read the region of an integral')
  return [(low, high) for low, high in sides]


def _integrand(tokens: list[str], names: str) -> tuple[list[str], str]:
  """`x y d y d x` -> (`x y`, 'yx'); dA and dV are in any order."""
  if any(token in (*_MULTIPLE, '\\int', '=') for token, _ in with_depth(tokens)):
    raise ValueError('more than one integral')
  if tokens[-2:] in (['d', 'A'], ['d', 'V']):
    return tokens[:-2], names
  count = 2 * len(names)
  tail = tokens[-count:]
  if tail[::2] != ['d'] * len(names) or sorted(tail[1::2]) != sorted(names):
    raise ValueError('an integral without its variables')
  return tokens[:-count], ''.join(tail[1::2])
