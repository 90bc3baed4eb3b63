"""Checkpoints: everything a run needs to go on exactly, in one folder that appears all at once.

    <directory>/00000120/state/            the arrays of the state (orbax, sharded)
                         leaves.json       their names, shapes and dtypes
                         host.<p>.json     what process p keeps on the host: data position, cursor
                         host.<p>.npz      its numpy arrays: the rollout buffer
                         manifest.<p>      size and checksum of process p's share of the files above

A save is written to `tmp.<step>`, made durable, and renamed last. A folder whose files do not agree
with its manifests is never chosen. On several hosts the directory must be shared by all of them.
"""

import contextlib
import json
import logging as standard_logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from r1jax import host_values
from r1jax.manifest import flaw_of, sync, write_manifest


class CheckpointError(RuntimeError):
  """A checkpoint that cannot be written, or is not what was asked for; names the folder."""


class Checkpointer:
  """Saves and restores (state, host) by step number, and keeps the last `keep` steps.

  state: any pytree of arrays; typed PRNG keys are stored as their data. host: a dict of JSON values
  and numpy arrays, nested at will (bytes too; tuples come back as lists). All processes call all
  methods together; each has a `host` of its own.
  """

  def __init__(self, directory: str | os.PathLike, keep: int = 2):
    if keep < 1:
      raise ValueError(f'keep={keep} is not possible; valid: at least 1')
    self.directory = Path(directory).absolute()
    self.keep = keep
    self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    self._flawed: set[int] = set()  # steps that were found torn or corrupt
    self._verified: int | None = None

  def save(self, step: int, state: Any, host: dict) -> None:
    """Writes one checkpoint, replaces one of the same step, and drops later steps and old ones.

    Later steps belong to a run that was given up by restoring an earlier one. Raises
    CheckpointError (disk full, no permission); the earlier checkpoints are then as they were.
    """
    packed = host_values.pack(host)
    temporary = self.directory / f'tmp.{step}'
    try:
      with jax.transfer_guard('allow'):
        self._write(temporary, named_leaves(state), packed)
      _barrier('written')
      if _is_main():
        self._publish(temporary, step)
      _barrier('published')
    except Exception as error:  # orbax and tensorstore raise errors of many kinds
      if _is_main():
        shutil.rmtree(temporary, ignore_errors=True)
      earlier = max((s for s in self.steps() if s not in self._flawed), default=None)
      stays = 'there is no earlier one' if earlier is None else f'step {earlier} is as it was'
      message = f'cannot write the checkpoint {self._folder(step)}: {error} ({stays})'
      raise CheckpointError(message) from error

  def steps(self) -> list[int]:
    """Steps that have a finished folder, ascending; whether it is intact is for `latest` to say."""
    if not self.directory.is_dir():
      return []
    return sorted(int(p.name) for p in self.directory.iterdir() if re.fullmatch(r'\d+', p.name))

  def latest(self, before: int | None = None) -> int | None:
    """The newest intact checkpoint below step `before`, every byte checked; warns of flawed ones."""
    if _is_main():
      self._recover()
    _barrier('recovered')
    for unfinished in sorted(self.directory.glob('tmp.*')):
      logging.warning('checkpoint %s is ignored: it was never finished', unfinished)
    for step in reversed([s for s in self.steps() if before is None or s < before]):
      flaw = flaw_of(self._folder(step))
      if not on_any_process(flaw is not None):
        self._verified = step
        return step
      self._flawed.add(step)
      reason = flaw or 'another process found a flaw in it'
      logging.warning('checkpoint %s is ignored: %s', self._folder(step), reason)
    return None

  def restore(self, step: int, abstract_state: Any, partial: bool = False) -> tuple[Any, dict]:
    """step, tree of jax.ShapeDtypeStruct -> (state in their shardings, host), bit for bit.

    A leaf without a sharding goes to the first device. With `partial` the abstract state may lack
    leaves of the checkpoint, e.g. `{'policy': ...}` of a whole state. Raises CheckpointError when
    the checkpoint is not intact, or a leaf is missing, left over or of another shape or dtype.
    """
    folder = self._folder(step)
    flaw = None if step == self._verified else flaw_of(folder)
    if flaw:
      raise CheckpointError(f'cannot restore {folder}: {flaw} (steps here: {self.steps()})')
    saved = json.loads((folder / 'leaves.json').read_text())
    wanted = named_leaves(abstract_state)
    _check_leaves(folder, saved, wanted, partial)
    with jax.transfer_guard('allow'):
      arrays = self._read_arrays(folder, wanted)
      leaves = [_unstore(arrays.get(n), leaf, saved[n][2]) for n, leaf in wanted.items()]
    state = jax.tree.unflatten(jax.tree.structure(abstract_state), leaves)
    return state, self._read_host(folder)

  def _folder(self, step: int) -> Path:
    return self.directory / f'{step:08d}'

  def _write(self, folder: Path, leaves: dict, packed: host_values.Packed) -> None:
    """Everything of one checkpoint into `folder`, durable when this returns; manifests last."""
    if _is_main():
      self._recover()
      for old in [*self.directory.glob('tmp.*'), *self.directory.glob('discarded.*')]:
        shutil.rmtree(old)
      folder.mkdir(parents=True)
      (folder / 'leaves.json').write_text(json.dumps({n: _describe(x) for n, x in leaves.items()}))
    _barrier('folder')
    stored = {name: _data(x) for name, x in leaves.items() if x.size}
    with _errors_told_once():
      self._orbax.save(folder / 'state', args=ocp.args.PyTreeSave(stored))
    packed.write(folder / f'host.{jax.process_index()}')
    _barrier('files')
    write_manifest(folder)

  def _publish(self, temporary: Path, step: int) -> None:
    """Gives the finished folder its name, then removes what it makes superfluous."""
    final = self._folder(step)
    if final.exists():
      os.rename(final, self.directory / f'replaced.{step}')
    os.rename(temporary, final)
    sync(self.directory)
    self._flawed.discard(step)
    self._verified = None
    self._recover()
    valid = [s for s in self.steps() if s <= step and s not in self._flawed]
    for old in set(self.steps()) - set(valid[-self.keep :]):
      self._discard(self._folder(old))

  def _recover(self) -> None:
    """A save of a step that existed was cut between two renames: put the old one back."""
    for replaced in self.directory.glob('replaced.*'):
      final = self._folder(int(replaced.suffix[1:]))
      if final.exists():
        self._discard(replaced)
      else:
        os.rename(replaced, final)

  def _discard(self, folder: Path) -> None:
    """Removes a folder so that at no moment half of it is seen under its name."""
    gone = self.directory / f'discarded.{folder.name}'
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)

  def _read_host(self, folder: Path) -> dict:
    """folder -> this process's host dict."""
    path = folder / f'host.{jax.process_index()}'
    if not path.with_name(f'{path.name}.json').is_file():
      message = (
        f'{path}.json is missing: the checkpoint was saved by fewer than {jax.process_count()}'
      )
      raise CheckpointError(f'{message} processes; start as many as then')
    return host_values.read(path)

  def _read_arrays(self, folder: Path, wanted: dict) -> dict[str, jax.Array]:
    """name -> array in its sharding, for the leaves that hold anything."""
    abstract = {name: _abstract_data(leaf) for name, leaf in wanted.items() if np.prod(leaf.shape)}
    if not abstract:
      return {}
    how = ocp.checkpoint_utils.construct_restore_args(abstract)
    args = ocp.args.PyTreeRestore(item=abstract, restore_args=how, partial_restore=True)
    return self._orbax.restore(folder / 'state', args=args)


