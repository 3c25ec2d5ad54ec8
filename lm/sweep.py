"""Sweeps: which experiments to run, as plain lists that compose.

A trial is a dict from a config path to a value, `{"optimizer.learning_rate": 3e-4, "seed": 1}`, and a sweep is a list of
trials. An experiment file may define one beside its `get_config`, and `launch.sweep` runs it:

    def sweep(variant: str = "school") -> list[Trial]:
        rates = {"optimizer.learning_rate": [1e-3, 3e-3, 1e-2]}
        sizes = zipped({"model.width": [64, 128], "model.heads": [2, 4]})
        return product(rates, sizes, {"seed": [0, 1, 2]}) + [{"optimizer.name": "muon"}]

Lists are joined with `+`, and filtered and changed by comprehensions.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.errors import UserError

Trial = dict[str, Any]


@dataclass(frozen=True)
class Uniform:
    """Numbers between `low` and `high`, evenly spread; with `log`, their logarithms are. With `whole`, whole numbers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The value that a `share` (at least 0, below 1) of all draws lies below; other than whole, of four digits.

        More digits say nothing about a learning rate, and would stand in every table and in the names of folders.
        """
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        rounded = round(value) if self.whole else float(f"{value:.4g}")
        return min(max(rounded, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of `values`, each as likely."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value that a `share` (at least 0, below 1) of the way through the list meets."""
        return self.values[int(share * len(self.values))]


Distribution = Uniform | Choice


def uniform(low: float, high: float, whole: bool = False) -> Uniform:
    """Numbers between `low` and `high`, or, with `whole`, the whole numbers from `low` to `high`, each as likely."""
    _check_bounds("uniform", low, high)
    return Uniform(low, high, whole=whole)


def log_uniform(low: float, high: float, whole: bool = False) -> Uniform:
    """Numbers between `low` and `high` that fall as often between 1e-4 and 1e-3 as between 1e-3 and 1e-2."""
    _check_bounds("log_uniform", low, high)
    if not low > 0:
        raise UserError(f"log_uniform({low}, {high}): the lower end must be above 0")
    return Uniform(low, high, log=True, whole=whole)


def choice(*values: Any) -> Choice:
    """One of the values, each as likely."""
    if not values:
        raise UserError("choice() has nothing to choose from: name at least one value")
    return Choice(values)


def product(*factors: Mapping[str, Iterable[Any]] | Sequence[Trial]) -> list[Trial]:
    """Every combination of the factors, the last one changing fastest.

    A factor is a sweep, or values by path, which stand for all their combinations. Raises `UserError` for a path that is
    in two factors.
    """
    sweeps: list[Sequence[Trial]] = []
    for factor in factors:
        if isinstance(factor, Mapping):
            sweeps += [[{path: value} for value in _values(path, values)] for path, values in factor.items()]
        else:
            sweeps.append(list(factor))
    for one, other in itertools.combinations(sweeps, 2):
        if twice := sorted({path for trial in one for path in trial} & {path for trial in other for path in trial}):
            raise UserError(f"{twice[0]} is in two factors of a product: name it in one")
    return [{path: value for trial in row for path, value in trial.items()} for row in itertools.product(*sweeps)]


def zipped(columns: Mapping[str, Iterable[Any]]) -> list[Trial]:
    """Values that belong together, row by row. Raises `UserError` for lists of different lengths."""
    lists = {path: _values(path, values) for path, values in columns.items()}
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"{path} has {len(values)}" for path, values in lists.items())
        raise UserError(f"values that change together must be as many: {counts}")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def random(space: Mapping[str, Distribution], trials: int, seed: int = 0) -> list[Trial]:
    """`trials` independent draws. More of the same seed begin with the same ones."""
    if trials < 1:
        raise UserError(f"trials={trials}: must be at least 1")
    shares = np.random.default_rng(seed).random((trials, len(space)))
    return [
        {path: distribution.at(float(share)) for (path, distribution), share in zip(space.items(), row, strict=True)}
        for row in shares
    ]


def _values(path: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{path}: {values!r} is one value: give a list, such as [{values!r}]")
    return list(values)


def _check_bounds(name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}({low}, {high}): the lower end comes first, and must be less than the upper")
