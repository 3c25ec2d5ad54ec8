"""A lesson of the lecture: one finetuning a variant and seed, then a table and a figure of what each can do.

    python -m launch.lesson --config=experiments/lecture/think.py --root=runs/think --seeds=3

The file has `get_config(variant)`, `VARIANTS`, and `MEASURES`: for each figure, what is shown and the metric of a run's last
evaluation that it is (a * stands for what differs between variants). Runs lie in ROOT/VARIANT-SEED. Writes ROOT/NAME.png for
each figure and ROOT/lesson.csv. Killed and started again, it goes on where it was.
"""

import csv
import fnmatch
import json
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli

Evaluation = dict[str, float]
Figures = Mapping[str, Mapping[str, str]]  # of each figure: what is shown, and its metric


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("config", None, "An experiment file with variants and measures, as in experiments/lecture.")
    define_common_flags()


def define_common_flags() -> None:
    """The flags of every lesson."""
    flags.DEFINE_string("root", None, "The folder for all runs and the result.")
    flags.DEFINE_integer("seeds", 3, "How often each variant is trained.", lower_bound=1)
    flags.DEFINE_integer("steps", None, "Of each finetuning, in place of the experiment's; for a quick look.")
    flags.DEFINE_string("start_from", None, "The base model; else the experiment's.")
    flags.DEFINE_string("cache", cli.CACHE, "As of launch.train.")


def main(_: list[str]) -> None:
    """Train what is not there yet, then the table and the figures."""
    options = flags.FLAGS
    if not options.config:
        raise UserError("--config is missing: name a lesson, such as --config=experiments/lecture/think.py")
    variants, figures = load_lesson(Path(options.config))
    root = root_folder()
    found: dict[str, list[Evaluation]] = {variant: [] for variant in variants}
    for seed in range(options.seeds):
        for variant, evaluations in found.items():
            workdir = root / f"{variant}-{seed}"
            train(f"{options.config}:{variant}", workdir, seed)
            evaluations.append(last_evaluation(workdir))
    report(root, found, figures)


def load_lesson(path: Path) -> tuple[tuple[str, ...], Figures]:
    """Its variants and measures. Raises `UserError` for a file that is no lesson."""
    if not path.is_file():
        raise UserError(f"there is no lesson {path}: see experiments/lecture")
    found = runpy.run_path(str(path))
    missing = [name for name in ("get_config", "VARIANTS", "MEASURES") if name not in found]
    if missing:
        raise UserError(f"{path} has no {missing[0]}: it is no lesson; see experiments/lecture")
    return found["VARIANTS"], found["MEASURES"]


def root_folder() -> Path:
    """The folder that --root names. Raises `UserError` if it was not given."""
    if not flags.FLAGS.root:
        raise UserError("--root is missing: name a folder for the runs, such as --root=runs/lesson")
    return Path(flags.FLAGS.root).expanduser()


def train(config: str, workdir: Path, seed: int, *overrides: str) -> None:
    """One finetuning; at once if it is there."""
    options = flags.FLAGS
    given = {"start_from": options.start_from, "steps": options.steps}
    overrides += tuple(f"--config.{name}={value}" for name, value in given.items() if value is not None)
    print(f"{workdir}:", flush=True)
    cache = f"--cache={options.cache}"
    run("launch.train", f"--config={config}", f"--workdir={workdir}", cache, f"--config.seed={seed}", *overrides)


def run(module: str, *arguments: str) -> None:
    """Another of our programs. Raises `UserError` when it fails."""
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code:
        raise UserError(f"{module} ended with exit code {code}: see above; the same command goes on from there")


def last_evaluation(workdir: Path) -> Evaluation:
    """The metrics of a run's last evaluation."""
    return json.loads((workdir / "evaluations.jsonl").read_text().splitlines()[-1])


def _value(evaluation: Evaluation, metric: str) -> float:
    """Of the one metric that fits the pattern."""
    (name,) = fnmatch.filter(evaluation, metric)
    return evaluation[name]


def report(root: Path, found: Mapping[str, Sequence[Evaluation]], figures: Figures) -> None:
    """The tables, a CSV file and the figures: means over seeds with 95% intervals (Student's t)."""
    from launch.compare_runs import interval, table
    from launch.figures import bars_figure
    from lm.evaluation.estimate import Estimate

    def over_seeds(metric: str, values: list[float]) -> Estimate:
        mean = interval(values)
        half = mean.half or 0.0
        return Estimate(metric, mean.mean, None, max(mean.mean - half, 0.0), min(mean.mean + half, 1.0), mean.count)

    rows: list[list[Any]] = []
    for name, measures in figures.items():
        values = {
            variant: {label: [_value(one, metric) for one in runs] for label, metric in measures.items()}
            for variant, runs in found.items()
        }
        lines = {variant: [over_seeds(label, each[label]) for label in measures] for variant, each in values.items()}
        shown = [
            [variant, *(f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]" for one in line)]
            for variant, line in lines.items()
        ]
        print(f"{name}, means of {len(next(iter(found.values())))} seeds [95% intervals]")
        print(table(["", *measures], shown))
        bars_figure(root / f"{name}.png", list(measures), lines, ylabel="share of questions")
        rows += [
            [variant, seed, name, label, value]
            for variant, each in values.items()
            for label, seeds in each.items()
            for seed, value in enumerate(seeds)
        ]
    with (root / "lesson.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["variant", "seed", "figure", "measure", "value"], *rows])
    print(f"wrote {', '.join(str(root / f'{name}.png') for name in figures)} and {root / 'lesson.csv'}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