@contextlib.contextmanager
def _errors_told_once() -> Iterator[None]:
  """Orbax's threads each log the traceback of an error that it also raises; writes that were under way then fail too
  or find its event loop closed, which is told at some time after that.
  """
  logger, before = logging.get_absl_logger(), sys.unraisablehook
  later = standard_logging.getLogger('asyncio')

  def is_told(record) -> bool:
    return record.levelno < logging.converter.STANDARD_ERROR or 'orbax' not in record.pathname

  def tell(unraisable) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      before(unraisable)

  logger.addFilter(is_told)
  later.addFilter(_is_not_of_orbax)
  sys.unraisablehook = tell
  try:
    yield
    sys.unraisablehook = before
    later.removeFilter(_is_not_of_orbax)
  finally:
    logger.removeFilter(is_told)


def _is_not_of_orbax(record: standard_logging.LogRecord) -> bool:
  """Whether a logged error was raised elsewhere."""
  frames = traceback.extract_tb(record.exc_info[2]) if record.exc_info else ()
  return not any('orbax' in frame.filename for frame in frames)


def named_leaves(tree: Any) -> dict[str, Any]:
  """tree -> {'policy.embed': leaf}. TypeError for a leaf that is no array, ValueError for twins."""
  leaves = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise TypeError(f'state leaf {name} is {type(leaf).__name__} {leaf!r}, not an array')
    if name in leaves:
      raise ValueError(f'two leaves of the state are called {name}')
    leaves[name] = leaf
  return leaves


def _check_leaves(folder: Path, saved: dict, wanted: dict, partial: bool) -> None:
  """CheckpointError naming the first leaf in which the checkpoint and the wanted state differ."""
  for name, leaf in wanted.items():
    if name not in saved:
      raise CheckpointError(f'{folder} has no {name}; it was saved from another state')
    (shape, dtype, _), here = saved[name], (tuple(leaf.shape), str(leaf.dtype))
    if (tuple(shape), dtype) != here:
      there = f'{dtype}{shape}'
      message = f'{folder} holds {name} as {there}, the config asks for {here[1]}{list(here[0])}'
      raise CheckpointError(message)
  left_over = [name for name in saved if name not in wanted]
  if left_over and not partial:
    raise CheckpointError(f'{folder} holds {left_over[0]}, which the state of this config lacks')


def _is_key(x) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _describe(x) -> list:
  """leaf -> [shape, dtype, the key's implementation or None]."""
  return [list(x.shape), str(x.dtype), str(jax.random.key_impl(x)) if _is_key(x) else None]


def _data(x):
  """leaf -> plain array to be stored."""
  return jax.random.key_data(x) if _is_key(x) else x


def _sharding(leaf):
  return getattr(leaf, 'sharding', None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _abstract_data(leaf) -> jax.ShapeDtypeStruct:
  """abstract leaf -> what is stored for it, with a sharding."""
  stored = jax.eval_shape(_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
  return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=_sharding(leaf))


def _unstore(array, leaf, key_impl: str | None) -> jax.Array:
  """stored array (None: the leaf has no elements) -> leaf in its sharding."""
  if array is None:
    return jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), _sharding(leaf))
  if key_impl is None:
    return array
  return jax.device_put(jax.random.wrap_key_data(array, impl=key_impl), _sharding(leaf))


def _is_main() -> bool:
  return jax.process_index() == 0


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f'checkpoint.{name}')


def on_any_process(flag: bool) -> bool:
  """Whether the flag is set on any of the processes, which all ask together."""
  if jax.process_count() == 1:
    return flag
  with jax.transfer_guard('allow'):
    return bool(multihost_utils.process_allgather(np.array(flag)).any())
