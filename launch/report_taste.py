"""What pages show of taste: what was ranked, how well a reward model orders, and what a policy does to please one."""

import math
from pathlib import Path
from typing import Any

from launch.compare_runs import Run
from launch.report_page import Chapter, figure, heading, how_long, number, quoted, table, words
from launch.report_practice import evaluations_part
from launch.report_reading import loss_part
from launch.taste_figures import accuracy_figure, hump_figure
from lm.metrics import read_json_lines

SHOWN = 6  # answers before and after
RANKINGS = (
    "What no verifier can score, such as a joke, a rater puts in order. From the orders the model learns which answers are "
    "preferred. Look at how often it orders a pair as the rater did, and whether it goes by length."
)
PLEASES = (
    "Reinforcement learning again, but what scores the answers is the reward model. It is only a proxy for the rater, and can be "
    "gamed. Look at whether the rater's own taste, which training never sees, goes on rising when the reward does."
)
PAIRS = {
    "pair_accuracy": "all pairs",
    "pairs.near.right": "neighbours in the ranking",
    "pairs.far.right": "further apart",
    "pairs.better_shorter.right": "the better one is the shorter",
    "pairs.better_longer.right": "the better one is the longer",
}


def rankings_chapter(run: Run, into: Path, what: str) -> Chapter:
    """Of a run that learnt from rankings; its figures are drawn in the folder `into`."""
    rankings = read_json_lines(run.folder / "rankings.jsonl")
    parts, came_out = _ranking(rankings), ""
    if run.evaluations:
        best = min(run.evaluations, key=lambda record: record["loss"])
        best_possible = ceiling(rankings)
        accuracy_figure(into / "pairs.png", run.evaluations, best_possible)
        rows = [[words(told), number(f"{best[name]:.1%}")] for name, told in PAIRS.items() if name in best]
        if best_possible:
            rows.append([words("the rater's own taste, of all pairs"), number(f"{best_possible:.1%}")])
        note = (
            f"At the best step ({best['step']}). Were the last two kinds of pairs far apart, it would go by length. A rater in a "
            "mood contradicts itself: nobody can be right about all."
        )
        parts += [
            heading("Does it order as the rater does?", note),
            figure(into / "pairs.png", "Held-out pairs ordered as the rater did, against steps."),
            table(["held-out pairs", "right"], rows),
        ]
        came_out = f"{best['pair_accuracy']:.1%} of held-out pairs ordered as the rater did (step {best['step']})"
    parts += [heading("The loss"), loss_part(run, into)]
    went_in = what + (f": {len(rankings):,} rankings" if rankings else "")
    return Chapter(run.folder, "It learns taste", RANKINGS, went_in, came_out, parts, **how_long(run))


def _ranking(rankings: list[dict[str, Any]]) -> list[str]:
    """The first held-out ranking, best answer first."""
    row = next((row for row in rankings if row["held_out"]), None)
    if row is None:
        return []
    gold = row.get("gold") or [None] * len(row["responses"])
    ordered = sorted(zip(row["ranks"], row["responses"], gold, strict=True), key=lambda each: each[0])
    rows = [
        [
            number(str(rank + 1)),
            words(text, "" if taste is None else f"the rater's own taste: {taste:+.2f}"),
        ]
        for rank, text, taste in ordered
    ]
    note = (
        f"One of {len(rankings):,} rankings, held out from training. A synthetic rater has moods: it may not quite follow its "
        "taste."
    )
    return [heading("What the rater said", note), quoted(row["prompt"]), table(["place", "answer"], rows)]


def ceiling(rankings: list[dict[str, Any]]) -> float | None:
    """How often the synthetic rater's own taste foresees what it says, where that is known."""
    if not rankings:
        return None
    from lm.rl.telling import rater_ceiling

    found = rater_ceiling(rankings)
    return None if math.isnan(found) else found


def pleasing_chapter(run: Run, into: Path, what: str) -> Chapter:
    """Of a policy that a reward model rewarded; its figure is drawn in the folder `into`."""
    samples = read_json_lines(run.folder / "samples.jsonl")
    parts, came_out = [], ""
    if run.evaluations:
        hump_figure(into / "pleasing.png", run.evaluations)
        caption = (
            "What the reward model says, and the rater's own taste where it is known, the further training goes. The star is "
            "where the taste is pleased best: where the lines part, the policy pleases the model and not the rater."
        )
        parts = [heading("Does it please the rater?"), figure(into / "pleasing.png", caption)]
        first, last = run.evaluations[0], run.evaluations[-1]
        best = min(run.evaluations, key=lambda record: record["loss"])
        names = {"reward": "reward model", "gold": "rater's own taste"}
        came_out = "; ".join(
            f"{told} {first[name]:+.2f} at first, {best[name]:+.2f} at step {best['step']} (best), {last[name]:+.2f} at the end"
            for name, told in names.items()
            if name in last
        )
    parts += [
        *evaluations_part("Held-out prompts", run.evaluations, lambda _, value: f"{value:.2f}"),
        *_furthest_apart(samples, run.evaluations),
        *_before_and_after(samples, run.evaluations),
    ]
    data = run.config["data"]
    went_in = f"{what}: {data['prompts']} prompts a step, {data['samples']} answers to each"
    if models := data["taste"]["models"]:
        went_in += f", scored by {', '.join(models)}"
    return Chapter(run.folder, "It learns to please", PLEASES, went_in, came_out, parts, **how_long(run))


def _furthest_apart(samples: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> list[str]:
    """Of the last answers, the one that the reward model likes so much more than the rater's own taste does."""
    last = [s for s in samples if s["step"] == samples[-1]["step"] and "reward" in s]
    if not last or not evaluations or "gold" not in evaluations[-1]:
        return []
    found = max(last, key=lambda s: s["reward"] - s["score"])
    note = (
        f"Of {len(last)} answers to one prompt at step {found['step']}, the one with the most reward beyond the rater's own "
        "taste."
    )
    told = f"reward model {found['reward']:+.2f}, the rater's own taste {found['score']:+.2f}"
    return [heading("Where the two disagree most", note), quoted(found["text"], told)]


def _before_and_after(samples: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> list[str]:
    """Answers to one prompt before, near the best step, and at the end."""
    if not samples:
        return []
    steps = sorted({s["step"] for s in samples})
    best = min(evaluations, key=lambda record: record["loss"])["step"] if evaluations else steps[-1]
    near = min(steps, key=lambda step: abs(step - best))
    shown = list(dict.fromkeys([steps[0], near, steps[-1]]))
    columns = [[s for s in samples if s["step"] == step][:SHOWN] for step in shown]
    rows = [
        [words(s["text"], f"reward {s['reward']:+.1f}, {s['reason']}" if "reward" in s else "") for s in row]
        for row in zip(*columns, strict=False)
    ]
    return [
        heading("One prompt, again and again"),
        quoted(samples[0]["prompt"]),
        table([f"step {step}" for step in shown], rows, stacked=True),
    ]
