"""Logits -> the distribution that is sampled from, a token and its log-probability. No sort anywhere."""

import jax
import jax.numpy as jnp

BLOCK = 512  # tokens among which one is drawn at once
_BISECTIONS = 40


def distribution(
  logits: jax.Array,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  blocked: jax.Array | None = None,
) -> jax.Array:
  """logits [B, V] -> log-probabilities [B, V] in fp32; -inf outside of the support.

  Order: blocked [B, V] tokens are taken out, then temperature, then the top_k largest (0: all), then the
  smallest set of largest tokens whose probability reaches top_p (1: all). Ties at an edge are all kept.
  """
  z = logits.astype(jnp.float32) / temperature
  if blocked is not None:
    z = jnp.where(blocked, -jnp.inf, z)
  if 0 < top_k < z.shape[-1]:
    z = jnp.where(z >= jax.lax.top_k(z, top_k)[0][..., -1:], z, -jnp.inf)
  if top_p < 1.0:
    p = jax.nn.softmax(z, axis=-1)
    z = jnp.where(p >= _nucleus_edge(p, top_p), z, -jnp.inf)
  return jax.nn.log_softmax(z, axis=-1)


def target(logits: jax.Array, count: jax.Array, how, eos: tuple[int, ...]) -> jax.Array:
  """logits [B, V] of the token behind `count` [B] others -> log-probabilities [B, V] that `how` draws it from.

  No end before min_tokens. Temperature 0 is temperature 1 here: `greedy` takes its likeliest token.
  """
  blocked = None
  if how.min_tokens:
    ends = jnp.zeros(logits.shape[-1], bool).at[jnp.asarray(eos, jnp.int32)].set(True)
    blocked = ends & (count < how.min_tokens)[:, None]
  if how.temperature == 0:
    return distribution(logits, blocked=blocked)
  return distribution(
    logits, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p, blocked=blocked
  )


def _nucleus_edge(p: jax.Array, top_p: float) -> jax.Array:
  """p [B, V] -> the largest edge [B, 1] with sum(p[p >= edge]) >= top_p, by bisection."""

  def halve(_, bounds):
    low, high = bounds
    middle = 0.5 * (low + high)
    enough = jnp.sum(jnp.where(p >= middle, p, 0.0), axis=-1, keepdims=True) >= top_p
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  top = p.max(-1, keepdims=True)
  enough = jnp.sum(jnp.where(p >= top, p, 0.0), axis=-1, keepdims=True) >= top_p
  low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(top), top))
  return jnp.where(enough, top, low)


def row_keys(step_key: jax.Array, prompt_ids: jax.Array, sample_ids: jax.Array) -> jax.Array:
  """Key of a step, ids [B] -> one key a row [B]: a sample does not depend on the batch it is drawn in."""

  def one(prompt, sample):
    return jax.random.fold_in(jax.random.fold_in(step_key, prompt), sample)

  return jax.vmap(one)(prompt_ids, sample_ids)


def draw(log_p: jax.Array, keys: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """log_p [B, V], keys [B], positions [B] -> token [B], its log-probability [B], by inverting the CDF.

  Uniform numbers are from the row's key folded with the position. In a large vocabulary a block of tokens is
  drawn and then one of them: one sum over all would round many tokens away (fp32 has 24 bits, a uniform number 23).
  """
  blocks = -(-log_p.shape[-1] // BLOCK)
  keys = jax.vmap(jax.random.fold_in)(keys, positions)
  if blocks == 1:
    token = _invert(jnp.exp(log_p), jax.vmap(jax.random.uniform)(keys))
  else:
    p = jnp.pad(jnp.exp(log_p), ((0, 0), (0, blocks * BLOCK - log_p.shape[-1])))
    p = p.reshape(-1, blocks, BLOCK)
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
    block = _invert(p.sum(-1), u[:, 0])
    inside = jnp.take_along_axis(p, block[:, None, None], axis=1)[:, 0]
    token = block * BLOCK + _invert(inside, u[:, 1])
  return token, jnp.take_along_axis(log_p, token[:, None], axis=-1)[:, 0]


def _invert(p: jax.Array, u: jax.Array) -> jax.Array:
  """p [B, N] not normalised, u [B] in [0, 1) -> index [B], with probability p / sum(p)."""
  # Rounding makes a cumulative sum rise a little where p is zero: that is left out.
  cumulative = jnp.where(p > 0, jnp.cumsum(p, axis=-1), 0.0)
  total = cumulative.max(-1, keepdims=True)
  return jnp.argmax(cumulative > u[:, None] * total, axis=-1).astype(jnp.int32)


def greedy(log_p: jax.Array) -> tuple[jax.Array, jax.Array]:
  """log_p [B, V] -> the likeliest token [B] and 0, the log-probability of a certain choice."""
  token = jnp.argmax(log_p, axis=-1).astype(jnp.int32)
  return token, jnp.zeros(token.shape, jnp.float32)
