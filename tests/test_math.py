"""What is equal and, above all, what is not; and that no text takes long."""

import collections
import concurrent.futures
import pathlib
import re
import signal
from fractions import Fraction

import pytest

from r1jax.problems import Problem
from r1jax.rewards.__main__ import read as read_cases
from r1jax.rewards.maths import answer_of, check, closed_form, units
from r1jax.rewards.maths.answer import read
from r1jax.rewards.maths.exact import TooLarge, exact
from r1jax.rewards.maths.expr import parse
from r1jax.rewards.maths.numeric import numeric
from r1jax.rewards.maths.operators import plain
from r1jax.rewards.maths.reals import same_set
from r1jax.rewards.maths.structure import Many, Value
from r1jax.rewards.maths.text import MAX_DEPTH, tokenize
from r1jax.rewards.maths.tree import Num, Op, Sym
from r1jax.rewards.maths.value import same
from r1jax.rewards.pool import Pool

CORPUS = pathlib.Path(__file__).parent / 'data' / 'adversarial_math.jsonl'


def n(value):
  return Num(Fraction(value))


def outcome(gold, answer, prompt='?'):
  return check(f'\\boxed{{{answer}}}', Problem(0, 'math', prompt, gold)).outcome


def test_the_corpus_through_the_pool():
  """No false positive at all, and no more than one false negative in a hundred."""
  cases = read_cases(str(CORPUS))
  with Pool(2, budgets={'math': 20.0}) as pool:
    found = pool.check([case[:2] for case in cases])
    assert pool.errors == 0 and pool.quarantined == []
  expected = [case[2] for case in cases]
  paid = [case[1].id for case, v in zip(cases, found) if v.credit and case[2] != 'right']
  missed = [case[1].id for case, v in zip(cases, found) if not v.credit and case[2] == 'right']
  assert paid == []
  assert len(missed) <= 0.01 * expected.count('right')
  assert [v.outcome for v in found if not v.credit].count('timeout') == 0
  assert sum(v.outcome != e for v, e in zip(found, expected)) <= 0.01 * len(cases)


HUGE = [
  '\\sum_{k=1}^{3} 9^{9^{9^{k}}}',
  '\\int_0^1 x^{9^{9^{9}}}\\,dx',
  '\\prod_{k=1}^{9} (10^{9})!',
  '\\lim_{x\\to 0} ((((9!)!)!)!)x',
  '\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}^{10^{9}}',
  '\\sum_{k=1}^{3}' * 40 + 'k',
  '\\int_0^1' * 30 + 'x' + 'dx' * 30,
  '\\sum_{k=1}^{3}' + '(' * 35 + 'k' + ')' * 35,
  '\\max(' * 38 + '1' + ')' * 38,
]


def test_large_work_ends_at_the_budget_and_is_not_paid():
  """Answer and reference alike; nothing raises or kills a worker."""
  pairs = [(f'\\boxed{{{text}}}', Problem(0, 'math', 'Find 5.', '5')) for text in HUGE]
  pairs += [('\\boxed{5}', Problem(1, 'math', 'Find 5.', text)) for text in HUGE]
  with Pool(2, budgets={'math': 2.0}) as pool:
    found = pool.check(pairs)
    assert pool.errors == 0 and pool.quarantined == []
  assert [v.outcome for v in found[:4]] == ['timeout'] * 4
  assert all(v.outcome != 'right' and v.seconds < 3.0 for v in found)


def test_math_verify_sees_no_signal_and_leaves_none():
  before = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
  with concurrent.futures.ThreadPoolExecutor(1) as thread:  # where signal.alarm would raise
    assert thread.submit(outcome, '\\sum_{k=1}^{10} k', '55').result() == 'right'
  assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == before


