"""The base text: what it claims is true, what it must not contain is absent, and its shares are those asked for."""

import dataclasses
import re

import grain
import pytest

from r1jax import problems
from r1jax.problems import base_text, countdown
from r1jax.problems.base_text import BaseTextConfig
from r1jax.problems.problem import ProblemsConfig, key
from r1jax.rewards import format
from r1jax.rewards.countdown import evaluate, judge, tokenize

COUNT = 1500
PLAIN = BaseTextConfig(count=COUNT, mistake=0.0, check=0.0)
ATTEMPT = re.compile(r'(\S+)=(\d+) (no|yes)')


def documents(**fields):
  return list(base_text.documents(dataclasses.replace(PLAIN, **fields)))


def question(prompt):
  """'User: 3 5 7 = 22 Assistant:' -> the problem."""
  numbers, target = re.fullmatch(r'User: ([\d ]+) = (\d+) Assistant:', prompt).groups()
  numbers = tuple(map(int, numbers.split()))
  return problems.Problem(0, 'countdown', '', target, numbers)


def attempts(completion):
  """completion -> [(work, stated value, verdict)], checks left out."""
  thought = re.sub(r', check:\S+ (yes|no,)', '', completion.partition('</think>')[0])
  parts = thought.removeprefix('<think>').split(' again:')
  return [ATTEMPT.match(part).groups() for part in parts if part]


def value_of(text):
  return evaluate(tokenize(text))


def worked(work):
  """'3+5=8*7' -> 56; fails where a value on the way is wrong."""
  for line in work.split(';'):
    *done, last = line.split('=')
    for step, after in zip(done, [*done[1:], last]):
      assert value_of(step) == int(re.match(r'\d+', after).group())
  return value_of(last)


def test_every_stated_value_and_verdict_is_right():
  for prompt, completion in documents():
    for work, stated, verdict in attempts(completion):
      assert worked(work) == int(stated)
      assert (stated == question(prompt).answer) == (verdict == 'yes')


def test_the_answer_is_the_last_attempt_and_yes_means_right():
  for prompt, completion in documents():
    assert format.well_formed(completion)
    problem, tried, answer = question(prompt), attempts(completion), format.answer(completion)
    assert sorted(n for n in tokenize(answer) if isinstance(n, int)) == sorted(problem.numbers)
    if tried:
      assert value_of(answer) == int(tried[-1][1])
      assert judge(answer, problem).credit == (tried[-1][2] == 'yes')
      assert completion.count('give up') == (tried[-1][2] == 'no')


def test_a_search_goes_once_around():
  for prompt, completion in documents(persistent=1.0, guess=0.0):
    found = base_text.openings(question(prompt).numbers)
    opening = {e.work: i for i, endings in enumerate(found) for e in endings}
    places = [opening[work] for work, _, _ in attempts(completion)]
    start = places[0]
    assert places == [(start + i) % len(found) for i in range(len(places))]
    assert len(places) <= len(found)


def test_an_attempt_ends_as_near_to_the_target_as_its_opening_allows():
  for prompt, completion in documents():
    problem = question(prompt)
    for work, stated, _ in attempts(completion):
      endings = next(o for o in base_text.openings(problem.numbers) if work in {e.work for e in o})
      miss = abs(int(stated) - int(problem.answer))
      assert miss == min(abs(e.value - int(problem.answer)) for e in endings)


def test_the_persistent_always_arrive():
  for prompt, completion in documents(persistent=1.0, guess=0.0):
    assert judge(format.answer(completion), question(prompt)).credit == 1


def test_shares():
  def share(count, total):
    return pytest.approx(count / total, abs=4 * (0.25 / total) ** 0.5)

  found = documents(guess=0.3, persistent=0.0, again=0.4)
  tried = [attempts(completion) for _, completion in found]
  failed = sum(verdict == 'no' for attempt in tried for _, _, verdict in attempt)
  given_up = sum('give up' in completion for _, completion in found)
  assert share(sum(not attempt for attempt in tried), COUNT) == 0.3
  assert share(given_up, failed) == 0.6
  assert not any('check' in completion for _, completion in found)


