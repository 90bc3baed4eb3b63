"""The endless stream of problems (grain): reshuffled each epoch, dealt to hosts, resumable."""

import hashlib
from collections.abc import Sequence

import grain

from r1jax.problems import mixture
from r1jax.problems.problem import Problem

# Endless in practice; grain's own endless stream is too long for it to count single problems.
_EPOCHS = 2**31


class ProblemIterator:
  """`next()` -> this host's next P problems. The state is small and goes into the checkpoint.

  batches: of places in `source`.
  """

  def __init__(self, source: Sequence[Problem], batches: grain.MapDataset, fingerprint: str):
    self.source = source
    # The data is in memory: no worker, no thread, nothing read ahead that the state would miss.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    self._iterator = iter(batches.to_iter_dataset(options))
    self._fingerprint = fingerprint

  def __iter__(self) -> 'ProblemIterator':
    return self

  def __next__(self) -> list[Problem]:
    return [self.source[place] for place in self.next_places()]

  def next(self) -> list[Problem]:
    return next(self)

  def next_places(self) -> list[int]:
    """The next P problems, as places in the source: what hosts tell each other."""
    return next(self._iterator)

  def get_state(self) -> dict:
    """The position, fit for JSON: the same on every host after the same number of batches."""
    return {'grain': self._iterator.get_state(), 'fingerprint': self._fingerprint}

  def set_state(self, state: dict) -> None:
    """Continues exactly where `get_state` was called. ValueError where the stream is another."""
    if state['fingerprint'] != self._fingerprint:
      raise ValueError(
        'the saved position belongs to other problems, another seed or another number of prompts '
        'per step; restore the old config or start in a new workdir'
      )
    self._iterator.set_state(state['grain'])


def problem_iterator(
  source: Sequence[Problem], seed: int, prompts: int, host_index: int = 0, host_count: int = 1,
  weights: Sequence[float] = (),
) -> ProblemIterator:  # fmt: skip
  """problems -> batches of `prompts` problems for one host, without end.

  Each epoch is one shuffle of the source, and epochs follow without a gap, so a batch may end one
  and begin the next (or hold several, when the source is smaller). Hosts deal the batches of ONE
  stream in turn: side by side in host order they are the batch of a single host with `prompts *
  host_count`, so the layout does not change the data, and no problem is seen twice in an epoch.

  weights: of the sources of a mixture (see mixture.load). They are then drawn from in turn, in these proportions, each
  with epochs of its own.
  """
  if not source:
    raise ValueError('there are no problems to iterate over')
  if prompts < 1:
    raise ValueError(f'prompts={prompts} is not possible; valid: at least 1')
  if not 0 <= host_index < host_count:
    raise ValueError(f'host_index={host_index} is not possible; valid: 0 to {host_count - 1}')
  batches = _stream(source, seed, weights).batch(prompts, batch_fn=list)[host_index::host_count]
  fingerprint = _fingerprint(source, seed, prompts * host_count, weights)
  return ProblemIterator(source, batches, fingerprint)


def _stream(source: Sequence[Problem], seed: int, weights: Sequence[float]) -> grain.MapDataset:
  places = range(len(source))
  parts = mixture.by_source(source, len(weights)) if weights else [places]
  streams = [
    grain.MapDataset.source(part).seed((seed + index) % 2**32).shuffle().repeat(_EPOCHS)
    for index, part in enumerate(parts)
  ]
  return grain.MapDataset.mix(streams, weights) if len(streams) > 1 else streams[0]


def _fingerprint(
  source: Sequence[Problem], seed: int, prompts: int, weights: Sequence[float]
) -> str:
  digest = hashlib.sha256(f'{seed} {prompts}{list(weights) or ""}'.encode())
  for problem in source:
    digest.update(repr(problem).encode())
  return digest.hexdigest()[:16]
