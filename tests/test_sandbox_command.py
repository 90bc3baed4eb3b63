"""The command lines themselves, for the methods that are not installed here as well."""

import os
import resource
import sys
import threading

import pytest

from r1jax.rewards import sandbox_command
from r1jax.rewards.sandbox import Limits

LIMITS = Limits(seconds=2.5, memory_mb=100, scratch_mb=32, processes=7)
# What a flag takes, of those that are used (bwrap(1), version 0.6).
TAKES = {
  '--cap-add': 1, '--perms': 1, '--size': 1, '--dir': 1, '--tmpfs': 1, '--proc': 1, '--remount-ro': 1,
  '--symlink': 2, '--ro-bind': 2, '--dev-bind': 2,
  '--die-with-parent': 0, '--new-session': 0, '--unshare-user': 0, '--unshare-pid': 0, '--unshare-net': 0,
  '--unshare-ipc': 0, '--unshare-uts': 0,
}  # fmt: skip


@pytest.fixture(params=[0, 1000], ids=['root', 'user'])
def user(request, monkeypatch):
  monkeypatch.setattr(os, 'geteuid', lambda: request.param)
  return request.param


@pytest.fixture
def host(monkeypatch, tmp_path):
  """A host with one link, one folder, one file and the two devices; the interpreter lies in a closed home."""
  home = tmp_path / 'home' / 'python'
  (home / 'bin').mkdir(parents=True)
  (tmp_path / 'usr' / 'bin').mkdir(parents=True)
  (tmp_path / 'bin').symlink_to('usr/bin')
  (tmp_path / 'cache').touch()
  monkeypatch.setattr(sys, 'base_prefix', str(home))
  monkeypatch.setattr(sys, 'base_exec_prefix', str(home))
  shown = tuple(str(tmp_path / name) for name in ('usr', 'bin', 'cache', 'not-here'))
  monkeypatch.setattr(sandbox_command, '_SYSTEM', shown)
  return tmp_path


def parsed(command):
  """A command line of bwrap -> [(flag, its values)], and the command that runs inside."""
  at, flags = command.index('bwrap') + 1, []
  while command[at] != '--':
    count = TAKES[command[at]]
    flags.append((command[at], tuple(command[at + 1 : at + 1 + count])))
    at += 1 + count
  return flags, command[at + 1 :]


def test_bubblewrap_gives_namespaces_of_its_own_and_ends_with_its_parent(user):
  command = sandbox_command.isolated('bwrap', 'x', ('-c', 'y'), LIMITS)
  flags, _ = parsed(command)
  assert command[: command.index('bwrap')][-2:] == ['setpriv', '--pdeathsig=KILL']
  names = [flag for flag, _ in flags]
  for flag in ('--unshare-pid', '--unshare-net', '--unshare-ipc', '--unshare-uts'):
    assert names.count(flag) == 1
  assert '--die-with-parent' in names and '--new-session' in names
  # Root has no need of a user namespace, and asks for what it takes to become somebody else.
  assert ('--unshare-user' in names) == (user != 0)
  kept = [values[0] for flag, values in flags if flag == '--cap-add']
  assert kept == ([] if user else ['CAP_SETUID', 'CAP_SETGID', 'CAP_SETPCAP'])


def test_bubblewrap_shows_the_system_and_the_interpreter_and_nothing_else(host, user):
  flags, _ = parsed(sandbox_command.isolated('bwrap', 'x', (), LIMITS))
  python = str(host / 'home' / 'python')
  shown = [str(host / 'usr'), str(host / 'cache'), python]
  assert [values for flag, values in flags if flag == '--ro-bind'] == [(p, p) for p in shown]
  devices = [('/dev/null', '/dev/null'), ('/dev/urandom', '/dev/urandom')]
  assert [values for flag, values in flags if flag == '--dev-bind'] == devices
  links = [('usr/bin', str(host / 'bin')), ('/proc/self/fd/0', '/dev/stdin')]
  assert [values for flag, values in flags if flag == '--symlink'] == links


def test_bubblewrap_makes_the_folders_above_what_is_shown_open_to_all(host, user):
  flags, _ = parsed(sandbox_command.isolated('bwrap', 'x', (), LIMITS))
  bind = flags.index(('--ro-bind', (str(host / 'home' / 'python'),) * 2))
  for folder in (host, host / 'home'):
    at = flags.index(('--dir', (str(folder),)))
    assert at < bind and flags[at - 1] == ('--perms', ('0755',))


