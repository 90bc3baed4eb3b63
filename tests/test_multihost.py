"""Two processes of four devices do what one process of eight does, and only the first one writes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from r1jax import hosts
from r1jax.checkpoint import named_leaves
from r1jax.fields import ConfigError
from r1jax.model import hf, weights
from r1jax.model.transformer import spec
from r1jax.report import read_metrics

ROOT = Path(__file__).parents[1]
DATA = ROOT / 'tests' / 'data'
WORKER = ROOT / 'tests' / 'multihost_worker.py'
# Seconds, after which a test fails instead of waiting for a host that will never come.
TIMEOUT = 400
FAMILIES = ('qwen2', 'deepseek_v3')
# Sixteen samples in eight rows: some wait. Evaluation decodes with the same program.
RUN = (
  f'--config={DATA}/resume_experiment.py', '--config.mesh.fsdp=2', '--config.mesh.expert=2', '--config.mesh.tensor=2',
  '--config.rl.steps=2', '--config.rl.steps_per_rollout=1', '--config.rl.inner_epochs=1',
  '--config.rl.prompts_per_step=4', '--config.rl.reference_every=1', '--config.rl.warmup_steps=0',
  '--config.rl.max_tokens=16', '--config.rl.slots=8', '--config.rl.checkpoint_every=2',
  '--config.rl.micro_batch=512', '--config.rl.mtp_weight=0.0', '--config.evaluate.problems=2',
  '--config.evaluate.max_tokens=16', '--config.evaluate.slots=8',
)  # fmt: skip

pytestmark = pytest.mark.slow


def start(out: Path, processes: int, task: str, *arguments) -> list[dict]:
  """Runs the worker in as many processes -> what each of them reports."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={8 // processes}',
  }
  if processes > 1:
    environment |= {hosts.ADDRESS: f'127.0.0.1:{port}', hosts.COUNT: str(processes)}
  out.mkdir()
  command = [sys.executable, str(WORKER), str(out), task, *map(str, arguments)]
  files = [out.with_name(f'{out.name}.{index}.log') for index in range(processes)]
  children = []
  try:
    for index, file in enumerate(files):
      with open(file, 'w') as log:
        its = environment | ({hosts.INDEX: str(index)} if processes > 1 else {})
        children.append(subprocess.Popen(command, env=its, cwd=ROOT, stdout=log, stderr=log))
    for child in children:
      child.wait(TIMEOUT)
  finally:
    for child in children:
      child.kill()
  for child, file in zip(children, files, strict=True):
    assert child.returncode == 0, file.read_text()[-6000:]
  return [json.loads((out / f'{index}.json').read_text()) for index in range(processes)]


# Import, export, checkpoints


@pytest.fixture(scope='module')
def reports(small, random_params, tmp_path_factory):
  """(folder, what two processes report), which have converted FOLDER/<family>/one."""
  folder = tmp_path_factory.mktemp('convert')
  for family in FAMILIES:
    hf.export(random_params(small(family)), small(family), folder / family / 'one')
  sources = [folder / family / 'one' for family in FAMILIES]
  return folder, start(folder / 'two', 2, 'convert', *sources)


@pytest.fixture(params=FAMILIES)
def converted(request, small, random_params, reports):
  """(config, parameters, what one process has exported, folder of two processes, their reports), a family each."""
  (folder, found), cfg = reports, small(request.param)
  own = [
    {
      'read': report['found'][request.param]['read'],
      'written': [p for p in report['written'] if p.startswith(f'{request.param}/')],
    }
    for report in found
  ]
  return (
    cfg,
    random_params(cfg),
    folder / request.param / 'one',
    folder / 'two' / request.param,
    own,
  )


def test_every_host_has_loaded_and_restored_the_same_arrays(converted):
  _, params, _, out, _ = converted
  expected = named_leaves(params)
  for process in range(2):
    with np.load(out / f'{process}.npz') as arrays:
      for name, leaf in expected.items():
        np.testing.assert_array_equal(arrays[f'loaded:{name}'], leaf, err_msg=name)
        np.testing.assert_array_equal(arrays[f'restored:{name}'], leaf, err_msg=name)


def test_a_host_reads_what_its_devices_hold(converted, mesh_of):
  """A weight that is split over the hosts is read once by both together, one that is not by each, once."""
  cfg, params, _, _, reports = converted
  goal = weights.abstract(spec(cfg), cfg, mesh_of(fsdp=2, expert=2, tensor=2))
  is_split = {
    jax.tree_util.keystr(path): 'fsdp' in x.sharding.spec
    for path, x in jax.tree_util.tree_leaves_with_path(goal)
  }
  plan, table = hf.tensors(cfg), hf.leaves(cfg)
  assert sum(is_split[leaf] for leaf, _ in plan.values()) > len(plan) / 2
  times = {tensor: np.zeros(table[leaf].file_shape, int) for tensor, (leaf, _) in plan.items()}
  for report in reports:
    for tensor, block in report['read']:
      times[tensor][tuple(slice(*span) for span in block)] += 1
  for tensor, count in times.items():
    if count.any():  # the MTP module's copies of the embedding and the head are not read
      assert (count == (1 if is_split[plan[tensor][0]] else 2)).all(), tensor
  embedding = [
    sum(np.prod([stop - start for start, stop in block]) for tensor, block in report['read']
        if tensor == 'model.embed_tokens.weight')
    for report in reports
  ]  # fmt: skip
  assert embedding == [61 * 16, 61 * 16]  # half of 61 x 32 each


