"""problem -> the text and the tokens that the policy continues."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from r1jax.problems.problem import Problem


@dataclasses.dataclass(frozen=True)
class Template:
  """`text` with {prompt} in place of the question.

  `opened` is what the template has already written of the completion's shape: it goes in front of
  the decoded completion before that is scored. `bos`: BOS comes first if the tokenizer has one.
  """

  text: str
  opened: str = ''
  bos: bool = True


TEMPLATES = {
  # DeepSeek-R1, Table 1, character for character: also the full stop after the question. The paper
  # does not say what follows `Assistant:`; here nothing does.
  'r1_zero': Template(
    'A conversation between User and Assistant. The user asks a question, and the Assistant solves '
    'it. The assistant first thinks about the reasoning process in the mind and then provides the '
    'user with the answer. The reasoning process and answer are enclosed within <think> </think> '
    'and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> '
    '<answer> answer here </answer>. User: {prompt}. Assistant:'
  ),
  # The same shape for tiny models.
  'short': Template('User: {prompt} Assistant:'),
  # TinyZero's prompt for base models; meant for questions of style 'tinyzero'.
  'tinyzero': Template(
    'A conversation between User and Assistant. The user asks a question, and the Assistant solves '
    'it. The assistant first thinks about the reasoning process in the mind and then provides the '
    'user with the answer.\nUser: {prompt}\nAssistant: Let me solve this step by step.\n<think>',
    opened='<think>',
  ),
}


def _template(name: str) -> Template:
  if name not in TEMPLATES:
    raise ValueError(f'template={name!r} is unknown; valid: one of {tuple(TEMPLATES)}')
  return TEMPLATES[name]


def render(problem: Problem, template: str) -> str:
  """problem, name of a template -> the text before the completion."""
  return _template(template).text.replace('{prompt}', problem.prompt)


def opened(template: str) -> str:
  """name of a template -> what to put in front of a completion before it is scored or shown."""
  return _template(template).opened


def encode(problems: Sequence[Problem], tokenizer, template: str) -> list[np.ndarray]:
  """P problems -> P arrays int32 [T], BOS first where tokenizer and template both have it."""
  bos = [tokenizer.bos] if _template(template).bos and tokenizer.bos is not None else []
  texts = (render(problem, template) for problem in problems)
  return [np.array(bos + list(tokenizer.encode(text)), np.int32) for text in texts]
