"""Pictures of taste: how well it is learnt, and how it is over-optimized."""

from pathlib import Path
from typing import Any

import numpy as np

from launch.figures import pyplot, save
from lm.metrics import read_json_lines


def accuracy_figure(workdir: Path, ceiling: float | None) -> Path:
    """Draw held-out pair accuracy against steps, and the most that can be reached, into `workdir/pairs.png`."""
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    figure, axes = pyplot().subplots(figsize=(8, 4), layout="constrained")
    at = [r["step"] for r in evaluations]
    axes.plot(at, [r["pair_accuracy"] for r in evaluations], marker="o", label="all pairs")
    for name, label in (("pairs.near.right", "neighbours"), ("pairs.far.right", "further apart")):
        axes.plot(at, [r.get(name, np.nan) for r in evaluations], linewidth=0.8, label=label)
    if ceiling:
        axes.axhline(ceiling, color="grey", linestyle=":", label="the rater's own taste, all pairs")
    axes.set(xlabel="step", ylabel="held-out pairs ordered as the rater did")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, workdir / "pairs.png")


def hump_figure(path: Path, runs: dict[str, list[dict[str, Any]]], fits: dict[str, Any] | None = None) -> Path:
    """Draw reward (the proxy) and gold against sqrt(KL), a colour a run: evaluations with `kl`, `reward` and perhaps `gold`.

    `fits`: of a run's name, a function of sqrt(KL) to draw as a thin line.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for number, (name, evaluations) in enumerate(runs.items()):
        distance = [max(r.get("kl", r["step"]), 0.0) ** 0.5 for r in evaluations]
        colour, of = colours[number % len(colours)], f"{name}: " if name else ""
        axes.plot(distance, [r["reward"] for r in evaluations], "--", color=colour, label=f"{of}reward model (proxy)")
        if all("gold" in r for r in evaluations):
            gold = [r["gold"] for r in evaluations]
            axes.plot(distance, gold, marker="o", markersize=3, color=colour, label=f"{of}the rater's own taste (gold)")
            best = int(np.argmax(gold))
            axes.plot(distance[best], gold[best], marker="*", markersize=14, color=colour)
        if fits and name in fits:
            grid = np.linspace(0, max(distance), 100)
            axes.plot(grid, [fits[name](d) for d in grid], color=colour, linewidth=0.8, alpha=0.6)
    axes.set(xlabel="square root of KL to the reference (nats a response)", ylabel="score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return save(figure, path)
