"""Runs an experiment: its stages one after another, the finished ones skipped.

    python -m r1jax.main --config=experiments/r1_zero.py[:size] [--config.rl.learning_rate=1e-6] [--workdir=DIR]

Stop it at any time; the same command goes on where it was. Exit codes: 0 finished, 1 failed, 2 a config that
cannot be run, 75 stopped by SIGTERM after everything was saved.
"""

import dataclasses
import difflib
import json
import signal
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Experiment file, a size after a colon: experiments/r1_zero.py:tiny_dense. Any field of it can be '
  'set: --config.rl.learning_rate=1e-6. experiments/base.py lists them with units.', lock_config=True,
)  # fmt: skip
WORKDIR = flags.DEFINE_string('workdir', '', 'Folder of the run. Default: runs/<name>-seed<seed>.')
DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Build everything abstractly and print parameters, memory and batch shapes; start nothing.',
)
REPLAY_STEP = flags.DEFINE_integer(
  'replay_step', 0, 'Rebuild the loss and gradient norm of this step of the reinforcement learning from its saved '
  'rollout, without generating.', lower_bound=0,
)  # fmt: skip

BAD_CONFIG, PREEMPTED = 2, 75


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    return _bad(
      f'{argv[1]!r} is not understood; valid: flags such as --config=experiments/r1_zero.py'
    )
  if CONFIG.value is None:
    return _bad('--config is missing; valid: --config=experiments/r1_zero.py')
  from r1jax.config import ConfigError, resolve

  try:
    experiment = resolve(CONFIG.value)
    workdir = Path(WORKDIR.value or f'runs/{experiment.name}-seed{experiment.seed}')
    print(f'workdir: {workdir}', flush=True)
    if DRY_RUN.value:
      from r1jax.plan import describe

      print(describe(experiment))
      return 0
    context = _context(experiment, workdir, CONFIG.value)
  except (ConfigError, FileNotFoundError, ValueError) as error:
    return _bad(str(error))
  return _run(experiment, context)


def _bad(message: str) -> int:
  print(f'error: {message}', file=sys.stderr)
  return BAD_CONFIG


def _context(experiment, workdir: Path, config):
  """Devices, tokenizer and workdir. Raises what a wrong config raises."""
  from r1jax import mesh, tokenizer
  from r1jax.config import ConfigError
  from r1jax.stages.context import Context

  path = experiment.model.path or experiment.model.tokenizer
  if not Path(path).exists() or not path:
    raise ConfigError(
      f'model.path={experiment.model.path!r} does not exist; valid: a directory with the weights and the tokenizer of '
      f'{experiment.model.size} in Hugging Face layout'
    )
  devices = mesh.make_mesh(**dataclasses.asdict(experiment.mesh))
  context = Context(experiment, workdir, devices, tokenizer.load(path))
  for stage in experiment.stages:
    if hasattr(stage.settings, 'check'):
      stage.settings.check(context)
  _same_config(workdir, config)
  return context


def _same_config(workdir: Path, config) -> None:
  """A run is gone on with under the config that it was started with."""
  from r1jax.config import ConfigError

  path, here = workdir / 'config.json', json.loads(config.to_json_best_effort())
  if not path.exists():
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(here, indent=2) + '\n')
    return
  there = json.loads(path.read_text())
  for key, value in _flat(here).items():
    if _flat(there).get(key) != value:
      raise ConfigError(
        f'{key}={value!r} is not what {workdir} was started with; valid: {_flat(there).get(key)!r}, or another --workdir'
      )


def _flat(tree: dict, prefix: str = '') -> dict:
  flat = {}
  for key, value in tree.items():
    flat |= _flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
  return flat


