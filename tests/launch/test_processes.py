"""Several real processes on this machine, joined by `jax.distributed`, train as one; and what happens when one is lost."""

import shutil
import signal
import socket

import numpy as np
import pytest
from programs import run, start
from test_resume import SMALL, losses, validations, wait_for_step

from launch import cluster

STEPS = 12
SHAPE = (*SMALL, f"--config.steps={STEPS}", "--config.evaluate.every=6", "--config.checkpoint.every=3")
SHAPE = (*SHAPE, '--config.sample.prompts=("Bruno",)', "--config.sample.every=6", "--config.sample.tokens=4")
SPLIT = ("--config.mesh.data=2", "--config.mesh.fsdp=2")  # among four processes

SLURM = {
    "SLURM_JOB_ID": "42",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


def train(folder, name, count, *more):
    """Start `count` processes that train in one folder."""
    address = f"localhost:{free_port()}"
    joined = [f"--coordinator={address}", f"--processes={count}"] if count > 1 else []
    return [
        start(
            "launch.train",
            *SHAPE,
            *more,
            f"--workdir={folder / name}",
            *joined,
            *([f"--process={process}"] if count > 1 else []),
            log=folder / f"{name}-{count}-{process}.log",
        )
        for process in range(count)
    ]


def finish(programs, code=0):
    for program in programs:
        assert program.wait() == code, "\n".join(program.output[-3000:] for program in programs)


@pytest.fixture(scope="module")
def alone(folder):
    """What one process finds."""
    finish(train(folder, "alone", 1))
    return losses(folder / "alone"), validations(folder / "alone"), (folder / "alone/samples.jsonl").read_text()


def assert_same(folder, name, alone):
    """Losses, gradient norms and validation of a run, against one process; sums over devices may round differently."""
    expected_losses, expected_validations, samples = alone
    np.testing.assert_allclose(losses(folder / name), expected_losses, rtol=2e-4)
    np.testing.assert_allclose(validations(folder / name), expected_validations, rtol=2e-4)
    assert (folder / name / "samples.jsonl").read_text() == samples


def test_two_tasks_of_slurm_find_the_losses_of_one(folder, alone):
    """As `srun --ntasks=2` starts them, but for Slurm itself."""
    programs = [
        start(
            "launch.train",
            *SHAPE,
            f"--workdir={folder / 'two'}",
            log=folder / f"two-{task}.log",
            environment={**SLURM, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]
    finish(programs)
    assert_same(folder, "two", alone)
    assert "step " not in programs[1].output  # only the first one speaks
    assert "process 2 of 2: joined" in programs[1].output


def test_four_processes_with_split_parameters_find_the_losses_of_one(folder, alone):
    programs = train(folder, "four", 4, *SPLIT)
    finish(programs)
    assert_same(folder, "four", alone)
    assert "step " not in programs[3].output
    assert "process 4 of 4: joined" in programs[3].output


def test_a_signal_to_one_process_stops_both_and_the_run_goes_on_with_one_or_four(folder, alone):
    slow = "--config.checkpoint.every=1"  # not part of what is compared
    programs = train(folder, "stopped", 2, slow)
    wait_for_step(programs[0], folder / "stopped", 3)
    programs[1].kill(signal.SIGTERM)
    finish(programs, 128 + signal.SIGTERM)
    assert "run the same command again" in programs[0].output
    assert len(losses(folder / "stopped")) < STEPS
    shutil.copytree(folder / "stopped", folder / "stopped-too")

    finish(train(folder, "stopped", 1, slow))
    assert_same(folder, "stopped", alone)
    finish(train(folder, "stopped-too", 4, slow, *SPLIT))
    assert_same(folder, "stopped-too", alone)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_says_why(folder, victim):
    name = f"killed-{victim}"
    programs = train(folder, name, 2, "--config.steps=100000", "--config.checkpoint.every=1000")
    wait_for_step(programs[0], folder / name, 2)
    programs[victim].kill()
    other = programs[1 - victim]
    assert other.wait(timeout=60) == cluster.LOST, other.output
    assert "another process of this run was lost" in other.output.splitlines()[-1]
    assert "Traceback" not in other.output


def test_processes_that_were_given_different_experiments_are_refused(folder):
    address = f"localhost:{free_port()}"
    programs = [
        start(
            "launch.train",
            *SHAPE,
            f"--config.seed={process}",
            f"--workdir={folder / 'different'}",
            f"--coordinator={address}",
            "--processes=2",
            f"--process={process}",
            log=folder / f"different-{process}.log",
        )
        for process in range(2)
    ]
    assert programs[0].wait() == 2
    assert "seed: 0 there, 1 here" in programs[0].output
    assert programs[1].wait() in (2, cluster.LOST)  # it says the same, unless the first one's end overtakes it
    assert not (folder / "different").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2", "--process=0"], "--coordinator is missing"),
        (["--coordinator=localhost:1", "--processes=2"], "--process is missing"),
        (["--coordinator=localhost:1", "--processes=2", "--process=2"], "--process=2: must be at least 0 and below"),
        (["--coordinator=localhost", "--processes=2", "--process=0"], "write HOST:PORT"),
    ],
)
def test_flags_that_do_not_describe_a_cluster_are_refused(tmp_path, arguments, message):
    code, output = run("launch.train", *SHAPE, f"--workdir={tmp_path / 'run'}", *arguments, log=tmp_path / "log")
    assert code == 2
    assert message in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, None),
        (SLURM, "slurm"),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "42", "SLURM_NTASKS": "2"}, None),  # inside an allocation, but not started by srun
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1", "TPU_WORKER_ID": "0"}, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "host-0", "TPU_WORKER_ID": "0"}, None),
    ],
)
def test_a_cluster_is_found_by_its_environment(environment, kind):
    assert cluster.detect(environment) == kind
