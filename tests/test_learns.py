"""The promise of the project, kept in full: the policy discovers by itself that thinking longer pays."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from r1jax import problems, prompts, tokenizer
from r1jax.decoding import SamplingConfig
from r1jax.model import hf
from r1jax.problems import ProblemsConfig
from r1jax.rollout import generate

ROOT = pathlib.Path(__file__).parents[1]
MAX_TOKENS = 256

pytestmark = pytest.mark.slow


def python(*arguments: str) -> None:
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  subprocess.run(
    [sys.executable, '-m', *arguments], cwd=ROOT, env=environment, check=True, timeout=3600
  )


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> pathlib.Path:
  """The run of the dense twin with the shipped settings."""
  path = tmp_path_factory.mktemp('learns') / 'run'
  python('r1jax.main', '--config=experiments/r1_zero.py:tiny_dense', f'--workdir={path}')
  return path


def test_r1_zero_of_the_dense_twin_from_one_command(workdir):
  """Held-out pass@1 from at most 0.35 to at least 0.80, and half as long again."""
  summary = json.loads((workdir / 'summary.json').read_text())
  before, after = summary['evaluation']['before'], summary['evaluation']['after']
  assert before['pass@1'] <= 0.35
  assert after['pass@1'] >= 0.80
  assert after['mean_length'] >= 1.5 * before['mean_length']
  assert [stage['kind'] for stage in summary['stages']] == ['evaluate', 'grpo', 'evaluate']
  assert (workdir / 'plot.png').stat().st_size > 10_000
  assert 'Samples after' in (workdir / 'report.md').read_text()


def test_what_it_has_learned_is_the_same_in_transformers(workdir, tmp_path):
  """Exported, and loaded there without code of ours, the model gives the same 50 answers at temperature 0."""
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  model = tmp_path / 'model'
  python('r1jax.convert', str(workdir), str(model))
  theirs = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
  their_tokens = transformers.PreTrainedTokenizerFast.from_pretrained(model)
  own_tokens = tokenizer.load(model)
  chosen = problems.load(ProblemsConfig(heldout_fraction=0.2), 'heldout')[:50]
  mine = greedy(model, own_tokens, prompts.encode(chosen, own_tokens, 'short'))
  for problem, tokens in zip(chosen, mine, strict=True):
    asked = their_tokens(prompts.render(problem, 'short'), return_tensors='pt')
    with torch.no_grad():
      found = theirs.generate(**asked, max_new_tokens=MAX_TOKENS, do_sample=False)[0]
    answer = found[asked['input_ids'].shape[1] :].tolist()
    assert answer == tokens, (own_tokens.decode(answer), own_tokens.decode(tokens))


def greedy(model: pathlib.Path, tokens, asked: list[np.ndarray]) -> list[list[int]]:
  """Prompts -> completions at temperature 0."""
  params, cfg = hf.load(model)
  how = SamplingConfig(max_tokens=MAX_TOKENS, temperature=0.0)
  found = generate(
    params, cfg, asked, range(len(asked)), jax.random.key(0), how, group=1, tokenizer=tokens
  )
  return [found.completion(p, 0).tolist() for p in range(len(asked))]
