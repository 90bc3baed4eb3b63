"""The device side of a rollout: prefill, start, decode and rearrange a batch of rows. Four jitted programs."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import hosts, sampling, speculative
from r1jax import mesh as mesh_lib
from r1jax.mesh import shard
from r1jax.model import cache as cache_lib
from r1jax.model.cache import Cache
from r1jax.model.mtp import mtp_entries
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, forward, logits, unstack
from r1jax.slots import Prompts, Slots, constrain, empty_slots

CHUNK = 16  # tokens decoded before the host looks
PROMPT_BLOCK = 16  # prompt widths are rounded up to this
FEWEST_ROWS = 8  # a shard's rows are not halved below this
PROMPTS_AT_ONCE = 16  # prompts that every device of a mesh holds while rows begin with them


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How completions are drawn. Lengths in tokens. temperature 0 is greedy; top_k 0 and top_p 1 keep everything."""

  max_tokens: int
  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int = 0
  min_tokens: int = 0
  stop: tuple[str, ...] = ()
  slots: int = 0  # rows decoded at once; 0: all of them
  speculative: bool = (
    False  # two tokens a step where the MTP module's draft is kept; the same distribution
  )

  def __post_init__(self):
    valid = {
      'max_tokens': (self.max_tokens >= 1, 'at least 1'),
      'temperature': (0 <= self.temperature < math.inf, '0 (greedy), or above, such as 1.0'),
      'top_p': (0 < self.top_p <= 1, 'above 0 and at most 1'),
      'top_k': (self.top_k >= 0, '0 (off), or a number of tokens'),
      'min_tokens': (0 <= self.min_tokens <= self.max_tokens, f'0 to {self.max_tokens}'),
      'stop': (all(self.stop), 'texts that are not empty'),
      'slots': (self.slots >= 0, '0 (all), or a number of rows'),
    }
    for field, (possible, what) in valid.items():
      if not possible:
        raise ValueError(f'{field}={getattr(self, field)!r} is not possible; valid: {what}')


@dataclasses.dataclass(frozen=True)
class Shapes:
  """The shapes a rollout may use: prompts, samples of each, the prompts' width, rows in falling and cache columns
  in rising order. Where rows have been halved before, the smallest caches are left out: each pair is a program.
  """

  prompts: int
  group: int
  width: int
  rows: tuple[int, ...]
  columns: tuple[int, ...]

  def columns_of(self, rows: int) -> tuple[int, ...]:
    """Columns that a cache of so many rows may have."""
    return self.columns[min(self.rows.index(rows), len(self.columns) - 1) :]


