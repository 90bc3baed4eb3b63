"""The device mesh and the two tables that turn logical axes into mesh axes.

Weights and activations have different names for axes of the same size (`embed`, `act_embed`), or one
mesh axis would be used twice in a matrix product. Axes that a mesh axis does not divide are replicated.
"""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ('data', 'fsdp', 'expert', 'tensor')
BATCH_AXES = ('data', 'fsdp', 'expert')

WEIGHT_AXES = {
  'embed': 'fsdp', 'two_embed': 'fsdp', 'vocab': 'tensor', 'heads': 'tensor', 'kv_heads': 'tensor', 'mlp': 'tensor',
  'shared_mlp': 'tensor', 'experts': 'expert', 'expert_mlp': 'tensor', 'q_latent': 'fsdp', 'kv_latent': 'fsdp',
}  # fmt: skip
ACTIVATION_AXES = {
  'batch': BATCH_AXES,
  'act_heads': 'tensor',
  'act_mlp': 'tensor',
  'act_vocab': 'tensor',
}


def split_cpu(devices: int) -> None:
  """A CPU counts as so many devices from now on, where no device is in use yet and XLA_FLAGS do not say how many."""
  if 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', ''):
    return
  with contextlib.suppress(RuntimeError):  # devices are in use
    jax.config.update('jax_num_cpu_devices', devices)


def make_mesh(
  data: int = 1, fsdp: int = 1, expert: int = 1, tensor: int = 1, devices=None
) -> jax.sharding.Mesh:
  """Sizes of the four axes -> mesh; one of them may be -1: what remains of the devices.

  Raises ValueError when the product is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [data, fsdp, expert, tensor]
  if sizes.count(-1) == 1:
    sizes[sizes.index(-1)] = len(devices) // -int(np.prod(sizes))
  if min(sizes) < 1 or int(np.prod(sizes)) != len(devices):
    shape = dict(zip(AXES, (data, fsdp, expert, tensor), strict=True))
    needed = int(np.prod([size for size in shape.values() if size > 0]))
    raise ValueError(f'mesh {shape} needs {needed} devices or a multiple, {len(devices)} are here')
  return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def _fits(mesh, names, size: int):
  """Mesh axes `names` if their product divides `size`, else None (replicated)."""
  group = (names,) if isinstance(names, str) else tuple(names or ())
  ways = int(np.prod([mesh.shape[n] for n in group])) if group else 1
  return names if ways > 1 and size % ways == 0 else None


def weight_sharding(mesh, axes: tuple[str, ...], shape: tuple[int, ...]) -> NamedSharding:
  """Logical axes and shape of a weight -> its sharding. A mesh axis splits the first axis that it divides."""
  names = []
  for axis, size in zip(axes, shape, strict=True):
    name = _fits(mesh, WEIGHT_AXES.get(axis), size)
    names.append(None if name in names else name)
  return NamedSharding(mesh, P(*names))


def replicated(mesh) -> NamedSharding:
  return NamedSharding(mesh, P())


def batch_sharding(mesh, axis: int = 0) -> NamedSharding:
  """Rows of a batch over every axis that holds different data; `axis` is the rows' position."""
  return NamedSharding(mesh, P(*[None] * axis, BATCH_AXES))


def slot_shardings(slots):
  """Shardings of a rollout's slots on the current mesh: rows over the batch axes; None without a mesh."""
  mesh = get_mesh()
  return mesh and jax.tree.map(lambda x: NamedSharding(mesh, _slot_spec(mesh, x)), slots)


def _slot_spec(mesh, x) -> P:
  """Of a cache: [L, B, K, S, H] or [B, K, S, H]; else rows come first; whole where there are none."""
  if not x.ndim:
    return P()
  layers = (None,) * (x.ndim - 4)
  rows = BATCH_AXES if x.shape[len(layers)] % data_ways(mesh) == 0 else None
  heads = (_fits(mesh, 'tensor', x.shape[-3]),) if x.ndim >= 4 else ()
  return P(*layers, rows, *heads)


def rows_kept(live: np.ndarray, rows: int) -> np.ndarray | None:
  """live [B] -> so many rows [B'] that hold all live ones, each on the shard where it is; None: they do not fit."""
  shards = row_shards(rows)
  live = live.reshape(shards, -1)
  if live.sum(1).max() > rows // shards:
    return None
  first = np.argsort(~live, axis=1, kind='stable')[:, : rows // shards]
  return (first + np.arange(shards)[:, None] * live.shape[1]).ravel().astype(np.int32)


def keep_rows(x: jax.Array, rows: jax.Array, axis: int) -> jax.Array:
  """x, rows [B'] as from `rows_kept` -> these rows of x; each shard takes its own, nothing is exchanged."""
  shards, axis = row_shards(len(rows)), axis % x.ndim
  size = x.shape[axis] // shards
  own = rows.reshape(shards, -1) - jnp.arange(shards)[:, None] * size
  x = x.reshape(*x.shape[:axis], shards, size, *x.shape[axis + 1 :])
  x = jax.vmap(lambda x, own: jnp.take(x, own, axis=axis), (axis, 0), axis)(x, own)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def rows_of_all(x: jax.Array, first, count: int) -> jax.Array:
  """x [..., P, K, S, H] -> rows first .. first + count [..., count, K, S, H], on every shard."""
  mesh = current()
  if mesh is None or x.shape[-4] % data_ways(mesh):
    return jax.lax.dynamic_slice_in_dim(x, first, count, axis=-4)
  spec = _slot_spec(mesh, x)

  def own(x, first):
    rows = x.shape[-4]
    index = first + jnp.arange(count) - jax.lax.axis_index(BATCH_AXES) * rows
    here = (index >= 0) & (index < rows)
    found = jnp.where(here[:, None, None, None], jnp.take(x, index, axis=-4, mode='clip'), 0)
    return jax.lax.psum(found, BATCH_AXES)

  whole = P(*(None if name == BATCH_AXES else name for name in spec))
  return jax.shard_map(own, in_specs=(spec, P()), out_specs=whole, check_vma=False)(x, first)


def row_shards(rows: int) -> int:
  """Number of shards that so many rows of a rollout are split into on the current mesh."""
  mesh = current()
  return data_ways(mesh) if mesh is not None and rows % data_ways(mesh) == 0 else 1


def get_mesh():
  """The concrete mesh set by `jax.set_mesh`, or None."""
  mesh = jax.sharding.get_mesh()
  return None if mesh.empty else mesh


def data_ways(mesh) -> int:
  """Number of shards that rows of a batch are split into."""
  return int(np.prod([mesh.shape[a] for a in BATCH_AXES]))


def current():
  """The mesh set by `jax.set_mesh`, or None outside of one or on a single device."""
  mesh = jax.sharding.get_abstract_mesh()
  return None if mesh.empty or mesh.size == 1 else mesh


def shard(x: jax.Array, *axes: str | None) -> jax.Array:
  """Constrain an activation by its logical axes; without a mesh, x itself."""
  mesh = current()
  if mesh is None:
    return x
  names = (_fits(mesh, ACTIVATION_AXES.get(a), n) for a, n in zip(axes, x.shape, strict=True))
  return jax.lax.with_sharding_constraint(x, P(*names))
