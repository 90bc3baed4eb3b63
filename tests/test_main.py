"""The command: wrong ones end with code 2 and one line before anything is compiled; a restart goes on."""

import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys

import jax
import pytest

from experiments import base_model, evaluate, r1_zero
from r1jax import check_data, checks, command_line, main, sample, tokenizer
from r1jax.config import resolve
from r1jax.evaluation.__main__ import main as score_anew
from r1jax.fields import ConfigError
from r1jax.problems.decontaminate import main as decontaminate
from r1jax.stages.context import Context

ROOT = pathlib.Path(__file__).resolve().parents[1]
R1_ZERO, BASE = '--config=experiments/r1_zero.py', '--config=experiments/base_model.py'
STEPS = r1_zero.get_config().rl.steps
SMALL = """
from experiments import base_model
def get_config(size='tiny_dense'):
  c = base_model.get_config(size)
  c.stages = ('pretrain:sft', 'export')
  del c['evaluate']
  c.pretrain.texts_per_step, c.pretrain.longest, c.pretrain.micro_batch = 2, 32, 64
  c.pretrain.steps, c.pretrain.warmup_steps = 2, 0
  return c
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.fixture
def refused(capfd, caplog, tmp_path, monkeypatch):
  """Arguments -> the line they are refused with, after all that must hold of it."""
  monkeypatch.setattr(main, '_run', lambda *_: pytest.fail('it was not refused'))

  def run(*argv: str) -> str:
    caplog.clear()
    with jax.log_compiles():
      code = main.run(['main', f'--workdir={tmp_path}/run', *argv])
    out, err = capfd.readouterr()
    assert code == 2 and err.startswith('error: ') and '; valid' in err, err
    assert err.count('\n') == 1 and 'Traceback' not in out
    assert not [r for r in caplog.records if 'Compiling' in r.message]
    assert not (
      tmp_path / 'run'
    ).exists()  # nothing is left that a corrected command would trip over
    return err.removeprefix('error: ').rstrip('\n')

  return run


def test_compiles_are_seen(caplog):
  """What `refused` relies on."""
  with jax.log_compiles():
    jax.jit(lambda x: x + 17)(1)
  assert [r for r in caplog.records if 'Compiling' in r.message]


# The command line


@pytest.mark.parametrize(
  'argv, text',
  [
    ([], '--config is missing; valid: --config=experiments/r1_zero.py, or --help'),
    (['run'], "'run' is not a flag; valid: --config=experiments/r1_zero.py, or --help"),
    (['--foo=1'], '--foo=1 is unknown; valid: --config, --dry_run, --replay_step, --workdir'),
    ([R1_ZERO, '--work_dir=x'], '--work_dir=x is unknown; valid: --workdir'),
    ([R1_ZERO, '--dry_run=maybe'], '--dry_run=maybe is not possible; valid: true or false'),
    ([R1_ZERO, '--replay_step=-1'], '--replay_step=-1 is not possible; valid: a step, such as 10'),
    ([R1_ZERO, '--replay_step=x'], '--replay_step=x is not possible; valid: a step, such as 10'),
    ([R1_ZERO, '--replay_step=0'], '--replay_step=0 is not possible; valid: a step, such as 10'),
    ([R1_ZERO, '--replay_step=3:rl'], '--replay_step=3:rl is not possible; valid: a step, such as 10'),
    (
      ['--config=experiments/r1_zro.py'],
      "config='experiments/r1_zro.py' is not a file; valid: an experiment, such as experiments/r1_zero.py",
    ),
    (
      [f'{R1_ZERO}:foo'],
      "config='experiments/r1_zero.py:foo' is not possible: size='foo' is unknown; valid: one of "
      f'{r1_zero.SIZES}',
    ),
    ([R1_ZERO, '--config.rl.lerning_rate=1'], 'rl.lerning_rate=1 is unknown; valid: rl.learning_rate'),
    (
      [R1_ZERO, '--config.rl.top_p=0.9'],
      'rl.top_p=0.9 is not possible in training, which takes log-probabilities of the whole distribution; valid: 1.0',
    ),
    ([R1_ZERO, '--config.rl.top_k=5'], 'rl.top_k=5 is not possible in training, which takes log-probabilities of '),
    ([f'{R1_ZERO}:deepseek_v3', '--config.longer.min_tokens=3'], 'longer.min_tokens=3 is not possible in training, '),
    ([R1_ZERO, '--config.evaluate.top_k=x'], 'evaluate.top_k=x is not possible; valid: an integer'),
    ([BASE, '--config.pretrain.top_k=5'], 'pretrain.top_k=5 is unknown; valid: '),
    ([R1_ZERO, '--config.r1.steps=1'], 'r1.steps=1 is unknown; valid: rl.steps'),
    ([R1_ZERO, '--config.sed=1'], 'sed=1 is unknown; valid: seed'),
    ([R1_ZERO, '--config.rl.steps=abc'], f'rl.steps=abc is not possible; valid: an integer, such as {STEPS}'),
    ([R1_ZERO, '--config.rl.steps', 'abc'], f'rl.steps=abc is not possible; valid: an integer, such as {STEPS}'),
    ([R1_ZERO, '--config.rl.steps=1.5'], f'rl.steps=1.5 is not possible; valid: an integer, such as {STEPS}'),
    ([R1_ZERO, '--config.rl.clip_low=x'], 'rl.clip_low=x is not possible; valid: a number, such as 0.001'),
    (
      [R1_ZERO, '--config.rl.dynamic_sampling=2'],
      'rl.dynamic_sampling=2 is not possible; valid: true or false',
    ),
    ([R1_ZERO, '--config.rl.stop=(a, b'], "rl.stop=(a, b is not possible; valid: texts, such as ('</answer>',)"),
    ([R1_ZERO, '--config.rl.stop=3'], 'rl.stop=(3,) is of type tuple; valid: texts, such as'),
    ([R1_ZERO, '--config.rl=3'], 'rl=3 is not possible; valid: one of its fields, such as rl.'),
    (['--config.rl.steps=1'], 'config.rl.steps=1 has no --config before it; valid: --config='),
    (['--config.rl.steps=1', R1_ZERO], 'Found --config.rl.steps=1 in argv before a value for --config'),
  ],
  ids=lambda x: ' '.join(x) if isinstance(x, list) else '',
)  # fmt: skip
def test_a_wrong_command(refused, argv, text):
  found = refused(*argv)
  assert found == text if found.endswith(text[-8:]) else found.startswith(text)


def test_wrong_commands_do_not_need_jax():
  """They are answered at once, not after seconds of imports."""
  program = (
    'import sys, r1jax.command_line; print([m for m in sys.modules if m.split(".")[0] == "jax"])'
  )
  done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == '[]\n'


@pytest.mark.parametrize(
  'body, text',
  [
    ('x = (', 'cannot be loaded: SyntaxError: '),
    ('import nothing_of_this_name', 'cannot be loaded: ModuleNotFoundError: '),
    ('', "cannot be loaded: AttributeError: module 'config_config' has no attribute 'get_config'"),
    ('def get_config(): return 3', 'is not possible: get_config returned int'),
    ('def get_config(): raise ValueError("no\\nluck")', 'is not possible: ValueError: no luck'),
    ('def get_config(): return 1 / 0', 'cannot be loaded: ZeroDivisionError: division by zero'),
  ],
)
def test_a_broken_experiment_is_named(refused, tmp_path, body, text):
  path = tmp_path / 'broken.py'
  path.write_text(body)
  for more in ([], ['--config.seed=1'], ['--config.seed=x']):
    assert refused(f'--config={path}', *more).startswith(f"config='{path}' {text}")


def test_values_are_parsed():
  command = command_line.parse(
    ['main', f'{R1_ZERO}:tiny_dense', '--config.rl.stop=("a", "b")', '--config.rl.learning_rate', '2', '--dry_run',
     '--noconfig.rl.dynamic_sampling', '--config.rl.clip_low=0.1', '--replay_step=3', '--workdir=w']
  )  # fmt: skip
  rl = command.config.rl
  assert (command.workdir, command.dry_run, command.replay) == ('w', True, ('', 3))
  assert command.config.model.size == 'tiny_dense'
  assert (rl.stop, rl.learning_rate, rl.dynamic_sampling, rl.clip_low) == (('a', 'b'), 2.0, False, 0.1)  # fmt: skip
  assert type(rl.learning_rate) is float


def test_help_says_what_there_is(capsys):
  assert main.run(['main', '--help']) == 0
  text = capsys.readouterr().out
  flags = ['--config=', '--workdir=', '--dry_run', '--replay_step=']
  codes = [f'\n  {code} ' for code in (0, 1, 2, 75, 130)]
  for part in [*flags, *codes, *r1_zero.SIZES, *base_model.SIZES, 'experiments/base.py']:
    assert part in text
  assert main.run(['main', R1_ZERO, '--help']) == 0
  assert f'  rl.steps = {STEPS}\n' in capsys.readouterr().out


def test_a_dry_run_starts_nothing(capsys, tmp_path):
  assert main.run(['main', R1_ZERO, '--dry_run', f'--workdir={tmp_path}/run']) == 0
  assert capsys.readouterr().out.startswith(
    f'workdir: {tmp_path}/run\nexperiment   r1_zero-tiny_moe\n'
  )
  assert not (tmp_path / 'run').exists()


# What only the machine can tell


@pytest.mark.parametrize(
  'argv, text',
  [
    ([R1_ZERO, '--config.rl.samples_per_prompt=1'], 'rl.samples_per_prompt=1 is not possible; valid: at least 2'),
    ([R1_ZERO, '--config.rl.max_tokens=4096'], 'rl.max_tokens=4096 is not possible; valid: at most '),
    ([R1_ZERO, '--config.rl.steps_per_rollout=7'], 'rl.steps=80 is not possible; valid: a multiple of '),
    ([R1_ZERO, '--config.rl.prompts_per_step=3', '--config.rl.samples_per_prompt=3'],
     'rl.prompts_per_step=3 is not possible: 9 sequences a step do not divide over the 8 ways '),
    ([R1_ZERO, '--config.rl.prompts_per_step=3', '--config.rl.samples_per_prompt=3', '--dry_run'],
     'rl.prompts_per_step=3 is not possible: '),
    ([R1_ZERO, '--config.rl.accuracy_weight=0', '--config.rl.format_weight=0'],
     'rl.accuracy_weight=0.0 is not possible: no part of the reward has a weight; valid: above 0'),
    ([R1_ZERO, '--config.mesh.fsdp=3'], 'mesh.fsdp=3 is not possible: '),
    ([R1_ZERO, '--config.mesh.data=16'], 'mesh.data=16 is not possible: '),
    ([R1_ZERO, '--config.mesh.expert=3'], 'mesh.expert=3 is not possible: '),
    ([R1_ZERO, '--config.init.path=nowhere'], "init.path='nowhere' does not exist; valid: a directory "),
    (
      [R1_ZERO, '--config.init.path='],
      "init.tokenizer='' is missing: random weights (init.path='') need a tokenizer; valid: a directory with "
      'tokenizer.json or tokenizer.model',
    ),
    ([f'{R1_ZERO}:auto'], "init.path='' is missing: model.size='auto' is what is there; valid: a directory with "),
    ([R1_ZERO, '--config.init.path=tests'], "init.path='tests' is not possible: tests: no weights; valid: a "),
    ([BASE, '--config.problems.source=no.jsonl'], "problems.source='no.jsonl', style='short' has no base text; "),
    ([BASE, '--config.pretrain.source=no.jsonl'], "pretrain.source='no.jsonl' is no file; valid: 'base_text'"),
    ([BASE, '--config.problems.count=9999'], 'problems.count=9999 is not possible; valid: 0 for all, or at most '),
    ([R1_ZERO, '--config.problems.count=9999'], 'problems.count=9999 is not possible; valid: 0 for all, or at most '),
    ([R1_ZERO, '--config.stages=("rl:grpo",)', '--config.problems.source=arithmetic', '--config.problems.numbers_max=2',
      '--config.problems.numbers_min=2', '--config.problems.count=9999'],
     'problems.count=9999 is not possible; valid: 0 for all, or at most 230, the problems that exist'),
    ([R1_ZERO, '--config.problems.mixture=("countdown:1",)', '--config.problems.count=9999'],
     'problems.count=9999 is not possible; valid: 0 for all, or at most '),
    ([R1_ZERO, '--config.problems.mixture=("countdown:1", "no.jsonl:2")'],
     "problems.mixture='no.jsonl:2': source='no.jsonl' is not a file; valid: a .jsonl file that exists"),
    ([R1_ZERO, '--config.preference_reward.stages=("reasoning",)'],
     "preference_reward.stages=('reasoning',) is not possible: 'reasoning' is no grpo stage; valid: some of rl"),
    ([BASE, '--config.problems.heldout_fraction=0'],
     "problems.source='countdown' is not possible: the heldout split of source='countdown' is empty"),
    ([BASE, '--config.prompt.longest=3'], 'prompt.longest=3 is not possible: no prompt is that short; valid: '),
    ([BASE, '--config.export.path=tests'], f"export.path='tests' is not possible: {ROOT}/"),
    ([BASE, '--config.export.path=README.md'], f"export.path='README.md' is not possible: {ROOT}/"),
    ([BASE, '--config.export.path=README.md/a/b'],
     f"export.path='README.md/a/b' is not possible: {ROOT}/README.md is a file; valid: "),
    ([BASE, '--config.export.path=/proc/nowhere/a'],
     "export.path='/proc/nowhere/a' is not possible: /proc cannot be written to: "),
    ([BASE, '--config.stages=("pretrain:sft", "one:export", "two:export")', '--config.export.path=there'],
     "export.path='there' is not possible: one and two would both write it; valid: "),
    ([BASE, '--config.pretrain.learn_prompt=False', '--config.pretrain.longest=3'],
     'pretrain.longest=3 is not possible: every text is cut off within its prompt, and nothing is learned; valid: at '),
    (['--config=experiments/preference.py', '--config.safety.longest=3'],
     'safety.longest=3 is not possible: no comparison is that short; valid: at least '),
    ([BASE, '--replay_step=1'], '--replay_step=1 is not possible: base_model-tiny_moe has no stage that samples; '),
    ([R1_ZERO, '--replay_step=1'], '--replay_step=1 is not possible: no rollouts of step 1 in '),
    ([R1_ZERO, '--replay_step=rl:1'], '--replay_step=1 is not possible: no rollouts of step 1 in '),
    ([R1_ZERO, '--replay_step=before:1'], '--replay_step=before:1 is not possible; valid: rl:1'),
    ([BASE, '--workdir=/proc/nowhere'], '--workdir=/proc/nowhere is not possible: '),
  ],
  ids=lambda x: ' '.join(x) if isinstance(x, list) else '',
)  # fmt: skip
def test_a_config_that_cannot_be_run(refused, argv, text):
  assert refused(*argv).startswith(text)


@pytest.mark.parametrize(
  'line, text',
  [
    ('{"prompt": "2 + 2 =", "answer": "4"}', "'kind' is missing"),
    ('{"prompt": "2 + 2 =", "answer": "four", "kind": "arithmetic"}', "not a number: 'four'"),
    ('{"prompt"', 'Expecting'),
    ('[1]', 'not a JSON object'),
  ],
)
def test_a_broken_line_of_problems_is_named(refused, tmp_path, line, text):
  path = tmp_path / 'problems.jsonl'
  path.write_text('{"prompt": "1 + 1 =", "answer": "2", "kind": "arithmetic"}\n\n' + line)
  found = refused(
    BASE, f'--config.problems.source={path}', f'--config.pretrain.source={_texts(tmp_path)}'
  )
  assert found.startswith(f"problems.source='{path}' is not possible: {path}:3: {text}")
  assert found.endswith(' problems.broken=skip, which leaves such lines out')
  assert found.count('; valid: ') == 1


def test_a_file_of_problems_that_is_missing_or_empty(refused, tmp_path):
  path, texts = tmp_path / 'problems.jsonl', f'--config.pretrain.source={_texts(tmp_path)}'
  source = f'--config.problems.source={path}'
  found = refused(BASE, source, texts)
  assert found == f"problems.source='{path}' is not a file; valid: a .jsonl file that exists"
  path.write_text('\n')
  assert refused(BASE, source, texts).startswith(f"problems.source='{path}' holds no problem; valid: ")  # fmt: skip
  path.write_text('{"prompt": "1 + 1 =", "answer": "2", "kind": "arithmetic"}')
  empty = '--config.problems.heldout_fraction=0'
  assert 'the heldout split of source=' in refused(BASE, source, texts, empty)


def test_more_problems_than_a_file_has(refused, tmp_path):
  path = tmp_path / 'problems.json'
  path.write_text(json.dumps([{'prompt': '1 + 1 =', 'answer': '2', 'kind': 'arithmetic'}] * 1200))
  found = refused(R1_ZERO, f'--config.problems.source={path}', '--config.problems.count=1201')
  assert found.startswith('problems.count=1201 is not possible; valid: 0 for all, or at most 1200,')


def test_benchmarks_need_no_held_out_problems(tmp_path):
  config = evaluate.get_config('tiny')
  config.problems.heldout_fraction = 0.0
  context = checks.prepare(resolve(config), tmp_path / 'run', config)
  assert context.experiment.problems.heldout_fraction == 0.0


@pytest.mark.parametrize('learn_prompt, longest', [(False, 4), (False, 5), (True, 1)])
def test_texts_have_room_for_what_is_learned(tmp_path, learn_prompt, longest):
  """The shortest prompt that is written is BOS and four tokens: what follows is predicted from the fifth on."""
  path = tmp_path / 'texts.jsonl'
  rows = [{'prompt': '1 2 ' * n, 'completion': '3'} for n in (9, 1, 5)]
  path.write_text('\n'.join(map(json.dumps, rows)))
  config = base_model.get_config()
  config.pretrain.source, config.pretrain.learn_prompt = str(path), learn_prompt
  config.pretrain.longest = longest
  experiment = resolve(config)
  words = checks._tokenizer(experiment)
  least = 1 if learn_prompt else 1 + len(words.encode(rows[1]['prompt']))
  context = Context(experiment, tmp_path, None, words)
  if longest >= least:
    check_data.texts(experiment.stages[0], context)
    return
  with pytest.raises(
    ConfigError, match=f'pretrain.longest={longest} .* valid: at least {least} tok'
  ):
    check_data.texts(experiment.stages[0], context)


def test_a_broken_line_of_texts_is_named(refused, tmp_path):
  path = tmp_path / 'texts.jsonl'
  path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
  found = refused(BASE, f'--config.pretrain.source={path}')
  assert found.startswith(f"pretrain.source='{path}' is not possible: {path}:2: 'completion' is ")


def _texts(folder) -> pathlib.Path:
  path = folder / 'good.jsonl'
  path.write_text('{"prompt": "a", "completion": "b"}\n')
  return path


def test_a_tokenizer_with_more_ids_than_the_model(refused, tmp_path):
  rng = random.Random(0)
  words = [''.join(rng.choices('abcdefghijklmnop', k=6)) for _ in range(3000)]
  tokenizer.train([' '.join(words[i : i + 10]) for i in range(0, 3000, 10)], 512).save(tmp_path)
  found = refused(BASE, f'--config.init.tokenizer={tmp_path}')
  assert found.endswith('is not possible: its tokenizer has 512 ids; valid: at most the 384 of tiny_moe')  # fmt: skip


def test_problems_without_end_are_not_all_made_to_be_checked():
  """300,000 problems take minutes; whether there are any is seen from the first ones."""
  experiment = resolve(r1_zero.get_config('qwen2.5-1.5b'))
  assert experiment.problems.count == 300_000
  assert 0 < len(checks._some_problems(experiment, 'train')) < checks.SOME


# Other commands


@pytest.mark.parametrize(
  'command, argv, text',
  [
    (sample.main, ['--checkpoint=no', '--input=/no.jsonl', '--output=x'], '--input=/no.jsonl is not a file; valid: a '),
    (sample.main, ['--checkpoint=no', '--input=README.md', '--output=/no/x'], '--output=/no/x is in no folder; '),
    (score_anew, ['/no'], "DIR=/no has no settings.json; valid: the folder of an evaluation in a run, such as runs/"),
    (decontaminate, ['--train', '/no', '--against', '/no', '--out', 'x'], "--train='/no' is not a file; valid: one "),
    (decontaminate, ['--train', 'README.md', '--against', '/no', '--out', 'x'],
     "--against='/no' is not a file; valid: one in .jsonl, .json, .parquet, or a folder of benchmarks"),
    (decontaminate, ['--train', 'README.md', '--against', 'tests', '--out', '/no/x'], "--out='/no/x' is in no folder"),
  ],
  ids=lambda x: ' '.join(x) if isinstance(x, list) else '',
)  # fmt: skip
def test_an_argument_that_names_nothing(capsys, command, argv, text):
  assert command(argv) == 2
  error = capsys.readouterr().err
  assert error.removeprefix('error: ').startswith(text) and error.count('\n') == 1


def test_folders_of_evaluations_are_looked_at_before_anything_is_scored(tmp_path, capsys):
  (tmp_path / 'settings.json').write_text('{"folder": "x"}')
  for argument, text in [
    ('--against=/no', '--against=/no has no scores.json; valid: the folder of an evaluation'),
    ('--folder=/no', "--folder=/no is not a folder; valid: that of the benchmarks' files"),
  ]:
    assert score_anew([str(tmp_path), argument]) == 2
    assert capsys.readouterr().err.startswith(f'error: {text}')
  assert [p.name for p in tmp_path.iterdir()] == ['settings.json']


@pytest.mark.parametrize('name', ['', '.checkpoints', '.verifiers'])
def test_the_help_of_a_benchmark_says_how_it_is_started(name):
  command = [sys.executable, '-m', f'r1jax.bench{name}', '--help']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.startswith(f'usage: python -m r1jax.bench{name} [-h] '), done.stderr


# A run, started again


@pytest.fixture(scope='module')
def run_of(tmp_path_factory):
  """A finished run of two steps: (its command, its workdir)."""
  folder = tmp_path_factory.mktemp('small')
  (folder / 'small.py').write_text(SMALL)
  command = [f'--config={folder}/small.py', f'--workdir={folder}/run']
  done = _command(*command, JAX_DISABLE_MOST_OPTIMIZATIONS='1')
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith(f'workdir: {folder}/run\n')
  return command, folder / 'run'


def _command(*argv: str, **environment: str):
  """`python -m r1jax.main` in a process of its own."""
  return subprocess.run(
    [sys.executable, '-m', 'r1jax.main', *argv], cwd=ROOT, capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'} | environment,
  )  # fmt: skip


def test_the_same_command_goes_on(run_of):
  command, workdir = run_of
  before = {p: p.stat().st_mtime_ns for p in (workdir / 'pretrain').rglob('*') if p.is_file()}
  done = _command(*command)
  assert done.returncode == 0 and 'finished: ' in done.stdout
  assert before == {p: p.stat().st_mtime_ns for p in (workdir / 'pretrain').rglob('*') if p.is_file()}  # fmt: skip
  stages = json.loads((workdir / 'summary.json').read_text())['stages']
  assert [(s['name'], s['steps']) for s in stages] == [('pretrain', 2), ('export', 0)]


def test_another_config_in_the_same_workdir_is_refused(run_of, capfd):
  command, workdir = run_of
  for change, text in [
    ('--config.pretrain.learning_rate=0.5', 'pretrain.learning_rate=0.5 is not what '),
    ('--config.seed=1', 'seed=1 is not what '),
    ('--config.init.path=x', "init.path='x' is not what "),
    (
      '--config.stages=("pretrain:sft", "out:export")',
      "stages=['pretrain:sft', 'out:export'] is not what ",
    ),
  ]:
    assert main.run(['main', *command, change]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f'error: {text}{workdir} was started with; valid: ')
    assert err.endswith(', or another --workdir\n')
  # What was set by hand to what it is already changes nothing; neither do lists for tuples.
  config = command_line.parse(['main', *command, '--config.pretrain.learning_rate=0.003']).config
  checks.same_config(workdir, config)


def test_configs_are_compared_field_by_field(tmp_path):
  checks._record(tmp_path, {'a': {'b': 1, 'c': (1, 2)}})
  checks.same_config(tmp_path, {'a': {'b': 1, 'c': [1, 2]}})
  for other, key in [({'a': {'b': 1}}, 'a.c=None'), ({'a': {'b': 1, 'c': (1, 2)}, 'd': 3}, 'd=3')]:
    with pytest.raises(ConfigError, match=f'^{key} is not what '):
      checks.same_config(tmp_path, other)
  (tmp_path / 'config.json').write_text('{"a": ')
  with pytest.raises(ConfigError, match='^--workdir=.* is not possible: .*; valid: '):
    checks.same_config(tmp_path, {'a': 1})


def test_a_checkpoint_of_another_model_is_refused(run_of, refused, tmp_path):
  _, workdir = run_of
  model = tmp_path / 'model'
  shutil.copytree(workdir / 'export' / 'model', model)
  path = f'--config.init.path={model}'
  found = refused(R1_ZERO, path)
  where = model / 'config.json'
  assert found.startswith(
    f"init.path='{model}' is not possible: {where}: the checkpoint differs in "
  )
  weights = model / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:1000])
  assert 'truncated' in refused(f'{R1_ZERO}:tiny_dense', path)
  weights.unlink()
  assert 'no safetensors file' in refused(f'{R1_ZERO}:tiny_dense', path)
  (model / 'config.json').unlink()
  assert 'no weights' in refused(f'{R1_ZERO}:tiny_dense', path)


@pytest.mark.parametrize(
  'argv, text',
  [
    ([R1_ZERO, '--config.rl.lerning_rate=1'], 'rl.lerning_rate=1 is unknown; valid: rl.learning_rate'),
    ([R1_ZERO, '--config.rl.samples_per_prompt=1'], 'rl.samples_per_prompt=1 is not possible; valid: '),
    ([BASE, '--config.prompt.longest=3'], 'prompt.longest=3 is not possible: no prompt is that short; '),
    ([R1_ZERO, '--config.problems.count=99999'], 'problems.count=99999 is not possible; valid: 0 for all, or at most '),
  ],
)  # fmt: skip
def test_a_wrong_config_costs_seconds_and_no_compile(tmp_path, argv, text):
  started = _seconds()
  done = _command(*argv, f'--workdir={tmp_path}/run', JAX_LOG_COMPILES='1')
  took = _seconds() - started
  assert done.returncode == 2
  assert done.stderr.startswith(f'error: {text}') and done.stderr.count('\n') == 1
  if took > 5.0:  # on a machine so busy that its seconds are longer, as those of the imports show
    subprocess.run([sys.executable, '-c', 'import r1jax.checks'], cwd=ROOT, check=True)
    assert took < 2 * (_seconds() - started - took)


def _seconds() -> float:
  """Of the processor, that all processes which have been started took."""
  return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
