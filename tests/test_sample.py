"""Sampling from a checkpoint: what is printed, what is written, what goes on, and what is refused."""

import argparse
import builtins
import dataclasses
import io
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

import r1jax
from experiments import r1_zero
from r1jax import chat, policy, rollout, sample
from r1jax import tokenizer as tokenizer_lib
from r1jax.checkpoint import Checkpointer
from r1jax.tokenizer import ChatTemplate

ASSETS = pathlib.Path(r1jax.__file__).parent / 'assets'
PROMPTS = ['3 5 7 = 22', '2 4 6 = 12', '1 2 3 = 6']
TEMPLATE = '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]'


@pytest.fixture(scope='module')
def tiny():
  return policy.open_checkpoint(ASSETS / 'tiny_dense', devices=jax.devices()[:1])


def arguments(*argv: str) -> argparse.Namespace:
  return sample.parse(['--checkpoint=x', '--prompt=x', *argv])


def from_file(source, target, *argv: str) -> argparse.Namespace:
  return sample.parse(['--checkpoint=x', f'--input={source}', f'--output={target}', *argv])


def ask(text: str) -> list[dict]:
  return [{'role': 'user', 'content': text}]


def completions(tiny, prompts, args) -> dict:
  """Prompt -> the texts that `sample` draws for it, the number of the prompt being its id."""
  tokens = [tiny.tokens(ask(p)) for p in prompts]
  how = sample.sampling(tiny, max(map(len, tokens)), args)
  with jax.set_mesh(tiny.mesh):
    drawn = rollout.generate(
      tiny.params, tiny.cfg, tokens, range(len(prompts)), jax.random.key(args.seed), how,
      group=args.samples, tokenizer=tiny.tokenizer,
    )  # fmt: skip
  text = lambda p, g: tiny.tokenizer.decode(drawn.completion(p, g))
  return {p: [text(i, g) for g in range(args.samples)] for i, p in enumerate(prompts)}


def test_defaults_are_those_of_r1():
  args = arguments()
  assert (args.temperature, args.top_p, args.max_tokens) == (0.6, 0.95, 32768)
  assert (args.samples, args.seed, args.prefill) == (1, 0, '<think>\n')


def test_tokens_that_the_context_leaves(tiny):
  assert sample.sampling(tiny, 24, arguments()).max_tokens == 1000
  assert sample.sampling(tiny, 24, arguments('--max_tokens=7')).max_tokens == 7
  with pytest.raises(
    ValueError, match='a prompt of 1024 tokens is too long; valid: fewer than 1024'
  ):
    sample.sampling(tiny, 1024, arguments())


def test_say(tiny, capsys, quick_compile):
  args = arguments('--samples=2', '--max_tokens=64')
  said = sample.say(tiny, ask(PROMPTS[0]), args)
  out, err = capsys.readouterr()
  both = completions(tiny, PROMPTS[:1], args)[PROMPTS[0]]
  assert said == both[0] and said.endswith('</answer>')
  for text in both:
    thought, answer = chat.thought_and_answer(text)
    assert f'answer: {answer}\n' in out
    assert not thought or f'thought: {thought}\n' in out
  assert out.count('\nsample 2 of 2\n') == 1
  count = sum(len(tiny.tokenizer.encode(text)) + 1 for text in both)  # and an EOS each
  assert err.startswith(f'{count} tokens in ') and err.endswith(' tokens/s\n')


def test_an_answer_of_one_chunk_has_a_speed_too(tiny, capsys, quick_compile):
  sample.say(tiny, ask(PROMPTS[0]), arguments('--max_tokens=8'))
  assert re.fullmatch(r'8 tokens in [\d.]+ s: [\d.]+ tokens/s\n', capsys.readouterr().err)


@pytest.fixture
def files(tmp_path):
  """(input of three prompts, path of the output)."""
  rows = [{'id': f'n{i}', 'prompt': p, 'kept': i} for i, p in enumerate(PROMPTS)]
  source = tmp_path / 'in.jsonl'
  source.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return source, tmp_path / 'out.jsonl'


def test_a_file_goes_on_where_it_was(tiny, files, capsys, quick_compile):
  source, target = files
  args = from_file(source, target, '--max_tokens=48', '--samples=2', '--batch=2')
  sample.complete_file(tiny, args)
  whole = target.read_bytes()
  rows = [json.loads(line) for line in whole.decode().splitlines()]
  assert [(row['id'], row['prompt'], row['kept']) for row in rows] == [
    (f'n{i}', p, i) for i, p in enumerate(PROMPTS)
  ]
  lengths = [s['length'] for row in rows for s in row['samples']]
  assert len(lengths) == 6 and max(lengths) <= 48
  assert [s['truncated'] for row in rows for s in row['samples']] == [
    not s['answer'].endswith('</answer>') for row in rows for s in row['samples']
  ]
  first, second, _ = whole.splitlines(keepends=True)
  target.write_bytes(first + second[:30])  # killed while it wrote
  capsys.readouterr()
  sample.complete_file(tiny, args)
  assert target.read_bytes() == whole
  assert capsys.readouterr().err.startswith('1 of 3 prompts are done\n')
  sample.complete_file(tiny, args)
  assert target.read_bytes() == whole


