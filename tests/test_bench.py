"""The benchmark against TRL: its arithmetic by hand, and a step of ours."""

import dataclasses

import jax
import numpy as np
import pytest

from r1jax.bench.__main__ import bounds, describe, sides_of
from r1jax.bench.cases import CASES, SMALL, Case
from r1jax.bench.ours import Run, decoding_step
from r1jax.model import hf

# One layer of width 4, 2 heads of 2, 1 key head: q and o 16 each, k and v 8 each, biases 4 + 2 + 2, mlp 3 * 32,
# norms 3 * 4, embedding and head 20: 184 weights.
TINY = dataclasses.replace(
  SMALL.model, vocab=5, embed=4, layers=1, heads=2, kv_heads=1, head_dim=2, mlp=8
)
HAND = Case(TINY, prompts=2, group=2, prompt=4, new_tokens=8, threads=1, steps=1, turns=1)


def test_sides_by_hand():
  ours = [
    {'tokens': 100, 'seconds': 2.0, 'cpu_seconds': 1.0},
    {'tokens': 50, 'seconds': 1.0, 'cpu_seconds': 3.0},
  ]
  theirs = [{'tokens': 120, 'seconds': 6.0, 'cpu_seconds': 8.0}]
  faster = [{'tokens': 120, 'seconds': 3.0, 'cpu_seconds': 4.0}]
  names = list(sides_of(dataclasses.replace(HAND, theirs=(0, 2))))
  assert names == ['r1jax', 'TRL', 'TRL, 2 at once']
  found = zip(names, ({'steps': steps} for steps in (ours, theirs, faster)), strict=True)
  lines = describe(HAND, dict(found))
  ours_by_hand = (
    'r1jax 75 completion tokens a step, 1.500 s, 2.000 CPU-seconds (median), 50 tokens/s'
  )
  assert ' '.join(lines[0].split()) == ours_by_hand
  assert lines[3] == 'r1jax / TRL: 0.25 of the CPU-seconds, 2.5 times the tokens/s (1 thread)'
  assert lines[4].startswith('r1jax / TRL, 2 at once: 0.50 of the CPU-seconds, 1.2 times')
  assert len(describe(HAND, {'TRL': {'steps': theirs}})) == 1


def test_bounds_by_hand():
  """A token takes 2 * 184 + 4 * 1 * 2 * 2 * 10 = 528 FLOPs of 5,280 a second, and reads 2 * 1 * 1 * 2 * 4 * 10 = 160
  bytes of 1,600 a second.
  """
  step = {'rollout': 40.0, 'reference': 10.0, 'update': 30.0, 'tokens': 100, 'decoded': 150,
          'context': 10.0, 'rows': 80}  # fmt: skip
  decoding = {'step': 2.0, 'products': 1.0, 'attention': 0.4, 'rows': 4, 'columns': 16}
  machine = {'flops': 5280.0, 'bytes': 1600.0}
  lines = bounds(HAND, {'steps': [step], 'machine': machine, 'decoding': decoding})
  assert lines[1] == 'live slots: 0.67 of those decoded'
  # 10 s of products, 10 s of reading, half of both for dead slots.
  assert '2 completion tokens/s, 25% of the matmul peak' in lines[2]
  assert '25% matrix products, 25% reading the cache, 25% dead slots, 25% what is below' in lines[2]
  assert 'bound by matrix products (at the speeds above: 80% matrix products, 20%' in lines[3]
  assert '80% of the matmul peak' in lines[4]
  # 4 rows * 368 FLOPs in 1 s of 5,280; 16 bytes * 4 rows * 16 columns in 0.4 s.
  assert lines[5].startswith('a decoding step of 4 rows with a cache of 16 columns: 2000.0 ms;')
  assert 'matrix products 1000.0 ms (28% of the peak), attention 400.0 ms' in lines[5]
  assert lines[5].endswith('all else 600.0 ms')


@pytest.mark.parametrize(('equal', 'devices'), [(False, 1), (True, 1), (True, 2)])
def test_a_step_of_ours(tmp_path, random_params, mesh_of, equal, devices):
  case = dataclasses.replace(SMALL, steps=1, equal=equal)
  hf.export(random_params(case.model), case.model, tmp_path / 'model')
  with jax.set_mesh(mesh_of(data=devices)):
    run = Run(str(tmp_path / 'model'), case)
    measured = run.step(case.draw_prompts()[0])
    parts = decoding_step(run)
  assert int(run.state.step) == 1
  assert len(jax.tree.leaves(run.state.policy)[0].devices()) == devices
  total = case.prompts * case.group * case.new_tokens
  assert measured['tokens'] == total if equal else 0 < measured['tokens'] <= total
  assert measured['tokens'] <= measured['decoded'] and measured['tokens'] <= measured['rows']
  phases = sum(measured[phase] for phase in ('rollout', 'reference', 'update'))
  assert measured['seconds'] == pytest.approx(phases)
  assert parts['rows'] == case.prompts * case.group and parts['columns'] == 48
  assert min(parts[part] for part in ('step', 'products', 'attention')) > 0


def test_both_sides_get_the_same_prompts():
  for case in CASES.values():
    first, again = case.draw_prompts(), case.draw_prompts()
    assert len(first) == case.steps + 1
    np.testing.assert_array_equal(first, again)
    assert np.min(first) >= 2 and np.max(first) < case.model.vocab  # neither padding nor EOS
