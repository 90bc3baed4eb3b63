"""Checkpoints in Hugging Face layout, in and out. Left out for now: quantised (FP8) weights."""

import contextlib
import itertools
import json
import math
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from r1jax.model import weights
from r1jax.model.hf_config import check_same_function, config_from_hf, config_to_hf
from r1jax.model.hf_names import MTP_COPIES, Leaf, leaves, tensors
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, spec

__all__ = ['config_from_hf', 'config_to_hf', 'export', 'leaves', 'load', 'tensors']

_DTYPES = ('F64', 'F32', 'F16', 'BF16')


class Files:
  """The safetensors files of a directory: where each tensor lies. Errors name file and tensor."""

  def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack):
    index = directory / 'model.safetensors.index.json'
    names = sorted(p.name for p in directory.glob('*.safetensors'))
    if index.exists():
      names = sorted(set(_json(index)['weight_map'].values()))
    elif not names:
      pickled = next(iter(sorted(directory.glob('*.bin'))), None)
      hint = (
        f'; {pickled.name} is a pickle and is never opened: convert it to safetensors'
        if pickled
        else ''
      )
      raise FileNotFoundError(f'{directory}: no safetensors file{hint}')
    self.of: dict[str, tuple[pathlib.Path, object]] = {}
    for path in (directory / name for name in names):
      if not path.exists():
        raise FileNotFoundError(f'{path}: missing, although {index.name} names it')
      try:
        handle = stack.enter_context(safe_open(path, 'numpy'))
      except SafetensorError as e:
        raise ValueError(f'{path}: truncated or not a safetensors file ({e})') from e
      self.of |= dict.fromkeys(handle.keys(), (path, handle))

  def read(self, tensor: str) -> np.ndarray:
    return self.of[tensor][1].get_tensor(tensor)

  def check(self, cfg: ModelConfig, directory: pathlib.Path) -> None:
    """Raises ValueError for tensors that are missing, unexpected, or of a wrong shape or type."""
    table, expected = leaves(cfg), tensors(cfg)
    if missing := [t for t in expected if t not in self.of and not _is_copy(t, cfg)]:
      raise ValueError(
        f'{directory}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are)'
      )
    for tensor, (path, handle) in self.of.items():
      if tensor not in expected:
        if _may_be_left(tensor, cfg):
          continue
        raise ValueError(f'{path}: unexpected tensor {tensor}')
      view, leaf = handle.get_slice(tensor), table[expected[tensor][0]]
      if tuple(view.get_shape()) != leaf.file_shape:
        raise ValueError(
          f'{path}: tensor {tensor} has shape {tuple(view.get_shape())}, expected {leaf.file_shape}'
        )
      if view.get_dtype() not in _DTYPES:
        raise ValueError(
          f'{path}: tensor {tensor} is {view.get_dtype()}; known: {", ".join(_DTYPES)}'
        )


def _is_copy(tensor: str, cfg: ModelConfig) -> bool:
  return any(tensor == f'model.layers.{cfg.layers}.{name}' for name in MTP_COPIES)


def _may_be_left(tensor: str, cfg: ModelConfig) -> bool:
  """Tensors that say nothing new: a tied head, frequency buffers, an MTP layer nobody wants."""
  unwanted_mtp = not cfg.mtp and cfg.mla and tensor.startswith(f'model.layers.{cfg.layers}.')
  return (
    unwanted_mtp
    or tensor.endswith('.rotary_emb.inv_freq')
    or (cfg.tied and tensor == 'lm_head.weight')
  )


