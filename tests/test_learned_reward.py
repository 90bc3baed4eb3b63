"""Rewards of trained models in RL: what they see of a response, and how they change the total."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import r1jax
from experiments import r1_zero
from r1jax import checks, preference, tokenizer
from r1jax.checkpoint import Checkpointer
from r1jax.config import Experiment, InitConfig, MeshConfig, ModelSettings, PromptConfig, resolve
from r1jax.fields import ConfigError
from r1jax.health import health
from r1jax.model import hf
from r1jax.model.transformer import forward
from r1jax.preference import PreferenceConfig
from r1jax.problems import Problem, ProblemsConfig
from r1jax.rewards.learned import (
  LearnedReward,
  Moments,
  Preferences,
  drift,
  final_answer,
  to_tokens,
)
from r1jax.rewards.scoring import Scores
from r1jax.stages.context import Context

ASSETS = Path(r1jax.__file__).parent / 'assets' / 'tiny_dense'
WORDS = tokenizer.load(ASSETS)


@pytest.mark.parametrize('response, answer', [
  ('<think>is it 3?</think> <answer> 4 </answer>', '4'),
  ('<think>3</think>\n\nIt is 4.', 'It is 4.'),
  ('<think>a</think> b </think> c', 'c'),
  ('<think>a</think><answer>1</answer> or <answer>2</answer>', '2'),
  ('<think>a</think> <answer>cut o', '<answer>cut o'),
  ('<think>never done <answer>4</answer>', ''),
  ('no thought at all', 'no thought at all'),
  ('so <answer>5</answer>.', '5'),
  ('', ''),
])  # fmt: skip
def test_final_answer(response, answer):
  assert final_answer(response) == answer


def test_what_each_kind_sees():
  """The tinyzero template opens the thought: it is the response's, and is there once."""
  seen = lambda kind, template: WORDS.decode(
    to_tokens('1 + 1?', '<think>two</think> <answer>2</answer>', kind, WORDS, template)
  )
  assert seen('helpful', 'short') == 'User: 1 + 1? Assistant:2'
  assert seen('safety', 'short') == 'User: 1 + 1? Assistant:<think>two</think> <answer>2</answer>'
  assert seen('safety', 'tinyzero').endswith('step by step.\n<think>two</think> <answer>2</answer>')
  assert seen('helpful', 'tinyzero').endswith('step by step.\n2')
  tokens = to_tokens('1 + 1?', '2', 'helpful', WORDS, 'short')
  assert (tokens[0], tokens[-1]) == (WORDS.bos, WORDS.eos) and tokens.dtype == np.int32


@pytest.fixture(scope='module')
def context(tmp_path_factory, mesh_of) -> Context:
  experiment = Experiment(
    'rl',
    0,
    ModelSettings('tiny_dense'),
    InitConfig(),
    MeshConfig(),
    ProblemsConfig(),
    PromptConfig('short'),
    (),
  )
  return Context(experiment, tmp_path_factory.mktemp('rl'), mesh_of(), WORDS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, context) -> Path:
  """A finished stage of a helpful model, whose head is random."""
  folder = tmp_path_factory.mktemp('helpful')
  w = preference.from_policy(hf.load(str(ASSETS), context.model)[0])
  w = w.replace(head=jnp.asarray(np.random.default_rng(0).normal(size=w.head.shape), jnp.float32))
  Checkpointer(folder / 'checkpoints').save(7, {'policy': w, 'step': jnp.int32(7)}, {})
  done = {
    'steps': 7,
    'reward_model': 7,
    'kind': 'helpful',
    'template': 'short',
    'mean': 1.0,
    'std': 2.0,
  }
  done |= {
    'tokenizer': WORDS.fingerprint,
    'model': {'size': 'tiny_dense', 'dtype': 'float32'},
    'init': '',
  }
  (folder / 'done.json').write_text(json.dumps(done))
  return folder


QUESTIONS = ['How many?', 'Why?']
RESPONSES = [
  ['<think>a</think> 3', '<think>b</think> 3', 'some'],
  ['Because.', '<think>longer</think> <answer>Nobody knows that.</answer>', '<think>'],
]


