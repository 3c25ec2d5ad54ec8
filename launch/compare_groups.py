"""Runs that differ only by their seed, as one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.compare_runs import Interval, Run, cell, flat, interval

SEED = "seed"


@dataclass(frozen=True)
class Group:
    """Runs of one setting, with different seeds. `values` has the config values that tell it from other groups."""

    values: dict[str, Any]
    runs: list[Run]

    @property
    def seeds(self) -> list[Run]:
        """The first finished run of each seed: a run made twice says nothing about the spread over seeds."""
        finished = [run for run in self.runs if run.finished]
        return list({run.config[SEED]: run for run in reversed(finished)}.values())[::-1]

    def measured(self, metric: str) -> Interval | None:
        """Over seeds; None where no finished run has the metric."""
        found = [value for run in self.seeds if (value := run.metric(metric)) is not None]
        return interval(found) if found else None


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The config keys in which the runs differ, in their order, each with the value of every run (None: it has no such)."""
    configs = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    columns = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def leading(columns: dict[str, list[Any]]) -> dict[str, list[str]]:
    """The columns (as of `differing`) that tell runs apart in different ways, each with those that do so as it does."""
    leaders: dict[tuple[int, ...], str] = {}
    found: dict[str, list[str]] = {}
    for key, values in columns.items():
        pattern = tuple(values.index(value) for value in values)
        leader = leaders.setdefault(pattern, key)
        if leader == key:
            found[key] = []
        else:
            found[leader].append(key)
    return found


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs with the same config but for the seed, in the order of their first."""
    columns = {key: values for key, values in differing(runs).items() if key != SEED}
    groups: dict[str, Group] = {}
    for number, run in enumerate(runs):
        values = {key: columns[key][number] for key in leading(columns)}
        groups.setdefault(json.dumps(values), Group(values, [])).runs.append(run)
    return list(groups.values())


def described(values: dict[str, Any]) -> str:
    """Config values on a line."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in values.items()) or "all"


def value_text(value: Any) -> str:
    """A config value as tables show it."""
    return f"{value:g}" if isinstance(value, float) else cell(value)
