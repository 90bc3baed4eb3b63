"""Multi-token prediction (DeepSeek-V3, 2.2): from the hidden state of token i and token i + 1, token i + 2.

What the report leaves open is settled by code that runs the released weights: the embedding comes first in the
projection (the report prints it second), and `hidden` has gone through the main model's final norm, which is what
transformers (MtpModel), vLLM (deepseek_mtp) and SGLang (deepseek_nextn) hand to `hnorm`. They differ at the first
position only, where vLLM puts zeros in place of the embedding; transformers and SGLang do not, and neither do we.
"""

import jax
import jax.numpy as jnp

from r1jax.model.layers import rms_norm
from r1jax.model.moe import Routing
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, run_block, token_logprobs, view_of


def mtp_hidden(w: Transformer, cfg: ModelConfig, hidden: jax.Array, next_tokens: jax.Array, positions: jax.Array,
               segments: jax.Array | None = None) -> tuple[jax.Array, Routing | None]:  # fmt: skip
  """hidden [B, T, D] after the main model's final norm, next_tokens [B, T] -> (normed hidden [B, T, D] of the module,
  how its block has routed).
  """
  out, _, _, routing = _run(w, cfg, hidden, next_tokens, positions, segments)
  return out, routing


def mtp_entries(w: Transformer, cfg: ModelConfig, hidden, next_tokens, positions) -> tuple:
  """As in mtp_hidden -> what a cache holds of the module's block, each [B, K, T, H]."""
  return _run(w, cfg, hidden, next_tokens, positions)[1]


def mtp_step(
  w: Transformer, cfg: ModelConfig, hidden, next_tokens, positions, past: tuple, column: jax.Array
) -> tuple[jax.Array, tuple]:
  """As in mtp_hidden with the block's cache `past`, written from `column` on -> (normed hidden, cache)."""
  out, _, whole, _ = _run(w, cfg, hidden, next_tokens, positions, None, past, column)
  return out, whole


def _run(w, cfg, hidden, next_tokens, positions, segments=None, past=None, column=None):
  """-> normed hidden, the block's new and all cache entries, Routing or None."""
  m = w.mtp
  embedded = rms_norm(m.embed_norm, w.embed[next_tokens].astype(hidden.dtype), cfg.norm_eps)
  x = jnp.concatenate(
    [embedded, rms_norm(m.hidden_norm, hidden, cfg.norm_eps)], axis=-1
  ) @ m.project.astype(hidden.dtype)
  view = view_of(positions, cfg, column)
  x, new, whole, routing = run_block(m.block, x, segments, view, cfg, past=past)
  return rms_norm(m.final_norm, x, cfg.norm_eps), new, whole, routing


def mtp_logprobs(
  w: Transformer, cfg: ModelConfig, hidden, targets, positions, segments=None
) -> tuple[jax.Array, jax.Array, Routing | None]:
  """hidden [B, T, D], targets [B, T] = token t + 1 -> (log-probability of token t + 2 [B, T], valid bool [B, T], how
  the module's block has routed).

  valid: t + 2 exists and belongs to the same sequence as t.
  """
  after = jnp.roll(targets, -1, axis=1)
  follows = (jnp.roll(positions, -1, axis=1) == positions + 1) & (
    jnp.arange(targets.shape[1]) < targets.shape[1] - 1
  )
  out, routing = mtp_hidden(w, cfg, hidden, targets, positions, segments)
  logprob, _ = token_logprobs(w, cfg, out, after)
  return logprob, follows, routing
