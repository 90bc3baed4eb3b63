"""The command lines that shut a program in: bubblewrap's, util-linux's unshare, or none.

In both sandboxes a program finds a root of its own: /usr, the base interpreter and what loads it, read-only; two
devices; a /proc of its own process namespace, read-only; /tmp, of limited size, gone when it ends. No other file of
the host is there, nor /dev/shm. It has no network, no capability and no way to gain one. The number of files in /tmp
is limited too, but not by bubblewrap, which cannot.
"""

import os
import pathlib
import random
import resource
import shlex
import shutil
import sys
from collections.abc import Sequence

METHODS = ('bwrap', 'unshare')
_TOOLS = {
  'bwrap': ('setpriv', 'prlimit', 'bwrap'),
  'unshare': ('setpriv', 'prlimit', 'unshare', 'mount', 'chroot'),
  '': ('prlimit',),
}
STARTED = b'started\n'  # on stderr, by the driver, ahead of anything that the program can write

_SYSTEM = ('/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/etc/ld.so.cache')
_DEVICES = ('/dev/null', '/dev/urandom')
_STDIN = ('/proc/self/fd/0', '/dev/stdin')

# When memory runs short, the kernel is to end this first. It is said here, on the host's /proc: in the sandbox, where
# a user's program could take it back, /proc is read-only.
_FIRST = '{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$@"'

# The shell stays, as the process that everything else in the sandbox ends with.
_START = """
PATH=/usr/local/bin:/usr/bin:/bin
cd "$1" && printf %s "$2" >program.py && shift 2 && "$@"
exit $?
"""


def python() -> str:
  """The interpreter that runs programs: the base one, without this environment's packages."""
  return os.path.realpath(getattr(sys, '_base_executable', sys.executable))


def missing(method: str) -> str:
  """What `method`, or '' for none, needs and this machine lacks; '' if nothing."""
  lacking = [tool for tool in _TOOLS[method] if not shutil.which(tool, path=search_path())]
  return ', '.join(lacking)


