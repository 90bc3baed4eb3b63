"""A weight is declared once, by named axes; shape, sharding and initial value follow from tables.

A model's spec is a pytree whose leaves are `Weight`. The parameters are the same pytree with arrays.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from r1jax import mesh as mesh_lib
from r1jax.model.sizes import ModelConfig


@dataclasses.dataclass(frozen=True)
class Weight:
  """A leaf of the spec tree. `axes`: space-separated logical names. `init`: normal, ones or zeros.

  `dtype` overrides the config's parameter dtype (the router's correction bias stays fp32).
  """

  axes: str
  init: str = 'normal'
  dtype: str | None = None

  def shape(self, cfg: ModelConfig, layers: int | None = None) -> tuple[int, ...]:
    sizes = cfg.axis_sizes()
    return tuple(layers if a == 'layers' else sizes[a] for a in self.axes.split())


@dataclasses.dataclass(frozen=True)
class Stacked(Weight):
  """A Weight of `layers` equal blocks, stacked on a leading axis that scan walks along."""

  layers: int = 1

  def shape(self, cfg: ModelConfig, layers: int | None = None) -> tuple[int, ...]:
    return (self.layers, *super().shape(cfg))

  @property
  def logical(self) -> tuple[str, ...]:
    return ('layers', *self.axes.split())


def stack(spec, layers: int):
  """A block's spec -> the spec of `layers` such blocks at rest."""
  return map_spec(lambda w: Stacked(w.axes, w.init, w.dtype, layers), spec)


def map_spec(fn, spec):
  """tree_map over the Weight leaves of a spec."""
  return jax.tree.map(fn, spec, is_leaf=lambda x: isinstance(x, Weight))


def logical_axes(weight: Weight) -> tuple[str, ...]:
  """The names of a weight's axes, `layers` included."""
  return weight.logical if isinstance(weight, Stacked) else tuple(weight.axes.split())


def abstract(spec, cfg: ModelConfig, mesh: jax.sharding.Mesh | None = None):
  """Spec -> the same tree of ShapeDtypeStruct, with shardings if a mesh is given. Allocates nothing."""

  def leaf(w: Weight):
    shape = w.shape(cfg)
    sharding = mesh and mesh_lib.weight_sharding(mesh, logical_axes(w), shape)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(w.dtype or cfg.param_dtype), sharding=sharding)

  return map_spec(leaf, spec)


def init(spec, cfg: ModelConfig, key: jax.Array):
  """Spec -> parameters: normal(0, init_std), ones for norms, zeros for biases."""
  leaves, treedef = jax.tree.flatten(spec, is_leaf=lambda x: isinstance(x, Weight))
  keys = jax.random.split(key, len(leaves))

  def leaf(w: Weight, key):
    shape, dtype = w.shape(cfg), jnp.dtype(w.dtype or cfg.param_dtype)
    if w.init == 'normal':
      return (cfg.init_std * jax.random.normal(key, shape, jnp.float32)).astype(dtype)
    return {'ones': jnp.ones, 'zeros': jnp.zeros}[w.init](shape, dtype)

  return jax.tree.unflatten(treedef, [leaf(w, k) for w, k in zip(leaves, keys, strict=True)])


def count(spec, cfg: ModelConfig) -> int:
  """Number of parameters of a spec."""
  return sum(
    math.prod(w.shape(cfg)) for w in jax.tree.leaves(spec, is_leaf=lambda x: isinstance(x, Weight))
  )


def cast(params, goal):
  """Parameters -> the same values in the dtypes of an abstract tree."""
  return jax.tree.map(lambda x, like: x.astype(like.dtype), params, goal)
