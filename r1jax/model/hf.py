"""Checkpoints in Hugging Face layout: read into sharded arrays, piece by piece; `export` writes them.

FP8 weights are dequantised on the way in; nothing is quantised on the way out.
"""

import collections
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from r1jax.model import hf_files, weights
from r1jax.model.hf_ahead import PIECE, contiguous, give_back, progress
from r1jax.model.hf_config import check_same_function, config_from_hf, config_to_hf
from r1jax.model.hf_export import export, write_json
from r1jax.model.hf_names import Block, Leaf, leaves, tensors
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, spec

__all__ = [
  'check', 'config_from_hf', 'config_to_hf', 'described', 'export', 'leaves', 'load', 'read_config', 'tensors',
  'write_json',
]  # fmt: skip
DEVICE_PIECE = 2**25  # elements that are sent to an accelerator at once
ALIGNED = 64  # bytes; XLA takes a buffer that begins there as it is


def described(directory) -> ModelConfig:
  """Directory with a config.json -> ModelConfig. ValueError and OSError name the file and the field."""
  path = pathlib.Path(directory) / 'config.json'
  fields = hf_files.read_json(path)
  try:
    return config_from_hf(fields)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def read_config(directory) -> ModelConfig:
  """Directory in Hugging Face layout -> ModelConfig, as the files have it where config.json says something else.

  That is the dtype, of which the embedding's counts, and an MTP module: some tools drop its tensors and no more.
  """
  cfg, files = described(directory), hf_files.open_files(pathlib.Path(directory))
  if cfg.mtp and not files.has_mtp(cfg):
    cfg = dataclasses.replace(cfg, mtp=0)
  embedding = files.headers.get('model.embed_tokens.weight')
  if embedding and embedding.dtype in ('F32', 'F16', 'BF16'):
    cfg = dataclasses.replace(cfg, param_dtype=hf_files.DTYPES[embedding.dtype].name)
  return cfg


def check(directory, cfg: ModelConfig) -> None:
  """Raises ValueError or OSError if the files, by their headers, do not hold the model `cfg`."""
  _open(directory, cfg)


def load(directory, cfg: ModelConfig | None = None, mesh=None) -> tuple[Transformer, ModelConfig]:
  """Directory in Hugging Face layout -> (params, cfg), sharded over the mesh if there is one.

  `cfg` says how to compute (dtypes, remat) and whether the MTP module is wanted; it must describe
  the same function as config.json, from which it is read if None. Each host reads the parts of tensors that its
  devices hold. ValueError and OSError name the file, and the tensor or the field.
  """
  files, cfg = _open(directory, cfg)
  table = leaves(cfg)
  goal = weights.abstract(spec(cfg), cfg, mesh)
  with progress('reading', directory, goal) as told:
    params = jax.tree_util.tree_map_with_path(
      lambda path, x: _place(files, table[jax.tree_util.keystr(path)], x, told), goal
    )
  return params, cfg


def _open(directory, cfg: ModelConfig | None) -> tuple[hf_files.Files, ModelConfig]:
  """-> the directory's files, found to hold the model, and the model."""
  directory = pathlib.Path(directory)
  found = read_config(directory)
  files = hf_files.open_files(directory)
  cfg = cfg or found
  try:
    check_same_function(cfg, found)
  except ValueError as e:
    raise ValueError(f'{directory / "config.json"}: {e}') from e
  hf_files.check(files.headers, cfg)
  return files.with_copies(cfg), cfg


def _place(files: hf_files.Files, leaf: Leaf, goal: jax.ShapeDtypeStruct, told: tqdm) -> jax.Array:
  """Leaf -> array in its sharding. A block that several devices here hold is read once."""
  everything = (slice(None),) * len(goal.shape)
  where = {None: everything}  # the default device
  if goal.sharding is not None:
    where = goal.sharding.addressable_devices_indices_map(goal.shape)
  holders = collections.defaultdict(list)
  for device, cut in where.items():
    block = tuple(range(n)[s] for s, n in zip(cut, goal.shape, strict=True))
    holders[block].append(device)
  arrays = [x for block, devices in holders.items() for x in _fill(files, leaf, block, devices)]
  give_back()
  told.update(math.prod(goal.shape) * goal.dtype.itemsize)
  if goal.sharding is None:
    return arrays[0]
  return jax.make_array_from_single_device_arrays(goal.shape, goal.sharding, arrays)


def _fill(files: hf_files.Files, leaf: Leaf, block: Block, devices: list) -> list[jax.Array]:
  """Block of a leaf -> its array on each of the devices."""
  platform = devices[0].platform if devices[0] else jax.default_backend()
  fill = _fill_host if platform == 'cpu' else _fill_devices
  return fill(files, leaf, block, devices)


def _fill_host(files: hf_files.Files, leaf: Leaf, block: Block, devices: list) -> list[jax.Array]:
  """For CPUs: one buffer in the host's memory, which becomes the array of all of them without a copy."""
  shape = tuple(map(len, block))
  memory = np.empty(math.prod(shape) * leaf.dtype.itemsize + ALIGNED, np.uint8)
  start = -memory.ctypes.data % ALIGNED
  x = memory[start : len(memory) - ALIGNED + start].view(leaf.dtype).reshape(shape)
  for part, at in _parts(files, leaf, block, PIECE):
    x[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))] = contiguous(part)
  return [jax.device_put(x, device) for device in devices]


def _fill_devices(
  files: hf_files.Files, leaf: Leaf, block: Block, devices: list
) -> list[jax.Array]:
  """For accelerators: an array on each, where the pieces are put together."""
  arrays = [jnp.zeros(tuple(map(len, block)), leaf.dtype, device=device) for device in devices]
  for part, at in _parts(files, leaf, block, DEVICE_PIECE):
    arrays = [
      _put(x, jax.device_put(part, device), at) for x, device in zip(arrays, devices, strict=True)
    ]
    jax.block_until_ready(arrays)  # or the host would run ahead and fill its memory
  return arrays


def _parts(files: hf_files.Files, leaf: Leaf, block: Block, most: int) -> Iterator:
  """Pieces of a block as the files have them, of at most `most` elements, and where in the block each belongs."""
  for index, inner in leaf.pieces(block, most):
    part = leaf.from_file(files.read(leaf.tensor(index), leaf.file_block(inner)), inner)
    at = (*index, *(r.start for r in inner))
    at = tuple(a - r.start for a, r in zip(at, block, strict=True))
    yield part.reshape((1,) * len(index) + part.shape), at


@functools.partial(jax.jit, donate_argnums=0)
def _put(x: jax.Array, part: jax.Array, at: tuple[int, ...]) -> jax.Array:
  return jax.lax.dynamic_update_slice(x, part.astype(x.dtype), at)
