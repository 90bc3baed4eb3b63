"""What an experiment needs, found out abstractly: every program is traced, nothing is allocated, no weight is read.

Left out for now: compiling for a slice of TPUs, its temporaries and its time.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from r1jax import decoding, optimizer, state, update
from r1jax import mesh as mesh_lib
from r1jax import slots as slots_lib
from r1jax.batch import Batch, BatchShape, batch_shape
from r1jax.config import Experiment, Stage
from r1jax.decoding import Shapes, shapes_of
from r1jax.model import cache, weights
from r1jax.model.transformer import spec

GIB = 2**30


def describe(experiment: Experiment) -> str:
  """Experiment -> text: parameters, mesh, and for each stage its batch shapes and bytes a device."""
  model = experiment.model_config
  mesh = abstract_mesh(experiment)
  whole = spec(model)
  main = weights.count(whole.replace(mtp=None), model)
  extra = f' + {weights.count(whole.mtp, model):,} for multi-token prediction' if model.mtp else ''
  lines = [
    f'experiment   {experiment.name}',
    f'model        {experiment.model.size}: {main:,} parameters{extra}, {experiment.model.dtype}',
    f'mesh         {" x ".join(f"{n} {s}" for n, s in mesh.shape.items())} = {mesh.size} devices',
  ]
  for stage in experiment.stages:
    lines += ['', f'{stage.name} ({stage.kind})', *_stage(experiment, stage, mesh)]
  return '\n'.join(lines)


def abstract_mesh(experiment: Experiment) -> jax.sharding.AbstractMesh:
  """The mesh of the config, whether its devices are here or not; -1 is what remains of those that are here."""
  sizes = experiment.mesh.axes
  known = math.prod(s for s in sizes.values() if s > 0)
  shape = tuple(max(jax.device_count() // known, 1) if s == -1 else s for s in sizes.values())
  return jax.sharding.AbstractMesh(shape, mesh_lib.AXES)


def _stage(experiment: Experiment, stage: Stage, mesh) -> list[str]:
  settings, lines = stage.settings, []
  if hasattr(settings, 'sampling'):
    lines += _sampling(experiment, settings, mesh)
  if hasattr(settings, 'optimizer'):
    lines += _training(experiment, settings, mesh)
  return lines


def _sampling(experiment: Experiment, settings, mesh) -> list[str]:
  """Shapes and cache of a rollout."""
  model, how, ways = experiment.model_config, settings.sampling, mesh_lib.data_ways(mesh)
  prompts, group = _prompts(settings)
  unknown = not prompts * group  # all problems, or each benchmark's own number of samples
  fill = (how.slots or 1, 1) if unknown else (prompts, group)
  shapes = shapes_of(*fill, experiment.prompt.longest, how, ways)
  layers = model.layers + (model.mtp if how.speculative else 0)
  token = cache.bytes_per_token(model, jnp.dtype(model.compute_dtype).itemsize)
  token = token // model.layers * layers
  _trace_sampling(model, how, shapes)
  return [
    f'  rollout    {prompts or "all"} prompts x {group or "their"} samples, {experiment.prompt.longest} + '
    f'{how.max_tokens} tokens, {shapes.rows[0]} rows decoded at once, cache of {shapes.columns[-1]} columns',
    f'  cache      {token * shapes.rows[0] * shapes.columns[-1] / ways / GIB:.2f} GiB a device '
    f'({token:,} bytes a token)',
  ]


def _trace_sampling(model, how, shapes: Shapes) -> None:
  """Builds prefill and decoding of the longest rows abstractly; what cannot be raises here."""
  policy = weights.abstract(spec(model), model)
  slots = jax.eval_shape(
    lambda: slots_lib.blank_slots(
      model, shapes.rows[0], shapes.columns[-1], shapes.width, how.speculative, jnp.zeros
    )
  )
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  prompts, live = ints(shapes.prompts), jax.ShapeDtypeStruct(shapes.rows[:1], bool)
  jax.eval_shape(
    lambda w, *args: decoding.prefill(w, *args, model, shapes.group, how.speculative), policy,
    ints(shapes.prompts, shapes.width), prompts, prompts, jax.eval_shape(lambda: jax.random.key(0)),
  )  # fmt: skip
  jax.eval_shape(lambda w, *args: decoding.decode(w, *args, model, how, (0,)), policy, slots, live)


def _prompts(settings) -> tuple[int, int]:
  """Prompts of one rollout, samples of each."""
  if hasattr(settings, 'prompts_per_step'):
    return settings.prompts_per_step * settings.steps_per_rollout, settings.samples_per_prompt
  return settings.problems, settings.samples


def _training(experiment: Experiment, settings, mesh) -> list[str]:
  """Shapes of an update, bytes of its state, and what the traced program returns."""
  model, spec_of = experiment.model_config, spec
  if hasattr(settings, 'trained'):  # not the policy
    model, spec_of = settings.trained(model)
  ways = mesh_lib.data_ways(mesh)
  rule = optimizer.optimizer(settings.optimizer, model)
  kept = {
    'master': experiment.model.master,
    'reference': getattr(settings, 'uses_reference', False),
    'spec_of': spec_of,
  }
  goal = state.abstract(model, rule, mesh, **kept)
  if hasattr(settings, 'prompts_per_step'):
    sequences = settings.prompts_per_step * settings.samples_per_prompt
    longest = experiment.prompt.longest + settings.sampling.max_tokens
  else:
    sequences, longest = settings.texts_per_step, settings.longest
  shape = batch_shape(sequences, longest, settings.micro_batch, ways)
  if hasattr(settings, 'shape'):
    shape = settings.shape(ways)
  plain = state.abstract(model, rule, **kept)
  traced = jax.eval_shape(
    lambda s, b: update.update(s, b, model, settings.optimizer, settings.update, settings.loss()),
    plain, abstract_batch(shape),
  )  # fmt: skip
  if kept['reference']:
    batch = abstract_batch(shape)
    jax.eval_shape(lambda w, b: update.logprobs(w, b, model), plain.reference, batch)
  parts = {
    n: state.bytes_per_device(getattr(goal, n)) / GIB
    for n in ('policy', 'master', 'reference', 'optimizer')
  }
  gradient = (
    sum(math.prod(s.sharding.shard_shape(s.shape)) * 4 for s in jax.tree.leaves(goal.policy)) / GIB
  )
  listed = ', '.join(
    f'{n} {size:.2f}' for n, size in (parts | {'gradient': gradient}).items() if size
  )
  return [
    f'  step       {sequences} sequences in up to {shape.micro_batches} micro-batches of {shape.rows} rows x '
    f'{shape.row} tokens; {settings.optimizer.steps:,} steps',
    f'  state      {sum(parts.values()) + gradient:.2f} GiB a device: {listed}',
    '             not counted: activations, logits of some tokens, temporaries of the compiler',
    f'  update     traced: {len(jax.tree.leaves(traced[0]))} arrays of state, metrics {", ".join(sorted(traced[1]))}',
  ]


def abstract_batch(shape: BatchShape) -> Batch:
  """The arrays of a batch, of shapes and types alone."""
  rows = (shape.micro_batches, shape.rows, shape.row)
  counts, ints = ('live', 'sequences', 'learned'), ('tokens', 'targets', 'positions', 'segments')
  kinds = {
    f.name: (rows, jnp.int32 if f.name in ints else jnp.float32) for f in dataclasses.fields(Batch)
  }
  kinds |= {name: ((), jnp.int32) for name in counts}
  return Batch(**{name: jax.ShapeDtypeStruct(*kind) for name, kind in kinds.items()})
