"""Runs the trials of a sweep: starts them, watches them, keeps how they ended, and stops them in order when asked to."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from data_pipeline.errors import UserError
from launch.compare_runs import read_run
from launch.executor import Executor
from launch.sweep_folder import DONE, FAILED, PRUNED, Result, error_line, is_busy, read_result, write_result
from launch.sweep_trials import Trial
from launch.sweep_view import Estimate, View, progress, running_line, summary_line
from lm.metrics import duration, read_json_lines

# What a process that was asked to stop, or that somebody killed, ends with: as Python and as shells write it; and 75, where
# another process of the same run was lost (EX_TEMPFAIL).
KILLERS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
STOPPED = {-n for n in KILLERS} | {128 + n for n in KILLERS} | {75}


class Sampler(Protocol):
    """Chooses trials as it sees how others end."""

    def ask(self) -> Trial | None:
        """One more trial; None when there are enough."""

    def should_prune(self, trial: Trial, evaluations: list[dict[str, Any]]) -> bool:
        """Whether to give up a running trial, seeing its evaluations so far."""

    def tell(self, trial: Trial, result: Result) -> None:
        """A trial has ended."""


@dataclass
class Sweep:
    """A sweep in progress. `queue` holds the trials to run, `results` those that have ended, by number."""

    root: Path
    executor: Executor
    command: Callable[[Trial, Path], Sequence[str]]
    metric: str
    queue: list[Trial]
    results: dict[int, Result] = field(default_factory=dict)
    sampler: Sampler | None = None
    pause: Callable[[float], None] = time.sleep
    view: View = field(default_factory=View)

    def __post_init__(self) -> None:
        self.running: dict[str, Trial] = {}  # by job
        self.killed: list[Trial] = []  # by somebody else: they go on the next time
        self._pruned: set[str] = set()
        self._evaluations_seen: dict[str, int] = {}  # bytes, by job
        self._started: dict[str, float] = {}  # in time.time(), as dates of files are
        self._estimate = Estimate()
        for result in self.results.values():
            self._estimate.ended(result.summary.get("seconds"))

    def run(self) -> int:
        """Run all trials; the exit code: 0 when all ended well, 1 when some failed, 130 and 143 when it was stopped."""
        with Stop() as stop:
            try:
                while self._round(stop):
                    self._show(stop)
                    self.pause(self.executor.poll_seconds)
            finally:
                self._abandon(stop)
        self.view.close()
        if stop.signals and (self.killed or self.queue or self.sampler):
            print(f"stopped by {stop.signals[0].name}; run the same command again to go on", flush=True)
            return 128 + stop.signals[0]
        return 1 if self.killed or any(result.status == FAILED for result in self.results.values()) else 0

    def folder(self, trial: Trial) -> Path:
        """The folder of a trial."""
        return self.root / trial.name

    def _round(self, stop: "Stop") -> bool:
        """Look at every job, and fill the free slots. False when there is nothing left to do."""
        for job, trial in list(self.running.items()):
            code = self.executor.poll(job)
            if code is not None:
                self._ended(job, trial, code, bool(stop.signals))
            elif not stop.signals:
                self._prune(job, trial)
        if stop.signals:
            for job in self.running:
                stop.pass_on(self.executor, job)
            return bool(self.running)
        while len(self.running) < self.executor.slots and (following := self._next()):
            self._start(following)
        return bool(self.running or self.queue)

    def _next(self) -> Trial | None:
        """The first trial that no other process is at work on (one that a killed sweep left is, until it has saved)."""
        for trial in self.queue:
            if not is_busy(self.folder(trial)):
                self.queue.remove(trial)
                return trial
        return self.sampler.ask() if self.sampler else None

    def _start(self, trial: Trial) -> None:
        folder = self.folder(trial)
        (folder / "result.json").unlink(missing_ok=True)
        going_on = (folder / "metrics.jsonl").exists()
        job = self.executor.submit(self.command(trial, folder), folder / "log.txt")
        self.running[job], self._started[job] = trial, time.time()
        self.view.event(f"{trial.name}: {'goes on' if going_on else 'started'}")

    def _ended(self, job: str, trial: Trial, code: int, stopping: bool) -> None:
        del self.running[job]
        folder = self.folder(trial)
        if code == 0:
            status = DONE
        elif job in self._pruned:
            status = PRUNED
        elif code in STOPPED:
            self.killed.append(trial)
            why = "stopped" if stopping else f"killed from outside ({_signal_name(code)}); it goes on the next time"
            self.view.event(f"{trial.name}: {why}")
            return
        else:
            status = FAILED
        result = make_result(folder, status, code, self.metric)
        write_result(folder, result)
        self.results[trial.number] = result
        # The whole time of the process, which loads and compiles before it counts; but a run may have had several processes.
        self._estimate.ended(max(time.time() - self._started[job], result.summary.get("seconds") or 0.0))
        if self.sampler:
            self.sampler.tell(trial, result)
        self.view.event(f"{trial.name}: {_described(result, self.metric, folder)}")

    def _prune(self, job: str, trial: Trial) -> None:
        """Let the sampler see new evaluations; it may give the trial up."""
        file = self.folder(trial) / "evaluations.jsonl"
        if self.sampler is None or job in self._pruned or not file.exists():
            return
        size = file.stat().st_size
        if size == self._evaluations_seen.get(job):
            return
        self._evaluations_seen[job] = size
        if self.sampler.should_prune(trial, read_json_lines(file)):
            self._pruned.add(job)
            self.executor.cancel(job)

    def _show(self, stop: "Stop") -> None:
        if not self.view.due():
            return
        lines, left = [], []
        for job, trial in self.running.items():
            now = progress(self.folder(trial), trial.experiment.steps, self._started[job])
            lines.append(running_line(trial.name, now))
            left.append(now.left)
            self._estimate.running(now, time.time() - self._started[job])
        counts = {status: sum(r.status == status for r in self.results.values()) for status in (DONE, FAILED, PRUNED)}
        counts |= {"killed": len(self.killed), "running": len(self.running), "waiting": len(self.queue)}
        total_left = self._estimate.left(left, len(self.queue), self.executor.slots)
        note = "waiting for trials to save (again to kill them)" if stop.signals else ""
        if self.queue and not self.running:
            note = f"waiting for another process in {self.folder(self.queue[0])}"
        self.view.show(summary_line(counts, total_left, note), lines)

    def _abandon(self, stop: "Stop") -> None:
        """Leave no process behind when the sweep itself fails, on a full disk for example."""
        left = list(self.running)
        for job in left:
            self.executor.cancel(job)
        while left := [job for job in left if self.executor.poll(job) is None]:
            for job in left if stop.signals else ():
                self.executor.kill(job)
            self.pause(self.executor.poll_seconds)


class Stop:
    """While active, SIGTERM and Ctrl-C are noted, not obeyed: the first asks the trials to save, a second one kills them."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        self._passed: dict[str, int] = {}
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self.signals.append(signal.Signals(signum))

    def pass_on(self, executor: Executor, job: str) -> None:
        """Hand a job what has come since the last time."""
        sent, self._passed[job] = self._passed.get(job, 0), len(self.signals)
        if sent == 0:
            executor.cancel(job)
        if sent < 2 <= len(self.signals):
            executor.kill(job)

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


