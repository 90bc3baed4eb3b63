"""Runs Python programs that nobody has read, shut in and under limits.

Isolation is bubblewrap's or that of util-linux's unshare, whichever works first; where neither does, nothing runs.
Either way a filter of system calls (sandbox_filter) is put on the program, by its own process before it starts.
Memory is limited for each process, so that all of a program's together may use `processes` times as much; the kernel
is told to end them first when the machine runs short.
"""

import contextlib
import dataclasses
import functools
import io
import os
import selectors
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator

from r1jax.rewards import sandbox_command, sandbox_filter
from r1jax.rewards.verdict import CannotCheck

EXITED, TIMEOUT, OUTPUT = ENDS = ('exited', 'timeout', 'output')
START_SECONDS = 10.0  # for a sandbox to come up; the program's own time starts after that
MAX_PROGRAM_BYTES = 100_000  # what Linux passes as one argument, less a margin

_CHUNK = 65536
_REMOVE = 'PATH=/usr/bin:/bin; chmod -R u+rwX "$1"; rm -rf "$1"'

# The standard library alone, so that what passes does not depend on what is installed here, and starting takes a
# quarter of the time; exit() and quit() come from the module that is left out with the rest.
_PYTHON = ('-I', '-S', '-X', 'utf8', '-c')
MAIN = """
import builtins, sys
builtins.exit = builtins.quit = sys.exit
del builtins, sys
exec(compile(open('program.py').read(), 'program.py', 'exec'))
"""

# Says so only if it is alone with its processes, cannot see the host's files, write to the system or reach a network,
# and then, when the filter is on, if that is in force.
_PROBE = """
import os, socket
def refused(action):
  try:
    action()
  except OSError:
    return True
alone = os.getpid() < 50 and not os.path.exists('/etc/passwd') and not os.path.exists('/sys')
offline = refused(lambda: socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9)))
isolated = alone and offline and refused(lambda: open('/usr/probe', 'w')) and refused(lambda: open('/probe', 'w'))
"""
_PROBE_FILTER = 'print(isolated and refused(socket.socket))'
_PROBE_NO_FILTER = 'print(isolated)'


class SandboxError(CannotCheck):
  """No sandbox works here, or one that works did not come up."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a program may use. seconds: wall time. memory_mb: MiB of address space of each process, at most what this
  one may have itself. output_bytes: of stdout and stderr together. scratch_mb: MiB of files in /tmp. processes: at
  once, threads included.
  """

  seconds: float = 4.0
  memory_mb: int = 512
  output_bytes: int = 2**20
  scratch_mb: int = 64
  processes: int = 16


@dataclasses.dataclass(frozen=True)
class Result:
  """How a program ended: one of ENDS. status: its exit status, 128 + n for signal n, None if it was stopped."""

  end: str
  status: int | None
  stdout: bytes
  stderr: bytes
  seconds: float


def available() -> str | None:
  """'bwrap' or 'unshare', whichever isolates a program on this machine, tried once; None where neither does."""
  return next((method for method, reason in _reasons().items() if not reason), None)


@functools.cache
def _reasons() -> dict[str, str]:
  """Method -> why it does not work, '' for the one that does, with which the search ends."""
  reasons = {}
  for method in sandbox_command.METHODS:
    reasons[method] = _reason(method)
    if not reasons[method]:
      break
  return reasons


def _reason(method: str) -> str:
  if lacking := sandbox_command.missing(method):
    return f'not installed: {lacking}'
  last = _PROBE_FILTER if sandbox_filter.machine() else _PROBE_NO_FILTER
  probe = (*_PYTHON, _PROBE + sandbox_filter.prologue(sandbox_command.STARTED) + last)
  try:
    result = _run(sandbox_command.isolated(method, '', probe, Limits()), b'', Limits())
  except (SandboxError, OSError) as error:
    return str(error)
  return '' if result.stdout == b'True\n' else f'did not isolate: {result.stdout + result.stderr}'


def run(
  program: str,
  stdin: bytes = b'',
  limits: Limits = Limits(),  # noqa: B008
  driver: str = MAIN,
  allow_unsandboxed: bool = False,
) -> Result:
  """Runs `program` with `stdin`; every process that it leaves is killed before this returns. driver: what runs
  program.py, in its folder and inside the sandbox, as the main program unless it says otherwise.

  Raises SandboxError where no isolation works, unless allow_unsandboxed, which then runs it with resource limits and
  the filter only, and warns; ValueError for a program that cannot be passed on. Warns where there is no filter.
  """
  text = program.encode(errors='replace')
  if len(text) > MAX_PROGRAM_BYTES or b'\0' in text:
    raise ValueError(
      f'a program of {len(text)} bytes; valid: at most {MAX_PROGRAM_BYTES}, none of them zero'
    )
  program = text.decode()
  arguments = (*_PYTHON, sandbox_filter.prologue(sandbox_command.STARTED) + driver)
  if lacking := sandbox_filter.missing():
    warnings.warn(lacking, stacklevel=2)
  if method := available():
    command = sandbox_command.isolated(method, program, arguments, limits)
    with contextlib.suppress(SandboxError):  # a machine can be too busy for a moment
      return _run(command, stdin, limits)
    return _run(command, stdin, limits)
  if reason := refusal(allow_unsandboxed):
    raise SandboxError(reason)
  warnings.warn(
    'running an unread program WITHOUT a sandbox: allow_unsandboxed is set', stacklevel=2
  )
  with _scratch() as folder:
    return _run(sandbox_command.unsandboxed(folder, program, arguments, limits), stdin, limits)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
  """A folder of its own, and away with it: closed and deeply nested ones, which end shutil's with an error, too."""
  folder = tempfile.mkdtemp()
  try:
    yield folder
  finally:
    subprocess.run(['/bin/sh', '-c', _REMOVE, 'remove', folder], stderr=subprocess.DEVNULL)


