"""The templates, character for character, and their tokens."""

import types

import numpy as np
import pytest

from r1jax import prompts
from r1jax.problems import Problem

PROBLEM = Problem(0, 'countdown', '3 5 7 = 22', '22', (3, 5, 7))

R1_ZERO = 'A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: 3 5 7 = 22. Assistant:'  # noqa: E501


def test_r1_zero_is_the_papers_string():
  assert prompts.render(PROBLEM, 'r1_zero') == R1_ZERO


def test_short():
  assert prompts.render(PROBLEM, 'short') == 'User: 3 5 7 = 22 Assistant:'


def test_tinyzero():
  assert prompts.render(PROBLEM, 'tinyzero') == (
    'A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first thinks about the reasoning process in the mind and then provides the user with the answer.\nUser: 3 5 7 = 22\nAssistant: Let me solve this step by step.\n<think>'  # noqa: E501
  )


def test_opened_is_how_the_template_ends():
  for name, template in prompts.TEMPLATES.items():
    assert template.text.endswith(prompts.opened(name))
    assert ('<think>' if template.text.endswith('<think>') else '') == prompts.opened(name)


def test_a_question_with_braces_is_left_alone():
  question = Problem(0, 'arithmetic', '{prompt} {0} {', '1')
  assert prompts.render(question, 'short') == 'User: {prompt} {0} { Assistant:'


@pytest.mark.parametrize('bos, first', [(None, []), (0, [0]), (7, [7])])
def test_encode(bos, first):
  tokenizer = types.SimpleNamespace(bos=bos, encode=lambda text: list(text.encode()))
  encoded = prompts.encode([PROBLEM, PROBLEM], tokenizer, 'short')
  assert [tokens.dtype for tokens in encoded] == [np.int32] * 2
  assert encoded[0].tolist() == first + list(b'User: 3 5 7 = 22 Assistant:')


def test_an_unknown_template_is_named():
  with pytest.raises(ValueError, match="template='r2'.*'r1_zero', 'short', 'tinyzero'"):
    prompts.render(PROBLEM, 'r2')
