"""What a user gets wrong ends in one clear line, exit code 2, and nothing lost. Every case is run as a user runs it."""

import gzip
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from programs import run, start
from test_resume import SMALL, losses, wait_for_step

TINY = "--config=experiments/pretrain/tiny.py"
PRACTICE = "--config=experiments/rl/tiny.py"


def refused(tmp_path: Path, *arguments: str, module: str = "launch.train", cwd: Path | None = None) -> str:
    """Run, check that it fails as a mistake does, and return the one line that says why."""
    more = () if any(a.startswith("--workdir") for a in arguments) else (f"--workdir={tmp_path / 'run'}",)
    code, output = run(module, *arguments, *more, log=tmp_path / "log", **({"cwd": cwd} if cwd else {}))
    assert code == 2, output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    after = output.rstrip().partition(lines[0])[2]
    assert all(line.startswith("(in the background: ") for line in after.split("\n")[1:]), output
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((TINY, "--config.modle.width=3"), "did you mean --config.model.width?"),
        ((TINY, "--config.learning_rate=3"), "did you mean --config.optimizer.learning_rate?"),
        ((TINY, "--config.model=3"), "--config.model is a group: set one of its values"),
        ((TINY, "--config.steps=many"), "--config.steps=many: must be a whole number"),
        ((TINY, "--config.optimizer.learning_rate=fast"), "must be a number"),
        ((TINY, "--config.data.sources=(1,2)"), "data.sources=(1, 2): every item must be a text"),
        ((TINY, "--config.steps=-5"), "steps=-5: must be at least 1"),
        ((TINY, "--config.mesh.data=3", "--config.mesh.fsdp=5"), "does not fit"),
        (("--config", "experiments/pretrain/tiny.py", "--config.stepz=3"), "did you mean --config.steps?"),
        ((TINY, "--config.batch_size=16", "--config.accumulate=3"), "does not divide by accumulate=3"),
        ((TINY, "--stepz=3"), "unknown flag --stepz"),
        ((TINY, "--profile=many"), "--profile=many: write the first and the last step to trace"),
        ((TINY, "--profile=3:2"), "--profile=3:2: must be steps between 1 and 300"),
        ((TINY, "--profile=299:301"), "must be steps between 1 and 300"),
        ((TINY, "--work_dir=x"), "did you mean --workdir?"),
        ((TINY, "train"), "unexpected argument 'train'"),
        ((TINY + ":shool",), "has no variant 'shool': choose school, small, bytes, copying or pydoc"),
        (("--config=experiments/pretrain/tinny.py",), "did you mean experiments/pretrain/tiny.py?"),
        (("--config=experiments/pretrain",), "no experiment file experiments/pretrain"),
        (("--config=README.md",), "is not a Python file"),
        ((), "--config is missing"),
        ((TINY, "--workdir="), "--workdir is missing"),
        ((TINY, "--workdir=README.md"), "--workdir=README.md is a file"),
        ((TINY, "--workdir=/proc/run"), "--workdir=/proc/run cannot be written"),
        ((TINY, "--config.data.sources=scool"), "did you mean school?"),
        ((TINY, "--config.data.sources=no/such/file.txt"), "no/such/file.txt"),
        ((TINY, "--config.data.sources=lm"), "lm"),
        ((TINY, "--config.data.weights=(1,2)"), "data.weights has 2 numbers for 1 data.sources"),
        ((TINY, "--config.data.tokenizer=no.model"), "no.model: there is no such tokenizer file"),
        ((TINY, "--config.model.vocab_size=100"), "too small"),
        ((TINY, "--config.model.vocab_size=60000"), "fills a vocabulary of at most"),
        ((TINY, "--config.data.school.people=3"), "people=3"),
        ((TINY, "--config.model.heads=3"), "model.width=128 does not divide by model.heads=3"),
        ((TINY, "--config.model.attention=splash"), "model.attention=splash needs a TPU"),
        ((TINY, "--config.model.norm=batchnorm"), "choose one of rmsnorm, layernorm"),
        ((PRACTICE, "--config.data.cut_off=never"), "data.cut_off='never': choose one of zero, masked, scored"),
        ((PRACTICE, "--config.data.samples=0"), "data.samples=0: must be at least 1"),
        (
            (PRACTICE, "--config.objective.advantage=gae"),
            "objective.advantage=gae and model.scalar_head=true need each other",
        ),
        ((PRACTICE, "--config.objective.kl=0.1", "--config.data.reference=false"), "set data.reference=true"),
        ((PRACTICE, "--config.start_from="), "start_from is missing: only a model that answers can practise"),
        ((PRACTICE, "--config.data.problems.sources=school:sums"), "choose school: and answer_first"),
        ((PRACTICE, "--config.start_from=nowhere"), "nowhere holds no run"),
        ((PRACTICE, "--estimate", "--hardware=h100:1"), "how long rollouts will be nobody knows before"),
    ],
)
def test_mistakes(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def own_data(tmp_path: Path, *more: str) -> tuple[str, ...]:
    """A run on files of the user's, long enough for a small vocabulary."""
    return (*SMALL, "--config.steps=5", f"--config.data.sources={tmp_path / 'text.jsonl'}", *more)


def story(seed: int) -> str:
    """Some 2,000 characters of made-up words, varied enough to fill a small vocabulary."""
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("aeioubdklmnrst", k=chance.randint(2, 8))) for _ in range(350))


