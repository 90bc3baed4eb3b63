"""The DeepSeek-R1 recipe in JAX. The files in the order in which data visits them:

main          a config -> its stages, one after another; command_line reads it, checks and check_data look before
              anything compiles
config        ConfigDict -> frozen dataclasses, with sections and fields; what is wrong with a config is said here, and
              by check_settings where its parts contradict each other
stages/       grpo, sft, preference, evaluate, export: one file a stage
problems/     1  Countdown, arithmetic, files and their layouts, mixtures; the text of the tiny base models
prompts       2  a problem -> the tokens that the policy continues, with tokenizer and chat (chat templates)
rollout       3  prompts -> groups of completions; decoding, slots: its device side; sampling draws a token
rewards/      4  completions -> rewards (scoring): a check for each kind; pool and worker run it, sandbox programs
advantage     5  rewards -> advantages
batch         6  sequences -> packed rows; explore and stages/minibatches put 1 to 6 together
objective     7  log-probabilities -> a loss; algorithms names the combinations
update        8  a batch -> the next state, with optimizer and state
checkpoint    state, data position and rollout buffer in one save, with host_values and manifest
report        what a run shows while it goes; health warns, summary ends it
evaluation/   benchmarks -> saved samples -> the tables
model/        weights, sizes, layers, attention, experts, the forward pass, Hugging Face layout
mesh          devices, and the tables from logical axes to mesh axes; hosts joins several processes
plan          what an experiment needs, before anything is started
convert       Hugging Face <-> checkpoints; sample draws from one, with policy and terminal
preference    reward models: scalar head and losses
bench/        what is measured, beside others
"""
