"""A program earns its reward by passing all tests, and by nothing else."""

import dataclasses
import json
import pathlib
import time

import pytest

from r1jax.problems import Problem
from r1jax.rewards import code, sandbox, sandbox_command
from r1jax.rewards.checks import CHECKS
from r1jax.rewards.code_tests import Case
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import BAD_GOLD, OUTCOMES, RIGHT, TIMEOUT, WRONG

isolation = pytest.mark.skipif(sandbox.available() is None, reason='no sandbox works here')
METHODS = [method for method in sandbox_command.METHODS if not sandbox._reason(method)]

FILE = pathlib.Path(__file__).parent / 'data' / 'adversarial_code.jsonl'
CASES = [json.loads(line) for line in FILE.read_text().split('\n') if line]
SUMS = [{'input': f'{n} {n}\n', 'output': f'{2 * n}\n'} for n in range(4)]
ADD = 'print(sum(map(int, input().split())))'


def verdict(program, **details):
  text = f'<think>so</think>\n```python\n{program}\n```'
  return code.check(text, Problem(0, 'code', '', '', details=details))


def test_the_file_covers_every_outcome_and_no_case_twice():
  assert {case['expected'] for case in CASES} == set(OUTCOMES)
  assert len({case['why'] for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('case', CASES, ids=lambda case: case['why'])
def test_adversarial(case, method, monkeypatch):
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  problem = Problem(0, case['kind'], case['prompt'], case['answer'], details=case['details'])
  result = code.check(case['completion'], problem)
  assert result.outcome == case['expected'], result.note
  assert result.credit == (1.0 if case['expected'] == RIGHT else 0.0)


@isolation
def test_a_check_is_over_a_second_after_its_limit():
  begin = time.monotonic()
  result = verdict('import time\ntime.sleep(86400)', tests=SUMS[:1], time_limit=0.5)
  assert time.monotonic() - begin < 0.5 + 1
  assert (result.outcome, result.note) == (
    TIMEOUT,
    'passes 0 of 1 tests; test 0: stopped after 0.5 s',
  )
  assert 0.5 <= result.seconds < 1.5


@isolation
def test_partial_credit_is_the_share_passed_and_survives_a_timeout():
  program = 'import time\nn = input()\nif n == "1 1": time.sleep(86400)\nprint(0 if n == "2 2" else int(n[0]) * 2)'
  result = verdict(program, tests=SUMS, time_limit=0.5, partial_credit=True)
  assert (result.outcome, result.credit, result.answer) == (TIMEOUT, 0.5, program)
  assert result.note == 'passes 2 of 4 tests; test 1: stopped after 0.5 s'
  assert verdict(program, tests=SUMS[2:], partial_credit=False).credit == 0.0
  assert verdict(program, tests=SUMS[2:], partial_credit=1).credit == 0.0


@isolation
def test_the_total_limit_ends_what_the_single_limits_would_let_run():
  begin = time.monotonic()
  result = verdict(
    'import time\ntime.sleep(86400)', tests=SUMS * 5, time_limit=0.4, total_limit=0.8
  )
  assert time.monotonic() - begin < 0.8 + 1
  assert result.outcome == TIMEOUT and result.note.startswith('passes 0 of 20 tests; test 0')


@isolation
def test_a_suite_that_is_slow_and_right_is_paid_through_the_pool(monkeypatch):
  """Longer than the budget without its total_limit, which is cut to 0.5 s here, and within the one with it."""
  cut = dataclasses.replace(CHECKS['code'], seconds=0.5, own=lambda d: d.get('total_limit', 0.0))
  details = {'tests': SUMS, 'time_limit': 30, 'total_limit': 120}
  text = f'```python\nimport time\ntime.sleep(0.3)\n{ADD}\n```'
  with Pool(1, checks={'code': cut}) as pool:
    found = pool.check([(text, Problem(0, 'code', '', '', details=details))])[0]
  assert found.outcome == RIGHT and found.seconds > 0.5


@isolation
def test_a_memory_limit_above_the_workers_own_fails_no_program():
  """A worker of the pool may have 4 GiB, and nobody who is not root can have more than that."""
  details = {'tests': SUMS[:1], 'memory_limit': 8192}
  with Pool(1) as pool:
    found = pool.check([(f'```python\n{ADD}\n```', Problem(0, 'code', '', '', details=details))])
  assert found[0].outcome == RIGHT, found[0].note


@isolation
def test_outputs_longer_than_the_usual_cap_are_read_where_they_are_expected():
  lines = 'k' * 99 + '\n'
  program = "print(('k' * 99 + '\\n') * {})"
  tests = [{'input': '', 'output': lines * 20_000}]
  assert verdict(program.format(20_000), tests=tests).outcome == RIGHT
  result = verdict(program.format(60_000), tests=tests)
  assert (result.outcome, result.note) == (
    WRONG,
    'passes 0 of 1 tests; test 0: wrote more than 4000000 bytes',
  )
  call = [{'input': '20000', 'output': json.dumps(lines * 20_000), 'testtype': 'functional'}]
  function = "def f(n):\n  return ('k' * 99 + '\\n') * n"
  assert verdict(function, tests=call, fn_name='f').outcome == RIGHT


@pytest.mark.parametrize(
  'case, room',
  [
    (Case('', ('1',)), 2**20),
    (Case('', ('é' * 2**20,)), 2**22),
    (Case('', ('1' * 2**20,), tolerance=1e-6), 2**23),
    (Case([], ('1', 'x' * 2**20), 'f'), 2 * (2**20 + 2)),
  ],
)
def test_the_room_for_an_output_is_a_mebibyte_or_twice_what_is_expected(case, room):
  assert code._room(case, 2**20) == room


@pytest.mark.parametrize(
  'word, wanted, same',
  [
    ('10.0000001', '10', True),
    ('1e1', '10', True),
    ('+.5', '0.5', True),
    ('5.', '5', True),
    ('nan', 'nan', True),  # the very text
    ('inf', 'inf', True),
    ('1_0', '10', False),
    ('\uff11\uff10', '10', False),
    ('Infinity', 'inf', False),
    ('1e999', '1e400', False),
    ('1', '1e400', False),
    ('0x1p3', '8', False),
    ('10', '1_0', False),
    ('.', '0', False),
    ('1e', '1', False),
  ],
)
def test_with_a_tolerance_a_word_is_a_number_or_the_text_itself(word, wanted, same):
  assert code._same_word(word, wanted, 1e-6) is same


@pytest.mark.parametrize(
  'text',
  ['```' + ' ' * 10**5 + 'x', '`' * 10**5 + 'x', '<answer>' * 10**4, '<answer>' + '`' * 10**5 + ' </answer>'],
)  # fmt: skip
def test_hostile_text_is_read_in_linear_time(text):
  begin = time.monotonic()
  code.program_of(text)
  code._same_word('1' * 10**5 + 'x', '1', 1e-6)
  assert time.monotonic() - begin < 1


@isolation
def test_a_note_names_the_test_and_is_short():
  result = verdict("print('x' * 10000)", tests=SUMS)
  assert result.outcome == WRONG
  assert result.note == f"passes 0 of 4 tests; test 0: line 1 is '{'x' * 80}...', not '0'"


@isolation
def test_what_is_expected_never_enters_the_sandbox(monkeypatch):
  seen, run = [], sandbox.run
  monkeypatch.setattr(sandbox, 'run', lambda *a, **k: seen.append(repr((a, k))) or run(*a, **k))
  tests = [
    {'input': '1', 'output': 'k3y'},
    {'input': '["b"]', 'output': '"k3y"', 'testtype': 'functional'},
  ]
  assert verdict('def f(a):\n  return a', tests=tests, fn_name='f').outcome == WRONG
  assert len(seen) == 2 and not any('k3y' in call for call in seen)
  assert '"b"' not in seen[0]  # nor the input of another test


def test_where_nothing_isolates_nothing_runs_unless_allowed(monkeypatch):
  monkeypatch.setattr(sandbox, '_reasons', lambda: {'bwrap': 'not installed: bwrap'})
  with pytest.raises(sandbox.SandboxError, match='apt install bubblewrap'):
    verdict(ADD, tests=SUMS)
  problem = Problem(0, 'code', '', '', details={'tests': SUMS[:1]})
  with pytest.warns(UserWarning, match='WITHOUT a sandbox'):
    result = code.check(f'```\n{ADD}\n```', problem, allow_unsandboxed=True)
  assert result.outcome == RIGHT


@pytest.mark.parametrize(
  'details, cases',
  [
    ({'tests': [{'input': '1', 'output': '2'}]}, [Case('1', ('2',))]),
    ({'tests': '[{"input": "1", "output": "2"}]', 'tolerance': 0.5}, [Case('1', ('2',), '', 0.5)]),
    ({'tests': {'inputs': ['1', ['2', '3']], 'outputs': ['4', ['5']]}}, [Case('1', ('4',)), Case('2\n3', ('5',))]),
    ({'tests': {'inputs': [[1, 'a']], 'outputs': [[2]], 'fn_name': 'f'}}, [Case([1, 'a'], ([2], 2), 'f')]),
    ({'tests': {'inputs': [[1]], 'outputs': [[2, 3]], 'fn_name': 'f'}}, [Case([1], ([2, 3],), 'f')]),
    (
      {'tests': [{'input': '[1]\n"a"', 'output': '2', 'testtype': 'functional'}], 'metadata': '{"func_name": "f"}'},
      [Case([[1], 'a'], (2,), 'f')],
    ),
    (
      {'tests': [{'input': '1', 'output': 'null', 'testtype': 'functional', 'metadata': {'fn_name': 'g'}}]},
      [Case([1], (None,), 'g')],
    ),
    ({'tests': [{'input': '1', 'output': '2', 'testtype': 'stdin'}]}, [Case('1', ('2',))]),
  ],
)  # fmt: skip
def test_layouts(details, cases):
  assert code.tests_of(details) == cases


@pytest.mark.parametrize(
  'details, message',
  [
    ({}, "tests='None' holds no test"),
    ({'tests': [7]}, "tests[0]='7' needs 'input' and 'output'"),
    ({'tests': [{'input': 7, 'output': '2'}]}, "tests[0].input='7' is not text"),
    ({'tests': {'inputs': ['1'], 'outputs': []}}, "'inputs' and 'outputs' must be lists of one length"),
    ({'tests': {'inputs': ['1'], 'outputs': ['1'], 'fn_name': 'f'}}, "tests[0].input='1' is not a list"),
    ({'tests': SUMS, 'time_limit': '2 seconds'}, "time_limit='2 seconds' is not possible"),
    ({'tests': SUMS, 'memory_limit': True}, 'memory_limit=True is not possible'),
    ({'tests': SUMS, 'total_limit': float('nan')}, 'total_limit=nan is not possible'),
    ({'tests': SUMS, 'tolerance': 7}, 'tolerance=7 is not possible'),
  ],
)  # fmt: skip
def test_tests_that_cannot_be_read_are_bad_gold_and_named(details, message):
  result = verdict(ADD, **details)
  assert result.outcome == BAD_GOLD and message in result.note


def test_limits_are_the_problems_own():
  limits = code.limits_of({'time_limit': 1.5, 'memory_limit': 256})
  assert (limits.seconds, limits.memory_mb) == (1.5, 256 + 64)
  assert (code.limits_of({}).seconds, code.limits_of({}).memory_mb) == (4.0, 512 + 64)


@pytest.mark.parametrize(
  'value, expected, tolerance, same',
  [
    ([1, [2, {'a': None}]], [1, [2, {'a': None}]], 0, True),
    (2, 2.0, 0, True),
    (0.1 + 0.2, 0.3, 0, False),
    (0.1 + 0.2, 0.3, 1e-9, True),
    (1e9 + 1, 1e9, 1e-8, True),  # relative above 1
    (1e-9, 0.0, 1e-8, True),  # absolute below it
    (1, True, 0, False),
    (False, 0, 0, False),
    (None, 0, 0, False),
    ('1', 1, 0, False),
    ([1], [1, 1], 0, False),
    ([], {}, 0, False),
    ({'a': 1}, {'b': 1}, 0, False),
    (float('nan'), float('nan'), 0.5, False),
    (float('inf'), 1.0, 0.5, False),
    (float('inf'), float('inf'), 0.5, True),
    (10**400, 1.5, 0.5, False),
  ],
)
def test_values_are_compared_as_json(value, expected, tolerance, same):
  assert code.same_value(value, expected, tolerance) is same


@pytest.mark.parametrize(
  'completion, program',
  [
    ('```python\na\n```', 'a'),
    ('```Python3 title="x"\na\n```', 'a'),
    ('  ```python\na\n  ```', 'a'),
    ('```python\na\n```\n```\nb\n```', 'a'),
    ('```\na\n```\n```\nb\n```', 'b'),
    ('```\na\n```\n<answer>b</answer>', 'a'),
    ('```python\na\n```</think><answer>b</answer>', 'b'),
    ('- x\n\n  ```python\n  a\n    b\n c\n  ```', 'a\n  b\nc'),
    ('\t```python\n\ta\n\t```', 'a'),
    ('```python\n  a\n    b\n```', 'a\n  b'),
    ('```python\n\n  a\n  ```', '\na'),
    ('```python\na = """\n   \n"""\n```', 'a = """\n   \n"""'),  # white space in a text stays
    ('````python\na\n```\nb\n````', 'a\n```\nb'),
    ('```python\na\n`````', 'a'),
    ('~~~python\na\n~~~', 'a'),
    ('~~~ python `x`\na\n~~~', 'a'),
    ('```py3\na\n```', 'a'),
    ('``` {.python .numberLines}\na\n```', 'a'),
    ('```{python}\na\n```', 'a'),
    ('```python3.11:main.py\na\n```', 'a'),
    ('```PyPy3\na\n```', 'a'),
    ('<answer>```python\na\n```</answer>', 'a'),
    ('<answer> ```\na\n``` </answer>', 'a'),
    ('<answer>```python a```</answer>', 'a'),
    ('<answer>```a```</answer>', 'a'),
    ('<answer>`a`</answer>', 'a'),
    ('```python\r\na\r\n```\r\n', 'a'),
    ('```pythonic\na\n```', None),
    ('````python\na\n```', None),
    ('~~~python\na\n```', None),
    ('```python a```\nb\n```', None),
    ('see ```python\na\n```', None),  # the fence does not begin its line
    ('```java\na\n```', None),
    ('```python\na', None),
    ('', None),
  ],
)
def test_the_program_of_a_completion(completion, program):
  assert code.program_of(completion) == program
