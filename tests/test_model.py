"""One forward for training, prefill and decoding: identities of its forms, papers' numbers."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.model import sizes
from r1jax.model.attention import View, attend, softmax_scale
from r1jax.model.cache import Cache, entry_shapes, shift
from r1jax.model.layers import inverse_frequencies, rms_norm, rope_angles, rotate, yarn_mscale
from r1jax.model.mtp import mtp_hidden, mtp_logprobs
from r1jax.model.sizes import Rope
from r1jax.model.transformer import forward, logits, run_block, token_logprobs, view_of

TOLERANCE = {'rtol': 1e-5, 'atol': 1e-5}


@functools.partial(jax.jit, static_argnames=('cfg', 'keep_entries'))
def run(params, cfg, tokens, positions, cache=None, keep_entries=False):
  out = forward(params, cfg, tokens, positions, cache=cache, keep_entries=keep_entries)
  return out, logits(params, out.hidden)


def _tokens(cfg, batch=3, length=12, seed=1):  # one shape for most tests: they share their programs
  return jnp.asarray(np.random.default_rng(seed).integers(0, cfg.vocab, (batch, length)), jnp.int32)


def _positions(tokens):
  return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


# Decoding


def _prefilled(params, cfg, tokens, lengths, columns):
  """Prompts, the first `lengths` of tokens [B, T], aligned on the right: (cache, last logits)."""
  width = max(lengths)
  rows = [np.pad(t[:n], (width - n, 0)) for t, n in zip(np.asarray(tokens), lengths, strict=True)]
  positions = jnp.maximum(jnp.arange(width) - (width - jnp.asarray(lengths)[:, None]), 0)
  out, z = run(params, cfg, jnp.asarray(np.stack(rows)), positions, keep_entries=True)
  room = ((0, 0), (0, 0), (0, 0), (0, columns - width), (0, 0))
  entries = jax.tree.map(lambda x: jnp.pad(x, room, constant_values=7.0), out.entries)
  return Cache(entries, jnp.int32(width)), z[:, -1]


def test_decoding_with_a_cache_equals_the_full_forward(family_cfg, random_params):
  params, tokens, lengths = random_params(family_cfg), _tokens(family_cfg), (6, 3, 5)
  _, full = run(params, family_cfg, tokens, _positions(tokens))
  cache, z = _prefilled(params, family_cfg, tokens, lengths, columns=14)
  np.testing.assert_allclose(z, full[jnp.arange(3), jnp.asarray(lengths) - 1], **TOLERANCE)
  at = jnp.asarray(lengths)
  for _ in range(4):
    out, z = run(params, family_cfg, tokens[jnp.arange(3), at][:, None], at[:, None], cache)
    np.testing.assert_allclose(z[:, 0], full[jnp.arange(3), at], **TOLERANCE)
    cache, at = Cache(out.entries, cache.column + 1), at + 1


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
def test_several_tokens_at_once_and_moved_caches_decode_alike(small, random_params, family):
  cfg = small(family)
  params, tokens, lengths = random_params(cfg), _tokens(cfg), (6, 3, 5)
  _, full = run(params, cfg, tokens, _positions(tokens))
  cache, _ = _prefilled(params, cfg, tokens, lengths, columns=14)
  rows = jnp.array([2, 0])  # drop a row, and three columns in front that the others hold nothing in
  cache = shift(cache, jnp.int32(6), columns=11)
  cache = cache.replace(entries=jax.tree.map(lambda x: jnp.take(x, rows, axis=-4), cache.entries))
  at = jnp.asarray(lengths)[rows][:, None] + jnp.arange(3)
  _, z = run(params, cfg, tokens[rows[:, None], at], at, cache)
  np.testing.assert_allclose(z, full[rows[:, None], at], **TOLERANCE)
  assert cache.columns == 11


def test_a_shifted_cache_keeps_the_last_columns(small):
  cfg = small('qwen2')
  heads, width = entry_shapes(cfg)[0]
  entry = jnp.arange(8.0)[None, None, None, :, None] + jnp.zeros((2, 3, heads, 8, width))
  moved = shift(Cache(((entry,),), jnp.int32(7)), jnp.int32(4), columns=6)
  assert moved.column == 4
  np.testing.assert_array_equal(moved.entries[0][0][0, 0, 0, :4, 0], [3, 4, 5, 6])


@pytest.mark.parametrize('family', ['deepseek_v3', 'deepseek_v2'])
def test_absorbed_mla_equals_the_naive_form(small, random_params, family):
  cfg = small(family)
  w = jax.tree.map(lambda x: x[0], random_params(cfg).stacks[1].attention)
  x = jax.random.normal(jax.random.key(3), (2, 7, cfg.embed))
  positions = jnp.broadcast_to(jnp.arange(7), (2, 7))
  naive, (entry,), _ = jax.jit(attend, static_argnums=3)(w, x, view_of(positions, cfg), cfg)
  past = (jnp.zeros((2, 1, 7, cfg.mla.kv_latent + cfg.mla.rope)),)
  view = view_of(positions, cfg, column=jnp.int32(0))
  absorbed, (kept,), (whole,) = jax.jit(attend, static_argnums=3)(w, x, view, cfg, past)
  np.testing.assert_allclose(absorbed, naive, **TOLERANCE)
  np.testing.assert_allclose(kept, entry, **TOLERANCE)
  np.testing.assert_array_equal(whole, kept)


# Packing and causality


def test_packed_equals_unpacked(family_cfg, random_params):
  params, tokens, lengths = random_params(family_cfg), _tokens(family_cfg), (6, 2, 4)
  _, alone = run(params, family_cfg, tokens, _positions(tokens))
  row = jnp.concatenate([tokens[i, :n] for i, n in enumerate(lengths)])
  positions = jnp.concatenate([jnp.arange(n) for n in lengths])
  packed, positions = tokens.at[1].set(row), _positions(tokens).at[1].set(positions)
  _, together = run(params, family_cfg, packed, positions)
  parts = jnp.split(together[1], np.cumsum(lengths)[:-1])
  for i, n in enumerate(lengths):
    np.testing.assert_allclose(parts[i], alone[i, :n], **TOLERANCE)


def test_a_later_token_changes_no_earlier_logit(family_cfg, random_params):
  params, tokens = random_params(family_cfg), _tokens(family_cfg)
  _, before = run(params, family_cfg, tokens, _positions(tokens))
  changed = tokens.at[:, 5].set((tokens[:, 5] + 1) % family_cfg.vocab)
  _, after = run(params, family_cfg, changed, _positions(tokens))
  np.testing.assert_array_equal(after[:, :5], before[:, :5])
  assert (np.abs(after[:, 5:] - before[:, 5:]).max(axis=(1, 2)) > 1e-3).all()


def test_a_sequence_of_a_packed_row_does_not_see_its_neighbours(family_cfg, random_params):
  params, tokens = random_params(family_cfg), _tokens(family_cfg)
  positions = jnp.broadcast_to(jnp.asarray([*range(5), *range(7)]), tokens.shape)
  _, before = run(params, family_cfg, tokens, positions)
  changed = tokens.at[:, 1:4].add(1) % family_cfg.vocab
  _, after = run(params, family_cfg, changed, positions)
  np.testing.assert_array_equal(after[:, 5:], before[:, 5:])
  np.testing.assert_array_equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
@pytest.mark.usefixtures('quick_compile')
def test_remat_changes_no_gradient(small, random_params, family):
  cfg = small(family)
  params, tokens = random_params(cfg), _tokens(cfg)

  def loss(params, cfg):
    out = forward(params, cfg, tokens, _positions(tokens))
    return token_logprobs(params, cfg, out.hidden, tokens)[0].mean()

  grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
  plain = grad(params, cfg)
  for policy in ('block', 'dots'):
    again = grad(params, dataclasses.replace(cfg, remat=policy))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), plain, again)


def test_dots_makes_only_the_scores_again(small, random_params):
  """The layers are scanned: each product is in the program once. 'block' makes q, k, v, scores, context, gate, up
  and what o gives again; 'dots' the scores.
  """
  cfg = small('qwen2')
  params, tokens = random_params(cfg), _tokens(cfg)

  def products(policy: str) -> int:
    how = dataclasses.replace(cfg, remat=policy)
    loss = lambda params: forward(params, how, tokens, _positions(tokens)).hidden.sum()
    return str(jax.make_jaxpr(jax.grad(loss))(params)).count('dot_general[')

  assert products('dots') == products('none') + 1
  assert products('block') == products('none') + 8


def test_bf16_computation_keeps_logprobs_in_fp32(small, random_params):
  cfg = dataclasses.replace(small('deepseek_v3'), param_dtype='bfloat16', compute_dtype='bfloat16')
  params, tokens = random_params(cfg), _tokens(cfg)
  out, z = run(params, cfg, tokens, _positions(tokens), keep_entries=True)
  assert out.hidden.dtype == jnp.bfloat16 and z.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(out.entries)} == {jnp.dtype('bfloat16')}
  logprob, entropy = token_logprobs(params, cfg, out.hidden, tokens)
  assert logprob.dtype == entropy.dtype == jnp.float32
  assert params.stacks[1].ffn.bias.dtype == jnp.float32


# Log-probabilities


@pytest.mark.parametrize('temperature', [1.0, 0.7])
@pytest.mark.parametrize('chunk', [4096, 5, 1])
def test_token_logprobs_equal_log_softmax_in_values_and_gradients(
  small, random_params, chunk, temperature
):
  cfg = dataclasses.replace(small('qwen2'), logits_chunk=chunk)
  params, targets = random_params(cfg), _tokens(cfg, 2, 7)
  hidden = jax.random.normal(jax.random.key(4), (2, 7, cfg.embed))
  weight = jax.random.normal(jax.random.key(5), (2, 2, 7))

  def ours(params, hidden):
    out = token_logprobs(params, cfg, hidden, targets, temperature)
    return (jnp.stack(out) * weight).sum(), out

  def plain(params, hidden):
    log_p = jax.nn.log_softmax(logits(params, hidden) / temperature)
    logprob = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    out = logprob, -(jnp.exp(log_p) * log_p).sum(-1)
    return (jnp.stack(out) * weight).sum(), out

  a, b = (jax.jit(jax.grad(f, argnums=(0, 1), has_aux=True))(params, hidden) for f in (ours, plain))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), a, b)


def test_entropy_of_known_distributions(small, random_params):
  cfg = small('qwen3')
  params = random_params(cfg)
  uniform = params.replace(head=jnp.zeros_like(params.head))
  hidden = jnp.ones((1, 2, cfg.embed))
  logprob, entropy = token_logprobs(uniform, cfg, hidden, jnp.zeros((1, 2), jnp.int32))
  np.testing.assert_allclose(entropy, math.log(61), rtol=1e-6)
  np.testing.assert_allclose(logprob, -math.log(61), rtol=1e-6)
  certain = params.replace(head=jnp.zeros_like(params.head).at[:, 3].set(10.0))
  _, entropy = token_logprobs(certain, cfg, hidden, jnp.full((1, 2), 3))
  np.testing.assert_allclose(entropy, 0.0, atol=1e-5)


# Multi-token prediction


def test_mtp_predicts_the_token_after_next(small, random_params):
  cfg = small('deepseek_v3')
  params, tokens = random_params(cfg), _tokens(cfg)
  targets = _tokens(cfg, seed=2).at[:, :-1].set(tokens[:, 1:])
  packed = [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]
  positions = _positions(tokens).at[1].set(jnp.asarray(packed))
  hidden = run(params, cfg, tokens, positions)[0].hidden
  logprob, valid, _ = jax.jit(mtp_logprobs, static_argnums=1)(
    params, cfg, hidden, targets, positions
  )
  np.testing.assert_array_equal(valid[0], [1] * 11 + [0])
  np.testing.assert_array_equal(valid[1], [1, 1, 1, 0] + [1] * 7 + [0])
  # The same by the equation: norm and concatenate, embedding first, project, one block, norm, head.
  m = params.mtp
  both = [
    rms_norm(m.embed_norm, params.embed[targets], 1e-6),
    rms_norm(m.hidden_norm, hidden, 1e-6),
  ]
  x = jnp.concatenate(both, axis=-1) @ m.project
  x, _, _, _ = jax.jit(run_block, static_argnums=4)(m.block, x, None, view_of(positions, cfg), cfg)
  log_p = jax.nn.log_softmax(rms_norm(m.final_norm, x, 1e-6) @ params.head)
  after_next = jnp.pad(targets[:, 1:], ((0, 0), (0, 1)))
  expected = jnp.take_along_axis(log_p, after_next[..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(logprob[valid], expected[valid], **TOLERANCE)


def test_mtp_is_causal(small, random_params):
  cfg = small('deepseek_v3')
  params, targets = random_params(cfg), _tokens(cfg, 2, 8)
  hidden = jax.random.normal(jax.random.key(0), (2, 8, cfg.embed))
  run_mtp = jax.jit(lambda t: mtp_hidden(params, cfg, hidden, t, _positions(t))[0])
  before, after = run_mtp(targets), run_mtp(targets.at[:, 5].add(1) % cfg.vocab)
  assert before.shape == (2, 8, cfg.embed)
  np.testing.assert_array_equal(before[:, :5], after[:, :5])
  assert np.abs(before[:, 5] - after[:, 5]).max() > 1e-3


# Rotary embeddings


def test_yarn_frequencies_of_deepseek_v3():
  freq = inverse_frequencies(sizes.get('deepseek_v3').rope, 64)
  printed = {
    0: 1.0, 5: 0.237137, 10: 0.0562341, 11: 0.0390069, 13: 0.0183781, 15: 0.00833451, 16: 0.0055,
    18: 0.00224937, 20: 0.000790569, 22: 0.000177828, 23: 3.3338e-05, 31: 3.3338e-06,
  }  # fmt: skip
  # The correction range is 10 .. 23: its ramp at 16 is 6 / 13, printed to four digits.
  np.testing.assert_allclose(freq[list(printed)], list(printed.values()), rtol=1e-4)


@pytest.mark.parametrize('name, mscale, scale', [
  ('deepseek_v3', 1.3688879, 0.13523378), ('deepseek-v2-lite', 1.2608038, 0.11472139),
])  # fmt: skip
def test_yarn_softmax_scale(name, mscale, scale):
  cfg = sizes.get(name)
  np.testing.assert_allclose(yarn_mscale(40.0, cfg.rope.mscale_all_dim), mscale, rtol=1e-7)
  np.testing.assert_allclose(softmax_scale(cfg), scale, rtol=1e-7)
  cos, sin = rope_angles(cfg.rope, cfg.mla.rope, jnp.array([[0]]))
  np.testing.assert_array_equal(cos, 1.0)  # both mscales are equal: nothing is left on the angles
  np.testing.assert_array_equal(sin, 0.0)


def test_yarn_without_mscales_scales_the_angles():
  """Qwen's long-context setting: factor 4 over 32768, 0.1 ln 4 + 1 on cosine and sine."""
  rope = Rope(theta=1e6, kind='yarn', factor=4.0, original_positions=32768)
  cos, _ = rope_angles(rope, 128, jnp.array([[0]]))
  np.testing.assert_allclose(cos, 0.1 * math.log(4) + 1, rtol=1e-6)


