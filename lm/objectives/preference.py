"""Preferences: give a response that someone likes better a higher score. Reward models, and policies without one (DPO).

One loss over the rankings of a batch, of two named parts:

- the scores s of the responses: what a reward model's head says at their ends, or beta (log pi - log reference) of a policy,
  which is the reward that this policy would be the best for (arXiv 2305.18290)
- the loss of the scores of one ranking, see `ranking_loss`

Rankings weigh the same however many responses they have. All responses of a ranking lie in one row: so the loss is the same
however the batch is cut into parts, permuted, padded, or laid on devices (but for "prospect", whose baseline is a part's).
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer
from lm.objectives.log_probs import token_log_probs

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
SCORES = ("head", "log_ratio")
LOSSES = ("bradley_terry", "plackett_luce", "squared", "prospect")
ANOTHER = -2  # the rank of a response to another prompt, which only "prospect" looks at


@dataclass
class PreferenceConfig:
    """The parts of the loss; `preference_preset` gives those of a published method."""

    scores: str = "head"  # head: of a reward model, which needs model.scalar_head | log_ratio: of a policy
    loss: str = "bradley_terry"  # bradley_terry | plackett_luce | squared | prospect
    beta: float = 0.1  # of log_ratio: how dear it is to leave the reference
    per_token: bool = False  # log_ratio is a mean over the tokens of a response, not their sum
    ties: float = 0.0  # weight of a pair that ties, beside 1 for one that does not: its scores should be equal
    margin: float = 0.0  # by how much a better one's score should be higher, for each rank between (arXiv 2307.09288)
    smoothing: float = 0.0  # share of pairs taken to be said the wrong way round
    centre: float = 0.0  # weight of the square of the two scores' sum, which keeps them around 0 (arXiv 2312.09244)
    desired: float = 1.0  # weight of responses above the middle of their ranking, in prospect
    undesired: float = 1.0  # and of those below
    chunk: int = 128  # positions of each row whose logits are held at a time


PRESETS = {
    "bradley_terry": PreferenceConfig(),  # all pairs, 1 / C(K, 2) each (arXiv 2203.02155)
    "plackett_luce": PreferenceConfig(loss="plackett_luce"),
    "dpo": PreferenceConfig("log_ratio"),  # arXiv 2305.18290
    "ipo": PreferenceConfig("log_ratio", "squared"),  # arXiv 2310.12036
    "kto": PreferenceConfig("log_ratio", "prospect"),  # arXiv 2402.01306
}


def preference_preset(name: str) -> PreferenceConfig:
    """The parts of a method by name. Raises `UserError` for a name that is none."""
    if name not in PRESETS:
        raise UserError(f"method {name!r}: choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name])


def check_preference(config: PreferenceConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    for name, choices in (("scores", SCORES), ("loss", LOSSES)):
        if getattr(config, name) not in choices:
            raise UserError(f"objective.{name}={getattr(config, name)!r}: choose one of {', '.join(choices)}")
    for name in ("ties", "margin", "centre", "desired", "undesired"):
        if not getattr(config, name) >= 0:
            raise UserError(f"objective.{name}={getattr(config, name)}: must not be negative")
    if not config.beta > 0:
        raise UserError(f"objective.beta={config.beta}: must be above 0")
    if not 0 <= config.smoothing < 0.5:
        raise UserError(f"objective.smoothing={config.smoothing}: must be at least 0 and below 0.5")
    if config.loss in ("squared", "prospect") and config.scores == "head":
        raise UserError(f"objective.loss={config.loss}: it is for policies; set objective.scores=log_ratio")
    used = {"bradley_terry": ("ties", "margin", "smoothing", "centre")}.get(config.loss, ())
    for name in ("ties", "margin", "smoothing", "centre"):
        if getattr(config, name) and name not in used:
            raise UserError(f"objective.{name}: loss={config.loss} has none; set it to 0")
    if config.chunk < 1:
        raise UserError(f"objective.chunk={config.chunk}: must be at least 1 position")


def preference(model: Transformer, batch: Batch, config: PreferenceConfig) -> tuple[jax.Array, Metrics]:
    """The mean loss over rankings, and metrics.

    batch: tokens, labels, positions, segment_ids int32 (B, T), loss_mask bool (B, T): whether the label is a token of the
    response. A segment is a prompt with one response; R of them are in a row at most, numbered from 1. Then (B, R) of segment
    r + 1, all 0 where there is none:

    - ends int32: the position of the response's last token, the end of its turn
    - rankings int32: which ranking of the row it belongs to, from 1
    - ranks int32: its place in it, 0 the best; -1 if it was not ranked, and `ANOTHER` if it answers another prompt
    - reference float32, with scores=log_ratio: log p of the response by the reference, nats

    metrics["weight"] is the number of rankings that have a pair.
    """
    s = response_scores(model, batch, config)
    loss, weight = ranking_loss(s, batch["rankings"], batch["ranks"], config)
    better, of_ranking = ordered_pairs(batch["rankings"], batch["ranks"])
    difference = s[:, :, None] - s[:, None, :]
    share = jnp.where(better, 1.0 / jnp.maximum(of_ranking, 1.0)[:, :, None], 0.0) / jnp.maximum(weight, 1.0)
    right = jnp.where(difference > 0, 1.0, jnp.where(difference == 0, 0.5, 0.0))
    there = (batch["ranks"] >= 0) & (of_ranking > 0)
    count = jnp.maximum(jnp.sum(there), 1)
    mean = jnp.sum(jnp.where(there, s, 0.0)) / count
    metrics = {
        "weight": weight,
        "pair_accuracy": jnp.sum(share * right),
        "pair_margin": jnp.sum(share * difference),
        "score_mean": mean,
        "score_std": jnp.sqrt(jnp.sum(jnp.where(there, jnp.square(s - mean), 0.0)) / count),
    }
    return loss, metrics


def response_scores(model: Transformer, batch: Batch, config: PreferenceConfig) -> jax.Array:
    """s: float32 (B, R)."""
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    if config.scores == "head":
        at_ends = jnp.take_along_axis(hidden, batch["ends"][..., None], axis=1)
        return model.scalars(at_ends)
    log_p, _ = token_log_probs(model, hidden, batch["labels"], config.chunk)
    ratio = by_response(log_p, batch) - batch["reference"]
    if config.per_token:
        ratio = ratio / jnp.maximum(by_response(jnp.ones_like(log_p), batch), 1.0)
    return config.beta * ratio


def by_response(x: jax.Array, batch: Batch) -> jax.Array:
    """The sum of x (B, T) over the tokens of each response: (B, R)."""
    count = batch["rankings"].shape[1] + 1
    kept = jnp.where(batch["loss_mask"], x, 0.0)
    return jax.vmap(lambda row, ids: jax.ops.segment_sum(row, ids, count)[1:])(kept, batch["segment_ids"])


def ordered_pairs(rankings: jax.Array, ranks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether response i is ranked above response j: bool (B, R, R); and how many such pairs i's ranking has: float32 (B, R)."""
    same = (rankings[:, :, None] == rankings[:, None, :]) & (rankings > 0)[:, :, None]
    judged = (ranks >= 0)[:, :, None] & (ranks >= 0)[:, None, :]
    better = same & judged & (ranks[:, :, None] < ranks[:, None, :])
    return better, _in_ranking(jnp.sum(better, axis=2), same)


