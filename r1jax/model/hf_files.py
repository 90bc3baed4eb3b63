"""The safetensors files of a checkpoint: what their headers say, whether it is the model, and parts of tensors.

Files are mapped into memory one piece at a time, so that reading takes the memory of what is read. Weights in FP8
(e4m3 with a scale for every block of 128 x 128; DeepSeek-V3, 3.3.2) are read as float32.
"""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from r1jax.model.hf_names import MTP_COPIES, Block, leaves, tensors
from r1jax.model.sizes import ModelConfig

INDEX = 'model.safetensors.index.json'
DTYPES = {
  'F64': np.dtype('float64'),
  'F32': np.dtype('float32'),
  'F16': np.dtype('float16'),
  'BF16': jnp.dtype('bfloat16'),
}
FP8 = 'F8_E4M3'
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
  """Tensor name -> Header, of a whole directory."""

  headers: dict[str, Header]

  def read(self, tensor: str, block: Block) -> np.ndarray:
    """Tensor name, block of it -> its values, a view of the file unless they are quantised."""
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


def _mapped(header: Header, dtype: np.dtype) -> np.ndarray:
  return np.asarray(
    np.memmap(header.path, dtype, mode='r', offset=header.offset, shape=header.shape)
  )


def open_files(directory: pathlib.Path) -> Files:
  """Reads every header. FileNotFoundError, PermissionError and ValueError name the file."""
  headers: dict[str, Header] = {}
  for path in _paths(directory):
    for name, header in _headers(path).items():
      if name in headers:
        raise ValueError(f'{path}: tensor {name} is also in {headers[name].path.name}')
      headers[name] = header
  return Files(headers)


def _paths(directory: pathlib.Path) -> list[pathlib.Path]:
  """The files that the index names, or all of them where there is no index."""
  index = directory / INDEX
  if not index.exists():
    found = sorted(directory.glob('*.safetensors'))
    pickled = next(iter(sorted(directory.glob('*.bin'))), None)
    if not found and pickled:
      raise FileNotFoundError(
        f'{directory}: no safetensors file; {pickled.name} is a pickle and is never opened: convert it to safetensors'
      )
    if not found:
      raise FileNotFoundError(f'{directory}: no safetensors file')
    return found
  where = read_json(index).get('weight_map')
  if not isinstance(where, dict):
    raise ValueError(f'{index}: no weight_map in it')
  paths = [directory / name for name in sorted(set(where.values()))]
  for path in paths:
    if not path.exists():
      raise FileNotFoundError(f'{path}: missing, although {index.name} names it')
  return paths


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
  table, expected = leaves(cfg), tensors(cfg)
  if missing := [t for t in expected if t not in headers and not _is_copy(t, cfg)]:
    directory = next(iter(headers.values())).path.parent if headers else 'the checkpoint'
    raise ValueError(
      f'{directory}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are)'
    )
  for tensor, header in headers.items():
    if tensor in expected:
      _check_tensor(tensor, header, table[expected[tensor][0]].file_shape, headers)
    elif not _may_be_left(tensor, cfg) and not _is_scale(tensor, headers):
      raise ValueError(f'{header.path}: unexpected tensor {tensor}')


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
