"""Does the answer equal the reference, exactly?"""

from r1jax.problems.problem import Problem, rational


def accuracy(answer: str, problem: Problem) -> float:
  """answer -> 1.0 where it is the reference's number, exactly, else 0.0.

  Integers, decimals and quotients in lowest terms count; an expression (the question) does not.
  """
  try:
    return float(rational(answer) == rational(problem.answer))
  except ValueError:
    return 0.0
