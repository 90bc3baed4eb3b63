"""Rows that are being decoded, and prompts that they begin with: what a rollout keeps on the devices."""

from collections.abc import Callable

import jax
import numpy as np
from flax import struct

from r1jax import hosts, speculative
from r1jax import mesh as mesh_lib
from r1jax.mesh import shard
from r1jax.model import cache as cache_lib
from r1jax.model.cache import Cache
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import UNSTACKED_LAYERS


@struct.dataclass
class Slots:
  """B rows being decoded: hidden [B, D] of the newest token, key data [B, 2], position [B] of the token to come,
  count [B] of tokens drawn. Which rows hold a sample is the host's business. Of speculative rows `hidden` is their
  prompt's, the cache ends with the MTP block's entries and has a column for every row.
  """

  cache: Cache
  hidden: jax.Array
  keys: jax.Array
  position: jax.Array
  count: jax.Array
  draft: speculative.Draft | None = None


@struct.dataclass
class Prompts:
  """P prefilled prompts: entries as in Cache, of Tp columns; hidden [P, D] of the last token, lengths [P], and
  the key data [P * G, 2] of their samples.
  """

  entries: tuple
  hidden: jax.Array
  lengths: jax.Array
  keys: jax.Array


def empty_slots(
  cfg: ModelConfig, rows: int, columns: int, width: int, drafts: bool = False
) -> Slots:
  """Slots with no sample in any row, `width` columns in use."""
  slots = blank_slots(cfg, rows, columns, width, drafts, hosts.zeros)
  return hosts.put(slots, mesh_lib.slot_shardings(slots))


def blank_slots(
  cfg: ModelConfig, rows: int, columns: int, width: int, drafts: bool, zeros: Callable
) -> Slots:
  """The same before they are on devices; zeros: shape, dtype -> array."""
  first = cfg.moe.first_dense if cfg.moe else cfg.layers
  stacks = [(first,), (cfg.layers - first,)] if cfg.layers > UNSTACKED_LAYERS else [()] * cfg.layers
  stacks += [()] * drafts
  entries = tuple(
    tuple(
      zeros((*layers, rows, heads, columns, size), cfg.compute_dtype)
      for heads, size in cache_lib.entry_shapes(cfg)
    )
    for layers in stacks
    if layers != (0,)
  )
  counts, keys = np.zeros(rows, np.int32), np.zeros((rows, 2), np.uint32)
  hidden = zeros((rows, cfg.embed), cfg.compute_dtype)
  slots = Slots(Cache(entries, np.int32(width)), hidden, keys, counts, counts)
  if drafts:
    slots = slots.replace(
      cache=Cache(entries, counts + np.int32(width)), draft=speculative.empty(hidden)
    )
  return slots


def constrain(slots: Slots) -> Slots:
  """Rows over the batch axes of the mesh, as in empty_slots: every program hands on what the next was compiled for."""
  layered = lambda x, *axes: shard(x, *[None] * (x.ndim - len(axes)), *axes)
  entries = jax.tree.map(
    lambda x: layered(x, 'batch', 'act_heads', None, None), slots.cache.entries
  )
  rows = jax.tree.map(
    lambda x: shard(x, 'batch', *[None] * (x.ndim - 1)), slots.replace(cache=None)
  )
  column = shard(slots.cache.column, *['batch'] * slots.cache.column.ndim)
  return rows.replace(cache=Cache(entries, column))
