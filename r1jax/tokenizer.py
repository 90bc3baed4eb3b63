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
from tokenizers import decoders, models, pre_tokenizers, processors

from r1jax.rewards.format import TAGS

OPERATORS = '+-*/()'  # stand apart, as digits do
SPACE = '▁'  # sentencepiece writes a space as this character
_HF_FILES = (
  'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json',
  'chat_template.jinja', 'chat_template.json',
)  # fmt: skip


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
  """A sentencepiece .model file. Names of special tokens in a text are text."""

  chat_template = None

  def __init__(self, model: bytes):
    if not model:
      raise ValueError('the file is empty')
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.vocab = self._processor.vocab_size()
    self.bos, self.eos = (
      i if i >= 0 else None for i in (self._processor.bos_id(), self._processor.eos_id())
    )
    self.fingerprint = _fingerprint(model)
    names = {'bos_token': self.bos, 'eos_token': self.eos, 'pad_token': self._processor.pad_id()}
    names['unk_token'] = self._processor.unk_id()
    self.special_tokens = {
      name: self._processor.id_to_piece(i) for name, i in names.items() if i is not None and i >= 0
    }
    self._space = [self._processor.piece_to_id(f'<0x{byte:02X}>') for byte in SPACE.encode('utf-8')]

  def encode(self, text: str) -> list[int]:
    first, *rest = (self._processor.encode(part) if part else [] for part in text.split(SPACE))
    return sum((self._space + part for part in rest), first)

  def decode(self, ids: Sequence[int]) -> str:
    return self._processor.decode([int(i) for i in ids])

  def save(self, directory) -> None:
    directory = pathlib.Path(directory)
    (directory / 'tokenizer.model').write_bytes(self._model)
    if all(self._is_known(piece) for piece in (*TAGS, *OPERATORS)):  # `train` made it
      self._fast().save(str(directory / 'tokenizer.json'))
    config = self.special_tokens | {'tokenizer_class': 'LlamaTokenizer'}
    config |= {'legacy': False, 'add_prefix_space': False}
    config |= {'add_bos_token': self.bos is not None, 'add_eos_token': False}
    config['clean_up_tokenization_spaces'] = False
    (directory / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n')

  def _is_known(self, piece: str) -> bool:
    return self._processor.piece_to_id(piece) != self._processor.unk_id()

  def _fast(self) -> tokenizers.Tokenizer:
    """The same function for readers without sentencepiece, except that U+2581 becomes a space there.

    A piece is merged from whatever two pieces make it up, earlier pieces first: their order is their rank.
    """
    sp, whole = self._processor, (*TAGS, *OPERATORS)
    vocab = {sp.id_to_piece(i): i for i in range(self.vocab)}
    pieces = [
      p for p, i in vocab.items() if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))
    ]
    parts = set(pieces) - set(whole)
    merges = [
      (piece[:cut], piece[cut:]) for piece in pieces if piece in parts for cut in range(1, len(piece))
      if piece[:cut] in parts and piece[cut:] in parts
    ]  # fmt: skip
    fast = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme='never', split=False)
    to_text = [decoders.Replace(SPACE, ' '), decoders.ByteFallback(), decoders.Fuse()]
    fast.decoder = decoders.Sequence(to_text)
    fast.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in whole])
    bos = self.special_tokens['bos_token']
    fast.post_processor = processors.TemplateProcessing(
      single=f'{bos} $A', pair=f'{bos} $A {bos} $B', special_tokens=[(bos, self.bos)]
    )
    return fast


class HuggingFace:
  """A tokenizer.json; the files beside it have the names of special tokens and the chat template."""

  def __init__(self, path: pathlib.Path):
    self._path, model = path, path.read_bytes()
    self._tokenizer = tokenizers.Tokenizer.from_str(model.decode('utf-8'))
    self.vocab = self._tokenizer.get_vocab_size(with_added_tokens=True)
    own, model_config, generation = (
      _json(path.with_name(f'{n}.json'))
      for n in ('tokenizer_config', 'config', 'generation_config')
    )
    named = {
      k: v['content'] if isinstance(v, dict) else v for k, v in own.items() if k.endswith('_token')
    }
    self.special_tokens = {key: token for key, token in named.items() if isinstance(token, str)}
    # A chat model ends its turn with another token than a document: its generation config lists both.
    ends = [self._id('eos_token'), *(c.get('eos_token_id') for c in (model_config, generation))]
    ends = [e for end in ends if end is not None for e in (end if isinstance(end, list) else [end])]
    ends = tuple(dict.fromkeys(ends))
    self.eos = ends if len(ends) > 1 else (ends[0] if ends else None)
    self.bos = self._id('bos_token') if own else model_config.get('bos_token_id')
    self._skipped = {*ends, self.bos, self._id('pad_token')}
    if not own.get('add_bos_token', True):
      self.bos = None
    self.chat_template = _chat_template(path.parent)
    self.fingerprint = _fingerprint(model, repr((self.bos, self.eos)).encode())

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

  Of both, tokenizer.json counts if it knows more: other ids or a chat template. Raises FileNotFoundError or
  ValueError, which name the file.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return _read(path)
  found = [path / name for name in ('tokenizer.model', 'tokenizer.json')]
  found = [_read(file) for file in found if file.exists()]
  if not found:
    raise FileNotFoundError(f'{path}: neither tokenizer.json nor tokenizer.model is in it')
  first, last = found[0], found[-1]
  return last if last.chat_template or last.vocab != first.vocab else first


def _read(path: pathlib.Path) -> Tokenizer:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such tokenizer')
  try:
    return HuggingFace(path) if path.suffix == '.json' else SentencePiece(path.read_bytes())
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
    return json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error


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
