"""Hugging Face layout: names, round trips, parts of tensors, and the papers' equations over the files."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from r1jax.model import hf, hf_files, sizes, weights
from r1jax.model.hf_names import Leaf
from r1jax.model.layers import inverse_frequencies
from r1jax.model.transformer import forward, logits, spec


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


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


def test_round_trip_is_exact(family_cfg, random_params, saved):
  params, cfg = hf.load(saved(family_cfg.family))
  assert cfg == family_cfg
  _same(params, random_params(family_cfg))
  files = {p.name for p in saved(family_cfg.family).iterdir()}
  assert files == {'config.json', 'generation_config.json', 'model.safetensors'}


def test_loading_onto_a_mesh(small, random_params, saved, mesh_of):
  mesh = mesh_of(fsdp=2, expert=2, tensor=2)
  params, cfg = hf.load(saved('deepseek_v3'), mesh=mesh)
  _same(jax.device_get(params), jax.device_get(random_params(cfg)))
  goal = weights.abstract(spec(cfg), cfg, mesh)
  jax.tree.map(
    lambda x, g: x.sharding.is_equivalent_to(g.sharding, x.ndim) or pytest.fail(), params, goal
  )
  assert params.stacks[1].ffn.gate.addressable_shards[0].data.shape == (2, 4, 16, 8)


def test_what_the_devices_hold_is_read_once(small, random_params, saved, mesh_of, monkeypatch):
  """Blocks that differ share no number: all of them together are the model, replicas or not."""
  read = []

  def counted(files, tensor, block, original=hf_files.Files.read):
    read.append(math.prod(map(len, block)))
    return original(files, tensor, block)

  monkeypatch.setattr(hf_files.Files, 'read', counted)
  mesh = mesh_of(data=2, fsdp=2, tensor=2)
  _, cfg = hf.load(saved('deepseek_v3'), mesh=mesh)
  assert sum(read) == weights.count(spec(cfg), cfg)


@pytest.mark.parametrize('way', ['host', 'devices'])
def test_large_tensors_are_read_in_pieces(way, small, random_params, saved, monkeypatch):
  """Into a buffer of the host, or put together on a device, as accelerators do it."""
  read = []

  def noted(files, tensor, block, original=hf_files.Files.read):
    read.append((tensor, math.prod(map(len, block))))
    return original(files, tensor, block)

  monkeypatch.setattr(hf_files.Files, 'read', noted)
  monkeypatch.setattr(hf, '_fill_host', hf._fill_host if way == 'host' else hf._fill_devices)
  monkeypatch.setattr(hf, 'DEVICE_PIECE', 200)
  monkeypatch.setattr(hf, 'PIECE', 200)
  params, cfg = hf.load(saved('deepseek_v3'))
  _same(params, random_params(cfg))
  assert max(n for _, n in read) == 20 * 16  # a head of kv_b, which is not cut
  embed = [n for tensor, n in read if tensor == 'model.embed_tokens.weight']
  assert embed == [6 * 32] * 10 + [32]  # 61 rows of 32


def test_cpus_take_the_buffer_as_it_is(random_params, saved, mesh_of):
  """Devices that hold the same block share it, and a donated one is copied first."""
  params, _ = hf.load(saved('deepseek_v3'), mesh=mesh_of(data=2, fsdp=2, tensor=2))
  x = params.stacks[1].ffn.gate
  shards = {s.device.id: s for s in x.addressable_shards}
  places = [shards[i].data.unsafe_buffer_pointer() for i in sorted(shards)]
  assert len(set(places)) == 4 and all(p % hf.ALIGNED == 0 for p in places)
  other = params.stacks[1].ffn.up
  before = np.array(x)
  doubled = jax.jit(lambda a: a * 2, donate_argnums=0)(x)
  np.testing.assert_array_equal(doubled, before * 2)
  again = hf.load(saved('deepseek_v3'))[0]
  np.testing.assert_array_equal(other, again.stacks[1].ffn.up)


def test_pieces_of_a_leaf():
  """(n h) d -> d n h, two layers, three heads of four, cut along the heads; then the file's rows."""
  leaf = Leaf('{layer}.q', '(n h) d -> d n h', (2,), (5, 3, 4), np.dtype('float32'), 7)
  assert leaf.file_shape == (12, 5)
  block = (range(1, 2), range(2, 5), range(3), range(4))
  found = list(leaf.pieces(block, 25))  # of 3 x 3 x 4
  cut = [(range(2, 5), range(0, 2), range(4)), (range(2, 5), range(2, 3), range(4))]
  assert found == [((1,), cut[0]), ((1,), cut[1])]
  assert leaf.tensor((1,)) == '8.q'
  assert leaf.file_block(cut[1]) == (range(8, 12), range(2, 5))
  with pytest.raises(ValueError, match='only axis n'):
    leaf.file_block((range(5), range(3), range(2)))


def test_an_mtp_layer_that_is_not_there_is_not_wanted(small, random_params, tmp_path):
  """As transformers saves DeepSeek-V3: config.json counts the layer, the files lack it."""
  cfg = small('deepseek_v3')
  hf.export(random_params(cfg), cfg, tmp_path / 'out', mtp=False)
  fields = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert fields['num_nextn_predict_layers'] == 0
  hf.write_json(tmp_path / 'out' / 'config.json', fields | {'num_nextn_predict_layers': 1})
  params, found = hf.load(tmp_path / 'out')
  assert found.mtp == 0 and params.mtp is None
  with pytest.raises(ValueError, match='config.json: .*mtp = 1'):
    hf.load(tmp_path / 'out', cfg)


def test_config_says_how_to_compute(small, saved):
  cfg = dataclasses.replace(small('deepseek_v3'), param_dtype='bfloat16', remat='block', mtp=0)
  params, used = hf.load(saved('deepseek_v3'), cfg)
  assert used == cfg and params.mtp is None and params.embed.dtype == jnp.bfloat16
  with pytest.raises(ValueError, match='config.json: .*norm_eps'):
    hf.load(saved('deepseek_v3'), dataclasses.replace(cfg, norm_eps=1e-5))


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