def shapes_of(prompts: int, group: int, longest: int, how: SamplingConfig, ways: int = 1) -> Shapes:
  """Prompts, samples of each, longest prompt in tokens, shards that rows are split into -> Shapes.

  Rows halve down to 8 a shard; columns grow by half each time, up to prompt and completion.
  """
  width = -(-longest // PROMPT_BLOCK) * PROMPT_BLOCK
  rows = [-(-min(prompts * group, how.slots or prompts * group) // ways) * ways]
  while rows[-1] // 2 >= FEWEST_ROWS * ways and rows[-1] % (2 * ways) == 0:
    rows.append(rows[-1] // 2)
  columns, last = [width + 2 * CHUNK], width + how.max_tokens + CHUNK
  while columns[-1] < last:
    columns.append(min(-(-columns[-1] * 3 // (2 * CHUNK)) * CHUNK, last))
  return Shapes(prompts, group, width, tuple(rows), tuple(columns))


@functools.partial(jax.jit, static_argnames=('cfg', 'group', 'drafts'))
def prefill(
  w: Transformer, tokens, lengths, ids, step_key, cfg: ModelConfig, group: int, drafts: bool = False
) -> Prompts:
  """tokens [P, Tp] aligned on the right, lengths [P], ids [P] -> Prompts.

  drafts: with the MTP block's entries. Their last column wants a token that is not drawn yet: it is written again.
  """
  width = tokens.shape[1]
  positions = jnp.maximum(jnp.arange(width) - (width - lengths[:, None]), 0)
  out = forward(unstack(w), cfg, tokens, positions, keep_entries=True)
  sample = jnp.arange(len(ids) * group)
  keys = sampling.row_keys(step_key, ids[sample // group], sample % group)
  entries = out.entries
  if drafts:
    entries += (mtp_entries(w, cfg, out.hidden, jnp.roll(tokens, -1, axis=1), positions),)
  return Prompts(entries, out.hidden[:, -1], lengths, jax.random.key_data(keys))


@functools.partial(jax.jit, static_argnames='columns')
def rearrange(slots: Slots, rows: jax.Array | None, used: jax.Array, columns: int) -> Slots:
  """Keep rows [B'] (None: all), as from mesh.rows_kept, with their last `used` columns in a cache of `columns`."""
  cache = cache_lib.shift(slots.cache, used, columns)
  if rows is not None:
    keep = lambda tree, axis: jax.tree.map(lambda x: mesh_lib.keep_rows(x, rows, axis), tree)
    column = keep(cache.column, 0) if cache.column.ndim else cache.column
    slots, cache = keep(slots.replace(cache=None), 0), Cache(keep(cache.entries, -4), column)
  return constrain(slots.replace(cache=cache))


@functools.partial(jax.jit, donate_argnums=0)
def insert(slots: Slots, prompts: Prompts, prompt: jax.Array, sample: jax.Array) -> Slots:
  """Start new samples: row b takes prompt[b] and sample[b]'s key (-1: keeps what it has), ending at the column."""
  new, width, column = prompt >= 0, prompts.entries[0][0].shape[-2], slots.cache.column
  own = column.ndim > 0  # a row that has a column of its own begins at the left
  entries = _place(slots.cache.entries, prompts.entries, prompt, 0 if own else column - width)
  return constrain(
    slots.replace(
      cache=Cache(entries, jnp.where(new, width, column) if own else column),
      hidden=jnp.where(new[:, None], prompts.hidden[prompt], slots.hidden),
      keys=jnp.where(new[:, None], prompts.keys[sample], slots.keys),
      position=jnp.where(new, prompts.lengths[prompt], slots.position),
      count=jnp.where(new, 0, slots.count),
    )
  )


def _place(entries, prompts, prompt: jax.Array, start):
  """Entries of the cache, of P prompts, prompt [B] (-1: none) -> the cache with these from column `start` on.

  On a mesh a device is handed few prompts at a time, of those that are asked for: all of them would not fit.
  """
  total, width = prompts[0][0].shape[-4], prompts[0][0].shape[-2]
  at_once = total if mesh_lib.current() is None else min(total, PROMPTS_AT_ONCE)

  def place(first, entries):
    index = prompt - first
    here = (index >= 0) & (index < at_once) & (prompt >= 0)

    def leaf(old, entry):
      there = jax.lax.dynamic_slice_in_dim(old, start, width, axis=-2)
      entry = mesh_lib.rows_of_all(entry, first, at_once).astype(old.dtype)
      entry = jnp.take(entry, index, axis=-4, mode='clip')
      entry = jnp.where(here[:, None, None, None], entry, there)
      return jax.lax.dynamic_update_slice_in_dim(old, entry, start, axis=-2)

    return jax.tree.map(leaf, entries, prompts)

  if at_once == total:
    return place(0, entries)
  first = jnp.min(jnp.where(prompt >= 0, prompt, total))
  last = jnp.max(prompt)
  turn = lambda i, entries: place(jnp.minimum(first + i * at_once, total - at_once), entries)
  return jax.lax.fori_loop(0, jnp.maximum(last - first + at_once, 0) // at_once, turn, entries)


@functools.partial(jax.jit, static_argnames=('cfg', 'how', 'eos'), donate_argnums=1)
def decode(
  w: Transformer, slots: Slots, live: jax.Array, cfg: ModelConfig, how: SamplingConfig, eos: tuple[int, ...]
):  # fmt: skip
  """Draw up to CHUNK tokens in each live [B] row -> (slots, tokens, logprob [B, CHUNK], steps taken).

  Speculative rows draw different numbers of them: these follow, and how many were drafts that were kept, both [B].
  """
  w = unstack(w)  # once, and not in every step
  run = _decode if slots.draft is None else speculative.decode
  slots, *drawn = run(w, slots, shard(live, 'batch'), cfg, how, eos, CHUNK)
  return constrain(slots), *(shard(x, *[None] * x.ndim) for x in drawn)


def _decode(w, slots, live, cfg, how, eos, chunk: int):
  """One token a step in every row, all of them in the same column."""

  def more(carry):
    _, live, _, _, step = carry
    return (step < chunk) & jnp.any(live)

  def one(carry):
    slots, live, tokens, logprob, step = carry
    token, log_p = _draw(w, slots, how, eos)
    tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, step))
    logprob = jax.lax.dynamic_update_slice(logprob, log_p[:, None], (0, step))
    out = forward(w, cfg, token[:, None], slots.position[:, None], cache=slots.cache)
    moved = live.astype(jnp.int32)
    slots = slots.replace(
      cache=Cache(out.entries, slots.cache.column + 1),
      hidden=out.hidden[:, 0],
      position=slots.position + moved,
      count=slots.count + moved,
    )
    ended = jnp.any(token[:, None] == jnp.asarray(eos, jnp.int32), axis=-1) | (
      slots.count >= how.max_tokens
    )
    return slots, live & ~ended, tokens, logprob, step + 1

  blank = jnp.zeros((live.shape[0], chunk))
  start = (slots, live, blank.astype(jnp.int32), blank, jnp.int32(0))
  slots, _, tokens, logprob, steps = cache_lib.while_loop(more, one, start)
  return slots, tokens, logprob, steps


def _draw(w: Transformer, slots: Slots, how: SamplingConfig, eos: tuple[int, ...]):
  """The next token of every row and its log-probability [B]."""
  log_p = sampling.target(logits(w, slots.hidden), slots.count, how, eos)
  if how.temperature == 0:
    return sampling.greedy(log_p)
  return sampling.draw(log_p, jax.random.wrap_key_data(slots.keys), slots.count)


def on_device(tree):
  """Host arrays -> device arrays, whole on every device of the current mesh."""
  mesh = mesh_lib.get_mesh()
  return hosts.put(tree, mesh and mesh_lib.replicated(mesh))


def warm_up(
  w: Transformer, cfg: ModelConfig, shapes: Shapes, how: SamplingConfig, eos: tuple[int, ...],
  poll: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
  """Compile every program that a rollout of these shapes can need, two at a time, without decoding a token.

  Threads compile and run nothing: two programs on the devices of a mesh that exchange values would wait for each
  other for ever. poll: called between them; what it raises ends this.
  """
  blank = np.zeros((shapes.prompts, shapes.width), np.int32)
  ones = np.ones(shapes.prompts, np.int32)
  inputs = on_device((blank, ones, ones, jax.random.key(0)))
  prompts = prefill(w, *inputs, cfg, shapes.group, how.speculative)
  mesh = mesh_lib.get_mesh()

  def compile_one(lower):
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():  # a thread starts without one
      lower().compile()

  programs = [
    program
    for rows in shapes.rows
    for columns in shapes.columns_of(rows)
    for program in _programs(w, prompts, cfg, shapes, how, eos, rows, columns)
  ]
  at_once = 2 if jax.process_count() == 1 else 1  # hosts compile in one order
  with ThreadPoolExecutor(at_once) as pool:
    try:
      for compiled in [pool.submit(compile_one, program) for program in programs]:
        compiled.result()
        poll()
    finally:
      pool.shutdown(cancel_futures=True)


def _programs(w, prompts, cfg, shapes, how, eos, rows, columns):
  """How to lower the programs whose input is slots of `rows` rows and `columns` columns."""
  empty = lambda: empty_slots(cfg, rows, columns, shapes.width, how.speculative)
  live = on_device(np.zeros(rows, bool))
  yield lambda: decode.lower(w, empty(), live, cfg, how, eos)
  if rows == shapes.rows[0]:
    nobody = on_device((np.full(rows, -1, np.int32),) * 2)
    yield lambda: insert.lower(empty(), prompts, *nobody)
  for to_rows, to_columns in next_shapes(shapes, rows, columns):
    kept = None if to_rows == rows else np.zeros(to_rows, np.int32)
    where = on_device((kept, np.int32(shapes.width)))
    yield lambda where=where, to=to_columns: rearrange.lower(empty(), *where, columns=to)


def next_shapes(shapes: Shapes, rows: int, columns: int) -> list[tuple[int, int]]:
  """(rows, columns) that slots may be rearranged to in one move: the same, half the rows, the next columns."""
  moves = [(rows, columns)]
  moves += [(r, max(columns, shapes.columns_of(r)[0])) for r in shapes.rows if r < rows][:1]
  moves += [(rows, c) for c in shapes.columns if c > columns][:1]
  return moves
