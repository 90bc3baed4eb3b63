"""config.json of released models, field by field: DeepSeek-R1, V2-Lite, the six distilled models."""

import dataclasses
import json

import pytest

from r1jax.model import hf, sizes

R1_CONFIG = {
  'architectures': ['DeepseekV3ForCausalLM'], 'attention_bias': False, 'attention_dropout': 0.0,
  'auto_map': {'AutoConfig': 'configuration_deepseek.DeepseekV3Config'}, 'aux_loss_alpha': 0.001,
  'bos_token_id': 0, 'eos_token_id': 1, 'ep_size': 1, 'first_k_dense_replace': 3, 'hidden_act': 'silu',
  'hidden_size': 7168, 'initializer_range': 0.02, 'intermediate_size': 18432, 'kv_lora_rank': 512,
  'max_position_embeddings': 163840, 'model_type': 'deepseek_v3', 'moe_intermediate_size': 2048,
  'moe_layer_freq': 1, 'n_group': 8, 'n_routed_experts': 256, 'n_shared_experts': 1, 'norm_topk_prob': True,
  'num_attention_heads': 128, 'num_experts_per_tok': 8, 'num_hidden_layers': 61, 'num_key_value_heads': 128,
  'num_nextn_predict_layers': 1, 'pretraining_tp': 1, 'q_lora_rank': 1536, 'qk_nope_head_dim': 128,
  'qk_rope_head_dim': 64, 'rms_norm_eps': 1e-06,
  'rope_scaling': {
    'beta_fast': 32, 'beta_slow': 1, 'factor': 40, 'mscale': 1.0, 'mscale_all_dim': 1.0,
    'original_max_position_embeddings': 4096, 'type': 'yarn',
  },
  'rope_theta': 10000, 'routed_scaling_factor': 2.5, 'scoring_func': 'sigmoid', 'seq_aux': True,
  'tie_word_embeddings': False, 'topk_group': 4, 'topk_method': 'noaux_tc', 'torch_dtype': 'bfloat16',
  'transformers_version': '4.46.3', 'use_cache': True, 'v_head_dim': 128, 'vocab_size': 129280,
}  # fmt: skip


def test_the_released_config_of_r1_is_our_deepseek_v3():
  ours = sizes.get('deepseek_v3')
  read = hf.config_from_hf(R1_CONFIG)
  assert read.param_dtype == 'bfloat16'
  same = {'name': ours.name, 'init_std': ours.init_std, 'param_dtype': ours.param_dtype}
  assert dataclasses.replace(read, **same) == ours


FP8 = {
  'activation_scheme': 'dynamic', 'fmt': 'e4m3', 'quant_method': 'fp8', 'weight_block_size': [128, 128],
}  # fmt: skip


def test_the_fp8_release_is_the_same_model():
  for fp8 in (FP8, FP8 | {'scale_fmt': 'ue8m0'}):
    read = hf.config_from_hf(R1_CONFIG | {'quantization_config': fp8})
    assert read == hf.config_from_hf(R1_CONFIG)


@pytest.mark.parametrize(
  'change, named',
  [
    ({'n_group': None}, 'n_group is missing'),
    ({'topk_group': None}, 'topk_group is missing'),
    ({'n_group': 7}, 'n_group 7 does not divide n_routed_experts 256'),
    ({'topk_group': 9}, 'topk_group 9 is more than n_group 8'),
    ({'num_experts_per_tok': 129}, 'num_experts_per_tok 129 is more than 4 groups of 32 experts hold'),
    ({'n_group': 256, 'topk_group': 128}, 'n_group 256.*fewer than two'),
    ({'first_k_dense_replace': 62}, 'first_k_dense_replace 62 is more than num_hidden_layers 61'),
    ({'num_key_value_heads': 64}, 'num_key_value_heads 64 is not num_attention_heads 128'),
    ({'qk_rope_head_dim': 63}, 'qk_rope_head_dim 63 is not even'),
    ({'n_shared_experts': None}, 'n_shared_experts is missing'),
    ({'norm_topk_prob': 1}, 'norm_topk_prob 1 .*true or false'),
    ({'num_nextn_predict_layers': 2}, 'num_nextn_predict_layers 2'),
    ({'rope_interleave': None}, 'rope_interleave None'),
    ({'topk_method': 'greedy'}, "topk_method 'greedy'.*noaux_tc"),
    ({'scoring_func': 'softmax'}, "scoring_func 'softmax'.*sigmoid"),
  ],
)  # fmt: skip
def test_routing_that_is_not_stated_or_not_possible_is_named(change, named):
  with pytest.raises(ValueError, match=named):
    hf.config_from_hf(R1_CONFIG | change)


