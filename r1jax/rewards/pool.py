"""Runs checks in processes of their own, so that none can hang, exhaust or crash the run.

A worker that is over an item's budget is killed and replaced. One that dies takes its item to a second, fresh worker,
alone; if that dies too, the item is quarantined. Works from any thread and beside JAX's: workers are new programs,
not forks, and no signal handler is set.
"""

import collections
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

from r1jax.problems.problem import Problem
from r1jax.rewards.checks import CHECKS, Check
from r1jax.rewards.verdict import OUTCOMES, TIMEOUT, CannotCheck, Verdict

BATCH_ITEMS = 64
BATCH_BYTES = 2**15  # less than a pipe holds, so that the two sides never wait for each other
MIN_MEMORY = 2**28  # with less, Python and numpy may not start
GATHER_SECONDS = 0.0005  # in which answers gather: waking up costs more than a cheap check
DYING_SECONDS = 1.0  # between the last word of a process and its end
START_SECONDS = 60.0  # for a worker to start, or to import what a kind needs; not part of a budget


@dataclasses.dataclass(eq=False)
class _Item:
  line: bytes  # what the worker gets
  kind: str
  problem: int  # its id
  budget: float  # seconds
  future: Future
  deaths: int = 0  # of workers that had it


class _Died(Exception):
  """The worker is gone."""


class _Late(Exception):
  """The worker did not answer in time."""


