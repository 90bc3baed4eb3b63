import json
import pathlib
import pickle
import zlib
from base64 import b64encode

import pytest

from r1jax.evaluation import layouts
from r1jax.evaluation.benchmarks import BENCHMARKS, Suite, named, there, worded
from r1jax.problems.layouts import parse
from r1jax.rewards import choice, code_tests
from r1jax.rewards.verdict import RIGHT, WRONG

FILES = pathlib.Path(__file__).parent / 'data' / 'benchmarks'


@pytest.mark.parametrize(
  'name, kind, answers',
  [
    ('aime_2024', 'math', ['066', '236', '025']),
    ('aime_2025', 'math', ['126', '7']),
    ('math_500', 'math', ['\\frac{5}{6}', '\\sqrt{13}', '(-1,5)']),
    ('mmlu', 'choice', ['B', 'C']),
    ('mmlu_pro', 'choice', ['D', 'D']),
    ('livecodebench', 'code', ['', '']),
    ('codeforces', 'code', ['', '']),
    ('ifeval', 'instructions', ['', '']),
    ('countdown', 'countdown', ['22', '12', '16', '10']),
  ],
)
def test_files_are_read(name, kind, answers):
  problems = named(name).load(FILES)
  assert [p.answer for p in problems] == answers
  assert {p.kind for p in problems} == {kind}
  assert len({p.id for p in problems}) == len(problems)


def test_numbers_of_samples_are_those_of_the_paper():
  samples = {name: benchmark.samples for name, benchmark in BENCHMARKS.items()}
  sampled = {
    'aime_2024': 64,
    'gpqa_diamond': 64,
    'math_500': 16,
    'codeforces': 16,
    'livecodebench': 8,
  }
  assert {name: samples[name] for name in sampled} == sampled


def test_options_of_gpqa_are_shuffled_alike_every_time():
  problems = BENCHMARKS['gpqa_diamond'].load(FILES)
  options = [p.details['choices'] for p in problems]
  assert options == [['1/2', '1/4', '0', '1'], ['2', '3', '1', '6']]
  right = [p.details['choices']['ABCD'.index(p.answer)] for p in problems]
  assert right == ['1/2', '1']


def test_the_right_option_of_gpqa_is_in_every_place():
  row = {'Question': 'Q', 'Correct Answer': 'right'}
  row |= {f'Incorrect Answer {i}': f'wrong {i}' for i in (1, 2, 3)}
  places = [layouts.gpqa(line, row).answer for line in range(400)]
  assert all(80 <= places.count(letter) <= 120 for letter in 'ABCD')  # 100 +- 2.3 deviations


def test_ids_are_lines_also_where_a_row_has_several():
  assert [p.id for p in BENCHMARKS['mmlu'].load(FILES)] == [2, 3]
  path = FILES / 'mmlu.csv'
  assert len(path.read_text().splitlines()) == 4


def test_programs_outside_of_the_window_are_left_out(capsys):
  problems = BENCHMARKS['livecodebench'].load(FILES)
  assert [p.id for p in problems] == [1, 2]
  assert '1 of 3 rows are not part of LiveCodeBench' in capsys.readouterr().out


def test_hidden_tests_are_unpacked():
  first, second = BENCHMARKS['livecodebench'].load(FILES)
  assert [t['output'] for t in first.details['tests']] == ['5\n', '-7\n']
  assert [t['input'] for t in second.details['tests']] == ['"aab"', '"abcab"']
  assert second.details['metadata'] == {'func_name': 'runs'}


class Evil:
  def __reduce__(self):
    return (pathlib.Path.touch, (pathlib.Path('/tmp/never'),))


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
  row = json.loads((FILES / 'livecodebench.jsonl').read_text().splitlines()[0])
  row['private_test_cases'] = b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
  (tmp_path / 'livecodebench.jsonl').write_text(json.dumps(row))
  with pytest.raises(ValueError, match=r'livecodebench.jsonl:1: holds a pickled '):
    BENCHMARKS['livecodebench'].load(tmp_path)


def test_instructions_keep_only_their_own_parameters():
  first = BENCHMARKS['ifeval'].load(FILES)[0]
  assert first.details['instructions'] == [
    {'id': 'punctuation:no_comma', 'kwargs': {}},
    {'id': 'length_constraints:number_words', 'kwargs': {'relation': 'at least', 'num_words': 20}},
  ]


