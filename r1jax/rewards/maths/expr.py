"""Tokens of LaTeX -> an expression. A parser of its own: nothing is evaluated while reading.

sum = product {('+' | '-') product}         product = power {['*' | '/'] power}
power = {'-'} postfix ['^' argument]        postfix = atom {'!' | '"degree"' | '_' argument}
atom = number | letter | bracketed sum | |sum| | \\frac.. | \\sqrt.. | \\binom.. | function argument
"""

from fractions import Fraction

from r1jax.rewards.maths.text import FUNCTIONS, MAX_DEPTH, SPECIAL
from r1jax.rewards.maths.tree import CONSTANTS, Expr, Num, Op, Sym

MAX_TOKENS = 300  # bounds the depth of the expression, too, and what recurses into it
_GREEK = frozenset(
  (
    'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'theta', 'lambda', 'mu', 'nu', 'rho', 'sigma', 'tau', 'phi',
    'varphi', 'psi', 'omega', 'zeta', 'eta', 'kappa', 'xi', 'ell', 'Omega', 'Delta', 'Gamma', 'Phi', 'Lambda',
  )
)  # fmt: skip
_PAIRS = {'(': ')', '[': ']', '{': '}', '\\lfloor': '\\rfloor', '\\lceil': '\\rceil'}
_OF_MANY = ('\\max', '\\min', '\\gcd', '\\lcm')
_WRAPS = {'\\lfloor': 'floor', '\\lceil': 'ceil'}


def parse(tokens: list[str]) -> Expr:
  """tokens -> expression; ValueError where they are none."""
  if len(tokens) > MAX_TOKENS:
    raise ValueError(f'an expression of more than {MAX_TOKENS} tokens')
  reader = _Reader(tokens)
  found = reader.sum()
  if reader.at < len(tokens):
    raise ValueError(f'unexpected {tokens[reader.at]}')
  return found


