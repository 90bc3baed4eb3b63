"""Where a text has closed boxes, `\\boxed{}`: the form in which mathematical answers are given."""

import re

_BOX = re.compile(r'\\f?box(?:ed)?\s*\{')
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)


def boxes(text: str) -> list[tuple[int, int, int]]:
  """text -> (where each closed box begins, where its content does, where it ends), in order; one pass."""
  found, open_ = [], []
  begins = {match.end() - 1: match.start() for match in _BOX.finditer(text)}
  for brace in _BRACE.finditer(text):
    if brace[0] == '{':
      open_.append(brace.start())
    elif brace[0] == '}' and open_:
      start = open_.pop()
      if start in begins:
        found.append((begins[start], start + 1, brace.end()))
  return sorted(found)


def last_boxed(text: str) -> tuple[int, str] | None:
  """text -> (where its last closed box begins, what is in it); None without one."""
  found = boxes(text)
  if not found:
    return None
  begin, content, end = found[-1]
  return begin, text[content : end - 1]