def refusal(allow_unsandboxed: bool) -> str:
  """Why no program is run on this machine, '' where it is."""
  if available():
    return ''
  if allow_unsandboxed:
    lacking = sandbox_command.missing('')
    return (
      lacking
      and f'{lacking} is not installed, so nothing would limit a program; install util-linux'
    )
  tried = '; '.join(f'{method}: {reason}' for method, reason in _reasons().items() if reason)
  return (
    f'no sandbox works here, so no program is run ({tried}). Install bubblewrap (apt install bubblewrap) or '
    'util-linux, and allow user namespaces (in a container: --cap-add SYS_ADMIN); or set allow_unsandboxed'
  )


def unsandboxed_warning(allow_unsandboxed: bool) -> str:
  """What has to be said aloud where programs are run without isolation, or without the filter; '' elsewhere."""
  if available():
    lacking = sandbox_filter.missing()
    return lacking and f'WARNING: {lacking}'
  if not allow_unsandboxed:
    return ''
  unlimited = '' if os.geteuid() else ', and as root without a limit on processes'
  return (
    'WARNING: no sandbox works here and allow_unsandboxed is set: programs that a model wrote, and that nobody has '
    f'read, RUN WITHOUT ISOLATION as this user, with its files{unlimited}'
  )


def _run(command: list[str], stdin: bytes, limits: Limits) -> Result:
  reading, writing = os.pipe()
  with open(reading, 'rb', 0) as source, open(writing, 'wb', 0) as feed:
    os.fchmod(
      reading, 0o444
    )  # for /dev/stdin, which opens it again, and as another user where this is root
    process = subprocess.Popen(
      command,
      stdin=source,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env={'PATH': sandbox_command.search_path(), 'HOME': '/tmp'},
      cwd='/',
      start_new_session=True,
    )
    source.close()
    with process:
      try:
        return _watch(process, feed, stdin, limits)
      finally:
        _kill(process)


def _kill(process: subprocess.Popen):
  """Kills the first process of the sandbox's namespace, and the kernel all others with it."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)


def _watch(process: subprocess.Popen, feed: io.FileIO, stdin: bytes, limits: Limits) -> Result:
  with _Pipes(process, feed, stdin) as pipes:
    begin = time.monotonic()
    while not pipes.started and pipes.reading and time.monotonic() < begin + START_SECONDS:
      pipes.move(begin + START_SECONDS)
    if not pipes.started:
      raise SandboxError(f'the sandbox did not come up: {bytes(pipes.stderr[-500:])}')
    begin, end = time.monotonic(), EXITED
    while pipes.reading and end == EXITED:
      pipes.move(begin + limits.seconds)
      if len(pipes.stdout) + len(pipes.stderr) > limits.output_bytes + len(sandbox_command.STARTED):
        end = OUTPUT
      elif time.monotonic() >= begin + limits.seconds:
        end = TIMEOUT
    status = process.wait(START_SECONDS) if end == EXITED else None
    seconds = time.monotonic() - begin
    stderr = pipes.stderr.split(sandbox_command.STARTED, 1)[1]
    return Result(end, status, bytes(pipes.stdout), bytes(stderr), seconds)


class _Pipes:
  """The pipes of a process, fed and drained as they are ready, so that neither side waits for the other."""

  def __init__(self, process: subprocess.Popen, feed: io.FileIO, stdin: bytes):
    self.stdout, self.stderr = bytearray(), bytearray()
    self._read = {process.stdout: self.stdout, process.stderr: self.stderr}
    self._stdin, self._unsent = feed, memoryview(stdin)
    self._selector = selectors.DefaultSelector()

  def __enter__(self):
    for pipe in self._read:
      self._selector.register(pipe, selectors.EVENT_READ)
    os.set_blocking(self._stdin.fileno(), False)
    self._selector.register(self._stdin, selectors.EVENT_WRITE)
    return self

  def __exit__(self, *_):
    self._selector.close()

  @property
  def reading(self) -> bool:
    """Whether any process still holds the other end of stdout or stderr."""
    return bool(self._read)

  @property
  def started(self) -> bool:
    return sandbox_command.STARTED in self.stderr

  def move(self, deadline: float):
    """Waits until something can be moved, or for the deadline, and moves it."""
    for key, _ in self._selector.select(max(0.0, deadline - time.monotonic())):
      if key.fileobj is self._stdin:
        self._send()
      else:
        self._receive(key.fileobj)

  def _receive(self, pipe):
    data = os.read(pipe.fileno(), _CHUNK)
    self._read[pipe] += data
    if not data:
      self._selector.unregister(pipe)
      del self._read[pipe]

  def _send(self):
    try:
      self._unsent = self._unsent[os.write(self._stdin.fileno(), self._unsent[:_CHUNK]) :]
    except BlockingIOError:
      return
    except BrokenPipeError:  # the program has ended, or closed its stdin
      self._unsent = self._unsent[:0]
    if not self._unsent:
      self._selector.unregister(self._stdin)
      self._stdin.close()
