"""Is one answer the other? Both as maths.answer reads them; the first is the reference."""

import functools
from fractions import Fraction

from r1jax.rewards.maths import reals, units, wording
from r1jax.rewards.maths.exact import exact
from r1jax.rewards.maths.families import same_family
from r1jax.rewards.maths.structure import Answer, Many, Relation, Text, Value
from r1jax.rewards.maths.tree import Expr, Num, Op, Sym, walk
from r1jax.rewards.maths.value import proportional, same, variables

_HUNDRED = Num(Fraction(100))


def matches(gold: Answer, answer: Answer, in_percent: bool = False) -> bool:
  """in_percent: the question asks for a percentage, so that a reference of 50 means 50%."""
  match = functools.partial(matches, in_percent=in_percent)
  if isinstance(answer, Many) and answer.kind == 'chain':
    return _names_agree(gold, answer) and all(match(gold, item) for item in answer.items)
  if isinstance(gold, Many) and gold.kind == 'chain':
    return _names_agree(gold, answer) and match(gold.items[-1], answer)
  if isinstance(gold, Value) and isinstance(answer, Value):
    return _names_agree(gold, answer) and _values(gold, answer, in_percent)
  if isinstance(gold, Text) or isinstance(answer, Text):
    return _words(gold) is not None and _words(gold) == _words(answer)
  numbers = _numbers(gold, answer)
  if numbers is not None:
    return numbers
  if isinstance(gold, Many) and isinstance(answer, Many):
    if not _names_agree(gold, answer):
      return gold.kind == answer.kind == 'interval' and _relations(gold, answer)
    return _collections(gold, answer, match)
  if isinstance(gold, Many | Relation) and isinstance(answer, Many | Relation):
    return _relations(gold, answer)
  return (
    _relations(gold, answer)
    if Relation in (type(gold), type(answer))
    else _single(gold, answer, match)
  )


def _numbers(gold: Answer, answer: Answer) -> bool | None:
  """Are they the same set of real numbers? R is all of them. None where they are none."""
  if isinstance(answer, Value) and answer.expr == Sym('R') and not isinstance(gold, Value):
    answer = reals.ALL
  if not all(isinstance(side, Many | Relation) for side in (gold, answer)):
    return None
  same_set = reals.same_set(gold, answer)
  names = {reals.about(side) for side in (gold, answer)} - {''}
  return None if same_set is None else same_set and len(names) < 2


def _names_agree(gold: Answer, answer: Answer) -> bool:
  """`x = 5` is not `y = 5`; 5 is either, and `x_1 = 5` is `x = 5`."""
  names = [side.name for side in (gold, answer) if getattr(side, 'name', '')]
  if len(set(names)) < 2:
    return True
  bases = {name.split('_')[0] for name in names}
  return len(bases) == 1 and bases & set(names) == bases


def _words(side: Answer) -> tuple[str, ...] | None:
  if isinstance(side, Text):
    return wording.statement(side.words)
  if isinstance(side, Many) and side.kind == 'set' and not side.items:
    return wording.NO_SOLUTION
  if isinstance(side, Value) and not side.unit and isinstance(side.expr, Op):
    letters = [node.name for node in walk(side.expr) if isinstance(node, Sym)]
    return (''.join(letters).lower(),) if _only_products(side.expr) else None
  return None


def _only_products(expr: Expr) -> bool:
  return all(isinstance(node, Sym) or getattr(node, 'name', '') == 'mul' for node in walk(expr))


def _values(gold: Value, answer: Value, in_percent: bool) -> bool:
  factor = units.factor(gold.unit, answer.unit)
  if factor is None:
    return False
  if factor != 1:
    return same(gold.expr, Op('mul', (answer.expr, Num(factor))))
  measures = [units.measure(side.unit) for side in (gold, answer)]
  if 'degree' in measures and measures[0] != measures[1]:
    return _angles(gold, answer)
  if gold.modulus or answer.modulus:
    return _residues(gold, answer)
  if gold.percent == answer.percent:
    return same(gold.expr, answer.expr)
  if answer.percent:
    return same(_percent(gold.expr), answer.expr) or (in_percent and same(gold.expr, answer.expr))
  return same(gold.expr, answer.expr) or same(gold.expr, _percent(answer.expr))


