"""RMSNorm, rotary embeddings (plain, llama3, YaRN), SwiGLU."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from r1jax.mesh import shard
from r1jax.model.sizes import Rope
from r1jax.model.weights import Weight


@struct.dataclass
class Mlp:
  """SwiGLU: gate, up [D, F], down [F, D]."""

  gate: jax.Array | Weight
  up: jax.Array | Weight
  down: jax.Array | Weight


def mlp_spec(axis: str = 'mlp') -> Mlp:
  return Mlp(Weight(f'embed {axis}'), Weight(f'embed {axis}'), Weight(f'{axis} embed'))


def project(w: jax.Array, x: jax.Array, inner: int = 1) -> jax.Array:
  """x [*rows, *inner], w [*inner, *outer] -> [*rows, *outer], in x's type.

  One product of two matrices: of one with more axes XLA's CPU backend makes a transposed copy, of the weights in every
  step that decodes and of x for the gradient.
  """
  w, rows = w.astype(x.dtype), x.shape[: x.ndim - inner]
  x = x.reshape(-1, math.prod(w.shape[:inner]))
  return (x @ w.reshape(x.shape[-1], -1)).reshape(*rows, *w.shape[inner:])


PRODUCT = 'product'


def product(x: jax.Array) -> jax.Array:
  """x as it is, marked as the result of matrix products: of a block that keeps these it is kept (transformer.remat).

  For what jax would not know by itself: products with batch axes, and those of kernels.
  """
  return checkpoint_name(x, PRODUCT)


def swiglu(w: Mlp, x: jax.Array) -> jax.Array:
  """x [B, T, D] -> down(silu(gate(x)) * up(x)) [B, T, D]."""
  hidden = jax.nn.silu(project(w.gate, x)) * project(w.up, x)
  return project(w.down, shard(hidden, 'batch', None, 'act_mlp'))


def rms_norm(scale: jax.Array, x: jax.Array, eps: float) -> jax.Array:
  """x [..., D] -> x / rms(x) * scale, in fp32, cast back."""
  wide = x.astype(jnp.float32)
  wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
  return (wide * scale.astype(jnp.float32)).astype(x.dtype)


def inverse_frequencies(rope: Rope, dim: int) -> np.ndarray:
  """Rope, width of the rotated part -> radians per position [dim / 2] (YaRN: DeepSeek-V3 4.3; llama3: Llama 3.1)."""
  freq = rope.theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
  if rope.kind == 'default':
    return freq
  if rope.kind == 'llama3':
    wavelength = 2 * np.pi / freq
    smooth = (rope.original_positions / wavelength - rope.low_freq) / (
      rope.high_freq - rope.low_freq
    )
    smooth = np.clip(smooth, 0.0, 1.0)
    return (1 - smooth) * freq / rope.factor + smooth * freq
  if rope.kind == 'yarn':

    def turns_to_dim(turns):
      return (
        dim * math.log(rope.original_positions / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
      )

    low = max(math.floor(turns_to_dim(rope.beta_fast)), 0)
    high = min(math.ceil(turns_to_dim(rope.beta_slow)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)
    return freq * ((1 - ramp) + ramp / rope.factor)
  raise ValueError(f'unknown rope kind {rope.kind!r}; valid: default, llama3, yarn')


def yarn_mscale(factor: float, mscale: float) -> float:
  """0.1 mscale ln(factor) + 1 (YaRN's attention temperature); 1 when nothing is scaled."""
  return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 and mscale else 1.0


def rope_angles(rope: Rope, dim: int, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """positions [B, T] -> (cos, sin) [B, T, dim / 2] in fp32, times YaRN's ratio of mscales."""
  angle = positions[..., None].astype(jnp.float32) * jnp.asarray(
    inverse_frequencies(rope, dim), jnp.float32
  )
  ratio = 1.0
  if rope.kind == 'yarn' and rope.mscale and rope.mscale_all_dim:
    ratio = yarn_mscale(rope.factor, rope.mscale) / yarn_mscale(rope.factor, rope.mscale_all_dim)
  elif rope.kind == 'yarn':
    ratio = yarn_mscale(rope.factor, 1.0)
  return jnp.cos(angle) * ratio, jnp.sin(angle) * ratio


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array], interleaved: bool) -> jax.Array:
  """x [B, N, T, H], angles [B, T, H / 2] -> x with every pair turned by its angle, in fp32, cast back.

  Interleaved pairs come out as halves: queries and keys are permuted alike, so scores do not change.
  """
  cos, sin = (a[:, None] for a in angles)
  wide = x.astype(jnp.float32)
  a, b = (wide[..., 0::2], wide[..., 1::2]) if interleaved else jnp.split(wide, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