# The files of the distilled models: what each kind has in common, then what is its own.
_DISTILLED = {
  'attention_dropout': 0.0, 'hidden_act': 'silu', 'initializer_range': 0.02, 'max_position_embeddings': 131072,
  'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'use_cache': True,
}  # fmt: skip
_DISTILLED_QWEN = _DISTILLED | {
  'architectures': ['Qwen2ForCausalLM'], 'bos_token_id': 151643, 'eos_token_id': 151643, 'model_type': 'qwen2',
  'sliding_window': 4096, 'use_mrope': False, 'use_sliding_window': False,
}  # fmt: skip
_DISTILLED_LLAMA = _DISTILLED | {
  'architectures': ['LlamaForCausalLM'], 'attention_bias': False, 'bos_token_id': 128000, 'eos_token_id': 128001,
  'mlp_bias': False, 'model_type': 'llama', 'num_key_value_heads': 8, 'pretraining_tp': 1, 'rms_norm_eps': 1e-05,
  'rope_theta': 500000.0, 'vocab_size': 128256,
  'rope_scaling': {
    'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192,
    'rope_type': 'llama3',
  },
}  # fmt: skip
DISTILLED = {
  'r1-distill-qwen-1.5b': _DISTILLED_QWEN | {
    'hidden_size': 1536, 'intermediate_size': 8960, 'max_window_layers': 21, 'num_attention_heads': 12,
    'num_hidden_layers': 28, 'num_key_value_heads': 2, 'rms_norm_eps': 1e-06, 'rope_theta': 10000,
    'vocab_size': 151936,
  },
  'r1-distill-qwen-7b': _DISTILLED_QWEN | {
    'hidden_size': 3584, 'intermediate_size': 18944, 'max_window_layers': 28, 'num_attention_heads': 28,
    'num_hidden_layers': 28, 'num_key_value_heads': 4, 'rms_norm_eps': 1e-06, 'rope_theta': 10000,
    'vocab_size': 152064,
  },
  'r1-distill-qwen-14b': _DISTILLED_QWEN | {
    'hidden_size': 5120, 'intermediate_size': 13824, 'max_window_layers': 48, 'num_attention_heads': 40,
    'num_hidden_layers': 48, 'num_key_value_heads': 8, 'rms_norm_eps': 1e-05, 'rope_theta': 1000000.0,
    'vocab_size': 152064,
  },
  'r1-distill-qwen-32b': _DISTILLED_QWEN | {
    'hidden_size': 5120, 'intermediate_size': 27648, 'max_window_layers': 64, 'num_attention_heads': 40,
    'num_hidden_layers': 64, 'num_key_value_heads': 8, 'rms_norm_eps': 1e-05, 'rope_theta': 1000000.0,
    'vocab_size': 152064,
  },
  'r1-distill-llama-8b': _DISTILLED_LLAMA | {
    'hidden_size': 4096, 'intermediate_size': 14336, 'num_attention_heads': 32, 'num_hidden_layers': 32,
  },
  'r1-distill-llama-70b': _DISTILLED_LLAMA | {
    'hidden_size': 8192, 'intermediate_size': 28672, 'num_attention_heads': 64, 'num_hidden_layers': 80,
  },
}  # fmt: skip


