"""ModelConfig <-> Hugging Face `config.json`.

A field that is neither understood nor known to leave the function alone is an error that names it, and so is a
value of another kind than the field has, and fields that do not go together.
"""

import dataclasses

from r1jax.model.hf_fields import REQUIRED, check_fixed, take
from r1jax.model.hf_rope import rope_from_hf, rope_to_hf
from r1jax.model.sizes import MlaConfig, ModelConfig, MoeConfig

ARCHITECTURES = {
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
  'llama': 'LlamaForCausalLM',
  'deepseek_v3': 'DeepseekV3ForCausalLM',
  'deepseek_v2': 'DeepseekV2ForCausalLM',
}

# Our field -> (its name in the file, its kind, what it is where the file does not say).
_FIELDS = {
  'vocab': ('vocab_size', 'count'),
  'embed': ('hidden_size', 'count'),
  'layers': ('num_hidden_layers', 'count'),
  'heads': ('num_attention_heads', 'count'),
  'kv_heads': ('num_key_value_heads', 'count'),
  'mlp': ('intermediate_size', 'count'),
  'max_positions': ('max_position_embeddings', 'count'),
  'norm_eps': ('rms_norm_eps', 'positive'),
  'tied': ('tie_word_embeddings', 'flag', False),
  'bos': ('bos_token_id', 'token', None),
  'eos': ('eos_token_id', 'tokens', None),
  'init_std': ('initializer_range', 'factor', 0.02),
}
_MLA_FIELDS = {
  'q_latent': ('q_lora_rank', 'size', 0),
  'kv_latent': ('kv_lora_rank', 'count'),
  'nope': ('qk_nope_head_dim', 'count'),
  'rope': ('qk_rope_head_dim', 'count'),
  'v': ('v_head_dim', 'count'),
}
_MOE_FIELDS = {
  'experts': ('n_routed_experts', 'count'),
  'chosen': ('num_experts_per_tok', 'count'),
  'expert_mlp': ('moe_intermediate_size', 'count'),
  'shared': ('n_shared_experts', 'size'),
  'groups': ('n_group', 'count'),
  'kept_groups': ('topk_group', 'count'),
  'normalise': ('norm_topk_prob', 'flag'),
  'scale': ('routed_scaling_factor', 'positive'),
  'first_dense': ('first_k_dense_replace', 'size'),
}
# Fields that change the function, with the only value that is implemented and that readers take if it is absent.
_FIXED = {
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'use_sliding_window': False,
}
_FIXED_MLA = {'moe_layer_freq': 1, 'rope_interleave': True}
_FIXED_V3 = {'scoring_func': 'sigmoid', 'topk_method': 'noaux_tc'}
_FIXED_V2 = {'scoring_func': 'softmax', 'norm_topk_prob': False}
# The same, of fields that are read and not written.
_FIXED_UNWRITTEN = {
  'is_causal': True,
  'is_encoder_decoder': False,
  'add_cross_attention': False,
  'partial_rotary_factor': 1.0,
  'use_mrope': False,
}
_V2_METHODS = ('greedy', 'group_limited_greedy')
_MTP = ('num_nextn_predict_layers', 'num_mtp_layers')
_DTYPE = ('dtype', 'torch_dtype')
_ROPE = ('rope_theta', 'rope_scaling', 'rope_parameters')
# Fields that leave the function alone, whatever they say.
_HARMLESS = frozenset([
  'architectures', 'model_type', 'auto_map', 'transformers_version', '_name_or_path', 'name_or_path',
  '_attn_implementation_autoset', 'attention_dropout', 'aux_loss_alpha', 'router_aux_loss_coef', 'seq_aux',
  'pretraining_tp', 'ep_size', 'use_cache', 'return_dict', 'output_attentions', 'output_hidden_states',
  'output_router_logits', 'chunk_size_feed_forward', 'head_dim', 'qk_head_dim', 'sliding_window',
  'max_window_layers', 'pad_token_id', 'id2label', 'label2id', 'problem_type',
])  # fmt: skip
# Of quantization_config: what makes a weight of a file's numbers. Activations are never quantised here.
_FP8 = {'quant_method': ['fp8'], 'fmt': ['e4m3', None], 'weight_block_size': [[128, 128]]}
_FP8_HARMLESS = ('activation_scheme', 'scale_fmt', 'modules_to_not_convert', 'dequantize')
HOW_COMPUTED = ('param_dtype', 'compute_dtype', 'remat', 'logits_chunk')


