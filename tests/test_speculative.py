"""Drafts and verdicts: the samples that come out are those of plain decoding, and every draft is accounted for."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import decoding, speculative
from r1jax.decoding import SamplingConfig, Shapes
from r1jax.model import weights
from r1jax.model.mtp import mtp_hidden
from r1jax.model.transformer import forward, logits, spec, token_logprobs
from r1jax.rollout import generate

pytestmark = pytest.mark.usefixtures('quick_compile')
RIGHT = speculative.verdict
HOW = SamplingConfig(max_tokens=40, speculative=True)
WIDE = Shapes(prompts=3, group=4, width=16, rows=(12,), columns=(72,))


class Tokenizer:
  """Two tokens end a completion."""

  eos = (3, 7)

  def decode(self, tokens):
    return ''.join(chr(ord('0') + t) for t in tokens)


class NoEnd(Tokenizer):
  eos = None


def _prompts(vocab, lengths=(5, 1, 11)):
  random = np.random.default_rng(0)
  return [random.integers(vocab // 2, vocab, n).astype(np.int32) for n in lengths]


def _generate(params, cfg, how=HOW, shapes=WIDE, tokenizer=None, prompts=None):
  prompts = _prompts(cfg.vocab) if prompts is None else prompts
  return generate(
    params, cfg, prompts, range(len(prompts)), jax.random.key(1), how, group=shapes.group,
    tokenizer=tokenizer or Tokenizer(), shapes=shapes,
  )  # fmt: skip


def _assert_same(a, b):
  np.testing.assert_array_equal(a.length, b.length)
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_array_equal(a.truncated, b.truncated)
  np.testing.assert_allclose(a.logprob, b.logprob, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def model(small, random_params):
  """Size of the vocabulary -> (parameters, config): drafts of a small one are right more often."""

  def make(vocab=13):
    cfg = dataclasses.replace(small('deepseek_v3'), vocab=vocab)
    return random_params(
      cfg, seed=8
    ), cfg  # of the first dozen, one with many greedy drafts that are right

  return make


# The verdict


def test_verdict_by_hand():
  """p 0.5 0.3 0.2, q 0.2 0.5 0.3: tokens 1 and 2 are kept with 0.6 and 2/3, and 0.3 of token 0 is left over."""
  log_p, log_q = (jnp.log(jnp.array([x] * 5)) for x in ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3]))
  drafted, u = jnp.array([0, 1, 1, 2, 2]), jnp.array([0.999, 0.59, 0.61, 0.66, 0.67])
  kept, rest = speculative.verdict(log_p, log_q, drafted, u)
  np.testing.assert_array_equal(kept, [True, True, False, True, False])
  np.testing.assert_allclose(jnp.exp(rest), [[0.3, 0.0, 0.0]] * 5, atol=1e-7)


def test_a_draft_from_the_right_distribution_is_always_kept():
  log_p = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (1000, 7)))
  drafted = jax.random.categorical(jax.random.key(1), log_p)
  u = jnp.full(1000, np.nextafter(np.float32(1), np.float32(0)))
  kept, rest = speculative.verdict(log_p, log_p, drafted, u)
  assert kept.all() and jnp.isfinite(rest).all()


def _keep_everything(log_p, log_q, drafted, u):
  del log_q, u
  return jnp.ones(drafted.shape, bool), log_p


def _draw_again_from_p(log_p, log_q, drafted, u):
  return RIGHT(log_p, log_q, drafted, u)[0], log_p


def _chi_square(counts, expected):
  """-> (statistic, bound that a right sampler passes but once in 10^9 times, by Wilson and Hilferty)."""
  rare = expected < 5
  counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts.astype(float), expected))
  counts, expected = counts[expected > 0], expected[expected > 0]
  free = len(expected) - 1
  bound = free * (1 - 2 / (9 * free) + 6 * np.sqrt(2 / (9 * free))) ** 3
  return ((counts - expected) ** 2 / expected).sum(), bound


@pytest.mark.parametrize(
  'verdict, right, temperature, top_p',
  [
    (RIGHT, True, 1.0, 1.0),
    (RIGHT, True, 0.6, 0.95),  # as `sample` does
    (RIGHT, True, 0.7, 0.7),
    (RIGHT, True, 1.3, 0.9),
    (_keep_everything, False, 0.6, 0.95),
    (_draw_again_from_p, False, 0.6, 0.95),
  ],
)
def test_distribution_of_three_tokens(model, monkeypatch, verdict, right, temperature, top_p):
  """All 125 openings of a completion over five tokens, against the products of the full forward's probabilities.

  What the nucleus leaves out is never drawn.
  """
  params, cfg = model(vocab=5)
  # Another configuration for every rule: compiled programs are kept by it.
  cfg = dataclasses.replace(cfg, max_positions=64 + len(verdict.__name__))
  monkeypatch.setattr(speculative, 'verdict', verdict)
  (prompt,) = _prompts(5, (4,))
  how = dataclasses.replace(HOW, max_tokens=4, temperature=temperature, top_p=top_p)
  shapes = Shapes(prompts=1, group=4096, width=16, rows=(4096,), columns=(36,))
  drawn = _generate(params, cfg, how, shapes, NoEnd(), [prompt])
  assert drawn.accepted / drawn.drafted > 0.2
  first = drawn.tokens[0, :, :3] @ [25, 5, 1]
  expected = len(first) * _openings(params, cfg, prompt, temperature, top_p)
  counts = np.bincount(first, minlength=125)
  statistic, bound = _chi_square(counts, expected)
  assert (expected == 0).any() == (top_p < 1)
  impossible = counts[expected == 0].sum()
  if right:
    assert impossible == 0 and statistic < bound
  else:
    assert impossible > 0 or statistic > 2 * bound


def _openings(params, cfg, prompt, temperature, top_p):
  """-> probabilities [125] of the first three tokens behind a prompt."""
  after = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing='ij'), -1).reshape(125, 3)
  rows = np.concatenate([np.tile(prompt, (125, 1)), after], axis=1)
  positions = jnp.broadcast_to(jnp.arange(rows.shape[1] - 1), rows[:, 1:].shape)
  hidden = forward(params, cfg, jnp.asarray(rows[:, :-1]), positions).hidden
  z = np.asarray(logits(params, hidden)[:, -3:], np.float64) / temperature
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  # The nucleus, by sorting: tokens are in it as long as those before them do not reach top_p.
  order = np.argsort(-p, axis=-1)
  sorted_p = np.take_along_axis(p, order, -1)
  sorted_p[np.cumsum(sorted_p, -1) - sorted_p >= top_p] = 0
  np.put_along_axis(p, order, sorted_p / sorted_p.sum(-1, keepdims=True), -1)
  return np.take_along_axis(p, after[..., None], -1)[..., 0].prod(1)


# Whole rollouts


@pytest.mark.parametrize(
  'shapes',
  [
    WIDE,
    dataclasses.replace(WIDE, rows=(3,), columns=(48, 72)),
    dataclasses.replace(WIDE, rows=(12, 6, 3), columns=(48, 72)),
  ],
  ids=['wide', 'refilled', 'compacted'],
)
@pytest.mark.parametrize('minimum', [0, 9])
def test_greedy_tokens_are_those_of_plain_decoding(model, shapes, minimum):
  params, cfg = model()
  how = dataclasses.replace(HOW, temperature=0.0, min_tokens=minimum)
  plain = _generate(params, cfg, dataclasses.replace(how, speculative=False))
  ours = _generate(params, cfg, how, shapes)
  _assert_same(ours, plain)
  assert ours.accepted > 0 and plain.drafted == 0


def test_greedy_drafts_are_those_of_the_full_forward(model):
  """Along the tokens that came out, the module's best guess without a cache says which drafts were kept."""
  params, cfg = model()
  how = dataclasses.replace(HOW, temperature=0.0)
  shapes = dataclasses.replace(WIDE, group=1, rows=(3,))
  ours = _generate(params, cfg, how, shapes, NoEnd())

  @jax.jit
  def guesses(tokens):
    positions = jnp.arange(len(tokens) - 1)[None]
    hidden = forward(params, cfg, tokens[None, :-1], positions).hidden
    out, _ = mtp_hidden(params, cfg, hidden, tokens[None, 1:], positions)
    return jnp.argmax(logits(params, out)[0], axis=-1)

  drafted = accepted = 0
  for prompt, (tokens,) in zip(ours.prompts, ours.tokens, strict=True):
    guess = np.asarray(guesses(jnp.asarray(np.append(prompt, tokens))))[len(prompt) - 1 :]
    at = 0
    while at < len(tokens):
      kept = at + 1 < len(tokens) and guess[at] == tokens[at + 1]
      drafted, accepted, at = drafted + 1, accepted + kept, at + 1 + kept
  assert (ours.drafted, ours.accepted) == (drafted, accepted)
  assert 5 < accepted < drafted - 5


