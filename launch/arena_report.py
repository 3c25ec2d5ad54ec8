"""What an arena ends in: a table, ratings.json and two figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from data_pipeline.resumable import write_whole
from launch.arena_figures import ratings_figure, win_matrix_figure
from launch.compare_runs import table
from lm.ratings import Vote, rate, win_matrix


def ratings_of(votes: Sequence[Vote], anchor: str | None, seed: int) -> dict[str, Any]:
    """Everything there is to say, as JSON: the ratings, the length-controlled ones (or why there are none), and the wins.

    Raises `UserError` where votes cannot be rated.
    """
    plain = rate(votes, anchor=anchor, seed=seed)
    models = [one.model for one in plain.standings]
    share, count = win_matrix(votes, models)
    told: dict[str, Any] = {**asdict(plain), "length_controlled": None}
    try:
        told["length_controlled"] = asdict(rate(votes, anchor=anchor, length=True, seed=seed))
    except UserError as error:
        told["no_length_control"] = str(error)
    told["wins"] = {
        "models": models,
        "share": [
            [float(value) if n else None for value, n in zip(*row, strict=True)]
            for row in zip(share, count, strict=True)
        ],
        "votes": count.tolist(),
    }
    return told


def report(told: dict[str, Any], folder: Path, notes: Sequence[str]) -> str:
    """Write ratings.json, ratings.png and wins.png, and return what the terminal shows."""
    write_whole(folder / "ratings.json", json.dumps({**told, "notes": list(notes)}, indent=1) + "\n")
    ratings_figure(folder / "ratings.png", told)
    win_matrix_figure(folder / "wins.png", told["wins"])
    return "\n".join([standings_table(told), *notes, *remarks(told)])


def standings_table(told: dict[str, Any]) -> str:
    """The standings, for the terminal."""
    return table(*standings_rows(told))


def standings_rows(told: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header, and a row a contender, best first."""
    controlled = told["length_controlled"]
    ratings = {one["model"]: one["rating"] for one in controlled["standings"]} if controlled else {}
    rows = [
        [
            one["model"],
            *shown(one["rating"]),
            *(shown(ratings[one["model"]]) if ratings else ()),
            *(f"{one[name]}" for name in ("wins", "losses", "ties", "both_bad")),
            f"{one['mean_length']:.0f}",
        ]
        for one in told["standings"]
    ]
    length = ["without length", "95% interval"] if ratings else []
    return ["", "rating", "95% interval", *length, "wins", "losses", "ties", "both bad", "characters"], rows


def shown(interval: dict[str, float | None]) -> list[str]:
    """A rating and its interval."""
    low, high = interval["low"], interval["high"]
    return [f"{interval['value']:.0f}", "-" if low is None or high is None else f"{low:.0f} to {high:.0f}"]


def remarks(told: dict[str, Any]) -> list[str]:
    """What else there is to know, a line each."""
    lines = [f"{told['votes']} votes on {told['prompts']} prompts; 400 points are odds of ten to one"]
    if left := told["left_advantage"]:
        low, high = left["low"], left["high"]
        between = "" if low is None else f" (95%: {low:.1%} to {high:.1%})"
        lines.append(f"of two equals the left one is preferred in {left['value']:.1%}{between}")
    if controlled := told["length_controlled"]:
        effect = controlled["length_effect"]
        value, interval = shown(effect)
        lines.append(f"an answer that is longer by the typical difference gains {value} points (95%: {interval})")
    else:
        lines.append(f"no ratings without length: {told['no_length_control']}")
    if len(told["groups"]) > 1:
        groups = " | ".join(", ".join(group) for group in told["groups"])
        lines.append(
            f"no vote ever went against the better side of a bar: {groups}: how far apart these are votes cannot say"
        )
    return lines
