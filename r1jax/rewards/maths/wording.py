"""Words that say the same, of an answer that is a statement."""

import re

NO_SOLUTION = ('no', 'solution')
_ARTICLES = frozenset(('the', 'a', 'an'))
_OF = r'(?:(?:it|series?|serie|integral|sequence) )?(?:is )?'
_STATEMENTS = tuple(
  (re.compile(pattern), said)
  for pattern, said in (
    (r'(?:there (?:is|are) )?no(?: such)? solution(?: exists?)?|\\emptyset|empty set', NO_SOLUTION),
    (r'(?:方程)?无解|無解|解なし', NO_SOLUTION),
    (r'(?:limit )?(?:doe|does) not exist|dne|(?:极限)?不存在|存在しない', ('dne',)),
    (rf'{_OF}(?:diverges?|divergent)|发散|発散', ('diverges',)),
    (rf'{_OF}(?:converges?|convergent)|收敛|収束', ('converges',)),
  )
)


def statement(words: tuple[str, ...]) -> tuple[str, ...]:
  """('there', 'are', 'no', 'solution') -> ('no', 'solution'); without articles."""
  words = tuple(word for word in words if word not in _ARTICLES)
  text = ' '.join(words)
  return next((said for pattern, said in _STATEMENTS if pattern.fullmatch(text)), words)
