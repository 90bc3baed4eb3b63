"""Everything that training changes on the device, in one pytree."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from r1jax import mesh as mesh_lib
from r1jax.model import weights
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, spec


@struct.dataclass
class State:
  """step: updates done. policy: in the parameters' dtype. master: fp32 copy of a bf16 policy, or None. reference:
  the policy that KL is measured against, or None. key: the root key; nothing but folding in is done with it.
  skipped: updates whose gradient was not finite, in all and in a row.
  """

  step: jax.Array
  policy: Transformer
  master: Transformer | None
  reference: Transformer | None
  optimizer: optax.OptState
  key: jax.Array
  skipped: jax.Array
  skipped_in_row: jax.Array


def create(
  policy: Transformer,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  *,
  master: bool,
  reference: bool,
) -> State:
  """The state before the first update. master: keep fp32 weights; reference: keep a copy of the policy."""
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), policy)  # moments are fp32 in any case
  return State(
    step=jnp.int32(0),
    policy=policy,
    master=wide if master else None,
    reference=jax.tree.map(jnp.copy, policy) if reference else None,
    optimizer=optimizer.init(wide),
    key=key,
    skipped=jnp.int32(0),
    skipped_in_row=jnp.int32(0),
  )


def abstract(
  cfg: ModelConfig,
  optimizer: optax.GradientTransformation,
  mesh=None,
  *,
  master: bool,
  reference: bool,
  spec_of: Callable[[ModelConfig], Transformer] = spec,
) -> State:
  """The same tree of ShapeDtypeStruct, with shardings if there is a mesh. Allocates nothing.

  spec_of: ModelConfig -> the tree of Weight that is trained.
  """
  policy = weights.abstract(spec_of(cfg), cfg, mesh)
  build = lambda policy, key: create(policy, optimizer, key, master=master, reference=reference)
  state = jax.eval_shape(build, policy, jax.eval_shape(lambda: jax.random.key(0)))
  if mesh is None:
    return state
  by_shape = jax.tree.map(lambda x: x.sharding, policy)
  everywhere = mesh_lib.replicated(mesh)
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    state,
    State(
      step=everywhere,
      policy=by_shape,
      master=by_shape if master else None,
      reference=by_shape if reference else None,
      optimizer=_optimizer_shardings(optimizer, state.optimizer, by_shape, everywhere),
      key=everywhere,
      skipped=everywhere,
      skipped_in_row=everywhere,
    ),
  )


def _optimizer_shardings(optimizer, state, policy, everywhere):
  """Moments lie like their weights, counters everywhere."""
  return optax.tree_utils.tree_map_params(
    optimizer,
    lambda _, sharding: sharding,
    state,
    policy,
    transform_non_params=lambda _: everywhere,
  )


def init(
  policy: Transformer, key: jax.Array, cfg: ModelConfig, optimizer, mesh=None, spec_of=spec, **kept
) -> State:
  """`create`, on the devices of the mesh."""
  goal = abstract(cfg, optimizer, mesh, spec_of=spec_of, **kept)
  shardings = jax.tree.map(lambda x: x.sharding, goal) if mesh is not None else None
  build = lambda policy, key: create(policy, optimizer, key, **kept)
  return jax.jit(build, out_shardings=shardings)(policy, key)


def bytes_per_device(tree) -> int:
  """Abstract tree -> bytes of it that one device holds."""
  total = 0
  for x in jax.tree.leaves(tree):
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    size = 1
    for n in shape:
      size *= n
    total += size * (8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)
  return total
