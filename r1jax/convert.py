"""Hugging Face checkpoints <-> checkpoints of r1jax.

    python -m r1jax.convert Qwen2.5-1.5B qwen                          # Hugging Face -> r1jax
    python -m r1jax.convert runs/r1_zero-tiny_moe-seed0 model          # the last checkpoint of a run -> Hugging Face
    python -m r1jax.convert DeepSeek-R1 bf16 --to=hf --dtype=bfloat16  # FP8 -> BF16
    python -m r1jax.convert Qwen2.5-1.5B --check                       # our logits beside those of transformers
    python -m r1jax.convert deepseek_v3 --list --mesh=fsdp=8,expert=64 # names, shapes, dtypes, sharding

What is written appears when it is complete. Exit codes: 0 done, 1 failed or not the same logits.
"""

import argparse
import dataclasses
import importlib.util
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import mesh as mesh_lib
from r1jax import tokenizer as tokenizer_lib
from r1jax.checkpoint import Checkpointer, CheckpointError
from r1jax.model import hf, hf_files, sizes, source, weights
from r1jax.model.hf_folder import check_free, whole
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, forward, logits, spec

CLOSE = 1e-3  # of the largest logit: fp32 rounding in another order, over a hundred layers
GB = 10**9


def to_r1jax(params: Transformer, cfg: ModelConfig, directory, tokenizer=None) -> None:
  """Writes a checkpoint of r1jax at step 0, with the model's config.json and its tokenizer beside it."""
  with whole(directory) as partial:
    Checkpointer(partial).save(0, {'policy': params}, host={})
    if jax.process_index() == 0:
      hf.write_json(partial / 'config.json', hf.config_to_hf(cfg))
    if jax.process_index() == 0 and tokenizer is not None:
      tokenizer.save(partial)


def compare(params: Transformer, cfg: ModelConfig, directory) -> float:
  """Parameters, the same model in Hugging Face layout -> largest difference of logits, as a share of the largest.

  On random tokens, in fp32 on both sides, of weights that are both rounded to the parameters' dtype; transformers and
  torch must be installed.
  """
  import torch
  import transformers

  tokens = np.random.default_rng(0).integers(0, cfg.vocab, (2, min(64, cfg.max_positions)))
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32, local_files_only=True
  ).eval()
  with torch.no_grad():
    for x in theirs.parameters():
      x.copy_(x.to(getattr(torch, cfg.param_dtype)))
    expected = theirs(torch.tensor(tokens)).logits.numpy()
  cfg = dataclasses.replace(cfg, compute_dtype='float32')
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  run = jax.jit(lambda w, t: logits(w, forward(w, cfg, t, positions).hidden))
  return float(np.abs(np.asarray(run(params, tokens)) - expected).max() / np.abs(expected).max())


def rows(cfg: ModelConfig, mesh, headers: dict[str, hf_files.Header]) -> Iterator[str]:
  """Model, mesh, what the files hold -> one line a tensor.

  Its name, shape and dtype in the file; our leaf and the position in it; the leaf's shape, dtype, sharding, and
  shape on one device.
  """
  goal = jax.tree_util.tree_leaves_with_path(weights.abstract(spec(cfg), cfg, mesh))
  goal = {jax.tree_util.keystr(path): x for path, x in goal}
  table = hf.leaves(cfg)
  for tensor, (path, index) in hf.tensors(cfg).items():
    x, header = goal[path], headers.get(tensor)
    place = f'{path[1:]}{list(index) if index else ""}'
    here = x.sharding.shard_shape(x.shape)
    yield (
      f'{tensor}  {table[path].file_shape}  {header.dtype if header else "-"}  {place}  {x.shape}  {x.dtype}  '
      f'{tuple(x.sharding.spec)}  {here}'
    )


def show(path: str, ways: dict[str, int]) -> None:
  """Prints `rows` and their sums, for a checkpoint or a named size; nothing is allocated."""
  named, headers = path in sizes.names(), {}
  cfg = sizes.get(path) if named else source.config(path)
  if not named and source.find(path) is None:
    headers = hf_files.open_files(Path(path)).headers
    hf_files.check(headers, cfg)
  shape = tuple(jax.device_count() if ways.get(a) == -1 else ways.get(a, 1) for a in mesh_lib.AXES)
  mesh = jax.sharding.AbstractMesh(shape, mesh_lib.AXES)
  for row in rows(cfg, mesh, headers):
    print(row)
  goal = jax.tree.leaves(weights.abstract(spec(cfg), cfg, mesh))
  held = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in goal)
  print(
    f'{len(hf.tensors(cfg)):,} tensors, {weights.count(spec(cfg), cfg):,} parameters, '
    f'{held / GB:.2f} GB on each of {mesh.size} devices'
  )


