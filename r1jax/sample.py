"""Samples from a checkpoint: an answer, a conversation, or a file of prompts.

    python -m r1jax.sample --checkpoint=DIR --prompt='3 5 7 = 22'
    python -m r1jax.sample --checkpoint=DIR                                     # a conversation, in a terminal
    python -m r1jax.sample --checkpoint=DIR --input=FILE.jsonl --output=FILE.jsonl

DIR has weights in Hugging Face layout, or is a checkpoint or the workdir of a run: its newest checkpoint. Defaults are
DeepSeek-R1's (README, usage): temperature 0.6, top-p 0.95, no system prompt, answers that begin with '<think>\\n'.

Lines of the input have an id and a prompt, or messages; a line of the output has besides `samples`, each with thought,
answer, length in tokens, and whether it was cut off. Ids that the output has are left out: a second start goes on.
"""

import argparse
import functools
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from r1jax import chat, decoding, prompts, rollout
from r1jax import mesh as mesh_lib
from r1jax.checkpoint import CheckpointError
from r1jax.decoding import SamplingConfig, Shapes
from r1jax.policy import CHAT, Policy, open_checkpoint
from r1jax.terminal import PLAIN, Detokenizer, Display, Speed

EXAMPLE = '{"id": 1, "prompt": "How many?"}'
WIDTH = 64  # tokens of a short turn; a longer one takes a power of two, so that few turns compile anything


def sampling(policy: Policy, longest: int, args) -> SamplingConfig:
  """Prompts of up to `longest` tokens -> how to draw, with as many tokens as the context leaves."""
  room = policy.cfg.max_positions - longest
  if room < 1:
    raise ValueError(
      f'a prompt of {longest} tokens is too long; valid: fewer than {policy.cfg.max_positions}, the model\'s context'
    )  # fmt: skip
  most = min(args.max_tokens, room)
  return SamplingConfig(most, args.temperature, args.top_p, speculative=args.speculative)


def say(policy: Policy, messages: Sequence[dict], args, turn: int = 0, width: int = 0) -> str:
  """Prints args.samples completions, the first as it comes -> the first, after what its prompt opened.

  turn: tells the noise of one turn from that of others. width: tokens that the prompt is padded to.
  """
  prompt, speed = policy.tokens(messages), Speed()
  display, detokenizer = Display(sys.stdout, policy.opened), Detokenizer(policy.tokenizer)
  width = max(width, len(prompt))
  how = sampling(policy, width, args)
  shapes = decoding.shapes_of(1, args.samples, width, how, mesh_lib.data_ways(policy.mesh))

  def show(sample: int, tokens: np.ndarray, last: bool) -> None:
    if sample == 0:
      display.add(detokenizer.add(tokens) + (detokenizer.finish() if last else ''))

  drawn = _generate(policy, [prompt], [turn], args, how, shapes, speed, show)
  display.finish()
  texts = [
    policy.opened + policy.tokenizer.decode(drawn.completion(0, g)) for g in range(args.samples)
  ]
  for i, text in enumerate(texts[1:], start=2):
    print(f'\nsample {i} of {args.samples}')
    other = Display(sys.stdout, text)
    other.finish()
  print(speed, file=sys.stderr)
  return texts[0]


def _generate(
  policy: Policy, tokens, ids, args, how, shapes: Shapes, speed: Speed, show: Callable = lambda *_: None
) -> rollout.Rollouts:  # fmt: skip
  """What is not yet compiled is compiled when it is needed: most shapes of a long context never are."""

  def watch(sample: int, new: np.ndarray, last: bool) -> None:
    speed.count(len(new))
    show(sample, new, last)

  with jax.set_mesh(policy.mesh):
    drawn = rollout.generate(
      policy.params, policy.cfg, tokens, ids, jax.random.key(args.seed), how,
      group=args.samples, tokenizer=policy.tokenizer, shapes=shapes, poll=speed.chunk, watch=watch,
    )  # fmt: skip
  speed.drafts(drawn.drafted, drawn.accepted)
  return drawn


