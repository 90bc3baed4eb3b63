"""Supervised training on texts: pretraining of the tiny base models, cold start, distillation."""

import dataclasses
import time

import grain
import numpy as np

from r1jax.batch import Example, batch_shape, pack
from r1jax.config import Stage
from r1jax.mesh import data_ways
from r1jax.objective import Likelihood
from r1jax.optimizer import OptimizerConfig
from r1jax.problems import texts as texts_lib
from r1jax.stages.context import Context
from r1jax.stages.training import Program, Trainer
from r1jax.update import UpdateConfig


@dataclasses.dataclass(frozen=True)
class Config:
  """source: 'base_text', or a .jsonl file of prompts and completions. texts_per_step: of one update. longest:
  tokens, longer texts are cut. learn_prompt: whether the prompt's tokens are learned too, as in pretraining.
  micro_batch: tokens whose gradient is computed at once.
  """

  source: str
  texts_per_step: int
  longest: int
  optimizer: OptimizerConfig
  update: UpdateConfig
  learn_prompt: bool = False
  micro_batch: int = 32768
  checkpoint_every: int = 1000
  sample_every: int = 0

  def __post_init__(self):
    for field in ('texts_per_step', 'longest', 'micro_batch', 'checkpoint_every'):
      if getattr(self, field) < 1:
        raise ValueError(f'{field}={getattr(self, field)} is not possible; valid: at least 1')

  def loss(self) -> Likelihood:
    return Likelihood()


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Trains context.params() on texts -> the stage's result."""
  shape = batch_shape(cfg.texts_per_step, cfg.longest, cfg.micro_batch, data_ways(context.mesh))
  program = Program(context.model, cfg.optimizer, cfg.update, cfg.loss(), shape)
  texts = iterator(cfg, context, context.experiment.stages.index(stage))
  trainer = Trainer(
    context, stage, program, reference=False, checkpoint_every=cfg.checkpoint_every, sample_every=cfg.sample_every,
    host=lambda: {'texts': texts.get_state()},
  )  # fmt: skip
  kept = trainer.restore()
  if kept is not None:
    texts.set_state(kept['texts'])
  while trainer.step < cfg.optimizer.steps:
    started = time.perf_counter()
    examples = [example(*pair, context.tokenizer, cfg) for pair in next(texts)]
    batch, _ = pack(examples, shape)
    tokens = sum(len(e.mask) for e in examples)
    trainer.advance(batch, {'tokens': tokens}, {'data': time.perf_counter() - started})
  return trainer.finish()


def iterator(cfg: Config, context: Context, number: int):
  """-> batches of (prompt, completion), shuffled each epoch and otherwise in every stage; resumable."""
  source = grain.MapDataset.source(
    texts_lib.load(cfg.source, context.experiment.problems, context.experiment.prompt.template)
  )
  stream = (
    source.seed(context.experiment.seed + number)
    .shuffle()
    .repeat(2**31)
    .batch(cfg.texts_per_step, batch_fn=list)
  )
  return iter(stream.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))


def example(prompt: str, completion: str, tokenizer, cfg: Config) -> Example:
  """A text -> BOS, prompt, completion, EOS; what does not fit is cut off at the end."""
  bos = [] if tokenizer.bos is None else [tokenizer.bos]
  before = bos + list(tokenizer.encode(prompt))
  eos = [] if tokenizer.eos is None else [int(np.atleast_1d(tokenizer.eos)[0])]
  tokens = np.array(before + list(tokenizer.encode(completion)) + eos, np.int32)[: cfg.longest + 1]
  mask = np.ones(len(tokens) - 1, np.float32)
  if not cfg.learn_prompt:
    mask[: len(before) - 1] = 0.0
  return Example(tokens, mask, np.zeros_like(mask))