def convert(args: argparse.Namespace) -> int:
  """Command line -> exit code."""
  from_hf = source.find(args.source) is None
  to_hf = args.to == 'hf' if args.to else not from_hf
  there = args.destination if args.destination and to_hf else args.source if from_hf else None
  if args.check and there is None:
    raise ValueError('--check needs a Hugging Face checkpoint on one side; valid: a destination')
  if args.destination:
    check_free(args.destination)
  cfg = source.config(args.source)
  cfg = dataclasses.replace(
    cfg, param_dtype=args.dtype or cfg.param_dtype, mtp=cfg.mtp if args.mtp else 0
  )
  mesh = mesh_lib.make_mesh(**args.mesh) if jax.device_count() > 1 else None
  params = source.load(args.source, cfg, mesh)
  if args.destination:
    cfg = _write(params, cfg, to_hf, args)
  if not args.check:
    return 0
  if args.destination and not to_hf:
    params = source.load(args.destination, cfg, mesh)
  error = compare(params, cfg, there)
  print(f'logits differ from those of transformers by at most {error:.1e} of the largest')
  return 0 if error < CLOSE else 1


def _write(
  params: Transformer, cfg: ModelConfig, to_hf: bool, args: argparse.Namespace
) -> ModelConfig:
  """-> the model as it is described beside what is written."""
  place = args.tokenizer or source.tokenizer(args.source)
  tokenizer = tokenizer_lib.load(place) if place else None
  if tokenizer is None:
    print('no tokenizer is written: there is none beside the weights; --tokenizer=DIR names one')
  else:
    others = args.tokenizer or source.is_named(args.source)  # than that of the config.json
    bos = tokenizer.bos if others else cfg.bos
    cfg = dataclasses.replace(cfg, bos=bos, eos=tokenizer.eos)
  if to_hf:
    hf.export(params, cfg, args.destination, tokenizer, shard_bytes=int(args.shard_gb * GB))
  else:
    to_r1jax(params, cfg, args.destination, tokenizer)
  print(f'written to {args.destination}')
  return cfg


def _mesh(text: str) -> dict[str, int]:
  """'fsdp=8,expert=64' -> sizes of the mesh's axes."""
  parts = [part.partition('=') for part in text.split(',')]
  for axis, _, size in parts:
    if axis not in mesh_lib.AXES or not size.isdecimal():
      valid = f'sizes of {", ".join(mesh_lib.AXES)}, such as fsdp=8,expert=64'
      raise argparse.ArgumentTypeError(f'{axis}={size} is not possible; valid: {valid}')
  return {axis: int(size) for axis, _, size in parts}


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Arguments -> their values; leaves with what is wrong and exit code 2."""
  parser = argparse.ArgumentParser(
    prog='r1jax.convert', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('source', help='Hugging Face directory, r1jax checkpoint or run; for --list also a size')
  add('destination', nargs='?', help='directory to be made')
  add('--to', choices=('hf', 'r1jax'), help='default: the other one')
  add('--dtype', choices=('float32', 'bfloat16'), help='default: as it is')
  add('--tokenizer', default='', help='where its files are, if not beside the weights')
  add('--shard_gb', type=float, default=5.0, help='size of a safetensors file at most')
  add('--no_mtp', dest='mtp', action='store_false', help='without multi-token prediction')
  add('--mesh', type=_mesh, default={'fsdp': -1}, help='such as fsdp=8,expert=64')
  add('--check', action='store_true', help='compare logits with transformers')
  add('--list', action='store_true', help='print names, shapes, dtypes, sharding; write nothing')
  args = parser.parse_args(argv)
  if not 0 < args.shard_gb < math.inf:
    parser.error(f'--shard_gb={args.shard_gb:g} is not possible; valid: more than 0, such as 5')
  if not (args.destination or args.check or args.list):
    parser.error('destination is missing; valid: a directory, or --check, or --list')
  needed = [name for name in ('torch', 'transformers') if not importlib.util.find_spec(name)]
  if args.check and needed:
    parser.error(f'--check needs {" and ".join(needed)}; valid: pip install {" ".join(needed)}')
  return args


def main(argv: Sequence[str]) -> int:
  """Arguments -> exit code; what is wrong with a checkpoint is one line on stderr."""
  args = parse(argv)
  try:
    if args.list:
      show(args.source, args.mesh)
      return 0
    return convert(args)
  except (OSError, ValueError, CheckpointError) as error:
    print('error:', error, file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
