"""Chat templates: the texts they are known to give, token for token what transformers gives, one BOS, errors."""

import datetime
import json
import pathlib

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from r1jax import chat
from r1jax import tokenizer as tokenizer_lib

TEMPLATES = pathlib.Path(__file__).parent / 'data' / 'chat_templates'
BOS, EOS = '<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>'
R1_TOKENS = (BOS, EOS, '<｜User｜>', '<｜Assistant｜>', '<think>', '</think>')
SPECIAL = {
  'deepseek_r1': (BOS, EOS, R1_TOKENS),
  'deepseek_r1_first': (BOS, EOS, R1_TOKENS),
  'qwen2_5': (None, '<|im_end|>', ('<|im_start|>', '<|im_end|>', '<|endoftext|>')),
  'llama3': (
    '<|begin_of_text|>', '<|eot_id|>',
    ('<|begin_of_text|>', '<|eot_id|>', '<|start_header_id|>', '<|end_header_id|>'),
  ),
}  # fmt: skip
ASKED = [{'role': 'user', 'content': 'What is 1+1?'}]
TALK = [
  {'role': 'system', 'content': 'Be brief.'},
  *ASKED,
  {'role': 'assistant', 'content': '<think>\n1 and 1\n</think>\n\nIt is 2.'},
  {'role': 'user', 'content': '<b>日本</b> & "é" 🙂?  '},
]
TOOL = {'type': 'function', 'function': {'name': 'add', 'parameters': {'a': '<int> & é'}}}


def directory_with(path, name, **config):
  """A byte-level tokenizer with the special tokens of a family, that adds BOS by itself as theirs do."""
  bos, eos, special = SPECIAL[name]
  vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens([t for t in special if 'think' not in t])
  made.add_tokens([t for t in special if 'think' in t])
  if bos:
    pair = [(bos, made.token_to_id(bos))]
    made.post_processor = processors.TemplateProcessing(single=f'{bos} $A', special_tokens=pair)
  path.mkdir(exist_ok=True)
  made.save(str(path / 'tokenizer.json'))
  config = {
    'bos_token': bos,
    'eos_token': eos,
    'tokenizer_class': 'PreTrainedTokenizerFast',
    **config,
  }
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  return path


def source(name):
  return (TEMPLATES / f'{name}.jinja').read_text('utf-8')


@pytest.fixture
def of(tmp_path):
  """Name of a template -> a tokenizer with it."""
  return lambda name: tokenizer_lib.load(
    directory_with(tmp_path / name, name, chat_template=source(name))
  )


def test_r1(of):
  text = chat.render(TALK, of('deepseek_r1'))
  assert text == (
    f'{BOS}Be brief.<｜User｜>What is 1+1?<｜Assistant｜>\n\nIt is 2.{EOS}'
    '<｜User｜><b>日本</b> & "é" 🙂?  <｜Assistant｜><think>\n'
  )


def test_qwen(of):
  talk = '<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n'
  assert chat.render(ASKED, of('qwen2_5')) == (
    f'<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{talk}'
  )
  assert chat.render(
    [TALK[0], *ASKED, {'role': 'assistant', 'content': '2'}], of('qwen2_5'), False
  ) == (f'<|im_start|>system\nBe brief.<|im_end|>\n{talk}2<|im_end|>\n')


def test_llama(of):
  assert chat.render(TALK[:2], of('llama3'), date_string='26 Jul 2024') == (
    '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>'
    '<|start_header_id|>user<|end_header_id|>\n\nWhat is 1+1?<|eot_id|>'
    '<|start_header_id|>assistant<|end_header_id|>\n\n'
  )


def test_the_date_is_todays(of, monkeypatch):
  class Day(datetime.datetime):
    now = classmethod(lambda cls: cls(2025, 1, 20))

  monkeypatch.setattr(chat.datetime, 'datetime', Day)
  assert 'Today Date: 20 Jan 2025\n' in chat.render(ASKED, of('llama3'))


def test_tools_are_json_without_html_escapes(of):
  text = chat.render(ASKED, of('qwen2_5'), tools=[TOOL])
  line = next(line for line in text.split('\n') if line.startswith('{'))
  assert json.loads(line) == TOOL and '<int> & é' in line


