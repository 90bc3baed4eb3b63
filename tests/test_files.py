"""Public layouts, formats of files, and what is said of broken ones."""

import json
import pathlib
import re
import subprocess
import sys
import types

import pytest

from r1jax import problems
from r1jax.problems import Problem, ProblemsConfig, files, layouts
from r1jax.rewards import choice, code_tests, instructions
from r1jax.rewards.verdict import RIGHT

PUBLIC = str(pathlib.Path(__file__).parent / 'data/problems/public.jsonl')
LINES = pathlib.Path(PUBLIC).read_text(encoding='utf8').splitlines()


@pytest.fixture(scope='module')
def public():
  return {problem.id: problem for problem in files.read(ProblemsConfig(PUBLIC))}


def test_kinds_follow_from_the_fields(public):
  assert [public[i].kind for i in range(1, 13)] == [
    'math', 'math', 'choice', 'choice', 'choice', 'code', 'code', 'code', 'instructions', 'math', 'math', 'countdown',
  ]  # fmt: skip


def test_answers(public):
  assert [public[i].answer for i in range(1, 13)] == [
    r'\frac{3}{2}', '1,000', 'B', 'B', 'C', '', '', '', '', '4', '3', '22'
  ]  # fmt: skip
  assert public[12].numbers == (3, 5, 7)


def test_prompts(public):
  assert public[1].prompt == (
    'What is half of three?\nPlease reason step by step, and put your final answer within \\boxed{}.'
  )
  assert public[3].prompt.endswith(
    'Which is the capital of France?\n\nA) London\nB) Paris\nC) Rome'
  )
  assert public[6].prompt.endswith('read the inputs from stdin and output the results to stdout.')
  assert '```python\ndef add(a, b):\n```' in public[7].prompt
  assert public[7].prompt.endswith('It must define `add`.')
  assert public[8].prompt == 'Print the input.'
  assert public[10].prompt == 'Be brief.\n\n2 + 2?'


def test_details_are_those_that_the_checks_read(public):
  assert choice.check('Answer: B', public[3]).outcome == RIGHT
  assert choice.check('Answer: blood', public[4]).outcome == RIGHT
  assert code_tests.tests_of(public[6].details) == [code_tests.Case('1 2\n', ('3\n',))]
  assert code_tests.tests_of(public[7].details) == [code_tests.Case([1, 2], (3,), 'add')]
  assert code_tests.tests_of(public[8].details) == [code_tests.Case('1\n', ('1\n',))]
  assert code_tests.limits_of(public[8].details).seconds == 2.0
  assert instructions.check('The sea.', public[9]).outcome == RIGHT
  assert instructions.check('The sea, the sky.', public[9]).note.endswith('punctuation:no_comma')


def test_a_problem_survives_its_own_layout(public):
  for problem in public.values():
    record = {name: value for name, value in vars(problem).items() if name != 'id'}
    assert layouts.parse(problem.id, json.dumps(record).encode()) == problem


def test_a_problem_that_only_a_reward_model_judges():
  record = {'prompt': 'Write a poem about rain.', 'details': {'preference': 'helpful'}}
  poem = layouts.parse(1, record)
  assert (poem.kind, poem.prompt, poem.answer, poem.details) == (
    'general', record['prompt'], '', {'preference': 'helpful'},
  )  # fmt: skip
  assert (
    layouts.parse(1, {'question': 'Why is rain wet?', 'kind': 'general'}).prompt
    == 'Why is rain wet?'
  )
  # One that has a reference is for its check, too, and says which.
  with pytest.raises(ValueError, match="'kind' is missing"):
    layouts.parse(1, record | {'answer': '3'})
  with pytest.raises(ValueError, match="'kind' is missing"):
    layouts.parse(1, {'prompt': 'Write a poem about rain.'})


