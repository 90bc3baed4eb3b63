"""Rollouts -> packed rows. Sequences of a minibatch are laid end to end in rows of one fixed length.

A batch is [M, B, T]: M micro-batches of B rows of T tokens, of which the first `live` hold something. M is
what the worst case needs, so that every step has the same shape and the device skips the empty rest.
"""

from collections.abc import Sequence

import jax
import numpy as np
from flax import struct


@struct.dataclass
class Batch:
  """Packed rows; every array is [M, B, T] (or [B, T] inside of a micro-batch).

  tokens, targets: a token and the one after it. positions count from 0 in each sequence. segments: 0 for
  padding, 1, 2, ... for the sequences of a row. mask: 1.0 where the target is to be learned (a completion's
  tokens, EOS included). length: learned tokens of the sequence. advantage: of the sequence. old_logprob: of the
  target under the policy that drew it; sampler_logprob: as the sampler computed it.
  """

  tokens: jax.Array
  targets: jax.Array
  positions: jax.Array
  segments: jax.Array
  mask: jax.Array
  length: jax.Array
  advantage: jax.Array
  old_logprob: jax.Array
  sampler_logprob: jax.Array
  live: jax.Array  # [] micro-batches that hold something
  sequences: jax.Array  # [] sequences with a learned token
  learned: jax.Array  # [] learned tokens


class Sequence_(struct.PyTreeNode):
  """One training sequence on the host: tokens [N + 1], and per target [N]: mask, advantage, logprob."""

  tokens: np.ndarray
  mask: np.ndarray
  advantage: np.ndarray
  logprob: np.ndarray


def rows_of(lengths: Sequence[int], row: int, most: int) -> list[list[int]]:
  """Lengths of sequences -> which of them share a row of `row` tokens, `most` at most: best fit, longest first.

  Raises ValueError if one is longer than a row.
  """
  order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
  rows: list[list[int]] = []
  by_space: dict[int, list[int]] = {}  # free tokens -> rows, oldest last
  for i in order:
    if lengths[i] > row:
      raise ValueError(f'a sequence of {lengths[i]} tokens does not fit into a row of {row}')
    space = next((s for s in range(lengths[i], row + 1) if by_space.get(s)), None)
    if space is None:
      rows.append([i])
      number, space = len(rows) - 1, row
    else:
      number = by_space[space].pop()
      rows[number].append(i)
    if len(rows[number]) < most:
      by_space.setdefault(space - lengths[i], []).append(number)
  return rows
