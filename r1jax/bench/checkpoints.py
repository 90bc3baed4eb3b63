"""Reading and writing a checkpoint in Hugging Face layout, beside transformers.

    pip install -e '.[bench]'
    python -m r1jax.bench.checkpoints

A random model of 0.73 billion parameters in bfloat16 (1.5 GB, in files of 0.5 GB) is read into memory and written
again, by each side in a process of its own, on files that the page cache holds. The sides take turns, three each, and
the fastest counts: a virtual machine is slow where it touches memory for the first time. CPU: seconds of all threads.
Peak: the most resident memory of the process, mapped files included. Over: what the peak has beyond the memory
before and the arrays that are kept, in units of the largest tensor. Linux only.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax

from r1jax.model import hf, weights
from r1jax.model.sizes import ModelConfig, Rope
from r1jax.model.transformer import spec

GB = 10**9
MODEL = ModelConfig(
  name='bench', family='qwen2', vocab=151936, embed=1024, layers=24, heads=16, kv_heads=4, head_dim=64,
  mlp=4864, rope=Rope(theta=1e6), max_positions=32768, qkv_bias=True, param_dtype='bfloat16',
)  # fmt: skip
TURNS = 3
LARGEST = MODEL.vocab * MODEL.embed * 2  # bytes of its largest tensor


def memory(key: str) -> int:
  """VmRSS or VmHWM of this process, in bytes."""
  with open('/proc/self/status') as file:
    return int(re.search(rf'{key}:\s+(\d+) kB', file.read())[1]) * 1024


def measured(act: Callable):
  """-> what it returns, its seconds, its CPU-seconds, its peak, and that above the memory before, in bytes."""
  with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')  # the peak begins anew
  before, started, busy = memory('VmRSS'), time.perf_counter(), time.process_time()
  value = act()
  seconds, busy = time.perf_counter() - started, time.process_time() - busy
  peak = memory('VmHWM')
  return value, seconds, busy, peak, peak - before


def ours(source: str, destination: str) -> dict[str, list[float]]:
  """Directories -> 'read' and 'write' -> seconds, CPU-seconds, peak, new."""

  def read():
    return jax.block_until_ready(hf.load(source))

  (params, cfg), *reading = measured(read)
  _, *writing = measured(lambda: hf.export(params, cfg, destination, shard_bytes=GB // 2))
  return {'read': reading, 'write': writing}


def theirs(source: str, destination: str) -> dict[str, list[float]]:
  """The same by transformers; every parameter is touched, as it might only be mapped."""
  import transformers

  def read():
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype='auto')
    for parameter in model.parameters():
      parameter.sum()
    return model

  model, *reading = measured(read)
  _, *writing = measured(lambda: model.save_pretrained(destination, max_shard_size='500MB'))
  return {'read': reading, 'write': writing}


SIDES = {'r1jax': ours, 'transformers': theirs}


def compare(folder: str, sides: list[str]) -> dict[str, dict]:
  """Side -> what its process has measured."""
  source, found = f'{folder}/model', {}
  hf.export(weights.init(spec(MODEL), MODEL, jax.random.key(0)), MODEL, source, shard_bytes=GB // 2)
  for side in sides * TURNS:
    shutil.rmtree(f'{folder}/{side}', ignore_errors=True)
    command = [
      sys.executable, '-m', 'r1jax.bench.checkpoints', '--side', side, '--of', source, f'{folder}/{side}',
    ]  # fmt: skip
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    new = json.loads(done.stdout.splitlines()[-1])
    found[side] = {task: min(new[task], found.get(side, new)[task]) for task in new}
  return found


def describe(found: dict[str, dict]) -> list[str]:
  """Measurements -> lines."""
  size, lines = weights.count(spec(MODEL), MODEL) * 2, []
  for side, tasks in found.items():
    for task, (seconds, busy, peak, new) in tasks.items():
      over = (new - (size if task == 'read' else 0)) / LARGEST
      lines.append(
        f'{side:12} {task:5} {size / seconds / GB:6.2f} GB/s, {busy:5.1f} CPU-seconds, peak {peak / GB:5.2f} GB, '
        f'over {over:5.2f} largest tensors'
      )
  return lines


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m r1jax.bench.checkpoints', description=__doc__.splitlines()[0]
  )
  parser.add_argument('--side', choices=tuple(SIDES), help='measure this one only')
  parser.add_argument('--of', nargs=2, help='directories to read and to write, in this process')
  args = parser.parse_args()
  if args.of:
    print(json.dumps(SIDES[args.side](*args.of)))
    return
  with tempfile.TemporaryDirectory() as folder:
    print('\n'.join(describe(compare(folder, [args.side] if args.side else list(SIDES)))))


if __name__ == '__main__':
  main()
