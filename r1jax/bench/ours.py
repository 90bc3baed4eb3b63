"""The steps of a case by r1jax, phase by phase, and what the machine can do at most. Every thread is a device."""

import dataclasses
import json
import math
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import kernels
from r1jax import decoding
from r1jax import mesh as mesh_lib
from r1jax import state as state_lib
from r1jax.advantage import advantages
from r1jax.algorithms import algorithm
from r1jax.batch import batch_shape, pack
from r1jax.bench.cases import CASES, EOS, Case
from r1jax.decoding import SamplingConfig
from r1jax.explore import examples, spread_advantage
from r1jax.model import hf
from r1jax.model.layers import project
from r1jax.model.transformer import head_of, unstack
from r1jax.objective import PolicyLoss
from r1jax.optimizer import OptimizerConfig, optimizer
from r1jax.rollout import Rollouts, end_tokens, generate
from r1jax.slots import empty_slots
from r1jax.stages.training import place
from r1jax.update import UpdateConfig, logprobs, update

MICRO_BATCH = 2112  # tokens a device


class Ids:
  """What a rollout asks of a tokenizer."""

  def __init__(self, eos: int | None):
    self.eos = eos


class Run:
  """A state, and all that its steps are compiled for, on the current mesh if there is one."""

  def __init__(self, directory: str, case: Case):
    self.case, self.tokenizer = case, Ids(None if case.equal else EOS)
    self.how = SamplingConfig(max_tokens=case.new_tokens)
    self.mesh = mesh_lib.get_mesh() if mesh_lib.current() else None
    ways = mesh_lib.data_ways(self.mesh) if self.mesh else 1
    self.shapes = decoding.shapes_of(case.prompts, case.group, case.prompt, self.how, ways)
    policy, model = hf.load(directory, mesh=self.mesh)
    self.model = dataclasses.replace(
      model, remat='dots'
    )  # keeping all takes longer to write than to compute
    self.algorithm = algorithm('grpo', kl_weight=case.kl_weight)
    self.loss = PolicyLoss(self.algorithm.objective(case.new_tokens), on_policy=True)
    self.moves = OptimizerConfig(case.steps + 1, case.learning_rate)
    rule = optimizer(self.moves, self.model)
    self.state = state_lib.init(
      policy, jax.random.key(0), self.model, rule, self.mesh, master=False, reference=True
    )
    longest = case.prompt + case.new_tokens
    self.shape = batch_shape(case.prompts * case.group, longest, MICRO_BATCH * ways, ways)
    eos = end_tokens(self.tokenizer)
    decoding.warm_up(self.state.policy, self.model, self.shapes, self.how, eos)

  def step(self, prompts: np.ndarray) -> dict[str, float]:
    """[P, Tp] -> seconds of the step and its phases, tokens, rows times steps decoded, tokens of the update."""
    clock = [time.perf_counter()]
    cpu = time.process_time()
    key = jax.random.fold_in(self.state.key, self.state.step)
    rollouts = generate(
      self.state.policy, self.model, list(prompts), range(len(prompts)), key, self.how, group=self.case.group,
      tokenizer=self.tokenizer, shapes=self.shapes,
    )  # fmt: skip
    clock.append(time.perf_counter())
    batch, places = pack(examples(rollouts, 'keep'), self.shape)
    found = advantages(self._rewards(rollouts), self.algorithm.advantage)
    batch = batch.replace(advantage=spread_advantage(found, rollouts, places, batch))
    batch = place(batch, self.mesh)
    batch = batch.replace(reference_logprob=logprobs(self.state.reference, batch, self.model))
    jax.block_until_ready(batch)
    clock.append(time.perf_counter())
    self.state, metrics = update(
      self.state, batch, self.model, self.moves, UpdateConfig(), self.loss
    )
    jax.block_until_ready((self.state, metrics))
    clock.append(time.perf_counter())
    phases = dict(zip(('rollout', 'reference', 'update'), np.diff(clock).tolist(), strict=True))
    return phases | {
      'seconds': clock[-1] - clock[0],
      'cpu_seconds': time.process_time() - cpu,
      'tokens': int(rollouts.length.sum()),
      'decoded': int(rollouts.decoded),
      'context': float((rollouts.length**2).sum() / 2 / rollouts.length.sum() + self.case.prompt),
      'rows': int(batch.live) * self.shape.rows * self.shape.row,
    }

  def _rewards(self, rollouts: Rollouts) -> np.ndarray:
    live = np.arange(self.case.new_tokens) < rollouts.length[..., None]
    return ((rollouts.tokens % 2 == 0) & live).sum(-1) / rollouts.length


