"""The device mesh and the two tables that turn logical axes into mesh axes.

Weights and activations have different names for axes of the same size (`embed`, `act_embed`), or one
mesh axis would be used twice in a matrix product. Axes that a mesh axis does not divide are replicated.
"""

import jax
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
  if mesh is None:
    return None

  def leaf(x):
    if not x.ndim:
      return NamedSharding(mesh, P())
    layers = (None,) * (
      x.ndim - 4
    )  # of a cache: [L, B, K, S, H] or [B, K, S, H]; else rows come first
    rows = BATCH_AXES if x.shape[len(layers)] % data_ways(mesh) == 0 else None
    heads = (_fits(mesh, 'tensor', x.shape[-3]),) if x.ndim >= 4 else ()
    return NamedSharding(mesh, P(*layers, rows, *heads))

  return jax.tree.map(leaf, slots)


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
