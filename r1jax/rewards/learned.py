"""Rewards of trained reward models, beside the rules' (R1, Methods and Nature eq. 9).

    helpful   judges the final answer alone, so that no thought is interfered with
    safety    judges the whole response

A policy that is optimised against them for long learns to please them instead (R1 does so for its last 400 steps
only): mean, spread and correlation with the rules are metrics of every step.
"""

import dataclasses
import json
import math
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from r1jax import hosts, preference, prompts
from r1jax.batch import ROW_BLOCK, batch_shape, unpack
from r1jax.checkpoint import Checkpointer
from r1jax.config import ModelSettings
from r1jax.mesh import data_ways
from r1jax.model import weights
from r1jax.preference import PreferenceConfig
from r1jax.problems import Problem
from r1jax.rewards import format
from r1jax.rewards.scoring import Scores
from r1jax.stages.context import Context
from r1jax.stages.training import place


class LearnedReward:
  """A trained reward model. path: the folder of its stage, with done.json. micro_batch: tokens judged at once.

  Raises FileNotFoundError, ValueError or CheckpointError.
  """

  def __init__(self, path: str, context: Context, micro_batch: int = 32768):
    done = described(path)
    if done['tokenizer'] != context.tokenizer.fingerprint:
      raise ValueError(
        f'{path}: the reward model was trained with another tokenizer; valid: one that has that of the policy'
      )
    self.kind, self.template = done['kind'], done['template']
    self.mean, self.std = done['mean'], max(done['std'], 1e-6)
    self.tokenizer, self.mesh, self.micro_batch = context.tokenizer, context.sharded, micro_batch
    self.model = preference.config(ModelSettings(**done['model']).config(done['init']))
    goal = {'policy': weights.abstract(preference.spec(self.model), self.model, self.mesh)}
    saved = Checkpointer(Path(path) / 'checkpoints')
    self.params = saved.restore(done['reward_model'], goal, partial=True)[0]['policy']

  def scores(self, prompts_: Sequence[str], responses: Sequence[Sequence[str]]) -> np.ndarray:
    """P questions, [P][G] responses with their tags -> rewards as the model gives them [P, G], float32."""
    texts = [
      to_tokens(prompt, response, self.kind, self.tokenizer, self.template)
      for prompt, group in zip(prompts_, responses, strict=True)
      for response in group
    ]
    rewards = reward_of(self.params, texts, self.model, self.micro_batch, self.mesh)
    return rewards.reshape(len(prompts_), -1)


def described(path: str) -> dict:
  """The folder of a preference stage -> its result. FileNotFoundError or ValueError names the folder."""
  file = Path(path) / 'done.json'
  valid = 'valid: the folder of a finished preference stage, such as runs/preference-seed0/helpful'
  if not file.is_file():
    raise FileNotFoundError(f'{file} is not there; {valid}')
  done = json.loads(file.read_text())
  if 'reward_model' not in done:
    raise ValueError(f'{file} describes no reward model; {valid}')
  return done


def final_answer(response: str) -> str:
  """What follows the thought, without answer tags; of a response without a thought, all. '' where it never ends."""
  inside = format.answer(response)
  return format.after_thought(response).strip() if inside is None else inside


def to_tokens(prompt: str, response: str, kind: str, tokenizer, template: str) -> np.ndarray:
  """A question and its response -> BOS, prompt, what the kind of model judges of the response, EOS: int32 [N].

  What a template opens of the response belongs to the response here.
  """
  text = prompts.render(Problem(0, '', prompt, ''), template).removesuffix(prompts.opened(template))
  judged = final_answer(response) if kind == 'helpful' else response
  bos = [] if tokenizer.bos is None else [tokenizer.bos]
  eos = [] if tokenizer.eos is None else [int(np.atleast_1d(tokenizer.eos)[0])]
  tokens = bos + list(tokenizer.encode(text)) + list(tokenizer.encode(judged)) + eos
  return np.array(tokens, np.int32)


def reward_of(w, texts: Sequence[np.ndarray], model, micro_batch: int, mesh) -> np.ndarray:
  """A reward model, N texts as tokens -> rewards [N], float32. The same texts always give the same bits.

  Of a text that is longer than the model's context the end counts. Number and length of texts are rounded up to
  powers of two, so that few programs are compiled.
  """
  texts = [text[-model.max_positions :] for text in texts]
  row = min(_power_of_two(max(map(len, texts))), model.max_positions)
  shape = batch_shape(
    _power_of_two(len(texts)),
    max(row, ROW_BLOCK),
    micro_batch,
    1 if mesh is None else data_ways(mesh),
  )
  singles = [preference.Comparison((text,), (1.0,)) for text in texts]
  batch, places = preference.pack_comparisons(singles, shape)
  found = hosts.fetch(preference.batch_rewards(w, place(batch, mesh), model))
  return np.array([rewards[-1] for rewards in unpack(found, places)], np.float32)


