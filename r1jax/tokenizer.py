"""text <-> tokens, behind one interface: sentencepiece models and Hugging Face tokenizer.json.

    python -m r1jax.tokenizer --text=corpus.txt --vocab=512 --out=DIR

trains the sentencepiece model of the tiny models: BPE, digits and operators apart, the four tags whole, and bytes for
whatever else there is, so that every text comes back exactly. Left out: chat templates of checkpoints that have no
tokenizer.json.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from typing import Protocol

import sentencepiece
import tokenizers
from absl import logging

from r1jax import tokenizer_json
from r1jax.rewards.format import TAGS
from r1jax.tokenizer_json import SPACE

OPERATORS = '+-*/()'  # stand apart, as digits do
_HF_FILES = (
  'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json',
  'chat_template.jinja', 'chat_template.json',
)  # fmt: skip
_QWEN = (
  "AutoTokenizer of transformers 5 reads every tokenizer beside a model of type 'qwen2' as Qwen's own, whatever its "
  'files say, and this one wrongly; use PreTrainedTokenizerFast.from_pretrained(DIR)'
)


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A Jinja program that writes a conversation as text, and the file that it came from."""

  source: str
  path: pathlib.Path


class Tokenizer(Protocol):
  """What the rest of the code knows of a tokenizer.

  vocab: number of ids. bos: None where prompts start without one. eos: None, an id, or a tuple of ids of which
  each ends a completion and the first is what training appends. fingerprint: changes with the tokens.
  special_tokens: texts by their names in tokenizer_config.json, such as 'bos_token'.
  """

  vocab: int
  bos: int | None
  eos: int | tuple[int, ...] | None
  fingerprint: str
  special_tokens: dict[str, str]
  chat_template: ChatTemplate | None

  def encode(self, text: str) -> list[int]:
    """text -> ids, without BOS and EOS."""

  def decode(self, ids: Sequence[int]) -> str:
    """ids -> text; BOS, EOS and padding are left out, broken UTF-8 becomes U+FFFD."""

  def save(self, directory) -> None:
    """Writes the files that `load` reads, under their Hugging Face names."""


