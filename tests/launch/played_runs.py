"""Sweeps without training: an executor whose jobs only write what runs leave behind, and waiting for real ones."""

import json
import os
import signal
import time
from pathlib import Path

from programs import ROOT

from launch.executor import COMMAND, LocalExecutor
from launch.sweep_folder import FAILED
from launch.sweep_run import Sweep, known_results
from launch.sweep_trials import Base, build

TINY = Base(str(ROOT / "experiments/pretrain/tiny.py"))


def play(folder: Path, losses, *, code: int = 0, seconds: float = 0.1):
    """What a run leaves, a step at each `next`; evaluated at every step. Ends with the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {"context_length": 10}
    (folder / "config.json").write_text(json.dumps({"steps": len(losses), "batch_size": 2, "model": model, "seed": 0}))
    with (folder / "metrics.jsonl").open("a") as steps, (folder / "evaluations.jsonl").open("a") as evaluations:
        done = len((folder / "metrics.jsonl").read_text().splitlines())
        for step, loss in list(enumerate(losses, 1))[done:]:
            line = {"step": step, "loss": loss + 1, "tokens_per_second": 100.0 * step, "seconds": seconds * step}
            steps.write(json.dumps(line) + "\n")
            evaluations.write(json.dumps({"step": step, "loss": loss}) + "\n")
            steps.flush()
            evaluations.flush()
            yield None
    yield code


class PlayedExecutor:
    """Implements `Executor` without processes: `script(folder)` is a generator of None, then of the exit code."""

    poll_seconds = 0.0

    def __init__(self, slots, script):
        self.slots, self.script = slots, script
        self.jobs, self.submitted, self.cancelled, self.killed, self.most = {}, [], [], [], 0
        self.on_poll = lambda: None

    def submit(self, command, log):
        job = str(len(self.submitted))
        self.submitted.append(log.parent.name[:3])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"{COMMAND}{' '.join(command)}\n")
        self.jobs[job] = self.script(log.parent)
        self.most = max(self.most, len(self.jobs))
        return job

    def poll(self, job):
        self.on_poll()
        if job in self.killed:
            code = -signal.SIGKILL
        elif job in self.cancelled and not getattr(self, "deaf", False):
            code = 128 + signal.SIGTERM
        else:
            code = next(self.jobs[job])
        if code is not None:
            self.jobs.pop(job)
        return code

    def cancel(self, job):
        self.cancelled.append(job)

    def kill(self, job):
        self.killed.append(job)


TRIALS = [{"seed": seed} for seed in range(6)]


def sweep(root: Path, executor, values=TRIALS, *, retry=False, sampler=None, metric="validation.loss"):
    """What `launch.sweep` does once the plan is made. Returns (exit code, results by number)."""
    trials = build(TINY, values)
    results = known_results(root, trials, metric)
    results = {number: r for number, r in results.items() if not (retry and r.status == FAILED)}
    queue = [trial for trial in trials if trial.number not in results]
    whole = Sweep(root, executor, lambda trial, _: ("train", *trial.flags), metric, queue, results, sampler)
    whole.pause = lambda _: None
    return whole.run(), results


def improving(folder: Path):
    return play(folder, [3.0, 2.0, 1.0 + int(folder.name[:3]) / 10])


def send_after(executor, polls: dict[int, int]):
    """Send this process a signal at the n-th poll."""
    counter = iter(range(10_000))

    def on_poll():
        at = next(counter)
        if at in polls:
            os.kill(os.getpid(), polls[at])

    executor.on_poll = on_poll


def ended(executor: LocalExecutor, job: str, timeout: float = 30) -> int:
    deadline = time.monotonic() + timeout
    while (code := executor.poll(job)) is None:
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.01)
    return code


def wait_for(condition, timeout: float = 30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.01)
