"""Prompts -> samples: what a sample may depend on, how it ends, and what the device does for it."""

import dataclasses
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import decoding
from r1jax import mesh as mesh_lib
from r1jax import slots as slots_lib
from r1jax.decoding import SamplingConfig, Shapes, shapes_of
from r1jax.model import weights
from r1jax.model.transformer import forward, logits, spec, token_logprobs
from r1jax.rollout import Rollouts, generate

pytestmark = pytest.mark.usefixtures('quick_compile')
IDS = (5, 0, 9)
HOW = SamplingConfig(max_tokens=40)
WIDE = Shapes(prompts=3, group=4, width=16, rows=(12,), columns=(72,))


class Letters:
  """Token i is the letter i; four of them end a completion."""

  eos = (3, 7, 11, 19)

  def decode(self, tokens):
    return ''.join(chr(ord('0') + t) for t in tokens)


def _prompts(lengths=(5, 2, 11)):
  random = np.random.default_rng(0)
  return [random.integers(20, 61, n).astype(np.int32) for n in lengths]


def _generate(params, cfg, how=HOW, shapes=WIDE, prompts=None, ids=IDS, step=1, group=4):
  key = jax.random.fold_in(jax.random.key(0), step)
  prompts = _prompts() if prompts is None else prompts
  return generate(
    params, cfg, prompts, ids, key, how, group=group, tokenizer=Letters(), shapes=shapes
  )


