"""Grouped-query attention and multi-head latent attention, over the whole row or over a cache."""

import jax
import jax.numpy as jnp
from flax import struct

import kernels
from r1jax.mesh import shard
from r1jax.model import cache as cache_lib
from r1jax.model.layers import product, project, rms_norm, rotate, yarn_mscale
from r1jax.model.sizes import ModelConfig
from r1jax.model.weights import Weight

LATENT_EPS = 1e-6  # of the latent norms, whatever the model's norm_eps


@struct.dataclass
class Gqa:
  """q [D, N, H], k, v [D, K, H], o [N, H, D]; biases and qk-norm scales where the family has them."""

  q: jax.Array | Weight
  k: jax.Array | Weight
  v: jax.Array | Weight
  o: jax.Array | Weight
  q_bias: jax.Array | Weight | None = None
  k_bias: jax.Array | Weight | None = None
  v_bias: jax.Array | Weight | None = None
  q_norm: jax.Array | Weight | None = None
  k_norm: jax.Array | Weight | None = None


@struct.dataclass
class Mla:
  """Low-rank queries, keys and values (DeepSeek-V3, 2.1.1). q_a and q_norm are None without q_latent."""

  q_a: jax.Array | Weight | None
  q_norm: jax.Array | Weight | None
  q_b: jax.Array | Weight
  kv_a: jax.Array | Weight
  kv_norm: jax.Array | Weight
  kv_b: jax.Array | Weight
  o: jax.Array | Weight


@struct.dataclass
class View:
  """Where the queries stand: angles (cos, sin) [B, T, H/2], visible keys lo..hi [B, T].

  With a cache: `column` is the first query's.
  """

  angles: tuple[jax.Array, jax.Array]
  lo: jax.Array
  hi: jax.Array
  column: jax.Array | None = None


def attention_spec(cfg: ModelConfig) -> Gqa | Mla:
  if cfg.mla:
    low_rank = cfg.mla.q_latent > 0
    return Mla(
      q_a=Weight('embed q_latent') if low_rank else None,
      q_norm=Weight('q_latent', 'ones') if low_rank else None,
      q_b=Weight(f'{"q_latent" if low_rank else "embed"} heads qk_dim'),
      kv_a=Weight('embed latent_and_rope'),
      kv_norm=Weight('kv_latent', 'ones'),
      kv_b=Weight('kv_latent heads kv_dim'),
      o=Weight('heads v_dim embed'),
    )
  bias = (lambda axes: Weight(axes, 'zeros')) if cfg.qkv_bias else (lambda axes: None)
  norm = Weight('head_dim', 'ones') if cfg.qk_norm else None
  return Gqa(
    q=Weight('embed heads head_dim'), k=Weight('embed kv_heads head_dim'), v=Weight('embed kv_heads head_dim'),
    o=Weight('heads head_dim embed'), q_bias=bias('heads head_dim'), k_bias=bias('kv_heads head_dim'),
    v_bias=bias('kv_heads head_dim'), q_norm=norm, k_norm=norm,
  )  # fmt: skip


def attend(w: Gqa | Mla, x: jax.Array, view: View, cfg: ModelConfig, past=None):
  """x [B, T, D] -> (output [B, T, D], new entries, all entries).

  new: what a cache holds of x, each [B, K, T, H]. all: the same, or with the layer's cache `past` (each
  [B, K, S, H]) that cache with `new` written from view.column on. The queries see all of it.
  """
  run = (_mla if past is None else _mla_absorbed) if isinstance(w, Mla) else _gqa
  return run(w, x, view, cfg, past)


def _gqa(w: Gqa, x, view, cfg, past):

  def heads(weight, bias, norm):
    y = project(weight, x)
    y = y if bias is None else y + bias.astype(x.dtype)
    y = y if norm is None else rms_norm(norm, y, cfg.norm_eps)
    return _heads_first(y)

  q = rotate(heads(w.q, w.q_bias, w.q_norm), view.angles, cfg.rope.interleaved)
  k = rotate(heads(w.k, w.k_bias, w.k_norm), view.angles, cfg.rope.interleaved)
  v = heads(w.v, w.v_bias, None)
  whole = (k, v) if past is None else cache_lib.write(past, (k, v), view.column)
  out = product(kernels.attention(q, *whole, view.lo, view.hi, cfg.head_dim**-0.5))
  return _output(w, out), (k, v), whole


