"""Key-value and latent caches for decoding.

Rows are aligned on the right: every row's newest token sits in the same column, so a step writes one
column, and the keys a query may see are the interval [column - position, column]. Speculative decoding moves
rows by one token or by two: there, every row has a column of its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from r1jax.model.sizes import ModelConfig


@struct.dataclass
class Cache:
  """entries: one tuple a stack of layers, each array [L, B, K, S, H], or [B, K, S, H] for a layer of its own;
  column: next column to be written, a scalar or [B].

  Dense models hold (keys, values) of K key heads; MLA holds one array of latents and rotated keys with
  K = 1 (576 wide in DeepSeek-V3).
  """

  entries: tuple[tuple[jax.Array, ...], ...]
  column: jax.Array

  @property
  def columns(self) -> int:
    return self.entries[0][0].shape[-2]


def entry_shapes(cfg: ModelConfig) -> tuple[tuple[int, int], ...]:
  """(heads, width) of each array a layer caches."""
  if cfg.mla:
    return ((1, cfg.mla.kv_latent + cfg.mla.rope),)
  return ((cfg.kv_heads, cfg.head_dim),) * 2


def bytes_per_token(cfg: ModelConfig, itemsize: int) -> int:
  """Cache bytes of one token over all layers (DeepSeek-V3 in bf16: 70,272)."""
  return cfg.layers * itemsize * sum(heads * width for heads, width in entry_shapes(cfg))


def write(entries, new, column: jax.Array):
  """entries [..., B, K, S, H], new [..., B, K, T, H], pytrees -> entries with new from `column` (or column[b]) on."""

  def leaf(old, new, column):
    return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), column, axis=-2)

  if column.ndim:
    write_all = jax.vmap(leaf, in_axes=(-4, -4, 0), out_axes=-4)
  else:
    write_all = lambda old, new, column: _unfolded(leaf(_folded(old), _folded(new), column), old)
  return jax.tree.map(lambda old, new: write_all(old, new, column), entries, new)


def shift(cache: Cache, used: jax.Array, columns: int) -> Cache:
  """The last `used` columns of a cache moved to the left end of `columns` columns.

  used scalar: what the longest row holds. Columns from `used` on are free. Rows with columns of their own stay where
  they are.
  """
  own = cache.column.ndim > 0
  start = 0 if own else cache.column - used

  def leaf(x):
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, columns), (0, 0)])
    return jax.lax.dynamic_slice_in_dim(x, start, columns, axis=-2)

  column = cache.column if own else jnp.asarray(used, jnp.int32)
  return Cache(jax.tree.map(leaf, cache.entries), column)


def while_loop(more: Callable, one: Callable, start: tuple) -> tuple:
  """jax.lax.while_loop over tuples whose first part has a `cache`, which is carried without axes of one key head."""
  shapes = start[0].cache.entries

  def carried(state, reshape):
    first, *rest = state
    return first.replace(cache=first.cache.replace(entries=reshape(first.cache.entries))), *rest

  fold = lambda entries: jax.tree.map(_folded, entries)
  unfold = lambda entries: jax.tree.map(_unfolded, entries, shapes)
  step = lambda state: carried(one(carried(state, unfold)), fold)
  return carried(jax.lax.while_loop(more, step, carried(start, fold)), unfold)


def _folded(x: jax.Array) -> jax.Array:
  """[..., 1, S, H] -> [..., S, H]; more key heads stay.

  XLA's CPU backend takes an axis of one out of products. A cache that was carried or written with it would be
  copied in every step.
  """
  return x.squeeze(-3) if x.shape[-3] == 1 else x


def _unfolded(x: jax.Array, like: jax.Array) -> jax.Array:
  """What `_folded` has made of an array of like's shape, in that shape again."""
  return x.reshape(like.shape)
