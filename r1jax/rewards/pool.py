"""Runs checks in processes of their own, so that none can hang, exhaust or crash the run.

A worker that is over an item's budget is killed and replaced. One that dies takes its item to a second, fresh worker,
alone, for what is left of its budget; if that dies too, the item is quarantined. Works from any thread and beside
JAX's: workers are new programs, not forks, and no signal handler is set.
"""

import collections
import dataclasses
import json
import math
import threading
import time
from concurrent.futures import Future

from r1jax.problems.problem import Problem
from r1jax.rewards.checks import CHECKS, Check
from r1jax.rewards.language import SCRIPTS
from r1jax.rewards.parts import parts
from r1jax.rewards.process import Died, Late, Worker
from r1jax.rewards.verdict import OUTCOMES, TIMEOUT, CannotCheck, Verdict

BATCH_ITEMS = 64
BATCH_BYTES = 2**15  # less than a pipe holds, so that the two sides never wait for each other
MIN_MEMORY = 2**28  # with less, Python and numpy may not start
NAMED = 3  # of the checks that raised, in one complaint


@dataclasses.dataclass(eq=False)
class _Item:
  completion: str
  problem: Problem
  language: str
  check: Check
  budget: float  # seconds
  future: Future
  line: bytes = b''  # what the worker gets; made when its turn comes, as many may share a problem with large tests
  deaths: int = 0  # of workers that had it
  spent: float = 0.0  # seconds that they had it for

  def serialise(self) -> bytes:
    """-> the line, made once. TypeError or ValueError for a problem that is not JSON."""
    if not self.line:
      record = {
        'completion': self.completion,
        'problem': vars(self.problem),
        'language': self.language,
        'module': self.check.module,
        'options': self.check.options,
      }
      self.line = json.dumps(record).encode() + b'\n'
    return self.line


