"""Installs r1jax. Plain `jax` is the only JAX dependency; the extras bring an accelerator's build."""

from setuptools import find_packages, setup

setup(
  name='r1jax',
  version='0.1.0',
  description='The whole DeepSeek-R1 recipe in JAX',
  python_requires='>=3.11',
  packages=find_packages(include=['r1jax', 'r1jax.*', 'kernels']),
  package_data={'r1jax': ['assets/**/*']},
  install_requires=[
    'absl-py',
    'einops',
    'flax',
    'grain',
    'jax>=0.10',
    'jinja2>=3.1.6',
    'matplotlib',
    'ml-collections',
    'mpmath',
    'numpy',
    'optax',
    'orbax-checkpoint',
    'safetensors',
    'sentencepiece',
    'tensorboardX',
    'tokenizers',
  ],
  extras_require={
    'tpu': ['jax[tpu]'],
    'cuda': ['jax[cuda13]'],
    'datasets': ['datasets', 'pyarrow'],
    'test': [
      'ipykernel', 'nbclient', 'nbformat', 'pyarrow', 'pytest', 'pytest-xdist', 'ruff', 'torch==2.13.0',
      'transformers',
    ],  # fmt: skip
    'notebooks': ['ipykernel', 'jupyterlab'],
    'bench': ['math-verify', 'torch==2.13.0', 'transformers', 'trl==1.16.0'],
  },
)