def test_scores_are_those_of_each_text_by_itself(folder, context):
  model = LearnedReward(str(folder), context, micro_batch=256)
  scores = model.scores(QUESTIONS, RESPONSES)
  assert scores.shape == (2, 3) and scores.dtype == np.float32
  positions = jnp.arange(64)[None]
  alone = jax.jit(lambda tokens: forward(model.params, model.model, tokens, positions).hidden[0])
  for (p, g), score in np.ndenumerate(scores):
    tokens = to_tokens(QUESTIONS[p], RESPONSES[p][g], 'helpful', WORDS, 'short')
    hidden = alone(np.pad(tokens, (0, 64 - len(tokens)))[None])[len(tokens) - 1]
    np.testing.assert_allclose(score, hidden @ model.params.head, rtol=1e-4, atol=1e-4)
  assert scores[0, 0] == scores[0, 1] != scores[0, 2]  # of a helpful model's the thought is unseen
  assert (model.scores(QUESTIONS, RESPONSES) == scores).all()


def test_a_model_of_another_kind_or_tokenizer_is_refused(folder, context, tmp_path):
  with pytest.raises(FileNotFoundError, match='done.json is not there; valid: the folder of a'):
    LearnedReward(str(tmp_path), context)
  (tmp_path / 'done.json').write_text('{"steps": 3, "checkpoint": 3}')
  with pytest.raises(ValueError, match='describes no reward model; valid'):
    LearnedReward(str(tmp_path), context)
  with pytest.raises(ValueError, match='is a helpful model; valid: one of kind safety'):
    Preferences(PreferenceConfig(safety=str(folder)), 'rl', context)
  other = json.loads((folder / 'done.json').read_text()) | {'tokenizer': 'other'}
  (tmp_path / 'done.json').write_text(json.dumps(other))
  with pytest.raises(ValueError, match='another tokenizer; valid'):
    LearnedReward(str(tmp_path), context)


@pytest.mark.parametrize('fields, message', [
  ({'default': 'helpful'}, "default='helpful' is not possible without a model; valid: 'none'"),
  ({'default': 'all'}, "default='all' is unknown; valid"),
  ({'normalise': 'batch'}, "normalise='batch' is unknown; valid"),
  ({'cap': 0.0}, 'cap=0.0 is not possible; valid'),
  ({'weight': float('nan')}, 'weight=nan is not possible; valid'),
])  # fmt: skip
def test_impossible_settings(fields, message):
  with pytest.raises(ValueError, match=message):
    PreferenceConfig(**fields)


# The hook of RL, with models whose rewards are given.


@dataclasses.dataclass
class Given:
  """A model of mean 1 and std 2; a response is its reward."""

  kind: str
  mean: float = 1.0
  std: float = 2.0

  def scores(self, prompts, responses) -> np.ndarray:
    return np.array(responses, np.float32)


def problem(number: int, **details) -> Problem:
  return Problem(number, 'arithmetic', f'{number}?', '1', details=details)


PROBLEMS = [problem(0), problem(1, preference='safety'), problem(2, preference='none')]
TEXTS = [['1', '5'], ['11', '-9'], ['3', '3']]
RULES = np.array([[1, 0], [0, 0], [1, 1]], np.float32)


def preferences(context, **fields) -> Preferences:
  made = Preferences(PreferenceConfig(), 'rl', context)
  made.cfg = PreferenceConfig(helpful='h', safety='s', **fields)
  made.models = {kind: Given(kind) for kind in ('helpful', 'safety')}
  made.moments = {kind: Moments() for kind in made.models}
  return made


def rules() -> Scores:
  return Scores(RULES.copy(), {'accuracy': RULES.copy()}, np.zeros((3, 2), np.int8))


def test_the_total_by_hand(context):
  """(1, 5) is (0, 2) standard deviations from the mean, (11, -9) is (5, -5), of which 3 count."""
  added = preferences(context, default='helpful', weight=0.5).add(rules(), PROBLEMS, TEXTS)
  assert added.parts['preference'].tolist() == [[0, 2], [3, -3], [0, 0]]
  assert added.parts['preference_score'].tolist() == [[0, 2], [5, -5], [0, 0]]
  assert added.total.tolist() == [[1, 1], [1.5, -1.5], [1, 1]]
  assert (added.parts['accuracy'] == RULES).all() and added.total.dtype == np.float32


def test_a_problem_that_names_no_model_has_the_default(context):
  added = preferences(context).add(rules(), PROBLEMS, TEXTS)
  assert added.total.tolist() == [[1, 0], [3, -3], [1, 1]]