@pytest.mark.parametrize(
  'line, message',
  [
    ('{', 'in.jsonl:2: Expecting'),
    ('{"prompt": "a"}', 'in.jsonl:2: .* has no id; valid: '),
    ('{"id": 2}', 'in.jsonl:2: prompt=None is no text; valid: '),
    ('{"id": 1, "prompt": "a"}', 'in.jsonl:2: id=1 is there twice; valid: '),
    ('{"id": 2, "messages": []}', r'in.jsonl:2: messages=\[\] is empty; valid: '),
    ('{"id": 2, "messages": ["a"]}', r"in.jsonl:2: messages\[0\]='a' has no role; valid: "),
    (
      '{"id": 2, "messages": [{"role": "user"}]}',
      r'in.jsonl:2: messages\[0\]: content=None is no text; valid: ',
    ),
    (
      '{"id": 2, "messages": [{"role": "user", "content": null}]}',
      r'in.jsonl:2: messages\[0\]: content=None is no text; valid: ',
    ),
    (
      '{"id": 2, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [1]}]}',
      r'in.jsonl:2: messages\[1\]: content=None is no text; valid: ',
    ),
  ],
)
def test_a_bad_line_is_named(tiny, tmp_path, line, message):
  source = tmp_path / 'in.jsonl'
  source.write_text('{"id": 1, "prompt": "a"}\n' + line + '\n')
  with pytest.raises(ValueError, match=message):
    sample.complete_file(tiny, from_file(source, tmp_path / 'out.jsonl'))
  assert not (tmp_path / 'out.jsonl').exists()


def test_a_message_that_a_chat_template_refuses_is_named(tiny, tmp_path):
  """And one that calls a tool and says nothing is not refused."""
  refuses = "{% for m in messages %}{% if m.role == 'x' %}{{ raise_exception('no x') }}{% endif %}{% endfor %}a"
  given = with_chat(tiny, refuses)
  called = [*ask('a'), {'role': 'assistant', 'tool_calls': [1]}, {'role': 'tool', 'content': '2'}]
  source = tmp_path / 'in.jsonl'
  rows = [{'id': 1, 'messages': called}, {'id': 2, 'messages': [{'role': 'x', 'content': ''}]}]
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  with pytest.raises(ValueError, match='in.jsonl:2: x: chat_template: no x'):
    sample.complete_file(given, from_file(source, tmp_path / 'out.jsonl'))


def test_a_run_is_sampled_at_its_newest_checkpoint(tiny, tmp_path):
  """Of the last stage that has one, with the run's own template."""
  config = r1_zero.get_config('tiny_dense')
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  one = jax.devices()[:1]
  with pytest.raises(FileNotFoundError, match='no weights; valid: '):
    policy.open_checkpoint(tmp_path, devices=one)
  params = tiny.params
  saved = Checkpointer(tmp_path / 'rl' / 'checkpoints')
  saved.save(1, {'policy': jax.tree.map(np.zeros_like, params), 'step': np.int32(1)}, {})
  saved.save(2, {'policy': params, 'step': np.int32(2)}, {})
  opened = policy.open_checkpoint(tmp_path, devices=one)
  assert opened.template == 'short' and opened.tokenizer.fingerprint == tiny.tokenizer.fingerprint
  same = jax.tree.map(np.array_equal, opened.params, tiny.params)
  assert all(jax.tree.leaves(same))


class Scripted:
  """In place of the model: completions in order, and what it was asked."""

  def __init__(self, tokenizer, texts):
    self.tokenizer, self.texts, self.asked = tokenizer, list(texts), []

  def __call__(self, given, tokens, ids, args, how, shapes, speed, show):
    self.asked.append((self.tokenizer.decode(tokens[0]), ids[0], shapes.width, how))
    ids = np.array(self.tokenizer.encode(self.texts.pop(0)))
    for first in range(0, len(ids), 3):
      show(0, ids[first : first + 3], first + 3 >= len(ids))
    one = np.array([[len(ids)]])
    return rollout.Rollouts(tokens, ids[None, None], ids[None, None], one, one == 0)


