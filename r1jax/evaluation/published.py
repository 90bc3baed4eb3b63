"""What is printed for R1 and for the models that it is compared with, in percent; Codeforces as rating and percentile.

DeepSeek-R1 (Nature; arXiv v1, tables 2, 4 and 5; v2) and its README. Scores of o1-1217 are OpenAI's own.
"""

# (benchmark, metric) -> title, in the order of the table
ROWS = {
  ('aime_2024', 'pass@1'): 'AIME 2024 pass@1',
  ('aime_2024', 'cons@64'): 'AIME 2024 cons@64',
  ('aime_2025', 'pass@1'): 'AIME 2025 pass@1',
  ('math_500', 'pass@1'): 'MATH-500 pass@1',
  ('gpqa_diamond', 'pass@1'): 'GPQA Diamond pass@1',
  ('livecodebench', 'pass@1'): 'LiveCodeBench pass@1',
  ('codeforces', 'rating'): 'Codeforces rating',
  ('codeforces', 'percentile'): 'Codeforces percentile',
  ('mmlu', 'pass@1'): 'MMLU pass@1',
  ('mmlu_pro', 'pass@1'): 'MMLU-Pro pass@1',
  ('ifeval', 'pass@1'): 'IFEval strict pass@1',
}

# A model's scores in the order of ROWS.
_SCORES = {
  'DeepSeek-R1': (79.8, 86.7, 75.0, 97.3, 71.5, 65.9, 2029, 96.3, 90.8, 84.0, 83.3),
  'o1-1217': (79.2, None, 80.0, 96.4, 75.7, 63.4, 2061, 96.6, 91.8, None, None),
  'GPT-4o-0513': (9.3, 13.4, None, 74.6, 49.9, 32.9, 759, 23.6, 87.2, 72.6, 84.3),
  'o1-mini': (63.6, 80.0, None, 90.0, 60.0, 53.8, 1820, 93.4, 85.2, 80.3, 84.8),
  'R1-Zero': (77.9, 86.7, None, 95.9, 75.8, 50.0, 1444, 80.4, 88.8, 68.9, 46.6),
  'R1-Distill-Qwen-1.5B': (28.9, 52.7, None, 83.9, 33.8, 16.9, 954),
  'R1-Distill-Qwen-7B': (55.5, 83.3, None, 92.8, 49.1, 37.6, 1189),
  'R1-Distill-Qwen-14B': (69.7, 80.0, None, 93.9, 59.1, 53.1, 1481),
  'R1-Distill-Qwen-32B': (72.6, 83.3, None, 94.3, 62.1, 57.2, 1691),
  'R1-Distill-Llama-8B': (50.4, 80.0, None, 89.1, 49.0, 39.6, 1205),
  'R1-Distill-Llama-70B': (70.0, 86.7, None, 94.5, 65.2, 57.5, 1633),
}
PUBLISHED = {
  model: {row: score for row, score in zip(ROWS, scores) if score is not None}
  for model, scores in _SCORES.items()
}


def counterpart(size: str) -> str | None:
  """Name of a model size -> the published model that has those weights, None for all others."""
  return next((name for name in PUBLISHED if name.lower() == size), None)
