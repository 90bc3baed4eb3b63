"""The report: files that a resumed run repeats byte for byte, warnings, and the end of a run."""

import io
import json
import math
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboardX.proto.event_pb2 import Event

from r1jax import report, summary
from r1jax.health import health
from r1jax.problems import Problem
from r1jax.report import Report, ReportError, RolloutLog, read_metrics
from r1jax.summary import Sample, confidence95, finish, pass_at_1

PROBLEM = Problem(id=0, kind='countdown', prompt='3 5 7 = 36', answer='36', numbers=(3, 5, 7))
GOOD = {
  'reward': 0.6, 'accuracy': 0.5, 'length': 40.25, 'kl': 0.003, 'tokens': 800, 'truncated': 0.1,
  'entropy': 0.8, 'loss': 0.01, 'grad_norm': 0.2, 'groups_without_variance': 0.3,
  'clip_fraction': 0.01, 'sampler_gap_mean': 1e-6, 'sampler_gap_max': 1e-5, 'skipped': 0,
}  # fmt: skip
TIMING = {'rollout': 1.5, 'update': 0.5}


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


def metrics_of(step: int) -> dict:
  """Numbers as they come: Python's, numpy's, and once not finite."""
  return {
    'reward': np.float32(step) / np.float32(3),
    'tokens': np.int64(100 * step),
    'kl': math.nan if step == 2 else 0.1 * step,
    'skipped': np.int32(step >= 2),
  }


def run(log: Report, steps) -> None:
  for step in steps:
    log.step(step, metrics_of(step), TIMING)
    if log.wants_sample(step):
      log.sample(step, PROBLEM, f'<answer>{step}</answer>', 0.5)


def exact_files(workdir) -> dict[str, bytes]:
  return {name: (workdir / 'rl' / name).read_bytes() for name in report.EXACT_FILES}


def test_metrics_file_holds_the_numbers_exactly(tmp_path):
  with Report(tmp_path, 'rl', 3, stream=io.StringIO()) as log:
    run(log, [1, 2, 3])
  lines = (tmp_path / 'rl' / 'metrics.jsonl').read_text().splitlines()
  third = float(np.float32(1) / np.float32(3))
  assert lines[0] == f'{{"kl": 0.1, "reward": {third!r}, "skipped": 0, "step": 1, "tokens": 100}}'
  assert json.loads(lines[1])['kl'] == 'nan'  # JSON has no NaN
  rows = read_metrics(tmp_path / 'rl' / 'metrics.jsonl')
  assert math.isnan(rows[1]['kl']) and rows[2]['kl'] == 0.1 * 3
  timing = json.loads((tmp_path / 'rl' / 'timing.jsonl').read_text().splitlines()[0])
  assert timing['rollout'] == 1.5 and timing['update'] == 0.5