def ranking_loss(
    s: jax.Array, rankings: jax.Array, ranks: jax.Array, config: PreferenceConfig
) -> tuple[jax.Array, jax.Array]:
    """The mean over rankings of the loss of their scores s (B, R), and how many rankings have one.

    With i ranked above j, in the ranking of K:

    - "bradley_terry": -log sigmoid(s_i - s_j - margin (rank_j - rank_i)), mean over pairs (arXiv 2203.02155). Beside it
      `smoothing` of the same the other way round; a tie counts as half a pair each way.
    - "plackett_luce": -log (exp s_i / sum of exp s over i and all that are not above it), mean over all but the last. With
      K = 2 it is the one above. Ties are taken as Breslow does: each against all that are not above it.
    - "squared": (log-ratio_i - log-ratio_j - 1 / (2 beta))^2, the log-ratios without beta, mean over pairs (IPO; TRL has
      `per_token` with it).
    - "prospect": 1 - sigmoid(s_i - z) for a response above the mean rank of its ranking and 1 - sigmoid(z - s_i) for one below,
      weighted by `desired` and `undesired`, mean over these responses (KTO). z is the mean score of responses to other prompts in
      this part of the batch, at least 0 and without a gradient.
    """
    better, of_ranking = ordered_pairs(rankings, ranks)
    same = (rankings[:, :, None] == rankings[:, None, :]) & (rankings > 0)[:, :, None]
    has_pair = of_ranking > 0
    difference = s[:, :, None] - s[:, None, :]
    if config.loss == "bradley_terry":
        apart = config.margin * (ranks[:, None, :] - ranks[:, :, None])
        each = -(1 - config.smoothing) * jax.nn.log_sigmoid(difference - apart)
        if config.smoothing:
            each -= config.smoothing * jax.nn.log_sigmoid(apart - difference)
        size = of_ranking
        pair_weights = better.astype(jnp.float32)
        if config.ties:
            # Both (i, j) and (j, i) are here: half of each way.
            tie = same & (ranks >= 0)[:, :, None] & (ranks[:, :, None] == ranks[:, None, :])
            tie = tie & ~jnp.eye(s.shape[1], dtype=bool)
            pair_weights += 0.5 * config.ties * tie
            size = _in_ranking(jnp.sum(pair_weights, axis=2), same)
            has_pair = size > 0
        if config.centre:
            each += config.centre * jnp.square(s[:, :, None] + s[:, None, :])
        return _mean(jnp.sum(pair_weights * each, axis=2), size, has_pair, same)
    if config.loss == "squared":
        each = jnp.square(difference / config.beta - 1 / (2 * config.beta))
        return _mean(jnp.sum(better * each, axis=2), of_ranking, has_pair, same)
    judged = (ranks >= 0) & has_pair
    if config.loss == "plackett_luce":
        below = same & (ranks >= 0)[:, None, :] & (ranks[:, None, :] >= ranks[:, :, None])
        below |= jnp.eye(s.shape[1], dtype=bool)  # so that no sum is empty
        first = jnp.any(better, axis=2)  # the last has nothing left to be chosen from
        rest = jax.nn.logsumexp(jnp.where(below, s[:, None, :], -1e30), axis=2)
        each = jnp.where(first, rest - s, 0.0)
        return _mean(each, _in_ranking(first, same), has_pair, same)
    other = ranks == ANOTHER
    z = jnp.maximum(jnp.sum(jnp.where(other, s, 0.0)) / jnp.maximum(jnp.sum(other), 1), 0.0)
    z = jax.lax.stop_gradient(z)
    middle = _in_ranking(jnp.where(judged, ranks, 0), same) / jnp.maximum(_in_ranking(judged, same), 1)
    liked, disliked = judged & (ranks < middle), judged & (ranks > middle)
    each = jnp.where(liked, config.desired * jax.nn.sigmoid(z - s), 0.0)
    each += jnp.where(disliked, config.undesired * jax.nn.sigmoid(s - z), 0.0)
    return _mean(each, _in_ranking(liked | disliked, same), has_pair, same)


def _in_ranking(x: jax.Array, same: jax.Array) -> jax.Array:
    """The sum of x (B, R) over each response's ranking, float32 (B, R)."""
    return jnp.einsum("bij,bj->bi", same.astype(jnp.float32), x.astype(jnp.float32))


def _mean(each: jax.Array, size: jax.Array, there: jax.Array, same: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean over rankings of the mean over their `size` terms, summed up by response in `each`; all (B, R)."""
    members = _in_ranking(jnp.ones_like(size), same)
    count = jnp.sum(jnp.where(there, 1.0 / jnp.maximum(members, 1.0), 0.0))
    total = jnp.sum(jnp.where(there, each / jnp.where(size > 0, size, 1.0), 0.0))
    return total / jnp.maximum(jnp.round(count), 1.0), jnp.round(count)