class _Reader:
  """A place in the tokens. Each method reads one thing of the grammar above."""

  def __init__(self, tokens: list[str]):
    self.tokens, self.at, self.depth, self.bars = tokens, 0, 0, 0

  def peek(self) -> str:
    return self.tokens[self.at] if self.at < len(self.tokens) else ''

  def take(self, expected: str = '') -> str:
    token = self.peek()
    if not token or (expected and token != expected):
      raise ValueError(f'{expected or "more"} is missing at {token or "the end"}')
    self.at += 1
    return token

  def sum(self) -> Expr:
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise ValueError(f'nested deeper than {MAX_DEPTH}')
    node = self.product()
    while self.peek() in ('+', '-'):
      name = 'add' if self.take() == '+' else 'sub'
      node = Op(name, (node, self.product()))
    self.depth -= 1
    return node

  def product(self) -> Expr:
    node = self.power()
    while True:
      if self.peek() == '*':
        self.take()
        node = Op('mul', (node, self.power()))
      elif self.peek() == '/':
        self.take()
        node = Op('div', (node, self.power()))
      elif self.starts_atom():
        node = self.juxtaposed(node)
      else:
        return node

  def juxtaposed(self, left: Expr) -> Expr:
    """`2x` is a product, `3\\frac{1}{2}` a mixed number, `3 4` nothing."""
    fraction, right = self.peek() == '\\frac', self.power()
    if isinstance(right, Num):
      raise ValueError('two numbers side by side')
    mixed = _mixed(left, right) if fraction else None
    return mixed or Op('mul', (left, right))

  def power(self) -> Expr:
    negative = False
    while self.peek() in ('-', '+'):
      negative ^= self.take() == '-'
    node = self.postfix()
    if self.peek() == '^':
      self.take()
      node = Op('pow', (node, self.argument()))
      if self.peek() == '!':
        raise ValueError('the factorial of a power, or a power of a factorial?')
      node = self.marks(node)
    return Op('neg', (node,)) if negative else node

  def postfix(self) -> Expr:
    node = self.marks(self.atom())
    if self.peek() == '_' and isinstance(node, Sym):
      self.take()
      node = Sym(f'{node.name}_{self.subscript()}')
    return node

  def marks(self, node: Expr) -> Expr:
    while self.peek() in ('!', '"degree"', '%'):
      mark = self.take()
      if mark == '!' and self.peek() == '!':
        raise ValueError('cannot read !!')
      if mark == '!':
        node = Op('fact', (node,))
      elif mark == '%':
        node = Op('div', (node, Num(Fraction(100))))
      else:
        node = Op('div', (Op('mul', (node, Sym('pi'))), Num(Fraction(180))))
    return node

  def subscript(self) -> str:
    if self.peek() != '{':
      return self.take()
    end = self.tokens.index('}', self.at)
    name = ''.join(self.tokens[self.at + 1 : end])
    self.at = end + 1
    return name

  def starts_atom(self) -> bool:
    token = self.peek()
    if token == '|':
      return not self.bars
    return (
      token in _PAIRS
      or token in CONSTANTS
      or token[:1].isalnum()
      or token.startswith('.')
      or token[1:] in FUNCTIONS
      or token[1:] in SPECIAL
      or token[1:] in _GREEK
      or token in ('\\frac', '\\sqrt', '\\binom', *_OF_MANY)
      or _letter(token)
      or _is_vector(token)
    )

  def atom(self) -> Expr:
    token = self.take()
    if token[0] in '.0123456789' and token[-1].isdigit():
      return Num(Fraction(token))
    if token in CONSTANTS:
      return Sym(CONSTANTS[token])
    if token == '\\Li' or (token[1:] in SPECIAL and self.peek() == '('):
      return self.special(token[1:])
    if token.isalpha() or token[1:] in _GREEK or _is_vector(token):
      return Sym(token)
    if _letter(token):
      return Sym(CONSTANTS.get(token[1], token[1]))
    if token in _PAIRS:
      inner = self.sum()
      self.take(_PAIRS[token])
      return Op(_WRAPS[token], (inner,)) if token in _WRAPS else inner
    if token == '|':
      return self.absolute()
    return self.command(token)

  def absolute(self) -> Expr:
    self.bars += 1
    inner = self.sum()
    self.bars -= 1
    self.take('|')
    return Op('abs', (inner,))

  def command(self, token: str) -> Expr:
    if token == '\\frac':
      return Op('div', (self.argument(), self.argument()))
    if token == '\\binom':
      return Op('binom', (self.argument(), self.argument()))
    if token == '\\sqrt':
      degree = Num(Fraction(2))
      if self.peek() == '[':
        degree = self.atom()
      return Op('root', (degree, self.argument()))
    if token in _OF_MANY:
      return self.of_many(token[1:])
    if token[1:] in FUNCTIONS:
      return self.function(token[1:])
    raise ValueError(f'cannot read {token}')

  def of_many(self, name: str) -> Expr:
    """`\\max(3, 5)`, `\\min\\{a, b\\}`."""
    close = {'(': ')', '\\{': '\\}', '[': ']', '{': '}'}.get(self.take())
    args = [self.sum()]
    while self.peek() == ',':
      self.take()
      args.append(self.sum())
    if close is None or self.take() != close:
      raise ValueError(f'cannot read the arguments of {name}')
    return Op(name, tuple(args))

  def argument(self) -> Expr:
    """What LaTeX takes for one argument: a group, or a single digit, letter or command."""
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise ValueError(f'nested deeper than {MAX_DEPTH}')
    token = self.peek()
    if token == '-':
      self.take()
      node = Op('neg', (self.argument(),))
    elif token.isdigit() and len(token) > 1 and self.tokens[self.at - 1] != '^':
      self.tokens = [*self.tokens[: self.at], token[0], token[1:], *self.tokens[self.at + 1 :]]
      node = self.atom()
    else:
      node = self.atom()
    self.depth -= 1
    return node

  def function(self, name: str) -> Expr:
    """`\\sin^2 x`, `\\log_2 8`, `\\cos 2x`, `\\tan(x+1)`."""
    power = base = None
    if self.peek() == '_':
      self.take()
      base = self.argument()
    if self.peek() == '^':
      self.take()
      power = self.argument()
    node = _apply(name, base, self.operand())
    if power == Op('neg', (Num(Fraction(1)),)):
      return _apply('arc' + name, base, node.args[-1])
    return Op('pow', (node, power)) if power else node

  def special(self, name: str) -> Expr:
    """`\\zeta(3)`, `\\operatorname{Li}_2(x)`: nothing but a bracket is their argument."""
    order = ()
    if name == 'Li':
      self.take('_')
      order = (self.argument(),)
    self.take('(')
    inner = self.sum()
    self.take(')')
    return Op(name, (*order, inner))

  def operand(self) -> Expr:
    if self.peek() in ('(', '{', '['):
      return self.marks(self.atom())
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise ValueError(f'nested deeper than {MAX_DEPTH}')
    node = self.power()
    while self.starts_atom() and self.peek()[1:] not in FUNCTIONS and self.peek() not in _PAIRS:
      node = Op('mul', (node, self.power()))
    self.depth -= 1
    return node


def _letter(token: str) -> bool:
  return len(token) == 3 and token[0] == '"' and token[1].isalpha()


def _is_vector(token: str) -> bool:
  """From A to B, in one token."""
  return token.startswith('\\vec') and len(token) == 6


def _apply(name: str, base: Expr | None, x: Expr) -> Op:
  if name in ('log', 'lg'):
    return Op('log', (base or Num(Fraction(10)), x))
  if name == 'cis':
    return Op('add', (Op('cos', (x,)), Op('mul', (Sym('i'), Op('sin', (x,))))))
  if base or (name.startswith('arc') and name not in FUNCTIONS):
    raise ValueError(f'cannot read {name} with an index or as an inverse')
  return Op(name, (x,))


def _mixed(left: Expr, right: Expr) -> Expr | None:
  """A whole number and a proper fraction -> their sum."""
  whole = left.args[0] if isinstance(left, Op) and left.name == 'neg' else left
  parts = right.args if isinstance(right, Op) and right.name == 'div' else ()
  if not all(isinstance(n, Num) and n.value.denominator == 1 for n in (whole, *parts)):
    return None
  if len(parts) != 2 or parts[0].value >= parts[1].value:
    return None
  total = Op('add', (whole, right))
  return total if whole is left else Op('neg', (total,))
