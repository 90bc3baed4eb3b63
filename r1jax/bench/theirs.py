"""The steps of a case by TRL. The only file that imports torch: pip install -e '.[bench]'."""

import json
import sys
import time
from itertools import pairwise

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from r1jax.bench.cases import CASES, EOS, PAD, Case


class _Clock(TrainerCallback):
  """Notes time, CPU time and completion tokens of every step."""

  def __init__(self):
    self.marks, self.tokens = [], []

  def on_step_end(self, args, state, control, **kwargs):
    self.marks.append((time.perf_counter(), time.process_time()))

  def reward(self, completion_ids, **kwargs):
    self.tokens.append(sum(map(len, completion_ids)))
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def _tokenizer(vocab: int) -> PreTrainedTokenizerFast:
  words = Tokenizer(WordLevel({f't{i}': i for i in range(vocab)}, unk_token=f't{PAD}'))
  words.pre_tokenizer = WhitespaceSplit()
  return PreTrainedTokenizerFast(
    tokenizer_object=words, eos_token=f't{EOS}', pad_token=f't{PAD}', padding_side='left'
  )


def steps(directory: str, case: Case, at_once: int) -> list[dict[str, float]]:
  """Model in Hugging Face layout, sequences learned from at once (0: all) -> measurements, one a counted step."""
  torch.set_num_threads(case.threads)
  total = case.prompts * case.group
  clock = _Clock()
  config = GRPOConfig(
    output_dir=f'{directory}/trl', use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
    save_strategy='no', logging_strategy='no', disable_tqdm=True, max_steps=case.steps + 1,
    per_device_train_batch_size=at_once or total, gradient_accumulation_steps=total // (at_once or total),
    num_generations=case.group,
    max_completion_length=case.new_tokens, beta=case.kl_weight, loss_type='grpo', epsilon=0.2,
    learning_rate=case.learning_rate, lr_scheduler_type='constant', max_grad_norm=1.0,
    model_init_kwargs={'dtype': 'float32'},
    generation_kwargs={'min_new_tokens': case.new_tokens} if case.equal else None,
  )  # fmt: skip
  rows = [
    {'prompt': ' '.join(f't{i}' for i in row)} for step in case.draw_prompts() for row in step
  ]
  trainer = GRPOTrainer(
    directory, clock.reward, config, Dataset.from_list(rows), callbacks=[clock],
    processing_class=_tokenizer(case.model.vocab),
  )  # fmt: skip
  trainer.train()
  return [
    {'seconds': after[0] - before[0], 'cpu_seconds': after[1] - before[1], 'tokens': tokens}
    for (before, after), tokens in zip(pairwise(clock.marks), clock.tokens[1:], strict=True)
  ]


if __name__ == '__main__':
  measured = steps(sys.argv[1], CASES[sys.argv[2]], int(sys.argv[3]))
  print(json.dumps({'steps': measured}))