@pytest.mark.parametrize(
  'name, text, says',
  [
    ('aime_2024', '{"problem": "1+1", "answer": "2"}\n{', ':2: not JSON: '),
    ('aime_2024', '\n\n[1]\n', ':3: not a JSON object'),
    ('math_500', '{"problem": "1+1"}', ':1: answer=None is not possible; valid: a text; valid: math_500.jsonl '),
    ('aime_2025', '{"problem": " ", "answer": "2"}', ":1: problem=' ' is not possible"),
    ('mmlu', 'Question,A,B,C,D,Answer\nQ,a,b,c,d,E\n', ":2: answer='E' is not possible; valid: one of ABCD"),
    ('mmlu', 'Question,A,B,C,D,Answer\nQ,a,b,c,d,A\nQ,a,b\n', ':3: not the 6 columns of the header'),
    ('mmlu', 'Question,A,B,C,Answer\nQ,a,b,c,A\n', ':2: D=None is not possible; valid: a text; valid: mmlu.csv with '),
    ('mmlu_pro', '{"question": "Q", "options": "ab", "answer": "A"}', ":1: options='ab' is not possible"),
    ('ifeval', '{"prompt": "P", "instruction_id_list": ["a"], "kwargs": [{}, {}]}', ':1: 1 instructions have 2 kwargs'),
    ('codeforces', '{"title": "T", "description": "D", "official_tests": []}', ':1: official_tests='),
    ('aime_2024', '', ' holds no problem; valid: aime_2024.jsonl with one object a line'),
  ],
)  # fmt: skip
def test_broken_files_are_named_with_line_and_layout(tmp_path, name, text, says):
  (tmp_path / BENCHMARKS[name].file).write_text(text)
  with pytest.raises(ValueError) as error:
    BENCHMARKS[name].load(tmp_path)
  assert f'{tmp_path / BENCHMARKS[name].file}{says}' in str(error.value)


def test_a_missing_file_is_named_with_its_layout(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r"gpqa_diamond.csv is not a file; valid: .*'Correct Answer'"
  ):
    BENCHMARKS['gpqa_diamond'].load(tmp_path)


def parquet(path, *rows):
  pyarrow, writer = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet')
  writer.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def test_tables_are_read_where_they_are_published_as_such(tmp_path):
  rows = [json.loads(line) for line in (FILES / 'mmlu_pro.jsonl').read_text().splitlines()]
  parquet(tmp_path / 'mmlu_pro.parquet', *rows)
  parquet(
    tmp_path / 'mmlu.parquet',
    {'question': 'Q?', 'subject': 's', 'choices': ['a', 'b', 'c', 'd'], 'answer': 2},
  )
  parquet(tmp_path / 'mine.parquet', {'question': '1+1?', 'answer': '2', 'kind': 'math'})
  assert there(tmp_path) == ('mmlu', 'mmlu_pro', 'mine')
  Suite(folder=str(tmp_path), benchmarks=('mmlu_pro', 'mine'))
  assert named('mmlu_pro').load(tmp_path) == named('mmlu_pro').load(FILES)
  (problem,) = named('mmlu').load(tmp_path)
  assert (problem.prompt, problem.answer) == ('Q?', 'C')
  assert named('mine').load(tmp_path)[0].answer == '2'
  parquet(tmp_path / 'mmlu.parquet', {'question': 'Q?', 'choices': ['a', 'b'], 'answer': 2})
  with pytest.raises(
    ValueError, match=r'mmlu.parquet:1: answer=2 is not possible; valid: 0 to 1; '
  ):
    named('mmlu').load(tmp_path)


def test_programs_without_official_tests_are_tested_on_their_examples(tmp_path, capsys):
  """One such row used to refuse the whole file."""
  rows = [json.loads(line) for line in (FILES / 'codeforces.jsonl').read_text().splitlines()]
  rows[0]['official_tests'] = []
  path = tmp_path / 'codeforces.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  first, second = named('codeforces').load(tmp_path)
  assert first.details['tests'] == rows[0]['examples'] and first.details['examples_only']
  assert len(second.details['tests']) == 2 and 'examples_only' not in second.details
  assert f'{path}: 1 of 2 problems have no tests but the examples' in capsys.readouterr().out
  path.write_text(json.dumps(rows[0] | {'examples': []}))
  with pytest.raises(ValueError, match=r'codeforces.jsonl:1: official_tests='):
    named('codeforces').load(tmp_path)