def make_result(folder: Path, status: str, code: int, metric: str) -> Result:
    """The result of a trial that has ended, out of what it wrote."""
    try:
        run = read_run(folder)
        summary, value = run.summary(), run.metric(metric) if status != FAILED else None
    except UserError:  # it failed before it was a run
        summary, value = {}, None
    return Result(status, code, error_line(folder / "log.txt") if status == FAILED else "", value, summary)


def known_results(root: Path, trials: Sequence[Trial], metric: str) -> dict[int, Result]:
    """The results in the folder of a sweep, by the number of the trial; `metric` may be another than when they ended."""
    found = {}
    for trial in trials:
        folder = root / trial.name
        try:
            result = read_result(folder)
        except (ValueError, TypeError):
            print(f"{folder / 'result.json'} is damaged: the trial goes on", file=sys.stderr, flush=True)
            continue
        if result is not None:
            fresh = make_result(folder, result.status, result.exit_code, metric)
            found[trial.number] = replace(result, metric=fresh.metric)
    return found


def _described(result: Result, metric: str, folder: Path) -> str:
    if result.status == FAILED:
        return (
            f"FAILED with exit code {result.exit_code}: {result.error or 'it said nothing'} (see {folder / 'log.txt'})"
        )
    value = "" if result.metric is None else f", {metric} {result.metric:.4f}"
    seconds = result.summary.get("seconds")
    return f"{result.status}{value}{'' if seconds is None else f', {duration(seconds)}'}"


def _signal_name(code: int) -> str:
    if code == 75:
        return "one of its processes was lost"
    number = -code if code < 0 else code - 128
    hint = ": is there memory enough?" if number == signal.SIGKILL else ""
    return signal.Signals(number).name + hint
