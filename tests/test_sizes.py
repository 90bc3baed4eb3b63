"""Every named size: parameters, cache bytes, and that it traces."""

import math

import jax
import jax.numpy as jnp
import pytest

from r1jax.model import cache, sizes, weights
from r1jax.model.transformer import forward, spec

# Sums over the released tensors; DeepSeek-V3 with its MTP module, without its copies.
V3_MAIN, V3_MTP = 671_026_419_200, 11_610_068_224
PARAMETERS = {
  'deepseek_v3': V3_MAIN + V3_MTP,
  'deepseek-r1': V3_MAIN + V3_MTP,
  'qwen2.5-0.5b': 494_032_768,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen2.5-3b': 3_085_938_688,
  'qwen2.5-7b': 7_615_616_512,
  'qwen2.5-14b': 14_770_033_664,
  'qwen2.5-32b': 32_763_876_352,
  'qwen2.5-math-1.5b': 1_543_714_304,
  'qwen2.5-math-7b': 7_615_616_512,
  'qwen3-0.6b': 596_049_920,
  'qwen3-1.7b': 1_720_574_976,
  'qwen3-4b': 4_022_468_096,
  'qwen3-8b': 8_190_735_360,
  'qwen3-14b': 14_768_307_200,
  'qwen3-32b': 32_762_123_264,
  'llama-3.1-8b': 8_030_261_248,
  'llama-3.1-70b': 70_553_706_496,
  'llama-3.3-70b': 70_553_706_496,
  'r1-distill-qwen-1.5b': 1_777_088_000,
  'r1-distill-qwen-7b': 7_615_616_512,
  'r1-distill-qwen-14b': 14_770_033_664,
  'r1-distill-qwen-32b': 32_763_876_352,
  'r1-distill-llama-8b': 8_030_261_248,
  'r1-distill-llama-70b': 70_553_706_496,
}
CACHE_BYTES = {  # of one token in bf16
  'deepseek_v3': 70_272,
  'qwen2.5-0.5b': 12_288,
  'qwen2.5-1.5b': 28_672,
  'qwen2.5-7b': 57_344,
  'qwen2.5-14b': 196_608,
  'qwen2.5-32b': 262_144,
  'llama-3.1-8b': 131_072,
  'llama-3.1-70b': 327_680,
  'qwen3-0.6b': 114_688,
  'qwen3-4b': 147_456,
  'qwen3-14b': 163_840,
  'qwen3-32b': 262_144,
}
UNPRINTED = {'tiny_moe', 'tiny_dense', 'deepseek-v2-lite'}


def test_every_size_is_covered():
  assert set(sizes.names()) == set(PARAMETERS) | UNPRINTED


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameter_count(name):
  cfg = sizes.get(name)
  assert weights.count(spec(cfg), cfg) == PARAMETERS[name]


def test_parts_of_deepseek_v3():
  cfg = sizes.get('deepseek_v3')
  whole = spec(cfg)
  assert weights.count(whole.replace(mtp=None), cfg) == V3_MAIN
  assert weights.count(whole.mtp, cfg) == V3_MTP
  assert weights.count(whole.mtp.block.attention, cfg) == 187_107_328
  dense, sparse = whole.stacks
  assert weights.count(dense.ffn, cfg) == 3 * 396_361_728
  assert weights.count(sparse.ffn.shared, cfg) == 58 * 44_040_192


def test_deepseek_v2_lite_has_15_7_billion_parameters():
  cfg = sizes.get('deepseek-v2-lite')
  assert round(weights.count(spec(cfg), cfg) / 1e9, 1) == 15.7


def test_tiny_models_are_a_few_megabytes():
  for name in ('tiny_moe', 'tiny_dense'):
    cfg = sizes.get(name)
    assert 4 * weights.count(spec(cfg), cfg) < 8e6


@pytest.mark.parametrize('name', CACHE_BYTES)
def test_cache_bytes_per_token(name):
  assert cache.bytes_per_token(sizes.get(name), itemsize=2) == CACHE_BYTES[name]


@pytest.mark.parametrize('name', sizes.names())
def test_traces_abstractly(name):
  cfg = sizes.get(name)
  params = weights.abstract(spec(cfg), cfg)
  assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == weights.count(spec(cfg), cfg)
  tokens = jax.ShapeDtypeStruct((2, 64), jnp.int32)
  out = jax.eval_shape(lambda w, t: forward(w, cfg, t, t, keep_entries=True), params, tokens)
  assert out.hidden.shape == (2, 64, cfg.embed)
  assert sum(entries[0].shape[0] for entries in out.entries) == cfg.layers
  for entries in out.entries:
    kept = [(x.shape[2], x.shape[4]) for x in entries]
    assert tuple(kept) == cache.entry_shapes(cfg)


def test_an_unknown_name_lists_the_valid_ones():
  with pytest.raises(KeyError, match='qwen2.5-0.5b'):
    sizes.get('qwen9')