@pytest.mark.parametrize('name', ['codeforces', 'livecodebench'])
def test_a_tolerance_is_kept(tmp_path, name):
  row = json.loads((FILES / f'{name}.jsonl').read_text().splitlines()[0])
  (tmp_path / f'{name}.jsonl').write_text(json.dumps(row | {'tolerance': 1e-6}))
  (problem,) = named(name).load(tmp_path)
  assert {case.tolerance for case in code_tests.tests_of(problem.details)} == {1e-6}
  assert {case.tolerance for case in code_tests.tests_of(named(name).load(FILES)[0].details)} == {
    0.0
  }


def test_what_is_in_a_folder(tmp_path):
  assert there(FILES) == (*BENCHMARKS, 'countdown')
  with pytest.raises(ValueError, match='has no benchmark; valid: files such as aime_2024.jsonl, '):
    there(tmp_path)


@pytest.mark.parametrize(
  'fields, says',
  [
    ({'folder': '/nowhere'}, "^folder='/nowhere' is not a folder"),
    ({'benchmarks': ('mmlu',)}, "^folder='' has no benchmarks"),
    ({'folder': str(FILES), 'benchmarks': ('mmlu', 'mlu')}, "^benchmarks='mlu' has no file .*; valid: aime_2024, "),
    ({'variants': ('one_shot',)}, "^variants=\\('one_shot',\\) is not possible; valid: some of \\('zero_shot', "),
    ({'variants': ()}, '^variants=\\(\\) is not possible'),
  ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(fields, says):
  with pytest.raises(ValueError, match=says):
    Suite(**fields)


def question(name: str, which: int = 0) -> str:
  return worded(named(name).load(FILES)[which], named(name))


def test_wording_of_mathematics_and_of_what_has_no_wording():
  directive = '\nPlease reason step by step, and put your final answer within \\boxed{}.'
  assert question('math_500') == 'Compute $\\frac{2}{3} + \\frac{1}{6}$.' + directive
  assert question('countdown') == '3 5 7 = 22'


def test_wording_of_choices():
  assert question('mmlu') == (
    'Answer the following multiple choice question. The last line of your response should be of the following '
    "format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n"
    'Which gas do plants take up for photosynthesis?\n\nA) Oxygen\nB) Carbon dioxide\nC) Helium\nD) Neon'
  )
  assert "'ANSWER: $LETTER'" in question('gpqa_diamond')


def test_mmlu_pro_has_its_own_prompt_without_examples():
  assert question('mmlu_pro', 1) == (
    'The following are multiple choice questions (with answers) about physics. Think step by step and then output the '
    'answer in the format of "The answer is (X)" at the end.\n\nQuestion: A car drives 60 km in the first hour and '
    '40 km in the second. What is its mean speed?\nOptions: A. 40 km/h\nB. 45 km/h\nC. 48 km/h\nD. 50 km/h\n'
    "E. 55 km/h\nF. 60 km/h\nG. 100 km/h\nAnswer: Let's think step by step."
  )
  problem = named('mmlu_pro').load(FILES)[1]
  assert choice.check('<think>50</think> The answer is (D)', problem).outcome == RIGHT
  assert choice.check('<think>50</think> The answer is (E).', problem).outcome == WRONG


@pytest.mark.parametrize('record, as_trained', [
  ({'question': '1+1?', 'answer': '2', 'kind': 'math'}, 'final answer within \\boxed{}.'),
  ({'question': 'Which?', 'choices': ['{starter}', 'b'], 'answer': 'B'}, '\n\nA) {starter}\nB) b'),
  ({'question': 'Echo.', 'tests': [{'input': '1', 'output': '1'}]}, 'output the results to stdout.'),
  ({'prompt': 'Which?', 'choices': ['a', 'b'], 'answer': 'B'}, 'Which?'),
])  # fmt: skip
def test_files_of_your_own_are_worded_once_as_in_training(tmp_path, record, as_trained):
  (tmp_path / 'mine.jsonl').write_text(json.dumps(record))
  asked = worded(named('mine').load(tmp_path)[0], named('mine'))
  assert asked == parse(1, record).prompt
  assert asked.endswith(as_trained) and asked.count(as_trained) == 1


def test_wording_of_programs():
  stdin = 'Your code must read the inputs from stdin and output the results to stdout.'
  assert question('livecodebench').endswith(stdin)
  assert question('livecodebench', 1).endswith(
    'def runs(self, s: str) -> int:\n        \n```'
  ) and stdin not in question('livecodebench', 1)
  parts = (
    'Even Steps\n\nA frog ',
    '\n\nInput\nOne integer n.\n\nOutput\nYES or NO.\n\nExample input\n3\n',
    stdin,
  )
  assert all(part in question('codeforces') for part in parts)
  assert '250000000000000000' not in question('codeforces', 1)  # tests stay hidden
