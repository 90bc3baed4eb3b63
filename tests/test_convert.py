"""python -m r1jax.convert: there and back, the table, and what is wrong in one line."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file
from tokenizers import decoders, models, pre_tokenizers

from r1jax import convert
from r1jax import tokenizer as tokenizer_lib
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


@pytest.fixture
def distill(small, random_params, tmp_path, monkeypatch):
  """A directory as the Qwen distills are: config.json names another BOS than the tokenizer adds, and one end of two."""
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  cfg = dataclasses.replace(small('qwen2'), name='m', vocab=260, bos=7, eos=257)
  hf.export(random_params(cfg), cfg, tmp_path / 'hf')
  vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens(['<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>', '<|im_end|>'])
  made.save(str(tmp_path / 'hf' / 'tokenizer.json'))
  config = {'bos_token': '<｜begin▁of▁sentence｜>', 'eos_token': '<｜end▁of▁sentence｜>'}
  _write(tmp_path / 'hf' / 'tokenizer_config.json', config | {'add_bos_token': True})
  _write(tmp_path / 'hf' / 'generation_config.json', {'eos_token_id': [257, 258]})
  return tmp_path / 'hf'


def _write(path, value):
  path.write_text(json.dumps(value))


@pytest.mark.parametrize('adds_bos', [True, False])
def test_ends_and_bos_survive(distill, tmp_path, adds_bos):
  """All the ends of a generation, the BOS of config.json, and the tokenizer's own, in every direction."""
  named = json.loads((distill / 'tokenizer_config.json').read_text())
  _write(distill / 'tokenizer_config.json', named | {'add_bos_token': adds_bos})
  before = tokenizer_lib.load(distill)
  assert (before.bos, before.eos) == (256 if adds_bos else None, (257, 258))
  ours, back, same = (str(tmp_path / name) for name in ('ours', 'back', 'same'))
  assert convert.main([str(distill), ours]) == 0
  assert convert.main([ours, back]) == 0
  assert convert.main([str(distill), same, '--to=hf']) == 0
  for path in map(pathlib.Path, (ours, back, same)):
    after = tokenizer_lib.load(path)
    assert (after.bos, after.eos, after.fingerprint) == (before.bos, before.eos, before.fingerprint)
    fields = json.loads((path / 'config.json').read_text())
    assert (fields['bos_token_id'], fields['eos_token_id']) == (7, [257, 258])
  for path in map(pathlib.Path, (back, same)):
    fields = json.loads((path / 'generation_config.json').read_text())
    assert fields['eos_token_id'] == [257, 258]


def test_a_run_of_our_size_takes_both_from_its_tokenizer(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  base = source.Path(convert.__file__).parent / 'assets' / 'tiny_dense'
  cfg = source.config(base)
  convert.Checkpointer(tmp_path / 'run' / 'rl' / 'checkpoints').save(
    1, {'policy': source.load(base, cfg)}, {}
  )
  init = {'path': str(base), 'tokenizer': ''}
  config = {'stages': ['rl:grpo'], 'model': {'size': 'tiny_dense'}, 'init': init}
  _write(tmp_path / 'run' / 'config.json', config)
  for size in ('tiny_dense', 'auto'):
    _write(tmp_path / 'run' / 'config.json', config | {'model': {'size': size}})
    assert convert.main([str(tmp_path / 'run'), str(tmp_path / size)]) == 0
    fields = json.loads((tmp_path / size / 'config.json').read_text())
    assert (fields['bos_token_id'], fields['eos_token_id']) == (1, 2)


def test_the_dtype_is_that_of_the_files(model, tmp_path):
  """Though config.json says another: there and back, every bit is there."""
  fields = json.loads((model / 'config.json').read_text())
  _write(model / 'config.json', fields | {'torch_dtype': 'bfloat16'})
  assert source.config(model).param_dtype == 'float32'
  assert convert.main([str(model), str(tmp_path / 'ours')]) == 0
  assert convert.main([str(tmp_path / 'ours'), str(tmp_path / 'back')]) == 0
  name = 'model.safetensors'
  assert (tmp_path / 'back' / name).read_bytes() == (model / name).read_bytes()


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


FULL = """
import resource, sys
from r1jax import convert
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
sys.exit(convert.main(sys.argv[1:]))
"""


@pytest.mark.parametrize('to', ['hf', 'r1jax'])
def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing_behind(model, tmp_path, to):
  """Where no file may pass 20 kB, a write fails as it does on a full disk: by orbax's threads, and by our own."""
  argv = [sys.executable, '-c', FULL, str(model), str(tmp_path / 'out'), f'--to={to}']
  done = subprocess.run(argv, capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1 and done.stderr.startswith('error: ')
  assert 'File too large' in done.stderr and str(tmp_path) in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ['hf']


@pytest.mark.parametrize('to', ['hf', 'r1jax'])
def test_the_destination_may_be_a_link(model, tmp_path, to):
  """To an empty directory, or to one that is yet to be made: the link stays, and leads to what is written."""
  for name in ('empty', 'new'):
    (tmp_path / 'links').mkdir(exist_ok=True)
    (tmp_path / 'links' / name).symlink_to(tmp_path / name)
  (tmp_path / 'empty').mkdir()
  for name in ('empty', 'new'):
    assert convert.main([str(model), str(tmp_path / 'links' / name), f'--to={to}']) == 0
    assert (tmp_path / 'links' / name).is_symlink()
    assert (tmp_path / name / 'config.json').is_file()


def test_a_mount_point_is_refused_before_anything_is_read(model, tmp_path, capsys, monkeypatch):
  """It cannot be replaced by a folder that is complete; and that folder would lie on another file system."""
  (tmp_path / 'disk').mkdir()
  (tmp_path / 'link').symlink_to('disk')
  monkeypatch.setattr(pathlib.Path, 'is_mount', lambda path: path.name == 'disk')
  monkeypatch.setattr(source, 'load', None)
  for name in ('disk', 'link'):
    assert convert.main([str(model), str(tmp_path / name)]) == 1
    found = capsys.readouterr().err
    assert 'disk is a mount point; valid: a new directory in it' in found


@pytest.mark.parametrize(
  'args, named',
  [
    (['m'], 'destination is missing'),
    (['m', '--check'], '--check needs torch and transformers; valid: pip install torch transf'),
    (['m', '--list', '--mesh=model=2'], 'model=2 is not possible; valid: sizes of data, fsdp'),
    (['m', '--list', '--mesh=fsdp=x'], 'fsdp=x is not possible'),
    (['m', 'd', '--shard_gb=0'], '--shard_gb=0 is not possible; valid: more than 0, such as 5'),
    (['m', 'd', '--shard_gb=-1'], '--shard_gb=-1 is not possible'),
    (['m', 'd', '--shard_gb=nan'], '--shard_gb=nan is not possible'),
    (['m', 'd', '--shard_gb=inf'], '--shard_gb=inf is not possible'),
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
  for to in ('hf', 'r1jax'):  # both sides are rounded
    half = ['--dtype=bfloat16', f'--to={to}', '--check']
    assert convert.main([str(model), str(tmp_path / f'half {to}'), *half]) == 0
  assert convert.main([str(model), '--dtype=bfloat16', '--check']) == 0
  params, cfg = hf.load(model)
  assert convert.compare(params, cfg, model) < 1e-5
  assert convert.compare(params.replace(final_norm=1.5 * params.final_norm), cfg, model) > 0.1
