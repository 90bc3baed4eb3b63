"""Checkpoints: bit for bit, wherever a save was cut and whatever happened to its files since."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from r1jax.checkpoint import Checkpointer, CheckpointError, named_leaves

ROOT = Path(__file__).parents[1]


@struct.dataclass
class State:
  """The kinds of leaves that a training state has."""

  step: jax.Array
  policy: dict
  reference: dict | None
  key: jax.Array
  raw_key: jax.Array


def make_state(seed: int = 0, reference: bool = False) -> State:
  bits = np.random.default_rng(seed).integers(0, 2**32, (8, 16), np.uint32)
  half = jnp.asarray(bits).view(jnp.bfloat16)  # NaNs with payloads and infinities among them
  policy = {
    'fp32': jnp.asarray(bits).view(jnp.float32),
    'bf16': half,
    'negative_zero': jnp.full((8, 2), -0.0),
    'int8': jnp.arange(-4, 4, dtype=jnp.int8),
    'flags': jnp.array([True, False]),
    'empty': jnp.zeros((0, 3), jnp.bfloat16),
  }
  return State(
    step=jnp.int32(seed),
    policy=policy,
    reference={'fp32': policy['fp32'] * 2} if reference else None,
    key=jax.random.split(jax.random.key(seed), 3),
    raw_key=jax.random.PRNGKey(seed),
  )


def abstract(state, sharding=None):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def assert_same_bits(left, right):
  left, right = named_leaves(left), named_leaves(right)
  assert left.keys() == right.keys()
  for name, x in left.items():
    y = right[name]
    assert (x.shape, x.dtype) == (y.shape, y.dtype), name
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), name


def files_of(folder: Path) -> list[Path]:
  return sorted(p for p in folder.rglob('*') if p.is_file())


def flipped(data: bytes, at: int) -> bytes:
  return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def flip(path: Path, at: int) -> None:
  path.write_bytes(flipped(path.read_bytes(), at))


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory) -> Path:
  """A directory with the checkpoints of steps 1 and 2, to be copied."""
  directory = tmp_path_factory.mktemp('two_steps')
  checkpointer = Checkpointer(directory)
  for step in (1, 2):
    checkpointer.save(step, make_state(step), {'cursor': step, 'buffer': np.arange(step)})
  return directory


@pytest.fixture
def saved(two_steps, tmp_path) -> Checkpointer:
  shutil.copytree(two_steps, tmp_path / 'checkpoints')
  return Checkpointer(tmp_path / 'checkpoints')


@pytest.mark.parametrize('reference', [False, True])
def test_state_comes_back_bit_for_bit(tmp_path, reference):
  state = make_state(3, reference)
  Checkpointer(tmp_path).save(7, state, {})
  checkpointer = Checkpointer(tmp_path)
  assert checkpointer.latest() == 7
  restored, host = checkpointer.restore(7, abstract(state))
  assert_same_bits(restored, state)
  assert host == {}
  draw = jax.random.normal(restored.key[1], (4,))
  assert (draw == jax.random.normal(state.key[1], (4,))).all()


def test_host_values_come_back(tmp_path):
  bf16 = np.asarray(jnp.arange(5, dtype=jnp.bfloat16))
  host = {
    'iterator': {'grain': {'position': 12, 'names': ['a', None]}, 'opaque': b'\x00\xff'},
    'rollouts': [np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((0, 2)), bf16],
    'cursor': np.int64(5),
    'metrics': {'bytes': 2**53, 'third': 1 / 3, 'tiny': 5e-324, 'done': False, 'text': 'ä "$'},
  }
  checkpointer = Checkpointer(tmp_path)
  checkpointer.save(1, make_state(), host)
  _, back = checkpointer.restore(1, abstract(make_state()))
  assert back['iterator'] == host['iterator']
  assert back['metrics'] == host['metrics']
  assert int(back['cursor']) == 5
  for got, put in zip(back['rollouts'], host['rollouts'], strict=True):
    assert (got.dtype, got.shape) == (put.dtype, put.shape)
    assert got.tobytes() == put.tobytes()


@pytest.mark.parametrize(
  ('host', 'name'),
  [
    ({'a': {1: 2}}, 'host.a has the key 1'),
    ({'a': [0, {3}]}, r'host.a\[1\] is a set'),
    ({'b': np.array([None])}, 'host.b is an array of object'),
    ({'c': jnp.ones(2)}, 'host.c is a'),
  ],
)
def test_host_value_that_would_not_come_back_is_refused(tmp_path, host, name):
  with pytest.raises(TypeError, match=name):
    Checkpointer(tmp_path).save(1, make_state(), host)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(len(jax.devices()) < 2, reason='one device')
def test_restores_into_other_shardings(tmp_path):
  state = make_state(4)
  mesh = jax.make_mesh((len(jax.devices()),), ('fsdp',))

  def sharding(x):
    split = x.ndim == 2 and x.shape[0] == 8
    return NamedSharding(mesh, P('fsdp') if split else P())

  def place(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x))

  first, second = Checkpointer(tmp_path / 'one'), Checkpointer(tmp_path / 'many')
  first.save(1, state, {})
  many, _ = first.restore(1, jax.tree.map(place, state))  # one device -> many
  assert_same_bits(many, state)
  for name, leaf in named_leaves(many).items():
    assert leaf.sharding.is_equivalent_to(sharding(leaf), leaf.ndim), name
  second.save(1, many, {})
  one, _ = second.restore(1, abstract(state))  # many -> the first device
  assert_same_bits(one, state)
  assert all(x.sharding == SingleDeviceSharding(jax.devices()[0]) for x in jax.tree.leaves(one))


def test_a_part_of_the_state_is_restored(saved):
  wanted = {'policy': abstract(make_state(2).policy)}
  with pytest.raises(CheckpointError, match='holds step, which the state of this config lacks'):
    saved.restore(2, wanted)
  part, _ = saved.restore(2, wanted, partial=True)
  assert_same_bits(part, {'policy': make_state(2).policy})


def test_another_state_is_refused_by_name(saved):
  other = abstract(make_state(2, reference=True))
  with pytest.raises(CheckpointError, match='has no reference.fp32'):
    saved.restore(2, other)
  other = abstract(make_state(2))
  other.policy['int8'] = jax.ShapeDtypeStruct((9,), jnp.int8)
  message = r'holds policy.int8 as int8\[8\], the config asks for int8\[9\]'
  with pytest.raises(CheckpointError, match=message):
    saved.restore(2, other)
  other.policy['int8'] = jax.ShapeDtypeStruct((8,), jnp.int16)
  with pytest.raises(CheckpointError, match=r'asks for int16\[8\]'):
    saved.restore(2, other)


def test_keeps_the_last_ones_and_drops_later_ones(tmp_path):
  checkpointer = Checkpointer(tmp_path, keep=2)
  for step in (10, 20, 30):
    checkpointer.save(step, make_state(), {'at': step})
  assert checkpointer.steps() == [20, 30]
  checkpointer.save(25, make_state(), {'at': 25})  # after going back to 20
  assert checkpointer.steps() == [20, 25]
  assert checkpointer.latest() == 25
  checkpointer.save(25, make_state(), {'at': 'again'})
  assert checkpointer.restore(25, abstract(make_state()))[1] == {'at': 'again'}
  assert sorted(p.name for p in tmp_path.iterdir()) == ['00000020', '00000025']


def test_a_corrupt_one_does_not_count_as_kept(saved):
  (saved.directory / '00000002' / 'leaves.json').unlink()
  assert saved.latest() == 1
  saved.save(3, make_state(3), {})
  assert saved.steps() == [1, 3]


def test_empty_or_absent_directory_has_no_latest(tmp_path):
  assert Checkpointer(tmp_path / 'absent').latest() is None
  assert Checkpointer(tmp_path).latest() is None


def damaged(whole: bytes) -> list[bytes]:
  """A file's content -> longer, shorter, empty, and with one bit flipped in three places."""
  if not whole:
    return [b'x']
  places = (0, len(whole) // 3, len(whole) - 1)
  return [whole + b'x', whole[:-1], b'', *(flipped(whole, at) for at in places)]


def test_any_damage_to_any_file_is_seen(saved, caplog):
  """Each file of step 2 removed or changed: step 1 is chosen, and the reason is told."""
  folder = saved.directory / '00000002'
  for path in files_of(folder):
    whole = path.read_bytes()
    for content in [None, *damaged(whole)]:
      caplog.clear()
      path.unlink() if content is None else path.write_bytes(content)
      assert saved.latest() == 1, path
      assert str(folder) in caplog.text and path.name in caplog.text
    path.write_bytes(whole)
  assert saved.latest() == 2


def test_no_flip_in_the_manifest_goes_unseen(saved):
  manifest = saved.directory / '00000002' / 'manifest.0'
  for at in range(manifest.stat().st_size):
    flip(manifest, at)
    assert saved.latest() == 1, at
    flip(manifest, at)


def test_restoring_a_corrupt_one_by_number_is_refused(saved):
  flip(saved.directory / '00000002' / 'host.0.npz', 60)
  with pytest.raises(CheckpointError, match='host.0.npz is corrupt'):
    saved.restore(2, abstract(make_state(2)))
  with pytest.raises(CheckpointError, match=r'00000009.*manifest.*steps here: \[1, 2\]'):
    saved.restore(9, abstract(make_state(2)))


def copy_of(directory: Path, to: Path) -> None:
  """A folder as it stands, while other threads write to it."""
  for root, _, names in os.walk(directory):
    (to / Path(root).relative_to(directory)).mkdir(parents=True)
    for name in names:
      with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(Path(root, name), to / Path(root).relative_to(directory) / name)


@pytest.mark.parametrize('step', [2, 3])
def test_cut_between_any_two_changes_of_the_file_system(saved, tmp_path, step):
  """Before each change that a save makes, the directory holds an intact checkpoint."""
  cuts = []

  def look(event, args):
    if look.busy or threading.current_thread() is not threading.main_thread():
      return
    changes = event in ('os.rename', 'os.mkdir', 'os.remove', 'os.rmdir')
    changes |= event == 'open' and bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR))
    if changes and str(saved.directory) in str(args[0]):
      look.busy = True
      cuts.append(tmp_path / f'cut{len(cuts)}')
      copy_of(saved.directory, cuts[-1])
      look.busy = False

  look.busy = False
  sys.addaudithook(look)
  saved.save(step, make_state(9), {'cursor': 'new'})
  look.busy = True  # a hook cannot be removed
  assert len(cuts) >= 8
  seen = set()
  for cut in cuts:
    checkpointer = Checkpointer(cut)
    latest = checkpointer.latest()
    state, host = checkpointer.restore(latest, abstract(make_state(2)))
    seen.add((latest, host['cursor']))
    assert_same_bits(state, make_state(9 if host['cursor'] == 'new' else 2))
    checkpointer.save(latest + 1, make_state(1), {})  # and it can go on from there
    assert checkpointer.latest() == latest + 1
  assert seen == {(2, 2), (step, 'new')}


