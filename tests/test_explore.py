"""From rollouts to what is learned: masks, advantages and metrics of groups."""

import json
import types

import jax
import numpy as np
import pytest

from r1jax.batch import BatchShape, pack, unpack
from r1jax.decoding import CHUNK, SamplingConfig, Shapes
from r1jax.explore import (
  Groups,
  choose,
  examples,
  join,
  learned_length,
  metrics_of,
  per_token,
  scored_when_done,
  spread_advantage,
)
from r1jax.problems import Problem
from r1jax.rewards import RewardConfig
from r1jax.rewards.pool import Pool
from r1jax.rewards.scoring import UNCHECKED, Scores, Scoring
from r1jax.rewards.verdict import OUTCOMES
from r1jax.rollout import Rollouts, generate
from r1jax.stages.grpo import by_variance
from r1jax.stages.minibatches import _for_length

EOS, TC = 2, 5


def rollouts() -> Rollouts:
  """Two prompts of 2 and 3 tokens, two samples of each; the second sample of the first was cut off."""
  length = np.array([[3, 5], [1, 4]], np.int32)
  tokens = np.zeros((2, 2, TC), np.int32)
  tokens[0, 0, :3] = [10, 11, EOS]
  tokens[0, 1, :5] = [12, 13, 14, 15, 16]
  tokens[1, 0, :1] = [EOS]
  tokens[1, 1, :4] = [17, 18, 19, EOS]
  logprob = np.where(np.arange(TC) < length[..., None], -0.1 * (1 + np.arange(TC)), 0)
  return Rollouts(
    [np.array([1, 5], np.int32), np.array([1, 6, 7], np.int32)], tokens, logprob.astype(np.float32),
    length, np.array([[False, True], [False, False]]), decoded=24,
  )  # fmt: skip


RIGHT, WRONG = OUTCOMES.index('right'), OUTCOMES.index('wrong')


def groups(total=((1.0, 0.0), (0.1, 0.1))) -> Groups:
  total = np.array(total, np.float32)
  right = total >= 1
  parts = {'accuracy': right.astype(np.float32), 'format': total * 0 + 1}
  scores = Scores(total, parts, np.where(right, RIGHT, WRONG).astype(np.int8))
  problems = [Problem(7, 'arithmetic', '1 + 1 =', '2'), Problem(9, 'arithmetic', '2 + 2 =', '4')]
  return Groups(problems, rollouts(), scores, [['a', 'b'], ['c', 'd']])


def test_the_completion_is_learned_with_its_eos_and_the_prompt_is_not():
  found = examples(rollouts(), 'keep')
  for example, tokens, mask in zip(
    found,
    [[1, 5, 10, 11, 2], [1, 5, 12, 13, 14, 15, 16], [1, 6, 7, 2], [1, 6, 7, 17, 18, 19, 2]],
    [[0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 1], [0, 0, 1, 1, 1, 1]],
    strict=True,
  ):
    assert example.tokens.tolist() == tokens and example.mask.tolist() == mask
    learned = example.tokens[1:][example.mask > 0]
    assert learned.tolist() == tokens[len(mask) - int(sum(mask)) + 1 :]
    # The sampler's log-probabilities stand where their tokens are targets.
    want = -0.1 * (1 + np.arange(sum(mask)))
    np.testing.assert_allclose(example.logprob[example.mask > 0], want, rtol=1e-6)
    assert not example.logprob[example.mask == 0].any()


@pytest.mark.parametrize('overlong, filtered', [('filter', True), ('filter+penalty', True), ('keep', False),
                                                ('penalty', False)])  # fmt: skip
def test_samples_that_were_cut_off_are_filtered_on_demand(overlong, filtered):
  """Not learned, but in the batch: the policy's log-probabilities of it are still measured (DAPO, 3.4)."""
  found, all_of_it = examples(rollouts(), overlong), examples(rollouts(), 'keep')
  assert learned_length(rollouts(), overlong).tolist() == [[3, 0 if filtered else 5], [1, 4]]
  assert found[1].mask.sum() == (0 if filtered else 5)
  np.testing.assert_array_equal(found[1].tokens, all_of_it[1].tokens)
  np.testing.assert_array_equal(found[1].logprob, all_of_it[1].logprob)
  for i in (0, 2, 3):
    np.testing.assert_array_equal(found[i].mask, all_of_it[i].mask)
  batch, _ = pack(found, BatchShape(1, 4, 16))
  assert (batch.sequences, batch.learned) == ((3, 8) if filtered else (4, 13))


