"""Sweeps: how trials are run, killed, resumed and told; most with runs that are only written, one that trains."""

import fcntl
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from played_runs import TINY, TRIALS, PlayedExecutor, ended, improving, play, send_after, sweep, wait_for
from programs import ROOT

from data_pipeline.errors import UserError
from launch.executor import COMMAND, LocalExecutor
from launch.sweep_folder import DONE, FAILED, PRUNED, Result, error_line, keep_plan, last_line, open_sweep, read_result
from launch.sweep_run import Sweep
from launch.sweep_trials import Base, build, read
from lm.metrics import read_json_lines


def test_all_trials_run_so_many_at_once(tmp_path):
    executor = PlayedExecutor(2, improving)
    code, results = sweep(tmp_path, executor)
    assert code == 0
    assert executor.submitted == [f"{n:03d}" for n in range(6)]
    assert executor.most == 2
    assert {n: r.metric for n, r in results.items()} == pytest.approx({n: 1 + n / 10 for n in range(6)})
    stored = read_result(tmp_path / "002-seed=2")
    assert stored == results[2] == Result(DONE, 0, "", 1.2, stored.summary)
    assert stored.summary == {
        "step": 3,
        "validation_loss": 1.2,
        "best_validation_loss": 1.2,
        "best_step": 3,
        "training_loss": 2.2,
        "tokens_per_second": 200.0,
        "seconds": pytest.approx(0.3),
    }


def failing(folder: Path):
    if folder.name.startswith("001"):
        (folder / "log.txt").open("a").write("step 1\nerror: loss is nan at step 2\n(in the background: noise)\n")
        yield from play(folder, [5.0], code=2)
    elif folder.name.startswith("003"):
        (folder / "log.txt").open("a").write("Traceback\nValueError: oh\n")
        yield 1
    else:
        yield from improving(folder)


def test_failed_trials_harm_no_other_and_wait_for_retry(tmp_path, capsys):
    code, results = sweep(tmp_path, PlayedExecutor(2, failing))
    assert code == 1
    assert Counter(r.status for r in results.values()) == {DONE: 4, FAILED: 2}
    assert (results[1].exit_code, results[1].error, results[1].metric) == (2, "loss is nan at step 2", None)
    assert (results[3].exit_code, results[3].error) == (1, "ValueError: oh")
    assert "001-seed=1: FAILED with exit code 2: loss is nan at step 2" in capsys.readouterr().out

    again = PlayedExecutor(2, failing)
    assert sweep(tmp_path, again) == (1, results)
    assert again.submitted == []

    repaired = PlayedExecutor(2, improving)
    code, results = sweep(tmp_path, repaired, retry=True)
    assert code == 0
    assert repaired.submitted == ["001", "003"]
    assert {r.status for r in results.values()} == {DONE}
    assert "error" not in read_result(tmp_path / "001-seed=1").error


def test_a_trial_killed_from_outside_goes_on_the_next_time_without_retry(tmp_path, capsys):
    def killed(folder):
        return play(folder, [3.0, 2.0], code=-9) if folder.name.startswith("002") else improving(folder)

    code, results = sweep(tmp_path, PlayedExecutor(3, killed))
    assert (code, sorted(results)) == (1, [0, 1, 3, 4, 5])
    assert "killed from outside (SIGKILL: is there memory enough?)" in capsys.readouterr().out
    executor = PlayedExecutor(3, improving)
    code, results = sweep(tmp_path, executor)
    assert (code, executor.submitted, len(results)) == (0, ["002"], 6)
    assert [json.loads(line)["step"] for line in (tmp_path / "002-seed=2/metrics.jsonl").open()] == [1, 2, 3]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_trials_save_and_the_next_time_goes_on(tmp_path, capsys, signum):
    before = signal.getsignal(signum)
    executor = PlayedExecutor(2, improving)
    send_after(executor, {10: signum})
    code, results = sweep(tmp_path, executor)
    assert code == 128 + signum
    assert signal.getsignal(signum) == before
    assert len(executor.cancelled) == len(set(executor.cancelled)) == 2
    assert executor.killed == []
    assert executor.jobs == {}
    assert 0 < len(results) < 6
    assert f"stopped by {signal.Signals(signum).name}; run the same command again" in capsys.readouterr().out
    rest = PlayedExecutor(2, improving)
    code, all_results = sweep(tmp_path, rest)
    assert code == 0
    assert {int(number) for number in rest.submitted} == set(range(6)) - set(results)
    assert len(all_results) == 6


def test_a_second_signal_kills(tmp_path):
    executor = PlayedExecutor(2, improving)
    executor.deaf = True
    executor.script = lambda folder: play(folder, [1.0] * 1000)
    send_after(executor, {5: signal.SIGTERM, 50: signal.SIGINT})
    code, results = sweep(tmp_path, executor)
    assert (code, results) == (143, {})
    assert sorted(executor.killed) == sorted(set(executor.cancelled)) == ["0", "1"]


