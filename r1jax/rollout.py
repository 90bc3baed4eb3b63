"""Prompts -> groups of completions. Each prompt is prefilled once; its G samples are decoded together.

Decoding runs on the device in chunks of tokens (decoding.py). Between chunks the host takes finished rows
out: free rows are refilled while samples wait, and afterwards the batch shrinks, so that the longest row
holds nobody up. All shapes come from two short lists, so after `warm_up` nothing compiles.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from r1jax import decoding
from r1jax.decoding import CHUNK, SamplingConfig, Shapes, shapes_of
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer


@dataclasses.dataclass
class Rollouts:
  """What was drawn, on the host. P prompts, G samples of each, Tc = max_tokens.

  prompts: P arrays of tokens. tokens, logprob [P, G, Tc]: zero from `length` on. length [P, G] counts EOS.
  truncated [P, G]: neither EOS nor a stop string came. logprob: under the distribution drawn from.
  decoded: rows times steps that the device computed.
  """

  prompts: list[np.ndarray]
  tokens: np.ndarray
  logprob: np.ndarray
  length: np.ndarray
  truncated: np.ndarray
  decoded: int = 0

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
) -> Rollouts:  # fmt: skip
  """P prompts (token arrays) with their ids -> Rollouts with `group` samples each.

  Noise is folded from (step key, prompt id, sample id, position in the completion), so that a sample does
  not depend on what else is in the batch. Raises ValueError when a prompt or their number exceeds `shapes`.
  """
  shapes = shapes or shapes_of(len(prompts), group, max(map(len, prompts)), how)
  eos = end_tokens(tokenizer)
  ready = decoding.prefill(w, *_pad(prompts, prompt_ids, shapes), step_key, cfg, group)
  queue = _Queue(prompts, group, how, shapes, tokenizer)
  slots = decoding.empty_slots(cfg, shapes.rows[0], shapes.columns[0], shapes.width)
  while not queue.finished():
    slots = queue.make_room(slots)
    slots = queue.fill(slots, ready)
    slots, tokens, logprob, steps = decoding.decode(w, slots, queue.limit(), cfg, how, eos)
    slots = queue.record(slots, *jax.device_get((tokens, logprob, steps)), eos)
  return queue.rollouts()


def end_tokens(tokenizer) -> tuple[int, ...]:
  """Ids that end a completion."""
  return tuple(int(e) for e in np.atleast_1d(tokenizer.eos))


def _pad(prompts, prompt_ids, shapes: Shapes):
  """Prompts -> tokens [P, Tp] aligned on the right, lengths [P], ids [P], on the device."""
  longest = max(map(len, prompts))
  if longest > shapes.width or len(prompts) > shapes.prompts:
    raise ValueError(
      f'{len(prompts)} prompts of up to {longest} tokens; room for {shapes.prompts} of {shapes.width}'
    )
  tokens = np.zeros((shapes.prompts, shapes.width), np.int32)
  lengths, ids = np.ones(shapes.prompts, np.int32), np.zeros(shapes.prompts, np.int32)
  for row, prompt in enumerate(prompts):
    tokens[row, shapes.width - len(prompt) :] = prompt
    lengths[row], ids[row] = len(prompt), prompt_ids[row]
  return jax.device_put((tokens, lengths, ids))


class _Queue:
  """Host side of one rollout: which sample sits in which row, what it has produced, the cache's geometry."""

  def __init__(self, prompts, group: int, how: SamplingConfig, shapes: Shapes, tokenizer):
    total = len(prompts) * group
    self.prompts, self.group, self.how, self.shapes, self.tokenizer = (
      prompts,
      group,
      how,
      shapes,
      tokenizer,
    )
    self.tokens = np.zeros((total, how.max_tokens), np.int32)
    self.logprob = np.zeros((total, how.max_tokens), np.float32)
    self.length = np.zeros(total, np.int32)
    self.ended = np.zeros(total, bool)
    self.sample = np.full(shapes.rows[0], -1, np.int32)  # in each row; -1: none
    self.started = 0  # samples that have been given a row
    self.columns, self.column = shapes.columns[0], shapes.width
    self.decoded = 0

  def finished(self) -> bool:
    return self.started == len(self.length) and not (self.sample >= 0).any()

  def _used(self) -> int:
    """Columns that the longest live row holds, and at least what a new prompt needs."""
    live = self.sample[self.sample >= 0]
    held = (len(self.prompts[s // self.group]) + self.length[s] for s in live)
    return max(self.shapes.width if self.started < len(self.length) else 1, *held, 1)

  def make_room(self, slots: decoding.Slots) -> decoding.Slots:
    """Halve the rows while the live ones fit, once nobody waits; make columns free for a chunk."""
    live = int((self.sample >= 0).sum())
    if self.started == len(self.length):
      for rows in self.shapes.rows:
        if live <= rows < len(self.sample):
          slots = self._rearrange(slots, rows, self.columns)
    while self.column + CHUNK > self.columns:
      wider = self._used() + CHUNK > self.columns
      columns = next(c for c in self.shapes.columns if c > self.columns) if wider else self.columns
      slots = self._rearrange(slots, len(self.sample), columns)
    return slots

  def _rearrange(self, slots, rows: int, columns: int) -> decoding.Slots:
    live = np.flatnonzero(self.sample >= 0)
    kept = np.zeros(rows, np.int32)
    kept[: len(live)] = live
    empty = np.arange(rows) >= len(live)
    used = min(self._used(), self.column)
    self.sample = np.where(empty, -1, self.sample[kept])
    self.columns, self.column = columns, used
    return decoding.rearrange(
      slots, *jax.device_put((kept, empty, np.int32(used))), columns=columns
    )

  def fill(self, slots, ready: decoding.Prompts) -> decoding.Slots:
    """Give free rows to waiting samples."""
    free = np.flatnonzero(self.sample < 0)[: len(self.length) - self.started]
    if not len(free):
      return slots
    sample = np.full(len(self.sample), -1, np.int32)
    sample[free] = np.arange(self.started, self.started + len(free))
    self.sample[free], self.started = sample[free], self.started + len(free)
    return decoding.insert(slots, ready, *jax.device_put((sample // self.group, sample)))

  def limit(self):
    return jax.device_put(np.int32(CHUNK))

  def record(self, slots, tokens, logprob, steps, eos) -> decoding.Slots:
    """Append a chunk [B, CHUNK] to every row's sample, up to its end; rows that ended become free."""
    self.decoded += int(steps) * len(self.sample)
    self.column += int(steps)
    for row in np.flatnonzero(self.sample >= 0):
      sample, have = self.sample[row], self.length[self.sample[row]]
      new = tokens[row, : min(int(steps), self.how.max_tokens - have)]
      end = np.flatnonzero(np.isin(new, eos))
      new = new[: end[0] + 1] if len(end) else new
      stopped, new = self._cut(sample, have, new)
      self.tokens[sample, have : have + len(new)] = new
      self.logprob[sample, have : have + len(new)] = logprob[row, : len(new)]
      self.length[sample] += len(new)
      self.ended[sample] = stopped or len(end) > 0
      if self.ended[sample] or self.length[sample] == self.how.max_tokens:
        self.sample[row] = -1
    return slots.replace(done=jax.device_put(self.sample < 0)) if self.how.stop else slots

  def _cut(self, sample: int, have: int, new: np.ndarray) -> tuple[bool, np.ndarray]:
    """(whether a stop string was completed, the new tokens up to the one that completed it)."""
    if not self.how.stop:
      return False, new
    so_far = self.tokens[sample, :have].tolist()
    for count in range(1, len(new) + 1):
      text = self.tokenizer.decode(so_far + new[:count].tolist())
      if any(stop in text for stop in self.how.stop):
        return True, new[:count]
    return False, new

  def rollouts(self) -> Rollouts:
    shape = (len(self.prompts), self.group)
    return Rollouts(
      list(self.prompts), self.tokens.reshape(*shape, -1), self.logprob.reshape(*shape, -1),
      self.length.reshape(shape), ~self.ended.reshape(shape), self.decoded,
    )  # fmt: skip
