"""A worker of the pool: `python -m r1jax.rewards.worker PARENT_PID BYTES`. Reads items from stdin, one JSON object a
line, and answers each with a line. Never imports jax.

It ends with its parent, whatever it is doing on Linux, and elsewhere when the check under way is done.
"""

import contextlib
import ctypes
import dataclasses
import functools
import importlib
import json
import os
import resource
import signal
import sys
import time

from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.parts import parts
from r1jax.rewards.verdict import UNPARSEABLE, CannotCheck, Verdict

_PR_SET_PDEATHSIG = 1


def main(parent: int, memory: int) -> None:
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:
    return
  if memory:
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
      hard = resource.getrlimit(resource.RLIMIT_AS)[
        1
      ]  # stays: a program may have more than its check
      resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
  replies = os.fdopen(os.dup(1), 'w', buffering=1)
  os.dup2(2, 1)  # what a library prints must not look like a reply
  loaded = {}
  replies.write(json.dumps({'loaded': ''}) + '\n')
  for line in sys.stdin:
    item = json.loads(line)
    problem = Problem(**item['problem'] | {'numbers': tuple(item['problem']['numbers'])})
    if problem.kind not in loaded:
      loaded[problem.kind] = _load(item['module'])
      replies.write(json.dumps({'loaded': problem.kind}) + '\n')
    check = functools.partial(loaded[problem.kind], **item['options'])
    said = reply(check, item['completion'], problem, item['language'])
    replies.write(json.dumps(said) + '\n')


def _load(module: str):
  """module -> its check; one that cannot be imported says so for every item."""
  try:
    return importlib.import_module(module).check
  except Exception as error:
    failure = error

  def fail(completion, problem, **options):
    raise failure

  return fail


def reply(check, completion: str, problem: Problem, language: str) -> dict:
  """What the parent is told of one completion: a verdict with its parts, or why nothing can be checked here."""
  try:
    verdict = attempt(check, completion, problem)
  except CannotCheck as error:
    return {'cannot': str(error)}
  return {'verdict': vars(verdict) | {'parts': parts(completion, language)}}


def attempt(check, completion: str, problem: Problem) -> Verdict:
  """One check, timed. It is given what follows the thought alone, so that none finds an answer in an open one.

  Out of memory is for the parent to see: the worker dies. Raises CannotCheck.
  """
  start = time.perf_counter()
  try:
    verdict = dataclasses.replace(check(format.after_thought(completion), problem))
  except (MemoryError, CannotCheck):
    raise
  except Exception as error:
    verdict = Verdict(UNPARSEABLE, note=f'the check raised {error!r:.200}', failed=True)
  return dataclasses.replace(verdict, seconds=time.perf_counter() - start)


if __name__ == '__main__':
  main(int(sys.argv[1]), int(sys.argv[2]))
