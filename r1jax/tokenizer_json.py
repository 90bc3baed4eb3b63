"""A sentencepiece model as a tokenizer.json: the same function for readers without sentencepiece.

Of BPE models that leave the text as it is, with or without a space in front (those of `r1jax.tokenizer`, Llama 2 and
their like). U+2581 in a text becomes a space. Left out, and refused by name: whatever else sentencepiece can do.
"""

import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

SPACE = '▁'  # sentencepiece writes a space as this character
_BPE = sentencepiece_model_pb2.TrainerSpec.BPE
_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece


def parse(model: bytes) -> sentencepiece_model_pb2.ModelProto:
  """The contents of a .model file -> its fields."""
  return sentencepiece_model_pb2.ModelProto.FromString(model)


def flaw_of(proto: sentencepiece_model_pb2.ModelProto) -> str | None:
  """What of a model no tokenizer.json would do exactly; None: it can be written."""
  trainer, normaliser, kinds = proto.trainer_spec, proto.normalizer_spec, _pieces(proto)
  named = kinds.get(_Piece.USER_DEFINED, [])
  flaws = {
    'model_type other than BPE': trainer.model_type != _BPE,
    'no byte_fallback': len(kinds.get(_Piece.BYTE, [])) != 256,
    f'normalization_rule_name {normaliser.name}': bool(normaliser.precompiled_charsmap),
    'remove_extra_whitespaces': normaliser.remove_extra_whitespaces,
    'escape_whitespaces switched off': not normaliser.escape_whitespaces,
    'treat_whitespace_as_suffix': trainer.treat_whitespace_as_suffix,
    'a denormalizer': bool(proto.denormalizer_spec.precompiled_charsmap),
    'unused pieces': _Piece.UNUSED in kinds,
    'user_defined_symbols with spaces': any(SPACE in symbol for symbol in named),
    'add_dummy_prefix with user_defined_symbols': normaliser.add_dummy_prefix and bool(named),
  }
  return next((name for name, found in flaws.items() if found), None)


def convert(proto: sentencepiece_model_pb2.ModelProto, bos: str | None) -> tokenizers.Tokenizer:
  """Model without a flaw, text of the BOS that texts start with or None -> the tokenizer.

  A piece is merged from whatever two pieces make it up, that of the highest score first: their order is their rank.
  """
  vocab = {piece.piece: i for i, piece in enumerate(proto.pieces)}
  kinds = _pieces(proto)
  scores = {piece.piece: piece.score for piece in proto.pieces}
  parts = sorted(kinds[_Piece.NORMAL], key=lambda piece: -scores[piece])  # ties stay in order
  known = set(parts)
  merges = [
    (piece[:cut], piece[cut:]) for piece in parts for cut in range(1, len(piece))
    if piece[:cut] in known and piece[cut:] in known
  ]  # fmt: skip
  fast = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True))
  to_text = [decoders.Replace(SPACE, ' '), decoders.ByteFallback(), decoders.Fuse()]
  if proto.normalizer_spec.add_dummy_prefix:
    # Metaspace would put none in front of a text that begins with a space.
    spaces = [normalizers.Prepend(SPACE), normalizers.Replace(' ', SPACE)]
    fast.normalizer = normalizers.Sequence(spaces)
    to_text.append(decoders.Strip(' ', 1, 0))
  else:
    fast.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme='never', split=False)
  fast.decoder = decoders.Sequence(to_text)
  named = kinds.get(_Piece.USER_DEFINED, [])
  fast.add_tokens([tokenizers.AddedToken(symbol, normalized=False) for symbol in named])
  if bos is not None:
    fast.post_processor = processors.TemplateProcessing(
      single=f'{bos} $A', pair=f'{bos} $A {bos} $B', special_tokens=[(bos, vocab[bos])]
    )
  return fast


def _pieces(proto: sentencepiece_model_pb2.ModelProto) -> dict[int, list[str]]:
  """Kind of piece -> the pieces of that kind, in their order."""
  kinds: dict[int, list[str]] = {}
  for piece in proto.pieces:
    kinds.setdefault(piece.type, []).append(piece.piece)
  return kinds
