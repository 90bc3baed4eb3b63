"""Words of each language, counted by hand."""

import pytest

from r1jax.rewards.language import SCRIPTS, consistency, is_in, mixing, thought_of, words


@pytest.mark.parametrize(
  'thought, language, value',
  [
    ('We need the sum of both.', 'en', 1.0),
    ('We need the sum of both.', 'zh', 0.0),
    ('我们先求和', 'zh', 1.0),
    ('我们先求和 then divide', 'zh', 5 / 7),
    ('我们先求和 then divide', 'en', 2 / 7),
    ('Сначала сложим числа', 'ru', 1.0),
    ('먼저 두 수를 더하자', 'ko', 1.0),
    ('पहले दोनों संख्या जोड़ें', 'hi', 1.0),
    ('أولا نجمع العددين', 'ar', 1.0),
    ('naïve Café, Ελλάδα', 'en', 2 / 3),
    ('まず和を求める', 'ja', 1.0),
    ('まず和を求める', 'zh', 0.0),
    ('カタカナとコーヒー', 'ja', 1.0),
    ('先求和', 'ja', 0.0),
    ('先求和\n和を', 'ja', 2 / 5),  # three Chinese words; 和 and を
    ('先求和\n和を', 'zh', 3 / 5),
    ('We write ｆｕｌｌ width', 'en', 1.0),
  ],
)
def test_words_of_the_language_over_all_words(thought, language, value):
  assert consistency(thought, language) == pytest.approx(value)


@pytest.mark.parametrize(
  'left_out',
  [
    '1234 + 5 = 1239', '$x+y$', r'$\text{where}$', '$$\na + sin(bc)\n$$', r'\(abc\)', r'\[ abc \frac{ab}{cd} \]',
    '```python\nprint(total)\n```', '`total`', '```\nnot closed', 'x', 'λ', '√∑→', r'\quad', '😀',
    r'\begin{align*}', '</think><answer>', '٣٤', '_',
  ],
)  # fmt: skip
def test_what_is_no_word(left_out):
  assert words(f'设它为 {left_out}') == {'HAN': 3}


@pytest.mark.parametrize(
  'thought, language, value',
  [
    ('ok $全部中文在这里思考$', 'en', 1 / 10), ('ok ```全部中文```', 'en', 1 / 5), ('ok `全部中文`', 'en', 1 / 5),
    ('ok\n```\n全部中文', 'en', 1 / 5), (r'ok \[\text{全部中文}\]', 'en', 1 / 5),
    ('好 $I think in English$', 'zh', 1 / 4), ('好 $I$ $think$ $in$ $English$', 'zh', 1 / 4),
    ('好 ```\nThat is what we think in the end\n```', 'zh', 1 / 9),
    ('好\n```\n# I think\n# that we\n# are in the end', 'zh', 1 / 8),
    ('नमस्ते `हिन्दी में` ठीक', 'hi', 1.0),
  ],
)  # fmt: skip
def test_language_that_hides_in_latex_or_code_counts(thought, language, value):
  assert consistency(thought, language) == pytest.approx(value)


def test_programs_are_no_language():
  lines = [
    'import numpy as np',
    'from collections import Counter',
    'import os',
    'for key in seen if key not in done:',
  ]
  lines += [
    '  return x if x is not None else y',
    'select name from users where age',
    'else:',
    '  pass',
  ]
  code = '\n'.join(lines)
  assert words(f'代码\n```python\n{code}\n```') == {'HAN': 2}
  assert words('式 $abc + def \\cdot ghi$, $AB$, $CD$ 和 $EF$') == {'HAN': 2}


def test_dollars_are_not_always_latex():
  assert words('It costs $5 and that $6 more') == {'LATIN': 5}
  assert words('so $5 is $x$ now') == {'LATIN': 3}


def test_marks_do_not_split_a_word():
  assert words('हिन्दी') == {'DEVANAGARI': 1}
  assert words('cafe\u0301') == {'LATIN': 1}
  assert words('ガ') == {'KANA': 1}


@pytest.mark.parametrize('thought', ['', '   ', '3 + 4 = 7', '$x$', '```\nall of it\n```'])
def test_no_words_earn_nothing(thought):
  assert consistency(thought, 'en') == 0.0
  assert not mixing(thought)


def test_an_unknown_language_is_named():
  with pytest.raises(ValueError, match="language='fr' is unknown; valid: one of en, zh"):
    consistency('Bonjour', 'fr')
  assert len(set(SCRIPTS.values())) == len(SCRIPTS)


def test_mixing_begins_at_one_word_in_twenty():
  assert not mixing('word ' * 20 + '字')  # 1 of 21
  assert mixing('word ' * 19 + '字')  # 1 of 20
  assert not mixing('和を求める')


@pytest.mark.parametrize(
  'completion, thought',
  [
    ('<think>a b</think><answer>1</answer>', 'a b'), ('a b</think> c', 'a b'),
    ('<think>a</think>b</think>c', 'a</think>b'),
    ('<think> cut off', 'cut off'), ('no thought at all', ''), ('<think></think>x', ''),
  ],
)  # fmt: skip
def test_thought_of(completion, thought):
  assert thought_of(completion) == thought


@pytest.mark.parametrize(
  'unit',
  [
    '$',
    '$a',
    r'\(',
    r'\[',
    '`',
    '```',
    '\\',
    r'\begin{',
    '<think>',
    '$$a ',
    r'\(\[',
    '字',
    '$a$ ',
    '`a`',
    'a\n# ',
    '```a b ',
  ],
)
def test_ends_on_any_text(unit):
  """Quadratic work would take an hour here."""
  assert 0 <= consistency(unit * 200_000, 'zh') <= 1
  assert is_in(unit * 200_000, 'en') in (True, False)
