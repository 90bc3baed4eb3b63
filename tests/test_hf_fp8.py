"""DeepSeek-V3 as it was released: every tensor by the files' headers, and FP8 weights."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from r1jax.model import hf, hf_files, sizes
from r1jax.model.hf_files import BLOCK, SCALE, Header

FP8 = {'quant_method': 'fp8', 'fmt': 'e4m3', 'weight_block_size': [128, 128]}


# The release: names, shapes and dtypes as its files list them

_ATTENTION = {
  'q_a_proj.weight': (1536, 7168), 'q_b_proj.weight': (24576, 1536), 'kv_a_proj_with_mqa.weight': (576, 7168),
  'kv_b_proj.weight': (32768, 512), 'o_proj.weight': (7168, 16384),
}  # fmt: skip


def _mlp(prefix, width):
  shapes = {'gate_proj': (width, 7168), 'up_proj': (width, 7168), 'down_proj': (7168, width)}
  return {f'{prefix}.{name}.weight': shape for name, shape in shapes.items()}


def _release_layer(n):
  """-> tensors of a layer in BF16, in F32, and in FP8: name -> shape."""
  layer = f'model.layers.{n}'
  plain = {f'{layer}.{name}_layernorm.weight': (7168,) for name in ('input', 'post_attention')}
  plain |= {f'{layer}.self_attn.q_a_layernorm.weight': (1536,)}
  plain |= {f'{layer}.self_attn.kv_a_layernorm.weight': (512,)}
  eight = {f'{layer}.self_attn.{name}': shape for name, shape in _ATTENTION.items()}
  if n < 3:
    return plain, {}, eight | _mlp(f'{layer}.mlp', 18432)
  plain[f'{layer}.mlp.gate.weight'] = (256, 7168)
  wide = {f'{layer}.mlp.gate.e_score_correction_bias': (256,)}
  eight |= _mlp(f'{layer}.mlp.shared_experts', 2048)
  for expert in range(256):
    eight |= _mlp(f'{layer}.mlp.experts.{expert}', 2048)
  return plain, wide, eight


@pytest.fixture(scope='module')
def release():
  """Tensor name -> Header, of all that DeepSeek-V3 and R1 were released with."""
  plain = {'model.embed_tokens.weight': (129280, 7168), 'lm_head.weight': (129280, 7168)}
  plain |= {'model.norm.weight': (7168,)}
  mtp = {'eh_proj': (7168, 14336), 'enorm': (7168,), 'hnorm': (7168,), 'shared_head.norm': (7168,)}
  mtp |= {'embed_tokens': (129280, 7168), 'shared_head.head': (129280, 7168)}
  plain |= {f'model.layers.61.{name}.weight': shape for name, shape in mtp.items()}
  wide, eight = {}, {}
  for n in range(62):
    for kind, found in zip((plain, wide, eight), _release_layer(n), strict=True):
      kind.update(found)
  wide |= {n + '_scale_inv': (-(-a // 128), -(-b // 128)) for n, (a, b) in eight.items()}
  kinds = {'BF16': plain, 'F32': wide, 'F8_E4M3': eight}
  path = pathlib.Path('model.safetensors')
  return {n: Header(path, k, shape) for k, found in kinds.items() for n, shape in found.items()}


def test_every_tensor_of_the_release_is_accounted_for(release):
  """Counts as the release has them: 91,991 tensors, and so many elements of each type."""
  assert len(release) == 91_991
  count = dict.fromkeys(('F8_E4M3', 'BF16', 'F32'), 0)
  for header in release.values():
    count[header.dtype] += int(np.prod(header.shape, dtype=np.int64))
  assert count == {'F8_E4M3': 680_571_043_840, 'BF16': 3_918_786_560, 'F32': 41_555_600}
  cfg = sizes.get('deepseek_v3')
  hf_files.check(release, cfg)
  weights = {name: header.shape for name, header in release.items() if not name.endswith(SCALE)}
  table = hf.leaves(cfg)
  assert weights == {name: table[path].file_shape for name, (path, _) in hf.tensors(cfg).items()}


@pytest.mark.parametrize(
  'tensor, named',
  [
    ('model.layers.60.mlp.experts.255.up_proj.weight', 'up_proj.weight is missing'),
    ('model.layers.61.eh_proj.weight', 'eh_proj.weight is missing'),
    ('model.layers.61.self_attn.kv_a_proj_with_mqa.weight_scale_inv', 'F8_E4M3, but .*_scale_inv is missing'),
  ],
)  # fmt: skip
def test_a_tensor_that_the_release_lacks_is_named(release, tensor, named):
  rest = {name: header for name, header in release.items() if name != tensor}
  with pytest.raises(ValueError, match=named):
    hf_files.check(rest, sizes.get('deepseek_v3'))


# FP8


def test_fp8_times_the_scale_of_its_block(tmp_path):
  """Bits 0x38, 0x7e, 0xb8, 0x01 are 1, 448, -1, 2^-9; rows 0..127 have the scale 2, row 128 has 4, column 128 8."""
  bits = np.full((129, 129), 0x38, np.uint8)
  bits[0, :3] = [0x7E, 0xB8, 0x01]
  scale = np.array([[2, 8], [4, 16]], np.float32)
  tensors = {'w': bits.view(jnp.float8_e4m3fn), 'w' + SCALE: scale}
  save_file(tensors, tmp_path / 'model.safetensors')
  files = hf_files.open_files(tmp_path)
  whole = files.read('w', (range(129), range(129)))
  np.testing.assert_array_equal(whole[0, [0, 1, 2, 3, 128]], [896, -2, 2 / 512, 2, 8])
  np.testing.assert_array_equal(whole[128, [0, 128]], [4, 16])
  np.testing.assert_array_equal(
    files.read('w', (range(127, 129), range(1, 129))), whole[127:129, 1:129]
  )


@pytest.fixture
def quantised(small, random_params, tmp_path):
  """A checkpoint with matrices of 160 x 300 in FP8: directory, model, the matrices block by block, what is in it."""
  cfg = dataclasses.replace(small('llama'), embed=160, mlp=300)
  hf.export(random_params(cfg), cfg, tmp_path / 'fp8')
  path, random = tmp_path / 'fp8' / 'model.safetensors', np.random.default_rng(1)
  tensors, expected = load_file(path), {}
  for name in [n for n in tensors if '_proj' in n]:
    weight = (100 * tensors[name]).astype(jnp.float8_e4m3fn)
    scale = random.uniform(0.001, 0.01, [-(-n // BLOCK) for n in weight.shape]).astype(np.float32)
    expected[name] = weight.astype(np.float32)
    for (i, j), factor in np.ndenumerate(scale):
      expected[name][i * 128 : (i + 1) * 128, j * 128 : (j + 1) * 128] *= factor
    tensors |= {name: weight, name + SCALE: scale}
  save_file(tensors, path)
  fields = json.loads((tmp_path / 'fp8' / 'config.json').read_text())
  hf.write_json(tmp_path / 'fp8' / 'config.json', fields | {'quantization_config': FP8})
  return tmp_path / 'fp8', cfg, expected, tensors


@pytest.mark.parametrize('axes', [None, {'fsdp': 2, 'tensor': 4}])
def test_fp8_is_dequantised(quantised, mesh_of, axes):
  """On a mesh the 300 rows are cut at 75, 150 and 225, which no block ends at."""
  directory, cfg, expected, _ = quantised
  params, _ = hf.load(directory, mesh=axes and mesh_of(**axes))
  for name, (path, index) in hf.tensors(cfg).items():
    if name in expected and '.mlp.' in name:
      ours = getattr(params.stacks[0].ffn, path.rpartition('.')[2])[index]
      np.testing.assert_array_equal(np.asarray(ours).T, expected[name])


def test_wrong_scales_are_named(quantised):
  directory, _, _, tensors = quantised
  path, name = directory / 'model.safetensors', 'model.layers.0.mlp.gate_proj.weight'
  save_file(tensors | {name + SCALE: np.ones((3, 1), np.float32)}, path)
  with pytest.raises(
    ValueError, match=rf'{name}_scale_inv is F32 of shape \(3, 1\), expected .*\(3, 2\)'
  ):
    hf.load(directory)
  save_file(tensors | {name: np.zeros((300, 160), np.float32)}, path)
  with pytest.raises(ValueError, match=f'unexpected tensor {name}_scale_inv'):
    hf.load(directory)
