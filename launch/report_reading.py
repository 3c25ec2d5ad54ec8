"""What pages show of a run that learnt from text: the loss, what it writes, what it answers, and what it knows."""

import html
import json
from pathlib import Path
from typing import Any

from launch.compare_runs import Run
from launch.figures import loss_figure, recall_figure
from launch.report_page import Chapter, figure, heading, how_long, number, table, words
from lm.metrics import read_json_lines

READS = (
    "Pretraining. The model reads documents and learns to foresee the token that comes next. Look at how its writing changes "
    "with the steps, and at what it knows against how often it was told."
)
IMITATES = (
    "Finetuning. The same training goes on with worked conversations, and learns from what the assistant says in them. Look at "
    "the same questions before and after, and at what is answered about those it read of and those it was never told of."
)
ANSWERS = (
    "Questions that training never asked, by topic and kind: the share answered right, refused, and answered with a tool. "
    "“Told” and “rare”: finetuning never asked about these people, so that what is right comes from documents alone; "
    "“unknown”: no document tells of them."
)
MEASURES = {"right": "right", "refused": "refused", "called": "with a tool"}


def reading_chapter(run: Run, into: Path, what: str, documents: bool) -> Chapter:
    """Of a run that read documents, or conversations; its figures are drawn in the folder `into`."""
    recall = _measured_recall(run.folder)
    samples = read_json_lines(run.folder / "samples.jsonl")
    parts = [
        heading("The loss"),
        loss_part(run, into),
        *(_samples if documents else _conversations)(samples),
        *answers_part("What it answers", ANSWERS, run.evaluations[-1:]),
        *_recall(recall, into),
    ]
    came_out = [f"training loss {run.steps[0]['loss']:.2f} to {run.steps[-1]['loss']:.2f}"]
    if run.evaluations:
        end, best = run.evaluations[-1], min(run.evaluations, key=lambda record: record["loss"])
        came_out.append(f"held-out text {end['loss']:.3f} nats per token, {end['bits_per_byte']:.3f} bits per byte")
        if best is not end:
            came_out[-1] += f" (best: {best['bits_per_byte']:.3f} at step {best['step']})"
        asked = {kind: end.get(f"facts.{kind}.right") for kind in ("told", "unknown")}
        came_out += [f"facts of {kind} people {share:.0%} right" for kind, share in asked.items() if share is not None]
    if recall and documents:
        told = ", ".join(f"{r['preferred']:.0%} told {r['frequency']} times" for r in (recall[-1], recall[0]))
        came_out.append(f"comparisons that facts win: {told} (chance 50%)")
    return Chapter(
        run.folder,
        "It reads" if documents else "It imitates",
        READS if documents else IMITATES,
        f"{what}: {run.last_step * run.tokens_per_step:,} tokens",
        "; ".join(came_out),
        parts,
        **how_long(run),
    )


def loss_part(run: Run, into: Path) -> str:
    """The loss figure."""
    return figure(loss_figure(into / "loss.png", run), "Training and validation loss against steps.")


def _samples(samples: list[dict[str, Any]]) -> list[str]:
    """What each prompt led to, step by step."""
    rows = [
        [
            number(f"{s['step']:,}"),
            f"<td class=text><span class=prompt>{html.escape(s['prompt'])}</span>{html.escape(s['text'])}",
        ]
        for prompt in _prompts(samples)
        for s in samples
        if s["prompt"] == prompt
    ]
    note = "The same prompts (grey) and the same random numbers, as training went on."
    return [heading("What it wrote", note), table(["step", "text"], rows)] if rows else []


def _prompts(samples: list[dict[str, Any]]) -> list[str]:
    """The prompts, each once, as they first came."""
    return list(dict.fromkeys(s["prompt"] for s in samples))


def _conversations(samples: list[dict[str, Any]]) -> list[str]:
    """What was asked, and the answers before and after."""
    if not samples:
        return []
    first, last = samples[0]["step"], samples[-1]["step"]
    told = {(s["step"], s["prompt"]): s["text"] for s in samples}
    rows = [
        [words(prompt, kind="prompt"), *(words(told.get((step, prompt), "")) for step in (first, last))]
        for prompt in _prompts(samples)
    ]
    header = ["asked", f"before (step {first})", f"after (step {last})"]
    return [heading("What it says, before and after"), table(header, rows, stacked=True)]


def answers_part(title: str, note: str, evaluations: list[dict[str, Any]]) -> list[str]:
    """How questions were answered in an evaluation, if there was one: metrics named TOPIC.KIND.MEASURE."""
    groups: dict[str, dict[str, float]] = {}
    for record in evaluations:
        for name, value in record.items():
            if name.count(".") >= 2:
                group, _, measure = name.rpartition(".")
                groups.setdefault(group, {})[measure] = value
    measures = [name for name in MEASURES if any(name in found for found in groups.values())]
    rows = [
        [
            words(group.replace(".", ": ").replace("_", " ")),
            *(number(f"{found[m]:.0%}" if m in found else "") for m in measures),
        ]
        for group, found in groups.items()
    ]
    return [heading(title, note), table(["questions", *(MEASURES[m] for m in measures)], rows)] if rows else []


def _measured_recall(folder: Path) -> list[dict[str, Any]]:
    """The recall that `launch.report` measured; nothing where it did not."""
    file = folder / "recall.json"
    return json.loads(file.read_text()) if file.exists() else []


def _recall(recall: list[dict[str, Any]], into: Path) -> list[str]:
    if not recall:
        return []
    recall_figure(into / "recall.png", recall)
    rows = [
        [
            number(str(r["frequency"] or "never")),
            number(str(r["facts"])),
            number(f"{r['preferred']:.1%}"),
            number(f"{r['first']:.1%}"),
        ]
        for r in recall
    ]
    note = (
        "Facts of the school, by the number of training documents that tell them. Each is compared with the same sentence about "
        "seven other values: “preferred” is the share of comparisons that the fact wins (chance 50%), “first” the share of facts "
        "that win all seven (chance 12.5%). Nobody can know what was never told: that row must stay at chance."
    )
    return [
        heading("What it knows", note),
        figure(into / "recall.png", "Recall against how often a fact was told; dotted, what chance gives."),
        table(["told in documents", "facts", "preferred", "first"], rows),
    ]
