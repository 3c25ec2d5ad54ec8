"""Who answers better? Ratings out of votes between two answers, with intervals (map row 28).

    P(left is preferred) = sigmoid(r_left - r_right + a + b z)                      (Bradley and Terry 1952; arXiv 2403.04132)

r are the ratings, fitted by maximum likelihood; a tie is half a win for each. a is what standing on the left is worth. z is how
much longer the left answer is, over the root mean square of that among all votes; with b fitted, r is what is not length
(arXiv 2404.04475; Chatbot Arena calls it style control). Ratings are shown on Elo's scale: 400 points are odds of ten to one.

Votes on one prompt are not independent, least of all the two orders of one pair, so the intervals are of prompts drawn again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from data_pipeline.errors import UserError

Array = np.ndarray[Any, np.dtype[Any]]
Outcome = Literal["left", "right", "tie", "both_bad"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
POINTS: dict[Outcome, float] = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}  # of the left one

SCALE = 400 / math.log(10)  # points in a nat
LEVEL = 1000.0  # of the anchor
# A tiny penalty on squares (nats): RIDGE / 2 * sum of r^2, a^2 and b^2. It keeps what wins or loses every vote finite, at a
# place that says nothing; two models with 14 votes to 6 move by less than a tenth of a point.
RIDGE = 1e-3
STEPS = 100  # of Newton's method, which needs about ten
PRECISE = 1e-9  # nats
AT_ONCE = 2_000_000  # votes times resamplings that are fitted together


@dataclass(frozen=True)
class Vote:
    """Somebody's verdict on two answers to one prompt. Lengths are in any one unit; `prompt` only tells prompts apart."""

    prompt: str
    left: str
    right: str
    outcome: Outcome
    left_length: float = 0.0
    right_length: float = 0.0


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval; None where a single prompt cannot say."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Standing:
    """A model among the others. `ties` include those of which both were bad; `mean_length` is over its votes."""

    model: str
    rating: Interval  # points
    wins: int
    losses: int
    ties: int
    both_bad: int
    mean_length: float


@dataclass(frozen=True)
class Ratings:
    """Everybody, best first.

    `left_advantage`: how often the left one of two equals is preferred, from 0 to 1; None where votes cannot tell it from the
    ratings. `length_effect`: points for an answer that is one root mean square longer; None where it was not asked for.
    `groups`: more than one where no vote ever went against some models: how far those lie apart is the ridge's word alone.
    """

    standings: tuple[Standing, ...]
    left_advantage: Interval | None
    length_effect: Interval | None
    groups: tuple[tuple[str, ...], ...]
    votes: int
    prompts: int


