"""Tokenizers: every text comes back, digits stand apart, tags are whole, and errors name the file."""

import json
import random

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from r1jax import tokenizer as tokenizer_lib

WORDS = ['no', 'again', 'stop', 'yes', 'User', 'Assistant', 'try', 'that', 'wrong', 'number']
TEXTS = (
  'User: 3 5 7 = 22 Assistant: <think>3*5+7=22 yes</think><answer>3*5+7</answer>',
  '',
  ' ',
  '  two leading, three   inside, two trailing  ',
  'lines\n\n\tand tabs\r\n',
  '日本語のテキスト。',
  '🙂👩‍👩‍👧 naïve café ﬁ Å',
  'def f(x):\n  return {"a": x[0]}  # <s> </s> <pad> <unk> <0x41>',
  'lower ▁ block ▁▁',
  '1234567890',
)


def corpus(lines=4000):
  rng = random.Random(0)

  def word():
    letters = ''.join(rng.choice('abcdefgh') for _ in range(rng.randint(1, 4)))
    return rng.choice([*WORDS, letters, f'{rng.randint(0, 99)}+{rng.randint(0, 99)}'])

  return [' '.join(word() for _ in range(12)) for _ in range(lines)]


@pytest.fixture(scope='module')
def trained():
  return tokenizer_lib.train(corpus(), 400)


def hf_directory(path, config=None, model_config=None):
  vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  made.decoder = tokenizers.decoders.ByteLevel()
  made.add_special_tokens(['<bos>', '<eos>', '<end>'])
  made.add_tokens(['<think>'])
  path.mkdir(exist_ok=True)
  made.save(str(path / 'tokenizer.json'))
  for name, content in (('tokenizer_config.json', config), ('config.json', model_config)):
    if content is not None:
      (path / name).write_text(json.dumps(content))
  return path


@pytest.mark.parametrize('text', TEXTS)
def test_sentencepiece_round_trip(trained, text):
  assert trained.decode(trained.encode(text)) == text


@pytest.mark.parametrize('text', TEXTS[:7] + TEXTS[8:])
def test_hf_round_trip(tmp_path, text):
  hf = tokenizer_lib.load(hf_directory(tmp_path))
  assert hf.decode(hf.encode(text)) == text


def test_ids(trained):
  assert (trained.vocab, trained.bos, trained.eos) == (400, 1, 2)
  assert not {0, 1, 2, 3} & {i for text in TEXTS for i in trained.encode(text)}


def test_digits_stand_apart(trained):
  pieces = [trained.decode([i]) for i in trained.encode('12 345+99')]
  assert [p.strip() for p in pieces if p.strip()] == ['1', '2', '3', '4', '5', '+', '9', '9']


def test_tags_are_whole(trained):
  ids = trained.encode('<think></think><answer></answer>')
  assert len(ids) == 4
  assert trained.encode('no<answer>1') == [
    *trained.encode('no'), ids[2], *trained.encode('1')
  ]  # fmt: skip


def test_common_words_are_whole(trained):
  assert len(trained.encode(' again')) == 1


def test_decode_leaves_out_bos_eos_and_padding(trained):
  ids = trained.encode('yes again')
  assert trained.decode([1, *ids[:1], 0, *ids[1:], 2, 0, 0]) == 'yes again'


def test_broken_utf8_does_not_raise(trained):
  assert '\ufffd' in trained.decode(trained.encode('語')[:1])


def test_training_is_deterministic(trained, tmp_path):
  again = tokenizer_lib.train(corpus(), 400)
  for name, one in (('a', trained), ('b', again)):
    (tmp_path / name).mkdir()
    one.save(tmp_path / name)
  first, second = ((tmp_path / n / 'tokenizer.model').read_bytes() for n in 'ab')
  assert first == second
  assert again.fingerprint == trained.fingerprint


def test_the_text_must_be_rich_enough():
  with pytest.raises(ValueError, match='vocab=512 does not fit'):
    tokenizer_lib.train(['1+1=2'], 512)


def test_command(tmp_path, monkeypatch, trained, capsys):
  (tmp_path / 'text').write_text('\n'.join(corpus()))
  argv = ['', f'--text={tmp_path / "text"}', '--vocab=400', f'--out={tmp_path / "out"}']
  monkeypatch.setattr('sys.argv', argv)
  tokenizer_lib.main()
  assert tokenizer_lib.load(tmp_path / 'out').fingerprint == trained.fingerprint
  assert trained.fingerprint in capsys.readouterr().out


def test_save_and_load(trained, tmp_path):
  trained.save(tmp_path)
  for path in (tmp_path, tmp_path / 'tokenizer.model', str(tmp_path)):
    loaded = tokenizer_lib.load(path)
    assert loaded.encode(TEXTS[0]) == trained.encode(TEXTS[0])
  config = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  assert (config['bos_token'], config['eos_token']) == ('<s>', '</s>')


def test_hf_special_tokens(tmp_path):
  config = {'bos_token': '<bos>', 'eos_token': {'content': '<eos>'}}
  path = hf_directory(tmp_path, config, {'eos_token_id': [257, 258]})
  hf = tokenizer_lib.load(path)
  assert (hf.vocab, hf.bos, hf.eos) == (260, 256, (257, 258))
  assert hf.decode([256, *hf.encode('a<think>'), 257]) == 'a<think>'


def test_hf_without_bos(tmp_path):
  config = {'bos_token': '<bos>', 'eos_token': '<eos>', 'add_bos_token': False}
  hf = tokenizer_lib.load(hf_directory(tmp_path, config))
  assert (hf.bos, hf.eos) == (None, 257)
  null = tokenizer_lib.load(
    hf_directory(tmp_path, {'bos_token': None, 'eos_token': '<eos>'}, {'bos_token_id': 3})
  )
  assert null.bos is None


def test_hf_ids_from_the_models_config(tmp_path):
  path = hf_directory(tmp_path, None, {'bos_token_id': 256, 'eos_token_id': 258})
  hf = tokenizer_lib.load(path / 'tokenizer.json')
  assert (hf.bos, hf.eos) == (256, 258)


def test_hf_save(tmp_path):
  (tmp_path / 'copy').mkdir()
  hf = tokenizer_lib.load(hf_directory(tmp_path / 'a', {'eos_token': '<eos>'}))
  hf.save(tmp_path / 'copy')
  copy = tokenizer_lib.load(tmp_path / 'copy')
  assert (copy.eos, copy.fingerprint) == (257, hf.fingerprint)


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.model'])
def test_a_corrupt_file_is_named(tmp_path, name):
  for content in (b'', b'\xff\xfe\x00garbage', b'{"model": 3}'):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
      tokenizer_lib.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='neither tokenizer.json nor tokenizer.model'):
    tokenizer_lib.load(tmp_path)
  with pytest.raises(FileNotFoundError, match='absent.model'):
    tokenizer_lib.load(tmp_path / 'absent.model')


def test_a_broken_neighbour_is_named(tmp_path):
  path = hf_directory(tmp_path, {'eos_token': '<nowhere>'})
  with pytest.raises(ValueError, match="eos_token '<nowhere>'"):
    tokenizer_lib.load(path)
  (path / 'tokenizer_config.json').write_text('{')
  with pytest.raises(ValueError, match='tokenizer_config.json: not JSON'):
    tokenizer_lib.load(path)
