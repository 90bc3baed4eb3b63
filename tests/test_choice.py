"""Which option a completion chooses, against labels by hand."""

import pytest

from r1jax.problems import Problem
from r1jax.problems.boxed import last_boxed
from r1jax.problems.choices import gold, render
from r1jax.rewards.choice import check
from r1jax.rewards.verdict import BAD_GOLD, RIGHT, UNPARSEABLE, WRONG

CITIES = ['London', 'Paris', 'Rome, Italy', 'Oslo']
TEN = [f'item {number}' for number in range(10)]


def judged(completion, answer='B', choices=CITIES):
  return check(completion, Problem(1, 'choice', 'Which?', answer, details={'choices': choices}))


@pytest.mark.parametrize(
  'text',
  [
    'Answer: B', 'ANSWER: B', 'answer: b', 'Answer: (B)', 'Answer: [B]', 'Answer: B) Paris', 'Answer: B. Paris',
    '**Answer:** B', '**Answer**: **B**', 'Answer: **B**', 'Answer:\n\nB', 'Answer: $B$', 'Answer: option B',
    'Final Answer: B, because it is Paris.', 'The answer is B.', 'The correct answer is (B) Paris.', 'Answer: Paris',
    'The answer is: B', 'Answer: B - Paris', '答案:B', '答案：Ｂ', '正确答案是B。', '答案为（Ｂ）', 'Answer： Ｂ',
    'Answer choice: B', r'\boxed{B}', r'\boxed{\text{B}}', r'$\boxed{\textbf{(B)}}$', r'\boxed{B. Paris}',
    r'\boxed{Paris}', r'\boxed{\text{Answer: B}}', r'The answer is \boxed{B}.', '<answer>B</answer>',
    '<answer> (B) </answer>', '<answer>Paris</answer>', '<answer>The answer is B.</answer>',
    r'<answer>\boxed{B}</answer>', '<answer>**B**</answer>', '<think>A? No, C.</think>Answer: B',
    'Answer: A\nWait, no.\nAnswer: B', r'Answer: A, so \boxed{B}', r'\boxed{A} <answer>B</answer>',
    r'<answer>A</answer> \boxed{B}', 'Answer: B\nThe answer is clear from the map.', 'Answer: B is right.',
    r'ANSWER: $\text{B}$', r'Answer: \mathbf{B}', 'The correct option is B.', 'So the answer is option B.',
    '### Answer\nB', 'Answer: B?', 'My answer: B!', 'Answer: B rather than A',
    '答え：B', '答えはBです。', '正解はB', '정답은 B입니다.',
    'Answer: B (not A)', 'Answer: B. A is wrong.', 'Answer: B, a city in France', 'Answer: B is not wrong',
    r'\boxed{\boxed{B}}',
  ],
)  # fmt: skip
def test_right(text):
  found = judged(text)
  assert (found.outcome, found.answer, found.credit) == (RIGHT, 'B', 1.0), found.note
  other = judged(text, answer='D')
  assert (other.outcome, other.answer, other.credit) == (WRONG, 'B', 0.0)


@pytest.mark.parametrize(
  'text, note',
  [
    ('Answer: A and B', 'both A and B'), ('Answer: A or B', 'both A and B'), ('Answer: (A), (B)', 'both A and B'),
    ('Answer: B/A', 'both B and A'), (r'\boxed{A, B}', 'both A and B'), ('<answer>B & C</answer>', 'both B and C'),
    ('Answers: B, and C', 'both B and C'), ('答案：A、B', 'both A and B'), ('Answer: B. London', 'both B and A'),
    ('Answer: B) Paris or D) Oslo', 'both B and D'), ('Answer: B) Paris, D) Oslo', 'both B and D'),
    ('Answer: B or maybe D', 'both B and D'), ('Answer: B (or D)', 'both B and D'),
    ('Answer: B or Oslo', 'both B and D'), ('Answer: B is incorrect, A is right', 'takes B back'),
    ('Answer: B, which is wrong', 'takes B back'),
    ('Answer: B\nor D', 'both B and D'), ("Answer: B. A isn't bad", 'both B and A'),
    (r'\boxed{\boxed{B} D}', 'both B and D'), ('Answer: B. A is not wrong either', 'both B and A'),
    ('Answer: B or, because it rains, D', 'another option'),
    ('The wrong answer is B', 'no '), ('不正解はB', 'no '), ('答えはBではありません', 'neither'),
    ('Answer: E', 'E is none of the 4'), ('Answer: N/A', 'N is none of the 4'), ('<answer>Z</answer>', 'Z is none'),
    ('Answer: A B', 'neither'), ('Answer: ABCD', 'neither'), ('ANSWER: $LETTER', 'neither'), ('Answer: ', 'neither'),
    ('Answer: a city in France', 'neither'), ('Answer: Madrid', 'neither'), ('<answer></answer>', 'neither'),
    ('Answer: B\nAnswer: none of them', 'neither'), ("<answer>I'm not sure</answer>", 'neither'),
    ('', 'no '), ('B', 'no '), ('The answer is a city.', 'no '), (r'\boxed{B', 'no '), ('<answer>B', 'no '),
    ('<think>The answer is B', 'no '), ('<think>Answer: B</think> I give up.', 'no '),
    ('<think>It is B.</think><think>Answer: B', 'no '),
  ],
)  # fmt: skip
def test_unparseable(text, note):
  found = judged(text)
  assert (found.outcome, found.credit) == (UNPARSEABLE, 0.0)
  assert note in found.note


