"""A program that nobody has read can do nothing but answer, and ends when its time is up."""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from experiments import r1_zero
from r1jax import checks, problems
from r1jax.config import resolve
from r1jax.fields import ConfigError
from r1jax.problems import ProblemsConfig
from r1jax.rewards import RewardConfig, sandbox, sandbox_command
from r1jax.rewards.__main__ import main as rewards_main
from r1jax.rewards.pool import Pool
from r1jax.rewards.sandbox import EXITED, OUTPUT, TIMEOUT, Limits, SandboxError
from r1jax.rewards.scoring import Scoring
from r1jax.rewards.verdict import CannotCheck

isolation = pytest.mark.skipif(sandbox.available() is None, reason='no sandbox works here')
REASONS = {method: sandbox._reason(method) for method in sandbox_command.METHODS}

SHORT = Limits(seconds=0.5)
MARGIN = 1.0  # seconds past its limit within which a program has to be gone


def running(marker: str) -> list[str]:
  """The command lines on this machine that hold `marker`."""
  lines = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      lines.append(path.read_bytes().replace(b'\0', b' ').decode(errors='replace'))
    except OSError:  # it ended meanwhile
      continue
  return [line for line in lines if marker in line and 'r1jax.rewards' not in line]


def gone(marker: str) -> bool:
  """Whether all of them end within the margin: the kernel takes a moment after the kill."""
  deadline = time.monotonic() + MARGIN
  while running(marker) and time.monotonic() < deadline:
    time.sleep(0.01)
  return not running(marker)


@pytest.fixture
def marker():
  return f'86400.{random.SystemRandom().randrange(10**9):09}'


@pytest.fixture(params=sandbox_command.METHODS)
def method(request, monkeypatch):
  """Each method that works on this machine, whether or not it is the one that would be taken."""
  if reason := REASONS[request.param]:
    pytest.skip(f'{request.param} does not work here: {reason}')
  monkeypatch.setattr(sandbox, 'available', lambda: request.param)
  return request.param


every_method = pytest.mark.usefixtures('method')


@pytest.fixture
def no_sandbox(monkeypatch):
  reasons = {'bwrap': 'not installed: bwrap', 'unshare': 'Operation not permitted'}
  monkeypatch.setattr(sandbox, '_reasons', lambda: reasons)


@every_method
def test_input_output_errors_and_status_come_back():
  program = "import sys\nprint(input() * 2)\nprint('no', file=sys.stderr)\nsys.exit(3)"
  result = sandbox.run(program, 'é\n'.encode())
  assert (result.end, result.status) == (EXITED, 3)
  assert (result.stdout.decode(), result.stderr) == ('éé\n', b'no\n')
  assert 0 < result.seconds < SHORT.seconds + Limits().seconds


@every_method
def test_more_input_and_output_than_a_pipe_holds_pass_both_ways():
  data = b'0123456789abcdef' * 2**16
  result = sandbox.run(
    'import sys\nsys.stdout.write(sys.stdin.read())', data, Limits(output_bytes=2**21)
  )
  assert result.stdout == data


@every_method
def test_a_program_that_writes_the_start_signal_itself_loses_nothing():
  result = sandbox.run("import sys\nprint('started', file=sys.stderr)")
  assert result.stderr == sandbox_command.STARTED


@every_method
@pytest.mark.parametrize(
  'program',
  [
    'while True: pass',
    'import time\ntime.sleep({marker})',
    'import os, time\nos.close(0), os.close(1), os.close(2)\ntime.sleep({marker})',
    'import signal, time\n[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15, 24)]\ntime.sleep({marker})',
    "import os\nos.setsid() if os.fork() == 0 else 0\nos.execvp('sleep', ['sleep', '{marker}'])",
    'import os, time\nwhile True:\n  try: os.fork()\n  except OSError: pass',
    'import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)',
  ],
)
def test_time_is_up_when_it_is_up(program, marker):
  program = program.replace('{marker}', marker) + f'\n# {marker}'
  begin = time.monotonic()
  result = sandbox.run(program, limits=SHORT)
  assert time.monotonic() - begin < SHORT.seconds + MARGIN
  assert (result.end, result.status) == (TIMEOUT, None)
  assert gone(marker)


