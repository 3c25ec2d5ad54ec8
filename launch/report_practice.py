"""What the page about a run shows of practice: how it went, one problem before and after, and rollouts worth reading."""

import html
from pathlib import Path
from typing import Any

from launch.figures import embedded
from lm.metrics import read_json_lines


def practice_parts(workdir: Path, steps: list[dict[str, Any]]) -> list[str]:
    """The parts of the page; `practice.png` is drawn already."""
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    last = steps[-1]
    busy = {name: sum(r[f"{name}_seconds"] for r in steps) for name in ("sampling", "verifying")}
    total = last["seconds"] or 1.0
    split = ", ".join(f"{name} {share / total:.0%}" for name, share in busy.items())
    return [
        "<h2>Practice</h2>",
        embedded(workdir / "practice.png", "reward, length and pass@k"),
        f"<p class=note>Of the time: {split}, the rest training, evaluation and start-up.</p>",
        *_table(evaluations),
        *_before_and_after(read_json_lines(workdir / "samples.jsonl")),
        *_rollouts(read_json_lines(workdir / "rollouts.jsonl")),
    ]


def _table(evaluations: list[dict[str, Any]]) -> list[str]:
    if not evaluations:
        return []
    names = [name for name in evaluations[-1] if name not in ("step", "loss") and name.count(".") == 0]
    rows = [
        f"<tr><td class=number>{record['step']}"
        + "".join(f"<td class=number>{_number(name, record.get(name))}" for name in names)
        for record in (evaluations if len(evaluations) <= 8 else [*evaluations[:1], *evaluations[-7:]])
    ]
    header = "".join(f"<th>{html.escape(name.replace('_', ' '))}" for name in names)
    return ["<h2>Held-out problems</h2>", f"<table><tr><th>step{header}</tr>", *rows, "</table>"]


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if name == "length" else f"{value:.1%}"


def _before_and_after(samples: list[dict[str, Any]]) -> list[str]:
    """One held-out problem, the same number of tries before and after: green reached the answer."""
    steps = sorted({s["step"] for s in samples})
    if not steps:
        return []
    parts = [f"<h2>One problem, again and again</h2><p class=text>{html.escape(samples[0]['prompt'])}</p><table><tr>"]
    shown = steps[:1] + steps[1:][-1:]
    columns = [[s for s in samples if s["step"] == step] for step in shown]
    for step, column in zip(shown, columns, strict=True):
        right = sum(s["score"] >= 1 for s in column)
        parts.append(f"<th>step {step}: {right} of {len(column)} reached the answer")
    for row in zip(*columns, strict=True):
        parts.append("<tr>")
        for s in row:
            colour = "right" if s["score"] >= 1 else "wrong"
            parts.append(f'<td class="text {colour}" title="{html.escape(s["reason"])}">{html.escape(s["text"])}')
    return [*parts, "</table>"]


def _rollouts(rollouts: list[dict[str, Any]]) -> list[str]:
    """The best, the worst and the odd ones of the last round that kept any."""
    if not rollouts:
        return []
    last = [r for r in rollouts if r["step"] == rollouts[-1]["step"]]
    rows = [
        f"<tr><td>{html.escape(r['why'])}<td class=text>{html.escape(r['prompt'])}<td class=text>{html.escape(r['text'])}"
        f"<td class=number>{r['reward']:.2f}<td class=text>{html.escape(r['reason'])}"
        for r in last
    ]
    return [
        f"<h2>Rollouts of step {last[0]['step']}</h2><table><tr><th><th>problem<th>rollout<th>reward<th>reason",
        *rows,
        "</table>",
    ]
