import pathlib
import types

import pytest

from r1jax.evaluation import variants
from r1jax.problems.problem import Problem
from r1jax.tokenizer import ChatTemplate

TEMPLATE = ChatTemplate(
  "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
  '{% if add_generation_prompt %}[assistant]{% endif %}',
  pathlib.Path('chat_template.jinja'),
)
PROBLEM = Problem(1, 'math', 'What is 1 + 1?', '2')


def tokenizer(chat_template):
  return types.SimpleNamespace(
    chat_template=chat_template, special_tokens={'bos_token': '<s>'}, bos=1, encode=lambda t: [ord(c) for c in t]
  )  # fmt: skip


def encoded(variant: str, chat_template) -> tuple[str, list[int]]:
  return variants.encode(PROBLEM, 'How much?', variant, tokenizer(chat_template), 'short')


@pytest.mark.parametrize(
  'variant, text',
  [
    ('zero_shot', '<s>[user]How much?[assistant]<think>\n'),
    ('think', '<s>[user]How much?[assistant]<think>\n'),
    ('no_think', '<s>[user]How much?[assistant]'),
    ('system', f'<s>[system]{variants.VARIANTS["system"].system}[user]How much?[assistant]<think>\n'),
    ('few_shot', f'<s>[user]{variants.EXAMPLES["math"]}How much?[assistant]<think>\n'),
  ],
)  # fmt: skip
def test_with_a_chat_template(variant, text):
  assert encoded(variant, TEMPLATE) == (text, [ord(c) for c in text])  # BOS is written once


@pytest.mark.parametrize(
  'variant, text',
  [
    ('zero_shot', 'User: How much? Assistant:'),
    ('no_think', 'User: How much? Assistant:'),
    ('think', 'User: How much? Assistant:<think>\n'),
    ('system', f'{variants.VARIANTS["system"].system}\nUser: How much? Assistant:'),
    ('few_shot', f'User: {variants.EXAMPLES["math"]}How much? Assistant:'),
  ],
)
def test_without_a_chat_template(variant, text):
  assert encoded(variant, None) == (text, [1, *(ord(c) for c in text)])


def test_examples_are_only_for_kinds_that_have_some():
  other = Problem(2, 'instructions', 'Write.', '')
  assert variants.applies('few_shot', [PROBLEM])
  assert not variants.applies('few_shot', [PROBLEM, other])
  assert variants.applies('system', [other])
