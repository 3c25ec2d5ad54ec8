"""Pictures of taste: how well it is learnt, and how it is over-optimized."""

from pathlib import Path
from typing import Any

import numpy as np

from launch.figures import pyplot, save


def accuracy_figure(path: Path, evaluations: list[dict[str, Any]], ceiling: float | None) -> Path:
    """Draw held-out pair accuracy against steps, and the most that can be reached."""
    figure, axes = pyplot().subplots(figsize=(6.4, 3.6), layout="constrained")
    at = [r["step"] for r in evaluations]
    axes.plot(at, [r["pair_accuracy"] for r in evaluations], marker="o", label="all pairs")
    for name, label in (("pairs.near.right", "neighbours"), ("pairs.far.right", "further apart")):
        axes.plot(at, [r.get(name, np.nan) for r in evaluations], linewidth=0.8, label=label)
    if ceiling:
        axes.axhline(ceiling, color="grey", linestyle=":", label="the rater's own taste, all pairs")
    axes.set(xlabel="step", ylabel="held-out pairs ordered as the rater did")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def hump_figure(path: Path, evaluations: list[dict[str, Any]]) -> Path:
    """Draw reward (the proxy), and gold where it is known, against sqrt(KL), or against the step where KL was not measured."""
    figure, axes = pyplot().subplots(figsize=(6.4, 3.8), layout="constrained")
    measured = all("kl" in r for r in evaluations)
    at = [max(r["kl"], 0.0) ** 0.5 if measured else r["step"] for r in evaluations]
    (proxy,) = axes.plot(at, [r["reward"] for r in evaluations], "--", label="reward model (proxy)")
    if all("gold" in r for r in evaluations):
        gold = [r["gold"] for r in evaluations]
        axes.plot(at, gold, marker="o", markersize=3, color=proxy.get_color(), label="the rater's own taste (gold)")
        best = int(np.argmax(gold))
        axes.plot(at[best], gold[best], marker="*", markersize=14, color=proxy.get_color())
    axes.set(xlabel="square root of KL to the reference (nats a response)" if measured else "step", ylabel="score")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)
