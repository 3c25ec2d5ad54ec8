"""The losses of several runs on one figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.compare_groups import Group, described
from launch.compare_runs import Run, interval

SMOOTHED_OVER = 50  # parts of a run: each point is the mean of the steps in the part that ends there


def curves(groups: Sequence[Group], path: Path) -> Path:
    """Draw training loss (smoothed) and validation loss against tokens; a colour a group.

    Over seeds: the mean, and for validation the 95% interval of Student's t, at the steps that all of them have reached.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (training, validation) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", sharey=True)
    colours = plt.get_cmap("tab10" if len(groups) <= 10 else "turbo", max(len(groups), 10))
    for number, group in enumerate(groups):
        colour, label = colours(number), f"{described(group.values)}{_seeds(group.runs)}"
        _training(training, group.runs, colour, label)
        _validation(validation, group.runs, colour, label)
    training.set(xlabel="tokens", ylabel="loss (nats per token)", title="training, smoothed")
    validation.set(xlabel="tokens", title="validation")
    for axes in (training, validation):
        axes.grid(alpha=0.3)
    if any(axes.get_legend_handles_labels()[1] for axes in (training, validation)):
        figure.legend(*training.get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and the `window - 1` before it (fewer at the start): float64 (len(values),)."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _training(axes: Any, runs: Sequence[Run], colour: Any, label: str) -> None:
    steps, losses = common([{r["step"]: r["loss"] for r in run.steps} for run in runs])
    if not steps:
        return
    window = max(len(steps) // SMOOTHED_OVER, 1)
    smoothed = np.stack([smooth(row, window) for row in losses])
    tokens = np.array(steps) * runs[0].tokens_per_step
    axes.plot(tokens, smoothed.mean(0), color=colour, label=label)
    if len(runs) > 1:
        for row in smoothed:
            axes.plot(tokens, row, color=colour, linewidth=0.6, alpha=0.4)


def _validation(axes: Any, runs: Sequence[Run], colour: Any, label: str) -> None:
    steps, losses = common([{r["step"]: r["loss"] for r in run.evaluations} for run in runs])
    if not steps:
        return
    tokens = np.array(steps) * runs[0].tokens_per_step
    found = [interval(column) for column in losses.T.tolist()]
    means = np.array([each.mean for each in found])
    axes.plot(tokens, means, color=colour, marker="o", markersize=3, label=label)
    if len(runs) > 1:
        halves = np.array([each.half or 0.0 for each in found])
        axes.fill_between(tokens, means - halves, means + halves, color=colour, alpha=0.15, linewidth=0)


def common(curves: Sequence[dict[int, float]]) -> tuple[list[int], np.ndarray]:
    """The steps that every curve has, in order, and the values there: float64 (curves, steps)."""
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return steps, np.array([[curve[step] for step in steps] for curve in curves], np.float64)


def _seeds(runs: Sequence[Run]) -> str:
    return f" ({len(runs)} seeds)" if len(runs) > 1 else ""
