"""A picture of a sweep: the metric against every value that was swept."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.compare_runs import Interval, interval
from launch.sweep_folder import DONE, FAILED, PRUNED
from launch.sweep_settings import draw_settings
from launch.sweep_trials import short_names

SEED = "seed"
MOST_PANELS = 3  # a sweep of more paths that is no grid is a list of changes, and drawn as one
MOST_LINES = 10  # more are a tangle: points alone are then drawn


@dataclass(frozen=True)
class Point:
    """A trial that has ended. `values` has every swept path."""

    values: dict[str, Any]
    status: str
    metric: float | None


@dataclass(frozen=True)
class Line:
    """The mean over seeds at each x, for one setting of everything else."""

    label: str
    xs: list[Any]
    means: list[Interval]


@dataclass
class Panel:
    """The metric against one path. `scale` is log, linear or names; each x of `points` and `lines` is then a place."""

    path: str
    label: str
    scale: str
    ticks: list[Any]  # every value, in order
    lines: list[Line] = field(default_factory=list)


def panels(points: Sequence[Point]) -> list[Panel]:
    """One panel a swept path that varies; paths that change together share one, and seeds have none but to themselves."""
    varied = [path for path in _paths(points) if len(_distinct(points, path)) > 1]
    shown = [path for path in varied if path != SEED] or varied
    found: list[Panel] = []
    for path in shown:
        if any(_follows(points, path, panel.path) and _follows(points, panel.path, path) for panel in found):
            continue
        short = short_names(shown)
        together = [p for p in shown if p != path and _follows(points, p, path) and _follows(points, path, p)]
        label = short[path] + (f" (with {', '.join(short[p] for p in together)})" if together else "")
        ticks = _ordered(_distinct(points, path))
        panel = Panel(path, label, _scale(ticks), ticks)
        others = [p for p in shown if p != path and not _follows(points, p, path)]
        panel.lines = _lines(points, path, others, short)
        found.append(panel)
    return found


def _lines(points: Sequence[Point], path: str, others: Sequence[str], short: dict[str, str]) -> list[Line]:
    groups: dict[tuple[Any, ...], dict[Any, list[float]]] = {}
    for point in points:
        if point.status == DONE and point.metric is not None:
            group = groups.setdefault(tuple(point.values[other] for other in others), {})
            group.setdefault(point.values[path], []).append(point.metric)
    lines = []
    for key, group in sorted(groups.items(), key=lambda item: _order(item[0])):
        xs = _ordered(list(group))
        label = ", ".join(f"{short[other]}={_text(value)}" for other, value in zip(others, key, strict=True))
        lines.append(Line(label, xs, [interval(group[x]) for x in xs]))
    joined = [line for line in lines if len(line.xs) > 1]
    return joined if len(joined) <= MOST_LINES else []


def is_grid(points: Sequence[Point], first: str, second: str) -> bool:
    """Whether every value of one path was tried with every value of the other."""
    pairs = {(point.values[first], point.values[second]) for point in points}
    return len(pairs) == len(_distinct(points, first)) * len(_distinct(points, second))


def sweep_figure(points: Sequence[Point], metric: str, path: Path, title: str) -> Path | None:
    """Draw the panels into a file; None when nothing was swept that varies, or no trial has the metric.

    A dot is a trial, a line the mean over seeds (its bars: 95% of Student's t), a cross at the top one that failed.
    """
    drawn = panels(points)
    if not drawn or not any(point.metric is not None for point in points):
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    if len(drawn) > MOST_PANELS and not all(panel.lines for panel in drawn):
        figure = plt.figure(layout="constrained")
        draw_settings(figure, points, SEED, metric)
        figure.suptitle(title)
        figure.savefig(path, dpi=120)
        plt.close(figure)
        return path
    grid = len(drawn) == 2 and all(len(p.ticks) > 1 for p in drawn) and is_grid(points, drawn[0].path, drawn[1].path)
    count = len(drawn) + grid
    columns = min(count, 3)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 4 * rows), layout="constrained", squeeze=False)
    places = list(axes.flat)
    for panel, place in zip(drawn, places, strict=False):
        _draw(place, panel, points, metric)
    if grid:
        _heat_map(figure, places[len(drawn)], drawn[0], drawn[1], points, metric)
    for place in places[count:]:
        place.set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _draw(axes: Any, panel: Panel, points: Sequence[Point], metric: str) -> None:
    def place(value: Any) -> Any:
        return panel.ticks.index(value) if panel.scale == "names" else value

    for line in panel.lines:
        bars = [mean.half or 0.0 for mean in line.means] if any(mean.half for mean in line.means) else None
        axes.errorbar(
            [place(x) for x in line.xs], [m.mean for m in line.means], bars, capsize=3, label=line.label or None
        )
    looks = {DONE: {"s": 14, "color": "black", "alpha": 0.5}, PRUNED: {"s": 14, "color": "grey", "marker": "v"}}
    for status, look in looks.items():
        some = [point for point in points if point.status == status and point.metric is not None]
        label = status if status == PRUNED and some else None
        axes.scatter(
            [place(p.values[panel.path]) for p in some], [p.metric for p in some], zorder=3, label=label, **look
        )
    failed = [place(p.values[panel.path]) for p in points if p.status == FAILED]
    if failed:
        top = axes.get_xaxis_transform()
        axes.scatter(failed, [0.97] * len(failed), marker="x", color="red", transform=top, label="failed", zorder=4)
    if panel.scale == "names":
        axes.set_xticks(range(len(panel.ticks)), [_text(value) for value in panel.ticks])
    else:
        axes.set_xscale(panel.scale)
        if len(panel.ticks) <= 8:
            axes.set_xticks(panel.ticks, [_text(value) for value in panel.ticks])
            axes.set_xticks([], minor=True)
    axes.set(xlabel=panel.label, ylabel=metric)
    axes.margins(x=0.08)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")


def _heat_map(figure: Any, axes: Any, across: Panel, up: Panel, points: Sequence[Point], metric: str) -> None:
    def mean(x: Any, y: Any) -> float:
        here = [p.metric for p in points if (p.values[across.path], p.values[up.path]) == (x, y) and p.status == DONE]
        found = [value for value in here if value is not None]
        return statistics.fmean(found) if found else float("nan")

    values = [[mean(x, y) for x in across.ticks] for y in up.ticks]
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis_r")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            text = f"{value:.3f}" if value == value else "-"
            axes.text(
                column, row, text, ha="center", va="center", fontsize="small", bbox={"color": "white", "alpha": 0.6}
            )
    axes.set_xticks(range(len(across.ticks)), [_text(value) for value in across.ticks])
    axes.set_yticks(range(len(up.ticks)), [_text(value) for value in up.ticks])
    axes.set(xlabel=across.label, ylabel=up.label)
    figure.colorbar(image, ax=axes, label=metric)


def _paths(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(path for point in points for path in point.values))


def _distinct(points: Sequence[Point], path: str) -> list[Any]:
    return list(dict.fromkeys(point.values[path] for point in points))


def _follows(points: Sequence[Point], path: str, leader: str) -> bool:
    """Whether `path` is set by `leader`, as in a zip: one value for each, and rising or falling with it if numbers are.

    (Values drawn at random are one for each as well, but do not rise and fall together.)
    """
    pairs = {(point.values[leader], point.values[path]) for point in points}
    if len(pairs) > len(_distinct(points, leader)):
        return False
    if not all(_is_number(a) and _is_number(b) for a, b in pairs):
        return True
    following = [b for _, b in sorted(pairs)]
    return following in (sorted(following), sorted(following, reverse=True))


def _scale(ticks: Sequence[Any]) -> str:
    """log where the middle value is nearer to the geometric middle of the ends than to the arithmetic one, else linear.

    names for what is no number, and for numbers that lie evenly on a logarithmic scale but for a 0.
    """
    if not all(map(_is_number, ticks)):
        return "names"
    low, high = ticks[0], ticks[-1]
    if low == 0 and len(ticks) > 2 and _scale(ticks[1:]) == "log":
        return "names"
    if low <= 0:
        return "linear"
    if len(ticks) == 2:
        return "log" if high / low >= 8 else "linear"
    middle = statistics.median(ticks)
    return "log" if abs(middle - math.sqrt(low * high)) < abs(middle - (low + high) / 2) else "linear"


def _ordered(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda value: _order((value,)))


def _order(values: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Numbers by size, then everything else by its text."""
    return [(0, value) if _is_number(value) else (1, str(value)) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
