"""What a sweep came to: a table on the terminal, the same as CSV, and a figure."""

import csv
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.errors import UserError
from launch.compare_runs import METRIC, cell, interval, read_run, table
from launch.sweep_figure import SEED, Point, sweep_figure
from launch.sweep_folder import DONE, FAILED, PRUNED, Result
from launch.sweep_trials import Trial, described, short_names
from lm.metrics import duration

SUMMARY = (
    "validation_loss",
    "best_validation_loss",
    "best_step",
    "training_loss",
    "tokens_per_second",
    "seconds",
    "step",
)
UNFINISHED = "unfinished"

# Of `compare_runs.Run`, by the number of the trial.
Summaries = dict[int, dict[str, float | None]]


def report(root: Path, trials: Sequence[Trial], results: dict[int, Result], metric: str) -> str:
    """Write results.csv and sweep.png, and return the text for the terminal."""
    summaries = {trial.number: _summary(root / trial.name, results.get(trial.number)) for trial in trials}
    ordered = sorted(trials, key=lambda trial: (*_rank(results.get(trial.number)), trial.number))
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    _write_csv(root / "results.csv", trials, results, summaries, paths, metric)
    parts = [results_table(ordered, results, summaries, paths, metric)]
    if over_seeds := seeds_table(trials, results, metric):
        parts.append(f"{metric} over seeds: mean ± 95% interval (Student's t)\n{over_seeds}")
    points = [
        Point({path: _of(trial, path) for path in paths}, result.status, result.metric)
        for trial in trials
        if (result := results.get(trial.number))
    ]
    figure = sweep_figure(points, metric, root / "sweep.png", root.name)
    if results and not any(result.metric is not None for result in results.values()):
        parts.append(f"no trial has {metric}: choose another --metric, such as train.loss")
    parts.append(f"wrote {root / 'results.csv'}{f' and {figure}' if figure else ''}")
    return "\n\n".join(parts)


def results_table(
    trials: Sequence[Trial], results: dict[int, Result], summaries: Summaries, paths: Sequence[str], metric: str
) -> str:
    """A row a trial, in the order given."""
    own = [] if metric == METRIC else [metric]
    short = short_names(paths)
    header = [
        "trial",
        *(short[path] for path in paths),
        "status",
        *own,
        "validation",
        "best",
        "training",
        "tok/s",
        "time",
    ]
    rows = []
    for trial in trials:
        result = results.get(trial.number)
        summary = summaries[trial.number]
        rate, seconds = summary.get("tokens_per_second"), summary.get("seconds")
        rows.append(
            [
                f"{trial.number:03d}",
                *(cell_of(trial, path) for path in paths),
                result.status if result else UNFINISHED,
                *(cell(result.metric if result else None) for _ in own),
                *(cell(summary.get(name)) for name in ("validation_loss", "best_validation_loss", "training_loss")),
                "-" if rate is None else f"{rate:,.0f}",
                "-" if seconds is None else duration(seconds),
            ]
        )
    return table(header, rows)


def seeds_table(trials: Sequence[Trial], results: dict[int, Result], metric: str) -> str:
    """A row a setting that was run with several seeds, best first; empty when none was."""
    groups: dict[str, list[float]] = {}
    for trial in trials:
        result = results.get(trial.number)
        if SEED in trial.values and result and result.status == DONE and result.metric is not None:
            rest = {path: value for path, value in trial.values.items() if path != SEED}
            groups.setdefault(described(rest) or "all", []).append(result.metric)
    if not any(len(values) > 1 for values in groups.values()):
        return ""
    intervals = sorted(((interval(values), name) for name, values in groups.items()), key=lambda pair: pair[0].mean)
    return table(["setting", metric], [[name, str(found)] for found, name in intervals])


def failures(root: Path, trials: Sequence[Trial], results: dict[int, Result]) -> list[str]:
    """A line a failed trial: which, and why."""
    return [
        f"{root / trial.name}: {results[trial.number].error or 'it said nothing'}"
        for trial in trials
        if trial.number in results and results[trial.number].status == FAILED
    ]


def cell_of(trial: Trial, path: str) -> str:
    """A swept value in a table; trials of a list of dicts may lack some."""
    value = _of(trial, path)
    return f"{value:g}" if isinstance(value, float) else cell(value)


def _summary(folder: Path, result: Result | None) -> dict[str, float | None]:
    """What a trial came to, or has come to so far."""
    if result:
        return result.summary
    try:
        return read_run(folder).summary()
    except UserError:  # it has not begun
        return {}


def _of(trial: Trial, path: str) -> object:
    """The value of a path in the whole experiment, whether this trial sets it or not."""
    value: object = trial.experiment
    for word in path.split("."):
        value = getattr(value, word)
    return value


def _rank(result: Result | None) -> tuple[int, float]:
    """Done by metric, then pruned by metric, then failed, then unfinished."""
    if result is None:
        return 3, 0.0
    value = float("inf") if result.metric is None else result.metric
    return {DONE: 0, PRUNED: 1, FAILED: 2}[result.status], value


def _write_csv(
    file: Path,
    trials: Sequence[Trial],
    results: dict[int, Result],
    summaries: Summaries,
    paths: Sequence[str],
    metric: str,
) -> None:
    own = [] if metric == METRIC else [metric]
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "folder", *paths, "status", "exit_code", *own, *SUMMARY, "error"])
        for trial in trials:
            result = results.get(trial.number)
            summary = summaries[trial.number]
            writer.writerow(
                [
                    trial.number,
                    trial.name,
                    *(_of(trial, path) for path in paths),
                    result.status if result else UNFINISHED,
                    result.exit_code if result else "",
                    *("" if result is None or result.metric is None else result.metric for _ in own),
                    *("" if summary.get(name) is None else summary[name] for name in SUMMARY),
                    result.error if result else "",
                ]
            )
    temporary.replace(file)
