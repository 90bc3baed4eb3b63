"""`python -m r1jax.rewards FILE.jsonl`."""

import json
import pathlib

import pytest

from r1jax.rewards.__main__ import main

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
    ('{}', 'kind=None is not possible; valid: a text'),
    (GOOD, 'completion=None is not possible; valid: a text'),
    (GOOD | {'completion': '', 'kind': 'chess'}, "kind='chess' is unknown; valid: one of ('countdown'"),
    (GOOD | {'completion': '', 'expected': 'yes'}, "expected='yes' is unknown; valid: one of (None, 'right'"),
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


def test_a_file_that_is_empty_or_missing(write, capsys, tmp_path):
  assert main([write('')]) == 2
  assert 'holds no completion' in capsys.readouterr().err
  assert main([str(tmp_path / 'none.jsonl')]) == 2
  assert 'none.jsonl' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['countdown', 'math'])
def test_the_corpora_agree(name):
  assert main([str(pathlib.Path(__file__).parent / 'data' / f'adversarial_{name}.jsonl')]) == 0
