"""Rules of instruction following, against texts judged by hand."""

import pytest

from r1jax.problems import Problem
from r1jax.rewards.instruction_rules import RULES, sentences, words
from r1jax.rewards.instructions import check, rules_of
from r1jax.rewards.verdict import BAD_GOLD, RIGHT, UNPARSEABLE, WRONG


def judged(completion, *instructions, **details):
  entries = [{'id': name, 'kwargs': kwargs} for name, kwargs in instructions]
  problem = Problem(1, 'instructions', 'Write.', '', details={'instructions': entries, **details})
  return check(completion, problem)


LESS, LEAST = 'less than', 'at least'
# id, kwargs, a text that follows it, one that does not.
CASES = [
  ('keywords:existence', {'keywords': ['sea', 'blue']}, 'The Seaside is BLUE.', 'The sea.'),
  ('keywords:frequency', {'keyword': 'sea', 'frequency': 2, 'relation': LEAST}, 'Sea, seaside.', 'A sea.'),
  ('keywords:frequency', {'keyword': 'sea', 'frequency': 2, 'relation': LESS}, 'A sea.', 'sea sea'),
  ('keywords:forbidden_words', {'forbidden_words': ['sea', 'sky']}, 'The seaside.', 'At Sea!'),
  ('keywords:forbidden_words', {'forbidden_words': ['大海']}, '天空很蓝', '在大海边'),
  ('keywords:letter_frequency', {'letter': 'E', 'let_frequency': 3, 'let_relation': LEAST}, 'eeE', 'ee'),
  ('keywords:letter_frequency', {'letter': 'e', 'let_frequency': 3, 'let_relation': LESS}, 'ee', 'Eee'),
  ('language:response_language', {'language': 'zh'}, '海是蓝色的。', 'The sea is blue.'),
  ('language:response_language', {'language': 'ru'}, 'Море синее.', '海是蓝色的。'),
  ('language:response_language', {'language': 'ja'}, '海は青いです。', '海是蓝色的。'),
  ('length_constraints:number_sentences', {'num_sentences': 2, 'relation': LEAST}, 'One. Two!', 'One, Dr. Two.'),
  ('length_constraints:number_sentences', {'num_sentences': 2, 'relation': LESS}, 'One.', 'One. Two.'),
  ('length_constraints:number_paragraphs', {'num_paragraphs': 2}, 'a\n***\nb', 'a\n***\nb\n***\nc'),
  ('length_constraints:number_paragraphs', {'num_paragraphs': 2}, '***\na\n***\nb\n***', 'a\n***\n***\nb'),
  ('length_constraints:number_words', {'num_words': 3, 'relation': LEAST}, 'one two three', 'one, two.'),
  ('length_constraints:number_words', {'num_words': 3, 'relation': LESS}, '两字', '三个字'),
  (
    'length_constraints:nth_paragraph_first_word',
    {'num_paragraphs': 2, 'nth_paragraph': 2, 'first_word': 'Blue'}, 'a\n\n"blue, b', 'a\n\nthe blue',
  ),
  (
    'length_constraints:nth_paragraph_first_word',
    {'num_paragraphs': 2, 'nth_paragraph': 2, 'first_word': 'b'}, 'a\n \nb\n\n', 'a\n\nb\n\nc',
  ),
  ('detectable_content:number_placeholders', {'num_placeholders': 2}, '[name] at [place]', '[name] at []'),
  ('detectable_content:postscript', {'postscript_marker': 'P.S.'}, 'Hi.\n\np. s. Bye.', 'Hi. Tips. Bye.'),
  ('detectable_content:postscript', {'postscript_marker': 'P.P.S'}, 'Hi.\nP.P.S Bye.', 'Hi.\nP.S. Bye.'),
  ('detectable_format:number_bullet_lists', {'num_bullets': 2}, 'So:\n* a\n - b', 'So:\n* a\n* b\n* c'),
  ('detectable_format:number_bullet_lists', {'num_bullets': 1}, '**bold**\n---\n- a', '**bold**\n-5'),
  ('detectable_format:constrained_response', {}, 'My answer is maybe.', 'Yes.'),
  ('detectable_format:number_highlighted_sections', {'num_highlights': 2}, '*a b* and **c**', '* a\n* b *c*'),
  (
    'detectable_format:multiple_sections',
    {'section_spliter': 'Section', 'num_sections': 2}, 'Section 1\na\nSection 2\nb', 'Section 1\na\nSection two',
  ),
  ('detectable_format:json_format', {}, '```json\n{"a": [1]}\n```', 'Here: {"a": [1]}'),
  ('detectable_format:json_format', {}, ' {"a": 1} ', "{'a': 1}"),
  ('detectable_format:title', {}, '<<The sea>>\nIt is blue.', '<< >>\nIt is blue.'),
  ('combination:two_responses', {}, 'a\n******\nb', 'a\n******\na'),
  ('combination:two_responses', {}, 'a ****** b ******', 'a ****** b ****** c'),
  ('combination:repeat_prompt', {'prompt_to_repeat': 'Why blue?'}, 'why blue? So.', 'So: Why blue?'),
  ('startend:start_checker', {'start_phrase': 'Well,'}, '"Well, no.', 'No. Well,'),
  ('startend:end_checker', {'end_phrase': 'The end.'}, 'So. the end. ', 'The end. Really.'),
  ('startend:quotation', {}, '"So."', '"So." he said'),
  ('startend:quotation', {}, '""', '"'),
  ('change_case:capital_word_frequency', {'capital_frequency': 2, 'capital_relation': LEAST}, 'NO, I do', 'NO. 12'),
  ('change_case:english_capital', {}, 'THE SEA, 1 OF 7.', 'THE Sea'),
  ('change_case:english_lowercase', {}, 'the sea, 1 of 7.', 'the Sea'),
  ('punctuation:no_comma', {}, 'The sea. Blue.', 'The sea, blue.'),
  ('punctuation:no_comma', {}, '海。蓝。', '海，蓝。'),
  ('punctuation:no_comma', {}, '‚so‘', 'so ‚ so'),
  *(('punctuation:no_comma', {}, 'a b', f'a{comma} b') for comma in '،﹐､、՝፣'),
  *(
    ('keywords:forbidden_words', {'forbidden_words': ['free']}, 'freedom', f'a {hidden} world')
    for hidden in ('_free_', 'ｆｒｅｅ', 'f\u200bree', 'fr\u00adee', 'fre\ufe0fe', 'FREE')
  ),
  ('keywords:existence', {'keywords': ['café']}, 'cafe\u0301', 'cafe'),
  ('keywords:letter_frequency', {'letter': 'é', 'let_frequency': 1, 'let_relation': LEAST}, 'e\u0301', 'e'),
  ('detectable_format:number_highlighted_sections', {'num_highlights': 1}, '这是**重点**内容', '2*3*4'),
  ('detectable_format:number_highlighted_sections', {'num_highlights': 1}, '***a***', '*.* and *.*'),
  ('detectable_format:title', {}, 'So: <<a>>', 'cout<<x>>y'),
  ('detectable_format:title', {}, '<< a >>', 'cin >> a; cout << b >> c'),
  ('detectable_format:json_format', {}, '{"a": null}', '{"a": NaN}'),
  ('detectable_format:json_format', {}, '[1e5]', '[-Infinity]'),
  ('length_constraints:number_words', {'num_words': 2, 'relation': LEAST}, 'a b', 'a\u200bb ___'),
  ('length_constraints:number_words', {'num_words': 3, 'relation': LESS}, 'हिन्दी में', 'हिन्दी में लिखो'),
  ('language:response_language', {'language': 'fr'}, 'Le chat est dans la maison.', 'El gato está en la casa.'),
  ('change_case:english_capital', {}, 'THE END OF IT', 'DAS ENDE VON DER WELT'),
  ('change_case:english_lowercase', {}, 'the end of it', 'le chat est dans la maison'),
]  # fmt: skip