class _Worker:
  """A process, and what it has said. Used by one thread, on whose end Linux kills the process."""

  def __init__(self, memory: int):
    root = str(pathlib.Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH'))))
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'r1jax.rewards.worker', str(os.getpid()), str(memory)],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
      env=os.environ | {'PYTHONPATH': path, 'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    self.said, self.loaded, self.since = b'', set(), 0.0

  def send(self, lines: bytes) -> None:
    """BrokenPipeError is left for receive() to find: what was answered before still counts."""
    with contextlib.suppress(BrokenPipeError):
      while lines:
        lines = lines[self.process.stdin.write(lines) :]

  def receive(self, kind: str, budget: float) -> dict:
    """The answer to the next item, of this kind. Raises _Died or _Late."""
    while kind not in self.loaded:
      self.loaded.add(self._line(START_SECONDS)['loaded'])
    return self._line(budget)

  def _line(self, seconds: float) -> dict:
    self.since = time.monotonic()
    while b'\n' not in self.said:
      poll = select.poll()  # select() cannot watch files numbered above 1023
      poll.register(self.process.stdout, select.POLLIN)
      if not poll.poll(max(self.since + seconds - time.monotonic(), 0) * 1000):
        raise _Late
      time.sleep(GATHER_SECONDS)
      chunk = os.read(self.process.stdout.fileno(), 2**16)
      if not chunk:
        raise _Died
      self.said += chunk
    line, _, self.said = self.said.partition(b'\n')
    return json.loads(line)

  def signal(self) -> None:
    """Kills it and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)

  def end(self, dying: bool) -> int:
    """Kills it -> its exit status, -n for signal n: its own where it is dying by itself."""
    if dying:
      with contextlib.suppress(subprocess.TimeoutExpired):
        self.process.wait(DYING_SECONDS)
    self.signal()
    self.process.stdin.close()
    self.process.stdout.close()
    return self.process.wait()


class Pool:
  """`workers` processes that check completions; they start with the first item.

  budgets: kind -> seconds, instead of those in `checks`. memory: bytes of address space of a worker, 0 = no limit.
  A check that cannot be done here raises CannotCheck in the future of its item, and so in check().
  errors: checks that raised, which is a bug of the check. quarantined: (problem id, reason) of each item that killed
  two workers.
  """

  def __init__(
    self,
    workers: int,
    budgets: dict[str, float] | None = None,
    memory: int = 2**32,
    checks: dict[str, Check] = CHECKS,
  ):
    if workers < 1:
      raise ValueError(f'workers={workers!r} is not possible; valid: an integer of at least 1')
    if 0 < memory < MIN_MEMORY:
      raise ValueError(
        f'memory={memory!r} is not possible; valid: 0, or at least {MIN_MEMORY} bytes'
      )
    self.workers, self.memory, self.checks = workers, memory, checks
    for kind in budgets or ():
      self._known(kind)
    self.budgets = budgets or {}
    self.errors, self.quarantined = 0, []
    self._counts, self._poison = collections.Counter(), {}
    self._waiting, self._change = collections.deque(), threading.Condition()
    self._threads, self._running, self._closed = [], set(), False

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def submit(self, completion: str, problem: Problem) -> 'Future[Verdict]':
    """Raises ValueError for an unknown kind, RuntimeError after close()."""
    return self._submit([(completion, problem)])[0]

  def check(self, pairs: list[tuple[str, Problem]]) -> list[Verdict]:
    """(completion, problem) pairs -> their verdicts, in the same order."""
    return [future.result() for future in self._submit(pairs)]

  def rates(self) -> dict[str, float]:
    """outcome -> its share of all verdicts so far."""
    with self._change:
      total = max(self._counts.total(), 1)
      return {outcome: self._counts[outcome] / total for outcome in OUTCOMES}

  def close(self) -> None:
    """Kills the workers; what is not done is cancelled."""
    with self._change:
      self._closed = True
      for item in self._waiting:
        item.future.cancel()
      self._waiting.clear()
      for worker in self._running:
        worker.signal()
      self._change.notify_all()
    for thread in self._threads:
      thread.join()

  def _submit(self, pairs: list[tuple[str, Problem]]) -> list[Future]:
    items = [self._item(completion, problem) for completion, problem in pairs]
    with self._change:
      if self._closed:
        raise RuntimeError('the pool is closed')
      while len(self._threads) < self.workers:
        self._threads.append(threading.Thread(target=self._serve, daemon=True))
        self._threads[-1].start()
      self._waiting.extend(items)
      self._change.notify_all()
    return [item.future for item in items]

  def _item(self, completion: str, problem: Problem) -> _Item:
    self._known(problem.kind)
    check = self.checks[problem.kind]
    budget = self.budgets.get(problem.kind) or check.budget(problem.details)
    record = {
      'completion': completion,
      'problem': vars(problem),
      'module': check.module,
      'options': check.options,
    }
    return _Item(json.dumps(record).encode() + b'\n', problem.kind, problem.id, budget, Future())

  def _known(self, kind: str) -> None:
    if kind not in self.checks:
      raise ValueError(f'kind={kind!r} is unknown; valid: one of {tuple(self.checks)}')

  def _serve(self) -> None:
    """One thread for each worker: takes items, passes them on, reads the answers."""
    worker = None
    while batch := self._take():
      worker = self._process(worker, batch)
    self._end(worker)

  def _take(self) -> list[_Item]:
    """Waits for items -> some of them, [] after close()."""
    while True:
      with self._change:
        self._change.wait_for(lambda: self._waiting or self._closed)
        if self._closed:
          return []
        batch = self._pop()
      ready = [item for item in batch if not self._known_bad(item)]
      if ready:
        return ready

  def _pop(self) -> list[_Item]:
    """The next items that fit one message; at most a worker's share, so that none idles."""
    count = min(BATCH_ITEMS, math.ceil(len(self._waiting) / self.workers))
    batch, size = [], 0
    while self._waiting and len(batch) < count:
      size += len(self._waiting[0].line)
      if batch and size > BATCH_BYTES:
        break
      batch.append(self._waiting.popleft())
    return [item for item in batch if _start(item.future)]

  def _known_bad(self, item: _Item) -> bool:
    reason = self._poison.get(item.line)
    if reason is not None:
      self._finish(item, Verdict(TIMEOUT, note=f'quarantined: {reason}'))
    return reason is not None

  def _process(self, worker: _Worker | None, batch: list[_Item]) -> _Worker | None:
    """Sees a batch through -> the worker, None where it is gone. What comes after a lost item waits again."""
    worker = worker or self._new_worker()
    worker.send(b''.join(item.line for item in batch))
    for at, item in enumerate(batch):
      try:
        answer = worker.receive(item.kind, item.budget)
      except (_Late, _Died) as problem:
        with self._change:
          self._waiting.extendleft(reversed(batch[at + 1 :]))
          self._change.notify_all()
        return self._lost(item, worker, problem)
      if 'cannot' in answer:
        item.future.set_exception(CannotCheck(answer['cannot']))
      else:
        self._finish(item, Verdict(**answer['verdict']), answer['failed'])
    return worker

  def _lost(self, item: _Item, worker: _Worker, problem: Exception) -> _Worker | None:
    """The worker is late or dead -> a fresh one if one was needed to try again, else None."""
    status = self._end(worker, isinstance(problem, _Died))
    if self._closed:
      item.future.set_exception(RuntimeError('the pool was closed'))
    elif not worker.loaded:
      reason = f'a worker did not start (exit status {status}); it says why on stderr'
      item.future.set_exception(RuntimeError(reason))
    elif isinstance(problem, _Late):
      note = f'not done in {item.budget} s'
      self._finish(item, Verdict(TIMEOUT, note=note, seconds=time.monotonic() - worker.since))
    elif item.deaths == 0:
      item.deaths = 1
      return self._process(None, [item])
    else:
      reason = f'killed two workers (exit status {status})'
      with self._change:
        self._poison[item.line] = reason
        self.quarantined.append((item.problem, reason))
      self._finish(item, Verdict(TIMEOUT, note=f'quarantined: {reason}'))
    return None

  def _finish(self, item: _Item, verdict: Verdict, failed: bool = False) -> None:
    with self._change:
      self._counts[verdict.outcome] += 1
      self.errors += failed
    item.future.set_result(verdict)

  def _new_worker(self) -> _Worker:
    worker = _Worker(self.memory)
    with self._change:
      self._running.add(worker)
      if self._closed:
        worker.signal()
    return worker

  def _end(self, worker: _Worker | None, dying: bool = False) -> int | None:
    """Off the list first: once waited for, its process id may be another's."""
    with self._change:
      self._running.discard(worker)
    return worker.end(dying) if worker else None


def _start(future: Future) -> bool:
  """False where it was cancelled. A future that waits for the second time runs already."""
  return future.running() or future.set_running_or_notify_cancel()
