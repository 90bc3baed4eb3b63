"""Checks in processes: what hangs, dies or raises costs itself, and no one else."""

import concurrent.futures
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from r1jax.problems import Problem
from r1jax.rewards.__main__ import read
from r1jax.rewards.checks import CHECKS as REAL_CHECKS
from r1jax.rewards.checks import Check
from r1jax.rewards.pool import BATCH_BYTES, Pool
from r1jax.rewards.verdict import CannotCheck

DATA = pathlib.Path(__file__).parent / 'data'
CHECKS = {'bad': Check('bad_checks', 10.0), 'missing': Check('no_such_module', 1.0)}
CODE = REAL_CHECKS['code']
ONE = Problem(1, 'bad', 'prompt', 'answer')


@pytest.fixture
def make_pool(monkeypatch):
  """make_pool(workers, ...) -> a Pool of the checks in data/bad_checks.py, closed in the end."""
  monkeypatch.setenv('PYTHONPATH', str(DATA))
  pools = []

  def make(workers=1, **kwargs):
    pools.append(Pool(workers, checks=CHECKS, **kwargs))
    return pools[-1]

  yield make
  for pool in pools:
    pool.close()


def run(pool, *completions):
  return pool.check([(completion, ONE) for completion in completions])


def outcomes(verdicts):
  return [v.outcome for v in verdicts]


def gone(pid):
  """No such process, or one that is dead and not yet waited for."""
  stat = pathlib.Path(f'/proc/{pid}/stat')
  return not stat.exists() or stat.read_text().rpartition(')')[2].split()[0] == 'Z'


def wait_until(condition, seconds=10.0):
  deadline = time.monotonic() + seconds
  while not condition() and time.monotonic() < deadline:
    time.sleep(0.02)
  return condition()


def test_verdicts_come_in_order(make_pool):
  found = run(make_pool(2), *[f'right {i}' for i in range(200)])
  assert [v.answer for v in found] == [str(i) for i in range(200)]
  assert all(v.outcome == 'right' and v.credit == 1 and 0 <= v.seconds < 1 for v in found)


def test_submit_from_many_threads(make_pool):
  pool = make_pool(2)
  with concurrent.futures.ThreadPoolExecutor(16) as threads:
    found = list(threads.map(lambda i: pool.submit(f'right {i}', ONE).result(), range(64)))
  assert [v.answer for v in found] == [str(i) for i in range(64)]


def test_the_countdown_corpus():
  cases = read(str(DATA / 'adversarial_countdown.jsonl'))
  with Pool(2) as pool:
    found = pool.check([case[:2] for case in cases])
    shares = pool.rates()
  assert len(cases) >= 60
  assert outcomes(found) == [expected for _, _, expected in cases]
  assert shares == {name: outcomes(found).count(name) / len(found) for name in shares}


@pytest.mark.parametrize('hang', ['sleep 1000', 'spin'])
def test_a_hang_costs_its_own_verdict_alone(make_pool, hang):
  found = run(make_pool(budgets={'bad': 1.0}), 'right a', hang, 'right b', hang, 'right c')
  assert outcomes(found) == ['right', 'timeout', 'right', 'timeout', 'right']
  assert [v.answer for v in found if v.answer] == ['a', 'b', 'c']
  assert all(1.0 <= found[i].seconds <= 2.0 for i in (1, 3))
  assert found[1].note == 'not done in 1.0 s' and found[1].credit == 0


def test_the_budget_counts_from_the_start_of_a_check(make_pool):
  """Nine wait while one runs: 10 * 0.3 seconds in all, each within its own 2."""
  pool = make_pool(budgets={'bad': 2.0})
  found = run(pool, *['sleep 0.3'] * 10)
  assert all(0.3 <= v.seconds < 2.0 and v.outcome == 'unparseable' for v in found)
  assert pool.errors == 10  # a check that returns None is a bug