@pytest.mark.parametrize('name, kwargs, follows, fails', CASES)
def test_each_rule(name, kwargs, follows, fails):
  found = judged(follows, (name, kwargs))
  assert (found.outcome, found.credit) == (RIGHT, 1.0), found.note
  found = judged(fails, (name, kwargs))
  assert (found.outcome, found.credit, found.note) == (WRONG, 0.0, f'does not follow {name}')


def test_every_rule_has_a_case():
  assert {name for name, *_ in CASES} == set(RULES)


NO_COMMA, TITLE, END = (
  ('punctuation:no_comma', {}), ('detectable_format:title', {}), ('startend:end_checker', {'end_phrase': 'end'})
)  # fmt: skip


def test_credit_is_strict_or_the_share():
  text = 'no title, but an end'
  assert judged(text, NO_COMMA, TITLE, END).credit == 0.0
  found = judged(text, NO_COMMA, TITLE, END, partial_credit=True)
  assert (found.outcome, found.credit) == (WRONG, pytest.approx(1 / 3))
  assert found.note == 'does not follow punctuation:no_comma, detectable_format:title'
  assert judged('the end', NO_COMMA, END, partial_credit=True).credit == 1.0


@pytest.mark.parametrize(
  'completion, outcome',
  [
    ('<think>a, b, c</think>The end', RIGHT), ('<think>no comma</think>a, the end', WRONG),
    ('<think>a, b</think><answer>The end</answer>', RIGHT), ('x</think>y, </think>The end', RIGHT),
    ('<think>the end', UNPARSEABLE), ('<think>the end</think> ', UNPARSEABLE), ('', UNPARSEABLE),
    ('<think>x</think><answer></answer>', UNPARSEABLE),
  ],
)  # fmt: skip
def test_only_the_final_answer_is_judged(completion, outcome):
  assert judged(completion, NO_COMMA, END).outcome == outcome


