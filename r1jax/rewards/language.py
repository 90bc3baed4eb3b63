"""Is a thought in one language? R1's reward for it, and the rate at which languages are mixed (DeepSeek-R1, 2.3.2).

The paper does not say how it tells words or languages apart. Here the script decides:

    word      a run of letters of one script, with their marks; of Han, which has no spaces, each character
    not one   numbers, symbols, a single Latin or Greek letter (x is a variable), LaTeX, code, tags
    language  that of the script; Han is Japanese in a line that also has kana, and Chinese in any other

So English cannot be told from French, nor Russian from Ukrainian, and a run of Thai is one word however long.
"""

import functools
import itertools
import re
import unicodedata
from collections import Counter

SCRIPTS = {
  'en': 'LATIN', 'zh': 'HAN', 'ja': 'KANA', 'ko': 'HANGUL', 'ru': 'CYRILLIC', 'ar': 'ARABIC', 'hi': 'DEVANAGARI',
  'el': 'GREEK', 'he': 'HEBREW', 'th': 'THAI', 'bn': 'BENGALI', 'ta': 'TAMIL', 'te': 'TELUGU', 'gu': 'GUJARATI',
  'pa': 'GURMUKHI', 'kn': 'KANNADA', 'ml': 'MALAYALAM', 'ka': 'GEORGIAN', 'hy': 'ARMENIAN',
}  # fmt: skip
MIXED = 0.05  # share of words in other languages from which on a text is mixed; names and terms stay below it

_NAMES = {'CJK': 'HAN', 'IDEOGRAPHIC': 'HAN', 'HIRAGANA': 'KANA', 'KATAKANA': 'KANA'}
# Each alternative stops at the next mark of its own kind, so that no text makes it slow.
_MARKUP = re.compile(
  r'\$\$[^$]*+\$\$|\$(?=\S)[^$\n]*+(?<=\S)\$(?![0-9])|\\\((?:[^\\]|\\(?![()]))*+\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*+\\\]'
  r'|\\(?:begin|end)\{[^{}\n]*+\}|\\[A-Za-z]+|</?(?:think|answer)>'
)
_INLINE_CODE = re.compile(r'`[^`\n]*+`')


def consistency(thought: str, language: str) -> float:
  """A thought and a language such as 'zh' -> words of that language / all words, from 0 to 1 (Nature, eq. 7).

  A thought without words earns 0: were it 1, the surest way to the full reward would be not to think. Raises
  ValueError for a language that its script does not tell.
  """
  if language not in SCRIPTS:
    raise ValueError(f'language={language!r} is unknown; valid: one of {", ".join(SCRIPTS)}')
  found = words(thought)
  return found[SCRIPTS[language]] / found.total() if found else 0.0


def mixing(text: str) -> bool:
  """Whether at least one word in twenty is not of the text's main language; of a text without words, False."""
  found = words(text)
  return bool(found) and 1 - max(found.values()) / found.total() >= MIXED


def thought_of(completion: str) -> str:
  """completion -> what stands before its last </think>, or is left open; '' where nothing was thought."""
  before, end, _ = completion.rpartition('</think>')
  if end:
    return before.removeprefix('<think>').strip()
  return completion.partition('<think>')[2].strip()


def words(text: str) -> Counter[str]:
  """A text -> how many words it has of each script; Japanese is counted as KANA."""
  found = Counter()
  for line in filter(str.strip, _prose(text).split('\n')):
    of_line = Counter()
    for script, run in itertools.groupby(line, _script):
      of_line[script] += _count(script, ''.join(run))
    if of_line['KANA']:
      of_line['KANA'] += of_line.pop('HAN', 0)
    found += of_line  # which drops what is 0
  return found


def _prose(text: str) -> str:
  """The text without code, LaTeX and tags; a block of code that is not closed is code up to the end."""
  outside = ' '.join(text.split('```')[::2])
  return unicodedata.normalize('NFKC', _MARKUP.sub(' ', _INLINE_CODE.sub(' ', outside)))


def _count(script: str, run: str) -> int:
  if not script or (len(run) == 1 and script in ('LATIN', 'GREEK')):
    return 0
  return len(run) if script == 'HAN' else 1


@functools.cache
def _script(char: str) -> str:
  """The script of a letter, or of a mark on one, from its Unicode name; '' for any other character."""
  if unicodedata.category(char)[0] not in 'LM':
    return ''
  name = re.split('[ -]', unicodedata.name(char, ''))[0]  # 'CJK UNIFIED IDEOGRAPH-4E00'
  return _NAMES.get(name, name)
