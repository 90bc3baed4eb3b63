"""Runs an experiment: its stages one after another, the finished ones skipped.

    python -m r1jax.main --config=experiments/r1_zero.py[:size] [--config.rl.learning_rate=1e-6] [--workdir=DIR]

Stop it at any time; the same command goes on where it was. Exit codes: 0 finished, 1 failed, 2 a config that
cannot be run, 75 stopped by SIGTERM after everything was saved, 130 stopped by Ctrl-C.

On several hosts the same command is started on each, with a workdir that all of them share; the first one prints and
writes. They find each other by themselves on Cloud TPU, elsewhere by JAX_COORDINATOR_ADDRESS (host:port of the first
one), JAX_NUM_PROCESSES and JAX_PROCESS_ID (0 for the first one).
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from r1jax import command_line
from r1jax.fields import ConfigError

FAILED, BAD_CONFIG, PREEMPTED, INTERRUPTED = 1, 2, 75, 130


def run(argv: Sequence[str]) -> int:
  """Program name and arguments -> exit code; what is wrong with them is one line on stderr."""
  try:
    return main(argv)
  except KeyboardInterrupt:
    print('stopped; the same command goes on from the last checkpoint', flush=True)
    return INTERRUPTED
  except ValueError as error:
    # An error that names a valid value is about the config, wherever it was found.
    if not isinstance(error, ConfigError) and '; valid: ' not in str(error):
      raise
    return _error(error, BAD_CONFIG)


def _error(error: Exception, code: int) -> int:
  print('error:', ' '.join(str(error).splitlines()), file=sys.stderr)
  return code


def main(argv: Sequence[str]) -> int:
  """Program name and arguments -> exit code. Raises ConfigError, before anything is compiled."""
  if command_line.wants_help(argv):
    print(command_line.help_text(argv))
    return 0
  command = command_line.parse(argv)
  # Below, jax is imported, which takes seconds: a mistyped flag has been answered by now.
  import jax

  from r1jax import checks, hosts, mesh, plan
  from r1jax.config import resolve

  experiment = resolve(command.config)
  workdir = Path(command.workdir or f'runs/{experiment.name}-seed{experiment.seed}')
  hosts.join()
  mesh.split_cpu(experiment.mesh.cpu_devices)
  with _only_first_prints():
    print(f'workdir: {workdir}', flush=True)
    if command.dry_run:
      checks.check_batches(experiment, plan.abstract_mesh(experiment))
      print(plan.describe(experiment))
      return 0
    replayed = checks.replayable(experiment, workdir, *command.replay) if command.replay else None
    context = _prepare(experiment, workdir, command.config)
    with jax.set_mesh(context.mesh), contextlib.closing(context):
      return _replay(context, *replayed) if replayed else _run(experiment, context)


@contextlib.contextmanager
def _only_first_prints():
  """Every process but the first is silent; errors are printed by all."""
  from r1jax import hosts

  if hosts.is_first():
    yield
    return
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    yield


def _prepare(experiment, workdir: Path, config):
  """checks.prepare in the first process, which makes the workdir, then in the others, which find it there."""
  from r1jax import checks, hosts
  from r1jax.checkpoint import on_any_process

  try:
    if hosts.is_first():
      return checks.prepare(experiment, workdir, config)
  finally:
    on_any_process(False)  # also after an error, which the others then find too
  return checks.prepare(experiment, workdir, config)


def _run(experiment, context) -> int:
  """The stages, then the summary -> exit code."""
  from r1jax import hosts, stages
  from r1jax.checkpoint import CheckpointError, on_any_process
  from r1jax.rewards.verdict import CannotCheck
  from r1jax.stages.context import Preempted
  from r1jax.stages.training import TrainingError

  signal.signal(signal.SIGTERM, lambda *_: context.stopping.set())
  try:
    for stage in experiment.stages:
      if context.result(stage) is None:
        context.raise_if_stopping()
        result = stages.module(stage.kind).run(stage.settings, stage, context)
        if hosts.is_first():
          context.finish(stage, result)
        on_any_process(False)  # from here on all of them find it finished
  except Preempted:
    print('stopped; everything is saved, the same command goes on', flush=True)
    return PREEMPTED
  except (TrainingError, CheckpointError, CannotCheck) as error:
    return _error(error, FAILED)
  if hosts.is_first():
    _summarize(experiment, context)
  return 0


def _replay(context, stage, step: int) -> int:
  """Prints a step's loss and gradient norm beside those that were recorded."""
  from r1jax import stages
  from r1jax.checkpoint import CheckpointError
  from r1jax.report import read_metrics

  try:
    found = stages.module(stage.kind).replay(stage.settings, stage, context, step)
  except CheckpointError as error:
    return _error(error, FAILED)
  except (
    FileNotFoundError
  ) as error:  # of a step before it, since the checkpoint that it starts from
    raise ConfigError(
      f'--replay_step={step} is not possible: {error}; valid: a step after a checkpoint'
    ) from error
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


if __name__ == '__main__':
  sys.exit(run(sys.argv))
