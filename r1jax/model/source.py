"""Where a policy can come from: a directory in Hugging Face layout, a checkpoint of r1jax, or the folder of a run.

A run's folder, and one of its stages', stand for the last checkpoint in it.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from r1jax.checkpoint import Checkpointer, CheckpointError
from r1jax.model import hf, sizes, weights
from r1jax.model.hf_files import read_json
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer, spec


def load(path, model: ModelConfig, mesh=None) -> Transformer:
  """Path -> the parameters of `model`, in its dtypes, sharded over the mesh if there is one.

  Raises FileNotFoundError, ValueError or CheckpointError, which name the file and what is wrong with it.
  """
  folder = find(path)
  if folder is None:
    return hf.load(path, model, mesh)[0]
  goal = weights.abstract(spec(model), model, mesh)
  stored = jax.tree.map(_as_saved, goal, _saved(folder, goal))
  state, _ = Checkpointer(folder.parent).restore(int(folder.name), {'policy': stored}, partial=True)
  return weights.cast(state['policy'], goal)


def check(path, model: ModelConfig) -> None:
  """Raises what `load` would, as far as names, shapes and headers tell; no weight is read."""
  folder = find(path)
  if folder is None:
    hf.check(path, model)
  else:
    _saved(folder, weights.abstract(spec(model), model))


def find(path) -> Path | None:
  """Path -> folder of the checkpoint that it stands for; None: it has weights in Hugging Face layout.

  FileNotFoundError where it is neither.
  """
  given, path = path, Path(path).absolute()
  if any(path.glob('*.safetensors*')):
    return None
  if (path / 'leaves.json').is_file():
    return path
  for folder in (path, path / 'checkpoints', *(path / s / 'checkpoints' for s in _stages(path))):
    if steps := Checkpointer(folder).steps():
      return folder / f'{steps[-1]:08d}'
  if (path / 'config.json').is_file() and not _stages(path):
    return None
  raise FileNotFoundError(
    f'{given}: no weights; valid: a directory in Hugging Face layout, a checkpoint of r1jax, or the folder of a run'
  )


def config(path) -> ModelConfig:
  """Path -> the model that its config.json describes, or that its run has trained, in the dtype of the weights."""
  folder = find(path)
  if folder is None:
    return hf.read_config(path)
  above = describing(folder)
  fields = read_json(above / 'config.json')
  found = _trained(fields) if 'stages' in fields else hf.described(above)
  dtype = read_json(folder / 'leaves.json')['policy.embed'][1]
  return dataclasses.replace(found, param_dtype=dtype)


def is_named(path) -> bool:
  """Whether the model is one of our sizes, trained by a run: no config.json says with which token a text begins."""
  folder = find(path)
  fields = {} if folder is None else read_json(describing(folder) / 'config.json')
  if 'stages' not in fields:
    return False
  return fields['model']['size'] != 'auto' or is_named(fields['init']['path'])


def _trained(fields: dict) -> ModelConfig:
  """A run's config.json -> the model that it has trained."""
  size = fields['model']['size']
  return config(fields['init']['path']) if size == 'auto' else sizes.get(size)


def describing(folder: Path) -> Path:
  """Checkpoint -> the folder above it with a config.json: of its model, or of the run that made it."""
  for parent in folder.parents[:3]:
    if (parent / 'config.json').is_file():
      return parent
  raise FileNotFoundError(f'{folder}: no config.json above it says which model this is')


def tokenizer(path) -> Path | None:
  """Path -> where the tokenizer lies: beside the weights, or where the run that made them took it from, or None."""
  folder = find(path)
  place = Path(path) if folder is None else describing(folder)
  if any((place / name).is_file() for name in ('tokenizer.json', 'tokenizer.model')):
    return place
  init = read_json(place / 'config.json').get('init', {})
  named = init.get('tokenizer') or init.get('path')
  return Path(named) if named else None


def _stages(path: Path) -> list[str]:
  """Names of a run's stages, the last one first; [] if this is no run's folder."""
  file = path / 'config.json'
  entries = read_json(file).get('stages', ()) if file.is_file() else ()
  return [entry.partition(':')[0] for entry in reversed(entries)]


def _saved(folder: Path, goal: Transformer) -> Transformer:
  """Checkpoint, tree of the wanted leaves -> their dtypes in it. CheckpointError where it is of another model."""
  leaves = read_json(folder / 'leaves.json')

  def dtype(where, leaf):
    name = 'policy.' + jax.tree_util.keystr(where, simple=True, separator='.')
    if name not in leaves:
      raise CheckpointError(f'{folder} has no {name}; it was saved from another model')
    shape, dtype, _ = leaves[name]
    if tuple(shape) != leaf.shape:
      raise CheckpointError(f'{folder} holds {name} as {shape}, the model has {list(leaf.shape)}')
    return jnp.dtype(dtype)

  return jax.tree_util.tree_map_with_path(dtype, goal)


def _as_saved(leaf: jax.ShapeDtypeStruct, dtype) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)
