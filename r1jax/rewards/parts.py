"""What a completion earns beside its answer: the parts of the reward that need no reference."""

from r1jax.rewards import format, language


def parts(completion: str, wanted: str = '') -> dict[str, float]:
  """completion -> 'format' and, where a language is wanted (a key of language.SCRIPTS), 'language', each in [0, 1]."""
  found = {'format': format.well_formed(completion)}
  if wanted:
    found['language'] = language.consistency(language.thought_of(completion), wanted)
  return found
