"""The programs of a rollout, as XLA has compiled them for a CPU."""

import dataclasses
import math
import re
import types

import jax
import numpy as np
import pytest

from r1jax import decoding
from r1jax.bench.cases import SMALL
from r1jax.model import sizes
from r1jax.slots import empty_slots

ROWS, COLUMNS, WIDTH = 8, 256, 16
DENSE = dataclasses.replace(SMALL.model, embed=128, mlp=256)
HEADER = re.compile(r'(?:ENTRY )?%?([\w.-]+) \(.*\{$')
INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?[\w.-]+ = \w+\[([\d,]+)\]\S* ([\w-]+)\(')


def moved_in_loops(program: str) -> list[tuple[str, str]]:
  """HLO -> (operation, shape) of all copies and transposes in bodies of loops, and in what these call."""
  bodies: dict[str, list[str]] = {}
  for line in program.splitlines():
    if header := HEADER.match(line):
      lines = bodies.setdefault(header[1], [])
    elif bodies:
      lines.append(line)
  reached, found = re.findall(r'body=%?([\w.-]+)', program), []
  assert reached, 'no loop'
  for name in reached:  # grows
    for line in bodies[name]:
      called = re.findall(r'(?:calls|to_apply)=%?([\w.-]+)', line)
      reached += [name for name in called if name not in reached]
      instruction = INSTRUCTION.match(line)
      if instruction and instruction[2] in ('copy', 'transpose'):
        found.append((instruction[2], instruction[1]))
  return found


@pytest.mark.parametrize('name', ['tiny_moe', 'tiny_dense', 'two_key_heads'])
def test_a_decoding_step_moves_no_cache_and_no_matrix(name, random_params):
  """Only what is as small as the rows' activations is copied or transposed."""
  cfg = DENSE if name == 'two_key_heads' else sizes.get(name)
  w, how = random_params(cfg), decoding.SamplingConfig(max_tokens=64)
  slots = empty_slots(cfg, ROWS, COLUMNS, WIDTH)
  program = decoding.decode.lower(w, slots, np.ones(ROWS, bool), cfg, how, (1,)).compile().as_text()
  small = 10_000
  assert min(x.size for x in jax.tree.leaves(slots.cache.entries)) > small
  assert min(w.stacks[0].ffn.gate[0].size, w.stacks[0].ffn.down[0].size) > small
  moved = moved_in_loops(program)
  assert [m for m in moved if math.prod(map(int, m[1].split(','))) > small] == []


def test_moved_in_loops_finds_what_is_moved():
  """A loop that turns a matrix around in every turn, beside one that does not."""

  def run(x, turned: bool):
    turn = lambda i, x: jax.lax.optimization_barrier(x.T if turned else x) @ x + i
    return jax.lax.fori_loop(0, x[0, 0].astype(int), turn, x)

  x = np.ones((128, 128), np.float32)
  programs = [
    jax.jit(run, static_argnums=1).lower(x, turned).compile().as_text() for turned in (True, False)
  ]
  found = [[shape for _, shape in moved_in_loops(p) if shape == '128,128'] for p in programs]
  assert found[0] and not found[1]


def test_warm_up_compiles_and_runs_nothing(monkeypatch, random_params):
  """Two programs that threads had started on the devices of a mesh would wait for each other."""
  how = decoding.SamplingConfig(max_tokens=32)
  w, shapes, lowered = random_params(DENSE), decoding.shapes_of(4, 4, 4, how), []

  def lower(name, program):
    return lambda *args, **kwargs: lowered.append(name) or program.lower(*args, **kwargs)

  for name in ('decode', 'insert', 'rearrange'):  # what is left cannot be called
    program = types.SimpleNamespace(lower=lower(name, getattr(decoding, name)))
    monkeypatch.setattr(decoding, name, program)
  decoding.warm_up(w, DENSE, shapes, how, (1,))
  pairs = [(rows, columns) for rows in shapes.rows for columns in shapes.columns_of(rows)]
  assert len(pairs) > 2 and lowered.count('decode') == len(pairs)
  assert lowered.count('insert') == len(shapes.columns)
  moves = sum(len(decoding.next_shapes(shapes, *size)) for size in pairs)
  assert lowered.count('rearrange') == moves


def test_what_is_raised_between_two_programs_ends_warm_up(random_params):
  how = decoding.SamplingConfig(max_tokens=32)
  polls = iter((None, None, KeyboardInterrupt()))

  def poll():
    if (error := next(polls)) is not None:
      raise error

  with pytest.raises(KeyboardInterrupt):
    decoding.warm_up(random_params(DENSE), DENSE, decoding.shapes_of(4, 4, 4, how), how, (1,), poll)
  assert next(polls, 'no more') == 'no more'
