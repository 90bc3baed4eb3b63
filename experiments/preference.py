"""Reward models for helpfulness and safety, for the general prompts of R1's last stage.

    python -m r1jax.main --config=experiments/preference.py                  # tiny_dense, on made-up preferences
    python -m r1jax.main --config=experiments/preference.py:deepseek_v3 --config.init.path=DIR \\
        --config.helpful.source=PAIRS.jsonl --config.safety.source=LABELS.jsonl

Reproduces  DeepSeek-R1, Methods: 66,000 pairs and 106,000 labels, batch 256, learning rate 6e-6, one epoch, 8,192
            tokens. The data itself is not public.
Costs       tiny: two CPU cores for about a minute.
Must reach  tiny: 0.9 of the held-out comparisons right, for both. What they are about (numbers) is known to the base
            model; words that it has never seen are not learned from so few labels. No number is printed for R1's.
"""

import pathlib

import r1jax
from experiments import base

ASSETS = pathlib.Path(r1jax.__file__).parent / 'assets'
DATA = pathlib.Path(__file__).parents[1] / 'tests' / 'data' / 'preference'
TINY = ('tiny_dense', 'tiny_moe')
SIZES = (*TINY, 'qwen2.5-1.5b', 'qwen2.5-7b', 'deepseek_v3', 'auto')


def get_config(size: str = 'tiny_dense'):
  """Size -> the experiment."""
  size = size or 'tiny_dense'
  if size not in SIZES:
    raise ValueError(f'size={size!r} is unknown; valid: one of {SIZES}')
  c = base.experiment(f'preference-{size}', ('helpful:preference', 'safety:preference'))
  c.model.size = size
  c.helpful, c.safety = base.preference(), base.preference()
  c.safety.kind, c.safety.steps = 'safety', 414
  if size in TINY:
    c.init.path = str(ASSETS / size)
    tiny(c.helpful)
    tiny(c.safety)
  else:
    c.model.dtype, c.model.remat = 'bfloat16_master', 'block'
    c.prompt.template = 'r1_zero'
  if size == 'deepseek_v3':
    c.mesh.data, c.mesh.fsdp, c.mesh.expert = 1, 8, 32
  return c


def tiny(c):
  """Half a minute on two cores."""
  c.source = str(DATA / f'{c.kind}.jsonl')
  c.texts_per_step, c.longest, c.micro_batch = 16, 80, 2560
  c.heldout_fraction, c.steps, c.learning_rate = 0.2, 30, 5e-4