def write_rows(path: Path, rows: list[bytes]) -> None:
    path.write_bytes(b"".join(row + b"\n" for row in rows))


def test_rows_that_cannot_be_used_are_counted_and_set_aside(tmp_path):
    good = [json.dumps({"text": story(i), "id": f"story-{i}"}).encode() for i in range(40)]
    write_rows(tmp_path / "text.jsonl", [*good, b'{"text": "caf\xe9"}', b"{half", b'{"title": "no text"}'])
    arguments = own_data(tmp_path, f"--workdir={tmp_path / 'run'}", f"--cache={tmp_path / 'cache'}")
    code, output = run("launch.train", *arguments, log=tmp_path / "log")
    assert code == 0, output
    assert "3 rows set aside" in output
    (kept,) = (tmp_path / "cache" / "documents").glob("*/set_aside.jsonl")
    assert str(kept) in output
    assert [json.loads(line)["where"].rpartition(":")[2] for line in kept.read_text().splitlines()] == [
        "41",
        "42",
        "43",
    ]
    # Documents of hundreds of tokens in rows of 64: cut, not lost.
    assert len(losses(tmp_path / "run")) == 5


def test_empty_and_misplaced_data(tmp_path):
    write_rows(tmp_path / "text.jsonl", [])
    assert "holds no documents" in refused(tmp_path, *own_data(tmp_path))
    write_rows(tmp_path / "text.jsonl", [b"{half", b'{"text": ""}'])
    assert "holds no documents that can be used" in refused(tmp_path, *own_data(tmp_path))
    (tmp_path / "text.jsonl").unlink()
    (tmp_path / "text.jsonl").mkdir()
    (tmp_path / "text.jsonl" / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    assert "*.jsonl.gz" in refused(tmp_path, *own_data(tmp_path))


def test_another_experiment_in_the_same_folder_shows_the_differences(tmp_path):
    arguments = (*SMALL, "--config.steps=5", f"--workdir={tmp_path / 'run'}")
    code, output = run("launch.train", *arguments, log=tmp_path / "log")
    assert code == 0, output
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    told = refused(tmp_path, *arguments, "--config.optimizer.learning_rate=0.5", "--config.data.school.seed=3")
    assert "optimizer.learning_rate: 0.004 there, 0.5 here" in told
    assert "data.school.seed: 0 there, 3 here" in told
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    # Hardware is not part of what an experiment is.
    code, output = run("launch.train", *arguments, "--config.mesh.data=1", log=tmp_path / "log")
    assert code == 0, output


def test_data_that_changed_under_a_run_is_noticed(tmp_path):
    good = [json.dumps({"text": story(i), "id": f"story-{i}"}).encode() for i in range(40)]
    write_rows(tmp_path / "text.jsonl", good)

    arguments = own_data(tmp_path, f"--workdir={tmp_path / 'run'}")
    code, output = run("launch.train", *arguments, log=tmp_path / "log")
    assert code == 0, output
    kept = sorted((tmp_path / "run" / "tokenizer").iterdir())[0].read_bytes()
    write_rows(tmp_path / "text.jsonl", [*good, json.dumps({"text": story(99)}).encode()])
    told = refused(tmp_path, *arguments)
    assert "text.jsonl" in told
    assert "changed since the run in" in told
    assert sorted((tmp_path / "run" / "tokenizer").iterdir())[0].read_bytes() == kept


def test_a_folder_with_a_config_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model_type": "llama"}')
    assert "is not the config of a run" in refused(tmp_path, TINY)
    assert (tmp_path / "run" / "config.json").read_text() == '{"model_type": "llama"}'


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    arguments = (*SMALL, "--config.steps=4000", f"--workdir={tmp_path / 'run'}")
    first = start("launch.train", *arguments, log=tmp_path / "first")
    wait_for_step(first, tmp_path / "run", 1)
    assert "another process is training in" in refused(tmp_path, *arguments)
    first.kill()
    first.wait()


def test_a_full_disk(tmp_path):
    """On a disk of 1 MB, really full: one line, and the same command goes on once there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        arguments = (*SMALL, "--config.checkpoint.keep_last=50", f"--workdir={disk / 'run'}")
        told = refused(tmp_path, *arguments)
        assert "No space left on device" in told or "could not be saved" in told
        assert "run the same command again" in told
        reached = losses(disk / "run")
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        code, output = run("launch.train", *arguments, log=tmp_path / "log")
        assert code == 0, output
        assert "resuming after step" in output
        assert losses(disk / "run")[: len(reached)] == reached
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_may_not_be_written(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; /proc stands in for such a folder above")
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused(tmp_path, TINY, f"--workdir={tmp_path / 'locked' / 'run'}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--workdir=no/such/run",), "holds no run"),
        (("--workdir=no/such/run", "--temperature=-1"), "temperature=-1.0: must be 0 (greedy) or more"),
        (("--workdir=no/such/run", "--top_p=0"), "top_p=0.0"),
        (("--workdir=no/such/run", "--samples=0"), "--samples=0: must be at least 1"),
        (("--workdir=no/such/run", "--temprature=1"), "did you mean --temperature?"),
    ],
)
def test_mistakes_with_generate(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments, module="launch.generate")
