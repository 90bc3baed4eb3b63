"""ConfigDict -> Experiment: what is refused, with which words, and what is made of the rest."""

import dataclasses
import math
import pathlib
import re

import jax
import pytest
from ml_collections.config_flags import config_path

from experiments import base, base_model, preference, r1_zero
from r1jax import command_line
from r1jax import mesh as mesh_lib
from r1jax.algorithms import ALGORITHMS, Algorithm, algorithm
from r1jax.checks import check_batches
from r1jax.config import PARTS, resolve
from r1jax.decoding import SamplingConfig
from r1jax.fields import ConfigError, check, flat, suggest, type_name
from r1jax.plan import describe
from r1jax.stages import KINDS

PARAMETERS = {
  'tiny_moe': None,
  'tiny_dense': None,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen2.5-7b': 7_615_616_512,
  'deepseek_v3': 671_026_419_200,
}


def config(changes=(), size='tiny_moe', of=r1_zero) -> dict:
  """An experiment with some fields changed; as a dict, which checks no type on the way."""
  c = of.get_config(size).to_dict()
  for key, value in dict(changes).items():
    section, _, field = key.rpartition('.')
    (c[section] if section else c)[field] = value
  return c


def refusal(changes, **which) -> str:
  with pytest.raises(ConfigError) as caught:
    resolve(config(changes, **which))
  return str(caught.value)


# Value by value: what no run could make sense of.
IMPOSSIBLE = [
  ('name', ''), ('name', 'a/b'), ('name', '..'), ('seed', -1), ('seed', 2**32),
  ('model.size', 'qwen9'), ('model.dtype', 'float16'), ('model.remat', 'all'),
  ('mesh.data', 0), ('mesh.fsdp', -2), ('mesh.expert', 0), ('mesh.tensor', 0),
  ('mesh.cpu_devices', 0),
  ('problems.source', 'countdwn'), ('problems.source', 'problems.txt'), ('problems.numbers_min', 1),
  ('problems.numbers_max', 2), ('problems.max_number', 0), ('problems.max_target', 0),
  ('problems.style', 'long'), ('problems.heldout_fraction', 1.0), ('problems.heldout_fraction', -0.1),
  ('problems.heldout_fraction', math.nan), ('problems.count', -1),
  ('prompt.template', 'r2'), ('prompt.longest', 0), ('prompt.longest', 1024),
  ('rl.steps', 0), ('rl.prompts_per_step', 0), ('rl.samples_per_prompt', 1), ('rl.samples_per_prompt', 0),
  ('rl.steps_per_rollout', 0), ('rl.steps_per_rollout', 10**6), ('rl.inner_epochs', 0), ('rl.micro_batch', 0),
  ('rl.max_tokens', 0), ('rl.max_tokens', 4096), ('rl.temperature', 0.0), ('rl.temperature', -1.0),
  ('rl.temperature', math.nan), ('rl.temperature', math.inf), ('rl.stop', ('</answer>', '')), ('rl.slots', -1),
  ('rl.accuracy_weight', -1.0), ('rl.accuracy_weight', math.inf), ('rl.format_weight', math.nan),
  ('rl.algorithm', 'ppo'), ('rl.clip_low', -0.1), ('rl.clip_high', math.nan), ('rl.dual_clip', 1.0),
  ('rl.kl', 'k4'), ('rl.sampler_cap', 0.5), ('rl.kl_weight', -1.0), ('rl.entropy_weight', -1.0),
  ('rl.sampler_correction', 'clip'), ('rl.overlong', 'drop'), ('rl.reference_every', -1),
  ('rl.learning_rate', -1.0), ('rl.learning_rate', math.nan), ('rl.learning_rate', math.inf),
  ('rl.schedule', 'linear'), ('rl.warmup_steps', -1), ('rl.warmup_steps', 80), ('rl.weight_decay', -0.1),
  ('rl.weight_decay', math.inf), ('rl.clip_norm', 0.0), ('rl.clip_norm', math.nan), ('rl.bias_speed', -1.0),
  ('rl.balance_weight', math.inf), ('rl.mtp_weight', math.nan), ('rl.checkpoint_every', 0),
  ('evaluate.problems', -1), ('evaluate.samples', 0), ('evaluate.max_tokens', 0),
  ('evaluate.max_tokens', 4096), ('evaluate.temperature', -0.1), ('evaluate.top_p', 0.0),
  ('evaluate.top_p', 1.1), ('evaluate.top_p', math.nan), ('evaluate.slots', -1),
]  # fmt: skip