@every_method
@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_output_without_end_is_cut_off(stream):
  program = f"import sys\nwhile True: sys.{stream}.write('x' * 10000)"
  result = sandbox.run(program, limits=Limits(output_bytes=10**5))
  assert result.end == OUTPUT
  assert 10**5 < len(result.stdout + result.stderr) <= 10**5 + 2 * 65536


@every_method
def test_children_left_behind_do_not_outlive_the_program(marker):
  program = (
    'import subprocess\n'
    f"subprocess.Popen(['sleep', '{marker}'])\n"
    f"subprocess.Popen(['sleep', '{marker}'], start_new_session=True)\n"
    "print('done')"
  )
  result = sandbox.run(program)
  assert (result.end, result.status, result.stdout) == (EXITED, 0, b'done\n')
  assert gone(marker)


def test_a_sandbox_ends_with_the_process_that_started_it(method, marker):
  code = f"""
from r1jax.rewards import sandbox
sandbox.available = lambda: '{method}'
sandbox.run('import os; os.execvp("sleep", ["sleep", "{marker}"])')
"""
  root = pathlib.Path(sandbox.__file__).parents[2]
  worker = subprocess.Popen([sys.executable, '-c', code], cwd=root)
  deadline = time.monotonic() + 30
  while not running(f'sleep {marker}') and time.monotonic() < deadline:
    time.sleep(0.01)
  assert running(f'sleep {marker}')
  worker.kill()
  worker.wait()
  assert gone(f'sleep {marker}')


@every_method
@pytest.mark.parametrize(
  'program, error',
  [
    ('bytearray(8 << 30)', 'MemoryError'),
    ('x = [0]\nwhile True: x += x', 'MemoryError'),
    ('import os\nwhile True: os.fork()', 'BlockingIOError'),
    ('import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()',
     "can't start new thread"),
    ("f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))", 'File too large|No space left'),
    ("for i in range(999): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))", 'No space left'),
    ("files = [open('/dev/null') for _ in range(99)]", 'Too many open files'),
    ("open('/usr/x', 'w')", 'Read-only file system|Permission denied'),
    ("open('/x', 'w')", 'Read-only file system|Permission denied'),
    ("import os\nos.remove('/usr/bin/env')", 'Read-only file system|Permission denied'),
    ("import socket\nsocket.create_connection(('1.1.1.1', 53), 1)", 'unreachable|not permitted'),
    ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", 'unreachable|refused|not permitted'),
    ("import socket\nsocket.create_connection(('::1', 22), 1)", 'unreachable|refused|assign|not permitted'),
    ("import os\nopen(f'/proc/{os.getpid()}/oom_score_adj', 'w').write('0')", 'Read-only file system|No such file'),
    ("open('/dev/shm/x', 'wb')", 'No such file'),
    ("import multiprocessing.shared_memory as m\nm.SharedMemory(create=True, size=1 << 20)", 'No such file'),
    ("import os\nos.mkfifo('/dev/x')", 'Read-only file system|Permission denied'),
    ("import os\nos.mknod('/tmp/x', 0o60600, os.makedev(8, 0))", 'Operation not permitted'),
    ("open('/proc/sys/kernel/core_pattern', 'w')", 'Read-only file system|Permission denied|No such file'),
    ('import os\nos.setgroups([])', 'Operation not permitted'),
    ("import os\nos.chroot('/tmp')", 'Operation not permitted'),
    ('import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (999, 999))', 'not allowed|not permitted'),
    ('import os\nos.kill(os.getppid(), 0)\nos.kill(os.getpid(), 9)', 'Operation not permitted|Killed'),
    ("open('/etc/passwd')", 'No such file'),
    ("open('/proc/1/root/etc/passwd')", 'Permission denied|No such file'),
  ],
)  # fmt: skip
def test_what_is_refused(program, error):
  result = sandbox.run(program, limits=Limits(memory_mb=128))
  assert result.end == EXITED and result.status
  assert re.search(error, result.stderr.decode())