def test_tool_calls(of):
  call = {'type': 'function', 'function': {'name': 'add', 'arguments': {'a': 1}}}
  messages = [*ASKED, {'role': 'assistant', 'content': None, 'tool_calls': [call]}]
  assert chat.render(messages, of('deepseek_r1'), add_generation_prompt=False).endswith(
    '<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```'
    f'<｜tool▁call▁end｜><｜tool▁calls▁end｜>{EOS}'
  )


@pytest.mark.parametrize('name, times', [('deepseek_r1', 1), ('llama3', 1), ('qwen2_5', 0)])
def test_bos_is_there_as_often_as_the_template_writes_it(of, name, times):
  tokenizer = of(name)
  ids = chat.encode(ASKED, tokenizer)
  assert sum(i == tokenizer.bos for i in ids) == times
  assert tokenizer.bos is None or ids[0] == tokenizer.bos


@pytest.mark.parametrize('name', ['deepseek_r1', 'deepseek_r1_first'])
@pytest.mark.parametrize('prefill', ['<think>\n', '<think>\nOkay'])
def test_prefill_is_not_written_twice(of, name, prefill):
  text = chat.render(ASKED, of(name), prefill=prefill)
  assert text.count('<think>') == 1
  assert text.endswith(f'<｜Assistant｜>{prefill}')


def test_prefill_tokens(of):
  tokenizer = of('deepseek_r1_first')
  think, newline = tokenizer.encode('<think>'), tokenizer.encode('\n')
  assert len(think) == len(newline) == 1
  bare = chat.encode(ASKED, tokenizer)
  assert chat.encode(ASKED, tokenizer, prefill=chat.PREFILL) == bare + think + newline
  assert chat.encode(ASKED, of('deepseek_r1'), prefill=chat.PREFILL) == bare + think + newline


def test_thoughts_of_earlier_turns_are_dropped(of):
  """By the template, and by what a caller keeps of a completion: to the same tokens."""
  _, answer = chat.thought_and_answer(TALK[2]['content'])
  kept = [*TALK[:2], {'role': 'assistant', 'content': answer}, TALK[3]]
  assert chat.encode(kept, of('deepseek_r1')) == chat.encode(TALK, of('deepseek_r1'))


@pytest.mark.parametrize(
  'text, thought, answer',
  [
    ('<think>\n1 and 1\n</think>\n\nIt is 2.', '1 and 1', '\n\nIt is 2.'),
    ('1 and 1</think>2', '1 and 1', '2'),
    ('<think>\n1 and', '1 and', ''),
    ('It is 2.', '', 'It is 2.'),
    ('<think></think>', '', ''),
    ('', '', ''),
  ],
)
def test_thought_and_answer(text, thought, answer):
  assert chat.thought_and_answer(text) == (thought, answer)


@pytest.mark.parametrize('where', ['string', 'list', 'jinja', 'json'])
def test_where_a_template_may_be(tmp_path, where):
  text = '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}'
  named = [{'name': 'tool_use', 'template': 'no'}, {'name': 'default', 'template': text}]
  config = {'string': {'chat_template': text}, 'list': {'chat_template': named}}.get(where, {})
  path = directory_with(tmp_path / 'a', 'deepseek_r1', **config)
  if where == 'jinja':
    (path / 'chat_template.jinja').write_text(text)
  if where == 'json':
    (path / 'chat_template.json').write_text(json.dumps({'chat_template': text}))
  tokenizer = tokenizer_lib.load(path)
  assert chat.render(ASKED, tokenizer, False) == f'{BOS}What is 1+1?'
  (tmp_path / 'copy').mkdir()
  tokenizer.save(tmp_path / 'copy')
  assert chat.render(ASKED, tokenizer_lib.load(tmp_path / 'copy'), False) == f'{BOS}What is 1+1?'


def test_a_jinja_file_goes_before_the_config(tmp_path):
  path = directory_with(tmp_path / 'a', 'qwen2_5', chat_template='config')
  (path / 'chat_template.jinja').write_text('file')
  assert chat.render(ASKED, tokenizer_lib.load(path)) == 'file'