@pytest.fixture
def talk(tiny, monkeypatch, capsys):
  """Policy, what is typed, what the model says -> (what it was asked, what was printed)."""

  def run(given, typed, said):
    script, lines = Scripted(tiny.tokenizer, said), iter(typed)
    monkeypatch.setattr(sample, '_generate', script)
    monkeypatch.setattr(
      builtins, 'input', lambda _: next(lines, None) or (_ for _ in ()).throw(EOFError)
    )
    sample.converse(given, arguments())
    return script.asked, capsys.readouterr().out

  return run


def with_chat(tiny, template=TEMPLATE):
  tokenizer = tokenizer_lib.load(ASSETS / 'tiny_dense')
  tokenizer.chat_template = ChatTemplate(template, pathlib.Path('x'))
  return dataclasses.replace(tiny, tokenizer=tokenizer, template=policy.CHAT)


def test_a_conversation_keeps_the_answers_and_drops_the_thoughts(tiny, talk):
  asked, out = talk(
    with_chat(tiny), ['1+1?', ' ', 'sure?'], ['1 and 1\n</think>\n\n2', '</think>yes']
  )
  assert [a[0] for a in asked] == [
    '[user]1+1?[assistant]<think>\n',
    '[user]1+1?[assistant]\n\n2[user]sure?[assistant]<think>\n',
  ]
  assert out == 'thought: 1 and 1\n\nanswer: 2\nanswer: yes\n\n'
  assert asked[0][1] != asked[1][1]  # other noise
  assert asked[0][2:] == asked[1][2:]  # nothing new to compile


def test_a_template_without_turns_is_asked_each_line_by_itself(tiny, talk):
  asked, _ = talk(tiny, PROMPTS[:2], ['<think>a</think>b', 'c'])
  assert [a[0] for a in asked] == [f'User: {p} Assistant:' for p in PROMPTS[:2]]


@pytest.mark.parametrize(
  'argv, message',
  [
    (['--samples=0'], '--samples=0 is not possible; valid: at least 1'),
    (['--input=a'], '--output is missing; valid: both'),
    ([], '--prompt is missing; valid: '),
    (
      ['--prompt=a', '--input=a', '--output=b'],
      "--prompt='a' is not possible with --input; valid: ",
    ),
    (['--template=long'], "argument --template: invalid choice: 'long'"),
  ],
)
def test_arguments_that_are_refused(argv, message, capsys, monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.StringIO())
  with pytest.raises(SystemExit) as stopped:
    sample.parse(['--checkpoint=x', *argv])
  assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys):
  assert sample.main([f'--checkpoint={tmp_path}', '--prompt=a']) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'error: {tmp_path}: no weights; valid: ') and error.count('\n') == 1


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path, capsys):
  for name in ('config.json', 'model.safetensors'):
    (tmp_path / name).write_bytes((ASSETS / 'tiny_dense' / name).read_bytes())
  assert sample.main([f'--checkpoint={tmp_path}', '--prompt=a']) == 2
  assert capsys.readouterr().err.startswith(f'error: {tmp_path}: no tokenizer; valid: ')


@pytest.mark.parametrize(
  'name, chat_template, expected',
  [
    ('tiny_dense', '{{ bos_token }}', policy.CHAT),
    ('tiny_dense', '', 'short'),
    ('my model', '', 'r1_zero'),
  ],
)
def test_the_template_that_a_model_was_made_for(tmp_path, name, chat_template, expected):
  (tmp_path / 'model.safetensors').symlink_to(ASSETS / 'tiny_dense' / 'model.safetensors')
  config = json.loads((ASSETS / 'tiny_dense' / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps(config | {'_name_or_path': name}))
  tokenizer_lib.load(ASSETS / 'tokenizer').save(tmp_path)
  if chat_template:
    (tmp_path / 'chat_template.jinja').write_text(chat_template)
  opened = policy.open_checkpoint(tmp_path, devices=jax.devices()[:1])
  assert opened.template == expected
  assert opened.opened == ('<think>\n' if chat_template else '')


def test_drafts_change_no_greedy_token(capsys, quick_compile):
  opened = policy.open_checkpoint(ASSETS / 'tiny_moe', devices=jax.devices()[:1], mtp=True)
  plain = arguments('--temperature=0', '--max_tokens=48')
  drafted = arguments('--temperature=0', '--max_tokens=48', '--speculative')
  said = [sample.say(opened, ask(PROMPTS[1]), args) for args in (plain, drafted)]
  assert said[0] == said[1] and len(said[0]) > 10
  err = capsys.readouterr().err
  assert err.count(' of the drafts kept') == 1


def test_drafts_need_a_module_that_makes_them(tiny):
  with pytest.raises(ValueError, match='speculative=True needs an MTP module'):
    sample.say(tiny, ask(PROMPTS[0]), arguments('--speculative', '--max_tokens=8'))