def test_the_first_host_exports_the_bytes_of_a_single_one(converted):
  _, _, one, two, reports = converted
  files = {path.name: path.read_bytes() for path in one.iterdir()}
  assert {path.name: path.read_bytes() for path in (two / 'exported').iterdir()} == files
  first, second = (report['written'] for report in reports)
  assert any('.exported' in path for path in first)
  assert not [path for path in second if 'exported' in path]


def test_both_hosts_write_their_part_of_a_checkpoint(converted):
  *_, out, reports = converted
  for process, report in enumerate(reports):
    assert any(path.endswith(f'host.{process}.json') for path in report['written'])
  assert {path.name for path in (out / 'checkpoints').iterdir()} == {'00000001'}


# A whole run


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """(workdir, reports) of one process, of two."""
  folder = tmp_path_factory.mktemp('runs')

  def run(processes: int):
    out = folder / f'of{processes}'
    reports = start(
      out, processes, 'run', DATA / 'resume_driver.py', *RUN, f'--workdir={out / "run"}'
    )
    return out, reports

  return run(1), run(2)


def test_two_hosts_train_as_one_does(runs):
  one, two = (read_metrics(out / 'run' / 'rl' / 'metrics.jsonl') for (out, _) in runs)
  assert len(one) == len(two) == 2 and one[0]['grad_norm'] > 0.1
  for a, b in zip(one, two, strict=True):
    assert a.keys() == b.keys()
    for name in ('reward', 'accuracy', 'length', 'length_max', 'tokens', 'truncated'):
      assert a[name] == b[name], name
    for name in a:  # sums in another order; log-probabilities of some -5 differ in their last bits
      np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_hosts_evaluate_as_one_does(runs):
  for stage in ('before', 'after'):
    one, two = (json.loads((out / 'run' / stage / 'done.json').read_text()) for (out, _) in runs)
    for name in ('pass@1', 'ci95', 'mean_length', 'truncated', 'shown'):
      assert one[name] == two[name], name


def test_two_hosts_share_problems_and_checks(runs):
  """Half of what one host draws and checks: two rollouts of 4 problems, two evaluations of 2, 4 samples of each."""
  (_, (alone,)), (_, both) = runs
  assert len(alone['drawn']) == 8 and len(alone['checked']) == 4 * (8 + 4)
  for name in ('drawn', 'checked'):
    first, second = (report[name] for report in both)
    assert len(first) == len(second) == len(alone[name]) / 2
    assert sorted(first + second) == sorted(alone[name])


def test_only_the_first_host_writes_and_prints(runs):
  (one, _), (two, (first, second)) = runs
  names = lambda out: {
    str(p.relative_to(out))
    for p in (out / 'run').rglob('*')
    if not {'checkpoints', 'tensorboard'} & {*p.relative_to(out).parts[:-1]}
  }
  assert names(two) == names(one)
  assert any(path.endswith('metrics.jsonl') for path in first['written'])
  assert any('checkpoints' in path for path in second['written'])
  assert [path for path in second['written'] if '/checkpoints' not in path] == []
  texts = [two.with_name(f'{two.name}.{index}.log').read_text() for index in range(2)]
  assert [('finished: ' in text, 'rl 2/2' in text) for text in texts] == [
    (True, True),
    (False, False),
  ]


# How processes find each other


@pytest.mark.parametrize('name', [hosts.COUNT, hosts.INDEX])
def test_a_wrong_environment_is_named(name, monkeypatch):
  monkeypatch.setenv(hosts.ADDRESS, '127.0.0.1:1234')
  monkeypatch.setenv(hosts.COUNT, '2')
  monkeypatch.setenv(hosts.INDEX, '0')
  monkeypatch.setenv(name, 'two')
  with pytest.raises(
    ConfigError, match=f"JAX_COORDINATOR_ADDRESS='127.0.0.1:1234'.*'two'.*valid: .*{name}"
  ):
    hosts.join()


def test_alone_nothing_is_exchanged(monkeypatch):
  """One process needs no other, and starts no service."""
  monkeypatch.delenv(hosts.ADDRESS, raising=False)
  hosts.join()
  assert jax.process_count() == 1 and hosts.is_first()
  tree = {'a': np.arange(3)}
  assert hosts.gather(tree)[0] is tree and hosts.are_same(tree)
