"""Checks that misbehave as the completion says, for test_pool."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from r1jax.rewards.verdict import CannotCheck, Verdict, verdict


def check(completion, problem, answer=None):
  if answer:
    return verdict(True, answer)
  action, _, argument = completion.partition(' ')
  return ACTIONS[action](argument)


def hang_with_child(path):
  child = subprocess.Popen(['sleep', '1000'])
  pathlib.Path(path).write_text(f'{os.getpid()} {child.pid}')
  time.sleep(1000)


def die_once(path):
  if pathlib.Path(path).exists():
    return verdict(True, 'second')
  pathlib.Path(path).touch()
  os.kill(os.getpid(), signal.SIGSEGV)


def die_after(seconds):
  time.sleep(float(seconds))
  os.kill(os.getpid(), signal.SIGSEGV)


def fail(message):
  raise KeyError(message)


def cannot(message):
  raise CannotCheck(message)


def say(text):
  print(text, flush=True)
  os.write(1, b'{"verdict": "no json of ours"}\n')
  return verdict(True, text)


ACTIONS = {
  'right': lambda text: verdict(True, text),
  'modules': lambda text: Verdict('right', str([m for m in text.split() if m in sys.modules])),
  'sleep': lambda text: time.sleep(float(text)),
  'spin': lambda text: sum(range(10**12)),
  'hang_with_child': hang_with_child,
  'die': lambda text: os.kill(os.getpid(), signal.SIGSEGV),
  'exit': lambda text: sys.exit(3),
  'die_after': die_after,
  'die_once': die_once,
  'eat': lambda text: verdict(True, str(len(bytearray(2**29)))),
  'fail': fail,
  'cannot': cannot,
  'say': say,
}
