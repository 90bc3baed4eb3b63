"""Against transformers: logits, experts, greedy tokens, files, gradients and the MTP module of small random models."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from r1jax.decoding import SamplingConfig, Shapes
from r1jax.model import hf
from r1jax.model.moe import route
from r1jax.model.mtp import mtp_hidden
from r1jax.model.transformer import forward, logits, token_logprobs
from r1jax.rollout import generate

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
modeling_layers = importlib.import_module('transformers.modeling_layers')
parity_models = importlib.import_module('parity_models')

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('quick_compile')]
SPARSE = [name for name in parity_models.CASES if name.startswith('v')]
WIDTH = 96  # three times the positions that the scaled rotations are made for
MTP = 'v3 yarn'


class NoEnd:
  """A tokenizer without an end: every completion is as long as it may be."""

  eos = None


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
  """Name -> (transformers' model, our parameters, our config, the directory they were saved in)."""
  made = {}

  def get(name):
    if name not in made:
      directory = tmp_path_factory.mktemp('model')
      model = parity_models.build(name)
      model.save_pretrained(directory)
      made[name] = (model, *hf.load(directory), directory)
    return made[name]

  return get


@pytest.fixture(params=parity_models.CASES)
def case(request, pair):
  return pair(request.param)


def _tokens(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 67, shape)


def _rows():
  """-> tokens, positions [4, WIDTH], and the spans [(row, start, stop)] that are sequences.

  One sequence padded on the left, one on the right, three packed into a row, and one over all of it.
  """
  spans = [(0, 31, 96), (1, 0, 57), (2, 0, 20), (2, 20, 61), (2, 61, 96), (3, 0, 96)]
  positions = np.zeros((4, WIDTH), np.int32)
  for row, start, stop in spans:
    positions[row, start:stop] = np.arange(stop - start)
  return _tokens(4, WIDTH), positions, spans


def _theirs(model, tokens, **kwargs):
  with torch.no_grad():
    return model(input_ids=torch.tensor(tokens), use_cache=False, **kwargs)


def _assert_close(ours, theirs, tolerance=1e-4):
  """The largest difference against the largest value."""
  theirs = np.asarray(theirs)
  assert np.abs(theirs).max() > 1
  assert np.abs(np.asarray(ours) - theirs).max() <= tolerance * np.abs(theirs).max()


# Logits


def test_logits_of_packed_and_padded_rows(case):
  model, params, cfg, _ = case
  tokens, positions, spans = _rows()
  run = jax.jit(lambda p: logits(p, forward(p, cfg, jnp.asarray(tokens), positions).hidden))
  ours = run(params)
  for row, start, stop in spans:
    alone = _theirs(model, tokens[row : row + 1, start:stop]).logits[0]
    _assert_close(ours[row, start:stop], alone)
  mask = np.zeros(tokens.shape, np.int64)
  for row, start, stop in (spans[0], spans[1], spans[5]):
    mask[row, start:stop] = 1
  padded = [0, 1, 3]
  batch = _theirs(
    model,
    tokens[padded],
    attention_mask=torch.tensor(mask[padded]),
    position_ids=torch.tensor(positions[padded].astype(np.int64)),
  )
  live = mask[padded] > 0
  _assert_close(np.asarray(ours)[padded][live], batch.logits.numpy()[live])


# Routing


@pytest.mark.parametrize('name', SPARSE)
def test_chosen_experts_and_their_weights(pair, name):
  """The same router input gives the same experts and weights; the whole model gives every expert as many tokens."""
  model, params, cfg, _ = pair(name)
  seen = []
  hooks = [
    layer.mlp.gate.register_forward_hook(lambda _, args, out: seen.append((args[0], *out[1:])))
    for layer in model.model.layers[cfg.moe.first_dense :]
  ]
  tokens = _tokens(1, WIDTH, seed=1)
  _theirs(model, tokens)
  for hook in hooks:
    hook.remove()
  positions = jnp.arange(WIDTH)[None]
  load = jax.jit(lambda p: forward(p, cfg, jnp.asarray(tokens), positions).routing[-1].load)(params)
  assert len(seen) == len(load) == cfg.layers - cfg.moe.first_dense
  for number, (x, weights, experts) in enumerate(seen):
    ours, chosen, _ = route(
      _layer(params, number), jnp.asarray(x.reshape(WIDTH, -1).numpy()), cfg.moe
    )
    order, theirs = np.argsort(chosen, axis=1), np.argsort(experts.numpy(), axis=1)
    np.testing.assert_array_equal(
      np.take_along_axis(np.asarray(chosen), order, 1),
      np.take_along_axis(experts.numpy(), theirs, 1),
    )
    np.testing.assert_allclose(
      np.take_along_axis(np.asarray(ours), order, 1),
      np.take_along_axis(weights.numpy(), theirs, 1),
      rtol=1e-5,
    )
    counts = np.bincount(experts.numpy().ravel(), minlength=cfg.moe.experts)
    np.testing.assert_array_equal(load[number], counts)
    assert len(set(map(tuple, np.sort(experts.numpy())))) > 5 or cfg.moe.groups == 1


def _layer(params, number):
  return jax.tree.map(lambda leaf: leaf[number], params.stacks[-1].ffn)


# Generation


def test_greedy_tokens(case):
  model, params, cfg, _ = case
  prompts = [_tokens(n, seed=n) for n in (3, 16, 9)]
  shapes = Shapes(prompts=3, group=1, width=16, rows=(3,), columns=(96,))
  how = SamplingConfig(max_tokens=64, temperature=0.0)
  ours = generate(
    params, cfg, prompts, (0, 1, 2), jax.random.key(0), how, group=1, tokenizer=NoEnd(),
    shapes=shapes,
  )  # fmt: skip
  padded, mask = np.zeros((3, 16), np.int64), np.zeros((3, 16), np.int64)
  for row, prompt in enumerate(prompts):
    padded[row, 16 - len(prompt) :], mask[row, 16 - len(prompt) :] = prompt, 1
  theirs = model.generate(
    torch.tensor(padded), attention_mask=torch.tensor(mask), do_sample=False, max_new_tokens=64,
    pad_token_id=0, eos_token_id=None,
  )  # fmt: skip
  np.testing.assert_array_equal(ours.tokens[:, 0], theirs[:, 16:])
  assert min(len(set(row)) for row in ours.tokens[:, 0].tolist()) > 1


# Files


def test_export_is_read_by_both_as_it_was(case, tmp_path):
  model, params, cfg, directory = case
  hf.export(params, cfg, tmp_path / 'out')
  again, same = hf.load(tmp_path / 'out')
  assert dataclasses.replace(same, name=cfg.name) == cfg
  jax.tree.map(np.testing.assert_array_equal, params, again)
  ours, theirs = _all_tensors(tmp_path / 'out'), _all_tensors(directory)
  assert ours.keys() == theirs.keys()
  for name, tensor in theirs.items():
    np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
  loaded = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out', attn_implementation='eager', dtype=torch.float32
  )
  assert type(loaded) is type(model)
  tokens = _tokens(1, WIDTH)
  assert torch.equal(_theirs(loaded, tokens).logits, _theirs(model, tokens).logits)


