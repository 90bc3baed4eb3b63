"""Named model configurations: the tiny ones, DeepSeek-V3, Qwen2.5, Qwen3, Llama 3.x and the R1 distills.

A `ModelConfig` says everything about the function a model computes, and nothing about how it is trained.
Values are those of the released `config.json` files; parameter counts are tested in tests/test_sizes.py.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary position embedding. `kind`: 'default', 'llama3' or 'yarn'.

  `interleaved` rotates the pairs (0,1), (2,3), ... as DeepSeek does; otherwise the first half of a
  head is paired with the second (Qwen, Llama). Lengths are in tokens.
  """

  theta: float = 10000.0
  kind: str = 'default'
  factor: float = 1.0
  original_positions: int = 0
  low_freq: float = 1.0  # llama3
  high_freq: float = 4.0
  beta_fast: float = 32.0  # yarn
  beta_slow: float = 1.0
  mscale: float = 0.0
  mscale_all_dim: float = 0.0
  interleaved: bool = False


@dataclasses.dataclass(frozen=True)
class MlaConfig:
  """Multi-head latent attention (DeepSeek-V3, 2.1.1). `q_latent` 0: queries come straight from x."""

  q_latent: int
  kv_latent: int
  nope: int
  rope: int
  v: int


@dataclasses.dataclass(frozen=True)
class MoeConfig:
  """Routed and shared experts (DeepSeek-V3, 2.1.2)."""

  experts: int
  chosen: int
  expert_mlp: int
  shared: int = 1
  groups: int = 1
  kept_groups: int = 1
  score: str = 'sigmoid'  # or 'softmax' (V2)
  correction_bias: bool = True
  normalise: bool = True
  scale: float = 2.5
  first_dense: int = 1


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """One transformer. `family` is the Hugging Face `model_type`."""

  name: str
  family: str  # 'deepseek_v3', 'deepseek_v2', 'qwen2', 'qwen3', 'llama'
  vocab: int
  embed: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  rope: Rope
  max_positions: int
  norm_eps: float = 1e-6
  tied: bool = False
  qkv_bias: bool = False
  qk_norm: bool = False
  mla: MlaConfig | None = None
  moe: MoeConfig | None = None
  mtp: int = 0  # multi-token-prediction modules
  bos: int | None = None
  eos: int | tuple[int, ...] | None = None
  init_std: float = 0.02
  # How it is computed, not what: set from the experiment.
  param_dtype: str = 'float32'
  compute_dtype: str = 'float32'
  remat: str = 'none'  # 'none', 'block' or 'dots'
  logits_chunk: int = 4096  # tokens of a shard whose logits exist at once

  def axis_sizes(self) -> dict[str, int]:
    """Logical axis name -> size, for the weights' specs."""
    sizes = {
      'vocab': self.vocab, 'embed': self.embed, 'heads': self.heads, 'kv_heads': self.kv_heads,
      'head_dim': self.head_dim, 'mlp': self.mlp, 'two_embed': 2 * self.embed,
    }  # fmt: skip
    if self.mla:
      m = self.mla
      sizes |= {'q_latent': m.q_latent, 'kv_latent': m.kv_latent, 'qk_dim': m.nope + m.rope}
      sizes |= {'kv_dim': m.nope + m.v, 'v_dim': m.v, 'latent_and_rope': m.kv_latent + m.rope}
    if self.moe:
      sizes |= {'experts': self.moe.experts, 'expert_mlp': self.moe.expert_mlp}
      sizes |= {'shared_mlp': self.moe.expert_mlp * self.moe.shared}
    return sizes


_V3_ROPE = Rope(
  kind='yarn',
  factor=40.0,
  original_positions=4096,
  mscale=1.0,
  mscale_all_dim=1.0,
  interleaved=True,
)


def _deepseek_v3(name='deepseek_v3') -> ModelConfig:
  return ModelConfig(
    name=name, family='deepseek_v3', vocab=129280, embed=7168, layers=61, heads=128, kv_heads=128, head_dim=128,
    mlp=18432, rope=_V3_ROPE, max_positions=163840, init_std=0.006, bos=0, eos=1, mtp=1,
    mla=MlaConfig(q_latent=1536, kv_latent=512, nope=128, rope=64, v=128),
    moe=MoeConfig(experts=256, chosen=8, expert_mlp=2048, groups=8, kept_groups=4, first_dense=3),
  )  # fmt: skip


def _deepseek_v2_lite() -> ModelConfig:
  rope = dataclasses.replace(_V3_ROPE, mscale=0.707, mscale_all_dim=0.707)
  return ModelConfig(
    name='deepseek-v2-lite', family='deepseek_v2', vocab=102400, embed=2048, layers=27, heads=16, kv_heads=16,
    head_dim=128, mlp=10944, rope=rope, max_positions=163840, bos=100000, eos=100001,
    mla=MlaConfig(q_latent=0, kv_latent=512, nope=128, rope=64, v=128),
    moe=MoeConfig(experts=64, chosen=6, expert_mlp=1408, shared=2, score='softmax', correction_bias=False,
                  normalise=False, scale=1.0),
  )  # fmt: skip


