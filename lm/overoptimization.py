"""How far a reward model can be pleased before the taste that it stands for turns away: the curves of arXiv 2210.10760.

With d the square root of KL(policy, reference) in nats a response, and gold the gain over the reference:

    best of n     gold(d) = d (a - b d)          KL of the best of n: log n - (n - 1) / n, at most
    RL            gold(d) = d (a - b log d)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


RL, BEST = "RL", "best of n"
PATIENCE = 2  # evaluations, where it is told where a run would have been stopped


@dataclass(frozen=True)
class Trajectory:
    """How one way of pleasing one reward model went: points in the order of their distance."""

    reward_model: str
    way: str  # RL | best of n
    kl: list[float]  # nats a response
    reward: list[float]  # the proxy's, less what it was at first
    gold: list[float]  # the rater's, less what it was at first


@dataclass(frozen=True)
class Curve:
    """gold(d) = d (a - b d), or, where `logarithmic`, d (a - b log d)."""

    a: float
    b: float
    logarithmic: bool

    def __call__(self, d: Any) -> Array:
        """The gain at each distance, 0 at 0."""
        d = np.asarray(d, np.float64)
        return d * self.a - self.b * d * _bend(d, self.logarithmic)


def fit_curve(distances: Sequence[float], gains: Sequence[float], *, logarithmic: bool) -> Curve | None:
    """The least-squares curve; None where fewer than two distances tell a from b."""
    d, y = np.asarray(distances, np.float64), np.asarray(gains, np.float64)
    columns = np.stack([d, -d * _bend(d, logarithmic)], axis=1)
    if np.linalg.matrix_rank(columns) < 2:
        return None
    (a, b), *_ = np.linalg.lstsq(columns, y)
    return Curve(float(a), float(b), logarithmic)


def _bend(d: Array, logarithmic: bool) -> Array:
    return np.log(np.where(d > 0, d, 1.0)) if logarithmic else d


def kl_of_best(n: int) -> float:
    """KL of the best of n samples to one sample, nats, if no two are equally good (else it is less): arXiv 2009.01325."""
    return math.log(n) - (n - 1) / n


def mean_of_best(k: int, chosen_by: Array, values: Array) -> float:
    """The mean of `values` (P, n) of the best of k samples by `chosen_by` (P, n), over all choices of k of the n samples.

    The sample of rank i (0 is the lowest) is the best of C(i, k - 1) of the C(n, k) choices. Equal ones share their chances.
    """
    n = chosen_by.shape[1]
    chance = np.array([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)])
    total = 0.0
    for by, value in zip(chosen_by, values, strict=True):
        order = np.argsort(by, kind="stable")
        _, group = np.unique(by[order], return_inverse=True)
        shared = np.bincount(group, chance) / np.bincount(group)
        total += float(value[order] @ shared[group])
    return total / len(values)


def patient_stop(scores: Sequence[float], patience: int) -> int:
    """The place at which evaluation stops a run: `patience` evaluations in a row are no better than the best before them."""
    best, since = -math.inf, 0
    for place, score in enumerate(scores):
        best, since = (score, 0) if score > best else (best, since + 1)
        if since >= patience:
            return place
    return len(scores) - 1
