"""A picture of a sweep that is a list of changes: each setting with its mean and interval, the best on top."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from launch.compare_runs import Interval, interval
from launch.sweep_folder import DONE
from launch.sweep_trials import short_names


def settings(points: Sequence[Any], ignored: str) -> list[tuple[str, list[float], Interval]]:
    """Label, metrics and their interval for each setting of everything but the path `ignored` (the seed), best first.

    A label tells what differs from the values that most trials have.
    """
    paths = [path for path in points[0].values if path != ignored]
    usual = {path: Counter(point.values[path] for point in points).most_common(1)[0][0] for path in paths}
    short = short_names(paths)
    found: dict[str, list[float]] = {}
    for point in points:
        if point.status == DONE and point.metric is not None:
            changes = [f"{short[path]}={point.values[path]}" for path in paths if point.values[path] != usual[path]]
            found.setdefault(", ".join(changes) or "(the usual values)", []).append(point.metric)
    ended = [(label, values, interval(values)) for label, values in found.items()]
    return sorted(ended, key=lambda setting: setting[2].mean)


def draw_settings(figure: Any, points: Sequence[Any], ignored: str, metric: str) -> None:
    """A row for each setting: a dot for each trial, the mean, and its 95% interval."""
    rows = settings(points, ignored)
    labels = [textwrap.fill(label, 60) for label, _, _ in rows]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure.set_size_inches(9, 1.5 + 0.32 * lines + 0.12 * len(rows))
    axes = figure.subplots()
    for row, (_, values, mean) in enumerate(rows):
        axes.errorbar(mean.mean, row, xerr=mean.half or None, fmt="o", color="C0", capsize=3)
        axes.scatter(values, [row] * len(values), s=14, color="black", alpha=0.5, zorder=3)
    axes.set_yticks(range(len(rows)), labels, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.grid(alpha=0.3)