@pytest.mark.parametrize('shape', [BatchShape(4, 1, 8), BatchShape(1, 4, 32)])
def test_advantages_land_on_the_tokens_of_their_sample(shape):
  r = rollouts()
  batch, places = pack(examples(r, 'keep'), shape)
  advantage = np.array([[[1.0], [-1.0]], [[2.0], [0.5]]], np.float32)
  laid = spread_advantage(advantage, r, places, batch)
  assert laid.shape == batch.tokens.shape
  np.testing.assert_array_equal(laid != 0, batch.mask > 0)
  for found, want in zip(unpack(laid, places), [1.0, -1.0, 2.0, 0.5], strict=True):
    assert set(found) == {0.0, want}


@pytest.mark.parametrize('shape', [BatchShape(4, 1, 8), BatchShape(1, 4, 32)])
def test_per_token_and_spread_advantage_are_inverse(shape):
  r = rollouts()
  batch, places = pack(examples(r, 'filter'), shape)
  values = np.random.default_rng(0).normal(size=(2, 2, TC)).astype(np.float32)
  values *= np.arange(TC) < r.length[..., None]
  laid = spread_advantage(values, r, places, batch)
  np.testing.assert_array_equal(per_token(laid, r, places), values)
  np.testing.assert_array_equal(
    spread_advantage(per_token(laid, r, places), r, places, batch), laid
  )
  np.testing.assert_array_equal(per_token(batch.sampler_logprob, r, places), r.logprob)


def test_choose_and_join():
  g = groups()
  first, second = choose(g, np.array([0])), choose(g, np.array([False, True]))
  assert second.problems == g.problems[1:] and second.texts == [['c', 'd']]
  assert second.rollouts.prompts[0].tolist() == [1, 6, 7]
  assert second.rollouts.length.tolist() == [[1, 4]]
  assert second.scores.parts['accuracy'].tolist() == [[0.0, 0.0]]
  both = join(first, second)
  for name in ('tokens', 'logprob', 'length', 'truncated'):
    np.testing.assert_array_equal(getattr(both.rollouts, name), getattr(g.rollouts, name))
  np.testing.assert_array_equal(both.scores.total, g.scores.total)
  assert both.problems == g.problems and both.texts == g.texts
  assert both.scores.parts.keys() == g.scores.parts.keys()
  turned = choose(g, np.array([1, 0, 1]))
  assert [p.id for p in turned.problems] == [9, 7, 9]
  assert turned.rollouts.length[:, 1].tolist() == [4, 5, 4]
  assert choose(g, np.array([False, False])).problems == []


def test_a_part_that_one_side_lacks_is_nothing_there():
  """Rollouts of a mixture: in one of them no problem is rewarded for its language."""
  one, other = choose(groups(), np.array([0])), choose(groups(), np.array([1]))
  other.scores.parts['language'] = np.array([[0.5, 1.0]], np.float32)
  for pair, expected in (((one, other), [[0, 0], [0.5, 1]]), ((other, one), [[0.5, 1], [0, 0]])):
    both = join(*pair).scores
    np.testing.assert_array_equal(both.parts['language'], expected)
    assert both.parts['format'].shape == (2, 2)


def test_general_problems_count_neither_as_wrong_nor_as_without_variance():
  """The second problem has no answer, and its samples differ in what a reward model says."""
  g = groups(((1.0, 0.0), (0.1, 0.4)))
  g.scores.outcomes[1] = UNCHECKED
  found = metrics_of(g)
  assert (found['accuracy'], found['right'], found['wrong']) == (0.5, 0.5, 0.5)
  varied, rest = by_variance(g)
  assert [p.id for p in varied.problems] == [7, 9] and rest.problems == []
  g.scores.outcomes[1] = WRONG
  varied, rest = by_variance(g)
  assert [p.id for p in varied.problems] == [7] and [p.id for p in rest.problems] == [9]


