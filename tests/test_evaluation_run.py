"""The stage on a tiny model: sampled, killed, gone on with, scored."""

import contextlib
import json
import pathlib
import re

import jax
import pytest

from experiments import evaluate
from r1jax import main, tokenizer
from r1jax import mesh as mesh_lib
from r1jax.config import resolve
from r1jax.evaluation import generations, run, sampling
from r1jax.rewards.checks import Check
from r1jax.rewards.pool import Pool
from r1jax.rewards.verdict import OUTCOMES
from r1jax.stages import evaluate as stage_module
from r1jax.stages.context import Context, Preempted

EXPERIMENT = str(pathlib.Path(evaluate.__file__))
COUNTDOWN = 'generations/countdown.zero_shot.jsonl'


@pytest.fixture
def go(quick_compile):
  """go(workdir, field=value, ...) -> the stage's result; two problems of two samples are sampled at once."""

  def start(workdir: pathlib.Path, **fields) -> dict:
    c = evaluate.get_config('tiny')
    small = {
      'benchmarks': ('countdown',),
      'variants': ('zero_shot',),
      'samples': 2,
      'slots': 2,
      'max_tokens': 20,
    }
    for field, value in (small | fields).items():
      c.evaluate[field] = value
    experiment = resolve(c)
    mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
    context = Context(experiment, workdir, mesh, tokenizer.load(c.init.path))
    (stage,) = experiment.stages
    with jax.set_mesh(context.mesh), contextlib.closing(context):
      return stage_module.run(stage.settings, stage, context)

  return start


def files_of(workdir: pathlib.Path) -> dict[str, bytes]:
  folder = workdir / 'evaluate'
  names = (COUNTDOWN, 'scores.json', 'report.md', 'verdicts/countdown.zero_shot.jsonl')
  return {name: (folder / name).read_bytes() for name in names}


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, go, monkeypatch):
  result = go(tmp_path / 'plain')
  rows = [
    json.loads(line) for line in (tmp_path / 'plain/evaluate' / COUNTDOWN).read_text().splitlines()
  ]
  assert [(row['id'], row['sample']) for row in rows] == [
    (i, s) for i in range(1, 5) for s in range(2)
  ]
  assert rows[0]['prompt'] == 'User: 3 5 7 = 22 Assistant:' and all(
    1 <= row['tokens'] <= 20 for row in rows
  )
  assert len({row['completion'] for row in rows}) > 1
  assert result['mean_length'] == sum(row['tokens'] for row in rows) / 8
  assert (result['problems'], result['samples'], result['steps']) == (4, 2, 0)
  assert [row['completion'] for row in result['shown']] == [row['completion'] for row in rows[:3]]

  append = generations.append

  def dies_in_the_second_chunk(path, some):
    if path.stat().st_size:
      append(path, some[:3])
      with path.open('a') as file:
        file.write('{"id": 4, "sample": 1, "pro')
      raise KeyboardInterrupt
    append(path, some)

  monkeypatch.setattr(generations, 'append', dies_in_the_second_chunk)
  with pytest.raises(KeyboardInterrupt):
    go(tmp_path / 'killed')
  monkeypatch.setattr(generations, 'append', append)
  drawn = []
  sampled = sampling._sampled
  monkeypatch.setattr(
    sampling, '_sampled', lambda task, part, *a: drawn.append(part) or sampled(task, part, *a)
  )
  go(tmp_path / 'killed')
  assert drawn == [slice(2, 4)]  # the first two problems were kept
  assert files_of(tmp_path / 'killed') == files_of(tmp_path / 'plain')


def test_a_sample_depends_on_seed_problem_and_number_alone(tmp_path, go):
  """With more samples, and another benchmark before it."""
  go(tmp_path / 'two')
  go(tmp_path / 'four', samples=4, slots=4, benchmarks=('aime_2025', 'countdown'))
  read = lambda name: generations.read(tmp_path / name / 'evaluate' / COUNTDOWN)
  assert [group[:2] for group in read('four')] == read('two')


