import json

import numpy as np
import pytest

from r1jax.evaluation import codeforces
from r1jax.evaluation.codeforces import Contest


def contest(
  points=(1500, 1450, 500, 450, 0), penalties=None, ratings=(1900, 1500, 1400, 1000, 800), **given
):
  penalties = penalties or [0] * len(points)
  arrays = (np.array(x, float) for x in (ratings, points, penalties))
  return Contest('1', {'A': 500, 'B': 1000}, *arrays, **given)


@pytest.mark.parametrize(
  'sent, points_cost, place',
  [
    ({'A': 1, 'B': 1}, 0, 2),  # 1500 points, behind the one who has as many
    ({'A': 1, 'B': 0}, 0, 4),
    ({'A': 0, 'B': 0}, 0, 6),
    ({'A': 2, 'B': 1}, 50, 3),  # 1450: one rejected submission
    ({'A': 2, 'B': 0}, 50, 5),  # 450
    ({'A': 1, 'B': 3}, 50, 3),  # 500 + 900 = 1400, behind 1450
  ],
)
def test_places(sent, points_cost, place):
  assert codeforces.place(contest(rejected_points=points_cost), sent) == place


def test_ties_are_broken_by_the_penalty():
  """Two solved, 20 minutes for two rejected submissions: behind 1500 with 20, before 1500 with 30."""
  among = contest(points=(1500, 1500, 1500, 0, 0), penalties=[0, 20, 30, 0, 0], rejected_penalty=10)
  assert codeforces.place(among, {'A': 2, 'B': 2}) == 3


def test_the_expected_place_by_hand():
  """Against an equal 1/2, against 400 points less 1/11, against 400 more 10/11."""
  assert codeforces.seed(1500, np.array([1500.0])) == pytest.approx(1.5)
  assert codeforces.seed(1500, np.array([1500.0, 1100, 1900])) == pytest.approx(
    1 + 0.5 + 1 / 11 + 10 / 11
  )


@pytest.mark.parametrize(
  'place, ratings, rating',
  [
    (2, [1500, 1500], 1500),  # 1 + 2 * 1/2
    (1.5, [1500], 1500),
    (1 + 2 / 11, [1500, 1500], 1900),
    (1 + 20 / 11, [1500, 1500], 1100),
    (2, [1100, 1900], 1500),  # 1 + 1/11 + 10/11
    (1, [1500], 4000),  # nobody is expected to be first for certain
    (2, [1500], 0),
  ],
)  # fmt: skip
def test_the_rating_of_a_place(place, ratings, rating):
  assert codeforces.rating_of(place, np.array(ratings, float)) == pytest.approx(rating, abs=0.02)


def test_samples_as_submissions():
  right = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], bool)
  assert codeforces.attempts(right).tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
  assert codeforces.attempts(right, 2).tolist() == [[2, 1, 0], [0, 0, 2]]
  assert codeforces.attempts(right, 4).tolist() == [[2, 1, 4]]
  assert codeforces.attempts(right, 3).tolist() == [[2, 1, 0]]  # the fourth sample is no whole run


def test_rating_and_percentile_are_means_over_runs():
  """Three participants of 1500. Place 2 is 1 + 3x = 2, x = 1/3, 400 log10(2) above them; place 3 as far below."""
  among = contest(points=(1500, 700, 0), ratings=(1500, 1500, 1500))
  runs = [{('1', 'A'): 0, ('1', 'B'): 1}, {('1', 'A'): 1, ('1', 'B'): 0}]
  above = 400 * np.log10(2)
  found = codeforces.expected([among], runs[:1])
  assert found['rating'] == pytest.approx([1500 + above], abs=0.02)
  assert found['percentile'].tolist() == [100]
  found = codeforces.expected([among, among], runs)
  assert found['rating'] == pytest.approx([1500, 1500], abs=0.02)
  assert found['percentile'].tolist() == [50, 50]  # above all of them once, below once


def test_a_problem_that_was_not_tried_is_refused():
  with pytest.raises(ValueError, match='^problem B of contest 1 is missing; valid: all of A, B'):
    codeforces.expected([contest()], [{('1', 'A'): 1}])


def test_the_file_of_contests(tmp_path):
  row = {'contest': 7, 'problems': {'A': 500}, 'participants': [{'rating': 1500, 'points': 450}]}
  path = tmp_path / 'codeforces_contests.jsonl'
  path.write_text(json.dumps(row | {'rejected_penalty': 10}))
  (found,) = codeforces.read(path)
  assert (found.name, found.problems, found.rejected_points, found.rejected_penalty) == (
    '7',
    {'A': 500},
    0,
    10,
  )
  assert [found.ratings.tolist(), found.points.tolist(), found.penalties.tolist()] == [
    [1500],
    [450],
    [0],
  ]


@pytest.mark.parametrize(
  'change',
  [
    {'participants': []},
    {'participants': [{'points': 3}]},
    {'problems': None},
    {'problems': {'A': 'x'}},
  ],
)
def test_broken_contests_are_named_with_their_line(tmp_path, change):
  row = {'contest': 7, 'problems': {'A': 500}, 'participants': [{'rating': 1500, 'points': 450}]}
  path = tmp_path / 'codeforces_contests.jsonl'
  path.write_text(json.dumps(row) + '\n' + json.dumps(row | change))
  with pytest.raises(
    ValueError, match=r'codeforces_contests.jsonl:2: .*; valid: one object a line'
  ):
    codeforces.read(path)