def test_metrics_by_hand():
  found = metrics_of(groups())
  assert found == {
    'reward': pytest.approx(0.3), 'reward_std': pytest.approx(np.std([1, 0, 0.1, 0.1])),
    'length': 3.25, 'length_max': 5, 'tokens': 13, 'truncated': 0.25,
    'groups_without_variance': 0.5, 'accuracy': 0.25, 'format': 1.0, 'right': 0.25, 'wrong': 0.75, 'unparseable': 0,
    'timeout': 0, 'bad_gold': 0,
  }  # fmt: skip
  assert (
    json.loads(json.dumps(found)) == found
  )  # plain numbers, fit for metrics.jsonl and a checkpoint


def test_texts_are_scored_with_what_the_template_has_opened():
  """Chunk by chunk, as they come out of `generate`; each is handed in with its last one."""

  class Letters:
    def decode(self, ids):
      return ''.join(chr(ord('a') + i - 10) for i in ids if i != EOS)

  class Scored:
    def __init__(self):
      self.found = []

    def add(self, sample, text):
      self.found.append((sample, text))

  for template, opened in (('short', ''), ('tinyzero', '<think>')):
    scored = Scored()
    watch = scored_when_done(scored, Letters(), template)
    watch(1, np.array([12, 13]), False)
    watch(0, np.array([10, 11, EOS]), True)
    watch(1, np.array([14, 15]), False)
    assert scored.found == [(0, f'{opened}ab')]
    watch(1, np.array([16]), True)
    assert scored.found[1:] == [(1, f'{opened}cdefg')]


def test_a_completion_is_checked_while_others_are_being_decoded(small, random_params):
  """Each sample waits for a row but two; the verdict on the first to end is there before the last one is drawn."""
  cfg = small('qwen2')
  problems = [Problem(i, 'arithmetic', '1 + 1 =', '2') for i in range(3)]
  prompts = [np.array([5, 6 + i], np.int32) for i in range(3)]
  shapes = Shapes(prompts=3, group=2, width=2, rows=(2,), columns=(2 + 2 * CHUNK,))
  how = SamplingConfig(max_tokens=CHUNK)
  done = []

  class Words:
    eos = None

    def decode(self, ids):
      return '<answer>2</answer>'

  with Pool(1) as pool:
    scoring = Scoring(problems, 2, RewardConfig(), pool)

    def poll():
      """What is handed in by now is checked by now, with no more chunk decoded meanwhile."""
      done.append([future.result(60).outcome for future in scoring._verdicts.values()])

    generate(
      random_params(cfg), cfg, prompts, range(3), jax.random.key(0), how, group=2, tokenizer=Words(), shapes=shapes,
      poll=poll, watch=scored_when_done(scoring, Words(), 'short'),
    )  # fmt: skip
    assert done == [[], ['right'] * 2, ['right'] * 4]
    assert scoring.scores().rates()['right'] == 1.0


def test_the_penalty_for_length_is_half_of_what_a_right_answer_is_worth():
  """DAPO's is 1 where right and wrong are 1 and -1. Lengths 3, 5, 1 and 4 of 5, a buffer of 2: 0, 1, 0, 1/2 of it."""
  how = SamplingConfig(max_tokens=5)
  cfg = types.SimpleNamespace(
    sampling=how, overlong_buffer=2, reward=RewardConfig(accuracy_weight=0.8),
    algorithm=types.SimpleNamespace(overlong='penalty'),
  )  # fmt: skip
  np.testing.assert_allclose(_for_length(groups(), cfg), [[0, -0.4], [0, -0.2]], rtol=1e-6)
  cfg.algorithm.overlong = 'filter'
  assert (_for_length(groups(), cfg) == 0).all()


def test_the_acceptance_of_drafts_is_a_metric_of_speculative_decoding():
  drafted = groups()
  drafted.rollouts.drafted, drafted.rollouts.accepted = 8, 6
  both = join(choose(drafted, np.array([0])), choose(drafted, np.array([1])))
  assert (both.rollouts.drafted, both.rollouts.accepted) == (16, 12)
  assert metrics_of(both)['acceptance'] == 0.75
  assert 'acceptance' not in metrics_of(groups())
