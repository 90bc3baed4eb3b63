"""Solved problems of contests -> an expected rating and percentile, as a participant of each would be rated.

How DeepSeek computes its rating is not published. This is Codeforces' public rule: the expected place of a rating r
among participants is 1 + the sum of their chances to beat it, 1 / (1 + 10^((r - r_j) / 400)), and the rating of a
contest is the r whose expected place is the place that was reached. The ratings of all contests are averaged.

A file of contests has one JSON object a line:

    {"contest": "1234", "problems": {"A": 500, "B": 1000}, "rejected_points": 50,
     "participants": [{"rating": 1500, "points": 1450, "penalty": 0}, ...]}

`problems`: what each is worth. `rejected_points`, `rejected_penalty` (0 if missing): what a wrong submission to a
problem that is solved later takes off its points, or adds to the penalty. More points are better, then less `penalty`.
When a solution was sent is not counted.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from r1jax.evaluation import layouts

LOWEST, HIGHEST = 0.0, 4000.0  # ratings of who comes last, or first


@dataclasses.dataclass(frozen=True)
class Contest:
  """ratings, points, penalties [N]: of the participants."""

  name: str
  problems: dict[str, float]
  ratings: np.ndarray
  points: np.ndarray
  penalties: np.ndarray
  rejected_points: float = 0.0
  rejected_penalty: float = 0.0


def read(path: Path) -> list[Contest]:
  """Raises ValueError with `file:line`."""
  contests = []
  for line, row in layouts.rows(path):
    try:
      if isinstance(row, ValueError):
        raise row
      contests.append(_contest(row))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise ValueError(
        f"{path}:{line}: {error!r}; valid: one object a line with 'contest', 'problems' and 'participants' (a list "
        "of 'rating' and 'points')"
      ) from error
  return contests


def _contest(row: Mapping) -> Contest:
  participants = row['participants']
  if not participants or not row['problems']:
    raise ValueError('a contest without problems or participants')
  column = lambda key, *default: np.array(
    [float(p[key]) if key in p or not default else default[0] for p in participants]
  )
  problems = {index: float(points) for index, points in row['problems'].items()}
  costs = (float(row.get(key, 0)) for key in ('rejected_points', 'rejected_penalty'))
  values = column('rating'), column('points'), column('penalty', 0.0)
  return Contest(str(row['contest']), problems, *values, *costs)


def attempts(right: np.ndarray, submissions: int = 1) -> np.ndarray:
  """right [P, k] -> [k // submissions, P]: k samples as that many runs of a contest, in each of which up to
  `submissions` of them are sent in until one is right: how many were sent, 0 where none was right.
  """
  runs = right.shape[1] // submissions
  tried = right[:, : runs * submissions].reshape(len(right), runs, submissions)
  return np.where(tried.any(2), tried.argmax(2) + 1, 0).T


def place(contest: Contest, sent: Mapping[str, int]) -> int:
  """Submissions up to the right one, by problem (0: unsolved) -> place, from 1, behind those with as many points."""
  solved = {index: count for index, count in sent.items() if count}
  lost = lambda count, cost: (count - 1) * cost
  points = sum(contest.problems[i] - lost(n, contest.rejected_points) for i, n in solved.items())
  penalty = sum(lost(n, contest.rejected_penalty) for n in solved.values())
  level = contest.points == points
  return 1 + int(((contest.points > points) | (level & (contest.penalties <= penalty))).sum())


def seed(rating: float, ratings: np.ndarray) -> float:
  """A rating -> its expected place among participants with these ratings [N]."""
  return 1 + float((1 / (1 + 10 ** ((rating - ratings) / 400))).sum())


def rating_of(reached: int, ratings: np.ndarray) -> float:
  """The rating whose expected place is the one that was reached, to 0.01, by bisection between 0 and 4000."""
  low, high = LOWEST, HIGHEST
  while high - low > 0.01:
    middle = (low + high) / 2
    low, high = (middle, high) if seed(middle, ratings) > reached else (low, middle)
  return (low + high) / 2


def expected(contests: Sequence[Contest], sent: Sequence[Mapping[tuple[str, str], int]]) -> dict:
  """`sent`: of each run, (contest, problem) -> submissions up to the right one -> {'rating', 'percentile'}: [C] each,
  means over the runs. percentile: of all participants, the share in percent that is rated lower.

  ValueError where a contest's problem was not tried.
  """
  everybody = np.concatenate([contest.ratings for contest in contests])
  ratings = np.zeros((len(sent), len(contests)))
  for (run, c), _ in np.ndenumerate(ratings):
    contest = contests[c]
    missing = [i for i in contest.problems if (contest.name, i) not in sent[run]]
    if missing:
      raise ValueError(
        f'problem {missing[0]} of contest {contest.name} is missing; valid: all of {", ".join(contest.problems)}'
      )
    tried = {index: sent[run][contest.name, index] for index in contest.problems}
    ratings[run, c] = rating_of(place(contest, tried), contest.ratings)
  below = (everybody < ratings[..., None]).mean(2)
  return {'rating': ratings.mean(0), 'percentile': 100 * below.mean(0)}
