"""config.json that was edited by hand: we compute what transformers computes, or name the field that we refuse."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.model import hf
from r1jax.model.transformer import forward, logits

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
parity_models = importlib.import_module('parity_models')

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('quick_compile')]
TOKENS = np.random.default_rng(0).integers(0, 67, (1, 96))
GONE = object()


def _old(**more):
  """Edits a config as transformers 5 writes it: rope_parameters -> rope_theta and rope_scaling."""

  def edit(fields):
    scaling = fields.pop('rope_parameters')
    fields |= {'rope_theta': scaling.pop('rope_theta'), 'rope_scaling': scaling | more}

  return edit


def _inside(**more):
  """The same for fields of rope_parameters."""
  return lambda fields: fields['rope_parameters'].update(more)


def _twice(fields):
  rope = fields['rope_parameters']
  fields |= {'rope_scaling': rope | {'type': rope['rope_type']}}


def _set(**change):
  def edit(fields):
    fields |= change
    for name in [name for name, value in fields.items() if value is GONE]:
      del fields[name]

  return edit


# Name -> (case of parity_models, edit).
SAME = {
  'rope_theta inside counts': ('llama theta 100', _set(rope_theta=1e6)),
  'llama3 in the old spelling': ('llama llama3', _old()),
  'yarn in the old spelling': ('v3 yarn', _old(type='yarn')),
  'type and rope_type': ('llama llama3', _inside(type='llama3')),
  'both spellings alike': ('llama llama3', _twice),
  'attn_factor 1': ('qwen2 one key head, yarn', _inside(attn_factor=1.0)),
  'all of a head is rotated': ('llama theta 100', _set(partial_rotary_factor=1.0)),
  'a window that is off': ('qwen3', _set(sliding_window=8, use_sliding_window=False)),
  'pretraining_tp': ('llama theta 100', _set(pretraining_tp=2)),
  'outputs': ('v3 yarn', _set(output_router_logits=True, output_hidden_states=True)),
  'v2 greedy over groups': ('v2 q_lora, groups', _set(topk_method='greedy')),
  'v2 without a method': ('v2-lite', _set(topk_method=GONE, n_group=GONE, topk_group=GONE)),
  'v2 one group by its method': ('v2-lite', _set(topk_method='group_limited_greedy')),
}
# Name -> (case, edit, what our error names). transformers loads them all, as another function than unedited.
REFUSED = {
  'qwen2 sees what follows': ('qwen2', _set(is_causal=False), 'is_causal False'),
  'llama sees what follows': ('llama theta 100', _set(is_causal=None), 'is_causal None'),
  'v3 topk_group': ('v3 yarn', _set(topk_group=GONE), 'topk_group is missing'),
  'v3 more experts than kept': ('v3 yarn', _set(num_experts_per_tok=5), 'num_experts_per_tok 5 is more'),
  'v3 halves of a head': ('v3 yarn', _set(rope_interleave=None), 'rope_interleave None'),
  'v2 without a method': ('v2 q_lora, groups', _set(topk_method=GONE), 'topk_method is missing'),
  'both spellings': (
    'llama llama3', _set(rope_scaling={'rope_type': 'default'}, rope_theta=300.0), 'rope_parameters differ',
  ),
  'a ramp between whole dimensions': ('llama yarn, 3 and 0.5 turns', _inside(truncate=None), 'truncate None'),
  'attention_factor': ('v3 yarn', _inside(attention_factor=2.0), 'attention_factor = 2.0'),
}  # fmt: skip


@pytest.fixture
def edited(tmp_path):
  """Case, edit -> directory, logits of transformers before, and after the edit."""

  def make(case, edit):
    model = parity_models.build(case)
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / 'config.json').read_text())
    edit(fields)
    hf.write_json(tmp_path / 'config.json', fields)
    other = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path, attn_implementation='eager', dtype=torch.float32
    )
    with torch.no_grad():
      before, after = (
        m(input_ids=torch.tensor(TOKENS), use_cache=False).logits.numpy()
        for m in (model, other.eval())
      )
    return tmp_path, before, after

  return make


@pytest.mark.parametrize('name', SAME)
def test_what_is_read_is_what_transformers_reads(name, edited):
  directory, _, theirs = edited(*SAME[name])
  params, cfg = hf.load(directory)
  positions = jnp.arange(96)[None]
  run = jax.jit(lambda p: logits(p, forward(p, cfg, jnp.asarray(TOKENS), positions).hidden))
  assert np.abs(run(params) - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize('name', REFUSED)
def test_another_function_is_refused(name, edited):
  case, edit, named = REFUSED[name]
  directory, before, after = edited(case, edit)
  assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()
  with pytest.raises(ValueError, match=f'config.json: .*{named}'):
    hf.load(directory)
