"""A number measured on examples, and how far the examples leave it open.

The examples are taken for independent draws from all that might have been asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lm.recitation import wilson

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """`low` and `high` are the 95% interval; None, like the standard error, where one example cannot say."""

    metric: str
    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    examples: int


def share(metric: str, hits: Sequence[float]) -> Estimate:
    """The mean of what each example has of 1, with Wilson's interval. At least one example.

    For examples that hit or miss it is Wilson's own; for shares between 0 and 1, which vary less, it is wider than need be.
    """
    n = len(hits)
    value = sum(hits) / n
    error = (sum((hit - value) ** 2 for hit in hits) / n / n) ** 0.5
    return Estimate(metric, value, error, *wilson(sum(hits), n), n)


def ratio(metric: str, numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """The sum of the one over the sum of the other, as bits over bytes: W. G. Cochran, Sampling Techniques, 1977, chapter 6."""
    n, total = len(numerators), sum(denominators)
    value = sum(numerators) / total
    if n < 2:
        return Estimate(metric, value, None, None, None, n)
    residuals = [a - value * b for a, b in zip(numerators, denominators, strict=True)]
    error = (sum(residual**2 for residual in residuals) * n / (n - 1)) ** 0.5 / total
    return Estimate(metric, value, error, value - Z * error, value + Z * error, n)
