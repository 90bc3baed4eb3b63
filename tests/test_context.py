"""Streams of noise: no purpose, stage or step shares one with another."""

from pathlib import Path

import jax
import numpy as np

from experiments import r1_zero
from r1jax import tokenizer
from r1jax.config import resolve
from r1jax.mesh import make_mesh
from r1jax.stages.context import PURPOSES, Context
from r1jax.stages.grpo import step_key


def test_two_stages_and_the_evaluations_between_them_share_no_noise():
  c = r1_zero.get_config('tiny_dense')
  c.stages = ('before:evaluate', 'first:grpo', 'between:evaluate', 'second:grpo')
  c.first, c.second = c.rl, c.rl.copy_and_resolve_references()
  del c.rl
  experiment = resolve(c)
  devices = make_mesh(devices=jax.devices()[:1])
  context = Context(experiment, Path('nowhere'), devices, tokenizer.load(experiment.init.path))
  trained = [stage for stage in experiment.stages if stage.kind == 'grpo']
  assert [context.number(stage) for stage in trained] == [1, 3]
  roots = [context.key('training', stage) for stage in trained]
  keys = [step_key(root, step) for root in roots for step in range(20)]
  keys += [*roots, *map(context.key, PURPOSES)]
  data = np.stack([jax.random.key_data(key) for key in keys])
  assert len(np.unique(data, axis=0)) == 2 * 20 + 2 + len(PURPOSES)
