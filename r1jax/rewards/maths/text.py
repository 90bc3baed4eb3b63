"""What people and models write for an answer -> tokens of LaTeX with one spelling for each thing.

A token is a number, a letter, a command (`\\frac`), a mark, or words in quotes (`"cm"`): text, a unit, a label.
"""

import re
import unicodedata

from r1jax.rewards.maths import notation

# Far above any answer; they bound the work for any text.
MAX_CHARS = 1000
MAX_DEPTH = 40

FUNCTIONS = frozenset(
  (
    'sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'arcsin', 'arccos', 'arctan', 'arccot', 'arcsec', 'arccsc', 'sinh',
    'cosh', 'tanh', 'coth', 'sech', 'csch', 'arcsinh', 'arccosh', 'arctanh', 'log', 'lg', 'ln', 'exp', 'sgn', 'cis',
  )
)  # fmt: skip
SPECIAL = frozenset(
  ('zeta', 'Gamma', 'erf', 'erfc', 'Li')
)  # in front of a bracket, or else letters
OPEN = frozenset(('(', '[', '{', '\\{', '\\lfloor', '\\lceil', '\\langle', '\\matrix', '\\cases'))
CLOSE = frozenset(
  (')', ']', '}', '\\}', '\\rfloor', '\\rceil', '\\rangle', '\\endmatrix', '\\endcases')
)

