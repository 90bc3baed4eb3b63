"""A GRPO step of r1jax beside one of TRL's, on the same model, prompts and cores.

    pip install -e '.[bench]'
    python -m r1jax.bench small
    python -m r1jax.bench large

small: CPU-seconds of a step on one thread. large: completion tokens a second over the whole step on two threads,
for very unequal and for equal lengths, and what bounds each phase of ours. A step is everything between two
updates: rollout, reward, log-probabilities of the reference, gradient, AdamW. TRL learns from all sequences at
once, as it does by itself; in large then also from 16 at a time, the fastest for it of 8, 16, 32 and all. Every
measurement runs in a process of its own, pinned to its cores, after a step that is not counted; sides take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import jax

from r1jax.bench.cases import CASES, Case
from r1jax.model import hf, weights
from r1jax.model.transformer import spec

OURS = 'r1jax'


def sides_of(case: Case) -> dict[str, tuple[str, ...]]:
  """Name of a side -> module and last arguments of its process."""
  theirs = {
    f'TRL, {n} at once' if n else 'TRL': ('r1jax.bench.theirs', str(n)) for n in case.theirs
  }
  return {OURS: ('r1jax.bench.ours',)} | theirs


def measure(name: str, side: str, directory: str) -> dict:
  """One process of one side -> what it prints last."""
  case = CASES[name]
  module, *more = sides_of(case)[side]
  threads = {f'{k}_NUM_THREADS': str(case.threads) for k in ('OMP', 'MKL', 'OPENBLAS')}
  offline = {'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-m', module, directory, name, *more], env=os.environ | threads | offline,
    stdout=subprocess.PIPE, text=True, check=True,
  )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, sides: list[str]) -> dict[str, dict]:
  """Side -> its steps, and for r1jax the machine."""
  case, found = CASES[name], {side: {'steps': []} for side in sides}
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.threads])  # children inherit it
  with tempfile.TemporaryDirectory() as folder:
    params = weights.init(spec(case.model), case.model, jax.random.key(0))
    hf.export(params, case.model, f'{folder}/model')
    for _ in range(case.turns):
      for side in sides:
        print(f'{name}: {side}', file=sys.stderr, flush=True)
        new = measure(name, side, f'{folder}/model')
        found[side] |= new | {'steps': found[side]['steps'] + new['steps']}
  return found


def describe(case: Case, found: dict[str, dict]) -> list[str]:
  """Measurements -> lines: each side's step, and ours in relation to theirs."""
  lines, speed, cost = [], {}, {}
  for side, measured in found.items():
    steps = measured['steps']
    tokens, seconds = (sum(s[k] for s in steps) for k in ('tokens', 'seconds'))
    speed[side] = tokens / seconds
    cost[side] = statistics.median(s['cpu_seconds'] for s in steps)
    lines.append(
      f'{side:15} {tokens / len(steps):8.0f} completion tokens a step, {seconds / len(steps):8.3f} s, '
      f'{cost[side]:8.3f} CPU-seconds (median), {speed[side]:7.0f} tokens/s'
    )
  lines += [
    f'{OURS} / {side}: {cost[OURS] / cost[side]:.2f} of the CPU-seconds, {speed[OURS] / speed[side]:.1f} times the '
    f'tokens/s ({case.threads} thread{"s" * (case.threads > 1)})'
    for side in found if OURS in found and side != OURS
  ]  # fmt: skip
  return lines


def bounds(case: Case, measured: dict) -> list[str]:
  """Our phases against what the machine can do at most."""
  cfg, top = case.model, measured['machine']
  total = {k: sum(s[k] for s in measured['steps']) for k in measured['steps'][0]}
  context = total['context'] / len(measured['steps'])
  products = weights.count(spec(cfg), cfg) * 2  # the tied embedding is the head
  attention = 4 * cfg.layers * cfg.heads * cfg.head_dim * context
  cached = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * 4 * context  # bytes a token reads
  work = {
    'rollout': (total['tokens'], products + attention, cached),
    'reference': (total['rows'], products + attention, 0),
    'update': (total['rows'], 3 * (products + attention), 0),
  }
  lines = [
    f'machine: {top["flops"] / 1e9:.0f} GFLOP/s in a matrix product, {top["bytes"] / 1e9:.0f} GB/s of memory',
    f'live slots: {total["tokens"] / total["decoded"]:.2f} of those decoded',
  ]
  for phase, (tokens, flops, bytes_) in work.items():
    seconds = total[phase]
    parts = {
      'matrix products': tokens * flops / top['flops'] / seconds,
      'reading the cache': tokens * bytes_ / top['bytes'] / seconds,
    }
    if phase == 'rollout':
      dead = total['decoded'] / total['tokens'] - 1
      parts['dead slots'] = dead * sum(parts.values())
    parts['what is below' if phase == 'rollout' else 'the rest'] = 1 - sum(parts.values())
    shares = ', '.join(f'{share:.0%} {part}' for part, share in parts.items() if share > 0.005)
    lines.append(
      f'{phase:10} {total["tokens"] / seconds:6.0f} completion tokens/s, {parts["matrix products"]:.0%} of the '
      f'matmul peak; bound by {max(parts, key=parts.get)} (at the speeds above: {shares})'
    )
  return lines + [_decoding(case, measured, products, top)]


def _decoding(case: Case, measured: dict, products: int, top: dict) -> str:
  """One decoding step with all rows, part by part. products: FLOPs of a token in them."""
  step, cfg = measured['decoding'], case.model
  rest = max(step['step'] - step['products'] - step['attention'], 0.0)
  speed = step['rows'] * products / step['products'] / top['flops']
  read = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * 4 * step['rows'] * step['columns']
  ms = {part: f'{1e3 * step[part]:.1f} ms' for part in ('step', 'products', 'attention')}
  return (
    f'a decoding step of {step["rows"]} rows with a cache of {step["columns"]} columns: {ms["step"]}; matrix products '
    f'{ms["products"]} ({speed:.0%} of the peak), attention {ms["attention"]} (the cache is read at '
    f'{read / step["attention"] / 1e9:.0f} GB/s), all else {1e3 * rest:.1f} ms'
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m r1jax.bench', description=__doc__.splitlines()[0]
  )
  parser.add_argument('size', choices=('small', 'large'))
  parser.add_argument('--side', choices=(OURS, 'TRL'), help='measure this one only')
  args = parser.parse_args()
  for name in [name for name in CASES if name.startswith(args.size)]:
    sides = [side for side in sides_of(CASES[name]) if side.startswith(args.side or '')]
    found = compare(name, sides)
    lines = [f'{name}:', *describe(CASES[name], found)]
    if OURS in found:
      lines += bounds(CASES[name], found[OURS])
    print('\n  '.join(lines), flush=True)


if __name__ == '__main__':
  main()