def _percent(expr: Expr) -> Expr:
  return Op('mul', (expr, _HUNDRED))


def _angles(gold: Value, answer: Value) -> bool:
  """Degrees on one side only: the other leaves the sign out, or is in radians."""
  degrees, other = (gold, answer) if units.measure(gold.unit) == 'degree' else (answer, gold)
  if Sym('pi') not in walk(other.expr):
    return same(gold.expr, answer.expr)
  radians = Op('div', (Op('mul', (degrees.expr, Sym('pi'))), Num(Fraction(180))))
  return same(radians, other.expr)


def _residues(gold: Value, answer: Value) -> bool:
  if gold.modulus and answer.modulus:
    modulus, residues = exact(gold.modulus), (exact(gold.expr), exact(answer.expr))
    if not modulus or None in residues:
      return same(gold.modulus, answer.modulus) and same(gold.expr, answer.expr)
    return same(gold.modulus, answer.modulus) and (residues[0] - residues[1]) % modulus == 0
  return same(gold.expr, answer.expr)


def _collections(gold: Many, answer: Many, match) -> bool:
  kinds = {gold.kind, answer.kind}
  if kinds == {'family'}:
    return same_family(gold, answer)
  if kinds == {'ratio'}:
    return _ratios(gold.items, answer.items, match)
  if gold.kind == answer.kind == 'set':
    return _covers(gold.items, answer.items, match) and _covers(answer.items, gold.items, match)
  if kinds in ({'union'}, {'cases'}) or kinds <= {'list', 'set'}:
    return _unordered(gold.items, answer.items, match)
  if kinds <= {'tuple', 'interval'}:
    return gold.brackets == answer.brackets and _ordered(gold.items, answer.items, match)
  if kinds == {'tuple', 'list'} and any(map(_alternatives, (gold, answer))):
    return False
  if len(kinds) == 1 or kinds == {'tuple', 'list'}:
    return _ordered(gold.items, answer.items, match)
  return False


def _alternatives(side: Many) -> bool:
  """`x = 1 or x = 3`, and `x = 1, x = 3`: no pair."""
  names = [getattr(item, 'name', '') for item in side.items]
  return side.brackets == 'or' or (all(names) and len(names) > len(set(names)))


def _ratios(gold: tuple, answer: tuple, match) -> bool:
  """3:4 is 6:8 and 9:12, but a reference 3:45 may be a time of day."""
  if _ordered(gold, answer, match):
    return True
  if not (len(gold) == len(answer) and _is_ratio(gold) and _are_terms(answer)):
    return False
  (first, *rest), (other, *others) = ([item.expr for item in items] for items in (gold, answer))
  return all(same(Op('mul', (a, other)), Op('mul', (b, first))) for a, b in zip(rest, others))


def _is_ratio(items: tuple) -> bool:
  """Of numbers, and what may be no time."""
  if not _are_terms(items):
    return False
  numbers = [exact(item.expr) for item in items]
  return not (len(numbers) == 2 and None not in numbers and numbers[0] < 25 and 9 < numbers[1] < 60)


def _are_terms(items: tuple) -> bool:
  """Plain numbers other than 0."""
  plain = all(isinstance(item, Value) and item == Value(item.expr) for item in items)
  return plain and not any(exact(item.expr) == 0 or variables(item.expr) for item in items)


def _covers(all_of: tuple, some: tuple, match) -> bool:
  """Sets may repeat an element."""
  return all(any(match(one, other) for other in some) for one in all_of)


def _ordered(gold: tuple, answer: tuple, match) -> bool:
  return len(gold) == len(answer) and all(match(a, b) for a, b in zip(gold, answer))


def _unordered(gold: tuple, answer: tuple, match) -> bool:
  """Each element once. Equality is transitive, so that the first that fits will do."""
  if len(gold) != len(answer):
    return False
  left = list(answer)
  for item in gold:
    found = next((at for at, other in enumerate(left) if match(item, other)), None)
    if found is None:
      return False
    del left[found]
  return True


