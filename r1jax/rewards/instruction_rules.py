"""Rules for a text that a program can check: those of IFEval (arXiv 2311.07911) that need no model.

RULES: id -> a function of the text and of the rule's kwargs, whose annotations say which values are valid. Texts are
compared without regard to case, to the form of a character (NFKC: full-width, composed) and to what has no width.
Where IFEval's own code leans on a tokenizer or on language identification, ours goes
by what is said at the rule. No pattern is slow on any text.
"""

import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Literal, NewType

from r1jax.rewards.language import LANGUAGES, is_in

Count = int  # at least 0
Place = NewType('Place', int)  # at least 1
Texts = list[str]  # not empty, and neither are the texts
Relation = Literal['less than', 'at least']
Letter = NewType('Letter', str)  # one character
Language = Literal[tuple(LANGUAGES)]
Rule = Callable[..., bool]

_HAN = '\u3400-\u9fff'
_MARKS = ''.join(  # vowel signs and accents, which belong to the letter before them
  char for char in map(chr, range(0x300, 0x1E00)) if unicodedata.category(char)[0] == 'M'
)
_CHAR = rf'(?:[^\W_{_HAN}]|[{_MARKS}])'  # of a word
_WORD = re.compile(rf'[{_HAN}]|_*+{_CHAR}(?:{_CHAR}|_)*+')
_NO_WIDTH = re.compile(
  '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]'
)
_SENTENCE_END = re.compile(
  r'(?<![.!?…])[.!?…]++["\'”’)\]*_]*+(?=\s|\Z)|[。！？]++[」』”’）]*+|\n[ \t]*+\n'
)
_NO_END = re.compile(  # an abbreviation, an initial or the number of an entry of a list
  r'(?:\b(?:[A-Za-z]|mr|mrs|ms|dr|prof|st|no|vs|fig|inc|ltd|jr|sr)|(?:\A|\n)[ \t]*[0-9]{1,3})\.$',
  re.IGNORECASE,
)
_LOOK_BACK = 8  # characters that _NO_END may need
_NO_SPACES = re.compile(rf'[{_HAN}\u3040-\u30ff]')
_BULLET = re.compile(r'[ \t]*[-*+•][ \t]+\S')
_OPINIONS = ('my answer is yes.', 'my answer is no.', 'my answer is maybe.')
_HIGHLIGHT = re.compile(  # which 2*3*4 and *.* are not
  r'(?<![A-Za-z0-9*])(\*{1,3})(?=\S)(?=[^*\n]*\w)[^*\n]+(?<=\S)\1(?![A-Za-z0-9*])'
)
_TITLE = re.compile(  # which the operators of `cout<<x>>y` and `a << b >> c` are not
  r'(?<![\w<])(?:<<(?!\s)|(?<!\w\s)<<)([^<>\n]+)>>(?![\w>])'
)


def words(text: str) -> list[str]:
  """Runs of letters and digits ("don't" has two); each Han character is a word."""
  return _WORD.findall(_visible(text))


def _visible(text: str) -> str:
  """The text in one form (NFKC) and without characters of no width."""
  return _NO_WIDTH.sub('', unicodedata.normalize('NFKC', text))


def _plain(text: str) -> str:
  """A text as it is compared with another."""
  return _visible(text).casefold()


def sentences(text: str) -> int:
  """Sentences end in . ! ? … before white space, in 。！？, or at a blank line; not in 'Dr.', 'e.g.', 'J.' or '1.'."""
  ends = [m for m in _SENTENCE_END.finditer(text) if not _abbreviates(text, m)]
  starts = [0, *(match.end() for match in ends)]
  pieces = [text[a:b] for a, b in itertools.pairwise([*starts, len(text)])]
  return sum(bool(re.search(r'\w', piece)) for piece in pieces)


def _abbreviates(text: str, end: re.Match) -> bool:
  return bool(_NO_END.search(text[max(end.start() - _LOOK_BACK, 0) : end.start() + 1]))


def _holds(found: int, relation: str, number: int) -> bool:
  return found < number if relation == 'less than' else found >= number


def _has(text: str, part: str) -> bool:
  return _plain(part) in _plain(text)


def _parts(text: str, separator: str) -> list[str]:
  """What stands between the separators; the first and the last part only where they are not empty."""
  parts = [part.strip() for part in text.split(separator)]
  return parts[not parts[0] : len(parts) - (not parts[-1])]


def keywords_existence(text: str, keywords: Texts) -> bool:
  return all(_has(text, keyword) for keyword in keywords)


def keyword_frequency(text: str, keyword: str, frequency: Count, relation: Relation) -> bool:
  return _holds(_plain(text).count(_plain(keyword)), relation, frequency)


def forbidden_words(text: str, forbidden_words: Texts) -> bool:
  """As whole words, but for Han and kana, which have no spaces. `_free_` is the word 'free'."""
  text = _plain(text)
  return not any(re.search(_whole(_plain(word)), text) for word in forbidden_words)


def _whole(word: str) -> str:
  word = re.escape(word)
  return word if _NO_SPACES.search(word) else rf'(?<![^\W_]){word}(?!{_CHAR})'


def letter_frequency(
  text: str, letter: Letter, let_frequency: Count, let_relation: Relation
) -> bool:
  return _holds(_plain(text).count(_plain(letter)), let_relation, let_frequency)


def response_language(text: str, language: Language) -> bool:
  """By script, and by frequent words where languages share one (see language.is_in)."""
  return is_in(text, language)


