"""Invention before and after probing, with a control, over several seeds: one command for map rows 13 and 14.

    python -m launch.hallucination --root=runs/hallucination --seeds=3

For each seed, in ROOT/seed-N: `before` is finetuned on answers alone and then probed (`probe`); `after` and `control` are
finetuned anew with its refusals, or with as many of questions drawn at random. Writes hallucination.csv and hallucination.png.
Killed and started again, it goes on where it was.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli

EXPERIMENT = "experiments/sft/hallucination.py"
RUNS = {"before": "", "after": "refusals.jsonl", "control": "random_refusals.jsonl"}
# What is shown, and the metric of the run's last evaluation that it is.
MEASURES = {
    "refuses the unknown": "facts.unknown.refused",
    "right, asked in training": "facts.asked.right",
    "right, only told": "facts.told.right",
    "refuses what was told": "facts.told.refused",
}


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("root", None, "The folder for all runs and the result.")
    flags.DEFINE_integer("seeds", 3, "How often all of it is done.", lower_bound=1)
    flags.DEFINE_string("start_from", None, "The base model; else the experiment's.")
    flags.DEFINE_string("cache", cli.CACHE, "As of launch.train.")


def main(_: list[str]) -> None:
    """Train and probe what is not there yet, then the table and the figure."""
    options = flags.FLAGS
    if not options.root:
        raise UserError("--root is missing: name a folder, such as --root=runs/hallucination")
    root = Path(options.root).expanduser()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for seed in range(options.seeds):
        folder = root / f"seed-{seed}"
        for name, refusals in RUNS.items():
            train(folder, name, refusals, seed)
            found[name].append(last_evaluation(folder / name))
            if name == "before":
                run("launch.probe", f"--workdir={folder / name}", f"--out={folder / 'probe'}", f"--seed={seed}")
    report(root, found)


def train(folder: Path, name: str, refusals: str, seed: int) -> None:
    """One finetuning; at once if it is there."""
    from experiments.sft.hallucination import SOURCES

    sources = (*SOURCES, str(folder / "probe" / refusals)) if refusals else SOURCES
    base = [f"--config.start_from={flags.FLAGS.start_from}"] if flags.FLAGS.start_from else []
    print(f"{folder / name}:", flush=True)
    run(
        "launch.train",
        f"--config={EXPERIMENT}",
        f"--workdir={folder / name}",
        f"--cache={flags.FLAGS.cache}",
        f"--config.seed={seed}",
        f"--config.data.sources={sources!r}",
        *base,
    )


def run(module: str, *arguments: str) -> None:
    """Another of our programs. Raises `UserError` when it fails."""
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code:
        raise UserError(f"{module} ended with exit code {code}: see above; the same command goes on from there")


def last_evaluation(workdir: Path) -> dict[str, float]:
    """The metrics of a run's last evaluation."""
    return json.loads((workdir / "evaluations.jsonl").read_text().splitlines()[-1])


def report(root: Path, found: dict[str, list[dict[str, float]]]) -> None:
    """The table, a CSV file and the figure: means over seeds with 95% intervals."""
    from launch.compare_runs import interval, table
    from launch.figures import estimates_figure
    from lm.evaluation.estimate import Estimate

    def over_seeds(label: str, values: list[float]) -> Estimate:
        mean = interval(values)
        half = mean.half or 0.0
        return Estimate(label, mean.mean, None, max(mean.mean - half, 0.0), min(mean.mean + half, 1.0), mean.count)

    estimates = {
        label: [over_seeds(label, [one[metric] for one in found[name]]) for name in RUNS]
        for label, metric in MEASURES.items()
    }
    rows = [
        [name, *(f"{one[i].value:.1%} [{one[i].low:.1%}, {one[i].high:.1%}]" for one in estimates.values())]
        for i, name in enumerate(RUNS)
    ]
    print(table(["finetuned", *MEASURES], rows))
    with (root / "hallucination.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["finetuned", "seed", *MEASURES])
        for name, runs in found.items():
            writer.writerows([name, seed, *(one[m] for m in MEASURES.values())] for seed, one in enumerate(runs))
    estimates_figure(root / "hallucination.png", list(RUNS), estimates, xlabel="finetuned", ylabel="share of questions")
    print(f"wrote {root / 'hallucination.csv'} and {root / 'hallucination.png'}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
