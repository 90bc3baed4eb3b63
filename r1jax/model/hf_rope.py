"""Rotary embeddings as `config.json` says them: rope_theta with rope_scaling, or all of it in rope_parameters."""

from r1jax.model.hf_fields import check_fixed, take
from r1jax.model.sizes import Rope

# Kind of scaling -> our field -> (its name, its kind, what it is where a file does not say). YaRN's own values are
# those of Peng et al. 2023; mscale 0 is the plain 0.1 ln(factor) + 1.
_FIELDS = {
  'default': {},
  'llama3': {
    'factor': ('factor', 'positive'),
    'original_positions': ('original_max_position_embeddings', 'count'),
    'low_freq': ('low_freq_factor', 'positive'),
    'high_freq': ('high_freq_factor', 'positive'),
  },
  'yarn': {
    'factor': ('factor', 'positive'),
    'original_positions': ('original_max_position_embeddings', 'count'),
    'beta_fast': ('beta_fast', 'positive', 32.0),
    'beta_slow': ('beta_slow', 'positive', 1.0),
    'mscale': ('mscale', 'factor', 0.0),
    'mscale_all_dim': ('mscale_all_dim', 'factor', 0.0),
  },
}
# The only values that are implemented. Of attn_factor, readers disagree whether it counts.
_FIXED = {'partial_rotary_factor': 1.0, 'truncate': True, 'attn_factor': 1.0}


def rope_from_hf(fields: dict, interleaved: bool) -> Rope:
  """Contents of config.json -> Rope. ValueError names the field."""
  both = ('rope_scaling', 'rope_parameters')
  spelled = [s for s in both if take(fields, s, 'object', None)] or both[:1]
  ropes = [_read(fields, s, interleaved) for s in spelled]
  if ropes[0] != ropes[-1]:
    raise ValueError('rope_scaling and rope_parameters differ; valid: one of them, or both alike')
  return ropes[0]


def _read(fields: dict, spelling: str, interleaved: bool) -> Rope:
  """Contents of config.json, rope_scaling or rope_parameters -> Rope."""
  scaling, where = fields.get(spelling) or {}, f'{spelling}.'
  theta = take(scaling, 'rope_theta', 'positive', None, where) or take(
    fields, 'rope_theta', 'positive'
  )
  kinds = {take(scaling, name, 'text', None, where) for name in ('rope_type', 'type')} - {None}
  kind = kinds.pop() if kinds else 'default'
  if kind not in _FIELDS or kinds:
    raise ValueError(f'{where}rope_type {kind!r} is unknown; known: {", ".join(_FIELDS)}')
  check_fixed(scaling, _FIXED, where)
  known = {'rope_theta', 'rope_type', 'type', *_FIXED, *(how[0] for how in _FIELDS[kind].values())}
  for name, value in scaling.items():
    if name not in known and value is not None:
      raise ValueError(f'field {where}{name} = {value!r} is not understood for {kind}')
  values = {ours: take(scaling, *how, where=where) for ours, how in _FIELDS[kind].items()}
  return Rope(theta=theta, kind=kind, interleaved=interleaved, **values)


def rope_to_hf(rope: Rope) -> dict:
  """Rope -> its fields of config.json, in the older spelling, which old and new readers know."""
  if rope.kind == 'default':
    return {'rope_theta': rope.theta, 'rope_scaling': None}
  scaling = {theirs: getattr(rope, ours) for ours, (theirs, *_) in _FIELDS[rope.kind].items()}
  kind = {'rope_type': rope.kind, 'type': rope.kind}
  return {'rope_theta': rope.theta, 'rope_scaling': kind | scaling}
