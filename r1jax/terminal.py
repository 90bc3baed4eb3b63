"""Tokens as they come -> text that can be shown: no half character, the thought and the answer apart, the speed."""

import re
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from r1jax.chat import END_OF_THOUGHT, THOUGHT
from r1jax.tokenizer import Tokenizer

DIM, PLAIN = '\x1b[2m', '\x1b[0m'
_TAG = re.compile(f'({THOUGHT}|{END_OF_THOUGHT})')
_UNDECIDED = re.compile(r'\s*(<[/a-z]{0,6})?$')  # it depends on what follows whether this is shown
_BROKEN = '\ufffd'  # what the bytes of a character decode to until the last of them


class Detokenizer:
  """Tokens, some at a time -> the text that they add. All pieces together are the text of all tokens."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._before: list[
      int
    ] = []  # shown tokens: how a token is written may depend on those before it
    self._new: list[int] = []
    self._shown = 0  # characters of the new tokens' text

  def add(self, tokens: Sequence[int]) -> str:
    """The text that is certain now; an unfinished character waits for the rest of its bytes."""
    self._new += [int(token) for token in tokens]
    text = self._text()
    certain = text.rstrip(_BROKEN)
    piece, self._shown = certain[self._shown :], len(certain)
    if certain == text:
      self._before, self._new, self._shown = self._new, [], 0
    return piece

  def finish(self) -> str:
    """What is left, with U+FFFD for bytes that never became a character."""
    return self._text()[self._shown :]

  def _text(self) -> str:
    before = self._tokenizer.decode(self._before)
    return self._tokenizer.decode(self._before + self._new)[len(before) :]


class Display:
  """A completion, piece by piece -> a stream: on a terminal the thought is dim, elsewhere each part has its name.

  opened: what the prompt has written of the completion already.
  """

  def __init__(self, stream: TextIO, opened: str = ''):
    self._stream, self._colours = stream, stream.isatty()
    self._held, self._thinking = '', False
    self._part = ''  # that was written last
    self.add(opened)

  def add(self, text: str) -> None:
    *pieces, rest = _TAG.split(self._held + text)
    for before, tag in zip(pieces[::2], pieces[1::2]):
      self._write(before.rstrip())
      self._thinking = tag == THOUGHT
    known = _UNDECIDED.search(rest).start()
    self._write(rest[:known])
    self._held = rest[known:]

  def finish(self) -> None:
    self._write(self._held.rstrip())
    self._stream.write(f'{PLAIN}\n' if self._colours else '\n')
    self._stream.flush()

  def _write(self, text: str) -> None:
    part = 'thought' if self._thinking else 'answer'
    if part != self._part:
      text = text.lstrip()
      if not text:
        return
      head = (DIM if self._thinking else PLAIN) if self._colours else f'{part}: '
      text, self._part = ('\n\n' if self._part else '') + head + text, part
    self._stream.write(text)
    self._stream.flush()


class Speed:
  """Counts tokens as they come, chunk by chunk; the first chunk waits for what is compiled, and is told apart."""

  def __init__(self, now: Callable[[], float] = time.perf_counter):
    self._now, self._start = now, now()
    self._first: tuple[int, float] | None = None  # tokens and seconds of the first chunk
    self._tokens, self._seconds = 0, 0.0
    self._drafted, self._kept = 0, 0

  def chunk(self) -> None:
    """Another chunk begins."""
    if self._tokens and not self._first:
      self._first = (self._tokens, self._seconds)

  def count(self, tokens: int) -> None:
    self._tokens += tokens
    self._seconds = self._now() - self._start

  def drafts(self, drafted: int, kept: int) -> None:
    """Tokens that speculative decoding has proposed, and those of them that were kept."""
    self._drafted, self._kept = self._drafted + drafted, self._kept + kept

  def __str__(self) -> str:
    if self._drafted:
      return f'{self._pace()}, {self._kept / self._drafted:.0%} of the drafts kept'
    return self._pace()

  def _pace(self) -> str:
    text = f'{self._tokens} tokens in {self._seconds:.1f} s'
    if not self._first or self._tokens == self._first[0]:  # the first chunk was the last one
      rate = self._tokens / self._seconds if self._seconds else 0.0
      return f'{text}: {rate:.1f} tokens/s'
    tokens, seconds = self._first
    rate = (self._tokens - tokens) / (self._seconds - seconds)
    return f'{text}: the first {tokens} after {seconds:.1f} s, then {rate:.1f} tokens/s'