@pytest.mark.parametrize(
  'text, value',
  [
    ('\\sum_{k=1}^{100} k', '5050'), ('\\sum_{i=1}^{3} i^2', '14'), ('\\int_0^2 3x^2\\,dx', '8'),
    ('\\prod_{k=2}^{4} (1-\\frac1k)', '\\frac{1}{4}'), ('\\lim_{x\\to 3} \\frac{x^2-9}{x-3}', '6'),
    ('\\int_0^{0.5} 8x\\,dx', '1'), ('\\sum_{k=0}^{\\infty} \\frac{1}{2^k}', '2'), ('\\sum_{k=1}^{12}\\frac12', '6'),
  ],
)  # fmt: skip
def test_what_operators_come_to(text, value):
  assert closed_form.closed(tokenize(text)) == tokenize(value)


@pytest.mark.parametrize(
  'text',
  [
    '\\int x\\,dx', '\\int_0^1 x', '\\sum k', '\\sum_{k=1}^{3} k + k', '\\sum_{k=1}^{3} a_k', '\\sum_{k=1}^{3} k!!',
    '\\lim_{x\\to 0} \\frac{1}{x}', '\\sum_{k=1}^{3} 5 5', '\\sum_{k=1}^{3} f(k)', '\\sum_{k=1}^{3} i',
    '\\sum_{k=1}^{3} k \\text{ apples}', '\\int_0^1 \\sin(\\cos(x))\\,dx', '\\sum_{k=1}^{3} \\oint k',
  ],
)  # fmt: skip
def test_what_has_no_closed_form_or_two_meanings(text):
  with pytest.raises(ValueError, match='.'):
    closed_form.closed(tokenize(text))


def test_math_verify_decides_where_there_is_no_closed_form():
  gold = '\\int_0^1 \\sin(\\cos(x))\\,dx'
  assert outcome(gold, '\\int_0^1 \\sin(\\cos(t))\\,dt') == outcome(gold, gold) == 'right'
  assert outcome(gold, '\\int_0^2 \\sin(\\cos(x))\\,dx') == 'wrong'
  assert outcome(gold, '0.738642998') == outcome(gold, '5') == 'wrong'


@pytest.mark.parametrize(
  'text, value',
  [
    ('\\sum_{k\\ge 3} k', '\\sum_{k=3}^{\\infty} k'), ('\\sum_{k>3} k', '\\sum_{k=3+1}^{\\infty} k'),
    ('\\prod_{1\\le k<n} k', '\\prod_{k=1}^{n-1} k'), ('\\sum_{9\\ge k\\ge 3} k', '\\sum_{k=3}^{9} k'),
    ('\\iint_{[0,3]\\times[1,2]} xy\\,dy\\,dx', '\\int_{0}^{3}\\int_{1}^{2} xy\\,dy\\,dx'),
    ('\\iint_{[0,3]\\times[1,2]} xy\\,dA', '\\int_{1}^{2}\\int_{0}^{3} xy\\,dx\\,dy'),
    ('\\sum_{k=1}^{9} k', '\\sum_{k=1}^{9} k'),
  ],
)  # fmt: skip
def test_operators_in_one_spelling(text, value):
  assert plain(tokenize(text)) == tokenize(value)


@pytest.mark.parametrize(
  'text',
  ['\\sum_{k<9} k', '\\sum_{k>\\frac12} k', '\\sum_{1<k>9} k', '\\iint_{[0,3]} x\\,dx\\,dy', '\\iint_{D} x\\,dA']
)  # fmt: skip
def test_operators_that_say_too_little(text):
  with pytest.raises(ValueError, match='cannot read|without'):
    plain(tokenize(text))


SETS = [  # of numbers, one in each row
  ['|x|<2', '-2<x<2', 'x\\in(-2,2)', 'x>-2, x<2', '\\{x\\mid x>-2, x<2\\}', '(-2,1]\\cup(0,2)'],
  ['|x|\\ge 2', '(-\\infty,-2]\\cup[2,\\infty)', 'x\\le-2 \\text{ or } x\\ge 2'],
  [
    'x\\ne\\pm 1',
    'x\\ne 1,-1',
    '\\{x\\mid x\\ne 1, x\\ne -1\\}',
    '(-\\infty,-1)\\cup(-1,1)\\cup(1,\\infty)',
  ],
  ['\\mathbb{R}', '(-\\infty,\\infty)', '\\text{all real numbers}', 'x<1\\text{ or }x>0'],
  ['0<|x-1|<2', '(-1,1)\\cup(1,3)'],
]


