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
    scores[name] = {'zero_shot': {'estimates': {'pass@1': value} | others}}
  found = run.means(scores)
  half = (0.1**2 + 0.2**2) ** 0.5 / 2
  assert found['pass@1'] == pytest.approx(0.4)
  assert found['ci95'] == pytest.approx([0.4 - half, 0.4 + half])
  assert (found['mean_length'], found['truncated']) == (10, 0.5)


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
