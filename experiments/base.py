"""Every field of an experiment once: unit, meaning, and the paper's value where it prints one.

An experiment file takes these sections, changes what it must, and lists its stages in order as 'name:kind'. A
stage's settings are the section called like the stage or, where several stages share them, like its kind.

Fields that few experiments need stand in brackets behind Section: they are set like all others, in the experiment's
file or on the command line, and are part of a run where that is done. The value here is what holds otherwise.
"""

from ml_collections import ConfigDict, config_dict

NUMBER = lambda: config_dict.placeholder(float)  # None: the algorithm's own value
TEXT = lambda: config_dict.placeholder(str)


class Section(ConfigDict):
  """A section, and fields that are added to it when the command line asks for their type in order to set them."""

  def __init__(self, **few_need):
    super().__init__()
    object.__setattr__(self, 'few_need', few_need)  # past ConfigDict, whose attributes are fields

  def get_type(self, key):
    if key in self.few_need and key not in self:
      with self.unlocked():
        self[key] = self.few_need[key]
    return super().get_type(key)


def experiment(name: str, stages: tuple[str, ...]) -> ConfigDict:
  """What every experiment has."""
  c = ConfigDict()
  c.name = name  # of the run's folder and its report
  c.seed = 0  # of the data order, the sampling noise, and random weights
  c.stages = stages  # 'name:kind', in order; kinds: sft, grpo, preference, evaluate, export

  c.model = ConfigDict()
  c.model.size = 'tiny_moe'  # a name of r1jax/model/sizes.py; auto: what init.path holds
  c.model.dtype = (
    'float32'  # float32, mixed, bfloat16, bfloat16_master (fp32 copy for the optimizer)
  )
  c.model.remat = (
    'none'  # what the backward pass keeps of a block: none (all), dots, block (its input)
  )

  c.init = Section(
    tokenizer=''  # a directory, where init.path has none
  )
  # Weights and tokenizer to start from: a directory in Hugging Face layout, a checkpoint or the folder of a run;
  # '': random weights.
  c.init.path = ''

  c.mesh = Section(
    tensor=1  # shards of heads, hidden units and vocabulary
  )  # devices along each axis; one may be -1: all that remain
  c.mesh.data = 1  # copies of the weights
  c.mesh.fsdp = -1  # shards of weights and optimizer
  c.mesh.expert = 1  # shards of the experts
  c.mesh.cpu_devices = 1  # that a CPU counts as, where there is no accelerator

  c.problems = Section(
    kind='',  # of the problems of a file that does not say (r1jax/problems/problem.py), '': by their fields
    broken='fatal',  # what a line that cannot be read is: fatal, or skip (it is counted and named)
    mixture=(),  # in place of source: 'source:weight' each, with settings of its own (r1jax/problems/mixture.py)
    allow_unsandboxed=False,  # programs of kind code run WITHOUT isolation where neither bwrap nor unshare works
    seed=0,  # of generated problems
  )
  # countdown, arithmetic, a .jsonl, .json or .parquet file (r1jax/problems/layouts.py), hub:owner/name:split
  c.problems.source = 'countdown'
  c.problems.numbers_min = 3  # operands of the easiest problem
  c.problems.numbers_max = 3  # operands of the hardest problem
  c.problems.max_number = 9  # operands are drawn from 1 to this
  c.problems.max_target = 99  # answers are integers up to this
  c.problems.style = 'short'  # wording of generated questions: short or tinyzero
  c.problems.heldout_fraction = 0.2  # share of the problems that is never trained on
  c.problems.count = 0  # problems of both splits together, 0: all that exist

  c.prompt = ConfigDict()
  c.prompt.template = 'short'  # r1_zero (R1, Table 1), tinyzero, short
  c.prompt.longest = 16  # tokens; problems with a longer prompt are left out

  # Rewards of trained reward models in RL (R1, second RL stage).
  c.preference_reward = Section(
    stages=(),  # names of the grpo stages that have them, (): all of the experiment
    helpful='',  # folder of the stage that trained the helpful model, or its name; '': none
    safety='',  # folder of the stage that trained the safety model, or its name; '': none
    default='none',  # model of the problems whose details['preference'] names none: none, helpful, safety
    weight=1.0,  # of the reward model's reward beside the rules'
    normalise='fixed',  # mean and std: fixed (of held-out data), running (of all rewards so far)
    cap=3.0,  # largest standardised reward, and the least with a minus
  )
  return c