def test_a_failure_of_the_sweep_itself_leaves_no_process(tmp_path):
    executor = PlayedExecutor(2, improving)

    def broken():
        if len(executor.submitted) == 2 and not executor.cancelled:
            raise OSError(28, "No space left on device")

    executor.on_poll = broken
    with pytest.raises(OSError, match="No space"):
        sweep(tmp_path, executor)
    assert executor.jobs == {}


def test_a_trial_that_another_process_trains_is_waited_for(tmp_path):
    """So a sweep that was killed and started again does not fight with what the first one left running."""
    folder = tmp_path / "000-seed=0"
    folder.mkdir()
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    executor = PlayedExecutor(1, improving)
    polls = []

    def pause(_):
        polls.append(list(executor.submitted))
        if len(polls) == 100:
            lock.close()

    trials = build(TINY, TRIALS[:3])
    whole = Sweep(tmp_path, executor, lambda trial, _: trial.flags, "validation.loss", list(trials), pause=pause)
    assert whole.run() == 0
    assert polls[99] == ["001", "002"]
    assert executor.submitted == ["001", "002", "000"]


class Thrifty:
    """A sampler that gives up what is worse than 2 at step 2."""

    def __init__(self):
        self.trials, self.told = iter(build(TINY, TRIALS[:4])), {}

    def ask(self):
        return next(self.trials, None)

    def should_prune(self, trial, evaluations):
        return len(evaluations) >= 2 and evaluations[1]["loss"] > 2

    def tell(self, trial, result):
        self.told[trial.number] = result.status


def test_a_sampler_may_give_trials_up(tmp_path):
    def script(folder):
        return play(folder, [3.0, 1.0 + int(folder.name[:3]), 0.5, 0.4])

    sampler = Thrifty()
    executor = PlayedExecutor(2, script)
    code, results = sweep(tmp_path, executor, values=[], sampler=sampler)
    assert code == 0
    assert sampler.told == {0: DONE, 1: DONE, 2: PRUNED, 3: PRUNED}
    assert {number: result.status for number, result in results.items()} == sampler.told
    assert results[2].metric == 3.0
    assert len(executor.cancelled) == 2


# The folder.


def test_another_sweep_in_the_folder_is_refused_and_a_longer_one_is_not(tmp_path):
    experiment = read(TINY.flags)
    values = [{"seed": 0, "model.windows": (0,)}, {"seed": 1, "model.windows": (0,)}]
    with open_sweep(tmp_path):
        keep_plan(tmp_path, TINY, experiment, values)
        keep_plan(tmp_path, TINY, experiment, values)
        with pytest.raises(UserError, match="trial 1: seed: 1 there, 2 here"):
            keep_plan(tmp_path, TINY, experiment, [values[0], {**values[1], "seed": 2}])
        with pytest.raises(UserError, match="2 trials there, 1 here"):
            keep_plan(tmp_path, TINY, experiment, values[:1])
        other = Base(TINY.file, ("--config.steps=3", "--config.optimizer.warmup_steps=0"))
        with pytest.raises(UserError, match="steps: 300 there, 3 here"):
            keep_plan(tmp_path, other, read(other.flags), values)
        with pytest.raises(UserError, match="sampler: None there"):
            keep_plan(tmp_path, TINY, experiment, values, {"name": "optuna"})
        hardware = Base(TINY.file, ("--config.mesh.data=2",))
        keep_plan(tmp_path, hardware, read(hardware.flags), values)
        keep_plan(tmp_path, TINY, experiment, [*values, {"seed": 2}])
        assert len(json.loads((tmp_path / "sweep.json").read_text())["trials"]) == 3
        (tmp_path / "sweep.json").write_text("{")
        with pytest.raises(UserError, match="damaged"):
            keep_plan(tmp_path, TINY, experiment, values)


def test_two_sweeps_at_once_in_a_folder_are_refused(tmp_path):
    with open_sweep(tmp_path), pytest.raises(UserError, match=r"another launch\.sweep is at work"):
        open_sweep(tmp_path)
    open_sweep(tmp_path).close()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run, not a sweep"):
        open_sweep(tmp_path)


def test_a_damaged_result_is_told_and_the_trial_goes_on(tmp_path, capsys):
    sweep(tmp_path, PlayedExecutor(2, improving))
    (tmp_path / "004-seed=4/result.json").write_text('{"status"')
    executor = PlayedExecutor(2, improving)
    assert sweep(tmp_path, executor)[0] == 0
    assert executor.submitted == ["004"]
    assert "result.json is damaged" in capsys.readouterr().err


