"""Reinforcement learning with rule rewards: problem -> prompt -> rollout -> reward -> advantage -> update."""

import dataclasses
import math
import time

import jax
import numpy as np

from r1jax import decoding, hosts, prompts
from r1jax.advantage import group_variance
from r1jax.algorithms import Algorithm
from r1jax.batch import Batch, batch_shape
from r1jax.config import Stage
from r1jax.decoding import SamplingConfig
from r1jax.explore import Groups, choose, join, scored_when_done
from r1jax.mesh import data_ways
from r1jax.objective import PolicyLoss
from r1jax.optimizer import OptimizerConfig
from r1jax.problems import Problem, mixture
from r1jax.problems.iterator import ProblemIterator, problem_iterator
from r1jax.rewards import RewardConfig
from r1jax.rewards.learned import Preferences
from r1jax.rewards.scoring import Scoring
from r1jax.rollout import end_tokens, generate
from r1jax.stages.context import Context, Preempted
from r1jax.stages.minibatches import minibatches
from r1jax.stages.training import Program, Trainer
from r1jax.update import UpdateConfig

LEAST = {
  'prompts_per_step': 1,
  'steps_per_rollout': 1,
  'inner_epochs': 1,
  'checkpoint_every': 1,
  'micro_batch': 1,
  'sample_every': 0,
}
MOST_DRAWS = 10  # rollouts that dynamic sampling may take to fill one


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of a stage. A step is one update from prompts_per_step * samples_per_prompt sequences.

  steps_per_rollout: minibatches that one rollout is split into. inner_epochs: times that each is learned from.
  micro_batch: tokens whose gradient is computed at once; for memory only. overlong_buffer: tokens before max_tokens
  over which a penalty for length grows, 0: a fifth of max_tokens. continues: the stage whose whole state this one goes
  on from, its steps counted on; '' for a new state from the policy.
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
  overlong_buffer: int = 0
  checkpoint_every: int = 100
  sample_every: int = 10
  continues: str = ''

  def __post_init__(self):
    for field, least in LEAST.items():
      if getattr(self, field) < least:
        raise ValueError(f'{field}={getattr(self, field)} is not possible; valid: at least {least}')
    if self.samples_per_prompt < 2:
      raise ValueError(
        f'samples_per_prompt={self.samples_per_prompt} is not possible; valid: at least 2, such as 16: '
        'a sample is measured against the others of its group'
      )
    how = self.sampling
    if not 0 <= self.overlong_buffer <= how.max_tokens:
      raise ValueError(
        f'overlong_buffer={self.overlong_buffer} is not possible; valid: 0 to {how.max_tokens}'
      )
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
      sample_every=cfg.sample_every, host=self.state, steps_per_rollout=cfg.updates_per_rollout,
      continues=cfg.continues,
    )  # fmt: skip
    # Each host draws its share, or as many as share a step's problems out evenly; then all know all of them.
    self.shares = math.gcd(cfg.prompts_per_step, jax.process_count())
    self.problems: ProblemIterator = problem_iterator(
      context.problems('train'), context.experiment.seed + context.number(stage), cfg.prompts_per_step // self.shares,
      jax.process_index() % self.shares, self.shares, mixture.weights(context.experiment.problems),
    )  # fmt: skip
    self.preferences = Preferences(
      context.experiment.preference_reward, stage.name, context, cfg.micro_batch
    )
    self.drawn = 0  # problems, ever: the id of a prompt's noise
    self.minibatches: list[dict] = []  # of the rollout, in the order in which they are learned from
    self.timing: dict[str, float] = {}

  def state(self) -> dict:
    """What a checkpoint keeps: data position, moments of preference rewards, and the rest of the rollout."""
    return {
      'problems': self.problems.get_state(),
      'drawn': self.drawn,
      'preferences': self.preferences.state(),
      'minibatches': self.minibatches,
    }

  def set_state(self, kept: dict) -> None:
    self.problems.set_state(kept['problems'])
    self.preferences.set_state(kept['preferences'])
    self.drawn, self.minibatches = kept['drawn'], kept['minibatches']

  def warm_up(self) -> None:
    """Compiles what decoding needs."""
    self.trainer.report.say('compiling')
    with jax.transfer_guard('allow'):
      eos = end_tokens(self.context.tokenizer)
      decoding.warm_up(
        self.trainer.state.policy, self.context.model, self.shapes, self.cfg.sampling, eos,
        self.context.raise_if_stopping,
      )  # fmt: skip

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
      made = minibatches(groups, self.cfg, self.program, self.trainer.state, self.context.sharded)
      self.minibatches = made * self.cfg.inner_epochs
    self.timing['prepare'] = time.perf_counter() - started

  def _groups(self) -> Groups:
    """The groups of one rollout. With dynamic sampling those without variance are drawn anew (DAPO, 3.2)."""
    wanted = self.shapes.prompts
    kept = self._draw()
    if not self.cfg.algorithm.dynamic_sampling:
      return kept
    kept, rest = by_variance(kept)
    for _ in range(MOST_DRAWS - 1):
      if len(kept.problems) >= wanted:
        break
      more, rest = by_variance(self._draw())
      kept = join(kept, more)
    if len(kept.problems) < wanted:
      self.trainer.report.warn(
        f'dynamic_sampling: {MOST_DRAWS} rollouts gave {len(kept.problems)} groups with variance, {wanted} are '
        'needed: the rest is filled with groups that teach nothing'
      )
      kept = join(kept, rest)
    return choose(kept, np.arange(len(kept.problems)) < wanted)

  def _draw(self) -> Groups:
    """problems -> prompts -> rollouts -> rewards."""
    cfg, context = self.cfg, self.context
    template, tokenizer = context.experiment.prompt.template, context.tokenizer
    started = time.perf_counter()
    problems = self._next_problems()
    ids = range(self.drawn, self.drawn + len(problems))
    self.drawn += len(problems)
    tokens = prompts.encode(problems, tokenizer, template)
    state = self.trainer.state
    scoring = Scoring(problems, cfg.samples_per_prompt, cfg.reward, context.pool)
    rollouts = generate(
      state.policy, context.model, tokens, ids, step_key(state.key, state.step), cfg.sampling,
      group=cfg.samples_per_prompt, tokenizer=tokenizer, shapes=self.shapes, poll=context.raise_if_stopping,
      watch=scored_when_done(scoring, tokenizer, template),
    )  # fmt: skip
    generated = time.perf_counter()
    texts = scoring.texts()
    scores = self.preferences.add(scoring.scores(), problems, texts)
    groups = Groups(problems, rollouts, scores, texts)
    self._took('rollout', generated - started)
    self._took('reward', time.perf_counter() - generated)
    for complaint in sum(hosts.gather(context.pool.complaints()), []):
      self.trainer.report.warn(complaint)
    return groups

  def _next_problems(self) -> list[Problem]:
    """Of one rollout: the steps one after another, in each the shares of the hosts in their order."""
    own = [self.problems.next_places() for _ in range(self.cfg.steps_per_rollout)]
    shares = hosts.gather(own)[: self.shares]
    places = [place for step in zip(*shares, strict=True) for share in step for place in share]
    return [self.problems.source[place] for place in places]

  def _took(self, phase: str, seconds: float) -> None:
    self.timing[phase] = self.timing.get(phase, 0.0) + seconds


def by_variance(groups: Groups) -> tuple[Groups, Groups]:
  """Groups -> those whose samples differ in accuracy, and the others (DAPO, 3.2); in their reward where there is no
  answer.
  """
  scores = groups.scores
  varied = group_variance(np.where(scores.checked, scores.parts['accuracy'], scores.total))
  return choose(groups, varied), choose(groups, ~varied)


step_key = jax.jit(jax.random.fold_in)
