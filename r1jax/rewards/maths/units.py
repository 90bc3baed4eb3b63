"""Units and other words behind a number, each in one spelling, and how many of one are another."""

from fractions import Fraction

SIGNS = {
  '"dollar"': 'dollar',
  '"euro"': 'euro',
  '"pound"': 'pound',
  '"yen"': 'yen',
  '"rupee"': 'rupee',
}
SCALES = {
  'hundred': 100, 'thousand': 10**3, 'million': 10**6, 'billion': 10**9, 'trillion': 10**12, 'dozen': 12,
  '万': 10**4, '億': 10**8, '亿': 10**8,
}  # fmt: skip
_SPELLINGS = {
  'mm': 'millimeter millimetre 毫米',
  'cm': 'centimeter centimetre 厘米',
  'm': 'meter metre 米',
  'km': 'kilometer kilometre 公里 千米',
  'inch': 'inches',
  'foot': 'ft feet',
  'yard': 'yd',
  'mile': 'mi',
  'mg': 'milligram',
  'g': 'gram 克',
  'kg': 'kilogram 千克 公斤',
  'lb': 'pound-mass',
  'ml': 'milliliter millilitre',
  'l': 'liter litre 升',
  'second': 'sec s 秒',
  'minute': 'min 分钟',
  'hour': 'hr h 小时 時間',
  'day': '天 日',
  'week': '周 週間',
  'month': '',
  'year': 'yr 年',
  'degree': 'deg 度',
  'radian': 'rad',
  'cent': '',
  'dollar': 'usd',
  'euro': 'eur',
  'pound': '',
  'yen': '円',
  'yuan': '元',
  'rupee': '',
  'newton': '',
  'joule': '',
  'watt': '',
  'degreec': '',
  'degreef': '',
}
_SIZES = {  # in what the others of their kind are measured in
  'mm': ('m', Fraction(1, 1000)), 'cm': ('m', Fraction(1, 100)), 'm': ('m', Fraction(1)), 'km': ('m', Fraction(1000)),
  'inch': ('inch', Fraction(1)), 'foot': ('inch', Fraction(12)), 'yard': ('inch', Fraction(36)),
  'mile': ('inch', Fraction(63360)), 'mg': ('g', Fraction(1, 1000)), 'g': ('g', Fraction(1)),
  'kg': ('g', Fraction(1000)), 'ml': ('l', Fraction(1, 1000)), 'l': ('l', Fraction(1)),
  'second': ('second', Fraction(1)), 'minute': ('second', Fraction(60)), 'hour': ('second', Fraction(3600)),
  'day': ('second', Fraction(86400)), 'week': ('second', Fraction(604800)), 'cent': ('dollar', Fraction(1, 100)),
  'dollar': ('dollar', Fraction(1)), 'month': ('year', Fraction(1, 12)), 'year': ('year', Fraction(1)),
}  # fmt: skip
# No measures, but one says the opposite of another.
_SIDES = frozenset(
  (
    'am', 'pm', 'north', 'south', 'east', 'west', 'left', 'right', 'up', 'down', 'ad', 'bc', 'ce', 'bce', 'profit',
    'loss', 'gain', 'increase', 'decrease', 'clockwise', 'counterclockwise', 'above', 'below', 'male', 'female',
    'boy', 'girl',
  )
)  # fmt: skip
_KNOWN = {name: unit for unit, names in _SPELLINGS.items() for name in (unit, *names.split())}
_CHINESE_POWERS = {'平方': '^2', '立方': '^3'}
_POWERS = {'square': '^2', 'sq': '^2', 'cubic': '^3', 'squared': '^2', 'cubed': '^3'}
_MARKS = frozenset(('/', '^', '{', '}', '2', '3', '-', '1', '.', '*'))
_NO_UNIT = frozenset(
  (
    'not', 'is', 'isn', 'less', 'more', 'least', 'most', 'about', 'if', 'but', 'than', 'to', 'wrong', 'incorrect',
    'maybe', 'either', 'plus', 'minus', 'times', 'half', 'except', 'with', 'where', 'when', 'unless', 'instead',
  )
)  # fmt: skip
_NEGATED = ('ない', 'ません', '不', '非', '没', '错', '誤')
_MAX_WORDS = 4


def singular(word: str) -> str:
  """'ways' -> 'way'; short words and those in -ss stay."""
  return word[:-1] if len(word) > 3 and word.endswith('s') and not word.endswith('ss') else word


def peel(tokens: list[str], has_function: bool) -> tuple[list[str], str, int]:
  """tokens of a value -> (those of the number, its unit in one spelling, the scale of a word like 'million').

  A degree stays with a function: `\\sin 30^\\circ`. Raises ValueError where words are no unit.
  """
  tokens = _without_brackets(tokens)
  sign = tokens[0] if tokens and tokens[0] in SIGNS else ''
  rest = tokens[1:] if sign else tokens
  start = next((at for at, token in enumerate(rest) if at and _is_word(token)), len(rest))
  tail = rest[start:]
  if has_function or any(not _is_word(token) and token not in _MARKS for token in tail):
    return _letters(rest) if tail else (rest, SIGNS.get(sign, ''), 1)
  words = [token.strip('"').lower() for token in tail]
  if sum(map(_is_word, tail)) > _MAX_WORDS or any(map(denies, words)):
    raise ValueError(f'not a unit: {" ".join(words)}')
  scale = 1
  while words and singular(words[0]) in SCALES:
    scale *= SCALES[singular(words.pop(0))]
  sides = ''.join(f'*{singular(word)}' for word in words if singular(word) in _SIDES)
  words = [word for word in words if singular(word) not in _SIDES]
  return rest[:start], (SIGNS.get(sign, '') or _spelling(words)) + sides, scale


