"""Is a thought in one language? R1's reward for it, and the rate at which languages are mixed (DeepSeek-R1, 2.3.2).

The paper does not say how it tells words or languages apart. Here the script decides:

    word      a run of letters of one script, with their marks; of Han, which has no spaces, each character
    not one   numbers, symbols, a single Latin or Greek letter (x is a variable), tags, LaTeX and code
    language  that of the script; Han is Japanese in a line that also has kana, and Chinese in any other

LaTeX and code are written in Latin and Greek letters. What else is in them is language that was put there, and counts:
words of any other script, and Latin words of which several follow one another with nothing but white space, the
punctuation of a sentence or the sign of a comment between them: three in LaTeX, which shows no spaces, and in code six
of which one in eight is as frequent as 'the' (function_words.py) and no keyword.

So English cannot be told from French, nor Russian from Ukrainian, and a run of Thai is one word however long.
`is_in` tells a whole text's language more finely, by its most frequent words; a reward by the word could not.
"""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

from r1jax.rewards.function_words import LETTERS, WORDS

SCRIPTS = {
  'en': 'LATIN', 'zh': 'HAN', 'ja': 'KANA', 'ko': 'HANGUL', 'ru': 'CYRILLIC', 'ar': 'ARABIC', 'hi': 'DEVANAGARI',
  'el': 'GREEK', 'he': 'HEBREW', 'th': 'THAI', 'bn': 'BENGALI', 'ta': 'TAMIL', 'te': 'TELUGU', 'gu': 'GUJARATI',
  'pa': 'GURMUKHI', 'kn': 'KANNADA', 'ml': 'MALAYALAM', 'ka': 'GEORGIAN', 'hy': 'ARMENIAN',
}  # fmt: skip
_SHARED = {  # the other languages of a script; SCRIPTS has the most likely one
  'LATIN': 'es pt ca fr it ro de nl da sv fi pl cs tr vi id sw',
  'CYRILLIC': 'uk be bg sr', 'ARABIC': 'fa ur', 'DEVANAGARI': 'mr ne',
}  # fmt: skip
LANGUAGES = SCRIPTS | {
  language: script for script, others in _SHARED.items() for language in others.split()
}
MIXED = 0.05  # share of words in other languages from which on a text is mixed; names and terms stay below it
IN_LANGUAGE = 0.9  # share of the words from which on a text is in a language
FUNCTION_WORDS = (
  0.05  # least share of frequent words in a text of that language; most have 0.2 to 0.5
)
CLEARLY = 3  # times as many words as speak for any other language alone
SHORT = 5  # words of a text that may have no frequent word at all

_NAMES = {'CJK': 'HAN', 'IDEOGRAPHIC': 'HAN', 'HIRAGANA': 'KANA', 'KATAKANA': 'KANA'}
# Each alternative stops at the next mark of its own kind, so that no text makes it slow. Neighbours are one.
_MARKUP = re.compile(
  r'(?:(?:\$\$[^$]*+\$\$|\$(?=\S)[^$\n]*+(?<=\S)\$(?![0-9])|\\\((?:[^\\]|\\(?![()]))*+\\\)'
  r'|\\\[(?:[^\\]|\\(?![\[\]]))*+\\\]|\\(?:begin|end)\{[^{}\n]*+\}|\\[A-Za-z]++|</?(?:think|answer)>)[ \t]*+)++'
)
_INLINE_CODE = re.compile(r'(?:`[^`\n]*+`[ \t]*+)++')
_COMMAND = re.compile(
  r'\\(?:begin|end)\{[A-Za-z]*+\*?\}|\\[A-Za-z]++|\\[()\[\]]|</?(?:think|answer)>|[$`]'
)
_LETTER = r'[^\W\d_]'
_BETWEEN = (
  r'[,.;:!?…\'"’”]*+(?:[ \t]++|[ \t]*+\n\s*+(?:(?:#|//|--|[%*>-])\s*+)?)'  # words of a sentence
)
_SENTENCE = re.compile(rf'{_LETTER}++(?:{_BETWEEN}{_LETTER}++)*+')
# What is frequent in sentences and no keyword of a program.
_KEYWORDS = (
  'all and any as by case do double else end for from if import in into is like not of on or then to try use when '
  'where while with'
)
_FREQUENT = frozenset().union(*(WORDS[one] for one in WORDS if LANGUAGES[one] == 'LATIN')) - set(
  _KEYWORDS.split()
)


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