def test_the_last_line_is_that_of_the_newest_process(tmp_path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("$ train\nerror: old\n$ train\n 10%|#\r 20%|##\n(in the background: x)\n\n")
    assert (last_line(log), error_line(log)) == ("20%|##", "20%|##")
    log.write_text("$ train\nerror: memory\nlast words\n" + "x" * 5)
    assert (last_line(log), error_line(log)) == ("xxxxx", "memory")


# The whole, as a user runs it: trains, is killed, goes on.

EXPERIMENT = """
from data_pipeline.prepare import DocumentsConfig
from data_pipeline.school.world import SchoolConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.config import ModelConfig
from lm.optimizer import OptimizerConfig


def get_config():
    return Experiment(
        steps=60,
        batch_size=4,
        model=ModelConfig(vocab_size=512, context_length=64, layers=1, width=16, heads=2, kv_heads=2, mlp_width=32),
        data=DocumentsConfig(school=SchoolConfig(people=20, arithmetic_documents=50)),
        optimizer=OptimizerConfig(warmup_steps=5),
        evaluate=EvaluateConfig(every=30, batches=2),
        sample=SampleConfig(prompts=()),
        checkpoint=CheckpointConfig(every=5),
    )


def sweep():
    good = [{"seed": seed} for seed in range(4)]
    return [good[0], {"optimizer.learning_rate": 1e20}, *good[1:]]
"""


def test_a_sweep_killed_in_the_middle_loses_and_repeats_nothing(tmp_path, monkeypatch):
    """Five trials, one of which diverges, two at once; SIGKILL while some are in the middle, then the same command."""
    config, root = tmp_path / "experiment.py", tmp_path / "sweep"
    config.write_text(EXPERIMENT)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    command = [sys.executable, "-m", "launch.sweep", f"--config={config}", f"--workdir={root}", "--parallel=2"]
    command.append(f"--cache={tmp_path / 'cache'}")

    def start(log: str) -> subprocess.Popen:
        with (tmp_path / log).open("w") as output:
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def folders() -> list[Path]:
        return sorted(root.glob("0*"))

    def in_the_middle() -> list[str]:
        return [f.name for f in folders() if len(read_json_lines(f / "metrics.jsonl")) in range(8, 50) and not done(f)]

    def done(folder: Path) -> bool:
        return (folder / "result.json").exists()

    first = start("first.txt")
    try:
        wait_for(lambda: sum(map(done, folders())) >= 2 and in_the_middle(), timeout=240)
    finally:
        first.kill()
        assert first.wait() == -signal.SIGKILL
    ended_before = {f.name: (f / "metrics.jsonl").read_bytes() for f in folders() if done(f)}
    second = start("second.txt")
    assert second.wait(timeout=240) == 1, (tmp_path / "second.txt").read_text()

    assert len(folders()) == 5
    results = {f.name: json.loads((f / "result.json").read_text()) for f in folders()}
    statuses = {name: result["status"] for name, result in results.items()}
    assert [name for name, status in statuses.items() if status != "done"] == ["001-learning_rate=1e+20"]
    assert "nan at step" in results["001-learning_rate=1e+20"]["error"]
    output = (tmp_path / "second.txt").read_text()
    assert "001-learning_rate=1e+20: " in output
    assert "--retry" in output

    resumed = []
    for folder in folders():
        if statuses[folder.name] != "done":
            continue
        # Nothing lost: every step once, in order, and both evaluations.
        assert [record["step"] for record in read_json_lines(folder / "metrics.jsonl")] == list(range(1, 61))
        assert [record["step"] for record in read_json_lines(folder / "evaluations.jsonl")] == [30, 60]
        starts = (folder / "log.txt").read_text().count(f"{COMMAND}{sys.executable}")
        if folder.name in ended_before:
            # Nothing repeated: what had ended was not touched.
            assert starts == 1
            assert (folder / "metrics.jsonl").read_bytes() == ended_before[folder.name]
        elif "resuming after step" in (folder / "log.txt").read_text():
            resumed.append(folder)
            assert starts == 2
    assert len(ended_before) >= 2
    assert resumed, "no trial was in the middle when the sweep was killed"

    # The losses of a trial that was killed are those of one that was not, bit for bit.
    executor = LocalExecutor(2)  # it gives the run as many cores as it had in the sweep
    alone = tmp_path / "alone"
    flags = json.loads((root / "sweep.json").read_text())["trials"][int(resumed[0].name[:3])]
    train = [
        sys.executable,
        "-m",
        "launch.train",
        f"--config={config}",
        *(f"--config.{k}={v}" for k, v in flags.items()),
    ]
    job = executor.submit([*train, f"--workdir={alone}", f"--cache={tmp_path / 'cache'}"], tmp_path / "alone.txt")
    assert ended(executor, job, timeout=120) == 0, (tmp_path / "alone.txt").read_text()
    losses = [[record["loss"] for record in read_json_lines(f / "metrics.jsonl")] for f in (resumed[0], alone)]
    assert losses[0] == losses[1]
