"""How well scores order responses as people did: on the host, from scores and ranks."""

from collections.abc import Sequence

import numpy as np

BINS = 10


def measured(
    scores: Sequence[np.ndarray], ranks: Sequence[np.ndarray], lengths: Sequence[np.ndarray]
) -> dict[str, float]:
    """Metrics of scores float (K,) of each ranking, given ranks int (K,), -1 where not ranked, and lengths (K,) in tokens.

    Rankings weigh the same in all that are means over pairs; equal scores are half right.

    - pair_accuracy: the share of pairs that the scores order as the ranking does
    - pairs.near.right, pairs.far.right: of pairs of neighbouring ranks, and of the others
    - pairs.better_shorter.right, pairs.better_longer.right: of pairs in which the better one is the shorter, or the longer; if
      they are far apart, the model goes by length
    - rank_correlation: Kendall's tau-a over the pairs that the ranking orders
    - calibration_error: the mean distance, over ten bins, of sigmoid(score difference) from how often it was right
    - score_mean, score_std: over all ranked responses
    """
    right, weight, near, longer, chance = [], [], [], [], []
    for s, rank, length in zip(scores, ranks, lengths, strict=True):
        better, worse = np.nonzero((rank[:, None] >= 0) & (rank[None, :] >= 0) & (rank[:, None] < rank[None, :]))
        if not len(better):
            continue
        difference = np.asarray(s, np.float64)[better] - np.asarray(s, np.float64)[worse]
        right += (0.5 * (1 + np.sign(difference))).tolist()
        chance += (1 / (1 + np.exp(-np.clip(difference, -50, 50)))).tolist()
        weight += [1 / len(better)] * len(better)
        places = np.unique(rank[rank >= 0], return_inverse=True)[1]
        place = np.full(len(rank), -1)
        place[rank >= 0] = places
        near += (place[worse] - place[better] == 1).tolist()
        longer += np.sign(length[better] - length[worse]).tolist()
    if not right:
        return {}
    r, w, n, far, p = np.array(right), np.array(weight), np.array(near), ~np.array(near), np.array(chance)
    by_length = np.array(longer)

    def accuracy(kept: np.ndarray) -> float:
        return float(np.sum((r * w)[kept]) / np.sum(w[kept]))

    kinds = {"near": n, "far": far, "better_shorter": by_length < 0, "better_longer": by_length > 0}
    whole = accuracy(np.ones(len(r), bool))
    every = np.concatenate([s[rank >= 0] for s, rank in zip(scores, ranks, strict=True)])
    return {
        "pair_accuracy": whole,
        **{f"pairs.{name}.right": accuracy(kept) for name, kept in kinds.items() if kept.any()},
        "rank_correlation": 2 * whole - 1,
        "calibration_error": _calibration_error(p, w),
        "score_mean": float(every.mean()),
        "score_std": float(every.std()),
    }


def _calibration_error(chance: np.ndarray, weight: np.ndarray) -> float:
    """Each pair is looked at from its likelier side: how often it is right, against how sure the scores are."""
    sure, right = np.maximum(chance, 1 - chance), np.where(chance == 0.5, 0.5, chance > 0.5)
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    total = np.bincount(bins, weight, BINS)
    apart = np.abs(np.bincount(bins, weight * sure, BINS) - np.bincount(bins, weight * right, BINS))
    return float(apart[total > 0].sum() / total.sum())