@pytest.mark.parametrize('torn', [b'', b'{"kl": 0.'])
def test_resumed_run_writes_the_same_bytes(tmp_path, torn):
  whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
  with Report(whole, 'rl', 8, sample_every=2, stream=io.StringIO()) as log:
    run(log, range(1, 9))
  killed = Report(resumed, 'rl', 8, sample_every=2, stream=io.StringIO())
  run(killed, range(1, 5))
  offset = json.loads(json.dumps(killed.offset()))
  run(killed, range(5, 7))
  with open(resumed / 'rl' / 'metrics.jsonl', 'ab') as file:
    file.write(torn)
  with Report(resumed, 'rl', 8, sample_every=2, stream=io.StringIO()) as log:
    log.truncate(offset)
    assert [row['step'] for row in log.history] == [1, 2, 3, 4]
    run(log, range(5, 9))
  assert exact_files(resumed) == exact_files(whole)
  timing = (resumed / 'rl' / 'timing.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in timing] == list(range(1, 9))


def test_stage_that_never_reached_a_checkpoint_begins_anew(tmp_path):
  for _ in range(2):
    log = Report(tmp_path, 'rl', 3, stream=io.StringIO())
    run(log, [1, 2])
    log.close()
  assert len(read_metrics(tmp_path / 'rl' / 'metrics.jsonl')) == 2


def test_metrics_that_were_lost_are_noticed(tmp_path):
  with Report(tmp_path, 'rl', 3, stream=io.StringIO()) as log:
    run(log, [1])
    offset = log.offset()
  (tmp_path / 'rl' / 'metrics.jsonl').write_text('')
  with pytest.raises(ReportError, match=r'rl/metrics.jsonl has 0 bytes, .* had 82; put it back'):
    Report(tmp_path, 'rl', 3, stream=io.StringIO()).truncate(offset)


def test_offset_before_the_first_step_is_zero(tmp_path):
  log = Report(tmp_path, 'rl', 3, stream=io.StringIO())
  assert set(log.offset().values()) == {0}


def test_other_processes_write_nothing(tmp_path):
  with Report(tmp_path, 'rl', 3, enabled=False) as log:
    log.truncate(log.offset())
    run(log, [1, 2])
    log.warn('?')
  assert list(tmp_path.iterdir()) == []


def test_progress_line_is_plain_when_piped(tmp_path):
  out = io.StringIO()
  with Report(tmp_path, 'rl', 200, stream=out) as log:
    log.step(7, GOOD, TIMING)
  assert out.getvalue() == (
    'rl   7/200 | reward 0.600 | accuracy 0.500 | length 40.2 | kl 0.0030 | 400 tokens/s'
    ' | 6m26s left\n'
  )


def test_speed_and_time_left_are_those_of_whole_rollouts(tmp_path):
  """A rollout of 9 seconds, then 4 updates of 1 second and 130 tokens: 13 seconds a rollout, 3.25 a step."""
  out = io.StringIO()
  with Report(tmp_path, 'rl', 1000, stream=out, steps_per_rollout=4) as log:
    for step in range(1, 41):
      rollout = {'rollout': 9.0} if step % 4 == 1 else {}
      log.step(step, {'tokens': 130}, {'update': 1.0} | rollout)
  lines = out.getvalue().splitlines()
  assert lines[0] == 'rl    1/1000 | 13 tokens/s | 2h46m left'
  assert all('| 40 tokens/s |' in line for line in lines[3:])
  assert lines[39] == 'rl   40/1000 | 40 tokens/s | 52m00s left'


def test_progress_line_of_pretraining_shows_the_loss(tmp_path):
  out = io.StringIO()
  with Report(tmp_path, 'base', 10, stream=out) as log:
    log.step(10, {'loss': 2.5}, {'step': 3.0, 'data': 1.0})
  assert out.getvalue() == 'base 10/10 | loss 2.500 | 0s left\n'


def test_progress_line_on_a_terminal_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setenv('COLUMNS', '40')
  out = Terminal()
  with Report(tmp_path, 'rl', 9, stream=out) as log:
    log.step(1, GOOD, TIMING)
    log.step(2, GOOD, TIMING)
    log.warn('careful')
  shown = out.getvalue().replace('\x1b[2K', '')
  progress, warning, end = shown.split('\n')
  assert [len(part) for part in progress.split('\r')] == [0, 39, 39]
  assert (warning, end) == ('warning: careful', '')


def test_sample_is_shown_and_cannot_steer_the_terminal(tmp_path):
  out = io.StringIO()
  with Report(tmp_path, 'rl', 9, stream=out) as log:
    log.sample(4, PROBLEM, '<think>\x1b[2J\r[red]\nyes</think>' + 'x' * 3000, 1.5)
  text = out.getvalue()
  assert 'step 4, reward 1.5, answer 36' in text and '3 5 7 = 36' in text
  assert r'<think>\x1b[2J\x0d[red]' in text and '\x1b' not in text
  assert 'characters more)' in text
  row = json.loads((tmp_path / 'rl' / 'samples.jsonl').read_text())
  assert len(row['completion']) > 3000 and row['reward'] == 1.5


def events(folder) -> list[Event]:
  """The records of TensorBoard files: length (8 bytes), its checksum (4), data, checksum (4)."""
  found = []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], 'little')
      found.append(Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return found


def test_tensorboard_holds_scalars_and_text(tmp_path):
  with Report(tmp_path, 'rl', 9, stream=io.StringIO()) as log:
    log.step(3, GOOD, TIMING)
    log.sample(3, PROBLEM, '<answer>(5+7)*3</answer>', 1.5)
  values = {
    v.tag: (e.step, v) for e in events(tmp_path / 'rl' / 'tensorboard') for v in e.summary.value
  }
  assert values['reward'][0] == 3 and values['reward'][1].simple_value == np.float32(0.6)
  assert values['seconds/rollout'][1].simple_value == 1.5
  text = values['sample/text_summary'][1].tensor.string_val[0].decode()
  assert '(5+7)*3' in text and 'reward 1.5' in text


def test_rollouts_come_back(tmp_path):
  log = RolloutLog(tmp_path / 'rollouts')
  arrays = {'tokens': np.arange(6, dtype=np.int32).reshape(2, 3), 'done': np.array([True, False])}
  log.save(3, arrays)
  log.save(12, {'logprob': np.float32([[-0.1]])})
  back = log.load(3)
  assert back.keys() == arrays.keys()
  for name, array in arrays.items():
    assert back[name].dtype == array.dtype and (back[name] == array).all()
  assert log.steps() == [3, 12]
  first = (tmp_path / 'rollouts' / '00000003.npz').read_bytes()
  log.save(3, arrays)
  assert (tmp_path / 'rollouts' / '00000003.npz').read_bytes() == first


def test_rollouts_that_are_not_there_or_torn(tmp_path, monkeypatch):
  log = RolloutLog(tmp_path)
  with pytest.raises(FileNotFoundError, match='no rollouts of step 1 .*here: no step'):
    log.load(1)
  log.save(1, {'x': np.ones(3)})
  with pytest.raises(FileNotFoundError, match='here: 1 to 1'):
    log.load(2)
  with pytest.raises(TypeError, match='rollout array x is object'):
    log.save(1, {'x': np.array([None])})

  def full(file, **_):
    file.write(b'PK')
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space'):
    patch.setattr(np, 'savez_compressed', full)
    log.save(1, {'x': np.zeros(3)})
  assert (log.load(1)['x'] == 1).all() and log.steps() == [1]
  path = tmp_path / '00000001.npz'
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match='00000001.npz is corrupt'):
    log.load(1)