def grpo() -> ConfigDict:
  """Reinforcement learning. Comments give R1-Zero's values; a step is one update."""
  c = Section(
    language_weight=0.0,  # of the share of the thought that is in the wanted language; R1-Zero: none, R1: used
    language='',  # the wanted language, such as en or zh; problems may have their own (details['language'])
    speculative=False,  # two tokens a step where the draft of the MTP module is kept
    top_p=1.0,  # as top_k and min_tokens nothing else in training, which takes the whole distribution
    top_k=0,
    min_tokens=0,
    sampler_cap=2.0,  # of old / sampler probabilities, with a sampler_correction
    overlong_buffer=0,  # tokens before max_tokens over which DAPO's penalty grows, 0: a fifth of max_tokens
    continues='',  # the grpo stage before it, whose optimizer, reference, data and steps go on here; '': a new start
  )
  c.steps = 10_400  # R1-Zero: 10,400
  c.prompts_per_step = 32  # R1-Zero: 32
  c.samples_per_prompt = 16  # R1-Zero: 16
  c.steps_per_rollout = (
    16  # minibatches that one rollout is split into; R1-Zero: 16 (8,192 samples)
  )
  c.inner_epochs = 1  # times that a rollout is learned from; R1-Zero: 1
  c.micro_batch = 32768  # tokens whose gradient is computed at once, a row at least; for memory only, changes nothing

  c.max_tokens = (
    32768  # of a completion; R1-Zero: 32,768, from step 8,200 on 65,536 (experiments/r1_zero.py)
  )
  c.temperature = 1.0  # R1-Zero: 1.0
  c.stop = ()  # texts that end a completion, beside EOS
  c.slots = 0  # completions decoded at once, 0: all of a rollout

  c.accuracy_weight = 1.0  # of the accuracy reward, 0 or 1
  c.format_weight = 1.0  # of the format reward, 0 or 1; R1-Zero: the same weight as accuracy

  c.algorithm = (
    'grpo'  # grpo, dr_grpo, dapo, gspo, cispo, rloo, reinforce_pp, reinforce_pp_baseline
  )
  c.clip_low = NUMBER()  # the ratio is clipped to [1 - clip_low, 1 + clip_high]; grpo: 0.2
  c.clip_high = NUMBER()  # R1, first RL stage: 10; not printed for R1-Zero
  c.dual_clip = NUMBER()  # bound on the loss where the advantage is negative, 0: off; verl: 3
  c.kl = TEXT()  # estimator: k2 or k3 in the loss, k1 in the reward, none; grpo: k3
  c.kl_weight = NUMBER()  # R1-Zero: 0.001
  c.entropy_weight = NUMBER()  # of an entropy bonus; R1-Zero: none
  c.sampler_correction = TEXT()  # none, truncate (importance weights up to sampler_cap), mask
  c.overlong = TEXT()  # completions that are cut off: keep, filter, penalty, filter+penalty
  c.dynamic_sampling = config_dict.placeholder(
    bool
  )  # draw groups without variance anew; dapo: True
  c.reference_every = (
    400  # steps after which the reference becomes the policy, 0: never; R1-Zero: 400
  )

  c.learning_rate = 3e-6  # R1-Zero: 3e-6
  c.schedule = 'constant'  # constant, or cosine (falls to a tenth)
  c.warmup_steps = 0  # steps of linear warm-up
  c.weight_decay = 0.0  # of matrices
  c.clip_norm = 1.0  # largest global norm of the gradient
  c.bias_speed = 0.0  # of the router's correction bias a step; V3: 0.001, and 0 at the end
  c.balance_weight = 0.0  # of the sequence-wise balance loss; V3: 0.0001
  c.mtp_weight = 0.0  # of the multi-token-prediction loss; V3: 0.3, then 0.1

  c.checkpoint_every = 100  # steps
  c.sample_every = 10  # steps between two samples that are printed, 0: none
  return c


