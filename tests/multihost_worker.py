"""One process of tests/test_multihost.py: python multihost_worker.py OUT TASK ARGUMENT...

Eight devices share themselves out over JAX_NUM_PROCESSES of them. OUT/<process>.json says what it has read and written.
"""

import json
import os
import pathlib
import runpy
import sys

import jax
import numpy as np

from r1jax import hosts
from r1jax import mesh as mesh_lib
from r1jax.checkpoint import Checkpointer, named_leaves
from r1jax.model import hf, hf_files

AXES = {'fsdp': 2, 'expert': 2, 'tensor': 2}  # of two hosts, each holds one half of fsdp
CHANGES = {'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.symlink', 'os.link'}


def watch_writes(out: pathlib.Path) -> list[str]:
  """-> the paths below `out` that Python code opens to write, makes, renames or removes, as it does so."""
  written: list[str] = []

  def hook(event: str, arguments: tuple) -> None:
    if event in CHANGES or (event == 'open' and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
      path = arguments[0]
      if isinstance(path, str | os.PathLike) and pathlib.Path(path).is_relative_to(out):
        written.append(str(pathlib.Path(path).relative_to(out)))

  sys.addaudithook(hook)
  return written


read: list = []


def noted(files, tensor, block, original=hf_files.Files.read):
  read.append([tensor, [[r.start, r.stop] for r in block]])
  return original(files, tensor, block)


hf_files.Files.read = noted


def watch_checks() -> dict[str, list]:
  """-> ids of the problems that this process draws in training, and (id, completion) of the checks that it runs."""
  from r1jax.problems.iterator import ProblemIterator
  from r1jax.rewards.scoring import Scoring

  seen: dict[str, list] = {'drawn': [], 'checked': []}

  def draw(iterator, original=ProblemIterator.next_places):
    places = original(iterator)
    seen['drawn'] += [iterator.source[place].id for place in places]
    return places

  def scores(scoring, original=Scoring.scores):
    seen['checked'] += [
      [scoring.problems[i // scoring.group].id, scoring._texts[i]] for i in scoring._verdicts
    ]
    return original(scoring)

  ProblemIterator.next_places, Scoring.scores = draw, scores
  return seen


def convert(out: pathlib.Path, source: pathlib.Path) -> dict:
  """Import from `source`, export, save and restore -> the blocks that were read; arrays to OUT/<process>.npz."""
  out.mkdir(exist_ok=True)
  read.clear()
  params, cfg = hf.load(source, mesh=mesh_lib.make_mesh(**AXES))
  hf.export(params, cfg, out / 'exported')
  checkpointer = Checkpointer(out / 'checkpoints')
  checkpointer.save(1, {'policy': params}, {'process': jax.process_index()})
  assert checkpointer.latest() == 1
  goal = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
  restored, host = checkpointer.restore(1, {'policy': goal})
  assert host == {'process': jax.process_index()}
  arrays = {
    f'{name}:{leaf}': hosts.fetch(x)
    for name, tree in (('loaded', params), ('restored', restored['policy']))
    for leaf, x in named_leaves(tree).items()
  }
  np.savez(out / f'{jax.process_index()}.npz', **arrays)
  return {'read': list(read)}


def main(out: pathlib.Path, task: str, *arguments: str) -> None:
  written, seen, found, code = watch_writes(out), watch_checks(), {}, 0
  if task == 'convert':
    hosts.join()
    for source in map(pathlib.Path, arguments):
      found[source.parent.name] = convert(out / source.parent.name, source)
  else:
    sys.argv[:] = arguments
    try:
      runpy.run_path(arguments[0], run_name='__main__')
    except SystemExit as stop:
      code = stop.code
  report = {'written': list(written), 'found': found} | seen
  (out / f'{jax.process_index()}.json').write_text(json.dumps(report))
  sys.exit(code)


main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
