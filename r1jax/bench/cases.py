"""What is measured."""

import dataclasses

import numpy as np

from r1jax.model.sizes import ModelConfig, Rope

PAD, EOS = 0, 1


@dataclasses.dataclass(frozen=True)
class Case:
  """A GRPO step: `prompts` of `prompt` random tokens, `group` samples of each, up to `new_tokens` long, in fp32.

  The weights are random, so that EOS comes once in 53 tokens: lengths are very unequal. With `equal` nothing ends
  before new_tokens. The reward is the share of even tokens. steps: counted, of each process; one more warms it up.
  theirs: sequences that TRL learns from at once, each tried; 0: all of them, as it does by itself.
  """

  model: ModelConfig
  prompts: int
  group: int
  prompt: int
  new_tokens: int
  threads: int
  steps: int
  turns: int
  theirs: tuple[int, ...] = (0,)
  equal: bool = False
  kl_weight: float = 0.001
  learning_rate: float = 1e-6

  def draw_prompts(self) -> list[np.ndarray]:
    """One [prompts, prompt] of tokens for every step, the uncounted one first."""
    shape = (self.steps + 1, self.prompts, self.prompt)
    return list(np.random.default_rng(0).integers(2, self.model.vocab, shape, np.int32))


_SMALL = ModelConfig(
  name='bench', family='qwen2', vocab=53, embed=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=128,
  rope=Rope(theta=1e4), max_positions=512, tied=True, qkv_bias=True, eos=EOS,
)  # fmt: skip
_LARGE = dataclasses.replace(_SMALL, embed=512, layers=8, head_dim=128, mlp=1024)
SMALL = Case(_SMALL, prompts=4, group=8, prompt=4, new_tokens=16, threads=1, steps=20, turns=3)
LARGE = Case(
  _LARGE, prompts=16, group=8, prompt=4, new_tokens=256, threads=2, steps=1, turns=1, theirs=(0, 16)
)
CASES = {
  'small': SMALL,
  'large': LARGE,
  'large_equal': dataclasses.replace(LARGE, equal=True),
}
