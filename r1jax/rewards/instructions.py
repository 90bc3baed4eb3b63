"""Does a completion follow instructions that a program can check? IFEval's rules (arXiv 2311.07911), one by one."""

import inspect
import typing
from collections.abc import Callable

from r1jax.problems.problem import Problem
from r1jax.rewards import format
from r1jax.rewards.instruction_rules import RULES, Count, Letter, Place, Texts
from r1jax.rewards.verdict import BAD_GOLD, RIGHT, UNPARSEABLE, WRONG, Verdict

Bound = Callable[[str], bool]
_VALID = {
  Count: 'a whole number of at least 0, such as 3',
  Place: 'a whole number of at least 1, such as 3',
  Letter: "one character, such as 'e'",
  str: "a text that is not empty, such as 'P.S.'",
  Texts: "a list of texts that are not empty, such as ['sea']",
}


def check(completion: str, problem: Problem) -> Verdict:
  """completion -> right where its final answer follows all of details['instructions'] ([{"id": .., "kwargs": {}}]).

  The final answer is what follows the thinking; of that, what is between <answer> tags if there are any. Credit is 1
  or 0, or the share of instructions followed where details['partial_credit'] is true.
  """
  try:
    rules = rules_of(problem.details.get('instructions'))
  except ValueError as error:
    return Verdict(BAD_GOLD, note=str(error))
  text = final_answer(completion)
  if not text:
    return Verdict(UNPARSEABLE, note='no final answer')
  failed = [name for name, follows in rules if not follows(text)]
  share = 1 - len(failed) / len(rules)
  if not failed:
    return Verdict(RIGHT, text, 1.0, f'follows {len(rules)} of {len(rules)}')
  credit = share if problem.details.get('partial_credit') is True else 0.0
  return Verdict(WRONG, text, credit, f'does not follow {", ".join(failed)}')


def final_answer(completion: str) -> str:
  """completion -> what is said to the user, '' where the thinking was cut off."""
  text = format.after_thought(completion)
  answer = format.answer(text)
  return text.strip() if answer is None else answer


def rules_of(instructions: object) -> list[tuple[str, Bound]]:
  """Instructions -> (id, function of the text) each; ValueError names what is at fault."""
  if not isinstance(instructions, list) or not instructions:
    raise ValueError(
      f'instructions={instructions!r:.80} is not possible; valid: '
      "[{'id': 'punctuation:no_comma', 'kwargs': {}}]"
    )
  return [_rule(f'instructions[{number}]', entry) for number, entry in enumerate(instructions)]


def _rule(where: str, entry: object) -> tuple[str, Bound]:
  name = entry.get('id') if isinstance(entry, dict) else None
  if not isinstance(name, str) or name not in RULES:
    raise ValueError(f'{where}.id={name!r:.80} is unknown; valid: one of {", ".join(RULES)}')
  given = entry.get('kwargs') or {}
  if not isinstance(given, dict):
    raise ValueError(f'{where}.kwargs={given!r:.80} is not possible; valid: a JSON object')
  given = {key: value for key, value in given.items() if value is not None}
  wanted = dict(list(inspect.signature(RULES[name]).parameters.items())[1:])
  odd = sorted(given.keys() ^ wanted.keys())
  if odd:
    raise ValueError(
      f'{where}: {name} has kwargs {sorted(given)}, at fault is {odd[0]!r}; valid: {sorted(wanted)}'
    )
  kwargs = {k: _value(f'{where}.{k}', v, wanted[k].annotation) for k, v in given.items()}
  return name, lambda text: RULES[name](text, **kwargs)


def _value(where: str, value: object, kind: object) -> object:
  """The value, if it is of that kind; 3.0 counts as 3, since some files hold all numbers so."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if not _fits(value, kind):
    choices = ', '.join(map(repr, typing.get_args(kind)))
    raise ValueError(
      f'{where}={value!r:.80} is not possible; valid: {_VALID.get(kind) or f"one of {choices}"}'
    )
  return value


def _fits(value: object, kind: object) -> bool:
  if kind in (Count, Place):
    return type(value) is int and value >= (kind is Place)
  if kind == Texts:
    return isinstance(value, list) and bool(value) and all(_fits(text, str) for text in value)
  if kind in (str, Letter):
    return isinstance(value, str) and bool(value.strip()) and (kind is str or len(value) == 1)
  return value in typing.get_args(kind)