@every_method
def test_no_interface_but_loopback_is_there_whatever_the_filter_says():
  program = "print([line.split(':')[0].strip() for line in open('/proc/net/dev')][2:])"
  assert sandbox.run(program).stdout in (b"['lo']\n", b'')  # '' where a container refuses /proc


@every_method
def test_all_files_of_the_scratch_folder_together_are_limited():
  program = """
size = 0
try:
  for number in range(99):
    with open(f'/tmp/{number}', 'wb', 0) as file:
      for _ in range(8):
        size += file.write(bytes(1 << 17))
except OSError:
  print(size >> 20)
"""
  written = int(sandbox.run(program, limits=Limits(scratch_mb=16)).stdout)
  assert 14 <= written <= 16


def test_the_number_of_files_is_limited_where_the_method_can(method):
  program = 'import os\nwhile True: os.mkdir(str(len(os.listdir())))'
  result = sandbox.run(program, limits=Limits(seconds=8))
  if method == 'unshare':
    assert b'No space left' in result.stderr


@every_method
def test_stdin_can_be_opened_by_its_name():
  program = "print(open('/dev/stdin').read(), open('/proc/self/fd/0').read())"
  assert sandbox.run(program, b'seven').stdout == b'seven \n'


@every_method
def test_it_is_the_first_that_the_kernel_ends():
  assert sandbox.run("print(open('/proc/self/oom_score_adj').read())").stdout == b'1000\n\n'


@every_method
def test_limits_above_this_process_own_are_cut_to_those(monkeypatch):
  real = resource.getrlimit
  hard = {resource.RLIMIT_AS: 300 << 20, resource.RLIMIT_NOFILE: 17}
  monkeypatch.setattr(resource, 'getrlimit', lambda kind: (0, hard.get(kind, real(kind)[1])))
  program = (
    'import resource as r\nprint(*(r.getrlimit(k)[1] for k in (r.RLIMIT_AS, r.RLIMIT_NOFILE)))'
  )
  assert sandbox.run(program).stdout == f'{300 << 20} 17\n'.encode()


@every_method
def test_a_driver_that_does_not_start_is_no_fault_of_the_program():
  with pytest.raises(SandboxError, match='did not come up'):
    sandbox.run('print(1)', limits=Limits(memory_mb=4))


@every_method
def test_a_program_finds_no_name_that_it_has_not_made():
  names = sandbox.run('print(sorted(name for name in globals() if name[:2] != "__"))').stdout
  assert names == b'[]\n'


@every_method
def test_no_file_process_or_variable_of_the_host_is_seen(tmp_path, monkeypatch):
  monkeypatch.setenv('R1JAX_TEST_TOKEN', 'k3y')
  secret = tmp_path / 'tests.json'
  secret.write_text('k3y')
  paths = [str(secret), __file__, sandbox.__file__, os.getcwd(), '/sys', '/var', '/etc/passwd']
  program = f"""
import glob, os
print([path for path in {paths} if os.path.exists(path)])
print('k3y' in str(os.environ), len(glob.glob('/proc/[0-9]*')) < 10)
for path in glob.glob('/proc/[0-9]*/*'):
  try:
    print('R1JAX' + '_TEST_TOKEN' in open(path).read(1 << 16))
  except (OSError, ValueError):
    pass
"""
  lines = sandbox.run(program, limits=Limits(seconds=8)).stdout.decode().split('\n')
  assert lines[:2] == ['[]', 'False True']
  assert 'True' not in lines[2:]


@every_method
def test_what_one_program_leaves_the_next_does_not_find():
  sandbox.run("open('/tmp/left', 'w').write('x')")
  result = sandbox.run("import os\nprint(os.listdir('/tmp'))")
  assert result.stdout == b"['program.py']\n"


@every_method
def test_only_the_standard_library_is_importable_and_exit_is_there():
  result = sandbox.run("import json\ntry: import numpy\nexcept ImportError: print('none')\nexit(2)")
  assert (result.stdout, result.status) == (b'none\n', 2)


@every_method
def test_another_program_may_drive_this_one():
  driver = 'import os, sys\nsys.path.insert(0, os.getcwd())\nimport program\nprint(program.x, program.__name__)'
  assert sandbox.run('x = 7', driver=driver).stdout == b'7 program\n'


