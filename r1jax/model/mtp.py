"""Multi-token prediction (DeepSeek-V3, 2.2): from the hidden state of token i and token i + 1, token i + 2."""

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

  The embedding comes first in the projection, as in the released weights (the report prints it second).
  """
  m = w.mtp
  embedded = rms_norm(m.embed_norm, w.embed[next_tokens].astype(hidden.dtype), cfg.norm_eps)
  x = jnp.concatenate(
    [embedded, rms_norm(m.hidden_norm, hidden, cfg.norm_eps)], axis=-1
  ) @ m.project.astype(hidden.dtype)
  x, _, _, routing = run_block(m.block, x, segments, view_of(positions, cfg), cfg)
  return rms_norm(m.final_norm, x, cfg.norm_eps), routing


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
