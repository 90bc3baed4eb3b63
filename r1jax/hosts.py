"""Several processes that run one program, one on each host: how they find each other, how arrays cross.

What lies on the host is the same on each of them, once they have told each other (gather); devices hold their parts.
All of them call these functions together.
"""

import importlib.util
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from r1jax.fields import ConfigError

ADDRESS, COUNT, INDEX = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'


def join() -> None:
  """Makes this process one of several if the environment says so; before any device is used. Raises ConfigError.

  Count and index may be left out where jax knows them from the cluster, such as under Slurm.
  """
  address = os.environ.get(ADDRESS)
  if jax.distributed.is_initialized():
    return
  if address:
    numbers = (os.environ.get(name) for name in (COUNT, INDEX))
    try:
      jax.distributed.initialize(address, *(None if n is None else int(n) for n in numbers))
    except ValueError as error:
      valid = f'together with {COUNT}, such as 2, and {INDEX}, such as 0'
      raise ConfigError(
        f'{ADDRESS}={address!r} is not possible: {error}; valid: {valid}'
      ) from error
  elif _on_cloud_tpu():
    jax.distributed.initialize()


def _on_cloud_tpu() -> bool:
  """Whether TPUs are here and wanted: jax then knows the other hosts, or that there are none."""
  wanted = os.environ.get('JAX_PLATFORMS', '')
  chips = [*Path('/dev').glob('accel*'), *Path('/dev/vfio').glob('[0-9]*')]
  return (
    (not wanted or 'tpu' in wanted) and bool(chips) and bool(importlib.util.find_spec('libtpu'))
  )


def is_first() -> bool:
  """Whether this is the process that prints and writes."""
  return jax.process_index() == 0


def put(tree: Any, shardings: Any) -> Any:
  """Host arrays, their shardings (or one, None without a mesh) -> device arrays.

  Each host copies its own parts; device_put would first compare all of every array between the hosts.
  """
  if jax.process_count() == 1:
    return jax.device_put(tree, shardings)
  if isinstance(shardings, jax.sharding.Sharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  with jax.transfer_guard('allow'):
    return jax.tree.map(_put, tree, shardings)


def _put(x, sharding: jax.sharding.Sharding) -> jax.Array:
  if isinstance(x, jax.Array):
    return jax.device_put(x, sharding)
  return jax.make_array_from_callback(np.shape(x), sharding, lambda part: np.asarray(x[part]))


def zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
  """Zeros to be put; on several hosts, none of which needs all of them, they take no memory."""
  if jax.process_count() == 1:
    return np.zeros(shape, dtype)
  return np.broadcast_to(np.zeros((), dtype), shape)


def fetch(x: jax.Array) -> np.ndarray:
  """Devices -> the whole array on every host."""
  if x.is_fully_addressable or x.is_fully_replicated:
    return jax.device_get(x)
  with jax.transfer_guard('allow'):
    return multihost_utils.process_allgather(x, tiled=True)


def gather(value: Any) -> list:
  """What each process has, any Python value -> those of all of them, in their order. They trust each other."""
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(pickle.dumps(value), np.uint8)
  with jax.transfer_guard('allow'):
    sizes = np.ravel(multihost_utils.process_allgather(np.int64(len(data))))
    width = 1 << int(sizes.max()).bit_length()  # one of few, as each is compiled for
    rows = multihost_utils.process_allgather(np.pad(data, (0, width - len(data))))
  return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def are_same(arrays: dict[str, np.ndarray]) -> bool:
  """Whether all processes have the same bits."""
  if jax.process_count() == 1:
    return True
  checksum = 0
  for name in sorted(arrays):
    checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
  with jax.transfer_guard('allow'):
    return len(np.unique(multihost_utils.process_allgather(np.uint32(checksum)))) == 1