@pytest.mark.parametrize('key, value', IMPOSSIBLE)
def test_an_impossible_value_is_named_with_a_valid_one(key, value):
  text = refusal({key: value})
  key = 'rl.steps' if key == 'rl.steps_per_rollout' and value == 10**6 else key
  field = key.rpartition('.')[2]
  assert re.match(rf'({re.escape(key)}|problems\.{field})=.+; valid: .+', text), text
  assert '\n' not in text and text.count('; valid: ') == 1


@pytest.mark.parametrize(
  'key, value',
  [('texts_per_step', 0), ('longest', 0), ('longest', 1025), ('micro_batch', 0), ('steps', 0)],
)
def test_impossible_values_of_supervised_training(key, value):
  text = refusal({f'pretrain.{key}': value}, of=base_model)
  assert text.startswith(f'pretrain.{key}={value} is not possible; valid: ')


def test_an_impossible_dtype_of_an_export():
  assert refusal({'export.dtype': 'int8'}, of=base_model).startswith("export.dtype='int8' is ")


@pytest.mark.parametrize(
  'key, value, valid',
  [
    ('rl.steps', 'abc', 'an integer'),
    ('rl.steps', 1.5, 'an integer'),
    ('rl.steps', True, 'an integer'),
    ('rl.steps', None, 'an integer'),
    ('rl.learning_rate', '1e-6', 'a number'),
    ('rl.learning_rate', True, 'a number'),
    ('rl.algorithm', 3, 'a text'),
    ('rl.stop', '</answer>', 'texts'),
    ('rl.stop', (1,), 'texts'),
    ('rl.dynamic_sampling', 1, 'true or false or None'),
    ('rl.clip_low', 'x', 'a number, such as 0.001 or None'),
    ('rl', 3, 'a section'),
    ('model', 'tiny_moe', 'a section'),
    ('stages', 'rl', 'texts'),
    ('seed', 'one', 'an integer'),
  ],
)
def test_a_value_of_another_type_is_refused(key, value, valid):
  text = refusal({key: value})
  assert text.startswith(f'{key}={value!r} ') and f'; valid: {valid}' in text


def test_types_are_coerced_where_nothing_is_lost():
  c = config({'rl.steps': 60.0, 'rl.learning_rate': 1, 'rl.stop': ['</answer>'], 'rl.clip_low': 1})
  rl = resolve(c).stages[1].settings
  assert type(rl.optimizer.steps) is int and rl.optimizer.steps == 60
  assert type(rl.optimizer.learning_rate) is float and rl.optimizer.learning_rate == 1.0
  assert rl.sampling.stop == ('</answer>',)
  assert type(rl.algorithm.clip_low) is float


def test_check_is_exact_about_types():
  assert check('k', 3.0, int) == 3 and type(check('k', 3.0, int)) is int
  assert type(check('k', 3, float)) is float
  assert check('k', None, float | None) is None
  assert check('k', ['a'], tuple[str, ...]) == ('a',)
  for value, kind in [(3.5, int), (True, int), (1, bool), ('3', int), (None, int), ('a', tuple)]:
    with pytest.raises(ConfigError, match=rf'^k={re.escape(repr(value))} is of type .*; valid: '):
      check('k', value, kind)
  assert type_name(int, 60) == 'an integer, such as 60'


def test_unknown_fields_are_named_with_their_neighbours():
  for key, valid in [
    ('rl.lerning_rate', 'learning_rate'),
    ('evaluate.max_token', 'max_tokens or min_tokens'),
    ('mesh.pipeline', 'cpu_devices, data, expert, fsdp, tensor'),
    ('sead', 'seed'),
  ]:
    assert refusal({key: 1}) == f'{key}=1 is unknown; valid: {valid}'


