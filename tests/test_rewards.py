"""What earns a reward and, above all, what earns none, and at once."""

import dataclasses
import re
import time
from fractions import Fraction

import numpy as np
import pytest

from r1jax import problems
from r1jax.problems import Problem, ProblemsConfig
from r1jax.problems.countdown import solve, values
from r1jax.problems.problem import rational
from r1jax.rewards import RewardConfig, arithmetic, countdown, format, language, sandbox
from r1jax.rewards.checks import CHECKS
from r1jax.rewards.pool import Pool
from r1jax.rewards.scoring import Scoring, score

P22 = Problem(0, 'countdown', '3 5 7 = 22', '22', (3, 5, 7))
P15 = Problem(1, 'countdown', '1 5 2 = 15', '15', (1, 5, 2))


def cd(numbers, target):
  return Problem(0, 'countdown', '', str(target), tuple(numbers))


@pytest.mark.parametrize(
  'answer, numbers, target',
  [
    ('3*5+7', (3, 5, 7), 22),
    ('7 + 5 * 3', (3, 5, 7), 22),
    ('((3)*(5))+7', (3, 5, 7), 22),
    ('(3+5)*7', (3, 5, 7), 56),
    ('3-5-7', (3, 5, 7), -9),
    ('8/4/2', (2, 4, 8), 1),
    ('8/(4/2)', (2, 4, 8), 4),
    ('8/(3-8/3)', (3, 3, 8, 8), 24),
    ('0+10', (0, 10), 10),
    ('35', (35,), 35),
    ('3\n+\t5', (3, 5), 8),
  ],
)
def test_right_answers(answer, numbers, target):
  assert countdown.judge(answer, cd(numbers, target)).credit == 1.0


@pytest.mark.parametrize(
  'answer, numbers, target',
  [
    ('9**9**9', (9, 9, 9), 387420489),
    ('2**5', (2, 5), 32),
    ('2* *5', (2, 5), 32),
    ('1.5*2', (1, 5, 2), 3),
    ('1 .5*2', (1, 5, 2), 3),
    ('7//2+0*9', (7, 2, 0, 9), 3),
    ('7/ /2', (7, 2), 3),
    ('35', (3, 5), 35),
    ('3 5', (3, 5), 35),
    ('3 5', (3, 5), 8),
    ('35+7', (3, 5, 7), 42),
    ('3+3+5', (3, 5), 11),
    ('3*5', (3, 5, 7), 15),
    ('3*5+7', (3, 5, 7), 23),
    ('(3)(5)', (3, 5), 15),
    ('3(5)', (3, 5), 15),
    ('-3+5', (3, 5), 2),
    ('5+-3', (3, 5), 2),
    ('5--3', (3, 5), 8),
    ('5-(-3)', (3, 5), 8),
    ('+3+5', (3, 5), 8),
    ('3+ +5', (3, 5), 8),
    ('03+5', (3, 5), 8),
    ('3+05', (3, 5), 8),
    ('00+5', (0, 5), 5),
    ('٣+٥', (3, 5), 8),
    ('３+５', (3, 5), 8),
    ('²+5', (2, 5), 7),
    ('3×5', (3, 5), 15),
    ('3\u00a0+5', (3, 5), 8),
    ('3_0+5', (30, 5), 35),
    ('3e1+5', (3, 1, 5), 35),
    ('0x3+5', (3, 5), 8),
    ('3+5=8', (3, 5), 8),
    ('x=3+5', (3, 5), 8),
    ('x = 22', (3, 5, 7), 22),
    ('3+5,', (3, 5), 8),
    ('3+5#', (3, 5), 8),
    ('3+5;7', (3, 5, 7), 8),
    ('3%5', (3, 5), 3),
    ('(3+5', (3, 5), 8),
    ('3+5)', (3, 5), 8),
    ('()3+5', (3, 5), 8),
    ('3+', (3,), 3),
    ('*3', (3,), 3),
    ('', (), 0),
    ('', (3, 5), 8),
    ('5/(3-3)', (5, 3, 3), 0),
    ('0/0', (0, 0), 0),
    ('__import__("os")', (3, 5), 8),
    ('8/(3-2.6666666666666667)', (3, 3, 8, 8), 24),
  ],
)
def test_tricks_and_wrong_answers(answer, numbers, target):
  assert countdown.judge(answer, cd(numbers, target)).credit == 0.0


def test_exact_where_floats_would_pay():
  assert countdown.judge('1/3*3', cd((1, 3, 3), 1)).credit == 1.0
  big = 10**17
  assert countdown.judge(f'{big}+1', cd((big, 1), big)).credit == 0.0


