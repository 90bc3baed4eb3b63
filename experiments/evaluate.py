"""The tables of R1: AIME, MATH-500, GPQA Diamond, MMLU, LiveCodeBench, Codeforces, IFEval, and your own .jsonl files.

    python -m r1jax.main --config=experiments/evaluate.py:SIZE --config.init.path=DIR --config.evaluate.folder=DIR

init.path: weights and tokenizer. evaluate.folder: the benchmarks' files under the names in
r1jax/evaluation/benchmarks.py, in the layouts in which they are published; those that are not there are left out.
Sampling, numbers of samples and prompts are those of the paper. What is sampled is kept and can be scored anew:
`python -m r1jax.evaluation runs/evaluate-SIZE-seed0/evaluate`.

Reproduces: DeepSeek-R1, tables 4 and 5.
Costs:      tiny: minutes on two cores. AIME 2024 is 1,920 samples, MATH-500 8,000, all benchmarks together 55,000.
Must reach: r1-distill-qwen-1.5b: 28.9 on AIME 2024, 83.9 on MATH-500. deepseek-r1: 79.8 and 97.3.
            tiny: nothing, it was trained on Countdown alone; it shows that all of it runs.
"""

import pathlib

import r1jax
from experiments import base
from r1jax.model import sizes

PACKAGE = pathlib.Path(r1jax.__file__).parent
SIZES = ('tiny', 'auto', *sizes.names())


def get_config(size: str = 'r1-distill-qwen-1.5b'):
  """Size -> the experiment."""
  size = size or 'r1-distill-qwen-1.5b'
  if size not in SIZES:
    raise ValueError(f'size={size!r} is unknown; valid: one of {SIZES}')
  c = base.experiment(f'evaluate-{size}', ('evaluate',))
  c.model.size, c.model.dtype = size, 'bfloat16'
  c.prompt.template, c.prompt.longest = 'r1_zero', 1024
  c.evaluate = base.evaluate()
  c.evaluate.folder = ''  # of the benchmarks' files
  c.evaluate.benchmarks = ()  # their names, such as 'aime_2024'; (): all that are in the folder
  c.evaluate.variants = (
    'zero_shot',  # wordings of the prompt: zero_shot, few_shot, system, think, no_think
  )
  c.evaluate.problems = 0
  c.evaluate.speculative = False  # two tokens a step where the MTP module's draft is kept
  c.evaluate.samples = 0  # of each problem, 0: AIME and GPQA 64, MATH and Codeforces 16, ...
  c.evaluate.slots = 64  # their cache has 60 GB at 32,768 tokens of r1-distill-qwen-1.5b
  if size == 'tiny':
    tiny(c)
  return c


def tiny(c):
  """All of it on problems of our own, in minutes on two cores."""
  c.model.size, c.model.dtype = 'tiny_moe', 'float32'
  c.init.path = str(PACKAGE / 'assets' / 'tiny_moe')
  c.prompt.template, c.prompt.longest = 'short', 16
  c.evaluate.folder = str(PACKAGE.parent / 'tests' / 'data' / 'benchmarks')
  c.evaluate.variants = ('zero_shot', 'few_shot')
  c.evaluate.samples, c.evaluate.max_tokens, c.evaluate.slots = 4, 64, 64