def test_sets_of_numbers_are_equal_however_they_are_written():
  """To all of their own row and to none of another."""
  read_as = [[read(tokenize(text)) for text in row] for row in SETS]
  for left in read_as:
    for right in read_as:
      assert all(same_set(a, b) == (left is right) for a in left for b in right)


@pytest.mark.parametrize('text', ['x>1, x>2', '0<x<2, 1<x<3', 'x>1 \\text{ or } x>2', 'x=3, x>2'])
def test_two_answers_are_no_set(text):
  assert read(tokenize(text)).kind == 'list'


def test_a_constant_is_arbitrary_only_where_the_question_integrates_and_does_not_speak_of_it():
  pair = 'x^2 + C', 'x^2 + 1 + c'
  assert outcome(*pair, 'Find $\\int 2x\\,dx$.') == outcome(*pair, "Solve $y' = 2x$.") == 'right'
  for prompt in ('Find the area.', 'Find $\\int 2x\\,dx$ for $C = 1$.'):
    assert outcome(*pair, prompt) == 'wrong'


@pytest.mark.parametrize(
  'unit, other, factor',
  [
    ('cm', 'm', 100), ('cm^2', 'm^2', 10**4), ('km/hour', 'm/second', Fraction(18, 5)), ('m', 'm^2', None),
    ('m', 'kg', None),
    ('mile*north', 'mile*south', None), ('mile*north', 'mile', 1), ('apple', 'kg', 1), ('base 2', 'base 3', None),
  ],
)  # fmt: skip
def test_measures_are_converted(unit, other, factor):
  assert units.factor(unit, other) == factor


def test_what_the_question_asks_for_may_stand_before_the_answer():
  assert outcome('7', 'a+b=7', 'Find $a+b$.') == 'right'
  for prompt in ('If $a+b=7$, find $ab$.', 'If $2 = a+b$, find $c$.', 'Find $a+b+c$.', '?'):
    assert outcome('7', 'a+b=7', prompt) == 'wrong'


def test_the_corpus_is_varied():
  cases = read_cases(str(CORPUS))
  counts = collections.Counter(expected for _, _, expected in cases)
  assert (
    len(cases) >= 300 and min(counts['right'], counts['wrong']) >= 150 and counts['bad_gold'] >= 5
  )
  assert len({(p.answer, p.prompt, completion) for completion, p, _ in cases}) == len(cases)


@pytest.mark.parametrize(
  'text, tokens',
  [
    ('$x = \\dfrac12$', ['x', '=', '\\frac', '12']),
    ('1,234', ['1234']),
    ('(1,234)', ['(', '1', ',', '234', ')']),
    ('5 \\text{ cm}', ['5', '"cm"']),
    ('（３，４）', ['(', '3', ',', '4', ')']),
    ('x²', ['x', '^', '{', '2', '}']),
    ('90°', ['90', '"degree"']),
    ('a and b', ['a', ',', 'b']),
    ('a or b', ['a', '\\or', 'b']),
    ('ab', ['a', 'b']),
    ('sin x', ['\\sin', 'x']),
    ('1.5e3', ['1.5', '*', '10', '^', '{', '3', '}']),
  ],
)
def test_tokens(text, tokens):
  assert tokenize(text) == tokens


