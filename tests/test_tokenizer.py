"""Tokenizers: every text comes back, digits stand apart, tags are whole, and errors name the file."""

import io
import json
import pathlib
import random

import pytest
import sentencepiece
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

import r1jax
from r1jax import tokenizer as tokenizer_lib

ASSETS = pathlib.Path(r1jax.__file__).parent / 'assets'

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


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
  """The directory that a trained tokenizer is saved to."""
  path = tmp_path_factory.mktemp('exported')
  trained.save(path)
  return path


@pytest.fixture(scope='module')
def byte_level(tmp_path_factory):
  """A BPE over bytes, trained on several scripts, with DeepSeek-V3's way of cutting up a text."""
  made = tokenizers.Tokenizer(models.BPE())
  cuts = [
    r'\p{N}{1,3}',
    '[一-龥぀-ゟ゠-ヿ]+',
    r' ?\p{L}+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+',
  ]
  made.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(cut), 'isolated') for cut in cuts]
    + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
  )
  made.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=600,
    initial_alphabet=sorted(alphabet),
    special_tokens=['<s>', '</s>'],
    show_progress=False,
  )
  made.train_from_iterator(
    ['日本語', '日本語', '日本語の数学', '数学的证明。', 'def f(x): return x', '12345 67'] * 50,
    trainer,
  )
  made.add_special_tokens(['<think>'])
  path = tmp_path_factory.mktemp('byte_level')
  made.save(str(path / 'tokenizer.json'))
  config = {'bos_token': '<s>', 'eos_token': '</s>', 'add_bos_token': True}
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  return tokenizer_lib.load(path)


def random_texts(count):
  """Texts of what the tiny models read and of what they do not, without U+2581 and names of special tokens."""
  rng = random.Random(1)
  some = [
    *WORDS,
    *'+-*/()=<>\n\t ',
    '  ',
    '\r\n',
    '<think>',
    '</answer>',
    '12',
    '日本',
    '🙂',
    'é',
    '\0',
    '\u3000',
  ]
  return [''.join(rng.choices(some, k=rng.randint(0, 12))) for _ in range(count)]


def hf_directory(path, config=None, model_config=None, adds_bos=False):
  vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  made.decoder = tokenizers.decoders.ByteLevel()
  made.add_special_tokens(['<bos>', '<eos>', '<end>'])
  made.add_tokens(['<think>'])
  if adds_bos:
    made.post_processor = processors.TemplateProcessing(
      single='<bos> $A', special_tokens=[('<bos>', 256)]
    )
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


def test_save_and_load(trained, exported):
  for path in (exported, exported / 'tokenizer.model', str(exported)):
    loaded = tokenizer_lib.load(path)
    assert loaded.fingerprint == trained.fingerprint
    assert [loaded.encode(text) for text in TEXTS] == [trained.encode(text) for text in TEXTS]
  config = json.loads((exported / 'tokenizer_config.json').read_text())
  assert (config['bos_token'], config['eos_token']) == ('<s>', '</s>')


def test_tokenizer_json_is_the_same_function(trained, exported):
  fast = tokenizer_lib.load(exported / 'tokenizer.json')
  assert (fast.vocab, fast.bos, fast.eos) == (trained.vocab, trained.bos, trained.eos)
  assert fast.special_tokens == trained.special_tokens
  for text in [*TEXTS[:8], *random_texts(2000)]:
    ids = trained.encode(text)
    assert fast.encode(text) == ids, text
    assert fast.decode(ids) == text


def test_tokenizer_json_alone_adds_bos(trained, exported):
  raw = tokenizers.Tokenizer.from_file(str(exported / 'tokenizer.json'))
  assert raw.encode('3+4').ids == [trained.bos, *trained.encode('3+4')]


@pytest.mark.parametrize(
  'files', [('tokenizer.model',), ('tokenizer.json',), ('tokenizer.model', 'tokenizer.json')]
)
def test_transformers_reads_either_file(trained, exported, tmp_path, files):
  transformers = pytest.importorskip('transformers')
  for name in (*files, 'tokenizer_config.json'):
    (tmp_path / name).write_bytes((exported / name).read_bytes())
  for kind in (transformers.AutoTokenizer, transformers.LlamaTokenizer):
    theirs = kind.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)
    assert theirs.encode('3+4') == [1, *trained.encode('3+4')]
    for text in [*TEXTS[:7], *random_texts(2000)]:
      ids = trained.encode(text)
      assert theirs.encode(text, add_special_tokens=False) == ids, text
      assert theirs.decode([1, *ids, 2], skip_special_tokens=True) == text


