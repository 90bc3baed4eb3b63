"""What reading and writing a checkpoint share: transposition, a thread that works ahead, progress, freed memory."""

import collections
import contextlib
import ctypes
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from tqdm import tqdm

PIECE = 2**20  # elements that are transposed at once: they stay in the caches


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


def contiguous(x: np.ndarray) -> np.ndarray:
  """As np.ascontiguousarray, through JAX, which transposes several times as fast, where it has a CPU."""
  if x.flags.c_contiguous:
    return x
  try:
    return np.asarray(jax.device_put(x, jax.local_devices(backend='cpu')[0]))
  except RuntimeError:  # JAX_PLATFORMS may leave the CPU out
    return np.ascontiguousarray(x)


def give_back() -> None:
  """Freed memory -> the system; glibc would keep much of what pieces and compilations leave behind."""
  with contextlib.suppress(OSError, AttributeError):  # no glibc
    ctypes.CDLL('libc.so.6').malloc_trim(0)


def progress(what: str, directory, params) -> tqdm:
  """A bar over the bytes of all arrays, on terminals alone."""
  size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(params))
  return tqdm(total=size, unit='B', unit_scale=True, desc=f'{what} {directory}', disable=None)
