"""Pictures of an arena: ratings with their intervals, and who was preferred to whom."""

from pathlib import Path
from typing import Any

from launch.figures import pyplot, save


def ratings_figure(path: Path, told: dict[str, Any]) -> None:
    """Draw ratings with their 95% intervals, best on top; beside them those without length, where there are any.

    `told` as from `launch.arena_report.ratings_of`.
    """
    plt = pyplot()
    standings = told["standings"]
    figure, axes = plt.subplots(figsize=(6.4, 1.2 + 0.5 * len(standings)), layout="constrained")
    places = {one["model"]: -number for number, one in enumerate(standings)}
    series = {"rating": (standings, "o", 0.0)}
    if told["length_controlled"]:
        series = {
            "rating": (standings, "o", 0.12),
            "without length": (told["length_controlled"]["standings"], "s", -0.12),
        }
    for label, (those, marker, up) in series.items():
        values = [one["rating"]["value"] for one in those]
        ends = [(one["rating"]["low"], one["rating"]["high"]) for one in those]
        known = all(low is not None for low, _ in ends)
        # A resampling may lie all on one side of the fit.
        below = [max(value - low, 0.0) for value, (low, _) in zip(values, ends, strict=True)] if known else None
        above = [max(high - value, 0.0) for value, (_, high) in zip(values, ends, strict=True)] if known else None
        at = [places[one["model"]] + up for one in those]
        axes.errorbar(values, at, xerr=[below, above] if known else None, fmt=marker, capsize=3, label=label)
    axes.set(xlabel="points (400 are odds of ten to one)")
    axes.set_yticks(list(places.values()), list(places))
    axes.margins(y=0.4 / len(places))
    axes.grid(axis="x", alpha=0.3)
    if len(series) > 1:
        figure.legend(loc="outside upper center", ncols=2)
    save(figure, path)


def win_matrix_figure(path: Path, wins: dict[str, Any]) -> None:
    """Draw how often each model (row) is preferred to each other (column); `wins` as in `ratings_of`."""
    plt = pyplot()
    models = wins["models"]
    size = 2.2 + 0.9 * len(models)
    figure, axes = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    shares = [[float("nan") if share is None else share for share in row] for row in wins["share"]]
    axes.set_facecolor("#e4e4e4")  # where there is no vote
    image = axes.imshow(shares, cmap="RdBu", vmin=0, vmax=1)
    for row, (those, counts) in enumerate(zip(shares, wins["votes"], strict=True)):
        for column, (share, count) in enumerate(zip(those, counts, strict=True)):
            if count:
                dark = abs(share - 0.5) > 0.3
                text = f"{share:.0%}\nof {count}"
                axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set(xlabel="over", ylabel="preferred")
    axes.set_xticks(range(len(models)), models, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(models)), models)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of votes, ties as half")
    save(figure, path)
