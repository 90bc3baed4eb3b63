"""The model: spec, block, forward, and log-probabilities of chosen tokens without [B, T, V].

One `forward` serves training, prefill and decoding. Rows may be packed: a query sees the keys of its own
sequence because lo = its row index minus its position, and hi = its row index.
"""

import jax
import jax.numpy as jnp
from flax import struct

from r1jax.mesh import row_shards, shard
from r1jax.model.attention import Gqa, Mla, View, attend, attention_spec
from r1jax.model.cache import Cache, write
from r1jax.model.layers import PRODUCT, Mlp, mlp_spec, rms_norm, rope_angles, swiglu
from r1jax.model.moe import Moe, Routing, moe, moe_spec
from r1jax.model.sizes import ModelConfig
from r1jax.model.weights import Weight, stack

UNSTACKED_LAYERS = 12  # models of up to this many layers decode without a scan


@struct.dataclass
class Block:
  """x += attention(norm(x)); x += ffn(norm(x))."""

  attention_norm: jax.Array | Weight
  attention: Gqa | Mla
  ffn_norm: jax.Array | Weight
  ffn: Mlp | Moe


@struct.dataclass
class Mtp:
  """One multi-token-prediction module (DeepSeek-V3, 2.2); see mtp.py."""

  embed_norm: jax.Array | Weight
  hidden_norm: jax.Array | Weight
  project: jax.Array | Weight
  block: Block
  final_norm: jax.Array | Weight


@struct.dataclass
class Transformer:
  """embed [V, D]; stacks: runs of equal blocks with their weights stacked [L, ...], or
  single blocks (`unstack`); head [D, V] or None if tied."""

  embed: jax.Array | Weight
  stacks: tuple[Block, ...]
  final_norm: jax.Array | Weight
  head: jax.Array | Weight | None
  mtp: Mtp | None = None


@struct.dataclass
class Forward:
  """hidden [B, T, D] after the final norm; entries: one a stack, for a cache; routing: one a stack of experts."""

  hidden: jax.Array
  entries: tuple
  routing: tuple[Routing, ...]


def block_spec(cfg: ModelConfig, ffn: Mlp | Moe) -> Block:
  return Block(Weight('embed', 'ones'), attention_spec(cfg), Weight('embed', 'ones'), ffn)


def spec(cfg: ModelConfig) -> Transformer:
  """ModelConfig -> tree of Weight."""
  dense, sparse = block_spec(cfg, mlp_spec()), cfg.moe and block_spec(cfg, moe_spec(cfg))
  first = cfg.moe.first_dense if cfg.moe else cfg.layers
  stacks = [stack(dense, first)] if first else []
  stacks += [stack(sparse, cfg.layers - first)] if cfg.layers > first else []
  mtp = None
  if cfg.mtp:
    norm = Weight('embed', 'ones')
    mtp = Mtp(norm, norm, Weight('two_embed embed'), sparse or dense, norm)
  head = None if cfg.tied else Weight('embed vocab')
  return Transformer(Weight('vocab embed'), tuple(stacks), Weight('embed', 'ones'), head, mtp)


def run_block(w: Block, x, segments, view: View, cfg: ModelConfig, sequences=0, past=None):
  """x [B, T, D] -> (x [B, T, D], new and all cache entries as `attend` gives them, Routing or None)."""
  normed = rms_norm(w.attention_norm, x, cfg.norm_eps)
  out, new, whole = attend(w.attention, normed, view, cfg, past)
  x = x + out
  normed = rms_norm(w.ffn_norm, x, cfg.norm_eps)
  if isinstance(w.ffn, Moe):
    out, routing = moe(w.ffn, normed, segments, cfg, sequences)
  else:
    out, routing = swiglu(w.ffn, normed), None
  return shard(x + out, 'batch', None, None), new, whole, routing


def view_of(positions: jax.Array, cfg: ModelConfig, column=None) -> View:
  """positions [B, T] -> View; `column`: the cache column of the first query, a scalar or [B], None without a cache."""
  index = jnp.arange(positions.shape[1]) + (0 if column is None else column[..., None])
  hi = jnp.broadcast_to(index, positions.shape)
  width = cfg.mla.rope if cfg.mla else cfg.head_dim
  return View(rope_angles(cfg.rope, width, positions), hi - positions, hi, column)