def rate(
    votes: Sequence[Vote], *, anchor: str | None = None, length: bool = False, resamples: int = 1000, seed: int = 0
) -> Ratings:
    """Ratings of all models that votes name. `anchor` stands at 1000; None: the mean of all does. `length`: controlled for.

    The order of the votes does not matter. Raises `UserError` where there are no votes, one is of a model with itself, no votes
    connect some models with the others, nobody is called `anchor`, or length cannot be told from the models.
    """
    models = _models(votes)
    if anchor is not None and anchor not in models:
        raise UserError(f"no votes on the anchor {anchor!r}: choose one of {', '.join(models)}")
    design, sided = _design(votes, models, length)
    points = np.array([POINTS[vote.outcome] for vote in votes])
    # Equal votes are one row with a weight.
    rows, place = np.unique(np.column_stack([design, points]), axis=0, return_inverse=True)
    x, y, place = rows[:, :-1], rows[:, -1], place.reshape(-1)
    best = _fit(x, y, np.bincount(place)[None].astype(float), np.zeros(x.shape[1]))[0]
    names = sorted({vote.prompt for vote in votes})
    number = {name: i for i, name in enumerate(names)}
    of_prompt = np.array([number[vote.prompt] for vote in votes])
    draws = np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), size=resamples)
    again = np.concatenate(
        [
            _fit(x, y, np.array([np.bincount(place, draw[of_prompt], len(x)) for draw in some]), best)
            for some in np.array_split(draws, max(1, resamples * len(x) // AT_ONCE))
        ]
    )
    fits = np.vstack([best, again])
    strengths = fits[:, : len(models)]
    zero = strengths.mean(1) if anchor is None else strengths[:, models.index(anchor)]
    ratings = LEVEL + SCALE * (strengths - zero[:, None])

    def interval(values: Array) -> Interval:
        low, high = np.percentile(values[1:], [2.5, 97.5]) if len(names) > 1 else (None, None)
        return Interval(float(values[0]), None if low is None else float(low), None if high is None else float(high))

    standings = [_standing(model, interval(ratings[:, i]), votes) for i, model in enumerate(models)]
    standings.sort(key=lambda one: (-one.rating.value, one.model))
    order = [one.model for one in standings]
    return Ratings(
        tuple(standings),
        interval(1 / (1 + np.exp(-fits[:, len(models)]))) if sided else None,
        interval(SCALE * fits[:, -1]) if length else None,
        tuple(sorted(_groups(votes, models), key=lambda group: min(map(order.index, group)))),
        len(votes),
        len(names),
    )


def win_matrix(votes: Sequence[Vote], models: Sequence[str]) -> tuple[Array, Array]:
    """How often each model (row) was preferred to each other one (column), ties as half, and the votes: float and int (M, M).

    The share is NaN where there is no vote.
    """
    at = {model: i for i, model in enumerate(models)}
    won, count = np.zeros((len(at), len(at))), np.zeros((len(at), len(at)), int)
    for vote in votes:
        left, right, points = at[vote.left], at[vote.right], POINTS[vote.outcome]
        won[left, right] += points
        won[right, left] += 1 - points
        count[left, right] += 1
        count[right, left] += 1
    return np.where(count > 0, won / np.maximum(count, 1), np.nan), count


def _models(votes: Sequence[Vote]) -> list[str]:
    """Their names, sorted. Raises `UserError` unless votes connect them all."""
    if not votes:
        raise UserError("there are no votes to rate by")
    if alone := next((vote for vote in votes if vote.left == vote.right), None):
        raise UserError(f"a vote between {alone.left} and itself: give each model its own name")
    models = sorted({name for vote in votes for name in (vote.left, vote.right)})
    joined = _reach(models, [pair for vote in votes for pair in ((vote.left, vote.right), (vote.right, vote.left))])
    here = [model for model, met in zip(models, joined[0], strict=True) if met]
    if len(here) < len(models):
        others = [model for model in models if model not in here]
        raise UserError(
            f"no votes connect {', '.join(here)} with {', '.join(others)}: compare one of these with one of those"
        )
    return models


def _design(votes: Sequence[Vote], models: list[str], length: bool) -> tuple[Array, bool]:
    """A row a vote: +1 and -1 for the two models, 1 for the left place, z. And whether the place has its column."""
    at = {model: i for i, model in enumerate(models)}
    pairs = np.zeros((len(votes), len(models)))
    for row, vote in zip(pairs, votes, strict=True):
        row[at[vote.left]], row[at[vote.right]] = 1, -1
    ones = np.ones((len(votes), 1))
    sided = _separate(ones[:, 0], pairs)
    x = np.hstack([pairs, ones]) if sided else pairs
    if not length:
        return x, sided
    longer = np.array([vote.left_length - vote.right_length for vote in votes])
    typical = math.sqrt(math.fsum(longer**2) / len(votes))
    if not typical or not _separate(longer / typical, x):
        raise UserError("length cannot be told from the models: the difference is the same in all votes of a pair")
    return np.column_stack([x, longer / typical]), sided


def _separate(column: Array, others: Array) -> bool:
    """Whether a column says what the others, together, do not."""
    left_over = column - others @ np.linalg.lstsq(others, column, rcond=None)[0]
    return bool(left_over @ left_over > 1e-9 * (column @ column))


def _fit(x: Array, y: Array, weights: Array, start: Array) -> Array:
    """Logistic regressions by Newton's method: x float (N, D), y (N,), weights (B, N) -> coefficients (B, D)."""
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    ridge = RIDGE * np.eye(x.shape[1])

    def loss(beta: Array) -> Array:
        logits = beta @ x.T
        return (weights * (np.logaddexp(0, logits) - y * logits)).sum(1) + RIDGE / 2 * (beta**2).sum(1)

    beta = np.tile(start, (len(weights), 1))
    now = loss(beta)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-beta @ x.T))
        gradient = (weights * (y - chance)) @ x - RIDGE * beta
        curvature = ((weights * chance * (1 - chance)) @ products).reshape(len(beta), *ridge.shape) + ridge
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        while True:  # half of it where it would go too far
            after = loss(beta + step)
            worse = after > now + PRECISE * (1 + now)
            if not worse.any():
                break
            step[worse] /= 2
        beta, now = beta + step, after
        if np.abs(step).max() < PRECISE:
            break
    return beta


def _reach(models: list[str], edges: Sequence[tuple[str, str]]) -> Array:
    """Which models can be reached from which along edges: bool (M, M)."""
    at = {model: i for i, model in enumerate(models)}
    reach = np.eye(len(models), dtype=bool)
    for one, other in set(edges):
        reach[at[one], at[other]] = True
    for via in range(len(models)):
        reach |= reach[:, via : via + 1] & reach[via : via + 1]
    return reach


def _groups(votes: Sequence[Vote], models: list[str]) -> set[tuple[str, ...]]:
    """Models that beat each other, if only in a circle: among them ratings are finite whatever the ridge (Ford 1957)."""
    beats = [(vote.left, vote.right) for vote in votes if POINTS[vote.outcome] > 0]
    beats += [(vote.right, vote.left) for vote in votes if POINTS[vote.outcome] < 1]
    reach = _reach(models, beats)
    mutual = reach & reach.T
    return {tuple(model for model, in_it in zip(models, row, strict=True) if in_it) for row in mutual}


def _standing(model: str, rating: Interval, votes: Sequence[Vote]) -> Standing:
    own = [vote for vote in votes if model in (vote.left, vote.right)]
    points = [POINTS[vote.outcome] if vote.left == model else 1 - POINTS[vote.outcome] for vote in own]
    lengths = [vote.left_length if vote.left == model else vote.right_length for vote in own]
    return Standing(
        model,
        rating,
        wins=points.count(1),
        losses=points.count(0),
        ties=points.count(0.5),
        both_bad=sum(vote.outcome == "both_bad" for vote in own),
        mean_length=math.fsum(lengths) / len(lengths),
    )