def _fixed(family: str) -> dict:
  """Family -> fields with their only implemented value, as they are written."""
  if family.startswith('deepseek'):
    return _FIXED | _FIXED_MLA | (_FIXED_V3 if family == 'deepseek_v3' else _FIXED_V2)
  return _FIXED


def config_from_hf(fields: dict) -> ModelConfig:
  """Contents of config.json -> ModelConfig with the file's dtype. ValueError names a field."""
  family = fields.get('model_type')
  if not isinstance(family, str) or family not in ARCHITECTURES:
    raise ValueError(f'model_type {family!r} is unknown; known: {", ".join(ARCHITECTURES)}')
  if (named := fields.get('architectures')) and named != [ARCHITECTURES[family]]:
    raise ValueError(f'architectures {named} is unknown; {family} has {[ARCHITECTURES[family]]}')
  _check_understood(fields, family)
  values = _read(fields, _FIELDS)
  if isinstance(values['eos'], list):
    values['eos'] = tuple(values['eos'])
  values |= _deepseek(fields, family) if family.startswith('deepseek') else _dense(fields, family)
  values['name'] = str(fields.get('_name_or_path') or family).rstrip('/').split('/')[-1]
  dtypes = [take(fields, name, 'dtype', None) for name in _DTYPE]
  cfg = ModelConfig(family=family, param_dtype=next(filter(None, dtypes), 'float32'), **values)
  _check_fit(cfg)
  return cfg


def _read(fields: dict, table: dict) -> dict:
  return {ours: take(fields, *how) for ours, how in table.items()}


