"""A run of seconds that is in the middle of a rollout seven steps of eight: what tests/test_resume.py kills.

Must reach  the same bits, however often it was killed.
"""

import pathlib

import r1jax
from experiments import base

TOKENIZER = pathlib.Path(r1jax.__file__).parent / 'assets' / 'tokenizer'


def get_config(part: str = ''):
  """'' or 'continued': the last third of the steps in a stage of its own -> the experiment."""
  c = base.experiment('resume', ('before:evaluate', 'rl:grpo', 'after:evaluate'))
  c.model.size, c.init.tokenizer = 'micro_moe', str(TOKENIZER)  # which resume_driver.py adds
  c.mesh.cpu_devices, c.mesh.data, c.mesh.fsdp = 2, -1, 1
  c.problems.source, c.problems.max_number = 'arithmetic', 5
  c.problems.heldout_fraction = 0.2
  c.prompt.longest = 32
  c.rl, c.evaluate = base.grpo(), base.evaluate()
  c.rl.steps = 24
  c.rl.prompts_per_step, c.rl.samples_per_prompt = 2, 4
  c.rl.steps_per_rollout, c.rl.inner_epochs = 4, 2
  c.rl.max_tokens, c.rl.slots = 40, 32
  c.rl.micro_batch = 256
  c.rl.learning_rate, c.rl.warmup_steps, c.rl.weight_decay = 0.01, 4, 0.1
  c.rl.kl_weight, c.rl.reference_every = 0.01, 8
  c.rl.bias_speed, c.rl.balance_weight, c.rl.mtp_weight = 0.001, 0.0001, 0.1
  c.rl.checkpoint_every, c.rl.sample_every = 3, 2
  c.evaluate.problems, c.evaluate.samples = 20, c.rl.samples_per_prompt
  c.evaluate.max_tokens, c.evaluate.slots = c.rl.max_tokens, c.rl.slots
  c.evaluate.temperature, c.evaluate.top_p = 1.0, 1.0
  if part == 'continued':
    c.stages = ('before:evaluate', 'rl:grpo', 'more:grpo', 'after:evaluate')
    c.more = base.continued('rl')
    c.rl.steps, c.more.steps = 16, c.rl.steps
  return c
