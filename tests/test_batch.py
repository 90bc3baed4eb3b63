"""Packing: where every token lands, what is counted, and that what is laid down can be picked up again."""

import dataclasses
import itertools

import numpy as np
import pytest

from r1jax.batch import (
  MOST,
  Batch,
  BatchShape,
  Example,
  batch_shape,
  pack,
  rows_of,
  spread,
  unpack,
)


def sequences(lengths, seed=0, learned=lambda n: n // 2 + 1):
  """Sequences of so many targets, of which the last ones are learned."""
  rng, found = np.random.default_rng(seed), []
  for n in lengths:
    mask = (np.arange(n) >= n - learned(n)).astype(np.float32)
    logprob = (-rng.random(n) * mask).astype(np.float32)
    found.append(Example(rng.integers(1, 50, n + 1).astype(np.int32), mask, logprob))
  return found


def test_a_batch_by_hand():
  a = Example(np.array([5, 6, 7, 8]), np.array([0.0, 1, 1]), np.array([0, -0.5, -0.25]))
  b = Example(np.array([9, 3, 2]), np.array([0.0, 1]), np.array([0, -1.0]))
  batch, places = pack([b, a], BatchShape(2, 1, 6))
  zeros = [0.0] * 6
  for name, row in {
    'tokens': [5, 6, 7, 9, 3, 0],
    'targets': [6, 7, 8, 3, 2, 0],
    'positions': [0, 1, 2, 0, 1, 0],
    'segments': [1, 1, 1, 2, 2, 0],
    'mask': [0, 1, 1, 0, 1, 0],
    'length': [2, 2, 2, 1, 1, 0],
    'old_logprob': [0, -0.5, -0.25, 0, -1, 0],
    'sampler_logprob': [0, -0.5, -0.25, 0, -1, 0],
    'advantage': zeros,
    'reference_logprob': zeros,
  }.items():
    np.testing.assert_array_equal(getattr(batch, name), [[row], [zeros]], err_msg=name)
  assert (batch.live, batch.sequences, batch.learned) == (1, 2, 3)
  assert [*places.row] == [0, 0] and [*places.start] == [3, 0] and [*places.size] == [2, 3]


def test_denominators_count_what_is_learned():
  """A sequence of which nothing is learned is in the batch, and in no denominator."""
  examples = sequences([4, 6, 3])
  examples[1].mask[:] = 0.0
  batch, _ = pack(examples, BatchShape(1, 4, 8))
  assert batch.sequences == 2 and batch.learned == 3 + 2  # 4 // 2 + 1 and 3 // 2 + 1
  assert batch.mask.sum() == batch.learned
  assert all(getattr(batch, n).dtype == np.int32 for n in ('live', 'sequences', 'learned'))
  # `length` of a token is that of its sequence: a mean of means is a sum of mask / length.
  assert (batch.mask / np.maximum(batch.length, 1)).sum() == pytest.approx(2)
  nothing, _ = pack([dataclasses.replace(e, mask=e.mask * 0) for e in examples], BatchShape(1, 4, 8))  # fmt: skip
  assert nothing.sequences == 0 and nothing.learned == 0 and nothing.live == 1


@pytest.mark.parametrize('shape', [BatchShape(16, 1, 16), BatchShape(3, 4, 24), BatchShape(1, 9, 40)])  # fmt: skip
def test_what_is_packed_comes_back(shape):
  rng = np.random.default_rng(1)
  examples = sequences(rng.integers(1, 17, 15))
  batch, places = pack(examples, shape)
  assert batch.tokens.shape == (shape.micro_batches, shape.rows, shape.row)
  for name, wanted in {
    'tokens': [e.tokens[:-1] for e in examples],
    'targets': [e.tokens[1:] for e in examples],
    'mask': [e.mask for e in examples],
    'old_logprob': [e.logprob for e in examples],
    'positions': [np.arange(len(e.mask)) for e in examples],
  }.items():
    for found, want in zip(unpack(getattr(batch, name), places), wanted, strict=True):
      np.testing.assert_array_equal(found, want, err_msg=name)
  # Nothing lies outside of the sequences, and nothing on top of another.
  assert (batch.segments > 0).sum() == sum(len(e.mask) for e in examples)
  for name in ('tokens', 'targets', 'positions', 'mask', 'length', 'old_logprob'):
    assert not getattr(batch, name)[batch.segments == 0].any()
  # A row's sequences have numbers of their own, within what the objective can tell apart.
  for row, segments in enumerate(batch.segments.reshape(-1, shape.row)):
    assert {*segments[segments > 0]} == {*range(1, (places.row == row).sum() + 1)}
  assert batch.segments.max() <= MOST
  # Live micro-batches come first, and are as many as hold something.
  holds = (batch.segments > 0).any((1, 2))
  assert holds.sum() == batch.live and holds[: batch.live].all()


def test_spread_is_the_inverse_of_unpack():
  rng = np.random.default_rng(2)
  batch, places = pack(sequences(rng.integers(1, 17, 15)), BatchShape(3, 4, 24))
  values = [rng.random(size).astype(np.float32) for size in places.size]
  laid = spread(values, places, batch.tokens)
  assert laid.shape == batch.tokens.shape and laid.dtype == np.float32
  assert not laid[batch.segments == 0].any()
  for found, want in zip(unpack(laid, places), values, strict=True):
    np.testing.assert_array_equal(found, want)
  # One number a sequence is that number on each of its targets.
  laid = spread([float(i + 1) for i in range(15)], places, batch.tokens)
  assert [set(x) for x in unpack(laid, places)] == [{i + 1.0} for i in range(15)]


def test_arrays_are_the_live_part_and_come_back_whole():
  shape = BatchShape(5, 2, 16)
  batch, _ = pack(sequences([16, 9, 16]), shape)
  arrays = batch.arrays()
  assert batch.live == 2 and {x.shape[0] for x in arrays.values() if x.ndim} == {2}
  again = Batch.from_arrays(arrays, shape)
  for field in dataclasses.fields(Batch):
    found, want = getattr(again, field.name), getattr(batch, field.name)
    np.testing.assert_array_equal(found, want, err_msg=field.name)
    assert found.dtype == want.dtype and found.shape == want.shape


def test_a_micro_batch_keeps_the_counts_of_the_whole_batch():
  batch, _ = pack(sequences([16, 9, 16]), BatchShape(5, 2, 16))
  part = batch.micro_batch(1)
  np.testing.assert_array_equal(part.tokens, batch.tokens[1])
  assert part.learned == batch.learned and part.sequences == 3


# Rows


def test_best_fit_by_hand():
  """Longest first, each into the row that it leaves least of."""
  assert rows_of([5, 3, 2, 4], 8, MOST) == [[0, 1], [3, 2]]
  assert rows_of([3, 3, 3], 8, MOST) == [[0, 1], [2]]
  assert rows_of([8, 8], 8, MOST) == [[0], [1]]
  assert rows_of([6, 5, 2, 1], 8, MOST) == [[0, 2], [1, 3]]  # the 2 fills the 6's row to the end
  assert rows_of([], 8, MOST) == []


def test_a_row_holds_at_most_so_many_sequences():
  rows = rows_of([1] * 20, 64, MOST)
  assert [len(r) for r in rows] == [MOST, 4]
  assert [len(r) for r in rows_of([1] * 5, 64, 1)] == [1] * 5


def test_rows_hold_every_sequence_once_and_fit():
  rng = np.random.default_rng(3)
  for _ in range(50):
    row = int(rng.integers(8, 64))
    lengths = rng.integers(1, row + 1, int(rng.integers(1, 60))).tolist()
    rows = rows_of(lengths, row, MOST)
    assert sorted(i for r in rows for i in r) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in r) <= row and len(r) <= MOST for r in rows)
    assert len(rows) <= len(lengths)
    assert rows == rows_of(lengths, row, MOST)
    # A row was begun for a sequence that none of the rows before it had room for.
    for before, (first, *_) in itertools.combinations(rows, 2):
      assert sum(lengths[i] for i in before) + lengths[first] > row or len(before) == MOST


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='a sequence of 9 tokens does not fit into a row of 8'):
    pack(sequences([9]), BatchShape(4, 4, 8))
  with pytest.raises(ValueError, match='3 rows of 8 tokens; the batch has 2'):
    pack(sequences([8, 8, 8]), BatchShape(1, 2, 8))


