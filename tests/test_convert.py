"""python -m r1jax.convert: there and back, the table, and what is wrong in one line."""

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from r1jax import convert
from r1jax.model import hf, source


@pytest.fixture
def model(small, random_params, tmp_path, monkeypatch):
  """A Hugging Face directory in float32, on one device as a user's machine has it."""
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  cfg = dataclasses.replace(small('deepseek_v3'), name='m')
  hf.export(random_params(cfg), cfg, tmp_path / 'hf')
  return tmp_path / 'hf'


def _files(directory):
  return {p.name: p.read_bytes() for p in directory.iterdir()}


@pytest.mark.parametrize('devices', [1, 8])
def test_there_and_back(model, tmp_path, capsys, monkeypatch, devices):
  """Over one device, and sharded over all of them."""
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  assert convert.main([str(model), str(tmp_path / 'ours')]) == 0
  assert 'no tokenizer' in capsys.readouterr().out
  assert source.config(tmp_path / 'ours') == source.config(model)
  assert convert.main([str(tmp_path / 'ours'), str(tmp_path / 'back')]) == 0
  assert _files(tmp_path / 'back') == _files(model)


def test_from_layout_to_the_same_in_another_dtype(model, tmp_path):
  args = [
    str(model),
    str(tmp_path / 'half'),
    '--to=hf',
    '--dtype=bfloat16',
    '--no_mtp',
    '--shard_gb=3e-5',
  ]
  assert convert.main(args) == 0
  index = json.loads((tmp_path / 'half' / 'model.safetensors.index.json').read_text())
  assert len(set(index['weight_map'].values())) > 1
  assert not [name for name in index['weight_map'] if name.startswith('model.layers.3.')]
  norm = load_file(tmp_path / 'half' / index['weight_map']['model.norm.weight'])
  expected = load_file(model / 'model.safetensors')['model.norm.weight']
  np.testing.assert_array_equal(norm['model.norm.weight'], expected.astype('bfloat16'))


def test_the_tokenizer_goes_along(model, tmp_path):
  args = [str(model), str(tmp_path / 'ours'), '--tokenizer=r1jax/assets/tiny_moe']
  assert convert.main(args) == 0
  assert source.tokenizer(tmp_path / 'ours') == tmp_path / 'ours'
  assert convert.main([str(tmp_path / 'ours'), str(tmp_path / 'back')]) == 0
  assert (tmp_path / 'back' / 'tokenizer.model').is_file()
  fields = json.loads((tmp_path / 'back' / 'config.json').read_text())
  assert (fields['bos_token_id'], fields['eos_token_id']) == (1, 2)


def test_the_table_of_a_named_size(capsys):
  """64 experts a mesh axis holds four of 256 each; [58, 256, 7168, 2048] is cut along experts and embed."""
  assert convert.main(['deepseek_v3', '--list', '--mesh=fsdp=8,expert=64']) == 0
  *rows, total = capsys.readouterr().out.splitlines()
  assert len(rows) == 46_183
  row = next(r for r in rows if r.startswith('model.layers.35.mlp.experts.133.gate_proj.weight '))
  assert row.split('  ')[1:] == [
    '(2048, 7168)', '-', 'stacks[1].ffn.gate[32, 133]', '(58, 256, 7168, 2048)', 'float32',
    "(None, 'expert', 'fsdp', None)", '(58, 4, 896, 2048)',
  ]  # fmt: skip
  assert total.startswith('46,183 tensors, 682,636,487,424 parameters') and '512 devices' in total


def test_the_table_of_files(model, capsys):
  assert convert.main([str(model), '--list']) == 0
  assert 'lm_head.weight  (61, 32)  F32  head  (32, 61)  float32' in capsys.readouterr().out


@pytest.mark.parametrize(
  'make, named',
  [
    (lambda d: ['nowhere'], 'nowhere: no weights'),
    (lambda d: [str(d)], 'hf exists and is not empty'),
  ],
)
def test_errors_are_one_line(model, capsys, make, named):
  assert convert.main([*make(model), str(model)]) == 1
  found = capsys.readouterr().err
  assert found.startswith('error: ') and named in found and found.count('\n') == 1


def test_a_damaged_file_leaves_nothing_behind(model, tmp_path, capsys):
  path = model / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-1])
  assert convert.main([str(model), str(tmp_path / 'ours')]) == 1
  assert 'model.safetensors: truncated' in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ['hf']


def test_a_full_disk_leaves_nothing_behind(model, tmp_path, capsys, monkeypatch):
  def full(directory, step, state, host):
    raise convert.CheckpointError(
      f'cannot write the checkpoint {directory.directory}: No space left'
    )

  monkeypatch.setattr(convert.Checkpointer, 'save', full)
  assert convert.main([str(model), str(tmp_path / 'ours')]) == 1
  assert 'No space left' in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ['hf']


@pytest.mark.parametrize(
  'args, named',
  [
    (['m'], 'destination is missing'),
    (['m', '--check'], '--check needs torch and transformers; valid: pip install torch transf'),
    (['m', '--list', '--mesh=model=2'], 'model=2 is not possible; valid: sizes of data, fsdp'),
    (['m', '--list', '--mesh=fsdp=x'], 'fsdp=x is not possible'),
  ],
)
def test_wrong_arguments(args, named, capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(SystemExit, match='2'):
    convert.main(args)
  assert named in capsys.readouterr().err


def test_check_compares_logits(model, tmp_path, capsys):
  """Equal weights agree; one norm that is scaled by 1.5 is seen."""
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  assert convert.main([str(model), str(tmp_path / 'ours'), '--check']) == 0
  params, cfg = hf.load(model)
  assert convert.compare(params, cfg, model) < 1e-5
  assert convert.compare(params.replace(final_norm=1.5 * params.final_norm), cfg, model) > 0.1