def _qwen2(name, layers, embed, mlp, heads, kv_heads, tied, *, theta=1e6, eps=1e-6, vocab=None, positions=32768,
           bos=151643, eos=151643):  # fmt: skip
  return ModelConfig(
    name=name, family='qwen2', vocab=vocab or (151936 if tied else 152064), embed=embed, layers=layers, heads=heads,
    kv_heads=kv_heads, head_dim=embed // heads, mlp=mlp, rope=Rope(theta=theta), max_positions=positions,
    norm_eps=eps, tied=tied, qkv_bias=True, bos=bos, eos=eos,
  )  # fmt: skip


def _qwen3(name, layers, embed, mlp, heads, tied) -> ModelConfig:
  return ModelConfig(
    name=name, family='qwen3', vocab=151936, embed=embed, layers=layers, heads=heads, kv_heads=8, head_dim=128,
    mlp=mlp, rope=Rope(theta=1e6), max_positions=40960, tied=tied, qk_norm=True, bos=151643, eos=151645,
  )  # fmt: skip


def _llama(name, layers, embed, mlp, heads) -> ModelConfig:
  rope = Rope(theta=5e5, kind='llama3', factor=8.0, original_positions=8192)
  return ModelConfig(
    name=name, family='llama', vocab=128256, embed=embed, layers=layers, heads=heads, kv_heads=8, head_dim=128,
    mlp=mlp, rope=rope, max_positions=131072, norm_eps=1e-5, bos=128000, eos=128001,
  )  # fmt: skip


def _tiny_moe() -> ModelConfig:
  """DeepSeek-V3 in small: MLA with both latents, YaRN, grouped sigmoid routing, a shared expert, MTP."""
  rope = Rope(
    kind='yarn', factor=4.0, original_positions=256, mscale=1.0, mscale_all_dim=1.0, interleaved=True
  )  # fmt: skip
  return ModelConfig(
    name='tiny_moe', family='deepseek_v3', vocab=384, embed=128, layers=3, heads=2, kv_heads=2, head_dim=64,
    mlp=256, rope=rope, max_positions=1024, mtp=1, bos=1, eos=2, init_std=0.06,
    mla=MlaConfig(q_latent=96, kv_latent=64, nope=48, rope=16, v=64),
    moe=MoeConfig(experts=8, chosen=2, expert_mlp=96, groups=2, kept_groups=1),
  )  # fmt: skip


def _tiny_dense() -> ModelConfig:
  """The dense twin, in Qwen2.5 form."""
  return ModelConfig(
    name='tiny_dense', family='qwen2', vocab=384, embed=128, layers=3, heads=2, kv_heads=1, head_dim=64, mlp=320,
    rope=Rope(theta=1e4), max_positions=1024, tied=True, qkv_bias=True, bos=1, eos=2, init_std=0.06,
  )  # fmt: skip


_SIZES = {c.name: c for c in (
  _tiny_moe(), _tiny_dense(), _deepseek_v3(), _deepseek_v3('deepseek-r1'), _deepseek_v2_lite(),
  _qwen2('qwen2.5-0.5b', 24, 896, 4864, 14, 2, True),
  _qwen2('qwen2.5-1.5b', 28, 1536, 8960, 12, 2, True, positions=131072),
  _qwen2('qwen2.5-3b', 36, 2048, 11008, 16, 2, True),
  _qwen2('qwen2.5-7b', 28, 3584, 18944, 28, 4, False, positions=131072),
  _qwen2('qwen2.5-14b', 48, 5120, 13824, 40, 8, False, eps=1e-5, positions=131072),
  _qwen2('qwen2.5-32b', 64, 5120, 27648, 40, 8, False, eps=1e-5, positions=131072),
  _qwen2('qwen2.5-math-1.5b', 28, 1536, 8960, 12, 2, True, theta=1e4, positions=4096),
  _qwen2('qwen2.5-math-7b', 28, 3584, 18944, 28, 4, False, theta=1e4, positions=4096),
  _qwen3('qwen3-0.6b', 28, 1024, 3072, 16, True),
  _qwen3('qwen3-1.7b', 28, 2048, 6144, 16, True),
  _qwen3('qwen3-4b', 36, 2560, 9728, 32, True),
  _qwen3('qwen3-8b', 36, 4096, 12288, 32, False),
  _qwen3('qwen3-14b', 40, 5120, 17408, 40, False),
  _qwen3('qwen3-32b', 64, 5120, 25600, 64, False),
  _llama('llama-3.1-8b', 32, 4096, 14336, 32),
  _llama('llama-3.1-70b', 80, 8192, 28672, 64),
  _llama('llama-3.3-70b', 80, 8192, 28672, 64),
  _qwen2('r1-distill-qwen-1.5b', 28, 1536, 8960, 12, 2, False, theta=1e4, vocab=151936, positions=131072),
  _qwen2('r1-distill-qwen-7b', 28, 3584, 18944, 28, 4, False, theta=1e4, positions=131072),
  _qwen2('r1-distill-qwen-14b', 48, 5120, 13824, 40, 8, False, eps=1e-5, positions=131072),
  _qwen2('r1-distill-qwen-32b', 64, 5120, 27648, 40, 8, False, eps=1e-5, positions=131072),
  _llama('r1-distill-llama-8b', 32, 4096, 14336, 32),
  _llama('r1-distill-llama-70b', 80, 8192, 28672, 64),
)}  # fmt: skip


def names() -> list[str]:
  """Every named size."""
  return list(_SIZES)


def get(name: str) -> ModelConfig:
  """Name -> ModelConfig; KeyError lists the names."""
  if name not in _SIZES:
    raise KeyError(f'no model size {name!r}; valid: {", ".join(_SIZES)}')
  return _SIZES[name]