def converse(policy: Policy, args) -> None:
  """Lines from the terminal, each answered; a chat's thoughts are not kept. Ctrl-C gives an answer up, Ctrl-D ends."""
  messages: list[dict] = []
  for turn in itertools.count():
    try:
      line = input('> ')
    except (EOFError, KeyboardInterrupt):
      print()
      return
    if not line.strip():
      continue
    asked = [*messages, {'role': 'user', 'content': line}]
    try:
      said = say(policy, asked, args, turn, _width(policy, len(policy.tokens(asked))))
    except KeyboardInterrupt:
      print(PLAIN if sys.stdout.isatty() else '')
      continue
    if policy.template == CHAT:
      reply = chat.thought_and_answer(said)[1]
      messages = [*asked, {'role': 'assistant', 'content': reply}]


def _width(policy: Policy, prompt: int) -> int:
  """Tokens of a prompt -> a power of two, as long as it leaves half of the context."""
  width = max(WIDTH, 1 << (prompt - 1).bit_length())
  return width if width <= policy.cfg.max_positions // 2 else prompt


def complete_file(policy: Policy, args) -> None:
  """Rows of args.input whose id is not in args.output yet -> rows of args.output, some prompts at a time."""
  source, target = Path(args.input), Path(args.output)
  rows = _read(source, policy)
  done = _ids_of(target)
  todo = [(row, tokens) for row, tokens in rows if row['id'] not in done]
  print(f'{len(rows) - len(todo)} of {len(rows)} prompts are done', file=sys.stderr)
  if not todo:
    return
  longest = max(len(tokens) for _, tokens in rows)
  how, speed = sampling(policy, longest, args), Speed()
  at_once = min(args.batch, len(todo))
  ways = mesh_lib.data_ways(policy.mesh)
  shapes = decoding.shapes_of(at_once, args.samples, longest, how, ways)
  with target.open('a', encoding='utf-8') as file:
    for first in range(0, len(todo), at_once):
      some, tokens = zip(*todo[first : first + at_once])
      ids = [zlib.crc32(json.dumps(row['id']).encode()) >> 1 for row in some]
      drawn = _generate(policy, list(tokens), ids, args, how, shapes, speed)
      for p, row in enumerate(some):
        file.write(json.dumps(row | _result(policy, drawn, p), ensure_ascii=False) + '\n')
      file.flush()
      answered = len(rows) - len(todo) + first + len(some)
      print(f'{answered} of {len(rows)}, {speed}', file=sys.stderr)


def _result(policy: Policy, drawn: rollout.Rollouts, p: int) -> dict:
  """What was drawn for prompt p."""
  samples = []
  for g, length in enumerate(drawn.length[p]):
    text = policy.opened + policy.tokenizer.decode(drawn.completion(p, g))
    thought, reply = chat.thought_and_answer(text)
    samples.append({'thought': thought, 'answer': reply.strip(), 'length': int(length)})
    samples[-1]['truncated'] = bool(drawn.truncated[p, g])
  return {'samples': samples}


def _read(path: Path, policy: Policy) -> list[tuple[dict, np.ndarray]]:
  """A .jsonl file -> (row, its prompt as tokens). ValueError names file and line."""
  rows, ids = [], set()
  for number, line in enumerate(path.read_text('utf-8').split('\n'), start=1):
    if not line.strip():
      continue
    try:
      row, messages = _row(json.loads(line))
      if row['id'] in ids:
        raise ValueError(f'id={row["id"]!r} is there twice; valid: an id of its own')
      rows.append((row, policy.tokens(messages)))
    except ValueError as error:
      raise ValueError(f'{path}:{number}: {error}') from error
    ids.add(row['id'])
  return rows


def _row(row) -> tuple[dict, list[dict]]:
  """A line of the input -> (it, its messages). ValueError."""
  if not isinstance(row, dict) or not isinstance(row.get('id'), int | str):
    raise ValueError(f'{row!r} has no id; valid: {EXAMPLE}')
  if isinstance(row.get('messages'), list):
    _check_texts(row['messages'])
    return row, row['messages']
  if not isinstance(row.get('prompt'), str):
    raise ValueError(f'prompt={row.get("prompt")!r} is no text; valid: {EXAMPLE}')
  return row, [{'role': 'user', 'content': row['prompt']}]