HELD_OUT = {'folder': '', 'benchmarks': (), 'problems': 5, 'samples': 2, 'slots': 4}


def rows_of(workdir: pathlib.Path) -> list[dict]:
  text = (workdir / 'evaluate' / stage_module.COMPLETIONS).read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize('torn', [b'', b'{"id": 4, "sam'])
def test_held_out_problems_go_on_from_what_was_sampled(tmp_path, go, monkeypatch, torn, capsys):
  """Two problems at a time of five; it is killed in the second pair, whose first sample was written."""
  plain = go(tmp_path / 'plain', **HELD_OUT)
  rows = rows_of(tmp_path / 'plain')
  assert [row['sample'] for row in rows] == [0, 1] * 5 and len({row['id'] for row in rows}) == 5
  save = stage_module._save

  def dies_in_the_second_part(path, some):
    if path.stat().st_size:
      save(path, some[:1])
      with path.open('ab') as file:
        file.write(torn)
      raise KeyboardInterrupt
    save(path, some)

  monkeypatch.setattr(stage_module, '_save', dies_in_the_second_part)
  with pytest.raises(KeyboardInterrupt):
    go(tmp_path / 'killed', **HELD_OUT)
  monkeypatch.setattr(stage_module, '_save', save)
  drawn, encode = [], stage_module.prompts.encode

  def sampled(problems, *args):
    drawn.append([problem.id for problem in problems])
    return encode(problems, *args)

  monkeypatch.setattr(stage_module.prompts, 'encode', sampled)
  again = go(tmp_path / 'killed', **HELD_OUT)
  ids = [row['id'] for row in rows[::2]]
  assert drawn == [ids[2:4], ids[4:]]
  files = [tmp_path / name / 'evaluate' / stage_module.COMPLETIONS for name in ('plain', 'killed')]
  assert files[0].read_bytes() == files[1].read_bytes()
  assert plain | {'seconds': 0} == again | {'seconds': 0}
  drawn.clear()
  assert go(tmp_path / 'killed', **HELD_OUT) | {'seconds': 0} == plain | {'seconds': 0}
  assert drawn == []  # nothing was left


def test_samples_of_another_config_are_not_gone_on_from(tmp_path, go):
  go(tmp_path, **HELD_OUT | {'problems': 2})
  with pytest.raises(ValueError, match='holds other problems or samples than the config asks for'):
    go(tmp_path, **HELD_OUT | {'problems': 2, 'samples': 4})


def test_the_outcome_of_every_held_out_sample_is_told(tmp_path, go, monkeypatch, capsys):
  """All but one check hang, and that one raises."""
  monkeypatch.setenv('PYTHONPATH', str(pathlib.Path(__file__).parent / 'data'))
  texts = iter(['fail here', 'sleep 9', 'sleep 9', 'right a'])
  add = stage_module.Scoring.add
  monkeypatch.setattr(
    stage_module.Scoring, 'add', lambda self, sample, _: add(self, sample, next(texts))
  )
  with Pool(1, checks={'countdown': Check('bad_checks', 0.5)}) as broken:
    monkeypatch.setattr(Context, 'pool', broken)
    result = go(tmp_path, **HELD_OUT | {'problems': 2})
  shares = {'right': 0.25, 'wrong': 0.0, 'unparseable': 0.25, 'timeout': 0.5, 'bad_gold': 0.0}
  assert result['verdicts'] == shares and result['pass@1'] == 0.25
  outcomes = sorted(row['outcome'] for row in rows_of(tmp_path))
  assert outcomes == ['right', 'timeout', 'timeout', 'unparseable']
  said = capsys.readouterr().out
  told = 'right 25.0%, wrong 0.0%, unparseable 25.0%, timeout 50.0%, bad_gold 0.0%'
  assert f'\nevaluate: {told}\n' in said
  assert 'warning: evaluate: timeout: 50.0% of the checks ran out of time' in said
  assert 'warning: evaluate: unparseable: 1 checks raised an error' in said
  assert "KeyError('here')" in said


