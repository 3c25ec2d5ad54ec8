r"""Set runs side by side: how their configs differ, their losses on one figure, and what they came to.

    python -m launch.compare runs/a runs/b runs/c
    python -m launch.compare runs/sweep --output=figures/rates.png --metric=validation.bits_per_byte

Each argument is the folder of a run, or of a sweep, which stands for its trials. Runs that differ only by their seed are one
group: its mean, and the 95% interval of Student's t over the seeds. Two settings differ if their intervals part; if they
overlap, more seeds may tell. The figure goes to --output, and the table as CSV beside it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli
from launch.compare_figure import curves
from launch.compare_groups import SEED, Group, described, differing, group, leading, value_text
from launch.compare_runs import METRIC, Run, cell, read_run, split_metric, table
from lm.metrics import duration

SUMMARY = ("validation_loss", "best_validation_loss", "best_step", "training_loss", "tokens_per_second", "seconds")


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("output", "compare.png", "The figure; the table goes beside it, with .csv.")
    flags.DEFINE_string("metric", METRIC, "What groups are measured by: validation.KEY or train.KEY, its last value.")


def main(arguments: list[str]) -> int:
    """Read, compare, write."""
    split_metric(flags.FLAGS.metric)
    figure = Path(flags.FLAGS.output).expanduser()
    if figure.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--output={figure}: name a .png, .pdf or .svg file")
    runs = gather(arguments)
    groups = group(runs)

    figure.parent.mkdir(parents=True, exist_ok=True)
    write_csv(figure.with_suffix(".csv"), runs, flags.FLAGS.metric)
    curves(groups, figure)
    print(runs_table(runs, flags.FLAGS.metric))
    for leader, others in together(runs).items():
        print(f"with {leader} change {', '.join(others)}")
    print(f"\n{flags.FLAGS.metric} over seeds: mean ± 95% interval (Student's t), best first")
    print(groups_table(groups, flags.FLAGS.metric))
    unfinished = [run for run in runs if not run.finished]
    if repeated := [run for each in groups for run in each.runs if run.finished and run not in each.seeds]:
        names = ", ".join(str(run.folder) for run in repeated)
        print(f"\nthe same seed a second time, and left out of the intervals: {names}")
    if unfinished:
        names = ", ".join(f"{run.folder} (step {run.last_step} of {run.config['steps']})" for run in unfinished)
        print(f"\nnot finished, and left out of the intervals: {names}")
    print(f"\nwrote {figure} and {figure.with_suffix('.csv')}")
    return 0


def gather(arguments: Sequence[str]) -> list[Run]:
    """The runs that the folders stand for, each once. Raises `UserError` when there are fewer than two."""
    folders = [folder for argument in arguments for folder in expand(Path(argument).expanduser())]
    runs = [read_run(folder) for folder in dict.fromkeys(folders)]
    if len(runs) < 2:
        raise UserError("name at least two runs, or a sweep: python -m launch.compare runs/a runs/b")
    return runs


def expand(folder: Path) -> list[Path]:
    """The trials of a sweep that have begun, or the folder of a run itself. Raises `UserError` for neither."""
    if not (folder / "sweep.json").exists():
        return [folder]
    trials = sorted(file.parent for file in folder.glob("*/config.json"))
    if not trials:
        raise UserError(f"{folder} is a sweep of which no trial has begun: run it first")
    return trials


def together(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The config keys that have columns in the table, where others change with them: those others (the CSV has them all)."""
    columns = {key: values for key, values in differing(runs).items() if key != SEED}
    return {leader: others for leader, others in leading(columns).items() if others}


def runs_table(runs: Sequence[Run], metric: str) -> str:
    """A row a run: where it differs from others, and what it came to."""
    hidden = {key for others in together(runs).values() for key in others}
    columns = {key: values for key, values in differing(runs).items() if key not in hidden}
    own = [] if metric == METRIC else [metric]
    header = ["run", *columns, "step", *own, "validation", "best", "training", "tok/s", "time"]
    rows = []
    for number, run in enumerate(runs):
        summary = run.summary()
        rate, seconds = summary["tokens_per_second"], summary["seconds"]
        rows.append(
            [
                str(run.folder),
                *(value_text(values[number]) for values in columns.values()),
                str(run.last_step),
                *(cell(run.metric(name)) for name in own),
                *(cell(summary[name]) for name in ("validation_loss", "best_validation_loss", "training_loss")),
                "-" if rate is None else f"{rate:,.0f}",
                "-" if seconds is None else duration(seconds),
            ]
        )
    return table(header, rows)


def groups_table(groups: Sequence[Group], metric: str) -> str:
    """A row a group, best (least) first, and whether its interval parts from the best one's."""
    measured = [(found, each) for each in groups if (found := each.measured(metric)) is not None]
    measured.sort(key=lambda pair: pair[0].mean)
    rows = []
    for found, each in measured:
        best = measured[0][0]
        parts = {True: "parts", False: "overlaps", None: "unknown: one seed"}[found.parts_from(best)]
        worse = f"{100 * (found.mean / best.mean - 1):+.2f}%" if best.mean > 0 else "-"
        rows.append([described(each.values), str(found), *(["", ""] if found is best else [worse, parts])])
    if not rows:
        return f"no finished run has {metric}: choose another --metric, such as train.loss"
    return table(["setting", metric, "against the best", "its interval"], rows)


def write_csv(file: Path, runs: Sequence[Run], metric: str) -> None:
    """A line a run: differing config values by their whole path, and what it came to."""
    columns = differing(runs)
    own = [] if metric == METRIC else [metric]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run", *columns, "step", "steps", *own, *SUMMARY])
        for number, run in enumerate(runs):
            summary = run.summary()
            values = [values[number] for values in columns.values()]
            numbers = [*(run.metric(name) for name in own), *(summary[name] for name in SUMMARY)]
            row = [run.folder, *values, run.last_step, run.config["steps"], *numbers]
            writer.writerow(["" if value is None else value for value in row])


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