def _check_texts(messages: list) -> None:
  """Raises ValueError unless these are messages that say something; one that calls a tool may do so silently."""
  chat.check(messages)
  for i, message in enumerate(messages):
    content, silent = message.get('content'), message.get('tool_calls') and message != messages[-1]
    if not isinstance(content, str) and not (content is None and silent):
      raise ValueError(f'messages[{i}]: content={content!r} is no text; valid: {EXAMPLE}')


def _ids_of(path: Path) -> set:
  """Ids of an output; a last line that was cut off by the end of a run is taken away."""
  if not path.exists():
    return set()
  whole = path.read_bytes()
  end = whole.rfind(b'\n') + 1
  if end < len(whole):
    with path.open('r+b') as file:
      file.truncate(end)
  return {json.loads(line)['id'] for line in whole[:end].decode('utf-8').split('\n') if line}


def check_files(args) -> None:
  """Raises ValueError for a file that cannot be read or written, before a checkpoint is loaded."""
  if args.input and (not Path(args.input).exists() or Path(args.input).is_dir()):
    raise ValueError(
      f'--input={args.input} is not a file; valid: a .jsonl file of lines such as {EXAMPLE}'
    )
  if args.output and not Path(args.output).absolute().parent.is_dir():
    raise ValueError(
      f'--output={args.output} is in no folder; valid: a file in a folder that exists'
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Arguments, without the program's name -> Namespace; exits with code 2 and a line on stderr."""
  parser = _parser()
  args = parser.parse_args(argv)
  for name in ('samples', 'batch'):
    if getattr(args, name) < 1:
      parser.error(f'--{name}={getattr(args, name)} is not possible; valid: at least 1')
  if bool(args.input) != bool(args.output):
    missing = 'output' if args.input else 'input'
    parser.error(f'--{missing} is missing; valid: both of --input and --output')
  if args.input and args.prompt is not None:
    parser.error(f'--prompt={args.prompt!r} is not possible with --input; valid: one of them')
  if args.prompt is None and not args.input and not sys.stdin.isatty():
    parser.error('--prompt is missing; valid: a text, or --input and --output, or a terminal')
  return args


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'r1jax.sample', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  text, number = parser.add_argument, functools.partial(parser.add_argument, type=int)
  text('--checkpoint', required=True, help='DIR')
  text('--prompt', help='a question; without one, a conversation')
  text('--input', help='.jsonl file with lines of id and prompt, or messages')
  text('--output', help='.jsonl file that lines are added to')
  made_for = 'default: what the checkpoint was made for'
  text('--template', choices=(CHAT, *prompts.TEMPLATES), default='', help=made_for)
  begins = "how the answers of a chat begin; default: '<think>\\n'"
  text('--prefill', default=chat.PREFILL, help=begins)
  text('--temperature', type=float, default=0.6, help='0: the likeliest token; default: 0.6')
  nucleus = 'the likeliest tokens of this probability are drawn from; default: 0.95'
  text('--top_p', type=float, default=0.95, help=nucleus)
  most = 'of a completion, never more than the context leaves; default: 32768'
  number('--max_tokens', default=32768, help=most)
  number('--samples', default=1, help='of each prompt; default: 1')
  number('--seed', default=0, help='of the noise; default: 0')
  number('--batch', default=32, help='prompts of the input that are answered at once; default: 32')
  drafts = 'two tokens a step where the draft of the MTP module is kept; the same distribution'
  parser.add_argument('--speculative', action='store_true', help=drafts)
  return parser


def main(argv: Sequence[str]) -> int:
  """Arguments, without the program's name -> exit code: 0, 130 after Ctrl-C, 2 with a line on stderr."""
  args = parse(argv)
  try:
    check_files(args)
    policy = open_checkpoint(args.checkpoint, args.template, args.prefill, mtp=args.speculative)
    if args.input:
      complete_file(policy, args)
    elif args.prompt is not None:
      say(policy, [{'role': 'user', 'content': args.prompt}], args)
    else:
      converse(policy, args)
  except (ValueError, OSError, CheckpointError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print()
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
