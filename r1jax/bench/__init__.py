"""A GRPO step of r1jax beside one of TRL's, on the same model, prompts and cores: see __main__."""
