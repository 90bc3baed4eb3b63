"""What checks each kind of problem, and how long it may take."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Check:
  """module: has `check(completion, problem) -> Verdict`; only a worker imports it, so that Countdown needs nothing of
  what maths needs. seconds: of wall time that it may take for one completion.
  """

  module: str
  seconds: float


CHECKS = {
  'countdown': Check('r1jax.rewards.countdown', 1.0),
  'arithmetic': Check('r1jax.rewards.arithmetic', 1.0),
  'math': Check('r1jax.rewards.maths', 3.0),
  'code': Check('r1jax.rewards.code', 75.0),  # it keeps to 60 s by itself, and says what was passed
  'choice': Check('r1jax.rewards.choice', 1.0),
  'instructions': Check('r1jax.rewards.instructions', 5.0),
}