def _heads_first(x: jax.Array) -> jax.Array:
  """[B, T, N, H] -> [B, N, T, H], heads over the mesh."""
  return shard(jnp.swapaxes(x, 1, 2), 'batch', 'act_heads', None, None)


def _output(w: Gqa | Mla, x: jax.Array) -> jax.Array:
  """[B, N, T, H] of all heads -> [B, T, D]."""
  return project(w.o, jnp.swapaxes(x, 1, 2), inner=2)


def softmax_scale(cfg: ModelConfig) -> float:
  """1/sqrt(nope + rope), times YaRN's squared mscale (DeepSeek-V3: 0.13523378)."""
  mscale = yarn_mscale(cfg.rope.factor, cfg.rope.mscale_all_dim) if cfg.rope.kind == 'yarn' else 1.0
  return (cfg.mla.nope + cfg.mla.rope) ** -0.5 * mscale**2


def _mla_inputs(w: Mla, x, view, cfg):
  """x -> q without position [B, N, T, nope], q rotated [B, N, T, rope], latent and rotated key in one [B, 1, T, C]."""
  m = cfg.mla
  low = x if w.q_a is None else rms_norm(w.q_norm, project(w.q_a, x), LATENT_EPS)
  q = _heads_first(project(w.q_b, low))
  q_nope, q_rope = jnp.split(q, [m.nope], axis=-1)
  latent, k_rope = jnp.split(project(w.kv_a, x), [m.kv_latent], axis=-1)
  latent = rms_norm(w.kv_norm, latent, LATENT_EPS)
  k_rope = rotate(k_rope[:, None], view.angles, cfg.rope.interleaved)
  q_rope = rotate(q_rope, view.angles, cfg.rope.interleaved)
  return q_nope, q_rope, jnp.concatenate([latent[:, None], k_rope], axis=-1)


def _mla(w: Mla, x, view, cfg, past):
  """Keys and values of every head are expanded from the latent: right for training and prefill."""
  del past
  m = cfg.mla
  q_nope, q_rope, entry = _mla_inputs(w, x, view, cfg)
  latent, k_rope = jnp.split(entry[:, 0], [m.kv_latent], axis=-1)
  kv = _heads_first(project(w.kv_b, latent))
  k_nope, v = jnp.split(kv, [m.nope], axis=-1)
  k_rope = jnp.broadcast_to(k_rope[:, None], (*k_nope.shape[:3], m.rope))
  q, k = jnp.concatenate([q_nope, q_rope], axis=-1), jnp.concatenate([k_nope, k_rope], axis=-1)
  out = product(kernels.attention(q, k, v, view.lo, view.hi, softmax_scale(cfg)))
  return _output(w, out), (entry,), (entry,)


def _mla_absorbed(w: Mla, x, view, cfg, past):
  """kv_b is folded into the query and the output, so that heads attend to the latents as they are cached."""
  m, dtype = cfg.mla, x.dtype
  q_nope, q_rope, entry = _mla_inputs(w, x, view, cfg)
  (keys,) = cache_lib.write(past, (entry,), view.column)
  up_k, up_v = jnp.split(w.kv_b.astype(dtype), [m.nope], axis=-1)
  q = jnp.concatenate([jnp.einsum('bnth,cnh->bntc', q_nope, up_k), q_rope], axis=-1)
  context = kernels.attention(q, keys, keys, view.lo, view.hi, softmax_scale(cfg))
  context = context[..., : m.kv_latent]
  out = jnp.einsum('bntc,cnh->bnth', context, up_v)
  return _output(w, out), (entry,), (keys,)
