"""What every stage is given: the experiment, the devices, the tokenizer, and the policy as it now stands."""

import dataclasses
import functools
import json
import os
import threading
from pathlib import Path

import jax

from r1jax import problems as problems_lib
from r1jax.checkpoint import Checkpointer, CheckpointError, on_any_process
from r1jax.config import Experiment, Stage
from r1jax.model import source, weights
from r1jax.model.transformer import Transformer, spec
from r1jax.problems import Problem
from r1jax.prompts import encode
from r1jax.rewards.checks import checks
from r1jax.rewards.pool import Pool


class Preempted(Exception):
  """The process was asked to stop; what it had is saved, and a second start goes on from there."""


PURPOSES = ('training', 'init', 'evaluation')  # of noise


@dataclasses.dataclass
class Context:
  """params: of the policy, None until somebody asks. stopping: set by SIGTERM."""

  experiment: Experiment
  workdir: Path
  mesh: jax.sharding.Mesh
  tokenizer: object
  stopping: threading.Event = dataclasses.field(default_factory=threading.Event)
  _params: Transformer | None = None
  _problems: dict[str, list[Problem]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    self.model = dataclasses.replace(
      self.experiment.model_config, bos=self.tokenizer.bos, eos=self.tokenizer.eos
    )

  @property
  def sharded(self) -> jax.sharding.Mesh | None:
    """The mesh, None on a single device."""
    return None if self.mesh.size == 1 else self.mesh

  def key(self, purpose: str, stage: Stage | None = None) -> jax.Array:
    """The root of a stream of noise that shares nothing with another purpose's, or another stage's."""
    key = jax.random.fold_in(jax.random.key(self.experiment.seed), PURPOSES.index(purpose))
    return key if stage is None else jax.random.fold_in(key, self.number(stage))

  def stage(self, name: str) -> Stage:
    return next(stage for stage in self.experiment.stages if stage.name == name)

  def number(self, stage: Stage) -> int:
    """Its place in the experiment; of one that continues another, that one's."""
    continued = getattr(stage.settings, 'continues', '')
    if continued:
      return self.number(self.stage(continued))
    return self.experiment.stages.index(stage)

  def folder(self, stage: Stage) -> Path:
    return self.workdir / stage.name

  def checkpointer(self, stage: Stage) -> Checkpointer:
    return Checkpointer(self.folder(stage) / 'checkpoints')

  def is_stopping(self) -> bool:
    """Whether any process was asked to stop; all of them call this together."""
    return on_any_process(self.stopping.is_set())

  def raise_if_stopping(self) -> None:
    if self.is_stopping():
      raise Preempted

  @functools.cached_property
  def pool(self) -> Pool:
    """The processes that check completions; they start with the first one."""
    allowed = self.experiment.problems.allow_unsandboxed
    return Pool(max((os.cpu_count() or 1) // 2, 1), checks=checks(allowed))

  def close(self) -> None:
    """Ends what runs beside this process."""
    if 'pool' in vars(self):
      self.pool.close()

  def problems(self, split: str) -> list[Problem]:
    """The problems of a split whose prompts are short enough; how many are left out is said once."""
    if split not in self._problems:
      self._problems[split] = self._short_enough(split)
    return self._problems[split]

  def _short_enough(self, split: str) -> list[Problem]:
    prompt = self.experiment.prompt
    found = problems_lib.load(self.experiment.problems, split)
    tokens = encode(found, self.tokenizer, prompt.template)
    kept = [p for p, t in zip(found, tokens, strict=True) if len(t) <= prompt.longest]
    if not kept:
      raise ValueError(f'prompt.longest={prompt.longest} leaves no problem; valid: more tokens')
    if len(kept) < len(found):
      print(
        f'{len(found) - len(kept)} of {len(found)} {split} problems have longer prompts and are left out'
      )
    return kept

  def params(self) -> Transformer:
    """The policy after the last finished training stage; at first what the experiment starts from."""
    if self._params is None:
      self._params = self._load(self.experiment.stages)
    return self._params

  def take_params(self, stage: Stage) -> Transformer:
    """The policy that a training stage starts from, finished or not; no copy of it is kept here."""
    params, self._params = self._params, None
    if params is None:
      params = self._load(self.experiment.stages[: self.experiment.stages.index(stage)])
    return params

  def hand_on(self, params: Transformer | None) -> None:
    """The policy that the next stage starts from; None: as the last stage has saved it."""
    self._params = params

  def _load(self, stages: tuple[Stage, ...]) -> Transformer:
    """What the last of these stages that trained has left, or what the experiment starts from."""
    for stage in reversed(stages):
      if 'checkpoint' in (self.result(stage) or {}):
        goal = weights.abstract(spec(self.model), self.model, self.sharded)
        return self.restore(stage, {'policy': goal}, partial=True)[0]['policy']
    path = self.experiment.init.path
    if path:
      return source.load(path, self.model, self.sharded)
    goal = weights.abstract(spec(self.model), self.model, self.sharded)
    shardings = None if self.sharded is None else jax.tree.map(lambda x: x.sharding, goal)
    make = jax.jit(
      lambda key: weights.init(spec(self.model), self.model, key), out_shardings=shardings
    )
    return make(self.key('init'))

  def last_checkpoint(self, stage: Stage) -> int:
    """The step of what a finished stage has left. Raises CheckpointError."""
    done = self.result(stage)
    if done is None:
      raise CheckpointError(
        f'{stage.name}, which is to be continued, is not finished; start the run again'
      )
    return done['checkpoint']

  def restore(self, stage: Stage, goal, partial: bool = False) -> tuple:
    """What a finished stage has left, as from Checkpointer.restore. Raises CheckpointError."""
    try:
      return self.checkpointer(stage).restore(self.last_checkpoint(stage), goal, partial)
    except CheckpointError as error:
      done = self.folder(stage) / 'done.json'
      again = f'remove {done} and start again: {stage.name} goes on from the checkpoint before'
      raise CheckpointError(f'{error}; {again}') from error

  def result(self, stage: Stage) -> dict | None:
    """What a finished stage left, None if it is not finished."""
    path = self.folder(stage) / 'done.json'
    return json.loads(path.read_text()) if path.is_file() else None

  def finish(self, stage: Stage, result: dict) -> None:
    """From now on the stage is skipped."""
    path = self.folder(stage) / 'done.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(result, indent=2))
    os.replace(temporary, path)