def sentencepiece_model(**settings):
  """A model of its default settings or these, but small."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(corpus()), model_writer=model, vocab_size=330, minloglevel=2, **settings
  )
  return model.getvalue()


# As Llama 2's: a space is put in front of every text.
PREFIXED = {
  'model_type': 'bpe',
  'byte_fallback': True,
  'normalization_rule_name': 'identity',
  'remove_extra_whitespaces': False,
}


@pytest.mark.parametrize('family', ['llama', 'qwen3', 'deepseek_v3', None])
@pytest.mark.parametrize('settings', [{}, {'add_dummy_prefix': False}, {'bos_id': -1}])
def test_models_that_others_have_made_are_exported(tmp_path, settings, family):
  """Read by transformers with and without a config.json beside it, and by us, to the same tokens and texts."""
  transformers = pytest.importorskip('transformers')
  made = tokenizer_lib.SentencePiece(sentencepiece_model(**PREFIXED | settings))
  made.save(tmp_path)
  if family:
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': family}))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  ours = tokenizer_lib.load(tmp_path / 'tokenizer.json')
  assert ours.bos == made.bos == theirs.bos_token_id
  assert theirs.encode('a b') == [*([] if made.bos is None else [made.bos]), *made.encode('a b')]
  for text in [*TEXTS[:7], ' x', '  x ', 'x ', '   ', *random_texts(1000)]:
    ids = made.encode(text)
    assert made.decode(ids) == text
    for other in (theirs.encode(text, add_special_tokens=False), ours.encode(text)):
      assert other == ids, text
    assert theirs.decode(ids) == ours.decode(ids) == text


@pytest.mark.parametrize(
  'settings, named',
  [
    ({'normalization_rule_name': 'nmt_nfkc'}, 'normalization_rule_name nmt_nfkc'),
    ({'remove_extra_whitespaces': True}, 'remove_extra_whitespaces'),
    ({'byte_fallback': False}, 'no byte_fallback'),
    ({'model_type': 'unigram'}, 'model_type other than BPE'),
    ({'treat_whitespace_as_suffix': True}, 'treat_whitespace_as_suffix'),
    ({'user_defined_symbols': ['<a>']}, 'add_dummy_prefix with user_defined_symbols'),
  ],
)
def test_models_that_would_be_read_differently_are_refused(tmp_path, settings, named, exported):
  """Unless there is a tokenizer.json beside them: that one is read then, and copied."""
  (tmp_path / 'to').mkdir()
  (tmp_path / 'tokenizer.model').write_bytes(sentencepiece_model(**PREFIXED | settings))
  with pytest.raises(
    ValueError, match=f'a sentencepiece model with {named} is not written: .*valid'
  ):
    tokenizer_lib.load(tmp_path).save(tmp_path / 'to')
  assert not any((tmp_path / 'to').iterdir())
  beside = {'pieces': hf_directory(tmp_path), 'to': tmp_path / 'to'}
  tokenizer_lib.load(beside['pieces']).save(beside['to'])
  for name in ('tokenizer.json', 'tokenizer.model'):
    assert (beside['to'] / name).read_bytes() == (tmp_path / name).read_bytes()


def test_beside_a_qwen2_model_the_line_to_use_is_said(tmp_path, caplog):
  """transformers 5 takes such a directory's tokenizer for Qwen's, whatever its files say; the line that is right."""
  transformers = pytest.importorskip('transformers')
  made = tokenizer_lib.load(ASSETS / 'tiny_dense')
  made.save(tmp_path)
  assert not caplog.records
  for name in ('config.json', 'model.safetensors'):
    (tmp_path / name).write_bytes((ASSETS / 'tiny_dense' / name).read_bytes())
  made.save(tmp_path)
  (said,) = [record.getMessage() for record in caplog.records]
  assert 'PreTrainedTokenizerFast.from_pretrained(DIR)' in said
  theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
  for text in [*TEXTS[:7], *random_texts(1000)]:
    assert theirs.encode(text) == [made.bos, *made.encode(text)], text
    assert theirs.decode(made.encode(text)) == text


def test_of_two_files_the_one_that_knows_more_is_read(exported, tmp_path):
  for path in exported.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  assert isinstance(tokenizer_lib.load(tmp_path), tokenizer_lib.SentencePiece)
  raw = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  raw.add_special_tokens(['<|im_end|>'])
  raw.save(str(tmp_path / 'tokenizer.json'))
  assert tokenizer_lib.load(tmp_path).encode('<|im_end|>') == [400]
  (tmp_path / 'tokenizer.json').write_bytes((exported / 'tokenizer.json').read_bytes())
  (tmp_path / 'chat_template.jinja').write_text('{{ bos_token }}')
  assert tokenizer_lib.load(tmp_path).chat_template.source == '{{ bos_token }}'


@pytest.mark.parametrize(
  'text',
  [
    '日本語のテキスト、ひらがなとカタカナ。',
    '数学的证明：若 n 为偶数，则 n² 亦为偶数。',
    '🙂👩‍👩‍👧🇯🇵 naïve café ﬁ Å',
    '1 22 333 4444 55555 ٣٤',
    'def f(x):\n\treturn {"a": x[0]}  # ok\r\n\n',
    '  a  \n ',
    '▁ \ufffd \0',
  ],
)
def test_byte_level_round_trip(byte_level, text):
  assert byte_level.decode(byte_level.encode(text)) == text


def test_byte_level_pieces(byte_level):
  pieces = [byte_level.decode([i]) for i in byte_level.encode('12345 日本語')]
  assert pieces == ['123', '45', ' ', '日本語']
  assert len(byte_level.encode('𠮷')) == 4  # never seen: its bytes


def test_a_special_token_that_is_not_an_end_is_shown(byte_level):
  ids = [byte_level.bos, *byte_level.encode('<think>1'), byte_level.eos]
  assert byte_level.decode(ids) == '<think>1'


def test_hf_special_tokens(tmp_path):
  config = {'bos_token': '<bos>', 'eos_token': {'content': '<eos>'}, 'add_bos_token': True}
  path = hf_directory(tmp_path, config, {'eos_token_id': [257, 258]})
  hf = tokenizer_lib.load(path)
  assert (hf.vocab, hf.bos, hf.eos) == (260, 256, (257, 258))
  assert hf.decode([256, *hf.encode('a<think>'), 257]) == 'a<think>'


def test_hf_ends_of_the_generation_config(tmp_path):
  """Qwen2.5's chat models name the end of a turn in config.json, and of a document only here."""
  path = hf_directory(tmp_path, {'eos_token': '<eos>'}, {'eos_token_id': 257})
  (path / 'generation_config.json').write_text(json.dumps({'eos_token_id': [257, 258]}))
  assert tokenizer_lib.load(path).eos == (257, 258)


