"""Arguments -> what was asked for. absl and ml_collections parse; what they cannot parse is explained in one line.

Nothing here needs jax, so that a mistyped flag is answered at once.
"""

import contextlib
import dataclasses
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path
from ml_collections.config_flags.config_flags import ConfigFileFlagParser, FlagOrderError
from ml_collections.config_flags.tuple_parser import TupleParser

from r1jax.fields import ConfigError, flat, suggest, type_name

HELP = """Runs an experiment: its stages one after another, the finished ones skipped.

  python -m r1jax.main --config=FILE[:SIZE] [--config.SECTION.FIELD=VALUE ...] [--workdir=DIR]

{flags}
experiments
  experiments/r1_zero.py      R1-Zero, reinforcement learning on a base model. Sizes: tiny_moe (the default),
                              tiny_dense, qwen2.5-1.5b, qwen2.5-7b, deepseek_v3, auto (the model in init.path)
  experiments/base_model.py   pretraining of the tiny base models. Sizes: tiny_moe (the default), tiny_dense
  experiments/evaluate.py     R1's tables from files of benchmarks. Sizes: tiny, auto, all of r1jax/model/sizes.py
  experiments/preference.py   reward models from preferences

fields
  experiments/base.py documents every field, with its unit and the paper's value. With --config as well, --help
  lists the fields of that experiment and their values.

examples
  python -m r1jax.main --config=experiments/r1_zero.py
  python -m r1jax.main --config=experiments/r1_zero.py:tiny_dense --config.rl.algorithm=dapo --config.seed=1
  python -m r1jax.main --config=experiments/r1_zero.py:deepseek_v3 --dry_run

Stop it at any time; the same command goes on where it was.

exit codes
  0   finished
  1   failed: the gradient was not finite in three steps in a row, a checkpoint or an export could not be read or
      written, checks of answers cannot run here, or there is a traceback
  2   a config or command that cannot be run; nothing was started
  75  stopped by SIGTERM, after everything was saved
  130 stopped by Ctrl-C: the same command goes on from the last checkpoint
"""
FLAGS = {
  'config': (
    'FILE[:SIZE]',
    'the experiment. Any field of it can be set: --config.rl.learning_rate=1e-6',
  ),
  'workdir': ('DIR', 'folder of the run; runs/<name>-seed<seed> if it is not given'),
  'dry_run': ('', 'print parameters, memory and batch shapes; start nothing'),
  'replay_step': (
    '[STAGE:]N',
    'rebuild the loss and gradient norm of this step from its saved rollout, without generating; of the stage that has '
    'it, or of this one',
  ),
}
USAGE = '--config=experiments/r1_zero.py, or --help'
ORDER = '--config=FILE before its fields, and a section before the fields of it'
VALID = {
  'dry_run': 'true or false',
  'replay_step': 'a step, such as 10, or a stage and a step, such as rl:10',
}
PARSERS = {
  int: flags.IntegerParser(),
  float: flags.FloatParser(),
  bool: flags.BooleanParser(),
  str: flags.ArgumentParser(),
  tuple: TupleParser(),
}
# Under this name ml_collections imports an experiment's file, on top of what the one before has left there.
_MODULE = 'config_config'


@dataclasses.dataclass(frozen=True)
class Command:
  """What was asked for. replay: stage ('' where none is named) and step, None for no replay."""

  config: ConfigDict
  workdir: str
  dry_run: bool
  replay: tuple[str, int] | None


def parse(argv: Sequence[str]) -> Command:
  """Program name and arguments -> Command. Raises ConfigError."""
  sys.modules.pop(_MODULE, None)
  values = flags.FlagValues()
  says = {name: text for name, (_, text) in FLAGS.items()}
  config_flags.DEFINE_config_file('config', None, says['config'], values, sys_argv=list(argv))
  flags.DEFINE_string('workdir', '', says['workdir'], values)
  flags.DEFINE_bool('dry_run', False, says['dry_run'], values)
  flags.DEFINE_string('replay_step', None, says['replay_step'], values)
  try:
    _, *rest = values(list(argv))
  except Exception as error:  # of many kinds: also what the experiment's file raises
    raise _explained(argv, error) from error
  if rest:
    raise ConfigError(f'{rest[0]!r} is not a flag; valid: {USAGE}')
  if values.config is None:
    raise ConfigError(f'--config is missing; valid: {USAGE}')
  if not isinstance(values.config, ConfigDict):  # where there is no file, it is an object of errors
    load(values['config'].config_filename)
  _leave_out(values.config, load(values['config'].config_filename))
  return Command(values.config, values.workdir, values.dry_run, _replay(values.replay_step))


def _leave_out(config: ConfigDict, file: ConfigDict) -> None:
  """Takes out the sections of the stages that the file has and the command line has not chosen."""
  parts = lambda c: {part for entry in c.get('stages', ()) for part in str(entry).split(':')}
  with config.unlocked():
    for section in (parts(file) - parts(config)) & set(config):
      del config[section]


def _replay(text: str | None) -> tuple[str, int] | None:
  """'rl:10' -> ('rl', 10); '10' -> ('', 10). Raises ConfigError."""
  if text is None:
    return None
  stage, _, step = text.rpartition(':')
  if not re.fullmatch(r'[0-9]*[1-9][0-9]*', step):
    raise ConfigError(f'--replay_step={text} is not possible; valid: {VALID["replay_step"]}')
  return stage, int(step)


