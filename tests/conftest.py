"""What the tests share: eight CPU devices, the repository on the path, one small model a family."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ['JAX_PLATFORMS'] = 'cpu'

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import mesh as mesh_lib
from r1jax.model import weights
from r1jax.model.sizes import MlaConfig, ModelConfig, MoeConfig, Rope
from r1jax.model.transformer import spec

# Of this process only: programs that a test starts see one device, as a user's would.
jax.config.update('jax_num_cpu_devices', 8)

_YARN = Rope(kind='yarn', factor=4.0, original_positions=16, mscale=1.0, mscale_all_dim=0.7)
_SMALL = ModelConfig(
  name='small', family='qwen2', vocab=61, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8,
  mlp=48, rope=Rope(theta=100.0), max_positions=64, init_std=0.2,
)  # fmt: skip
_V3 = dataclasses.replace(
  _SMALL, family='deepseek_v3', layers=3, kv_heads=4, head_dim=12, mtp=1,
  rope=dataclasses.replace(_YARN, interleaved=True),
  mla=MlaConfig(q_latent=20, kv_latent=16, nope=8, rope=6, v=12),
  moe=MoeConfig(experts=8, chosen=3, expert_mlp=16, groups=4, kept_groups=2),
)  # fmt: skip
_MODELS = {
  'qwen2': dataclasses.replace(_SMALL, tied=True, qkv_bias=True),
  'qwen3': dataclasses.replace(_SMALL, family='qwen3', qk_norm=True, head_dim=12),
  'llama': dataclasses.replace(
    _SMALL,
    family='llama',
    norm_eps=1e-5,
    rope=Rope(theta=500.0, kind='llama3', factor=8.0, original_positions=16),
  ),
  'deepseek_v3': _V3,
  'deepseek_v2': dataclasses.replace(
    _V3,
    family='deepseek_v2',
    mtp=0,
    mla=dataclasses.replace(_V3.mla, q_latent=0),
    moe=dataclasses.replace(
      _V3.moe, shared=2, score='softmax', correction_bias=False, normalise=False, scale=1.5
    ),
  ),
}
FAMILIES = tuple(_MODELS)


def pytest_generate_tests(metafunc):
  """A test that asks for `family_cfg` runs once a family."""
  if 'family_cfg' in metafunc.fixturenames:
    metafunc.parametrize('family_cfg', _MODELS.values(), ids=FAMILIES)


@pytest.fixture(scope='session')
def small():
  """Family -> a ModelConfig that compiles in a second."""
  return _MODELS.__getitem__


@pytest.fixture(scope='session')
def random_params():
  """(cfg, seed) -> parameters with no zero bias and no norm of exactly one."""

  @functools.cache
  def make(cfg, seed=0):
    random = np.random.default_rng(seed)

    def leaf(w):
      noise = random.normal(size=w.shape(cfg))
      value = {'normal': cfg.init_std * noise, 'ones': 1 + 0.1 * noise, 'zeros': 0.1 * noise}
      return jnp.asarray(value[w.init], w.dtype or cfg.param_dtype)

    return weights.map_spec(leaf, spec(cfg))

  return make


@pytest.fixture(scope='module', autouse=True)
def nothing_compiled_is_kept():
  """A process may have 65,530 memory maps, each program takes some, and those of all tests come near to that."""
  yield
  jax.clear_caches()


@pytest.fixture
def quick_compile():
  """For tests of programs that take longer to optimise than to run."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture(scope='session')
def mesh_of():
  """mesh_of(fsdp=2, tensor=2) -> a mesh of the first four of eight devices."""

  def make(**axes):
    return mesh_lib.make_mesh(**axes, devices=jax.devices()[: int(np.prod([*axes.values()]))])

  return make
