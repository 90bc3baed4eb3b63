"""The DeepSeek-R1 recipe in JAX."""
