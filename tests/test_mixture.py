"""Proportions, ids, splits and the resumable order of several sources."""

import collections
import itertools
import json

import pytest

from r1jax import problems
from r1jax.problems import Problem, ProblemsConfig, mixture
from r1jax.problems.iterator import problem_iterator
from r1jax.problems.mixture import IDS, Entry, by_source, entry

WEIGHTS = (0.5, 0.3, 0.2)


def numbered(source, count):
  return [Problem(source * IDS + i, 'math', f'{source} {i}', '1') for i in range(count)]


THREE = numbered(0, 7) + numbered(1, 4) + numbered(2, 3)


def sources_of(batch):
  return [problem.id // IDS for problem in batch]


@pytest.mark.parametrize(
  'text, expected',
  [
    ('countdown:0.5', Entry('countdown', 0.5)),
    ('data/math.jsonl:2', Entry('data/math.jsonl', 2.0)),
    ('a b/x.jsonl:1e-1 kind=math format=0', Entry('a b/x.jsonl', 0.1, 'math', {'format': 0.0})),
    (
      't.jsonl:1 kind=general preference=helpful lang=zh language=0.1',
      Entry('t.jsonl', 1.0, 'general', {'language': 0.1}, {'preference': 'helpful', 'language': 'zh'}),
    ),
    ('hub:a/b:train[:9]:3 accuracy=2', Entry('hub:a/b:train[:9]', 3.0, '', {'accuracy': 2.0})),
  ],
)  # fmt: skip
def test_entries(text, expected):
  assert entry(text) == expected


@pytest.mark.parametrize(
  'text, message',
  [
    ('countdown', "mixture='countdown' is not possible; valid: 'source:weight'"),
    ('countdown:x', "mixture='countdown:x' is not possible"),
    ('countdown:0', "mixture='countdown:0' has no weight"),
    ('countdown:1e999', "has '1e999' for a weight"),
    ('countdown:1-1', "has '1-1' for a weight"),
    ('countdown:1 format=-1', "has '-1' for a weight"),
    ('countdown:1 length=1', "has an unknown 'length'; valid: one of ('kind', 'preference', 'lang', 'accuracy', "),
    ('countdown:1 preference=helpfull', "has preference='helpfull'; valid: one of ('none', 'helpful', 'safety')"),
    ('count:1', "mixture='count:1': source='count' is not possible; valid: "),
    ('x.jsonl:1 kind=maths', "mixture='x.jsonl:1 kind=maths': kind='maths' is not possible; valid: "),
    ('countdown:1 kind=math', "kind='math' is not possible"),
  ],
)  # fmt: skip
def test_a_wrong_entry_is_refused_with_the_config(text, message):
  with pytest.raises(ValueError) as caught:
    ProblemsConfig(mixture=('arithmetic:1', text))
  assert message in str(caught.value) and str(caught.value).count('; valid: ') == 1


def test_too_many_sources_are_refused():
  with pytest.raises(ValueError, match='at most 21'):
    ProblemsConfig(mixture=('countdown:1',) * 22)
  assert mixture.MOST * IDS < 2**31


def test_each_source_is_split_on_its_own(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('\n'.join(f'{{"question": "{i}?", "answer": "{i}"}}' for i in range(40)))
  cfg = ProblemsConfig(
    numbers_min=2, numbers_max=2, heldout_fraction=0.3,
    mixture=('countdown:3', f'{path}:1 kind=math format=0 accuracy=2'),
  )  # fmt: skip
  countdown, math = mixture.parts(cfg)
  assert (countdown.source, countdown.kind, countdown.mixture) == ('countdown', '', ())
  assert (math.source, math.kind, math.heldout_fraction) == (str(path), 'math', 0.3)
  for split in problems.SPLITS:
    found = mixture.load(cfg, split, problems.load)
    alone = problems.load(countdown, split), problems.load(math, split)
    assert [p.id for p in found] == [p.id for p in alone[0]] + [IDS + p.id for p in alone[1]]
    assert [p.prompt for p in found] == [p.prompt for p in itertools.chain(*alone)]
    assert all(not p.details for p in found[: len(alone[0])])
    rewards = {'reward_weights': {'format': 0.0, 'accuracy': 2.0}}
    assert all(p.details == rewards for p in found[len(alone[0]) :])
  assert mixture.weights(cfg) == (3.0, 1.0)
  assert mixture.weights(ProblemsConfig()) == ()


def test_problems_go_before_their_source(tmp_path):
  path = tmp_path / 'x.jsonl'
  own = {'prompt': 'Sing!', 'details': {'preference': 'safety', 'language': 'en'}}
  path.write_text(f'{{"prompt": "Write a poem."}}\n{json.dumps(own)}\n')
  cfg = ProblemsConfig(
    mixture=(f'{path}:1 kind=general preference=helpful lang=ja',), heldout_fraction=0
  )
  first, second = problems.load(cfg, 'train')
  assert (first.kind, first.answer) == ('general', '')
  assert first.details == {'preference': 'helpful', 'language': 'ja'}
  assert second.details == own['details']


def test_general_problems_are_not_held_out_to_be_measured(tmp_path):
  """They have no answer. A source that has no others is no reason to refuse the mixture."""
  path = tmp_path / 'x.jsonl'
  path.write_text('\n'.join(f'{{"prompt": "Write poem {i}."}}' for i in range(30)))
  general = f'{path}:1 kind=general preference=helpful'
  cfg = ProblemsConfig(mixture=('countdown:1', general), heldout_fraction=0.3)
  train, heldout = (problems.load(cfg, split) for split in problems.SPLITS)
  assert {p.kind for p in train} == {'countdown', 'general'} and {p.kind for p in heldout} == {
    'countdown'
  }
  with pytest.raises(
    ValueError, match='no held-out problem with an answer, only general ones; valid'
  ):
    problems.load(ProblemsConfig(mixture=(general,), heldout_fraction=0.3), 'heldout')


def test_an_id_beyond_its_source_is_refused():
  with pytest.raises(ValueError, match=f'problem {IDS} is too many'):
    mixture.load(
      ProblemsConfig(mixture=('countdown:1',)), 'train', lambda *_: [Problem(IDS, 'math', 'x', '1')]
    )


def test_a_source_without_problems_is_named():
  assert by_source(THREE, 3) == [[*range(7)], [*range(7, 11)], [*range(11, len(THREE))]]
  with pytest.raises(ValueError, match='source 1 of the mixture has no problem left'):
    by_source(THREE[:7] + THREE[11:], 3)
  with pytest.raises(ValueError, match='of none of the 2 sources'):
    by_source(THREE, 2)


def test_every_ten_problems_have_the_proportions():
  batches = problem_iterator(THREE, seed=1, prompts=10, weights=WEIGHTS)
  for _ in range(20):
    assert collections.Counter(sources_of(next(batches))) == {0: 5, 1: 3, 2: 2}


def test_each_source_has_epochs_of_its_own():
  batches = problem_iterator(THREE, seed=1, prompts=280, weights=WEIGHTS)
  drawn = [problem.id for problem in next(batches)]
  for source, size, count in ((0, 7, 140), (1, 4, 84), (2, 3, 56)):
    mine = [i % IDS for i in drawn if i // IDS == source]
    assert len(mine) == count
    epochs = [tuple(mine[i : i + size]) for i in range(0, count - size + 1, size)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert len(set(epochs)) > 1


def test_resume_is_identical():
  batches = problem_iterator(THREE, seed=7, prompts=3, weights=WEIGHTS)
  expected = [next(batches) for _ in range(12)]
  for cut in range(9):
    first = problem_iterator(THREE, seed=7, prompts=3, weights=WEIGHTS)
    assert [next(first) for _ in range(cut)] == expected[:cut]
    state = json.loads(json.dumps(first.get_state()))
    second = problem_iterator(THREE, seed=7, prompts=3, weights=WEIGHTS)
    second.set_state(state)
    assert [next(second) for _ in range(12 - cut)] == expected[cut:]


def test_other_weights_are_another_stream():
  state = problem_iterator(THREE, seed=7, prompts=3, weights=WEIGHTS).get_state()
  with pytest.raises(ValueError, match='other problems, another seed'):
    problem_iterator(THREE, seed=7, prompts=3, weights=(0.4, 0.4, 0.2)).set_state(state)


def test_hosts_share_one_stream():
  whole = problem_iterator(THREE, seed=3, prompts=4, weights=WEIGHTS)
  parts = [problem_iterator(THREE, 3, 2, host, 2, WEIGHTS) for host in range(2)]
  for _ in range(7):
    assert sum((next(part) for part in parts), []) == next(whole)


def test_a_mixture_of_one_is_that_source():
  plain, mixed = problem_iterator(THREE[:7], 5, 4), problem_iterator(THREE[:7], 5, 4, weights=(2.0,))  # fmt: skip
  assert [next(plain) for _ in range(9)] == [next(mixed) for _ in range(9)]
