"""One GRPO step of TRL 1.16 reproduced: log-probabilities, entropy, loss and every gradient.

tests/data/trl_grpo_ratio1.npz holds a step in which the ratio is exactly 1: the weights of a Qwen2
model in Hugging Face names, 32 prompts of 4 tokens with completions of up to 16, advantages, the
log-probabilities of the policy and of the (equal) reference, entropies, the loss (grpo, beta 0.001
with k3, epsilon 0.2) and the gradient of every weight.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from r1jax.advantage import advantages
from r1jax.algorithms import algorithm
from r1jax.batch import Batch
from r1jax.model import hf
from r1jax.model.sizes import ModelConfig, Rope
from r1jax.model.transformer import forward, token_logprobs
from r1jax.objective import denominator, policy_objective

CONFIG = ModelConfig(
  name='oracle',
  family='qwen2',
  vocab=53,
  embed=64,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=16,
  mlp=128,
  rope=Rope(theta=1e4),
  max_positions=64,
  tied=True,
  qkv_bias=True,
)
OBJECTIVE = algorithm('grpo').objective(max_tokens=16)


@pytest.fixture(scope='module')
def oracle():
  path = pathlib.Path(__file__).parent / 'data' / 'trl_grpo_ratio1.npz'
  with np.load(path) as file:
    return dict(file)


@pytest.fixture(scope='module')
def params(oracle, tmp_path_factory):
  """The weights, read as any checkpoint is."""
  directory = tmp_path_factory.mktemp('oracle')
  tensors = {k[2:]: v for k, v in oracle.items() if k.startswith('w/')}
  assert tensors.keys() == hf.tensors(CONFIG).keys()
  save_file(tensors, directory / 'model.safetensors')
  hf.write_json(directory / 'config.json', hf.config_to_hf(CONFIG))
  return hf.load(directory)[0]


def completion_logprobs(params, oracle):
  """-> log-probability and entropy [32, 16] of the completions' tokens."""
  tokens = np.concatenate([oracle['prompt_ids'], oracle['completion_ids']], axis=1)
  start = oracle['prompt_ids'].shape[1] - 1
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1] - 1), tokens[:, 1:].shape)
  out = forward(params, CONFIG, jnp.asarray(tokens[:, :-1]), positions)
  out = token_logprobs(params, CONFIG, out.hidden, jnp.asarray(tokens[:, 1:]))
  return tuple(x[:, start:] for x in out)


def test_logprobs_and_entropies(oracle, params):
  assert oracle['prompt_mask'].all()
  live = oracle['completion_mask'] > 0
  logprob, entropy = jax.jit(lambda p: completion_logprobs(p, oracle))(params)
  np.testing.assert_allclose(logprob[live], oracle['per_token_logps'][live], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(entropy[live], oracle['entropy'][live], rtol=1e-5, atol=1e-5)


def batch_of(oracle, **changed):
  """The completions as rows [32, 16] of one sequence each. The file has no old policy: the ratio is 1."""
  mask = oracle['completion_mask'].astype(np.float32)
  values = {
    'segments': np.ones(mask.shape, np.int32),
    'mask': mask,
    'length': np.broadcast_to(mask.sum(1, keepdims=True), mask.shape),
    'advantage': np.broadcast_to(oracle['advantages'][:, None], mask.shape),
    'reference_logprob': oracle['ref_per_token_logps'],
    'sequences': np.int32(len(mask)),
    'learned': np.int32(mask.sum()),
  }
  nothing = {f.name: np.zeros(mask.shape, np.float32) for f in dataclasses.fields(Batch)}
  return Batch(**(nothing | values | changed))


def loss_of(params, oracle, batch):
  logprob, entropy = completion_logprobs(params, oracle)
  total, _ = policy_objective(logprob, entropy, batch, OBJECTIVE, 1, on_policy=True)
  return total / denominator(batch.sequences, batch.learned, OBJECTIVE)


def test_advantages(oracle):
  """Groups of 8. TRL shuffles after it has computed them, so the two are compared in order of size."""
  ours = advantages(oracle['rewards_preshuffle'].reshape(4, 8), 'group')
  np.testing.assert_allclose(np.sort(ours.ravel()), np.sort(oracle['advantages']), 1e-5, 1e-6)


def test_loss_and_every_gradient(oracle, params, tmp_path):
  step = jax.jit(jax.value_and_grad(lambda p: loss_of(p, oracle, batch_of(oracle))))
  value, grad = step(untie(params))
  # On policy the advantages cancel: the loss is rounding (1e-8) of terms of about one.
  np.testing.assert_allclose(value, oracle['loss'], rtol=0, atol=1e-7)
  compare_gradients(grad, oracle, tmp_path / 'gradient')


def test_loss_that_is_not_rounding(oracle, params):
  """Advantages and a reference that do not cancel, and the formula on the file's log-probabilities."""
  random, shape = np.random.default_rng(0), oracle['completion_mask'].shape
  advantage = np.broadcast_to(1 + random.random((32, 1)), shape).astype(np.float32)
  reference = oracle['per_token_logps'] + random.normal(size=shape).astype(np.float32)
  changed = batch_of(oracle, advantage=advantage, reference_logprob=reference)
  gap = np.where(changed.mask > 0, reference - oracle['per_token_logps'], 0.0).astype(np.float64)
  token = 0.001 * (np.exp(gap) - gap - 1) - advantage
  expected = ((token * changed.mask).sum(1) / changed.mask.sum(1)).mean()
  value = jax.jit(lambda p: loss_of(p, oracle, changed))(params)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def untie(params):
  """The same function with a head of its own: each use of the embedding has its gradient."""
  return params.replace(head=params.embed.T)


def compare_gradients(grad, oracle, directory):
  """Gradients of untied parameters against those of the file, name by name: 1e-4 of a leaf's norm.

  The oracle's embedding has padding_idx 0: torch drops what reaches row 0 as an input, and keeps
  what reaches it through the tied head. We drop nothing, so this is taken away here.
  """
  tied = grad.embed.at[0].set(0.0) + grad.head.T
  hf.export(grad.replace(embed=tied, head=None), CONFIG, directory)
  ours = load_file(directory / 'model.safetensors')
  for name, mine in ours.items():
    theirs = oracle[f'g/{name}']
    assert np.linalg.norm(mine - theirs) <= 1e-4 * np.linalg.norm(theirs), name
