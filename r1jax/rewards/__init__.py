"""Rule rewards: accuracy, format and language, each kept on its own, and their weighted sum (R1, Methods).

No text that a model wrote is executed in this process: checks run in the workers of a pool, and programs in a sandbox.
"""

import dataclasses
import math

from r1jax.problems.problem import Problem
from r1jax.rewards.language import SCRIPTS


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """Weights of the parts. The paper calls accuracy's and format's equal, but prints no number for the format's.

  language: such as 'en': the thought's share of it is rewarded (R1's second stage of RL); '' where it has no weight.
  A problem may have weights of its own, in details['reward_weights'], and a language, in details['language'].
  """

  accuracy_weight: float = 1.0
  format_weight: float = 0.1
  language_weight: float = 0.0
  language: str = ''

  def __post_init__(self):
    for part, weight in self.weights().items():
      if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f'{part}_weight={weight!r} is not possible; valid: a weight of at least 0')
    if (self.language_weight or self.language) and self.language not in SCRIPTS:
      raise ValueError(f'language={self.language!r} is unknown; valid: one of {", ".join(SCRIPTS)}')

  def weights(self) -> dict[str, float]:
    """Part -> its weight."""
    return {
      'accuracy': self.accuracy_weight,
      'format': self.format_weight,
      'language': self.language_weight,
    }

  def weights_of(self, problem: Problem) -> dict[str, float]:
    """The same with the problem's own ones in their place."""
    return self.weights() | problem.details.get('reward_weights', {})

  def language_of(self, problem: Problem) -> str:
    """The language that a problem's thoughts are rewarded for, '' for none. Raises ValueError."""
    if not self.weights_of(problem)['language']:
      return ''
    wanted = problem.details.get('language', self.language)
    if wanted not in SCRIPTS:
      raise ValueError(
        f'language={wanted!r} of problem {problem.id}, which is rewarded for it, is unknown; valid: one of '
        f'{", ".join(SCRIPTS)}, in the stage or in details of the problem'
      )
    return wanted