@pytest.mark.parametrize(
  'text, expected',
  [
    ('1+2*3', Op('add', (n(1), Op('mul', (n(2), n(3)))))),
    ('1-2-3', Op('sub', (Op('sub', (n(1), n(2))), n(3)))),
    ('1/2x', Op('mul', (Op('div', (n(1), n(2))), Sym('x')))),
    ('-2^2', Op('neg', (Op('pow', (n(2), n(2))),))),
    ('2^{3^4}', Op('pow', (n(2), Op('pow', (n(3), n(4)))))),
    ('\\frac12', Op('div', (n(1), n(2)))),
    ('\\frac{1}{23}', Op('div', (n(1), n(23)))),
    ('3\\frac{1}{2}', Op('add', (n(3), Op('div', (n(1), n(2)))))),
    ('3\\frac{5}{2}', Op('mul', (n(3), Op('div', (n(5), n(2)))))),
    ('\\sqrt[3]{2}', Op('root', (n(3), n(2)))),
    ('x_1', Sym('x_1')),
    ('\\sin 2x', Op('sin', (Op('mul', (n(2), Sym('x'))),))),
    ('\\sin^2 x', Op('pow', (Op('sin', (Sym('x'),)), n(2)))),
    ('|x-1|', Op('abs', (Op('sub', (Sym('x'), n(1))),))),
  ],
)
def test_expressions(text, expected):
  assert parse(tokenize(text)) == expected


def test_a_postfix_binds_closer_than_a_sign():
  assert exact(parse(tokenize('-3!'))) == -6
  assert exact(parse(tokenize('2^{3!}'))) == 64
  for text in ('2^3!', '5!!'):  # may mean either of two things
    with pytest.raises(ValueError, match='!|factorial'):
      parse(tokenize(text))


@pytest.mark.parametrize(
  'text, value',
  [
    ('3\\frac{1}{2}', Fraction(7, 2)), ('-3\\frac{1}{2}', Fraction(-7, 2)), ('0.1\\overline{6}', Fraction(1, 6)),
    ('\\sqrt[3]{-8}', -2), ('8^{2/3}', 4), ('\\sqrt{\\frac{9}{4}}', Fraction(3, 2)), ('4^{-1/2}', Fraction(1, 2)),
    ('\\binom{10}{3}', 120), ('5!', 120), ('\\lfloor -2.5\\rfloor', -3), ('\\lceil 2.1\\rceil', 3), ('|-5|', 5),
    ('(-1)^{101}', -1), ('\\frac{0}{5}', 0), ('2^{-3}', Fraction(1, 8)),
  ],
)  # fmt: skip
def test_exact_values(text, value):
  assert exact(parse(tokenize(text))) == value


def test_what_is_not_rational_has_no_exact_value():
  for text in ('\\sqrt{2}', '\\pi', 'x', '\\sqrt{-4}', '\\sin 0', '(1/2)!'):
    assert exact(parse(tokenize(text))) is None


@pytest.mark.parametrize(
  'text', ['9^{9^{9}}', '(10^9)!', '2^{200000}', '10^{-10^{9}}', '\\binom{99999}{5}']
)
def test_what_is_too_large(text):
  with pytest.raises(TooLarge):
    exact(parse(tokenize(text)))


def test_equality_needs_every_digit():
  """sqrt(10^k + 1) and 10^(k/2) differ first in the digit k; 1000 digits are compared."""
  for k in (10, 100, 400):
    a, b = (parse(tokenize(text)) for text in (f'\\sqrt{{10^{{{k}}}+1}}', f'10^{{{k // 2}}}+0\\pi'))
    assert not same(a, b)
  assert same(*(parse(tokenize(t)) for t in ('\\sqrt{3+2\\sqrt2}', '1+\\sqrt2')))


def test_structures():
  assert read(tokenize('(1,2]')) == Many('interval', (Value(n(1)), Value(n(2))), '(]')
  assert read(tokenize('1<x\\le 2')) == Many('interval', (Value(n(1)), Value(n(2))), '(]', 'x')
  assert read(tokenize('\\{1\\}')) == Many('set', (Value(n(1)),))
  assert read(tokenize('n=1,2')) == Many('list', (Value(n(1)), Value(n(2))))
  assert read(tokenize('y=2,x=1')) == Many(
    'tuple', (Value(n(1), name='x'), Value(n(2), name='y')), '()', 'x,y'
  )
  assert read(tokenize('12\\text{ square centimeters}')) == Value(n(12), 'cm^2')
  assert read(tokenize('3\\pmod 7')) == Value(n(3), modulus=n(7))
  assert read(tokenize('50\\%')) == Value(n(50), percent=True)