def forward(
  w: Transformer, cfg: ModelConfig, tokens: jax.Array, positions: jax.Array, *, segments: jax.Array | None = None,
  cache: Cache | None = None, sequences: int = 0, keep_entries: bool = False,
) -> Forward:  # fmt: skip
  """tokens, positions [B, T] -> Forward. Positions count from 0 in every sequence of a row.

  segments [B, T]: 1, 2, ... for the sequences of a packed row and 0 for padding (routing statistics only;
  attention needs positions alone). With a cache its next T columns are written and `entries` is the cache's
  new content; without one, `keep_entries` returns what a cache would hold, as in a prefill.
  """
  x = w.embed[tokens].astype(cfg.compute_dtype)
  x = shard(x, 'batch', None, None)
  view = view_of(positions, cfg, None if cache is None else cache.column)
  entries, routing = [], []
  for number, blocks in enumerate(w.stacks):
    past = None if cache is None else cache.entries[number]
    keep = keep_entries or cache is not None
    x, kept, routed = _scan(blocks, x, segments, view, cfg, sequences, keep, past)
    entries.append(kept)
    routing += [routed] if isinstance(blocks.ffn, Moe) else []
  return Forward(rms_norm(w.final_norm, x, cfg.norm_eps), tuple(entries), tuple(routing))


def _scan(blocks, x, segments, view, cfg, sequences, keep_entries, past):
  """-> x, entries or the whole cache after them, routing. Layers that are scanned only read the cache, and what is
  new is written once behind the scan: carried along, XLA's CPU backend would copy all of it in every layer.
  """

  alone = blocks.attention_norm.ndim == 1

  def body(x, args):
    block, past = args
    x, new, whole, routing = run_block(block, x, segments, view, cfg, sequences, past)
    return x, (new if keep_entries else None, whole if alone else None, routing)

  body = remat(body, cfg.remat)
  if alone:
    x, (new, whole, routing) = body(x, (blocks, past))
    return x, new if past is None else whole, routing
  x, (new, _, routing) = jax.lax.scan(body, x, (blocks, past))
  return x, new if past is None else write(past, new, view.column), routing


def unstack(w: Transformer) -> Transformer:
  """The same model with a block for every layer in place of stacks, if they are few: for decoding.

  A scan copies each layer's weights and cache out of the stacks before it uses them, which can take longer than
  the products of a step; but programs without it grow with the layers.
  """
  layers = [blocks.attention_norm.shape[0] for blocks in w.stacks]
  if sum(layers) > UNSTACKED_LAYERS:
    return w
  cut = lambda blocks, i: jax.tree.map(lambda x: x[i], blocks)
  return w.replace(
    stacks=tuple(cut(b, i) for b, n in zip(w.stacks, layers, strict=True) for i in range(n))
  )


_KEPT = {
  'dots': jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(PRODUCT),
  ),
  'block': None,
}


def remat(body, policy: str):
  """What the backward pass keeps of a block: 'none' everything, 'dots' the results of products, 'block' its input."""
  if policy == 'none':
    return body
  return jax.checkpoint(body, policy=_KEPT[policy], prevent_cse=False)


def head_of(w: Transformer) -> jax.Array:
  """The output matrix [D, V]; the embedding's transpose when tied."""
  return w.embed.T if w.head is None else w.head


def logits(w: Transformer, hidden: jax.Array) -> jax.Array:
  """hidden [..., D] -> fp32 logits [..., V]. For the last token of a step; training uses token_logprobs."""
  return jnp.matmul(hidden, head_of(w).astype(hidden.dtype), preferred_element_type=jnp.float32)


def token_logprobs(
  w: Transformer, cfg: ModelConfig, hidden: jax.Array, targets: jax.Array, temperature: float = 1.0
) -> tuple[jax.Array, jax.Array]:
  """hidden [B, T, D], targets [B, T] -> log-probability and entropy (nats) [B, T] in fp32, at a temperature.

  Logits exist for some `cfg.logits_chunk` tokens of a shard at a time and are made again in the backward pass.
  """
  head = head_of(w).astype(hidden.dtype)

  def chunk(args):
    rows, chosen = args
    z = jnp.matmul(rows, head, preferred_element_type=jnp.float32) / temperature
    z = shard(z, 'batch', None, 'act_vocab')
    log_z = jax.nn.logsumexp(z, axis=-1)
    picked = jnp.take_along_axis(z, chosen[..., None], axis=-1)[..., 0]
    entropy = log_z - jnp.sum(jnp.exp(z - log_z[..., None]) * z, axis=-1)
    return picked - log_z, entropy

  # Every device has the same tokens of its own rows at a time.
  batch, length = targets.shape
  pieces = min(-(-batch * length // (cfg.logits_chunk * row_shards(batch))), length)
  if pieces == 1:
    return chunk((hidden, targets))
  size = -(-length // pieces)

  def cut(x):
    x = jnp.pad(x, ((0, 0), (0, -length % size), *[(0, 0)] * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(batch, -1, size, *x.shape[2:]), 1, 0)

  found = jax.lax.map(jax.checkpoint(chunk), (cut(hidden), cut(targets)))
  logprob, entropy = (jnp.moveaxis(x, 0, 1).reshape(batch, -1)[:, :length] for x in found)
  return logprob, entropy