@pytest.mark.parametrize(
  'answer',
  [
    '(' * 100_000 + '3*5+7' + ')' * 100_000,
    '(' * 100 + '3*5+7' + ')' * 100,
    '(' * 100_000,
    ')' * 100_000,
    '9' * 1_000_000,
    '3*5+7' + ' ' * 1_000_000 + '+0',
    '-' * 1_000_000 + '3',
    '3*5+7+' * 200_000,
    '*'.join(['9' * 120] * 2),
    '<answer>' * 120_000,
    '</answer>' * 120_000,
  ],
  ids=lambda text: f'{text[:9]}-{len(text)}',
)
def test_huge_texts_earn_nothing_at_once(answer):
  completion = f'<think>{answer}</think><answer>{answer}</answer>'
  start = time.perf_counter()
  assert countdown.judge(answer, P22).credit == 0.0
  assert countdown.check(completion, P22).credit == 0.0
  format.well_formed(completion)
  assert time.perf_counter() - start < 1.0


def test_depth_within_the_bound_counts():
  nested = '(' * countdown.MAX_DEPTH + '3*5+7' + ')' * countdown.MAX_DEPTH
  assert countdown.judge(nested, P22).credit == 1.0
  assert countdown.judge(f'({nested})', P22).credit == 0.0


def test_every_solution_of_the_generator_is_paid():
  for p in problems.load(ProblemsConfig(count=300), 'train')[::25]:
    texts = list(solve(p.numbers, int(p.answer)))
    assert texts and all(countdown.judge(text, p).credit == 1.0 for text in texts)


def test_parser_agrees_with_the_search_over_values():
  for value in values((2, 3, 6)):
    for text in solve((2, 3, 6), value):
      assert countdown.evaluate(countdown.tokenize(text)) == value


@pytest.mark.parametrize(
  'answer, reference, expected',
  [
    ('38', '38', 1), ('38.0', '38', 1), ('0.5', '1/2', 1), ('-3', '-3', 1), ('1/2', '0.5', 1),
    ('39', '38', 0), ('3+35', '38', 0), ('76/2', '38', 0), ('38.', '38', 0), ('3e1', '30', 0),
    ('0.333333333333333333', '1/3', 0), ('', '0', 0), ('1/0', '1', 0), ('--3', '3', 0),
    ('٣', '3', 0), ('9' * 1_000_000, '9', 0), ('38 ', '38', 0), ('= 38', '38', 0), ('nan', '0', 0),
  ],
)  # fmt: skip
def test_arithmetic(answer, reference, expected):
  assert arithmetic.judge(answer, Problem(0, 'arithmetic', '', reference)).credit == expected


def test_rational():
  assert [rational(t) for t in ('-3', '2.50', '7/2')] == [-3, Fraction(5, 2), Fraction(7, 2)]
  for text in ('', '6/2', '1/0', '1e9', '+3', '.5', '3 ', '٣', '1_0', '9' * 65, '3\n', 'inf'):
    with pytest.raises(ValueError):
      rational(text)


@pytest.mark.parametrize(
  'completion, expected',
  [
    ('<think>a</think><answer>b</answer>', 1),
    (' <think>a\nb</think>\n\n<answer>b</answer>\n', 1),
    ('<think></think><answer></answer>', 0),
    ('<think>a</think><answer> </answer>', 0),
    ('<think>a</think>', 0),
    ('<answer>b</answer>', 0),
    ('a</think><answer>b</answer>', 0),
    ('x<think>a</think><answer>b</answer>', 0),
    ('<think>a</think>x<answer>b</answer>', 0),
    ('<think>a</think><answer>b</answer>x', 0),
    ('<think>a<think></think><answer>b</answer>', 0),
    ('<think>a</think></think><answer>b</answer>', 0),
    ('<think>a</think><answer>b</answer><answer>c</answer>', 0),
    ('<think><answer>b</answer></think>', 0),
    ('<think><answer></think>b</answer>', 0),
    ('<answer>b</answer><think>a</think>', 0),
    ('<think>a</answer></think><answer>b', 0),
    ('<Think>a</Think><answer>b</answer>', 0),
    ('', 0),
  ],
)
def test_format(completion, expected):
  assert format.well_formed(completion) == expected