@pytest.mark.parametrize('name, message', [
  ('helpfull', "problem 7 has preference='helpfull', which is unknown; valid: one of \\('none', 'helpful'\\)"),
  ('safety', "problem 7 has preference='safety', which has no model: set preference_reward.safety; valid"),
])  # fmt: skip
def test_a_problem_that_names_a_model_which_is_not_there(context, name, message):
  made = preferences(context)
  del made.models['safety']
  with pytest.raises(ValueError, match=message):
    made.add(rules(), [problem(0), problem(7, preference=name), problem(2)], TEXTS)


def test_without_models_nothing_changes(context):
  scores = rules()
  assert Preferences(PreferenceConfig(), 'rl', context).add(scores, PROBLEMS, TEXTS) is scores


def test_the_models_of_a_stage():
  cfg = PreferenceConfig(stages=('general',), safety='folder')
  assert cfg.models('general') == {'safety': 'folder'} and cfg.models('reasoning') == {}
  assert PreferenceConfig(helpful='a', safety='b').models('rl') == {'helpful': 'a', 'safety': 'b'}


def test_running_moments(context):
  """Of all values so far: 1, 5 and 11, -9 have mean 2 and variance 53."""
  made = preferences(context, default='helpful', normalise='running')
  first = made.add(rules(), [problem(0)] * 3, [['1', '5']] * 3)
  np.testing.assert_allclose(first.parts['preference'], [[-1, 1]] * 3, rtol=1e-6)
  restored = preferences(context, default='helpful', normalise='running')
  restored.set_state(json.loads(json.dumps(made.state())))
  both = [m.add(rules(), [problem(0)] * 3, [['11', '-9']] * 3) for m in (made, restored)]
  expected = (np.array([11, -9]) - 2) / np.sqrt(53)
  np.testing.assert_allclose(both[0].parts['preference'], [expected] * 3, rtol=1e-5)
  assert (both[0].total == both[1].total).all()
  assert both[0].parts['preference_score'][0].tolist() == [5, -5]  # the model's own, still


def test_drift_by_hand(context):
  added = preferences(context, default='helpful').add(rules(), PROBLEMS, TEXTS)
  found = drift(added)
  learned, accuracy = np.array([0, 2, 5, -5.0]), np.array([1, 0, 0, 0.0])
  assert found['preference_score'] == 0.5 and found['preference_std'] == learned.std()
  covariance = (learned * accuracy).mean() - learned.mean() * accuracy.mean()
  np.testing.assert_allclose(
    found['preference_correlation'], covariance / (learned.std() * accuracy.std()), rtol=1e-6
  )
  assert drift(rules()) == {}
  one = Scores(RULES[:1], {'accuracy': RULES[:1] * 0, 'preference_score': np.ones((1, 2))}, None)
  assert drift(one)['preference_correlation'] == 0.0


# What a problem asks of the rewards of a stage is looked at before a run.


def refusal(monkeypatch, found, cfg=None, **reward) -> str | None:
  """Of a run whose train split is `found`."""
  c = r1_zero.get_config('tiny_dense')
  c.rl.update(reward)
  experiment = dataclasses.replace(resolve(c), preference_reward=cfg or PreferenceConfig())
  monkeypatch.setattr(checks, '_some_problems', lambda *_: tuple(found))
  context = Context(experiment, Path('nowhere'), None, WORDS)
  try:
    checks._check_data(experiment.stages[1], context)
  except ConfigError as error:
    return str(error)


POEM = Problem(4, 'general', 'Why?', '')


@pytest.mark.parametrize('found, cfg, message', [
  (problem(3, preference='helpfull'), {}, "problem 3 has preference='helpfull', which is unknown; valid: one of "),
  (problem(3, preference='safety'), {'helpful': '.'}, "has preference='safety', which has no model"),
  (problem(3, preference='safety'), {}, "has preference='safety', which has no model"),
  (POEM, {}, 'problem 4 is of kind general, and no reward model judges it in rl; valid: preference='),
  (POEM, {'helpful': '.'}, 'problem 4 is of kind general, and no reward model'),  # no default
  (POEM, {'helpful': '.', 'default': 'helpful', 'stages': ('last',)}, 'problem 4 is of kind general, and no'),
  (problem(3, language='klingon', reward_weights={'language': 1.0}), {}, "has a reward for language='klingon'; valid"),
  (problem(3, reward_weights={'language': 1.0}), {}, "problem 3 has a reward for language=''; valid: one of en, zh,"),
])  # fmt: skip
def test_a_reward_that_would_silently_be_0_is_refused(monkeypatch, found, cfg, message):
  text = refusal(monkeypatch, [problem(0), found], PreferenceConfig(**cfg))
  assert text.startswith("problems.source='countdown' is not possible: ") and message in text
  assert text.count('; valid: ') == 1


