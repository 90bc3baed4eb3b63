"""Several sources in given proportions, each with its own reward weights.

    mixture = ('countdown:0.5', 'data/math.jsonl:0.3 format=0', 'hub:owner/name:train:0.2 kind=math',
               'talk.jsonl:0.2 kind=general preference=helpful language=0.1 lang=zh')

An entry is a source, ':', its share of the problems that are drawn (shares need not sum to 1), and perhaps

    kind=math                     what its problems are, where they do not say
    preference=helpful            the reward model that judges them, where they name none: helpful, safety or none
    lang=zh                       the language that they are to be thought about in, where they name none
    accuracy= format= language=   weights of parts of the reward, which for its problems go before those of the stage
"""

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence

if typing.TYPE_CHECKING:  # problem.py needs this module to check a config
  from r1jax.problems.problem import Problem, ProblemsConfig

Loader = Callable[['ProblemsConfig', str], Sequence['Problem']]

IDS = 100_000_000  # problems that a source may have: the id of line 17 of source 2 is 200000017
MOST = 21  # sources, so that an id has 31 bits
REWARDS = ('accuracy', 'format', 'language')
DETAILS = {
  'preference': 'preference',
  'lang': 'language',
}  # key of an entry -> of a problem's details
PREFERENCES = ('none', 'helpful', 'safety')
_ENTRY = re.compile(r'(\S.*?):([0-9][0-9.eE+-]*)((?: \w+=\S+)*)')
_VALID = (
  "valid: 'source:weight', such as 'countdown:0.5' or 'data/math.jsonl:0.3 kind=math format=0'"
)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One source. weight: its share, relative to the others'. rewards: part of the reward -> its weight. details: what
  its problems have in their details where they do not say otherwise.
  """

  source: str
  weight: float
  kind: str = ''
  rewards: Mapping[str, float] = dataclasses.field(default_factory=dict)
  details: Mapping[str, str] = dataclasses.field(default_factory=dict)


def entry(text: str) -> Entry:
  """'source:weight[ key=value]...' -> Entry; ValueError names what is wrong."""
  match = _ENTRY.fullmatch(text)
  if not match:
    raise ValueError(f'mixture={text!r} is not possible; {_VALID}')
  settings = dict(setting.split('=', 1) for setting in match[3].split())
  kind = settings.pop('kind', '')
  details = {name: settings.pop(key) for key, name in DETAILS.items() if key in settings}
  unknown = sorted(settings.keys() - set(REWARDS))
  if unknown:
    valid = ('kind', *DETAILS, *REWARDS)
    raise ValueError(f'mixture={text!r} has an unknown {unknown[0]!r}; valid: one of {valid}')
  if details.get('preference', 'none') not in PREFERENCES:
    wrong = details['preference']
    raise ValueError(f'mixture={text!r} has preference={wrong!r}; valid: one of {PREFERENCES}')
  rewards = {name: _number(text, value) for name, value in settings.items()}
  weight = _number(text, match[2])
  if not weight:
    raise ValueError(f'mixture={text!r} has no weight; {_VALID}')
  return Entry(match[1], weight, kind, rewards, details)


def _number(entry: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 <= value < math.inf:
    raise ValueError(f'mixture={entry!r} has {text!r} for a weight; valid: a number such as 0.5')
  return value


def parts(cfg: 'ProblemsConfig') -> list['ProblemsConfig']:
  """config -> the config of each source, in order; ValueError names the entry at fault."""
  return [_part(cfg, text) for text in cfg.mixture]


def _part(cfg: 'ProblemsConfig', text: str) -> 'ProblemsConfig':
  made = entry(text)
  try:
    return dataclasses.replace(cfg, source=made.source, kind=made.kind, mixture=())
  except ValueError as error:
    raise ValueError(f'mixture={text!r}: {error}') from error


def weights(cfg: 'ProblemsConfig') -> tuple[float, ...]:
  """config -> the weight of each source, for the iterator; () without a mixture."""
  return tuple(entry(text).weight for text in cfg.mixture)


def load(cfg: 'ProblemsConfig', split: str, load_one: Loader) -> tuple['Problem', ...]:
  """config, split -> that split of every source, one after another; each source is split on its own.

  load_one loads one source. Ids stay unique: those of source i begin at i * IDS. What the entry of a source says of its
  problems is in their details, its reward weights in details['reward_weights'].
  """
  found = []
  for index, (text, part) in enumerate(zip(cfg.mixture, parts(cfg))):
    made = entry(text)
    try:
      some = load_one(part, split)
    except (FileNotFoundError, ValueError) as error:
      if not str(error).startswith('source='):
        raise
      raise type(error)(f'mixture={text!r}: {error}') from error
    found += [_placed(problem, index, made) for problem in some]
  return tuple(found)


def _placed(problem: 'Problem', index: int, of: Entry) -> 'Problem':
  if problem.id >= IDS:
    raise ValueError(f'problem {problem.id} is too many for a source; valid: fewer than {IDS}')
  rewards = {'reward_weights': dict(of.rewards)} if of.rewards else {}
  details = {**of.details, **problem.details, **rewards}
  return dataclasses.replace(problem, id=index * IDS + problem.id, details=details)


def by_source(problems: Sequence['Problem'], sources: int) -> list[list[int]]:
  """Problems of a mixture -> the places of those of each source; ValueError where one has none (left)."""
  found = [[] for _ in range(sources)]
  for place, problem in enumerate(problems):
    if not problem.id < sources * IDS:
      raise ValueError(f'problem {problem.id} is of none of the {sources} sources of the mixture')
    found[problem.id // IDS].append(place)
  for index, part in enumerate(found):
    if not part:
      raise ValueError(
        f'source {index} of the mixture has no problem left; valid: a longer prompt.longest, or no such source'
      )
  return found
