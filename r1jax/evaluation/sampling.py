"""Benchmarks -> generations on disk. What is on disk already is not sampled again."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from r1jax import decoding
from r1jax.checkpoint import on_any_process
from r1jax.decoding import SamplingConfig, Shapes
from r1jax.evaluation import generations, variants
from r1jax.evaluation.benchmarks import Benchmark, Suite, named, there, worded
from r1jax.evaluation.generations import Generation
from r1jax.mesh import data_ways
from r1jax.problems.problem import Problem
from r1jax.rollout import generate
from r1jax.stages.context import Context

ROUNDS = (
  4  # samples that wait for each row at first: the next problems fill up what short samples leave
)


@dataclasses.dataclass(frozen=True)
class Task:
  """One file of generations: problems, each with the text and the tokens [T] that k samples continue."""

  benchmark: str
  variant: str
  problems: list[Problem]
  texts: list[str]
  tokens: list[np.ndarray]
  samples: int

  @property
  def longest(self) -> int:
    return max(map(len, self.tokens))


def tasks(suite: Suite, problems: int, samples: int, context: Context) -> list[Task]:
  """problems: of each benchmark, 0 for all. samples: of each problem, 0 for the benchmark's own number.

  Everything is read before anything is sampled. Raises FileNotFoundError or ValueError for what is wrong with a file.
  """
  folder = Path(suite.folder)
  found = []
  for name in suite.benchmarks or there(folder):
    benchmark = named(name)
    some = chosen(benchmark.load(folder), problems)
    used = [variant for variant in suite.variants if variants.applies(variant, some)]
    found += [_task(name, benchmark, v, some, samples, context) for v in used]
  return found


def _task(
  name: str, benchmark: Benchmark, variant: str, problems: list, samples: int, context: Context
) -> Task:
  template = context.experiment.prompt.template
  encoded = [
    variants.encode(p, worded(p, benchmark), variant, context.tokenizer, template) for p in problems
  ]
  texts = [text for text, _ in encoded]
  tokens = [np.array(ids, np.int32) for _, ids in encoded]
  return Task(name, variant, problems, texts, tokens, samples or benchmark.samples)


def chosen(problems: list, count: int) -> list:
  """A spread of `count` problems over the whole list, the same ones every time; 0: all."""
  if not count or count >= len(problems):
    return list(problems)
  return [problems[i] for i in np.random.default_rng(0).permutation(len(problems))[:count]]


def check_context(task: Task, how: SamplingConfig, positions: int) -> None:
  """Raises ValueError where prompt and completion do not fit into the context of `positions` tokens."""
  if task.longest + how.max_tokens > positions:
    worst = task.problems[int(np.argmax([len(t) for t in task.tokens]))]
    raise ValueError(
      f'max_tokens={how.max_tokens} is not possible: problem {worst.id} of {task.benchmark} ({task.variant}) has '
      f'{task.longest} tokens, and the context {positions}; valid: at most {positions - task.longest}'
    )


def complete(task: Task, how: SamplingConfig, context: Context, folder: Path) -> None:
  """Samples what the task's file lacks. A sample's noise depends on seed, problem id and sample alone.

  Raises Preempted; what was finished is kept.
  """
  path = generations.file_of(folder, task.benchmark, task.variant)
  rows = how.slots or len(task.problems) * task.samples
  at_once = min(len(task.problems), max(ROUNDS * rows // task.samples, 1), rows)
  ids = [problem.id for problem in task.problems]
  kept = generations.whole(path, ids, task.samples, at_once, generations.place_of)
  is_main = jax.process_index() == 0
  if is_main:
    generations.write(path, kept)
  shapes = _shapes(task, at_once, how, context)
  for first in range(len(kept) // task.samples, len(task.problems), at_once):
    part = slice(first, first + at_once)
    sampled = list(_sampled(task, part, how, shapes, context))
    if is_main:
      generations.append(path, sampled)
    print(
      f'{task.benchmark} ({task.variant}): {min(part.stop, len(task.problems))} of {len(task.problems)} problems',
      flush=True,
    )
  on_any_process(False)  # nobody reads the file before it is whole


def _shapes(task: Task, at_once: int, how: SamplingConfig, context: Context) -> Shapes:
  """Widths are powers of two, so that one benchmark can use what was compiled for another."""
  width = 1 << (task.longest - 1).bit_length()
  return decoding.shapes_of(at_once, task.samples, width, how, data_ways(context.mesh))


def _sampled(
  task: Task, part: slice, how: SamplingConfig, shapes: Shapes, context: Context
) -> Iterator[Generation]:
  """The generations of some of the problems; those of one share its prefill."""
  problems: Sequence[Problem] = task.problems[part]
  rollouts = generate(
    context.params(), context.model, task.tokens[part], [p.id for p in problems],
    context.key('evaluation'), how, group=task.samples, tokenizer=context.tokenizer,
    shapes=shapes, poll=context.raise_if_stopping,
  )  # fmt: skip
  for p, sample in np.ndindex(rollouts.length.shape):
    completion = context.tokenizer.decode(rollouts.completion(p, sample).tolist())
    yield Generation(
      problems[p].id, sample, task.texts[part][p], completion, int(rollouts.length[p, sample]),
      bool(rollouts.truncated[p, sample]),
    )  # fmt: skip
