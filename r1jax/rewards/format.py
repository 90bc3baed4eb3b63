"""The shape of a completion: `<think>..</think><answer>..</answer>` (R1, Methods)."""

TAGS = ('<think>', '</think>', '<answer>', '</answer>')


def well_formed(completion: str) -> float:
  """1.0 where the completion is one think block and one answer block, else 0.0.

  Each tag occurs exactly once; white space may stand before, between and after the blocks.
  """
  text = completion.strip()
  thought, _, rest = text.partition('</think>')
  fits = (
    all(text.count(tag) == 1 for tag in TAGS)
    and thought.startswith('<think>')
    and rest.lstrip().startswith('<answer>')
    and rest.endswith('</answer>')
  )
  return float(fits)


def answer(completion: str) -> str | None:
  """completion -> the text of its last closed `<answer>..</answer>` block, None without one."""
  start = completion.rfind('<answer>', 0, max(completion.rfind('</answer>'), 0))
  if start < 0:
    return None
  start += len('<answer>')
  return completion[start : completion.find('</answer>', start)].strip()