class Pool:
  """`workers` processes that check completions; they start with the first item.

  budgets: kind -> seconds, instead of those in `checks`. memory: bytes of address space of a worker, 0 = no limit.
  A check that cannot be done here raises CannotCheck in the future of its item, and so in check(); where no worker can
  be started, it is RuntimeError. errors: checks that raised, which is a bug of the check. quarantined: (problem id,
  reason) of each item that killed two workers.
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
    self._raised, self._told = [], (0, 0)  # what complaints() names, and what it has said
    self._counts, self._poison = collections.Counter(), {}
    self._waiting, self._change = collections.deque(), threading.Condition()
    self._threads, self._running, self._closed = [], set(), False

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def submit(self, completion: str, problem: Problem, language: str = '') -> 'Future[Verdict]':
    """language: in which the thought should be, for that part of the verdict. Raises ValueError for an unknown kind
    or language, RuntimeError after close().
    """
    return self._submit([(completion, problem)], language)[0]

  def check(self, pairs: list[tuple[str, Problem]]) -> list[Verdict]:
    """(completion, problem) pairs -> their verdicts, in the same order."""
    return [future.result() for future in self._submit(pairs)]

  def rates(self) -> dict[str, float]:
    """outcome -> its share of all verdicts so far."""
    with self._change:
      total = max(self._counts.total(), 1)
      return {outcome: self._counts[outcome] / total for outcome in OUTCOMES}

  def complaints(self) -> list[str]:
    """What went wrong since this was asked before, for people: checks that raised and items in quarantine."""
    with self._change:
      errors, known = self._told
      count, raised, new = self.errors - errors, self._raised, self.quarantined[known:]
      self._told, self._raised = (self.errors, len(self.quarantined)), []
    said = [f'timeout: a completion of problem {problem} {reason}' for problem, reason in new]
    if count:
      some = '; '.join(f'problem {problem}: {note}' for problem, note in raised)
      said.insert(
        0, f'unparseable: {count} checks raised an error, which is a bug of theirs: {some}'
      )
    return said

  def close(self) -> None:
    """Kills the workers; what is not done is cancelled."""
    with self._change:
      self._closed = True
      for worker in self._running:
        worker.signal()
      self._change.notify_all()
    for thread in self._threads:
      thread.join()
    for item in self._waiting:
      if not item.future.cancel():  # it was with a worker that was lost
        item.future.set_exception(RuntimeError('the pool was closed'))
    self._waiting.clear()

  def _submit(self, pairs: list[tuple[str, Problem]], language: str = '') -> list[Future]:
    items = [self._item(completion, problem, language) for completion, problem in pairs]
    with self._change:
      if self._closed:
        raise RuntimeError('the pool is closed')
      while len(self._threads) < self.workers:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        self._threads.append(thread)
      self._waiting.extend(items)
      self._change.notify_all()
    return [item.future for item in items]

  def _item(self, completion: str, problem: Problem, language: str) -> _Item:
    self._known(problem.kind)
    if language and language not in SCRIPTS:
      raise ValueError(f'language={language!r} is unknown; valid: one of {tuple(SCRIPTS)}')
    check = self.checks[problem.kind]
    budget = self.budgets.get(problem.kind) or check.budget(problem.details)
    return _Item(completion, problem, language, check, budget, Future())

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
    batch = []
    while not batch:
      with self._change:
        self._change.wait_for(lambda: self._waiting or self._closed)
        if self._closed:
          return []
        batch = self._pop()
    return batch

  def _pop(self) -> list[_Item]:
    """The next items that fit one message; at most a worker's share, so that none idles."""
    count = min(BATCH_ITEMS, math.ceil(len(self._waiting) / self.workers))
    batch, size = [], 0
    while self._waiting and len(batch) < count:
      size += _size(self._waiting[0])
      if batch and size > BATCH_BYTES:
        break
      batch.append(self._waiting.popleft())
    return [item for item in batch if item.line and _start(item.future)]

  def _process(self, worker: Worker | None, batch: list[_Item]) -> Worker | None:
    """Sees a batch through -> the worker, None where it is gone. Whatever happens, nobody waits for it in vain."""
    try:
      batch = [item for item in batch if not self._known_bad(item)]
      if batch:
        worker = worker or self._new_worker()
        worker = self._exchange(worker, batch)
      return worker
    except Exception as error:  # such as no room for another process
      self._end(worker)
      for item in batch:
        if not item.future.done():
          item.future.set_exception(error)
      return None

  def _known_bad(self, item: _Item) -> bool:
    verdict = self._poison.get(item.line)
    if verdict is not None:
      self._finish(item, verdict)
    return verdict is not None

  def _exchange(self, worker: Worker, batch: list[_Item]) -> Worker | None:
    """Sends a batch, reads the answers -> as _process. What comes after a lost item waits again."""
    worker.send(b''.join(item.line for item in batch))
    for at, item in enumerate(batch):
      try:
        answer = worker.receive(item.problem.kind, item.budget - item.spent)
      except (Late, Died) as problem:
        with self._change:
          self._waiting.extendleft(reversed(batch[at + 1 :]))
          del batch[at + 1 :]
          self._change.notify_all()
        return self._lost(item, worker, problem)
      if 'cannot' in answer:
        item.future.set_exception(CannotCheck(answer['cannot']))
      else:
        verdict = Verdict(**answer['verdict'])
        self._finish(item, dataclasses.replace(verdict, seconds=item.spent + verdict.seconds))
    return worker

  def _lost(self, item: _Item, worker: Worker, problem: Exception) -> Worker | None:
    """The worker is late or dead -> a fresh one if one was needed to try again, else None."""
    if item.problem.kind in worker.loaded:
      item.spent += time.monotonic() - worker.since
    status = self._end(worker, isinstance(problem, Died))
    if self._closed:
      item.future.set_exception(RuntimeError('the pool was closed'))
    elif not worker.loaded:
      reason = f'a worker did not start (exit status {status}); it says why on stderr'
      item.future.set_exception(RuntimeError(reason))
    elif isinstance(problem, Late):
      self._finish(item, _timeout(item, f'not done in {item.budget} s'))
    elif item.deaths == 0:
      item.deaths = 1
      return self._process(None, [item])
    else:
      reason = f'killed two workers (exit status {status})'
      verdict = _timeout(item, f'quarantined: {reason}')
      with self._change:
        self._poison[item.line] = verdict
        self.quarantined.append((item.problem.id, reason))
      self._finish(item, verdict)
    return None

  def _finish(self, item: _Item, verdict: Verdict) -> None:
    with self._change:
      self._counts[verdict.outcome] += 1
      self.errors += verdict.failed
      if verdict.failed and len(self._raised) < NAMED:
        self._raised.append((item.problem.id, verdict.note))
    item.future.set_result(verdict)

  def _new_worker(self) -> Worker:
    try:
      worker = Worker(self.memory)
    except OSError as error:
      raise RuntimeError(f'a worker cannot be started: {error}') from error
    with self._change:
      self._running.add(worker)
      if self._closed:
        worker.signal()
    return worker

  def _end(self, worker: Worker | None, dying: bool = False) -> int | None:
    """Off the list first: once waited for, its process id may be another's."""
    with self._change:
      self._running.discard(worker)
    return worker.end(dying) if worker else None


def _start(future: Future) -> bool:
  """False where it was cancelled. A future that waits for the second time runs already."""
  return future.running() or future.set_running_or_notify_cancel()


def _size(item: _Item) -> int:
  """Bytes of its message; 0 of one that cannot be sent, whose future gets the reason."""
  try:
    return len(item.serialise())
  except Exception as error:
    if _start(item.future):
      item.future.set_exception(error)
    return 0


def _timeout(item: _Item, note: str) -> Verdict:
  """What its worker cannot say any more."""
  found = parts(item.completion, item.language)
  return Verdict(TIMEOUT, note=note, seconds=item.spent, parts=found)
