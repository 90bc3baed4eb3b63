"""The named algorithms: one table of what tells them apart, each with its paper's constants."""

import dataclasses

from r1jax import advantage as advantage_lib
from r1jax.objective import ObjectiveConfig, impossible

OVERLONG = ('keep', 'filter', 'penalty', 'filter+penalty')


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """From rewards to a loss.

  advantage: a kind of advantage.py. ratio ... sampler_cap: see ObjectiveConfig. overlong: completions that were cut
  off are learned as they are (keep), not learned (filter), or lose up to 1 of their reward near the limit (penalty).
  dynamic_sampling: groups of equal rewards are drawn anew. Raises ValueError for what is not possible.
  """

  advantage: str
  ratio: str = 'token'
  surrogate: str = 'clip'
  average: str = 'sequence'
  clip_low: float = 0.2
  clip_high: float = 0.2
  dual_clip: float = 0.0
  kl: str = 'none'
  kl_weight: float = 0.0
  entropy_weight: float = 0.0
  sampler_correction: str = 'none'
  sampler_cap: float = 2.0
  overlong: str = 'keep'
  dynamic_sampling: bool = False

  def __post_init__(self):
    self.objective(max_tokens=1)
    if self.advantage not in advantage_lib.KINDS:
      raise impossible('advantage', self.advantage, ', '.join(advantage_lib.KINDS))
    if self.overlong not in OVERLONG:
      raise impossible('overlong', self.overlong, ', '.join(OVERLONG))
    if self.kl_weight and self.kl == 'none':
      raise impossible('kl_weight', self.kl_weight, "0 with kl='none'")
    if self.dynamic_sampling and self.advantage == 'batch':
      raise impossible(
        'dynamic_sampling', True, "False with advantage='batch', which has no groups"
      )

  @property
  def kl_in_reward(self) -> bool:
    """Whether kl_weight * k1 of each token is taken from the reward."""
    return self.kl == 'k1'

  @property
  def needs_reference(self) -> bool:
    """Whether the reference's log-probabilities are read."""
    return self.kl_weight > 0

  def objective(self, max_tokens: int) -> ObjectiveConfig:
    """The longest completion possible -> what the device has to know."""
    shared = {f.name for f in dataclasses.fields(ObjectiveConfig)} - {'max_tokens'}
    return ObjectiveConfig(max_tokens=max_tokens, **{name: getattr(self, name) for name in shared})


ALGORITHMS = {
  # DeepSeekMath, 4.1, with R1's weight of the KL. R1 prints a clip of 10 for its first RL stage and none for
  # R1-Zero; with 10 only A > 0 is ever clipped, at a ratio of 11. 0.2 is what TRL and verl default to.
  'grpo': Algorithm('group', kl='k3', kl_weight=0.001),
  # arXiv 2503.20783: neither the group's std nor the sequence's length divides.
  'dr_grpo': Algorithm('group_mean', average='constant'),
  # arXiv 2503.14476. Its rewards are 1 and -1, ours 1 and 0, so that the penalty is halved. The ablation is
  # cumulative: it filters and penalises.
  'dapo': Algorithm(
    'group', average='token', clip_high=0.28, overlong='filter+penalty', dynamic_sampling=True
  ),
  # arXiv 2507.18071: the ratio is a sequence's mean, hence the narrow clip.
  'gspo': Algorithm('group', ratio='sequence', clip_low=3e-4, clip_high=4e-4),
  # arXiv 2506.13585: no lower bound; the upper one is not disclosed, ScaleRL advises a weight of up to 5.
  'cispo': Algorithm(
    'group', surrogate='weight', average='token', clip_low=1.0, clip_high=4.0,
    overlong='penalty', dynamic_sampling=True,
  ),
  # arXiv 2402.14740: REINFORCE of the whole sequence, so tokens are summed; max_tokens only scales the loss.
  # The paper has one update a rollout, where the ratio is 1 and the clip does nothing.
  'rloo': Algorithm('leave_one_out', average='constant', kl='k1', kl_weight=0.03),
  # arXiv 2501.03262: the weight of the KL is not in the paper's formulas; R1's is used. The mean over tokens is
  # that of the authors' OpenRLHF.
  'reinforce_pp': Algorithm('batch', average='token', kl='k1', kl_weight=0.001),
  'reinforce_pp_baseline': Algorithm('group_then_batch', average='token', kl='k2', kl_weight=0.001),
}  # fmt: skip


def algorithm(name: str, **overrides) -> Algorithm:
  """Name, and fields to be changed (None: the algorithm's own) -> Algorithm. Raises ValueError."""
  if name not in ALGORITHMS:
    raise impossible('algorithm', name, ', '.join(ALGORITHMS))
  fields = [f.name for f in dataclasses.fields(Algorithm)]
  for field, value in overrides.items():
    if field not in fields:
      raise impossible(field, value, ', '.join(fields))
  changed = {field: value for field, value in overrides.items() if value is not None}
  return dataclasses.replace(ALGORITHMS[name], **changed)
