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
from r1jax.rewards.countdown import accuracy, evaluate, tokenize

COUNT = 2000
PLAIN = BaseTextConfig(count=COUNT, fact=0.0, mistake=0.0, check=0.0)
ATTEMPT = re.compile(r'([^=:]+)=(\d+) (no|yes)')


def documents(**fields):
  return list(base_text.documents(dataclasses.replace(PLAIN, **fields)))


def question(prompt):
  """'User: 3 5 7 = 22 Assistant:' -> the problem."""
  numbers, target = re.fullmatch(r'User: ([\d ]+) = (\d+) Assistant:', prompt).groups()
  numbers = tuple(map(int, numbers.split()))
  return problems.Problem(0, 'countdown', '', target, numbers)


def attempts(completion):
  """completion -> [(expression, stated value, verdict)], checks left out."""
  thought = re.sub(r', check:\S+ (yes|no,)', '', completion.partition('</think>')[0])
  parts = thought.removeprefix('<think>').split(' again:')
  return [ATTEMPT.match(part).groups() for part in parts if part]


def test_every_stated_value_and_verdict_is_right():
  for prompt, completion in documents():
    problem = question(prompt)
    for expression, value, verdict in attempts(completion):
      assert evaluate(tokenize(expression)) == int(value)
      assert sorted(tokenize(expression), key=str)[-3:] == sorted(problem.numbers)
      assert accuracy(expression, problem) == (verdict == 'yes')


def test_the_answer_is_the_last_attempt_and_yes_means_right():
  for prompt, completion in documents():
    assert format.well_formed(completion)
    tried, answer = attempts(completion), format.answer(completion)
    if tried:
      assert answer == tried[-1][0]
      assert accuracy(answer, question(prompt)) == (tried[-1][2] == 'yes')
      assert completion.count('give up') == (tried[-1][2] == 'no')


def test_nothing_is_tried_twice():
  for _, completion in documents(persistent=1.0, guess=0.0):
    tried = [expression for expression, _, _ in attempts(completion)]
    assert len(set(tried)) == len(tried)


def test_the_persistent_always_arrive():
  for prompt, completion in documents(persistent=1.0, guess=0.0):
    assert accuracy(format.answer(completion), question(prompt)) == 1


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


def test_facts():
  found = documents(fact=0.25)
  facts = [(p, c) for p, c in found if not re.match(r'User: [\d ]+ = ', p)]
  assert len(facts) / COUNT == pytest.approx(0.25, abs=0.03)
  for prompt, completion in facts:
    expression = re.fullmatch(r'User: (\S+) = Assistant:', prompt).group(1)
    assert evaluate(tokenize(expression)) == int(format.answer(completion))


def test_mistakes_have_their_share_and_never_touch_the_verdict():
  wrong = total = 0
  for prompt, completion in documents(mistake=0.2):
    for expression, value, verdict in attempts(completion):
      assert (value == question(prompt).answer) == (verdict == 'yes')
      wrong, total = wrong + (evaluate(tokenize(expression)) != int(value)), total + 1
  assert wrong / total == pytest.approx(0.19, abs=0.03)  # a slip to zero or below is not made


def test_a_check_tells_the_truth():
  checks = []
  for prompt, completion in documents(check=1.0, mistake=0.3):
    for steps, verdict in re.findall(r'check:(\S+) (yes|no)', completion):
      for left, value in (step.split('=') for step in steps.split(';')):
        assert evaluate(tokenize(left)) == int(value)
      assert (value == question(prompt).answer) == (verdict == 'yes')
      checks.append(verdict)
  assert {'yes', 'no'} == set(checks)


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
  with pytest.raises(IndexError, match='2000'):
    source[COUNT]


def test_candidates_by_hand():
  found = {e.text: e.value for e in base_text.candidates((2, 3))}
  assert found == {'2+3': 5, '2*3': 6, '3-2': 1}
  found = {e.text: e.value for e in base_text.candidates((3, 5, 7))}
  assert found == {
    '3+5+7': 15, '(3+5)*7': 56, '3+5-7': 1, '3*5+7': 22, '3*5*7': 105, '3*5-7': 8, '5-3+7': 9,
    '(5-3)*7': 14, '(3+7)*5': 50, '3+7-5': 5, '(3+7)/5': 2, '3*7+5': 26, '3*7-5': 16,
    '(7-3)*5': 20, '(5+7)*3': 36, '(5+7)/3': 4, '5*7+3': 38, '5*7-3': 32, '(7-5)*3': 6,
  }  # fmt: skip


def test_every_problem_has_a_candidate():
  for problem in problems.load(ProblemsConfig(heldout_fraction=0.0), 'train'):
    found = {e.value: e for e in base_text.candidates(problem.numbers)}
    assert accuracy(found[int(problem.answer)].text, problem) == 1
    assert set(found) <= countdown.values(problem.numbers)


def test_values_near_the_target_come_first():
  def distance(reach):
    found = [(question(p), c) for p, c in documents(guess=1.0, persistent=0.0, reach=reach)]
    far = [abs(evaluate(tokenize(format.answer(c))) - int(problem.answer)) for problem, c in found]
    return sum(far) / len(far)

  assert distance(3.0) < 0.5 * distance(1000.0)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'again': 1.5}, 'again=1.5'),
    ({'count': 0}, 'count=0'),
    ({'reach': 0.0}, 'reach=0.0'),
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