def test_a_budget_may_follow_from_the_problem(monkeypatch):
  """0.5 s and its own 60: a second passes. With 0.5 s alone it does not."""
  monkeypatch.setenv('PYTHONPATH', str(DATA))
  checks = {'bad': Check('bad_checks', 0.5, own=lambda details: details.get('own', 0.0))}
  with Pool(1, checks=checks) as pool:
    found = pool.check(
      [('sleep 1', Problem(1, 'bad', '', '', details={'own': 60.0})), ('sleep 1', ONE)]
    )
  assert outcomes(found) == ['unparseable', 'timeout'] and found[1].note == 'not done in 0.5 s'


@pytest.mark.parametrize(
  'details, seconds',
  [({}, 85), ({'total_limit': 2.5}, 27.5), ({'total_limit': 600}, 625), ({'total_limit': 601}, 85),
   ({'total_limit': 'x'}, 85)],
)  # fmt: skip
def test_the_budget_of_programs_follows_their_total_limit(details, seconds):
  assert CODE.budget(details) == seconds


def test_a_budget_of_the_pool_goes_before(make_pool):
  assert outcomes(run(make_pool(budgets={'bad': 0.5}), 'sleep 1000')) == ['timeout']


def test_options_reach_the_check(monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(DATA))
  with Pool(1, checks={'bad': Check('bad_checks', 10.0, options={'answer': 'given'})}) as pool:
    assert run(pool, 'fail')[0].answer == 'given'


def test_what_cannot_be_checked_is_an_error_and_no_verdict(make_pool):
  pool = make_pool()
  with pytest.raises(CannotCheck, match='^no isolation$'):
    run(pool, 'cannot no isolation')
  assert pool.errors == 0 and sum(pool.rates().values()) == 0
  assert outcomes(run(pool, 'right a')) == ['right']


def test_what_a_check_has_started_is_killed_with_it(make_pool, tmp_path):
  pool = make_pool(budgets={'bad': 1.0})
  assert outcomes(run(pool, f'hang_with_child {tmp_path}/pids')) == ['timeout']
  pids = (tmp_path / 'pids').read_text().split()
  assert len(pids) == 2 and wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize('death, status', [('die', -signal.SIGSEGV), ('exit', 3), ('eat', 1)])
def test_what_kills_two_workers_is_quarantined(make_pool, death, status):
  pool = make_pool(memory=2**29)
  found = run(pool, 'right a', death, 'right b', f'{death} else')
  reason = f'killed two workers (exit status {status})'
  assert outcomes(found) == ['right', 'timeout', 'right', 'timeout']
  assert found[1].note == f'quarantined: {reason}'
  assert pool.quarantined == [(1, reason)] * 2
  start = time.monotonic()
  assert run(pool, death) == [found[1]]
  assert time.monotonic() - start < 0.1 and len(pool.quarantined) == 2


def test_a_second_try_has_what_is_left_of_the_budget(make_pool):
  """It dies after 1.2 of 1.6 seconds: 0.4 are left, in which it does not die again."""
  pool = make_pool(budgets={'bad': 1.6})
  run(pool, 'right a')  # the start is not counted
  (found,) = run(pool, 'die_after 1.2')
  assert (found.outcome, found.note) == ('timeout', 'not done in 1.6 s')
  assert 1.6 <= found.seconds < 2.6 and pool.quarantined == []


def test_the_time_of_both_tries_is_counted(make_pool, tmp_path):
  pool = make_pool()
  assert 0.6 <= run(pool, 'die_after 0.3')[0].seconds < 5


def test_a_death_is_given_one_more_try(make_pool, tmp_path):
  pool = make_pool()
  found = run(pool, 'right a', f'die_once {tmp_path}/flag', 'right b')
  assert [v.answer for v in found] == ['a', 'second', 'b'] and pool.quarantined == []


def test_without_a_memory_limit_it_may_eat(make_pool):
  assert outcomes(run(make_pool(memory=0), 'eat')) == ['right']