def test_mistakes_have_their_share_and_never_touch_the_verdict():
  wrong = total = 0
  for prompt, completion in documents(mistake=0.2):
    for work, stated, verdict in attempts(completion):
      assert (stated == question(prompt).answer) == (verdict == 'yes')
      wrong, total = wrong + (worked(work) != int(stated)), total + 1
  assert wrong / total == pytest.approx(0.19, abs=0.03)  # a slip to zero or below is not made


def test_a_check_tells_the_truth():
  verdicts = set()
  for prompt, completion in documents(check=1.0, mistake=0.3):
    for text, stated, verdict in re.findall(r'check:(\S+)=(\d+) (yes|no)', completion):
      assert value_of(text) == int(stated)
      assert (stated == question(prompt).answer) == (verdict == 'yes')
      verdicts.add(verdict)
  assert verdicts == {'yes', 'no'}


def test_no_heldout_problem_occurs():
  cfg = ProblemsConfig(heldout_fraction=0.3)
  heldout = {key(problem) for problem in problems.load(cfg, 'heldout')}
  asked = {key(question(prompt)) for prompt, _ in documents(problems=cfg)}
  assert len(asked) > 800 and not asked & heldout


def test_deterministic():
  assert documents() == documents()
  assert documents(count=10) == documents()[:10]
  assert documents(count=10, seed=1) != documents(count=10)


def test_a_grain_source():
  source = base_text.documents(PLAIN)
  assert len(source) == COUNT
  batch = next(iter(grain.MapDataset.source(source).batch(2, batch_fn=list)))
  assert batch == [source[0], source[1]]
  with pytest.raises(IndexError, match='1500'):
    source[COUNT]


def test_openings_by_hand():
  assert [[e.text for e in endings] for endings in base_text.openings((2, 8, 4))] == [
    ['8+2+4', '(8+2)*4', '8+2-4'],
    ['8*2+4', '8*2*4', '8*2-4', '8*2/4'],
    ['8-2+4', '(8-2)*4', '8-2-4'],
    ['8/2+4', '8/2*4', '8/2/4'],  # 4-4=0 leads nowhere
    ['4+2+8', '(4+2)*8', '8-(4+2)'],
    ['4*2+8', '4*2*8', '4*2/8'],
    ['4-2+8', '(4-2)*8', '8-(4-2)', '8/(4-2)'],
    ['4/2+8', '4/2*8', '8-4/2', '8/(4/2)'],
    ['8+4+2', '(8+4)*2', '8+4-2', '(8+4)/2'],
    ['8*4+2', '8*4*2', '8*4-2', '8*4/2'],
    ['8-4+2', '(8-4)*2', '8-4-2', '(8-4)/2'],
    ['8/4+2', '8/4*2', '8/4/2'],
  ]


def test_equal_pairs_open_once():
  firsts = [endings[0].text for endings in base_text.openings((2, 3, 2))]
  assert firsts == ['3+2+2', '3*2+2', '3-2+2', '2+2+3', '2*2+3', '2/2+3']


@pytest.mark.parametrize(
  'text, work', [('(5+3)*7', '5+3=8*7'), ('9-3*2', '3*2=6;9-6'), ('8/(4-2)', '4-2=2;8/2')]
)
def test_work_by_hand(text, work):
  numbers = tuple(n for n in tokenize(text) if isinstance(n, int))
  assert {e.work for o in base_text.openings(numbers) for e in o if e.text == text} == {work}


def test_every_problem_can_be_solved():
  for problem in problems.load(ProblemsConfig(heldout_fraction=0.0), 'train'):
    found = {e.value: e for endings in base_text.openings(problem.numbers) for e in endings}
    assert judge(found[int(problem.answer)].text, problem).credit == 1
    assert set(found) <= countdown.values(problem.numbers)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'again': 1.5}, 'again=1.5'),
    ({'count': 0}, 'count=0'),
    ({'guess': 0.6, 'persistent': 0.6}, 'guess=0.6, persistent=0.6'),
    ({'problems': ProblemsConfig(style='tinyzero')}, "style='tinyzero'"),
    ({'problems': ProblemsConfig(source='arithmetic')}, "source='arithmetic'"),
  ],
)
def test_impossible_values_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    BaseTextConfig(**fields)


def test_command(monkeypatch, capsys):
  monkeypatch.setattr('sys.argv', ['', '--count=3'])
  base_text.main()
  lines = capsys.readouterr().out.splitlines()
  assert lines == [text for pair in base_text.documents(BaseTextConfig(count=3)) for text in pair]