def test_samples_do_not_depend_on_their_batch(model):
  params, cfg = model()
  wide = _generate(params, cfg)
  few = dataclasses.replace(WIDE, rows=(3,), columns=(48, 72))
  _assert_same(_generate(params, cfg, shapes=few), wide)
  long = wide.tokens[wide.length > 5]
  assert len(long) > 4 and len(np.unique(long, axis=0)) == len(long)


@pytest.mark.parametrize('temperature', [1.0, 0.7])
def test_logprob_is_the_main_models(model, temperature):
  params, cfg = model()
  drawn = _generate(params, cfg, dataclasses.replace(HOW, temperature=temperature))
  rows, at = np.zeros((12, 52), np.int32), []
  for row, (p, g) in zip(rows, np.ndindex(3, 4), strict=True):
    start = len(drawn.prompts[p])
    row[: start + 40] = np.append(drawn.prompts[p], drawn.tokens[p, g])
    at.append(start - 1 + np.arange(40))
  positions = jnp.broadcast_to(jnp.arange(51), (12, 51))
  hidden = forward(params, cfg, jnp.asarray(rows[:, :-1]), positions).hidden
  logprob, _ = token_logprobs(params, cfg, hidden, jnp.asarray(rows[:, 1:]), temperature)
  logprob = np.take_along_axis(np.asarray(logprob), np.stack(at), axis=1).reshape(3, 4, 40)
  live = np.arange(40) < drawn.length[..., None]
  np.testing.assert_allclose(drawn.logprob[live], logprob[live], rtol=0, atol=1e-5)