def continued(stage: str) -> ConfigDict:
  """Reinforcement learning that goes on from another grpo stage; what is not set here is as it is there."""
  whole = grpo()
  c = Section(**whole.few_need, **dict(whole.items(preserve_field_references=True)))
  c.continues = stage
  return c


def evaluate() -> ConfigDict:
  """Held-out pass@1. R1's tables: temperature 0.6, top_p 0.95, 32,768 tokens."""
  c = Section(
    folder='',  # of the benchmarks' files, which are then asked in place of held-out problems
    benchmarks=(),  # their names, such as 'aime_2024'; (): all that are in the folder
    variants=('zero_shot',),  # wordings of the prompt: zero_shot, few_shot, system, think, no_think
    speculative=False,  # two tokens a step where the MTP module's draft is kept
    stop=(),  # texts that end a completion, beside EOS
    top_k=0,  # so many of the likeliest tokens are drawn from, 0: all
    min_tokens=0,  # of a completion, before which it does not end
  )
  c.problems = 512  # held-out problems at most, 0: all
  c.samples = 1  # completions of each; R1: 4 to 64
  c.max_tokens = 32768
  c.temperature = 0.6
  c.top_p = 0.95  # the likeliest tokens that together have this probability are drawn from
  c.slots = 0
  return c


def sft() -> ConfigDict:
  """Supervised training."""
  c = ConfigDict()
  c.source = 'base_text'  # or a .jsonl file with prompt and completion
  c.texts_per_step = 128  # R1: 128; distillation: 64
  c.longest = 32768  # tokens of a text, the rest is cut off; R1: 32,768
  c.learn_prompt = False  # whether the prompt's tokens are learned too
  c.micro_batch = (
    32768  # tokens whose gradient is computed at once; for memory only, changes nothing
  )
  c.steps = 1000
  c.learning_rate = 5e-5  # R1: 5e-5, cosine to 5e-6
  c.schedule = 'cosine'
  c.warmup_steps = 0
  c.weight_decay = 0.0
  c.clip_norm = 1.0
  c.bias_speed = 0.0
  c.balance_weight = 0.0
  c.mtp_weight = 0.0
  c.checkpoint_every = 1000
  return c


def preference() -> ConfigDict:
  """A reward model, learned from preferences. Values of R1's (Methods)."""
  c = ConfigDict()
  c.kind = 'helpful'  # helpful: pairs of final answers; safety: whole responses with labels
  c.source = ''  # a .jsonl file with prompt, chosen, rejected; or prompt, response, label (1: safe)
  c.texts_per_step = 256  # comparisons of one update; R1: 256
  c.longest = 8192  # tokens of a text, comparisons with a longer one are left out; R1: 8,192
  c.heldout_fraction = 0.05  # share of the prompts that is only measured on
  c.micro_batch = (
    32768  # tokens whose gradient is computed at once; for memory only, changes nothing
  )
  c.steps = 258  # R1: one epoch of 66,000 pairs; of 106,000 labels: 414
  c.learning_rate = 6e-6  # R1: 6e-6
  c.schedule = 'constant'
  c.warmup_steps = 0
  c.weight_decay = 0.0
  c.clip_norm = 1.0
  c.bias_speed = 0.0
  c.balance_weight = 0.0
  c.checkpoint_every = 100
  return c


def export() -> ConfigDict:
  """A directory in Hugging Face layout."""
  c = ConfigDict()
  c.path = ''  # must not exist yet; '': <workdir>/<stage>/model
  c.dtype = 'bfloat16'  # of the tensors: float32 or bfloat16
  c.shard_gb = 5.0  # of a file, at most
  c.mtp = True  # whether the multi-token-prediction layer is written too
  return c