def number_sentences(text: str, num_sentences: Count, relation: Relation) -> bool:
  return _holds(sentences(text), relation, num_sentences)


def number_paragraphs(text: str, num_paragraphs: Place) -> bool:
  """Separated by ***; none between two separators may be empty."""
  parts = _parts(text, '***')
  return all(parts) and len(parts) == num_paragraphs


def number_words(text: str, num_words: Count, relation: Relation) -> bool:
  return _holds(len(words(text)), relation, num_words)


def nth_paragraph_first_word(
  text: str, num_paragraphs: Place, nth_paragraph: Place, first_word: str
) -> bool:
  """Paragraphs are separated by blank lines."""
  paragraphs = [part for part in re.split(r'\n[ \t]*\n', text) if part.strip()]
  if len(paragraphs) != num_paragraphs or nth_paragraph > num_paragraphs:
    return False
  first = paragraphs[nth_paragraph - 1].split()[0].strip('"\'*_.,?!:;“”‘’')
  return _plain(first) == _plain(first_word)


def number_placeholders(text: str, num_placeholders: Count) -> bool:
  """At least so many [placeholders]."""
  return len(re.findall(r'\[[^\[\]\n]+\]', text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
  """P.S. and P.P.S. may also be written with spaces."""
  marker = r'\s?'.join(map(re.escape, re.sub(r'\s', '', _plain(postscript_marker))))
  return bool(re.search(rf'(?<!\w){marker}', _plain(text)))


def number_bullet_lists(text: str, num_bullets: Count) -> bool:
  """Exactly so many lines that begin with - * + or • and a space."""
  return sum(bool(_BULLET.match(line)) for line in text.split('\n')) == num_bullets


def constrained_response(text: str) -> bool:
  return any(_has(text, opinion) for opinion in _OPINIONS)


def number_highlighted_sections(text: str, num_highlights: Count) -> bool:
  """At least so many of *this*, **this** or ***this*** on one line; not inside a word, as in 2*3*4."""
  return len(_HIGHLIGHT.findall(text)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: Count) -> bool:
  """At least so many headings such as 'Section 1'."""
  return len(re.findall(rf'{re.escape(section_spliter)}\s?[0-9]+', text)) >= num_sections


def json_format(text: str) -> bool:
  """The whole text, or the whole of it in one ``` block, is JSON (which has no NaN)."""
  text = text.strip()
  if text.startswith('```') and text.endswith('```'):
    text = re.sub(r'\A(?i:json)?\s', '', text[3:-3])
  try:
    json.loads(text, parse_constant=_no_constant)
  except (ValueError, RecursionError):
    return False
  return True


def _no_constant(name: str) -> None:
  raise ValueError(f'{name} is no JSON')


def title(text: str) -> bool:
  """<<a title>> on one line."""
  return any(map(str.strip, _TITLE.findall(text)))


def two_responses(text: str) -> bool:
  """Two that differ, separated by ******."""
  parts = _parts(text, '******')
  return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
  return _plain(text).strip().startswith(_plain(prompt_to_repeat).strip())


def start_checker(text: str, start_phrase: str) -> bool:
  """Not one of IFEval's: its counterpart to the end."""
  return _plain(text).strip().strip('"').startswith(_plain(start_phrase).strip())


def end_checker(text: str, end_phrase: str) -> bool:
  return _plain(text).strip().strip('"').endswith(_plain(end_phrase).strip())


def quotation(text: str) -> bool:
  text = text.strip()
  return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(text: str, capital_frequency: Count, capital_relation: Relation) -> bool:
  return _holds(sum(map(str.isupper, words(text))), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
  return text.isupper() and is_in(text, 'en')


def english_lowercase(text: str) -> bool:
  return text.islower() and is_in(text, 'en')


def no_comma(text: str) -> bool:
  """In no script. The low quotation mark ‚ is one where it does not begin a word."""
  return not any(map(_is_comma, set(text))) and not re.search(r'\w‚|‚(?:\s|\Z)', text)


@functools.cache
def _is_comma(char: str) -> bool:
  return unicodedata.category(char) == 'Po' and 'COMMA' in unicodedata.name(char, '')


RULES: dict[str, Rule] = {
  'keywords:existence': keywords_existence,
  'keywords:frequency': keyword_frequency,
  'keywords:forbidden_words': forbidden_words,
  'keywords:letter_frequency': letter_frequency,
  'language:response_language': response_language,
  'length_constraints:number_sentences': number_sentences,
  'length_constraints:number_paragraphs': number_paragraphs,
  'length_constraints:number_words': number_words,
  'length_constraints:nth_paragraph_first_word': nth_paragraph_first_word,
  'detectable_content:number_placeholders': number_placeholders,
  'detectable_content:postscript': postscript,
  'detectable_format:number_bullet_lists': number_bullet_lists,
  'detectable_format:constrained_response': constrained_response,
  'detectable_format:number_highlighted_sections': number_highlighted_sections,
  'detectable_format:multiple_sections': multiple_sections,
  'detectable_format:json_format': json_format,
  'detectable_format:title': title,
  'combination:two_responses': two_responses,
  'combination:repeat_prompt': repeat_prompt,
  'startend:start_checker': start_checker,
  'startend:end_checker': end_checker,
  'startend:quotation': quotation,
  'change_case:capital_word_frequency': capital_word_frequency,
  'change_case:english_capital': english_capital,
  'change_case:english_lowercase': english_lowercase,
  'punctuation:no_comma': no_comma,
}
