"""The cases in tests/data/adversarial_*.jsonl that need no sandbox, each against the verdict that it should have."""

import importlib
import json
import pathlib

import pytest

from r1jax.bench.verifiers import PARTS, load
from r1jax.rewards.__main__ import read
from r1jax.rewards.checks import CHECKS
from r1jax.rewards.parts import parts
from r1jax.rewards.verdict import OUTCOMES, RIGHT, TIMEOUT

DATA = pathlib.Path(__file__).parent / 'data'
KINDS = {
  'choice': 180,
  'countdown': 100,
  'arithmetic': 40,
  'instructions': 130,
}  # least number of cases


def rows(kind):
  text = (DATA / f'adversarial_{kind}.jsonl').read_text('utf-8')
  return [json.loads(line) for line in text.split('\n') if line]


@pytest.mark.parametrize('kind', KINDS)
def test_every_case_has_its_verdict(kind):
  check = importlib.import_module(CHECKS[kind].module).check
  cases = read(str(DATA / f'adversarial_{kind}.jsonl'))
  found = [(problem.id, check(completion, problem)) for completion, problem, _ in cases]
  assert len(cases) >= KINDS[kind]
  assert [(line, v.outcome) for line, v in found] == [(p.id, wanted) for _, p, wanted in cases]
  assert all(v.credit == float(v.outcome == RIGHT) for _, v in found)


@pytest.mark.parametrize('part', PARTS)
def test_every_case_earns_its_share(part):
  cases = rows(part)
  earned = [parts(case['completion'], case.get('language', ''))[part] for case in cases]
  assert len(cases) >= 30 and earned == pytest.approx([case['expected'] for case in cases])


@pytest.mark.parametrize('kind', [*KINDS, *PARTS])
def test_the_cases_differ_and_say_why(kind):
  cases = rows(kind)
  assert all(case['why'].strip() for case in cases)
  told = {json.dumps(case | {'why': '', 'expected': ''}) for case in cases}
  assert len(told) == len(cases)
  if kind in KINDS:
    assert {case['expected'] for case in cases} == set(OUTCOMES) - {TIMEOUT}


def test_the_benchmark_reads_verdicts_and_shares(tmp_path):
  found = load([str(DATA / f'adversarial_{kind}.jsonl') for kind in ('choice', 'language')])
  assert {kind: len(cases) for kind, cases in found.items()} == {
    'choice': len(rows('choice')),
    'language': len(rows('language')),
  }
  assert [earned for _, earned in found['language']] == [r['expected'] for r in rows('language')]
  path = tmp_path / 'parts.jsonl'
  path.write_text('{"part": "style", "completion": "", "expected": 1}\n')
  with pytest.raises(ValueError, match=r"parts.jsonl:1: part='style' is unknown; valid: one of"):
    load([str(path)])