_SUPERSCRIPT = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ', '0123456789-+n')
_CHARS = {
  '−': '-', '–': '-', '—': '-', '⁄': '/', '∕': '/', '÷': '/', '×': '*', '·': '*', '⋅': '*', '∗': '*',
  '≤': r'\le ', '≥': r'\ge ', '≠': r'\ne ', '≡': r'\equiv ', '≈': r'\approx ', '∞': r'\infty ', '∪': r'\cup ',
  '∈': r'\in ', '±': r'\pm ', '∓': r'\mp ', '√': r'\sqrt ', '°': '"degree"', 'π': r'\pi ', '∠': r'\angle ',
  'θ': r'\theta ', 'α': r'\alpha ', 'β': r'\beta ', 'λ': r'\lambda ', '∅': r'\emptyset ', '、': ',', '。': '.',
  '〜': '~', '€': '"euro"', '£': '"pound"', '¥': '"yen"', '₹': '"rupee"', '¢': '"cent"', '⟨': r'\langle ',
  '∩': r'\cap ', '∖': r'\setminus ', '∑': r'\sum ', '∏': r'\prod ', '∫': r'\int ', '→': r'\rightarrow ',
  '∬': r'\iint ', '∭': r'\iiint ', '∧': ',', '∨': r'\or ', 'ζ': r'\zeta ', 'Γ': r'\Gamma ', '…': r'\ldots ',
  '⟩': r'\rangle ', '“': ' ', '”': ' ', '`': ' ', '"': ' ',
}  # fmt: skip
_SAME = {
  'dfrac': 'frac', 'tfrac': 'frac', 'cfrac': 'frac', 'leq': 'le', 'leqslant': 'le', 'geq': 'ge', 'geqslant': 'ge',
  'lt': '<', 'gt': '>', 'neq': 'ne', 'cdot': '*', 'times': '*', 'ast': '*', 'div': '/', 'lbrace': '{', 'rbrace': '}',
  'lbrack': '[', 'rbrack': ']', 'varnothing': 'emptyset', 'mod': 'pmod', 'bmod': 'pmod', 'dbinom': 'binom',
  'tbinom': 'binom', 'lvert': '|', 'rvert': '|', 'vert': '|', 'mid': '|', 'to': 'rightarrow', 'colon': ':',
  'backslash': 'setminus', 'smallsetminus': 'setminus', 'intercal': 'top', 'transpose': 'top', 'lor': 'or',
  'vee': 'or', 'land': ',', 'wedge': ',', 'tg': 'tan', 'ctg': 'cot', 'arctg': 'arctan', 'arcctg': 'arccot',
  'cosec': 'csc', 'arsinh': 'arcsinh', 'arcosh': 'arccosh', 'artanh': 'arctanh', 'sign': 'sgn', 'dots': 'ldots',
  'cdots': 'ldots',
}  # fmt: skip
_MARKS = frozenset('<>*/[]|:,')
_REWRITES = tuple(
  (re.compile(pattern), new)
  for pattern, new in (
    (r'\\!\s*', ''),
    (r'\\\$', '"dollar"'),
    (r'&\s*=\s*&?|=\s*&', '='),
    (r'\\left\s*\\\{\s*\\begin\{(?:array|aligned|matrix|split)\}(?:\{[lcr| ]*\})?', r' \\cases '),
    (r'\\end\{(?:array|aligned|matrix|split)\}\s*\\right\s*\.', r' \\endcases '),
    (r'\\(?:left|right)\s*\.', ' '),
    (r'\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|quad|qquad)(?![a-zA-Z])', ' '),
    (r'(?<!\\)\\[,;: ]|~', ' '),
    (r'\{,\}', ','),
    (r'\\begin\{(?:[pb]|small)?(?:matrix|array)\}(?:\{[lcr| ]*\})?', r' \\matrix '),
    (r'\\end\{(?:[pb]|small)?(?:matrix|array)\}', r' \\endmatrix '),
    (r'\\begin\{vmatrix\}', r' \\det \\matrix '),
    (r'\\end\{vmatrix\}', r' \\endmatrix '),
    (r'\\begin\{cases\}', r' \\cases '),
    (r'\\end\{cases\}', r' \\endcases '),
    (r'\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![a-zA-Z])', ' "degree" '),
    (r'\\%', '%'),
    (r'\*\*', '^'),
    (r'(?<![a-zA-Z\\"])([A-Z][a-z]{2})(?=\s+\d)', r'"\1"'),  # May 5
    (r'(?<!\\)\\[()\[\]]', ' '),
    (r'(?<=\s)!=', r'\\ne '),  # 5!=120 is a factorial
    (r'<=', r'\\le '),
    (r'>=', r'\\ge '),
    (r'\\mathbb\s*\{?\s*R\s*\}?|(?<=\\in)\s*R(?![a-zA-Z])', r' \\R '),
    (r'\\mathbb\s*([A-Z])', r' \1 '),
    (r'-\s*(?=\\\{)', r' \\setminus '),
    (r'\\(?:mathbf|mathbb|mathcal|boldsymbol|vec|hat)\s*\{([a-zA-Z])\}', r' \1 '),
    (r'\\(?:overrightarrow|vec)\s*\{\s*([A-Z]{2})\s*\}', r' \\vec\1 '),
    (r'\\overline\s*\{\s*([A-Z]{2,})\s*\}', r' \1 '),  # a segment; of one letter, a conjugate
    (r'(?<=\d:\d\d)\s*([aApP])\.?\s?[mM](?![a-zA-Z])\.?', r' "\1m" '),
    (r'"([aApP])"\s*\.\s*"[mM]"\s*\.?', r' "\1m" '),
    (r'(?<=\d)[eE](?=[+-]?\d)\+?(-?\d+)', r'*10^{\1}'),
    (r'\^\s*(-?\d+)', r'^{\1}'),
    (r'(?<![\d.^_])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])', r'\1\\frac{\2}{\3}'),
  )
)
_TEXT = re.compile(
  r'\\(?:text(?:bf|it|rm|sf|normal)?|mathrm|mathbf(?!\s*\{[a-zA-Z]\})|mathsf|mbox|hbox|operatorname)\s*\{([^{}]*)\}'
)
_NAMES = '|'.join(
  sorted((*FUNCTIONS, *SPECIAL, 'tg', 'ctg', 'arctg', 'arcctg'), key=len, reverse=True)
)
_OPERATOR = re.compile(
  rf'\\operatorname\*?\s*\{{(sign|max|min|gcd|lcm|det|{_NAMES})\}}'
  rf'|\\(?:text|mathrm)\s*\{{({_NAMES})\}}(?=\s*[\^_(]|\s*\\left)'
)
_ENDLESS = re.compile(r'(\d*)\.(\d*?)(\d+?)\3{2,}\s*(?:\\l?dots|\.\.\.)')
_REPEATING = re.compile(r'(\d*)\.(\d*)\\overline\s*\{(\d+)\}')
_THOUSANDS = re.compile(r'(?<![\d.,])\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,]\d|\d)')
_NUMBER = re.compile(r'-?[0-9]+(?:\.[0-9]+)?')
_TOKEN = re.compile(
  r'"[^"]*"|\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\.\d+|[A-Za-z]+|[^\W\d_A-Za-z]+|\S', re.DOTALL
)
_SHORT_WORDS = frozenset(
  (
    'yes', 'no', 'odd', 'the', 'is', 'are', 'not', 'all', 'none', 'dne', 'cm', 'mm', 'km', 'kg', 'mg', 'ml',
    'ft', 'mph', 'sq', 'in', 'of', 'per', 'day', 'hr', 'min', 'sec', 'lb', 'way', 'so',
  )
)  # fmt: skip
_OR = frozenset(('or', '或', '或者', '又は', 'または'))
_AND = frozenset(('and', '和', '及', '且', 'かつ'))