@pytest.mark.parametrize('program', ['x' * (sandbox.MAX_PROGRAM_BYTES + 1), 'print(1)\0'])
def test_a_program_that_cannot_be_passed_on_is_named(program):
  with pytest.raises(ValueError, match=f'a program of {len(program)} bytes; valid: at most'):
    sandbox.run(program)


def test_no_sandbox_no_run(no_sandbox):
  assert sandbox.available() is None
  with pytest.raises(
    SandboxError, match='bwrap: not installed.*not permitted.*apt install bubblewrap'
  ):
    sandbox.run('print(1)')


def test_unsandboxed_only_when_allowed_with_a_warning_and_the_limits(no_sandbox, marker):
  with pytest.warns(UserWarning, match='WITHOUT a sandbox'):
    result = sandbox.run('print(int(input()) + 1)', b'41', allow_unsandboxed=True)
  assert (result.end, result.status, result.stdout) == (EXITED, 0, b'42\n')
  with pytest.warns(UserWarning):
    result = sandbox.run('bytearray(1 << 30)', allow_unsandboxed=True)
  assert b'MemoryError' in result.stderr
  program = f"import os\nos.fork()\nos.execvp('sleep', ['sleep', '{marker}'])"
  with pytest.warns(UserWarning):
    result = sandbox.run(program, limits=SHORT, allow_unsandboxed=True)
  assert result.end == TIMEOUT and gone(marker)


def test_unsandboxed_programs_leave_no_file_however_deep(no_sandbox, monkeypatch, tmp_path):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  program = """
import os
os.mkdir('closed')
open('closed/file', 'w').close()
os.chmod('closed', 0)
for _ in range(2000):
  os.mkdir('d' * 200)
  os.chdir('d' * 200)
print('made')
"""
  try:
    with pytest.warns(UserWarning):
      assert sandbox.run(program, allow_unsandboxed=True).stdout == b'made\n'
    assert not list(tmp_path.iterdir())
  finally:  # what is left would end pytest's own cleaning with an error
    subprocess.run(['rm', '-rf', str(tmp_path)], check=True)


def test_unsandboxed_programs_are_under_the_filter(no_sandbox):
  with pytest.warns(UserWarning):
    result = sandbox.run('import socket\nsocket.socket()', allow_unsandboxed=True)
  assert b'PermissionError' in result.stderr


def test_no_limits_no_run_even_when_allowed(no_sandbox, monkeypatch):
  monkeypatch.setattr(sandbox_command, 'search_path', lambda: '/nowhere')
  with pytest.raises(SandboxError, match='prlimit is not installed'):
    sandbox.run('print(1)', allow_unsandboxed=True)


@isolation
def test_a_sandbox_that_works_is_used_even_where_none_is_needed(recwarn):
  assert (
    sandbox.run('import os\nprint(os.getpid() < 50)', allow_unsandboxed=True).stdout == b'True\n'
  )
  assert not recwarn.list


