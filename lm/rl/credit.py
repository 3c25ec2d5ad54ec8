"""Who gets the credit: from the rewards of rollouts to the arrays that the objective reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.objectives.advantages import gae, group_advantages, token_rewards, token_weights, whiten
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.practice import PracticeConfig
from lm.rl.batch import Placed, spread
from lm.rl.rollout import Rollout
from lm.stage import HostBatch

PerToken = Sequence[Any]  # of each rollout, a number for each token after its prompt: an array, or a list


def credit(
    batch: HostBatch,
    placed: Sequence[Placed],
    rollouts: Sequence[Rollout],
    practice: PracticeConfig,
    objective: PolicyGradientConfig,
    *,
    kl_coefficient: float,
    old: PerToken | None = None,
    reference: PerToken | None = None,
    values: PerToken | None = None,
    teacher: PerToken | None = None,
) -> HostBatch:
    """What `policy_gradient` reads besides the rows of `pack`, float32 (B, T); a new loss_mask bool (B, T) too.

    The rollouts of a group stand next to each other, `practice.samples` of them. `old` and `reference` are log p, nats, by the
    policy before the first update on these rollouts and by the model that the run began with; `values` the scalar head's;
    `teacher` log p by the teacher, which needs `old`. `kl_coefficient` is what KL costs in the reward (kl_form=reward_k1).
    """
    trained = [np.array(each.drawn) & (practice.cut_off != "masked" or not each.cut_off) for each in rollouts]
    lengths = np.array([each.sum() for each in trained])
    groups = np.arange(len(rollouts)) // practice.samples
    rewards = np.array([each.reward for each in rollouts])
    sampler = [np.array(each.sampler_log_probs) for each in rollouts]
    kl = [np.zeros(len(each.tokens)) for each in rollouts]
    if kl_coefficient and objective.kl_form == "reward_k1":
        assert reference is not None  # `check_experiment` has seen to it
        kl = [
            np.where(each.drawn, np.subtract(now, before), 0.0)
            for each, now, before in zip(rollouts, old or sampler, reference, strict=True)
        ]
    extra: HostBatch = {}
    advantages: Sequence[np.ndarray] | Sequence[float]
    if objective.advantage == "gae":
        assert values is not None  # the caller has asked for them
        estimates = [
            gae(token_rewards(r, each, of, kl_coefficient), np.asarray(v), each, objective.gamma, objective.gae_lambda)
            for r, each, of, v in zip(rewards, trained, kl, values, strict=True)
        ]
        advantages = whiten([a for a, _ in estimates], trained, objective.std_ddof, objective.std_epsilon)
        extra["values_old"] = spread(batch, placed, values)
        extra["returns"] = spread(batch, placed, [returns for _, returns in estimates])
    elif objective.advantage == "teacher":
        assert teacher is not None  # the caller has asked for both
        assert old is not None
        advantages = [np.subtract(its, mine) for its, mine in zip(teacher, old, strict=True)]
    else:
        shaped = rewards - kl_coefficient * np.array([each.sum() for each in kl])
        kind, ddof, epsilon = objective.advantage, objective.std_ddof, objective.std_epsilon
        advantages = group_advantages(shaped, groups, kind, ddof, epsilon).tolist()
    rows = len(batch["tokens"])
    weights = rows * token_weights(lengths, groups, objective.normaliser, practice.tokens)
    share = rows / max(lengths.sum(), 1)
    mask = spread(batch, placed, trained) > 0
    arrays = {
        "advantages": advantages,
        "weights": weights.tolist(),
        "sampler_log_probs": sampler,
        **({} if old is None else {"old_log_probs": old}),
        **({} if reference is None else {"reference_log_probs": reference}),
    }
    spreaded = {name: spread(batch, placed, each) for name, each in arrays.items()}
    return {"loss_mask": mask, "shares": np.float32(share) * mask, **spreaded, **extra}
