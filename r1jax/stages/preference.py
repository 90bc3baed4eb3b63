"""Preferences -> a reward model for helpfulness or safety (R1, Methods). The policy itself stays as it is."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grain
import numpy as np

from r1jax import preference
from r1jax.batch import BatchShape, batch_shape
from r1jax.config import Stage
from r1jax.mesh import data_ways
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer
from r1jax.optimizer import OptimizerConfig
from r1jax.preference import KINDS, Comparison, PreferenceLoss, pack_comparisons
from r1jax.problems import Problem
from r1jax.problems.problem import is_heldout
from r1jax.rewards.learned import reward_of, to_tokens
from r1jax.stages.context import Context
from r1jax.stages.training import Program, Trainer
from r1jax.update import UpdateConfig

FIELDS = {'helpful': ('prompt', 'chosen', 'rejected'), 'safety': ('prompt', 'response', 'label')}


@dataclasses.dataclass(frozen=True)
class Config:
  """kind: helpful (pairs, of which the final answers are compared) or safety (whole responses with labels).

  source: a .jsonl file. texts_per_step: comparisons of one update. longest: tokens of a text; comparisons with a
  longer one are left out. heldout_fraction: share of the prompts that is only measured on. micro_batch: tokens
  whose gradient is computed at once.
  """

  kind: str
  source: str
  texts_per_step: int
  longest: int
  optimizer: OptimizerConfig
  update: UpdateConfig
  heldout_fraction: float = 0.05
  micro_batch: int = 32768
  checkpoint_every: int = 100

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f'kind={self.kind!r} is unknown; valid: one of {KINDS}')
    for field in ('texts_per_step', 'longest', 'micro_batch', 'checkpoint_every'):
      if getattr(self, field) < 1:
        raise ValueError(f'{field}={getattr(self, field)} is not possible; valid: at least 1')
    if not 0 < self.heldout_fraction < 1:
      raise ValueError(
        f'heldout_fraction={self.heldout_fraction} is not possible; valid: above 0 and below 1, such as 0.05'
      )

  def loss(self) -> PreferenceLoss:
    return PreferenceLoss()

  def trained(self, model: ModelConfig) -> tuple[ModelConfig, Callable[[ModelConfig], Transformer]]:
    """The policy's config -> the reward model's, and what makes a tree of Weight of it."""
    return preference.config(model), preference.spec

  def shape(self, ways: int) -> BatchShape:
    """Of a step: a row has room for the texts of one comparison. ways: shards of the rows."""
    row = self.longest * (2 if self.kind == 'helpful' else 1)
    return batch_shape(self.texts_per_step, row, self.micro_batch, ways)


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Trains a reward model from context.params() -> the stage's result: where it is, and how it does on held-out
  comparisons. The next stage begins with the policy that this one has begun with.
  """
  train, heldout = load(cfg, context)
  shape = cfg.shape(data_ways(context.mesh))
  model, spec_of = cfg.trained(context.model)
  program = Program(
    model,
    cfg.optimizer,
    cfg.update,
    cfg.loss(),
    shape,
    spec_of=spec_of,
    start=preference.from_policy,
  )
  stream = _stream(train, cfg, context.experiment.seed + context.number(stage))
  trainer = Trainer(
    context, stage, program, reference=False, checkpoint_every=cfg.checkpoint_every, sample_every=0,
    host=lambda: {'comparisons': stream.get_state()},
  )  # fmt: skip
  kept = trainer.restore()
  if kept is not None:
    stream.set_state(kept['comparisons'])
  while trainer.step < cfg.optimizer.steps:
    started = time.perf_counter()
    comparisons = next(stream)
    batch, _ = pack_comparisons(comparisons, shape)
    tokens = sum(map(len, comparisons))
    trainer.advance(batch, {'tokens': tokens}, {'data': time.perf_counter() - started})
  trainer.report.close()
  found = evaluate(trainer.state.policy, heldout, model, cfg.micro_batch, context.sharded)
  shown = {name: round(found[name], 3) for name in ('accuracy', 'auc') if found[name] is not None}
  print(f'{stage.name}: {shown} on {len(heldout)} held-out comparisons', flush=True)
  return _result(cfg, context, trainer) | found


def _result(cfg: Config, context: Context, trainer: Trainer) -> dict:
  """What LearnedReward needs to know. No 'checkpoint': what that names is taken for a policy."""
  settings = context.experiment.model
  return {
    'steps': cfg.optimizer.steps,
    'seconds': trainer.seconds(),
    'reward_model': cfg.optimizer.steps,
    'kind': cfg.kind,
    'model': {'size': settings.size, 'dtype': settings.dtype},
    'init': context.experiment.init.path,
    'template': context.experiment.prompt.template,
    'tokenizer': context.tokenizer.fingerprint,
  }


