"""Messages -> text -> tokens, by the chat template of a checkpoint: what transformers' apply_chat_template gives.

The template writes all special tokens itself, BOS too, so nothing is added when its text is encoded.
"""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1jax.tokenizer import ChatTemplate, Tokenizer

THOUGHT, END_OF_THOUGHT = '<think>', '</think>'
PREFILL = f'{THOUGHT}\n'  # keeps R1 from leaving its thought out (DeepSeek-R1 README, usage)
_THOUGHTS = (
  'reasoning_content',
  'thinking',
  'reasoning',
)  # keys of a message; templates read the first


def render(
  messages: Sequence[Mapping], tokenizer: Tokenizer, add_generation_prompt: bool = True, prefill: str = '', **variables
) -> str:  # fmt: skip
  """Messages ({'role', 'content'}, and what else the template reads) -> the text of the conversation.

  add_generation_prompt: it ends where the assistant's turn begins. prefill: how that turn begins; as much of it
  is added as the template has not written already. variables: further ones of the template (tools,
  enable_thinking). As in transformers 5, keys that are None are not there, and a thought has all of its names.
  Raises ValueError, which names the template's file.
  """
  template = tokenizer.chat_template
  if template is None:
    raise ValueError('the tokenizer has no chat_template; valid: one in its tokenizer_config.json')
  check(messages)
  given = {'tools': None, 'documents': None, **tokenizer.special_tokens, **variables}
  given |= {
    'messages': [_stated(m) for m in messages],
    'add_generation_prompt': add_generation_prompt,
  }
  try:
    text = _compiled(template).render(given)
  except Exception as error:  # a template is a program and may raise what it likes
    line = f', line {error.lineno}' if isinstance(error, jinja2.TemplateSyntaxError) else ''
    said = ' '.join(str(error).split())
    raise ValueError(f'{template.path}: chat_template{line}: {said}') from error
  return text + prefill[_overlap(text, prefill) :]


def encode(
  messages: Sequence[Mapping], tokenizer: Tokenizer, add_generation_prompt: bool = True, prefill: str = '', **variables
) -> list[int]:  # fmt: skip
  """As `render`, to tokens; BOS is in them once if the template writes it, and else not at all."""
  text = render(messages, tokenizer, add_generation_prompt, prefill, **variables)
  return tokenizer.encode(text)


def thought_and_answer(text: str) -> tuple[str, str]:
  """A completion with what its prompt opened -> its thought and the rest; a thought may be cut off.

  Only the rest stays in a conversation: R1 is not shown its earlier thoughts.
  """
  thought, end, answer = text.rpartition(END_OF_THOUGHT)
  if not end and answer.lstrip().startswith(THOUGHT):
    thought, answer = answer, ''
  return thought.strip().removeprefix(THOUGHT).strip(), answer


def check(messages: Sequence[Mapping]) -> None:
  """Raises ValueError unless these are messages."""
  valid = "valid: objects such as {'role': 'user', 'content': 'How many?'}"
  if not messages:
    raise ValueError(f'messages={messages!r} is empty; {valid}')
  for i, message in enumerate(messages):
    if not isinstance(message, Mapping) or not isinstance(message.get('role'), str):
      raise ValueError(f'messages[{i}]={message!r} has no role; {valid}')


def _stated(message: Mapping) -> dict:
  """A message as a template is shown it."""
  stated = {key: value for key, value in message.items() if value is not None}
  thought = next((stated[key] for key in _THOUGHTS if key in stated), None)
  return stated if thought is None else {'thinking': thought} | stated | {_THOUGHTS[0]: thought}


def _overlap(text: str, prefill: str) -> int:
  """Characters of `prefill` that `text` ends with."""
  return next(n for n in range(len(prefill), -1, -1) if text.endswith(prefill[:n]))


class _Generation(Extension):
  """{% generation %} marks what the assistant says; it renders as if the tags were not there."""

  tags = frozenset(['generation'])

  def parse(self, parser) -> nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return nodes.Scope(body, lineno=line)


@functools.cache
def _compiled(template: ChatTemplate) -> jinja2.Template:
  """In a sandbox, with the settings and helpers that templates are written for."""
  environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
  )
  environment.filters['tojson'] = _to_json
  environment.globals |= {'raise_exception': _raise_exception, 'strftime_now': _strftime_now}
  return environment.from_string(template.source)


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
  """Jinja's own filter would escape what HTML reserves."""
  return json.dumps(
    value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
  )


def _raise_exception(message: str):
  raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
  return datetime.datetime.now().strftime(form)
