"""r1jax.main with a size and a reward for random weights, and faults where the test wants them:

    FAULTS='r1jax.report.Report.step:before:3:KILL r1jax.rollout.generate:after:1:TERM' python resume_driver.py ...

A fault is a signal that the process gets right before or right after the n-th call of a function, or NAN: what
the n-th call returns is multiplied by it.
"""

import dataclasses
import functools
import os
import pkgutil
import runpy
import signal
import zlib
from concurrent.futures import Future

from r1jax.model import sizes
from r1jax.rewards.parts import parts
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import verdict


def fault(path: str, when: str, number: str, name: str) -> None:
  """Wraps a function, named by its full path, so that its n-th call brings the fault."""
  owner, _, attribute = path.rpartition('.')
  owner = pkgutil.resolve_name(owner)
  function, calls = getattr(owner, attribute), iter(range(1, 10**9))

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    due = next(calls) == int(number)
    if due and when == 'before':
      os.kill(os.getpid(), signal.Signals[f'SIG{name}'])
    result = function(*args, **kwargs)
    if due and name == 'NAN':
      return result * float('nan')
    if due and when == 'after':
      os.kill(os.getpid(), signal.Signals[f'SIG{name}'])
    return result

  setattr(owner, attribute, wrapped)


small = sizes.get('tiny_moe')
sizes._SIZES['micro_moe'] = dataclasses.replace(
  small, name='micro_moe', embed=32, layers=2, heads=2, kv_heads=2, head_dim=16, mlp=48, init_std=0.2,
  mla=dataclasses.replace(small.mla, q_latent=24, kv_latent=16, nope=16, rope=8, v=16),
  moe=dataclasses.replace(small.moe, expert_mlp=16),
)  # fmt: skip


def chance(self, text: str, problem, language: str = '') -> Future:
  """Random weights solve nothing: chance decides, the same one for the same text."""
  checked, found = Future(), verdict(bool(zlib.crc32(text.encode()) % 2), text)
  checked.set_result(dataclasses.replace(found, parts=parts(text, language)))
  return checked


Pool.submit = chance

for spec in os.environ.get('FAULTS', '').split():
  fault(*spec.split(':'))
runpy.run_module('r1jax.main', run_name='__main__')