def wants_help(argv: Sequence[str]) -> bool:
  return any(a in ('-h', '--h', '-help', '--help', '--helpfull', '--helpshort') for a in argv[1:])


def help_text(argv: Sequence[str]) -> str:
  """What --help prints: usage, flags, sizes, exit codes; with --config the fields of that experiment."""
  width = max(len(f'--{name}={value}') for name, (value, _) in FLAGS.items()) + 2
  lines = [
    f'  {f"--{name}={value}" if value else f"--{name}":{width}}{text}'
    for name, (value, text) in FLAGS.items()
  ]
  text = HELP.format(flags='flags\n' + '\n'.join(lines) + '\n')
  path = _experiment(argv)
  if path:
    fields = flat(load(path).to_dict())
    text += f'\nfields of {path}\n' + '\n'.join(f'  {n} = {v!r}' for n, v in fields.items()) + '\n'
  return text


def load(path: str) -> ConfigDict:
  """FILE[:SIZE] -> its ConfigDict. ConfigError says what is wrong with the file or the size."""
  file, _, size = path.partition(':')
  if not Path(file).is_file():
    raise ConfigError(
      f'config={file!r} is not a file; valid: an experiment, such as experiments/r1_zero.py'
    )
  sys.modules.pop(_MODULE, None)
  try:
    config = ConfigFileFlagParser('config').parse(path)
  except (ValueError, TypeError) as error:  # ml_collections has put the traceback into the message
    text = _short(error.__context__ or error)
    valid = '' if '; valid: ' in text else f'; valid: a size of {file}'
    raise ConfigError(f'config={path!r} is not possible: {text}{valid}') from error
  except Exception as error:
    where = traceback.extract_tb(error.__traceback__)[-1]
    raise ConfigError(
      f'config={path!r} cannot be loaded: {_short(error)} ({where.filename}:{where.lineno}); valid: a file whose '
      'get_config(size) returns a ConfigDict'
    ) from error
  if not isinstance(config, ConfigDict):
    raise ConfigError(
      f'config={path!r} is not possible: get_config returned {type(config).__name__}; valid: a ConfigDict'
    )
  return config


def _short(error: BaseException) -> str:
  """An error in one line; its kind where the message alone would not say it."""
  text = ' '.join(str(error).split())
  return text if '; valid: ' in text else f'{type(error).__name__}: {text}'


def _explained(argv: Sequence[str], error: Exception) -> ConfigError:
  """What absl or ml_collections could not parse -> the key, its value and a valid one."""
  path = _experiment(argv)
  try:
    config = load(path) if path else None
    for name, value in _overrides(argv):
      if config is None:
        return ConfigError(f'config.{name}={value} has no --config before it; valid: {USAGE}')
      check_override(config, name, value)
  except ConfigError as found:
    return found
  if isinstance(error, flags.UnrecognizedFlagError):
    typed = next((a for a in argv if a.lstrip('-').startswith(error.flagname)), error.flagname)
    flag, known = typed.partition('=')[0], [f'--{name}' for name in FLAGS]
    return ConfigError(f'{typed} is unknown; valid: {suggest(flag, known)}')
  wrong = re.match(r'flag --(\w+)=(.*?): ', str(error), re.DOTALL)
  if wrong and wrong[1] in VALID:
    return ConfigError(f'--{wrong[1]}={wrong[2]} is not possible; valid: {VALID[wrong[1]]}')
  valid = ORDER if isinstance(error, FlagOrderError) else USAGE
  return ConfigError(f'{" ".join(str(error).split())}; valid: {valid}')


def check_override(config: ConfigDict, name: str, value: str) -> None:
  """'rl.steps', '10' -> nothing. ConfigError where the field is unknown, or its type another."""
  with contextlib.suppress(Exception):
    config_path.get_type(name, config)  # adds a field that few need
  known = flat(config.to_dict())
  if any(field.startswith(f'{name}.') for field in known):
    some = next(field for field in known if field.startswith(f'{name}.'))
    raise ConfigError(f'{name}={value} is not possible; valid: one of its fields, such as {some}')
  if name not in known:
    raise ConfigError(f'{name}={value} is unknown; valid: {suggest(name, known)}')
  kind = config_path.get_type(name, config)
  try:
    PARSERS[kind].parse(value)
  except (ValueError, TypeError) as error:
    valid = type_name(kind, known[name])
    raise ConfigError(f'{name}={value} is not possible; valid: {valid}') from error


def _experiment(argv: Sequence[str]) -> str | None:
  """The value of --config."""
  for flag, after in zip(argv[1:], [*argv[2:], '']):
    if flag in ('--config', '-config'):
      return after
    if re.match('--?config=', flag):
      return flag.partition('=')[2]
  return None


def _overrides(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
  """-> (name, value) of every field that is set, as it was typed."""
  for flag, after in zip(argv[1:], [*argv[2:], '']):
    found = re.match(r'--?(no)?config\.([^=]+)(=?)(.*)', flag, re.DOTALL)
    if found:
      bare = 'true' if after.startswith('-') or not after else after
      yield found[2], found[4] if found[3] else ('false' if found[1] else bare)