def _run(experiment, context) -> int:
  """The stages, then the summary."""
  import jax

  from r1jax import stages
  from r1jax.stages.context import Preempted
  from r1jax.stages.training import TrainingError

  signal.signal(signal.SIGTERM, lambda *_: context.stopping.set())
  with jax.set_mesh(context.mesh):
    try:
      if REPLAY_STEP.value:
        return _replay(experiment, context, REPLAY_STEP.value)
      for stage in experiment.stages:
        if context.result(stage) is None:
          context.raise_if_stopping()
          context.finish(stage, stages.module(stage.kind).run(stage.settings, stage, context))
    except Preempted:
      print('stopped; everything is saved, the same command goes on', flush=True)
      return PREEMPTED
    except TrainingError as error:
      print(f'error: {error}', file=sys.stderr)
      return 1
  _summarize(experiment, context)
  return 0


def _replay(experiment, context, step: int) -> int:
  """Prints a step's loss and gradient norm beside those that were recorded."""
  from r1jax import stages
  from r1jax.report import read_metrics

  stage = next((s for s in experiment.stages if s.kind == 'grpo'), None)
  if stage is None or step > stage.settings.optimizer.steps:
    return _bad(
      f'--replay_step={step} is not possible; valid: a step of a grpo stage of {experiment.name}'
    )
  try:
    found = stages.module('grpo').replay(stage.settings, stage, context, step)
  except FileNotFoundError as error:
    return _bad(f'--replay_step={step} is not possible: {error}')
  recorded = {row['step']: row for row in read_metrics(context.folder(stage) / 'metrics.jsonl')}
  for name in ('loss', 'grad_norm'):
    then = recorded.get(step, {}).get(name)
    same = 'the same bits' if then == found[name] else 'NOT the same'
    print(f'step {step} {name}: replayed {found[name]!r}, recorded {then!r}: {same}')
  return 0


def _summarize(experiment, context) -> None:
  """plot.png, report.md and summary.json."""
  from r1jax.summary import Sample, finish

  results = {stage: context.result(stage) for stage in experiment.stages}
  evaluated = {stage.name: r for stage, r in results.items() if 'pass@1' in r}
  finish(
    context.workdir,
    experiment=experiment.name,
    seed=experiment.seed,
    seconds=sum(r['seconds'] for r in results.values()),
    stages=[
      {'name': s.name, 'kind': s.kind, 'steps': r['steps'], 'seconds': r['seconds']}
      for s, r in results.items()
    ],
    evaluation=evaluated,
    samples={
      name: [Sample(row['prompt'], row['completion'], row['accuracy']) for row in r['shown']]
      for name, r in evaluated.items()
    },
  )
  print(f'finished: {context.workdir}/report.md, summary.json, plot.png', flush=True)


def _parse(args: list[str]) -> list[str]:
  """Flags, with a message that names the key, its value and a valid one."""
  try:
    return flags.FLAGS(args)
  except Exception as error:  # absl and ml_collections raise many kinds for a wrong flag or config
    sys.exit(_bad(_explain(args, error)))


def _explain(args: list[str], error: Exception) -> str:
  """What is wrong with the command line."""
  config = next((a.partition('=')[2] for a in args if a.startswith('--config=')), None)
  text = str(error).strip().strip('"\'')
  if config is None:
    return text
  from ml_collections import ConfigDict

  try:
    values = config_flags.get_config_filename and CONFIG.value  # parsed before the overrides
  except Exception:
    values = None
  for arg in args:
    key, _, value = arg.removeprefix('--').partition('=')
    if not key.startswith('config.') or not isinstance(values, ConfigDict):
      continue
    name = key.removeprefix('config.')
    known = _flat(values.to_dict())
    if name not in known:
      near = difflib.get_close_matches(name, known, n=3) or [
        n for n in known if n.endswith(name.rpartition('.')[2])
      ]
      return (
        f'{name}={value} is unknown; valid: {" or ".join(near) or "a field of experiments/base.py"}'
      )
  return text


def run() -> None:
  """The command."""
  app.run(main, flags_parser=_parse)


if __name__ == '__main__':
  run()