def test_sections_of_stages_that_are_left_out_are_left_out():
  """--config.stages=('rl:grpo',) takes one stage; what the file has for the others is not in its way."""
  parse = lambda size, stages: (
    command_line.parse(
      ['main', f'--config=experiments/r1_zero.py:{size}', f'--config.stages={stages}']
    ).config
  )
  [only] = resolve(parse('tiny_moe', '("rl:grpo",)')).stages
  assert only == resolve(config()).stages[1]
  assert [s.name for s in resolve(parse('deepseek_v3', '("before:evaluate",)')).stages] == [
    'before'
  ]
  for section in ({}, base.export().to_dict(), base.evaluate().to_dict(), {'continues': 'name'}):
    assert refusal({'exprot': section}).startswith(
      'exprot is a section that nothing reads; valid: '
    )
    assert '{' not in refusal({'exprot': section})


def test_suggestions():
  known = ('rl.steps', 'rl.stop', 'evaluate.top_p', 'seed')
  assert suggest('rl.stpes', known) == 'rl.steps or rl.stop'
  assert suggest('sft.steps', known) == 'rl.steps'  # the same name elsewhere
  assert suggest('rl.top_p', known) == 'evaluate.top_p'
  assert suggest('rl.xyz', known) == 'rl.steps, rl.stop'  # its section
  assert suggest('xyz.xyz', known) == 'evaluate.top_p, rl.steps, rl.stop, seed'


@pytest.mark.parametrize('missing', ['name', 'seed', 'stages', 'model.size', 'rl.steps'])
def test_a_missing_field_is_named(missing):
  c = config()
  section, _, field = missing.rpartition('.')
  del (c[section] if section else c)[field]
  with pytest.raises(ConfigError, match=rf'^{missing} is missing; valid: '):
    resolve(c)


def test_updates_divide():
  """reference_every and steps are multiples of the updates that one rollout is learned from."""
  c = {'rl.steps_per_rollout': 4, 'rl.inner_epochs': 2, 'rl.steps': 64, 'rl.reference_every': 16}
  assert resolve(config(c)).stages[1].settings.updates_per_rollout == 8
  assert refusal(c | {'rl.steps': 60}).startswith('rl.steps=60 is not possible; valid: a multiple')
  assert 'rl.reference_every=20 is not possible' in refusal(c | {'rl.reference_every': 20})
  resolve(config(c | {'rl.reference_every': 0}))


@pytest.mark.parametrize('field, value', [('top_p', 0.9), ('top_k', 5), ('min_tokens', 3)])
def test_training_refuses_to_sample_from_less_than_everything(field, value):
  text = refusal({f'rl.{field}': value})
  assert text.startswith(f'rl.{field}={value} is not possible in training') and '; valid: ' in text


@pytest.mark.parametrize(
  'changes',
  [
    {'max_tokens': 0}, {'temperature': -0.1}, {'temperature': math.nan}, {'temperature': math.inf},
    {'top_p': 0.0}, {'top_p': 1.01}, {'top_p': math.nan}, {'top_k': -1}, {'min_tokens': -1},
    {'min_tokens': 9}, {'slots': -1}, {'stop': ('',)},
  ],
  ids=str,
)  # fmt: skip
def test_impossible_sampling(changes):
  ((field, value),) = changes.items()
  with pytest.raises(ValueError, match=rf'^{field}=.* is not possible; valid: '):
    SamplingConfig(**{'max_tokens': 8} | changes)


def test_possible_sampling():
  SamplingConfig(max_tokens=1, temperature=0.0, top_p=1e-6, top_k=1, min_tokens=1, stop=('a',))


def test_two_axes_of_the_mesh_cannot_both_take_what_remains():
  valid = 'valid: only one axis is -1, such as data=-1 and fsdp=1'
  assert (
    refusal({'mesh.data': -1, 'mesh.fsdp': -1})
    == f'mesh.data=-1 is not possible beside fsdp=-1; {valid}'
  )
  text = refusal({'mesh.data': -1, 'mesh.fsdp': 1, 'mesh.tensor': -1})
  assert text.startswith('mesh.data=-1 is not possible beside tensor=-1; valid: only one axis')


