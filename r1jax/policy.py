"""A checkpoint -> what is sampled from: parameters, tokenizer, and the way in which a question is put."""

import dataclasses
import json
from collections.abc import Sequence

import jax
import numpy as np

from r1jax import chat, prompts
from r1jax import mesh as mesh_lib
from r1jax import tokenizer as tokenizer_lib
from r1jax.model import source
from r1jax.model.sizes import ModelConfig
from r1jax.model.transformer import Transformer
from r1jax.problems import Problem
from r1jax.tokenizer import Tokenizer

CHAT = 'chat'  # beside the names of prompts.TEMPLATES


@dataclasses.dataclass(frozen=True)
class Policy:
  """What is sampled from. template: 'chat' or a name of prompts.TEMPLATES. prefill: how a chat's answers begin."""

  params: Transformer
  cfg: ModelConfig
  tokenizer: Tokenizer
  mesh: jax.sharding.Mesh
  template: str
  prefill: str = chat.PREFILL

  def tokens(self, messages: Sequence[dict]) -> np.ndarray:
    """Messages -> the prompt, int32 [T]; templates other than chats are given the last one alone."""
    if self.template == CHAT:
      return np.array(chat.encode(messages, self.tokenizer, prefill=self.prefill), np.int32)
    problem = Problem(id=0, kind='', prompt=messages[-1]['content'], answer='')
    return prompts.encode([problem], self.tokenizer, self.template)[0]

  @property
  def opened(self) -> str:
    """What the prompt has already written of the completion."""
    return self.prefill if self.template == CHAT else prompts.opened(self.template)


def open_checkpoint(
  path, template: str = '', prefill: str = chat.PREFILL, devices=None, mtp: bool = False
) -> Policy:  # fmt: skip
  """Path, as in model/source.py -> Policy, spread over the devices (None: all), in fp32 on a CPU and else in bf16.

  template '': what the run was trained with; else the checkpoint's own chat template; without one, r1_zero, and short
  for the tiny models. mtp: with the module for multi-token prediction, if there is one.
  Raises ValueError, OSError or CheckpointError.
  """
  devices = jax.devices() if devices is None else devices
  dtype = 'float32' if devices[0].platform == 'cpu' else 'bfloat16'
  mesh = mesh_lib.make_mesh(fsdp=len(devices), devices=devices)
  cfg = dataclasses.replace(source.config(path), param_dtype=dtype, compute_dtype=dtype)
  cfg = cfg if mtp else dataclasses.replace(cfg, mtp=0)
  place = source.tokenizer(path)
  if place is None:
    raise FileNotFoundError(
      f'{path}: no tokenizer; valid: a tokenizer.json or tokenizer.model there'
    )
  tokenizer = tokenizer_lib.load(place)
  template = template or _template(path, cfg, tokenizer)
  params = source.load(path, cfg, None if mesh.size == 1 else mesh)
  return Policy(params, cfg, tokenizer, mesh, template, prefill)


def _template(path, cfg: ModelConfig, tokenizer: Tokenizer) -> str:
  """The template that a checkpoint was made for."""
  folder = source.find(path)
  if folder is not None:
    fields = json.loads((source.describing(folder) / 'config.json').read_text('utf-8'))
    if 'stages' in fields:  # a run's
      return fields['prompt']['template']
  if tokenizer.chat_template:
    return CHAT
  return 'short' if cfg.name.startswith('tiny_') else 'r1_zero'
