"""ModelConfig <-> config.json: both spellings, and what is refused; test_hf_released.py has the released files."""

import dataclasses
import json

import pytest

from r1jax.model import hf, sizes


@pytest.mark.parametrize('name', sizes.names())
def test_config_round_trip(name):
  cfg = sizes.get(name)
  assert hf.config_from_hf(json.loads(json.dumps(hf.config_to_hf(cfg)))) == cfg


FP8 = {'quant_method': 'fp8', 'weight_block_size': [128, 128]}
YARN = {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 8192}


def test_both_spellings_of_rope():
  old = hf.config_to_hf(sizes.get('llama-3.1-8b'))
  new = {k: v for k, v in old.items() if k not in ('rope_theta', 'rope_scaling')}
  new['rope_parameters'] = {'rope_theta': 5e5, **old['rope_scaling']}
  assert hf.config_from_hf(new) == hf.config_from_hf(old)
  plain = hf.config_to_hf(sizes.get('qwen3-0.6b'))
  del plain['rope_theta'], plain['rope_scaling']
  plain['rope_parameters'] = {'rope_theta': 1e6, 'rope_type': 'default'}
  assert hf.config_from_hf(plain) == sizes.get('qwen3-0.6b')


@pytest.mark.parametrize(
  'change, named',
  [
    ({'model_type': 'mamba'}, 'model_type.*mamba.*qwen2'),
    ({'architectures': ['LlamaForSequenceClassification']}, 'architectures'),
    ({'rope_scaling': {'rope_type': 'longrope', 'factor': 4.0}}, 'rope_type.*longrope.*yarn'),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 4.0}}, 'rope_type.*dynamic'),
    (
      {'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}},
      'rope_scaling.original_max_position_embeddings',
    ),
    (
      {
        'rope_scaling': {
          'rope_type': 'llama3',
          'factor': 4.0,
          'original_max_position_embeddings': 8,
          'low_freq_factor': 1,
          'high_freq_factor': 4,
          'attention_factor': 2.0,
        }
      },
      'attention_factor',
    ),
    ({'rope_theta': None}, 'rope_theta'),
    ({'hidden_act': 'gelu'}, 'hidden_act.*silu'),
    ({'attention_bias': True}, 'attention_bias'),
    ({'mlp_bias': True}, 'mlp_bias'),
    ({'use_sliding_window': True}, 'use_sliding_window'),
    ({'layer_types': ['full_attention', 'sliding_attention']}, 'layer_types'),
    (
      {'quantization_config': {'quant_method': 'gptq'}},
      'quantization_config.quant_method.*gptq.*fp8',
    ),
    ({'quantization_config': {'quant_method': 'fp8'}}, 'quantization_config.weight_block_size'),
    (
      {'quantization_config': {'quant_method': 'fp8', 'weight_block_size': [64, 64]}},
      r'weight_block_size \[64, 64\].*128',
    ),
    ({'rope_scaling': {'rope_type': 'default', 'partial_rotary_factor': 0.5}}, 'partial_rotary'),
    ({'attn_logit_softcapping': 50.0}, 'attn_logit_softcapping'),
    ({'rms_norm_eps': None}, 'rms_norm_eps'),
    ({'is_causal': False}, 'is_causal False.*True'),
    ({'is_causal': None}, 'is_causal None.*True'),
    ({'use_rotary': False}, 'use_rotary = False is not understood'),
    ({'soft_cap': 0}, 'soft_cap = 0 is not understood'),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor 0.5'),
    ({'num_nextn_predict_layers': 1}, 'num_nextn_predict_layers 1'),
    ({'quantization_config': FP8 | {'bits': 4}}, 'quantization_config.bits = 4'),
    ({'rope_parameters': {'rope_type': 'default', 'rope_theta': 5e5}}, 'rope_scaling and rope_parameters differ'),
    ({'rope_scaling': YARN | {'attn_factor': 0.5}}, 'rope_scaling.attn_factor 0.5'),
    ({'rope_scaling': YARN | {'truncate': None}}, 'rope_scaling.truncate None'),
  ],
)  # fmt: skip
def test_a_field_that_is_not_understood_is_named(change, named):
  with pytest.raises(ValueError, match=named):
    hf.config_from_hf(hf.config_to_hf(sizes.get('llama-3.1-8b')) | change)