@pytest.fixture
def bare_path(monkeypatch, tmp_path):
  """A PATH on which nothing isolates, and only prlimit is there."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  (folder / 'prlimit').symlink_to(shutil.which('prlimit', path=sandbox_command.search_path()))
  monkeypatch.setenv('PATH', str(folder))
  sandbox._reasons.cache_clear()
  yield folder
  sandbox._reasons.cache_clear()


@pytest.fixture
def program_file(tmp_path):
  """A file of one problem, whose completion passes its only test."""
  path = tmp_path / 'programs.jsonl'
  row = {
    'kind': 'code',
    'prompt': '7',
    'answer': '',
    'details': {'tests': [{'input': '', 'output': '7'}]},
  }
  row |= {'completion': '```python\nprint(7)\n```', 'expected': 'right'}
  path.write_text(json.dumps(row) + '\n')
  return str(path)


def test_the_command_refuses_without_a_sandbox_unless_it_is_told_to(bare_path, program_file, capfd):
  assert rewards_main([program_file, '--workers', '1']) == 2
  error = capfd.readouterr().err
  assert 'no sandbox works here' in error and 'bwrap: not installed' in error
  assert rewards_main([program_file, '--workers', '1', '--allow-unsandboxed']) == 0
  found = capfd.readouterr()
  assert 'RUN WITHOUT ISOLATION' in found.err and 'right 100.0%' in found.out


@isolation
def test_the_flag_changes_nothing_where_a_sandbox_works(program_file, capfd):
  assert rewards_main([program_file, '--workers', '1', '--allow-unsandboxed']) == 0
  assert 'WITHOUT' not in capfd.readouterr().err


def prepared(source, workdir, **problems):
  config = r1_zero.get_config('tiny_dense').to_dict()
  config['problems'] |= {'source': source, 'heldout_fraction': 0.0, **problems}
  config['stages'] = ('rl:grpo',)
  del config['evaluate']
  return checks.prepare(resolve(config), workdir, config)


def test_a_run_on_programs_does_not_start_without_a_sandbox(
  bare_path, program_file, tmp_path, capsys
):
  with pytest.raises(
    ConfigError, match='problems.allow_unsandboxed=False .* kind code: no sandbox works here'
  ):
    prepared(program_file, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  context = prepared(program_file, tmp_path / 'run', allow_unsandboxed=True)
  assert 'RUN WITHOUT ISOLATION' in capsys.readouterr().err
  problem = context.problems('train')[0]
  with context.pool as pool:
    assert pool.check([('```python\nprint(7)\n```', problem)])[0].outcome == 'right'


def test_a_sandbox_that_fails_in_a_run_ends_it(bare_path, program_file, tmp_path):
  """As if it had been taken away after the start: scores are not made up."""
  problem = problems.load(ProblemsConfig(source=program_file, heldout_fraction=0.0), 'train')[0]
  with Pool(1) as pool:
    scoring = Scoring([problem], 1, RewardConfig(), pool)
    scoring.add(0, '```python\nprint(7)\n```')
    with pytest.raises(CannotCheck, match='no sandbox works here'):
      scoring.scores()
    assert pool.errors == 0


def test_without_limits_it_is_refused_even_when_allowed(bare_path):
  (bare_path / 'prlimit').unlink()
  sandbox._reasons.cache_clear()
  assert sandbox.refusal(allow_unsandboxed=True).startswith('prlimit is not installed')


@pytest.mark.parametrize('method', sandbox_command.METHODS)
def test_what_is_missing_is_named(method, monkeypatch):
  monkeypatch.setattr(sandbox_command, 'search_path', lambda: '/nowhere')
  reason = sandbox._reason(method)
  assert reason.startswith('not installed: setpriv, prlimit, ' + method)


def test_a_method_that_fails_or_does_not_isolate_is_not_available(monkeypatch, tmp_path):
  monkeypatch.setattr(sandbox_command, 'missing', lambda method: '')
  monkeypatch.setattr(sandbox_command, 'isolated', lambda *_: ['sh', '-c', 'echo no right >&2'])
  assert 'did not come up' in sandbox._reason('unshare') and 'no right' in sandbox._reason(
    'unshare'
  )
  open_air = lambda method, program, arguments, limits: sandbox_command.unsandboxed(
    str(tmp_path), program, arguments, limits
  )
  monkeypatch.setattr(sandbox_command, 'isolated', open_air)
  assert sandbox._reason('unshare').startswith('did not isolate')


def test_a_signal_is_told_from_a_status(no_sandbox):
  with pytest.warns(UserWarning):
    result = sandbox.run(
      f'import os\nos.kill(os.getpid(), {int(signal.SIGTERM)})', allow_unsandboxed=True
    )
  assert result.status == 128 + signal.SIGTERM


def test_a_sandbox_that_does_not_come_up_gets_a_second_try(monkeypatch):
  real, tried = sandbox._run, []

  def first_fails(*arguments):
    tried.append(arguments)
    if len(tried) == 1:
      raise SandboxError('the sandbox did not come up')
    return real(*arguments)

  assert sandbox.available()
  monkeypatch.setattr(sandbox, '_run', first_fails)
  assert sandbox.run('print(1)').stdout == b'1\n' and len(tried) == 2
