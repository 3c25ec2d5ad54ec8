"""A trained model against the n-gram models and xz, on the same held-out documents.

    python -m launch.train --config=experiments/pretrain/tiny.py:pydoc --workdir=runs/pydoc
    python tests/benchmarks/bits_per_byte.py --workdir=runs/pydoc

Works for any run with a single source. The n-gram models and xz learn from the run's training documents, and everything is
measured in bits per byte of its held-out ones; the model's figures are those the run measured on all of them.
"""

import sys
from pathlib import Path

from absl import app, flags
from ngram import bits_per_byte, xz_bits_per_byte

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.shards import is_held_out
from data_pipeline.sources import read_documents
from launch.workdir import read_config
from lm.metrics import duration, read_json_lines

flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)


def main(_: list[str]) -> None:
    """Print the table."""
    workdir = Path(flags.FLAGS.workdir)
    data = read_config(workdir)["data"]
    (source,) = data["sources"]
    school = SchoolConfig(**{**data["school"], "frequencies": tuple(data["school"]["frequencies"])})
    train: list[bytes] = []
    test: list[bytes] = []
    for document in read_documents(source, school=school, set_aside=SetAside(workdir / "benchmark_set_aside.jsonl")):
        (test if is_held_out(document, data["held_out"]) else train).append(document.text.encode())
    print(f"{source}: {sum(map(len, train)):,} bytes to learn from, {sum(map(len, test)):,} held out")
    rows = [(f"byte {order}-gram (Witten-Bell)", bits_per_byte(train, test, order)) for order in (3, 4, 5, 6)]
    rows += [
        ("xz -9e, held-out text alone", xz_bits_per_byte([], test)),
        ("xz -9e, after the training text", xz_bits_per_byte(train, test)),
    ]
    seconds = {record["step"]: record["seconds"] for record in read_json_lines(workdir / "metrics.jsonl")}
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    best = min(evaluations, key=lambda record: record["loss"])
    for name, record in (("best", best), ("last", evaluations[-1])):
        when = f"step {record['step']}, {duration(seconds[record['step']])}"
        rows.append((f"this run, {name} ({when})", record["bits_per_byte"]))
    for name, value in rows:
        print(f"| {name:<40} | {value:.3f} |")


if __name__ == "__main__":
    app.run(main)
