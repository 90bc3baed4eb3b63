"""Which benchmarks there are: their files, how often each problem is sampled, and how its question is worded."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from r1jax.evaluation import layouts
from r1jax.evaluation.layouts import LETTERS
from r1jax.evaluation.variants import VARIANTS
from r1jax.problems import ProblemsConfig, files
from r1jax.problems.problem import Problem

CONTESTS = 'codeforces_contests.jsonl'

CHOICE = (
  'Answer the following multiple choice question. The last line of your response should be of the following '
  "format: '{word}: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before "
  'answering.\n\n{prompt}\n\n{options}'
)
# By the kind of the problem (DeepSeek-R1 v2, appendix; simple-evals); a kind that is not here is asked as it stands.
TEMPLATES = {
  'math': '{prompt}\nPlease reason step by step, and put your final answer within \\boxed{}.',
  'choice': CHOICE.replace('{word}', 'Answer'),
  'code': '{prompt}\n\nPlease write a python code to solve the above problem. Your code must read the inputs from '
  'stdin and output the results to stdout.',
}
# LiveCodeBench calls a function of some programs.
STARTER = (
  '{prompt}\n\nPlease write a python code to solve the above problem. Complete this code:\n'
  '```python\n{starter}\n```'
)


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """file: in the folder of benchmarks. layout: of its rows, in words. samples: k, completions of each problem.
  read: number and row -> problem, None for one that is not part of the benchmark. template: '' for the kind's own.
  """

  title: str
  file: str
  layout: str
  samples: int
  read: Callable[[int, Mapping], Problem | None]
  template: str = ''

  def load(self, folder: Path) -> list[Problem]:
    """Raises FileNotFoundError, or ValueError with `file:line`."""
    path = folder / self.file
    valid = f'valid: {self.file} with {self.layout}'
    if not path.is_file():
      raise FileNotFoundError(f'{path} is not a file; {valid}')
    found = []
    for line, row in layouts.rows(path):
      try:
        if isinstance(row, ValueError):
          raise row
        found.append(self.read(line, row))
      except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}:{line}: {error}; {valid}') from error
    problems = [problem for problem in found if problem is not None]
    if not problems:
      raise ValueError(f'{path} holds no problem; {valid}')
    if len(problems) < len(found):
      print(
        f'{path}: {len(found) - len(problems)} of {len(found)} rows are not part of {self.title}'
      )
    return problems


class Generic(Benchmark):
  """Any other .jsonl file, as problems are read for training."""

  def load(self, folder: Path) -> list[Problem]:
    return list(files.read(ProblemsConfig(source=str(folder / self.file))))


_MATHS = "one object a line: 'problem' or 'question', and 'answer'"
# samples: DeepSeek-R1 v2, D.1; it is not printed for MMLU, MMLU-Pro and IFEval, which are large.
BENCHMARKS = {
  'aime_2024': Benchmark('AIME 2024', 'aime_2024.jsonl', _MATHS, 64, layouts.maths),
  'aime_2025': Benchmark('AIME 2025', 'aime_2025.jsonl', _MATHS, 64, layouts.maths),
  'math_500': Benchmark('MATH-500', 'math_500.jsonl', _MATHS, 16, layouts.maths),
  'gpqa_diamond': Benchmark(
    'GPQA Diamond', 'gpqa_diamond.csv',
    "the columns 'Question', 'Correct Answer' and 'Incorrect Answer 1' to 'Incorrect Answer 3'", 64, layouts.gpqa,
    CHOICE.replace('{word}', 'ANSWER'),
  ),
  'mmlu': Benchmark(
    'MMLU', 'mmlu.csv', "the columns 'Question', 'A', 'B', 'C', 'D' and 'Answer', a letter", 1, layouts.mmlu,
  ),
  'mmlu_pro': Benchmark(
    'MMLU-Pro', 'mmlu_pro.jsonl', "one object a line: 'question', 'options' (a list) and 'answer' (a letter)", 1,
    layouts.mmlu_pro,
  ),
  'livecodebench': Benchmark(
    'LiveCodeBench', 'livecodebench.jsonl',
    "one object a line: 'question_content', 'contest_date', 'starter_code', 'public_test_cases', "
    "'private_test_cases' and 'metadata'", 8, layouts.live_code_bench,
  ),
  'codeforces': Benchmark(
    'Codeforces', 'codeforces.jsonl',
    "one object a line: 'contest_id', 'index', 'title', 'description', 'input_format', 'output_format', 'examples', "
    "'official_tests' (lists of 'input' and 'output'), 'time_limit' and 'memory_limit'", 16, layouts.codeforces,
  ),
  'ifeval': Benchmark(
    'IFEval', 'ifeval.jsonl', "one object a line: 'prompt', 'instruction_id_list' and 'kwargs' (lists)", 1,
    layouts.ifeval,
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Suite:
  """What is asked. folder: of the benchmarks' files, '' for none. benchmarks: their names, () for all that are there.
  variants: how each question is worded.
  """

  folder: str = ''
  benchmarks: tuple[str, ...] = ()
  variants: tuple[str, ...] = ('zero_shot',)

  def __post_init__(self):
    if self.benchmarks and not self.folder:
      raise ValueError("folder='' has no benchmarks; valid: the folder of their files")
    if self.folder and not Path(self.folder).is_dir():
      raise ValueError(f'folder={self.folder!r} is not a folder; valid: one with benchmarks')
    for name in self.benchmarks:
      path = Path(self.folder) / named(name).file
      if not path.is_file():
        valid = ', '.join(there(Path(self.folder)))
        raise ValueError(f'benchmarks={name!r} has no file {path}; valid: {valid}')
    if not self.variants or not set(self.variants) <= set(VARIANTS):
      raise ValueError(
        f'variants={self.variants!r} is not possible; valid: some of {tuple(VARIANTS)}'
      )


def named(name: str) -> Benchmark:
  """Name -> benchmark; one that is not in the table is the .jsonl file of that name."""
  return BENCHMARKS.get(name) or Generic(name, f'{name}.jsonl', 'prompt, answer and kind', 1, None)


def there(folder: Path) -> tuple[str, ...]:
  """Names of the benchmarks of a folder: those of the table in its order, then other .jsonl files. ValueError: none."""
  known = [name for name, benchmark in BENCHMARKS.items() if (folder / benchmark.file).is_file()]
  files_ = {BENCHMARKS[name].file for name in known} | {CONTESTS}
  others = sorted(path.stem for path in folder.glob('*.jsonl') if path.name not in files_)
  if not known + others:
    valid = ', '.join(benchmark.file for benchmark in BENCHMARKS.values())
    raise ValueError(f'folder={str(folder)!r} has no benchmark; valid: files such as {valid}')
  return (*known, *others)


def worded(problem: Problem, benchmark: Benchmark) -> str:
  """problem -> what the user asks."""
  template = benchmark.template or TEMPLATES.get(problem.kind, '{prompt}')
  starter, options = problem.details.get('starter_code', ''), problem.details.get('choices', ())
  template = STARTER if starter else template
  listed = '\n'.join(f'{letter}) {option}' for letter, option in zip(LETTERS, options))
  fields = {'{letters}': LETTERS[: len(options)], '{options}': listed, '{starter}': starter}
  for field, text in fields.items():
    template = template.replace(field, text)
  return template.replace('{prompt}', problem.prompt)
