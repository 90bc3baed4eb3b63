"""Tensors of a checkpoint are prepared while others are read or written; how far that is; memory given back."""

import collections
import contextlib
import ctypes
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
from tqdm import tqdm


def one_ahead(make: Callable, items: Iterable) -> Iterator:
  """make(item) of every item in order, in a thread that is one item ahead of the caller."""
  with ThreadPoolExecutor(1) as thread:
    made = collections.deque()
    for item in items:
      made.append(thread.submit(make, item))
      if len(made) > 1:
        yield made.popleft().result()
    while made:
      yield made.popleft().result()


def give_back() -> None:
  """Freed memory -> the system; glibc would keep much of what pieces and compilations leave behind."""
  with contextlib.suppress(OSError, AttributeError):  # no glibc
    ctypes.CDLL('libc.so.6').malloc_trim(0)


def progress(what: str, directory, params) -> tqdm:
  """A bar over the bytes of all arrays, on terminals alone."""
  size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(params))
  return tqdm(total=size, unit='B', unit_scale=True, desc=f'{what} {directory}', disable=None)