def test_rewards_that_a_stage_has_are_not_refused(monkeypatch, folder):
  model = str(folder)
  assert refusal(monkeypatch, [problem(0, preference='helpful'), problem(1, preference='none')],
                 PreferenceConfig(helpful=model)) is None  # fmt: skip
  assert refusal(monkeypatch, [POEM], PreferenceConfig(helpful=model, default='helpful')) is None
  # A stage before the last one has no models, and problems that name one are for their check there.
  assert refusal(monkeypatch, [problem(0, preference='helpful')],
                 PreferenceConfig(helpful=model, stages=('last',))) is None  # fmt: skip
  own = problem(0, language='zh', reward_weights={'language': 1.0})
  assert refusal(monkeypatch, [own]) is None
  assert refusal(monkeypatch, [problem(0)], language_weight=1.0, language='en') is None


RUN = """
from experiments import base, preference, r1_zero
def get_config(size=''):
  c = r1_zero.get_config('tiny_dense')
  c.name, c.stages = 'all', ('helpful:preference', 'rl:grpo', 'after:evaluate')
  c.helpful = base.preference()
  preference.tiny(c.helpful)
  c.helpful.steps = 4
  c.problems.mixture = ('countdown:1', f'{c.helpful.source}:1 kind=general preference=helpful')
  c.prompt.longest = 40
  c.rl.steps, c.rl.prompts_per_step, c.rl.samples_per_prompt, c.rl.max_tokens = 2, 4, 4, 32
  c.evaluate.problems, c.evaluate.max_tokens = 8, 32
  return c
"""


@pytest.mark.slow
def test_a_model_that_a_stage_has_trained_is_the_reward_of_the_next(tmp_path):
  """General prompts and Countdown in one rollout: preferences, then RL on both, and drift in its metrics."""
  (tmp_path / 'all.py').write_text(RUN)
  done = subprocess.run(
    [sys.executable, '-m', 'r1jax.main', f'--config={tmp_path}/all.py', f'--workdir={tmp_path}/run',
     '--config.preference_reward.helpful=helpful', '--config.preference_reward.weight=0.5'],
    cwd=Path(r1jax.__file__).parents[1], capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  trained = json.loads((tmp_path / 'run/helpful/done.json').read_text())
  assert trained['kind'] == 'helpful' and trained['std'] > 0
  rows = [json.loads(line) for line in (tmp_path / 'run/rl/metrics.jsonl').read_text().splitlines()]
  assert len(rows) == 2
  for row in rows:
    assert row['preference_std'] > 0 and math.isfinite(row['preference_score'])
    assert -1 <= row['preference_correlation'] <= 1
    # Half of the prompts are judged, and the others have 0 of this part.
    assert row['preference'] != 0
    rest = row['reward'] - 0.1 * row['format'] - 0.5 * row['preference']
    assert (
      -1e-5 <= rest <= row['accuracy'] + 1e-5
    )  # credit of the answers, which general problems have none of
  after = json.loads((tmp_path / 'run/after/done.json').read_text())
  assert after['problems'] == 8  # of Countdown alone: nothing else has an answer


def test_reward_hacking_is_warned_of():
  """The learned reward rises by 1.2 standard deviations while accuracy falls by 0.12, over 60 steps."""
  row = lambda step, gain: {'accuracy': 0.8 - 0.002 * gain * step, 'preference_score': 0.02 * step}
  warned = lambda gain: health(row(60, gain), [row(i, gain) for i in range(60)])
  (found,) = warned(1)
  assert found.startswith('preference_score: ') and '--config.preference_reward.weight' in found
  assert warned(-1) == [] and warned(0) == []
  assert health(row(5, 9), [row(i, 9) for i in range(5)]) == []  # too early to tell
