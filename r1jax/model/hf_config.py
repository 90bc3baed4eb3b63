"""ModelConfig <-> Hugging Face `config.json`.

A field that is neither understood, nor known to leave the function alone, nor switched off is an
error that names it: nothing about a model is taken from a default that its file does not state.
"""

import dataclasses

from r1jax.model.hf_rope import rope_from_hf, rope_to_hf
from r1jax.model.sizes import MlaConfig, ModelConfig, MoeConfig

ARCHITECTURES = {
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
  'llama': 'LlamaForCausalLM',
  'deepseek_v3': 'DeepseekV3ForCausalLM',
  'deepseek_v2': 'DeepseekV2ForCausalLM',
}

_FIELDS = {
  'vocab': 'vocab_size',
  'embed': 'hidden_size',
  'layers': 'num_hidden_layers',
  'heads': 'num_attention_heads',
  'kv_heads': 'num_key_value_heads',
  'mlp': 'intermediate_size',
  'max_positions': 'max_position_embeddings',
  'norm_eps': 'rms_norm_eps',
  'tied': 'tie_word_embeddings',
  'bos': 'bos_token_id',
  'eos': 'eos_token_id',
  'init_std': 'initializer_range',
}
_MLA_FIELDS = {
  'q_latent': 'q_lora_rank',
  'kv_latent': 'kv_lora_rank',
  'nope': 'qk_nope_head_dim',
  'rope': 'qk_rope_head_dim',
  'v': 'v_head_dim',
}
_MOE_FIELDS = {
  'experts': 'n_routed_experts',
  'chosen': 'num_experts_per_tok',
  'expert_mlp': 'moe_intermediate_size',
  'shared': 'n_shared_experts',
  'groups': 'n_group',
  'kept_groups': 'topk_group',
  'normalise': 'norm_topk_prob',
  'scale': 'routed_scaling_factor',
  'first_dense': 'first_k_dense_replace',
}
# What a file may leave out or set to null, and what that means in all of these families.
_WHEN_ABSENT = {
  'tie_word_embeddings': False,
  'bos_token_id': None,
  'eos_token_id': None,
  'initializer_range': 0.02,
  'q_lora_rank': 0,
  'n_shared_experts': 0,
  'n_group': 1,
  'topk_group': 1,
}
# Fields that change the function, with the only value that is implemented. Absent is fine.
_FIXED = {
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'use_sliding_window': False,
}
_FIXED_MLA = {'moe_layer_freq': 1, 'rope_interleave': True}
_IGNORED = frozenset(
  [
    'architectures',
    'model_type',
    'auto_map',
    'torch_dtype',
    'dtype',
    'transformers_version',
    'use_cache',
    'layer_types',
    'attention_dropout',
    'pretraining_tp',
    'ep_size',
    'aux_loss_alpha',
    'router_aux_loss_coef',
    'seq_aux',
    'head_dim',
    'max_window_layers',
    'sliding_window',
    'pad_token_id',
    '_name_or_path',
    'qk_head_dim',
    'quantization_config',
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
    'num_nextn_predict_layers',
    'num_mtp_layers',
    'return_dict',
    'id2label',
    'label2id',
  ]
)
# Of quantization_config: what makes a weight of a file's numbers. Activations are never quantised here.
_FP8 = {'quant_method': ['fp8'], 'fmt': ['e4m3', None], 'weight_block_size': [[128, 128]]}
HOW_COMPUTED = ('param_dtype', 'compute_dtype', 'remat', 'logits_chunk')


def _take(fields: dict, name: str):
  value = fields.get(name)
  if value is None and name not in _WHEN_ABSENT:
    raise ValueError(f'field {name} is missing')
  return _WHEN_ABSENT[name] if value is None else value


def _fixed(family: str, groups: int) -> dict:
  """Family -> fields with their only implemented value."""
  if family == 'deepseek_v3':
    return _FIXED | _FIXED_MLA | {'scoring_func': 'sigmoid', 'topk_method': 'noaux_tc'}
  if family == 'deepseek_v2':
    method = 'greedy' if groups == 1 else 'group_limited_greedy'
    return _FIXED | _FIXED_MLA | {'scoring_func': 'softmax', 'topk_method': method}
  return _FIXED


def config_from_hf(fields: dict) -> ModelConfig:
  """Contents of config.json -> ModelConfig with the file's dtype. ValueError names a field."""
  family = fields.get('model_type')
  if family not in ARCHITECTURES:
    raise ValueError(f'model_type {family!r} is unknown; known: {", ".join(ARCHITECTURES)}')
  if (named := fields.get('architectures')) and named != [ARCHITECTURES[family]]:
    raise ValueError(f'architectures {named} is unknown; {family} has {ARCHITECTURES[family]}')
  _check_understood(fields, family)
  mla = moe = None
  if family.startswith('deepseek'):
    mla = MlaConfig(**{ours: _take(fields, theirs) for ours, theirs in _MLA_FIELDS.items()})
    v3 = family == 'deepseek_v3'
    routing = {ours: _take(fields, theirs) for ours, theirs in _MOE_FIELDS.items()}
    moe = MoeConfig(**routing, score='sigmoid' if v3 else 'softmax', correction_bias=v3)
  values = {ours: _take(fields, theirs) for ours, theirs in _FIELDS.items()}
  if isinstance(values['eos'], list):
    values['eos'] = tuple(values['eos'])
  values |= {
    'name': str(fields.get('_name_or_path') or family).rstrip('/').split('/')[-1],
    'family': family,
    'head_dim': mla.v if mla else _head_dim(fields, family),
    'rope': rope_from_hf(fields, interleaved=bool(mla)),
    'qkv_bias': family == 'qwen2',
    'qk_norm': family == 'qwen3',
    'mla': mla,
    'moe': moe,
    'mtp': (fields.get('num_nextn_predict_layers') or fields.get('num_mtp_layers') or 0)
    if mla
    else 0,
    'param_dtype': fields.get('torch_dtype') or fields.get('dtype') or 'float32',
  }
  if values['mtp'] > 1:
    raise ValueError(f'num_nextn_predict_layers {values["mtp"]}: at most 1 is implemented')
  return ModelConfig(**values)


