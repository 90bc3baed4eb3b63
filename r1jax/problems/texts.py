"""Pairs of prompt and completion that a policy is trained on as they stand."""

import json
from collections.abc import Sequence
from pathlib import Path

from r1jax.problems.base_text import BaseTextConfig, Documents
from r1jax.problems.problem import ProblemsConfig

BASE_TEXT = 'base_text'


def load(source: str, problems: ProblemsConfig, template: str) -> Sequence[tuple[str, str]]:
  """'base_text' or a .jsonl file -> pairs. Raises FileNotFoundError, or ValueError naming file and line."""
  if source == BASE_TEXT:
    return Documents(BaseTextConfig(problems=problems, template=template))
  path = Path(source)
  if not path.is_file():
    raise FileNotFoundError(
      f'source={source!r} is no file; valid: {BASE_TEXT!r}, or a .jsonl file that exists'
    )
  pairs = []
  for number, line in enumerate(path.read_text().split('\n'), 1):
    if line.strip():
      pairs.append(_pair(path, number, line))
  if not pairs:
    raise ValueError(f'source={source!r} holds no text; valid: one JSON object a line')
  return pairs


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
  try:
    record = json.loads(line)
  except ValueError as error:
    raise ValueError(f'{path}:{number}: {error}') from error
  for field in ('prompt', 'completion'):
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
      raise ValueError(
        f'{path}:{number}: {field!r} is missing or no text; valid fields: prompt, completion'
      )
  return record['prompt'], record['completion']