def test_ends_and_the_count_of_drafts(model):
  """A step feeds one token or, with a draft that was kept, two; nothing is drawn behind an end."""
  drawn = _generate(*model())
  for p, g in np.ndindex(3, 4):
    ends = np.isin(drawn.completion(p, g), Tokenizer.eos)
    assert not ends[:-1].any() and ends[-1] != drawn.truncated[p, g]
    assert ends[-1] or drawn.length[p, g] == 40
  assert (drawn.length == 1).sum() < 12 and not drawn.truncated.all()
  assert drawn.drafted + drawn.accepted == drawn.length.sum()
  assert 0 < drawn.accepted < drawn.drafted
  assert drawn.decoded >= 2 * drawn.drafted


def test_top_k_of_one_is_greedy(model):
  params, cfg = model()
  one = _generate(params, cfg, dataclasses.replace(HOW, top_k=1))
  greedy = _generate(params, cfg, dataclasses.replace(HOW, temperature=0.0))
  _assert_same(one, greedy)


def test_a_model_without_the_module_is_refused(small, random_params):
  cfg = small('qwen2')
  with pytest.raises(ValueError, match='speculative=True needs an MTP module and small has none'):
    _generate(random_params(cfg), cfg)


def test_on_a_mesh_after_warm_up_nothing_compiles(model, mesh_of, compiled):
  params, cfg = model(vocab=12)
  shapes = Shapes(prompts=3, group=4, width=16, rows=(8, 4), columns=(48, 72))
  alone = _generate(params, cfg, shapes=shapes)
  mesh = mesh_of(fsdp=2, expert=2, tensor=2)
  key = jax.random.key(1)
  goal = weights.abstract(spec(cfg), cfg, mesh)
  with jax.set_mesh(mesh):
    placed = jax.tree.map(lambda x, g: jax.device_put(x, g.sharding), params, goal)
    decoding.warm_up(placed, cfg, shapes, HOW, Tokenizer.eos)
    compiled.clear()
    with jax.transfer_guard('disallow'):
      drawn = generate(
        placed, cfg, alone.prompts, range(3), key, HOW, group=4, tokenizer=Tokenizer(),
        shapes=shapes,
      )  # fmt: skip
  assert compiled == []
  _assert_same(drawn, alone)


@pytest.fixture
def compiled():
  """Names of the programs compiled from here on."""
  names, handler = [], logging.Handler()
  handler.emit = lambda record: (
    names.append(record.getMessage()) if 'Compiling' in record.msg else None
  )
  logger, before = logging.getLogger('jax'), jax.config.jax_log_compiles
  logger.addHandler(handler)
  jax.config.update('jax_log_compiles', True)
  yield names
  jax.config.update('jax_log_compiles', before)
  logger.removeHandler(handler)
