"""The folder of a sweep, which holds all there is to know about it, so that a killed sweep goes on where it was.

sweep.json                     the plan: the experiment, and the values of each trial
000-learning_rate=0.001/       a trial: the folder of a run (see `launch/workdir.py`), and besides
    log.txt                    what its processes printed, each after the command that started it
    result.json                how it ended; a trial without one is still to be run, or to go on
results.csv, sweep.png         written when the sweep ends
"""

import dataclasses
import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from data_pipeline.errors import UserError
from launch.executor import COMMAND
from launch.folder import hold
from launch.sweep_trials import Base
from launch.workdir import differences, of_hardware
from lm.experiment import Experiment
from lm.sweep import Trial as Values

DONE, FAILED, PRUNED = "done", "failed", "pruned"


@dataclass(frozen=True)
class Result:
    """How a trial ended. `summary` is that of `compare_runs.Run`, `metric` the value that trials are ordered by."""

    status: str  # done | failed | pruned
    exit_code: int
    error: str  # the last line that a failed trial printed
    metric: float | None
    summary: dict[str, float | None]


def open_sweep(path: Path) -> IO[str]:
    """Make the folder; the returned file is a lock, kept until closed. Raises `UserError` when it cannot be had."""
    if (path / "config.json").exists():
        raise UserError(f"--workdir={path} holds a run, not a sweep: choose another folder")
    return hold(path, "another launch.sweep is at work in")


def keep_plan(
    path: Path, base: Base, experiment: Experiment, trials: Sequence[Values], sampler: dict[str, Any] | None = None
) -> None:
    """Write the plan, or check that the folder holds this one; trials may be added at its end.

    `trials` are their values. `sampler` describes one that chooses as it goes: they are then those it has chosen so far.
    Raises `UserError` with the differences when the folder holds another sweep.
    """
    here = {
        "config": base.file,
        "overrides": list(base.overrides),
        "experiment": asdict(experiment),
        "sampler": sampler,
        "trials": list(trials),
    }
    here = json.loads(json.dumps(here))
    file = path / "sweep.json"
    if file.exists():
        differ = _differences(read_plan(path), here)
        if differ:
            more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
            raise UserError(
                f"{path} holds another sweep ({'; '.join(differ[:5])}{more}): choose another --workdir, or run the same again"
            )
    write_json(file, here)


def read_plan(path: Path) -> dict[str, Any]:
    """The contents of sweep.json. Raises `UserError` when it is damaged."""
    file = path / "sweep.json"
    try:
        plan = json.loads(file.read_text())
        if isinstance(plan, dict) and plan.keys() >= {"experiment", "trials", "sampler"}:
            return plan
        problem = "it is none of launch.sweep's"
    except ValueError as error:
        problem = str(error)
    raise UserError(f"{file} is damaged ({problem}): restore it, or choose another --workdir")


def planned_values(path: Path) -> list[Values]:
    """The values of the trials so far, as JSON has them; none when the folder is new."""
    return read_plan(path)["trials"] if (path / "sweep.json").exists() else []


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    differ = [line for line in differences(there["experiment"], here["experiment"]) if not of_hardware(line)]
    differ += differences({"sampler": there["sampler"]}, {"sampler": here["sampler"]})
    if len(here["trials"]) < len(there["trials"]):
        differ.append(f"{len(there['trials'])} trials there, {len(here['trials'])} here")
    for number, (one, other) in enumerate(zip(there["trials"], here["trials"], strict=False)):
        differ += [f"trial {number}: {line}" for line in differences(one, other)]
    return differ


def read_result(folder: Path) -> Result | None:
    """How a trial ended, if it has."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text())) if file.exists() else None


def write_result(folder: Path, result: Result) -> None:
    """Keep how a trial ended."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", dataclasses.asdict(result))


def write_json(file: Path, contents: Any) -> None:
    """A file that appears whole or not at all."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(contents, indent=2) + "\n")
    temporary.replace(file)


def is_busy(folder: Path) -> bool:
    """Whether a process is training in the folder of a run: one that a killed sweep left behind, or somebody's own."""
    if not (folder / "lock").exists():
        return False
    with (folder / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def last_line(log: Path) -> str:
    """The last thing that the newest process of a log printed (a progress bar's last state included)."""
    lines = _last_lines(log)
    return lines[-1] if lines else ""


def error_line(log: Path) -> str:
    """The line that says why the newest process of a log failed."""
    told = [line for line in _last_lines(log) if line.startswith("error: ")]
    return told[-1].removeprefix("error: ") if told else last_line(log)


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 20_000, 0))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith(COMMAND)]
    newest = lines[starts[-1] + 1 :] if starts else lines
    return [line for line in newest if not line.startswith("(in the background: ")]
