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
    leaf = jax.vmap(leaf, in_axes=(-4, -4, 0), out_axes=-4)
  return jax.tree.map(lambda old, new: leaf(old, new, column), entries, new)


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
  """jax.lax.while_loop over tuples whose first part has a `cache`.

  A layer's cache of one key head is carried as [B, S, H]. XLA's CPU backend takes such an axis out of products, and a
  cache that was carried with it would be written twice and copied four times in every step.
  """

  def carried(state, shape):
    first, *rest = state
    return first.replace(
      cache=first.cache.replace(entries=jax.tree.map(shape, first.cache.entries))
    ), *rest

  fold = lambda x: x[:, 0] if x.ndim == 4 and x.shape[1] == 1 else x
  unfold = lambda x: x[:, None] if x.ndim == 3 else x
  step = lambda state: carried(one(carried(state, unfold)), fold)
  return carried(jax.lax.while_loop(more, step, carried(start, fold)), unfold)