def _dense(fields: dict, family: str) -> dict:
  """-> the fields of ModelConfig that Qwen and Llama have in their own way."""
  embed, heads = take(fields, 'hidden_size', 'count'), take(fields, 'num_attention_heads', 'count')
  if family != 'qwen3' and fields.get('head_dim') is None and embed % heads:
    raise ValueError(f'num_attention_heads {heads} does not divide hidden_size {embed}')
  return {
    'head_dim': take(fields, 'head_dim', 'count', REQUIRED if family == 'qwen3' else embed // heads),
    'rope': rope_from_hf(fields, interleaved=False),
    'qkv_bias': family == 'qwen2',
    'qk_norm': family == 'qwen3',
  }  # fmt: skip


def _deepseek(fields: dict, family: str) -> dict:
  """-> the fields of ModelConfig that DeepSeek has in its own way."""
  v3 = family == 'deepseek_v3'
  mla = MlaConfig(**_read(fields, _MLA_FIELDS))
  routing = _read(fields if v3 else _v2_groups(fields), _MOE_FIELDS)
  mtp = max(take(fields, name, 'size', 0) for name in _MTP) if v3 else 0
  if mtp > 1:
    raise ValueError(f'{_MTP[0]} {mtp}: at most 1 is implemented')
  return {
    'head_dim': mla.v,
    'rope': rope_from_hf(fields, interleaved=True),
    'mla': mla,
    'moe': MoeConfig(**routing, score='sigmoid' if v3 else 'softmax', correction_bias=v3),
    'mtp': mtp,
  }


def _v2_groups(fields: dict) -> dict:
  """V2's fields -> the same, with one group where its router does not look at them."""
  grouped = fields.get('n_group') not in (None, 1)
  method = take(fields, 'topk_method', 'text', REQUIRED if grouped else 'greedy')
  if method not in _V2_METHODS:
    raise ValueError(f'topk_method {method!r} is not implemented; only {", ".join(_V2_METHODS)}')
  return fields | {'n_group': 1, 'topk_group': 1} if method == 'greedy' else fields


def _check_understood(fields: dict, family: str) -> None:
  """Raises ValueError naming the first field with a meaning that is not implemented."""
  deepseek, v3 = family.startswith('deepseek'), family == 'deepseek_v3'
  fixed = _fixed(family) | _FIXED_UNWRITTEN | ({} if v3 else dict.fromkeys(_MTP, 0))
  check_fixed(fields, fixed)
  tables = (_FIELDS, _MLA_FIELDS, _MOE_FIELDS) if deepseek else (_FIELDS,)
  known = {how[0] for table in tables for how in table.values()} | fixed.keys() | _HARMLESS
  known |= {*_DTYPE, *_ROPE, *_MTP, 'quantization_config', 'layer_types'}
  known |= {'topk_method'} if deepseek else set()
  for name, value in fields.items():
    if name not in known and value is not None:
      raise ValueError(f'field {name} = {value!r} is not understood by {family}')
  take(fields, 'layer_types', 'layers', None)
  _check_fp8(take(fields, 'quantization_config', 'object', None) or {})


def _check_fp8(quantization: dict) -> None:
  """Raises ValueError unless weights are FP8 in blocks, as DeepSeek-V3's are; how they are read is for hf_files."""
  for name, value in quantization.items():
    where = f'quantization_config.{name}'
    if name in _FP8 and value not in _FP8[name]:
      raise ValueError(f'{where} {value!r} is not implemented; only {_FP8[name][0]!r} is')
    if name not in (*_FP8, *_FP8_HARMLESS) and value is not None:
      raise ValueError(f'field {where} = {value!r} is not understood')
  for name in ('quant_method', 'weight_block_size') if quantization else ():
    if name not in quantization:
      raise ValueError(f'field quantization_config.{name} is missing')


def _check_fit(cfg: ModelConfig) -> None:
  """Raises ValueError for fields that do not go together: readers fail on them, or differ in what they do."""
  m, rotated = (
    cfg.moe,
    ('qk_rope_head_dim', cfg.mla.rope) if cfg.mla else ('head_dim', cfg.head_dim),
  )
  wrong = {
    f'num_key_value_heads {cfg.kv_heads} does not divide num_attention_heads {cfg.heads}': cfg.heads % cfg.kv_heads,
    f'{rotated[0]} {rotated[1]} is not even': rotated[1] % 2,
  }  # fmt: skip
  if cfg.mla:
    wrong |= {
      f'num_key_value_heads {cfg.kv_heads} is not num_attention_heads {cfg.heads}': cfg.kv_heads != cfg.heads,
      f'n_group {m.groups} does not divide n_routed_experts {m.experts}': m.experts % m.groups,
      f'topk_group {m.kept_groups} is more than n_group {m.groups}': m.kept_groups > m.groups,
      f'num_experts_per_tok {m.chosen} is more than {m.kept_groups} groups of {m.experts // m.groups} experts hold':
        m.chosen > m.kept_groups * (m.experts // m.groups),
      f'n_group {m.groups}: a group of n_routed_experts {m.experts} has fewer than two':
        m.score == 'sigmoid' and m.experts < 2 * m.groups,
      f'first_k_dense_replace {m.first_dense} is more than num_hidden_layers {cfg.layers}': m.first_dense > cfg.layers,
    }  # fmt: skip
  for problem, holds in wrong.items():
    if holds:
      raise ValueError(problem)


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
  out |= _fixed(cfg.family) | _written(cfg, _FIELDS)
  out['eos_token_id'] = list(cfg.eos) if isinstance(cfg.eos, tuple) else cfg.eos
  out |= rope_to_hf(cfg.rope)
  if cfg.mla:
    out |= _written(cfg.mla, _MLA_FIELDS)
    out |= {'q_lora_rank': cfg.mla.q_latent or None, 'num_nextn_predict_layers': cfg.mtp}
  else:
    out['head_dim'] = cfg.head_dim
  if cfg.moe:
    out |= _written(cfg.moe, _MOE_FIELDS)
  if cfg.family == 'deepseek_v2':
    out['topk_method'] = _V2_METHODS[cfg.moe.groups > 1]
  _check_same(cfg, config_from_hf(out), f'{cfg.family} checkpoint cannot say')
  return out


def _written(part, table: dict) -> dict:
  """ModelConfig, or a part of it -> its fields under their names in the file."""
  return {theirs: getattr(part, ours) for ours, (theirs, *_) in table.items()}


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