# Shapes


@pytest.mark.parametrize(
  'sequences_, longest, micro_batch, ways, wanted',
  [
    (256, 192, 8192, 1, BatchShape(7, 42, 192)),  # 8192 // 192 = 42 rows; 256 / 42, rounded up
    (256, 191, 8192, 1, BatchShape(7, 42, 192)),  # rows are multiples of 8 long
    (256, 192, 8192, 8, BatchShape(7, 40, 192)),  # and as many as divide over the devices
    (512, 33024, 32768, 8, BatchShape(64, 8, 33024)),  # at least a row a device
    (4, 10, 100_000, 1, BatchShape(1, 4, 16)),  # no more rows than sequences
    (5, 10, 100_000, 2, BatchShape(1, 6, 16)),
  ],
)
def test_batch_shape_by_hand(sequences_, longest, micro_batch, ways, wanted):
  assert batch_shape(sequences_, longest, micro_batch, ways) == wanted


def test_the_longest_sequences_always_fit():
  """The worst case: no two of them share a row."""
  rng = np.random.default_rng(4)
  for _ in range(20):
    count, longest, ways = (int(rng.integers(1, most)) for most in (40, 50, 9))
    shape = batch_shape(count, longest, int(rng.integers(1, 400)), ways)
    batch, _ = pack(sequences([longest] * count), shape)
    assert shape.rows % ways == 0 and batch.sequences == count
