import numpy as np
import pytest

from r1jax.evaluation import metrics, table
from r1jax.evaluation.published import PUBLISHED, ROWS, counterpart
from r1jax.model import sizes
from r1jax.rewards.verdict import OUTCOMES, RIGHT

SETTINGS = {
  'model': 'mine', 'size': 'r1-distill-qwen-1.5b', 'seed': 3,
  'sampling': {'temperature': 0.6, 'top_p': 0.95, 'max_tokens': 32768},
}  # fmt: skip


def scored(value, ci95=None, problems=30, samples=64, **more) -> dict:
  names = (
    'mean_length',
    'truncated',
    'language_mixing',
    'wrong',
    'unparseable',
    'timeout',
    'bad_gold',
  )
  estimates = dict.fromkeys(names, {'value': 0.0, 'ci95': [0.0, 0.0]})
  estimates['pass@1'] = {'value': value, 'ci95': ci95 or [value - 0.01, value + 0.01]}
  estimates |= {name: {'value': v, 'ci95': [v, v]} for name, v in more.items()}
  return {'problems': problems, 'samples': samples, 'estimates': estimates}


@pytest.mark.parametrize(
  'model, scores',
  [
    ('DeepSeek-R1', (79.8, 97.3, 2029, 90.8)),
    ('o1-1217', (79.2, 96.4, 2061, 91.8)),
    ('GPT-4o-0513', (9.3, 74.6, 759, 87.2)),
    ('R1-Distill-Qwen-1.5B', (28.9, 83.9, 954, None)),
    ('R1-Distill-Qwen-7B', (55.5, 92.8, 1189, None)),
    ('R1-Distill-Qwen-14B', (69.7, 93.9, 1481, None)),
    ('R1-Distill-Qwen-32B', (72.6, 94.3, 1691, None)),
    ('R1-Distill-Llama-8B', (50.4, 89.1, 1205, None)),
    ('R1-Distill-Llama-70B', (70.0, 94.5, 1633, None)),
  ],
)
def test_the_published_numbers(model, scores):
  rows = [
    ('aime_2024', 'pass@1'),
    ('math_500', 'pass@1'),
    ('codeforces', 'rating'),
    ('mmlu', 'pass@1'),
  ]
  assert tuple(PUBLISHED[model].get(row) for row in rows) == scores


def test_published_weights_are_known_by_their_size():
  assert counterpart('r1-distill-qwen-1.5b') == 'R1-Distill-Qwen-1.5B'
  assert counterpart('deepseek-r1') == 'DeepSeek-R1'
  assert counterpart('qwen2.5-1.5b') is None
  ours = {name for name in sizes.names() if name.startswith(('r1-', 'deepseek-r1'))}
  assert {counterpart(name) for name in ours} <= set(PUBLISHED) and len(ours) == 7


def row_of(text: str, title: str) -> list[str]:
  (line,) = [line for line in text.splitlines() if line.startswith(f'| {title} |')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_measured_and_published_stand_side_by_side():
  scores = {'aime_2024': {'zero_shot': scored(0.288, [0.15, 0.425], **{'cons@64': 0.5})},
            'codeforces': {'zero_shot': scored(0.1, rating=950.04, percentile=40.0)}}  # fmt: skip
  text = table.report(scores, SETTINGS, None)
  header = row_of(text, 'metric')
  assert header == ['metric', '**measured**', *(f'{model} (published)' for model in PUBLISHED)]
  assert row_of(text, 'AIME 2024 pass@1')[1:4] == ['**28.8** (15.0 to 42.5)', '79.8', '79.2']
  assert row_of(text, 'AIME 2024 cons@64')[1:4] == ['**50.0** (50.0 to 50.0)', '86.7', '']
  assert row_of(text, 'Codeforces rating')[1:3] == ['**950.0** (950.0 to 950.0)', '2029']
  assert row_of(text, 'MMLU pass@1')[1:3] == ['', '90.8']
  assert [row_of(text, title)[0] for title in ROWS.values()] == list(ROWS.values())
  assert 'Temperature 0.6, top-p 0.95, up to 32,768 tokens, seed 3.' in text


def test_the_spread_over_wordings():
  by_variant = {'zero_shot': scored(0.5), 'few_shot': scored(0.2), 'system': scored(0.5)}
  low, high, deviation = table.spread(by_variant)
  assert (low, high) == (20, 50)
  assert deviation == pytest.approx(300**0.5)  # mean 40: (10^2 + 20^2 + 10^2) / 2
  text = table.report({'mmlu': by_variant}, SETTINGS, None)
  wordings = '| MMLU | zero_shot, few_shot, system | 20.0 | 50.0 | 17.3 |'
  assert wordings in text
  alone = table.report({'mmlu': {'zero_shot': scored(0.5)}}, SETTINGS, None)
  assert 'wording of the prompt' not in alone


def test_warnings():
  scores = {
    'aime_2024': {'zero_shot': scored(0.3, [0.2, 0.4]), 'few_shot': scored(0.25, [0.2, 0.3])},
    'math_500': {'zero_shot': scored(0.5, [0.49, 0.51], bad_gold=0.1)},
  }
  text = table.report(scores, SETTINGS, None)
  warnings = text.partition('## Warnings\n\n')[2].splitlines()
  assert len(warnings) == 3  # MATH-500 is far from 83.9
  assert warnings[0].startswith(
    '- AIME 2024, zero_shot against few_shot: 0.3 and 0.25 differ by -0.05'
  )
  assert (
    warnings[1] == '- MATH-500 (zero_shot): the reference of 10.0% of the samples cannot be read'
  )
  assert warnings[2].startswith(
    '- AIME 2024 pass@1, R1-Distill-Qwen-1.5B as published: 28.9 and 30 differ'
  )
  others = table.report(scores, SETTINGS | {'size': 'tiny_moe'}, None)
  assert 'as published:' not in others


@pytest.mark.parametrize(
  'folder, model',
  [('DeepSeek-R1-Distill-Qwen-7B', 'R1-Distill-Qwen-7B'), ('deepseek-r1', 'DeepSeek-R1'),
   ('DeepSeek-R1-Zero', 'R1-Zero'), ('Qwen2.5-Math-7B', None)],
)  # fmt: skip
def test_published_weights_are_known_by_their_folder(folder, model):
  """Size auto says nothing of which weights they are."""
  scores = {'math_500': {'zero_shot': scored(0.5, [0.0, 1.0])}}
  text = table.report(scores, SETTINGS | {'size': 'auto', 'model': folder}, None)
  assert (f'MATH-500 pass@1, {model} as published:' in text) == bool(model)
  assert ('as published:' in text) == bool(model)


def test_few_problems_that_are_all_solved_do_not_confirm_what_is_published():
  """Wilson of 30 of 30: from 0.886 on, 11 points wide, and 16 points from 83.9. Of 10 of 10: 28 points wide."""
  right = OUTCOMES.index(RIGHT)
  said = {}
  for count in (10, 30):
    zeros = np.zeros((count, 2))
    found = metrics.estimates(metrics.Results(np.full((count, 2), right), zeros, zeros, zeros))
    scores = {'math_500': {'zero_shot': {'problems': count, 'samples': 2, 'estimates': found}}}
    said[count] = table.report(scores, SETTINGS, None)
  assert 'as published: 83.9 and 100 differ by +16, but an interval is 28 wide' in said[10]
  assert 'as published:' not in said[30] and '**100.0** (88.6 to 100.0)' in said[30]
