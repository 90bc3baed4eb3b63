"""ModelConfig <-> config.json: the released files, both spellings, and what is refused."""

import dataclasses
import json

import pytest

from r1jax.model import hf, sizes


@pytest.mark.parametrize('name', sizes.names())
def test_config_round_trip(name):
  cfg = sizes.get(name)
  assert hf.config_from_hf(json.loads(json.dumps(hf.config_to_hf(cfg)))) == cfg


R1_CONFIG = {
  'architectures': ['DeepseekV3ForCausalLM'],
  'attention_bias': False,
  'attention_dropout': 0.0,
  'auto_map': {'AutoConfig': 'configuration_deepseek.DeepseekV3Config'},
  'aux_loss_alpha': 0.001,
  'bos_token_id': 0,
  'eos_token_id': 1,
  'ep_size': 1,
  'first_k_dense_replace': 3,
  'hidden_act': 'silu',
  'hidden_size': 7168,
  'initializer_range': 0.02,
  'intermediate_size': 18432,
  'kv_lora_rank': 512,
  'max_position_embeddings': 163840,
  'model_type': 'deepseek_v3',
  'moe_intermediate_size': 2048,
  'moe_layer_freq': 1,
  'n_group': 8,
  'n_routed_experts': 256,
  'n_shared_experts': 1,
  'norm_topk_prob': True,
  'num_attention_heads': 128,
  'num_experts_per_tok': 8,
  'num_hidden_layers': 61,
  'num_key_value_heads': 128,
  'num_nextn_predict_layers': 1,
  'pretraining_tp': 1,
  'q_lora_rank': 1536,
  'qk_nope_head_dim': 128,
  'qk_rope_head_dim': 64,
  'rms_norm_eps': 1e-06,
  'rope_scaling': {
    'beta_fast': 32,
    'beta_slow': 1,
    'factor': 40,
    'mscale': 1.0,
    'mscale_all_dim': 1.0,
    'original_max_position_embeddings': 4096,
    'type': 'yarn',
  },
  'rope_theta': 10000,
  'routed_scaling_factor': 2.5,
  'scoring_func': 'sigmoid',
  'seq_aux': True,
  'tie_word_embeddings': False,
  'topk_group': 4,
  'topk_method': 'noaux_tc',
  'torch_dtype': 'bfloat16',
  'transformers_version': '4.46.3',
  'use_cache': True,
  'v_head_dim': 128,
  'vocab_size': 129280,
}


def test_the_released_config_of_r1_is_our_deepseek_v3():
  ours = sizes.get('deepseek_v3')
  read = hf.config_from_hf(R1_CONFIG)
  assert read.param_dtype == 'bfloat16'
  same = {'name': ours.name, 'init_std': ours.init_std, 'param_dtype': ours.param_dtype}
  assert dataclasses.replace(read, **same) == ours


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
  ],
)
def test_a_field_that_is_not_understood_is_named(change, named):
  with pytest.raises(ValueError, match=named):
    hf.config_from_hf(hf.config_to_hf(sizes.get('llama-3.1-8b')) | change)


def test_harmless_fields_are_read_over():
  fields = hf.config_to_hf(sizes.get('qwen2.5-7b'))
  fields |= {
    'sliding_window': 131072,
    'max_window_layers': 28,
    'use_mrope': False,
    'pad_token_id': None,
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


def test_the_fp8_release_is_the_same_model():
  fp8 = {'fmt': 'e4m3', 'quant_method': 'fp8', 'weight_block_size': [128, 128]}
  fp8['activation_scheme'] = 'dynamic'
  assert hf.config_from_hf(R1_CONFIG | {'quantization_config': fp8}) == hf.config_from_hf(R1_CONFIG)


def test_the_distilled_models_are_what_their_files_say():
  """Distill-Qwen-1.5B: untied, theta 1e4; Distill-Llama-8B: llama3 scaling, eps 1e-5; token ids of both."""
  qwen, llama = sizes.get('r1-distill-qwen-1.5b'), sizes.get('r1-distill-llama-8b')
  fields = {
    'architectures': ['Qwen2ForCausalLM'], 'attention_dropout': 0.0, 'bos_token_id': 151643, 'eos_token_id': 151643,
    'hidden_act': 'silu', 'hidden_size': 1536, 'initializer_range': 0.02, 'intermediate_size': 8960,
    'max_position_embeddings': 131072, 'max_window_layers': 21, 'model_type': 'qwen2', 'num_attention_heads': 12,
    'num_hidden_layers': 28, 'num_key_value_heads': 2, 'rms_norm_eps': 1e-06, 'rope_theta': 10000,
    'sliding_window': 4096, 'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'use_cache': True,
    'use_mrope': False, 'use_sliding_window': False, 'vocab_size': 151936,
  }  # fmt: skip
  assert _named(hf.config_from_hf(fields), qwen) == qwen
  fields = {
    'architectures': ['LlamaForCausalLM'], 'attention_bias': False, 'bos_token_id': 128000, 'eos_token_id': 128001,
    'hidden_act': 'silu', 'hidden_size': 4096, 'intermediate_size': 14336, 'max_position_embeddings': 131072,
    'mlp_bias': False, 'model_type': 'llama', 'num_attention_heads': 32, 'num_hidden_layers': 32,
    'num_key_value_heads': 8, 'pretraining_tp': 1, 'rms_norm_eps': 1e-05, 'rope_theta': 500000.0,
    'rope_scaling': {
      'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192,
      'rope_type': 'llama3',
    },
    'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'vocab_size': 128256,
  }  # fmt: skip
  assert _named(hf.config_from_hf(fields), llama) == llama


def _named(read, ours):
  """What was read, under our name and in our dtype, which the files do not fix."""
  return dataclasses.replace(read, name=ours.name, param_dtype=ours.param_dtype)
