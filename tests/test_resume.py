"""Killed anywhere and started again, a run gives bit for bit the run that was never killed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.checkpoint import Checkpointer
from r1jax.report import read_metrics

ROOT = Path(__file__).parents[1]
DRIVER, EXPERIMENT = (
  ROOT / 'tests' / 'data' / f'resume_{name}.py' for name in ('driver', 'experiment')
)
STEPS, SAVED_EVERY = 24, 3
KILLED, FAILED, PREEMPTED = -9, 1, 75

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """start(workdir, fault, ..., flag=...) -> the finished process; its exit code is for the caller to check."""
  cache = tmp_path_factory.mktemp('cache')
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  environment.pop('XLA_FLAGS', None)

  def go(workdir: Path, *faults: str, flags: tuple[str, ...] = (), part: str = ''):
    command = [
      sys.executable,
      str(DRIVER),
      f'--config={EXPERIMENT}:{part}',
      f'--workdir={workdir}',
      *flags,
    ]
    return subprocess.run(
      command,
      env=environment | {'FAULTS': ' '.join(faults)},
      cwd=ROOT,
      capture_output=True,
      text=True,
    )

  return go


@pytest.fixture(scope='module')
def plain(start, tmp_path_factory) -> Path:
  """The workdir of the run that was never killed; every program was compiled in it, none read from a cache."""
  workdir = tmp_path_factory.mktemp('plain') / 'run'
  assert_code(start(workdir), 0)
  return workdir


def assert_code(process, code: int) -> None:
  assert process.returncode == code, f'{process.stdout[-4000:]}\n{process.stderr[-4000:]}'


def metrics(workdir: Path) -> list[dict]:
  return read_metrics(workdir / 'rl' / 'metrics.jsonl')


def checkpoint(workdir: Path, step: int, stage: str = 'rl') -> tuple[dict, dict]:
  """-> (name of the leaf: its bytes, what the stage keeps on the host)."""
  checkpointer = Checkpointer(workdir / stage / 'checkpoints')
  leaves = json.loads((checkpointer.directory / f'{step:08d}' / 'leaves.json').read_text())
  key = jax.random.key(0).dtype
  goal = {
    name: jax.ShapeDtypeStruct(shape, key if impl else jnp.dtype(dtype))
    for name, (shape, dtype, impl) in leaves.items()
  }
  state, host = checkpointer.restore(step, goal)
  state = {n: jax.random.key_data(x) if leaves[n][2] else x for n, x in state.items()}
  return {n: np.asarray(x).tobytes() for n, x in state.items()}, host


def assert_same_host(left, right) -> None:
  """Data position, rollout buffer, offsets of the report; not the seconds."""
  assert type(left) is type(right)
  if isinstance(left, np.ndarray):
    assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
  elif isinstance(left, dict):
    assert left.keys() == right.keys()
    for key in left.keys() - {'seconds', 'timing.jsonl'}:
      assert_same_host(left[key], right[key])
  elif isinstance(left, list):
    for pair in zip(left, right, strict=True):
      assert_same_host(*pair)
  else:
    assert left == right


def without_seconds(tree):
  if isinstance(tree, dict):
    return {k: without_seconds(v) for k, v in tree.items() if k != 'seconds'}
  return [without_seconds(v) for v in tree] if isinstance(tree, list) else tree


def assert_same_run(workdir: Path, plain: Path) -> None:
  """All that a run leaves but seconds."""
  exact = [
    'rl/metrics.jsonl',
    'rl/samples.jsonl',
    *(f'{e}/completions.jsonl' for e in ('before', 'after')),
  ]
  exact += [f'rl/rollouts/{step:08d}.npz' for step in range(1, STEPS + 1)]
  for name in exact:
    assert (workdir / name).read_bytes() == (plain / name).read_bytes(), name
  for name in ('before/done.json', 'rl/done.json', 'after/done.json', 'summary.json'):
    here, there = (json.loads((w / name).read_text()) for w in (workdir, plain))
    assert without_seconds(here) == without_seconds(there), name
  (state, host), (same_state, same_host) = (checkpoint(w, STEPS) for w in (workdir, plain))
  assert state.keys() == same_state.keys()
  assert [name for name in state if state[name] != same_state[name]] == []
  assert_same_host(host, same_host)


def test_every_step_of_the_plain_run_changes_something(plain):
  """Otherwise the tests below would show little."""
  rows = metrics(plain)
  assert [row['step'] for row in rows] == [*range(1, STEPS + 1)]
  assert all(row['grad_norm'] > 0.01 and row['skipped'] == 0 for row in rows)
  assert len({row['loss'] for row in rows}) == STEPS
  assert sum(row['reward_std'] > 0 for row in rows) > STEPS // 2  # the others move by their KL
  # The reference became the policy after steps 8 and 16: on policy, the KL is 0 up to rounding.
  assert [row['step'] for row in rows if row['kl'] < 1e-9] == [1, 9, 17]
  (late, host), (early, _) = checkpoint(plain, STEPS), checkpoint(plain, STEPS - SAVED_EVERY)
  same = {name for name in late if late[name] == early[name]}
  # Nothing but the root key, the counters of skipped steps, and what has no gradient: the routers' biases.
  still = {name for name in same if not name.endswith('.ffn.bias')}
  assert still == {'key', 'skipped', 'skipped_in_row'} and len(late) > 200
  assert any(name.endswith('.ffn.bias') for name in late.keys() - same)
  # Between two rollouts nothing waits; in the middle of one, what is still to be learned from.
  assert host['stage']['minibatches'] == []
  _, host = checkpoint(plain, STEPS - SAVED_EVERY)
  assert len(host['stage']['minibatches']) == SAVED_EVERY


# Where the starts of one run are killed, each before or after the n-th call of a function in that start, and the
# step of the newest checkpoint afterwards. Rollouts of 4 minibatches, each learned from twice, are drawn before steps
# 1, 9 and 17; the reference becomes the policy after 8 and 16.
KILLS = (
  (
    'r1jax.stages.evaluate.Scoring.scores:before:2',
    None,
  ),  # between two parts of the evaluation before
  ('r1jax.stages.evaluate._save:after:1', None),  # all of it sampled, not yet done
  ('r1jax.stages.context.Context.finish:after:1', None),  # between two stages
  ('r1jax.rollout._Queue.record:after:2', None),  # between two chunks of rollout 1
  ('r1jax.rewards.scoring.Scoring.add:before:5', None),
  ('r1jax.stages.training.update:before:2', None),  # one step done, nothing saved
  (
    'numpy.savez:before:1',
    None,
  ),  # in the first save: the arrays written, not yet what the host keeps
  ('r1jax.checkpoint.Checkpointer.save:after:1', 3),
  ('r1jax.report.Report._append:before:3', 3),  # the metrics of step 4 written, not its timing
  ('r1jax.report.RolloutLog.save:after:3', 3),  # the reused batch of step 6 saved, not learned from
  ('r1jax.checkpoint.Checkpointer._publish:before:1', 3),  # step 6 written whole, not renamed
  ('r1jax.checkpoint.Checkpointer._recover:before:3', 6),  # renamed, nothing tidied up
  ('r1jax.stages.training.update:after:2', 6),  # the reference refreshed, not saved
  ('r1jax.stages.minibatches.advantages:before:1', 6),  # rollout 2 drawn and scored
  ('r1jax.checkpoint.Checkpointer._discard:before:1', 9),  # one checkpoint too many there
  ('r1jax.stages.training.update:before:8', 15),  # after the second refresh and rollout 3
  ('r1jax.stages.training.Trainer.finish:before:1', 24),  # every step done, not the stage
  ('os.replace:before:1', 24),  # in the moment before it is done
  ('r1jax.rollout._Queue.record:after:1', 24),  # in the evaluation after
  ('r1jax.summary._replace:before:2', 24),  # report.md written, not summary.json
)


@pytest.fixture(scope='module')
def killed(start, plain, tmp_path_factory) -> Path:
  """The workdir of a run that was killed at all of these points; every start but one had a warm compilation cache."""
  workdir = tmp_path_factory.mktemp('killed') / 'run'
  checkpointer = Checkpointer(workdir / 'rl' / 'checkpoints')
  for place, newest in KILLS:
    assert_code(start(workdir, f'{place}:KILL'), KILLED)
    assert max(checkpointer.steps(), default=None) == newest, place
    if (rows := workdir / 'rl' / 'metrics.jsonl').exists() and newest != STEPS:
      rows.write_bytes(rows.read_bytes() + b'{"accuracy": 0.2')  # a row that was cut off
  assert_code(start(workdir), 0)
  return workdir


def test_killed_anywhere(killed, plain):
  assert_same_run(killed, plain)


def test_a_finished_run_does_nothing(start, plain):
  files = [p for p in plain.rglob('*') if p.is_file() and p.name not in ('plot.png', 'report.md')]
  before = {path: path.read_bytes() for path in files}
  process = start(plain)
  assert_code(process, 0)
  assert {path: path.read_bytes() for path in files} == before
  assert 'rl  1/24' not in process.stdout and 'pass@1' not in process.stdout


# As above; every process but the last ends by itself, with what it had saved.
STOPS = (
  ('r1jax.rollout._Queue.record:after:1', None, 0),  # in the evaluation before
  ('r1jax.stages.grpo.generate:before:1', None, 0),  # in the first rollout
  ('r1jax.stages.training.update:after:2', 2, 2),
  ('r1jax.stages.grpo.generate:before:1', 8, 8),  # in rollout 2
  ('r1jax.checkpoint.Checkpointer.save:before:1', 10, 10),
  (
    'r1jax.stages.grpo.Scoring.scores:before:1',
    17,
    17,
  ),  # rollout 3 drawn: one step more takes it along
)


def test_stopped_anywhere(start, plain, tmp_path):
  """SIGTERM: what is newer than the last checkpoint is saved, at once, and a second start goes on."""
  checkpointer = Checkpointer(tmp_path / 'rl' / 'checkpoints')
  flags = ('--config.rl.checkpoint_every=5',)
  for place, newest, steps in STOPS:
    process = start(tmp_path, f'{place}:TERM', flags=flags)
    assert_code(process, PREEMPTED)
    assert max(checkpointer.steps(), default=None) == newest, place
    assert (len(metrics(tmp_path)) if steps else 0) == steps, place
    assert 'everything is saved' in process.stdout
  assert_code(start(tmp_path, flags=flags), 0)
  assert_same_run(tmp_path, plain)


def corrupt(workdir: Path, step: int) -> None:
  files = (workdir / 'rl' / 'checkpoints' / f'{step:08d}').rglob('*')
  largest = max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size)
  data = largest.read_bytes()
  largest.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def test_a_corrupt_checkpoint_costs_the_steps_since_the_one_before(start, plain, tmp_path):
  workdir = shutil.copytree(plain, tmp_path / 'run')
  corrupt(workdir, STEPS)
  shutil.rmtree(workdir / 'after')
  process = start(workdir)  # the stage is done, and what it made is lost
  assert_code(process, FAILED)
  assert '00000024' in process.stderr and 'rl/done.json' in process.stderr
  (workdir / 'rl' / 'done.json').unlink()  # as the message says
  process = start(workdir)
  assert_code(process, 0)
  assert 'goes on after step 21' in process.stdout
  assert_same_run(workdir, plain)


@pytest.mark.parametrize(('run', 'step'), [('plain', 2), ('plain', 14), ('killed', 23)])
def test_replay(start, plain, request, run, step):
  """From the start where every checkpoint before the step is gone, else from the checkpoint; nothing is changed."""
  workdir, row = request.getfixturevalue(run), metrics(plain)[step - 1]
  before = (workdir / 'rl' / 'metrics.jsonl').read_bytes()
  process = start(workdir, flags=(f'--replay_step={step}',))
  assert_code(process, 0)
  for name in ('loss', 'grad_norm'):
    same = f'{name}: replayed {row[name]!r}, recorded {row[name]!r}: the same bits'
    assert same in process.stdout
  assert (workdir / 'rl' / 'metrics.jsonl').read_bytes() == before


def test_a_stage_that_continues_another_is_one_long_stage(start, plain, tmp_path):
  """Killed before it has a checkpoint of its own, it goes on from the other's; replays find the stage of a step."""
  for call in (
    18,
    2,
  ):  # before step 18, in a process that has done both stages and in one that did the second alone
    fault = f'r1jax.stages.training.update:before:{call}:KILL'
    assert_code(start(tmp_path, fault, part='continued'), KILLED)
  assert Checkpointer(tmp_path / 'more' / 'checkpoints').steps() == []
  assert_code(start(tmp_path, part='continued'), 0)
  lines = [(tmp_path / stage / 'metrics.jsonl').read_bytes() for stage in ('rl', 'more')]
  assert b''.join(lines) == (plain / 'rl' / 'metrics.jsonl').read_bytes()
  (state, host), (same_state, same_host) = checkpoint(tmp_path, STEPS, 'more'), checkpoint(plain, STEPS)  # fmt: skip
  assert [name for name in state if state[name] != same_state[name]] == []
  assert_same_host(host['stage'], same_host['stage'])
  stages = json.loads((tmp_path / 'summary.json').read_text())['stages']
  assert [stage['steps'] for stage in stages] == [0, 16, 8, 0]
  for step, name in ((17, ''), (18, 'more:'), (10, '')):
    process = start(tmp_path, part='continued', flags=(f'--replay_step={name}{step}',))
    assert_code(process, 0)
    assert process.stdout.count('the same bits') == 2


def not_finite(*minibatches: int) -> list[str]:
  """The faults that make the advantages of these minibatches of the first rollout NaN."""
  return [f'r1jax.stages.minibatches.spread_advantage:after:{n}:NAN' for n in minibatches]


def test_two_gradients_in_a_row_that_are_not_finite_are_skipped(start, tmp_path):
  assert_code(start(tmp_path, *not_finite(2, 3), flags=('--config.rl.steps=8',)), 0)
  rows = metrics(tmp_path)
  assert [row['skipped_in_row'] for row in rows] == [0, 1, 2, 0, 0, 1, 2, 0]
  assert rows[-1]['skipped'] == 4
  assert [bool(np.isfinite(row['grad_norm'])) for row in rows] == [True, False, False, True] * 2


def test_three_gradients_in_a_row_that_are_not_finite_stop_the_run(start, tmp_path):
  process = start(tmp_path, *not_finite(2, 3, 4), flags=('--config.rl.steps=8',))
  assert_code(process, FAILED)
  saved = tmp_path / 'rl' / 'rollouts' / '00000004.npz'
  assert str(saved) in process.stderr and len(metrics(tmp_path)) == 4
  with np.load(saved) as arrays:
    assert np.isnan(arrays['advantage']).any()
