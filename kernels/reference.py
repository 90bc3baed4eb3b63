"""Attention and grouped matrix products in a few lines of jnp: oracle, and the path without a kernel."""

import jax
import jax.numpy as jnp

_QUERY_BLOCK = 1024  # queries whose scores exist at once, at most
_SCORES = 2**28  # scores of one row that exist at once, unless eight queries have more
_FEW_QUERIES = 32


def attention(
  q: jax.Array, k: jax.Array, v: jax.Array, lo: jax.Array, hi: jax.Array, scale: float
) -> jax.Array:
  """q [B, N, T, H], k [B, K, S, H], v [B, K, S, Hv], lo, hi [B, T] -> [B, N, T, Hv].

  Query t sees the keys lo[t] <= s <= hi[t]: one interval covers causality, packing and padding. Query heads
  are grouped over key heads (GQA). Scores and softmax are fp32. An empty interval gives the mean of v.
  """
  batch, heads, queries, width = q.shape
  most = max(_SCORES // (heads * k.shape[2]), 8)
  block = min(_QUERY_BLOCK, 1 << most.bit_length() - 1)
  if queries > block:
    return _in_query_blocks(q, k, v, lo, hi, scale, block)
  groups = k.shape[1]
  q = (q * scale).reshape(batch, groups, (heads // groups) * queries, width)
  scores = _scores(q, k).reshape(batch, groups, heads // groups, queries, k.shape[2])
  key = jnp.arange(k.shape[2])
  seen = (lo[..., None] <= key) & (key <= hi[..., None])
  scores = jnp.where(seen[:, None, None], scores, jnp.finfo(jnp.float32).min)
  probabilities = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  probabilities = probabilities.reshape(batch, groups, (heads // groups) * queries, k.shape[2])
  out = jnp.einsum('bkms,bksh->bkmh', probabilities, v)
  return out.reshape(batch, heads, queries, v.shape[3])


def _scores(q: jax.Array, k: jax.Array) -> jax.Array:
  """q [B, K, M, H], k [B, K, S, H] -> fp32 [B, K, M, S].

  With few queries on the left XLA's CPU backend transposes all keys before the product, and that takes ten times
  as long; the barrier keeps it from turning the product around again.
  """
  if q.shape[2] > _FEW_QUERIES:
    return jnp.einsum('bkmh,bksh->bkms', q, k, preferred_element_type=jnp.float32)
  scores = jnp.einsum('bksh,bkmh->bksm', k, q, preferred_element_type=jnp.float32)
  return jnp.swapaxes(jax.lax.optimization_barrier(scores), 2, 3)


def _in_query_blocks(q, k, v, lo, hi, scale, block: int):
  """The same, one block of queries after another, so that [T, S] scores never exist at once."""
  batch, heads, queries, width = q.shape
  blocks = -(-queries // block)
  padding = blocks * block - queries
  q = jnp.pad(q, ((0, 0), (0, 0), (0, padding), (0, 0)))
  lo, hi = (jnp.pad(x, ((0, 0), (0, padding))) for x in (lo, hi))
  q = jnp.moveaxis(q.reshape(batch, heads, blocks, block, width), 2, 0)
  lo, hi = (jnp.moveaxis(x.reshape(batch, blocks, block), 1, 0) for x in (lo, hi))
  one = jax.checkpoint(lambda args: attention(args[0], k, v, args[1], args[2], scale))
  out = jax.lax.map(one, (q, lo, hi))
  return jnp.moveaxis(out, 0, 2).reshape(batch, heads, -1, v.shape[3])[:, :, :queries]


def group_block(rows: int, groups: int) -> int:
  """Rows to route, number of groups -> the multiple that each group is padded to.

  Without a hardware grouped product every block of rows is multiplied by a copy of its group's matrix, so
  blocks are large for many rows and small for few. Accelerators take ragged groups as they are.
  """
  if jax.default_backend() != 'cpu':
    return 1
  return min(128, max(8, 1 << (max(rows // groups, 1).bit_length() - 1)))


def grouped_matmul(x: jax.Array, w: jax.Array, sizes: jax.Array, block: int) -> jax.Array:
  """x [R, D] rows sorted by group, w [G, D, F], sizes [G] multiples of `block` -> [R, F].

  Rows beyond sum(sizes) give values of no meaning. `block` 1: `jax.lax.ragged_dot`.
  """
  if block == 1:
    return jax.lax.ragged_dot(x, w, sizes.astype(jnp.int32), preferred_element_type=x.dtype)
  rows, width = x.shape
  start = jnp.arange(rows // block) * block
  group = jnp.sum(start[:, None] >= jnp.cumsum(sizes)[None], axis=-1)
  chosen = jax.nn.one_hot(group, w.shape[0], dtype=w.dtype)
  matrices = jnp.einsum('ng,gdf->ndf', chosen, w)
  return jnp.einsum('nbd,ndf->nbf', x.reshape(-1, block, width), matrices).reshape(rows, -1)
