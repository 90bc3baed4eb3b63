"""What a filter of system calls answers: on both architectures by BPF's rules, and on this machine for real."""

import errno
import platform
import struct

import pytest

from r1jax.rewards import sandbox, sandbox_command, sandbox_filter
from r1jax.rewards.sandbox import Limits

AUDIT = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7, 'i386': 0x40000003, 'arm': 0x40000028}
ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X32 = 0x40000000
SIGCHLD, THREAD, NEWUSER, NEWNET = 17, 0x3D0F00, 0x10000000, 0x40000000

# From the kernel's tables, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
CALLS = {
  'x86_64': {'socket': 41, 'socketpair': 53, 'clone': 56, 'clone3': 435, 'read': 0, 'mmap': 9, 'execve': 59},
  'aarch64': {'socket': 198, 'socketpair': 199, 'clone': 220, 'clone3': 435, 'read': 63, 'mmap': 222, 'execve': 221},
}  # fmt: skip
REFUSED = {
  'x86_64': {
    'memfd_create': 319, 'memfd_secret': 447, 'shmget': 29, 'semget': 64, 'msgget': 68, 'mq_open': 240,
    'vmsplice': 278, 'io_uring_setup': 425, 'io_uring_enter': 426, 'io_uring_register': 427, 'userfaultfd': 323,
    'add_key': 248, 'request_key': 249, 'keyctl': 250, 'bpf': 321, 'perf_event_open': 298, 'unshare': 272,
    'setns': 308,
  },
  'aarch64': {
    'memfd_create': 279, 'memfd_secret': 447, 'shmget': 194, 'semget': 190, 'msgget': 186, 'mq_open': 180,
    'vmsplice': 75, 'io_uring_setup': 425, 'io_uring_enter': 426, 'io_uring_register': 427, 'userfaultfd': 282,
    'add_key': 217, 'request_key': 218, 'keyctl': 219, 'bpf': 280, 'perf_event_open': 241, 'unshare': 97,
    'setns': 268,
  },
}  # fmt: skip
ARCHITECTURES = tuple(CALLS)

supported = pytest.mark.skipif(not sandbox_filter.machine(), reason='no filter for this machine')
working = [method for method in sandbox_command.METHODS if not sandbox._reason(method)]


def answer(code, architecture, number, argument=0):
  """What the kernel's machine (classic BPF, the instructions that seccomp knows) says to one call."""
  data = struct.pack('<IIQ6Q', number, architecture, 0, argument, *[0] * 5)
  instructions = list(struct.iter_unpack('<HBBI', code))
  at = accumulator = 0
  while True:
    operation, if_true, if_false, value = instructions[at]
    at += 1
    if operation == 0x20:
      accumulator = struct.unpack_from('<I', data, value)[0]
    elif operation == 0x06:
      return value
    else:
      holds = {
        0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)
      }[operation]  # fmt: skip
      at += if_true if holds else if_false


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_every_number_is_answered_as_the_tables_say(name):
  code, refused = sandbox_filter.program(name), set(REFUSED[name].values())
  special = {CALLS[name][call] for call in ('socket', 'socketpair', 'clone', 'clone3')}
  for number in set(range(600)) - special:
    expected = EPERM if number in refused else ALLOWED
    assert answer(code, AUDIT[name], number) == expected, number
  assert answer(code, AUDIT[name], CALLS[name]['clone3']) == ENOSYS


@pytest.mark.parametrize('name', ARCHITECTURES)
@pytest.mark.parametrize('call', ['socket', 'socketpair'])
def test_sockets_are_of_the_unix_family_alone(name, call):
  code, number = sandbox_filter.program(name), CALLS[name][call]
  assert answer(code, AUDIT[name], number, 1) == ALLOWED
  for family in (
    0,
    2,
    10,
    16,
    17,
    38,
    40,
  ):  # unspecified, both internets, netlink, packet, alg, vsock
    assert answer(code, AUDIT[name], number, family) == EPERM
  # The kernel takes the lower half: the upper one neither opens nor closes anything.
  assert answer(code, AUDIT[name], number, 40 | 1 << 32) == EPERM
  assert answer(code, AUDIT[name], number, 1 | 40 << 32) == ALLOWED


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_processes_and_threads_start_but_no_namespace(name):
  code, number = sandbox_filter.program(name), CALLS[name]['clone']
  assert answer(code, AUDIT[name], number, SIGCHLD) == ALLOWED
  assert answer(code, AUDIT[name], number, THREAD) == ALLOWED
  for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, NEWUSER, 0x20000000, NEWNET):
    assert answer(code, AUDIT[name], number, namespace | SIGCHLD) == EPERM


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_no_other_abi_is_open(name):
  code = sandbox_filter.program(name)
  for number in (0, 1, 41, 359, 356, 500):
    assert answer(code, AUDIT[name], number | X32, 1) == EPERM
    for other in set(AUDIT) - {name}:
      assert answer(code, AUDIT[other], number, 1) == EPERM
  assert answer(code, AUDIT[name], 0xFFFFFFFF) == EPERM


ERRORS = """
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
def error(number, *arguments):
  ctypes.set_errno(0)
  return ctypes.get_errno() if call(*map(ctypes.c_long, (number, *arguments, *[0] * (6 - len(arguments))))) < 0 else 0
"""


@supported
@pytest.mark.parametrize('method', working)
def test_the_kernel_refuses_what_the_tables_say(method, monkeypatch):
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  refused = REFUSED[sandbox_filter.machine()]
  program = ERRORS + f'print({{name: error(number) for name, number in {refused}.items()}})'
  assert sandbox.run(program).stdout.decode().strip() == str(dict.fromkeys(refused, errno.EPERM))


