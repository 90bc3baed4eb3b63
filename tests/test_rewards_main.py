"""`python -m r1jax.rewards FILE.jsonl`."""

import dataclasses
import json
import pathlib

import pytest

from r1jax.rewards import __main__ as command
from r1jax.rewards.__main__ import main, read
from r1jax.rewards.checks import CHECKS, Check

GOOD = {'kind': 'countdown', 'prompt': '3 5 7 = 22', 'answer': '22', 'numbers': [3, 5, 7]}
RIGHT, WRONG = '<answer>3*5+7</answer>', '<answer>3+5+7</answer>'


@pytest.fixture
def write(tmp_path):
  """write(line, ...) -> the path of a file; an object becomes JSON."""

  def write(*lines):
    path = tmp_path / 'cases.jsonl'
    text = '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text, encoding='utf-8', errors='surrogateescape')
    return str(path)

  return write


def test_agreement_exits_with_zero_and_prints_the_rates(write, capsys):
  maths = {
    'kind': 'math',
    'prompt': '?',
    'answer': '1/2',
    'completion': '\\boxed{0.5}',
    'expected': 'right',
  }
  lines = [
    GOOD | {'completion': RIGHT, 'expected': 'right'},
    '',
    GOOD | {'completion': WRONG},
    maths,
  ]
  assert main([write(*lines), '--workers', '1']) == 0
  assert capsys.readouterr().out.splitlines() == [
    '3 completions, 2 with an expected outcome, 0 differ',
    'right 66.7%  wrong 33.3%  unparseable 0.0%  timeout 0.0%  bad_gold 0.0%',
  ]


def test_a_disagreement_is_named_and_exits_with_one(write, capsys):
  path = write(
    GOOD | {'completion': RIGHT, 'expected': 'right'},
    GOOD | {'completion': WRONG, 'expected': 'right'},
  )
  assert main([path, '--workers', '1']) == 1
  first = capsys.readouterr().out.splitlines()[0]
  assert first == f"{path}:2: expected right, got wrong for '3+5+7' (is 15)"


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"kind": ', 'Expecting value'),
    ('[1]', 'not a JSON object: [1]'),
    ('{}', "'kind' is missing; valid: one of ('countdown'"),
    (GOOD | {'completion': 3}, 'completion=3 is not possible; valid: a text'),
    (GOOD | {'completion': '', 'prompt': None}, "'prompt' is missing; valid fields: "),
    ({'kind': 'code', 'question': '?', 'completion': ''}, "'tests' is missing; valid fields: "),
    (GOOD | {'completion': '', 'kind': 'chess'}, "kind='chess' is unknown; valid: one of ('countdown'"),
    (GOOD | {'completion': '', 'expected': 'yes'}, "expected='yes' is unknown; valid: one of ('right'"),
    (GOOD | {'completion': '', 'numbers': [3, True]}, 'numbers=[3, True] is not possible; valid: a list'),
    (GOOD | {'completion': '', 'details': []}, 'details=[] is not possible; valid: a JSON object'),
    ('[' * 100_000, ''),
    ('\udcff', "codec can't decode"),
  ],
  ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_broken_line_is_named(write, capsys, line, message):
  path = write(GOOD | {'completion': RIGHT}, '', line)
  assert main([path]) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'{path}:3: ') and message in error


PUBLIC = (
  {'problem': 'Find x.', 'solution': 'So $x = \\boxed{\\tfrac12}$.', 'completion': '\\boxed{0.5}'},
  {'question': 'How many?', 'answer': 'One and one. #### 2', 'completion': '\\boxed{2}'},
  {'question': 'Which?', 'choices': ['a', 'b'], 'answer': 1, 'completion': 'Answer: B'},
  {'prompt': 'Sum', 'reward_model': {'ground_truth': '3'}, 'kind': 'arithmetic', 'completion': '<answer>3</answer>'},
  {'prompt': 'Write.', 'instruction_id_list': ['punctuation:no_comma'], 'kwargs': [{}], 'completion': 'So.'},
)  # fmt: skip