@pytest.mark.parametrize(
  'change, named',
  [
    ({'torch_dtype': 'int8'}, "torch_dtype 'int8'.*float32, bfloat16, float16"),
    ({'torch_dtype': 'auto'}, "torch_dtype 'auto'.*bfloat16"),
    ({'torch_dtype': 'torch.bfloat16'}, "torch_dtype 'torch.bfloat16'.*valid: float32, bfloat16"),
    ({'dtype': 16}, 'dtype 16'),
    ({'num_hidden_layers': '2'}, "num_hidden_layers '2'.*whole number"),
    ({'num_hidden_layers': True}, 'num_hidden_layers True'),
    ({'hidden_size': '32'}, "hidden_size '32'"),
    ({'hidden_size': 4096.0}, r'hidden_size 4096\.0'),
    ({'num_attention_heads': 0}, 'num_attention_heads 0.*above 0'),
    ({'head_dim': -1}, 'head_dim -1'),
    ({'head_dim': 127}, 'head_dim 127 is not even'),
    ({'num_attention_heads': 30, 'head_dim': None}, 'num_attention_heads 30 does not divide hidden_size'),
    ({'num_key_value_heads': 5}, 'num_key_value_heads 5 does not divide num_attention_heads 32'),
    ({'rms_norm_eps': '1e-6'}, "rms_norm_eps '1e-6'.*number"),
    ({'rms_norm_eps': float('nan')}, 'rms_norm_eps nan'),
    ({'tie_word_embeddings': 'no'}, "tie_word_embeddings 'no'.*true or false"),
    ({'eos_token_id': '2'}, "eos_token_id '2'"),
    ({'eos_token_id': [2, None]}, r'eos_token_id \[2, None\]'),
    ({'bos_token_id': [1]}, r'bos_token_id \[1\]'),
    ({'model_type': ['llama']}, r"model_type \['llama'\]"),
    ({'architectures': 'LlamaForCausalLM'}, r"architectures LlamaForCausalLM.*\['LlamaForCausalLM'\]"),
    ({'layer_types': 'full_attention'}, 'layer_types'),
    ({'layer_types': [['full_attention']]}, 'layer_types'),
    ({'quantization_config': 'fp8'}, "quantization_config 'fp8'.*object"),
    ({'rope_theta': '1e4'}, "rope_theta '1e4'"),
    ({'rope_scaling': 'yarn'}, "rope_scaling 'yarn'.*object"),
    ({'rope_parameters': [1]}, r'rope_parameters \[1\].*object'),
    ({'rope_scaling': {'rope_type': ['yarn']}}, r"rope_scaling.rope_type \['yarn'\]"),
    ({'rope_scaling': YARN | {'factor': '4'}}, "rope_scaling.factor '4'"),
    ({'rope_scaling': YARN | {'original_max_position_embeddings': 0}}, 'original_max_position_embeddings 0'),
  ],
)  # fmt: skip
def test_a_value_of_another_kind_is_named(change, named):
  with pytest.raises(ValueError, match=named):
    hf.config_from_hf(hf.config_to_hf(sizes.get('llama-3.1-8b')) | change)


def test_the_router_of_v2():
  """Its groups count if its method says so; it never normalises."""
  lite = hf.config_to_hf(sizes.get('deepseek-v2-lite'))
  assert lite['topk_method'] == 'greedy'
  routed = lambda **change: hf.config_from_hf(lite | change).moe  # noqa: E731
  plain = sizes.get('deepseek-v2-lite').moe
  assert routed(n_group=None, topk_group=None, topk_method=None) == plain
  assert routed(n_group=8, topk_group=3) == plain
  grouped = routed(n_group=8, topk_group=3, topk_method='group_limited_greedy')
  assert (grouped.groups, grouped.kept_groups) == (8, 3)
  big = dataclasses.replace(sizes.get('deepseek-v2-lite'), moe=grouped)
  assert hf.config_to_hf(big)['topk_method'] == 'group_limited_greedy'
  for change, named in (
    ({'n_group': 8, 'topk_group': 3, 'topk_method': None}, 'topk_method is missing'),
    ({'topk_method': 'noaux_tc'}, "topk_method 'noaux_tc'.*greedy"),
    ({'topk_method': 'group_limited_greedy', 'n_group': None}, 'n_group is missing'),
    ({'norm_topk_prob': True}, 'norm_topk_prob True'),
  ):
    with pytest.raises(ValueError, match=named):
      routed(**change)


def test_harmless_fields_are_read_over():
  fields = hf.config_to_hf(sizes.get('qwen2.5-7b'))
  fields |= {
    'sliding_window': 131072,
    'max_window_layers': 28,
    'use_mrope': False,
    'pad_token_id': None,
    'num_nextn_predict_layers': None,
    'forced_eos_token_id': None,
    'output_attentions': False,
    'chunk_size_feed_forward': 0,
    'is_encoder_decoder': False,
    'partial_rotary_factor': 1.0,
    '_attn_implementation_autoset': True,
  }
  assert hf.config_from_hf(fields) == sizes.get('qwen2.5-7b')


def test_a_model_that_its_family_cannot_express_is_refused():
  cfg = dataclasses.replace(sizes.get('qwen2.5-0.5b'), qkv_bias=False)
  with pytest.raises(ValueError, match='qkv_bias'):
    hf.config_to_hf(cfg)


def test_yarn_without_what_a_file_may_leave_out():
  """Qwen2.5's own advice for long inputs: three fields, the rest are YaRN's values."""
  fields = hf.config_to_hf(sizes.get('qwen2.5-7b'))
  fields['rope_scaling'] = {
    'type': 'yarn',
    'factor': 4.0,
    'original_max_position_embeddings': 32768,
  }
  rope = hf.config_from_hf(fields).rope
  assert rope == sizes.Rope(theta=1e6, kind='yarn', factor=4.0, original_positions=32768)
  assert (rope.beta_fast, rope.beta_slow, rope.mscale) == (32, 1, 0)
