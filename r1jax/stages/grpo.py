"""Reinforcement learning with rule rewards: problem -> prompt -> rollout -> reward -> advantage -> update."""

import dataclasses
import time

import jax
import numpy as np

from r1jax import decoding, prompts
from r1jax.advantage import advantages, group_variance, k1, overlong_penalty
from r1jax.algorithms import Algorithm
from r1jax.batch import Batch, Places, batch_shape, pack
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.explore import (
  Groups,
  choose,
  completions,
  examples,
  join,
  learned_length,
  metrics_of,
  per_token,
  spread_advantage,
)
from r1jax.mesh import data_ways
from r1jax.objective import PolicyLoss
from r1jax.optimizer import OptimizerConfig
from r1jax.problems import Problem
from r1jax.problems.iterator import ProblemIterator, problem_iterator
from r1jax.rewards import RewardConfig, score
from r1jax.rollout import end_tokens, generate
from r1jax.stages.context import Context, Preempted
from r1jax.stages.training import Program, Trainer, place
from r1jax.update import UpdateConfig, logprobs

MOST_DRAWS = 10  # rollouts that dynamic sampling may take to fill one
OVERLONG_SHARE = (
  5  # the soft penalty begins on the last fifth of max_tokens (DAPO: 4,096 of 20,480)
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of a stage. A step is one update from prompts_per_step * samples_per_prompt sequences.

  steps_per_rollout: minibatches that one rollout is split into. inner_epochs: times that each is learned from.
  micro_batch: tokens whose gradient is computed at once; for memory only.
  """

  prompts_per_step: int
  samples_per_prompt: int
  sampling: SamplingConfig
  reward: RewardConfig
  algorithm: Algorithm
  optimizer: OptimizerConfig
  update: UpdateConfig
  steps_per_rollout: int = 1
  inner_epochs: int = 1
  micro_batch: int = 32768
  checkpoint_every: int = 100
  sample_every: int = 10

  def __post_init__(self):
    for field in (
      'prompts_per_step',
      'steps_per_rollout',
      'inner_epochs',
      'checkpoint_every',
      'micro_batch',
    ):
      if getattr(self, field) < 1:
        raise ValueError(f'{field}={getattr(self, field)} is not possible; valid: at least 1')
    if self.samples_per_prompt < 2:
      raise ValueError(
        f'samples_per_prompt={self.samples_per_prompt} is not possible; valid: at least 2, such as 16: '
        'a sample is measured against the others of its group'
      )
    how = self.sampling
    if how.temperature <= 0:
      raise ValueError(
        f'temperature={how.temperature} is not possible; valid: above 0, such as 1.0'
      )
    for field, off in (('top_p', 1.0), ('top_k', 0), ('min_tokens', 0)):
      if getattr(how, field) != off:
        raise ValueError(
          f'{field}={getattr(how, field)} is not possible in training, which takes log-probabilities of the whole '
          f'distribution; valid: {off}'
        )
    updates = self.updates_per_rollout
    if self.optimizer.steps % updates:
      raise ValueError(
        f'steps={self.optimizer.steps} is not possible; valid: a multiple of steps_per_rollout * '
        f'inner_epochs = {updates}'
      )
    if self.update.reference_every % updates:
      raise ValueError(
        f'reference_every={self.update.reference_every} is not possible; valid: 0, or a multiple of '
        f'steps_per_rollout * inner_epochs = {updates}'
      )

  @property
  def updates_per_rollout(self) -> int:
    return self.steps_per_rollout * self.inner_epochs

  @property
  def uses_reference(self) -> bool:
    return self.algorithm.needs_reference

  def loss(self) -> PolicyLoss:
    return PolicyLoss(
      self.algorithm.objective(self.sampling.max_tokens), on_policy=self.updates_per_rollout == 1
    )

  def program(self, context: Context) -> Program:
    """What the update is compiled for."""
    longest = context.experiment.prompt.longest + self.sampling.max_tokens
    sequences = self.prompts_per_step * self.samples_per_prompt
    shape = batch_shape(sequences, longest, self.micro_batch, data_ways(context.mesh))
    temperature = self.sampling.temperature
    return Program(context.model, self.optimizer, self.update, self.loss(), shape, temperature)

  def shapes(self, context: Context) -> decoding.Shapes:
    """What decoding is compiled for."""
    prompts_ = self.prompts_per_step * self.steps_per_rollout
    longest = context.experiment.prompt.longest
    return decoding.shapes_of(
      prompts_, self.samples_per_prompt, longest, self.sampling, data_ways(context.mesh)
    )


def run(cfg: Config, stage: Stage, context: Context) -> dict:
  """Trains context.params() -> the stage's result."""
  learner = Learner(cfg, stage, context)
  kept = learner.trainer.restore()
  if kept is not None:
    learner.set_state(kept)
  if learner.trainer.step < cfg.optimizer.steps:
    learner.warm_up()
  while learner.trainer.step < cfg.optimizer.steps:
    if not learner.minibatches:
      learner.explore()
    batch, metrics, timing = learner.next_minibatch()
    learner.trainer.advance(batch, metrics, timing)
  return learner.trainer.finish()


def replay(cfg: Config, stage: Stage, context: Context, step: int) -> dict[str, float]:
  """The metrics of one step's update, rebuilt from its saved batch."""
  return Learner(cfg, stage, context).trainer.replay(step)


class Learner:
  """Rollouts in, minibatches out. What of it must survive a restart is in `state`."""

  def __init__(self, cfg: Config, stage: Stage, context: Context):
    self.cfg, self.context = cfg, context
    self.program, self.shapes = cfg.program(context), cfg.shapes(context)
    self.trainer = Trainer(
      context, stage, self.program, reference=cfg.uses_reference, checkpoint_every=cfg.checkpoint_every,
      sample_every=cfg.sample_every, host=self.state,
    )  # fmt: skip
    seed, host, hosts = context.experiment.seed, jax.process_index(), jax.process_count()
    problems = context.problems('train')
    self.problems: ProblemIterator = problem_iterator(
      problems, seed, cfg.prompts_per_step, host, hosts
    )
    self.drawn = 0  # problems, ever: the id of a prompt's noise
    self.minibatches: list[
      dict
    ] = []  # of the current rollout, in the order in which they are learned from
    self.timing: dict[str, float] = {}

  def state(self) -> dict:
    """What a checkpoint keeps: data position, and the rest of the rollout."""
    return {
      'problems': self.problems.get_state(),
      'drawn': self.drawn,
      'minibatches': self.minibatches,
    }

  def set_state(self, kept: dict) -> None:
    self.problems.set_state(kept['problems'])
    self.drawn, self.minibatches = kept['drawn'], kept['minibatches']

  def warm_up(self) -> None:
    """Compiles what decoding needs."""
    self.trainer.report.say('compiling')
    with jax.transfer_guard('allow'):
      eos = end_tokens(self.context.tokenizer)
      decoding.warm_up(
        self.trainer.state.policy, self.context.model, self.shapes, self.cfg.sampling, eos
      )

  def next_minibatch(self) -> tuple[Batch, dict, dict]:
    """-> (batch, metrics of its samples, seconds that making it took)."""
    entry, timing = self.minibatches.pop(0), self.timing
    self.timing = {}
    step = self.trainer.step + 1
    if self.trainer.report.wants_sample(step):
      problem, completion, reward = entry['shown']
      self.trainer.report.sample(step, Problem(**problem), completion, reward)
    return Batch.from_arrays(entry['arrays'], self.program.shape), entry['metrics'], timing

  def explore(self) -> None:
    """One rollout -> its minibatches. Raises Preempted, with the state before the rollout saved."""
    before = self.state()
    try:
      self._explore()
    except Preempted:
      self.set_state(before)
      self.trainer.stop()

  def _explore(self) -> None:
    """One rollout -> its minibatches, repeated for every inner epoch."""
    with jax.transfer_guard('disallow'):
      groups = self._groups()
      started = time.perf_counter()
      size = self.cfg.prompts_per_step
      parts = [self._part(groups, slice(i, i + size)) for i in range(0, len(groups.problems), size)]
      self.minibatches = self._minibatches(parts) * self.cfg.inner_epochs
    self.timing['prepare'] = time.perf_counter() - started

  def _groups(self) -> Groups:
    """The groups of one rollout. With dynamic sampling those without variance are drawn anew (DAPO, 3.2)."""
    wanted = self.shapes.prompts
    kept = self._draw()
    if not self.cfg.algorithm.dynamic_sampling:
      return kept
    kept = choose(kept, group_variance(kept.scores.parts['accuracy']))
    for _ in range(MOST_DRAWS - 1):
      if len(kept.problems) >= wanted:
        break
      more = self._draw()
      kept = join(kept, choose(more, group_variance(more.scores.parts['accuracy'])))
    if len(kept.problems) < wanted:
      self.trainer.report.warn(
        f'dynamic_sampling: {MOST_DRAWS} rollouts gave {len(kept.problems)} groups with variance, {wanted} are '
        'needed: the rest is filled with groups that teach nothing'
      )
      kept = join(kept, more)
    return choose(kept, np.arange(len(kept.problems)) < wanted)

  def _draw(self) -> Groups:
    """problems -> prompts -> rollouts -> rewards."""
    cfg, context = self.cfg, self.context
    template, tokenizer = context.experiment.prompt.template, context.tokenizer
    started = time.perf_counter()
    problems = [p for _ in range(cfg.steps_per_rollout) for p in self.problems.next()]
    ids = range(self.drawn, self.drawn + len(problems))
    self.drawn += len(problems)
    tokens = prompts.encode(problems, tokenizer, template)
    policy, key = (
      self.trainer.state.policy,
      step_key(self.trainer.state.key, self.trainer.state.step),
    )
    rollouts = generate(
      policy, context.model, tokens, ids, key, cfg.sampling, group=cfg.samples_per_prompt, tokenizer=tokenizer,
      shapes=self.shapes, poll=context.raise_if_stopping,
    )  # fmt: skip
    generated = time.perf_counter()
    texts = completions(rollouts, tokenizer, template)
    scores = score(texts, problems, cfg.reward)
    self._took('rollout', generated - started)
    self._took('reward', time.perf_counter() - generated)
    return Groups(problems, rollouts, scores, texts)

  def _took(self, phase: str, seconds: float) -> None:
    self.timing[phase] = self.timing.get(phase, 0.0) + seconds

  def _part(self, groups: Groups, which: slice) -> tuple[Groups, Batch, Places]:
    """The groups of one step -> with their packed batch, whose advantages are still 0."""
    part = choose(groups, np.arange(len(groups.problems))[which])
    batch, places = pack(examples(part.rollouts, self.cfg.algorithm.overlong), self.program.shape)
    return part, self._with_logprobs(batch), places

  def _with_logprobs(self, batch: Batch) -> Batch:
    """Fills in what the policy and the reference make of the batch, where the objective asks for it."""
    state, model, temperature = self.trainer.state, self.context.model, self.program.temperature
    placed = place(batch, self.context.sharded)
    if self.cfg.updates_per_rollout > 1 or self.cfg.algorithm.kl_in_reward:
      batch = batch.replace(
        old_logprob=jax.device_get(logprobs(state.policy, placed, model, temperature))
      )
    if self.cfg.uses_reference:
      found = jax.device_get(logprobs(state.reference, placed, model, temperature))
      batch = batch.replace(reference_logprob=found)
    return batch

  def _minibatches(self, parts: list[tuple[Groups, Batch, Places]]) -> list[dict]:
    """Advantages over the whole rollout, then one entry a step, fit for a checkpoint."""
    length = np.concatenate(
      [learned_length(p.rollouts, self.cfg.algorithm.overlong) for p, _, _ in parts]
    )
    rewards = np.concatenate([self._rewards(p) for p, _, _ in parts])
    penalty = (
      np.concatenate([self._penalty(*part) for part in parts])
      if self.cfg.algorithm.kl_in_reward
      else None
    )
    found = advantages(rewards, self.cfg.algorithm.advantage, kl=penalty, length=length)
    entries = []
    for number, (part, batch, places) in enumerate(parts):
      size = len(part.problems)
      mine = found[number * size : (number + 1) * size]
      batch = batch.replace(advantage=spread_advantage(mine, part.rollouts, places, batch))
      shown = [
        dataclasses.asdict(part.problems[0]),
        part.texts[0][0],
        float(part.scores.total[0, 0]),
      ]
      entries.append({'arrays': batch.arrays(), 'metrics': metrics_of(part), 'shown': shown})
    return entries

  def _rewards(self, part: Groups) -> np.ndarray:
    """[P, G], with the penalty for great length where the algorithm has one."""
    if 'penalty' not in self.cfg.algorithm.overlong:
      return part.scores.total
    most = self.cfg.sampling.max_tokens
    return part.scores.total + overlong_penalty(
      part.rollouts.length, most, max(most // OVERLONG_SHARE, 1)
    )

  def _penalty(self, part: Groups, batch: Batch, places: Places) -> np.ndarray:
    """kl_weight * k1 of every token [P, G, Tc] (RLOO, REINFORCE++)."""
    old = per_token(batch.old_logprob, part.rollouts, places)
    reference = per_token(batch.reference_logprob, part.rollouts, places)
    return self.cfg.algorithm.kl_weight * k1(old, reference, part.rollouts.length)


step_key = jax.jit(jax.random.fold_in)