def test_an_exception_is_seen_and_kills_nothing(make_pool):
  pool = make_pool()
  found = run(pool, 'right a', 'fail here', 'right b')
  assert outcomes(found) == ['right', 'unparseable', 'right']
  assert found[1].note == "the check raised KeyError('here')" and pool.errors == 1
  assert pool.rates() == {
    'right': 2 / 3,
    'wrong': 0,
    'unparseable': 1 / 3,
    'timeout': 0,
    'bad_gold': 0,
  }


def test_a_module_that_is_missing_is_named(make_pool):
  pool = make_pool()
  found = pool.check([('x', Problem(2, 'missing', '', ''))])
  assert 'no_such_module' in found[0].note and pool.errors == 1


def test_what_a_check_prints_is_no_reply(make_pool):
  assert [v.answer for v in run(make_pool(), 'say a', 'right b')] == ['a', 'b']


def test_large_completions_do_not_block(make_pool):
  texts = ['x' * size for size in (BATCH_BYTES * 40, 1, BATCH_BYTES, 10, BATCH_BYTES * 3)]
  found = run(make_pool(), *[f'right {text}' for text in texts])
  assert [v.answer for v in found] == texts


def test_text_of_any_kind_goes_through(make_pool):
  texts = ['\ud800', '\x00\n\r\u2028', '数学', '{"kind": 1}']
  assert [v.answer for v in run(make_pool(), *[f'right {text}' for text in texts])] == texts


def test_workers_import_neither_jax_nor_more_than_they_need(make_pool):
  names = 'jax jaxlib flax grain sympy mpmath'
  assert run(make_pool(), f'modules {names} r1jax.rewards')[0].answer == "['r1jax.rewards']"


def test_close_cancels_what_waits_and_ends_what_runs(make_pool, tmp_path):
  pool = make_pool()
  running = pool.submit(f'hang_with_child {tmp_path}/pids', ONE)
  assert wait_until((tmp_path / 'pids').exists)
  waiting = pool.submit('right a', ONE)
  pool.close()
  with pytest.raises(RuntimeError, match='closed'):
    running.result(0)
  assert waiting.cancelled()
  with pytest.raises(RuntimeError, match='closed'):
    pool.submit('right a', ONE)
  assert all(
    wait_until(lambda pid=pid: gone(pid)) for pid in (tmp_path / 'pids').read_text().split()
  )