def _json(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as e:
    raise ValueError(f'{path}: not JSON ({e})') from e


def load(directory, cfg: ModelConfig | None = None, mesh=None) -> tuple[Transformer, ModelConfig]:
  """Directory in Hugging Face layout -> (params, cfg), sharded over the mesh if there is one.

  `cfg` says how to compute (dtypes, remat) and whether the MTP module is wanted; it must describe
  the same function as config.json, from which it is read if None. ValueError and OSError name the
  file, and the tensor or the field.
  """
  directory = pathlib.Path(directory)
  path = directory / 'config.json'
  fields = _json(path)
  try:
    found = config_from_hf(fields)
    cfg is None or check_same_function(cfg, found)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e
  cfg = cfg or found
  with contextlib.ExitStack() as stack:
    files = Files(directory, stack)
    files.check(cfg, directory)
    table = leaves(cfg)
    goal = weights.abstract(spec(cfg), cfg, mesh)
    return jax.tree_util.tree_map_with_path(
      lambda path, x: _place(files, table[jax.tree_util.keystr(path)], x), goal
    ), cfg


def _place(files: Files, leaf: Leaf, goal: jax.ShapeDtypeStruct) -> jax.Array:
  """Each host reads the tensors of which its devices hold a part."""
  if goal.sharding is None:
    return jnp.array(_block(files, leaf, (slice(None),) * len(goal.shape)))
  return jax.make_array_from_callback(
    goal.shape, goal.sharding, lambda block: _block(files, leaf, block)
  )


def _block(files: Files, leaf: Leaf, block: tuple[slice, ...]) -> np.ndarray:
  """Slices of our leaf -> that part of it."""
  counts = len(leaf.counted)
  ranges = [range(*s.indices(n)) for s, n in zip(block, leaf.counted, strict=False)]
  inner = block[counts:]
  parts = (leaf.from_file(files.read(leaf.tensor(i)))[inner] for i in itertools.product(*ranges))
  stacked = np.stack([part.astype(leaf.dtype) for part in parts])
  return stacked.reshape(*(len(r) for r in ranges), *stacked.shape[1:])


def export(
  params: Transformer, cfg: ModelConfig, directory, tokenizer=None, shard_bytes: int = 5 * 10**9
) -> None:
  """Writes safetensors (with an index if sharded), both config files and the tokenizer.

  The directory appears when it is complete. Raises FileExistsError if something is there already.
  """
  directory = pathlib.Path(directory).absolute()
  if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
    raise FileExistsError(f'{directory} exists and is not empty')
  config = config_to_hf(cfg)
  generation = {'bos_token_id': cfg.bos, 'eos_token_id': config['eos_token_id'], 'do_sample': True}
  partial = directory.with_name(f'.{directory.name}.partial-{os.getpid()}')
  try:
    partial.mkdir(parents=True)
    _write_tensors(params, cfg, partial, shard_bytes)
    write_json(partial / 'config.json', config)
    write_json(partial / 'generation_config.json', generation | {'temperature': 0.6, 'top_p': 0.95})
    if tokenizer is not None:
      tokenizer.save(partial)
    partial.rename(directory)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise


def write_json(path: pathlib.Path, value: dict) -> None:
  path.write_text(json.dumps(value, indent=2) + '\n')


def _write_tensors(
  params: Transformer, cfg: ModelConfig, directory: pathlib.Path, shard_bytes: int
) -> None:
  """One shard of tensors is held on the host at a time."""
  table, plan = leaves(cfg), tensors(cfg)
  values = {
    jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)
  }
  size = {
    t: math.prod(table[path].shape) * values[path].dtype.itemsize for t, (path, _) in plan.items()
  }
  shards = _shards(size, shard_bytes)
  names = [f'model-{n:05d}-of-{len(shards):05d}.safetensors' for n in range(1, len(shards) + 1)]
  names = names if len(shards) > 1 else ['model.safetensors']
  for name, shard in zip(names, shards, strict=True):
    content = {
      t: table[plan[t][0]].to_file(np.asarray(values[plan[t][0]][plan[t][1]])) for t in shard
    }
    save_file(content, directory / name, metadata={'format': 'pt'})
  if len(shards) > 1:
    where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    index = {'metadata': {'total_size': sum(size.values())}, 'weight_map': where}
    write_json(directory / 'model.safetensors.index.json', index)


def _shards(size: dict[str, int], most: int) -> list[list[str]]:
  """Tensors in order, cut where a shard would pass `most` bytes."""
  shards, room = [], 0
  for tensor, n in size.items():
    if not shards or n > room:
      shards.append([])
      room = most
    shards[-1].append(tensor)
    room -= n
  return shards
