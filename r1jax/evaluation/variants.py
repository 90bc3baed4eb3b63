"""A question -> the tokens that the policy continues, worded in several ways: how much does a score depend on it?

R1 is meant to be asked without examples and without a system prompt, and its thought begun for it (README of
DeepSeek-R1); examples lower its scores (DeepSeek-R1 v2, section 6). That is `zero_shot`, the default.
"""

import dataclasses

from r1jax import chat, prompts
from r1jax.problems.problem import Problem

# By kind; a question of another kind has no examples.
EXAMPLES = {
  'math': (
    'Problem: A shelf holds 3 boxes of 12 pencils each, and 5 loose pencils. How many pencils are there?\n'
    'Solution: The boxes hold 3 \\cdot 12 = 36 pencils, with the loose ones 36 + 5 = 41. The answer is '
    '\\boxed{41}.\n\n'
    'Problem: For which positive x is x^2 - 9 = 0?\n'
    'Solution: x^2 = 9 holds for 3 and -3, of which 3 is positive. The answer is \\boxed{3}.\n\n'
  ),
  'choice': (
    'Question: Which of these is a prime number?\n\nA) 21\nB) 23\nC) 25\nD) 27\n'
    '21 and 27 are divisible by 3, 25 is divisible by 5.\nAnswer: B\n\n'
    'Question: Which planet is nearest to the Sun?\n\nA) Mercury\nB) Earth\nC) Mars\nD) Neptune\n'
    'The order from the Sun is Mercury, Venus, Earth, Mars.\nAnswer: A\n\n'
  ),
  'code': (
    'Problem: Read an integer n from the first line and print n + 1.\n'
    'Solution:\n```python\nprint(int(input()) + 1)\n```\n\n'
  ),
}


@dataclasses.dataclass(frozen=True)
class Variant:
  """system: what is said before the question. few_shot: examples come first. prefill: how the answer is begun for the
  model; None: as it is usually used, which is `<think>` where there is a chat template, and else nothing.
  """

  system: str = ''
  few_shot: bool = False
  prefill: str | None = None


VARIANTS = {
  'zero_shot': Variant(),
  'few_shot': Variant(few_shot=True),
  'system': Variant(system='You are a careful assistant who checks an answer before giving it.'),
  'think': Variant(prefill=chat.PREFILL),
  'no_think': Variant(prefill=''),
}


def applies(variant: str, problems: list[Problem]) -> bool:
  """Whether this variant differs from the default for these problems."""
  return not VARIANTS[variant].few_shot or all(problem.kind in EXAMPLES for problem in problems)


def encode(
  problem: Problem, question: str, variant: str, tokenizer, template: str
) -> tuple[str, list[int]]:
  """problem, what the user asks -> the text before the completion, and its tokens.

  template: of prompts.TEMPLATES, for a tokenizer without a chat template; a system prompt then comes first.
  """
  how = VARIANTS[variant]
  question = EXAMPLES[problem.kind] + question if how.few_shot else question
  if tokenizer.chat_template is None:
    text = prompts.render(dataclasses.replace(problem, prompt=question), template)
    text = (how.system and f'{how.system}\n') + text + (how.prefill or '')
    bos = [] if tokenizer.bos is None else [tokenizer.bos]
    return text, bos + list(tokenizer.encode(text))
  system = [{'role': 'system', 'content': how.system}] if how.system else []
  messages = [*system, {'role': 'user', 'content': question}]
  prefill = chat.PREFILL if how.prefill is None else how.prefill
  text = chat.render(messages, tokenizer, prefill=prefill)
  return text, list(tokenizer.encode(text))
