"""What is shown while tokens come: whole characters, two parts, a speed."""

import io
import json
import pathlib
import random

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

import r1jax
from r1jax import tokenizer as tokenizer_lib
from r1jax.terminal import Detokenizer, Display, Speed

TEXTS = [
  'User: 3 5 7 = 22 <think>3*5+7=22 yes</think>',
  '日本語のテキスト、🙂👩‍👩‍👧 naïve é ﬁ',
  '  two  spaces\n\tand a tab ',
  'a real \ufffd and \ufffd\ufffd',
  '',
]


@pytest.fixture(params=['sentencepiece', 'byte level'])
def tokenizer(request, tmp_path):
  """Both write the characters of TEXTS as single bytes."""
  if request.param == 'sentencepiece':
    return tokenizer_lib.load(pathlib.Path(r1jax.__file__).parent / 'assets' / 'tokenizer')
  vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens(['<eos>'])
  made.save(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps({'eos_token': '<eos>'}))
  return tokenizer_lib.load(tmp_path)


@pytest.mark.parametrize('text', TEXTS)
@pytest.mark.parametrize('most', [1, 2, 5])
def test_pieces_make_up_the_text(tokenizer, text, most):
  rng, ids, pieces = random.Random(0), tokenizer.encode(text), []
  detokenizer = Detokenizer(tokenizer)
  while ids:
    count = rng.randint(1, most)
    pieces.append(detokenizer.add(ids[:count]))
    ids = ids[count:]
  pieces.append(detokenizer.finish())
  assert ''.join(pieces) == text
  assert '\ufffd' in text or not any('\ufffd' in piece for piece in pieces)


def test_a_character_waits_for_its_last_byte(tokenizer):
  detokenizer = Detokenizer(tokenizer)
  ids = [i for i in tokenizer.encode('a語')]
  assert len(ids) == 4
  assert [detokenizer.add([i]) for i in ids] == ['a', '', '', '語']


def test_what_never_becomes_a_character_is_shown_at_the_end(tokenizer):
  detokenizer, ids = Detokenizer(tokenizer), tokenizer.encode('a語')
  assert detokenizer.add(ids[:3]) == 'a'
  rest = detokenizer.finish()
  assert rest and set(rest) == {'\ufffd'}


def test_the_end_token_is_not_shown(tokenizer):
  detokenizer = Detokenizer(tokenizer)
  assert detokenizer.add([*tokenizer.encode('yes'), tokenizer.eos]) + detokenizer.finish() == 'yes'


class Terminal(io.StringIO):
  def isatty(self):
    return True


def shown(text, opened='', stream=io.StringIO, step=None):
  out = stream()
  display = Display(out, opened)
  for i in range(0, len(text), step or len(text) or 1):
    display.add(text[i : i + (step or len(text))])
  display.finish()
  return out.getvalue()


@pytest.mark.parametrize('step', [None, 1, 3])
@pytest.mark.parametrize(
  'text, opened, expected',
  [
    ('<think>\n1+1\n</think>\n\nIt is 2.', '', 'thought: 1+1\n\nanswer: It is 2.\n'),
    ('1+1\n</think>\n\nIt is 2.\n', '<think>\n', 'thought: 1+1\n\nanswer: It is 2.\n'),
    ('\n</think>2', '<think>\n', 'answer: 2\n'),
    ('It is 2 < 3.', '', 'answer: It is 2 < 3.\n'),
    ('so far', '<think>', 'thought: so far\n'),
    (
      '<think>a\n\nb</think><answer>1</answer>',
      '',
      'thought: a\n\nb\n\nanswer: <answer>1</answer>\n',
    ),
    ('', '', '\n'),
  ],
)
def test_parts_have_names(text, opened, expected, step):
  assert shown(text, opened, step=step) == expected


def test_on_a_terminal_the_thought_is_dim():
  expected = '\x1b[2m1+1\n\n\x1b[0m2\x1b[0m\n'
  assert shown('<think>1+1</think>2', stream=Terminal, step=1) == expected


def test_text_is_shown_before_the_end():
  out = io.StringIO()
  display = Display(out, '<think>\n')
  display.add('3*5 is 1')
  assert out.getvalue() == 'thought: 3*5 is 1'


def test_speed():
  times = iter([10.0, 12.0, 12.0, 12.5, 13.0])
  speed = Speed(lambda: next(times))
  speed.chunk()
  assert str(speed) == '0 tokens in 0.0 s: 0.0 tokens/s'
  speed.count(16)
  speed.count(4)
  assert str(speed) == '20 tokens in 2.0 s: 10.0 tokens/s'
  speed.chunk()
  speed.count(16)
  speed.chunk()
  speed.count(14)
  assert str(speed) == '50 tokens in 3.0 s: the first 20 after 2.0 s, then 30.0 tokens/s'
  speed.drafts(8, 5)
  speed.drafts(2, 1)
  assert str(speed).endswith(', then 30.0 tokens/s, 60% of the drafts kept')
