"""Mixture of experts: router, sorting by expert, grouped products, expert parallelism, the bias step.

No token is ever dropped. Under expert parallelism the tokens of an expert group are gathered, every shard
computes its own experts on them, and the sums are scattered back (a ring of experts).
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import PartitionSpec as P

import kernels
from r1jax import mesh as mesh_lib
from r1jax.model.layers import Mlp, mlp_spec, product, swiglu
from r1jax.model.sizes import ModelConfig, MoeConfig
from r1jax.model.weights import Weight

# Of a token and an expert that it has chosen, sorted at once: 0.9 GiB of DeepSeek-V3's rows.
MOST_PAIRS = 2**16


@struct.dataclass
class Moe:
  """router [D, E], bias [E] (chooses only, fp32), gate, up [E, D, F], down [E, F, D], shared experts as one Mlp."""

  router: jax.Array | Weight
  bias: jax.Array | Weight | None
  gate: jax.Array | Weight
  up: jax.Array | Weight
  down: jax.Array | Weight
  shared: Mlp | None


@struct.dataclass
class Routing:
  """load [E]: tokens that chose each expert; balance: sum over sequences of the balance loss before its weight."""

  load: jax.Array
  balance: jax.Array


def moe_spec(cfg: ModelConfig) -> Moe:
  return Moe(
    router=Weight('embed experts'),
    bias=Weight('experts', 'zeros', 'float32') if cfg.moe.correction_bias else None,
    gate=Weight('experts embed expert_mlp'),
    up=Weight('experts embed expert_mlp'),
    down=Weight('experts expert_mlp embed'),
    shared=mlp_spec('shared_mlp') if cfg.moe.shared else None,
  )


def top_k_mask(scores: jax.Array, k: int) -> jax.Array:
  """scores [..., E] -> bool [..., E], true at the k largest (the first of equals)."""
  _, index = jax.lax.top_k(scores, k)
  return jnp.any(jax.nn.one_hot(index, scores.shape[-1], dtype=bool), axis=-2)


def route(w: Moe, x: jax.Array, cfg: MoeConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
  """x [R, D] -> weights [R, C], experts [R, C], affinities [R, E] in fp32 (DeepSeek-V3, 2.1.2; V2 with softmax).

  The bias moves the choice and not the weight. Groups are ranked by the sum of their two best biased
  affinities (softmax: by the best one), and experts outside of the kept groups are out of reach.
  """
  logits = jnp.matmul(x.astype(jnp.float32), w.router.astype(jnp.float32), precision='highest')
  affinity = jax.nn.sigmoid(logits) if cfg.score == 'sigmoid' else jax.nn.softmax(logits, axis=-1)
  choice = jax.lax.stop_gradient(affinity if w.bias is None else affinity + w.bias)
  if cfg.kept_groups < cfg.groups:
    grouped = choice.reshape(-1, cfg.groups, cfg.experts // cfg.groups)
    best = 2 if cfg.score == 'sigmoid' else 1
    kept = top_k_mask(jax.lax.top_k(grouped, best)[0].sum(-1), cfg.kept_groups)
    choice = jnp.where(kept[..., None], grouped, -jnp.inf).reshape(choice.shape)
  _, experts = jax.lax.top_k(choice, cfg.chosen)
  chosen = jax.nn.one_hot(experts, cfg.experts, dtype=jnp.float32)
  weights = jnp.einsum('rce,re->rc', chosen, affinity)
  if cfg.normalise:
    weights = weights / (weights.sum(-1, keepdims=True) + 1e-20)
  return weights * cfg.scale, experts, affinity


def moe(
  w: Moe, x: jax.Array, segments: jax.Array | None, cfg: ModelConfig, sequences: int
) -> tuple[jax.Array, Routing]:
  """x [B, T, D] -> (shared + routed experts [B, T, D], Routing). segments [B, T]: 0 is padding, not counted.

  `sequences`: the most sequences a row may hold; 0 leaves the balance loss out.
  """
  batch, length, width = x.shape
  weights, experts, affinity = route(w, x.reshape(-1, width), cfg.moe)
  routed = _experts(w, x, weights.reshape(batch, length, -1), experts.reshape(batch, length, -1))
  out = routed if w.shared is None else routed + swiglu(w.shared, x)
  live = jnp.ones((batch, length), bool) if segments is None else segments > 0
  counts = (
    jax.nn.one_hot(experts, cfg.moe.experts, dtype=jnp.float32).sum(-2).reshape(batch, length, -1)
  )
  counts = counts * live[..., None]
  balance = jnp.float32(0)
  if sequences and segments is not None:
    balance = balance_loss(
      counts, affinity.reshape(batch, length, -1), segments, cfg.moe, sequences
    )
  return out, Routing(counts.sum((0, 1)), balance)


def balance_loss(counts, affinity, segments, cfg: MoeConfig, sequences: int) -> jax.Array:
  """Sum over sequences of sum_e f_e P_e (DeepSeek-V3, eq. 17-20), to be weighted by alpha = 1e-4.

  counts, affinity [B, T, E], segments [B, T].
  """
  member = jax.nn.one_hot(segments - 1, sequences, dtype=jnp.float32)
  tokens = jnp.maximum(member.sum(1), 1.0)[..., None]
  share = affinity / affinity.sum(-1, keepdims=True)
  frequency = jnp.einsum('btz,bte->bze', member, counts) * cfg.experts / (cfg.chosen * tokens)
  probability = jnp.einsum('btz,bte->bze', member, share) / tokens
  return jnp.sum(jax.lax.stop_gradient(frequency) * probability)


def _experts(w: Moe, x, weights, experts):
  """x [B, T, D], weights, experts [B, T, C] -> weighted sum of the chosen experts [B, T, D]."""
  mesh = mesh_lib.current()
  if mesh is None:
    return _in_pieces(
      lambda *args: _local_experts(w.gate, w.up, w.down, *args, 0), x, weights, experts
    )
  ways = mesh.shape['expert'] if w.gate.shape[0] % mesh.shape['expert'] == 0 else 1
  tensor = 'tensor' if w.gate.shape[2] % mesh.shape['tensor'] == 0 else None
  expert = 'expert' if ways > 1 else None
  rows = P(mesh_lib.BATCH_AXES) if x.shape[0] % mesh_lib.data_ways(mesh) == 0 else P()
  body = functools.partial(
    _ring_of_experts, gathered=ways > 1 and rows != P(), expert=expert, tensor=tensor
  )
  specs = (
    P(expert, None, tensor),
    P(expert, None, tensor),
    P(expert, tensor, None),
    rows,
    rows,
    rows,
  )
  return jax.shard_map(body, in_specs=specs, out_specs=rows, check_vma=False)(
    w.gate, w.up, w.down, x, weights, experts
  )


def _ring_of_experts(gate, up, down, x, weights, experts, *, gathered, expert, tensor):
  """One shard: its experts on the tokens of its whole expert group, summed and handed back."""
  first = jax.lax.axis_index('expert') * gate.shape[0] if expert else 0

  def turn(*own):
    if gathered:
      own = (jax.lax.all_gather(a, 'expert', tiled=True) for a in own)
    out = _local_experts(gate, up, down, *own, first)
    if tensor:
      out = jax.lax.psum(out, 'tensor')
    if gathered:
      return jax.lax.psum_scatter(out, 'expert', tiled=True)
    return jax.lax.psum(out, 'expert') if expert else out

  return _in_pieces(turn, x, weights, experts, jax.lax.axis_size('expert') if gathered else 1)


def _in_pieces(run, x, weights, experts, shards: int = 1):
  """run(x, weights, experts) [B, T, ...] -> [B, T, D], some tokens of each row at a time.

  shards: that sort their tokens together. Every pair of a token and an expert takes a row of D, and in a shard
  of an expert group there is room for the pairs of all, as all may be its own.
  """
  batch, length, chosen = experts.shape
  pieces = min(-(-batch * length * chosen * shards // MOST_PAIRS), length)
  if pieces <= 1:
    return run(x, weights, experts)
  size = -(-length // pieces)

  def cut(a):
    a = jnp.pad(a, ((0, 0), (0, -length % size), (0, 0)))
    return jnp.moveaxis(a.reshape(batch, -1, size, a.shape[-1]), 1, 0)

  out = jax.lax.map(jax.checkpoint(lambda args: run(*args)), tuple(map(cut, (x, weights, experts))))
  return jnp.moveaxis(out, 0, 1).reshape(batch, -1, out.shape[-1])[:, :length]


def _local_experts(gate, up, down, x, weights, experts, first):
  """x [B, T, D], weights, experts [B, T, C], gate [E', D, F] -> sum over the chosen of experts first .. first + E'."""
  shape, chosen, dtype = x.shape, experts.shape[-1], x.dtype
  experts = experts.reshape(-1, chosen) - first
  local = (experts >= 0) & (experts < gate.shape[0])
  slot, source, sizes, block = _slots(jnp.where(local, experts, gate.shape[0]), gate.shape[0])
  rows = _dispatch(x.reshape(-1, shape[-1]), source, slot)
  times = lambda x, w: product(kernels.grouped_matmul(x, w.astype(dtype), sizes, block))
  out = times(jax.nn.silu(times(rows, gate)) * times(rows, up), down)
  weights = jnp.where(local, weights.reshape(-1, chosen), 0.0).astype(dtype)
  return jnp.einsum('rcd,rc->rd', _collect(out, slot, source), weights).reshape(shape)


def _slots(experts: jax.Array, groups: int):
  """experts [R, C] (`groups` = nobody's) -> slot [R, C], source [Z], sizes [groups], block.

  Rows are sorted by counting: slot = start of the expert's rows + how many came before. source[slot] is the
  row (R where a slot is empty). Groups start at multiples of `block`; nobody's rows come last.
  """
  total = experts.size
  block = kernels.group_block(total, groups)
  member = jax.nn.one_hot(experts.reshape(-1), groups + 1, dtype=jnp.int32)
  rank = jnp.sum((jnp.cumsum(member, axis=0) - member) * member, axis=-1)
  sizes = -(-member.sum(0) // block) * block
  slot = (jnp.cumsum(sizes) - sizes)[experts.reshape(-1)] + rank
  slots = -(-(total + (groups + 1) * (block - 1)) // block) * block
  row = jnp.arange(total, dtype=jnp.int32) // experts.shape[-1]
  source = jnp.full(slots, experts.shape[0], jnp.int32).at[slot].set(row, unique_indices=True)
  return slot.reshape(experts.shape), source, sizes[:groups], block


@jax.custom_vjp
def _dispatch(x, source, slot):
  """x [R, D] -> rows [Z, D] in slot order; empty slots are zero. The gradient gathers, it never scatters."""
  return x.at[source].get(mode='fill', fill_value=0)


_dispatch.defvjp(
  lambda x, source, slot: (_dispatch(x, source, slot), slot),
  lambda slot, g: (g[slot].sum(1), None, None),
)


@jax.custom_vjp
def _collect(rows, slot, source):
  """rows [Z, D] -> what every row's chosen experts made of it [R, C, D]."""
  return rows[slot]


def _collect_backward(saved, g):
  """g [R, C, D] -> [Z, D]. A slot belongs to one (row, choice): the choice whose slot it is."""
  slot, source = saved
  place = jnp.arange(source.shape[0])
  mine = slot.at[source].get(mode='fill', fill_value=-1) == place[:, None]
  rows = g.at[source].get(mode='fill', fill_value=0)
  return jnp.einsum('zcd,zc->zd', rows, mine.astype(g.dtype)), None, None


_collect.defvjp(
  lambda rows, slot, source: (_collect(rows, slot, source), (slot, source)), _collect_backward
)


def bias_step(bias: jax.Array, load: jax.Array, speed: float) -> jax.Array:
  """bias [..., E], load [..., E] of the whole batch -> bias +- speed (auxiliary-loss-free balancing; V3, 2.1.2)."""
  mean = load.mean(-1, keepdims=True)
  return bias + speed * jnp.sign(mean - load).astype(bias.dtype)