def test_ends_beside_a_sentencepiece_model(exported, tmp_path):
  """Its own comes first; the others end a completion too, and are not shown."""
  for path in exported.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  bare = tokenizer_lib.load(tmp_path)
  (tmp_path / 'generation_config.json').write_text(json.dumps({'eos_token_id': 2}))
  assert tokenizer_lib.load(tmp_path).fingerprint == bare.fingerprint
  (tmp_path / 'generation_config.json').write_text(json.dumps({'eos_token_id': [9, 2]}))
  more = tokenizer_lib.load(tmp_path)
  assert (bare.eos, more.eos) == (2, (2, 9)) and more.fingerprint != bare.fingerprint
  assert more.decode([*more.encode('no 1'), 9]) == 'no 1'


@pytest.mark.parametrize('stated', [None, True, False])
@pytest.mark.parametrize('adds_bos', [False, True])
def test_bos_only_where_somebody_adds_it(tmp_path, stated, adds_bos):
  """By the word of tokenizer_config.json, and without one as tokenizer.json does it by itself."""
  config = {
    'bos_token': '<bos>',
    'eos_token': '<eos>',
    'tokenizer_class': 'PreTrainedTokenizerFast',
  }
  config |= {} if stated is None else {'add_bos_token': stated}
  path = hf_directory(tmp_path, config, adds_bos=adds_bos)
  hf = tokenizer_lib.load(path)
  assert hf.bos == (256 if (adds_bos if stated is None else stated) else None)
  assert hf.decode([256, *hf.encode('a'), 257]) == 'a'
  if stated is None:
    theirs = pytest.importorskip('transformers').AutoTokenizer.from_pretrained(path)
    assert theirs.encode('a') == [*([] if hf.bos is None else [hf.bos]), *hf.encode('a')]


def test_hf_without_bos(tmp_path):
  config = {'bos_token': '<bos>', 'eos_token': '<eos>', 'add_bos_token': False}
  hf = tokenizer_lib.load(hf_directory(tmp_path, config))
  assert (hf.bos, hf.eos) == (None, 257)
  null = tokenizer_lib.load(
    hf_directory(tmp_path, {'bos_token': None, 'eos_token': '<eos>'}, {'bos_token_id': 3})
  )
  assert null.bos is None


def test_hf_ids_from_the_models_config(tmp_path):
  for adds_bos in (False, True):
    path = hf_directory(tmp_path, None, {'bos_token_id': 256, 'eos_token_id': 258}, adds_bos)
    hf = tokenizer_lib.load(path / 'tokenizer.json')
    assert (hf.bos, hf.eos) == (256 if adds_bos else None, 258)


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
  (path / 'tokenizer_config.json').write_text('["eos"]')
  with pytest.raises(ValueError, match='tokenizer_config.json: not a JSON object'):
    tokenizer_lib.load(path)
