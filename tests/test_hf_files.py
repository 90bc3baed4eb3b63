"""Checkpoints whose files are not as they should be: the error names file and tensor."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from r1jax.model import hf, hf_files


@pytest.fixture
def broken(small, random_params, tmp_path):
  """A Qwen3 checkpoint to be broken: (directory, tensors)."""
  hf.export(random_params(small('qwen3')), small('qwen3'), tmp_path / 'broken')
  return tmp_path / 'broken', load_file(tmp_path / 'broken' / 'model.safetensors')


NORM = 'model.layers.1.self_attn.q_norm.weight'


@pytest.mark.parametrize(
  'change, named',
  [
    (lambda t: t.pop(NORM), f'{NORM} is missing'),
    (lambda t: t.update(extra=np.zeros(3)), 'model.safetensors: unexpected tensor extra'),
    (
      lambda t: t.update({NORM: np.zeros(13, np.float32)}),
      rf'{NORM} has shape \(13,\), expected \(12,\)',
    ),
    (lambda t: t.update({NORM: np.zeros(12, np.int8)}), f'{NORM} is I8'),
  ],
)
def test_wrong_tensors_are_named(broken, change, named):
  directory, tensors = broken
  change(tensors)
  save_file(tensors, directory / 'model.safetensors')
  with pytest.raises(ValueError, match=named):
    hf.load(directory)


@pytest.mark.parametrize('cut', [-5, 200, 8, 3, 0])
def test_a_truncated_file_is_named(broken, cut):
  path = broken[0] / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(ValueError, match='model.safetensors: truncated'):
    hf.load(broken[0])


def test_a_missing_shard_is_named(broken):
  index = {'weight_map': {NORM: 'model-00002-of-00002.safetensors'}}
  (broken[0] / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(FileNotFoundError, match='model-00002-of-00002.safetensors: missing'):
    hf.load(broken[0])


PICKLE = 'is a pickle and is never opened: convert it to safetensors'


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'consolidated.00.pth', 'model.pt'])
def test_pickles_are_refused(broken, name):
  (broken[0] / 'model.safetensors').rename(broken[0] / name)
  with pytest.raises(FileNotFoundError, match=f'no safetensors file; {name} {PICKLE}'):
    hf.load(broken[0])


INDEX = 'model.safetensors.index.json'


@pytest.mark.parametrize(
  'where, named',
  [
    ({NORM: 3}, f'{NORM} is in 3; valid: the name of a file'),
    ({NORM: None}, f'{NORM} is in None'),
    ({NORM: 'pytorch_model.bin'}, f'{NORM}: pytorch_model.bin {PICKLE}'),
    ({NORM: '.'}, f'{NORM}: . is not a safetensors file'),
    ({}, 'no weight_map'),
    ([NORM], 'no weight_map'),
    ({'extra': 'one.safetensors'}, 'tensor extra is not in one.safetensors'),
    ({NORM: 'two.safetensors'}, f'tensor {NORM} is not in two.safetensors'),
  ],
)
def test_an_index_that_is_not_as_the_files_are_is_named(broken, where, named):
  directory, tensors = broken
  (directory / 'model.safetensors').unlink()
  last = {'model.norm.weight': tensors.pop('model.norm.weight')}
  save_file(tensors, directory / 'one.safetensors')
  save_file(last, directory / 'two.safetensors')
  right = dict.fromkeys(tensors, 'one.safetensors') | dict.fromkeys(last, 'two.safetensors')
  (directory / INDEX).write_text(json.dumps({'weight_map': right}))
  hf.load(directory)
  wrong = right | where if where and isinstance(where, dict) else where
  (directory / INDEX).write_text(json.dumps({'weight_map': wrong}))
  with pytest.raises(ValueError, match=f'{INDEX}: .*{named}'):
    hf.load(directory)


def test_files_without_tensors_are_named(broken):
  save_file({}, broken[0] / 'model.safetensors')
  with pytest.raises(ValueError, match='broken: there is no tensor'):
    hf.load(broken[0])


@contextlib.contextmanager
def _as_nobody():
  """Root may list every directory."""
  root = os.geteuid() == 0
  if root:
    os.seteuid(65534)
  try:
    yield
  finally:
    if root:
      os.seteuid(0)


def test_a_directory_that_may_not_be_listed_is_named(broken):
  """Its files could be opened, if their names were known."""
  with tempfile.TemporaryDirectory() as above:  # all may pass here, unlike the folders of pytest
    directory = pathlib.Path(shutil.copytree(broken[0], pathlib.Path(above) / 'model'))
    os.chmod(above, 0o711)
    directory.chmod(0o311)
    with _as_nobody(), pytest.raises(PermissionError, match=str(directory)):
      hf.load(directory)
    directory.chmod(0o755)


# What is there twice, and layers that config.json does not count


@pytest.mark.parametrize('by', ['bytes', 'dtype'])
def test_a_tied_head_that_differs_is_named(small, random_params, tmp_path, by):
  """transformers would use it; an equal one says nothing new."""
  cfg, path = small('qwen2'), tmp_path / 'model' / 'model.safetensors'
  hf.export(random_params(cfg), cfg, tmp_path / 'model')
  tensors = load_file(path)
  head = tensors['model.embed_tokens.weight'].astype('float64' if by == 'dtype' else 'float32')
  save_file(tensors | {'lm_head.weight': head}, path)
  again, _ = hf.load(tmp_path / 'model')
  np.testing.assert_array_equal(again.embed, random_params(cfg).embed)
  head[-1, -1] += 1
  save_file(tensors | {'lm_head.weight': head}, path)
  with pytest.raises(ValueError, match='model.safetensors: tensor lm_head.weight differs from mod'):
    hf.load(tmp_path / 'model')
  save_file(tensors | {'lm_head.weight': head[:-1]}, path)
  with pytest.raises(ValueError, match=r'lm_head.weight has shape \(60, 32\), expected \(61, 32\)'):
    hf.load(tmp_path / 'model')


@pytest.mark.parametrize('axes', [None, {'fsdp': 2, 'tensor': 2}])
@pytest.mark.parametrize('copy', ['embed_tokens', 'shared_head.head'])
def test_a_copy_of_the_mtp_module_that_differs_is_named(
  small, random_params, tmp_path, mesh_of, copy, axes
):
  cfg, path = small('deepseek_v3'), tmp_path / 'model' / 'model.safetensors'
  hf.export(random_params(cfg), cfg, tmp_path / 'model')
  tensors, name = load_file(path), f'model.layers.3.{copy}.weight'
  tensors[name][-1, -1] += 1
  save_file(tensors, path)
  with pytest.raises(ValueError, match=f'model.safetensors: tensor {name} differs from'):
    hf.load(tmp_path / 'model', mesh=axes and mesh_of(**axes))
  hf.load(tmp_path / 'model', dataclasses.replace(cfg, mtp=0))  # nobody asks for it
  del tensors[name]
  save_file(tensors, path)
  hf.load(tmp_path / 'model')


@pytest.mark.parametrize(
  'family, mtp, named',
  [
    ('qwen3', 0, 'unexpected tensor model.layers.1'),
    ('deepseek_v2', 0, 'unexpected tensor model.layers.2'),
    ('deepseek_v3', 0, 'unexpected tensor model.layers.2'),
    ('deepseek_v3', 1, 'tensor model.layers.2.enorm.weight is missing'),
  ],
)
def test_a_layer_that_the_config_does_not_count_is_named(
  small, random_params, tmp_path, family, mtp, named
):
  """It is no module for multi-token prediction, whether config.json expects one or not."""
  cfg = dataclasses.replace(small(family), mtp=0)
  hf.export(random_params(cfg), cfg, tmp_path / 'model')
  fields = json.loads((tmp_path / 'model' / 'config.json').read_text())
  fields |= {'num_hidden_layers': cfg.layers - 1, 'num_nextn_predict_layers': mtp}
  hf.write_json(tmp_path / 'model' / 'config.json', fields)
  with pytest.raises(ValueError, match=named):
    hf.load(tmp_path / 'model')


def test_a_broken_config_is_named(broken):
  (broken[0] / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json: not JSON'):
    hf.load(broken[0])
  (broken[0] / 'config.json').unlink()
  with pytest.raises(FileNotFoundError, match='config.json'):
    hf.load(broken[0])


def test_a_file_that_is_no_safetensors_file_is_named(broken):
  (broken[0] / 'model.safetensors').write_text(
    'version https://git-lfs.github.com/spec/v1\noid 1\n'
  )
  with pytest.raises(ValueError, match='model.safetensors: truncated or not a safetensors file'):
    hf.load(broken[0])


def test_a_tensor_in_two_files_is_named(broken):
  save_file({NORM: broken[1][NORM]}, broken[0] / 'more.safetensors')
  with pytest.raises(ValueError, match=f'more.safetensors: tensor {NORM} is also in model.safet'):
    hf.load(broken[0])


def test_an_index_without_a_map_is_named(broken):
  (broken[0] / 'model.safetensors.index.json').write_text('{}')
  with pytest.raises(ValueError, match='index.json: no weight_map'):
    hf.load(broken[0])


def test_a_file_that_may_not_be_read_is_named(broken, monkeypatch):
  """Root may read everything, so the answer of the system is put in its place."""

  def refuse(path, mode):
    raise PermissionError(13, 'Permission denied', str(path))

  monkeypatch.setattr(hf_files, 'open', refuse, raising=False)
  with pytest.raises(PermissionError, match='model.safetensors'):
    hf.load(broken[0])
