"""ONE table of names and einops patterns, read forwards (import) and backwards (export).

DeepSeek's rotary pairs are interleaved in the files as they are here: no weight is permuted.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator

import einops
import jax.numpy as jnp
import numpy as np

from r1jax.model.attention import Gqa, Mla
from r1jax.model.layers import Mlp
from r1jax.model.moe import Moe
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Block as Layer
from r1jax.model.transformer import Mtp, Transformer, spec
from r1jax.model.weights import Weight

EMBED, HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
# Type of a node of the weight tree -> field -> (name, pattern from the file to us), or for a
# subtree (prefix, None). {layer} and {expert} count along leading axes of our leaf; LAST is the
# number of layers.
# d embed, v vocab, n heads, k kv heads, h head, f mlp, e experts, q and c latents, z two embed.
TABLE = {
  Transformer: {
    'embed': (EMBED, 'v d -> v d'),
    'stacks': ('model.layers.{layer}.', None),
    'final_norm': ('model.norm.weight', 'd -> d'),
    'head': (HEAD, 'v d -> d v'),
    'mtp': ('model.layers.LAST.', None),
  },
  Mtp: {
    'embed_norm': ('enorm.weight', 'd -> d'),
    'hidden_norm': ('hnorm.weight', 'd -> d'),
    'project': ('eh_proj.weight', 'd z -> z d'),
    'block': ('', None),
    'final_norm': ('shared_head.norm.weight', 'd -> d'),
  },
  Layer: {
    'attention_norm': ('input_layernorm.weight', 'd -> d'),
    'attention': ('self_attn.', None),
    'ffn_norm': ('post_attention_layernorm.weight', 'd -> d'),
    'ffn': ('mlp.', None),
  },
  Gqa: {
    'q': ('q_proj.weight', '(n h) d -> d n h'),
    'k': ('k_proj.weight', '(k h) d -> d k h'),
    'v': ('v_proj.weight', '(k h) d -> d k h'),
    'o': ('o_proj.weight', 'd (n h) -> n h d'),
    'q_bias': ('q_proj.bias', '(n h) -> n h'),
    'k_bias': ('k_proj.bias', '(k h) -> k h'),
    'v_bias': ('v_proj.bias', '(k h) -> k h'),
    'q_norm': ('q_norm.weight', 'h -> h'),
    'k_norm': ('k_norm.weight', 'h -> h'),
  },
  Mla: {
    'q_a': ('q_a_proj.weight', 'q d -> d q'),
    'q_norm': ('q_a_layernorm.weight', 'q -> q'),
    'q_b': ('q_b_proj.weight', '(n h) q -> q n h'),
    'kv_a': ('kv_a_proj_with_mqa.weight', 'c d -> d c'),
    'kv_norm': ('kv_a_layernorm.weight', 'c -> c'),
    'kv_b': ('kv_b_proj.weight', '(n h) c -> c n h'),
    'o': ('o_proj.weight', 'd (n h) -> n h d'),
  },
  Mlp: {
    'gate': ('gate_proj.weight', 'f d -> d f'),
    'up': ('up_proj.weight', 'f d -> d f'),
    'down': ('down_proj.weight', 'd f -> f d'),
  },
  Moe: {
    'router': ('gate.weight', 'e d -> d e'),
    'bias': ('gate.e_score_correction_bias', 'e -> e'),
    'gate': ('experts.{expert}.gate_proj.weight', 'f d -> d f'),
    'up': ('experts.{expert}.up_proj.weight', 'f d -> d f'),
    'down': ('experts.{expert}.down_proj.weight', 'd f -> f d'),
    'shared': ('shared_experts.', None),
  },
}
_FULL_RANK_QUERY = {'q_b': ('q_proj.weight', '(n h) q -> q n h')}  # Mla without q_a

Block = tuple[range, ...]  # indices along every axis


@dataclasses.dataclass(frozen=True)
class Leaf:
  """A leaf of our tree: `counted` leading axes (layers, experts) over tensors of our `shape`."""

  name: str
  pattern: str
  counted: tuple[int, ...]
  shape: tuple[int, ...]
  dtype: np.dtype
  first_layer: int = 0

  def tensor(self, index: tuple[int, ...]) -> str:
    """Position on the counted axes -> name in the file."""
    return (
      self.name.format(layer=self.first_layer + index[0], expert=index[-1]) if index else self.name
    )

  @property
  def sizes(self) -> dict[str, int]:
    """Axis of our pattern -> its length."""
    return dict(zip(self.pattern.split(' -> ')[1].split(), self.shape, strict=True))

  @property
  def file_axes(self) -> list[list[str]]:
    """Our axes that make up each axis of the file, the slowest first: '(n h) d' -> [[n, h], [d]]."""
    groups = re.findall(r'\([^)]*\)|\w', self.pattern.split(' -> ')[0])
    return [group.strip('()').split() for group in groups]

  @property
  def file_shape(self) -> tuple[int, ...]:
    return tuple(math.prod(self.sizes[a] for a in group) for group in self.file_axes)

  def pieces(self, block: Block, most: int) -> Iterator[tuple[tuple[int, ...], Block]]:
    """Block of the leaf -> its tensors' positions and blocks, of at most `most` elements each."""
    counted, inner = block[: len(self.counted)], block[len(self.counted) :]
    return itertools.product(itertools.product(*counted), self.cuts(inner, most))

  def cuts(self, block: Block, most: int) -> Iterator[Block]:
    """Block of a tensor in our axes -> the same, cut along the file's first axis.

    A cut has at most `most` elements, or one step of that axis.
    """
    axis = list(self.sizes).index(self.file_axes[0][0])
    rows = block[axis]
    step = max(1, most * len(rows) // math.prod(map(len, block)))
    for start in rows[::step]:
      cut = range(start, min(start + step, rows.stop))
      yield (*block[:axis], cut, *block[axis + 1 :])

  def file_block(self, block: Block) -> Block:
    """Block of a tensor in our axes -> the same block in the file's; only the slowest may be cut."""
    cut = dict(zip(self.sizes, block, strict=True))
    out = []
    for first, *rest in self.file_axes:
      if any(cut[a] != range(self.sizes[a]) for a in rest):
        raise ValueError(f'{self.name}: only axis {first} of {self.pattern!r} can be sharded')
      unit = math.prod(self.sizes[a] for a in rest)
      out.append(range(cut[first].start * unit, cut[first].stop * unit))
    return tuple(out)

  def from_file(self, x: np.ndarray, block: Block) -> np.ndarray:
    """Block of the file's tensor -> the same in our axes, a view of it."""
    return einops.rearrange(x, self.pattern, **dict(zip(self.sizes, map(len, block), strict=True)))

  def to_file(self, x):
    """Our tensor -> the file's; traced or not."""
    theirs, ours = self.pattern.split(' -> ')
    return einops.rearrange(x, f'{ours} -> {theirs}')


def leaves(cfg: ModelConfig) -> dict[str, Leaf]:
  """ModelConfig -> path of every leaf of the weight tree (as jax.tree_util.keystr) -> Leaf."""
  found = {}

  def walk(node, path, prefix, first):
    table = TABLE[type(node)]
    if isinstance(node, Mla) and node.q_a is None:
      table = table | _FULL_RANK_QUERY
    for field, (name, pattern) in table.items():
      child, where, full = getattr(node, field), f'{path}.{field}', prefix + name
      if isinstance(child, Weight):
        shape, counted = child.shape(cfg), full.count('{')
        dtype = jnp.dtype(child.dtype or cfg.param_dtype)
        found[where] = Leaf(full, pattern, shape[:counted], shape[counted:], dtype, first)
      elif isinstance(child, tuple):
        for number, block in enumerate(child):
          walk(block, f'{where}[{number}]', full, first)
          first += block.attention_norm.layers
      elif child is not None:
        walk(child, where, full.replace('LAST', str(cfg.layers)), first)

  walk(spec(cfg), '', '', 0)
  return found


def copies(cfg: ModelConfig) -> dict[str, str]:
  """ModelConfig -> tensor that a checkpoint may hold once more -> the tensor that it has to equal."""
  found = {HEAD: EMBED} if cfg.tied else {}
  if cfg.mtp:
    layer = f'model.layers.{cfg.layers}'
    found[f'{layer}.embed_tokens.weight'] = EMBED
    found[f'{layer}.shared_head.head.weight'] = EMBED if cfg.tied else HEAD
  return found


def tensors(cfg: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
  """ModelConfig -> tensor name in its checkpoint -> (path of its leaf, index in the leaf).

  The copies that belong to the module for multi-token prediction are among them: they are written, and never needed.
  """
  table = leaves(cfg)
  out = {
    leaf.tensor(i): (path, i) for path, leaf in table.items() for i in np.ndindex(*leaf.counted)
  }
  return out | {copy: out[first] for copy, first in copies(cfg).items() if copy != HEAD}