def warnings_of(changes: dict, history: list | None = None) -> list[str]:
  return health({**GOOD, **changes}, [{**GOOD, **changes}] * 20 if history is None else history)


def test_a_healthy_step_gives_no_warning():
  assert warnings_of({}) == []
  assert health({'loss': 3.0}, [], 'base') == []


@pytest.mark.parametrize(
  ('changes', 'kind', 'field'),
  [
    ({'groups_without_variance': 0.9}, 'alike', 'temperature'),
    ({'groups_without_variance': 0.9, 'accuracy': 0.97}, 'too easy', 'dynamic_sampling'),
    ({'groups_without_variance': 0.9, 'accuracy': 0.02}, 'too hard', 'samples_per_prompt'),
    ({'truncated': 0.5}, 'cut off', 'max_tokens'),
    ({'kl': 2.0}, 'reference', 'kl_weight'),
    ({'clip_fraction': 0.4}, 'clipped', 'learning_rate'),
    ({'sampler_gap_mean': 0.05}, 'sampler and trainer', 'sampler_correction'),
    ({'sampler_gap_max': 3.0}, 'sampler and trainer', 'sampler_correction'),
    ({'grad_norm': math.inf}, 'not finite', 'clip_norm'),
  ],
)
def test_a_warning_names_cause_and_field(changes, kind, field):
  (warning,) = warnings_of(changes)
  assert kind in warning and f'--config.rl.{field}' in warning
  assert re.match(r'\w+: ', warning)


@pytest.mark.parametrize(
  ('changes', 'seen'),
  [
    ({'timeout': 0.04}, 'timeout: 4.0% of the checks ran out of time'),
    ({'bad_gold': 0.001, 'timeout': 0.04}, 'bad_gold: the reference of 0.1%'),
  ],
)
def test_rewards_of_zero_that_say_nothing_are_told(changes, seen):
  (warning,) = warnings_of(changes)
  assert warning.startswith(seen)
  assert warnings_of({'timeout': 0.002, 'bad_gold': 0.0}) == []


def test_skipped_steps_are_told_once():
  history = [{**GOOD, 'skipped': 1}]
  assert warnings_of({'skipped': 1}, history) == []
  (warning,) = warnings_of({'skipped': 2}, history)
  assert warning.startswith('skipped: ')


