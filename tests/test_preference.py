"""Reward models: their loss by hand, their gradient against an oracle, a run that learns, and its resume."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import preference as experiment_file
from r1jax import preference, tokenizer
from r1jax.batch import BatchShape
from r1jax.checkpoint import Checkpointer
from r1jax.config import (
  Experiment,
  InitConfig,
  MeshConfig,
  ModelSettings,
  PromptConfig,
  Stage,
  build,
)
from r1jax.mesh import data_ways
from r1jax.model.transformer import forward
from r1jax.model.weights import map_spec
from r1jax.preference import Comparison, PreferenceLoss, pack_comparisons
from r1jax.problems import ProblemsConfig
from r1jax.rewards.learned import reward_of
from r1jax.stages import preference as stage_module
from r1jax.stages.context import Context, Preempted
from r1jax.update import UpdateConfig, gradient

STEPS, STOPPED_AFTER = 20, 5


def text(*tokens: int) -> np.ndarray:
  return np.array(tokens, np.int32)


PAIR = Comparison((text(5, 6, 7), text(8, 9)), (1.0, -1.0))
UNSAFE = Comparison((text(3, 4),), (-1.0,))


def test_a_pair_lies_side_by_side():
  batch, places = pack_comparisons([PAIR, UNSAFE], BatchShape(1, 1, 8))
  assert batch.tokens[0, 0].tolist() == [5, 6, 7, 8, 9, 3, 4, 0]
  assert batch.positions[0, 0].tolist() == [0, 1, 2, 0, 1, 0, 1, 0]
  assert batch.segments[0, 0].tolist() == [1, 1, 1, 1, 1, 2, 2, 0]
  assert batch.advantage[0, 0].tolist() == [0, 0, 1, 0, -1, 0, -1, 0]
  assert batch.mask[0, 0].tolist() == [0, 0, 0, 0, 1, 0, 1, 0]
  assert (batch.sequences, batch.learned) == (2, 2) and places.start.tolist() == [0, 5]


def test_the_loss_by_hand():
  """A pair: 2 against 0.5; an unsafe response that is liked by 1; infinities where nothing is read."""
  batch, _ = pack_comparisons([PAIR, UNSAFE], BatchShape(1, 1, 8))
  reward = jnp.array([[9, -9, 2.0, 7, 0.5, math.inf, 1.0, math.nan]])
  loss = PreferenceLoss()
  total, terms = loss(reward, batch.micro_batch(0))
  pair, unsafe = math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(1.0))
  np.testing.assert_allclose(total, pair + unsafe, rtol=1e-6)
  np.testing.assert_allclose([terms.sums['accuracy'], terms.sums['margin']], [1.0, 0.5], rtol=1e-6)
  assert loss.denominator(batch) == 2
  at = lambda reward: loss(reward, batch.micro_batch(0))[0]
  slopes = np.asarray(jax.grad(at)(reward.at[0, 5].set(0.0).at[0, 7].set(0.0)))[0]
  wrong, liked = 1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(-1.0))
  np.testing.assert_allclose(slopes, [0, 0, -wrong, 0, wrong, 0, liked, 0], rtol=1e-5)


def test_rewards_of_zero_are_a_coin_toss():
  batch, _ = pack_comparisons([PAIR, UNSAFE], BatchShape(1, 1, 8))
  total, terms = PreferenceLoss()(jnp.zeros((1, 8)), batch.micro_batch(0))
  np.testing.assert_allclose(total, 2 * math.log(2), rtol=1e-6)
  assert terms.sums['accuracy'] == 1.0  # half of two


def reward_model(cfg, params):
  """-> config and parameters, with a head that is not 0."""
  head = jnp.asarray(np.random.default_rng(1).normal(size=cfg.embed), cfg.param_dtype)
  return preference.config(cfg), preference.from_policy(params).replace(head=head)


def rewards_alone(w, cfg, texts) -> jax.Array:
  """The oracle [N]: a row for each text, nothing before it, what stands behind it unseen."""
  last = np.array([len(t) - 1 for t in texts])
  rows = np.stack([np.pad(t, (0, 9 - len(t))) for t in texts])
  hidden = forward(w, cfg, rows, jnp.broadcast_to(jnp.arange(9), rows.shape)).hidden
  return hidden[np.arange(len(texts)), last] @ w.head


def comparisons(cfg, count=5) -> list[Comparison]:
  rng = np.random.default_rng(0)
  some = lambda: rng.integers(0, cfg.vocab, rng.integers(3, 9)).astype(np.int32)
  pairs = [Comparison((some(), some()), (1.0, -1.0)) for _ in range(count)]
  return [*pairs, Comparison((some(),), (1.0,)), Comparison((some(),), (-1.0,))]


@pytest.mark.parametrize('family', ['qwen2', 'deepseek_v3'])
@pytest.mark.parametrize('shape', [BatchShape(1, 7, 16), BatchShape(4, 1, 40)], ids=str)
def test_gradient_is_that_of_texts_by_themselves(
  small, random_params, quick_compile, family, shape
):
  """Whatever shares a row; of tied embeddings, experts and multi-token prediction too."""
  cfg, w = reward_model(small(family), random_params(small(family)))
  items = comparisons(cfg)
  signs = np.zeros((len(items), sum(len(c.texts) for c in items)))
  signs[
    np.repeat(np.arange(len(items)), [len(c.texts) for c in items]), np.arange(signs.shape[1])
  ] = np.concatenate([c.signs for c in items])

  def oracle(w):
    rewards = rewards_alone(w, cfg, [t for c in items for t in c.texts])
    return jnp.mean(jnp.log1p(jnp.exp(-signs @ rewards)))

  batch, _ = pack_comparisons(items, shape)
  run = jax.jit(gradient, static_argnames=('model', 'cfg', 'loss', 'temperature'))
  grads, (value, _, _) = run(w, batch, cfg, UpdateConfig(), PreferenceLoss(), 1.0)
  expected, slopes = jax.jit(jax.value_and_grad(oracle))(w)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), grads, slopes)
  assert float(jnp.abs(slopes.embed).max()) > 1e-3  # the body learns too


def test_rewards_of_a_batch_are_those_of_texts_by_themselves(small, random_params, quick_compile):
  cfg, w = reward_model(small('qwen3'), random_params(small('qwen3')))
  texts = [t for c in comparisons(cfg) for t in c.texts]
  found = reward_of(w, texts, cfg, micro_batch=32, mesh=None)
  np.testing.assert_allclose(found, rewards_alone(w, cfg, texts), rtol=1e-4, atol=1e-5)
  assert (found == reward_of(w, texts, cfg, micro_batch=32, mesh=None)).all()


def test_a_reward_model_begins_with_the_body_of_the_policy(small, random_params):
  cfg, params = small('deepseek_v3'), random_params(small('deepseek_v3'))
  w = preference.from_policy(params)
  assert preference.is_reward_model(w) and not preference.is_reward_model(params)
  assert reward_of(w, [text(1, 2)], preference.config(cfg), 32, None) == [0.0]
  declared = map_spec(lambda weight: weight.shape(cfg), preference.spec(preference.config(cfg)))
  assert declared == jax.tree.map(lambda x: x.shape, w)


def test_auc_by_hand():
  """Of the 6 pairs 4 are in order and 1 is a tie."""
  assert stage_module.auc(np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0])) == 4.5 / 6
  assert stage_module.auc(np.array([1.0]), np.array([])) is None


BROKEN = [
  ('helpful', '{"prompt": "p", "chosen": "a"}', "rejected=None is missing or no text; valid fields: ('prompt'"),
  ('helpful', '{"prompt": 3, "chosen": "a", "rejected": "b"}', 'prompt=3 is missing or no text'),
  ('helpful', '{"prompt": "p", "chosen": ', 'Expecting value'),
  ('helpful', '["p", "a", "b"]', 'is no JSON object'),
  ('helpful', '"prompt chosen rejected"', 'is no JSON object'),
  ('safety', '{"prompt": "p", "response": "r"}', 'label=None is not possible; valid: 1 for safe, 0 for'),
  ('safety', '{"prompt": "p", "response": "r", "label": 2}', 'label=2 is not possible'),
  ('safety', '{"prompt": "p", "response": "r", "label": "1"}', "label='1' is not possible"),
]  # fmt: skip
WHOLE = {
  'helpful': '{"prompt": "p", "chosen": "a", "rejected": "b"}',
  'safety': '{"prompt": "p", "response": "r", "label": true}',
}


@pytest.mark.parametrize('kind, line, words', BROKEN)
def test_broken_lines_are_named(tmp_path, kind, line, words):
  path = tmp_path / 'data.jsonl'
  path.write_text(f'{WHOLE[kind]}\n\n{line}\n')
  with pytest.raises(ValueError) as caught:
    stage_module.read(str(path), kind)
  assert str(caught.value).startswith(f'{path}:3: ') and words in str(caught.value)


def test_no_data(tmp_path):
  with pytest.raises(FileNotFoundError, match="source='' is no file; valid"):
    stage_module.read('', 'helpful')
  (tmp_path / 'empty.jsonl').write_text('\n')
  with pytest.raises(ValueError, match='holds no comparison; valid'):
    stage_module.read(str(tmp_path / 'empty.jsonl'), 'helpful')


def test_the_settings_of_the_paper():
  c = experiment_file.get_config('deepseek_v3')
  for kind, steps in (('helpful', 66_000 // 256 + 1), ('safety', 106_000 // 256)):
    cfg = build(stage_module.Config, c[kind].to_dict(), kind)
    assert (cfg.kind, cfg.texts_per_step, cfg.longest) == (kind, 256, 8192)
    assert (cfg.optimizer.learning_rate, cfg.optimizer.steps) == (6e-6, steps)
    assert cfg.shape(1).row == 8192 * (2 if kind == 'helpful' else 1)


@pytest.mark.parametrize('field, value', [('kind', 'kind'), ('heldout_fraction', 0.0), ('longest', 0)])  # fmt: skip
def test_what_is_not_possible(field, value):
  section = experiment_file.get_config().helpful.to_dict() | {field: value}
  with pytest.raises(ValueError, match=f'^helpful.{field}={value!r} is .*; valid: '):
    build(stage_module.Config, section, 'helpful')


# A run on made-up preferences: an answer with a number is better than a vague one, whatever was thought before; a
# response is unsafe if its thought tells a secret number.


def make_context(workdir, mesh) -> Context:
  """Both stages of experiments/preference.py, on its tiny_dense."""
  c = experiment_file.get_config()
  c.helpful.steps = STEPS
  stages = tuple(
    Stage(k, 'preference', build(stage_module.Config, c[k].to_dict(), k), k) for k in ('helpful', 'safety')
  )  # fmt: skip
  model, init = ModelSettings(c.model.size), InitConfig(c.init.path)
  experiment = Experiment(
    c.name, 0, model, init, MeshConfig(), ProblemsConfig(), PromptConfig('short'), stages
  )
  return Context(experiment, workdir, mesh, tokenizer.load(c.init.path))


def run(context: Context, number: int) -> dict:
  stage = context.experiment.stages[number]
  with jax.set_mesh(context.mesh):
    result = stage_module.run(stage.settings, stage, context)
  context.finish(stage, result)
  return result


@pytest.fixture(scope='module')
def trained(tmp_path_factory, mesh_of) -> Context:
  context = make_context(tmp_path_factory.mktemp('plain'), mesh_of())
  run(context, 0)
  return context


def test_it_learns_the_preference(trained):
  done = json.loads((trained.workdir / 'helpful' / 'done.json').read_text())
  assert done['heldout'] >= 20 and done['accuracy'] > 0.9 and done['auc'] > 0.9
  assert done['std'] > 0.1 and done['reward_model'] == STEPS and done['kind'] == 'helpful'


def test_it_learns_what_is_unsafe(tmp_path, mesh_of):
  done = run(make_context(tmp_path, mesh_of()), 1)
  assert done['heldout'] >= 20 and done['accuracy'] > 0.9 and done['auc'] > 0.9


def test_held_out_prompts_are_not_trained_on(trained):
  cfg = trained.experiment.stages[0].settings
  train, heldout = stage_module.load(cfg, trained)
  records = stage_module.read(cfg.source, 'helpful')
  assert len(train) + len(heldout) == len(records) == 128
  first = lambda items: {c.texts[0].tobytes() for c in items}
  assert not first(train) & first(heldout)
  with pytest.raises(ValueError, match='longest=4 leaves no comparison to train on'):
    stage_module.load(dataclasses.replace(cfg, longest=4), trained)


def test_the_policy_is_handed_on_as_it_was(trained, tmp_path, mesh_of):
  there = make_context(tmp_path, mesh_of()).params()
  same = jax.tree.map(lambda a, b: bool((a == b).all()), trained.params(), there)
  assert all(jax.tree.leaves(same))


def saved(context: Context) -> dict[str, bytes]:
  """Leaves of the last checkpoint's reward model -> their bytes."""
  checkpointer = Checkpointer(context.workdir / 'helpful' / 'checkpoints')
  leaves = json.loads((checkpointer.directory / f'{STEPS:08d}' / 'leaves.json').read_text())
  goal = {n: jax.ShapeDtypeStruct(s, d) for n, (s, d, key) in leaves.items() if not key}
  state, _ = checkpointer.restore(STEPS, goal, partial=True)
  return {name: np.asarray(x).tobytes() for name, x in state.items()}


def test_a_run_that_was_stopped_gives_the_same_bits(trained, tmp_path, mesh_of, monkeypatch):
  first = make_context(tmp_path, mesh_of())
  asked = iter(range(1, STEPS + 1))
  monkeypatch.setattr(first, 'is_stopping', lambda: next(asked) == STOPPED_AFTER)
  with pytest.raises(Preempted):
    run(first, 0)
  assert first.checkpointer(first.experiment.stages[0]).steps() == [STOPPED_AFTER]
  second = make_context(tmp_path, mesh_of())
  result = run(second, 0)
  plain = json.loads((trained.workdir / 'helpful' / 'done.json').read_text())
  assert {**result, 'seconds': 0} == {**plain, 'seconds': 0}
  rows = [(c.workdir / 'helpful' / 'metrics.jsonl').read_bytes() for c in (second, trained)]
  assert rows[0] == rows[1]
  assert saved(second) == saved(trained)


def test_rows_divide_over_the_mesh(mesh_of):
  cfg = build(stage_module.Config, experiment_file.get_config().helpful.to_dict(), 'helpful')
  assert cfg.shape(data_ways(mesh_of(fsdp=4))).rows % 4 == 0
