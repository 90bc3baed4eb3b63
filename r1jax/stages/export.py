"""The policy as it now stands -> a directory in Hugging Face layout, with a card that says what it is."""

import dataclasses
import json
import math
import os
import time
from pathlib import Path

import jax

from r1jax.checkpoint import CheckpointError, on_any_process
from r1jax.config import AUTO, Stage
from r1jax.model import hf, source, weights
from r1jax.model.hf_folder import check_free
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import spec
from r1jax.problems.base_text import BaseTextConfig, describe
from r1jax.problems.texts import BASE_TEXT
from r1jax.stages.context import Context


@dataclasses.dataclass(frozen=True)
class Config:
  """path: of the directory, which must not exist; '': <workdir>/<stage>/model. dtype: of the file's tensors.

  shard_gb: size of a file at most, in 10^9 bytes. mtp: write the module for multi-token prediction too.
  """

  path: str = ''
  dtype: str = 'bfloat16'
  shard_gb: float = 5.0
  mtp: bool = True

  def __post_init__(self):
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f"dtype={self.dtype!r} is unknown; valid: 'float32' or 'bfloat16'")
    if not 0 < self.shard_gb < math.inf:
      raise ValueError(f'shard_gb={self.shard_gb} is not possible; valid: more than 0, such as 5')


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Writes context.params() -> the stage's result. Raises CheckpointError where the directory cannot be written."""
  started = time.time()
  directory = Path(cfg.path) if cfg.path else context.folder(stage) / 'model'
  begun = is_begun(context.folder(stage), directory)
  if not on_any_process(begun and directory.exists() and any(directory.iterdir())):
    params = context.params()
    try:
      _write(cfg, stage, context, directory, params, begun)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
      # It was looked at before the run, and has changed since.
      text = str(error)
      if '; valid: ' not in text:
        text += '; valid: a new directory, in a folder that can be written to'
      raise CheckpointError(f'{stage.name}: {directory} cannot be written: {text}') from error
  print(f'{stage.name}: written to {directory}', flush=True)
  return {'steps': 0, 'seconds': time.time() - started, 'path': str(directory)}


def _write(
  cfg: Config, stage: Stage, context: Context, directory: Path, params, begun: bool
) -> None:
  """begun: by a start before this one, which has noted the directory as its own."""
  if not begun:
    check_free(directory)
    _begin(context.folder(stage), directory)
  hf.export(
    params, described(context), directory, context.tokenizer, dtype=cfg.dtype, mtp=cfg.mtp,
    shard_bytes=int(cfg.shard_gb * 1e9), texts={'README.md': card(context)},
  )  # fmt: skip


def described(context: Context) -> ModelConfig:
  """The model; one that came with a config.json keeps the BOS that is said there, which no prompt may begin with."""
  experiment = context.experiment
  if experiment.model.size != AUTO or source.is_named(experiment.init.path):
    return context.model
  return dataclasses.replace(context.model, bos=experiment.model_config.bos)


def is_begun(folder: Path, directory: Path) -> bool:
  """Whether this stage has found the directory free before: what is there now, it has written, and completely.

  A process can be killed after the directory got its name and before the stage is noted as done.
  """
  note = folder / 'begun.json'
  return note.is_file() and json.loads(note.read_text()) == str(directory.absolute())


def _begin(folder: Path, directory: Path) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  temporary = folder / f'begun.{os.getpid()}.tmp'
  temporary.write_text(json.dumps(str(directory.absolute())))
  os.replace(temporary, folder / 'begun.json')


def card(context: Context) -> str:
  """What the model is, from what the stages before it left."""
  experiment = context.experiment
  count = weights.count(spec(context.model), context.model)
  lines = [
    f'# {experiment.model.size}',
    '',
    f'{count:,} parameters, made by the experiment `{experiment.name}` with seed {experiment.seed} on '
    f'{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores a host.',
    '',
  ]
  for stage in experiment.stages:
    done = context.result(stage)
    if not done:
      continue
    lines += [
      f'## {stage.name} ({stage.kind})',
      '',
      f'{done["steps"]} steps, {done["seconds"]:.0f} seconds.',
      '',
    ]
    if getattr(stage.settings, 'source', '') == BASE_TEXT:
      lines += [describe(BaseTextConfig(problems=experiment.problems)), '']
    if 'pass@1' in done:
      low, high = done['ci95']
      lines += [
        f'Held-out pass@1 at temperature {stage.settings.sampling.temperature:g}: {done["pass@1"]:.3f} (95%: {low:.3f} '
        f'to {high:.3f}; {done["problems"]} problems, {done["samples"]} samples each), mean length '
        f'{done["mean_length"]:.1f} tokens.',
        '',
      ]
    elif dataclasses.is_dataclass(stage.settings):
      lines += ['```json', json.dumps(dataclasses.asdict(stage.settings), indent=2), '```', '']
  return '\n'.join(lines)