def is_in(text: str, language: str) -> bool:
  """Whether a text is in one of LANGUAGES: nine tenths of its words have the script and the letters of that language.

  Where other languages share the script, its frequent words (function_words.py) decide: at least one in twenty words
  is one of them, and for each rival, those that are not the rival's are more than three times the rival's that are
  not its. So half a text in another language, and words that Spanish and Portuguese share, are not enough. A text of
  up to five words without a frequent word of any language is in the most likely one of its script (English, ...).
  Languages that are not known here pass for their nearest relative: Galician for Portuguese, Malay for Indonesian,
  Yiddish for Hebrew.
  """
  script, found = LANGUAGES[language], words(text)
  if found[script] < max(IN_LANGUAGE * found.total(), 1):
    return False
  if language not in WORDS:
    return True
  runs = [_bare(run) for of, run in _runs(_prose(text)) if of == script]
  if sum(_spelled(run, language) for run in runs) < IN_LANGUAGE * found.total():
    return False
  rivals = [rival for rival in WORDS if LANGUAGES[rival] == script and rival != language]
  known = Counter(run for run in runs if any(run in WORDS[one] for one in (language, *rivals)))
  if not known:
    return SCRIPTS.get(language) == script and len(runs) <= SHORT
  ours = sum(count for run, count in known.items() if run in WORDS[language])
  return ours >= FUNCTION_WORDS * len(runs) and all(
    _only(known, language, rival) > CLEARLY * _only(known, rival, language) for rival in rivals
  )


def _bare(run: str) -> str:
  """In small letters and without vowel marks, where they may be left out (Arabic)."""
  if _script(run[0]) == 'ARABIC':
    run = ''.join(char for char in run if unicodedata.category(char) == 'Lo')
  return run.casefold()


def _spelled(run: str, language: str) -> bool:
  return not LETTERS[language] or not set(run) - _alphabet(language)


@functools.cache
def _alphabet(language: str) -> frozenset[str]:
  return frozenset(LETTERS[language])


def _only(known: Counter[str], language: str, other: str) -> int:
  """How many words are frequent in the language and not in the other."""
  return sum(known[run] for run in known if run in WORDS[language] and run not in WORDS[other])


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
    for script, run in _runs(line):
      of_line[script] += len(run) if script == 'HAN' else 1
    if of_line['KANA']:
      of_line['KANA'] += of_line.pop('HAN', 0)
    found += of_line  # which drops what is 0
  return found


def _runs(text: str) -> Iterator[tuple[str, str]]:
  """A text -> (script, letters) of its words, those of Han still together."""
  for script, chars in itertools.groupby(text, _script):
    run = ''.join(chars)
    if script and (len(run) > 1 or script not in ('LATIN', 'GREEK')):
      yield script, run


def _prose(text: str) -> str:
  """The text without tags, and of code and LaTeX only what is language; code that is not closed goes to the end."""
  parts = text.split('```')
  parts[1::2] = [f' {_said(code, _in_code)} ' for code in parts[1::2]]
  text = _INLINE_CODE.sub(lambda code: f' {_said(code[0], _in_code)} ', ''.join(parts))
  text = _MARKUP.sub(lambda latex: f' {_said(latex[0], _in_latex)} ', text)
  return unicodedata.normalize('NFKC', text)


def _said(markup: str, is_prose: Callable[[list[str]], bool]) -> str:
  """Code or LaTeX -> the words in it that are language."""
  text = unicodedata.normalize('NFKC', _COMMAND.sub(' ', markup))
  said = [run for script, run in _runs(text) if script not in ('LATIN', 'GREEK')]
  for sentence in _SENTENCE.finditer(text):
    latin = [run for script, run in _runs(sentence[0]) if script == 'LATIN']
    said += latin if is_prose(latin) else []
  return ' '.join(said)


def _in_latex(latin: list[str]) -> bool:
  return len(latin) >= 3


def _in_code(latin: list[str]) -> bool:
  frequent = sum(run.casefold() in _FREQUENT for run in latin)
  return len(latin) >= 6 and 8 * frequent >= len(latin)


@functools.cache
def _script(char: str) -> str:
  """The script of a letter, or of a mark on one, from its Unicode name; '' for any other character."""
  if unicodedata.category(char)[0] not in 'LM':
    return ''
  name = re.split('[ -]', unicodedata.name(char, ''))[0]  # 'CJK UNIFIED IDEOGRAPH-4E00'
  return _NAMES.get(name, name)
