"""A power law of loss in parameters and tokens, fitted to a few runs, with intervals that say how little they may tell.

    L(N, D) = E + A N^-alpha + B D^-beta                                            (arXiv 2203.15556, its third approach)

L is the validation loss in nats per token, N the parameters, D the tokens trained on. E is what no model of the family gets
below on this text; A N^-alpha what a model of N parameters lacks for being small; B D^-beta what it lacks for having read
little. Four sizes by four budgets span a factor of ten or so: over that, a larger E with steeper terms and a smaller E with
flatter ones fit almost alike. The exponents' intervals show it, and a prediction nearby suffers less than they do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from data_pipeline.errors import UserError

Array = np.ndarray[Any, np.dtype[np.float64]]

FEWEST_RUNS = 6  # one more than there are constants
FEWEST_VALUES = 3  # of N and of D: two points of E + A N^-alpha leave A and alpha open
# Of log losses: beyond it a residual counts by its size, no longer by its square. The paper's is 1e-3; runs as
# small as ours scatter by more than that without being outliers.
HUBER = 1e-2
STEEPEST = 3.0  # the largest exponent looked for


@dataclass(frozen=True)
class PowerLaw:
    """The constants of L(N, D) = E + A N^-alpha + B D^-beta. E, A and B are nats per token."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """L of N parameters and D tokens, numbers or arrays."""
        # float64: N and D are whole numbers, which numpy would not raise to negative powers.
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    @property
    def compute_exponent(self) -> float:
        """a of N ~ C^a, the size that makes the most of C = 6 N D FLOPs: beta / (alpha + beta). NaN where both are 0."""
        return self.beta / (self.alpha + self.beta) if self.alpha + self.beta else float("nan")


@dataclass(frozen=True)
class Fit:
    """A law, the laws of resampled runs, and what the law leaves over: `residuals` are log(found / fitted), one a run."""

    law: PowerLaw
    resampled: tuple[PowerLaw, ...]
    residuals: Array
    r_squared: float  # the share of the variance of log losses that the law explains

    def interval(self, constant: str) -> tuple[float, float]:
        """The 95% percentile interval of E, A, alpha, B, beta or compute_exponent."""
        return _percentiles([getattr(law, constant) for law in self.resampled])

    def predict(self, parameters: float, tokens: float, seed: int = 0) -> "Prediction":
        """The loss of a run of N parameters and D tokens that is not among those fitted.

        Its interval holds what the constants leave open (the resampled laws) and what one run differs by from the law (a
        residual drawn for each, widened by sqrt(n / (n - 5)) for the five constants that were fitted to n runs).
        """
        runs = len(self.residuals)
        widened = self.residuals * (runs / max(runs - 5, 1)) ** 0.5
        noise = np.random.default_rng(seed).choice(widened, len(self.resampled))
        drawn = [law.loss(parameters, tokens) for law in self.resampled]
        low, high = _percentiles(np.array(drawn) * np.exp(noise))
        return Prediction(float(self.law.loss(parameters, tokens)), low, high)


@dataclass(frozen=True)
class Prediction:
    """A loss with its 95% interval, nats per token."""

    loss: float
    low: float
    high: float


def fit(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    resamples: int = 400,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Fit:
    """Fit the law to runs, one entry each, and again to `resamples` draws of as many runs with replacement.

    A draw that has fewer than three sizes or three budgets is drawn again. `progress` wraps the loop over draws. Raises
    `UserError` when the runs are too few, or too much alike, to say anything.
    """
    n, d, loss = (np.asarray(values, np.float64) for values in (parameters, tokens, losses))
    check(n, d, loss)
    law, minima = _fit(n, d, loss, _starts())
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in progress(range(resamples)):
        chosen = rng.integers(len(loss), size=len(loss))
        while min(len(np.unique(n[chosen])), len(np.unique(d[chosen]))) < FEWEST_VALUES:
            chosen = rng.integers(len(loss), size=len(loss))
        # From the best few minima of all runs: those of a resample are near one of them.
        resampled.append(_fit(n[chosen], d[chosen], loss[chosen], minima, centre=(n, d, loss))[0])
    residuals = np.log(loss) - np.log(law.loss(n, d))
    r_squared = 1 - np.sum(residuals**2) / np.sum((np.log(loss) - np.log(loss).mean()) ** 2)
    return Fit(law, tuple(resampled), residuals, float(r_squared))


def check(parameters: Array, tokens: Array, losses: Array) -> None:
    """Raise `UserError` for runs that no law can be fitted to."""
    if len(losses) < FEWEST_RUNS:
        raise UserError(f"{len(losses)} runs are too few for a law of five constants: fit at least {FEWEST_RUNS}")
    for name, values in (("sizes", parameters), ("token budgets", tokens)):
        if (count := len(np.unique(values))) < FEWEST_VALUES:
            raise UserError(f"the runs have {count} different {name}: at least {FEWEST_VALUES} are needed to fit a law")
    if not (np.all(np.isfinite(losses)) and np.all(losses > 0)):
        raise UserError("a run's loss is not a positive number: leave that run out")
    if np.ptp(losses) == 0:
        raise UserError("all runs have the same loss: there is no law to fit")


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """c and g of the plain power law y = c x^-g, by least squares of logs."""
    slope, intercept = np.polyfit(np.log(np.asarray(x, np.float64)), np.log(np.asarray(y, np.float64)), 1)
    return float(np.exp(intercept)), float(-slope)


def frontier(compute: Sequence[float], losses: Sequence[float]) -> list[int]:
    """The places of the runs that none with as little compute does better than, by rising compute."""
    best, kept = float("inf"), []
    for place in sorted(range(len(losses)), key=lambda i: (compute[i], losses[i])):
        if losses[place] < best:
            best = losses[place]
            kept.append(place)
    return kept


# What is looked for is (a, p, b, q, e): a, b and e are the logarithms of the three terms at the middle of the runs, in units of
# their mean loss, so that starts are comparable whatever N and D are (the paper's own a, at N = 1, spans dozens). p and q give
# exponents between 0 and STEEPEST by a sigmoid.


def _starts() -> list[Array]:
    """Where to look from: how the loss at the middle may be shared out, and exponents."""
    shares = [(0.1, 0.1, 0.8), (0.3, 0.3, 0.4), (0.45, 0.45, 0.1)]
    exponents = [-float(np.log(STEEPEST / exponent - 1)) for exponent in (0.15, 0.5, 1.2)]
    return [
        np.array([np.log(a), p, np.log(b), q, np.log(e)]) for (a, b, e), p, q in product(shares, exponents, exponents)
    ]


def _fit(
    n: Array, d: Array, loss: Array, starts: Sequence[Array], centre: tuple[Array, Array, Array] | None = None
) -> tuple[PowerLaw, list[Array]]:
    """The law of least Huber loss over the starts, and the best three different minima as starts.

    `centre`: the runs whose means are the middle, by default these. By BFGS, which holds all of its 5 x 5 matrix: scipy's
    L-BFGS-B, the paper's, takes the same way but wakes BLAS's threads at every step, which takes longer than all the rest.
    """
    mid_n, mid_d, scale = (float(np.mean(np.log(values))) for values in centre or (n, d, loss))
    x, y, z = np.log(n) - mid_n, np.log(d) - mid_d, np.log(loss) - scale

    def objective(theta: Array) -> tuple[float, Array]:
        a, p, b, q, e = theta
        alpha, beta = _exponent(p), _exponent(q)
        logs = np.stack([a - alpha * x, b - beta * y, np.full_like(x, e)])
        top = logs.max(0)
        terms = np.exp(logs - top)
        total = terms.sum(0)
        error = top + np.log(total) - z
        clipped = np.clip(error, -HUBER, HUBER)
        share = terms / total * clipped
        along_p, along_q = (exponent * (1 - exponent / STEEPEST) for exponent in (alpha, beta))
        # Sums and no dot products, for the sake of BLAS's threads again.
        gradient = np.stack([share[0], -share[0] * x * along_p, share[1], -share[1] * y * along_q, share[2]]).sum(1)
        # Summed and not averaged, in units of HUBER^2: averages are so small that optimizers stop early (arXiv 2404.10102).
        return float(np.sum(clipped * (error - clipped / 2))) / HUBER**2, gradient / HUBER**2

    options = {"maxiter": 2000, "gtol": 1e-6}
    found = [minimize(objective, start, jac=True, method="BFGS", options=options) for start in starts]
    found.sort(key=lambda result: float(result.fun))
    minima: list[Array] = []
    for result in found:
        if len(minima) < 3 and all(np.max(np.abs(result.x - other)) > 0.05 for other in minima):
            minima.append(result.x)
    a, p, b, q, e = (float(value) for value in minima[0])
    alpha, beta = _exponent(p), _exponent(q)
    return PowerLaw(
        E=float(np.exp(e + scale)),
        A=float(np.exp(a + scale + alpha * mid_n)),
        alpha=alpha,
        B=float(np.exp(b + scale + beta * mid_d)),
        beta=beta,
    ), minima


def _exponent(p: float) -> float:
    return float(STEEPEST * expit(p))


def _percentiles(values: Any) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