def search_path() -> str:
  """PATH, and where chroot lives, which users' PATH may leave out."""
  return os.pathsep.join((os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'))


def isolated(method: str, program: str, arguments: Sequence[str], limits) -> list[str]:
  """`python arguments` beside program.py, shut in by `method`, under `limits` (sandbox.Limits)."""
  root = os.geteuid() == 0
  limited = [*_drop(method, root), *_rlimits(limits, limits.processes), python(), *arguments]
  outer = _bwrap(limits, root) if method == 'bwrap' else _unshare(limits, root)
  return _first(['setpriv', '--pdeathsig=KILL', *outer, *_start('/tmp', program, limited)])


def unsandboxed(folder: str, program: str, arguments: Sequence[str], limits) -> list[str]:
  """The same under resource limits alone. That on processes counts all of this user's: the program may have
  `limits.processes` beside those that run now. The kernel does not hold root to it.
  """
  limited = [*_rlimits(limits, tasks() + limits.processes), python(), *arguments]
  return _first(_start(folder, program, limited))


def tasks() -> int:
  """How many processes this user has, threads included."""
  count, user = 0, os.getuid()
  for path in pathlib.Path('/proc').glob('[0-9]*/status'):
    try:
      fields = dict(line.split(':', 1) for line in path.read_text().split('\n') if ':' in line)
    except OSError:  # it ended meanwhile
      continue
    if int(fields['Uid'].split()[0]) == user:
      count += int(fields['Threads'])
  return count


def _first(command: list[str]) -> list[str]:
  return ['/bin/sh', '-c', _FIRST, 'first', *command]


def _start(folder: str, program: str, command: list[str]) -> list[str]:
  return ['/bin/sh', '-c', _START, 'start', folder, program, *command]


def _rlimits(limits, processes: int) -> list[str]:
  """None above what this process has been given itself, which only root could raise."""
  sizes = {
    'cpu': int(limits.seconds) + 2,  # wall time ends a program first, unless nobody watches
    'as': limits.memory_mb * 2**20,
    'nproc': processes,
    'fsize': limits.scratch_mb * 2**20,
    'nofile': 64,
    'core': 0,
  }
  return ['prlimit', *(f'--{name}={_granted(name, size)}' for name, size in sizes.items())]


def _granted(name: str, size: int) -> int:
  hard = resource.getrlimit(getattr(resource, f'RLIMIT_{name.upper()}'))[1]
  return size if hard == resource.RLIM_INFINITY else min(size, hard)


def _drop(method: str, root: bool) -> list[str]:
  """Leaves root for good. A user id of its own for each run: root is exempt from the limit on processes, and a
  shared id would count other runs' as well. The range is the one that systemd keeps for passing users.
  """
  user = str(random.SystemRandom().randrange(61184, 65520))
  identity = [f'--reuid={user}', f'--regid={user}', '--clear-groups'] if root else []
  # Bubblewrap has dropped them already, and with them the right to say so, unless root asked to keep it.
  dropped = ['--inh-caps=-all', '--bounding-set=-all'] if root or method == 'unshare' else []
  return ['setpriv', '--no-new-privs', *identity, *dropped]


def _shown() -> list[str]:
  """The paths of the host that a program sees."""
  prefixes = {os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix)}
  paths = [
    *_SYSTEM,
    *sorted(path for path in prefixes if not f'{path}/'.startswith('/usr/')),
    *_DEVICES,
  ]
  return [path for path in paths if os.path.exists(path)]


def _unshare(limits, root: bool) -> list[str]:
  user = [] if root else ['--user', '--map-root-user']
  spaces = ['--mount', '--pid', '--net', '--ipc', '--uts', '--fork', '--kill-child']
  return ['unshare', *user, *spaces, '/bin/sh', '-c', _build(limits), 'build']


def _build(limits) -> str:
  """A shell script that builds the new root over /tmp, which every Linux has, and runs its arguments there.

  /proc is refused inside containers that hide parts of theirs, and few programs miss it. chroot, not pivot_root:
  the kernel refuses user namespaces, and the capabilities that come with them, to a process in a changed root.
  """
  links = [path for path in _shown() if os.path.islink(path)]
  folders = [path for path in _shown() if os.path.isdir(path) and path not in links]
  files = [path for path in _shown() if not os.path.isdir(path)]
  made = ['/tmp', '/proc', *folders, *sorted({os.path.dirname(path) for path in files})]
  scratch = f'size={limits.scratch_mb}m,nr_inodes=4096,mode=1777,nosuid,nodev'
  return '\n'.join(
    [
      'set -e',
      'mount -t tmpfs -o size=1m,mode=755 tmpfs /tmp',
      'cd /tmp',
      f'mkdir -p {_quoted(made, ".")}',
      *([f'cp -P {_quoted(links)} .'] if links else []),
      f'ln -s {_STDIN[0]} .{_STDIN[1]}',
      *(f': >{_quoted([path], ".")}' for path in files),
      *(
        f'mount --bind {_options(path)} {_quoted([path])} {_quoted([path], ".")}'
        for path in folders + files
      ),
      'mount -t proc -o ro,nosuid,nodev,noexec proc proc 2>/dev/null || true',
      f'mount -t tmpfs -o {scratch} tmpfs tmp',
      'mount -o remount,bind,ro /tmp',
      'exec chroot . "$@"',
    ]
  )


def _options(path: str) -> str:
  return '' if path in _DEVICES else '-o ro,nosuid,nodev'


def _quoted(paths: Sequence[str], before: str = '') -> str:
  return ' '.join(shlex.quote(before + path) for path in paths)


def _bwrap(limits, root: bool) -> list[str]:
  spaces = ['--unshare-user', '--unshare-pid', '--unshare-net', '--unshare-ipc', '--unshare-uts']
  kept = ()
  if root:
    spaces, kept = spaces[1:], ('CAP_SETUID', 'CAP_SETGID', 'CAP_SETPCAP')
  binds = []
  for path in _shown():
    for parent in reversed(pathlib.Path(path).parents[:-1]):
      binds += ['--perms', '0755', '--dir', str(parent)]  # the host's may be closed, as /root is
    if os.path.islink(path):
      binds += ['--symlink', os.readlink(path), path]
    else:
      binds += ['--dev-bind' if path in _DEVICES else '--ro-bind', path, path]
  scratch = ['--perms', '1777', '--size', str(limits.scratch_mb * 2**20), '--tmpfs', '/tmp']
  return [
    'bwrap', '--die-with-parent', '--new-session', *spaces,
    *(flag for name in kept for flag in ('--cap-add', name)),
    *binds, '--symlink', *_STDIN, '--proc', '/proc', '--remount-ro', '/proc', *scratch,
    '--remount-ro', '/', '--',
  ]  # fmt: skip