KILLED = """
import jax, numpy as np, sys
from r1jax.checkpoint import Checkpointer
state = {'w': jax.random.normal(jax.random.key(0), (1024, 1024)), 'step': np.int32(0)}
checkpointer = Checkpointer(sys.argv[1])
for step in range(10**6):
  checkpointer.save(step, dict(state, step=np.int32(step)), {'step': step})
  print(step, flush=True)
"""


def test_kill_at_any_moment(tmp_path):
  """SIGKILL of a process that does nothing but save: the last announced step, or the next."""
  environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu')
  want = {'w': jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
  want['step'] = jax.ShapeDtypeStruct((), jnp.int32)
  weights = np.asarray(jax.random.normal(jax.random.key(0), (1024, 1024)))
  for delay in (0.0, 0.017, 0.05):
    command = [sys.executable, '-c', KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
      announced = [int(child.stdout.readline()) for _ in range(3)]
      time.sleep(delay)
      child.send_signal(signal.SIGKILL)
      announced += [int(line) for line in child.stdout]
    checkpointer = Checkpointer(tmp_path)
    latest = checkpointer.latest()
    assert latest in (announced[-1], announced[-1] + 1)
    state, host = checkpointer.restore(latest, want)
    assert host == {'step': latest} and int(state['step']) == latest
    assert (np.asarray(state['w']) == weights).all()


def assert_step_2_is_as_it_was(checkpointer):
  assert checkpointer.latest() == 2
  state, host = checkpointer.restore(2, abstract(make_state(2)))
  assert_same_bits(state, make_state(2))
  assert host['cursor'] == 2 and (host['buffer'] == np.arange(2)).all()
  assert not list(checkpointer.directory.glob('tmp.*'))


@pytest.mark.parametrize('function', ['numpy.savez', 'os.fsync', 'os.rename', 'pathlib.Path.mkdir'])
def test_disk_full(saved, monkeypatch, function):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(function, full)
    with pytest.raises(CheckpointError, match=r'00000003.*No space left.*step 2 is as it was'):
      saved.save(3, make_state(3), {})
  assert_step_2_is_as_it_was(saved)


def test_disk_full_while_the_arrays_are_written(saved):
  """No file may grow over 64 KiB: the failure comes out of tensorstore, as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  noise = jax.random.bits(jax.random.key(0), (512, 512))
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
  try:
    with pytest.raises(CheckpointError, match='00000003'):
      saved.save(3, {'noise': noise}, {})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert_step_2_is_as_it_was(saved)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_no_permission(saved):
  saved.directory.chmod(0o555)
  try:
    with pytest.raises(CheckpointError, match='Permission denied'):
      saved.save(3, make_state(3), {})
  finally:
    saved.directory.chmod(0o755)
  assert_step_2_is_as_it_was(saved)


def test_directory_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(CheckpointError, match='file/checkpoints/00000001.*there is no earlier one'):
    Checkpointer(tmp_path / 'file' / 'checkpoints').save(1, make_state(), {})


def test_saving_a_million_parameters_is_quick(tmp_path):
  leaf = jnp.ones((1024, 32))
  state = {f'block{i}': [leaf, leaf, leaf] for i in range(11)}  # 1.1M numbers
  checkpointer = Checkpointer(tmp_path)
  for step in range(3):
    checkpointer.save(step, state, {})
  begin = time.process_time()
  checkpointer.save(3, state, {})
  assert time.process_time() - begin < 0.5  # about 0.1 on two cores


TWO_PROCESSES = """
import sys
import jax
process, port, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(f'localhost:{port}', 2, process)
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from r1jax.checkpoint import Checkpointer
sharding = NamedSharding(jax.make_mesh((2,), ('data',)), P('data'))
whole = np.arange(8, dtype=np.float32)
x = jax.make_array_from_callback((8,), sharding, lambda at: whole[at])
checkpointer = Checkpointer(directory)
for step in (1, 2):
  checkpointer.save(step, {'x': x * step}, {'process': process, 'rows': np.full(3, process)})
if process == 1:
  (checkpointer.directory / '00000002' / 'host.1.json').write_text('')
jax.experimental.multihost_utils.sync_global_devices('damaged')
assert checkpointer.latest() == 1
want = {'x': jax.ShapeDtypeStruct((8,), np.float32, sharding=sharding)}
state, host = checkpointer.restore(1, want)
assert host['process'] == process and (host['rows'] == process).all()
shard = state['x'].addressable_shards[0]
assert (np.asarray(shard.data) == whole[shard.index]).all() and shard.data.shape == (4,)
"""


def test_two_processes_save_one_checkpoint(tmp_path):
  environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu', XLA_FLAGS='')
  port = str(20000 + os.getpid() % 20000)
  children = [
    subprocess.Popen(
      [sys.executable, '-c', textwrap.dedent(TWO_PROCESSES), str(process), port, str(tmp_path)],
      env=environment,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process in range(2)
  ]
  try:
    for child in children:
      error = child.communicate(timeout=100)[1]
      assert child.returncode == 0, error
  finally:
    for child in children:
      child.kill()
  names = {p.name for p in (tmp_path / '00000001').iterdir()}
  assert {'manifest.0', 'manifest.1', 'host.0.json', 'host.1.json'} <= names
