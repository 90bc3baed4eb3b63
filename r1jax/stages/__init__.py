"""The kinds of stages. A stage's module holds its `Config` and `run(cfg, stage, context) -> result`."""

import importlib


def module(kind: str):
  """Kind -> its module."""
  return importlib.import_module(f'r1jax.stages.{kind}')


def _config(kind: str):
  return lambda: module(kind).Config


KINDS = {kind: _config(kind) for kind in ('sft', 'grpo', 'preference', 'evaluate', 'export')}
