"""Policy gradient: make what the policy wrote likelier where its advantage is positive, and less likely where it is not.

One formula. Every token that the policy drew adds to the loss

    weight x ( w x (surrogate + kl x KL) - entropy x H + value x value_loss )

and an algorithm is a triple of named parts:

- the advantage A, from rewards: `lm.objectives.advantages.group_advantages` and `gae`; or "teacher", from no reward: at each
  token log p of a teacher - log p of the policy. Its mean gradient, drawn from the policy, is that of KL(policy, teacher) at
  each token by itself: on-policy distillation (arXiv 2306.13649, 2306.08543)
- the surrogate, a function of log p and A whose gradient at the first update is -A grad log p (see `surrogate`)
- the normaliser, the weight of each token: `lm.objectives.advantages.token_weights`

The first and the last are computed on the host, from a whole update's sequences, and arrive in the batch: so the gradient is
the same however the batch is cut into micro-batches, packed into rows, padded, or laid on devices.

w = min(old p / sampler p, importance_cap), a mere number, corrects for a sampler that computes other probabilities than the
trainer: in another precision, by another program, a step behind (truncated importance sampling; Ionides, 2008).
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer
from lm.objectives.advantages import ADVANTAGES, NORMALISERS
from lm.objectives.kl import FORMS, estimates, kl_in_loss, ratio_of
from lm.objectives.log_probs import token_log_probs_and_entropy

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
SURROGATES = ("log_prob", "token_ratio", "sequence_ratio", "sequence_mean_ratio", "capped_ratio")


@dataclass
class PolicyGradientConfig:
    """The parts of the formula; `preset` gives those of a published algorithm."""

    advantage: str = "centred"  # reward | centred | leave_one_out | standardised | whitened | gae | teacher
    surrogate: str = "token_ratio"  # log_prob | token_ratio | sequence_ratio | sequence_mean_ratio | capped_ratio
    normaliser: str = "tokens"  # tokens | sequences | prompts | constant

    std_ddof: int = 1  # what is taken off the count in a standard deviation (standardised, whitened and gae)
    std_epsilon: float = 1e-6  # what is added to it
    clip_low: float = 0.2  # ratios count up to 1 - clip_low ...
    clip_high: float = 0.2  # ... and 1 + clip_high
    dual_clip: float = 0.0  # where A < 0, ratios above this count as this (arXiv 1912.09729); 0: they have no bound
    ratio_cap: float = (
        5.0  # of capped_ratio: the largest ratio itself (as in TRL; verl's and slime's number is this - 1)
    )
    importance_cap: float = 2.0  # of w; 0: no correction

    kl: float = 0.0  # coefficient of the divergence from the reference, the model that the run began with
    kl_form: str = "reward_k1"  # reward_k1 | loss_k2 | loss_k3 | weighted_k1 | weighted_k3: see lm/objectives/kl.py
    entropy: float = 0.0  # coefficient of the entropy, which is made larger

    # With advantage=gae; the model then needs model.scalar_head.
    value: float = 0.1  # coefficient of the value head's loss
    value_clip: float = 0.2  # how far a value may move from what it was when it was sampled; 0: any distance
    gamma: float = 1.0  # what a reward is worth a token earlier
    gae_lambda: float = 0.95

    chunk: int = 128  # positions of each row whose logits are held at a time


# (advantage, surrogate, normaliser), and numbers as published. None has a KL: a verifier's rewards need no reference.
PRESETS = {
    "reinforce": PolicyGradientConfig("centred", "log_prob", "tokens"),
    "rloo": PolicyGradientConfig("leave_one_out", "sequence_ratio", "sequences"),  # arXiv 2402.14740
    "grpo": PolicyGradientConfig("standardised", "token_ratio", "sequences"),  # arXiv 2402.03300
    "dr_grpo": PolicyGradientConfig("centred", "token_ratio", "constant"),  # arXiv 2503.20783
    "dapo": PolicyGradientConfig("standardised", "token_ratio", "tokens", clip_high=0.28),  # arXiv 2503.14476
    "gspo": PolicyGradientConfig(  # arXiv 2507.18071
        "standardised", "sequence_mean_ratio", "sequences", clip_low=3e-4, clip_high=4e-4
    ),
    "cispo": PolicyGradientConfig("standardised", "capped_ratio", "tokens"),  # arXiv 2506.13585
    "ppo": PolicyGradientConfig("gae", "token_ratio", "tokens"),  # arXiv 1707.06347
    # Next token on the tries that were right, where rewards are 0 or 1: the gradient of that, times the share of the tokens
    # that are in them (ReST, arXiv 2308.08998, with a round for every update).
    "expert_iteration": PolicyGradientConfig("reward", "log_prob", "tokens"),
}


def preset(name: str) -> PolicyGradientConfig:
    """The parts of an algorithm by name. Raises `UserError` for a name that is none."""
    if name not in PRESETS:
        raise UserError(f"algorithm {name!r}: choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name])


def check_policy_gradient(config: PolicyGradientConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    choices = {"advantage": ADVANTAGES, "surrogate": SURROGATES, "normaliser": NORMALISERS, "kl_form": FORMS}
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise UserError(f"objective.{name}={getattr(config, name)!r}: choose one of {', '.join(allowed)}")
    for name in ("std_epsilon", "clip_high", "importance_cap", "kl", "value", "value_clip"):
        if not getattr(config, name) >= 0:
            raise UserError(f"objective.{name}={getattr(config, name)}: must not be negative")
    for name in ("clip_low", "gamma", "gae_lambda"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"objective.{name}={getattr(config, name)}: must be between 0 and 1")
    if config.std_ddof not in (0, 1):
        raise UserError(f"objective.std_ddof={config.std_ddof}: must be 0 or 1")
    if config.dual_clip and not config.dual_clip > 1 + config.clip_high:
        raise UserError(f"objective.dual_clip={config.dual_clip}: must be above 1 + clip_high, or 0 for none")
    if not config.ratio_cap > 0:
        raise UserError(f"objective.ratio_cap={config.ratio_cap}: must be above 0")
    if config.chunk < 1:
        raise UserError(f"objective.chunk={config.chunk}: must be at least 1 position")


def policy_gradient(model: Transformer, batch: Batch, config: PolicyGradientConfig) -> tuple[jax.Array, Metrics]:
    """The loss of a part of an update, and metrics.

    batch: tokens, labels, positions, segment_ids int32 (B, T), loss_mask bool (B, T): whether the label is a token that the
    policy drew. A segment is one sequence with its prompt; padding is segment 0. Then float32 (B, T), read where loss_mask:

    - advantages: of the token
    - weights: of the token, times the rows of the whole update; shares: the same, if all its drawn tokens weigh alike
    - old_log_probs: nats, of the trainer's policy when it began to learn from these rollouts; left out, its own (one update)
    - sampler_log_probs: nats, as the token was drawn; left out, there is no w
    - reference_log_probs: nats; left out, there is no KL
    - values_old, returns: with advantage=gae, what the value head said then and what it should have said

    Means are sums over tokens divided by B, and metrics["weight"] is B: parts of an update so weighed add up exactly.
    """
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    log_probs, entropy = token_log_probs_and_entropy(model, hidden, batch["labels"], config.chunk, batch["loss_mask"])
    mask, rows = batch["loss_mask"], len(batch["loss_mask"])
    given = {name: jnp.where(mask, x, 0.0) for name, x in batch.items() if jnp.issubdtype(x.dtype, jnp.floating)}

    def total(name: str, x: jax.Array) -> jax.Array:
        return jnp.sum(given[name] * x) / rows

    def largest(x: jax.Array) -> jax.Array:  # of a batch taken in parts, `accumulated` gives the mean of theirs
        return jnp.max(jnp.where(mask, x, 0.0))

    def ratio_between(log_p: jax.Array, other: jax.Array) -> jax.Array:
        return ratio_of(_by_sequence(jnp.where(mask, log_p - other, 0.0), batch, config.surrogate))

    metrics = {"weight": jnp.float32(rows), "entropy": total("shares", entropy)}
    advantages, w = given["advantages"], jnp.float32(1.0)
    old = given.get("old_log_probs", jax.lax.stop_gradient(log_probs))
    if config.advantage == "teacher":
        metrics["kl_to_teacher"] = -total("shares", advantages)
    ratio = ratio_between(log_probs, old)
    if "old_log_probs" in given:
        low, high = clipped(config, ratio, advantages)
        metrics |= {"clip_fraction_low": total("shares", low), "clip_fraction_high": total("shares", high)}
        metrics |= {"ratio": total("shares", ratio), "ratio_max": largest(ratio)}
    if "sampler_log_probs" in given:
        gap = jnp.abs(old - given["sampler_log_probs"])
        w = ratio_between(old, given["sampler_log_probs"])  # neither has a gradient
        metrics |= {"sampler_gap": total("shares", gap), "sampler_gap_max": largest(gap)}
        metrics |= {"importance_weight": total("shares", w)}
        w = jnp.minimum(w, config.importance_cap) if config.importance_cap else jnp.float32(1.0)
    loss = total("weights", w * surrogate(config, ratio, log_probs, advantages))
    metrics["policy_loss"] = loss
    if "reference_log_probs" in given or config.kl:
        reference = given["reference_log_probs"]
        k1, _, k3 = estimates(log_probs, reference)
        metrics |= {"kl_to_reference": total("shares", k1), "kl_to_reference_k3": total("shares", k3)}
        if config.kl:
            of_token = ratio_of(jnp.where(mask, log_probs - old, 0.0))
            loss += config.kl * total("weights", w * kl_in_loss(config.kl_form, log_probs, reference, of_token))
    if config.entropy:
        loss -= config.entropy * total("weights", entropy)
    if config.advantage == "gae":
        value_loss = total("weights", _value_loss(model.scalars(hidden), given, config.value_clip))
        metrics["value_loss"] = value_loss
        loss += config.value * value_loss
    return loss, metrics


def surrogate(config: PolicyGradientConfig, ratio: jax.Array, log_probs: jax.Array, advantages: jax.Array) -> jax.Array:
    """What each token adds to the loss; all are (B, T).

    With C the ratio clipped to [1 - clip_low, 1 + clip_high]:

    - "log_prob": -A log p (REINFORCE). It assumes that the policy is the one that sampled.
    - "token_ratio": max(-ratio A, -C A), the ratio being p / old p of the token (PPO).
    - "sequence_ratio": the same with the ratio of the whole sequence, the product of its tokens' (RLOO).
    - "sequence_mean_ratio": the same with their geometric mean (GSPO). Its gradient is a token's share, 1 / length, of the
      former's.
    - "capped_ratio": -min(ratio, ratio_cap) A log p, the ratio a mere number: no token loses its gradient (CISPO).

    The two of sequences have one value a sequence, which stands at each of its tokens: the normaliser "sequences" makes of
    it a mean over sequences.
    """
    if config.surrogate == "log_prob":
        return -advantages * log_probs
    if config.surrogate == "capped_ratio":
        return -jax.lax.stop_gradient(jnp.minimum(ratio, config.ratio_cap)) * advantages * log_probs
    clipped = jnp.clip(ratio, 1 - config.clip_low, 1 + config.clip_high)
    loss = jnp.maximum(-ratio * advantages, -clipped * advantages)
    if config.dual_clip:
        loss = jnp.where(advantages < 0, jnp.minimum(loss, -config.dual_clip * advantages), loss)
    return loss


def clipped(config: PolicyGradientConfig, ratio: jax.Array, advantages: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a ratio is so low, and where it is so high, that a bound of `surrogate` holds it: two bool (B, T)."""
    if config.surrogate == "log_prob":
        return jnp.zeros_like(ratio, bool), jnp.zeros_like(ratio, bool)
    if config.surrogate == "capped_ratio":
        return jnp.zeros_like(ratio, bool), ratio > config.ratio_cap
    high = (advantages > 0) & (ratio > 1 + config.clip_high)
    if config.dual_clip:
        high |= (advantages < 0) & (ratio > config.dual_clip)
    return (advantages < 0) & (ratio < 1 - config.clip_low), high


def _by_sequence(log_ratio: jax.Array, batch: Batch, surrogate: str) -> jax.Array:
    """Each token's log ratio (B, T), 0 where none was drawn, or its sequence's sum or mean of them: as the surrogate has it."""
    if surrogate not in ("sequence_ratio", "sequence_mean_ratio"):
        return log_ratio
    count = log_ratio.shape[1] + 1  # segments of a row are numbered from 1, and a token long at least

    def sums(x: jax.Array) -> jax.Array:
        return jax.vmap(lambda row, ids: jax.ops.segment_sum(row, ids, count)[ids])(x, batch["segment_ids"])

    if surrogate == "sequence_ratio":
        return sums(log_ratio)
    return sums(log_ratio) / jnp.maximum(sums(batch["loss_mask"].astype(jnp.float32)), 1.0)


def _value_loss(values: jax.Array, batch: Batch, clip: float) -> jax.Array:
    """Half the squared error of each value (B, T), or of the value within `clip` of the old one where that is worse."""
    error = jnp.square(values - batch["returns"])
    if clip:
        near = batch["values_old"] + jnp.clip(values - batch["values_old"], -clip, clip)
        error = jnp.maximum(error, jnp.square(near - batch["returns"]))
    return error / 2