def _power_of_two(n: int) -> int:
  return 1 << (n - 1).bit_length()


@dataclasses.dataclass
class Moments:
  """Count, mean and sum of squared deviations of all values so far (Chan et al., 1983)."""

  count: int = 0
  mean: float = 0.0
  squares: float = 0.0

  def add(self, values: np.ndarray) -> None:
    values = np.asarray(values, np.float64)
    count, gap = self.count + values.size, values.mean() - self.mean
    self.squares += values.size * (values.var() + gap**2 * self.count / count)
    self.mean += gap * values.size / count
    self.count = count

  @property
  def std(self) -> float:
    return max(math.sqrt(self.squares / max(self.count, 1)), 1e-6)


class Preferences:
  """The reward models of an RL stage, by its name. `state` goes into its checkpoints."""

  def __init__(self, cfg: PreferenceConfig, stage: str, context: Context, micro_batch: int = 32768):
    self.cfg = cfg
    self.models = {
      kind: LearnedReward(_folder(path, context), context, micro_batch)
      for kind, path in cfg.models(stage).items()
    }
    self.moments = {kind: Moments() for kind in self.models}
    for kind, model in self.models.items():
      if model.kind != kind:
        raise ValueError(
          f'{kind}={getattr(cfg, kind)!r} is a {model.kind} model; valid: one of kind {kind}'
        )

  def state(self) -> dict:
    """Fit for JSON."""
    return {kind: dataclasses.asdict(moments) for kind, moments in self.moments.items()}

  def set_state(self, state: dict) -> None:
    """Of a stage that had fewer models too: those that it lacked begin anew."""
    self.moments |= {
      kind: Moments(**moments) for kind, moments in state.items() if kind in self.models
    }

  def add(self, scores: Scores, problems: Sequence[Problem], texts: list[list[str]]) -> Scores:
    """The rules' Scores of P problems, [P][G] completions -> with the models' rewards, unless there is no model.

    Parts: 'preference' is what is weighed, 0 for problems of no model; 'preference_score' is standardised by the
    model's own mean and std, and not capped: what shows whether the policy has learned to please it. Raises ValueError
    for a problem that names a model that is not there.
    """
    if not self.models:
      return scores
    judges = [judge(problem, self.cfg, self.models) for problem in problems]
    part, score = np.zeros_like(scores.total), np.zeros_like(scores.total)
    for kind, model in self.models.items():
      which = [i for i, name in enumerate(judges) if name == kind]
      if which:
        raw = model.scores([problems[i].prompt for i in which], [texts[i] for i in which])
        score[which] = (raw - model.mean) / model.std
        part[which] = np.clip(self._standardised(raw, kind), -self.cfg.cap, self.cfg.cap)
    return dataclasses.replace(
      scores,
      total=scores.total + np.float32(self.cfg.weight) * part,
      parts=scores.parts | {'preference': part, 'preference_score': score},
    )

  def _standardised(self, raw: np.ndarray, kind: str) -> np.ndarray:
    by = self.models[kind]
    if self.cfg.normalise == 'running':
      by = self.moments[kind]
      by.add(raw)
    return (raw - by.mean) / by.std


def judge(problem: Problem, cfg: PreferenceConfig, models: Container[str]) -> str:
  """The kind of model that judges a problem, one of `models`, or none. ValueError for a name without a model: such a
  problem would earn nothing, and nobody would know.
  """
  name = problem.details.get('preference', cfg.default)
  if name != 'none' and (name not in preference.KINDS or name not in models):
    valid = ('none', *(kind for kind in preference.KINDS if kind in models))
    known = (
      f'has no model: set preference_reward.{name}' if name in preference.KINDS else 'is unknown'
    )
    raise ValueError(
      f'problem {problem.id} has preference={name!r:.60}, which {known}; valid: one of {valid}'
    )
  return name


def _folder(path: str, context: Context) -> str:
  """A folder, or the name of a stage of this experiment -> the folder."""
  named = (stage for stage in context.experiment.stages if stage.name == path)
  return next((str(context.folder(stage)) for stage in named), path)


def drift(scores: Scores) -> dict[str, float]:
  """Scores -> mean and std of 'preference_score', and its correlation with the sum of the rules' parts, over the
  problems that a model judged; {} without any. A correlation is 0 where either does not vary.
  """
  learned = scores.parts.get('preference_score', np.zeros((0, 0)))
  judged = learned.any(axis=1)
  if not judged.any():
    return {}
  names = scores.parts.keys() - {'preference', 'preference_score'}
  rules = sum(scores.parts[name][judged] for name in sorted(names)).ravel().astype(np.float64)
  learned = learned[judged].ravel().astype(np.float64)
  varies = learned.std() > 0 and rules.std() > 0
  return {
    'preference_score': float(learned.mean()),
    'preference_std': float(learned.std()),
    'preference_correlation': float(np.corrcoef(learned, rules)[0, 1]) if varies else 0.0,
  }