@pytest.mark.parametrize(
  'prompts, group, mesh, valid',
  [
    (16, 16, (2, 2, 2, 1), None),
    (3, 4, (1, 4, 1, 2), None),  # tensor shares no rows
    (3, 4, (1, 8, 1, 1), 'a multiple of 2, such as 4'),
    (5, 2, (1, 2, 4, 1), 'a multiple of 4, such as 8'),
    (3, 3, (1, 8, 1, 1), 'a multiple of 8, such as 8'),
  ],
)
def test_sequences_of_a_step_divide_over_the_mesh(prompts, group, mesh, valid):
  experiment = resolve(config({'rl.prompts_per_step': prompts, 'rl.samples_per_prompt': group}))
  mesh = jax.sharding.AbstractMesh(mesh, mesh_lib.AXES)
  if valid is None:
    check_batches(experiment, mesh)
    return
  with pytest.raises(ConfigError) as caught:
    check_batches(experiment, mesh)
  assert str(caught.value).startswith(f'rl.prompts_per_step={prompts} is not possible: ')
  assert str(caught.value).endswith(f'; valid: {valid}')


def test_texts_of_a_step_divide_over_the_mesh():
  experiment = resolve(config({'pretrain.texts_per_step': 12}, of=base_model))
  with pytest.raises(ConfigError, match='^pretrain.texts_per_step=12 is not .* such as 16$'):
    check_batches(experiment, jax.sharding.AbstractMesh((8, 1, 1, 1), mesh_lib.AXES))


def test_context_of_the_model():
  c = {'prompt.longest': 24, 'rl.max_tokens': 1000, 'evaluate.max_tokens': 1000}
  assert resolve(config(c))
  assert refusal(c | {'rl.max_tokens': 1001}).startswith(
    'rl.max_tokens=1001 is not possible; valid: at most 1000, since tiny_moe has a context of 1024 '
  )
  # A shared section is named as it is typed, not by the stage that reads it.
  assert refusal(c | {'evaluate.max_tokens': 1001}).startswith('evaluate.max_tokens=1001 ')
  assert refusal({'prompt.longest': 1024}).startswith('prompt.longest=1024 is not possible; valid')


# Stages


@pytest.mark.parametrize(
  'stages',
  [(), ('rl:ppo',), ('rl:',), ('rl:grpo', 'rl:grpo'), ('mesh:grpo',), ('seed:grpo',), ('a/b:evaluate',),
   ('../x:evaluate',), (':evaluate',), ('sft',), ('first:sft',)],
  ids=str,
)  # fmt: skip
def test_impossible_stages(stages):
  text = refusal({'stages': stages})
  assert text.startswith('stages=') and '; valid' in text


def test_a_section_is_called_like_the_stage_or_like_its_kind():
  c = config({'stages': ('before:evaluate', 'rl:grpo', 'evaluate')})
  c['before'] = c['evaluate'] | {'max_tokens': 7}
  before, rl, after = resolve(c).stages
  assert [(s.name, s.kind, s.section) for s in (before, rl, after)] == [
    ('before', 'evaluate', 'before'), ('rl', 'grpo', 'rl'), ('evaluate', 'evaluate', 'evaluate'),
  ]  # fmt: skip
  assert before.settings.sampling.max_tokens == 7
  assert after.settings.sampling.max_tokens == c['evaluate']['max_tokens'] != 7


def test_settings_of_every_kind_are_what_the_section_says():
  c = base_model.get_config()
  stages = resolve(c).stages
  assert [(s.name, s.kind) for s in stages] == [
    ('pretrain', 'sft'), ('evaluate', 'evaluate'), ('export', 'export'),
  ]  # fmt: skip
  sft, evaluate, export = (s.settings for s in stages)
  for section, parts in [
    (c.pretrain, (sft, sft.optimizer, sft.update)),
    (c.evaluate, (evaluate, evaluate.sampling)),
    (c.export, (export,)),
  ]:
    for key, value in section.items():
      assert [getattr(part, key) for part in parts if hasattr(part, key)] == [value], key