def tokenize(text: str) -> list[str]:
  """'$x = \\dfrac12$' -> ['x', '=', '\\frac', '1', '2']; ValueError for a text that no answer needs."""
  if len(text) > MAX_CHARS:
    raise ValueError(f'longer than {MAX_CHARS} characters')
  tokens = [token for raw in _TOKEN.findall(_clean(text)) for token in _expand(raw)]
  depth = deepest = 0
  for token in tokens:
    depth += (token in OPEN) - (token in CLOSE)
    deepest = max(deepest, depth)
    if depth < 0:
      raise ValueError(f'{token} closes nothing')
  if depth:
    raise ValueError('a bracket is not closed')
  if deepest > MAX_DEPTH:
    raise ValueError(f'brackets nested deeper than {MAX_DEPTH}')
  return tokens


def enclosed(tokens: list[str], left: str, right: str) -> bool:
  """One bracket from the first token to the last?"""
  if len(tokens) < 2 or tokens[0] != left or tokens[-1] != right:
    return False
  depth = 0
  for at, token in enumerate(tokens):
    depth += (token in OPEN) - (token in CLOSE)
    if depth == 0:
      return at == len(tokens) - 1
  return False


def split(tokens: list[str], marks) -> list[list[str]]:
  """tokens -> the parts between the marks that stand outside of brackets; empty ones are left out."""
  parts, depth = [[]], 0
  for token in tokens:
    depth += (token in OPEN) - (token in CLOSE)
    if depth == 0 and token in marks:
      parts.append([])
    else:
      parts[-1].append(token)
  return [part for part in parts if part or len(parts) == 1]


def with_depth(tokens: list[str]):
  depth = 0
  for token in tokens:
    depth += (token in OPEN) - (token in CLOSE)
    yield token, depth


def _clean(text: str) -> str:
  if _NUMBER.fullmatch(text):  # most answers are
    return text
  text = re.sub('[⁰¹²³⁴-⁹⁻⁺ⁿ]+', lambda m: '^{' + m[0].translate(_SUPERSCRIPT) + '}', text)
  text = re.sub('[¼-¾⅐-⅞]', _vulgar, text)
  text = unicodedata.normalize('NFKC', notation.numbered(text))
  text = ''.join(_CHARS.get(c, c) for c in text)
  text = _OPERATOR.sub(r'\\\1\2 ', notation.usual(text))
  text = _TEXT.sub(lambda m: re.sub(r'[a-zA-Z]+', r'"\g<0>"', m[1].join('  ')), text)
  text = notation.usual_words(text)
  for pattern, new in _REWRITES:
    text = pattern.sub(new, text)
  text = text.replace('$', ' "dollar" ' if text.count('$') == 1 else ' ')
  text = _REPEATING.sub(_repeating, _ENDLESS.sub(r'\1.\2\\overline{\3}', text))
  text = _THOUSANDS.sub(_thousands, text)
  return text.strip().rstrip('.;,: \n') if not text.rstrip().endswith('...') else text


def _vulgar(match: re.Match) -> str:
  top, bottom = unicodedata.normalize('NFKC', match[0]).split('⁄')
  return rf'\frac{{{top}}}{{{bottom}}}'


def _repeating(match: re.Match) -> str:
  """0.1\\overline{6} is (16 - 1) / 90."""
  whole, fixed, cycle = match.groups()
  top = int(whole + fixed + cycle) - int(whole + fixed or 0)
  return rf'(\frac{{{top}}}{{{"9" * len(cycle) + "0" * len(fixed)}}})'


def _thousands(match: re.Match) -> str:
  """Inside a bracket commas separate: (1,234) is a point."""
  before = match.string[: match.start()]
  inside = sum(before.count(c) for c in ('(', '[', r'\{')) - sum(
    before.count(c) for c in (')', ']', r'\}')
  )
  return match[0] if inside > 0 else re.sub('[ ,]', '', match[0])


def _expand(raw: str) -> list[str]:
  """A raw token -> tokens: letters are symbols unless they spell a function or a word."""
  if raw.startswith('\\') and raw[1:].isalpha():
    name = _SAME.get(raw[1:], raw[1:])
    if raw[1:] in ('lbrace', 'rbrace'):
      return ['\\' + name]
    return [name if name in _MARKS else '\\' + name]
  word = raw.strip('"').lower()
  if word in _OR:
    return ['\\or']
  if word in _AND:
    return [',']
  if word == 'mod':
    return ['\\pmod']
  if word in ('percent', 'percentage', 'pct'):
    return ['%']
  if not raw[0].isalpha():
    return [raw]
  if word in FUNCTIONS or word in ('sqrt', 'pi', 'frac', 'max', 'gcd', 'lcm', 'det', 'erf', 'zeta'):
    return ['\\' + word]
  if word in ('infinity', 'inf', 'infty'):
    return ['\\infty']
  if not raw.isascii() or len(raw) > 3 or word in _SHORT_WORDS:
    return [f'"{raw}"']
  return list(raw)