@pytest.mark.parametrize(
  'completion, answer',
  [
    ('\\boxed{1} or $\\boxed{\\frac{1}{2}}$', '1, \\frac{1}{2}'),
    ('\\boxed{1}, \\boxed{1}', '1'),
    ('\\boxed{1} \\boxed{2}', '2'),
    ('\\boxed{1}, then \\boxed{2}', '2'),
    ('\\boxed{\\{1\\}}', '\\{1\\}'),
    ('\\boxed{1} \\boxed{2', '1'),
    ('<think>\\boxed{1}</think><answer> 2 </answer>', '2'),
    ('<answer>1</answer> \\boxed{2}', '2'),
    ('\\boxed{}', ''),
    ('no', None),
    ('<answer></answer>', None),
  ],
)
def test_the_answer_of_a_completion(completion, answer):
  assert answer_of(completion) == answer


@pytest.mark.parametrize(
  'pair',
  [
    ('1/2004!', '1/2006!'),
    ('x', '|x|'),
    ('x=5', 'y=5'),
    ('(1,2)', '(2,1)'),
    ('1/3', '0.333'),
    ('50', '5\\%'),
    ('5 cm', '5 m'),
  ],
)
def test_not_equal_either_way(pair):
  assert outcome(*pair) == outcome(*pair[::-1]) == 'wrong'


def test_every_correct_answer_of_the_corpus_is_its_own_reference():
  """Equality is reflexive: an answer that is read, taken as the reference, accepts itself."""
  for completion, problem, expected in read_cases(str(CORPUS)):
    answer = answer_of(completion)
    if expected == 'right' and problem.prompt.startswith('Solve'):
      found = check(f'\\boxed{{{answer}}}', Problem(0, 'math', '', answer))
      assert found.outcome == 'right', (problem.id, found)


@pytest.mark.parametrize(
  'text',
  [
    '1+' * 149 + '1', 'x!' * 149, '(' * 100_000, '{' * 100_000 + '}' * 100_000, '\\boxed{' * 50_000,
    '\\boxed{' * 50_000 + '}' * 50_000, '9' * 1_000_000,
    '\\frac' * 100_000, '<answer>' * 100_000, '1+' * 300_000 + '1', '\\text{' * 100_000,
    '\\sqrt' * 150, '-' * 900 + '1',
    '(' * MAX_DEPTH + '1' + ')' * MAX_DEPTH, '1,' * 450, '1^' * 300 + '1', '\\sin' * 200 + 'x', 'x!' * 300, '0.' * 400,
    '|' * 900, '1\\pm' * 100 + '1', '((x+1)^9+1)^9' * 50, 'x^{' * 35 + '9' + '}' * 35,
    '9,999' * 150, '\\overline{' * 80,
  ],
  ids=lambda text: f'{re.sub(r"[^a-z0-9(]", "", text[:12])}-{len(text)}',
)  # fmt: skip
def test_no_text_takes_long_or_raises(text):
  """In the pool, which would call an exception an error and kill what takes more than a second."""
  problems = [Problem(0, 'math', 'Find 1.', '1'), Problem(1, 'math', 'Find 1.', text[:1000])]
  pairs = [
    (c, p) for p in problems for c in (text, f'\\boxed{{{text}}}', f'<answer>{text}</answer>')
  ]
  with Pool(1) as pool:
    found = pool.check(pairs)
    assert pool.errors == 0 and all(v.outcome != 'timeout' for v in found)


def test_what_is_an_integer_but_for_the_last_digits_is_rounded_to_it():
  """sqrt(2)^2 - 2 and its negative, of which rounding makes one smaller than 0."""
  root = Op('root', (Num(Fraction(2)), Num(Fraction(2))))
  zero = Op('sub', (Op('mul', (root, root)), Num(Fraction(2))))
  for expr in (zero, Op('neg', (zero,))):
    for name in ('floor', 'ceil'):
      assert numeric(Op(name, (expr,)), {}, 50, True) == 0
