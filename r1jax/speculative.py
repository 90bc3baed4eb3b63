"""Speculative decoding: the MTP module drafts a token, the main model judges it (DeepSeek-V3, 5.4.3).

A draft from q is kept with probability min(1, p / q), and another token is drawn from (p - q)+ where it is not, so
that what comes out is distributed as p, the main model's (Leviathan et al. 2023, appendix A.1). Every step feeds two
tokens, the last one drawn and the draft, and rows move on by one column or by two: each has a column of its own, and
what was fed in vain is out of every query's sight until it is written over.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from r1jax import sampling
from r1jax.model import cache as cache_lib
from r1jax.model.cache import Cache
from r1jax.model.mtp import mtp_step
from r1jax.model.transformer import forward, logits

# Noise of the draft and of the verdict at a position, apart from that of the token itself.
_DRAFT, _VERDICT = 2**31 - 1, 2**31 - 2


@struct.dataclass
class Draft:
  """What a row drafts from: hidden [B, 2, D] after the final norm of the tokens that the last step has fed, the token
  [B, 2] behind each, newest [B]: 1 if both were kept, else 0, and the log-probability [B] of tokens[newest].

  That token has been drawn and will be fed next; it counts as drawn once it is fed.
  """

  hidden: jax.Array
  tokens: jax.Array
  newest: jax.Array
  logprob: jax.Array


def empty(hidden: np.ndarray) -> Draft:
  """hidden [B, D] -> a Draft of B rows that hold nothing, on the host."""
  rows, width = hidden.shape
  return Draft(
    np.zeros((rows, 2, width), hidden.dtype),
    np.zeros((rows, 2), np.int32),
    np.zeros(rows, np.int32),
    np.zeros(rows, np.float32),
  )


def verdict(log_p: jax.Array, log_q: jax.Array, drafted: jax.Array, u: jax.Array):
  """log_p, log_q [B, V], drafted [B] from q, u [B] uniform in [0, 1) -> (kept bool [B], log of (p - q)+ [B, V]).

  The second does not sum to one; it is what a token is drawn from where the draft is not kept.
  """
  kept = u < jnp.exp(_at(log_p, drafted) - _at(log_q, drafted))
  rest = jnp.maximum(jnp.exp(log_p) - jnp.exp(log_q), 0.0)
  # Rounding can refuse a draft from a q that is p, and then nothing is left over.
  rest = jnp.where(jnp.any(rest > 0, axis=-1, keepdims=True), rest, jnp.exp(log_p))
  return kept, jnp.log(rest)


def decode(w, slots, live, cfg, how, eos, chunk: int):
  """As decoding.decode, by steps of one or two tokens -> (slots, tokens, logprob [B, chunk], steps taken, tokens [B]
  that were drawn, accepted [B] of the drafts).
  """

  def more(carry):
    _, live, *_, step = carry
    return (step < chunk // 2) & jnp.any(live)

  def one(carry):
    slots, live, tokens, logprob, drawn, accepted, step = carry
    slots, pair, log_p, kept, ended = _step(w, slots, live, cfg, how, eos)
    tokens, logprob = _put(tokens, pair, drawn), _put(logprob, log_p, drawn)
    moved = jnp.where(live, 1 + kept, 0)
    accepted += jnp.where(live, kept, 0)
    return slots, live & ~ended, tokens, logprob, drawn + moved, accepted, step + 1

  blank = jnp.zeros((live.shape[0], chunk))
  none = jnp.zeros(live.shape, jnp.int32)
  start = (
    _first(w, slots, how, eos),
    live,
    blank.astype(jnp.int32),
    blank,
    none,
    none,
    jnp.int32(0),
  )
  slots, _, tokens, logprob, drawn, accepted, steps = cache_lib.while_loop(more, one, start)
  return slots, tokens, logprob, steps, drawn, accepted


def _first(w, slots, how, eos):
  """Rows that begin have a prompt's hidden state and no token behind it: draw that."""
  log_p = _target(logits(w, slots.hidden), slots.count, how, eos)
  token, logprob = sampling.draw(log_p, jax.random.wrap_key_data(slots.keys), slots.count)
  begins, old = slots.count == 0, slots.draft
  return slots.replace(
    draft=Draft(
      hidden=jnp.where(begins[:, None, None], slots.hidden[:, None], old.hidden),
      tokens=jnp.where(begins[:, None], token[:, None], old.tokens),
      newest=jnp.where(begins, 0, old.newest),
      logprob=jnp.where(begins, logprob, old.logprob),
    )
  )


