"""Small models of transformers, one a configuration that matters: the oracle of test_parity.py."""

import torch
import transformers

_SIZES = {
  'vocab_size': 67,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 256,
  'initializer_range': 0.3,
  'bos_token_id': None,
  'eos_token_id': None,
  'pad_token_id': None,
}
_MLA = {
  'num_hidden_layers': 3,
  'num_key_value_heads': 4,
  'kv_lora_rank': 16,
  'qk_nope_head_dim': 8,
  'qk_rope_head_dim': 6,
  'v_head_dim': 12,
  'n_routed_experts': 8,
  'num_experts_per_tok': 3,
  'moe_intermediate_size': 16,
  'first_k_dense_replace': 1,
}
_DENSE = {'qwen2': _SIZES, 'llama': _SIZES, 'qwen3': _SIZES | {'head_dim': 8}}
_V3 = {'q_lora_rank': 20, 'n_shared_experts': 1, 'n_group': 4, 'topk_group': 2, 'num_mtp_layers': 0}
_V2 = {'q_lora_rank': None, 'n_shared_experts': 2, 'n_group': 1, 'topk_group': 1}
_FAMILIES = _DENSE | {
  'deepseek_v3': _SIZES | _MLA | _V3,
  'deepseek_v2': _SIZES | _MLA | _V2,
}


def _rope(kind: str = 'default', theta: float = 10000.0, **fields) -> dict:
  """Scaled ones are made for 32 positions, fewer than the tests use."""
  scaled = {} if kind == 'default' else {'original_max_position_embeddings': 32}
  return {
    'rope_parameters': {'rope_type': kind, 'rope_theta': theta, 'factor': 4.0, **scaled, **fields}
    if scaled
    else {'rope_type': kind, 'rope_theta': theta}
  }


_LLAMA3 = _rope('llama3', theta=500.0, low_freq_factor=1.0, high_freq_factor=4.0)
_YARN = _rope('yarn', beta_fast=32.0, beta_slow=1.0)
_V3_YARN = _rope('yarn', beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)

# Name -> (family, what differs from the family's sizes above).
CASES = {
  'qwen2': ('qwen2', _rope()),
  'qwen2 tied, theta 1e6': ('qwen2', _rope(theta=1e6) | {'tie_word_embeddings': True}),
  'qwen2 one key head, yarn': ('qwen2', _YARN | {'num_key_value_heads': 1}),
  'qwen2 all key heads, eps': ('qwen2', _rope() | {'num_key_value_heads': 4, 'rms_norm_eps': 0.01}),
  'qwen3': ('qwen3', _rope()),
  'qwen3 wide heads, theta 1e6': ('qwen3', _rope(theta=1e6) | {'head_dim': 20}),
  'qwen3 narrow heads, tied': ('qwen3', _rope() | {'head_dim': 4, 'tie_word_embeddings': True}),
  'qwen3 yarn': ('qwen3', _YARN),
  'llama theta 100': ('llama', _rope(theta=100.0)),
  'llama llama3': ('llama', _LLAMA3),
  'llama llama3 tied': ('llama', _LLAMA3 | {'tie_word_embeddings': True, 'rms_norm_eps': 1e-5}),
  'llama yarn, 3 and 0.5 turns': ('llama', _rope('yarn', beta_fast=3.0, beta_slow=0.5)),
  'llama explicit head_dim': ('llama', _rope() | {'head_dim': 12}),
  'v3 yarn': ('deepseek_v3', _V3_YARN),
  'v3 no scaling': ('deepseek_v3', _rope(theta=50.0)),
  'v3 mscale 1 and 0.7': (
    'deepseek_v3',
    _rope('yarn', beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=0.7),
  ),
  'v3 no q_lora, one group': (
    'deepseek_v3',
    _V3_YARN | {'q_lora_rank': None, 'n_group': 1, 'topk_group': 1},
  ),
  'v3 two dense, three shared': (
    'deepseek_v3',
    _V3_YARN | {'first_k_dense_replace': 2, 'n_shared_experts': 3, 'routed_scaling_factor': 1.0},
  ),
  'v3 all experts, not normalised': (
    'deepseek_v3',
    _V3_YARN | {'first_k_dense_replace': 0, 'norm_topk_prob': False},
  ),
  'v3 tied, eps': ('deepseek_v3', _V3_YARN | {'tie_word_embeddings': True, 'rms_norm_eps': 1e-3}),
  'v2-lite': (
    'deepseek_v2',
    _rope('yarn', beta_fast=32.0, beta_slow=1.0, mscale=0.707, mscale_all_dim=0.707),
  ),
  'v2 no scaling, scale 1.5': ('deepseek_v2', _rope() | {'routed_scaling_factor': 1.5}),
  'v2 q_lora, groups': (
    'deepseek_v2',
    _rope()
    | {'q_lora_rank': 20, 'n_group': 4, 'topk_group': 2, 'topk_method': 'group_limited_greedy'},
  ),
}


def build(name: str) -> transformers.PreTrainedModel:
  """Name in CASES -> a model in fp32 with random weights: no norm of exactly one, no bias of zero."""
  family, changed = CASES[name]
  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model(family, **(_FAMILIES[family] | changed))
  model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation='eager')
  with torch.no_grad():
    for tensor_name, tensor in [*model.named_parameters(), *model.named_buffers()]:
      if tensor_name.endswith(('norm.weight', 'bias')):
        tensor.add_(0.2 * torch.randn_like(tensor))
  return model.float().eval()
