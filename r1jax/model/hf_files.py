"""The safetensors files of a checkpoint: what their headers say, whether it is the model, and parts of tensors.

Files are mapped into memory one piece at a time, so that reading takes the memory of what is read. Weights in FP8
(e4m3 with a scale for every block of 128 x 128; DeepSeek-V3, 3.3.2) are read as float32.
"""

import collections
import dataclasses
import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from r1jax.model.hf_names import Block, copies, leaves, tensors
from r1jax.model.sizes import ModelConfig

INDEX = 'model.safetensors.index.json'
DTYPES = {
  'F64': np.dtype('float64'),
  'F32': np.dtype('float32'),
  'F16': np.dtype('float16'),
  'BF16': jnp.dtype('bfloat16'),
}
FP8 = 'F8_E4M3'
PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl')
BLOCK = 128  # rows and columns of an FP8 weight that share a scale
SCALE = '_scale_inv'  # a factor, in spite of its name
_FP8_VALUES = np.arange(256, dtype=np.uint8).view(jnp.float8_e4m3fn).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Header:
  """Where a tensor lies: file, dtype by its safetensors name, shape, first byte."""

  path: pathlib.Path
  dtype: str
  shape: tuple[int, ...]
  offset: int = 0


@dataclasses.dataclass(frozen=True)
class Files:
  """Tensor name -> Header, of a whole directory. copies: tensor -> those that have to be the same."""

  headers: dict[str, Header]
  copies: dict[str, list[str]] = dataclasses.field(default_factory=dict)

  def read(self, tensor: str, block: Block) -> np.ndarray:
    """Tensor name, block of it -> its values, a view of the file unless they are quantised.

    ValueError if the block of a copy is another.
    """
    values = self._values(tensor, block)
    for copy in self.copies.get(tensor, ()):
      if not _same(values, self._values(copy, block)):
        raise ValueError(
          f'{self.headers[copy].path}: tensor {copy} differs from {tensor}, which the model has in its place'
        )
    return values

  def _values(self, tensor: str, block: Block) -> np.ndarray:
    header, cut = self.headers[tensor], tuple(slice(r.start, r.stop) for r in block)
    if header.dtype != FP8:
      return _mapped(header, DTYPES[header.dtype])[cut]
    values = _FP8_VALUES[_mapped(header, np.dtype('uint8'))[cut]]
    scale = self.headers[tensor + SCALE]
    scales = _mapped(scale, DTYPES[scale.dtype]).astype(np.float32)
    values *= scales[np.ix_(*(np.asarray(r) // BLOCK for r in block))]
    return values

  def has_mtp(self, cfg: ModelConfig) -> bool:
    return any(name.startswith(f'model.layers.{cfg.layers}.') for name in self.headers)

  def with_copies(self, cfg: ModelConfig) -> 'Files':
    """The same files, of this model: what they hold twice is compared when it is read."""
    found = collections.defaultdict(list)
    for copy, first in copies(cfg).items():
      if copy in self.headers:
        found[first].append(copy)
    return Files(self.headers, dict(found))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
  """Whether two blocks are equal; bytes are compared fastest, and find NaN equal to itself."""
  if a.dtype != b.dtype:
    return np.array_equal(a, b)
  return np.array_equal(a.view(np.uint8), b.view(np.uint8))


def _mapped(header: Header, dtype: np.dtype) -> np.ndarray:
  return np.asarray(
    np.memmap(header.path, dtype, mode='r', offset=header.offset, shape=header.shape)
  )


def open_files(directory: pathlib.Path) -> Files:
  """Reads every header. FileNotFoundError, PermissionError and ValueError name the file."""
  index, headers = directory / INDEX, {}
  where = _weight_map(index) if index.exists() else {}
  for path in sorted({directory / name for name in where.values()}) or _found(directory):
    if where and not path.exists():
      raise FileNotFoundError(f'{path}: missing, although {INDEX} names it')
    for name, header in _headers(path).items():
      if name in headers:
        raise ValueError(f'{path}: tensor {name} is also in {headers[name].path.name}')
      headers[name] = header
  for tensor, name in where.items():
    if tensor not in headers or headers[tensor].path != directory / name:
      raise ValueError(f'{index}: tensor {tensor} is not in {name}')
  if not headers:
    raise ValueError(f'{directory}: there is no tensor in its safetensors files')
  return Files(headers)


def _found(directory: pathlib.Path) -> list[pathlib.Path]:
  """The safetensors files of a directory without an index."""
  names = sorted(os.listdir(directory))  # unlike glob, it says when it may not
  found = [directory / name for name in names if name.endswith('.safetensors')]
  if not found:
    pickled = next((f'; {_is_pickle(name)}' for name in names if name.endswith(PICKLES)), '')
    raise FileNotFoundError(f'{directory}: no safetensors file{pickled}')
  return found


def _weight_map(index: pathlib.Path) -> dict[str, str]:
  """Index file -> tensor -> name of the safetensors file that holds it."""
  where = read_json(index).get('weight_map')
  if not isinstance(where, dict) or not where:
    raise ValueError(f'{index}: no weight_map in it')
  for tensor, name in where.items():
    if not isinstance(name, str):
      raise ValueError(f'{index}: tensor {tensor} is in {name!r}; valid: the name of a file')
    if not name.endswith('.safetensors'):
      why = _is_pickle(name) if name.endswith(PICKLES) else f'{name} is not a safetensors file'
      raise ValueError(f'{index}: tensor {tensor}: {why}')
  return where


def _is_pickle(name: str) -> str:
  return f'{name} is a pickle and is never opened: convert it to safetensors'


def _headers(path: pathlib.Path) -> dict[str, Header]:
  """safetensors file -> tensor name -> Header."""
  with open(path, 'rb') as file:  # its OSError names the file
    length = int.from_bytes(file.read(8), 'little')
    try:
      with safe_open(path, 'numpy'):
        pass  # checks that the header is whole and agrees with the length of the file
    except SafetensorError as e:
      raise ValueError(f'{path}: truncated or not a safetensors file ({e})') from e
    content = json.loads(file.read(length))
  content.pop('__metadata__', None)
  start = 8 + length
  return {
    name: Header(path, x['dtype'], tuple(x['shape']), start + x['data_offsets'][0])
    for name, x in content.items()
  }


def read_json(path: pathlib.Path) -> dict:
  """JSON file -> its object. ValueError names the file."""
  try:
    value = json.loads(path.read_text('utf-8'))
  except ValueError as e:
    raise ValueError(f'{path}: not JSON ({e})') from e
  if not isinstance(value, dict):
    raise ValueError(f'{path}: not a JSON object')
  return value


def check(headers: dict[str, Header], cfg: ModelConfig) -> None:
  """Raises ValueError for tensors that are missing, unexpected, or of a wrong shape or type."""
  table, expected, repeated = leaves(cfg), tensors(cfg), copies(cfg)
  if missing := [t for t in expected if t not in headers and t not in repeated]:
    directory = next(iter(headers.values())).path.parent
    raise ValueError(
      f'{directory}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are)'
    )
  unread = _unread(headers, cfg)
  for tensor, header in headers.items():
    first = repeated.get(tensor, tensor)
    if first in expected:
      _check_tensor(tensor, header, table[expected[first][0]].file_shape, headers)
    elif (
      not tensor.startswith(unread)
      and not tensor.endswith('.rotary_emb.inv_freq')
      and not _is_scale(tensor, headers)
    ):
      raise ValueError(f'{header.path}: unexpected tensor {tensor}')


def _unread(headers: dict[str, Header], cfg: ModelConfig) -> tuple[str, ...]:
  """How names begin of tensors that are left in the file: of the MTP module, if nobody wants it.

  Only where it is one: a layer of the model that config.json does not count has another content.
  """
  layer = f'model.layers.{cfg.layers}.'
  is_one = cfg.family == 'deepseek_v3' and not cfg.mtp and f'{layer}eh_proj.weight' in headers
  return (layer,) if is_one else ()


def _check_tensor(tensor: str, header: Header, shape: tuple[int, ...], headers: dict) -> None:
  if header.shape != shape:
    raise ValueError(f'{header.path}: tensor {tensor} has shape {header.shape}, expected {shape}')
  if header.dtype not in (*DTYPES, FP8):
    known = ', '.join((*DTYPES, FP8))
    raise ValueError(f'{header.path}: tensor {tensor} is {header.dtype}; known: {known}')
  if header.dtype != FP8:
    return
  scale, blocks = headers.get(tensor + SCALE), tuple(-(-n // BLOCK) for n in shape)
  if scale is None:
    raise ValueError(f'{header.path}: tensor {tensor} is {FP8}, but {tensor}{SCALE} is missing')
  if scale.shape != blocks or scale.dtype not in DTYPES:
    raise ValueError(
      f'{scale.path}: tensor {tensor}{SCALE} is {scale.dtype} of shape {scale.shape}, expected F32 of {blocks}'
    )


def _is_scale(tensor: str, headers: dict) -> bool:
  weight = headers.get(tensor.removesuffix(SCALE))
  return tensor.endswith(SCALE) and weight is not None and weight.dtype == FP8
