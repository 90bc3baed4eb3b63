"""What --config.init.path may name."""

import dataclasses
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.checkpoint import Checkpointer, CheckpointError
from r1jax.model import hf, sizes, source, weights
from r1jax.model.transformer import spec
from r1jax.stages import export


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _saved(directory, step, params):
  """A checkpoint as a stage saves it: the policy is one part of the state."""
  Checkpointer(directory).save(step, {'policy': params, 'step': jnp.int32(step)}, {})


def test_a_hugging_face_directory(small, random_params, tmp_path):
  cfg = small('qwen3')
  hf.export(random_params(cfg), cfg, tmp_path / 'model')
  assert source.find(tmp_path / 'model') is None
  assert dataclasses.replace(source.config(tmp_path / 'model'), name=cfg.name) == cfg
  _same(source.load(tmp_path / 'model', cfg), random_params(cfg))


@pytest.mark.parametrize('place', ['checkpoints/00000007', 'checkpoints', '.'])
def test_a_checkpoint_its_folder_and_its_stage(small, random_params, tmp_path, place):
  cfg = small('qwen3')
  for step in (3, 7):
    _saved(tmp_path / 'checkpoints', step, random_params(cfg, step))
  source.check(tmp_path / place, cfg)
  _same(source.load(tmp_path / place, cfg), random_params(cfg, 7))


def test_a_checkpoint_onto_a_mesh_in_another_dtype(small, random_params, tmp_path, mesh_of):
  cfg, mesh = small('deepseek_v3'), mesh_of(fsdp=2, expert=2, tensor=2)
  _saved(tmp_path, 1, random_params(cfg))
  half = dataclasses.replace(cfg, param_dtype='bfloat16')
  goal = weights.abstract(spec(half), half, mesh)
  params = source.load(tmp_path, half, mesh)
  _same(jax.device_get(params), jax.device_get(weights.cast(random_params(cfg), goal)))
  assert params.head.dtype == jnp.bfloat16
  assert params.head.sharding.is_equivalent_to(goal.head.sharding, 2)


@pytest.fixture
def run(random_params, tmp_path):
  """The folder of a run whose second stage has trained and whose third has not saved anything yet."""
  config = {'stages': ['a:sft', 'b:grpo', 'c:grpo', 'after:evaluate']}
  config['model'], config['init'] = {'size': 'tiny_dense'}, {'path': 'base'}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  for seed, stage in enumerate('ab'):
    _saved(tmp_path / stage / 'checkpoints', 5, random_params(sizes.get('tiny_dense'), seed))
  (tmp_path / 'c' / 'checkpoints' / 'tmp.1').mkdir(parents=True)
  return tmp_path


def test_a_run_stands_for_its_last_checkpoint(run, random_params):
  cfg = sizes.get('tiny_dense')
  assert source.find(run) == run / 'b' / 'checkpoints' / '00000005'
  assert source.config(run) == source.config(run / 'a') == cfg
  assert str(source.tokenizer(run)) == 'base'
  _same(source.load(run, cfg), random_params(cfg, 1))


def test_a_run_of_size_auto_is_of_the_model_that_it_started_from(run, tmp_path):
  fields = json.loads((run / 'config.json').read_text())
  shutil.copytree(run, tmp_path / 'auto')
  fields['model']['size'], fields['init']['path'] = 'auto', str(run)
  (tmp_path / 'auto' / 'config.json').write_text(json.dumps(fields))
  assert source.config(tmp_path / 'auto') == sizes.get('tiny_dense')


def test_whether_a_model_is_one_of_our_sizes(run, small, random_params, tmp_path):
  """Also where a run has started from another run; a model that came with a config.json is not."""
  cfg = small('qwen3')
  hf.export(random_params(cfg), cfg, tmp_path / 'hf')
  assert source.is_named(run) and not source.is_named(tmp_path / 'hf')
  fields = json.loads((run / 'config.json').read_text())
  for init, named in ((str(run), True), (str(tmp_path / 'hf'), False)):
    folder = tmp_path / f'auto {named}'
    shutil.copytree(run / 'b', folder / 'b')
    changed = {'model': {'size': 'auto'}, 'init': {'path': init}}
    (folder / 'config.json').write_text(json.dumps(fields | changed))
    assert source.is_named(folder) == named


@pytest.mark.parametrize('size, kept', [('auto', True), ('tiny_dense', False)])
def test_the_export_of_a_run_keeps_the_bos_of_a_config_json(
  small, random_params, tmp_path, size, kept
):
  """The tokenizer's, 9 here, is for models of our sizes."""
  cfg = dataclasses.replace(small('qwen3'), bos=7)
  hf.export(random_params(cfg), cfg, tmp_path / 'hf')
  model, init = types.SimpleNamespace(size=size), types.SimpleNamespace(path=tmp_path / 'hf')
  experiment = types.SimpleNamespace(model=model, init=init, model_config=cfg)
  context = types.SimpleNamespace(
    experiment=experiment, model=dataclasses.replace(cfg, bos=9, eos=(2, 3))
  )
  found = export.described(context)
  assert (found.bos, found.eos) == (7 if kept else 9, (2, 3))


@pytest.mark.parametrize('value', [0, -1, float('nan'), float('inf')])
def test_sizes_of_files_that_are_not_possible(value):
  with pytest.raises(ValueError, match='shard_gb=.* is not possible; valid: more than 0'):
    export.Config(shard_gb=value)


@pytest.mark.parametrize('act', [source.check, source.load])
def test_another_model_is_refused_by_name(run, act):
  cfg = sizes.get('tiny_dense')
  with pytest.raises(CheckpointError, match=r'policy.stacks.0.ffn.gate as \[3, 128, 320\]'):
    act(run, dataclasses.replace(cfg, mlp=321))
  with pytest.raises(CheckpointError, match='has no policy.head'):
    act(run, dataclasses.replace(cfg, tied=False))


@pytest.mark.parametrize('stages', [None, ['a:sft']])
def test_nothing_is_there(tmp_path, stages):
  """An empty directory, and a run that has saved nothing."""
  if stages:
    (tmp_path / 'config.json').write_text(json.dumps({'stages': stages}))
  with pytest.raises(FileNotFoundError, match='no weights; valid: .* Hugging Face .* run'):
    source.find(tmp_path)


def test_a_config_of_no_known_model_is_named(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "mamba"}')
  with pytest.raises(ValueError, match='config.json: model_type .mamba. is unknown; known: qwen2'):
    source.check(tmp_path, sizes.get('tiny_dense'))
