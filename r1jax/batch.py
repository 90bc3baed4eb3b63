"""Sequences -> packed rows. Sequences of a minibatch are laid end to end in rows of one fixed length.

A batch is [M, B, T]: M micro-batches of B rows of T tokens, of which the first `live` hold something. M is
what the worst case needs, so that every step has the same shape, and the device skips the empty rest.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from flax import struct

MOST = 16  # sequences that may share a row
ROW_BLOCK = 8  # lengths of rows are rounded up to this


@dataclasses.dataclass(frozen=True)
class BatchShape:
  """micro_batches [M] of `rows` [B] rows of `row` [T] tokens."""

  micro_batches: int
  rows: int
  row: int


def batch_shape(sequences: int, longest: int, micro_batch: int, ways: int = 1) -> BatchShape:
  """Sequences of a step, the longest in tokens, tokens of a micro-batch, shards of its rows -> shape."""
  row = -(-longest // ROW_BLOCK) * ROW_BLOCK
  rows = max(min(micro_batch // row // ways, -(-sequences // ways)), 1) * ways
  return BatchShape(-(-sequences // rows), rows, row)


@dataclasses.dataclass
class Example:
  """One training sequence on the host: tokens [N + 1], and of its N targets: mask (1 is learned), logprob under
  the policy that drew it, as the sampler computed it.
  """

  tokens: np.ndarray
  mask: np.ndarray
  logprob: np.ndarray


@struct.dataclass
class Batch:
  """Packed rows; every array is [M, B, T] (or [B, T] inside of a micro-batch).

  tokens, targets: a token and the one after it. positions count from 0 in each sequence. segments: 0 for
  padding, 1, 2, ... for the sequences of a row. mask: 1.0 where the target is learned (a completion's tokens,
  EOS included). length: learned tokens of the sequence. advantage: of the token. old_logprob: of the target
  under the policy that drew it; sampler_logprob: as the sampler computed it; reference_logprob: under the
  reference policy.
  """

  tokens: np.ndarray
  targets: np.ndarray
  positions: np.ndarray
  segments: np.ndarray
  mask: np.ndarray
  length: np.ndarray
  advantage: np.ndarray
  old_logprob: np.ndarray
  sampler_logprob: np.ndarray
  reference_logprob: np.ndarray
  live: np.ndarray  # [] micro-batches that hold something
  sequences: np.ndarray  # [] sequences with a learned token
  learned: np.ndarray  # [] learned tokens

  def arrays(self) -> dict[str, np.ndarray]:
    """Name -> array, of the live micro-batches only: for files."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {n: x[: int(self.live)] if np.ndim(x) else x for n, x in fields.items()}

  @classmethod
  def from_arrays(cls, arrays: dict[str, np.ndarray], shape: BatchShape) -> 'Batch':
    """The inverse of `arrays`: empty micro-batches are put back."""
    return cls(**{n: _pad(x, shape.micro_batches) if np.ndim(x) else x for n, x in arrays.items()})

  def micro_batch(self, index) -> 'Batch':
    """The arrays of one micro-batch; the counts of the whole batch stay."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return Batch(**{n: x[index] if x.ndim else x for n, x in fields.items()})


def _pad(x: np.ndarray, micro_batches: int) -> np.ndarray:
  return np.pad(x, [(0, micro_batches - len(x))] + [(0, 0)] * (x.ndim - 1))


@dataclasses.dataclass
class Places:
  """Where each sequence lies in a batch: row of [M * B], first column, targets."""

  row: np.ndarray
  start: np.ndarray
  size: np.ndarray

  def spans(self):
    """-> (sequence, row, slice of its columns), one after another."""
    for i, (row, start, size) in enumerate(zip(self.row, self.start, self.size, strict=True)):
      yield i, row, slice(start, start + size)


def pack(examples: Sequence[Example], shape: BatchShape) -> tuple[Batch, Places]:
  """Examples -> (Batch with advantages of zero, where each lies). Examples without a learned token count for
  nothing in the denominators. Raises ValueError when they do not fit.
  """
  rows = rows_of([len(e.mask) for e in examples], shape.row, MOST)
  total = shape.micro_batches * shape.rows
  if len(rows) > total:
    raise ValueError(f'{len(rows)} rows of {shape.row} tokens; the batch has {total}')
  places = Places(*(np.zeros(len(examples), np.int64) for _ in range(3)))
  ints = {
    n: np.zeros((total, shape.row), np.int32)
    for n in ('tokens', 'targets', 'positions', 'segments')
  }
  floats = ('mask', 'length', 'advantage', 'old_logprob', 'sampler_logprob', 'reference_logprob')
  arrays = ints | {n: np.zeros((total, shape.row), np.float32) for n in floats}
  for row, members in enumerate(rows):
    start = 0
    for segment, i in enumerate(members, 1):
      size = len(examples[i].mask)
      places.row[i], places.start[i], places.size[i] = row, start, size
      _lay(arrays, row, slice(start, start + size), examples[i], segment)
      start += size
  shaped = {n: x.reshape(shape.micro_batches, shape.rows, shape.row) for n, x in arrays.items()}
  learned = [int(e.mask.sum()) for e in examples]
  counts = {'live': -(-len(rows) // shape.rows), 'sequences': np.count_nonzero(learned)}
  counts = {n: np.int32(x) for n, x in (counts | {'learned': sum(learned)}).items()}
  return Batch(**shaped, **counts), places


def _lay(
  arrays: dict[str, np.ndarray], row: int, span: slice, example: Example, segment: int
) -> None:
  """Write one sequence into its columns."""
  values = {
    'tokens': example.tokens[:-1],
    'targets': example.tokens[1:],
    'positions': np.arange(len(example.mask)),
    'segments': segment,
    'mask': example.mask,
    'length': example.mask.sum(),
    'old_logprob': example.logprob,
    'sampler_logprob': example.logprob,
  }
  for name, value in values.items():
    arrays[name][row, span] = value


def unpack(x: np.ndarray, places: Places) -> list[np.ndarray]:
  """[M, B, T] -> per sequence its targets' values."""
  rows = x.reshape(-1, x.shape[-1])
  return [rows[row, span] for _, row, span in places.spans()]


def spread(values: Sequence[np.ndarray | float], places: Places, like: np.ndarray) -> np.ndarray:
  """Per sequence a value or one a target -> [M, B, T], zero elsewhere: the inverse of `unpack`."""
  rows = np.zeros((like.size // like.shape[-1], like.shape[-1]), np.float32)
  for i, row, span in places.spans():
    rows[row, span] = values[i]
  return rows.reshape(like.shape)


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
