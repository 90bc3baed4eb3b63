"""The layouts in which data sets keep problems, to one: a record -> Problem.

    {"prompt": "1 + 2 =", "answer": 3, "kind": "arithmetic"}              ours; numbers and details as in Problem
    {"problem": "Find x.", "solution": "... \\boxed{3}"}                  MATH
    {"question": "How many?", "answer": "... #### 3"}                     GSM8K
    {"question": "Which?", "choices": ["a", "b"], "answer": 1}            MMLU; or options; or as ARC has them
    {"question": "Write..", "input_output": "{\\"inputs\\": ..}"}         APPS; or test_cases, tests
    {"prompt": "Write..", "instruction_id_list": [..], "kwargs": [..]}    IFEval
    {"prompt": "Write a poem.", "details": {"preference": "helpful"}}     general: judged by a reward model alone
    {"prompt": [{"role": "user", "content": ".."}], "reward_model": {"ground_truth": "3"}}    verl

A `prompt` is put to the policy as it stands; a `question` or `problem` is worded as R1's evaluation does it
(DeepSeek-R1, Supplementary D). Where a record has no `kind`, its fields decide, if they can.
"""

import json
from collections.abc import Mapping

from r1jax.problems import choices
from r1jax.problems.boxed import last_boxed
from r1jax.problems.problem import KINDS, Problem, rational

QUESTIONS = ('prompt', 'question', 'problem')
TESTS = ('tests', 'test_cases', 'input_output')
OPTIONS = ('choices', 'options')
INSTRUCTIONS = ('instructions', 'instruction_id_list')
# What else checks read, wherever a data set keeps it.
LIMITS = ('fn_name', 'metadata', 'time_limit', 'memory_limit', 'total_limit', 'tolerance')
_FIELDS = {
  'code': TESTS,
  'choice': OPTIONS,
  'instructions': INSTRUCTIONS,
  'countdown': ('numbers',),
}
_BOX = '\nPlease reason step by step, and put your final answer within \\boxed{}.'
_PROGRAM = '\nPlease write a python code to solve the above problem.'
_STDIN = ' Your code must read the inputs from stdin and output the results to stdout.'


def parse(number: int, row: object, kind: str = '') -> Problem:
  """A row (the bytes of a JSON object, or a record) and its number -> Problem. kind: of a record that does not say.

  Raises ValueError, which names the field at fault.
  """
  record = record_of(row)
  kind = kind_of(record, kind)
  details = _details(record, kind)
  prompt, answer = _prompt(record, kind, details), _answer(record, kind, details)
  return Problem(number, kind, prompt, answer, _numbers(kind, record.get('numbers', [])), details)


def record_of(row: object) -> dict:
  record = json.loads(row.decode()) if isinstance(row, bytes) else row
  if not isinstance(record, Mapping):
    raise ValueError(f'not a JSON object: {record!r:.60}')
  return {key: value for key, value in record.items() if value is not None}


def kind_of(record: dict, default: str = '') -> str:
  """A record -> its kind: the one it names, or else the default, or else the only one that its fields fit."""
  kind = record.get('kind', default)
  if kind in KINDS:
    return kind
  if kind:
    raise ValueError(f'kind={kind!r:.60} is unknown; valid: one of {KINDS}')
  fits = [name for name, fields in _FIELDS.items() if any(record.get(field) for field in fields)]
  if not fits and _is_math(record):
    return 'math'
  if not fits and _is_general(record):
    return 'general'
  if len(fits) != 1:
    could = f' and the fields fit {" and ".join(fits)}' if fits else ''
    raise ValueError(f"'kind' is missing{could}; valid: one of {KINDS}, here or as problems.kind")
  return fits[0]


def _is_math(record: dict) -> bool:
  """MATH and what followed it has `problem`; GSM8K marks its answers."""
  marked = '####' in str(record.get('answer', ''))
  boxed = last_boxed(str(record.get('solution', '')))
  return marked or bool(boxed) or ('problem' in record and 'answer' in record)


def _is_general(record: dict) -> bool:
  """It names its judge, and has no reference."""
  details = record.get('details')
  named = isinstance(details, Mapping) and 'preference' in details
  return named and not {'answer', 'answerKey', 'reward_model', 'solution'} & record.keys()


def question_of(record: dict) -> str:
  """A record -> the question in its words."""
  field = next((field for field in QUESTIONS if field in record), None)
  if field is None:
    raise ValueError(f"'prompt' is missing; valid fields: {', '.join(QUESTIONS)}")
  text = _chat(record[field]) if isinstance(record[field], list) else record[field]
  if not isinstance(text, str) or not text.strip():
    raise ValueError(f'{field}={record[field]!r:.60} is not possible; valid: a text')
  return text


def _chat(messages: list) -> str:
  """What the system and the user say before the assistant's only turn."""
  for message in messages:
    fits = isinstance(message, Mapping) and message.get('role') in ('system', 'user')
    if not fits or not isinstance(message.get('content'), str):
      raise ValueError(
        f"prompt has the message {message!r:.60}; valid: {{'role': 'user', 'content': 'How many?'}}, or 'system'"
      )
  return '\n\n'.join(message['content'] for message in messages)


def _prompt(record: dict, kind: str, details: dict) -> str:
  text = question_of(record)
  if 'prompt' in record:
    return text
  if kind == 'choice':
    return choices.render(text, details['choices'])
  if kind == 'math':
    return text + _BOX
  return text + _program(record, details) if kind == 'code' else text


