"""The system calls that a program in a sandbox is refused: a seccomp filter (Linux: seccomp_filter.rst).

It closes what namespaces and resource limits leave open: sockets of families that have no namespace (AF_VSOCK), memory
that counts against no limit of a process (memfd, System V, pages held by pipes), io_uring, which makes calls that no
filter sees, the keys of the user outside, and namespaces of the program's own, in which it could mount what it likes.
All are refused with EPERM, and with them every call through another ABI of the machine: 32 bit and x32.
"""

import errno
import platform
import struct
import sys

# Of each architecture: what the kernel calls it (AUDIT_ARCH_*), and its column in the tables below.
_ARCHITECTURES = {'x86_64': (0xC000003E, 0), 'aarch64': (0xC00000B7, 1)}

_REFUSED = {
  'memfd_create': (319, 279),
  'memfd_secret': (447, 447),
  'shmget': (29, 194),
  'semget': (64, 190),
  'msgget': (68, 186),
  'mq_open': (240, 180),
  'vmsplice': (278, 75),
  'io_uring_setup': (425, 425),
  'io_uring_enter': (426, 426),
  'io_uring_register': (427, 427),
  'userfaultfd': (323, 282),
  'add_key': (248, 217),
  'request_key': (249, 218),
  'keyctl': (250, 219),
  'bpf': (321, 280),
  'perf_event_open': (298, 241),
  'unshare': (272, 97),
  'setns': (308, 268),
}
_SOCKETS = {'socket': (41, 198), 'socketpair': (53, 199)}
_CLONE, _CLONE3 = (56, 220), (435, 435)

_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET
_X32 = 0x40000000  # set in the number of a call through that ABI

# Offsets in struct seccomp_data; of an argument the half that the kernel takes for an int, on little-endian machines.
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

# Ahead of a driver, in its process. It leaves no name behind, or a program could do without an import of its own.
_INSTALL = """
def shut_in(code):
  import ctypes, os, struct
  if code:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    kept = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack('HP', len(code) // 8, ctypes.addressof(kept)))
    address = ctypes.addressof(program)
    for call in ((38, 1, 0, 0, 0), (22, 2, address, 0, 0)):  # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP, to a filter
      if prctl(*map(ctypes.c_ulong, call)):
        raise OSError(ctypes.get_errno(), 'seccomp refused')
  os.write(2, STARTED)
shut_in(FILTER)
del shut_in
"""


def machine() -> str:
  """The architecture of this process's system calls, '' where there is no filter for it."""
  name = {'arm64': 'aarch64', 'AMD64': 'x86_64'}.get(platform.machine(), platform.machine())
  return name if name in _ARCHITECTURES and sys.maxsize > 2**32 else ''


def missing() -> str:
  """What has to be said aloud where there is no filter, '' where there is one."""
  if machine():
    return ''
  return (
    f'there is no filter of system calls for {platform.machine()}: a program may reach AF_VSOCK, and use memory that '
    f'no limit counts; there is one for {" and ".join(_ARCHITECTURES)}'
  )


def prologue(started: bytes) -> str:
  """Source that goes ahead of a driver: it installs the filter, then writes `started` to stderr; it raises instead
  where the kernel takes no filter, so that nothing runs without."""
  code = program(machine()) if machine() else b''
  return _INSTALL.replace('FILTER', repr(code)).replace('STARTED', repr(started))


def program(architecture: str) -> bytes:
  """The filter, 8 bytes an instruction. Rules in a row, each of which answers or falls through to the next."""
  value, column = _ARCHITECTURES[architecture]
  refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
  allow = _instruction(_RETURN, _ALLOW)
  first = _instruction(_LOAD, _FIRST)
  rules = [
    _instruction(_LOAD, _ARCHITECTURE),
    _instruction(_EQUAL, value, 1, 0) + refuse,
    _instruction(_LOAD, _NUMBER),
    _instruction(_AT_LEAST, _X32, 0, 1) + refuse,
    *(_instruction(_EQUAL, call[column], 0, 1) + refuse for call in _REFUSED.values()),
    # Its flags are out of a filter's sight. Where it seems not to exist, the C library takes clone.
    _instruction(_EQUAL, _CLONE3[column], 0, 1) + _instruction(_RETURN, _ERRNO | errno.ENOSYS),
    _instruction(_EQUAL, _CLONE[column], 0, 4) + first,
    _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1) + refuse + allow,
  ]
  for call in _SOCKETS.values():
    rules += [_instruction(_EQUAL, call[column], 0, 4) + first]
    rules += [_instruction(_EQUAL, _AF_UNIX, 1, 0) + refuse + allow]
  return b''.join([*rules, allow])


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
  """if_true, if_false: how many instructions a comparison skips."""
  return struct.pack('<HBBI', code, if_true, if_false, value)