def test_a_worker_that_cannot_start_is_an_error(make_pool, monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/bin/false')
  with pytest.raises(RuntimeError, match='did not start .exit status 1.'):
    run(make_pool(), 'right a')


@pytest.fixture
def no_room(monkeypatch):
  """no_room(n): only n more processes can be started."""
  start = subprocess.Popen

  def limit(count):
    left = [count]

    def popen(*args, **kwargs):
      left[0] -= 1
      if left[0] < 0:
        raise OSError(errno.EAGAIN, 'Resource temporarily unavailable')
      return start(*args, **kwargs)

    monkeypatch.setattr(subprocess, 'Popen', popen)

  return limit


def test_where_no_process_can_be_started_nobody_waits(make_pool, no_room):
  pool = make_pool()
  no_room(0)
  futures = [pool.submit(f'right {i}', ONE) for i in range(3)]
  for future in futures:
    with pytest.raises(RuntimeError, match='cannot be started: .* temporarily unavailable'):
      future.result(10)
  no_room(1)
  assert outcomes(run(pool, 'right a')) == ['right']


def test_what_waits_behind_a_lost_worker_is_not_lost_with_it(make_pool, no_room):
  """There is no second worker for the one that dies, and one for the others of its batch."""
  pool = make_pool()
  no_room(1)
  futures = pool._submit([(text, ONE) for text in ('right a', 'die', 'right b', 'right c')])
  assert futures[0].result(10).outcome == 'right'
  for future in futures[1:]:
    with pytest.raises(RuntimeError, match='cannot be started'):
      future.result(10)


def test_close_ends_what_was_with_a_worker_too(make_pool, tmp_path):
  pool = make_pool()
  futures = pool._submit([(text, ONE) for text in (f'hang_with_child {tmp_path}/pids', 'right b')])
  assert wait_until((tmp_path / 'pids').exists)
  pool.close()
  for future in futures:
    with pytest.raises(RuntimeError, match='closed'):
      future.result(10)


def test_a_problem_that_is_no_json_is_an_error_of_its_own(make_pool):
  odd = Problem(3, 'bad', '', '', details={'tests': {1, 2}})
  futures = make_pool()._submit([('right a', ONE), ('right b', odd), ('right c', ONE)])
  with pytest.raises(TypeError, match='set is not JSON serializable'):
    futures[1].result(10)
  assert outcomes([futures[0].result(10), futures[2].result(10)]) == ['right', 'right']


def test_many_completions_of_a_problem_hold_its_tests_once(make_pool):
  """40 messages of 2 MB each, of which few are there at a time."""
  large = Problem(4, 'bad', '', '', details={'tests': 'x' * 2_000_000})
  pool = make_pool()
  run(pool, 'right a')
  tracemalloc.start()
  try:
    pool.check([(f'right {i}', large) for i in range(40)])
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 20_000_000


def test_complaints_name_what_raised_and_what_killed_once(make_pool):
  pool = make_pool()
  run(pool, 'right a', *[f'fail {n}' for n in 'abcde'], 'die')
  raised, killed = pool.complaints()
  assert raised.startswith('unparseable: 5 checks raised an error, which is a bug of theirs: ')
  assert "problem 1: the check raised KeyError('a'); problem 1: " in raised and "'d'" not in raised
  assert killed == 'timeout: a completion of problem 1 killed two workers (exit status -11)'
  assert pool.complaints() == []
  run(pool, 'fail f', 'die')
  assert pool.complaints() == [
    "unparseable: 1 checks raised an error, which is a bug of theirs: problem 1: the check raised KeyError('f')"
  ]


@pytest.mark.parametrize('action', ['right', 'fail', 'sleep 1000'])
def test_parts_come_with_every_verdict(make_pool, action):
  """Half of the words of the thought are English. A check that hangs takes no part away."""
  text = f'<think>so 好</think>{action}'
  pool = make_pool(budgets={'bad': 1.0})
  found = pool.submit(text, ONE, 'en').result()
  assert found.parts == {'format': 0.0, 'language': 0.5}
  assert pool.submit(text, ONE).result().parts == {'format': 0.0}


def test_impossible_arguments():
  with pytest.raises(ValueError, match='workers=0 .* at least 1'):
    Pool(0)
  with pytest.raises(ValueError, match='memory=1000 .* 0, or at least 268435456'):
    Pool(1, memory=1000)
  with pytest.raises(ValueError, match="kind='chess' is unknown; valid: .*'countdown'"):
    Pool(1, budgets={'chess': 1.0})
  with Pool(1) as pool, pytest.raises(ValueError, match="kind='chess'"):
    pool.submit('a', Problem(1, 'chess', '', ''))
  with Pool(1) as pool, pytest.raises(ValueError, match="language='xx' is unknown; valid: .*'en'"):
    pool.submit('a', Problem(1, 'math', '', '1'), 'xx')


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere a worker ends after its check')
def test_no_worker_outlives_its_parent(tmp_path):
  script = (
    'from r1jax.problems import Problem; from r1jax.rewards.checks import Check; from r1jax.rewards.pool import Pool\n'
    'pool = Pool(1, checks={"bad": Check("bad_checks", 1000.0)})\n'
    f'pool.submit("hang_with_child {tmp_path}/pids", Problem(1, "bad", "", "")).result()'
  )
  root = pathlib.Path(__file__).parents[1]
  env = os.environ | {'PYTHONPATH': f'{root}{os.pathsep}{DATA}'}
  parent = subprocess.Popen([sys.executable, '-c', script], env=env)
  assert wait_until(lambda: (tmp_path / 'pids').exists() and (tmp_path / 'pids').read_text(), 30)
  worker, child = (tmp_path / 'pids').read_text().split()
  parent.kill()
  parent.wait()
  os.kill(int(child), signal.SIGKILL)  # of the check's own doing, and no worker
  assert wait_until(lambda: gone(worker))