@pytest.mark.parametrize(
  'template, message',
  [
    ('\n{% if %}', 'Expected an expression'),
    ("{{ raise_exception('no roles today') }}", 'no roles today'),
    ("{{ messages.append('x') }}", "access to attribute 'append'"),
    ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__'"),
    ("{{ 1 + 'a' }}", 'unsupported operand'),
  ],
)
def test_an_error_names_the_file(tmp_path, template, message):
  tokenizer = tokenizer_lib.load(directory_with(tmp_path / 'a', 'qwen2_5', chat_template=template))
  with pytest.raises(
    ValueError, match=f'tokenizer_config.json: chat_template.*: .*{message}'
  ) as found:
    chat.render(ASKED, tokenizer)
  assert '\n' not in str(found.value)
  assert ('line 2: ' in str(found.value)) == template.startswith('\n')


def test_what_cannot_be_rendered(tmp_path, of):
  with pytest.raises(ValueError, match='no chat_template; valid: '):
    chat.render(ASKED, tokenizer_lib.load(directory_with(tmp_path / 'bare', 'qwen2_5')))
  with pytest.raises(ValueError, match=r'messages=\[\] is empty; valid: '):
    chat.render([], of('qwen2_5'))
  with pytest.raises(ValueError, match=r"messages\[0\]={'content': 'a'} has no role; valid: "):
    chat.render([{'content': 'a'}], of('qwen2_5'))
  with pytest.raises(ValueError, match='the role tool is not known here'):
    chat.render([{'role': 'tool', 'content': ''}], of('llama3'))


def test_a_list_without_a_default_is_refused(tmp_path):
  named = [{'name': 'rag', 'template': ''}]
  with pytest.raises(
    ValueError, match=r"tokenizer_config.json: chat_template has the names \['rag'\]; valid: "
  ):
    tokenizer_lib.load(directory_with(tmp_path / 'a', 'qwen2_5', chat_template=named))


@pytest.mark.parametrize(
  'message, expected',
  [
    ({'content': 'b', 'reasoning_content': None}, 'user:a;assistant:b;'),
    ({'content': None, 'tool_calls': None}, 'user:a;assistant:;'),
    ({'content': 'b', 'reasoning_content': 't'}, 'user:a;assistant:[t](t)b;'),
    ({'content': 'b', 'thinking': 't', 'reasoning_content': None}, 'user:a;assistant:[t](t)b;'),
    ({'content': 'b', 'thinking': 'u', 'reasoning_content': 't'}, 'user:a;assistant:[t](u)b;'),
    ({'content': 'b', 'reasoning': 't'}, 'user:a;assistant:[t](t)b;'),
  ],
)
def test_keys_that_are_none_and_the_names_of_a_thought(tmp_path, message, expected):
  """As transformers 5.24 shows messages to a template."""
  template = (
    '{% for m in messages %}{{ m.role }}:{% if m.reasoning_content is defined %}[{{ m.reasoning_content }}]'
    '({{ m.thinking }}){% endif %}{{ m.content }};{% endfor %}'
  )
  path = directory_with(tmp_path / 'a', 'qwen2_5', chat_template=template)
  messages = [{'role': 'user', 'content': 'a'}, {'role': 'assistant', **message}]
  assert chat.render(messages, tokenizer_lib.load(path), False) == expected
  theirs = pytest.importorskip('transformers').AutoTokenizer.from_pretrained(path)
  assert theirs.apply_chat_template(messages, tokenize=False) == expected


CALLED = [*ASKED, {'role': 'assistant', 'content': 'let me add'}, {'role': 'tool', 'content': '2'}]


@pytest.mark.parametrize('prompted', [True, False])
@pytest.mark.parametrize(
  'name, messages, variables',
  [
    ('deepseek_r1', TALK, {}),
    ('deepseek_r1_first', TALK, {}),
    ('qwen2_5', TALK, {}),
    ('qwen2_5', CALLED, {'tools': [TOOL]}),
    ('llama3', TALK, {}),
    ('llama3', ASKED, {'date_string': '26 Jul 2024'}),
  ],
)
def test_token_for_token_what_transformers_gives(tmp_path, name, messages, variables, prompted):
  transformers = pytest.importorskip('transformers')
  path = directory_with(tmp_path / name, name, chat_template=source(name))
  theirs = transformers.AutoTokenizer.from_pretrained(path)
  expected = theirs.apply_chat_template(
    messages, tokenize=True, return_dict=False, add_generation_prompt=prompted, **variables
  )
  assert chat.encode(messages, tokenizer_lib.load(path), prompted, **variables) == expected