def _step(w, slots, live, cfg, how, eos):
  """-> (slots, tokens that were fed and their log-probabilities [B, 2], kept [B]: 1 if the second stays, ended [B])."""
  keys, index = jax.random.wrap_key_data(slots.keys), slots.count + 1
  fed, last = _at(slots.draft.tokens, slots.draft.newest), slots.draft.logprob
  drafted, log_q, mtp_cache = _propose(w, slots, cfg, how, eos)
  pair = jnp.stack([fed, drafted], axis=1)
  cache = Cache(slots.cache.entries[:-1], slots.cache.column)
  out = forward(w, cfg, pair, slots.position[:, None] + jnp.arange(2), cache=cache)
  z = logits(w, out.hidden)
  log_p = _target(z[:, 0], index, how, eos)
  log_after = _target(z[:, 1], index + 1, how, eos)
  kept, rest = verdict(log_p, log_q, drafted, _uniform(_apart(keys, _VERDICT), index))
  token, _ = sampling.draw(rest, keys, index)
  after, logprob_after = sampling.draw(log_after, keys, index + 1)

  last_one = _is_end(fed, eos) | (index >= how.max_tokens)
  kept = (kept & ~last_one).astype(jnp.int32)
  token = jnp.where(kept, drafted, token)
  logprob = _at(log_p, token)
  draft = Draft(
    hidden=out.hidden,
    tokens=jnp.stack([token, after], axis=1),
    newest=kept,
    logprob=jnp.where(kept, logprob_after, logprob),
  )
  ended = last_one | (kept & (_is_end(drafted, eos) | (index + 1 >= how.max_tokens))).astype(bool)
  moved = jnp.where(live, 1 + kept, 0)
  slots = slots.replace(
    cache=Cache((*out.entries, mtp_cache), slots.cache.column + moved),
    position=slots.position + moved,
    count=slots.count + moved,
    draft=draft,
  )
  return slots, pair, jnp.stack([last, logprob], axis=1), kept, ended


def _propose(w, slots, cfg, how, eos):
  """-> (a draft [B] of the token behind the one that is fed next, log q [B, V], the MTP block's cache)."""
  back = 1 + slots.draft.newest
  positions = (slots.position - back)[:, None] + jnp.arange(2)
  out, cache = mtp_step(
    w, cfg, slots.draft.hidden, slots.draft.tokens, positions,
    slots.cache.entries[-1], slots.cache.column - back,
  )  # fmt: skip
  newest = jnp.take_along_axis(out, slots.draft.newest[:, None, None], axis=1)[:, 0]
  log_q = _target(logits(w, newest), slots.count + 1, how, eos)
  keys = _apart(jax.random.wrap_key_data(slots.keys), _DRAFT)
  return sampling.draw(log_q, keys, slots.count + 1)[0], log_q, cache


def _target(z, count, how, eos):
  """sampling.target; at temperature 0 all of it is on the likeliest token."""
  log_p = sampling.target(z, count, how, eos)
  if how.temperature:
    return log_p
  return jnp.where(jnp.arange(z.shape[-1]) == sampling.greedy(log_p)[0][:, None], 0.0, -jnp.inf)


def _is_end(token, eos):
  return jnp.any(token[:, None] == jnp.asarray(eos, jnp.int32), axis=-1)


def _at(x, index):
  """x [B, V], index [B] -> x[b, index[b]]."""
  return jnp.take_along_axis(x, index[:, None], axis=-1)[:, 0]


def _put(rows, pair, column):
  """rows [B, C] with pair [B, 2] from column [B] on."""
  return jax.vmap(lambda row, new, at: jax.lax.dynamic_update_slice(row, new, (at,)))(
    rows, pair, column
  )


def _apart(keys, tag: int):
  return jax.vmap(lambda key: jax.random.fold_in(key, tag))(keys)


def _uniform(keys, positions):
  return jax.vmap(lambda key, at: jax.random.uniform(jax.random.fold_in(key, at)))(keys, positions)
