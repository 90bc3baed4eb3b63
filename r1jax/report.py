"""What a run shows while it goes: progress line, metrics, samples, TensorBoard, warnings, rollouts.

    <workdir>/<stage>/metrics.jsonl    numbers that a repeated run repeats byte for byte
                      samples.jsonl    texts, likewise
                      timing.jsonl     seconds
                      tensorboard/     all of them
                      rollouts/        one npz a step, for --replay_step

A run that goes on from a checkpoint first cuts the files back to where they were then.
"""

import json
import math
import os
import shutil
import statistics
import sys
import time
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from r1jax.health import health

EXACT_FILES = ('metrics.jsonl', 'samples.jsonl')
FILES = (*EXACT_FILES, 'timing.jsonl')

# What the progress line shows, where it is known.
COLUMNS = {'loss': '.3f', 'reward': '.3f', 'accuracy': '.3f', 'length': '.1f', 'kl': '.4f'}

WINDOW = 20  # steps, or the whole rollouts that these are in, whose mean tells the time left
WARN_EVERY = 20  # steps between two warnings of one kind
SHOWN = 2000  # characters of a sample that are printed


class ReportError(RuntimeError):
  """A file of the report does not continue the checkpoint. The message names it."""


class Report:
  """The report of one stage. Call `truncate` with a checkpoint's offset before the first step.

  Without that the stage begins anew, and what an earlier attempt left in the files is dropped. Not
  `enabled` (every process but the first) it accepts the same calls and does nothing.
  """

  def __init__(
    self, workdir: str | os.PathLike, stage: str, total_steps: int, sample_every: int = 10,
    stream=None, enabled: bool = True, steps_per_rollout: int = 1,
  ):  # fmt: skip
    self.folder = Path(workdir) / stage
    self.stage, self.total_steps, self.sample_every = stage, total_steps, sample_every
    self.enabled = enabled
    self.history: list[dict[str, float]] = []
    self._stream = stream or sys.stdout
    self._tty = self._stream.isatty()
    self._files: dict = {}
    self._writer: SummaryWriter | None = None
    self._steps_per_rollout = steps_per_rollout
    rollouts = -(-WINDOW // steps_per_rollout)
    self._recent: deque[tuple[float, float]] = deque(maxlen=rollouts * steps_per_rollout)
    self._warned: dict[str, int] = {}
    self._line_is_open = False

  def truncate(self, offset: Mapping[str, int]) -> None:
    """Cuts the files back to an `offset` ({}: a new start) and reads the metrics that remain.

    Raises ReportError when a file whose bytes are promised is shorter than that.
    """
    if not self.enabled:
      return
    self.close()
    self.folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
      path, end = self.folder / name, offset.get(name, 0)
      file = self._files[name] = open(path, 'ab')  # noqa: SIM115 (closed by close)
      if name in EXACT_FILES and file.tell() < end:
        message = f'{path} has {file.tell()} bytes, the checkpoint was made when it had {end}'
        raise ReportError(f'{message}; put it back, or start in a new workdir')
      file.truncate(min(end, file.tell()))
    self.history = read_metrics(self.folder / 'metrics.jsonl')
    first = int(self.history[-1]['step']) + 1 if self.history else 0
    self._writer = SummaryWriter(str(self.folder / 'tensorboard'), purge_step=first, flush_secs=10)

  def offset(self) -> dict[str, int]:
    """Bytes in each file, all of them on the disk: what a checkpoint keeps for `truncate`."""
    if not self.enabled:
      return {}
    self._begin()
    for file in self._files.values():
      file.flush()
      os.fsync(file.fileno())
    return {name: file.tell() for name, file in self._files.items()}

  def step(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
    """Records a step. metrics: only numbers that a repeated run repeats; timing: seconds by phase.

    The phases add up to the step, unless there is one called 'step'. metrics['tokens'] is the
    number of sampled tokens.
    """
    if not self.enabled:
      return
    self._begin()
    row = {'step': int(step), **{name: _number(v) for name, v in metrics.items()}}
    seconds = {name: float(v) for name, v in timing.items()}
    self._append('metrics.jsonl', {name: _for_json(v) for name, v in row.items()})
    self._append('timing.jsonl', {'step': int(step), 'time': time.time(), **seconds})
    for name, value in row.items():
      self._writer.add_scalar(name, value, step)
    for name, value in seconds.items():
      self._writer.add_scalar(f'seconds/{name}', value, step)
    took = seconds.get('step', sum(seconds.values()))
    self._recent.append((row.get('tokens', 0), took))
    self._progress(self._line(step, row))
    for warning in health(row, self.history, self.stage):
      self._warn_once_in_a_while(warning, step)
    self.history.append(row)

  def wants_sample(self, step: int) -> bool:
    """Whether this is one of the steps of which a sample is shown."""
    return self.sample_every > 0 and step % self.sample_every == 0

  def sample(self, step: int, problem, completion: str, reward: float) -> None:
    """Shows one completion with its reward. problem: a Problem, or the prompt's text."""
    if not self.enabled:
      return
    self._begin()
    prompt, answer = getattr(problem, 'prompt', str(problem)), getattr(problem, 'answer', None)
    row = {'step': int(step), 'prompt': prompt, 'completion': completion, 'reward': _number(reward)}
    self._append('samples.jsonl', row if answer is None else {**row, 'answer': answer})
    heading = f'step {step}, reward {reward:.3g}' + (f', answer {answer}' if answer else '')
    self._writer.add_text('sample', f'{heading}\n\n{fenced(prompt + completion)}', step)
    rule = f'---- sample: {heading} '
    self._print(f'{rule:-<80}\n{printable(prompt)}\n{printable(completion)}\n{"":-<80}')

  def warn(self, message: str) -> None:
    """Prints a warning."""
    if self.enabled:
      self._print(f'warning: {message}')

  def say(self, message: str) -> None:
    """Prints a line without breaking the progress line."""
    if self.enabled:
      self._print(message)

  def close(self) -> None:
    """Ends the progress line and closes the files. May be called again."""
    self._end_line()
    for file in self._files.values():
      file.close()
    if self._writer is not None:
      self._writer.close()
    self._files, self._writer = {}, None

  def __enter__(self) -> 'Report':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _begin(self) -> None:
    if not self._files:
      self.truncate({})

  def _append(self, name: str, row: dict) -> None:
    text = json.dumps(row, sort_keys=True, allow_nan=False) + '\n'
    self._files[name].write(text.encode())
    self._files[name].flush()

  def _line(self, step: int, row: Mapping[str, float]) -> str:
    """'rl   7/200 | reward 0.612 | ... | 1,912 tokens/s | 2m10s left'"""
    parts = [f'{self.stage} {step:>{len(str(self.total_steps))}}/{self.total_steps}']
    shown = {n: f for n, f in COLUMNS.items() if n in row and (n != 'loss' or 'reward' not in row)}
    parts += [f'{name} {row[name]:{form}}' for name, form in shown.items()]
    recent = list(self._recent)  # tokens, seconds
    tokens, took = map(sum, zip(*recent[-self._steps_per_rollout :], strict=True))
    if took > 0 and 'tokens' in row:
      parts.append(f'{tokens / took:,.0f} tokens/s')
    left = max(self.total_steps - step, 0) * statistics.mean(seconds for _, seconds in recent)
    parts.append(f'{duration(left)} left')
    return ' | '.join(parts)

  def _progress(self, line: str) -> None:
    """On a terminal the line takes the place of the one before it."""
    if not self._tty:
      return self._print(line)
    width = shutil.get_terminal_size().columns - 1
    self._stream.write(f'\r\x1b[2K{line[:width]}')
    self._stream.flush()
    self._line_is_open = True

  def _end_line(self) -> None:
    if self._line_is_open:
      self._stream.write('\n')
    self._line_is_open = False

  def _print(self, text: str) -> None:
    self._end_line()
    print(text, file=self._stream, flush=True)

  def _warn_once_in_a_while(self, warning: str, step: int) -> None:
    kind = warning.partition(':')[0]
    if step - self._warned.get(kind, -WARN_EVERY) >= WARN_EVERY:
      self._warned[kind] = step
      self.warn(warning)


class RolloutLog:
  """Rollouts of each step as <folder>/<step>.npz: a dict of numpy arrays, whole or not there."""

  def __init__(self, folder: str | os.PathLike):
    self.folder = Path(folder)

  def save(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes one step's arrays; what was there for that step is replaced."""
    for name, array in arrays.items():
      if np.asarray(array).dtype.kind in 'OV':
        kind = np.asarray(array).dtype
        raise TypeError(f'rollout array {name} is {kind}; valid: numbers, flags and text')
    self.folder.mkdir(parents=True, exist_ok=True)
    temporary = self.folder / f'{step:08d}.npz.tmp'
    with open(temporary, 'wb') as file:
      np.savez_compressed(file, **arrays)
    os.replace(temporary, self._path(step))

  def load(self, step: int) -> dict[str, np.ndarray]:
    """One step's arrays. FileNotFoundError names the steps that are here, ValueError a bad file."""
    path, steps = self._path(step), self.steps()
    if not path.is_file():
      here = f'{steps[0]} to {steps[-1]}' if steps else 'no step'
      raise FileNotFoundError(f'no rollouts of step {step} in {self.folder}; here: {here}')
    try:
      with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
      raise ValueError(f'{path} is corrupt: {error}') from error

  def steps(self) -> list[int]:
    """Steps that are here, ascending."""
    return sorted(int(p.stem) for p in self.folder.glob('*.npz') if p.stem.isdigit())

  def _path(self, step: int) -> Path:
    return self.folder / f'{step:08d}.npz'


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
  """metrics.jsonl -> one dict a step, numbers that are not finite among them."""
  rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
  return [{n: float(v) if isinstance(v, str) else v for n, v in row.items()} for row in rows]


def duration(seconds: float) -> str:
  """75 -> '1m15s'"""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}h{minutes:02d}m'
  return f'{minutes}m{rest:02d}s' if minutes else f'{rest}s'


def printable(text: str) -> str:
  """A model's text, cut to what fits a screen, without characters that steer the terminal."""
  cut = text[:SHOWN]
  safe = ''.join(c if c in '\n\t' or c.isprintable() else f'\\x{ord(c):02x}' for c in cut)
  more = len(text) - len(cut)
  return f'{safe} ... ({more:,} characters more)' if more else safe


def fenced(text: str) -> str:
  """Text -> Markdown code block whose fence is longer than any row of backticks in the text."""
  fence = '```'
  while fence in text:
    fence += '`'
  return f'{fence}text\n{text}\n{fence}'


def _number(value) -> int | float:
  """A Python, numpy or jax number -> int or float."""
  value = value.item() if hasattr(value, 'item') else value
  return value if isinstance(value, int) and not isinstance(value, bool) else float(value)


def _for_json(value: int | float) -> int | float | str:
  """JSON knows no NaN: 'nan', 'inf' and '-inf' are what float() reads back."""
  return value if math.isfinite(value) else str(value)