# Algorithms


@pytest.mark.parametrize('name', ALGORITHMS)
def test_one_word_chooses_an_algorithm_with_its_own_constants(name):
  """What is None in the config is the algorithm's own."""
  rl = base.grpo().to_dict() | {
    'algorithm': name,
    'max_tokens': 64,
    'steps': 16,
    'reference_every': 0,
  }
  assert resolve(config({'rl': rl})).stages[1].settings.algorithm == ALGORITHMS[name]


def test_fields_of_an_algorithm_can_be_changed():
  c = config({'rl.algorithm': 'dapo', 'rl.clip_high': 0.3, 'rl.dynamic_sampling': False})
  found = resolve(c).stages[1].settings.algorithm
  assert found == algorithm('dapo', clip_high=0.3, dynamic_sampling=False)
  assert found.clip_low == 0.2 and found.overlong == 'filter+penalty'
  changed = resolve(config({'rl.kl_weight': 0.0})).stages[1].settings
  assert changed.algorithm.kl == 'k3' and not changed.uses_reference


def test_combinations_that_contradict_each_other():
  assert refusal({'rl.algorithm': 'dapo', 'rl.kl_weight': 0.1}).startswith('rl.kl_weight=0.1 is ')
  assert refusal({'rl.algorithm': 'rloo', 'rl.kl': 'none'}).startswith('rl.kl_weight=0.03 is not')


# The experiments


def test_at_most_60_fields_for_r1_zero():
  fields = flat(r1_zero.get_config().to_dict())
  assert len(fields) <= 60


# Constants that make an algorithm what its name says, or that its stage refuses or has no use for.
NOT_SET = {
  'grpo': {'ratio', 'advantage', 'average', 'surrogate'},
  'sft': {'sample_every', 'reference_every'}, 'preference': {'mtp_weight', 'reference_every'},
}  # fmt: skip


def fields_of(cls) -> set[str]:
  """The keys that `build` takes for this dataclass."""
  found = set()
  for field in dataclasses.fields(cls):
    nested = dataclasses.is_dataclass(field.type) and field.type is not Algorithm
    found |= fields_of(field.type) if nested else {field.name}
  return found | (
    {f.name for f in dataclasses.fields(Algorithm)} - {'name'} if 'algorithm' in found else set()
  )


def test_every_field_can_be_set_on_the_command_line():
  """It stands in the experiment, or is added by the section where it is asked for."""
  c = base.experiment('x', ())
  sections = [(part, c[part], cls) for part, cls in PARTS.items()]
  sections += [(kind, getattr(base, kind)(), cls()) for kind, cls in KINDS.items()]
  for name, section, cls in sections:
    few_need = getattr(section, 'few_need', {})
    assert {*section, *few_need} == fields_of(cls) - NOT_SET.get(name, set()), name
    assert not {*section} & {*few_need}
    for key, value in few_need.items():
      defaults = [f.default for f in dataclasses.fields(cls) if f.name == key]
      assert defaults in ([], [value]), key  # [] where it is a field of a part of the settings
      assert section.get_type(key) is type(value) and section[key] == value


@pytest.mark.parametrize(
  'file', ['r1_zero.py:tiny_dense', 'evaluate.py:tiny', 'base_model.py', 'preference.py']
)
def test_fields_that_few_need_are_set_like_all_others(file):
  command = command_line.parse(
    ['main', f'--config={pathlib.Path(base.__file__).parent}/{file}', '--config.problems.allow_unsandboxed',
     '--config.problems.broken=skip', '--config.problems.mixture=("countdown:1", "arithmetic:2 format=0")',
     '--config.preference_reward.cap=2', '--config.problems.seed=7']
  )  # fmt: skip
  found = resolve(command.config)
  assert found.problems.allow_unsandboxed is True and found.problems.broken == 'skip'
  assert found.problems.mixture == ('countdown:1', 'arithmetic:2 format=0')
  assert found.problems.seed == 7 and found.preference_reward.cap == 2.0
  assert {**command.config.preference_reward} == {'cap': 2.0}  # what nobody has set is not there


