"""The tiny base models: pretraining on generated text in which reasoning of every length and quality occurs.

    python -m r1jax.main --config=experiments/base_model.py             # tiny_moe
    python -m r1jax.main --config=experiments/base_model.py:tiny_dense

Reproduces  the files of r1jax/assets, bit for bit on the same machine and versions. The tokenizer is given: it was made
            on an earlier mixture of the text, and today's has the same pieces in another order:
            python -m r1jax.problems.base_text > lines.txt
            python -m r1jax.tokenizer --text lines.txt --vocab 384 --out DIR
Costs       two CPU cores for about 15 minutes each.
Must reach  held-out pass@1 of about 0.3 at temperature 1: the behaviours are there, the good ones are rare.
"""

import pathlib

import r1jax
from experiments import base

ASSETS = pathlib.Path(r1jax.__file__).parent / 'assets'
SIZES = ('tiny_moe', 'tiny_dense')


def get_config(size: str = 'tiny_moe'):
  """Size -> the experiment."""
  size = size or 'tiny_moe'
  if size not in SIZES:
    raise ValueError(f'size={size!r} is unknown; valid: one of {SIZES}')
  c = base.experiment(f'base_model-{size}', ('pretrain:sft', 'evaluate', 'export'))
  c.model.size = size
  c.init.tokenizer = str(ASSETS / 'tokenizer')
  c.pretrain, c.evaluate, c.export = base.sft(), base.evaluate(), base.export()
  c.pretrain.learn_prompt = True
  c.pretrain.texts_per_step = 40
  c.pretrain.longest = 271
  c.pretrain.micro_batch = 4 * 272
  c.pretrain.steps = 4500 if size == 'tiny_moe' else 5000
  c.pretrain.learning_rate = 3e-3
  c.pretrain.warmup_steps = 100
  c.pretrain.weight_decay = 0.1
  if size == 'tiny_moe':
    c.pretrain.bias_speed, c.pretrain.balance_weight, c.pretrain.mtp_weight = 0.001, 0.0001, 0.1
  c.evaluate.max_tokens = 256
  c.evaluate.temperature, c.evaluate.top_p = 1.0, 1.0
  c.evaluate.slots = 256
  return c