def test_entropy_collapse_is_judged_against_the_start():
  low = {**GOOD, 'entropy': 0.05}
  (warning,) = warnings_of({'entropy': 0.05}, [GOOD] * 10 + [low] * 10)
  assert 'entropy: 0.05 nats a token are left of 0.8' in warning
  assert warnings_of({'entropy': 0.05}, [low] * 20) == []
  solved = {'entropy': 0.05, 'accuracy': 0.95}
  assert warnings_of(solved, [GOOD] * 10 + [{**GOOD, **solved}] * 10) == []


def test_one_odd_batch_is_no_alarm():
  assert warnings_of({'truncated': 0.9}, [GOOD] * 10) == []


def test_a_warning_is_not_repeated_at_every_step(tmp_path):
  out = io.StringIO()
  with Report(tmp_path, 'rl', 99, stream=out) as log:
    for step in range(1, report.WARN_EVERY + 2):
      log.step(step, {**GOOD, 'truncated': 0.5}, TIMING)
  assert out.getvalue().count('warning: truncated') == 2


def test_confidence_is_wilsons_interval_for_single_answers():
  # 8 of 10 by hand: z2 = 3.841459, center (0.8 + z2/20) / (1 + z2/10) = 0.716740,
  # half = 1.959964 sqrt(0.016 + z2/400) / (1 + z2/10) = 0.226579.
  assert confidence95([1] * 8 + [0] * 2) == pytest.approx((0.490162, 0.943318), abs=2e-6)
  assert confidence95([0] * 10) == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-6)
  assert confidence95([1] * 10) == pytest.approx((10 / 13.841459, 1.0), abs=1e-6)


def test_confidence_counts_samples_as_far_as_they_differ():
  # Variance 1/8 of means [1, 1/2, 1/2, 0] is that of 8 answers in 4 problems: Wilson for 4 of 8.
  assert confidence95([1, 0.5, 0.5, 0]) == pytest.approx(confidence95([1, 0] * 4), abs=1e-12)
  assert confidence95([1, 0.5, 0.5, 0]) == pytest.approx((0.215213, 0.784787), abs=1e-5)
  # Samples that only repeat each other add nothing.
  assert confidence95([1, 0, 1, 1]) == confidence95(
    np.mean([[1] * 9, [0] * 9, [1] * 9, [1] * 9], 1)
  )
  assert confidence95([0.5]) == confidence95([0.5] * 1) != (0.5, 0.5)


@pytest.mark.parametrize('samples', [1, 4])
def test_confidence_covers_the_truth_in_95_of_100(samples):
  rng, covered, runs = np.random.default_rng(0), 0, 2000
  for _ in range(runs):
    chance = rng.beta(0.6, 0.3, 128)  # of each problem; two thirds in the mean
    low, high = confidence95(rng.binomial(samples, chance) / samples)
    covered += low <= 2 / 3 <= high
  assert covered / runs == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize('values', [[], [0.5, 1.5], [math.nan]])
def test_confidence_of_what_is_no_accuracy(values):
  with pytest.raises(ValueError, match='is no interval'):
    confidence95(values)


def test_pass_at_1_is_the_mean_over_problems():
  result = pass_at_1(np.array([[1, 0], [1, 1]]), np.array([[10, 20], [30, 41]]))
  assert result['pass@1'] == 0.75 and result['mean_length'] == 25.25
  assert result['ci95'] == list(confidence95([0.5, 1.0]))


def test_running_mean():
  values = np.arange(60.0)
  values[30] = math.nan
  smooth = summary.running_mean(values)  # a window of 3
  assert smooth[0] == 0.5 and smooth[59] == 58.5 and smooth[10] == 10.0
  assert smooth[30] == 30.0 and smooth[29] == 28.5
  assert math.isnan(summary.running_mean(np.array([math.nan]))[0])


STAGES = [
  {'name': 'before', 'kind': 'evaluate', 'steps': 1, 'seconds': 2.0},
  {'name': 'rl', 'kind': 'grpo', 'steps': 3, 'seconds': 10.0},
]
EVALUATION = {
  'before': {'pass@1': 0.3, 'ci95': [0.25, 0.36], 'mean_length': 33.0},
  'after': {'pass@1': 0.84, 'ci95': [0.79, 0.88], 'mean_length': 60.0},
}