def _single(gold: Answer, answer: Answer, match) -> bool:
  """A collection against a value: only one of a single element can be it, or a ratio of two, or of an index."""
  many, value = (gold, answer) if isinstance(gold, Many) else (answer, gold)
  if many.kind == 'ratio' and many is gold:
    return _quotient(many, value)
  if many.kind == 'family' and many is answer:
    return match(gold, many.items[0])
  if many.kind == 'family' and _says_itself(many):
    return match(many.items[0], value)
  if many.kind == 'list' and isinstance(value, Value):
    if many is answer and many.brackets == 'or' and len(many.items) > 1:
      return _one_value(many.items, value, match)
    letters = _letters(many.items)
    if letters and letters == _letters((value,)):
      return True
    if quantity := _quantity(many.items):
      return match(quantity, value) if many is gold else match(value, quantity)
  if many.kind not in ('set', 'list') or len(many.items) != 1:
    return False
  return match(many.items[0], value) if many is gold else match(value, many.items[0])


def _says_itself(family: Many) -> bool:
  """`a_n = 2n, n in N` is what `a_n = 2n` says, and so is a formula with any real number in it."""
  item, (index, domain) = family.items[0], family.items[1].words
  return domain == '\\R' or getattr(item, 'name', '').endswith(f'_{index}')


def _one_value(items: tuple, value: Answer, match) -> bool:
  """`1/2 or 0.5` is one value in other words."""
  if any(not isinstance(item, Value) for item in items):
    return False
  alike = len({item.name for item in items}) == 1 and all(match(items[0], item) for item in items)
  return alike and all(match(value, item) for item in items)


def _letters(items: tuple) -> str:
  """The choices of `A, C` or of `AC`: in order, each once; '' for what is none."""
  found = ''
  for item in items:
    if not isinstance(item, Value) or item != Value(item.expr) or not _only_products(item.expr):
      return ''
    found += ''.join(node.name for node in walk(item.expr) if isinstance(node, Sym))
  return found if set(found) <= set('ABCDEFG') and found == ''.join(sorted(set(found))) else ''


def _quantity(items: tuple) -> Value | None:
  """2 hours and 30 minutes are 2.5 hours."""
  if len(items) < 2 or not all(isinstance(i, Value) and i == Value(i.expr, i.unit) for i in items):
    return None
  numbers = [exact(item.expr) for item in items]
  total = None if None in numbers else units.whole([(n, i.unit) for n, i in zip(numbers, items)])
  return None if total is None else Value(Num(total), items[0].unit)


def _quotient(ratio: Many, value: Answer) -> bool:
  """5:2 is 5/2."""
  if len(ratio.items) != 2 or not _is_ratio(ratio.items) or not isinstance(value, Value):
    return False
  left, right = (item.expr for item in ratio.items)
  return value == Value(value.expr) and same(Op('div', (left, right)), value.expr)


def _relations(gold: Answer, answer: Answer) -> bool:
  """Two equations or inequalities, one a multiple of the other. `y = 2x` is one, too."""
  left, right = _as_relation(gold), _as_relation(answer)
  if left is None or right is None or left.op != right.op:
    return False
  sides = [Op('sub', (side.left, side.right)) for side in (left, right)]
  return proportional(*sides, positive=left.op in ('<', '\\le'))


def _as_relation(side: Answer) -> Relation | None:
  if isinstance(side, Relation):
    return side
  if isinstance(side, Value) and side.name and not side.unit:
    return Relation('=', Sym(side.name), side.expr)
  return _bound(side) if isinstance(side, Many) and side.kind == 'interval' and side.name else None


def _bound(side: Many) -> Relation | None:
  """x < 1 was read as an interval; it is an inequality beside -x > -1."""
  low, high = (item.expr for item in side.items)
  if low == Op('neg', (Sym('infinity'),)):
    return Relation('<' if side.brackets[1] == ')' else '\\le', Sym(side.name), high)
  return (
    Relation('<' if side.brackets[0] == '(' else '\\le', low, Sym(side.name))
    if high == Sym('infinity')
    else None
  )
