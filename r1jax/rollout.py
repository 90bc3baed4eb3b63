"""Prompts -> groups of completions. Each prompt is prefilled once; its G samples are decoded together.

Decoding runs on the device in chunks of tokens (decoding.py). Between chunks the host takes finished rows
out: free rows are refilled while samples wait, and afterwards the batch shrinks, so that the longest row
holds nobody up. All shapes come from two short lists, so after `warm_up` nothing compiles.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from r1jax import decoding
from r1jax import mesh as mesh_lib
from r1jax import slots as slots_lib
from r1jax.decoding import CHUNK, SamplingConfig, Shapes, shapes_of
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer


@dataclasses.dataclass
class Rollouts:
  """What was drawn, on the host. P prompts, G samples of each, Tc = max_tokens.

  prompts: P arrays of tokens. tokens, logprob [P, G, Tc]: zero from `length` on. length [P, G] counts EOS.
  truncated [P, G]: neither EOS nor a stop string came. logprob: under the distribution drawn from.
  decoded: rows times tokens of each that the device computed. drafted, accepted: tokens that the MTP module has
  proposed in speculative decoding, and those that were kept.
  """

  prompts: list[np.ndarray]
  tokens: np.ndarray
  logprob: np.ndarray
  length: np.ndarray
  truncated: np.ndarray
  decoded: int = 0
  drafted: int = 0
  accepted: int = 0

  @property
  def live_share(self) -> float:
    """Share of the decoded slots that held a token of a sample."""
    return float(self.length.sum()) / max(self.decoded, 1)

  def completion(self, prompt: int, sample: int) -> np.ndarray:
    """Tokens of one completion, EOS included."""
    return self.tokens[prompt, sample, : self.length[prompt, sample]]


def generate(
  w: Transformer, cfg: ModelConfig, prompts: Sequence[np.ndarray], prompt_ids: Sequence[int], step_key: jax.Array,
  how: SamplingConfig, *, group: int, tokenizer, shapes: Shapes | None = None,
  poll: Callable[[], None] | None = None, watch: Callable[[int, np.ndarray, bool], None] | None = None,
) -> Rollouts:  # fmt: skip
  """P prompts (token arrays) with their ids -> Rollouts with `group` samples each.

  Noise is folded from (step key, prompt id, sample id, position in the completion), so that a sample does
  not depend on what else is in the batch. `poll` is called before every chunk; what it raises ends the
  rollout. `watch` is told of every chunk: sample p * G + g, its new tokens, whether they are its last.
  Raises ValueError for what `shapes` are not made for, and for drafts from a model that has no MTP module.
  """
  shapes = shapes or shapes_of(len(prompts), group, max(map(len, prompts)), how)
  _check(prompts, group, shapes)
  if how.speculative and not cfg.mtp:
    raise ValueError(f'speculative=True needs an MTP module and {cfg.name} has none; valid: False')
  eos = end_tokens(tokenizer)
  ready = decoding.prefill(
    w, *_pad(prompts, prompt_ids, shapes), decoding.on_device(step_key), cfg, group, how.speculative
  )
  queue = _Queue(prompts, group, how, shapes, tokenizer)
  slots = slots_lib.empty_slots(
    cfg, shapes.rows[0], shapes.columns[0], shapes.width, how.speculative
  )
  while not queue.finished():
    if poll:
      poll()
    slots = queue.make_room(slots)
    slots = queue.fill(slots, ready)
    slots, *drawn = decoding.decode(w, slots, queue.live(), cfg, how, eos)
    queue.record(*jax.device_get(drawn), eos=eos, watch=watch or (lambda *_: None))
  return queue.rollouts()


def end_tokens(tokenizer) -> tuple[int, ...]:
  """Ids that end a completion; none where the tokenizer has no EOS."""
  return () if tokenizer.eos is None else tuple(int(e) for e in np.atleast_1d(tokenizer.eos))


def _check(prompts, group: int, shapes: Shapes) -> None:
  asked = (len(prompts), group, max(map(len, prompts)))
  room = (shapes.prompts, shapes.group, shapes.width)
  if asked[0] > room[0] or asked[1] != room[1] or asked[2] > room[2]:
    raise ValueError(
      f'shapes are for {room[0]} prompts, {room[1]} samples of each, {room[2]} tokens a prompt: these are {asked}'
    )


def _pad(prompts, prompt_ids, shapes: Shapes):
  """Prompts -> tokens [P, Tp] aligned on the right, lengths [P], ids [P], on the device."""
  tokens = np.zeros((shapes.prompts, shapes.width), np.int32)
  lengths, ids = np.ones(shapes.prompts, np.int32), np.zeros(shapes.prompts, np.int32)
  for row, prompt in enumerate(prompts):
    tokens[row, shapes.width - len(prompt) :] = prompt
    lengths[row], ids[row] = len(prompt), prompt_ids[row]
  return decoding.on_device((tokens, lengths, ids))


class _Queue:
  """Host side of one rollout: which sample sits in which row, what it has produced, the cache's geometry."""

  def __init__(self, prompts, group: int, how: SamplingConfig, shapes: Shapes, tokenizer):
    total = len(prompts) * group
    self.prompts, self.group, self.how = prompts, group, how
    self.shapes, self.tokenizer = shapes, tokenizer
    self.tokens = np.zeros((total, how.max_tokens), np.int32)
    self.logprob = np.zeros((total, how.max_tokens), np.float32)
    self.length = np.zeros(total, np.int32)
    self.ended = np.zeros(total, bool)
    self.sample = np.full(shapes.rows[0], -1, np.int32)  # in each row; -1: none
    self.started = 0  # samples that have been given a row
    self.columns, self.column = shapes.columns[0], shapes.width
    self.decoded = self.drafted = self.accepted = 0
    # Tokens before a chunk in which a stop string may begin: one a byte, and some that decode to nothing.
    self.reach = max((len(stop.encode()) for stop in how.stop), default=0) + 8

  def finished(self) -> bool:
    return self.started == len(self.length) and not (self.sample >= 0).any()

  def _used(self) -> int:
    """Columns that the longest live row holds, and at least what a new prompt needs.

    A speculative row holds what is left of its prompt too: it is never moved.
    """
    live = self.sample[self.sample >= 0]
    prompt = [len(p) for p in self.prompts]
    if self.how.speculative:
      prompt = [self.shapes.width] * len(self.prompts)
    held = (prompt[s // self.group] + self.length[s] for s in live)
    return max(self.shapes.width if self.started < len(self.length) else 1, *held, 1)

  def make_room(self, slots: slots_lib.Slots) -> slots_lib.Slots:
    """Halve the rows while the live ones fit, once nobody waits; make columns free for a chunk."""
    if self.started == len(self.length):
      for rows in self.shapes.rows:
        kept = mesh_lib.rows_kept(self.sample >= 0, rows) if rows < len(self.sample) else None
        if kept is not None:
          columns = max(self.columns, self.shapes.columns_of(rows)[0])
          slots = self._rearrange(slots, kept, columns)
    while self.column + CHUNK > self.columns:
      wider = self._used() + CHUNK > self.columns
      columns = next(c for c in self.shapes.columns if c > self.columns) if wider else self.columns
      slots = self._rearrange(slots, None, columns)
    return slots

  def _rearrange(self, slots, kept: np.ndarray | None, columns: int) -> slots_lib.Slots:
    used = min(self._used(), self.column)
    if kept is not None:
      self.sample = self.sample[kept]
    self.columns, self.column = columns, used
    return decoding.rearrange(slots, *decoding.on_device((kept, np.int32(used))), columns=columns)

  def fill(self, slots, ready: slots_lib.Prompts) -> slots_lib.Slots:
    """Give free rows to waiting samples."""
    free = np.flatnonzero(self.sample < 0)[: len(self.length) - self.started]
    if not len(free):
      return slots
    sample = np.full(len(self.sample), -1, np.int32)
    sample[free] = np.arange(self.started, self.started + len(free))
    self.sample[free], self.started = sample[free], self.started + len(free)
    return decoding.insert(slots, ready, *decoding.on_device((sample // self.group, sample)))

  def live(self) -> jax.Array:
    """Rows [B] that hold a sample, on the device."""
    return decoding.on_device(self.sample >= 0)

  def record(self, tokens, logprob, steps, drawn=None, accepted=None, *, eos, watch) -> None:
    """Append a chunk [B, CHUNK] to every row's sample, up to its end; rows that ended become free.

    drawn, accepted [B]: of speculative rows, as from decoding.decode.
    """
    drafts = drawn is not None
    self.decoded += int(steps) * len(self.sample) * (1 + drafts)
    drawn = drawn if drafts else np.full(len(self.sample), steps)
    if drafts:
      self.drafted += int((drawn - accepted).sum())
      self.accepted += int(accepted.sum())
    for row in np.flatnonzero(self.sample >= 0):
      sample, have = self.sample[row], self.length[self.sample[row]]
      new = tokens[row, : min(int(drawn[row]), self.how.max_tokens - have)]
      end = np.flatnonzero(np.isin(new, eos))
      new = new[: end[0] + 1] if len(end) else new
      stopped, new = self._cut(sample, have, new)
      self.tokens[sample, have : have + len(new)] = new
      self.logprob[sample, have : have + len(new)] = logprob[row, : len(new)]
      self.length[sample] += len(new)
      self.ended[sample] = stopped or len(end) > 0
      last = bool(self.ended[sample] or self.length[sample] == self.how.max_tokens)
      if last:
        self.sample[row] = -1
      watch(int(sample), new, last)
    self.column = self._used() if drafts else self.column + int(steps)

  def _cut(self, sample: int, have: int, new: np.ndarray) -> tuple[bool, np.ndarray]:
    """(whether a stop string was completed, the new tokens up to the one that completed it)."""
    if not self.how.stop:
      return False, new
    before = self.tokens[sample, max(have - self.reach, 0) : have].tolist()

    def found(count: int) -> bool:
      text = self.tokenizer.decode(before + new[:count].tolist())
      return any(stop in text for stop in self.how.stop)

    if not found(len(new)):
      return False, new
    return True, new[: next(c for c in range(1, len(new) + 1) if found(c))]

  def rollouts(self) -> Rollouts:
    shape = (len(self.prompts), self.group)
    return Rollouts(
      list(self.prompts), self.tokens.reshape(*shape, -1), self.logprob.reshape(*shape, -1),
      self.length.reshape(shape), ~self.ended.reshape(shape), self.decoded,
      self.drafted, self.accepted,
    )  # fmt: skip
