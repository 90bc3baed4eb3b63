"""metrics -> warnings. Each names what is seen, the likely cause, and the fields to change."""

import math
from collections.abc import Mapping, Sequence

WINDOW = 5  # steps whose mean is judged, so that one odd batch is no alarm

# Where each quantity stops being normal. Fractions are in [0, 1], kl and the gaps in nats a token.
SILENT_GROUPS = 0.75
TRUNCATED = 0.3
ENTROPY_LEFT = 0.1  # of the entropy at the start
KL = 0.5
CLIPPED = 0.3
GAP_MEAN = 0.02
GAP_MAX = 1.0
TIMEOUTS = 0.01
LAG = 50  # steps over which a trend is judged
PREFERENCE_RISEN = 0.25  # standard deviations of the reward model
ACCURACY_FALLEN = 0.03


def health(
  metrics: Mapping[str, float], history: Sequence[Mapping[str, float]], stage: str = 'rl'
) -> list[str]:
  """metrics of a step, those of the steps before it -> warnings, each 'metric: text'.

  Metrics that are absent are not judged. `stage` is the section of the config that is named.
  """
  rows = [*history[-WINDOW + 1 :], metrics]

  def flag(field: str) -> str:
    return f'--config.{stage}.{field}'

  found = [
    _silent_groups(rows, flag),
    _truncated(rows, flag),
    _entropy(rows, history, flag),
    _kl(rows, flag),
    _clipped(rows, flag),
    _gap(rows, flag),
    verdicts({name: _mean(rows, name) for name in ('bad_gold', 'timeout')}),
    _reward_hacking(rows, history),
    _not_finite(metrics, history, flag),
  ]
  return [warning for warning in found if warning]


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
  """Mean of the finite values of one metric; NaN, which no comparison holds for, without any."""
  values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
  return sum(values) / len(values) if values else math.nan


def _silent_groups(rows, flag) -> str | None:
  share, accuracy = _mean(rows, 'groups_without_variance'), _mean(rows, 'accuracy')
  if not share > SILENT_GROUPS:
    return None
  seen = f'groups_without_variance: in {share:.0%} of the groups all samples earn the same reward'
  if accuracy > 0.9:
    cure = f'make them harder or set {flag("dynamic_sampling")}=True'
    return f'{seen}, and teach nothing. The problems have become too easy: {cure}'
  if accuracy < 0.1:
    cure = f'take easier ones, a better base model, or raise {flag("samples_per_prompt")}'
    return f'{seen}, and teach nothing. The problems are too hard: {cure}'
  cure = f'raise {flag("temperature")} or {flag("samples_per_prompt")}'
  return f'{seen}, and teach nothing. The samples of a prompt are too much alike: {cure}'


def _truncated(rows, flag) -> str | None:
  share = _mean(rows, 'truncated')
  if not share > TRUNCATED:
    return None
  cure = f'raise {flag("max_tokens")}, or leave them out by {flag("overlong")}=filter'
  return f'truncated: {share:.0%} of the samples are cut off before they answer: {cure}'


def _entropy(rows, history, flag) -> str | None:
  start, now = _mean(history[:WINDOW], 'entropy'), _mean(rows, 'entropy')
  accuracy = _mean(rows, 'accuracy')
  if len(history) < 2 * WINDOW or not now < ENTROPY_LEFT * start or not accuracy <= 0.9:
    return None
  cure = f'lower {flag("learning_rate")}, raise {flag("clip_high")} or {flag("entropy_weight")}'
  seen = f'entropy: {now:.3g} nats a token are left of {start:.3g} at the start'
  return f'{seen}; the policy hardly explores any more: {cure}'


def _kl(rows, flag) -> str | None:
  kl = _mean(rows, 'kl')
  if not kl > KL:
    return None
  cure = f'lower {flag("learning_rate")} or {flag("reference_every")}, raise {flag("kl_weight")}'
  return f'kl: the policy is {kl:.2g} nats a token away from the reference: {cure}'


def _clipped(rows, flag) -> str | None:
  share = _mean(rows, 'clip_fraction')
  if not share > CLIPPED:
    return None
  cure = f'lower {flag("learning_rate")}, {flag("inner_epochs")} or {flag("steps_per_rollout")}'
  return f'clip_fraction: {share:.0%} of the tokens are clipped; the steps are too large: {cure}'


def _gap(rows, flag) -> str | None:
  mean, most = _mean(rows, 'sampler_gap_mean'), _mean(rows, 'sampler_gap_max')
  if not (mean > GAP_MEAN or most > GAP_MAX):
    return None
  seen = f'sampler_gap: log-probabilities of sampler and trainer differ by {mean:.2g} nats'
  cure = f'compute in float32 or set {flag("sampler_correction")}=truncate'
  return f'{seen} in the mean and {most:.2g} at most; low precision is the usual cause: {cure}'


def verdicts(rates: Mapping[str, float]) -> str | None:
  """Shares of the checks' outcomes -> a warning of those that earn nothing and say nothing of the completion."""
  found, late, unreadable = [], rates['timeout'], rates['bad_gold']
  if unreadable > 0:
    seen = f'bad_gold: the reference of {unreadable:.1%} of the completions cannot be read, so they earn nothing'
    found.append(f'{seen}; `python -m r1jax.rewards FILE`, of the file of problems, names them')
  if late > TIMEOUTS:
    seen = f'timeout: {late:.1%} of the checks ran out of time, and earned nothing'
    cause = 'the machine is overloaded, or the completions are made to be slow'
    found.append(f'{seen}; {cause}: look at some')
  return '. '.join(found) or None


def _reward_hacking(rows, history) -> str | None:
  """R1 saw it when preference rewards were used for long: theirs climbed while Codeforces fell (R1, supplement)."""
  start = max(len(history) - LAG, 0)
  past = history[start : start + WINDOW]
  rise = _mean(rows, 'preference_score') - _mean(past, 'preference_score')
  fall = _mean(past, 'accuracy') - _mean(rows, 'accuracy')
  if len(history) < 2 * WINDOW or not (rise > PREFERENCE_RISEN and fall > ACCURACY_FALLEN):
    return None
  seen = f'preference_score: the reward model likes the answers better by {rise:.2g} standard deviations than'
  cure = (
    'lower --config.preference_reward.weight or .cap, or use it for fewer steps (R1: the last 400)'
  )
  return f'{seen} {len(history) - start} steps ago, yet accuracy fell by {fall:.2g}: it is being gamed; {cure}'


def _not_finite(metrics, history, flag) -> str | None:
  before = history[-1].get('skipped', 0) if history else 0
  finite = all(math.isfinite(metrics.get(name, 0.0)) for name in ('loss', 'grad_norm'))
  if finite and not metrics.get('skipped', 0) > before:
    return None
  cure = f'lower {flag("learning_rate")} or {flag("clip_norm")}'
  return f'skipped: the gradient was not finite, and the step was not taken: {cure}'