def _program(record: dict, details: dict) -> str:
  """What is asked for: a function if the tests call one, else a program."""
  starter = record.get('starter_code')
  begin = f'\n\n```python\n{starter}\n```\n' if isinstance(starter, str) and starter.strip() else ''
  tests = details['tests']
  name = details.get('fn_name') or (tests.get('fn_name') if isinstance(tests, Mapping) else None)
  if name:
    return f'{begin}{_PROGRAM} It must define `{name}`.'
  return begin + _PROGRAM + ('' if begin else _STDIN)


def _answer(record: dict, kind: str, details: dict) -> str:
  """The reference as the check of this kind reads it; code, instructions and general problems have none."""
  if kind in ('code', 'instructions', 'general'):
    return ''
  answer = _given(record)
  if kind == 'choice':
    return _letter(record, answer, details['choices'])
  if kind in ('countdown', 'arithmetic'):
    rational(answer)
  marked = answer.rpartition('####')
  return marked[2].strip() if kind == 'math' and marked[1] else answer


def _given(record: dict) -> str:
  """`answer`, or what other data sets have in its place."""
  if 'answer' not in record and 'solution' in record:
    return _final(record['solution'])
  truth = record.get('reward_model')
  truth = truth.get('ground_truth') if isinstance(truth, Mapping) else None
  answer = record.get('answer', record.get('answerKey', truth))
  if answer is None:
    raise ValueError("'answer' is missing; valid fields: answer, solution, answerKey")
  if type(answer) is not int and not isinstance(answer, str):
    raise ValueError(f'answer={answer!r:.60} is not possible; valid: a text or an integer')
  return str(answer)


def _final(solution: object) -> str:
  """A worked solution -> what is in its last box, or follows ####."""
  boxed = last_boxed(solution) if isinstance(solution, str) else None
  if boxed:
    return boxed[1]
  if not isinstance(solution, str) or '####' not in solution:
    raise ValueError(f'solution={solution!r:.60} has no answer; valid: one in \\boxed{{}}')
  return solution[solution.rindex('####') :]


def _letter(record: dict, answer: str, options: list[str]) -> str:
  """A place counted from 0, a label, a letter or a text -> the letter."""
  labels = _labels(record)
  if answer in labels:
    return choices.LETTERS[labels.index(answer)]
  if type(record.get('answer')) is int and 0 <= int(answer) < len(options):
    return choices.LETTERS[int(answer)]
  return choices.gold(answer, options)


def _labels(record: dict) -> list:
  given = record.get('choices')
  labels = given.get('label') if isinstance(given, Mapping) else None
  return labels if isinstance(labels, list) else []


def _details(record: dict, kind: str) -> dict:
  given = record.get('details', {})
  if not isinstance(given, Mapping):
    raise ValueError(f'details={given!r:.60} is not possible; valid: a JSON object')
  if kind not in _FIELDS or kind == 'countdown':
    return dict(given)
  record = {**given, **record}
  field = next((field for field in _FIELDS[kind] if record.get(field)), None)
  if field is None:
    raise ValueError(f'{_FIELDS[kind][0]!r} is missing; valid fields: {", ".join(_FIELDS[kind])}')
  extra = {name: record[name] for name in (*LIMITS, 'partial_credit') if name in record}
  return {**given, **extra, _FIELDS[kind][0]: _READERS[kind](field, record)}


def _tests(field: str, record: dict) -> object:
  """Tests as they stand, or as the JSON text of them that APPS has; their check reads both of its layouts."""
  tests = record[field]
  if isinstance(tests, str):
    try:
      tests = json.loads(tests)
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{field}={tests[:60]!r} is not JSON: {error}') from error
  if not isinstance(tests, list | Mapping) or not tests:
    raise ValueError(f"{field}={tests!r:.60} has no test; valid: [{{'input': '1', 'output': '1'}}]")
  return tests


def _options(field: str, record: dict) -> list[str]:
  """A list of texts, ARC's {'text': [..], 'label': [..]}, or {'A': .., 'B': ..}."""
  given = record[field]
  if isinstance(given, Mapping):
    given = given.get('text') or [given[letter] for letter in choices.LETTERS if letter in given]
  return choices.options_of(given)


def _instructions(field: str, record: dict) -> list:
  """[{'id', 'kwargs'}], or IFEval's two lists, whose kwargs hold None for what does not belong to a rule."""
  if field == 'instructions':
    return record[field]
  names, kwargs = record[field], record.get('kwargs')
  if not isinstance(names, list) or not isinstance(kwargs, list) or len(names) != len(kwargs):
    raise ValueError(
      f'kwargs={kwargs!r:.60} is not possible; valid: one object for each of {field}'
    )
  return [{'id': name, 'kwargs': given} for name, given in zip(names, kwargs)]


_READERS = {'code': _tests, 'choice': _options, 'instructions': _instructions}


def _numbers(kind: str, numbers: object) -> tuple[int, ...]:
  if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
    raise ValueError(f'numbers={numbers!r:.60} is not possible; valid: a list such as [3, 5, 7]')
  if kind == 'countdown' and not numbers:
    raise ValueError('numbers is missing; valid for countdown: a list such as [3, 5, 7]')
  return tuple(numbers)