def test_the_language_reward_is_set_on_the_command_line():
  path = pathlib.Path(base.__file__).parent / 'r1_zero.py'
  argv = ['main', f'--config={path}', '--config.rl.language_weight=0.5', '--config.rl.language=en']
  reward = resolve(command_line.parse(argv).config).stages[1].settings.reward
  assert (reward.language_weight, reward.language) == (0.5, 'en')
  with pytest.raises(ConfigError, match='^problems.knd=x is unknown; valid: '):
    command_line.parse(['main', f'--config={path}', '--config.problems.knd=x'])


def test_every_field_that_few_need_has_a_comment():
  lines = pathlib.Path(base.__file__).read_text().splitlines()
  c = base.experiment('x', ())
  named = [c.init, c.problems, c.preference_reward, base.grpo(), base.evaluate()]
  for key, value in [item for section in named for item in section.few_need.items()]:
    assert any(line.startswith(f'    {key}={value!r}') and '  # ' in line for line in lines), key


@pytest.mark.parametrize('of', [r1_zero, base_model, preference], ids=lambda m: m.__name__)
def test_every_field_has_a_comment_in_base(of):
  """`c.section.field = value  # comment`, wherever the field occurs first or again."""
  text = pathlib.Path(base.__file__).read_text()
  statement = re.compile(r'^  c\.((?:\w+\.)?\w+) = (.*?)(?=^  (?:c\.|return)|\Z)', re.M | re.S)
  commented = {m[1].rpartition('.')[2] for m in statement.finditer(text) if '  # ' in m[2]}
  fields = {key.rpartition('.')[2] for key in flat(of.get_config().to_dict())}
  few = base.experiment('x', ()).init.few_need  # those of Section have a test of their own
  assert fields - commented - set(few) == set()


@pytest.mark.parametrize('size', ['qwen2.5-1.5b', 'qwen2.5-7b', 'deepseek_v3'])
def test_sizes_have_the_settings_of_the_paper(size):
  """10,400 steps; DeepSeek-V3's from the rollout before step 8,200 on with twice the tokens."""
  _, *stages, _ = resolve(r1_zero.get_config(size)).stages
  of_all = [
    (rl.settings.optimizer.steps, rl.settings.sampling.max_tokens, rl.settings.continues)
    for rl in stages
  ]
  whole, parts = [(10_400, 32_768, '')], [(8192, 32_768, ''), (10_400, 65_536, 'rl')]
  assert of_all == (parts if size == 'deepseek_v3' else whole)
  for rl in (stage.settings for stage in stages):
    assert (rl.prompts_per_step, rl.samples_per_prompt, rl.steps_per_rollout) == (32, 16, 16)
    assert rl.optimizer.learning_rate == 3e-6 and rl.sampling.temperature == 1.0
    assert (rl.algorithm.kl_weight, rl.update.reference_every) == (0.001, 400)
    assert rl.algorithm.clip_high == 10.0


def continuing(**changes):
  c = r1_zero.get_config('tiny_dense')
  c.rl.schedule = 'constant'
  c.stages, c.more = ('rl:grpo', 'more:grpo', 'evaluate'), base.continued('rl')
  c.more.steps = 100
  for name, value in changes.items():
    config_path.get_type(f'more.{name}', c)  # adds it, as the command line does
    config_path.set_value(f'more.{name}', c, value)
  return c


def test_a_stage_that_continues_another_has_its_settings():
  rl, more, _ = (stage.settings for stage in resolve(continuing(max_tokens=300)).stages)
  assert more.optimizer.steps == 100 and more.sampling.max_tokens == 300 and more.continues == 'rl'
  assert rl.samples_per_prompt == more.samples_per_prompt and more.optimizer.learning_rate == 5e-4
  c = continuing()
  c.stages, c.last = (*c.stages, 'last:grpo'), base.continued('more')
  c.last.steps = 120
  assert resolve(c).stages[-1].settings.optimizer.learning_rate == 5e-4


