"""The policy as it now stands -> a directory in Hugging Face layout, with a card that says what it is."""

import dataclasses
import json
import time
from pathlib import Path

from r1jax.config import Stage
from r1jax.model import hf, weights
from r1jax.model.transformer import spec
from r1jax.stages.context import Context


@dataclasses.dataclass(frozen=True)
class Config:
  """path: of the directory, which must not exist; '': <workdir>/<stage>/model. dtype: of the file's tensors."""

  path: str = ''
  dtype: str = 'bfloat16'

  def __post_init__(self):
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f"dtype={self.dtype!r} is unknown; valid: 'float32' or 'bfloat16'")


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Writes context.params() -> the stage's result."""
  started = time.time()
  directory = Path(cfg.path) if cfg.path else context.folder(stage) / 'model'
  model = dataclasses.replace(context.model, param_dtype=cfg.dtype)
  goal = weights.abstract(spec(model), model)
  params = weights.cast(context.params(), goal)
  hf.export(params, model, directory, context.tokenizer)
  (directory / 'README.md').write_text(card(context))
  print(f'{stage.name}: written to {directory}', flush=True)
  return {'steps': 0, 'seconds': time.time() - started, 'path': str(directory)}


def card(context: Context) -> str:
  """What the model is, from what the stages before it left."""
  experiment = context.experiment
  count = weights.count(spec(context.model), context.model)
  lines = [
    f'# {experiment.model.size}',
    '',
    f'{count:,} parameters, made by the experiment `{experiment.name}` with seed {experiment.seed}.',
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
