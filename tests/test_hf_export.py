"""Directories in Hugging Face layout that are written: their files, options, and what an error leaves."""

import contextlib
import dataclasses
import errno
import io
import json
import resource
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from r1jax.checkpoint import CheckpointError
from r1jax.model import hf, hf_export
from r1jax.stages import export as stage_export


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_shards_and_index(small, random_params, tmp_path):
  cfg = dataclasses.replace(small('deepseek_v3'), param_dtype='bfloat16')
  params = random_params(cfg)
  hf.export(params, cfg, tmp_path / 'out', shard_bytes=20_000)
  index = json.loads((tmp_path / 'out' / 'model.safetensors.index.json').read_text())
  files = sorted(p.name for p in (tmp_path / 'out').glob('*.safetensors'))
  assert len(files) > 1 and files[0] == f'model-00001-of-{len(files):05d}.safetensors'
  assert index['weight_map'].keys() == hf.tensors(cfg).keys()
  tensors = {k: v for f in files for k, v in load_file(tmp_path / 'out' / f).items()}
  assert index['metadata']['total_size'] == sum(v.nbytes for v in tensors.values())
  assert tensors['model.embed_tokens.weight'].dtype == jnp.bfloat16
  assert tensors['model.layers.1.mlp.gate.e_score_correction_bias'].dtype == np.float32
  again, read = hf.load(tmp_path / 'out')
  _same(again, params)
  assert read == cfg


def test_dtype_of_the_file_and_no_mtp(small, random_params, tmp_path):
  cfg = small('deepseek_v3')
  params = random_params(cfg)
  hf.export(params, cfg, tmp_path / 'out', dtype='bfloat16', mtp=False)
  tensors = load_file(tmp_path / 'out' / 'model.safetensors')
  assert not [name for name in tensors if name.startswith('model.layers.3.')]
  bias = 'model.layers.1.mlp.gate.e_score_correction_bias'
  assert {v.dtype for k, v in tensors.items() if 'e_score' not in k} == {jnp.dtype('bfloat16')}
  np.testing.assert_array_equal(tensors[bias], params.stacks[1].ffn.bias[0])
  expected = np.asarray(params.head.astype('bfloat16').T)
  np.testing.assert_array_equal(tensors['lm_head.weight'], expected)
  fields = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert (fields['torch_dtype'], fields['num_nextn_predict_layers']) == ('bfloat16', 0)


def test_generation_config_and_texts(small, random_params, tmp_path):
  cfg = dataclasses.replace(small('qwen2'), bos=3, eos=(4, 5))
  hf.export(random_params(cfg), cfg, tmp_path / 'out', texts={'README.md': 'a card'})
  assert json.loads((tmp_path / 'out' / 'generation_config.json').read_text()) == {
    'bos_token_id': 3, 'eos_token_id': [4, 5], 'do_sample': True, 'temperature': 0.6, 'top_p': 0.95,
  }  # fmt: skip
  assert (tmp_path / 'out' / 'README.md').read_text() == 'a card'


def test_sharded_parameters_give_the_same_file(small, random_params, tmp_path, mesh_of):
  cfg = small('deepseek_v3')
  hf.export(random_params(cfg), cfg, tmp_path / 'one')
  params, _ = hf.load(tmp_path / 'one', mesh=mesh_of(fsdp=2, expert=2, tensor=2))
  hf.export(params, cfg, tmp_path / 'eight')
  files = [tmp_path / name / 'model.safetensors' for name in ('one', 'eight')]
  assert files[0].read_bytes() == files[1].read_bytes()


def test_export_leaves_nothing_behind_when_it_fails(small, random_params, tmp_path):
  class Tokenizer:
    def save(self, directory):
      assert (directory / 'model.safetensors').exists()
      raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    hf.export(random_params(small('qwen2')), small('qwen2'), tmp_path / 'out', Tokenizer())
  assert not list(tmp_path.iterdir())


