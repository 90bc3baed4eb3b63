"""What a check says of a completion."""

import dataclasses

RIGHT, WRONG, UNPARSEABLE, TIMEOUT, BAD_GOLD = OUTCOMES = (
  'right', 'wrong', 'unparseable', 'timeout', 'bad_gold',
)  # fmt: skip


class CannotCheck(RuntimeError):
  """Nothing can be checked here, whatever the completion. It ends a run, and is no verdict."""


@dataclasses.dataclass(frozen=True)
class Verdict:
  """outcome: one of OUTCOMES. answer: what was taken from the completion, None without one. credit: what it earns,
  from 0 to 1. note: why, for people. Of a pool's verdicts also seconds: of wall time that the check took. failed:
  whether it raised. parts: what the completion earns beside its answer, such as 'format' (see parts).

  unparseable: the completion has no answer, or none that can be read. bad_gold: the reference cannot be read, so
  that nothing can be said of the completion.
  """

  outcome: str
  answer: str | None = None
  credit: float = 0.0
  note: str = ''
  seconds: float = 0.0
  failed: bool = False
  parts: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)

  def __post_init__(self):
    if self.outcome not in OUTCOMES:
      raise ValueError(f'outcome={self.outcome!r} is unknown; valid: one of {OUTCOMES}')


def verdict(right: bool, answer: str | None, note: str = '') -> Verdict:
  """All or nothing."""
  return Verdict(RIGHT if right else WRONG, answer, float(right), note)