class SentencePiece:
  """A sentencepiece .model file. Names of special tokens in a text are text.

  ends: ids that end a completion besides its own EOS. flaw: what no tokenizer.json would do as it does, or None.
  """

  chat_template = None

  def __init__(self, model: bytes, ends: Sequence[int] = ()):
    if not model:
      raise ValueError('the file is empty')
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self._proto = tokenizer_json.parse(model)
    self.flaw = tokenizer_json.flaw_of(self._proto)
    self._prefixed = self._proto.normalizer_spec.add_dummy_prefix
    self.vocab = self._processor.vocab_size()
    self.bos, eos = (
      i if i >= 0 else None for i in (self._processor.bos_id(), self._processor.eos_id())
    )
    self._ends = _unique(eos, ends)
    self.eos = _alone(self._ends)
    self.fingerprint = _fingerprint(model, *([repr(self.eos).encode()] if {*ends} - {eos} else []))
    names = {'bos_token': self.bos, 'eos_token': eos, 'pad_token': self._processor.pad_id()}
    names['unk_token'] = self._processor.unk_id()
    self.special_tokens = {
      name: self._processor.id_to_piece(i) for name, i in names.items() if i is not None and i >= 0
    }
    self._space = [self._processor.piece_to_id(f'<0x{byte:02X}>') for byte in SPACE.encode('utf-8')]

  def encode(self, text: str) -> list[int]:
    if self._prefixed:  # each part would get a prefix
      return self._processor.encode(text)
    first, *rest = (self._processor.encode(part) if part else [] for part in text.split(SPACE))
    return sum((self._space + part for part in rest), first)

  def decode(self, ids: Sequence[int]) -> str:
    return self._processor.decode([int(i) for i in ids if int(i) not in self._ends])

  def save(self, directory) -> None:
    """Also a tokenizer.json. ValueError where none would be the same function."""
    if self.flaw:
      raise ValueError(
        f'a sentencepiece model with {self.flaw} is not written: other tools would read it differently; '
        f'valid: a tokenizer with a tokenizer.json'
      )
    directory = pathlib.Path(directory)
    (directory / 'tokenizer.model').write_bytes(self._model)
    fast = tokenizer_json.convert(self._proto, self.special_tokens.get('bos_token'))
    (directory / 'tokenizer.json').write_text(
      fast.to_str(pretty=True)
    )  # its OSError names the file
    config = dict(self.special_tokens)
    if self._prefixed:  # LlamaTokenizer puts no space before a text that begins with one
      config |= {'tokenizer_class': 'PreTrainedTokenizerFast'}
    else:
      config |= {'tokenizer_class': 'LlamaTokenizer', 'legacy': False, 'add_prefix_space': False}
    config |= {'add_bos_token': self.bos is not None, 'add_eos_token': False}
    config['clean_up_tokenization_spaces'] = False
    (directory / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n')
    described = _json(directory / 'config.json').get('model_type')
    if described == 'qwen2' and any(directory.glob('*.safetensors')):
      logging.warning(_QWEN)


class HuggingFace:
  """A tokenizer.json; the files beside it have the names of special tokens and the chat template."""

  def __init__(self, path: pathlib.Path):
    self._path, model = path, path.read_bytes()
    self._tokenizer = tokenizers.Tokenizer.from_str(model.decode('utf-8'))
    self.vocab = self._tokenizer.get_vocab_size(with_added_tokens=True)
    own, model_config = (_json(path.with_name(f'{n}.json')) for n in ('tokenizer_config', 'config'))
    named = {
      k: v['content'] if isinstance(v, dict) else v for k, v in own.items() if k.endswith('_token')
    }
    self.special_tokens = {key: token for key, token in named.items() if isinstance(token, str)}
    ends = _unique(self._id('eos_token'), _ends(path.parent))
    self.eos = _alone(ends)
    begins = self._id('bos_token') if own else model_config.get('bos_token_id')
    self._skipped = {*ends, begins, self._id('pad_token')}
    self.bos = begins if self._begins_with(begins, own.get('add_bos_token')) else None
    self.chat_template = _chat_template(path.parent)
    self.fingerprint = _fingerprint(model, repr((self.bos, self.eos)).encode())

  def _begins_with(self, bos: int | None, stated: bool | None) -> bool:
    """Whether texts start with this id: as the files state it, or else as tokenizer.json itself does it."""
    if stated is not None:
      return stated
    return self._tokenizer.encode('').ids[:1] == [bos]

  def _id(self, key: str) -> int | None:
    token = self.special_tokens.get(key)
    found = None if token is None else self._tokenizer.token_to_id(token)
    if token is not None and found is None:
      raise ValueError(f'{self._path}: {key} {token!r} of tokenizer_config.json is no token here')
    return found

  def encode(self, text: str) -> list[int]:
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    kept = [int(i) for i in ids if int(i) not in self._skipped]
    return self._tokenizer.decode(kept, skip_special_tokens=False)  # <think> may be one of them

  def save(self, directory) -> None:
    for name in _HF_FILES:
      source = self._path.with_name(self._path.name if name == 'tokenizer.json' else name)
      if source.exists():
        shutil.copyfile(source, pathlib.Path(directory) / name)


def load(path) -> Tokenizer:
  """A .model file, a tokenizer.json, or a directory with either -> Tokenizer.

  Of both, tokenizer.json counts if it knows more: other ids, a chat template, or what we could not write there.
  Raises FileNotFoundError or ValueError, which name the file.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return _read(path)
  found = [path / name for name in ('tokenizer.model', 'tokenizer.json')]
  found = [_read(file) for file in found if file.exists()]
  if not found:
    raise FileNotFoundError(f'{path}: neither tokenizer.json nor tokenizer.model is in it')
  first, last = found[0], found[-1]
  flawed = isinstance(first, SentencePiece) and first.flaw
  return last if last.chat_template or last.vocab != first.vocab or flawed else first


def _read(path: pathlib.Path) -> Tokenizer:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such tokenizer')
  try:
    if path.suffix == '.json':
      return HuggingFace(path)
    return SentencePiece(path.read_bytes(), _ends(path.parent))
  except ValueError as error:
    raise error if str(path.parent) in str(error) else ValueError(f'{path}: {error}') from error
  except Exception as error:  # tokenizers raises Exception itself, sentencepiece RuntimeError
    raise ValueError(f'{path}: not a tokenizer ({error})') from error


def _chat_template(directory: pathlib.Path) -> ChatTemplate | None:
  """The default chat template of a directory, wherever it is written; ValueError names the file."""
  alone = directory / 'chat_template.jinja'
  if alone.is_file():
    return ChatTemplate(alone.read_text('utf-8'), alone)
  for path in (directory / 'tokenizer_config.json', directory / 'chat_template.json'):
    found = _json(path).get('chat_template')
    if isinstance(found, list):  # several of them, by name
      named = {entry['name']: entry['template'] for entry in found}
      if 'default' not in named:
        raise ValueError(f"{path}: chat_template has the names {[*named]}; valid: one is 'default'")
      found = named['default']
    if found:
      return ChatTemplate(found, path)
  return None


def _json(path: pathlib.Path) -> dict:
  """The object in a JSON file; {} where the file does not exist."""
  if not path.exists():
    return {}
  try:
    value = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  if not isinstance(value, dict):
    raise ValueError(f'{path}: not a JSON object')
  return value


def _ends(directory: pathlib.Path) -> list[int]:
  """Ids that the model's files name as ends: a chat model ends its turn with another token than a document."""
  configs = (_json(directory / f'{name}.json') for name in ('config', 'generation_config'))
  named = (config.get('eos_token_id') for config in configs)
  return [e for x in named if x is not None for e in (x if isinstance(x, list) else [x])]


def _unique(first: int | None, more: Sequence[int]) -> tuple[int, ...]:
  return tuple(dict.fromkeys([*([] if first is None else [first]), *more]))


def _alone(ends: tuple[int, ...]) -> int | tuple[int, ...] | None:
  """Ends as `Tokenizer.eos` has them."""
  return ends if len(ends) > 1 else (ends[0] if ends else None)


def _fingerprint(*parts: bytes) -> str:
  return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


def train(lines: Iterable[str], vocab: int) -> SentencePiece:
  """Lines of text -> a sentencepiece tokenizer of `vocab` ids: 0 pad, 1 BOS, 2 EOS, 3 unknown.

  The same lines give the same file. ValueError where the text is too poor for so many pieces.
  """
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab, model_type='bpe',
      pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece='<pad>', user_defined_symbols=[*TAGS, *OPERATORS],
      split_digits=True, split_by_unicode_script=False, byte_fallback=True, character_coverage=1.0,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False, add_dummy_prefix=False, shuffle_input_sentence=False,
      num_threads=1, minloglevel=2,
    )  # fmt: skip
  except RuntimeError as error:
    raise ValueError(f'vocab={vocab} does not fit this text: {error}') from error
  return SentencePiece(model.getvalue())


def main() -> None:
  parser = argparse.ArgumentParser(description='Train a sentencepiece tokenizer on lines of text.')
  parser.add_argument('--text', required=True, nargs='+', help='UTF-8 files, one document a line')
  parser.add_argument('--vocab', type=int, default=512, help='number of ids')
  parser.add_argument('--out', required=True, help='directory for the two files')
  args = parser.parse_args()
  lines = [
    line for f in args.text for line in pathlib.Path(f).read_text('utf-8').split('\n') if line
  ]
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  tokenizer = train(lines, args.vocab)
  tokenizer.save(out)
  print(f'{out}: {tokenizer.vocab} ids, fingerprint {tokenizer.fingerprint}')


if __name__ == '__main__':
  main()
