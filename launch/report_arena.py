"""What pages show of an arena: for each judge the ratings, and who was preferred to whom."""

import json
from pathlib import Path

from launch.arena_figures import ratings_figure, win_matrix_figure
from launch.arena_report import remarks, shown, standings_rows
from launch.report_page import Chapter, command_of, figure, heading, number, table, words

ARENA = (
    "Models answer the same prompts, a judge says of every two answers which is better, and the votes become ratings. Look at "
    "which intervals do not overlap."
)


def arena_chapter(folder: Path, into: Path) -> Chapter:
    """Of the folder of an arena, with ratings by one judge or more; its figures are drawn in the folder `into`."""
    parts, went_in, came_out = [], [], []
    files = sorted(folder.glob("*/ratings.json"))
    for file in files:
        told = json.loads(file.read_text())
        name, best = judge(file.parent), told["standings"][0]
        ratings_figure(into / "ratings.png", told)
        win_matrix_figure(into / "wins.png", told["wins"])
        header, rows = standings_rows(told)
        parts += [
            heading(f"Judged by {name}", "; ".join([*told["notes"], *remarks(told)]) + "."),
            figure(into / "ratings.png", "Ratings with their 95% intervals, best on top."),
            table(header, [[words(row[0]), *map(number, row[1:])] for row in rows]),
            figure(into / "wins.png", "How often each model (row) was preferred to each other (column), ties as half."),
        ]
        went_in.append(f"{len(rows)} models, {told['prompts']} prompts, {told['votes']:,} votes by {name}")
        came_out.append(f"best: {best['model']}, {' points, 95%: '.join(shown(best['rating']))}")
    command = "\n".join(filter(None, (command_of(file.parent) for file in files)))
    return Chapter(folder, "Who is better?", ARENA, "; ".join(went_in), "; ".join(came_out), parts, command=command)


def judge(folder: Path) -> str:
    """The judge whose votes a folder holds."""
    file = folder / "judge.json"
    return str(json.loads(file.read_text())["judge"]) if file.exists() else folder.name
