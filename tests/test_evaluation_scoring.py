"""Answers of our own to the small benchmarks, by the real checks: are they what the scores say?"""

import json
import pathlib

import numpy as np
import pytest

from r1jax.evaluation import __main__ as command
from r1jax.evaluation import codeforces, generations, scoring
from r1jax.evaluation.benchmarks import named, there
from r1jax.evaluation.generations import Generation
from r1jax.rewards import sandbox
from r1jax.rewards.checks import Check
from r1jax.rewards.pool import Pool

FILES = pathlib.Path(__file__).parent / 'data' / 'benchmarks'
LARGER = 'a, b = map(int, input().split())\nprint(max(a, b))'
RUNS = 'from itertools import groupby\n\nclass Solution:\n    def runs(self, s):\n        return len(list(groupby(s)))'
EVEN = "print('YES' if int(input()) % 2 else 'NO')"
ODDS = 'n = (int(input()) + 1) // 2\nprint(n * n)'
SLOW_ODDS = 'print(5 + 4)'  # only the example's
SEA = 'The sea is wide and blue and it moves all day while the wind pushes wave after wave to the far shore.'

RIGHT = {
  'aime_2024': ['\\boxed{66}', '\\boxed{236}', '\\boxed{25}'],
  'aime_2025': ['\\boxed{126}', '\\boxed{7}'],
  'math_500': ['\\boxed{\\tfrac56}', '\\boxed{\\sqrt{13}}', '\\boxed{(-1, 5)}'],
  'gpqa_diamond': ['ANSWER: A', 'Answer: C'],
  'mmlu': ['Answer: B', 'Answer: C'],
  'mmlu_pro': ['Answer: D', 'Answer: D'],
  'livecodebench': [f'```python\n{LARGER}\n```', f'```python\n{RUNS}\n```'],
  'codeforces': [f'```python\n{EVEN}\n```', f'```python\n{ODDS}\n```'],
  'ifeval': [SEA, 'there is an apple on the table.'],
  'countdown': [
    f'<answer>{text}</answer>' for text in ('3 * 5 + 7', '2 + 4 + 6', '8 + 9 - 1', '2 * 3 + 4')
  ],
}
WRONG = {
  'livecodebench': '```python\nprint(5)\n```', 'codeforces': f'```python\n{SLOW_ODDS}\n```', 'ifeval': 'NO, never.',
  'countdown': '<answer>1</answer>',
}  # fmt: skip
programs = pytest.mark.skipif(not sandbox.available(), reason='programs cannot be run safely here')


@pytest.fixture(scope='module')
def pool():
  with Pool(1) as pool:
    yield pool


def save(folder: pathlib.Path, name: str, samples: list[list[str]], variant='zero_shot') -> None:
  """samples: the completions of each problem."""
  problems = named(name).load(FILES)
  path = generations.file_of(folder, name, variant)
  generations.write(path, [])
  for problem, texts in zip(problems, samples, strict=True):
    generations.append(
      path, [Generation(problem.id, i, 'Q', f'<think>Hm.</think>{t}', 10 * i, False) for i, t in enumerate(texts)]
    )  # fmt: skip
  settings = {
    'model': 'm', 'size': 'm', 'folder': str(FILES), 'seed': 0,
    'sampling': {'temperature': 1.0, 'top_p': 1.0, 'max_tokens': 16},
  }  # fmt: skip
  (folder / scoring.SETTINGS).write_text(json.dumps(settings))


def value(scores: dict, name: str, metric: str, variant='zero_shot') -> float:
  return scores[name][variant]['estimates'][metric]['value']


@programs
def test_right_answers_are_right_and_others_are_not(tmp_path, pool):
  assert set(RIGHT) == set(there(FILES))
  for name, texts in RIGHT.items():
    save(tmp_path, name, [[t, WRONG.get(name, '\\boxed{Q}')] for t in texts])
  scores = scoring.score(tmp_path, FILES, pool)
  assert {name: value(scores, name, 'pass@1') for name in RIGHT} == dict.fromkeys(RIGHT, 0.5)
  assert {name: value(scores, name, 'pass@2') for name in RIGHT} == dict.fromkeys(RIGHT, 1.0)
  assert value(scores, 'aime_2024', 'cons@2') == 1.0  # a tie goes to the first, the right one
  assert 'cons@2' not in scores['livecodebench']['zero_shot']['estimates']
  # Both samples as contests of their own: second of 1500, behind who also has 1500 points, and sixth of six.
  rating = scores['codeforces']['zero_shot']['estimates']
  participants = np.array([1900, 1500, 1400, 1000, 800])
  assert codeforces.seed(2 * rating['rating']['value'], participants) == pytest.approx(2, abs=1e-3)
  assert rating['percentile']['value'] == 40  # above four of five once, above none once