def test_up_to_ten_options():
  assert judged('Answer: J', 'J', TEN).outcome == RIGHT
  assert judged('The answer is (I).', 'I', TEN).outcome == RIGHT
  assert judged('Answer: K', 'J', TEN).outcome == UNPARSEABLE
  assert judged('Answer: J', 'A', TEN[:9]).outcome == UNPARSEABLE


@pytest.mark.parametrize(
  'answer, letter',
  [('C', 'C'), ('(c)', 'C'), ('Ｃ', 'C'), ('0', 'A'), ('3', 'D'), ('rome,  ITALY', 'C'), ('Oslo.', 'D')],
)  # fmt: skip
def test_gold_is_a_letter_a_place_or_a_text(answer, letter):
  assert gold(answer, CITIES) == letter


@pytest.mark.parametrize(
  'answer, choices, note',
  [
    ('E', CITIES, "answer='E' is none of the options"), ('4', CITIES, "answer='4'"), ('', CITIES, "answer=''"),
    ('2', ['1', '2', '3', '4'], 'is B or C of'), ('x', ['x', 'x'], 'is A or B of'), ('A', ['one'], "choices=['one']"),
    ('A', None, 'choices=None'), ('A', [*TEN, 'eleventh'], 'choices='), ('A', ['1', 2], 'choices='),
    ('A', ['1', ' '], 'choices='),
  ],
)  # fmt: skip
def test_bad_gold(answer, choices, note):
  found = judged('Answer: A', answer, choices)
  assert found.outcome == BAD_GOLD
  assert note in found.note and '; valid: ' in found.note


def test_numbers_as_options():
  assert judged('Answer: 2', 'B', ['1', '2', '3', '4']).outcome == RIGHT
  assert judged(r'\boxed{$42$}', 'A', ['42', '2']).outcome == RIGHT


@pytest.mark.parametrize(
  'text', [r'\boxed{' * 100_000, 'Answer: ' * 100_000, '<answer>' * 100_000, '*' * 10**6, 'Answer:' + '(' * 10**6,
   'Answer is ' * 50_000, 'Answer: B, ' + 'not A, ' * 50_000 + 'D', r'\boxed{' * 50_000 + '}' * 50_000,
    '答え\n' * 50_000]
)  # fmt: skip
def test_ends_on_any_text(text):
  assert judged(text).outcome == UNPARSEABLE


@pytest.mark.parametrize(
  'text, found',
  [
    (r'x \boxed{1} \boxed{\frac{1}{2}}', (12, r'\frac{1}{2}')), (r'\boxed{\boxed{3}+1}', (7, '3')),
    (r'\boxed {5} \boxed{6', (0, '5')), (r'\fbox{\{1\}}', (0, r'\{1\}')), (r'\boxed{', None), ('}{', None),
  ],
)  # fmt: skip
def test_last_boxed(text, found):
  assert last_boxed(text) == found


def test_the_prompt_names_the_letters():
  text = render('Which city?', CITIES[:3])
  assert 'LETTER is one of ABC. ' in text
  assert text.endswith('\n\nWhich city?\n\nA) London\nB) Paris\nC) Rome, Italy')
