"""Generators, files, the split and the iterator, against worked numbers and identities."""

import ast
import dataclasses
import itertools
import json
import operator
import subprocess
import sys
from fractions import Fraction

import pytest

from r1jax import problems
from r1jax.problems import Problem, ProblemsConfig, arithmetic, countdown
from r1jax.problems.iterator import problem_iterator
from r1jax.problems.problem import key

NUMBERED = [Problem(i, 'arithmetic', f'{i} + 0 =', str(i)) for i in range(10)]


def ids(batch):
  return [problem.id for problem in batch]


OPERATORS = {
  ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip


def python_value(text):
  """The exact value of an expression by Python's own grammar."""

  def value(node):
    if isinstance(node, ast.Constant):
      return Fraction(node.value)
    return OPERATORS[type(node.op)](value(node.left), value(node.right))

  return value(ast.parse(text, mode='eval').body)


def digits(text):
  return sorted(int(c) for c in text if c.isdigit())


class TestCountdown:
  def test_values_of_two_numbers(self):
    expected = {5, -1, 1, 6, Fraction(2, 3), Fraction(3, 2)}
    assert countdown.values((3, 2)) == countdown.values((2, 3)) == expected

  def test_targets_of_three_ones(self):
    # 1+1+1 = 3, 1+1-1 = 1, (1+1)*1 = 2, (1+1)/1 = 2, 1-1*1 = 0, 1/(1+1) = 1/2
    assert countdown.targets((1, 1, 1), 99) == [1, 2, 3]
    assert countdown.targets((1, 1, 1), 2) == [1, 2]

  def test_solutions_with_minimal_brackets(self):
    assert set(countdown.solve((2, 3), 5)) == {'2+3', '3+2'}
    assert set(countdown.solve((1, 2, 9), 6)) == {'9-1-2', '9-2-1', '9-(1+2)', '9-(2+1)'}
    assert set(countdown.solve((3, 5, 7), 36)) == {
      '3*(5+7)', '3*(7+5)', '(5+7)*3', '(7+5)*3'
    }  # fmt: skip
    assert list(countdown.solve((3, 5, 7), 99)) == []

  def test_solutions_pass_through_fractions(self):
    assert '8/(3-8/3)' in countdown.solve((3, 3, 8, 8), 24)

  @pytest.mark.parametrize('numbers', [(2, 4, 8), (1, 1, 5), (6, 6, 6)])
  def test_solve_finds_what_is_reachable(self, numbers):
    for target in countdown.targets(numbers, 99):
      found = list(countdown.solve(numbers, target))
      assert found and len(set(found)) == len(found)
      assert all(python_value(text) == target for text in found)
      assert all(digits(text) == sorted(numbers) for text in found)

  def test_solve_counts_every_string(self):
    # Every bracketing of every order of 2, 3, 7 whose brackets cannot be left out.
    shapes = ['{}{}{}{}{}', '({}{}{}){}{}', '{}{}({}{}{})']
    texts = set()
    for shape, (a, b, c), p, q in itertools.product(
      shapes, itertools.permutations('237'), '+-*/', '+-*/'
    ):
      text = shape.format(a, p, b, q, c)
      plain = text.replace('(', '').replace(')', '')
      if '(' not in text or python_value(text) != python_value(plain) or needed(shape, p, q):
        texts.add(text)
    solved = {t for v in countdown.values((2, 3, 7)) for t in countdown.solve((2, 3, 7), v)}
    assert solved == texts

  def test_enumeration_is_complete_and_solvable(self):
    found = countdown.generate(ProblemsConfig())
    assert len({tuple(sorted(p.numbers)) for p in found}) == 165  # C(9+2, 3)
    assert len({key(p) for p in found}) == len(found)
    assert ids(found) == list(range(len(found)))
    for p in found[::40]:
      assert p.prompt == f'{" ".join(map(str, p.numbers))} = {p.answer}'
      assert 1 <= int(p.answer) <= 99
      assert Fraction(p.answer) in countdown.values(p.numbers)

  def test_seed_orders_the_numbers_and_nothing_else(self):
    first, again, other = (countdown.generate(ProblemsConfig(seed=s)) for s in (0, 0, 1))
    assert first == again != other
    assert [key(p) for p in first] == [key(p) for p in other]
    assert len({p.numbers for p in first}) > 400  # far more orders than the 165 sorted ones

  def test_large_ranges_are_drawn(self):
    cfg = ProblemsConfig(numbers_min=3, numbers_max=4, max_number=50, max_target=100, count=60)
    found = countdown.generate(cfg)
    assert found == countdown.generate(cfg)
    assert len(found) == len({key(p) for p in found}) == 60
    assert {len(p.numbers) for p in found} == {3, 4}
    for p in found[:8]:
      text = next(countdown.solve(p.numbers, int(p.answer)))
      assert python_value(text) == int(p.answer) <= 100

  def test_drawing_needs_a_possible_count(self):
    with pytest.raises(ValueError, match='count=0'):
      countdown.generate(ProblemsConfig(max_number=50))
    with pytest.raises(ValueError, match='count=99999 is not possible.*at most'):
      countdown.generate(ProblemsConfig(count=99999))

  def test_tinyzero_wording(self):
    p = countdown.generate(ProblemsConfig(style='tinyzero', count=1))[0]
    assert p.prompt == (
      f'Using the numbers {list(p.numbers)}, create an equation that equals {p.answer}. You can '
      'use basic arithmetic operations (+, -, *, /) and each number can only be used once. Show '
      'your work in <think> </think> tags. And return the final answer in <answer> </answer> tags, '
      'for example <answer> (1 + 2) / 3 </answer>.'
    )


def needed(shape, p, q):
  """Whether precedence asks for the brackets, though the value may happen to agree without."""
  if shape.startswith('('):
    return p in '+-' and q in '*/'
  return (p in '*/' and q in '+-') or (p == '-' and q in '+-') or (p == '/' and q in '*/')


class TestArithmetic:
  def test_precedence(self):
    assert arithmetic.evaluate((3, 5, 7), ('+', '*')) == 38
    assert arithmetic.evaluate((8, 4, 2), ('/', '/')) == 1
    assert arithmetic.evaluate((1, 2, 3), ('-', '/')) == Fraction(1, 3)
    assert arithmetic.evaluate((9, 2, 3), ('-', '-')) == 4

  def test_enumeration(self):
    found = arithmetic.generate(ProblemsConfig('arithmetic', 2, 2, max_number=2))
    assert [(p.prompt, p.answer) for p in found] == [
      ('1 + 1 =', '2'), ('1 - 1 =', '0'), ('1 * 1 =', '1'), ('1 / 1 =', '1'), ('1 + 2 =', '3'),
      ('1 * 2 =', '2'), ('2 + 1 =', '3'), ('2 - 1 =', '1'), ('2 * 1 =', '2'), ('2 / 1 =', '2'),
      ('2 + 2 =', '4'), ('2 - 2 =', '0'), ('2 * 2 =', '4'), ('2 / 2 =', '1'),
    ]  # fmt: skip

  def test_large_ranges_are_drawn(self):
    cfg = ProblemsConfig('arithmetic', 2, 5, max_number=99, max_target=500, count=50)
    found = arithmetic.generate(cfg)
    assert found == arithmetic.generate(cfg)
    assert len({p.prompt for p in found}) == 50
    assert all(0 <= int(p.answer) <= 500 for p in found)
    assert all(python_value(p.prompt[:-1].replace(' ', '')) == int(p.answer) for p in found)


class TestFiles:
  def load(self, tmp_path, *lines, split='train', **fields):
    path = tmp_path / 'problems.jsonl'
    path.write_bytes(b'\n'.join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return problems.load(ProblemsConfig(str(path), heldout_fraction=0.0, **fields), split)

  def test_reads_and_keeps_line_numbers(self, tmp_path):
    line = {'prompt': '3 5 7 = 22', 'answer': 22, 'kind': 'countdown', 'numbers': [3, 5, 7]}
    other = '{"prompt": "1 + 2 =", "answer": "3", "kind": "arithmetic", "source": "x"}\r'
    assert self.load(tmp_path, json.dumps(line), '', other, '') == (
      Problem(1, 'countdown', '3 5 7 = 22', '22', (3, 5, 7)),
      Problem(3, 'arithmetic', '1 + 2 =', '3'),
    )

  @pytest.mark.parametrize(
    'line, message',
    [
      ('{"prompt": "1 + 2 =", ', 'Expecting'),
      ('[' * 100_000, 'recursion|Expecting'),
      (b'{"prompt": "\xff"}', 'utf-8'),
      ('[1, 2]', 'not a JSON object'),
      ('{"prompt": "1", "kind": "arithmetic"}', "'answer' is missing"),
      ('{"prompt": " ", "answer": "1", "kind": "arithmetic"}', "prompt=' '"),
      ('{"prompt": "1", "answer": "1", "kind": "maths"}', "kind='maths'.*countdown"),
      ('{"prompt": "1", "answer": 1.5, "kind": "arithmetic"}', 'answer=1.5'),
      ('{"prompt": "1", "answer": "x", "kind": "arithmetic"}', "not a number: 'x'"),
      ('{"prompt": "1", "answer": "1", "kind": "countdown"}', 'numbers is missing'),
      ('{"prompt": "1", "answer": "1", "kind": "countdown", "numbers": [true]}', 'numbers='),
    ],
  )
  def test_a_broken_line_is_named(self, tmp_path, line, message):
    good = '{"prompt": "1 + 2 =", "answer": "3", "kind": "arithmetic"}'
    with pytest.raises(ValueError, match=rf'(?s)problems\.jsonl:2: .*({message})'):
      self.load(tmp_path, good, line)

  def test_missing_and_empty_files(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.jsonl'):
      problems.load(ProblemsConfig('nowhere.jsonl'), 'train')
    with pytest.raises(ValueError, match='holds no problem'):
      self.load(tmp_path, '')


class TestSplit:
  def test_disjoint_and_complete(self):
    cfg = ProblemsConfig()
    train, heldout = (problems.load(cfg, split) for split in ('train', 'heldout'))
    assert not {key(p) for p in train} & {key(p) for p in heldout}
    assert sorted(ids(train + heldout)) == ids(countdown.generate(cfg))
    assert 0.08 < len(heldout) / len(train + heldout) < 0.12

  def test_no_seed_moves_a_problem_over_the_line(self):
    trained = {key(p) for s in range(3) for p in problems.load(ProblemsConfig(seed=s), 'train')}
    heldout = {key(p) for s in range(3) for p in problems.load(ProblemsConfig(seed=s), 'heldout')}
    assert not trained & heldout

  def test_the_line_is_fixed(self):
    # A change here would let models that exist be judged on problems that they were trained on.
    heldout = problems.load(ProblemsConfig(), 'heldout')
    assert (len(heldout), [key(p) for p in heldout[:3]]) == (
      214,
      ['[1, 1, 1] 1', '[1, 1, 2] 2', '[1, 1, 3] 6'],
    )

  def test_errors(self):
    with pytest.raises(ValueError, match="split='test'"):
      problems.load(ProblemsConfig(), 'test')
    with pytest.raises(ValueError, match='heldout split.*is empty'):
      problems.load(ProblemsConfig(heldout_fraction=0.0), 'heldout')

  @pytest.mark.parametrize(
    'field, value',
    [
      ('source', 'countdwn'), ('numbers_min', 1), ('numbers_max', 2), ('max_number', 0),
      ('max_target', 0), ('style', 'long'), ('heldout_fraction', 1.0), ('count', -1),
    ],
  )  # fmt: skip
  def test_a_wrong_field_is_named(self, field, value):
    with pytest.raises(ValueError, match=f'{field}={value!r} is not possible; valid: '):
      dataclasses.replace(ProblemsConfig(), **{field: value})


class TestIterator:
  def test_each_epoch_is_another_shuffle(self):
    batches = problem_iterator(NUMBERED, seed=1, prompts=5)
    epochs = [ids(next(batches)) + ids(next(batches)) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = problem_iterator(NUMBERED, seed=2, prompts=10)
    assert ids(next(other)) not in epochs

  def test_batches_wrap_across_epochs(self):
    batches = problem_iterator(NUMBERED, seed=1, prompts=25)
    stream = ids(next(batches)) + ids(next(batches))
    assert all(sorted(stream[i : i + 10]) == list(range(10)) for i in range(0, 50, 10))
    smaller = problem_iterator(NUMBERED, seed=1, prompts=3)
    assert [i for _ in range(16) for i in ids(next(smaller))] == stream[:48]

  def test_resume_is_identical(self):
    batches = problem_iterator(NUMBERED, seed=7, prompts=3)
    expected = [batches.next() for _ in range(12)]
    for cut in range(9):
      first = problem_iterator(NUMBERED, seed=7, prompts=3)
      assert [first.next() for _ in range(cut)] == expected[:cut]
      state = json.loads(json.dumps(first.get_state()))
      second = problem_iterator(NUMBERED, seed=7, prompts=3)
      second.next()
      second.set_state(state)
      assert second.get_state() == state
      assert [second.next() for _ in range(12 - cut)] == expected[cut:]

  def test_another_stream_is_refused(self):
    state = problem_iterator(NUMBERED, seed=7, prompts=3).get_state()
    for source, seed, prompts in ((NUMBERED[1:], 7, 3), (NUMBERED, 8, 3), (NUMBERED, 7, 4)):
      with pytest.raises(ValueError, match='other problems, another seed'):
        problem_iterator(source, seed, prompts).set_state(state)

  @pytest.mark.parametrize('hosts', [2, 5])
  def test_hosts_share_one_stream(self, hosts):
    whole = problem_iterator(NUMBERED, seed=3, prompts=2 * hosts)
    parts = [problem_iterator(NUMBERED, 3, 2, host, hosts) for host in range(hosts)]
    for _ in range(7):
      dealt = [next(part) for part in parts]
      assert sum(dealt, []) == next(whole)
      assert all(part.get_state() == whole.get_state() for part in parts)

  def test_hosts_are_disjoint_and_complete_in_an_epoch(self):
    parts = [problem_iterator(NUMBERED, 3, 1, host, 2) for host in range(2)]
    seen = [{next(part)[0].id for _ in range(5)} for part in parts]
    assert not seen[0] & seen[1] and seen[0] | seen[1] == set(range(10))

  def test_errors(self):
    cases = {'no problems': ([], 0, 1), 'prompts=0': (NUMBERED, 0, 0)}
    cases['host_index=2'] = (NUMBERED, 0, 1, 2, 2)
    for message, arguments in cases.items():
      with pytest.raises(ValueError, match=message):
        problem_iterator(*arguments)


def test_problems_and_rewards_do_not_import_jax():
  code = 'import sys, r1jax.problems, r1jax.rewards, r1jax.prompts; assert "jax" not in sys.modules'
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('source', ['countdown', 'arithmetic'])
def test_more_problems_than_exist_are_refused_soon(source, monkeypatch):
  """Five ones make few values, drawn from few expressions."""
  monkeypatch.setattr(arithmetic, '_ENUMERATE', 1)
  cfg = ProblemsConfig(source, 5, 5, 1, max_target=3, count=100_000)
  with pytest.raises(ValueError, match='count=100000 is not possible; valid: at most about'):
    problems.load(cfg, 'train')


def test_a_part_of_a_small_range_is_a_random_one():
  everything = problems.load(ProblemsConfig('arithmetic', 2, 2, heldout_fraction=0), 'train')
  part = problems.load(ProblemsConfig('arithmetic', 2, 2, heldout_fraction=0, count=40), 'train')
  assert len(part) == 40 and set(part) <= set(everything)
  assert max(p.id for p in part) > len(everything) // 2