@supported
@pytest.mark.parametrize('method', working)
def test_it_is_the_filter_that_refuses(method, monkeypatch):
  """The same calls as above, without it."""
  monkeypatch.setattr(sandbox_filter, 'machine', lambda: '')
  monkeypatch.setattr(sandbox_filter, 'missing', lambda: '')
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  numbers = [REFUSED[platform.machine()][name] for name in ('memfd_create', 'shmget', 'keyctl')]
  program = ERRORS + f'print([error(number) for number in {numbers}])'
  assert str(errno.EPERM) not in sandbox.run(program).stdout.decode().strip('[]\n').split(', ')


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='x86_64 alone has these ABIs')
@pytest.mark.parametrize('method', working)
def test_the_other_abis_of_this_machine_are_refused(method, monkeypatch):
  """push rbx; mov eax, 359 or 356; mov ebx, argument; mov ecx, 1; xor edx, edx; int 0x80; pop rbx; ret"""
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  program = f"""{ERRORS}
import mmap
def interrupt(number, argument):
  page = mmap.mmap(-1, 4096, prot=7)
  low = lambda value: value.to_bytes(4, 'little')
  page.write(b'\\x53\\xb8' + low(number) + b'\\xbb' + low(argument))
  page.write(b'\\xb9' + low(1) + b'\\x31\\xd2\\xcd\\x80\\x5b\\xc3')
  return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print(interrupt(359, 40), interrupt(356, 0), interrupt(20, 0), error({X32} + 41, 40, 1, 0))
"""
  result = sandbox.run(program)
  if result.status == 128 + 11:
    pytest.skip('this kernel has no 32-bit system calls')
  assert result.stdout == b'-1 -1 -1 1\n'


@supported
@pytest.mark.parametrize('method', working)
def test_children_of_any_kind_inherit_it(method, monkeypatch):
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  program = """
import subprocess, sys, os, threading
attack = 'import socket\\ntry: socket.socket(40, 1)\\nexcept OSError as error: print(error.errno, flush=True)'
subprocess.run([sys.executable, '-S', '-c', attack])
thread = threading.Thread(target=exec, args=(attack,))
thread.start()
thread.join()
if os.fork() == 0:
  exec(attack)
  os._exit(0)
os.wait()
"""
  result = sandbox.run(program)
  assert (result.stdout, result.stderr) == (b'1\n' * 3, b'')


@supported
@pytest.mark.parametrize('method', working)
def test_ordinary_programs_work_under_it(method, monkeypatch):
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  program = """
import asyncio, concurrent.futures, ctypes, mmap, os, select, socket, subprocess, tempfile, time
a, b = socket.socketpair()
a.send(b'1')
print(b.recv(9), subprocess.run(['sh', '-c', 'echo 2 | cat'], capture_output=True).stdout)
with concurrent.futures.ThreadPoolExecutor(3) as pool:
  print(list(pool.map(abs, [-3, -4])))
print(asyncio.run(asyncio.sleep(0.01, 5)), len(mmap.mmap(-1, 4096)), os.popen('echo 6').read())
with tempfile.TemporaryFile() as file:
  print(file.write(b'7'), select.select([file], [], [], 0)[0] == [file], time.time() > 0)
callback = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 8)
print(callback(), os.path.exists('/tmp'))
"""
  result = sandbox.run(program, limits=Limits(seconds=20))
  assert result.stderr == b''
  assert result.stdout.decode().split('\n') == [
    "b'1' b'2\\n'", '[3, 4]', '5 4096 6', '', '1 True True', '8 True', '',
  ]  # fmt: skip


@supported
@pytest.mark.parametrize('method', working)
def test_a_kernel_that_takes_no_filter_is_no_sandbox(method, monkeypatch):
  monkeypatch.setattr(sandbox_filter, 'program', lambda name: b'\0' * 8)  # not a valid program
  assert 'seccomp refused' in sandbox._reason(method)
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  with pytest.raises(sandbox.SandboxError, match='seccomp refused'):
    sandbox.run('print(1)')


@supported
@pytest.mark.parametrize('method', working)
def test_a_filter_that_lets_all_pass_is_no_sandbox(method, monkeypatch):
  monkeypatch.setattr(
    sandbox_filter, 'program', lambda name: struct.pack('<HBBI', 6, 0, 0, ALLOWED)
  )
  assert sandbox._reason(method).startswith('did not isolate')


@pytest.mark.parametrize('method', working)
def test_another_architecture_goes_on_without_and_says_so(method, monkeypatch):
  monkeypatch.setattr(platform, 'machine', lambda: 'riscv64')
  monkeypatch.setattr(sandbox, 'available', lambda: method)
  assert sandbox_filter.machine() == ''
  assert 'riscv64' in sandbox.unsandboxed_warning(False)
  assert sandbox._reason(method) == ''
  with pytest.warns(UserWarning, match='no filter of system calls for riscv64.*x86_64 and aarch64'):
    assert sandbox.run('print(1)').stdout == b'1\n'


@pytest.mark.parametrize('name, ours', [('arm64', 'aarch64'), ('AMD64', 'x86_64'), ('i686', '')])
def test_architectures_are_known_by_their_other_names(name, ours, monkeypatch):
  monkeypatch.setattr(platform, 'machine', lambda: name)
  assert sandbox_filter.machine() == ours