def evaluate(w, comparisons: Sequence[Comparison], model, micro_batch: int, mesh) -> dict:
  """A reward model -> accuracy (a tie is half right), auc, and mean and std of its rewards."""
  texts = [text for c in comparisons for text in c.texts]
  signs = np.array([sign for c in comparisons for sign in c.signs])
  rewards = reward_of(w, texts, model, micro_batch, mesh).astype(np.float64)
  first = np.cumsum([0] + [len(c.texts) for c in comparisons[:-1]])
  margins = np.add.reduceat(signs * rewards, first)
  return {
    'heldout': len(comparisons),
    'accuracy': float((0.5 + 0.5 * np.sign(margins)).mean()),
    'auc': auc(rewards[signs > 0], rewards[signs < 0]),
    'mean': float(rewards.mean()),
    'std': float(rewards.std()),
  }


def auc(better: np.ndarray, worse: np.ndarray) -> float | None:
  """Rewards of texts -> the chance that a better one has the higher reward, ties half; None without either kind."""
  if not len(better) or not len(worse):
    return None
  ordered = np.sort(worse)
  below = np.searchsorted(ordered, better, 'left') + np.searchsorted(ordered, better, 'right')
  return float(below.mean() / (2 * len(worse)))


def load(cfg: Config, context: Context) -> tuple[list[Comparison], list[Comparison]]:
  """-> comparisons to train on, held-out ones; a prompt is on one side only, whatever the seed. What is left out for
  its length is said. Raises ValueError where nothing is left.
  """
  sides: tuple[list, list] = ([], [])
  records = read(cfg.source, cfg.kind)
  for record in records:
    comparison = compare(record, cfg.kind, context)
    if max(map(len, comparison.texts)) <= cfg.longest:
      held_out = is_heldout(Problem(0, '', record['prompt'], ''), cfg.heldout_fraction)
      sides[held_out].append(comparison)
  if short := len(records) - sum(map(len, sides)):
    print(f'{short} of {len(records)} comparisons have longer texts and are left out')
  for field, side in zip(('longest', 'heldout_fraction'), sides, strict=True):
    if not side:
      which = 'to train on' if field == 'longest' else 'held out'
      raise ValueError(
        f'{field}={getattr(cfg, field)} leaves no comparison {which}; valid: a larger one'
      )
  return sides


def compare(record: dict, kind: str, context: Context) -> Comparison:
  """One record of `read` -> its texts as tokens."""
  tokens = lambda response: to_tokens(
    record['prompt'], response, kind, context.tokenizer, context.experiment.prompt.template
  )
  if kind == 'helpful':
    return Comparison((tokens(record['chosen']), tokens(record['rejected'])), (1.0, -1.0))
  return Comparison((tokens(record['response']),), (1.0 if record['label'] else -1.0,))


def read(source: str, kind: str) -> list[dict]:
  """A .jsonl file -> records with the fields of their kind: texts, and a label that is 1 for safe and 0 for not.

  Raises FileNotFoundError, or ValueError naming file and line.
  """
  path = Path(source)
  if not path.is_file():
    raise FileNotFoundError(f'source={source!r} is no file; valid: a .jsonl file that exists')
  records = []
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    if not line.strip():
      continue
    try:
      records.append(_checked(json.loads(line), kind))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}:{number}: {error}') from error
  if not records:
    raise ValueError(f'source={source!r} holds no comparison; valid: one JSON object a line')
  return records


def _checked(record: object, kind: str) -> dict:
  """ValueError names the field at fault."""
  if not isinstance(record, dict):
    raise ValueError(f'{str(record)[:60]!r} is no JSON object; valid fields: {FIELDS[kind]}')
  for field in FIELDS[kind]:
    value = record.get(field)
    if field == 'label' and not (isinstance(value, int) and value in (0, 1)):
      raise ValueError(f'label={value!r} is not possible; valid: 1 for safe, 0 for unsafe')
    if field != 'label' and not isinstance(value, str):
      raise ValueError(f'{field}={value!r:.60} is missing or no text; valid fields: {FIELDS[kind]}')
  return record


def _stream(comparisons: list[Comparison], cfg: Config, seed: int):
  """-> batches of comparisons, shuffled each epoch; resumable."""
  source = grain.MapDataset.source(comparisons).seed(seed % 2**32).shuffle().repeat(2**31)
  batches = source.batch(cfg.texts_per_step, batch_fn=list)
  return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))
