"""Where the trials of a sweep run: this machine today. Another place is another class with these five members.

An executor starts commands and says how they ended; it knows nothing of sweeps. How far a command has come is read from
the files that it writes, so an executor elsewhere needs a file system that both sides see, and no other way back.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

COMMAND = "$ "  # what stands in a log before the command that wrote the lines after it
GUARD = Path(__file__).with_name("sweep_guard.py")
SHARED_GPU_MEMORY = 0.9  # of a GPU, divided among the trials on it; JAX would take 0.75 for each

Item = TypeVar("Item")


class Executor(Protocol):
    """Runs commands, `slots` at once. A job is named by a text that the executor chooses (a process id, a Slurm job id)."""

    slots: int  # jobs to have submitted at once
    poll_seconds: float  # how long to wait between two rounds of questions

    def submit(self, command: Sequence[str], log: Path) -> str:
        """Start a command, its output appended to `log`, and return the name of the job."""

    def poll(self, job: str) -> int | None:
        """The exit code of a job, -N when signal N ended it; None while it runs or waits to."""

    def cancel(self, job: str) -> None:
        """Ask a job to save and stop: SIGTERM. No harm if it has ended."""

    def kill(self, job: str) -> None:
        """Stop a job at once. No harm if it has ended."""


class LocalExecutor:
    """Processes on this machine, each with its own share of the CPU cores and GPUs.

    Each is started by `sweep_guard.py`, whose standard input we hold open: to close it, or to die, is to cancel the job.
    """

    poll_seconds = 0.1

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._cores = shares(sorted(os.sched_getaffinity(0)), slots) if hasattr(os, "sched_getaffinity") else None
        self._gpus = shares(gpus(), slots)
        self._processes: dict[str, subprocess.Popen] = {}
        self._held: dict[str, int] = {}  # our ends of their standard inputs
        self._slot_of: dict[str, int] = {}

    def submit(self, command: Sequence[str], log: Path) -> str:
        """Start a process in the first free slot; it belongs to no terminal, so that Ctrl-C reaches only the sweep."""
        slot = min(set(range(self.slots)) - set(self._slot_of.values()))
        log.parent.mkdir(parents=True, exist_ok=True)
        theirs, ours = os.pipe()  # not inherited by other children
        with log.open("ab") as output, os.fdopen(theirs) as standard_input:
            output.write(f"{COMMAND}{shlex.join(command)}\n".encode())
            output.flush()
            allowed = os.sched_getaffinity(0) if self._cores else set()
            try:
                if self._cores:  # a process has the cores of the thread that starts it
                    os.sched_setaffinity(0, self._cores[slot])
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(GUARD), *command],
                    stdin=standard_input,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment() | self._gpu_environment(slot),
                    start_new_session=True,
                )
            except OSError:
                os.close(ours)
                raise
            finally:
                if self._cores:
                    os.sched_setaffinity(0, allowed)
        job = str(process.pid)
        self._processes[job], self._held[job], self._slot_of[job] = process, ours, slot
        return job

    def poll(self, job: str) -> int | None:
        """The exit code, once there is one; the slot is free from then on."""
        code = self._processes[job].poll()
        if code is not None:
            self._slot_of.pop(job, None)
            self.cancel(job)
        return code

    def cancel(self, job: str) -> None:
        """SIGTERM, however often this is called."""
        if job in self._held:
            os.close(self._held.pop(job))

    def kill(self, job: str) -> None:
        """SIGKILL, to whatever the job has started as well."""
        if self._processes[job].poll() is None:
            os.killpg(self._processes[job].pid, signal.SIGKILL)

    def _gpu_environment(self, slot: int) -> dict[str, str]:
        if not self._gpus[slot]:
            return {}
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(self._gpus[slot])}
        sharing = sum(self._gpus[slot] == other for other in self._gpus)
        if sharing > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{SHARED_GPU_MEMORY / sharing:.3f}"
        return environment


def _environment() -> dict[str, str]:
    """Ours, without what would make a job take itself for one of several processes where the sweep is a task of a cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))}


def shares(items: Sequence[Item], slots: int) -> list[list[Item]]:
    """`items` in as many parts as there are slots, as equal as can be; with fewer items than slots, slots share them."""
    if len(items) < slots:
        return [[items[slot % len(items)]] if items else [] for slot in range(slots)]
    return [list(items[slot * len(items) // slots : (slot + 1) * len(items) // slots]) for slot in range(slots)]


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, found without loading CUDA, which would take memory on each."""
    if os.environ.get("JAX_PLATFORMS", "cuda").partition(",")[0] not in ("cuda", "gpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    numbers = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return sorted((number[1] for number in numbers if number), key=int)