def test_a_run_that_is_asked_to_stop_keeps_what_is_whole(tmp_path, go, monkeypatch):
  monkeypatch.setattr(sampling, 'generate', lambda *_, **__: (_ for _ in ()).throw(Preempted()))
  with pytest.raises(Preempted):
    go(tmp_path)
  assert (tmp_path / 'evaluate' / COUNTDOWN).read_bytes() == b''


def test_prompts_that_do_not_fit_are_refused_before_anything_is_sampled(tmp_path, go):
  with pytest.raises(
    ValueError,
    match=r'^max_tokens=1000 is not possible: problem \d of aime_2024 \(zero_shot\) has ',
  ):
    go(tmp_path, benchmarks=('countdown', 'aime_2024'), max_tokens=1000)
  assert not (tmp_path / 'evaluate').exists()


def test_means_count_every_benchmark_the_same():
  estimate = lambda v, *ci: {'value': v, 'ci95': list(ci)}
  scores = {}
  for name, value in (('a', estimate(0.2, 0.1, 0.3)), ('b', estimate(0.6, 0.4, 0.8))):
    others = {'mean_length': estimate(10, 10, 10), 'truncated': estimate(0.5, 0, 1)}
    others |= {outcome: estimate(0, 0, 0) for outcome in OUTCOMES}
    others['timeout'] = value
    scores[name] = {'zero_shot': {'estimates': {'pass@1': value} | others}}
  found = run.means(scores)
  half = (0.1**2 + 0.2**2) ** 0.5 / 2
  assert found['pass@1'] == pytest.approx(0.4)
  assert found['ci95'] == pytest.approx([0.4 - half, 0.4 + half])
  assert (found['mean_length'], found['truncated']) == (10, 0.5)
  assert found['verdicts'] == dict.fromkeys(OUTCOMES, 0.0) | {'timeout': pytest.approx(0.4)}


@pytest.mark.parametrize(
  'flags, says',
  [
    (['--config.evaluate.folder=/nowhere'], "evaluate.folder='/nowhere' is not a folder"),
    (
      ['--config.evaluate.folder='],
      'evaluate.samples=0 is not possible; valid: at least 1; with a folder',
    ),
    (['--config.evaluate.samples=-1'], 'evaluate.samples=-1 is not possible'),
    (["--config.evaluate.benchmarks=('mlu',)"], "evaluate.benchmarks='mlu' has no file "),
    (
      ["--config.evaluate.variants=('cot',)"],
      "evaluate.variants=('cot',) is not possible; valid: some of ",
    ),
  ],
)
def test_what_is_wrong_with_the_config_is_said_first(flags, says, tmp_path, capsys):
  samples = [] if any('samples' in flag for flag in flags) else ['--config.evaluate.samples=0']
  argv = ['main', f'--config={EXPERIMENT}:tiny', f'--workdir={tmp_path}', *samples, *flags]
  assert main.run(argv) == main.BAD_CONFIG
  assert capsys.readouterr().err.startswith(f'error: {says}')


@pytest.mark.parametrize('size', evaluate.SIZES)
def test_every_size_has_the_settings_of_the_paper(size):
  c = evaluate.get_config(size)
  assert (c.evaluate.temperature, c.evaluate.top_p) == (0.6, 0.95)
  if size != 'tiny':
    assert (c.evaluate.max_tokens, c.evaluate.samples, c.evaluate.problems) == (32768, 0, 0)


def test_an_unknown_size_is_refused():
  with pytest.raises(ValueError, match="^size='large' is unknown; valid: one of \\('tiny', "):
    evaluate.get_config('large')


def test_every_field_has_a_comment():
  files = (evaluate, evaluate.base)
  text = ''.join(pathlib.Path(module.__file__).read_text() for module in files)
  statement = re.compile(
    r'^  c\.(?:evaluate\.)?(\w+) = (.*?)(?=^  (?:c\.|if|return)|\Z)', re.M | re.S
  )
  commented = {m[1] for m in statement.finditer(text) if '  # ' in m[2]}
  assert set(evaluate.get_config().evaluate) - commented == set()
