"""What the page about a run shows of taste: how well a reward model orders, and what a policy does to please one."""

import html
import json
import math
from pathlib import Path
from typing import Any

from launch.figures import embedded
from launch.taste_figures import accuracy_figure, hump_figure
from lm.metrics import read_json_lines

SHOWN = 6  # jokes before and after


def reward_parts(workdir: Path) -> list[str]:
    """The parts of the page of a run that learnt from rankings; draws `pairs.png`."""
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    if not evaluations:
        return []
    best = min(evaluations, key=lambda record: record["loss"])
    best_possible = ceiling(workdir)
    accuracy_figure(workdir, best_possible)
    names = {
        "pair_accuracy": "all pairs",
        "pairs.near.right": "neighbours in the ranking",
        "pairs.far.right": "further apart",
        "pairs.better_shorter.right": "the better one is the shorter",
        "pairs.better_longer.right": "the better one is the longer",
    }
    rows = [f"<tr><td>{told}<td class=number>{best[name]:.1%}" for name, told in names.items() if name in best]
    if best_possible:
        rows.append(f"<tr><td>the rater's own taste, of all pairs<td class=number>{best_possible:.1%}")
    return [
        "<h2>Rankings</h2>",
        embedded(workdir / "pairs.png", "held-out pairs ordered as the rater did, against steps"),
        f"<p class=note>Held-out pairs ordered as the rater ordered them, at the best step ({best['step']}). Were the last two "
        "kinds far apart, it would go by length. A rater in a mood contradicts itself: nobody can be right about all.</p>",
        "<table><tr><th>pairs<th>right</tr>",
        *rows,
        "</table>",
    ]


def ceiling(workdir: Path) -> float | None:
    """How often the synthetic rater's own taste foresees what it says, where that is known."""
    rows = read_json_lines(workdir / "rankings.jsonl")
    if not rows:
        return None
    from lm.rl.telling import rater_ceiling

    noise = json.loads((workdir / "config.json").read_text())["data"]["jokes"]["noise"]
    found = rater_ceiling(rows, noise)
    return None if math.isnan(found) else found


def pleasing_parts(workdir: Path) -> list[str]:
    """The parts of the page of a policy that a reward model rewarded; draws `pleasing.png`."""
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    hump_figure(workdir / "pleasing.png", {"": evaluations})
    return [
        "<h2>Pleasing</h2>",
        embedded(workdir / "pleasing.png", "reward and gold against the root of KL"),
        "<p class=note>What the reward model says, and the rater's own taste, which training never sees. Where the two part, the "
        "policy has found out how to please the model and not the rater: the best checkpoint is the one before.</p>",
        *_table(evaluations),
        *_before_and_after(read_json_lines(workdir / "samples.jsonl"), evaluations),
    ]


def _table(evaluations: list[dict[str, Any]]) -> list[str]:
    if not evaluations:
        return []
    names = [name for name in evaluations[-1] if name not in ("step", "loss")]
    best = min(evaluations, key=lambda record: record["loss"])
    few = evaluations if len(evaluations) <= 8 else [*evaluations[:1], best, *evaluations[-6:]]
    rows = [
        f"<tr><td class=number>{record['step']}{' (best)' if record is best else ''}"
        + "".join(f"<td class=number>{record[name]:.2f}" if name in record else "<td>" for name in names)
        for record in {record["step"]: record for record in few}.values()
    ]
    header = "".join(f"<th>{html.escape(name.replace('_', ' '))}" for name in names)
    return ["<h2>Held-out prompts</h2>", f"<table><tr><th>step{header}</tr>", *rows, "</table>"]


def _before_and_after(samples: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> list[str]:
    """Answers to one prompt before, near the best step, and at the end."""
    steps = sorted({s["step"] for s in samples})
    if not steps:
        return []
    best = min(evaluations, key=lambda record: record["loss"])["step"] if evaluations else steps[-1]
    near = min(steps, key=lambda step: abs(step - best))
    shown = list(dict.fromkeys([steps[0], near, steps[-1]]))
    columns = [[s for s in samples if s["step"] == step][:SHOWN] for step in shown]
    parts = [f"<h2>One prompt, again and again</h2><p class=text>{html.escape(samples[0]['prompt'])}</p><table><tr>"]
    parts += [f"<th>step {step}" for step in shown]
    for row in zip(*columns, strict=False):
        parts.append("<tr>")
        for s in row:
            note = f"reward {s['reward']:+.1f}, {html.escape(s['reason'])}" if "reward" in s else ""
            parts.append(f"<td><span class=text>{html.escape(s['text'])}</span><br><span class=note>{note}</span>")
    return [*parts, "</table>"]
