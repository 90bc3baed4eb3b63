"""Is the right option chosen? The last of `Answer: B`, `\\boxed{B}` and `<answer>B</answer>` behind the thinking."""

import re
import unicodedata

from r1jax.problems.boxed import boxes
from r1jax.problems.choices import AROUND, LETTERS, gold, named, options_of
from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict

# 'Answer:', 'the correct option is' before a letter, or a heading 'Answer'.
_NOUN = (
  r'(?:(?<!wrong )(?<!incorrect )(?<!false )\b(?i:answers?(?:\s(?:choice|option|letter))?'
  r'|(?:correct|right|best|my|final)\s(?:choice|option|letter))'
  r'|(?<![错误不誤오])(?<!错误的)(?<!不正确的)(?<!不正确)(?<!った)(?:答案|答え|解答|回答|正解|正确选项|故选|应选|정답|답))'
)
_IS = r'(?:\b(?i:is|would\sbe|must\sbe|should\sbe)|[是为はが은는])'
_NAME = r'(?:(?:(?i:option|choice)\s|选项|選択肢)[\W_]{0,4})?'
_ANSWER = re.compile(
  rf'(?:{_NOUN}|\b(?i:antwort|réponse|respuesta|resposta|risposta|ответ))[*_]{{0,3}}\s{{0,3}}{_IS}?\s{{0,3}}[:=]'
  rf'|{_NOUN}[*_]{{0,3}}\s{{0,3}}(?:{_IS}|(?<=选))(?=[\W_]{{0,12}}{_NAME}[A-J](?![A-Za-z0-9]))'
  r'|^[ \t#*_]{0,12}(?:(?i:(?:the\s|my\s)?(?:final\s|correct\s)?answer)|答案|答え|正解)[ \t*_]{0,4}$',
  re.MULTILINE,
)
_COMMAND = re.compile(
  r'\\(?:text|textbf|textit|textrm|boxed|fbox|mathrm|mathbf|mathsf|bf|rm)(?![A-Za-z])'
)
_LETTER = re.compile(rf'{_NAME}\(?([A-Za-z])(?![A-Za-z0-9])(.*)', re.DOTALL)
_GOES_ON = re.compile(
  r'\s*(?:$|[)\].:,;*_$}(/&+=?!、。-]|[–—]|で(?:す|した|ある)|입|(?:is|as|since|because|and|or|rather|instead)\b|[和或是])'
)
# A line ends the answer unless the next one begins with 'or'.
_NEXT_LINE = re.compile(r'\n(?!\s{0,9}(?:(?i:or|and)\b|[或和/&]))')
_REASON = re.compile(
  r'\b(?:because|since|given|due\sto|as\s(?:it|this|that|the|we|they|there|he|she|both|only))\b|因为|なぜなら',
  re.IGNORECASE,
)
_AND = r'(?:[,;/&+|、\s]|\b(?i:and|or|nor)\b|[和或])'
_OPTIONS = rf'\(?[A-J](?![A-Za-z0-9])(?:{_AND}{{1,6}}\(?[A-J](?![A-Za-z0-9])\)?)*+'
_WRONG = r'(?:wrong|incorrect|false|impossible|excluded|eliminated|(?:a\s)?mistaken?)\b'
_IS_WRONG = rf'(?:is|are|was|were)\s(?:(?!not\s)[a-z]+\s){{0,2}}?(?:{_WRONG}|not\b(?!\s{_WRONG}))'
# Options that are named so that they are not chosen: 'not A', 'rather than A or C', 'A is wrong'.
_REFUSED = re.compile(
  rf'\b(?i:not|rather\sthan|instead\sof|unlike)\s(?:(?i:option|choice)\s)?{_OPTIONS}'
  rf'|{_OPTIONS}\)?\s{_IS_WRONG}'
)
_TAKEN_BACK = re.compile(
  rf'[\W_]*(?:(?:which\s)?{_IS_WRONG}|{_WRONG}|not\s(?:right|correct|true|possible)\b|no(?:pe)?\s*(?:[,.;:!?-]|$))',
  re.IGNORECASE,
)
_OTHER = re.compile(
  r'(?<![A-Za-z0-9])([A-J])(?![A-Za-z0-9])'
  r'|(?:[,;/&+|、和或]|\b(?i:and|or|maybe|perhaps|possibly)\b)[\W_]{0,8}([a-j])(?![A-Za-z0-9])'
)
# 'a city', 'I think' are no options.
_WORD = re.compile(
  r"'|\s(?!(?:is|are|was|or|and|as|if|may|might|can|could|would|because|since|too|also|but|seems|looks|maybe|isn|aren|wasn|has|fits|works|does|will|must|should)\b)[a-z]"
)
# 'B or another', 'B and the rest', 'B/...'; and, before a reason, 'B or, because ..., C'.
_HEDGED = re.compile(
  r'[\W_]*(?:(?<!\w)or\b|(?<!\w)and\s(?:the\s)?(?:all|any|another|both|others?|rest)\b|[或]|(?<=[/&+|])\s*\w)'
  r'|.*\b(?:and|or)[\s,(]*$',
  re.IGNORECASE | re.DOTALL,
)
# What joins one answer to the next: '\\boxed{B} or \\boxed{C}', and '\\boxed{B} or C'.
_JOINED = re.compile(
  r'(?:\}|</answer>|[A-J])[\s$.,*()]{0,8}(?:\b(?i:or|and)|[/&或和])[\s$*(]{0,8}$'
)
_GOES_ON_WITH = re.compile(r'[\s$,*)]{0,8}(?:(?i:or)\b|[/或])[^\n]{0,80}')
_LOOK_BACK = 60  # characters that _JOINED may need
_CONNECTOR = re.compile(r'[,;/&+|()、和或.]|\b(?:and|or|maybe|perhaps|possibly)\b', re.IGNORECASE)
_AROUND = AROUND + '?!'
_MOST_CHARS = 2000  # of an answer that are read; one that is longer and gives no reason is none


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where it chooses the option problem.answer of details['choices'], which are 2 to 10 texts.

  The answer is a letter or the text of one option. One that names two options, or a letter beyond them, is unparseable.
  """
  try:
    options = options_of(problem.details.get('choices'))
    wanted = gold(problem.answer, options)
  except ValueError as error:
    return Verdict(BAD_GOLD, note=str(error))
  answer = answer_of(completion)
  if answer is None:
    return Verdict(UNPARSEABLE, note="no 'Answer: B', no closed \\boxed{} and no <answer>")
  try:
    letter = read(answer, options)
  except ValueError as error:
    return Verdict(UNPARSEABLE, answer, note=str(error))
  return verdict(letter == wanted, letter)


def answer_of(completion: str) -> str | None:
  """completion -> what stands behind or in its last mark of an answer; None without one, or in an open thought.

  'The answer is' is a mark only where a capital letter follows. Full-width characters are taken as plain ones.
  """
  text = unicodedata.normalize('NFKC', format.after_thought(completion))
  found = []
  if marks := list(_ANSWER.finditer(text)):
    after = _COMMAND.sub('', text[marks[-1].end() :]).lstrip(_AROUND)
    found.append((marks[-1].start(), _NEXT_LINE.split(after)[0]))
  end = max(text.rfind('</answer>'), 0)
  begin = text.rfind('<answer>', 0, end)
  if begin >= 0:
    found.append((begin, text[begin + len('<answer>') : end] + _tail(text, end + len('</answer>'))))
  if closed := boxes(text):
    last = closed[-1]
    begin, content, end = next(box for box in closed if box[2] >= last[2])  # what is around it
    found.append((begin, text[content : end - 1] + _tail(text, end)))
  if not found:
    return None
  begin, answer = max(found)
  before = text[max(begin - _LOOK_BACK, 0) : begin]
  joined = before if _JOINED.search(before) else ''
  return (joined + answer.partition('</answer>')[0])[: _MOST_CHARS + 1]


def _tail(text: str, end: int) -> str:
  """What goes on with 'or' behind a box or a tag that ends there."""
  tail = _GOES_ON_WITH.match(text, end)
  return tail[0] if tail else ''


def read(answer: str, options: list[str]) -> str:
  """The text of an answer -> the letter that it chooses. Raises ValueError where it chooses none or more than one.

  Options that are refused ('not A', 'A is wrong') and what follows 'because' may name others.
  """
  if len(answer) > _MOST_CHARS and not _REASON.search(answer):
    raise ValueError(f'longer than {_MOST_CHARS} characters')
  text = ' '.join(_COMMAND.sub('', answer).split()).strip(_AROUND)
  options = [' '.join(_plain(option).split()).strip(_AROUND) for option in options]
  worded = named(text, options)
  match = _LETTER.fullmatch(text)
  if not match or not _GOES_ON.match(match[2]):
    if len(worded) == 1:
      return worded[0]
    raise ValueError('neither a letter nor the text of one option')
  letter, letters = match[1].upper(), LETTERS[: len(options)]
  if letter not in letters:
    raise ValueError(f'{letter} is none of the {len(options)} options')
  rest = _behind(match[2], options[letters.index(letter)])
  if _TAKEN_BACK.match(rest):
    raise ValueError(f'takes {letter} back')
  rest = _REFUSED.sub(' ', _REASON.split(rest)[0])
  also = [other for other in _named_too(rest, options) if other != letter and other in letters]
  if also:
    raise ValueError(f'names both {letter} and {also[0]}')
  if _HEDGED.match(rest):
    raise ValueError('goes on to another option')
  return letter


def _plain(text: str) -> str:
  return _COMMAND.sub('', unicodedata.normalize('NFKC', text))


def _behind(rest: str, option: str) -> str:
  """What follows a letter -> the same without the option's own text, should it come first."""
  own = re.match(rf'[\W_]*(?:is\s)?[\W_]*{re.escape(option)}(?!\w)', rest, re.IGNORECASE)
  return rest[own.end() :] if option and own else rest


def _named_too(rest: str, options: list[str]) -> list[str]:
  """What follows a letter and its text -> the letters that it names, be it by their texts."""
  found = [
    match[1] or match[2].upper()
    for match in _OTHER.finditer(rest)
    if (match[1] or match[2]) not in ('A', 'I', 'a', 'i') or not _WORD.match(rest, match.end())
  ]
  for part in _CONNECTOR.split(rest):
    found += named(part, options)
  return found
