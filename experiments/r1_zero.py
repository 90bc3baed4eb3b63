"""R1-Zero: reinforcement learning on a base model with rule rewards, no supervised step before it.

    python -m r1jax.main --config=experiments/r1_zero.py                    # tiny_moe, minutes on two cores
    python -m r1jax.main --config=experiments/r1_zero.py:tiny_dense
    python -m r1jax.main --config=experiments/r1_zero.py:qwen2.5-1.5b --config.init.path=DIR
    python -m r1jax.main --config=experiments/r1_zero.py:auto --config.init.path=DIR   # whatever model is there

Reproduces  DeepSeek-R1, 2.2: the policy discovers by itself that thinking longer pays. The tiny sizes do it on
            Countdown with three one-digit numbers, from a base model that is shipped with the code.
Costs       tiny: two CPU cores for less than 10 minutes. deepseek_v3: 512 H800 for 198 hours (R1, B.4.4).
Must reach  tiny: held-out pass@1 from at most 0.35 to at least 0.80, and 1.5 times the response length.
            deepseek_v3: AIME 2024 from 15.6 to 77.9, responses from about 500 to about 14,000 tokens.
"""

import pathlib

import r1jax
from experiments import base

ASSETS = pathlib.Path(r1jax.__file__).parent / 'assets'
TINY = ('tiny_moe', 'tiny_dense')
SIZES = (*TINY, 'qwen2.5-1.5b', 'qwen2.5-7b', 'deepseek_v3', 'auto')


def get_config(size: str = 'tiny_moe'):
  """Size -> the experiment."""
  size = size or 'tiny_moe'
  if size not in SIZES:
    raise ValueError(f'size={size!r} is unknown; valid: one of {SIZES}')
  c = base.experiment(f'r1_zero-{size}', ('before:evaluate', 'rl:grpo', 'after:evaluate'))
  c.model.size = size
  c.rl, c.evaluate = base.grpo(), base.evaluate()
  tiny(c) if size in TINY else real(c)
  if size == 'deepseek_v3':
    longer(c)
  return c


def tiny(c):
  """Minutes on two cores."""
  c.init.path = str(ASSETS / c.model.size)
  c.mesh.cpu_devices, c.mesh.data, c.mesh.fsdp = 2, -1, 1
  c.rl.steps = 80
  c.rl.steps_per_rollout = 1
  c.rl.prompts_per_step = 16
  c.rl.max_tokens = 256
  c.rl.micro_batch = 2048
  c.rl.format_weight = 0.1
  c.rl.learning_rate = 5e-4
  c.rl.schedule = 'cosine'
  c.rl.reference_every = 20
  c.rl.checkpoint_every = 20
  c.evaluate.max_tokens = c.rl.max_tokens
  c.evaluate.temperature, c.evaluate.top_p = 1.0, 1.0
  c.evaluate.slots = c.rl.slots = 256


def real(c):
  """The paper's settings. Countdown by default; --config.problems.source=FILE.jsonl for your own problems."""
  c.model.dtype, c.model.remat = 'bfloat16_master', 'block'
  c.prompt.template, c.prompt.longest = 'r1_zero', 256
  c.problems.style, c.problems.numbers_max, c.problems.count = 'tinyzero', 4, 300_000
  c.problems.max_number = 99
  if c.model.size == 'deepseek_v3':
    c.mesh.data, c.mesh.fsdp, c.mesh.expert = 1, 8, 64
    c.rl.balance_weight = 0.0001
  c.rl.clip_high = c.rl.clip_low = 10.0
  c.rl.slots = c.evaluate.slots = 1024 if c.model.size == 'deepseek_v3' else 256


def longer(c):
  """From the last whole rollout before step 8,200 on, completions may be twice as long."""
  c.stages = ('before:evaluate', 'rl:grpo', 'longer:grpo', 'after:evaluate')
  c.longer = base.continued('rl')
  c.rl.steps = 8192
  c.longer.steps = c.rl.get_ref('steps') + 2208  # R1-Zero: 10,400
  c.longer.max_tokens = c.rl.get_ref('max_tokens') * 2  # R1-Zero: 65,536