@pytest.mark.parametrize(
  'changes, text',
  [
    ({'continues': 'rll'}, "more.continues='rll' is not possible; valid: 'rl' or ''"),
    ({'continues': 'more'}, "more.continues='more' is not possible; valid: 'rl' or ''"),
    ({'schedule': 'cosine'}, "more.schedule='cosine' is not possible; valid: 'constant', in rl too, as the rate "),
    ({'steps': 80}, 'more.steps=80 is not possible; valid: more than the 80 of rl, which it goes on from'),
    ({'prompts_per_step': 8}, 'more.prompts_per_step=8 is not possible; valid: 16, as in rl'),
    ({'algorithm': 'dapo'}, "more.kl_weight=0.0 is not possible: one of more and rl measures KL against a "),
    ({'steps_per_rollout': 3, 'steps': 99, 'reference_every': 0},
     'more.steps_per_rollout=3 is not possible: rl ends with step 80; valid: what divides that, with inner_epochs=1'),
  ],
  ids=str,
)  # fmt: skip
def test_what_cannot_be_continued_is_refused(changes, text):
  with pytest.raises(ConfigError) as error:
    resolve(continuing(**changes))
  assert str(error.value).startswith(text)


def test_only_the_stage_that_trained_last_is_continued():
  c = continuing()
  c.stages, c.sft = ('rl:grpo', 'sft', 'more:grpo', 'evaluate'), base.sft()
  c.sft.longest = 64
  text = "^more.continues='rl' is not possible; valid: '', as no grpo stage is right before it$"
  with pytest.raises(ConfigError, match=text):
    resolve(c)
  c = continuing(continues='evaluate')
  c.stages = ('evaluate', 'rl:grpo', 'more:grpo')
  with pytest.raises(
    ConfigError, match="^more.continues='evaluate' is not possible; valid: 'rl' or ''$"
  ):
    resolve(c)


def test_what_is_shortened_is_shortened_in_the_stage_that_continues_it():
  argv = [
    'main',
    '--config=experiments/r1_zero.py:deepseek_v3',
    '--config.rl.max_tokens=1024',
    '--config.rl.steps=32',
  ]
  _, rl, longer, _ = resolve(command_line.parse(argv).config).stages
  assert rl.settings.sampling.max_tokens == 1024 and longer.settings.sampling.max_tokens == 2048
  assert longer.settings.optimizer.steps == 32 + 2208


@pytest.mark.parametrize('of, size', [(r1_zero, s) for s in r1_zero.SIZES if s != 'auto'] +
                         [(base_model, s) for s in base_model.SIZES] +
                         [(preference, s) for s in preference.SIZES if s != 'auto'])  # fmt: skip
def test_every_size_resolves(of, size):
  experiment = resolve(of.get_config(size))
  assert experiment.model.size == size and experiment.name.endswith(size)
  assert hash(experiment.stages[0]) and dataclasses.is_dataclass(experiment.stages[0].settings)


def test_an_unknown_size_is_refused():
  with pytest.raises(ValueError, match="^size='large' is unknown; valid: one of "):
    r1_zero.get_config('large')


@pytest.mark.parametrize('size', PARAMETERS)
def test_a_dry_run_counts_parameters(size):
  assert {*PARAMETERS, 'auto'} == set(r1_zero.SIZES)
  text = describe(resolve(r1_zero.get_config(size)))
  if PARAMETERS[size]:
    assert f'{size}: {PARAMETERS[size]:,} parameters' in text
  if size == 'deepseek_v3':
    assert ' + 11,610,068,224 for multi-token prediction, bfloat16_master' in text
    assert 'data 1 x fsdp 8 x expert 64 x tensor 1 = 512 devices' in text
  assert 'rl (grpo)' in text and 'traced: ' in text and 'GiB a device' in text


@pytest.mark.parametrize('size', r1_zero.TINY)
def test_auto_is_the_model_that_is_there(size):
  named, auto = r1_zero.get_config(size), r1_zero.get_config('auto')
  auto.init.path, auto.model.dtype, auto.model.remat = named.init.path, 'float32', 'none'
  auto.rl.max_tokens = auto.evaluate.max_tokens = 128
  auto, named = resolve(auto), resolve(named)
  found, expected = auto.model_config, named.model_config
  different = {k for k, v in vars(found).items() if v != getattr(expected, k)}
  assert different <= {'name', 'bos', 'eos', 'bias_speed', 'logits_chunk'}
  count = lambda experiment: re.search('([0-9,]+) parameters', describe(experiment))[1]
  assert count(auto) == count(named)


