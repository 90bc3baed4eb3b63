"""What checks each kind of problem, and how long it may take."""

import dataclasses
from collections.abc import Callable, Mapping

from r1jax.rewards.code_tests import TOTAL_SECONDS, total_seconds


@dataclasses.dataclass(frozen=True)
class Check:
  """module: has `check(completion, problem, **options) -> Verdict`; only a worker imports it, so that Countdown needs
  nothing of what maths needs. seconds: of wall time that it may take for one completion. own: details of a problem ->
  seconds that it may take on top, None where all problems get the same. options: name -> value (JSON).
  """

  module: str
  seconds: float
  own: Callable[[dict], float] | None = None
  options: Mapping = dataclasses.field(default_factory=dict)

  def budget(self, details: dict) -> float:
    """Seconds of wall time."""
    return self.seconds + (self.own(details) if self.own else 0.0)


def _seconds_of_tests(details: dict) -> float:
  """Its total_limit; a check of tests that cannot be read is over at once."""
  try:
    return total_seconds(details)
  except ValueError:
    return TOTAL_SECONDS


CHECKS = {
  'countdown': Check('r1jax.rewards.countdown', 1.0),
  'arithmetic': Check('r1jax.rewards.arithmetic', 1.0),
  'math': Check('r1jax.rewards.maths', 5.0),
  # It keeps to total_limit by itself and says what was passed; on top, the last sandbox may take 20 s to come up.
  'code': Check('r1jax.rewards.code', 25.0, own=_seconds_of_tests),
  'choice': Check('r1jax.rewards.choice', 1.0),
  'instructions': Check('r1jax.rewards.instructions', 5.0),
  'general': Check('r1jax.rewards.general', 1.0),
}


def checks(allow_unsandboxed: bool = False) -> dict[str, Check]:
  """allow_unsandboxed: programs are run, under resource limits alone, where no sandbox works."""
  options = {'allow_unsandboxed': allow_unsandboxed}
  return CHECKS | {'code': dataclasses.replace(CHECKS['code'], options=options)}