def test_a_kind_for_files_that_do_not_say(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{"question": "2 + 2?", "answer": "4"}')
  with pytest.raises(ValueError, match=r"x\.jsonl:1: 'kind' is missing; valid: one of .*, here or"):
    files.read(ProblemsConfig(str(path)))
  (problem,) = files.read(ProblemsConfig(str(path), kind='math'))
  assert (problem.kind, problem.answer) == ('math', '4')


@pytest.mark.parametrize(
  'record, message',
  [
    ({'question': 'x', 'choices': ['a', 'b'], 'tests': [1], 'answer': 'a'}, 'fields fit code and choice'),
    ({'problem': 'x', 'solution': 'It is 3.', 'kind': 'math'}, "solution='It is 3.' has no answer"),
    ({'problem': 'x', 'kind': 'math'}, "'answer' is missing; valid fields: answer, solution, answerKey"),
    ({'solution': r'\boxed{3}'}, "'prompt' is missing; valid fields: prompt, question, problem"),
    ({'question': 'x', 'choices': ['a', 'b'], 'answer': 2}, "answer='2' is none of the options"),
    ({'question': 'x', 'choices': ['a', 'b'], 'answer': 'c'}, "answer='c' is none of the options"),
    ({'question': 'x', 'choices': ['a'], 'answer': 'A'}, "choices=['a'] is not possible"),
    ({'question': 'x', 'kind': 'choice', 'answer': 'A'}, "'choices' is missing; valid fields: choices, options"),
    ({'question': 'x', 'input_output': '{"inputs"'}, "input_output='{\"inputs\"' is not JSON"),
    ({'question': 'x', 'input_output': '[]'}, 'input_output=[] has no test'),
    ({'question': 'x', 'kind': 'code'}, "'tests' is missing; valid fields: tests, test_cases, input_output"),
    ({'prompt': 'x', 'instruction_id_list': ['a'], 'kwargs': []}, 'kwargs=[] is not possible'),
    ({'prompt': [{'role': 'assistant', 'content': 'x'}], 'answer': '1', 'kind': 'math'}, 'prompt has the message'),
    ({'prompt': ['x'], 'answer': '1', 'kind': 'math'}, "prompt has the message 'x'"),
    ({'prompt': 'x', 'answer': '1', 'kind': 'math', 'details': 1}, 'details=1 is not possible'),
    ({'prompt': 'x', 'answer': [1], 'kind': 'math'}, 'answer=[1] is not possible'),
  ],
)  # fmt: skip
def test_a_field_at_fault_is_named(record, message):
  with pytest.raises(ValueError, match=re.escape(message)) as caught:
    layouts.parse(1, record)
  assert str(caught.value).count('; valid') == ('is not JSON' not in message)


BROKEN = (
  '{"prompt": "1 + 1 =", "answer": "2", "kind": "arithmetic"}\n{"prompt"\n\n[1]\n'
  '{"prompt": "1 + 2 =", "answer": "3", "kind": "arithmetic"}\n'
)


def test_broken_lines_are_counted_and_fatal(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text(BROKEN)
  message = r'x\.jsonl:2: Expecting .*\(one of 2 broken lines of 4\)'
  with pytest.raises(ValueError, match=message):
    files.read(ProblemsConfig(str(path)))


def test_broken_lines_are_said_and_left_out(tmp_path, capsys):
  path = tmp_path / 'x.jsonl'
  path.write_text(BROKEN)
  found = files.read(ProblemsConfig(str(path), broken='skip'))
  assert [problem.id for problem in found] == [1, 5]
  said = capsys.readouterr().out
  assert said.startswith(f'{path}: 2 of 4 lines are broken and left out:\n  {path}:2: Expecting')
  assert f'{path}:4: not a JSON object: [1]' in said
  path.write_text('{\n')
  with pytest.raises(ValueError, match='holds no problem'):
    files.read(ProblemsConfig(str(path), broken='skip'))


def test_a_json_array(tmp_path, public):
  path = tmp_path / 'x.json'
  path.write_text(f'[{",".join(LINES)}]')
  assert files.read(ProblemsConfig(str(path))) == list(public.values())
  path.write_text('{"prompt": "x"}')
  with pytest.raises(ValueError, match=r'x\.json: is no JSON array; valid: '):
    files.read(ProblemsConfig(str(path)))
  path.write_text('[1, ')
  with pytest.raises(ValueError, match=r'x\.json: Expecting'):
    files.read(ProblemsConfig(str(path)))
  path.write_text('[{"prompt": "1 + 1 =", "answer": "2", "kind": "arithmetic"}, 3]')
  with pytest.raises(ValueError, match=r'x\.json:2: not a JSON object: 3'):
    files.read(ProblemsConfig(str(path)))


def test_parquet(tmp_path, public):
  pyarrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  path = tmp_path / 'x.parquet'
  records = [json.loads(line) for line in LINES]
  for index in (2, 7, 8):  # a table has one type for a field, and null where a row has none
    table = pyarrow.Table.from_pylist([{**records[index], 'numbers': None}] * 2)
    parquet.write_table(table, path)
    first, second = files.read(ProblemsConfig(str(path)))
    assert (first.id, second.id) == (1, 2)
    assert (first.prompt, first.answer, first.details) == (
      second.prompt, public[index + 1].answer, public[index + 1].details
    )  # fmt: skip
  path.write_text('not a table')
  with pytest.raises(ValueError, match=r'x\.parquet: '):
    files.read(ProblemsConfig(str(path)))


@pytest.mark.parametrize(
  'source, package', [('x.parquet', 'pyarrow'), ('hub:openai/gsm8k/main:train', 'datasets')]
)
def test_a_package_that_is_missing_is_named(source, package, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'x.parquet').touch()
  for module in ('pyarrow', 'pyarrow.parquet', 'datasets'):
    monkeypatch.setitem(sys.modules, module, None)
  message = rf"source='{source}' needs {package}; valid: pip install 'r1jax\[datasets\]', or"
  with pytest.raises(ValueError, match=message):
    files.read(ProblemsConfig(source))


def test_names_on_the_hub(monkeypatch):
  asked = []

  def load_dataset(*names, split):
    asked.append((names, split))
    return [{'question': 'x', 'answer': '#### 3'}]

  monkeypatch.setitem(sys.modules, 'datasets', types.SimpleNamespace(load_dataset=load_dataset))
  (problem,) = files.read(ProblemsConfig('hub:openai/gsm8k/main:train[:9]'))
  assert (problem.id, problem.kind, problem.answer) == (1, 'math', '3')
  files.read(ProblemsConfig('hub:HuggingFaceH4/MATH-500:test'))
  assert asked == [
    (('openai/gsm8k', 'main'), 'train[:9]'),
    (('HuggingFaceH4/MATH-500',), 'test'),
  ]


@pytest.mark.parametrize(
  'field, value',
  [
    ('source', 'hub:gsm8k'), ('source', 'hub:openai/gsm8k'), ('source', 'x.csv'), ('broken', 'ignore'),
    ('kind', 'maths'),
  ],
)  # fmt: skip
def test_a_wrong_field_of_the_config_is_named(field, value):
  with pytest.raises(ValueError, match=f'{field}={value!r} is not possible; valid: '):
    ProblemsConfig(**{'source': 'x.jsonl', field: value})


def test_a_generated_source_has_its_own_kind():
  with pytest.raises(ValueError, match="kind='math' is not possible"):
    ProblemsConfig('countdown', kind='math')


def test_a_file_goes_through_the_split(public):
  cfg = ProblemsConfig(PUBLIC, heldout_fraction=0.5)
  train, heldout = (problems.load(cfg, split) for split in ('train', 'heldout'))
  assert sorted(train + heldout, key=lambda p: p.id) == list(public.values())
  assert all(isinstance(problem, Problem) for problem in train) and train and heldout


def test_reading_needs_no_optional_package():
  code = (
    'import sys; from r1jax.problems import ProblemsConfig, files; '
    f'files.read(ProblemsConfig({PUBLIC!r})); assert not {{"pyarrow", "datasets"}} & set(sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