@pytest.mark.parametrize(
  'instructions, note',
  [
    (None, 'instructions=None'), ([], 'instructions=[]'), ('x', "instructions='x'"), (['x'], '[0].id=None is unknown'),
    ([{'id': 'keywords:exist'}], "[0].id='keywords:exist' is unknown; valid: one of keywords:existence, "),
    ([{'id': ['x']}], "[0].id=['x'] is unknown"),
    ([{'id': 'punctuation:no_comma'}, {'id': 'startend:end_checker'}], "[1]: startend:end_checker has kwargs []"),
    ([{'id': 'punctuation:no_comma', 'kwargs': {'x': 1}}], "at fault is 'x'"),
    ([{'id': 'punctuation:no_comma', 'kwargs': [1]}], 'kwargs=[1]'),
    ([{'id': 'startend:end_checker', 'kwargs': {'end_phrase': ' '}}], "end_phrase=' '"),
    ([{'id': 'keywords:existence', 'kwargs': {'keywords': []}}], 'keywords=[]'),
    ([{'id': 'keywords:existence', 'kwargs': {'keywords': ['']}}], "keywords=['']"),
    ([{'id': 'detectable_format:number_bullet_lists', 'kwargs': {'num_bullets': -1}}], 'num_bullets=-1'),
    ([{'id': 'detectable_format:number_bullet_lists', 'kwargs': {'num_bullets': True}}], 'num_bullets=True'),
    ([{'id': 'length_constraints:number_paragraphs', 'kwargs': {'num_paragraphs': 0}}], 'num_paragraphs=0'),
    ([{'id': 'language:response_language', 'kwargs': {'language': 'eo'}}], "language='eo'"),
    (
      [{'id': 'length_constraints:number_words', 'kwargs': {'num_words': 1, 'relation': 'above'}}],
      "relation='above' is not possible; valid: one of 'less than', 'at least'",
    ),
  ],
)  # fmt: skip
def test_bad_instructions_are_named(instructions, note):
  problem = Problem(1, 'instructions', 'Write.', '', details={'instructions': instructions})
  found = check('The end', problem)
  assert found.outcome == BAD_GOLD
  assert note in found.note and '; valid: ' in found.note


def test_kwargs_as_tables_hold_them():
  kwargs = {'num_bullets': 1.0, 'keywords': None}
  ((name, follows),) = rules_of([{'id': 'detectable_format:number_bullet_lists', 'kwargs': kwargs}])
  assert follows('- one') and not follows('one')


@pytest.mark.parametrize(
  'text, count',
  [
    ('One. Two! Three?', 3), ('One... two', 2), ('Dr. No met J. Doe, e.g. there.', 1), ('It is 3.14 now.', 1),
    ('一。二！三？', 3), ('A title\n\nOne.', 2), ('"One." (Two.) Three', 3), ('1. First\n2. Second', 1),
    ('...', 0), ('', 0),
  ],
)  # fmt: skip
def test_sentences(text, count):
  assert sentences(text) == count


def test_words():
  assert words("Don't go, 2 times") == ['Don', 't', 'go', '2', 'times']
  assert words('海 is 蓝色') == ['海', 'is', '蓝', '色']


@pytest.mark.parametrize(
  'unit', ['*', '. ', '.', '[', '<', '\n', '"', 'a', '```', ' ', '<<', 'P.', '* a\n', '{"a":', '[']
)
def test_ends_on_any_text(unit):
  """Every rule on a quarter of a million characters; quadratic work would take an hour."""
  text = '"' + unit * (250_000 // len(unit)) + 'x'
  entries = {name: kwargs for name, kwargs, *_ in CASES}
  found = judged(text, *entries.items(), partial_credit=True)
  assert found.outcome == WRONG and 0 < found.credit < 1
