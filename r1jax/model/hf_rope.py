"""Rotary embeddings as `config.json` says them: rope_theta with rope_scaling, or all of it in rope_parameters."""

from r1jax.model.sizes import Rope

_FIELDS = {
  'default': {},
  'llama3': {
    'factor': 'factor',
    'original_positions': 'original_max_position_embeddings',
    'low_freq': 'low_freq_factor',
    'high_freq': 'high_freq_factor',
  },
  'yarn': {
    'factor': 'factor',
    'original_positions': 'original_max_position_embeddings',
    'beta_fast': 'beta_fast',
    'beta_slow': 'beta_slow',
    'mscale': 'mscale',
    'mscale_all_dim': 'mscale_all_dim',
  },
}
# YaRN's own values, where a file says none (Peng et al. 2023; mscale 0: the plain 0.1 ln(factor) + 1).
_WHEN_ABSENT = {'beta_fast': 32.0, 'beta_slow': 1.0, 'mscale': 0.0, 'mscale_all_dim': 0.0}
_FIXED = {'partial_rotary_factor': 1.0, 'truncate': True}  # the only values that are implemented


def rope_from_hf(fields: dict, interleaved: bool) -> Rope:
  """Contents of config.json -> Rope. ValueError names the field."""
  spelling = 'rope_parameters' if fields.get('rope_parameters') else 'rope_scaling'
  scaling = {k: v for k, v in (fields.get(spelling) or {}).items() if v is not None}
  theta = scaling.pop('rope_theta', None) or fields.get('rope_theta')
  if theta is None:
    raise ValueError('field rope_theta is missing')
  kinds = {scaling.pop(k) for k in ('rope_type', 'type') if k in scaling} or {'default'}
  kind = kinds.pop()
  if kind not in _FIELDS or kinds:
    raise ValueError(f'{spelling}.rope_type {kind!r} is unknown; known: {", ".join(_FIELDS)}')
  for name, value in _FIXED.items():
    if scaling.pop(name, value) != value:
      raise ValueError(f'{spelling}.{name} is not implemented; only {value!r} is')
  known = _FIELDS[kind]
  if strange := sorted(set(scaling) - set(known.values())):
    raise ValueError(
      f'field {spelling}.{strange[0]} = {scaling[strange[0]]!r} is not understood for {kind}'
    )
  scaling = _WHEN_ABSENT | scaling
  if missing := [name for name in known.values() if name not in scaling]:
    raise ValueError(f'field {spelling}.{missing[0]} is missing')
  values = {ours: scaling[theirs] for ours, theirs in known.items()}
  return Rope(theta=theta, kind=kind, interleaved=interleaved, **values)


def rope_to_hf(rope: Rope) -> dict:
  """Rope -> its fields of config.json, in the older spelling, which old and new readers know."""
  if rope.kind == 'default':
    return {'rope_theta': rope.theta, 'rope_scaling': None}
  scaling = {theirs: getattr(rope, ours) for ours, theirs in _FIELDS[rope.kind].items()}
  kind = {'rope_type': rope.kind, 'type': rope.kind}
  return {'rope_theta': rope.theta, 'rope_scaling': kind | scaling}