def _without_brackets(tokens: list[str]) -> list[str]:
  """`42 (square units)`"""
  if tokens[-1:] != [')'] or '(' not in tokens[1:]:
    return tokens
  at = len(tokens) - 1 - tokens[::-1].index('(')
  return [*tokens[:at], *tokens[at + 1 : -1]] if all(map(_is_word, tokens[at + 1 : -1])) else tokens


def denies(word: str) -> bool:
  """'5 is wrong', and not '5 different ways'."""
  return word in _NO_UNIT or any(mark in word.replace('不同', '') for mark in _NEGATED)


def _is_word(token: str) -> bool:
  return token.startswith('"')


def _letters(tokens: list[str]) -> tuple[list[str], str, int]:
  """`20 "degree" C`; anything else is for the parser of expressions to judge."""
  if tokens[-1] in ('C', 'F') and tokens[-2] == '"degree"':
    return tokens[:-2], f'degree{tokens[-1].lower()}', 1
  return tokens, '', 1


def _spelling(words: list[str]) -> str:
  """['square', 'centimeters'] -> 'cm^2'."""
  unit, power = '', ''
  for word in words:
    name = singular(word)
    if word in _POWERS and not unit:
      power = _POWERS[word]
    elif word in _POWERS:
      unit += _POWERS[word]
    elif word == 'per':
      unit += '/'
    elif word == 'mph':
      unit += 'mile/hour'
    elif word[:2] in _CHINESE_POWERS and word[2:] in _KNOWN:
      unit += _KNOWN[word[2:]] + _CHINESE_POWERS[word[:2]]
    elif word not in ('{', '}', '.'):
      unit += _KNOWN.get(word, _KNOWN.get(name, name)) + power
      power = ''
  return unit


def measure(unit: str) -> str:
  """'mile*north' -> 'mile'"""
  return '*'.join(part for part in unit.split('*') if part not in _SIDES)


def factor(unit: str, other: str) -> Fraction | None:
  """How many of the unit one of the other is: a minute 60 seconds. 1 where nothing is known of them, and None for two
  measures that have nothing to do with each other, or two sides: north is not south.
  """
  sides = [[part for part in one.split('*') if part in _SIDES] for one in (unit, other)]
  if all(sides) and sides[0] != sides[1]:
    return None
  measures = [measure(one) for one in (unit, other)]
  if measures[0] == measures[1] or not all(map(known, measures)):
    return Fraction(1)
  (kind, size), (other_kind, other_size) = map(_size, measures)
  return other_size / size if kind and kind == other_kind else None


def _size(unit: str) -> tuple[str, Fraction]:
  """'km/hour' -> ('m/second', 1000/3600); ('', 1) for what is not to be converted."""
  kinds, size = [], Fraction(1)
  for at, part in enumerate(unit.split('/')):
    name, _, power = part.partition('^')
    if name not in _SIZES or not power.isdigit() and power:
      return '', Fraction(1)
    kind, of_one = _SIZES[name]
    kinds.append(kind + '^' * bool(power) + power)
    size *= of_one ** (int(power[:1] or 1) * (-1 if at else 1))
  return '/'.join(kinds), size


def in_parts(tokens: list[str]) -> list[list[str]] | None:
  """`2 "hours" 30 "minutes"` -> both of them."""
  parts = [tokens[at : at + 2] for at in range(0, len(tokens), 2)]
  if any(len(part) < 2 or not part[0][0].isdigit() for part in parts):
    return None
  sizes = [_SIZES.get(_spelling([part[1].strip('"').lower()])) for part in parts]
  return None if None in sizes or not _descend(sizes) else parts


def _descend(sizes: list[tuple[str, Fraction]]) -> bool:
  """Of one kind, each smaller than the one before it."""
  return all(a[0] == b[0] and a[1] > b[1] for a, b in zip(sizes, sizes[1:]))


def whole(parts: list[tuple[Fraction, str]]) -> Fraction | None:
  """(2, 'hour'), (30, 'minute') -> 2.5, in the first unit; None for what is not one quantity."""
  sizes = [_SIZES.get(unit, ('', Fraction(0))) for _, unit in parts]
  if not (all(kind for kind, _ in sizes) and _descend(sizes)):
    return None
  for (_, larger), (number, _), (_, size) in zip(sizes, parts[1:], sizes[1:]):
    if not 0 <= number * size < larger:
      return None
  return (
    sum((number * size for (number, _), (_, size) in zip(parts, sizes)), Fraction(0)) / sizes[0][1]
  )


def known(unit: str) -> bool:
  """Made of measures only, or a base? 'apple' and 'way' are not, and say nothing against another word."""
  return (
    unit.startswith('base ')
    or bool(unit)
    and all(part.split('^')[0] in _KNOWN for part in unit.replace('*', '/').split('/'))
  )