def test_public_layouts_are_read(write, capsys):
  path = write(*[line | {'expected': 'right'} for line in PUBLIC])
  assert main([path, '--workers', '1']) == 0
  assert capsys.readouterr().out.startswith('5 completions, 5 with an expected outcome, 0 differ')


def test_code_needs_no_answer(write):
  tests = [{'input': '', 'output': '7'}]
  case = {'kind': 'code', 'prompt': 'Print 7.', 'details': {'tests': tests}, 'completion': 'no'}
  ((completion, problem, expected),) = read(write(case))
  assert (completion, problem.answer, problem.details['tests'], expected) == ('no', '', tests, None)


def test_references_that_cannot_be_read_are_named(write, capsys):
  """Also in a file of problems alone, and where reading it for training would stop."""
  path = write(
    GOOD | {'completion': RIGHT},
    {'problem': 'Find x.', 'answer': '\\frac{1}{'},
    GOOD | {'answer': 'many', 'completion': RIGHT},
    {'kind': 'code', 'prompt': 'Print.', 'answer': '', 'details': {'tests': []}},
    GOOD | {'answer': 'many', 'completion': RIGHT, 'expected': 'bad_gold'},
  )
  assert main([path, '--workers', '1']) == 0
  *said, count, _ = capsys.readouterr().out.splitlines()
  assert [line.split(' for ')[0] for line in said] == [f'{path}:{n}: bad_gold' for n in (2, 3, 4)]
  assert said[1] == f"{path}:3: bad_gold for '3*5+7' (not a number: 'many')"
  assert count == '5 completions, 1 with an expected outcome, 0 differ'


def test_what_hangs_raises_or_kills_is_named(write, capsys, monkeypatch):
  data = pathlib.Path(__file__).parent / 'data'
  monkeypatch.setenv('PYTHONPATH', str(data))
  monkeypatch.setattr(command, 'checks', lambda _: {'math': Check('bad_checks', 4.0)})
  maths = {'kind': 'math', 'prompt': '?', 'answer': '1'}
  texts = ('right a', 'sleep 99', 'fail here', 'die')
  path = write(
    *[maths | {'completion': text} for text in texts],
    maths | {'completion': 'fail too', 'expected': 'unparseable'},
    maths | {'completion': 'sleep 98', 'expected': 'timeout'},
    maths | {'completion': 'exit', 'expected': 'timeout'},
  )
  assert main([path, '--workers', '2']) == 1
  *said, count, _, raised = capsys.readouterr().out.splitlines()
  assert said == [
    f'{path}:2: timeout for None (not done in 4.0 s)',
    f"{path}:3: unparseable for None (the check raised KeyError('here'))",
    f'{path}:4: timeout for None (quarantined: killed two workers (exit status -11))',
    f"{path}:5: unparseable for None (the check raised KeyError('too'))",
    f'{path}:7: timeout for None (quarantined: killed two workers (exit status 3))',
  ]
  assert count == '7 completions, 3 with an expected outcome, 0 differ'
  assert raised == '2 checks raised, which is a bug'


@pytest.mark.parametrize('workers', ['0', '-1', 'two'])
def test_no_workers_is_no_traceback(write, capsys, workers):
  with pytest.raises(SystemExit) as stopped:
    main([write(GOOD | {'completion': RIGHT}), '--workers', workers])
  assert stopped.value.code == 2 and '--workers' in capsys.readouterr().err


def test_a_file_that_is_empty_or_missing(write, capsys, tmp_path):
  assert main([write('')]) == 2
  assert 'holds no completion' in capsys.readouterr().err
  assert main([str(tmp_path / 'none.jsonl')]) == 2
  assert 'none.jsonl' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['countdown', 'math'])
def test_the_corpora_agree(name, monkeypatch):
  """Budgets are those of a busy machine: the first check by sympy also imports it."""
  slow = {kind: dataclasses.replace(check, seconds=60.0) for kind, check in CHECKS.items()}
  monkeypatch.setattr(command, 'checks', lambda _: slow)
  assert main([str(pathlib.Path(__file__).parent / 'data' / f'adversarial_{name}.jsonl')]) == 0