def finished(workdir, **changes) -> dict:
  arguments = {
    'experiment': 'r1_zero', 'seed': 1, 'seconds': 75.4, 'stages': STAGES,
    'evaluation': EVALUATION, 'samples': {},
  }  # fmt: skip
  return finish(workdir, **{**arguments, **changes})


def test_end_of_a_run(tmp_path):
  with Report(tmp_path, 'rl', 3, stream=io.StringIO()) as log:
    for step in (1, 2, 3):
      log.step(step, GOOD, TIMING)
  samples = {
    when: [Sample(f'{when} {i} = 5 Assistant:', f' ``` {i}', 1.0) for i in range(5)]
    for when in ('before', 'after')
  }
  finished(tmp_path, samples=samples)
  read = json.loads((tmp_path / 'summary.json').read_text())
  assert list(read) == ['experiment', 'seed', 'seconds', 'stages', 'evaluation', 'versions']
  assert (read['experiment'], read['seed'], read['seconds']) == ('r1_zero', 1, 75.4)
  assert read['stages'] == STAGES and read['evaluation'] == EVALUATION
  assert {'python', 'jax', 'flax', 'optax'} <= read['versions'].keys()
  text = (tmp_path / 'report.md').read_text()
  assert '| pass@1 | 0.300 | 0.840 |' in text
  assert '| 95% confidence interval | 0.250 to 0.360 | 0.790 to 0.880 |' in text
  assert '| mean response length in tokens | 33.0 | 60.0 |' in text
  assert '| rl | grpo | 3 | 10s |' in text and '1m15s' in text and '(plot.png)' in text
  for when in samples:
    assert all(f'````text\n{when} {i} = 5 Assistant: ``` {i}\n````' in text for i in range(3))
    assert f'{when} 3' not in text
  assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')
  assert not list(tmp_path.glob('*.tmp'))


def test_end_of_a_run_without_evaluation_or_metrics(tmp_path):
  finished(tmp_path, evaluation={})
  assert json.loads((tmp_path / 'summary.json').read_text())['evaluation'] == {}
  assert 'plot.png' not in (tmp_path / 'report.md').read_text()
  assert not (tmp_path / 'plot.png').exists()


def test_plot_of_several_stages_and_of_pretraining(tmp_path):
  for stage, row in (('base', {'loss': 2.0}), ('rl', GOOD), ('again', {**GOOD, 'kl': math.nan})):
    with Report(tmp_path, stage, 2, stream=io.StringIO()) as log:
      for step in (1, 2):
        log.step(step, row, TIMING)
  assert summary.plot(tmp_path, ['base', 'rl', 'again'], {'before': EVALUATION['before']})
  (tmp_path / 'plot.png').unlink()
  assert summary.plot(tmp_path, ['base'], {})
  assert (tmp_path / 'plot.png').is_file()


def test_a_plot_counts_on_where_a_stage_continues_another():
  rows = lambda *steps: [{'step': step, 'reward': 0.5} for step in steps]
  axis = Figure().subplots()
  chosen = {'rl': rows(1, 2), 'more': rows(3, 4), 'again': rows(1, 2, 3), 'longer': rows(4, 5)}
  summary._panel(axis, 'reward', summary.PANELS['reward'], chosen, {})
  lines = [line.get_xdata().tolist() for line in axis.lines if line.get_label() == 'training']
  assert lines == [[1, 2], [3, 4], [5, 6, 7], [8, 9]]


def test_a_summary_with_a_field_missing_is_refused(tmp_path):
  with pytest.raises(KeyError, match='mean_length'):
    finished(tmp_path, evaluation={'before': {'pass@1': 0.1, 'ci95': [0, 1]}})
  with pytest.raises(ValueError, match='not JSON compliant'):
    finished(tmp_path, seconds=math.nan)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('seconds', 'text'), [(0, '0s'), (59.6, '1m00s'), (75, '1m15s'), (7260, '2h01m')]
)
def test_duration(seconds, text):
  assert report.duration(seconds) == text