def _all_tensors(directory):
  return {k: v for file in directory.glob('*.safetensors') for k, v in load_file(file).items()}


# Gradients


@pytest.mark.parametrize('name', ['qwen2', 'qwen3', 'llama llama3 tied', 'v3 yarn', 'v2-lite'])
def test_gradients_of_cross_entropy(pair, name, tmp_path):
  """Theirs are saved as if they were weights, so that both have the names and shapes of a checkpoint."""
  _, params, cfg, _ = pair(name)
  model = parity_models.build(name)
  tokens = _tokens(2, 48, seed=2)
  theirs = model(input_ids=torch.tensor(tokens), labels=torch.tensor(tokens), use_cache=False).loss
  theirs.backward()
  positions = jnp.broadcast_to(jnp.arange(47), (2, 47))

  def loss(params):
    hidden = forward(params, cfg, jnp.asarray(tokens[:, :-1]), positions).hidden
    return -token_logprobs(params, cfg, hidden, jnp.asarray(tokens[:, 1:]))[0].mean()

  value, grad = jax.jit(jax.value_and_grad(loss))(params)
  np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
  with torch.no_grad():
    for weight in model.parameters():
      weight.copy_(weight.grad)
  model.save_pretrained(tmp_path / 'theirs')
  hf.export(grad, cfg, tmp_path / 'ours')
  ours = _all_tensors(tmp_path / 'ours')
  for tensor_name, tensor in _all_tensors(tmp_path / 'theirs').items():
    assert tensor.any()
    if not tensor_name.endswith('e_score_correction_bias'):  # chooses only: no gradient
      error = np.linalg.norm(ours[tensor_name] - tensor)
      assert error <= 1e-4 * np.linalg.norm(tensor), tensor_name


# Multi-token prediction


@pytest.fixture(scope='module')
def mtp_pair(pair, random_params, tmp_path_factory):
  """-> (transformers' main model and MTP module, our parameters, our config) of one checkpoint that we wrote."""
  cfg = dataclasses.replace(pair(MTP)[2], mtp=1)
  params = random_params(cfg)
  directory = tmp_path_factory.mktemp('mtp') / 'model'
  hf.export(params, cfg, directory)
  kind = transformers.DeepseekV3ForCausalLM
  with pytest.MonkeyPatch.context() as patch:
    # transformers finds the module by the number of layers of DeepSeek-V3.
    patch.setattr(kind, '_keys_to_ignore_on_load_unexpected', [r'model\.layers\.3.*'])
    model = kind.from_pretrained(directory, attn_implementation='eager', dtype=torch.float32)
    module = modeling_layers.MtpModel.from_pretrained(model)
    yield model.eval(), module.eval(), params, cfg


def test_mtp_module(mtp_pair):
  """transformers drafts from `hidden_states[-1]` of the main model, which it holds after the final norm."""
  model, module, params, cfg = mtp_pair
  tokens = _tokens(2, 49, seed=3)
  main = _theirs(model, tokens[:, :-1], output_hidden_states=True)
  hidden = main.hidden_states[-1]
  head = model.lm_head.weight.detach()
  torch.testing.assert_close(hidden @ head.T, main.logits)
  with torch.no_grad():
    positions = torch.arange(1, 49).expand(2, 48)
    out = module.forward_layer(0, hidden, positions, None, input_ids=torch.tensor(tokens[:, 1:]))
    theirs = module._project_to_logits(out)

  @jax.jit
  def ours(params):
    positions = jnp.broadcast_to(jnp.arange(48), (2, 48))
    hidden = forward(params, cfg, jnp.asarray(tokens[:, :-1]), positions).hidden
    out, _ = mtp_hidden(params, cfg, hidden, jnp.asarray(tokens[:, 1:]), positions)
    return logits(params, out)

  _assert_close(ours(params), theirs)
