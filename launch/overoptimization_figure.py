"""The picture of over-optimization: proxy and gold against the distance from the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from launch.figures import pyplot, save
from lm.overoptimization import BEST, PATIENCE, RL, Curve, Trajectory, patient_stop


def overoptimization_figure(
    path: Path, trajectories: Sequence[Trajectory], fits: Mapping[tuple[str, str], Curve | None]
) -> Path:
    """One panel for RL, and one for the best of n where it was measured; a colour for each reward model."""
    ways = [way for way in (RL, BEST) if any(each.way == way for each in trajectories)]
    plt = pyplot()
    figure, panels = plt.subplots(1, len(ways), figsize=(6 * len(ways), 5), layout="constrained", squeeze=False)
    names = list(dict.fromkeys(each.reward_model for each in trajectories))
    colours = dict(zip(names, plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(names))), strict=True))
    for way, axes in zip(ways, panels[0], strict=True):
        labelled = set()
        for each in trajectories:
            if each.way != way:
                continue
            d, colour = np.sqrt(each.kl), colours[each.reward_model]
            axes.plot(d, each.reward, "--", linewidth=0.8, color=colour)
            label = None if each.reward_model in labelled else each.reward_model.rpartition("/")[2]
            labelled.add(each.reward_model)
            axes.plot(d, each.gold, "o", markersize=3, color=colour, label=label)
            if way == RL:
                stop = patient_stop(each.gold, PATIENCE)
                axes.plot(d[stop], each.gold[stop], "s", markersize=8, fillstyle="none", color=colour)
            if curve := fits[each.reward_model, way]:
                smooth = np.linspace(0, d.max(), 200)
                axes.plot(smooth, curve(smooth), linewidth=1.2, color=colour)
        axes.axhline(0, color="grey", linewidth=0.6)
        axes.set(title=way, xlabel="d, the square root of KL to the reference (nats a response)")
        axes.grid(alpha=0.3)
        axes.legend(title="reward model", fontsize=8)
    panels[0][0].set_ylabel("gain: gold (points, fitted line), proxy (dashed), patience 2 (square)")
    return save(figure, path)
