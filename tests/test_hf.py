"""Hugging Face layout: names, round trips, errors, and the papers' equations over the files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from r1jax.model import hf, sizes, weights
from r1jax.model.layers import inverse_frequencies
from r1jax.model.transformer import forward, logits, spec


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


# Names


def test_tensors_of_deepseek_v3_are_those_of_the_release():
  """91,991 tensors: 46,183 weights, and a scale for each of the 45,808 that are stored in FP8."""
  cfg = sizes.get('deepseek_v3')
  table, plan = hf.leaves(cfg), hf.tensors(cfg)
  shape = {name: table[path].file_shape for name, (path, _) in plan.items()}
  assert len(shape) == 46_183
  plain = ('norm', 'embed_tokens', 'head', 'gate.weight', 'bias', 'eh_proj')
  quantised = [n for n in shape if not any(p in n for p in plain)]
  assert len(quantised) + len(shape) == 91_991
  copies = 2 * 129280 * 7168
  assert sum(np.prod(s) for s in shape.values()) == weights.count(spec(cfg), cfg) + copies
  expected = {
    'model.embed_tokens.weight': (129280, 7168),
    'lm_head.weight': (129280, 7168),
    'model.norm.weight': (7168,),
    'model.layers.0.input_layernorm.weight': (7168,),
    'model.layers.60.post_attention_layernorm.weight': (7168,),
    'model.layers.7.self_attn.q_a_proj.weight': (1536, 7168),
    'model.layers.7.self_attn.q_a_layernorm.weight': (1536,),
    'model.layers.7.self_attn.q_b_proj.weight': (24576, 1536),
    'model.layers.7.self_attn.kv_a_proj_with_mqa.weight': (576, 7168),
    'model.layers.7.self_attn.kv_a_layernorm.weight': (512,),
    'model.layers.7.self_attn.kv_b_proj.weight': (32768, 512),
    'model.layers.7.self_attn.o_proj.weight': (7168, 16384),
    'model.layers.2.mlp.gate_proj.weight': (18432, 7168),
    'model.layers.2.mlp.down_proj.weight': (7168, 18432),
    'model.layers.3.mlp.gate.weight': (256, 7168),
    'model.layers.60.mlp.gate.e_score_correction_bias': (256,),
    'model.layers.3.mlp.experts.0.up_proj.weight': (2048, 7168),
    'model.layers.60.mlp.experts.255.down_proj.weight': (7168, 2048),
    'model.layers.60.mlp.shared_experts.gate_proj.weight': (2048, 7168),
    'model.layers.61.eh_proj.weight': (7168, 14336),
    'model.layers.61.enorm.weight': (7168,),
    'model.layers.61.hnorm.weight': (7168,),
    'model.layers.61.shared_head.norm.weight': (7168,),
    'model.layers.61.embed_tokens.weight': (129280, 7168),
    'model.layers.61.shared_head.head.weight': (129280, 7168),
    'model.layers.61.mlp.experts.255.gate_proj.weight': (2048, 7168),
  }
  assert {name: shape.get(name) for name in expected} == expected
  assert not [n for n in shape if n.startswith('model.layers.2.mlp.experts')]


def test_every_tensor_is_an_element_of_one_leaf():
  for name in sizes.names():
    cfg = sizes.get(name)
    plan, table = hf.tensors(cfg), hf.leaves(cfg)
    assert table.keys() == {
      jax.tree_util.keystr(p)
      for p, _ in jax.tree_util.tree_leaves_with_path(weights.abstract(spec(cfg), cfg))
    }
    copies = 2 if cfg.mtp else 0
    assert len(set(plan.values())) == len(plan) - copies


@pytest.mark.parametrize(
  'name, tensor, shape',
  [
    ('qwen2.5-0.5b', 'model.layers.23.self_attn.k_proj.bias', (128,)),
    ('qwen2.5-0.5b', 'model.layers.0.self_attn.o_proj.weight', (896, 896)),
    ('qwen2.5-7b', 'lm_head.weight', (152064, 3584)),
    ('qwen3-0.6b', 'model.layers.5.self_attn.q_proj.weight', (2048, 1024)),
    ('qwen3-0.6b', 'model.layers.5.self_attn.q_norm.weight', (128,)),
    ('llama-3.1-8b', 'model.layers.31.self_attn.v_proj.weight', (1024, 4096)),
    ('deepseek-v2-lite', 'model.layers.26.self_attn.q_proj.weight', (3072, 2048)),
    ('deepseek-v2-lite', 'model.layers.1.mlp.shared_experts.up_proj.weight', (2816, 2048)),
  ],
)
def test_names_of_other_families(name, tensor, shape):
  cfg = sizes.get(name)
  path, _ = hf.tensors(cfg)[tensor]
  assert hf.leaves(cfg)[path].file_shape == shape


def test_families_lack_what_they_lack():
  assert 'lm_head.weight' not in hf.tensors(sizes.get('qwen2.5-0.5b'))
  assert not [n for n in hf.tensors(sizes.get('llama-3.1-8b')) if n.endswith('bias')]
  lite = hf.tensors(sizes.get('deepseek-v2-lite'))
  assert not [n for n in lite if 'q_a_proj' in n or 'e_score' in n or 'layers.27.' in n]


# Config


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
    ({'quantization_config': {'quant_method': 'fp8'}}, 'quantization_config'),
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


# Files


@pytest.fixture(scope='module')
def saved(small, random_params, tmp_path_factory):
  """Family -> directory of its exported small model; written once."""
  directories = {}

  def directory(family):
    if family not in directories:
      directories[family] = tmp_path_factory.mktemp('hf') / family
      hf.export(random_params(small(family)), small(family), directories[family])
    return directories[family]

  return directory


@pytest.fixture
def broken(saved, tmp_path):
  """A copy of the Qwen3 checkpoint to be broken: (directory, tensors)."""
  source = saved('qwen3')
  for file in source.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  return tmp_path, load_file(source / 'model.safetensors')


def test_round_trip_is_exact(family_cfg, random_params, saved):
  params, cfg = hf.load(saved(family_cfg.family))
  assert cfg == family_cfg
  _same(params, random_params(family_cfg))
  files = {p.name for p in saved(family_cfg.family).iterdir()}
  assert files == {'config.json', 'generation_config.json', 'model.safetensors'}


def test_shards_and_index(small, random_params, tmp_path):
  cfg = dataclasses.replace(small('deepseek_v3'), param_dtype='bfloat16')
  params = random_params(cfg)
  hf.export(params, cfg, tmp_path / 'out', shard_bytes=20_000)
  index = json.loads((tmp_path / 'out' / 'model.safetensors.index.json').read_text())
  files = sorted(p.name for p in (tmp_path / 'out').glob('*.safetensors'))
  assert len(files) > 1 and files[0] == f'model-00001-of-{len(files):05d}.safetensors'
  assert index['weight_map'].keys() == hf.tensors(cfg).keys()
  tensors = {k: v for f in files for k, v in load_file(tmp_path / 'out' / f).items()}
  assert index['metadata']['total_size'] == sum(v.nbytes for v in tensors.values())
  assert tensors['model.embed_tokens.weight'].dtype == jnp.bfloat16
  assert tensors['model.layers.1.mlp.gate.e_score_correction_bias'].dtype == np.float32
  again, read = hf.load(tmp_path / 'out')
  _same(again, params)
  assert read == cfg


def test_loading_onto_a_mesh(small, random_params, saved, mesh_of):
  mesh = mesh_of(fsdp=2, expert=2, tensor=2)
  params, cfg = hf.load(saved('deepseek_v3'), mesh=mesh)
  _same(jax.device_get(params), jax.device_get(random_params(cfg)))
  goal = weights.abstract(spec(cfg), cfg, mesh)
  jax.tree.map(
    lambda x, g: x.sharding.is_equivalent_to(g.sharding, x.ndim) or pytest.fail(), params, goal
  )
  assert params.stacks[1].ffn.gate.addressable_shards[0].data.shape == (2, 4, 16, 8)


def test_config_says_how_to_compute(small, saved):
  cfg = dataclasses.replace(small('deepseek_v3'), param_dtype='bfloat16', remat='block', mtp=0)
  params, used = hf.load(saved('deepseek_v3'), cfg)
  assert used == cfg and params.mtp is None and params.embed.dtype == jnp.bfloat16
  with pytest.raises(ValueError, match='config.json: .*norm_eps'):
    hf.load(saved('deepseek_v3'), dataclasses.replace(cfg, norm_eps=1e-5))


def test_export_leaves_nothing_behind_when_it_fails(small, random_params, tmp_path):
  class Tokenizer:
    def save(self, directory):
      assert (directory / 'model.safetensors').exists()
      raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    hf.export(random_params(small('qwen2')), small('qwen2'), tmp_path / 'out', Tokenizer())
  assert not list(tmp_path.iterdir())


def test_export_overwrites_nothing(small, random_params, tmp_path):
  (tmp_path / 'mine.txt').write_text('keep')
  with pytest.raises(FileExistsError, match=str(tmp_path)):
    hf.export(random_params(small('qwen2')), small('qwen2'), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


NORM = 'model.layers.1.self_attn.q_norm.weight'


@pytest.mark.parametrize(
  'change, named',
  [
    (lambda t: t.pop(NORM), f'{NORM} is missing'),
    (lambda t: t.update(extra=np.zeros(3)), 'model.safetensors: unexpected tensor extra'),
    (
      lambda t: t.update({NORM: np.zeros(13, np.float32)}),
      rf'{NORM} has shape \(13,\), expected \(12,\)',
    ),
    (lambda t: t.update({NORM: np.zeros(12, np.int8)}), f'{NORM} is I8'),
  ],
)
def test_wrong_tensors_are_named(broken, change, named):
  directory, tensors = broken
  change(tensors)
  save_file(tensors, directory / 'model.safetensors')
  with pytest.raises(ValueError, match=named):
    hf.load(directory)


def test_a_truncated_file_is_named(broken):
  path = broken[0] / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(ValueError, match='model.safetensors: truncated'):
    hf.load(broken[0])


def test_a_missing_shard_is_named(broken):
  index = {'weight_map': {NORM: 'model-00002-of-00002.safetensors'}}
  (broken[0] / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(FileNotFoundError, match='model-00002-of-00002.safetensors: missing'):
    hf.load(broken[0])


def test_pickles_are_refused(broken):
  (broken[0] / 'model.safetensors').rename(broken[0] / 'pytorch_model.bin')
  with pytest.raises(FileNotFoundError, match='pytorch_model.bin is a pickle.*convert'):
    hf.load(broken[0])


def test_a_broken_config_is_named(broken):
  (broken[0] / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json: not JSON'):
    hf.load(broken[0])
  (broken[0] / 'config.json').unlink()
  with pytest.raises(FileNotFoundError, match='config.json'):
    hf.load(broken[0])


# Functions of the exported tensors


def _rms(x, scale, eps=1e-6):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * scale


def _mlp(x, t, prefix):
  gate, up = x @ t[f'{prefix}.gate_proj.weight'].T, x @ t[f'{prefix}.up_proj.weight'].T
  return (gate / (1 + np.exp(-gate)) * up) @ t[f'{prefix}.down_proj.weight'].T


def _turn(x, cfg):
  """x [T, ..., 2 i] -> pairs (0, 1), (2, 3), ... turned by their angles, as complex numbers."""
  z = x[..., 0::2] + 1j * x[..., 1::2]
  angle = np.outer(np.arange(len(x)), inverse_frequencies(cfg.rope, cfg.mla.rope))
  ratio = (0.1 * np.log(cfg.rope.factor) + 1) / (0.1 * 0.7 * np.log(cfg.rope.factor) + 1)
  return ratio * z * np.exp(1j * angle).reshape(len(x), *[1] * (x.ndim - 2), -1)


def _mla(x, t, prefix, cfg):
  """x [T, D], one head after another, from rows of the projections as they lie in the file."""
  m, n = cfg.mla, cfg.heads
  latent_q = _rms(x @ t[f'{prefix}.q_a_proj.weight'].T, t[f'{prefix}.q_a_layernorm.weight'])
  q = latent_q @ t[f'{prefix}.q_b_proj.weight'].T
  both = x @ t[f'{prefix}.kv_a_proj_with_mqa.weight'].T
  latent = _rms(both[:, : m.kv_latent], t[f'{prefix}.kv_a_layernorm.weight'])
  kv = latent @ t[f'{prefix}.kv_b_proj.weight'].T
  k_rope = _turn(both[:, m.kv_latent :], cfg)
  scale = (m.nope + m.rope) ** -0.5 * (0.1 * 0.7 * np.log(cfg.rope.factor) + 1) ** 2
  heads = []
  for h in range(n):
    q_h = q[:, h * (m.nope + m.rope) : (h + 1) * (m.nope + m.rope)]
    kv_h = kv[:, h * (m.nope + m.v) : (h + 1) * (m.nope + m.v)]
    score = q_h[:, : m.nope] @ kv_h[:, : m.nope].T
    score = score + (_turn(q_h[:, m.nope :], cfg) @ k_rope.conj().T).real
    score = np.where(np.tri(len(x)), score * scale, -np.inf)
    p = np.exp(score - score.max(-1, keepdims=True))
    heads.append(p / p.sum(-1, keepdims=True) @ kv_h[:, m.nope :])
  return np.concatenate(heads, -1) @ t[f'{prefix}.o_proj.weight'].T


def _routed(x, t, prefix, cfg):
  """x [T, D]: sigmoid affinities, biased choice, two best of a group, kept groups, best experts."""
  m, out = cfg.moe, _mlp(x, t, f'{prefix}.shared_experts')
  affinity = 1 / (1 + np.exp(-x @ t[f'{prefix}.gate.weight'].T))
  for i, s in enumerate(affinity):
    b = (s + t[f'{prefix}.gate.e_score_correction_bias']).reshape(m.groups, -1)
    kept = np.argsort(-np.sort(b)[:, -2:].sum(-1))[: m.kept_groups]
    b = np.where(np.isin(np.arange(m.groups), kept)[:, None], b, -np.inf).reshape(-1)
    chosen = np.argsort(-b)[: m.chosen]
    for e in chosen:
      out[i] += s[e] / s[chosen].sum() * m.scale * _mlp(x[i], t, f'{prefix}.experts.{e}')
  return out


def test_deepseek_v3_by_its_equations_over_the_file(small, saved):
  cfg = small('deepseek_v3')
  t = {
    k: v.astype(np.float64)
    for k, v in load_file(saved('deepseek_v3') / 'model.safetensors').items()
  }
  tokens = np.random.default_rng(0).integers(0, cfg.vocab, 20)
  x = t['model.embed_tokens.weight'][tokens]
  for n in range(cfg.layers):
    layer = f'model.layers.{n}'
    x = x + _mla(_rms(x, t[f'{layer}.input_layernorm.weight']), t, f'{layer}.self_attn', cfg)
    y = _rms(x, t[f'{layer}.post_attention_layernorm.weight'])
    x = x + (
      _mlp(y, t, f'{layer}.mlp') if n < cfg.moe.first_dense else _routed(y, t, f'{layer}.mlp', cfg)
    )
  expected = _rms(x, t['model.norm.weight']) @ t['lm_head.weight'].T
  params, _ = hf.load(saved('deepseek_v3'))
  run = jax.jit(lambda p, t: logits(p, forward(p, cfg, t, jnp.arange(20)[None]).hidden))
  np.testing.assert_allclose(run(params, tokens[None])[0], expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(t['model.layers.3.shared_head.head.weight'], t['lm_head.weight'])
  np.testing.assert_array_equal(
    t['model.layers.3.embed_tokens.weight'], t['model.embed_tokens.weight']
  )