def test_export_overwrites_nothing(small, random_params, tmp_path):
  (tmp_path / 'mine.txt').write_text('keep')
  with pytest.raises(FileExistsError, match=str(tmp_path)):
    hf.export(random_params(small('qwen2')), small('qwen2'), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_a_full_disk_is_named_and_nothing_stays(small, random_params, tmp_path, monkeypatch):
  class Full(io.BytesIO):
    def write(self, data):
      if self.tell() > 20_000:
        raise OSError(errno.ENOSPC, 'No space left on device')
      return super().write(data)

  monkeypatch.setattr(hf_export, 'open', lambda path, mode: Full(), raising=False)
  with pytest.raises(OSError, match=r'cannot write model\.\S+: No space .*model.safetensors') as e:
    hf.export(random_params(small('qwen3')), small('qwen3'), tmp_path / 'out')
  assert e.value.errno == errno.ENOSPC
  assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def _files_of_at_most(size):
  """The system refuses to write more than `size` bytes to a file."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('name', ['config.json', 'README.md', 'vocab.txt'])
def test_any_file_that_cannot_be_written_is_named(
  small, random_params, tmp_path, monkeypatch, name
):
  """The tensors fit; a config.json, which is smaller, would not be reached."""

  class Tokenizer:
    def save(self, directory):
      with open(directory / 'vocab.txt', 'w') as file:
        file.write(' ' * (10**6 if name == 'vocab.txt' else 1))

  cfg = small('qwen3')
  if name == 'config.json':
    monkeypatch.setattr(hf_export, '_write_tensors', lambda *_: None)
  texts = {'README.md': ' ' * (10**6 if name == 'README.md' else 1)}
  size = 100 if name == 'config.json' else 500_000
  where = (
    r"cannot write the tokenizer: .*\.out\.partial'"
    if name == 'vocab.txt'
    else rf'cannot write it: .*/{name}'
  )
  with _files_of_at_most(size), pytest.raises(OSError, match=where) as e:
    hf.export(random_params(cfg), cfg, tmp_path / 'out', Tokenizer(), texts=texts)
  assert e.value.errno == errno.EFBIG
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size', [0, -1])
def test_a_size_of_files_that_is_not_possible_is_named(small, random_params, tmp_path, size):
  with pytest.raises(ValueError, match=f'files of {size} bytes.*1 or more'):
    hf.export(random_params(small('qwen3')), small('qwen3'), tmp_path / 'out', shard_bytes=size)
  assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_replaced(small, random_params, tmp_path):
  (tmp_path / '.out.partial').mkdir()
  (tmp_path / '.out.partial' / 'half').write_text('')
  hf.export(random_params(small('qwen3')), small('qwen3'), tmp_path / 'out')
  assert [p.name for p in tmp_path.iterdir()] == ['out']
  assert not (tmp_path / 'out' / 'half').exists()


# The stage


class Context(types.SimpleNamespace):
  """What the stage asks of a Context."""

  def folder(self, stage):
    return self.workdir / stage.name

  def result(self, stage):
    return None


@pytest.fixture
def context(small, random_params, tmp_path):
  cfg = small('qwen3')
  experiment = types.SimpleNamespace(
    name='e', seed=0, stages=(), model=types.SimpleNamespace(size='small')
  )
  return Context(
    workdir=tmp_path / 'run', model=cfg, params=lambda: random_params(cfg), tokenizer=None, experiment=experiment
  )  # fmt: skip


STAGE = types.SimpleNamespace(name='export', kind='export')


def test_a_stage_killed_before_it_was_noted_as_done_is_done(context, tmp_path):
  cfg = stage_export.Config(str(tmp_path / 'model'), 'float32')
  first = stage_export.run(cfg, STAGE, context)
  written = (tmp_path / 'model' / 'model.safetensors').read_bytes()
  context.params = lambda: pytest.fail('written twice')
  assert stage_export.run(cfg, STAGE, context)['path'] == first['path'] == str(tmp_path / 'model')
  assert (tmp_path / 'model' / 'model.safetensors').read_bytes() == written
  assert (tmp_path / 'model' / 'README.md').read_text().startswith('# small')


def test_a_stage_that_failed_begins_again(context):
  params, context.params = context.params, lambda: (_ for _ in ()).throw(OSError('disk full'))
  with pytest.raises(OSError, match='disk full'):
    stage_export.run(stage_export.Config(dtype='float32'), STAGE, context)
  context.params = params
  path = stage_export.run(stage_export.Config(dtype='float32'), STAGE, context)['path']
  _same(hf.load(path)[0], params())


def test_a_stage_writes_over_nothing(context, tmp_path):
  (tmp_path / 'model').mkdir()
  (tmp_path / 'model' / 'mine').write_text('')
  for _ in range(2):
    with pytest.raises(
      CheckpointError, match='^export: .* exists and is not empty; valid: a new dir'
    ):
      stage_export.run(stage_export.Config(str(tmp_path / 'model')), STAGE, context)


def test_a_place_that_went_away_since_it_was_looked_at_is_named(context, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(
    CheckpointError, match=r'^export: .*/file/model cannot be written: .*; valid: a new directory'
  ):
    stage_export.run(stage_export.Config(str(tmp_path / 'file' / 'model')), STAGE, context)
