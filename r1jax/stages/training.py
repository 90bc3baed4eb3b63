"""The life of a State: made or restored, updated, reported, saved. What sft and grpo have in common."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

import jax
import numpy as np

from r1jax import hosts
from r1jax import mesh as mesh_lib
from r1jax import optimizer as optimizer_lib
from r1jax import state as state_lib
from r1jax.batch import Batch, BatchShape
from r1jax.config import Stage
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, spec
from r1jax.optimizer import OptimizerConfig
from r1jax.report import Report, RolloutLog
from r1jax.stages.context import Context, Preempted
from r1jax.update import Loss, UpdateConfig, update

MOST_SKIPPED_IN_ROW = 3


class TrainingError(RuntimeError):
  """Training cannot go on. The message says what was seen and where it is saved."""


@dataclasses.dataclass(frozen=True)
class Program:
  """All that the update is compiled for.

  spec_of: ModelConfig -> what is trained, as a tree of Weight. start: the policy -> what training begins with.
  """

  model: ModelConfig
  optimizer: OptimizerConfig
  update: UpdateConfig
  loss: Loss
  shape: BatchShape
  temperature: float = 1.0
  spec_of: Callable[[ModelConfig], Transformer] = spec
  start: Callable[[Transformer], Transformer] = lambda policy: policy


class Trainer:
  """Use: `host = trainer.restore()`, then `trainer.advance(...)` until `trainer.step` is the last, `finish()`.

  host: what the stage must keep outside of the state, as a function that gives it (Checkpointer says what fits).
  continues: the stage whose last state is the first of this one, '': a new state from the policy.
  """

  def __init__(
    self, context: Context, stage: Stage, program: Program, *, reference: bool, checkpoint_every: int,
    sample_every: int, host: Callable[[], dict], steps_per_rollout: int = 1, continues: str = '',
  ):  # fmt: skip
    self.context, self.stage, self.program, self.host = context, stage, program, host
    self.checkpoint_every = checkpoint_every
    self.checkpointer = context.checkpointer(stage)
    self.rollouts = RolloutLog(context.folder(stage) / 'rollouts')
    total = program.optimizer.steps
    self.report = Report(
      context.workdir, stage.name, total, sample_every, enabled=hosts.is_first(),
      steps_per_rollout=steps_per_rollout,
    )  # fmt: skip
    self._kept = {
      'master': context.experiment.model.master,
      'reference': reference,
      'spec_of': program.spec_of,
    }
    self._rule = optimizer_lib.optimizer(program.optimizer, program.model)
    self._seconds, self._since = 0.0, time.time()
    self._before = context.stage(continues) if continues else None
    self.first = (
      context.last_checkpoint(self._before) if continues else 0
    )  # steps before this stage
    self.state: state_lib.State | None = None
    self.step = 0
    self._saved = 0  # step of the newest checkpoint; the state of step 0 needs none

  def seconds(self) -> float:
    """Spent on this stage so far, by all processes that worked on it."""
    return self._seconds + time.time() - self._since

  def restore(self, before: int | None = None) -> dict | None:
    """The newest checkpoint -> what the stage kept in it; None: there is none, the state is new.

    before: for a replay, the newest checkpoint below this step, and the report stays as it is.
    """
    step = self.checkpointer.latest(before)
    if step is None and not self._before:
      self.state = state_lib.init(
        self.program.start(self.context.take_params(self.stage)), self.context.key('training', self.stage),
        self.program.model, self._rule, self.context.sharded, **self._kept,
      )  # fmt: skip
      return None
    goal = state_lib.abstract(self.program.model, self._rule, self.context.sharded, **self._kept)
    if step is None:
      self.context.hand_on(None)  # what the other stage has left is in its state
      self.step = self._saved = self.first
      self.state, host = self.context.restore(self._before, goal)
      return host['stage']
    self.state, host = self.checkpointer.restore(step, goal)
    self.step = self._saved = step
    if before is None:
      self._seconds = host['seconds']
      self.report.truncate(host['report'])
      self.report.say(f'{self.stage.name}: goes on after step {step}')
    return host['stage']

  def save(self) -> None:
    host = {'report': self.report.offset(), 'seconds': self.seconds(), 'stage': self.host()}
    self.checkpointer.save(self.step, self.state, host)
    self._saved = self.step

  def stop(self) -> NoReturn:
    """Saves what the newest checkpoint lacks and raises Preempted."""
    if self.step > self._saved:
      self.save()
    self.report.close()
    raise Preempted

  def advance(
    self, batch: Batch, metrics: Mapping[str, float], timing: Mapping[str, float]
  ) -> None:
    """One update, its report, and a checkpoint where one is due. Raises Preempted, TrainingError."""
    started = time.perf_counter()
    arrays = batch.arrays()
    if not hosts.are_same(arrays):
      raise TrainingError(
        f'{self.stage.name}: hosts have made different batches of step {self.step + 1}'
      )
    if hosts.is_first():
      self.rollouts.save(self.step + 1, arrays)
    found = self.update(batch)
    self.report.step(
      self.step, {**metrics, **found}, {**timing, 'update': time.perf_counter() - started}
    )
    if found['skipped_in_row'] >= MOST_SKIPPED_IN_ROW:
      where = self.rollouts.folder / f'{self.step:08d}.npz'
      raise TrainingError(
        f'{self.stage.name}: the gradient was not finite in {MOST_SKIPPED_IN_ROW} steps in a row, the last of '
        f'them step {self.step}; its batch is saved as {where}. Lower learning_rate or clip_norm'
      )
    if self.step % self.checkpoint_every == 0 or self.step == self.program.optimizer.steps:
      self.save()
    if self.context.is_stopping():
      self.stop()

  def update(self, batch: Batch) -> dict[str, float]:
    """The update alone -> its metrics."""
    p = self.program
    with jax.transfer_guard('disallow'):
      placed = place(batch, self.context.sharded)
      self.state, metrics = update(
        self.state, placed, p.model, p.optimizer, p.update, p.loss, p.temperature
      )
      metrics = jax.device_get(metrics)
    self.step += 1
    return {name: np.asarray(x).item() for name, x in metrics.items()}

  def finish(self) -> dict:
    """Hands the policy on and lets go of the rest of the state -> the stage's result."""
    self.report.close()
    self.context.hand_on(self.state.policy)
    self.state, self.host = (
      None,
      dict,
    )  # a stage's functions hold its trainer: until Python finds that circle, it stays
    last = self.program.optimizer.steps
    return {'steps': last - self.first, 'seconds': self.seconds(), 'checkpoint': last}

  def replay(self, step: int) -> dict[str, float]:
    """Rebuilds one step's update from the saved batches, without generating -> its metrics.

    Starts from the newest checkpoint before it. Raises FileNotFoundError where a batch is not there.
    """
    self.restore(before=step)
    while self.step < step:
      arrays = self.rollouts.load(self.step + 1)
      metrics = self.update(Batch.from_arrays(arrays, self.program.shape))
    return metrics


def place(batch: Batch, mesh) -> Batch:
  """Host -> devices, rows over the batch axes."""
  if mesh is None:
    return jax.device_put(batch)
  rows, whole = mesh_lib.batch_sharding(mesh, axis=1), mesh_lib.replicated(mesh)
  return hosts.put(batch, jax.tree.map(lambda x: rows if np.ndim(x) else whole, batch))
