"""The shape of a completion: `<think>..</think><answer>..</answer>` (R1, Methods)."""

import unicodedata

TAGS = ('<think>', '</think>', '<answer>', '</answer>')


def well_formed(completion: str) -> float:
  """1.0 where the completion is one think block and one answer block, else 0.0.

  Each tag occurs exactly once, and there is an answer; white space may stand before, between and after the blocks. The
  thought may be empty: to think is not a matter of form, and has to pay by the answers that it leads to.
  """
  text = completion.strip()
  thought, _, rest = text.partition('</think>')
  fits = (
    all(text.count(tag) == 1 for tag in TAGS)
    and thought.startswith('<think>')
    and rest.lstrip().startswith('<answer>')
    and rest.endswith('</answer>')
    and _says(rest.partition('<answer>')[2].removesuffix('</answer>'))
  )
  return float(fits)


def _says(block: str) -> bool:
  """Whether anything in it can be seen: white space, controls and marks of no width are nothing."""
  return any(unicodedata.category(char)[0] in 'LNPS' for char in block)


def after_thought(completion: str) -> str:
  """completion -> what follows its last `</think>`, or all of it without a thought: the only place of an answer.

  '' where a thought is still open: what it holds was tried, and perhaps given up. This is the rule of every check.
  """
  after = completion.rpartition('</think>')[2]
  return '' if '<think>' in after else after


def answer(completion: str) -> str | None:
  """completion -> the text of the last closed `<answer>..</answer>` block behind the thought, None without one."""
  text = after_thought(completion)
  start = text.rfind('<answer>', 0, max(text.rfind('</answer>'), 0))
  if start < 0:
    return None
  start += len('<answer>')
  return text[start : text.find('</answer>', start)].strip()
