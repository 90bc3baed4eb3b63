"""Rewards -> advantages, on the host: the group, or the batch, is the baseline. float64 inside, float32 out."""

import numpy as np

KINDS = ('group', 'group_mean', 'leave_one_out', 'batch', 'group_then_batch')

_GROUP_EPSILON = 1e-4  # TRL's; the papers print none
_BATCH_EPSILON = 1e-8


def advantages(
  rewards: np.ndarray,
  kind: str,
  *,
  kl: np.ndarray | None = None,
  length: np.ndarray | None = None,
) -> np.ndarray:
  """rewards [P, G] -> advantages [P, G, 1], one a sequence, or [P, G, Tc] where tokens differ.

    group             (r - mean) / (std + 1e-4) of the group, std with G - 1   GRPO (DeepSeekMath, 4.1)
    group_mean        r - mean of the group                                    Dr.GRPO (3.2)
    leave_one_out     r - mean of the others of the group                      RLOO (Ahmadian et al., 2024)
    batch             reward-to-go, whitened over the batch's tokens           REINFORCE++ (eq. 8-10)
    group_then_batch  group_mean, whitened over the batch's tokens             REINFORCE++ with baseline

  kl [P, G, Tc]: a penalty a token, weight included (`weight * k1(...)`). `batch` takes it where it arises; the
  others subtract its sum from the sequence's reward. length [P, G]: learned tokens, for the last two kinds.

  A group of equal rewards gives exactly 0, but for `batch`, which knows no groups. (Whitening alone would give it what
  it subtracts, since long sequences weigh more than short ones.)
  Raises ValueError for an unknown kind, a group of one where the group is the baseline, or no length.
  """
  if kind not in KINDS:
    raise ValueError(f'advantage={kind!r} is not possible; valid: {", ".join(KINDS)}')
  if kind != 'batch' and rewards.shape[1] < 2:
    raise ValueError(f'group={rewards.shape[1]} is not possible; valid: 2 or more ({kind})')
  if kind in ('batch', 'group_then_batch') and length is None:
    raise ValueError(f'advantage={kind!r} needs the length of every sequence')
  rewards = np.asarray(rewards, np.float64)
  if kind == 'batch':
    return _whiten(_reward_to_go(rewards, kl), length).astype(np.float32)
  rewards = rewards if kl is None else rewards - np.sum(kl, axis=-1, dtype=np.float64)
  centred = _centre(rewards)
  if kind == 'group_then_batch':
    varied = group_variance(rewards)[:, None, None]
    return np.where(varied, _whiten(centred[..., None], length), 0.0).astype(np.float32)
  group = rewards.shape[1]
  if kind == 'group':
    centred = centred / (centred.std(axis=1, ddof=1, keepdims=True) + _GROUP_EPSILON)
  elif kind == 'leave_one_out':
    centred = centred * (group / (group - 1))
  return centred[..., None].astype(np.float32)


def k1(old_logprob: np.ndarray, reference_logprob: np.ndarray, length: np.ndarray) -> np.ndarray:
  """log pi_old - log pi_ref [P, G, Tc], 0 from `length` [P, G] on: the KL estimate that belongs in a reward.

  Its mean is the KL divergence, and as a loss it is of no use: the gradient does not know the reference.
  """
  learned = _learned(length, np.shape(old_logprob)[-1])
  out = np.zeros(learned.shape)
  return np.subtract(old_logprob, reference_logprob, out=out, where=learned, dtype=np.float64)


def group_variance(rewards: np.ndarray) -> np.ndarray:
  """rewards [P, G] -> bool [P]: whether the group teaches anything, its rewards not being all equal."""
  return (rewards != rewards[:, :1]).any(axis=1)


def overlong_penalty(length: np.ndarray, max_tokens: int, buffer: int) -> np.ndarray:
  """Tokens of a completion, any shape -> what is added to its reward (DAPO, 3.4).

  0 up to max_tokens - buffer, from there down in a line to -1 at max_tokens. DAPO: 20480 and 4096.
  Raises ValueError unless 0 < buffer <= max_tokens.
  """
  if not 0 < buffer <= max_tokens:
    raise ValueError(f'buffer={buffer} is not possible; valid: 1 to {max_tokens} tokens')
  over = np.asarray(length, np.float64) - (max_tokens - buffer)
  return -np.clip(over / buffer, 0.0, 1.0).astype(np.float32)


def _centre(rewards: np.ndarray) -> np.ndarray:
  """[P, G] -> minus the group's mean. Equal rewards give exactly 0, though their mean may be rounded."""
  shifted = rewards - rewards[:, :1]
  return shifted - shifted.mean(axis=1, keepdims=True)


def _reward_to_go(rewards: np.ndarray, kl: np.ndarray | None) -> np.ndarray:
  """rewards [P, G], paid at the last token; kl [P, G, Tc] -> r - sum of kl from this token on [P, G, Tc or 1]."""
  if kl is None:
    return rewards[..., None]
  return rewards[..., None] - np.cumsum(np.asarray(kl, np.float64)[..., ::-1], axis=-1)[..., ::-1]


def _whiten(values: np.ndarray, length: np.ndarray) -> np.ndarray:
  """values [P, G, Tc or 1] -> mean 0 and variance 1 over all learned tokens, 0 where nothing is learned."""
  per_token = values.shape[-1] > 1
  weight = _learned(length, values.shape[-1]) if per_token else np.asarray(length)[..., None]
  live = weight > 0
  if not live.any():
    return np.zeros_like(values)
  values = np.where(live, values - values[live][0], 0.0)  # equal values: exactly 0
  centred = values - np.average(values, weights=weight)
  std = np.sqrt(np.average(centred**2, weights=weight))
  return np.where(live, centred / (std + _BATCH_EPSILON), 0.0)


def _learned(length: np.ndarray, tokens: int) -> np.ndarray:
  """length [P, G] -> bool [P, G, Tc]."""
  return np.arange(tokens) < np.asarray(length)[..., None]
