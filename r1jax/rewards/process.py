"""The process of a worker, as its parent sees it."""

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

GATHER_SECONDS = 0.0005  # in which answers gather: waking up costs more than a cheap check
DYING_SECONDS = 0.5  # between the last word of a process and its end
START_SECONDS = 60.0  # for a worker to start, or to import what a kind needs; not part of a budget


class Died(Exception):
  """The worker is gone."""


class Late(Exception):
  """The worker did not answer in time."""


class Worker:
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
    """The answer to the next item, of this kind. Raises Died or Late."""
    while kind not in self.loaded:
      self.loaded.add(self._line(START_SECONDS)['loaded'])
    return self._line(budget)

  def _line(self, seconds: float) -> dict:
    self.since = time.monotonic()
    while b'\n' not in self.said:
      poll = select.poll()  # select() cannot watch files numbered above 1023
      poll.register(self.process.stdout, select.POLLIN)
      if not poll.poll(max(self.since + seconds - time.monotonic(), 0) * 1000):
        raise Late
      time.sleep(GATHER_SECONDS)
      chunk = os.read(self.process.stdout.fileno(), 2**16)
      if not chunk:
        raise Died
      self.said += chunk
    line, _, self.said = self.said.partition(b'\n')
    return json.loads(line)

  def signal(self) -> None:
    """Kills it and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)

  def end(self, dying: bool) -> int:
    """Kills it -> its exit status, -n for signal n: its own where it is dying by itself. May be called again."""
    if self.process.stdin.closed:
      return self.process.wait()
    if dying:
      with contextlib.suppress(subprocess.TimeoutExpired):
        self.process.wait(DYING_SECONDS)
    self.signal()
    self.process.stdin.close()
    self.process.stdout.close()
    return self.process.wait()
