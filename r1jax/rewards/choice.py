"""Is the right option chosen? The last of `Answer: B`, `\\boxed{B}` and `<answer>B</answer>` behind the thinking."""

import re
import unicodedata

from r1jax.problems.boxed import last_boxed
from r1jax.problems.choices import AROUND, LETTERS, gold, named, options_of
from r1jax.problems.problem import Problem
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict

_ANSWER = re.compile(
  r'(?:\b(?i:answers?)(?:\s(?i:choice|option|letter))?|答案)[*_]{0,3}\s{0,3}'
  r'(?:(?:(?i:is)|[是为])?\s{0,3}[:=]|(?:(?i:is)|[是为])(?=[\W_]{0,12}[A-J](?![A-Za-z0-9])))'
)
_COMMAND = re.compile(r'\\(?:text|textbf|textit|mathrm|mathbf|mathsf|bf|rm)(?![A-Za-z])')
_LETTER = re.compile(
  r'(?:(?i:option|choice)\s|选项)?\s{0,3}\(?([A-Za-z])(?![A-Za-z0-9])(.*)', re.DOTALL
)
_GOES_ON = re.compile(
  r'\s*(?:$|[)\].:,;*_$}(/&+、-]|[–—]|(?:is|as|since|because|and|or)\b|[和或是])'
)
_ANOTHER = re.compile(
  r'[\s)\]}.*_$]{0,8}(?:[,;/&+、]|and\b|or\b|和|或)(?:\s{0,3}(?:and|or)\b)?[\W_]{0,8}([A-Ja-j])(?![A-Za-z0-9])'
)
_MOST_CHARS = 500  # of an answer that are read


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
  text = unicodedata.normalize('NFKC', completion.rpartition('</think>')[2])
  if '<think>' in text:
    return None
  found = [(match.start(), text[match.end() :][:_MOST_CHARS]) for match in _last(_ANSWER, text)]
  found = [(at, after.lstrip(AROUND).partition('\n')[0]) for at, after in found]
  begin = text.rfind('<answer>', 0, max(text.rfind('</answer>'), 0))
  if begin >= 0:
    found.append((begin, text[begin + len('<answer>') :]))
  boxed = last_boxed(text)
  if boxed:
    found.append(boxed)
  return max(found)[1].partition('</answer>')[0][:_MOST_CHARS] if found else None


def _last(pattern: re.Pattern, text: str) -> list[re.Match]:
  return list(pattern.finditer(text))[-1:]


def read(answer: str, options: list[str]) -> str:
  """The text of an answer -> the letter that it chooses. Raises ValueError where it chooses none or more than one."""
  text = _COMMAND.sub('', answer).strip(AROUND)
  worded = named(text, options)
  match = _LETTER.fullmatch(text)
  if not match or not _GOES_ON.match(match[2]):
    if len(worded) == 1:
      return worded[0]
    raise ValueError('neither a letter nor the text of one option')
  letter, rest = match[1].upper(), match[2]
  if letter not in LETTERS[: len(options)]:
    raise ValueError(f'{letter} is none of the {len(options)} options')
  another = _ANOTHER.match(rest)
  also = [another[1].upper()] if another else named(rest, options)
  if also and letter not in also:
    raise ValueError(f'names both {letter} and {also[0]}')
  return letter