@pytest.mark.parametrize(
  'completion, expected',
  [
    ('<answer> 3*5+7\n</answer>', '3*5+7'),
    ('<answer>a</answer> <answer>b</answer>', 'b'),
    ('<answer>a</answer> <answer>b', 'a'),
    ('<answer>a<answer>b</answer>', 'b'),
    ('<answer>a</answer></answer>', 'a'),
    ('<answer></answer>', ''),
    ('<think>a</think><answer>b</answer>', 'b'),
    ('a</think><answer>b</answer>', 'b'),
    ('<think><answer>a</answer></think>', None),
    ('<think><answer>a</answer> no idea', None),
    ('<think>a</think><answer>b</answer><think>no', None),
    ('</answer><answer>', None),
    ('<answer>a', None),
    ('a</answer>', None),
    ('', None),
  ],
)
def test_the_last_closed_answer_counts(completion, expected):
  assert format.answer(completion) == expected


@pytest.fixture(scope='module')
def pool():
  with Pool(1) as pool:
    yield pool


# Kind -> the reference, what a check needs beside it, and an answer that is right.
ANSWERED = {
  'countdown': ('22', {}, '<answer>3*5+7</answer>'),
  'arithmetic': ('38', {}, '<answer>38</answer>'),
  'math': ('1/2', {}, '\\boxed{0.5}'),
  'code': ('', {'tests': [{'input': '', 'output': '7'}]}, '\n```python\nprint(7)\n```\n'),
  'choice': ('B', {'choices': ['one', 'two']}, 'Answer: B'),
  'instructions': ('', {'instructions': [{'id': 'punctuation:no_comma'}]}, 'No comma.'),
}


@pytest.mark.parametrize('kind', ANSWERED)
def test_no_answer_of_an_open_thought_is_paid(pool, kind):
  """Nor one that was tried in a closed thought."""
  answer, details, text = ANSWERED[kind]
  problem = Problem(0, kind, 'What is it?', answer, (3, 5, 7), details)
  thoughts = (f'<think>\nPerhaps {text} No', f'<think>{text}', f'<think>a</think>{text}<think>no')
  found = pool.check([(thought, problem) for thought in (*thoughts, f'<think>{text}</think>')])
  assert [verdict.outcome for verdict in found] == ['unparseable'] * 4
  if kind != 'code' or sandbox.available():
    right = pool.check([(f'<think>Hm.</think>{text}', problem), (f'Hm.</think> {text}', problem)])
    assert [verdict.outcome for verdict in right] == ['right'] * 2


def test_score_keeps_the_parts(pool):
  full, bare = '<think>15</think><answer>{}</answer>', '<answer>{}</answer>'
  completions = [
    [full.format('3*5+7'), full.format('3*5'), bare.format('3*5+7')],
    ['no', full.format('1*5*2'), full.format('(1+2)*5')],
  ]
  scores = score(completions, [P22, P15], RewardConfig(1.0, 0.25), pool)
  np.testing.assert_array_equal(scores.parts['accuracy'], [[1, 0, 1], [0, 0, 1]])
  np.testing.assert_array_equal(scores.parts['format'], [[1, 1, 0], [0, 1, 1]])
  np.testing.assert_array_equal(scores.total, [[1.25, 0.25, 1], [0, 0.25, 1.25]])
  assert scores.total.dtype == scores.parts['format'].dtype == np.float32
  assert scores.rates() == pytest.approx(
    {'right': 3 / 6, 'wrong': 2 / 6, 'unparseable': 1 / 6, 'timeout': 0, 'bad_gold': 0}
  )


def test_completions_are_scored_in_any_order(pool):
  scoring = Scoring([P22, P15], 2, RewardConfig(), pool)
  for sample, answer in ((3, '1*5*2'), (0, '3*5+7'), (2, '5*(1+2)')):
    scoring.add(sample, f'<answer>{answer}</answer>')
  with pytest.raises(ValueError, match='4 completions are needed, 3 are here'):
    scoring.scores()
  scoring.add(1, 'none')
  np.testing.assert_array_equal(scoring.scores().parts['accuracy'], [[1, 0], [1, 0]])
  assert scoring.texts()[0] == ['<answer>3*5+7</answer>', 'none']


def test_score_refuses_what_is_not_p_by_g(pool):
  with pytest.raises(ValueError, match='2 problems'):
    score([['a']], [P22, P15], RewardConfig(), pool)
  with pytest.raises(ValueError, match='one size'):
    score([['a'], ['a', 'b']], [P22, P15], RewardConfig(), pool)


