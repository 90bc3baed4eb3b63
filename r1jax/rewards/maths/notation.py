"""Notation that only some people use -> the LaTeX that the others write, before it is cut into tokens."""

import re
import unicodedata

_VECTORS = r'\\(?:mathbf|boldsymbol|bm|vec|hat)'
_UNIT_VECTOR = re.compile(
  rf'{_VECTORS}\s*\{{\s*{_VECTORS}\s*\{{\s*\\?([ijk])(?:math)?\s*\}}\s*\}}'
  rf'|{_VECTORS}\s*\{{\s*\\?([ijk])(?:math)?\s*\}}|{_VECTORS}\s+([ijk])(?![a-zA-Z])'
)
_ALONE = r'(?<![a-zA-Z\\_^])'
_ALL, _SOME = (
  rf'(?:(?P<{name}>\d)|\{{\s*(?P<{name}_>\d{{1,3}})\s*\}})' for name in ('all', 'some')
)
_CHOICES = tuple(
  re.compile(pattern)
  for pattern in (
    rf'{_ALONE}(?P<kind>[CAP])_{_ALL}\s*\^\s*{_SOME}',
    rf'{_ALONE}(?P<kind>[CAP])\^{_SOME}\s*_\s*{_ALL}',
    rf'(?:^|(?<=[=+*(/-])|(?<=\\cdot)|(?<=\\times)|\{{\s*\}})\s*[_^]{_ALL}\s*(?P<kind>[CP])_{_SOME}',
    rf'{_ALONE}(?P<kind>[CP])\(\s*(?P<all>\d{{1,3}})\s*,\s*(?P<some>\d{{1,3}})\s*\)',
  )
)
_CHOOSE = re.compile(r'\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}')
_DOTTED = re.compile(r'(?<=\.)(\d*)\\dot\s*\{?\s*(\d)\s*\}?(?:(\d*)\\dot\s*\{?\s*(\d)\s*\}?)?')
_BASES = {
  'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6, 'seven': 7, 'eight': 8, 'nine': 9, 'ten': 10, 'eleven': 11,
  'twelve': 12, 'sixteen': 16,
}  # fmt: skip
_IN_BASE = re.compile(rf'(?<=[\dA-F])_\s*\{{?\s*"({"|".join(_BASES)})"\s*\}}?')
_ORDINAL = r'\s*"(?:st|nd|rd|th)"\s*'
_FEWEST = 4  # of which some are chosen: C_1^2 and C_2^2 are squares of constants

_LATIN = re.compile(r'\\(?:mathrm|mathit)\s*\{\s*([eid])\s*\}')
_CIRCLED = re.compile('[①-⑨]{2,}')
_BOLD = re.compile(r'\s*\*\*([^*]+)\*\*\s*')
_REWRITES = tuple(
  (re.compile(pattern), new)
  for pattern, new in (
    (rf'(?<=\d)\s*\^\s*\{{{_ORDINAL}\}}|(?<=\d)\s*\^?{_ORDINAL}(?![/^])', ' '),
    (r'\\[dt]?frac\s*\{\s*("[^{}\\]*")\s*\}\s*\{\s*("[^{}\\]*")\s*\}', r'\1/\2'),  # km over h
  )
)


def numbered(text: str) -> str:
  """'①③' -> '1, 3'"""
  return _CIRCLED.sub(
    lambda m: ', '.join(unicodedata.normalize('NFKC', m[0])) if len(m[0]) < 10 else m[0], text
  )


def usual(text: str) -> str:
  """What is still LaTeX: `C_{10}^3`, `{10 \\choose 3}`, `0.\\dot{3}`, `\\mathbf{i} + 2\\mathbf{j}`, `**5**`."""
  if bold := _BOLD.fullmatch(text):
    text = bold[1]
  if '\\' in text:
    text = _LATIN.sub(r' \1 ', text)
    vectors = {match[1] or match[2] or match[3] for match in _UNIT_VECTOR.finditer(text)}
    if vectors - {'i'}:  # alone, it is the number
      text = _UNIT_VECTOR.sub(lambda m: rf' \vec{2 * (m[1] or m[2] or m[3])} ', text)
    text = _CHOOSE.sub(r'\\binom{\1}{\2}', text)
    text = _DOTTED.sub(lambda m: rf'{m[1]}\overline{{{m[2]}{m[3] or ""}{m[4] or ""}}}', text)
  for pattern in _CHOICES:
    text = pattern.sub(_count, text)
  return text


def usual_words(text: str) -> str:
  """Where words are in quotes already: `5^{"th"}`, `12_{"eight"}`, `\\frac{"km"}{"h"}`."""
  if '"' not in text:
    return text
  text = _IN_BASE.sub(lambda m: f'_{{{_BASES[m[1]]}}}', text)
  for pattern, new in _REWRITES:
    text = pattern.sub(new, text)
  return text


def _count(match: re.Match) -> str:
  """C is a combination, P and A are permutations; whatever else it may be stays as it is."""
  found = {name.rstrip('_'): text for name, text in match.groupdict().items() if text}
  of, some = int(found['all']), int(found['some'])
  if of < max(some, _FEWEST):
    return match[0]
  count = rf'\binom{{{of}}}{{{some}}}'
  return f' {count} ' if found['kind'] == 'C' else rf' ({count} \cdot ({some}!)) '