def test_llama3_frequencies():
  freq = inverse_frequencies(sizes.get('llama-3.1-8b').rope, 128)
  base = 5e5 ** (-np.arange(0, 128, 2) / 128)
  for f, plain in zip(freq, base, strict=True):
    wavelength = 2 * math.pi / plain
    if wavelength < 8192 / 4:
      expected = plain
    elif wavelength > 8192 / 1:
      expected = plain / 8
    else:
      s = (8192 / wavelength - 1) / (4 - 1)
      expected = (1 - s) * plain / 8 + s * plain
    np.testing.assert_allclose(f, expected, rtol=1e-12)
  assert freq[0] == 1.0 and freq[-1] == base[-1] / 8


def test_an_unknown_rope_is_refused():
  with pytest.raises(ValueError, match='longrope'):
    inverse_frequencies(Rope(kind='longrope'), 64)


@pytest.mark.parametrize('interleaved', [True, False])
def test_rotation_is_multiplication_by_a_complex_phase(interleaved):
  rope, random = Rope(theta=100.0, interleaved=interleaved), np.random.default_rng(0)
  q, k = random.normal(size=(2, 1, 3, 5, 8))
  positions = jnp.asarray([[0, 3, 1, 7, 50]])
  angles = rope_angles(rope, 8, positions)
  turned_q, turned_k = (np.asarray(rotate(jnp.asarray(x), angles, interleaved)) for x in (q, k))

  def phase(x):
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., :4] + 1j * x[..., 4:]
    return pairs * np.exp(
      1j * np.asarray(positions)[:, None, :, None] * 100.0 ** (-np.arange(4) / 4)
    )

  expected = np.einsum('bnth,bnsh->bnts', phase(q), phase(k).conj()).real
  np.testing.assert_allclose(
    turned_q @ np.swapaxes(turned_k, -1, -2), expected, rtol=1e-4, atol=1e-4
  )


