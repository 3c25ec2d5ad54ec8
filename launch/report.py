"""A page about a run, to be read by people: what it learnt, how its writing got better, and what it knows.

    python -m launch.report --workdir=runs/course

writes `runs/course/report.html`, one file without outside parts, and `recall.json` for a run on the school.
"""

import html
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli
from launch.figures import embedded, loss_figure, practice_figure, recall_figure
from launch.report_practice import practice_parts
from launch.report_taste import pleasing_parts, reward_parts
from lm.metrics import duration, read_json_lines

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem }
img { max-width: 100% }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.text { white-space: pre-wrap; font-family: ui-monospace, monospace; font-size: .85rem }
.prompt { color: #777 }
.note { color: #555 }
.right { background: #e6f4e6 } .wrong { background: #fbeaea }
"""


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run.")


def main(_: list[str]) -> None:
    """Measure recall where the run learnt the school, then write the page."""
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    workdir = Path(flags.FLAGS.workdir).expanduser()

    from launch.workdir import read_config, sources_of

    cli.remember_compilations(Path(cli.CACHE))
    config = read_config(workdir)
    steps = read_json_lines(workdir / "metrics.jsonl")
    if not steps:
        raise UserError(f"{workdir} has no steps yet: train first (python -m launch.train)")
    loss_figure(workdir)
    practises = "right" in steps[-1]
    if practises:
        practice_figure(workdir)
    learnt = "school" in sources_of(config) and not practises and "reward" not in steps[-1]
    recall = measure_recall(workdir, config) if learnt else []
    if recall:
        recall_figure(workdir, recall)
    path = workdir / "report.html"
    path.write_text(page(workdir, config, steps, recall), encoding="utf-8")
    print(f"wrote {path}")


def measure_recall(workdir: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the newest model for facts of the school, told and never told; a dict of `Recall` for each frequency."""
    from tqdm import tqdm

    from launch.workdir import load_model, school_of
    from lm.recall import school_recall

    school = school_of(config)
    model, tokenizer, _ = load_model(workdir)
    with tqdm(desc="asking for facts", unit=" sentences") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        recall = [asdict(entry) for entry in school_recall(model, tokenizer, school, on_progress=progress)]
    (workdir / "recall.json").write_text(json.dumps(recall, indent=2) + "\n")
    return recall


def page(workdir: Path, config: dict[str, Any], steps: list[dict[str, Any]], recall: list[dict[str, Any]]) -> str:
    """The whole page."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(workdir.name)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(workdir.name)}</h1>",
        f"<p class=note>{_summary(config, steps, read_json_lines(workdir / 'evaluations.jsonl'))}</p>",
        *_main_parts(workdir, config, steps),
        *_answers(read_json_lines(workdir / "evaluations.jsonl")[-1:]),
    ]
    if recall:
        parts += [
            "<h2>What it knows</h2><p class=note>Facts of the school, by the number of training documents that tell them. "
            "Each is compared with the same sentence about seven other values: <i>preferred</i> is the share of "
            "comparisons that the fact wins (chance 50%), <i>first</i> the share of facts that win all seven (chance 12.5%). "
            "Nobody can know what was never told: that row must stay at chance.</p>",
            embedded(workdir / "recall.png", "recall against how often a fact was told"),
            "<table><tr><th>told in documents<th>facts<th>preferred<th>first</tr>",
            *(
                f"<tr><td class=number>{r['frequency'] or 'never'}<td class=number>{r['facts']}"
                f"<td class=number>{r['preferred']:.1%}<td class=number>{r['first']:.1%}</tr>"
                for r in recall
            ),
            "</table>",
        ]
    parts += [
        "<h2>The model</h2><p class=note>Every part and its shape; those of <code>blocks</code> are stacked, a layer each.</p>",
        *_model(config["model"]),
    ]
    parts += ["<h2>The experiment</h2>", f"<pre class=text>{html.escape(json.dumps(config, indent=2))}</pre>"]
    return "\n".join(parts) + "\n"


def _summary(config: dict[str, Any], steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> str:
    from launch.workdir import sources_of

    last = steps[-1]
    what = html.escape(", ".join(sources_of(config)))
    time = f"{last['step']:,} of {config['steps']:,} steps in {duration(last['seconds'])}"
    if "reward" in last:
        return f"Practised {what}: {time}."
    if "pair_accuracy" in last:
        return f"Learnt from rankings ({what}): {time}."
    tokens = last["step"] * config["batch_size"] * config["model"]["context_length"]
    text = f"Read {what}: {time}, {tokens:,} tokens; training loss {steps[0]['loss']:.2f} to {last['loss']:.2f}."
    if evaluations:
        end, best = evaluations[-1], min(evaluations, key=lambda record: record["loss"])
        text += f" Held-out text: {end['loss']:.3f} nats per token, {end['bits_per_byte']:.3f} bits per byte"
        text += "." if best is end else f" (best: {best['bits_per_byte']:.3f} at step {best['step']})."
    if "dollars" in last:
        text += f" Cost: ${last['dollars']:,.2f}."
    return text


def _model(values: dict[str, Any]) -> list[str]:
    from launch.workdir import model_config
    from lm.model.summary import parameter_count, parameter_shapes

    shapes = parameter_shapes(model_config(values))
    rows = [
        f"<tr><td class=text>{name}<td class=text>{' x '.join(map(str, shape))}<td class=number>{math.prod(shape):,}</tr>"
        for name, shape in shapes.items()
    ]
    total = f"<tr><th>all<th><td class=number>{parameter_count(shapes):,}</tr>"
    return ["<table><tr><th>part<th>shape<th>parameters</tr>", *rows, total, "</table>"]


def _main_parts(workdir: Path, config: dict[str, Any], steps: list[dict[str, Any]]) -> list[str]:
    """What matters most, by the stage that left these steps."""
    from launch.workdir import read_documents

    if "right" in steps[-1]:
        return practice_parts(workdir, steps)
    if "reward" in steps[-1]:
        return pleasing_parts(workdir)
    if "pair_accuracy" in steps[-1]:
        loss = ["<h2>Loss</h2>", embedded(workdir / "loss.png", "training and validation loss against steps")]
        return [*reward_parts(workdir), *loss]
    return _learnt(workdir, read_documents(config))


def _learnt(workdir: Path, documents: bool) -> list[str]:
    loss = ["<h2>Loss</h2>", embedded(workdir / "loss.png", "training and validation loss against steps")]
    note = "<h2>What it wrote</h2><p class=note>The same prompts and the same random numbers, as training went on.</p>"
    return [*loss, note, *(_samples if documents else _conversations)(read_json_lines(workdir / "samples.jsonl"))]


def _samples(samples: list[dict[str, Any]]) -> list[str]:
    rows = [
        f"<tr><td class=number>{s['step']}<td class=text><span class=prompt>{html.escape(s['prompt'])}</span>"
        f"{html.escape(s['text'])}</tr>"
        for s in samples
    ]
    return ["<table><tr><th>step<th>text</tr>", *rows, "</table>"]


def _conversations(samples: list[dict[str, Any]]) -> list[str]:
    """What was asked, and the answers before and after."""
    steps = sorted({s["step"] for s in samples})
    if not steps:
        return []
    told = {(s["step"], s["prompt"]): s["text"] for s in samples}
    rows = [
        f"<tr><td class=text>{html.escape(prompt)}"
        + "".join(f"<td class=text>{html.escape(told.get((step, prompt), ''))}" for step in (steps[0], steps[-1]))
        + "</tr>"
        for prompt in dict.fromkeys(s["prompt"] for s in samples)
    ]
    header = f"<tr><th>asked<th>before (step {steps[0]})<th>after (step {steps[-1]})</tr>"
    return ["<table>", header, *rows, "</table>"]


def _answers(evaluations: list[dict[str, Any]]) -> list[str]:
    """How questions were answered in the last evaluation: metrics named TOPIC.KIND.MEASURE."""
    groups: dict[str, dict[str, float]] = {}
    for record in evaluations:
        for name, value in record.items():
            if name.count(".") >= 2 and not name.startswith("pairs."):
                group, _, measure = name.rpartition(".")
                groups.setdefault(group, {})[measure] = value
    if not groups:
        return []
    measures = ("right", "refused", "called")
    rows = [
        f"<tr><td>{html.escape(group)}"
        + "".join(f"<td class=number>{found[m]:.0%}" if m in found else "<td>" for m in measures)
        for group, found in groups.items()
    ]
    return [
        "<h2>What it answers</h2><p class=note>Questions that training never asked, by topic and kind: the share answered right, "
        "refused, and answered with a tool. <i>told</i> and <i>rare</i>: finetuning never asked about these people, so that what "
        "is right comes from documents alone; <i>unknown</i>: no document tells of them.</p>",
        "<table><tr><th>questions<th>right<th>refused<th>with a tool</tr>",
        *rows,
        "</table>",
    ]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