def test_auto_needs_a_model(tmp_path):
  auto = r1_zero.get_config('auto')
  auto.init.path = str(tmp_path)
  with pytest.raises(
    ConfigError, match="^init.path=.* is not possible with model.size='auto': .*no weights"
  ):
    resolve(auto)
  auto.init.path = ''
  with pytest.raises(ConfigError) as caught:
    resolve(auto)
  assert str(caught.value) == (
    "init.path='' is missing: model.size='auto' is what is there; valid: a directory with weights and config.json"
  )


@pytest.mark.parametrize('field', ['mtp_weight', 'balance_weight', 'bias_speed'])
def test_what_the_model_has_not_is_not_weighted(field):
  text = refusal({f'rl.{field}': 0.1}, size='tiny_dense')
  what = 'module for multi-token prediction' if field == 'mtp_weight' else 'experts'
  assert text == f'rl.{field}=0.1 is not possible: tiny_dense has no {what}; valid: 0.0'
  for size in ('tiny_moe', 'deepseek_v3'):
    resolve(config({f'rl.{field}': 0.1}, size=size))
  text = refusal({f'pretrain.{field}': 0.1}, size='tiny_dense', of=base_model)
  assert text.startswith(f'pretrain.{field}=0.1 is not possible: tiny_dense has no {what}')


def test_reward_models_are_for_stages_that_there_are():
  text = refusal({'preference_reward.stages': ('rl', 'rl2')})
  assert text == (
    "preference_reward.stages=('rl', 'rl2') is not possible: 'rl2' is no grpo stage; valid: some of rl, or () for all"
  )
  assert "'before' is no grpo stage" in refusal({'preference_reward.stages': ('before',)})
  resolve(config({'preference_reward.stages': ('rl',)}, of=base_model))  # where nothing has rewards
  resolve(config({'preference_reward.stages': ('rl',)}))


def test_two_exports_do_not_write_the_same_directory():
  both = {'stages': ('pretrain:sft', 'evaluate', 'one:export', 'two:export')}
  text = refusal(both | {'export.path': 'there'}, of=base_model)
  assert text.startswith(
    "export.path='there' is not possible: one and two would both write it; valid: a section "
  )
  resolve(config(both, of=base_model))
  own = {'one': {'path': 'there'}, 'two': {'path': './x/../there'}}
  own |= {'stages': (*both['stages'], 'export')}
  assert refusal(both | own, of=base_model).startswith(
    "two.path='./x/../there' is not possible: one and "
  )
  resolve(config(both | own | {'two': {'path': 'elsewhere'}}, of=base_model))


def test_speculative_decoding_needs_a_module_that_drafts():
  c = r1_zero.get_config('tiny_dense')
  c.rl.speculative = True
  with pytest.raises(
    ConfigError, match='^rl.speculative=True is not possible: tiny_dense has no module '
  ):
    resolve(c)


def test_the_cache_of_drafts_is_counted():
  c = r1_zero.get_config('deepseek_v3')
  assert '(70,272 bytes a token)' in describe(resolve(c))
  c.rl.speculative = True
  assert '(71,424 bytes a token)' in describe(resolve(c))  # 62 layers of 576 numbers in bf16


def test_an_export_may_be_asked_for_without_a_section():
  c = r1_zero.get_config()
  c.stages = (*c.stages, 'export')
  stage = resolve(c).stages[-1]
  assert (stage.kind, stage.settings.path, stage.settings.dtype) == ('export', '', 'bfloat16')
  c.stages = (*c.stages, 'sft')
  with pytest.raises(ConfigError, match="^stages='sft' has no settings; valid: a section 'sft'$"):
    resolve(c)
  c.stages = (*c.stages[:-1], 'first:sft')
  with pytest.raises(ConfigError, match="valid: a section 'first' or 'sft'$"):
    resolve(c)
