"""From rewards to advantages and weights, on the host: pure functions of float64 numpy arrays.

N sequences are sampled, several for each prompt: a group. `groups` int (N,) names the group of each; the members of a group
need not stand next to each other.
"""

from collections.abc import Sequence

import numpy as np

ADVANTAGES = ("reward", "centred", "leave_one_out", "standardised", "whitened", "gae", "teacher")
NORMALISERS = ("tokens", "sequences", "prompts", "constant")


def group_advantages(
    rewards: np.ndarray, groups: np.ndarray, kind: str, ddof: int = 1, epsilon: float = 1e-6
) -> np.ndarray:
    """The advantage of each sequence, float64 (N,), from its reward (N,).

    With r a reward, of a group of G with mean m:

    - "reward": r
    - "centred": r - m (Dr. GRPO, arXiv 2503.20783)
    - "leave_one_out": r - the mean of the others = G / (G - 1) (r - m) (RLOO, arXiv 2402.14740)
    - "standardised": (r - m) / (s + epsilon), s the group's standard deviation (GRPO, arXiv 2402.03300). The paper does not
      say which: with `ddof` 1 the sum of squares is divided by G - 1 (TRL, epsilon 1e-4; verl and tunix, 1e-6), with 0 by G
      (open-instruct, 1e-8). Beware: crumbs of reward, all 0.01 but one 0.05, then weigh as much as all 0 but one 1.
    - "whitened": (r - m) / (S + epsilon), S the standard deviation of all r - m, counted once a sequence (REINFORCE++'s
      baseline variant, arXiv 2501.03262; OpenRLHF counts it once a token, and takes the mean off again).

    But for "reward", a group whose rewards are all equal has advantages of exactly 0, and so has a group of one.
    """
    rewards = np.asarray(rewards, np.float64)
    if kind == "reward" or not len(rewards):
        return rewards
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    centred = rewards - (np.bincount(index, rewards) / sizes)[index]
    centred[~has_signal(rewards, groups)] = 0.0  # not the rounding error of a mean
    size = sizes[index]
    match kind:
        case "centred":
            return centred
        case "leave_one_out":
            return centred * size / np.maximum(size - 1, 1)
        case "standardised":
            stds = np.sqrt(np.bincount(index, centred**2)[index] / np.maximum(size - ddof, 1))
            return centred / (stds + epsilon)
        case "whitened":
            std = np.sqrt(np.sum(centred**2) / max(len(centred) - ddof, 1))
            return centred / (std + epsilon)
    raise ValueError(f"{kind!r} is no advantage of groups")


def has_signal(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """bool (N,): whether the rewards (N,) of its group differ. DAPO samples again for those where they do not."""
    _, index = np.unique(groups, return_inverse=True)
    lowest, highest = np.full(index.max(initial=-1) + 1, np.inf), np.full(index.max(initial=-1) + 1, -np.inf)
    np.minimum.at(lowest, index, rewards)
    np.maximum.at(highest, index, rewards)
    return (highest > lowest)[index]


def token_weights(lengths: np.ndarray, groups: np.ndarray, normaliser: str, max_tokens: int) -> np.ndarray:
    """The weight in the loss of each trained token of a sequence, float64 (N,), from how many it has: lengths int (N,).

    Over all N sequences of an update, whatever parts it is taken in. Times the rows of the batch, these are its `weights`.

    - "tokens": 1 / all trained tokens. All tokens weigh the same. DAPO as verl and OpenRLHF have it; TRL's "bnpo" and nanochat
      take this mean over each micro-batch, which makes the gradient depend on how the batch was cut.
    - "sequences": 1 / (N length). All sequences weigh the same: a token of a long one less (GRPO).
    - "prompts": 1 / (number of groups x trained tokens of the group). All prompts weigh the same: the formula of DAPO's paper
      (arXiv 2503.14476) and of CISPO's.
    - "constant": 1 / (N max_tokens), max_tokens being the longest a sequence may be (Dr. GRPO; verl's default in its place is
      the width that the batch was padded to, which changes from batch to batch).

    Sequences without a trained token count among the N, as in TRL, and have the weight 0.
    """
    lengths = np.asarray(lengths, np.float64)
    _, index = np.unique(groups, return_inverse=True)
    match normaliser:
        case "tokens":
            divisor = np.full(len(lengths), lengths.sum())
        case "sequences":
            divisor = len(lengths) * lengths
        case "prompts":
            divisor = (index.max(initial=-1) + 1) * np.bincount(index, lengths)[index]
        case "constant":
            divisor = np.full(len(lengths), float(len(lengths) * max_tokens))
        case _:
            raise ValueError(f"{normaliser!r} is no normaliser")
    return np.where(lengths > 0, 1.0 / np.maximum(divisor, 1.0), 0.0)


def token_rewards(reward: float, drawn: np.ndarray, kl: np.ndarray, coefficient: float) -> np.ndarray:
    """The rewards of a sequence by token, float64 (T,), for `gae`.

    -coefficient x kl (T,) at each token that the policy drew, with kl = log p - log reference (k1, a mere number), and
    besides it `reward` at the last of them. drawn bool (T,).
    """
    rewards = np.where(drawn, -coefficient * np.asarray(kl, np.float64), 0.0)
    rewards[np.flatnonzero(drawn)[-1:]] += reward
    return rewards


def gae(
    rewards: np.ndarray, values: np.ndarray, drawn: np.ndarray, gamma: float, lam: float
) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimates of one sequence and what its values should have been: two float64 (T,).

    A[t] = delta[t] + gamma lam A[t + 1], delta[t] = rewards[t] + gamma V[t + 1] - V[t] (arXiv 1506.02438), over the tokens
    that the policy drew (bool (T,)), as if those of tools between them were not there; both results are 0 at those. values
    (T,): V[t] is what was expected before token t was drawn; after the last one it is 0. The second result is A + V.
    """
    at = np.flatnonzero(drawn)
    v = np.append(np.asarray(values, np.float64)[at], 0.0)
    delta = np.asarray(rewards, np.float64)[at] + gamma * v[1:] - v[:-1]
    advantages, returns = np.zeros(len(drawn)), np.zeros(len(drawn))
    later = 0.0
    for i in reversed(range(len(at))):
        later = delta[i] + gamma * lam * later
        advantages[at[i]], returns[at[i]] = later, later + v[i]
    return advantages, returns


def whiten(
    advantages: Sequence[np.ndarray], drawn: Sequence[np.ndarray], ddof: int = 1, epsilon: float = 1e-6
) -> list[np.ndarray]:
    """Advantages by token with mean 0 and standard deviation 1 over the drawn tokens of all N sequences: lists of (T,).

    PPO's usual last step; TRL and verl have `ddof` 1 and put an epsilon (1e-8) under the root instead of beside it.
    """
    kept = np.concatenate([np.zeros(0), *(each[mask] for each, mask in zip(advantages, drawn, strict=True))])
    if not len(kept):
        return list(advantages)
    std = np.sqrt(np.sum((kept - kept.mean()) ** 2) / max(len(kept) - ddof, 1))
    return [
        np.where(mask, (each - kept.mean()) / (std + epsilon), 0.0)
        for each, mask in zip(advantages, drawn, strict=True)
    ]
