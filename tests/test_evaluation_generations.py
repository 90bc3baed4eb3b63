import json

import pytest

from r1jax.evaluation import generations
from r1jax.evaluation.generations import Generation


def rows(ids, samples=2) -> list[Generation]:
  return [Generation(i, s, 'Q', f'Ω\n{i} {s}', 3, False) for i in ids for s in range(samples)]


@pytest.fixture
def path(tmp_path):
  path = generations.file_of(tmp_path, 'mmlu', 'zero_shot')
  generations.write(path, [])
  return path


def test_what_is_appended_is_read(path):
  generations.append(path, rows([5, 3]))
  generations.append(path, rows([9]))
  groups = generations.read(path)
  assert groups == [rows([5]), rows([3]), rows([9])]
  assert json.loads(path.read_text().splitlines()[0]) == {
    'id': 5, 'sample': 0, 'prompt': 'Q', 'completion': 'Ω\n5 0', 'tokens': 3, 'truncated': False,
  }  # fmt: skip


def test_files_are_found_by_benchmark_and_variant(tmp_path, path):
  generations.write(generations.file_of(tmp_path, 'v1.5', 'few_shot'), [])
  assert generations.saved(tmp_path) == [('mmlu', 'zero_shot'), ('v1.5', 'few_shot')]
  with pytest.raises(FileNotFoundError, match='has no generations; valid: '):
    generations.saved(tmp_path / 'other')


@pytest.mark.parametrize(
  'prompt, begun',
  [
    ('<|User|>Q<|Assistant|><think>\n', '<think>\n'),
    ('Let me solve this step by step.\n<think>', '<think>'),
    ('User: What is <think>? Assistant:', ''),
    ('enclosed in <think> </think> tags. Assistant:', ''),
    ('<|Assistant|><think>\n\n</think>\n\n', ''),
    ('Q', ''),
  ],
)
def test_a_response_begins_with_the_thought_that_its_prompt_has_opened(prompt, begun):
  assert Generation(1, 0, prompt, 'So 4.', 3, False).response == f'{begun}So 4.'


IDS = [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
  'lines, torn, at_once, kept',
  [
    (10, b'', 2, 10),  # all of it, the last chunk being short
    (9, b'', 2, 8),
    (8, b'{"id": 5, "sam', 2, 8),  # killed while it wrote
    (7, b'', 2, 4),  # problem 4 is not whole, and 3 was sampled with it
    (7, b'', 1, 6),
    (3, b'', 2, 0),
    (0, b'', 2, 0),
  ],
)
def test_only_whole_chunks_are_kept(path, lines, torn, at_once, kept):
  generations.append(path, rows(IDS)[:lines])
  with path.open('ab') as file:
    file.write(torn)
  found = generations.whole(path, IDS, 2, at_once, generations.place_of)
  assert [generations.parse(line) for line in found] == rows(IDS)[:kept]


def test_a_file_that_is_not_there_holds_nothing(tmp_path):
  assert generations.whole(tmp_path / 'none.jsonl', IDS, 2, 2, generations.place_of) == []


@pytest.mark.parametrize('ids, samples', [([1, 3, 2, 4, 5], 2), (IDS, 4)])
def test_another_config_is_refused(path, ids, samples):
  generations.append(path, rows(IDS))
  with pytest.raises(ValueError, match='holds other problems or samples than the config asks for'):
    generations.whole(path, ids, samples, 1, generations.place_of)


@pytest.mark.parametrize(
  'change, says',
  [
    ({'sample': 0}, ':2: sample=0; valid: 1'),
    ({'tokens': '3'}, ':2: .* is no generation; valid: an object with id \\(int\\), '),
    ({'more': 1}, ':2: .* is no generation'),
    ({'id': 2, 'sample': 0}, 'problems have \\[1, 2\\] samples'),
  ],
)
def test_broken_files_are_named_with_their_line(path, change, says):
  first, second, *others = rows([1, 2])
  kept = others[:1] if 'id' not in change else []
  lines = [vars(first), vars(second) | change, *map(vars, others if not kept else others)]
  if 'id' in change:
    lines = [vars(first), *map(vars, rows([2]))]
  path.write_text('\n'.join(map(json.dumps, lines)) + '\n')
  with pytest.raises(ValueError, match=f'mmlu.zero_shot.jsonl.*{says}'):
    generations.read(path)
