import numpy as np
import pytest

from r1jax.evaluation import votes
from r1jax.problems.problem import Problem
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import Verdict


def right(answer: str) -> Verdict:
  return Verdict('right', answer, 1.0)


def wrong(*answers: str | None) -> list[Verdict]:
  return [Verdict('wrong' if a else 'unparseable', a) for a in answers]


def test_answers_that_are_right_are_one_class_whatever_their_text():
  group = [right('1/2'), right('0.5'), *wrong('7', None, ' 7 ', '')]
  found = votes.labels(group, lambda a, b: a == b)
  assert found == [votes.CORRECT, votes.CORRECT, '7', None, '7', None]


def test_later_answers_join_the_first_that_is_the_same():
  same = {('a', 'b'), ('c', 'd')}
  assert votes.labels(wrong('a', 'c', 'b', 'd'), lambda a, b: (a, b) in same) == [
    'a',
    'c',
    'a',
    'c',
  ]


@pytest.mark.parametrize(
  'answers, winner',
  [
    (['a', 'b', 'b'], 'b'),
    (['b', 'a', 'a', 'b'], 'b'),  # a tie: the first one
    (['a', None, None, None], 'a'),  # no answer is no vote
    ([None, None], None),
  ],
)
def test_the_majority(answers, winner):
  assert votes.majority(answers) == winner


@pytest.fixture(scope='module')
def pool():
  with Pool(1) as pool:
    yield pool


def test_wrong_answers_of_equal_value_vote_together(pool):
  """1/2, 0.5 and \\frac{2}{4} outvote the right answer twice; as texts they would not."""
  group = [right('3'), right('3'), *wrong('1/2', '0.5', '\\frac{2}{4}')]
  maths, texts = (Problem(1, kind, 'Q', '3') for kind in ('math', 'choice'))
  assert votes.majority_is_right([maths, texts], [group, group], pool).tolist() == [False, True]


def test_each_problem_votes_for_itself(pool):
  problems = [Problem(i, 'math', 'Q', '3') for i in range(3)]
  groups = [[*wrong('1'), right('3'), right('6/2')], wrong('1', '2', '2'), wrong(None, None, None)]
  assert votes.majority_is_right(problems, groups, pool).tolist() == [True, False, False]
  assert votes.majority_is_right(problems, groups, pool).dtype == np.bool_