def _assert_same(a: Rollouts, b: Rollouts, of=slice(None)):
  np.testing.assert_array_equal(a.length, b.length[of])
  np.testing.assert_array_equal(a.tokens, b.tokens[of])
  np.testing.assert_array_equal(a.truncated, b.truncated[of])
  np.testing.assert_allclose(a.logprob, b.logprob[of], rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def model(small, random_params):
  """Family -> (parameters, config)."""
  return lambda family='qwen2': (random_params(small(family)), small(family))


@pytest.fixture(scope='module')
def plain(model):
  """Family -> three prompts of four samples, each in a row of its own; drawn once."""
  drawn = {}

  def result(family='qwen2'):
    if family not in drawn:
      drawn[family] = _generate(*model(family))
    return drawn[family]

  return result


# What a sample depends on


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
def test_a_sample_does_not_depend_on_its_batch(model, plain, family):
  params, cfg = model(family)
  all_rows = plain(family)
  few = dataclasses.replace(WIDE, rows=(3,), columns=(48, 72))  # waits for a slot, moves about
  _assert_same(_generate(params, cfg, shapes=few), all_rows)
  for row in (0, 2):
    alone = Shapes(prompts=1, group=4, width=32, rows=(4,), columns=(88,))
    one = _generate(
      params, cfg, shapes=alone, prompts=_prompts()[row : row + 1], ids=IDS[row : row + 1]
    )
    _assert_same(one, all_rows, slice(row, row + 1))


def test_order_of_prompts_and_size_of_group_change_no_sample(model, plain):
  turned = _generate(*model(), prompts=_prompts()[::-1], ids=IDS[::-1])
  _assert_same(turned, plain(), slice(None, None, -1))
  fewer = _generate(*model(), group=2, shapes=dataclasses.replace(WIDE, group=2))
  np.testing.assert_array_equal(fewer.tokens, plain().tokens[:, :2])


def test_nothing_shares_noise(model, plain):
  params, cfg = model()
  same_prompt = _prompts()[:1] * 3
  drawn = [_generate(params, cfg, prompts=same_prompt, step=step).tokens for step in (1, 2)]
  rows = np.concatenate(drawn).reshape(-1, HOW.max_tokens)
  assert len(np.unique(rows, axis=0)) == len(rows)  # steps, prompt ids, samples
  assert len(np.unique(rows[:, 0])) > 4
  np.testing.assert_array_equal(drawn[0][0], plain().tokens[0])


# Log-probabilities


def _as_trained(params, cfg, rollouts, temperature):
  """What the trainer makes of the same tokens: one full row a sample -> logprob [P, G, Tc]."""
  width = max(map(len, rollouts.prompts)) + rollouts.tokens.shape[-1]
  rows, at = [], []
  for prompt, samples in zip(rollouts.prompts, rollouts.tokens, strict=True):
    rows += [
      np.resize(np.append(np.append(prompt, s), np.zeros(99, np.int32)), width) for s in samples
    ]
    at += [len(prompt) - 1 + np.arange(len(samples[0]))] * len(samples)
  tokens, at = jnp.asarray(np.stack(rows)), np.stack(at)

  @jax.jit
  def run(params, tokens):
    positions = jnp.broadcast_to(jnp.arange(width), tokens.shape)
    hidden = forward(params, cfg, tokens, positions).hidden
    return token_logprobs(params, cfg, hidden, jnp.roll(tokens, -1, 1), temperature)[0]

  out = np.take_along_axis(np.asarray(run(params, tokens)), at, axis=1)
  return out.reshape(rollouts.tokens.shape)


@pytest.mark.parametrize('temperature', [1.0, 0.7])
@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
def test_logprob_is_the_trainers(model, plain, family, temperature):
  params, cfg = model(family)
  how = dataclasses.replace(HOW, temperature=temperature)
  rollouts = plain(family) if temperature == 1 else _generate(params, cfg, how)
  live = np.arange(HOW.max_tokens) < rollouts.length[..., None]
  trained = _as_trained(params, cfg, rollouts, temperature)
  np.testing.assert_allclose(rollouts.logprob[live], trained[live], rtol=0, atol=1e-5)
  assert (rollouts.logprob[live] < 0).all()


def test_temperature_zero_takes_the_largest_logit_of_the_full_forward(model):
  params, cfg = model()
  how = dataclasses.replace(HOW, temperature=0.0)
  rollouts = _generate(
    params, cfg, how, group=1, shapes=dataclasses.replace(WIDE, group=1, rows=(3,))
  )

  @jax.jit
  def best(tokens):
    positions = jnp.broadcast_to(jnp.arange(64), tokens.shape)
    return jnp.argmax(logits(params, forward(params, cfg, tokens, positions).hidden), axis=-1)

  for p, prompt in enumerate(_prompts()):
    tokens, at = np.zeros((1, 64), np.int32), len(prompt)
    tokens[0, :at] = prompt
    for expected in rollouts.completion(p, 0):
      tokens[0, at] = best(tokens)[0, at - 1]
      assert tokens[0, at] == expected
      at += 1
  np.testing.assert_array_equal(rollouts.logprob, 0.0)


# How a sample ends


def _check_ends(rollouts, eos):
  for p, g in np.ndindex(rollouts.length.shape):
    tokens = rollouts.completion(p, g)
    ends = np.isin(tokens, eos)
    assert not ends[:-1].any() and ends[-1] != rollouts.truncated[p, g]
    assert len(tokens) == rollouts.tokens.shape[-1] or ends[-1]
    assert (rollouts.tokens[p, g, len(tokens) :] == 0).all()
    assert (rollouts.logprob[p, g, len(tokens) :] == 0).all()


def test_a_completion_ends_with_eos_or_is_truncated(plain):
  _check_ends(plain(), Letters.eos)
  ends = [plain().completion(p, g)[-1] for p, g in np.ndindex(3, 4)]
  assert len(set(ends) & set(Letters.eos)) > 1 and plain().truncated.any()


def test_eos_on_the_last_token_is_no_truncation(model, plain):
  longest = int(plain().length[~plain().truncated].max())
  cut = _generate(*model(), dataclasses.replace(HOW, max_tokens=longest))
  _check_ends(cut, Letters.eos)
  np.testing.assert_array_equal(cut.tokens, plain().tokens[..., :longest])
  np.testing.assert_array_equal(cut.truncated, plain().truncated)
  shorter = _generate(*model(), dataclasses.replace(HOW, max_tokens=longest - 1))
  assert shorter.truncated.sum() == (plain().length >= longest).sum()
  assert shorter.length.max() == longest - 1


def test_one_eos_id_may_be_a_number(model):
  class One(Letters):
    eos = 3

  rollouts = generate(
    *model(), _prompts(), IDS, jax.random.key(4), HOW, group=4, tokenizer=One(), shapes=WIDE
  )
  _check_ends(rollouts, [3])


def test_without_an_eos_every_completion_is_truncated(model):
  class Endless(Letters):
    eos = None

  how = dataclasses.replace(HOW, max_tokens=6, min_tokens=2)
  rollouts = generate(
    *model(), _prompts(), IDS, jax.random.key(4), how, group=4, tokenizer=Endless(), shapes=WIDE
  )
  assert (rollouts.length == 6).all() and rollouts.truncated.all()


def test_stop_strings_cut_behind_the_token_that_completes_them(model, plain):
  letters = Letters()
  texts = [letters.decode(plain().completion(p, g)) for p, g in np.ndindex(3, 4)]
  late = max(texts, key=len)[18:20]  # in the second chunk
  over = max(texts, key=len)[15:17]  # from the first into the second
  early = min(t for t in texts if len(t) > 6)[1:3]
  how = dataclasses.replace(HOW, stop=(late, early, over))
  few = dataclasses.replace(WIDE, rows=(6, 3), columns=(48, 72))
  for shapes in (WIDE, few):
    stopped = _generate(*model(), how, shapes)
    for text, (p, g) in zip(texts, np.ndindex(3, 4), strict=True):
      ends = [text.index(s) + 2 for s in how.stop if s in text]
      length = min(ends, default=len(text))
      assert letters.decode(stopped.completion(p, g)) == text[:length]
      assert stopped.truncated[p, g] == (not ends and plain().truncated[p, g])
    assert stopped.length.sum() < plain().length.sum()


def test_no_eos_before_min_tokens(model):
  params, cfg = model()
  how = dataclasses.replace(HOW, max_tokens=20, min_tokens=6)
  rollouts = _generate(params, cfg, how)
  _check_ends(rollouts, Letters.eos)
  assert rollouts.length.min() >= 7  # six tokens, and then EOS
  z = _first_logits(params, cfg)
  z[:, list(Letters.eos)] = -np.inf
  log_p = jax.nn.log_softmax(z)
  first = np.take_along_axis(np.asarray(log_p), rollouts.tokens[..., 0], axis=1)
  np.testing.assert_allclose(rollouts.logprob[..., 0], first, rtol=0, atol=1e-5)


def _first_logits(params, cfg):
  """Logits [P, V] behind each prompt."""
  out = []
  for prompt in _prompts():
    hidden = forward(params, cfg, jnp.asarray(prompt[None]), jnp.arange(len(prompt))[None]).hidden
    out.append(np.array(logits(params, hidden)[0, -1]))
  return np.stack(out)


def test_top_k_and_top_p_reach_the_device(model):
  params, cfg = model()
  how = dataclasses.replace(HOW, max_tokens=8, top_k=5, top_p=0.8, temperature=1.5)
  rollouts = _generate(params, cfg, how)
  z = jnp.asarray(_first_logits(params, cfg))
  log_p = decoding.sampling.distribution(z, temperature=1.5, top_k=5, top_p=0.8)
  first = np.take_along_axis(np.asarray(log_p), rollouts.tokens[..., 0], axis=1)
  np.testing.assert_allclose(rollouts.logprob[..., 0], first, rtol=0, atol=1e-5)
  assert np.isfinite(rollouts.logprob).all()


# What the device does


def test_rows_that_are_done_do_not_wait_for_the_longest(model, plain):
  longest = plain().length.sum() / (plain().length.max() * plain().length.size)
  for shapes in (
    dataclasses.replace(WIDE, rows=(12, 6, 3), columns=(48, 72)),  # compacted
    dataclasses.replace(WIDE, rows=(3,), columns=(48, 72)),  # refilled
  ):
    rollouts = _generate(*model(), shapes=shapes)
    _assert_same(rollouts, plain())
    assert rollouts.live_share > 1.1 * longest
    # A row is never held for more than a chunk behind its end, but for those of the last batch.
    idle = rollouts.decoded - rollouts.length.sum()
    assert idle < decoding.CHUNK * 12 + shapes.rows[-1] * HOW.max_tokens


def test_a_long_rollout_moves_through_few_columns(model):
  """Refilled rows start beside old ones: the cache is cut in front and never exceeds prompt and completion."""
  prompts, ids = _prompts((5, 2, 11, 16, 1, 8)), range(6)
  small = Shapes(prompts=6, group=4, width=16, rows=(3,), columns=(48, 72))
  wide = Shapes(prompts=6, group=4, width=16, rows=(24,), columns=(72,))
  a, b = (_generate(*model(), shapes=s, prompts=prompts, ids=ids) for s in (small, wide))
  _assert_same(a, b)
  assert a.length.sum() > 3 * 72


def test_each_prompt_is_prefilled_once(model, monkeypatch):
  calls, prefill = [], decoding.prefill

  def counted(*args):
    out = prefill(*args)
    calls.append(
      (args[1].shape, out.hidden.shape[0], {x.shape[-4] for x in jax.tree.leaves(out.entries)})
    )
    return out

  monkeypatch.setattr(decoding, 'prefill', counted)
  _generate(*model())
  assert calls == [((3, 16), 3, {3})]


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


def test_warming_up_can_be_stopped_between_two_programs(model, compiled):
  params, cfg = model()
  cfg = dataclasses.replace(cfg, max_positions=67)  # compiled by no other test
  shapes = Shapes(prompts=3, group=4, width=16, rows=(8, 4), columns=(48, 64, 72))

  def stop():
    raise InterruptedError

  with pytest.raises(InterruptedError):
    decoding.warm_up(params, cfg, shapes, HOW, Letters.eos, stop)
  assert sum('jit(decode)' in name for name in compiled) == 2  # of six, two at a time


@pytest.mark.parametrize('axes', [{}, {'fsdp': 2, 'tensor': 2}], ids=str)
def test_after_warm_up_nothing_compiles_and_nothing_crosses_unseen(model, mesh_of, compiled, axes):
  params, cfg = model()
  cfg = dataclasses.replace(cfg, max_positions=65 + len(axes))  # compiled by no other test
  how = dataclasses.replace(HOW, stop=('no',))
  shapes = Shapes(prompts=3, group=4, width=16, rows=(8, 4), columns=(48, 72))
  mesh = mesh_of(**axes) if axes else mesh_of(data=1)
  key, other = jax.device_put(jax.random.split(jax.random.key(0)))
  with jax.set_mesh(mesh):
    params = _placed(params, cfg, mesh)
    decoding.warm_up(params, cfg, shapes, how, Letters.eos)
    assert any('decode' in name for name in compiled)
    compiled.clear()
    ask = lambda key, prompts, ids: generate(
      params, cfg, prompts, ids, key, how, group=4, tokenizer=Letters(), shapes=shapes
    )
    with jax.transfer_guard('disallow'):
      first = ask(key, _prompts(), IDS)
      ask(other, _prompts((16, 3)), (7, 8))
  assert compiled == []
  assert first.length.max() == 40 and first.decoded < 12 * 40  # widened, compacted, refilled


def _placed(params, cfg, mesh):
  goal = weights.abstract(spec(cfg), cfg, mesh)
  return jax.tree.map(lambda x, g: jax.device_put(x, g.sharding), params, goal)


@pytest.mark.parametrize('family, axes', [
  ('qwen2', {'data': 2, 'fsdp': 2, 'tensor': 2}), ('deepseek_v3', {'fsdp': 2, 'expert': 2, 'tensor': 2}),
], ids=str)  # fmt: skip
def test_a_mesh_draws_the_samples_of_one_device(model, plain, mesh_of, family, axes):
  params, cfg = model(family)
  mesh, key = mesh_of(**axes), jax.random.fold_in(jax.random.key(0), 1)
  with jax.set_mesh(mesh), jax.transfer_guard('disallow'):
    placed = _placed(params, cfg, mesh)
    together = generate(
      placed, cfg, _prompts(), IDS, key, HOW, group=4, tokenizer=Letters(), shapes=WIDE
    )
  _assert_same(together, plain(family))


@pytest.mark.parametrize('family, tensor', [('qwen2', 2), ('deepseek_v3', 1)])
def test_a_mesh_that_refills_and_halves_draws_the_same(model, mesh_of, family, tensor):
  """24 prompts, of which a device holds at most 16 at a time, in 16 rows and later in 8, on four shards."""
  params, cfg = model(family)
  prompts, key = _prompts(tuple(range(1, 13)) * 2), jax.random.fold_in(jax.random.key(0), 1)
  shapes = Shapes(prompts=24, group=2, width=16, rows=(16, 8), columns=(48, 72))
  ask = lambda params: generate(
    params, cfg, prompts, range(24), key, HOW, group=2, tokenizer=Letters(), shapes=shapes
  )
  mesh = mesh_of(fsdp=4, tensor=tensor)
  alone, moves = ask(params), []
  rearrange = decoding.rearrange
  with jax.set_mesh(mesh), pytest.MonkeyPatch.context() as patch:
    patch.setattr(decoding, 'rearrange', lambda *a, **k: moves.append(a[1]) or rearrange(*a, **k))
    _assert_same(ask(_placed(params, cfg, mesh)), alone)
  assert alone.length.min() < 10 and any(kept is not None for kept in moves)


@pytest.mark.parametrize('devices', [2, 8])
def test_rows_stay_on_their_devices(model, devices):
  """However many devices there are, moving rows takes none of them more memory, and exchanges nothing."""
  params, cfg = model()
  mesh = mesh_lib.make_mesh(fsdp=devices, devices=jax.devices()[:devices])
  with jax.set_mesh(mesh):
    slots = slots_lib.empty_slots(cfg, 8 * devices, 128, 32)
    own = sum(x.nbytes for x in jax.tree.leaves(slots.cache.entries)) / devices
    for kept, columns in ((None, 192), (np.zeros(4 * devices, np.int32), 128)):
      args = decoding.on_device((kept, np.int32(32)))
      program = decoding.rearrange.lower(slots, *args, columns=columns).compile()
      assert not re.search('all-|collective|reduce-scatter', program.as_text())
      assert program.memory_analysis().temp_size_in_bytes <= own
    prompts = np.ones((64, 32), np.int32), np.ones(64, np.int32), np.ones(64, np.int32)
    prompts = decoding.on_device((*prompts, jax.random.key(0)))
    ready = decoding.prefill(_placed(params, cfg, mesh), *prompts, cfg, 2)
    window = sum(x.nbytes for x in jax.tree.leaves(ready.entries)) * decoding.PROMPTS_AT_ONCE / 64
    rows = decoding.on_device((np.full(8 * devices, -1, np.int32),) * 2)
    program = decoding.insert.lower(slots, ready, *rows).compile()
    assert program.memory_analysis().temp_size_in_bytes < 3 * window


def test_rows_that_do_not_fit_their_shard_are_not_halved(mesh_of):
  live = np.array([1, 0, 1, 0, 0, 0, 0, 1], bool)
  assert mesh_lib.rows_kept(live, 4).tolist() == [0, 2, 7, 1]
  assert mesh_lib.rows_kept(live, 2) is None
  with jax.set_mesh(mesh_of(fsdp=2)):
    assert mesh_lib.rows_kept(live, 4).tolist() == [0, 2, 7, 4]
    live[1] = True
    assert mesh_lib.rows_kept(live, 4) is None


# Shapes


def test_shapes_by_hand():
  how = SamplingConfig(max_tokens=256)
  shapes = shapes_of(prompts=16, group=8, longest=20, how=how)
  assert shapes == Shapes(16, 8, 32, rows=(128, 64, 32, 16, 8), columns=(64, 96, 144, 224, 304))
  assert shapes.columns_of(128) == shapes.columns
  assert shapes.columns_of(32) == (144, 224, 304)
  assert shapes_of(32, 8, 20, how).columns_of(8) == (304,)
  assert shapes_of(4, 8, 7, SamplingConfig(max_tokens=16)) == Shapes(4, 8, 16, (32, 16, 8), (48,))
  slots = dataclasses.replace(how, slots=60)
  assert shapes_of(16, 8, 20, slots, ways=8).rows == (64,)


def test_what_does_not_fit_is_refused(model):
  with pytest.raises(ValueError, match=r'16 tokens a prompt: these are \(3, 4, 17\)'):
    _generate(*model(), prompts=_prompts((5, 2, 17)))
  with pytest.raises(ValueError, match=r'for 3 prompts.*\(4, 4, 7\)'):
    _generate(*model(), prompts=_prompts((5, 2, 7, 1)), ids=range(4))
  with pytest.raises(ValueError, match='4 samples of each'):
    _generate(*model(), group=2)
