"""A policy -> a directory in Hugging Face layout, one tensor at a time; the directory appears when it is complete."""

import dataclasses
import functools
import json
import math
import os
import pathlib

import jax
import numpy as np
from jax.experimental import multihost_utils

from r1jax.model.hf_ahead import PIECE, contiguous, one_ahead, progress
from r1jax.model.hf_config import config_to_hf
from r1jax.model.hf_files import DTYPES, INDEX
from r1jax.model.hf_folder import whole
from r1jax.model.hf_names import Block, Leaf, leaves, tensors
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer

SHARD_BYTES = 5 * 10**9
_SAMPLING = {'do_sample': True, 'temperature': 0.6, 'top_p': 0.95}  # DeepSeek-R1's README


def export(
  params: Transformer, cfg: ModelConfig, directory, tokenizer=None, *, dtype: str | None = None,
  mtp: bool = True, shard_bytes: int = SHARD_BYTES, texts: dict[str, str] | None = None,
) -> None:  # fmt: skip
  """Writes safetensors (with an index if sharded), both config files, the tokenizer and `texts` by file name.

  dtype: of the file's tensors, the parameters' if None (a router's bias stays fp32). mtp: whether the module for
  multi-token prediction is written. On several hosts all of them call this and the first one writes. Raises
  FileExistsError if something is there already, and OSError that names the file which cannot be written; after any
  error, nothing of this export is left.
  """
  if shard_bytes < 1:
    raise ValueError(f'files of {shard_bytes} bytes are not possible; valid: 1 or more')
  cfg = dataclasses.replace(cfg, param_dtype=dtype or cfg.param_dtype, mtp=cfg.mtp if mtp else 0)
  config = config_to_hf(cfg)
  with whole(directory) as partial:
    _write_tensors(params, cfg, partial, shard_bytes)
    if jax.process_index() == 0:
      _write_texts(config, tokenizer, texts or {}, partial)


def write_json(path: pathlib.Path, value: dict) -> None:
  """OSError names the file."""
  _write_text(path, json.dumps(value, indent=2) + '\n')


def _write_text(path: pathlib.Path, text: str) -> None:
  try:
    path.write_text(text)
  except OSError as e:
    raise _unwritten(e, path) from e


def _unwritten(e: OSError, path: pathlib.Path, part: str = 'it') -> OSError:
  """What a full disk raises, which names nothing -> the same, naming the file and what of it is not there."""
  where = e.filename2 or e.filename or path
  return OSError(e.errno, f'cannot write {part}: {e.strerror or e}', str(where))


def _write_texts(config: dict, tokenizer, texts: dict[str, str], directory: pathlib.Path) -> None:
  """Everything but the tensors."""
  write_json(directory / 'config.json', config)
  tokens = {name: config[name] for name in ('bos_token_id', 'eos_token_id')}
  write_json(directory / 'generation_config.json', tokens | _SAMPLING)
  if tokenizer is not None:
    try:
      tokenizer.save(directory)
    except OSError as e:
      raise _unwritten(e, directory, 'the tokenizer') from e
  for name, text in texts.items():
    _write_text(directory / name, text)


def _write_tensors(
  params: Transformer, cfg: ModelConfig, directory: pathlib.Path, shard_bytes: int
) -> None:
  table, plan = leaves(cfg), tensors(cfg)
  size = {t: table[p].dtype.itemsize * math.prod(table[p].shape) for t, (p, _) in plan.items()}
  shards = _shards(size, shard_bytes)
  names = [f'model-{n:05d}-of-{len(shards):05d}.safetensors' for n in range(1, len(shards) + 1)]
  names = names if len(shards) > 1 else ['model.safetensors']
  values = {
    jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)
  }
  with progress('writing', directory, params) as told:
    for name, shard in zip(names, shards, strict=True):
      parts = {t: (table[plan[t][0]], values[plan[t][0]], plan[t][1]) for t in shard}
      _write_shard(directory / name, parts)
      told.update(sum(x.nbytes // math.prod(leaf.counted) for leaf, x, _ in parts.values()))
  if len(shards) > 1 and jax.process_index() == 0:
    where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    index = {'metadata': {'total_size': sum(size.values())}, 'weight_map': where}
    write_json(directory / INDEX, index)


def _write_shard(path: pathlib.Path, parts: dict[str, tuple[Leaf, jax.Array, tuple]]) -> None:
  """Tensor name -> (leaf, its array, position in it), as one file. OSError names the file and the tensor."""
  parts = dict(sorted(parts.items(), key=lambda x: -x[1][0].dtype.itemsize))  # keeps them aligned
  path = path if jax.process_index() == 0 else pathlib.Path(os.devnull)
  written = 'its header'
  try:
    with open(path, 'wb') as file:
      file.write(_header({tensor: leaf for tensor, (leaf, _, _) in parts.items()}))
      for tensor, x in zip(parts, one_ahead(_on_host, parts.values()), strict=True):
        written, leaf = tensor, parts[tensor][0]
        cuts = leaf.cuts(tuple(map(range, x.shape)), PIECE)
        for data in one_ahead(functools.partial(_bytes, leaf, x), cuts):
          file.write(data)
  except OSError as e:
    raise _unwritten(e, path, written) from e


def _header(table: dict[str, Leaf]) -> bytes:
  """Tensor name -> Leaf, in their order in the file -> what a safetensors file begins with."""
  content, start = {'__metadata__': {'format': 'pt'}}, 0
  kinds = {dtype: name for name, dtype in DTYPES.items()}
  for tensor, leaf in table.items():
    stop = start + leaf.dtype.itemsize * math.prod(leaf.shape)
    content[tensor] = {
      'dtype': kinds[leaf.dtype],
      'shape': leaf.file_shape,
      'data_offsets': [start, stop],
    }
    start = stop
  text = json.dumps(content, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  return len(text).to_bytes(8, 'little') + text


def _on_host(part: tuple[Leaf, jax.Array, tuple]) -> np.ndarray:
  """Leaf, its array, position in it -> the tensor, in our axes."""
  leaf, x, index = part
  if x.dtype != leaf.dtype or [d.platform for d in x.devices()] != ['cpu']:
    x, index = _cut(x, index, leaf.dtype), ()  # or all layers would be copied to the host
  whole_here = x.is_fully_addressable
  ours = np.asarray(x) if whole_here else multihost_utils.process_allgather(x, tiled=True)
  return ours[index]


def _bytes(leaf: Leaf, x: np.ndarray, cut: Block) -> np.ndarray:
  """A tensor in our axes, a block of it -> its bytes as the file has them."""
  x = x[tuple(slice(r.start, r.stop) for r in cut)]
  return contiguous(leaf.to_file(x)).reshape(-1).view(np.uint8)


@functools.partial(jax.jit, static_argnames='dtype')
def _cut(x: jax.Array, index: tuple, dtype) -> jax.Array:
  return x[index].astype(dtype)


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