def seconds(run, make, times: int = 5) -> float:
  """run(*make()) -> the least seconds that it took; what it is given is made anew each time, and the first is not
  counted.
  """
  taken = []
  for _ in range(times + 1):
    given = jax.block_until_ready(make())
    start = time.perf_counter()
    jax.block_until_ready(run(*given))
    taken.append(time.perf_counter() - start)
  return min(taken[1:])


def ones(*shape: int) -> jax.Array:
  """Ones, rows over the devices."""
  return mesh_lib.shard(jnp.ones(shape), 'batch', *[None] * (len(shape) - 1))


def machine() -> dict[str, float]:
  """Of all devices: FLOP/s of a large matrix product in each of them, bytes/s read and written where an array is
  changed in place. The best of ten.
  """
  mesh = mesh_lib.current()
  ways = mesh.size if mesh else 1

  def everywhere(f, shape):
    """f of an array in each device -> its least seconds."""
    if mesh:
      f = jax.shard_map(f, in_specs=P(mesh_lib.BATCH_AXES), out_specs=P(mesh_lib.BATCH_AXES))
    rows, width = shape
    return seconds(jax.jit(f, donate_argnums=0), lambda: (ones(ways * rows, width),), 10)

  size = 4 * 64 * 1024**2
  return {
    'flops': ways * 2 * 2048**3 / everywhere(lambda x: x @ x, (2048, 2048)),
    'bytes': ways * 2 * size / everywhere(lambda x: x + 1, (64 * 1024, 1024)),
  }


def decoding_step(run: Run) -> dict[str, float]:
  """Seconds of a step of all rows, half of the columns in their cache; of its matrix products alone, and of its
  attention alone.
  """
  w, cfg, rows = run.state.policy, run.model, run.shapes.rows[0]
  columns = run.shapes.columns_of(rows)[len(run.shapes.columns) // 2]
  slots = lambda: empty_slots(cfg, rows, columns, run.shapes.width)
  every = decoding.on_device(np.ones(rows, bool))
  parts = {
    'step': (
      lambda slots: decoding.decode(w, slots, every, cfg, run.how, ()),
      lambda: (slots(),),
    ),
    'products': (_products, lambda: (w, ones(rows, max(cfg.embed, cfg.mlp)))),
    'attention': (
      _attention,
      lambda: (ones(rows, cfg.heads, 1, cfg.head_dim), slots().cache.entries),
    ),
  }
  found = {part: seconds(*how) / decoding.CHUNK for part, how in parts.items()}
  return found | {'rows': rows, 'columns': columns}


@jax.jit
def _products(w, x):
  """The products of CHUNK steps of x.shape[0] rows, one behind the other."""
  blocks = unstack(w).stacks
  matrices = [(m, 1) for b in blocks for m in (b.attention.q, b.attention.k, b.attention.v)]
  matrices += [(b.attention.o, 2) for b in blocks]
  matrices += [(m, 1) for b in blocks for m in (b.ffn.gate, b.ffn.up, b.ffn.down)]
  matrices.append((head_of(w), 1))

  def step(_, x):
    for matrix, inner in matrices:
      shape = matrix.shape[:inner]
      out = project(matrix, x[:, : math.prod(shape)].reshape(-1, *shape), inner)
      x = 0.5 * x + out.reshape(len(x), -1).mean(1, keepdims=True)
    return x

  return jax.lax.fori_loop(0, decoding.CHUNK, step, x)


@jax.jit
def _attention(q, entries):
  """The attention of CHUNK steps over a whole cache, one layer behind the other."""
  columns = entries[0][0].shape[-2]
  lo = jnp.zeros((len(q), 1), jnp.int32)

  def step(_, q):
    for k, v in entries:
      q = 0.5 * q + kernels.attention(q, k, v, lo, lo + columns - 1, q.shape[-1] ** -0.5)
    return q

  return jax.lax.fori_loop(0, decoding.CHUNK, step, q)


def main() -> None:
  """Arguments: model in Hugging Face layout, name of a case. Prints JSON."""
  case = CASES[sys.argv[2]]
  mesh_lib.split_cpu(case.threads)
  with jax.set_mesh(mesh_lib.make_mesh(data=-1)):
    run = Run(sys.argv[1], case)
    measured = [run.step(prompts) for prompts in case.draw_prompts()][1:]
    print(json.dumps({'steps': measured, 'machine': machine(), 'decoding': decoding_step(run)}))


if __name__ == '__main__':
  main()
