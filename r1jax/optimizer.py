"""AdamW behind a clipped global norm, with warm-up and a constant or cosine schedule (optax)."""

import dataclasses
import math

import jax
import optax

from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import spec
from r1jax.model.weights import map_spec

SCHEDULES = ('constant', 'cosine')
BETA1, BETA2, EPS = 0.9, 0.95, 1e-8  # DeepSeek-V3, 4.2


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """How the policy moves. Steps are updates. `cosine` falls to a tenth (DeepSeek-R1, B.4.2 and B.4.3)."""

  steps: int
  learning_rate: float
  schedule: str = 'constant'
  warmup_steps: int = 0
  weight_decay: float = 0.0
  clip_norm: float = 1.0

  def __post_init__(self):
    if self.steps < 1:
      raise ValueError(f'steps={self.steps} is not possible; valid: at least 1')
    if not 0 <= self.learning_rate < math.inf:
      raise ValueError(
        f'learning_rate={self.learning_rate} is not possible; valid: at least 0, such as 3e-6'
      )
    if self.schedule not in SCHEDULES:
      raise ValueError(f'schedule={self.schedule!r} is unknown; valid: one of {SCHEDULES}')
    if not 0 <= self.warmup_steps < self.steps:
      raise ValueError(
        f'warmup_steps={self.warmup_steps} is not possible; valid: 0 to {self.steps - 1}'
      )
    if not 0 <= self.weight_decay < math.inf:
      raise ValueError(
        f'weight_decay={self.weight_decay} is not possible; valid: at least 0, such as 0.1'
      )
    if not self.clip_norm > 0:
      raise ValueError(f'clip_norm={self.clip_norm} is not possible; valid: above 0, such as 1.0')


def schedule(cfg: OptimizerConfig) -> optax.Schedule:
  """Number of updates done -> learning rate of the next one. Warm-up is linear and ends at the full rate."""
  rate = cfg.learning_rate
  if cfg.schedule == 'cosine':
    after = optax.cosine_decay_schedule(rate, cfg.steps - cfg.warmup_steps, alpha=0.1)
  else:
    after = optax.constant_schedule(rate)
  if not cfg.warmup_steps:
    return after
  first = rate / cfg.warmup_steps
  warmup = optax.linear_schedule(first, rate, max(cfg.warmup_steps - 1, 1))
  return optax.join_schedules([warmup, after], [cfg.warmup_steps])


def optimizer(cfg: OptimizerConfig, model: ModelConfig) -> optax.GradientTransformation:
  """Matrices decay; norms, biases and the router's correction bias do not."""
  decayed = map_spec(lambda w: w.init == 'normal', spec(model))
  return optax.chain(
    optax.clip_by_global_norm(cfg.clip_norm),
    optax.adamw(schedule(cfg), BETA1, BETA2, EPS, weight_decay=cfg.weight_decay, mask=decayed),
  )


def select(yes, new, old):
  """Scalar bool, two trees -> new where it is true, else old, bit for bit."""
  return jax.tree.map(lambda a, b: jax.lax.select(yes, a, b), new, old)
