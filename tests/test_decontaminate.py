"""Shared n-grams, by hand."""

import json
import pathlib

import pytest

from r1jax.evaluation.benchmarks import BENCHMARKS
from r1jax.problems.decontaminate import decontaminate, grams, main, touched

TEN = 'one two three four five six seven eight nine ten'


def write(path, *records):
  path.write_text('\n'.join(json.dumps(record, ensure_ascii=False) for record in records) + '\n')
  return str(path)


def test_grams_are_runs_of_normal_words():
  assert grams('One, two -- THREE ｆｏｕｒ!', 3) == {'one two three', 'two three four'}
  assert grams('One, two.', 3) == {'one two'}
  assert grams('求出x的值', 3) == {'求 出 x', '出 x 的', 'x 的 值'}
  assert grams('和を3つ', 2) == {'和 を', 'を 3', '3 つ'}
  assert grams(' !? ', 3) == set()


@pytest.mark.parametrize(
  'text, found',
  [
    (f'Zero {TEN} eleven', {'e'}), (TEN.replace(' ', ',  ').upper(), {'e'}), (TEN.replace('two', 'too'), set()),
    ('What is 2+2?', {'s'}), ('So what is 2+2?', set()), ('', set()),
  ],
)  # fmt: skip
def test_ten_words_in_a_row_or_a_short_text_as_a_whole(text, found):
  index = {gram: {'e'} for gram in grams(TEN)} | {gram: {'s'} for gram in grams('what is 2 + 2')}
  assert touched({'prompt': text, 'n': 1}, index) == found
  assert touched({'x': None, 'messages': [{'content': text}, 3]}, index) == found


@pytest.fixture
def data(tmp_path):
  """Evaluation files of an English and of a Chinese question, and two training files."""
  english = write(
    tmp_path / 'e.jsonl', {'problem': f'Count {TEN}.', 'solution': r'\boxed{10}'}, {'prompt': 'Hi'}
  )
  chinese = write(tmp_path / 'c.jsonl', {'question': '已知函数的图像经过原点求值', 'answer': '1'})
  first = write(
    tmp_path / 'a.jsonl',
    {'prompt': 'Clean.', 'answer': '1', 'kind': 'math'},
    {'prompt': f'Now: {TEN}!'},
  )
  second = write(
    tmp_path / 'b.jsonl',
    {'prompt': 'x', 'completion': f'第一步，已知函数的图像经过原点；{TEN}'},
    {'prompt': '干净的题目'},
  )
  return english, chinese, first, second


def test_files(data, tmp_path, capsys):
  english, chinese, first, second = data
  out = str(tmp_path / 'out.jsonl')
  assert main(['--train', first, second, '--against', english, chinese, '--out', out]) == 0
  assert capsys.readouterr().out.splitlines() == [
    f'{english}: 2 of 4 rows share 10 words in a row',
    f'{chinese}: 1 of 4 rows share 10 words in a row',
    f'removed {first}:2 ({english})',
    f'removed {second}:1 ({", ".join(sorted([english, chinese]))})',
    f'{out}: 2 rows, 2 removed',
  ]
  kept = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
  assert kept == [{'prompt': 'Clean.', 'answer': '1', 'kind': 'math'}, {'prompt': '干净的题目'}]


BENCHMARK_FILES = pathlib.Path(__file__).parent / 'data' / 'benchmarks'


def test_a_folder_of_benchmarks_in_their_public_layouts(tmp_path, capsys):
  """A row taken from each is found there, and nowhere else; wording that an evaluation adds is in no index."""
  asked = {name: b.load(BENCHMARK_FILES)[0].prompt for name, b in BENCHMARKS.items()}
  box = 'Please reason step by step, and put your final answer within \\boxed{}.'
  rows = [{'prompt': prompt} for prompt in asked.values()] + [{'prompt': f'Something else. {box}'}]
  train, out = write(tmp_path / 'train.jsonl', *rows), str(tmp_path / 'out.jsonl')
  write(
    tmp_path / 'own.jsonl', {'question': 'Is this one asked too?', 'answer': '1', 'kind': 'math'}
  )
  own = str(tmp_path / 'own.jsonl')
  capsys.readouterr()
  assert main(['--train', train, '--against', str(BENCHMARK_FILES), own, '--out', out]) == 0
  said = capsys.readouterr().out
  for line, (name, benchmark) in enumerate(BENCHMARKS.items(), 1):
    path = BENCHMARK_FILES / benchmark.file
    assert f'{path}: 1 of {len(rows)} rows share 10 words in a row' in said, name
    assert f'removed {train}:{line} ({path})' in said
  assert f'{own}: 0 of {len(rows)} rows' in said
  kept = pathlib.Path(out).read_text(encoding='utf8').splitlines()
  assert [json.loads(line) for line in kept] == rows[-1:]


@pytest.mark.parametrize('name', ['gpqa_diamond', 'mmlu', 'livecodebench', 'codeforces'])
def test_a_benchmark_by_its_file(tmp_path, name):
  path, out = str(BENCHMARK_FILES / BENCHMARKS[name].file), str(tmp_path / 'out.jsonl')
  train = write(tmp_path / 't.jsonl', {'prompt': BENCHMARKS[name].load(BENCHMARK_FILES)[1].prompt})
  assert decontaminate([train], [path], out) == ({f'{train}:1': {path}}, 1)


def test_a_folder_without_benchmarks_is_refused(data, tmp_path, capsys):
  (tmp_path / 'empty').mkdir()
  argv = ['--train', data[2], '--against', str(tmp_path / 'empty'), '--out', str(tmp_path / 'out')]
  assert main(argv) == 2
  assert 'has no benchmark; valid: files such as aime_2024.jsonl' in capsys.readouterr().err


def test_longer_runs_leave_more(data, tmp_path):
  english, chinese, first, second = data
  removed, total = decontaminate([first, second], [english, chinese], str(tmp_path / 'out'), 11)
  assert (removed, total) == ({f'{second}:1': {chinese}}, 4)
  assert decontaminate([english], [english], str(tmp_path / 'out'), 11)[0].keys() == {
    f'{english}:1', f'{english}:2',
  }  # fmt: skip


def test_a_broken_line_is_named_and_nothing_is_written(data, tmp_path, capsys):
  bad, out = tmp_path / 'bad.jsonl', tmp_path / 'out.jsonl'
  bad.write_text('{"prompt": "x"}\n{')
  assert main(['--train', str(bad), '--against', data[0], '--out', str(out)]) == 2
  assert f'{bad}:2: ' in capsys.readouterr().err
  assert main(['--train', data[2], '--against', data[2], str(bad), '--out', str(out)]) == 2
  assert f'{bad}:2: ' in capsys.readouterr().err
  assert main(['--train', data[2], '--against', write(bad, {'text': 'x'}), '--out', str(out)]) == 2
  assert f"{bad}:1: 'prompt' is missing" in capsys.readouterr().err
  assert not out.exists()
  assert main(['--train', str(tmp_path / 'no.jsonl'), '--against', data[0], '--out', str(out)]) == 2
  assert "no.jsonl' is not a file" in capsys.readouterr().err
