"""A run that is killed at any moment and started again gives the same losses, bit for bit; with real processes."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from programs import run, start

STEPS = 40
SMALL = (
    "--config=experiments/pretrain/tiny.py",
    f"--config.steps={STEPS}",
    "--config.batch_size=4",
    "--config.model.vocab_size=512",
    "--config.model.context_length=64",
    "--config.model.layers=2",
    "--config.model.width=32",
    "--config.model.heads=2",
    "--config.model.kv_heads=2",
    "--config.model.mlp_width=64",
    "--config.optimizer.warmup_steps=5",
    "--config.checkpoint.every=2",
    "--config.evaluate.every=10",
    "--config.evaluate.batches=2",
    "--config.sample.prompts=()",
    "--config.data.school.people=20",
    "--config.data.school.arithmetic_documents=50",
)


def losses(workdir: Path) -> list[tuple[int, float, float]]:
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["gradient_norm"]) for r in records]


def validations(workdir: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (workdir / "evaluations.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in records]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


def train(folder: Path, name: str, *more: str):
    arguments = (*SMALL, f"--workdir={folder / name}", f"--cache={folder / 'cache'}", *more)
    return start("launch.train", *arguments, log=folder / f"{name}.log")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    program = train(folder, "whole")
    assert program.wait() == 0, program.output
    found = losses(folder / "whole")
    assert [step for step, _, _ in found] == list(range(1, STEPS + 1))
    assert found[-1][1] < found[0][1]
    return found, validations(folder / "whole")


def wait_for_step(program, workdir: Path, step: int) -> None:
    """Return once the run has written the line of a step; fail if it ends before."""
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and f'{{"step": {step},' in metrics.read_text()):
        assert program.process.is_alive(), program.output
        time.sleep(0.002)


def test_kill_nine_at_random_moments(folder, uninterrupted):
    """Checkpoints are saved every other step, without waiting: nearly every kill falls into a save."""
    chance = random.Random(time.time_ns())
    workdir = folder / "killed"
    for reached in (7, 19, 31):
        program = train(folder, "killed")
        wait_for_step(program, workdir, reached)
        time.sleep(chance.uniform(0, 0.1))
        program.kill()
        assert program.wait() == -signal.SIGKILL
    program = train(folder, "killed")
    assert program.wait() == 0, program.output
    assert "resuming after step" in program.output
    assert (losses(workdir), validations(workdir)) == uninterrupted


def test_sigterm_saves_and_the_same_command_goes_on(folder, uninterrupted):
    workdir = folder / "stopped"
    program = train(folder, "stopped")
    wait_for_step(program, workdir, 5)
    program.kill(signal.SIGTERM)
    assert program.wait() == 128 + signal.SIGTERM, program.output
    stopped_after = losses(workdir)[-1][0]
    assert f"stopped by SIGTERM after step {stopped_after}" in program.output
    program = train(folder, "stopped")
    assert program.wait() == 0
    assert f"resuming after step {stopped_after} of" in program.output
    assert (losses(workdir), validations(workdir)) == uninterrupted


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_newest_checkpoint_is_passed_over(folder, uninterrupted, damage):
    workdir = folder / damage
    program = train(folder, damage)
    wait_for_step(program, workdir, 13)
    program.kill(signal.SIGTERM)
    program.wait()
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    newest = workdir / "checkpoints" / str(steps[-1])
    largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    contents = largest.read_bytes()
    if damage == "truncated":
        largest.write_bytes(contents[: len(contents) // 2])
    elif damage == "flipped":
        middle = len(contents) // 2
        largest.write_bytes(contents[:middle] + bytes([contents[middle] ^ 0x10]) + contents[middle + 1 :])
    else:
        largest.unlink()
    program = train(folder, damage)
    assert program.wait() == 0, program.output
    assert f"checkpoint {steps[-1]} is damaged" in program.output
    assert f"resuming after step {steps[-2]} of" in program.output
    assert losses(workdir) == uninterrupted[0]


def test_a_finished_run_does_nothing_more(folder, uninterrupted):
    before = (folder / "whole" / "metrics.jsonl").read_text()
    code, output = run(
        "launch.train", *SMALL, f"--workdir={folder / 'whole'}", f"--cache={folder / 'cache'}", log=folder / "again.log"
    )
    assert code == 0, output
    assert (folder / "whole" / "metrics.jsonl").read_text() == before
