"""The table of algorithms, and what is refused with a message that names a valid value."""

import dataclasses
import re

import pytest

from r1jax.algorithms import ALGORITHMS, Algorithm, algorithm
from r1jax.objective import ObjectiveConfig


def test_constants_of_the_papers():
  clip = {name: (a.clip_low, a.clip_high) for name, a in ALGORITHMS.items()}
  assert clip == {
    'grpo': (0.2, 0.2), 'dr_grpo': (0.2, 0.2), 'dapo': (0.2, 0.28), 'gspo': (3e-4, 4e-4),
    'cispo': (1.0, 4.0), 'rloo': (0.2, 0.2), 'reinforce_pp': (0.2, 0.2),
    'reinforce_pp_baseline': (0.2, 0.2),
  }  # fmt: skip
  weights = {name: a.kl_weight for name, a in ALGORITHMS.items() if a.needs_reference}
  assert weights == {
    'grpo': 0.001, 'rloo': 0.03, 'reinforce_pp': 0.001, 'reinforce_pp_baseline': 0.001
  }  # fmt: skip
  average = {name: a.average for name, a in ALGORITHMS.items()}
  assert [n for n, a in average.items() if a == 'sequence'] == ['grpo', 'gspo']
  assert [n for n, a in average.items() if a == 'constant'] == ['dr_grpo', 'rloo']
  assert {a.advantage for a in ALGORITHMS.values() if a.dynamic_sampling} == {'group'}


def test_none_means_the_algorithms_own():
  assert algorithm('dapo', clip_low=None, dynamic_sampling=None) == ALGORITHMS['dapo']
  changed = algorithm('grpo', clip_low=10.0, clip_high=10.0, kl_weight=0.0)
  assert (changed.clip_low, changed.clip_high, changed.kl, changed.kl_weight) == (10, 10, 'k3', 0)
  assert not changed.needs_reference and not changed.objective(max_tokens=1).uses_kl
  assert algorithm('dapo', dynamic_sampling=False).dynamic_sampling is False


@pytest.mark.parametrize('name', ALGORITHMS)
def test_the_objective_has_the_algorithms_values(name):
  ours = dataclasses.asdict(ALGORITHMS[name])
  for field, value in dataclasses.asdict(ALGORITHMS[name].objective(max_tokens=7)).items():
    assert value == (7 if field == 'max_tokens' else ours[field])


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'kl': 'k4'}, "kl='k4' is not possible; valid: k1, k2, k3, none"),
    ({'ratio': 'word'}, "ratio='word' is not possible; valid: token, sequence"),
    ({'surrogate': 'ppo'}, "surrogate='ppo' is not possible; valid: clip, weight"),
    ({'average': 'batch'}, "average='batch' is not possible; valid: sequence, token, constant"),
    ({'advantage': 'gae'}, "advantage='gae' is not possible; valid: group, group_mean"),
    ({'overlong': 'drop'}, "overlong='drop' is not possible; valid: keep, filter, penalty"),
    ({'sampler_correction': 'tis'}, "sampler_correction='tis' is not possible; valid: none, trunc"),
    ({'sampler_cap': 0.5}, 'sampler_cap=0.5 is not possible; valid: at least 1'),
    ({'clip_low': -0.1}, 'clip_low=-0.1 is not possible; valid: at least 0'),
    ({'clip_high': float('nan')}, 'clip_high=nan is not possible; valid: at least 0'),
    ({'dual_clip': 0.9}, 'dual_clip=0.9 is not possible; valid: 0 (off), or more than 1'),
    ({'surrogate': 'weight', 'dual_clip': 3.0}, "valid: 0 with surrogate='weight'"),
    ({'kl': 'none'}, "kl_weight=0.001 is not possible; valid: 0 with kl='none'"),
    ({'beta': 0.1}, 'beta=0.1 is not possible; valid: advantage, ratio, surrogate'),
  ],
)
def test_refused(overrides, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    algorithm('grpo', **overrides)


def test_other_refusals():
  with pytest.raises(ValueError, match="algorithm='ppo' is not possible; valid: grpo, dr_grpo"):
    algorithm('ppo')
  with pytest.raises(ValueError, match='dynamic_sampling=True is not possible; valid: False'):
    Algorithm('batch', dynamic_sampling=True)
  with pytest.raises(ValueError, match='max_tokens=0 is not possible; valid: at least 1'):
    ObjectiveConfig(max_tokens=0)
