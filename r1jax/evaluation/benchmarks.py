"""Which benchmarks there are: their files, how often each problem is sampled, and how its question is worded."""

import dataclasses
import re
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
# MMLU-Pro's own prompt without its examples (TIGER-Lab; DeepSeek-R1 v2, D.1: few-shot turned into zero-shot).
MMLU_PRO = (
  'The following are multiple choice questions (with answers) about {category}. Think step by step and then output '
  'the answer in the format of "The answer is (X)" at the end.\n\n'
  "Question: {prompt}\nOptions: {dotted}\nAnswer: Let's think step by step."
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
  """file: in the folder of benchmarks, or a .parquet file of that name. layout: of its rows, in words. samples: k,
  completions of each problem. read: number and row -> problem, None for one that is not part of the benchmark.
  template: '' for the kind's own.
  """

  title: str
  file: str
  layout: str
  samples: int
  read: Callable[[int, Mapping], Problem | None]
  template: str = ''

  def path(self, folder: Path) -> Path:
    """Its file in the folder, whether it is there or not."""
    table = (folder / self.file).with_suffix('.parquet')
    return table if table.is_file() and not (folder / self.file).is_file() else folder / self.file

  def load(self, folder: Path) -> list[Problem]:
    """Raises FileNotFoundError, or ValueError with `file:line`."""
    path = self.path(folder)
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
    if weak := sum('examples_only' in problem.details for problem in problems):
      print(
        f'{path}: {weak} of {len(problems)} problems have no tests but the examples that are shown'
      )
    return problems


class Generic(Benchmark):
  """Any other .jsonl or .parquet file, as problems are read, and worded, for training."""

  def load(self, folder: Path) -> list[Problem]:
    return list(files.read(ProblemsConfig(source=str(self.path(folder)))))


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
    'MMLU', 'mmlu.csv',
    "the columns 'Question', 'A', 'B', 'C', 'D' and 'Answer', a letter; or 'choices' and 'answer', a place from 0", 1,
    layouts.mmlu,
  ),
  'mmlu_pro': Benchmark(
    'MMLU-Pro', 'mmlu_pro.jsonl',
    "one object a line: 'question', 'options' (a list), 'answer' (a letter) and 'category'",
    1, layouts.mmlu_pro, MMLU_PRO,
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
      path = named(name).path(Path(self.folder))
      if not path.is_file():
        valid = ', '.join(there(Path(self.folder)))
        raise ValueError(f'benchmarks={name!r} has no file {path}; valid: {valid}')
    if not self.variants or not set(self.variants) <= set(VARIANTS):
      raise ValueError(
        f'variants={self.variants!r} is not possible; valid: some of {tuple(VARIANTS)}'
      )


def named(name: str) -> Benchmark:
  """Name -> benchmark; one that is not in the table is the file of that name."""
  own = Generic(name, f'{name}.jsonl', 'prompt, answer and kind', 1, None, '{prompt}')
  return BENCHMARKS.get(name) or own


def there(folder: Path) -> tuple[str, ...]:
  """Names of the benchmarks of a folder: those of the table in its order, then other files. ValueError: none."""
  known = [name for name, benchmark in BENCHMARKS.items() if benchmark.path(folder).is_file()]
  stems = {path.stem for path in folder.iterdir() if path.suffix in ('.jsonl', '.parquet')}
  others = sorted(stems - BENCHMARKS.keys() - {Path(CONTESTS).stem})
  if not known + others:
    valid = ', '.join(benchmark.file for benchmark in BENCHMARKS.values())
    raise ValueError(f'folder={str(folder)!r} has no benchmark; valid: files such as {valid}')
  return (*known, *others)


def worded(problem: Problem, benchmark: Benchmark) -> str:
  """problem -> what the user asks."""
  details = problem.details
  starter, options = details.get('starter_code', ''), details.get('choices', ())
  usual = STARTER if starter else TEMPLATES.get(problem.kind, '{prompt}')
  listed = lambda mark: '\n'.join(f'{letter}{mark} {o}' for letter, o in zip(LETTERS, options))
  fields = {
    'letters': LETTERS[: len(options)], 'options': listed(')'), 'dotted': listed('.'), 'starter': starter,
    'category': details.get('category', ''), 'prompt': problem.prompt,
  }  # fmt: skip
  return re.sub(r'\{(\w+)\}', lambda m: fields.get(m[1], m[0]), benchmark.template or usual)
