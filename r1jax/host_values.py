"""JSON values and numpy arrays, nested at will <-> two files: what a checkpoint keeps of the host."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Packed:
  """text: JSON in which {'$array': i} stands for arrays[i]."""

  text: str
  arrays: list[np.ndarray]

  def write(self, path: Path) -> None:
    """Writes <path>.json and <path>.npz."""
    path.with_name(f'{path.name}.json').write_text(self.text)
    arrays = {str(i): array for i, array in enumerate(self.arrays)}
    np.savez(path.with_name(f'{path.name}.npz'), **arrays)


def pack(value: Any) -> Packed:
  """A dict of JSON values, bytes and arrays -> Packed; tuples become lists. TypeError names what else is there."""
  arrays: list[np.ndarray] = []
  return Packed(json.dumps(_pack(value, arrays, 'host')), arrays)


def read(path: Path) -> dict:
  """The inverse of `pack` and `write`."""
  with np.load(path.with_name(f'{path.name}.npz')) as arrays:
    return _unpack(json.loads(path.with_name(f'{path.name}.json').read_text()), arrays)


def _pack(value: Any, arrays: list[np.ndarray], path: str) -> Any:
  """host value -> JSON value; numpy arrays go to the end of `arrays`, their number stays."""
  if isinstance(value, dict):
    for key in value:
      if not isinstance(key, str) or key.startswith('$'):
        raise TypeError(f'{path} has the key {key!r}; valid: strings that do not begin with $')
    return {key: _pack(v, arrays, f'{path}.{key}') for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [_pack(v, arrays, f'{path}[{i}]') for i, v in enumerate(value)]
  if isinstance(value, bytes):
    return {'$bytes': value.hex()}
  if isinstance(value, np.ndarray | np.generic):
    return _pack_array(np.asarray(value), arrays, path)
  if value is None or isinstance(value, bool | int | float | str):
    return value
  kind = type(value).__name__
  raise TypeError(f'{path} is a {kind}; valid: JSON values, bytes and numpy arrays')


def _pack_array(array: np.ndarray, arrays: list[np.ndarray], path: str) -> dict:
  if array.dtype.hasobject or array.dtype.names:
    raise TypeError(f'{path} is an array of {array.dtype}; valid: numbers and text')
  packed = {'$array': len(arrays)}
  if array.dtype.kind == 'V':  # bfloat16 and its like, which npz would forget
    packed['dtype'] = array.dtype.name
    array = array.view(f'u{array.dtype.itemsize}')
  arrays.append(array)
  return packed


def _unpack(value: Any, arrays) -> Any:
  """The inverse of `_pack`."""
  if isinstance(value, list):
    return [_unpack(v, arrays) for v in value]
  if not isinstance(value, dict):
    return value
  if '$bytes' in value:
    return bytes.fromhex(value['$bytes'])
  if '$array' in value:
    array = arrays[str(value['$array'])]
    return array.view(jnp.dtype(value['dtype'])) if 'dtype' in value else array
  return {key: _unpack(v, arrays) for key, v in value.items()}