def _head_dim(fields: dict, family: str) -> int:
  if family == 'qwen3':
    return _take(fields, 'head_dim')
  return fields.get('head_dim') or _take(fields, 'hidden_size') // _take(
    fields, 'num_attention_heads'
  )


def _check_understood(fields: dict, family: str) -> None:
  """Raises ValueError naming the first field with a meaning that is not implemented."""
  fixed = _fixed(family, fields.get('n_group') or 1)
  known = _IGNORED | fixed.keys() | set(_FIELDS.values())
  if family.startswith('deepseek'):
    known |= set(_MLA_FIELDS.values()) | set(_MOE_FIELDS.values())
  for name, value in fields.items():
    if name in fixed and value is not None and value != fixed[name]:
      raise ValueError(f'{name} {value!r} is not implemented; only {fixed[name]!r} is')
    if name == 'quantization_config' and value:
      _check_fp8(value)
    if name == 'layer_types' and set(value or ()) - {'full_attention'}:
      raise ValueError(
        f'layer_types {sorted(set(value))} is not implemented; only full_attention is'
      )
    if name not in known and value:
      raise ValueError(f'field {name} = {value!r} is not understood by {family}')


def _check_fp8(quantization: dict) -> None:
  """Raises ValueError unless weights are FP8 in blocks, as DeepSeek-V3's are; how they are read is for hf_files."""
  for name, value in quantization.items():
    if name in _FP8 and value not in _FP8[name]:
      raise ValueError(
        f'quantization_config.{name} {value!r} is not implemented; only {_FP8[name][0]!r} is'
      )
  for name in ('quant_method', 'weight_block_size'):
    if name not in quantization:
      raise ValueError(f'field quantization_config.{name} is missing')


def config_to_hf(cfg: ModelConfig) -> dict:
  """ModelConfig -> contents of config.json. ValueError if the family cannot express it."""
  if cfg.family not in ARCHITECTURES:
    raise ValueError(f'family {cfg.family!r} is unknown; known: {", ".join(ARCHITECTURES)}')
  out = {
    'architectures': [ARCHITECTURES[cfg.family]],
    'model_type': cfg.family,
    '_name_or_path': cfg.name,
  }
  out |= {'torch_dtype': cfg.param_dtype, 'use_cache': True, 'attention_dropout': 0.0}
  out |= _fixed(cfg.family, cfg.moe.groups if cfg.moe else 1)
  out |= {theirs: getattr(cfg, ours) for ours, theirs in _FIELDS.items()}
  out['eos_token_id'] = list(cfg.eos) if isinstance(cfg.eos, tuple) else cfg.eos
  out |= rope_to_hf(cfg.rope)
  if cfg.mla:
    out |= {theirs: getattr(cfg.mla, ours) for ours, theirs in _MLA_FIELDS.items()}
    out |= {'q_lora_rank': cfg.mla.q_latent or None, 'num_nextn_predict_layers': cfg.mtp}
  else:
    out['head_dim'] = cfg.head_dim
  if cfg.moe:
    out |= {theirs: getattr(cfg.moe, ours) for ours, theirs in _MOE_FIELDS.items()}
  _check_same(cfg, config_from_hf(out), f'{cfg.family} checkpoint cannot say')
  return out


def _check_same(
  cfg: ModelConfig, other: ModelConfig, problem: str, but: tuple[str, ...] = HOW_COMPUTED
) -> None:
  """Raises ValueError naming the first field in which two configurations of one model differ."""
  for field in dataclasses.fields(cfg):
    ours, theirs = getattr(cfg, field.name), getattr(other, field.name)
    if field.name not in but and ours != theirs:
      raise ValueError(f'{problem} {field.name} = {ours!r}: it has {theirs!r}')


def check_same_function(cfg: ModelConfig, file: ModelConfig) -> None:
  """Raises ValueError naming a field in which `cfg` is not the model of a checkpoint."""
  but = (
    *HOW_COMPUTED,
    'name',
    'family',
    'init_std',
    'bos',
    'eos',
    'max_positions',
    'mtp',
    'head_dim' if cfg.mla else '',
  )
  _check_same(cfg, file, 'the checkpoint differs in', but)
  if cfg.mtp > file.mtp:
    raise ValueError(f'the checkpoint differs in mtp = {cfg.mtp}: it has {file.mtp}')
