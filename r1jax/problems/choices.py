"""The options of a multiple-choice question: their letters, and which of them a reference means."""

import re
import unicodedata

LETTERS = 'ABCDEFGHIJ'  # MMLU-Pro has up to ten options
AROUND = (
  ' \t\r\n$*_`"\'(){}[]<>.,:;\\。、「」'  # what may stand around a letter or an option's text
)
# GPQA's prompt, as R1 was evaluated with it (DeepSeek-R1, Supplementary D; simple-evals).
_QUESTION = (
  'Answer the following multiple choice question. The last line of your response should be of the following format: '
  "'ANSWER: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
  '{question}\n\n{options}'
)


def options_of(choices: object) -> list[str]:
  """`choices` of a problem -> the texts of its options; ValueError for anything but 2 to 10 texts."""
  fits = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
  if not fits or not 2 <= len(choices) <= len(LETTERS):
    raise ValueError(
      f'choices={choices!r:.80} is not possible; valid: a list of 2 to {len(LETTERS)} texts'
    )
  return choices


def normal(text: str) -> str:
  """A text as options are compared: width, case, white space and what stands around it make no difference."""
  return ' '.join(unicodedata.normalize('NFKC', text).casefold().split()).strip(AROUND)


def named(text: str, options: list[str]) -> list[str]:
  """A text -> the letters of the options that are worded like it."""
  wanted = normal(text)
  return [letter for letter, option in zip(LETTERS, options) if wanted and normal(option) == wanted]


def gold(answer: str, options: list[str]) -> str:
  """A reference -> its letter. It is a letter, or else an option's text or its place, counted from 0.

  Raises ValueError where it is none of the options, or may be two of them ('2' among 1, 2, 3 and 4).
  """
  letters, name = LETTERS[: len(options)], normal(answer).upper()
  if len(name) == 1 and name in letters:
    return name
  places = [letters[int(name)]] if re.fullmatch('[0-9]', name) and int(name) < len(letters) else []
  found = sorted({*named(answer, options), *places})
  if len(found) != 1:
    raise ValueError(
      f'answer={answer!r:.80} is {" or ".join(found) or "none"} of the options; valid: a letter from A to {letters[-1]}'
    )
  return found[0]


def render(question: str, options: list[str]) -> str:
  """A question and its options -> the prompt."""
  lines = '\n'.join(f'{letter}) {option}' for letter, option in zip(LETTERS, options))
  return _QUESTION.format(letters=LETTERS[: len(options)], question=question, options=lines)