def test_the_language_of_the_thought_can_be_rewarded(pool):
  """Half of the words are English; the answer does not count."""
  texts = [
    ['<think>add both 加上</think><answer>3*5+7</answer>', '<think>add</think><answer>加</answer>']
  ]
  cfg = RewardConfig(1.0, 0.0, language_weight=0.5, language='en')
  scores = score(texts, [P22], cfg, pool)
  np.testing.assert_array_equal(scores.parts['language'], [[0.5, 1]])
  np.testing.assert_array_equal(scores.total, [[1.25, 0.5]])
  assert 'language' not in score(texts, [P22], RewardConfig(), pool).parts
  with pytest.raises(ValueError, match="language='english' is unknown; valid: one of en, zh"):
    RewardConfig(language_weight=1.0, language='english')
  with pytest.raises(ValueError, match="language='english' is unknown"):
    RewardConfig(language='english')


def test_a_problem_may_carry_weights_of_its_own(pool):
  own = dataclasses.replace(P15, details={'reward_weights': {'format': 0.0, 'accuracy': 2.0}})
  text = '<think>15</think><answer>{}</answer>'
  texts = [[text.format('3*5+7')], [text.format('(1+2)*5')]]
  scores = score(texts, [P22, own], RewardConfig(1.0, 0.25), pool)
  np.testing.assert_array_equal(scores.total, [[1.25], [2.0]])


def test_a_general_problem_has_no_verdict(pool):
  """Format counts, and the shares of outcomes are those of the other problems."""
  poem = Problem(2, 'general', 'Write a poem.', '')
  text = '<think>15</think><answer>{}</answer>'
  texts = [[text.format('3*5+7'), 'no'], [text.format('So.'), 'no']]
  scores = score(texts, [P22, poem], RewardConfig(1.0, 0.25), pool)
  np.testing.assert_array_equal(scores.total, [[1.25, 0], [0.25, 0]])
  np.testing.assert_array_equal(scores.checked, [[True, True], [False, False]])
  rates = scores.rates()
  assert (rates['right'], rates['unparseable'], sum(rates.values())) == (0.5, 0.5, 1.0)
  alone = score(texts[1:], [poem], RewardConfig(), pool)
  assert set(alone.rates().values()) == {0.0}


def rewarded(wanted=None, **weights):
  details = {'reward_weights': weights} | ({'language': wanted} if wanted else {})
  return dataclasses.replace(P15, details=details)


def test_a_weight_of_its_own_brings_the_language_in(pool):
  """The stage has none. What has no weight is not measured."""
  text = '<think>one two 三</think><answer>5*(1+2)</answer>'
  problems_ = [P22, rewarded(language=0.5), rewarded('zh', language=0.75), rewarded('ja')]
  scores = score([[text]] * 4, problems_, RewardConfig(1.0, 0.0, language='en'), pool)
  expected = np.array([[0], [2 / 3], [1 / 3], [0]], np.float32)
  np.testing.assert_allclose(scores.parts['language'], expected)
  np.testing.assert_allclose(scores.total, [[0], [1 + 1 / 3], [1.25], [1]], rtol=1e-6)


def test_a_problem_may_have_another_language_than_its_stage(pool):
  texts = [['<think>五五二十五</think>'], ['<think>五五二十五</think>']]
  cfg = RewardConfig(0.0, 0.0, language_weight=2.0, language='en')
  scores = score(texts, [P15, rewarded('zh')], cfg, pool)
  np.testing.assert_array_equal(scores.total, [[0], [2]])


@pytest.mark.parametrize(
  'problem, says',
  [
    (rewarded(language=1.0), "language='' of problem 1, which is rewarded for it, is unknown; valid: one of en, zh"),
    (rewarded('english', language=1.0), "language='english' of problem 1"),
  ],
)  # fmt: skip
def test_a_reward_for_no_language_is_refused_before_anything_is_sampled(pool, problem, says):
  with pytest.raises(ValueError, match=re.escape(says)):
    Scoring([P22, problem], 2, RewardConfig(), pool)


def test_all_parts_are_computed_by_the_workers(pool, monkeypatch):
  def here(*_):
    raise AssertionError('in the main process')

  for module, name in ((format, 'well_formed'), (language, 'consistency'), (language, 'words')):
    monkeypatch.setattr(module, name, here)
  text = '<think>15</think><answer>3*5+7</answer>'
  cfg = RewardConfig(1.0, 1.0, language_weight=1.0, language='en')
  np.testing.assert_array_equal(score([[text]], [P22], cfg, pool).total, [[2.0]])


def test_weights_are_checked():
  for weight in (-1.0, float('nan'), float('inf')):
    with pytest.raises(ValueError, match='format_weight='):
      RewardConfig(format_weight=weight)


def test_every_kind_has_a_reward():
  assert set(CHECKS) >= set(problems.KINDS)