def test_lengths_and_verdicts_of_each_sample(tmp_path, pool):
  save(tmp_path, 'math_500', [['\\boxed{5/6}', '\\boxed{1}', 'no box', '\\boxed{0.5}']] * 3)
  scores = scoring.score(tmp_path, FILES, pool)
  found = {
    m: value(scores, 'math_500', m) for m in ('pass@1', 'mean_length', 'wrong', 'unparseable')
  }
  assert found == {
    'pass@1': pytest.approx(1 / 12), 'mean_length': 15.0, 'wrong': pytest.approx(8 / 12), 'unparseable': 0.25,
  }  # fmt: skip
  lines = (tmp_path / 'verdicts' / 'math_500.zero_shot.jsonl').read_text().splitlines()
  first = [json.loads(line) for line in lines[:4]]
  assert [row['outcome'] for row in first] == ['right', 'wrong', 'unparseable', 'wrong']
  assert [row['sample'] for row in first] == [0, 1, 2, 3] and first[1]['answer'] == '1'


THOUGHT = 'Let me see. Answer: B. Or \\boxed{B}? There are no commas so far. But what'


@pytest.mark.parametrize('name', ['mmlu', 'math_500', 'ifeval', 'countdown'])
@pytest.mark.parametrize('prompt, cut_off', [('Q<think>\n', True), ('Q', False)])
def test_a_thought_that_was_cut_off_is_no_answer(tmp_path, pool, name, prompt, cut_off):
  """Where the prompt has begun the thought, the completion alone does not show that it is one."""
  problems = named(name).load(FILES)
  texts = [f'{THOUGHT} {answer}' for answer in RIGHT[name]]
  groups = [
    [Generation(problem.id, 0, prompt, text, 9, True)] for problem, text in zip(problems, texts)
  ]
  found = [row[0].outcome for row in scoring.check(problems, groups, pool)]
  assert (set(found) == {'unparseable'}) == cut_off
  done = [
    [Generation(g.id, 0, prompt, f'Hm.</think>{answer}', 9, False)]
    for (g,), answer in zip(groups, RIGHT[name])
  ]
  assert {row[0].outcome for row in scoring.check(problems, done, pool)} == {'right'}


def test_checks_that_find_out_nothing_are_told(tmp_path, capsys, monkeypatch):
  """A time-out, a check that raises and one that kills its workers: none is silently a zero."""
  monkeypatch.setenv('PYTHONPATH', str(FILES.parent))
  checks = {'choice': Check('bad_checks', 1.0)}
  save(tmp_path, 'mmlu', [['sleep 99', 'fail here'], ['die', 'right a']])
  with Pool(1, checks=checks) as broken:
    scores = scoring.score(tmp_path, FILES, broken)
  assert (value(scores, 'mmlu', 'timeout'), value(scores, 'mmlu', 'unparseable')) == (0.5, 0.25)
  said = [line for line in capsys.readouterr().out.splitlines() if line.startswith('warning: ')]
  ids = [p.id for p in named('mmlu').load(FILES)]
  assert said[0].startswith('warning: mmlu (zero_shot): timeout: 50.0% of the checks ran out of ')
  assert said[1].endswith(f"a bug of theirs: problem {ids[0]}: the check raised KeyError('here')")
  assert said[2].endswith(
    f'timeout: a completion of problem {ids[1]} killed two workers (exit status -11)'
  )
  assert len(said) == 3


def test_scoring_again_gives_the_same_bytes(tmp_path, capsys):
  save(
    tmp_path, 'mmlu', [['Answer: B', 'Answer: C', 'Answer: C'], ['Answer: C', 'no', 'Answer: A']]
  )
  save(tmp_path, 'mmlu', [['Answer: B'] * 3, ['Answer: A'] * 3], 'system')
  names = (scoring.SCORES, scoring.REPORT, scoring.PLOT, 'verdicts/mmlu.system.jsonl')
  assert command.main([str(tmp_path)]) == 0
  before = {name: (tmp_path / name).read_bytes() for name in names}
  assert capsys.readouterr().out.strip() == before[scoring.REPORT].decode().strip()
  for name in names:
    (tmp_path / name).unlink()
  assert command.main([str(tmp_path), '--folder', str(FILES)]) == 0
  assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_two_evaluations_are_compared(tmp_path, capsys):
  for name, right in (('before', 'BA'), ('after', 'BC')):
    save(tmp_path / name, 'mmlu', [[f'Answer: {letter}'] for letter in right])
    assert command.main([str(tmp_path / name)]) == 0
  capsys.readouterr()
  assert command.main([str(tmp_path / 'after'), '--against', str(tmp_path / 'before')]) == 0
  said = capsys.readouterr().out.splitlines()[-1]
  assert said.startswith('mmlu (zero_shot): 0.5 and 1 differ by +0.5, but an interval is 1 wide')


def test_what_cannot_be_scored_is_said(tmp_path, capsys):
  assert command.main([str(tmp_path)]) == 2
  assert 'settings.json' in capsys.readouterr().err
  save(tmp_path, 'mmlu', [['Answer: B'], ['Answer: C']])
  path = generations.file_of(tmp_path, 'mmlu', 'zero_shot')
  generations.append(path, [Generation(77, 0, 'Q', 'A', 1, False)])
  assert command.main([str(tmp_path)]) == 2
  assert f'{path}: problem 77 is not in its benchmark' in capsys.readouterr().err
