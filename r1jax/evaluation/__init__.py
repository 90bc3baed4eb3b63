"""R1's tables: benchmarks -> saved generations -> verdicts -> metrics -> a table beside the published numbers.

layouts       the public file layouts of benchmarks -> problems
benchmarks    which benchmarks there are: file, number of samples, wording of the question
variants      a problem -> the tokens that the policy continues, worded in several ways
generations   completions as they are kept on disk; sampling goes on where it was
sampling      benchmarks -> generations
scoring       generations -> verdicts, by the checks of r1jax/rewards
votes         the answer that most samples agree on
metrics       verdicts -> pass@1, pass@k, cons@k, ... with their intervals
codeforces    right solutions -> an expected rating
published     what the papers print
table         scores -> report.md; plot -> report.png
run           all of that as a stage; `python -m r1jax.evaluation` scores anew what is saved
"""