def test_bubblewraps_root_and_proc_are_read_only_and_its_scratch_is_limited(user):
  flags, _ = parsed(sandbox_command.isolated('bwrap', 'x', (), LIMITS))
  assert flags[-6:] == [
    ('--proc', ('/proc',)),
    ('--remount-ro', ('/proc',)),
    ('--perms', ('1777',)),
    ('--size', (str(32 << 20),)),
    ('--tmpfs', ('/tmp',)),
    ('--remount-ro', ('/',)),
  ]
  assert sum(flag == '--tmpfs' for flag, _ in flags) == 1


@pytest.mark.parametrize('method', sandbox_command.METHODS)
def test_inside_a_shell_writes_the_program_and_drops_all_then_limits(method, user):
  command = sandbox_command.isolated(method, 'print(1)', ('-c', 'driver'), LIMITS)
  start = command.index('start')
  assert command[start - 3 : start - 1] == ['/bin/sh', '-c']
  folder, program, setpriv, privileges = command[start + 1 : start + 5]
  assert (folder, program, setpriv, privileges) == ('/tmp', 'print(1)', 'setpriv', '--no-new-privs')
  limits = command.index('prlimit')
  dropped = command[start + 5 : limits]
  names = [flag.split('=')[0] for flag in dropped]
  capabilities = ['--inh-caps', '--bounding-set']
  if user:
    assert names == (capabilities if method == 'unshare' else [])
  else:
    assert names == ['--reuid', '--regid', '--clear-groups', *capabilities]
    uid = int(dropped[0].split('=')[1])
    assert 61184 <= uid < 65520 and dropped[1] == f'--regid={uid}'
  assert command[limits + 1 :] == [
    '--cpu=4', f'--as={100 << 20}', '--nproc=7', f'--fsize={32 << 20}', '--nofile=64', '--core=0',
    sandbox_command.python(), '-c', 'driver',
  ]  # fmt: skip


def test_unshare_builds_a_root_that_is_read_only_as_is_its_proc(host, user):
  command = sandbox_command.isolated('unshare', 'x', (), LIMITS)
  at = command.index('unshare')
  spaces = ['--mount', '--pid', '--net', '--ipc', '--uts', '--fork', '--kill-child']
  own = ['--user', '--map-root-user'] if user else []
  assert command[at + 1 : command.index('/bin/sh', at)] == [*own, *spaces]
  script = command[command.index('build') - 1].split('\n')
  python, usr = host / 'home' / 'python', host / 'usr'
  for path in (usr, python, host / 'cache'):
    assert f'mount --bind -o ro,nosuid,nodev {path} .{path}' in script
  assert script[-4:] == [
    'mount -t proc -o ro,nosuid,nodev,noexec proc proc 2>/dev/null || true',
    'mount -t tmpfs -o size=32m,nr_inodes=4096,mode=1777,nosuid,nodev tmpfs tmp',
    'mount -o remount,bind,ro /tmp',
    'exec chroot . "$@"',
  ]


@pytest.mark.parametrize('method', sandbox_command.METHODS)
def test_what_the_kernel_ends_first_is_said_before_the_sandbox_is_there(method):
  command = sandbox_command.isolated(method, 'x', (), LIMITS)
  assert command[:2] == ['/bin/sh', '-c'] and command[3:5] == ['first', 'setpriv']
  assert command[2].startswith('{ echo 1000 >/proc/self/oom_score_adj; }')


def test_no_limit_is_above_this_process_own(monkeypatch):
  hard = {resource.RLIMIT_AS: 50 << 20, resource.RLIMIT_CPU: resource.RLIM_INFINITY}
  monkeypatch.setattr(resource, 'getrlimit', lambda kind: (0, hard.get(kind, 5)))
  command = sandbox_command.isolated('bwrap', 'x', (), LIMITS)
  at = command.index('prlimit')
  expected = ['--cpu=4', f'--as={50 << 20}', '--nproc=5', '--fsize=5', '--nofile=5', '--core=0']
  assert command[at + 1 : at + 7] == expected


def test_without_a_sandbox_processes_are_limited_beside_those_that_run(monkeypatch):
  monkeypatch.setattr(sandbox_command, 'tasks', lambda: 200)
  command = sandbox_command.unsandboxed('/folder', 'x', (), LIMITS)
  assert '--nproc=207' in command and f'--as={100 << 20}' in command


def test_threads_and_processes_of_this_user_are_counted():
  before, leave = sandbox_command.tasks(), threading.Event()
  threads = [threading.Thread(target=leave.wait) for _ in range(50)]
  for thread in threads:
    thread.start()
  during = sandbox_command.tasks()
  leave.set()
  for thread in threads:
    thread.join()
  assert before >= 1 and 50 - 25 < during - before < 50 + 25  # others of this user come and go
