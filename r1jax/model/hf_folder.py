"""Folders that appear whole or not at all."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from r1jax.manifest import sync


def check_free(directory) -> None:
  """Raises FileExistsError if something is there already that would be overwritten, or that cannot be replaced."""
  directory = pathlib.Path(directory).resolve()
  if directory.is_mount():
    raise FileExistsError(f'{directory} is a mount point; valid: a new directory in it')
  if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
    raise FileExistsError(f'{directory} exists and is not empty; valid: a new directory')


@contextlib.contextmanager
def whole(directory) -> Iterator[pathlib.Path]:
  """Directory -> a folder beside it to write to, which gets its name at the end and is removed after an error.

  On several hosts all of them enter, and the first one makes and names it. What a killed process left is removed.
  """
  directory, main = pathlib.Path(directory).resolve(), jax.process_index() == 0
  check_free(directory)
  partial = directory.with_name(f'.{directory.name}.partial')
  try:
    if main:
      shutil.rmtree(partial, ignore_errors=True)
      partial.mkdir(parents=True)
    _barrier('begun')
    yield partial
    _barrier('written')
    if main:
      for path in [*partial.iterdir(), partial]:
        sync(path)
      partial.rename(directory)
      sync(directory.parent)
  except BaseException:
    if main:
      shutil.rmtree(partial, ignore_errors=True)
    raise
  _barrier('named')


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f'folder.{name}')