@pytest.mark.parametrize('name', DISTILLED)
def test_the_distilled_models_are_what_their_files_say(name):
  """Qwen-1.5B is untied though its base is not; 14B and 32B have another eps and theta than 1.5B and 7B."""
  read = hf.config_from_hf(DISTILLED[name])
  assert read.param_dtype == 'bfloat16' and read.head_dim == 128
  assert _named(read, sizes.get(name)) == sizes.get(name)


def _named(read, ours):
  """What was read, under our name and in our dtype, which the files do not fix."""
  return dataclasses.replace(read, name=ours.name, param_dtype=ours.param_dtype)


V2_LITE_CONFIG = {
  'architectures': ['DeepseekV2ForCausalLM'], 'attention_bias': False, 'attention_dropout': 0.0,
  'auto_map': {'AutoConfig': 'configuration_deepseek.DeepseekV2Config'}, 'aux_loss_alpha': 0.001,
  'bos_token_id': 100000, 'eos_token_id': 100001, 'first_k_dense_replace': 1, 'hidden_act': 'silu',
  'hidden_size': 2048, 'initializer_range': 0.02, 'intermediate_size': 10944, 'kv_lora_rank': 512,
  'max_position_embeddings': 163840, 'model_type': 'deepseek_v2', 'moe_intermediate_size': 1408, 'moe_layer_freq': 1,
  'n_group': 1, 'n_routed_experts': 64, 'n_shared_experts': 2, 'norm_topk_prob': False, 'num_attention_heads': 16,
  'num_experts_per_tok': 6, 'num_hidden_layers': 27, 'num_key_value_heads': 16, 'pretraining_tp': 1,
  'q_lora_rank': None, 'qk_nope_head_dim': 128, 'qk_rope_head_dim': 64, 'rms_norm_eps': 1e-06,
  'rope_scaling': {
    'beta_fast': 32, 'beta_slow': 1, 'factor': 40, 'mscale': 0.707, 'mscale_all_dim': 0.707,
    'original_max_position_embeddings': 4096, 'type': 'yarn',
  },
  'rope_theta': 10000, 'routed_scaling_factor': 1.0, 'scoring_func': 'softmax', 'seq_aux': True,
  'tie_word_embeddings': False, 'topk_group': 1, 'topk_method': 'greedy', 'torch_dtype': 'bfloat16',
  'transformers_version': '4.33.1', 'use_cache': True, 'v_head_dim': 128, 'vocab_size': 102400,
}  # fmt: skip
RELEASED = DISTILLED | {
  'deepseek-r1': R1_CONFIG,
  'deepseek-v2-lite': V2_LITE_CONFIG,
  'qwen3-0.6b': hf.config_to_hf(sizes.get('qwen3-0.6b')),
}


def test_the_released_config_of_v2_lite_is_ours():
  ours = sizes.get('deepseek-v2-lite')
  assert _named(hf.config_from_hf(V2_LITE_CONFIG), ours) == ours


@pytest.mark.parametrize('name', RELEASED)
def test_what_transformers_makes_of_a_released_config_is_the_same_model(name, tmp_path):
  """Saved again, a config has its fields under newer names, and more of them."""
  transformers = pytest.importorskip('transformers')
  hf.write_json(
    tmp_path / 'config.json', {k: v for k, v in RELEASED[name].items() if k != 'auto_map'}
  )
  config = transformers.AutoConfig.from_pretrained(tmp_path)
  config.save_pretrained(tmp_path / 'saved')
  saved = json.loads((tmp_path / 'saved' / 'config.json').read_text())
  assert 'rope_parameters' in saved
  original = hf.config_from_hf(RELEASED[name])
  assert dataclasses.replace(hf.config_from_hf(saved), name=original.name) == original
