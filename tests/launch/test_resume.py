"""A run that is killed at any moment and started again gives the same losses, bit for bit; with real processes."""

import json
import random
import shutil
import signal
import time
from functools import cache
from pathlib import Path

import pytest
from programs import SMALL_MODEL, run, start

STEPS = 24
SHARED = (
    f"--config.steps={STEPS}",
    "--config.batch_size=4",
    *SMALL_MODEL,
    "--config.optimizer.warmup_steps=5",
    "--config.checkpoint.every=2",
    "--config.evaluate.every=6",
    "--config.evaluate.batches=2",
    "--config.sample.prompts=()",
    "--config.data.school.people=20",
    "--config.data.school.arithmetic_documents=50",
)
SMALL = ("--config=experiments/pretrain/tiny.py", "--config.model.context_length=64", *SHARED)
# Of conversations, few fit a shorter context.
SMALL_FINETUNING = ("--config=experiments/sft/tiny.py", "--config.model.context_length=128", *SHARED)
ADAPTERS = "--config.lora.rank=2"  # which a checkpoint holds without the model that they belong to
ASKED = ("--config.questions.topics=('search',)", "--config.questions.count=2", "--config.questions.tokens=8")


def losses(workdir: Path) -> list[tuple[int, float, float]]:
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["gradient_norm"]) for r in records]


def validations(workdir: Path) -> list[tuple[float, ...]]:
    return [tuple(json.loads(line).values()) for line in (workdir / "evaluations.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


def train(folder: Path, name: str, stage: str = "pretraining"):
    """Begin a run, or go on with it. Finetuning, by adapters, starts from a copy of the whole run of pretraining."""
    small = (
        SMALL
        if stage == "pretraining"
        else (*SMALL_FINETUNING, *ASKED, ADAPTERS, f"--config.start_from={folder / f'{name}-base'}")
    )
    arguments = (*small, f"--workdir={folder / name}")
    return start("launch.train", *arguments, log=folder / f"{name}.log")


def copy_base(folder: Path, name: str) -> Path:
    """What a run of finetuning starts from."""
    return Path(shutil.copytree(folder / "pretraining", folder / f"{name}-base"))


@cache
def whole(folder: Path, stage: str):
    """Losses and validations of a run that nothing interrupted."""
    if stage == "finetuning":
        whole(folder, "pretraining")
        copy_base(folder, stage)
    program = train(folder, stage, stage)
    assert program.wait() == 0, program.output
    found = losses(folder / stage)
    assert [step for step, _, _ in found] == list(range(1, STEPS + 1))
    assert found[-1][1] < found[0][1]
    return found, validations(folder / stage)


@pytest.fixture(scope="module")
def uninterrupted(folder):
    return whole(folder, "pretraining")


def wait_for_step(program, workdir: Path, step: int) -> None:
    """Return once the run has written the line of a step; fail if it ends before."""
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and f'{{"step": {step},' in metrics.read_text()):
        assert program.process.is_alive(), program.output
        time.sleep(0.002)


@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_kill_nine_at_random_moments(folder, stage):
    """Checkpoints are saved every other step, without waiting: nearly every kill falls into a save.

    Once begun, finetuning needs the run that it started from no more.
    """
    uninterrupted = whole(folder, stage)
    chance = random.Random(time.time_ns())
    name = f"{stage}-killed"
    base = copy_base(folder, name) if stage == "finetuning" else None
    for reached in (5, 15):
        program = train(folder, name, stage)
        wait_for_step(program, folder / name, reached)
        time.sleep(chance.uniform(0, 0.1))
        program.kill()
        assert program.wait() == -signal.SIGKILL
        if base:
            shutil.rmtree(base, ignore_errors=True)
    program = train(folder, name, stage)
    assert program.wait() == 0, program.output
    assert "resuming after step" in program.output
    assert (losses(folder / name), validations(folder / name)) == uninterrupted


@pytest.fixture(scope="module")
def stopped(folder) -> Path:
    """A copy of the run "stopped", which SIGTERM stopped in its middle."""
    program = train(folder, "stopped")
    wait_for_step(program, folder / "stopped", 9)
    program.kill(signal.SIGTERM)
    assert program.wait() == 128 + signal.SIGTERM, program.output
    assert f"stopped by SIGTERM after step {losses(folder / 'stopped')[-1][0]}" in program.output
    return Path(shutil.copytree(folder / "stopped", folder / "stopped-copy"))


def test_sigterm_saves_and_the_same_command_goes_on(folder, uninterrupted, stopped):
    program = train(folder, "stopped")
    assert program.wait() == 0
    assert f"resuming after step {losses(stopped)[-1][0]} of" in program.output
    assert (losses(folder / "stopped"), validations(folder / "stopped")) == uninterrupted


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_newest_checkpoint_is_passed_over(folder, uninterrupted, stopped, damage):
    workdir = Path(shutil.copytree(stopped, folder / damage))
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
    before = (folder / "pretraining" / "metrics.jsonl").read_text()
    arguments = (*SMALL, f"--workdir={folder / 'pretraining'}")
    code, output = run("launch.train", *arguments, log=folder / "again.log")
    assert code == 0, output
    assert (folder / "pretraining" / "metrics.jsonl").read_text() == before
