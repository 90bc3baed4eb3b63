"""Does the answer equal the reference, exactly?"""

from r1jax.problems.problem import Problem, rational
from r1jax.rewards import format
from r1jax.rewards.verdict import BAD_GOLD, UNPARSEABLE, Verdict, verdict


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where its last answer is the reference's number, exactly.

  Integers, decimals and quotients in lowest terms count; an expression (the question) does not.
  """
  answer = format.answer(completion)
  return judge(answer, problem) if answer is not None else Verdict(UNPARSEABLE, note='no <answer>')


def judge(answer: str, problem: Problem) -> Verdict:
  """The text between the tags -> verdict."""
  try:
    gold = rational(problem.answer)
  except ValueError as error:
    return Verdict(BAD_GOLD, answer, note=str(error))
  try:
    return verdict(rational(answer) == gold, answer)
  except ValueError as error:
    return Verdict(UNPARSEABLE, answer, note=str(error))