def test_scores_depend_on_distance_only():
  rope, x = sizes.get('deepseek_v3').rope, jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 64))
  score = lambda p, q: (
    rotate(x[0], rope_angles(rope, 64, jnp.array([[p]])), True)
    * rotate(x[1], rope_angles(rope, 64, jnp.array([[q]])), True)
  ).sum()
  np.testing.assert_allclose(score(7, 3), score(1007, 1003), rtol=1e-3)
  assert abs(score(7, 3) - score(9, 3)) > 1e-2


def test_rms_norm_by_hand():
  x = jnp.array([[3.0, 4.0]])  # mean square 12.5
  np.testing.assert_allclose(
    rms_norm(jnp.array([1.0, 2.0]), x, 0.0), x / 12.5**0.5 * jnp.array([1.0, 2.0]), rtol=1e-6
  )
  assert rms_norm(jnp.ones(2), x.astype(jnp.bfloat16), 1e-6).dtype == jnp.bfloat16


def test_a_view_covers_the_own_sequence(small):
  view = view_of(jnp.asarray([[0, 1, 2, 0, 1]]), small('qwen2'))
  assert isinstance(view, View)
  np.testing.assert_array_equal(view.lo, [[0, 0, 0, 3, 3]])
  np.testing.assert_array_equal(view.hi, [[0, 1, 2, 3, 4]])
