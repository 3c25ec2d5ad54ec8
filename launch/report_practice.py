"""What pages show of practice: how it went, one problem before and after, and rollouts worth reading."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.compare_runs import Run
from launch.figures import practice_figure
from launch.report_page import Chapter, figure, heading, how_long, number, quoted, table, words
from launch.report_reading import answers_part
from lm.metrics import read_json_lines

PRACTISES = (
    "Reinforcement learning. The model tries each problem several times, a verifier says which tries reached the answer, and "
    "what did better than the other tries becomes likelier: nobody shows it a solution. Look at how often it is right, how long "
    "its answers get, and how often it calls a tool."
)


def practice_chapter(run: Run, into: Path, what: str) -> Chapter:
    """Of a run that practised problems; its figure is drawn in the folder `into`."""
    practice_figure(into / "practice.png", run)
    busy = {name: sum(r[f"{name}_seconds"] for r in run.steps) for name in ("sampling", "verifying")}
    total = run.steps[-1]["seconds"] or 1.0
    split = ", ".join(f"{name} {share / total:.0%}" for name, share in busy.items())
    caption = (
        "Left: right answers and calls against steps, in practice and on held-out problems. Middle: the length of a rollout. "
        f"Right: how often one of k tries is right, before and after. Of the time: {split}, the rest training, evaluation "
        "and start-up."
    )
    parts = [
        heading("How it went"),
        figure(into / "practice.png", caption),
        *evaluations_part("Held-out problems", run.evaluations, _shown),
        *answers_part(
            "By kind of problem", "In the last evaluation, the likeliest answer to each.", run.evaluations[-1:]
        ),
        *_before_and_after(read_json_lines(run.folder / "samples.jsonl")),
        *_rollouts(read_json_lines(run.folder / "rollouts.jsonl")),
    ]
    data = run.config["data"]
    came_out = ""
    if run.evaluations:
        first, last = run.evaluations[0], run.evaluations[-1]
        came_out = "held-out problems right: " + ", ".join(
            f"{record['accuracy']:.1%} at step {record['step']}" for record in (first, last)
        )
    went_in = f"{what}: {data['prompts']} problems a step, {data['samples']} tries at each"
    return Chapter(run.folder, "It practises", PRACTISES, went_in, came_out, parts, **how_long(run))


def evaluations_part(title: str, evaluations: list[dict[str, Any]], shown: Callable[[str, float], str]) -> list[str]:
    """A row an evaluation, the best one marked; `shown(name, value)` is a cell's text."""
    if not evaluations:
        return []
    names = [name for name in evaluations[-1] if name not in ("step", "loss") and "." not in name]
    best = min(evaluations, key=lambda record: record["loss"])
    few = evaluations if len(evaluations) <= 8 else [evaluations[0], best, *evaluations[-6:]]
    rows = [
        [
            number(f"{record['step']}{' (best)' if record is best else ''}"),
            *(number(shown(name, record[name]) if name in record else "") for name in names),
        ]
        for record in {record["step"]: record for record in few}.values()
    ]
    return [heading(title), table(["step", *(name.replace("_", " ") for name in names)], rows)]


def _shown(name: str, value: float) -> str:
    return f"{value:.1f}" if name == "length" else f"{value:.1%}"


def _before_and_after(samples: list[dict[str, Any]]) -> list[str]:
    """One held-out problem, the same number of tries before and after: green reached the answer."""
    if not samples:
        return []
    columns = {step: [s for s in samples if s["step"] == step] for step in (samples[0]["step"], samples[-1]["step"])}
    header = [
        f"step {step}: {sum(s['score'] >= 1 for s in column)} of {len(column)} reached the answer"
        for step, column in columns.items()
    ]
    rows = [
        [words(s["text"], kind="right" if s["score"] >= 1 else "wrong", title=s["reason"]) for s in row]
        for row in zip(*columns.values(), strict=True)
    ]
    return [heading("One problem, again and again"), quoted(samples[0]["prompt"]), table(header, rows)]


def _rollouts(rollouts: list[dict[str, Any]]) -> list[str]:
    """The best, the worst and the odd ones of the last round that kept any."""
    rows = [
        [
            words(r["why"]),
            words(r["prompt"], kind="prompt"),
            words(r["text"]),
            number(f"{r['reward']:.2f}"),
            words(r["reason"]),
        ]
        for r in rollouts
        if r["step"] == rollouts[-1]["step"]
    ]
    header = ["", "problem", "rollout", "reward", "reason"]
    return [heading(f"Rollouts of step {rollouts[-1]['step']}"), table(header, rows, stacked=True)] if rows else []
